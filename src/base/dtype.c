/* dtype.c - the table of element types; block sizes come from the structs, so that none is typed twice. */
#include "base/dtype.h"

#include <strings.h>

const struct slm2_dtype_info slm2_dtype_info[SLM2_N_DTYPE] = {
    [SLM2_F32] = {"F32", 1, 4, 0},
    [SLM2_F16] = {"F16", 1, 2, 1},
    [SLM2_BF16] = {"BF16", 1, 2, 30},
    [SLM2_I32] = {"I32", 1, 4, 26},
    [SLM2_I64] = {"I64", 1, 8, 27},
    [SLM2_U8] = {"U8", 1, 1, -1},
    [SLM2_Q8_0] = {"Q8_0", SLM2_QK, sizeof(struct slm2_block_q8_0), 8},
    [SLM2_Q4_0] = {"Q4_0", SLM2_QK, sizeof(struct slm2_block_q4_0), 2},
    [SLM2_Q4_1] = {"Q4_1", SLM2_QK, sizeof(struct slm2_block_q4_1), 3},
    [SLM2_Q4_K] = {"Q4_K", SLM2_QKK, sizeof(struct slm2_block_q4_k), 12},
    [SLM2_Q5_K] = {"Q5_K", SLM2_QKK, sizeof(struct slm2_block_q5_k), 13},
    [SLM2_Q6_K] = {"Q6_K", SLM2_QKK, sizeof(struct slm2_block_q6_k), 14},
};

int slm2_dtype_from_name(const char *name)
{
    for (int t = 0; t < SLM2_N_DTYPE; t++) {
        if (!strcasecmp(name, slm2_dtype_info[t].name)) return t;
    }
    return -1;
}

int slm2_dtype_from_gguf(uint32_t gguf_type)
{
    for (int t = 0; t < SLM2_N_DTYPE; t++) {
        if (slm2_dtype_info[t].gguf_type >= 0 && (uint32_t)slm2_dtype_info[t].gguf_type == gguf_type) return t;
    }
    return -1;
}
