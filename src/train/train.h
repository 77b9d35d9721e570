/* train.h - what the training stages have in common towards their callers: the request to stop, the result. */
#ifndef SLM2_TRAIN_TRAIN_H
#define SLM2_TRAIN_TRAIN_H
#include <signal.h>

#include "train/ckpt.h"

/* Flags that signal handlers set; stages look at them between steps.  stop nonzero: write a checkpoint and return SLM2_ESTOP.
 * cooldown nonzero: begin the cooldown now (pre-training).  Either may be NULL; the flags outlive the stages. */
void slm2_train_watch(const volatile sig_atomic_t *stop, const volatile sig_atomic_t *cooldown);
bool slm2_train_stop_asked(void);
bool slm2_train_cooldown_asked(void);

struct slm2_train_result {
    int64_t step, n_tok;             /* updates made, tokens consumed, all sessions */
    double loss_first, loss;         /* of the first and the last step */
    double metric_before, metric;    /* held-out: pre-training and SFT: loss; DPO: preference accuracy; NaN when not measured */
    double wall_s, cpu_s;            /* of all sessions */
    double tok_per_s;                /* of this call; 0 when nothing was left to do */
    size_t bytes;                    /* memory of the trainer */
    char model_dir[SLM2_PATH_MAX];   /* the finished model, a Hugging Face folder: RUN/model; "" when stopped */
    char ckpt_dir[SLM2_PATH_MAX];    /* the last checkpoint */
    char ledger[SLM2_PATH_MAX];
};
#endif
