/* model.h - the one definition of the network: loading, forward and backward of a ragged batch. */
#ifndef SLM2_MODEL_H
#define SLM2_MODEL_H
#include "model/batch.h"
#include "model/params.h"

struct slm2_span { size_t from, to; }; /* elements of a flat buffer */

struct slm2_model {
    struct slm2_config cfg;
    struct slm2_params params;
    /* the rest is owned by model.c */
    struct slm2_tensors *files; /* mapped weights, or NULL */
    struct slm2_gguf *gguf;
    struct slm2_arena vectors;  /* F32 copies of norms and biases */
    struct slm2_arena weights;  /* trainable: w (bf16 when mixed), master, grad */
    int *held;                  /* the layer whose bf16 weights are held, -1: none; NULL: those of all are */
    const struct slm2_span *own; /* whose master weights are held, back to back in shard; NULL: all, flat */
    int n_own;
    float *shard;
    char *path;
    struct slm2_lora *lora; /* an adapter beside the mapped weights (lora.h), or NULL */
};

/* slm2_model_open and slm2_model_free are in <slm2.h>: mapped, read-only, inference.  Shapes are checked against the config. */

enum slm2_precision { SLM2_FP32, SLM2_BF16_MIXED }; /* mixed: bf16 weights and activations, fp32 master weights and sums */

/* A trainable copy in memory: fp32 master weights and gradients; from a checkpoint (path), or random when path is NULL:
 * normal(0, init_std), o_proj and down_proj init_std / sqrt(2 n_layer), biases 0, norm weights 1; (seed, parameter, index) decide each number. */
slm2_status slm2_model_trainable(struct slm2_model **m, const char *path, const struct slm2_config *cfg, uint64_t seed, enum slm2_precision precision, struct slm2_err *err);
/* The same for one of several ranks.  Mixed precision: fp32 master weights are held for own[n_own] only, one behind the other, and norms and biases
 * have an fp32 copy of their own; params' master is NULL.  fp32: weights are masters, all are held.  own is borrowed until the model is freed;
 * NULL: everything. */
slm2_status slm2_model_trainable_shard(struct slm2_model **m, const char *path, const struct slm2_config *cfg, uint64_t seed, enum slm2_precision precision,
                                       const struct slm2_span *own, int n_own, struct slm2_err *err);
/* Mixed precision with the bf16 weights of one layer at a time, all in the same memory: made from the master weights when the layer runs, so 2 bytes a parameter
 * less, the same bits, and 6 bytes a parameter more to be moved each time.  Embedding and head are held. */
slm2_status slm2_model_by_layer(struct slm2_model **m, const char *path, const struct slm2_config *cfg, uint64_t seed, struct slm2_err *err);
/* SLM2_EUSAGE for a model that only an adapter can be trained beside: a GGUF file. */
slm2_status slm2_model_may_train(const struct slm2_model *m, struct slm2_err *err);
bool slm2_model_is_by_layer(const struct slm2_model *m, const struct slm2_param *p); /* whether p->w is such a weight */
void slm2_model_layer_weights(const struct slm2_model *m, struct slm2_ctx *c, int layer); /* before the layer runs: makes what is not held */
void slm2_model_forget_layer(const struct slm2_model *m); /* master weights have changed */
/* What training changes: the adapter's matrices when there is one, else all parameters. */
const struct slm2_params *slm2_model_trained(const struct slm2_model *m);
float *slm2_model_master(const struct slm2_model *m); /* flat [flat_elems] of slm2_model_trained; of a model with own: the shard */
float *slm2_model_grad(const struct slm2_model *m);   /* the same */
void slm2_model_set(struct slm2_model *m, const float *flat); /* weights, master weights or the shard of them from fp32 values; flat may be the gradients */
void slm2_model_refresh(struct slm2_model *m, struct slm2_ctx *c); /* after an update: bf16 weights from the master weights */
/* Writes dir as a Hugging Face model: config.json, generation_config.json, model.safetensors (dtype F32 or BF16).  flat: the master weights, NULL: the model's own, which
 * must be whole.  No tokenizer files. */
slm2_status slm2_model_save_hf(const struct slm2_model *m, const float *flat, const char *dir, enum slm2_dtype dtype, struct slm2_err *err);
/* A random checkpoint written straight to disk, shard by shard, without holding the model in memory. */
slm2_status slm2_model_init_to_disk(const struct slm2_config *cfg, const char *dir, enum slm2_dtype dtype, uint64_t seed, struct slm2_err *err);

/* Which model is this: SHA-256 over config.json and the .safetensors files of its folder (of one .safetensors file: over it and the config.json beside it;
 * of a GGUF file: over that), their names, and the adapter's scale, shapes and numbers.  Two models with the same key compute the same.  Reads
 * everything, with a progress bar.  SLM2_EUSAGE: the weights are in memory (training). */
slm2_status slm2_model_key(const struct slm2_model *m, char hex[65], struct slm2_err *err);
/* The same of files and an adapter (NULL: none) where training has the weights in memory. */
slm2_status slm2_model_key_of(const char *path, const struct slm2_lora *adapter, char hex[65], struct slm2_err *err);

enum slm2_plan { SLM2_KEEP_ALL, SLM2_RECOMPUTE, SLM2_INFER };

/* Activations of batches up to max_tok tokens under a memory plan; sized once, no allocation later. */
struct slm2_acts;
/* dtype of activations: F32 or BF16.  max_logit_rows: rows of the head computed at once. */
slm2_status slm2_acts_new(struct slm2_acts **a, const struct slm2_model *m, struct slm2_ctx *c, enum slm2_plan plan, enum slm2_dtype dtype, int max_tok, int max_logit_rows, struct slm2_err *err);
size_t slm2_acts_bytes(const struct slm2_acts *a);
void slm2_acts_free(struct slm2_acts *a);

/* Key/value cache of an engine: k and v of each layer, [n_slot * n_ctx, kv_dim]; sequence slot s holds rows from s * n_ctx. */
struct slm2_kv { struct slm2_mat *k, *v; /* [n_layer] */ int n_slot, n_ctx; struct slm2_arena mem; };
slm2_status slm2_kv_init(struct slm2_kv *kv, const struct slm2_config *cfg, int n_slot, int n_ctx, enum slm2_dtype dtype, struct slm2_err *err);
void slm2_kv_free(struct slm2_kv *kv);

/* Runs the layers on the batch up to and with the final norm.  kv NULL: training form, keys are the batch's own rows.  With kv, slot[s] is
 * the cache slot of sequence s and position[] continues what the slot holds.  Ids and positions must be in range (assert). */
void slm2_model_forward(const struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, const struct slm2_kv *kv, const int32_t *slot);
/* Keys and values anywhere in a cache of one slot, so that sequences share the rows of a common beginning: those of token r go to cache row
 * at[r], sequence s sees the rows of run[cu_runs[s]] ... run[cu_runs[s+1] - 1] one behind the other (struct slm2_seqs), its own among them. */
struct slm2_kv_place { const int32_t *at; const struct slm2_run *run; const int32_t *cu_runs; };
/* The same bits as a sequence by itself.  Cache and activations in F32. */
void slm2_model_forward_at(const struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, const struct slm2_kv *kv, const struct slm2_kv_place *place);
void slm2_kv_move(struct slm2_kv *kv, int to, int from, int n); /* rows of every layer; they may overlap */
/* After forward: fp32 logits of batch row `row` .. into logits[n, vocab_size]. */
void slm2_model_logits(const struct slm2_model *m, struct slm2_acts *a, int row, int n, float *logits);
/* After forward: lp[n_tok] = log p(target), 0 without target; argmax [n_tok] may be NULL (the greedy prediction; -1 for rows without target). Rows without target cost nothing. */
void slm2_model_logprob(const struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, float *lp, int32_t *argmax);
/* After forward: lp[n] = log p(target[i]) at batch row row[i]; a row may come more than once. */
void slm2_model_logprob_at(const struct slm2_model *m, struct slm2_acts *a, const int32_t *row, const int32_t *target, int n, float *lp, int32_t *argmax);
/* After forward (not INFER): adds the gradients of -sum_r weight[r] lp[r] to the params' grads; lp[n_tok] may be NULL.  Rows of weight 0 still get their lp.
 * Gradients become final from the end of the flat buffer to its start; on_final (NULL allowed) is told how far, layer by layer. */
struct slm2_on_final { void (*call)(void *user, size_t from); void *user; }; /* elements [from, flat_elems) are final for this batch */
void slm2_model_backward(struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, float *lp, const struct slm2_on_final *on_final);
/* Floating-point operations of forward and backward per token (6 N of matrices + attention), for MFU. */
double slm2_model_flops_per_token(const struct slm2_config *c, double mean_context);
#endif
