/* pack.c - rows of tokens into batches, cut into documents behind each EOS. */
#include "data/pack.h"

#include <stdlib.h>

slm2_status slm2_pack_row(struct slm2_batch *b, const int32_t *ids, int n_ctx, int32_t eos, enum slm2_pack_loss loss, float weight, struct slm2_err *err)
{
    size_t n = n_ctx > 0 ? (size_t)n_ctx : 0;
    if (n == 0) return slm2_fail(err, SLM2_EUSAGE, "a row of %d tokens, want at least 1", n_ctx);
    int32_t *target = malloc(n * (sizeof *target + sizeof(float) + 1));
    if (!target) return slm2_fail(err, SLM2_ENOMEM, "out of memory for a row of %zu tokens", n);
    float *w = (float *)(target + n);
    uint8_t *doc_start = (uint8_t *)(w + n);
    for (size_t i = 0; i < n; i++) {
        bool learnt = loss == SLM2_PACK_ALL || ids[i] != eos;
        target[i] = learnt ? ids[i + 1] : -1;
        w[i] = learnt ? weight : 0.0f;
        doc_start[i] = i == 0 || ids[i - 1] == eos;
    }
    slm2_status st = slm2_batch_add_packed(b, ids, target, w, doc_start, n_ctx, err);
    free(target);
    return st;
}

int slm2_pack_count(const int32_t *ids, int n_ctx, int32_t eos, enum slm2_pack_loss loss)
{
    int n = 0;
    for (int i = 0; i < n_ctx; i++) n += loss == SLM2_PACK_ALL || ids[i] != eos;
    return n;
}
