/* fuzz_langid.c - files of a language model: refused, or good for judging a text. */
#include <stdlib.h>

#include "data/langid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slm2_langid *l;
    if (slm2_langid_parse(&l, data, size, "fuzz", NULL) != SLM2_OK) return 0;
    struct slm2_langid_guess g = slm2_langid_of(l, (const char *)data, size);
    if (g.lang < -1 || g.lang >= SLM2_LANGID_N || !(g.score >= 0 && g.score <= 1)) abort();
    slm2_langid_free(l);
    return 0;
}
