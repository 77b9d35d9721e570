/* tune.h - the run that SFT, DPO and self-knowledge share: a model folder, a list of items, epochs of it in a seeded order, a
 * schedule, validation, checkpoints, ledger, clean stop and bit-identical resume.  A stage says what an item is and how a
 * group of items becomes gradients. */
#ifndef SLM2_TRAIN_TUNE_H
#define SLM2_TRAIN_TUNE_H
#include <signal.h>

#include "base/conf.h"
#include "tok/tok.h"
#include "train/ckpt.h"
#include "train/ledger.h"
#include "train/schedule.h"
#include "train/watch.h"

struct slm2_tune_lora { /* train/lora_stage.c */
    int rank;
    double alpha;
    struct slm2_conf_list targets; /* of char * */
    bool rslora;
    char *adapter;
};
struct slm2_tune_opts {
    char *model, *run, *vocab, *chat;
    int64_t epochs, batch, warmup_steps, valid_every, checkpoint_every, keep, seed;
    int max_tok, threads, schedule, precision;
    double lr_peak, lr_min, warmup_ratio;
    struct slm2_optim optim;
    bool recompute;
    struct slm2_watch_opts watch;
    struct slm2_tune_lora lora;
};
extern const char *const slm2_tune_precisions[], *const slm2_tune_optims[];
#define SLM2_TUNE_ROW_(T, m, f, key, type, lo, hi, def, help, choices) {key, type, offsetof(T, m) + offsetof(struct slm2_tune_opts, f), lo, hi, def, help, choices, NULL, 0, 0}
/* Rows of the settings table for member m (a struct slm2_tune_opts) of struct T; the stage gives its recipe's defaults as text. */
#define SLM2_TUNE_ROWS(T, m, def_epochs, def_batch, def_lr, def_ratio, def_warmup, def_optim)                                                      \
    SLM2_TUNE_ROW_(T, m, model, "model", SLM2_OPT_STR, 0, 0, "!", "Hugging Face folder to start from", NULL),                                      \
    SLM2_TUNE_ROW_(T, m, run, "run", SLM2_OPT_STR, 0, 0, "!", "folder of this run: checkpoints, ledger, the finished model in final/", NULL),       \
    SLM2_TUNE_ROW_(T, m, vocab, "vocab", SLM2_OPT_STR, 0, 0, "", "vocabulary, or bundled for ours; empty: the adapter's, else the model's, else the bundled one", slm2_conf_file),             \
    SLM2_TUNE_ROW_(T, m, chat, "chat_template", SLM2_OPT_STR, 0, 0, "zephyr", "zephyr or chatml", NULL),                                           \
    SLM2_TUNE_ROW_(T, m, epochs, "epochs", SLM2_OPT_INT64, 1, 1e6, def_epochs, "passes over the data", NULL),                                      \
    SLM2_TUNE_ROW_(T, m, batch, "batch", SLM2_OPT_INT64, 1, 1e6, def_batch, "items an update: packed rows, pairs or samples", NULL),               \
    SLM2_TUNE_ROW_(T, m, max_tok, "micro_batch_tokens", SLM2_OPT_INT, 2, 1 << 24, "4096", "tokens computed at once; at least the longest item", NULL), \
    SLM2_TUNE_ROW_(T, m, lr_peak, "lr_peak", SLM2_OPT_DOUBLE, 0, 1, def_lr, "peak learning rate", NULL),                                           \
    SLM2_TUNE_ROW_(T, m, lr_min, "lr_min", SLM2_OPT_DOUBLE, 0, 1, "0", "learning rate at the end", NULL),                                          \
    SLM2_TUNE_ROW_(T, m, schedule, "schedule", SLM2_OPT_ENUM, 0, 0, "cosine", "course of the learning rate", slm2_schedule_kinds),                 \
    SLM2_TUNE_ROW_(T, m, warmup_ratio, "warmup_ratio", SLM2_OPT_DOUBLE, 0, 1, def_ratio, "part of the updates that warm up, unless warmup_steps", NULL), \
    SLM2_TUNE_ROW_(T, m, warmup_steps, "warmup_steps", SLM2_OPT_INT64, 0, 1e9, def_warmup, "updates that warm up; 0: by warmup_ratio", NULL),      \
    SLM2_TUNE_ROW_(T, m, optim.kind, "optimizer", SLM2_OPT_ENUM, 0, 0, def_optim, "adamw or rmsprop", slm2_tune_optims),                           \
    SLM2_TUNE_ROW_(T, m, optim.beta1, "adam_beta1", SLM2_OPT_FLOAT, 0, 0.9999999, "0.9", "AdamW: decay of the first moment", NULL),                \
    SLM2_TUNE_ROW_(T, m, optim.beta2, "adam_beta2", SLM2_OPT_FLOAT, 0, 0.9999999, "0.95", "AdamW: decay of the second moment", NULL),              \
    SLM2_TUNE_ROW_(T, m, optim.alpha, "rmsprop_alpha", SLM2_OPT_FLOAT, 0, 0.9999999, "0.99", "RMSProp: decay of the squared gradient", NULL),      \
    SLM2_TUNE_ROW_(T, m, optim.eps, "eps", SLM2_OPT_FLOAT, 1e-30, 1, "1e-8", "added outside the root", NULL),                                      \
    SLM2_TUNE_ROW_(T, m, optim.weight_decay, "weight_decay", SLM2_OPT_FLOAT, 0, 10, "0", "AdamW: on matrices only", NULL),                         \
    SLM2_TUNE_ROW_(T, m, optim.max_grad_norm, "max_grad_norm", SLM2_OPT_FLOAT, 0, 1e9, "1", "gradient clipping; 0: none", NULL),                   \
    SLM2_TUNE_ROW_(T, m, precision, "precision", SLM2_OPT_ENUM, 0, 0, "fp32", "fp32, or bf16 with fp32 master weights", slm2_tune_precisions),     \
    SLM2_TUNE_ROW_(T, m, recompute, "recompute", SLM2_OPT_BOOL, 0, 0, "false", "keep only layer inputs; same bits, less memory", NULL),            \
    SLM2_TUNE_ROW_(T, m, valid_every, "valid_every", SLM2_OPT_INT64, 0, 1e9, "0", "updates between validations; 0: at start and end", NULL),       \
    SLM2_TUNE_ROW_(T, m, checkpoint_every, "checkpoint_every", SLM2_OPT_INT64, 0, 1e9, "0", "updates between checkpoints; 0: when stopped and at the end", NULL), \
    SLM2_TUNE_ROW_(T, m, keep, "keep_checkpoints", SLM2_OPT_INT64, 0, 1e6, "1", "newest checkpoints kept; 0: all", NULL),                          \
    SLM2_TUNE_ROW_(T, m, seed, "seed", SLM2_OPT_INT64, 0, 9007199254740991.0, "1234", "seed of the order and of all draws", NULL),                 \
    {"threads", SLM2_OPT_INT, offsetof(T, m) + offsetof(struct slm2_tune_opts, threads), 0, 1024, "0", "threads; 0: one per core", NULL, NULL, 0, 't'}, \
    SLM2_TUNE_ROW_(T, m, lora.rank, "lora.rank", SLM2_OPT_INT, 0, SLM2_LORA_MAX_RANK, "0", "train only a low-rank adapter of this rank beside the frozen weights; 0: all weights", NULL), \
    SLM2_TUNE_ROW_(T, m, lora.alpha, "lora.alpha", SLM2_OPT_DOUBLE, 0, 1e6, "0", "the adapter counts alpha / rank times; 0: twice the rank", NULL),                  \
    SLM2_TUNE_ROW_(T, m, lora.targets, "lora.targets", SLM2_OPT_STRS, 0, 0, NULL, "matrices that have one: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; default: all", NULL), \
    SLM2_TUNE_ROW_(T, m, lora.rslora, "lora.rslora", SLM2_OPT_BOOL, 0, 0, "false", "alpha / sqrt(rank) instead", NULL),                                         \
    SLM2_TUNE_ROW_(T, m, lora.adapter, "lora.adapter", SLM2_OPT_STR, 0, 0, "", "PEFT folder to go on from, with its rank, alpha and targets", NULL),               \
    SLM2_WATCH_ROWS(T, m.watch)

/* What the caller brings and gets back; the same for every stage. */
struct slm2_stage_args {
    const void *settings;        /* the stage's settings, already read (borrowed), or NULL: read them from config and sets */
    const char *config;          /* YAML file */
    const char *const *sets;     /* [n_sets] "key=value" */
    int n_sets;
    const char *isa;             /* kernels; NULL: best */
    int threads;                 /* above 0 overrides the file */
    const volatile sig_atomic_t *stop; /* nonzero: finish the update, save, return SLM2_ESTOP; may be NULL */
};
enum { SLM2_STAGE_MAX_FIGURES = 32 };
struct slm2_stage_result {
    int64_t n_step, n_new;      /* updates of the whole run; made by this call */
    double loss;                /* of the last update that this call made; NaN: none */
    double wall_s;
    char final_dir[SLM2_PATH_MAX];
    struct { char name[40]; double value; } figure[SLM2_STAGE_MAX_FIGURES]; /* the last value of each metric of validation, and "start." ones */
    int n_figure;
};

struct slm2_tune {
    const struct slm2_tune_opts *o;
    const char *config;            /* the dump of all settings of the stage, borrowed */
    struct slm2_trainer *t;
    struct slm2_tok *tok;
    struct slm2_ledger *ledger;
    struct slm2_watch watch;
    struct slm2_batch batch;       /* of max_tok tokens, for the stage */
    struct slm2_stage_result *result;
    int64_t step;
    int64_t saved;                 /* step of the newest checkpoint, -1: none */
    double loss;                   /* of the update, set by the stage's step */
    const struct slm2_stage_args *args;
    char base[65];                 /* fingerprint of the frozen model; "" without an adapter */
};
struct slm2_tune_stage {
    const char *name;              /* "sft" */
    void *user;
    int n_item;
    const char *data;              /* hash of what the items are: a checkpoint goes on with the same only; NULL: their number alone tells */
    /* Gradients of items[0..n) into the trainer (between begin and update); sets tune->loss. */
    slm2_status (*step)(void *user, struct slm2_tune *tune, const uint32_t *items, int n, struct slm2_err *err);
    /* Validation: calls slm2_tune_metric for each of its figures. */
    slm2_status (*validate)(void *user, struct slm2_tune *tune, struct slm2_err *err);
};
/* Opens trainer, tokenizer and ledger under o->run; config_dump goes to the ledger and, until tune is closed, into checkpoints.  tune is zeroed first; close it in any case. */
slm2_status slm2_tune_open(struct slm2_tune *tune, const char *stage, const struct slm2_tune_opts *o, const struct slm2_stage_args *args, const char *config_dump, struct slm2_stage_result *result, struct slm2_err *err);
slm2_status slm2_tune_run(struct slm2_tune *tune, const struct slm2_tune_stage *stage, struct slm2_err *err);
/* Refuses a stage that the newest checkpoint of the run does not agree with, as slm2_tune_run does: for stages that prepare at length. */
slm2_status slm2_tune_agrees(const struct slm2_tune *tune, const struct slm2_tune_stage *stage, struct slm2_err *err);
slm2_status slm2_tune_close(struct slm2_tune *tune, slm2_status st, struct slm2_err *err); /* passes st on unless closing fails */
/* A run that is only planned: what slm2_tune_open would refuse is refused, by the headers of the model's files; nothing is written.
 * A model that is not there yet is a warning: cfg then allows any length, and total is 0. */
struct slm2_tune_look {
    const struct slm2_tune_opts *o; /* borrowed */
    struct slm2_tok *tok;
    struct slm2_config cfg;         /* of the model */
    size_t trained, total;          /* parameters */
    size_t bytes;                   /* that the trainer will hold */
};
slm2_status slm2_tune_look(struct slm2_tune_look *look, const struct slm2_tune_opts *o, const struct slm2_stage_args *args, struct slm2_err *err);
void slm2_tune_look_free(struct slm2_tune_look *look); /* whatever the status */
/* What n_item items (called `items`) come to: updates, parameters, memory, as lines and as members of json, which is taken and handed on (NULL: no memory). */
slm2_status slm2_tune_plan(const struct slm2_tune_look *look, const char *stage, int64_t n_item, const char *items, struct slm2_buf *text, json_t **json, struct slm2_err *err);
void slm2_tune_figure(struct slm2_tune *tune, const char *name, double value); /* of the whole run, to the result and, at its end, to the ledger */
slm2_status slm2_tune_tok(struct slm2_tok **tok, const struct slm2_tune_opts *o, struct slm2_err *err); /* as slm2_tok_of_model: o->vocab, else the adapter's, else the model's own, else the bundled one */
slm2_status slm2_tune_nothing(const char *stage, struct slm2_err *err); /* the error of data that are empty when all filters are through */
bool slm2_tune_stopping(const struct slm2_tune *tune); /* asked to stop: long preparations look at it too */
void slm2_tune_metric(struct slm2_tune *tune, const char *name, double value); /* to the ledger at this step, and to the result */
/* Fills obj (of size bytes) from args: its settings, or YAML, then sets, then threads; dump receives them as YAML.  Free with
 * slm2_tune_settings_free whatever the result. */
slm2_status slm2_tune_settings(const struct slm2_opt *table, void *obj, size_t size, const struct slm2_stage_args *args, struct slm2_buf *dump, struct slm2_err *err);
void slm2_tune_settings_free(const struct slm2_opt *table, void *obj, const struct slm2_stage_args *args);
/* lora_stage.c: what of a stage is different with an adapter.  The trainer's options from the settings; *lora receives the fresh adapter's. */
slm2_status slm2_tune_lora(const struct slm2_tune_lora *s, struct slm2_lora_opts *lora, struct slm2_trainer_opts *to, struct slm2_err *err);
/* Fingerprint of the base, counts of parameters to ledger and log. */
slm2_status slm2_tune_lora_opened(struct slm2_tune *tune, struct slm2_err *err);
/* What a checkpoint must agree with: rank, alpha, targets, base; NULL without an adapter. */
json_t *slm2_tune_lora_state(const struct slm2_tune *tune);
double slm2_stage_figure(const struct slm2_stage_result *r, const char *name); /* NaN when absent */

/* The stages. */
slm2_status slm2_sft(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err);
slm2_status slm2_dpo(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err);
slm2_status slm2_selfknow(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err);
/* What runs of these settings come to, for people (text) and as JSON: what the data hold, updates, memory.  Refuses what the run would; writes and trains nothing. */
slm2_status slm2_sft_plan(const struct slm2_stage_args *args, struct slm2_buf *text, json_t **json, struct slm2_err *err);
slm2_status slm2_dpo_plan(const struct slm2_stage_args *args, struct slm2_buf *text, json_t **json, struct slm2_err *err);
slm2_status slm2_selfknow_plan(const struct slm2_stage_args *args, struct slm2_buf *text, json_t **json, struct slm2_err *err); /* draws nothing: of samples that are there already */
extern const struct slm2_opt slm2_sft_settings[], slm2_dpo_settings[], slm2_selfknow_settings[]; /* for --help */
extern const size_t slm2_sft_settings_size, slm2_dpo_settings_size, slm2_selfknow_settings_size;
#endif
