/* pretrain_run.h - a pre-training run between its three files: pretrain_open.c opens one, pretrain.c trains, pretrain_state.c keeps what goes on after a stop.
 *
 * Internal; callers include pretrain.h.  open, save and roll_back end alike on all ranks; what take finds wrong is one rank's, which the caller agrees on. */
#ifndef SLM2_TRAIN_PRETRAIN_RUN_H
#define SLM2_TRAIN_PRETRAIN_RUN_H
#include "data/build.h"
#include "data/mix.h"
#include "data/pack.h"
#include "train/ledger.h"
#include "train/pretrain.h"

/* What ranks tell each other before each step: requests, which any rank may have got, and what their rows come to. */
struct slm2_pretrain_meeting { int32_t stop, cooldown; int64_t count; double cpu_s; };

struct slm2_pretrain {
    const struct slm2_pretrain_opts *o;
    const char *what;
    struct slm2_config cfg;
    struct slm2_schedule schedule;
    bool cooldown_by_signal, cooldown_refused;
    int64_t branch_cooldown; /* length of the cooldown with which this run branched off, 0: none */
    struct slm2_comm *comm, alone;
    bool chief;
    struct slm2_guard guard;
    int n_ctx, rows_per_step;
    struct slm2_dataset set;
    struct slm2_mix_source *train, *valid; /* [n_source]; names and prefixes borrowed from o and set */
    int n_source, n_valid;
    struct slm2_mix *train_mix, *valid_mix;
    struct slm2_trainer *t;
    struct slm2_tok *tok;
    struct slm2_ledger *ledger;
    struct slm2_watch watch;
    struct slm2_batch batch;
    int32_t *ids;          /* [micro_batch * micro-batches of this rank, at least 1; n_ctx + 1] */
    double *sums, *all_sums; /* [n_sums], [ranks * n_sums] validation: loss, tokens and bytes of each batch */
    int64_t n_sums;
    int64_t n_row;         /* consumed */
    int64_t saved_step;    /* of the newest checkpoint, -1 */
    double valid_loss;     /* newest, NaN when not measured */
    int64_t valid_step;
    double committed_s;
    struct slm2_pretrain_meeting *meetings; /* [ranks] */
    char *heard;              /* [ranks * SLM2_PATH_MAX]: what all have said, other than meetings */
    char path[SLM2_PATH_MAX];
    struct slm2_train_result *res;
};

/* pretrain_open.c: checks settings and data, and opens everything at the newest checkpoint, at the one that the run branches off from, or at its start.  What was
 * opened when it fails is closed with the rest, by slm2_pretrain_run. */
slm2_status slm2_pretrain_open(struct slm2_pretrain *r, struct slm2_err *err);

/* pretrain_state.c */
int64_t slm2_pretrain_end_step(const struct slm2_pretrain *r); /* the step after the last one: of the settings, or of a cooldown */
void slm2_pretrain_record_sources(struct slm2_pretrain *r); /* share and tokens drawn of each source, into the ledger */
slm2_status slm2_pretrain_tell(struct slm2_pretrain *r, char *path, struct slm2_err *err); /* a path that rank 0 has found, to all */
slm2_status slm2_pretrain_take(struct slm2_pretrain *r, const char *ckpt, struct slm2_err *err); /* weights, optimizer and state of a checkpoint; its settings must be those of now */
slm2_status slm2_pretrain_save(struct slm2_pretrain *r, struct slm2_err *err); /* a checkpoint of this step, unless there is one; commits the ledger first */
slm2_status slm2_pretrain_roll_back(struct slm2_pretrain *r, bool *done, struct slm2_err *err);
#endif
