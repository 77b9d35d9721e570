/* cmd_pretrain.c - `slm2 pretrain CONFIG`, and `slm2 bench train`: settings, signals, what is printed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/ranks.h"
#include "report/plan.h"

static const struct slm2_cli_doc doc = {
    .usage = "pretrain CONFIG.yml [--set key=value]... [--resume auto|fresh|require] [-t N]\n"
             "pretrain CONFIG.yml --run NEW --from RUN/step-N [--cooldown-steps N]\n"
             "pretrain CONFIG.yml --plan [--devices N] [--device-tflops X] [--mfu Y] [--device-watts W] [--json]",
    .about = "Pre-trains a model on token files. Everything is a setting of the YAML file; options override it.\n"
             "Ctrl-C or SIGTERM writes a checkpoint and stops; the same command goes on from there with the same bits.\n"
             "SIGUSR1 begins the cooldown (schedules hybrid and rsqrt), after which the run ends; --from with --cooldown-steps does the\n"
             "same in a new run folder, from any checkpoint. SIGUSR2 is SIGTERM for mpirun, which passes it on and does not kill.\n"
             "Under `mpirun -np R slm2 pretrain CONFIG.yml ...` or srun the ranks share the micro-batches of a step and\n"
             "the optimizer's state (ZeRO stage 1); any number of ranks gives the same bits, and a checkpoint goes on with any other number. See docs/TRAINING.md.\n"
             "--plan prints tokens, FLOPs, memory of a rank, time, energy and CO2 of the run, and starts nothing.\n"
             "--tensorboard DIR writes event files; --metrics-port N serves http://127.0.0.1:N/metrics while it runs. Neither changes a bit.\n"
             "The run folder holds step-* checkpoints (Hugging Face form), run.sqlite (the ledger) and final/ (the model).",
    .examples = "slm2 pretrain configs/nano.yml\nslm2 pretrain configs/nano.yml --set train.steps=50 --run runs/short -t 2\n"
                "slm2 pretrain configs/stablelm-2-1_6b.yml --plan --devices 512",
    .yaml_first = true,
};

/* A launcher whose ranks do not find each other would start as many runs on one folder. */
static slm2_status check_ranks(const struct slm2_comm *c, struct slm2_err *err)
{
    const char *name;
    int n = slm2_cli_n_task(&name);
    if (n < 2 || c->n_rank > 1) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "started as one of %d tasks (%s), but this process finds no other rank; start with mpirun of the MPI that slm2 is built with, or srun --mpi=pmix", n, name);
}

/* From the thread that watches the other ranks: this process ends here. */
static void lost_rank(int rank, long pid, const char *host)
{
    char text[512];
    int n = snprintf(text, sizeof text, "slm2: error: rank %d (process %ld on %s) died; the run stops, its checkpoints are whole: the same command goes on from the newest one\n", rank, pid, host);
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0) _exit(2);
    _exit(1);
}

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
    const struct { const char *key; double v; } real[] = {{"loss_first", r->loss_first}, {"loss", r->loss}, {"valid_loss_first", r->metric_before}, {"valid_loss", r->metric}, {"comm_share", r->comm_share}};
    for (size_t i = 0; j && i < sizeof real / sizeof real[0]; i++) json_object_set_new(j, real[i].key, slm2_json_real(real[i].v, NULL));
    const struct slm2_train_time *t = &r->time;
    if (j) json_object_set_new(j, "time_s", json_pack("{s:f, s:f, s:f, s:f, s:f}", "steps", t->step_s, "data", t->data_s, "ledger", t->ledger_s, "validation", t->valid_s, "checkpoints", t->ckpt_s));
    return j;
}

/* The settings of a run and, for the command line only, those of a plan: one table whose object begins with the run's. */
struct options { struct slm2_pretrain_opts run; struct slm2_plan_opts plan; };

static const struct slm2_opt *option_table(void)
{
    enum { MAX_ROWS = 128 };
    static struct slm2_opt rows[MAX_ROWS];
    int n = 0;
    for (const struct slm2_opt *r = slm2_pretrain_table; r->name && n < MAX_ROWS - 1; r++) rows[n++] = *r;
    for (const struct slm2_opt *r = slm2_plan_table; r->name && n < MAX_ROWS - 1; r++) {
        rows[n] = *r;
        rows[n++].offset += offsetof(struct options, plan);
    }
    rows[n] = (struct slm2_opt){.name = NULL};
    return rows;
}

static int print_plan(const struct options *o, const char *what)
{
    struct slm2_run_plan plan;
    struct slm2_err err;
    struct slm2_buf text = {0};
    if (slm2_plan_make(&plan, &o->run, &o->plan, what, &err) != SLM2_OK) return slm2_cli_fail(&err);
    if (o->plan.json) return slm2_cli_json(slm2_plan_json(&plan));
    slm2_plan_text(&plan, &o->run, &o->plan, &text);
    int rc = slm2_buf_check(&text, &err) == SLM2_OK ? 0 : slm2_cli_fail(&err);
    if (rc == 0) fputs(text.v, stdout);
    slm2_buf_free(&text);
    return rc;
}

/* Opens the ranks, runs, says on rank 0 what came of it. */
static int train(const struct slm2_pretrain_opts *settings, const char *what)
{
    static struct slm2_train_result res; /* three paths: large for a stack */
    const struct slm2_comm_opts ranks = {.lost = lost_rank};
    struct slm2_pretrain_opts o = *settings;
    struct slm2_comm comm;
    struct slm2_err err;
    struct sigaction sa = {.sa_handler = on_cooldown, .sa_flags = SA_RESTART};
    o.stop = slm2_cli_catch_stop();
    o.cooldown = &cooldown;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGUSR1, &sa, NULL);
    slm2_comm_self(&comm);
    slm2_status st = slm2_cli_launched() ? slm2_comm_mpi(&comm, &ranks, &err) : SLM2_OK;
    if (st == SLM2_OK) st = check_ranks(&comm, &err);
    if (st != SLM2_OK) return slm2_cli_fail(&err);
    o.comm = &comm;
    bool chief = comm.rank == 0;
    if (!chief) slm2_log_sink(NULL, NULL); /* rank 0 speaks for all */
    st = slm2_pretrain_run(&o, what, &res, &err);
    int rc = st == SLM2_OK ? 0 : 1;
    if (chief && st == SLM2_OK) rc = slm2_cli_json(result_json(&res));
    else if (chief && st == SLM2_ESTOP) slm2_cli_note("slm2: %s", err.msg); /* not done yet; the message says how to go on */
    else if (chief || comm.broken) rc = slm2_cli_fail(&err);
    slm2_comm_close(&comm);
    return rc;
}

int slm2_cmd_pretrain(int argc, char **argv)
{
    struct options o = {0};
    const char *pos[1] = {NULL};
    int n_pos = 0, rc = slm2_cli_parse(&doc, option_table(), &o, argc, argv, pos, 1, &n_pos);
    if (rc < 0) {
        const char *what = n_pos ? pos[0] : "settings";
        char *isa = o.run.isa, from_env[32];
        if (!*isa && slm2_cli_isa()) {
            snprintf(from_env, sizeof from_env, "%s", slm2_cli_isa());
            o.run.isa = from_env;
        }
        rc = o.plan.plan ? print_plan(&o, what) : train(&o.run, what);
        o.run.isa = isa;
    }
    slm2_conf_free(option_table(), &o);
    return rc;
}

/* ---- slm2 bench train --------------------------------------------------------------------------------------------------- */
struct bench_opts { char *config; struct slm2_conf_list set; int steps, threads; bool json; };
static const struct slm2_opt bench_table[] = {
    {.name = "config", .type = SLM2_OPT_STR, .offset = offsetof(struct bench_opts, config), .def = "!", .choices = slm2_conf_file, .help = "YAML file of a pre-training run"},
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
