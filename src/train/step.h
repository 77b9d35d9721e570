/* step.h - the training step that all stages share: accumulate gradients over micro-batches, clip, update.
 *
 * A step is
 *     slm2_trainer_begin(t);
 *     for each micro-batch:  slm2_trainer_accumulate(t, &batch);
 *     slm2_trainer_update(t, lr, &stats);          or slm2_trainer_reduce, a look at the stats, slm2_trainer_apply
 * Row weights carry the mean: weight[r] = 1 / (rows that count in the whole step), so that the loss of the step is
 * sum -weight * log p and micro-batches simply add.  A stage whose weights depend on the log-probabilities (DPO) calls
 * slm2_trainer_forward, sets batch.weight, then slm2_trainer_backward.
 * Nothing allocates between begin and update; the same batches give the same bits for any number of threads.
 *
 * With n_micro the gradients of a step's micro-batches are summed as a binary tree over their global index, and several ranks (comm) share the work:
 * each accumulates block.n micro-batches from block.first on and holds the optimizer's state for its shard (dist/zero.h).  Any number of ranks
 * gives the same bits.  begin, update, reduce, apply, slm2_trainer_whole are then called by all ranks together. */
#ifndef SLM2_TRAIN_STEP_H
#define SLM2_TRAIN_STEP_H
#include "dist/zero.h"
#include "model/lora.h"

enum slm2_optim_kind { SLM2_ADAMW, SLM2_RMSPROP };
struct slm2_optim {
    int kind;
    float beta1, beta2;   /* AdamW */
    float alpha;          /* RMSProp */
    float eps;
    float weight_decay;   /* AdamW; on matrices only */
    float max_grad_norm;  /* clip = min(1, max_grad_norm / (norm + 1e-6)); 0: no clipping */
};
/* How the moments are held between updates, which compute in fp32 either way.  bf16, rounded to nearest: half the memory, other bits. */
enum slm2_moments { SLM2_MOMENTS_FP32, SLM2_MOMENTS_BF16 };
enum { SLM2_MOMENT_PIECE = 1 << 20 }; /* bf16 moments that are widened at once */
struct slm2_optim slm2_optim_adamw(void);   /* 0.9, 0.95, 1e-8, decay 0.1, clipping 1 */
struct slm2_optim slm2_optim_rmsprop(void); /* 0.99, 1e-8, no clipping */

struct slm2_trainer_opts {
    const char *model_path;          /* checkpoint to start from; NULL: random from cfg and seed */
    const struct slm2_config *cfg;   /* used when model_path is NULL */
    uint64_t seed;
    enum slm2_precision precision;
    struct slm2_optim optim;
    enum slm2_moments moments;
    bool recompute;                  /* keep only layer inputs; the same bits, less memory */
    bool by_layer;                   /* bf16 weights of one layer at a time (slm2_model_by_layer); the same bits, less memory; one rank */
    int max_tok;                     /* tokens of the largest micro-batch */
    int n_micro;                     /* micro-batches of every step, all ranks; 0: any number, summed in order, one rank only */
    struct slm2_comm *comm;          /* borrowed; NULL: one rank */
    size_t bucket_elems;             /* of gradients that are exchanged at once; 0: the least */
    int max_logit_rows;              /* rows of the head computed at once; 0: chosen from the width */
    struct slm2_ctx_opts ctx;        /* backend, isa, threads */
    /* LoRA: only an adapter is trained, beside model_path mapped read-only; one rank, n_micro 0.  Its A and B are the parameters of all that
     * follows, fp32 in any precision, which then is that of the activations.  adapter: a PEFT folder to go on from, with its own rank, alpha and
     * targets; else lora's, fresh.  Both NULL: all weights are trained. */
    const struct slm2_lora_opts *lora;
    const char *adapter;
};
struct slm2_trainer {
    struct slm2_model *model;
    struct slm2_ctx ctx;
    struct slm2_acts *acts;
    struct slm2_optim optim;
    enum slm2_precision precision;
    uint64_t seed;
    int64_t n_update;        /* updates made so far; the bias correction of the next uses n_update + 1 */
    struct slm2_zero zero;
    struct slm2_block block; /* micro-batches of this rank */
    enum slm2_dtype moments; /* F32 or BF16, the type of the next two */
    void *exp_avg;           /* [zero.shard_elems], with one rank the flat buffer; NULL for RMSProp */
    void *exp_avg_sq;        /* [zero.shard_elems] */
    float *piece, *piece_sq; /* bf16: some of them as fp32 */
    float *lp;               /* [max_tok] log p(target) of the last batch, 0 without target */
    int32_t *argmax;         /* [max_tok] greedy predictions of the last slm2_trainer_evaluate, -1 without target */
    int max_tok;
    double loss;             /* sum of -weight * lp since begin; of this rank until reduce */
    int n_micro, leaf;       /* of a step; micro-batches accumulated since begin */
    int n_spare;             /* levels of the tree inside the block */
    float *spare[32];        /* [n_spare] flat sums of complete subtrees */
    size_t final_from;       /* of the last micro-batch: where gradients are final and added up */
    double *micro_loss, *all_loss; /* [block size], [ranks * block size] */
    struct slm2_comm self;
    struct slm2_arena mem;   /* state, spares, lp, argmax, losses */
};
slm2_status slm2_trainer_new(struct slm2_trainer **t, const struct slm2_trainer_opts *o, struct slm2_err *err);
/* What slm2_trainer_new of one rank would refuse of the files, and the bytes that it would hold (within 1 %, test_stages), by their headers: no weight is read and no memory
 * touched.  *m: the model, mapped, with its adapter; the caller's to free. */
slm2_status slm2_trainer_look(struct slm2_model **m, size_t *bytes, const struct slm2_trainer_opts *o, struct slm2_err *err);
void slm2_trainer_free(struct slm2_trainer *t);
size_t slm2_trainer_bytes(const struct slm2_trainer *t); /* activations, weights, gradients and optimizer state */

void slm2_trainer_begin(struct slm2_trainer *t);                                     /* gradients and loss to zero */
void slm2_trainer_accumulate(struct slm2_trainer *t, const struct slm2_batch *b);    /* forward and backward; t->lp, t->loss */
void slm2_trainer_forward(struct slm2_trainer *t, const struct slm2_batch *b);       /* t->lp only */
void slm2_trainer_backward(struct slm2_trainer *t, const struct slm2_batch *b);      /* after forward of the same tokens; adds to t->loss */

struct slm2_step_stats { double loss, grad_norm, clip, lr; };
/* Sum over all ranks, norm, clipping factor; weights stay as they are.  Then apply, or begin again. */
slm2_status slm2_trainer_reduce(struct slm2_trainer *t, struct slm2_step_stats *stats, struct slm2_err *err);
/* Optimizer on the own shard, computed weights of all ranks. */
slm2_status slm2_trainer_apply(struct slm2_trainer *t, double lr, struct slm2_step_stats *stats, struct slm2_err *err);
/* Both, for stages without a policy.  A loss or norm that is not finite changes nothing and is
 * SLM2_EFORMAT with the step in the message. */
slm2_status slm2_trainer_update(struct slm2_trainer *t, double lr, struct slm2_step_stats *stats, struct slm2_err *err);

enum slm2_state { SLM2_STATE_MASTER, SLM2_STATE_EXP_AVG, SLM2_STATE_EXP_AVG_SQ };
/* All of a state, flat and fp32, on rank 0 until the next call or step: other ranks' shards and bf16 moments come into the gradients' memory.  NULL on other ranks and where
 * the optimizer has no such state. */
slm2_status slm2_trainer_whole(struct slm2_trainer *t, enum slm2_state which, const float **flat, struct slm2_err *err);
/* Where a reader puts all of a state (NULL: there is none), and the taking of this rank's part from there. */
float *slm2_trainer_room(struct slm2_trainer *t, enum slm2_state which);
void slm2_trainer_take(struct slm2_trainer *t, enum slm2_state which);

/* -sum weight * lp of the batch; no gradients.  t->lp and t->argmax hold each row's. */
double slm2_trainer_evaluate(struct slm2_trainer *t, const struct slm2_batch *b);
#endif
