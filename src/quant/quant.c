/* quant.c - rows to stored types and back, straight from the definitions in quant.h; the judge of faster kernels. */
#include "quant/quant.h"

#include <math.h>

#include "base/num.h"

bool slm2_quant_supported(enum slm2_dtype t)
{
    return t == SLM2_F32 || t == SLM2_F16 || t == SLM2_BF16 || t == SLM2_Q8_0 || t == SLM2_Q4_0;
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
    }
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
