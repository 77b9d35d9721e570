/* cmd_pretrain.c - `slm2 pretrain CONFIG`, and `slm2 bench train`: settings, signals, what is printed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "train/pretrain.h"

static const struct slm2_cli_doc doc = {
    .usage = "pretrain CONFIG.yml [--set key=value]... [--resume auto|fresh|require] [-t N]",
    .about = "Pre-trains a model on token files. Everything is a setting of the YAML file; options override it.\n"
             "Ctrl-C or SIGTERM writes a checkpoint and stops; the same command goes on from there with the same bits.\n"
             "SIGUSR1 begins the cooldown of the hybrid schedule, after which the run ends.\n"
             "--tensorboard DIR writes event files; --metrics-port N serves http://127.0.0.1:N/metrics while it runs. Neither changes a bit.\n"
             "The run folder holds step-* checkpoints (Hugging Face form), run.sqlite (the ledger) and final/ (the model).",
    .examples = "slm2 pretrain configs/nano.yml\nslm2 pretrain configs/nano.yml --set train.steps=50 --run runs/short -t 2",
    .yaml_first = true,
};

static volatile sig_atomic_t cooldown;
static void on_cooldown(int sig)
{
    (void)sig;
    cooldown = 1;
}

static json_t *result_json(const struct slm2_train_result *r)
{
    json_t *j = json_pack("{s:I, s:I, s:f, s:f, s:s, s:s, s:s}", "step", (json_int_t)r->step, "tokens", (json_int_t)r->n_tok, "wall_s", r->wall_s, "tokens_per_s", r->tok_per_s,
                          "model", r->model_dir, "checkpoint", r->ckpt_dir, "ledger", r->ledger);
    const struct { const char *key; double v; } real[] = {{"loss_first", r->loss_first}, {"loss", r->loss}, {"valid_loss_first", r->metric_before}, {"valid_loss", r->metric}};
    for (size_t i = 0; j && i < sizeof real / sizeof real[0]; i++) json_object_set_new(j, real[i].key, isfinite(real[i].v) ? json_real(real[i].v) : json_null());
    return j;
}

int slm2_cmd_pretrain(int argc, char **argv)
{
    struct slm2_pretrain_opts o = {0};
    struct slm2_err err;
    const char *pos[1] = {NULL};
    int n_pos = 0, rc = slm2_cli_parse(&doc, slm2_pretrain_table, &o, argc, argv, pos, 1, &n_pos);
    if (rc < 0) {
        static struct slm2_train_result res; /* three paths: large for a stack */
        char *isa = o.isa;
        char from_env[32];
        if (!*o.isa && slm2_cli_isa()) {
            snprintf(from_env, sizeof from_env, "%s", slm2_cli_isa());
            o.isa = from_env;
        }
        o.stop = slm2_cli_catch_stop();
        o.cooldown = &cooldown;
        struct sigaction sa = {.sa_handler = on_cooldown, .sa_flags = SA_RESTART};
        sigemptyset(&sa.sa_mask);
        sigaction(SIGUSR1, &sa, NULL);
        slm2_status st = slm2_pretrain_run(&o, n_pos ? pos[0] : "settings", &res, &err);
        o.isa = isa;
        if (st == SLM2_ESTOP) {
            slm2_cli_note("slm2: %s", err.msg);
            rc = 1; /* not done yet; the message says how to go on */
        } else rc = st == SLM2_OK ? slm2_cli_json(result_json(&res)) : slm2_cli_fail(&err);
    }
    slm2_conf_free(slm2_pretrain_table, &o);
    return rc;
}

/* ---- slm2 bench train --------------------------------------------------------------------------------------------------- */
struct bench_opts { char *config; struct slm2_conf_list set; int steps, threads; bool json; };
static const struct slm2_opt bench_table[] = {
    {.name = "config", .type = SLM2_OPT_STR, .offset = offsetof(struct bench_opts, config), .def = "!", .help = "YAML file of a pre-training run"},
    {.name = "with", .type = SLM2_OPT_STRS, .offset = offsetof(struct bench_opts, set), .help = "key=value that overrides the file, repeatable"},
    {.name = "steps", .type = SLM2_OPT_INT, .offset = offsetof(struct bench_opts, steps), .lo = 1, .hi = 1e6, .def = "5", .help = "steps to time, after one to warm up"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct bench_opts, json), .help = "the result as one JSON object"},
    SLM2_CLI_THREADS(struct bench_opts),
    {.name = NULL},
};
static const struct slm2_cli_doc bench_doc = {
    .usage = "bench train --config FILE.yml [--steps 5] [--with key=value]... [-t N] [--json]",
    .about = "Times training steps (forward, backward, clipping, AdamW) on random tokens; needs no data. mfu is the model's\n"
             "arithmetic over what the same threads reach in registers in this precision (peak_flops_per_s).",
    .examples = "slm2 bench train --config configs/nano.yml --steps 5\nslm2 bench train --config configs/nano.yml --with train.precision=bf16 --json",
};

int slm2_cmd_bench_train(int argc, char **argv)
{
    struct bench_opts b;
    struct slm2_pretrain_opts o = {0};
    struct slm2_bench_train_result r;
    struct slm2_err err;
    int rc = slm2_cli_parse(&bench_doc, bench_table, &b, argc, argv, NULL, 0, NULL);
    if (rc < 0) {
        char *isa = NULL, from_env[32];
        slm2_status st = slm2_pretrain_settings(&o, b.config, b.set.items, b.set.n, &err);
        if (st == SLM2_OK) {
            if (b.threads) o.threads = b.threads;
            isa = o.isa;
            if (!*o.isa && slm2_cli_isa()) {
                snprintf(from_env, sizeof from_env, "%s", slm2_cli_isa());
                o.isa = from_env;
            }
            st = slm2_bench_train(&o, b.config, b.steps, &r, &err);
            o.isa = isa;
        }
        if (st != SLM2_OK) rc = slm2_cli_fail(&err);
        else if (b.json)
            rc = slm2_cli_json(json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:I}", "tokens_per_s", r.tok_per_s, "flops_per_s", r.flops_per_s, "mfu", r.mfu, "peak_flops_per_s",
                                         r.peak_flops_per_s, "step_s", r.step_s, "median_step_s", r.median_step_s, "tokens_per_step", r.n_tok_per_step, "trainer_bytes", (json_int_t)r.bytes));
        else {
            printf("%.0f tokens/s  %.2f GFLOP/s  mfu %.3f of %.2f GFLOP/s  step %.3f s (median %.3f)  %.0f MiB\n", r.tok_per_s, r.flops_per_s / 1e9, r.mfu, r.peak_flops_per_s / 1e9,
                   r.step_s, r.median_step_s, (double)r.bytes / 1048576);
            rc = 0;
        }
        slm2_conf_free(slm2_pretrain_table, &o);
    }
    slm2_conf_free(bench_table, &b);
    return rc;
}
