/* train.h - what a finished or stopped pre-training run hands back. */
#ifndef SLM2_TRAIN_TRAIN_H
#define SLM2_TRAIN_TRAIN_H
#include "train/ckpt.h"

/* Where the time went since this start, seconds of rank 0.  data: reading rows before a step; ledger: recording it.  Opening and the export of final/ are in none. */
struct slm2_train_time { double step_s, data_s, ledger_s, valid_s, ckpt_s; };

struct slm2_train_result {
    int64_t step, n_tok;             /* updates made, tokens consumed, all sessions */
    double loss_first, loss;         /* of the first and the last step */
    double metric_before, metric;    /* held-out loss before and after; NaN when not measured */
    double wall_s, cpu_s;            /* of all sessions */
    double tok_per_s;                /* of this call; 0 when nothing was left to do */
    double comm_share;               /* of this call's steps, part of the time spent waiting for and talking to other ranks */
    struct slm2_train_time time;     /* of this call */
    size_t bytes;                    /* memory of the trainer, of this rank */
    char model_dir[SLM2_PATH_MAX];   /* the finished model, a Hugging Face folder: RUN/final; "" when stopped */
    char ckpt_dir[SLM2_PATH_MAX];    /* the last checkpoint */
    char ledger[SLM2_PATH_MAX];
};
#endif
