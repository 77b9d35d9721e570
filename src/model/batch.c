/* batch.c - fills ragged batches. */
#include "model/batch.h"

#include <stdlib.h>
#include <string.h>

slm2_status slm2_batch_init(struct slm2_batch *b, int max_tok, int max_seq, struct slm2_err *err)
{
    size_t n = (size_t)max_tok;
    memset(b, 0, sizeof *b);
    b->max_tok = max_tok;
    b->max_seq = max_seq;
    b->ids = calloc(n, sizeof *b->ids);
    b->position = calloc(n, sizeof *b->position);
    b->target = calloc(n, sizeof *b->target);
    b->weight = calloc(n, sizeof *b->weight);
    b->cu_seqlens = calloc((size_t)max_seq + 1, sizeof *b->cu_seqlens);
    if (!b->ids || !b->position || !b->target || !b->weight || !b->cu_seqlens) {
        slm2_batch_free(b);
        return slm2_fail(err, SLM2_ENOMEM, "no memory for a batch of %d tokens", max_tok);
    }
    return SLM2_OK;
}

void slm2_batch_free(struct slm2_batch *b)
{
    free(b->ids);
    free(b->position);
    free(b->target);
    free(b->weight);
    free(b->cu_seqlens);
    memset(b, 0, sizeof *b);
}

void slm2_batch_clear(struct slm2_batch *b)
{
    b->n_tok = b->n_seq = 0;
    b->cu_seqlens[0] = 0;
}

slm2_status slm2_batch_add_packed(struct slm2_batch *b, const int32_t *ids, const int32_t *target, const float *weight, const uint8_t *doc_start, int n, struct slm2_err *err)
{
    int n_doc = n > 0;
    for (int i = 1; doc_start && i < n; i++) n_doc += doc_start[i] != 0;
    if (n > b->max_tok - b->n_tok || n_doc > b->max_seq - b->n_seq)
        return slm2_fail(err, SLM2_ELIMIT, "batch is full: %d tokens in %d sequences and %d in %d more, at most %d in %d", b->n_tok, b->n_seq, n, n_doc, b->max_tok, b->max_seq);
    for (int i = 0, position = 0; i < n; i++, position++) {
        int r = b->n_tok++;
        if (i == 0 || (doc_start && doc_start[i])) {
            b->n_seq++;
            position = 0;
        }
        b->ids[r] = ids[i];
        b->position[r] = position;
        b->target[r] = target ? target[i] : -1;
        b->weight[r] = weight ? weight[i] : 0;
        b->cu_seqlens[b->n_seq] = b->n_tok;
    }
    return SLM2_OK;
}

slm2_status slm2_batch_add(struct slm2_batch *b, const int32_t *ids, const int32_t *target, const float *weight, int n, struct slm2_err *err)
{
    return slm2_batch_add_packed(b, ids, target, weight, NULL, n, err);
}
