/* pretrain_conf.c - the settings of a pre-training run: the table that reads, checks, documents and dumps them. */
#include <stddef.h>

#include "train/pretrain.h"

#define AT(field) offsetof(struct slm2_pretrain_opts, field)
static const char *const resumes[] = {"auto", "fresh", "require", NULL}, *const precisions[] = {"fp32", "bf16", NULL}, *const losses[] = {"all", "masked", NULL}, *const moments[] = {"fp32", "bf16", NULL};

static const struct slm2_opt source_table[] = {
    {.name = "name", .type = SLM2_OPT_STR, .offset = offsetof(struct slm2_pretrain_source, name), .def = "!", .help = "source in the data folder, or a name of your own"},
    {.name = "weight", .type = SLM2_OPT_DOUBLE, .offset = offsetof(struct slm2_pretrain_source, weight), .lo = -1, .hi = 1e18, .def = "-1", .help = "share of the tokens, relative; -1: the data folder's"},
    {.name = "epochs", .type = SLM2_OPT_DOUBLE, .offset = offsetof(struct slm2_pretrain_source, epochs), .lo = 0, .hi = 1e6, .def = "0", .help = "instead of a weight, for all sources or none: passes over the source, relative to the others'"},
    {.name = "prefix", .type = SLM2_OPT_STR, .offset = offsetof(struct slm2_pretrain_source, prefix), .help = "token files without .bin/.idx, instead of the data folder's"},
    {.name = "valid", .type = SLM2_OPT_STR, .offset = offsetof(struct slm2_pretrain_source, valid), .help = "held-out token files without .bin/.idx"},
    {.name = NULL},
};

const struct slm2_opt slm2_pretrain_table[] = {
    {.name = "run", .type = SLM2_OPT_STR, .offset = AT(run), .def = "!", .help = "folder of the run: checkpoints, ledger, finished model"},
    {.name = "resume", .type = SLM2_OPT_ENUM, .offset = AT(resume), .def = "auto", .choices = resumes, .help = "auto: go on from the newest checkpoint if there is one; fresh: delete the run's checkpoints and start over; require: fail without a checkpoint"},
    {.name = "data", .type = SLM2_OPT_STR, .offset = AT(data), .help = "folder made by `slm2 data build`"},
    {.name = "sources", .type = SLM2_OPT_LIST, .offset = AT(sources), .sub = source_table, .sub_size = sizeof(struct slm2_pretrain_source), .help = "which sources, with which weights; none: all of the data folder"},
    {.name = "init_from", .type = SLM2_OPT_STR, .offset = AT(init_from), .help = "checkpoint to start from; none: random weights for `model`"},
    {.name = "from", .type = SLM2_OPT_STR, .offset = AT(from), .help = "training checkpoint (step-N folder) of another run that this run branches off from: weights, optimizer, place in the data; used while `run` has no checkpoint of its own"},
    {.name = "cooldown_steps", .type = SLM2_OPT_INT64, .offset = AT(cooldown_steps), .lo = 0, .hi = 1e15, .def = "0", .help = "with `from`: the cooldown begins at that checkpoint, takes so many steps and ends the run; 0: the schedule goes on"},
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = AT(tokenizer), .choices = slm2_conf_file, .help = "vocabulary put beside the weights: a file, none, or nothing for the bundled one"},
    {.name = "seed", .type = SLM2_OPT_INT64, .offset = AT(seed), .lo = 0, .hi = 9007199254740991.0, .def = "1234", .help = "seed of weights and data order"},
    {.name = "threads", .type = SLM2_OPT_INT, .offset = AT(threads), .lo = 0, .hi = 1024, .def = "0", .help = "threads of a process; 0: one per core, with several ranks a fair share of the cores; does not change the result", .alias = 't'},
    {.name = "isa", .type = SLM2_OPT_STR, .offset = AT(isa), .help = "instruction set: scalar, avx2, avx512; default: the best"},
    SLM2_WATCH_ROWS(struct slm2_pretrain_opts, watch),
    SLM2_CONFIG_ROWS(struct slm2_pretrain_opts, model),
    {.name = "train.n_ctx", .type = SLM2_OPT_INT, .offset = AT(n_ctx), .lo = 0, .hi = 1 << 24, .def = "0", .help = "tokens of a row; 0: model.n_ctx"},
    {.name = "train.micro_batch", .type = SLM2_OPT_INT, .offset = AT(micro_batch), .lo = 1, .hi = 65536, .def = "2", .help = "rows computed at once"},
    {.name = "train.accumulation", .type = SLM2_OPT_INT, .offset = AT(accumulation), .lo = 1, .hi = 1 << 20, .def = "1", .help = "micro-batches of a step, all ranks together; each rank takes an aligned block, best a power of two"},
    {.name = "train.steps", .type = SLM2_OPT_INT64, .offset = AT(steps), .lo = 1, .hi = 1e15, .def = "1000", .help = "updates; a cooldown may end the run earlier"},
    {.name = "train.precision", .type = SLM2_OPT_ENUM, .offset = AT(precision), .def = "fp32", .choices = precisions, .help = "fp32, or bf16: bf16 weights and activations, fp32 master weights and sums"},
    {.name = "train.recompute", .type = SLM2_OPT_BOOL, .offset = AT(recompute), .def = "false", .help = "keep layer inputs only: less memory, a third more work, the same bits"},
    {.name = "train.by_layer", .type = SLM2_OPT_BOOL, .offset = AT(by_layer), .def = "false", .help = "bf16 weights of one layer at a time, made from the master weights when it runs: 2 bytes a parameter less, 6 more to be moved in each pass, the same bits; precision bf16, one rank"},
    {.name = "train.loss", .type = SLM2_OPT_ENUM, .offset = AT(loss), .def = "all", .choices = losses, .help = "all: every position; masked: not those whose input ends a document"},
    {.name = "train.shuffle_rows", .type = SLM2_OPT_BOOL, .offset = AT(shuffle_rows), .def = "false", .help = "shuffle the rows of an epoch too, not only its documents: parts of a long document do not follow each other"},
    {.name = "optim.beta1", .type = SLM2_OPT_FLOAT, .offset = AT(beta1), .lo = 0, .hi = 0.999999, .def = "0.9", .help = "AdamW: decay of the mean gradient"},
    {.name = "optim.beta2", .type = SLM2_OPT_FLOAT, .offset = AT(beta2), .lo = 0, .hi = 0.999999, .def = "0.95", .help = "AdamW: decay of the mean square"},
    {.name = "optim.eps", .type = SLM2_OPT_FLOAT, .offset = AT(eps), .lo = 1e-20, .hi = 1, .def = "1e-8", .help = "AdamW: added to the root"},
    {.name = "optim.weight_decay", .type = SLM2_OPT_FLOAT, .offset = AT(weight_decay), .lo = 0, .hi = 100, .def = "0.1", .help = "decoupled, on matrices only"},
    {.name = "optim.max_grad_norm", .type = SLM2_OPT_FLOAT, .offset = AT(max_grad_norm), .lo = 0, .hi = 1e9, .def = "1", .help = "clipping of the global norm; 0: none"},
    {.name = "optim.moments", .type = SLM2_OPT_ENUM, .offset = AT(moments), .def = "fp32", .choices = moments, .help = "AdamW's two moments between updates: fp32, or bf16: 4 bytes a parameter less, not the same bits"},
    {.name = "schedule.kind", .type = SLM2_OPT_ENUM, .offset = AT(schedule.kind), .def = "hybrid", .choices = slm2_schedule_kinds, .help = "hybrid: cosine, then inverse square root, then cooldown; rsqrt: inverse square root, then cooldown; cosine; linear"},
    {.name = "schedule.lr_peak", .type = SLM2_OPT_DOUBLE, .offset = AT(schedule.lr_peak), .lo = 0, .hi = 100, .def = "1e-3", .help = "learning rate after the warm-up (M)"},
    {.name = "schedule.lr_min", .type = SLM2_OPT_DOUBLE, .offset = AT(schedule.lr_min), .lo = 0, .hi = 100, .def = "1e-4", .help = "where the cosine would end (m)"},
    {.name = "schedule.n_step", .type = SLM2_OPT_INT64, .offset = AT(schedule.n_step), .lo = 0, .hi = 1e15, .def = "0", .help = "N of the formulas; 0: train.steps"},
    {.name = "schedule.n_warmup", .type = SLM2_OPT_INT64, .offset = AT(schedule.n_warmup), .lo = 0, .hi = 1e15, .def = "0", .help = "steps of linear warm-up (W)"},
    {.name = "schedule.n_cooldown", .type = SLM2_OPT_INT64, .offset = AT(schedule.n_cooldown), .lo = 0, .hi = 1e15, .def = "0", .help = "steps of the linear cooldown to zero (C); hybrid, rsqrt"},
    {.name = "schedule.cooldown_start", .type = SLM2_OPT_INT64, .offset = AT(schedule.cooldown_start), .lo = -1, .hi = 1e15, .def = "-1", .help = "step of its start (S); -1: only when SIGUSR1 asks for it"},
    {.name = "valid.every", .type = SLM2_OPT_INT64, .offset = AT(valid_every), .lo = 0, .hi = 1e15, .def = "100", .help = "steps between validations, one also before and after the run; 0: never"},
    {.name = "valid.rows", .type = SLM2_OPT_INT64, .offset = AT(valid_rows), .lo = 1, .hi = 1e12, .def = "64", .help = "held-out rows of each source, at most"},
    {.name = "ckpt.every", .type = SLM2_OPT_INT64, .offset = AT(ckpt_every), .lo = 0, .hi = 1e15, .def = "1000", .help = "steps between checkpoints; one is always written at the end; 0: only there"},
    {.name = "ckpt.keep", .type = SLM2_OPT_INT, .offset = AT(ckpt_keep), .lo = 0, .hi = 1e6, .def = "2", .help = "checkpoints to keep; 0: all"},
    {.name = "log.every", .type = SLM2_OPT_INT64, .offset = AT(log_every), .lo = 0, .hi = 1e15, .def = "100", .help = "steps between lines in the log; 0: none"},
    {.name = "spike.on_nan", .type = SLM2_OPT_ENUM, .offset = AT(guard.on_nan), .def = "stop", .choices = slm2_guard_actions, .help = "a loss or gradient norm that is not finite: stop; skip its rows; rollback to the last regular checkpoint and skip the rows since"},
    {.name = "spike.on_spike", .type = SLM2_OPT_ENUM, .offset = AT(guard.on_spike), .def = "skip", .choices = slm2_guard_actions, .help = "the same for a spike, which spike.sigma and spike.max_norm define"},
    {.name = "spike.sigma", .type = SLM2_OPT_DOUBLE, .offset = AT(guard.sigma), .lo = 0, .hi = 1e6, .def = "0", .help = "a loss above mean + sigma deviations of the last spike.window steps is a spike; 0: losses are not judged"},
    {.name = "spike.window", .type = SLM2_OPT_INT, .offset = AT(guard.window), .lo = 2, .hi = SLM2_GUARD_WINDOW, .def = "128", .help = "steps that mean and deviation are taken of"},
    {.name = "spike.max_norm", .type = SLM2_OPT_DOUBLE, .offset = AT(guard.max_norm), .lo = 0, .hi = 1e30, .def = "0", .help = "a gradient norm above is a spike; 0: norms are not judged"},
    {.name = "spike.limit", .type = SLM2_OPT_INT, .offset = AT(guard.limit), .lo = 0, .hi = 1e9, .def = "20", .help = "skips and rollbacks of a run; one more stops it"},
    {.name = "dist.bucket_elems", .type = SLM2_OPT_INT64, .offset = AT(bucket_elems), .lo = 4096, .hi = 1 << 28, .def = "16777216", .help = "gradients that ranks exchange at a time, while the backward pass goes on; does not change the result"},
    {.name = "dist.timeout_s", .type = SLM2_OPT_DOUBLE, .offset = AT(timeout_s), .lo = 0, .hi = 1e7, .def = "1800", .help = "longest wait for other ranks, seconds; must cover the writing of a checkpoint; 0: for ever"},
    {.name = NULL},
};

slm2_status slm2_pretrain_settings(struct slm2_pretrain_opts *o, const char *config_path, const char *const *sets, int n_sets, struct slm2_err *err)
{
    *o = (struct slm2_pretrain_opts){0};
    slm2_conf_init(slm2_pretrain_table, o);
    if (config_path) SLM2_TRY(slm2_conf_yaml(slm2_pretrain_table, o, config_path, err));
    for (int i = 0; i < n_sets; i++) SLM2_TRY(slm2_conf_set(slm2_pretrain_table, o, sets[i], err));
    return SLM2_OK;
}

slm2_status slm2_pretrain_model(struct slm2_config *cfg, const char *config_path, struct slm2_err *err)
{
    struct slm2_pretrain_opts o;
    slm2_status st = slm2_pretrain_settings(&o, config_path, NULL, 0, err);
    if (st == SLM2_OK) st = slm2_config_from_settings(cfg, &o.model, config_path, err);
    slm2_conf_free(slm2_pretrain_table, &o);
    return st;
}

slm2_status slm2_pretrain(const char *config_path, const char *const *sets, int n_sets, struct slm2_train_result *res, struct slm2_err *err)
{
    struct slm2_pretrain_opts o;
    slm2_status st = slm2_pretrain_settings(&o, config_path, sets, n_sets, err);
    if (st == SLM2_OK) st = slm2_conf_required(slm2_pretrain_table, &o, err);
    if (st == SLM2_OK) st = slm2_pretrain_run(&o, config_path ? config_path : "settings", res, err);
    slm2_conf_free(slm2_pretrain_table, &o);
    return st;
}
