/* kernels_scalar.c - every kernel in plain C: complete, portable, and what the others are checked against.
 *
 * Sums run in 4 lanes, element i in lane i mod 4, added as (0 + 2) + (1 + 3); products are rounded before they are added. */
#include "base/num.h"
#include "kernels/kernels.h"

#include <math.h>

enum { LANES = 4 };

static float fold(const float s[LANES]) { return (s[0] + s[2]) + (s[1] + s[3]); }

static float dot(const float *x, const float *y, size_t n)
{
    float s[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) s[j] += x[i + j] * y[i + j];
    for (size_t j = 0; i + j < n; j++) s[j] += x[i + j] * y[i + j];
    return fold(s);
}

/* ---- element types ------------------------------------------------------------------------------------------------ */

static void f32_to_f32(float *y, const void *x, size_t n)
{
    if (n) memmove(y, x, n * sizeof *y);
}

static void f16_to_f32(float *y, const void *x, size_t n)
{
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i++) y[i] = slm2_f16_to_f32(h[i]);
}

static void bf16_to_f32(float *y, const void *x, size_t n)
{
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i++) y[i] = slm2_bf16_to_f32(h[i]);
}

static void q8_0_to_f32(float *y, const void *x, size_t n)
{
    const struct slm2_block_q8_0 *b = x;
    for (size_t i = 0; i < n; i += SLM2_QK, b++) {
        float d = slm2_f16_to_f32(b->d);
        for (size_t j = 0; j < SLM2_QK; j++) y[i + j] = d * (float)b->q[j];
    }
}

static void q4_0_to_f32(float *y, const void *x, size_t n)
{
    const struct slm2_block_q4_0 *b = x;
    for (size_t i = 0; i < n; i += SLM2_QK, b++) {
        float d = slm2_f16_to_f32(b->d);
        for (size_t j = 0; j < SLM2_QK / 2; j++) {
            y[i + j] = d * (float)((b->q[j] & 15) - 8);
            y[i + j + SLM2_QK / 2] = d * (float)((b->q[j] >> 4) - 8);
        }
    }
}

static void f32_from_f32(void *y, const float *x, size_t n)
{
    if (n) memmove(y, x, n * sizeof *x);
}

static void f16_from_f32(void *y, const float *x, size_t n)
{
    uint16_t *h = y;
    for (size_t i = 0; i < n; i++) h[i] = slm2_f32_to_f16(x[i]);
}

static void bf16_from_f32(void *y, const float *x, size_t n)
{
    uint16_t *h = y;
    for (size_t i = 0; i < n; i++) h[i] = slm2_f32_to_bf16(x[i]);
}

/* ---- products with packed rows ------------------------------------------------------------------------------------ */

/* Unpacks PIECE elements at a time; lanes go on from piece to piece because PIECE is a multiple of LANES and of a block. */
enum { PIECE = 256 };

static float dot_packed(const float *x, const void *w, size_t n, enum slm2_dtype t, void (*unpack)(float *, const void *, size_t))
{
    float s[LANES] = {0}, u[PIECE];
    const uint8_t *p = w;
    for (size_t i = 0; i < n; i += PIECE) {
        size_t m = slm2_min_size(PIECE, n - i), j = 0;
        unpack(u, p + slm2_dtype_bytes(t, i), m);
        for (; j + LANES <= m; j += LANES)
            for (size_t l = 0; l < LANES; l++) s[l] += x[i + j + l] * u[j + l];
        for (size_t l = 0; j + l < m; l++) s[l] += x[i + j + l] * u[j + l];
    }
    return fold(s);
}

#define DOT_W(name, type)                                                                                                   \
    static float dot_##name(const float *x, const void *w, size_t n) { return dot_packed(x, w, n, type, name##_to_f32); }   \
    static void gemv_##name(float *y, const float *x, const void *w, size_t row_bytes, size_t n_out, size_t n)              \
    {                                                                                                                       \
        for (size_t o = 0; o < n_out; o++) y[o] = dot_##name(x, (const uint8_t *)w + o * row_bytes, n);                     \
    }
DOT_W(f32, SLM2_F32)
DOT_W(f16, SLM2_F16)
DOT_W(bf16, SLM2_BF16)
DOT_W(q8_0, SLM2_Q8_0)
DOT_W(q4_0, SLM2_Q4_0)

/* ---- matrices ----------------------------------------------------------------------------------------------------- */

static void gemm_nt(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t k,
                    bool accumulate)
{
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < m; i++) {
            float s = dot(a + i * lda, b + j * ldb, k);
            c[i * ldc + j] = accumulate ? c[i * ldc + j] + s : s;
        }
    }
}

static void gemm_nn(float *c, size_t ldc, const float *a, size_t a_m, size_t a_k, const float *b, size_t ldb, size_t m, size_t n,
                    size_t k, bool accumulate)
{
    for (size_t i = 0; i < m; i++) {
        float *row = c + i * ldc;
        if (!accumulate)
            for (size_t j = 0; j < n; j++) row[j] = 0.0f;
        for (size_t l = 0; l < k; l++) {
            float s = a[i * a_m + l * a_k];
            for (size_t j = 0; j < n; j++) row[j] += s * b[l * ldb + j];
        }
    }
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

static void scale(float *y, float a, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] *= a;
}

static void add(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static float max(const float *x, size_t n)
{
    float m = -INFINITY;
    for (size_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static float exp_sum(float *y, const float *x, float m, size_t n)
{
    float s[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - m);
        s[i % LANES] += y[i];
    }
    return fold(s);
}

static double sum_sq(const float *x, size_t n)
{
    double s[LANES] = {0};
    for (size_t i = 0; i < n; i++) s[i % LANES] += (double)x[i] * (double)x[i];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

static void moments(const float *x, size_t n, float *mean, float *var)
{
    double s[LANES] = {0}, q[LANES] = {0}, mu;
    for (size_t i = 0; i < n; i++) s[i % LANES] += (double)x[i];
    mu = n ? ((s[0] + s[2]) + (s[1] + s[3])) / (double)n : 0.0;
    for (size_t i = 0; i < n; i++) q[i % LANES] += ((double)x[i] - mu) * ((double)x[i] - mu);
    *mean = (float)mu;
    *var = n ? (float)(((q[0] + q[2]) + (q[1] + q[3])) / (double)n) : 0.0f;
}

/* sigmoid(g) and 1 - sigmoid(g), both without cancellation: exp only of what is not positive */
static void sigmoid(float g, float *s, float *not_s)
{
    float e = expf(-fabsf(g)), near = 1.0f / (1.0f + e), far = e / (1.0f + e);
    *s = g >= 0.0f ? near : far;
    *not_s = g >= 0.0f ? far : near;
}

static void swiglu(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s, not_s;
        sigmoid(gate[i], &s, &not_s);
        y[i] = gate[i] * s * up[i];
    }
}

/* silu(g) = g s;  silu'(g) = s + g s (1 - s) */
static void swiglu_bwd(float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dy[i], s, not_s;
        sigmoid(g, &s, &not_s);
        dgate[i] = d * u * (s + g * s * not_s);
        dup[i] = d * (g * s);
    }
}

static void adamw(float *p, float *m, float *v, const float *g, size_t n, float clip, float lr, float b1, float b2, float eps,
                  float wd, float bc1, float bc2)
{
    float keep = 1.0f - lr * wd, a1 = 1.0f - b1, a2 = 1.0f - b2;
    for (size_t i = 0; i < n; i++) {
        float gc = g[i] * clip;
        m[i] = b1 * m[i] + a1 * gc;
        v[i] = b2 * v[i] + a2 * (gc * gc);
        p[i] = p[i] * keep - lr * ((m[i] / bc1) / (sqrtf(v[i] / bc2) + eps));
    }
}

static void rmsprop(float *p, float *v, const float *g, size_t n, float clip, float lr, float alpha, float eps)
{
    float a = 1.0f - alpha;
    for (size_t i = 0; i < n; i++) {
        float gc = g[i] * clip;
        v[i] = alpha * v[i] + a * (gc * gc);
        p[i] = p[i] - lr * (gc / (sqrtf(v[i]) + eps));
    }
}

void slm2_kernels_fill_scalar(struct slm2_kernels *k)
{
    *k = (struct slm2_kernels){
        .name = "scalar",
        .dot = dot,
        .dot_w = {[SLM2_F32] = dot_f32, [SLM2_F16] = dot_f16, [SLM2_BF16] = dot_bf16, [SLM2_Q8_0] = dot_q8_0, [SLM2_Q4_0] = dot_q4_0},
        .gemv_w = {[SLM2_F32] = gemv_f32, [SLM2_F16] = gemv_f16, [SLM2_BF16] = gemv_bf16, [SLM2_Q8_0] = gemv_q8_0,
                   [SLM2_Q4_0] = gemv_q4_0},
        .gemm_nt = gemm_nt,
        .gemm_nn = gemm_nn,
        .to_f32 = {[SLM2_F32] = f32_to_f32, [SLM2_F16] = f16_to_f32, [SLM2_BF16] = bf16_to_f32, [SLM2_Q8_0] = q8_0_to_f32,
                   [SLM2_Q4_0] = q4_0_to_f32},
        .from_f32 = {[SLM2_F32] = f32_from_f32, [SLM2_F16] = f16_from_f32, [SLM2_BF16] = bf16_from_f32},
        .axpy = axpy,
        .scale = scale,
        .add = add,
        .max = max,
        .exp_sum = exp_sum,
        .sum_sq = sum_sq,
        .moments = moments,
        .swiglu = swiglu,
        .swiglu_bwd = swiglu_bwd,
        .adamw = adamw,
        .rmsprop = rmsprop,
    };
}
