/* fuzz_idx.c - the .idx parser: any bytes give sequences inside the tokens, or an error.
 * Input: u32 length of the index, the index, the rest is the .bin. */
#include <stdlib.h>
#include <string.h>

#include "data/shard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slm2_shard s;
    struct slm2_err err;
    if (size < 4) return 0;
    size_t n_idx = data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16 | (size_t)data[3] << 24;
    if (n_idx > size - 4) n_idx = size - 4;
    if (slm2_shard_parse(&s, data + 4, n_idx, data + 4 + n_idx, size - 4 - n_idx, "input", &err) != SLM2_OK) return 0;
    int64_t n_tok = 0;
    for (int64_t d = 0; d < s.n_doc; d++) {
        for (int64_t q = slm2_shard_doc(&s, d); q < slm2_shard_doc(&s, d + 1); q++) {
            int32_t n = slm2_shard_size(&s, q), *ids = malloc((size_t)n * sizeof *ids + 1);
            if (!ids || slm2_shard_start(&s, q) != n_tok) abort();
            slm2_shard_read(&s, slm2_shard_start(&s, q), n, ids);
            n_tok += n;
            free(ids);
        }
    }
    if (n_tok != s.n_tok) abort(); /* documents cover everything once */
    return 0;
}
