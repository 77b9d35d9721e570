/* dtype.h - element types of tensors, their sizes and the names that files give them. */
#ifndef SLM2_BASE_DTYPE_H
#define SLM2_BASE_DTYPE_H
#include <stddef.h>
#include <stdint.h>

enum slm2_dtype { SLM2_F32, SLM2_F16, SLM2_BF16, SLM2_I32, SLM2_I64, SLM2_U8, SLM2_Q8_0, SLM2_Q4_0, SLM2_N_DTYPE };

#define SLM2_QK 32 /* elements of a Q8_0 or Q4_0 block */
struct slm2_block_q8_0 { uint16_t d; int8_t q[SLM2_QK]; };      /* x[i] = f16(d) * q[i] */
struct slm2_block_q4_0 { uint16_t d; uint8_t q[SLM2_QK / 2]; }; /* x[i] = f16(d) * ((q[i] & 15) - 8), x[i+16] = f16(d) * ((q[i] >> 4) - 8) */
_Static_assert(sizeof(struct slm2_block_q8_0) == 34, "Q8_0 is 2 bytes of scale and 32 of codes");
_Static_assert(sizeof(struct slm2_block_q4_0) == 18, "Q4_0 is 2 bytes of scale and 16 of codes");

struct slm2_dtype_info {
    const char *name;    /* "F32", as safetensors and GGUF tools print it */
    size_t block_elems;  /* elements of a block, 1 for plain types */
    size_t block_bytes;
    int gguf_type;       /* ggml type number, -1 when GGUF has none */
};
extern const struct slm2_dtype_info slm2_dtype_info[SLM2_N_DTYPE];

/* Bytes of n consecutive elements; n must be a multiple of block_elems. */
static inline size_t slm2_dtype_bytes(enum slm2_dtype t, size_t n)
{
    return n / slm2_dtype_info[t].block_elems * slm2_dtype_info[t].block_bytes;
}
int slm2_dtype_from_name(const char *name); /* enum slm2_dtype, -1 when unknown; case-insensitive */
int slm2_dtype_from_gguf(uint32_t gguf_type);
#endif
