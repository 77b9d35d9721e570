/* pretrain.h - pre-training from one table of settings: a weighted mix of token files, packed rows, the hybrid schedule.
 *
 * The run folder holds step-NNNNNNNN/ checkpoints (ckpt.h), run.sqlite (ledger.h) and, at the end, final/.  A run that was
 * stopped or killed goes on from its newest checkpoint and gives the same bits as one that was not, whatever the number of threads and
 * of ranks.  With several ranks (comm) all call slm2_pretrain_run; rank 0 keeps ledger and checkpoints, each rank reads the data it computes. */
#ifndef SLM2_TRAIN_PRETRAIN_H
#define SLM2_TRAIN_PRETRAIN_H
#include <signal.h>

#include "base/conf.h"
#include "train/guard.h"
#include "train/schedule.h"
#include "train/train.h"
#include "train/watch.h"

struct slm2_pretrain_source {
    char *name;
    double weight;          /* -1: what the data folder says */
    double epochs;          /* 0: by weight; else the weight is epochs * tokens */
    char *prefix, *valid;   /* token files without .bin/.idx; "": those of the data folder */
};
enum slm2_resume { SLM2_RESUME_AUTO, SLM2_RESUME_FRESH, SLM2_RESUME_REQUIRE };
struct slm2_pretrain_opts {
    struct slm2_config_settings model;
    char *init_from, *from, *tokenizer, *run, *data, *isa;
    struct slm2_watch_opts watch;
    struct slm2_conf_list sources; /* struct slm2_pretrain_source */
    int resume, precision, loss, moments; /* enum slm2_resume, slm2_precision, slm2_pack_loss, slm2_moments */
    int n_ctx, micro_batch, accumulation, threads;
    int64_t steps, seed, cooldown_steps, bucket_elems;
    bool recompute, by_layer, shuffle_rows;
    struct slm2_schedule schedule;
    float beta1, beta2, eps, weight_decay, max_grad_norm;
    int64_t valid_every, valid_rows, ckpt_every, log_every;
    int ckpt_keep;
    double timeout_s;
    struct slm2_guard_opts guard;
    /* not settings; NULL allowed; flags that signal handlers set, looked at between steps */
    const volatile sig_atomic_t *stop;     /* nonzero: write a checkpoint, return SLM2_ESTOP */
    const volatile sig_atomic_t *cooldown; /* nonzero: begin the cooldown now */
    struct slm2_comm *comm;                /* the ranks; NULL: one */
};
extern const struct slm2_opt slm2_pretrain_table[];

/* The file (NULL: none), then sets[n_sets] of "key=value".  o is zeroed, initialised and may be given to slm2_conf_free whatever the result. */
slm2_status slm2_pretrain_settings(struct slm2_pretrain_opts *o, const char *config_path, const char *const *sets, int n_sets, struct slm2_err *err);
/* The model that a pre-training file describes. */
slm2_status slm2_pretrain_model(struct slm2_config *cfg, const char *config_path, struct slm2_err *err);

/* what: name of the settings for messages.  SLM2_ESTOP when asked to stop: a checkpoint was written. */
slm2_status slm2_pretrain_run(const struct slm2_pretrain_opts *o, const char *what, struct slm2_train_result *res, struct slm2_err *err);
slm2_status slm2_pretrain(const char *config_path, const char *const *sets, int n_sets, struct slm2_train_result *res, struct slm2_err *err);

/* Speed of the training step of these settings on random tokens: no data, no files. */
struct slm2_bench_train_result {
    double tok_per_s, flops_per_s;   /* best step */
    double mfu;                      /* flops_per_s over peak_flops_per_s */
    double peak_flops_per_s;         /* of the processor in the type that is multiplied (fp32, or bf16 where it can), all operands in registers, all threads */
    double step_s, median_step_s;
    size_t bytes;
    int n_tok_per_step;
};
slm2_status slm2_bench_train(const struct slm2_pretrain_opts *o, const char *what, int steps, struct slm2_bench_train_result *res, struct slm2_err *err);
#endif
