/* engine.h - what the public engine (see slm2.h) offers inside the program besides: the choice of kernels and of the cache's type, logits of
 * every token, one token for many sequences at once. */
#ifndef SLM2_INFER_ENGINE_H
#define SLM2_INFER_ENGINE_H
#include "model/model.h"

struct slm2_engine_setup {
    const char *isa, *backend; /* as in struct slm2_ctx_opts; NULL: best, "cpu" */
    enum slm2_dtype kv_dtype;  /* of the cache: F32, F16, BF16 or Q8_0 */
    bool exact;                /* as in struct slm2_ctx_opts */
};
/* The cache's type that goes with the weights: as exact as they are multiplied.  F32 for F32 weights and exact products, F16 for F16, else BF16. */
enum slm2_dtype slm2_engine_kv_auto(const struct slm2_model *m, bool exact);
/* slm2_engine_new with a setup (NULL: best kernels, fast products, kv_auto).  m must outlive the engine. */
slm2_status slm2_engine_new_setup(struct slm2_engine **e, const struct slm2_model *m, const struct slm2_engine_opts *o, const struct slm2_engine_setup *setup, struct slm2_err *err);
/* slm2_engine_feed with the logits of all n_tok tokens: logits[n_tok, vocab_size]. */
slm2_status slm2_engine_feed_all(struct slm2_engine *e, int seq, const int32_t *tok, int n_tok, float *logits, struct slm2_err *err);
/* Appends tok[i] to sequence seq[i], i < n, in one pass over the weights; seq distinct, n at most n_seq.  logits[n, vocab_size].
 * The same bits as n calls of slm2_engine_feed.  On an error no sequence has moved. */
slm2_status slm2_engine_step(struct slm2_engine *e, int n, const int *seq, const int32_t *tok, float *logits, struct slm2_err *err);
int slm2_engine_n_ctx(const struct slm2_engine *e);
int slm2_engine_vocab_size(const struct slm2_engine *e);
int slm2_engine_n_seq(const struct slm2_engine *e);
int slm2_engine_n_threads(const struct slm2_engine *e);
size_t slm2_engine_kv_bytes(const struct slm2_engine *e, int n_tok); /* of keys and values that a step over n_tok cached tokens reads */
#endif
