/* dtype.h - element types of tensors, their sizes and the names that files give them. */
#ifndef SLM2_BASE_DTYPE_H
#define SLM2_BASE_DTYPE_H
#include <stddef.h>
#include <stdint.h>

enum slm2_dtype { SLM2_F32, SLM2_F16, SLM2_BF16, SLM2_I32, SLM2_I64, SLM2_U8, SLM2_Q8_0, SLM2_Q4_0, SLM2_Q4_1, SLM2_Q4_K, SLM2_Q5_K, SLM2_Q6_K, SLM2_N_DTYPE };

#define SLM2_QK 32    /* elements of a Q8_0, Q4_0 or Q4_1 block */
#define SLM2_QKK 256  /* elements of a Q4_K, Q5_K or Q6_K block */
struct slm2_block_q8_0 { uint16_t d; int8_t q[SLM2_QK]; };      /* x[i] = f16(d) * q[i] */
struct slm2_block_q4_0 { uint16_t d; uint8_t q[SLM2_QK / 2]; }; /* x[i] = f16(d) * ((q[i] & 15) - 8), x[i+16] = f16(d) * ((q[i] >> 4) - 8) */
struct slm2_block_q4_1 { uint16_t d, m; uint8_t q[SLM2_QK / 2]; }; /* x[i] = f16(d) * (q[i] & 15) + f16(m), x[i+16] with q[i] >> 4 */
/* Eight groups of 32 with 6-bit scales sc and minima mn: x = f16(d) * sc[g] * q - f16(dmin) * mn[g].  scales: bytes g and g + 4 hold in their low
 * 6 bits sc[g] and mn[g] for g < 4; byte 8 + g holds the low 4 bits of sc[4 + g] (low nibble) and mn[4 + g] (high nibble), whose upper 2 bits are the
 * upper 2 bits of bytes g and g + 4.  q: groups 2 j and 2 j + 1 are the low and the high nibbles of bytes 32 j .. 32 j + 31. */
struct slm2_block_q4_k { uint16_t d, dmin; uint8_t scales[12], q[SLM2_QKK / 2]; };
/* As Q4_K with a fifth bit: bit g of high[i] belongs to element i of group g. */
struct slm2_block_q5_k { uint16_t d, dmin; uint8_t scales[12], high[SLM2_QKK / 8], q[SLM2_QKK / 2]; };
/* Sixteen groups of 16: x = f16(d) * scales[i / 16] * (q6 - 32).  In half h (128 elements), element 32 j + l, j < 4, l < 32, has its low 4 bits in
 * low[64 h + 32 (j & 1) + l] (low nibble for j < 2, else high) and its upper 2 bits in bits 2 j, 2 j + 1 of high[32 h + l]. */
struct slm2_block_q6_k { uint8_t low[SLM2_QKK / 2], high[SLM2_QKK / 4]; int8_t scales[SLM2_QKK / 16]; uint16_t d; };
_Static_assert(sizeof(struct slm2_block_q4_1) == 20, "Q4_1 is 4 bytes of scale and minimum and 16 of codes");
_Static_assert(sizeof(struct slm2_block_q4_k) == 144, "Q4_K");
_Static_assert(sizeof(struct slm2_block_q5_k) == 176, "Q5_K");
_Static_assert(sizeof(struct slm2_block_q6_k) == 210, "Q6_K");
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
