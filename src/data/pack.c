/* pack.c - rows of tokens into batches, cut into documents behind each EOS. */
#include "data/pack.h"

/* Targets and weights are made where the batch keeps them: a training step allocates nothing. */
slm2_status slm2_pack_row(struct slm2_batch *b, const int32_t *ids, int n_ctx, int32_t eos, enum slm2_pack_loss loss, float weight, struct slm2_err *err)
{
    int n_doc = 1;
    if (n_ctx < 1) return slm2_fail(err, SLM2_EUSAGE, "a row of %d tokens, want at least 1", n_ctx);
    for (int i = 1; i < n_ctx; i++) n_doc += ids[i - 1] == eos;
    if (n_ctx > b->max_tok - b->n_tok || n_doc > b->max_seq - b->n_seq)
        return slm2_fail(err, SLM2_ELIMIT, "batch is full: %d tokens in %d sequences and %d in %d more, at most %d in %d", b->n_tok, b->n_seq, n_ctx, n_doc, b->max_tok, b->max_seq);
    int32_t *target = b->target + b->n_tok;
    float *w = b->weight + b->n_tok;
    for (int i = 0; i < n_ctx; i++) {
        bool learnt = loss == SLM2_PACK_ALL || ids[i] != eos;
        target[i] = learnt ? ids[i + 1] : -1;
        w[i] = learnt ? weight : 0.0f;
    }
    for (int from = 0, to; from < n_ctx; from = to) {
        for (to = from + 1; to < n_ctx && ids[to - 1] != eos;) to++;
        SLM2_TRY(slm2_batch_add(b, ids + from, target + from, w + from, to - from, err));
    }
    return SLM2_OK;
}

int slm2_pack_count(const int32_t *ids, int n_ctx, int32_t eos, enum slm2_pack_loss loss)
{
    int n = 0;
    for (int i = 0; i < n_ctx; i++) n += loss == SLM2_PACK_ALL || ids[i] != eos;
    return n;
}
