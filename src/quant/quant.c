/* quant.c - rows to stored types and back, straight from the definitions in quant.h; the judge of faster kernels. */
#include "quant/quant.h"

#include <math.h>

#include "base/num.h"

bool slm2_quant_readable(enum slm2_dtype t) { return slm2_quant_supported(t) || t == SLM2_Q4_K || t == SLM2_Q5_K || t == SLM2_Q6_K; }

bool slm2_quant_supported(enum slm2_dtype t)
{
    return t == SLM2_F32 || t == SLM2_F16 || t == SLM2_BF16 || t == SLM2_Q8_0 || t == SLM2_Q4_0 || t == SLM2_Q4_1;
}

static void quant_q8_0(const float *x, struct slm2_block_q8_0 *b)
{
    float amax = 0;
    for (int i = 0; i < SLM2_QK; i++) {
        if (fabsf(x[i]) > amax) amax = fabsf(x[i]);
    }
    float d = amax / 127, id = d != 0 ? 1 / d : 0;
    b->d = slm2_f32_to_f16(d);
    for (int i = 0; i < SLM2_QK; i++) {
        float q = roundf(x[i] * id);
        b->q[i] = isfinite(q) ? (int8_t)fmaxf(-127, fminf(127, q)) : 0;
    }
}

static uint8_t code_q4_0(float scaled)
{
    if (!isfinite(scaled)) return 8;
    return (uint8_t)fminf(15, fmaxf(0, scaled + 8.5f)); /* truncation is floor: the sum is not negative */
}

static void quant_q4_0(const float *x, struct slm2_block_q4_0 *b)
{
    float amax = 0, max = 0;
    for (int i = 0; i < SLM2_QK; i++) {
        if (fabsf(x[i]) > amax) {
            amax = fabsf(x[i]);
            max = x[i];
        }
    }
    float d = max / -8, id = d != 0 ? 1 / d : 0;
    b->d = slm2_f32_to_f16(d);
    for (int i = 0; i < SLM2_QK / 2; i++) b->q[i] = (uint8_t)(code_q4_0(x[i] * id) | code_q4_0(x[i + SLM2_QK / 2] * id) << 4);
}

static float finite_or_0(float x) { return isfinite(x) ? x : 0; }

static uint8_t code_q4_1(float scaled) { return isfinite(scaled) ? (uint8_t)fminf(15, fmaxf(0, scaled + 0.5f)) : 0; }

static void quant_q4_1(const float *x, struct slm2_block_q4_1 *b)
{
    float min = INFINITY, max = -INFINITY;
    for (int i = 0; i < SLM2_QK; i++) {
        float v = finite_or_0(x[i]);
        if (v < min) min = v;
        if (v > max) max = v;
    }
    float d = (max - min) / 15, id = d != 0 ? 1 / d : 0;
    b->d = slm2_f32_to_f16(d);
    b->m = slm2_f32_to_f16(min);
    for (int i = 0; i < SLM2_QK / 2; i++) {
        float low = finite_or_0(x[i]), high = finite_or_0(x[i + SLM2_QK / 2]);
        b->q[i] = (uint8_t)(code_q4_1((low - min) * id) | code_q4_1((high - min) * id) << 4);
    }
}

void slm2_quant_row(enum slm2_dtype t, const float *x, void *out, size_t n)
{
    uint8_t *o = out;
    if (t == SLM2_F32) {
        memcpy(o, x, 4 * n);
    } else if (t == SLM2_F16 || t == SLM2_BF16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t h = t == SLM2_F16 ? slm2_f32_to_f16(x[i]) : slm2_f32_to_bf16(x[i]);
            memcpy(o + 2 * i, &h, 2);
        }
    } else if (t == SLM2_Q8_0) {
        for (size_t i = 0; i < n / SLM2_QK; i++) {
            struct slm2_block_q8_0 b;
            quant_q8_0(x + SLM2_QK * i, &b);
            memcpy(o + sizeof b * i, &b, sizeof b);
        }
    } else if (t == SLM2_Q4_0) {
        for (size_t i = 0; i < n / SLM2_QK; i++) {
            struct slm2_block_q4_0 b;
            quant_q4_0(x + SLM2_QK * i, &b);
            memcpy(o + sizeof b * i, &b, sizeof b);
        }
    } else if (t == SLM2_Q4_1) {
        for (size_t i = 0; i < n / SLM2_QK; i++) {
            struct slm2_block_q4_1 b;
            quant_q4_1(x + SLM2_QK * i, &b);
            memcpy(o + sizeof b * i, &b, sizeof b);
        }
    }
}

/* ---- blocks of 256: one element at a time, by its place -------------------------------------------------------------------- */
/* 6 bits of scale (which = 0) or minimum (1) of group g in the 12 bytes of Q4_K and Q5_K */
static int six_bits(const uint8_t s[12], int g, int which)
{
    if (g < 4) return s[g + 4 * which] & 63;
    return (which ? s[4 + g] >> 4 : s[4 + g] & 15) + 16 * (s[g - 4 + 4 * which] >> 6);
}

static float element_q4_k(const struct slm2_block_q4_k *b, int i)
{
    int g = i / 32, byte = b->q[32 * (g / 2) + i % 32], q = g % 2 ? byte >> 4 : byte & 15;
    return slm2_f16_to_f32(b->d) * (float)six_bits(b->scales, g, 0) * (float)q - slm2_f16_to_f32(b->dmin) * (float)six_bits(b->scales, g, 1);
}

static float element_q5_k(const struct slm2_block_q5_k *b, int i)
{
    int g = i / 32, byte = b->q[32 * (g / 2) + i % 32], q = (g % 2 ? byte >> 4 : byte & 15) + 16 * (b->high[i % 32] >> g & 1);
    return slm2_f16_to_f32(b->d) * (float)six_bits(b->scales, g, 0) * (float)q - slm2_f16_to_f32(b->dmin) * (float)six_bits(b->scales, g, 1);
}

static float element_q6_k(const struct slm2_block_q6_k *b, int i)
{
    int half = i / 128, j = i % 128 / 32, l = i % 32, byte = b->low[64 * half + 32 * (j % 2) + l];
    int q = (j < 2 ? byte & 15 : byte >> 4) + 16 * (b->high[32 * half + l] >> 2 * j & 3) - 32;
    return slm2_f16_to_f32(b->d) * b->scales[i / 16] * (float)q;
}

void slm2_dequant_row(enum slm2_dtype t, const void *in, float *x, size_t n)
{
    const uint8_t *p = in;
    if (t == SLM2_F32) {
        memcpy(x, p, 4 * n);
    } else if (t == SLM2_F16 || t == SLM2_BF16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, p + 2 * i, 2);
            x[i] = t == SLM2_F16 ? slm2_f16_to_f32(h) : slm2_bf16_to_f32(h);
        }
    } else if (t == SLM2_Q8_0) {
        for (size_t i = 0; i < n / SLM2_QK; i++) {
            struct slm2_block_q8_0 b;
            memcpy(&b, p + sizeof b * i, sizeof b);
            float d = slm2_f16_to_f32(b.d);
            for (int j = 0; j < SLM2_QK; j++) x[SLM2_QK * i + (size_t)j] = d * b.q[j];
        }
    } else if (t == SLM2_Q4_0) {
        for (size_t i = 0; i < n / SLM2_QK; i++) {
            struct slm2_block_q4_0 b;
            memcpy(&b, p + sizeof b * i, sizeof b);
            float d = slm2_f16_to_f32(b.d), *y = x + SLM2_QK * i;
            for (int j = 0; j < SLM2_QK / 2; j++) {
                y[j] = d * (float)((b.q[j] & 15) - 8);
                y[j + SLM2_QK / 2] = d * (float)((b.q[j] >> 4) - 8);
            }
        }
    } else if (t == SLM2_Q4_1) {
        for (size_t i = 0; i < n / SLM2_QK; i++) {
            struct slm2_block_q4_1 b;
            memcpy(&b, p + sizeof b * i, sizeof b);
            float d = slm2_f16_to_f32(b.d), m = slm2_f16_to_f32(b.m), *y = x + SLM2_QK * i;
            for (int j = 0; j < SLM2_QK / 2; j++) {
                y[j] = d * (float)(b.q[j] & 15) + m;
                y[j + SLM2_QK / 2] = d * (float)(b.q[j] >> 4) + m;
            }
        }
    } else if (t == SLM2_Q4_K || t == SLM2_Q5_K || t == SLM2_Q6_K) {
        for (size_t i = 0; i < n / SLM2_QKK; i++) {
            union { struct slm2_block_q4_k q4; struct slm2_block_q5_k q5; struct slm2_block_q6_k q6; } b;
            memcpy(&b, p + slm2_dtype_info[t].block_bytes * i, slm2_dtype_info[t].block_bytes);
            for (int j = 0; j < SLM2_QKK; j++)
                x[SLM2_QKK * i + (size_t)j] = t == SLM2_Q4_K ? element_q4_k(&b.q4, j) : t == SLM2_Q5_K ? element_q5_k(&b.q5, j) : element_q6_k(&b.q6, j);
        }
    }
}

void slm2_quant_error_add(struct slm2_quant_error *e, const float *ref, const float *got, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(ref[i]) || !isfinite(got[i])) {
            e->n_bad++;
            continue;
        }
        double diff = (double)got[i] - (double)ref[i];
        e->sum_sq += diff * diff;
        e->sum_sq_ref += (double)ref[i] * (double)ref[i];
        if (fabs(diff) > e->max_abs) e->max_abs = fabs(diff);
    }
    e->n += n;
}

void slm2_quant_error_merge(struct slm2_quant_error *e, const struct slm2_quant_error *other)
{
    e->sum_sq += other->sum_sq;
    e->sum_sq_ref += other->sum_sq_ref;
    if (other->max_abs > e->max_abs) e->max_abs = other->max_abs;
    e->n += other->n;
    e->n_bad += other->n_bad;
}

double slm2_quant_rmse(const struct slm2_quant_error *e) { return e->n ? sqrt(e->sum_sq / (double)e->n) : 0; }

double slm2_quant_relative(const struct slm2_quant_error *e) { return e->sum_sq_ref > 0 ? sqrt(e->sum_sq / e->sum_sq_ref) : 0; }
