/* batch.h - the one batch form: a ragged batch of tokens.  A packed pre-training batch, an SFT batch, DPO pairs, a prompt
 * and twenty users decoding one token each are all this. */
#ifndef SLM2_MODEL_BATCH_H
#define SLM2_MODEL_BATCH_H
#include "base/err.h"

struct slm2_batch {
    int n_tok, n_seq;          /* used */
    int max_tok, max_seq;      /* allocated */
    int32_t *ids;              /* [n_tok] */
    int32_t *position;         /* [n_tok], from 0 in each sequence (or from the cached length at inference) */
    int32_t *target;           /* [n_tok], -1: no target */
    float *weight;             /* [n_tok], loss = -sum weight * log p(target) */
    int32_t *cu_seqlens;       /* [n_seq + 1], cu_seqlens[0] = 0 */
};
slm2_status slm2_batch_init(struct slm2_batch *b, int max_tok, int max_seq, struct slm2_err *err);
void slm2_batch_free(struct slm2_batch *b);
void slm2_batch_clear(struct slm2_batch *b);
/* Appends one sequence: ids[n], targets and weights as given (NULL: target -1, weight 0), positions 0..n-1.  SLM2_ELIMIT when full. */
slm2_status slm2_batch_add(struct slm2_batch *b, const int32_t *ids, const int32_t *target, const float *weight, int n, struct slm2_err *err);
/* Appends a packed row: inputs ids[n], targets[n], split into sequences where doc_start[i] is nonzero (i = 0 always starts one). */
slm2_status slm2_batch_add_packed(struct slm2_batch *b, const int32_t *ids, const int32_t *target, const float *weight, const uint8_t *doc_start, int n, struct slm2_err *err);
#endif
