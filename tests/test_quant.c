/* test_quant.c - quantised rows against the equations, known blocks, and conversions that lose nothing. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "base/rng.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "quant/convert.h"
#include "slm2_test.h"
#include "tok/chat.h"
#include "tok/tok.h"

static struct slm2_err err;
#define OK(call)                                        \
    do {                                                \
        if ((call) != SLM2_OK) fail_msg("%s", err.msg); \
    } while (0)

static const char *scratch(void)
{
    static char dir[256];
    if (!dir[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(dir, sizeof dir, "%s/slm2_test_quant.XXXXXX", tmp ? tmp : "/tmp");
        assert_non_null(mkdtemp(dir));
    }
    return dir;
}

static const char *in_scratch(const char *name)
{
    static char paths[8][512];
    static int turn;
    char *p = paths[turn++ & 7];
    snprintf(p, sizeof paths[0], "%s/%s", scratch(), name);
    return p;
}

/* ---- rows --------------------------------------------------------------------------------------------------------------------- */
static void test_known_q8_0(void **state)
{
    (void)state;
    float x[32] = {0}, y[32];
    struct slm2_block_q8_0 b;
    for (int i = 0; i < 32; i++) x[i] = (float)(i - 16) * 8; /* -128 .. 120: d = 128/127 */
    slm2_quant_row(SLM2_Q8_0, x, &b, 32);
    assert_int_equal(b.d, slm2_f32_to_f16(128.0f / 127));
    assert_int_equal(b.q[0], -127);
    assert_int_equal(b.q[16], 0);
    assert_int_equal(b.q[17], 8);    /* 7.94 */
    assert_int_equal(b.q[31], 119);  /* 119.06 */
    memset(x, 0, sizeof x);
    x[3] = 127;
    x[4] = 0.5f;
    x[5] = -2.5f; /* d = 1: halves go away from zero */
    slm2_quant_row(SLM2_Q8_0, x, &b, 32);
    assert_int_equal(b.d, 0x3c00);
    assert_int_equal(b.q[3], 127);
    assert_int_equal(b.q[4], 1);
    assert_int_equal(b.q[5], -3);
    slm2_dequant_row(SLM2_Q8_0, &b, y, 32);
    assert_true(y[3] == 127 && y[4] == 1 && y[5] == -3 && y[6] == 0);
    memset(x, 0, sizeof x);
    slm2_quant_row(SLM2_Q8_0, x, &b, 32);
    assert_int_equal(b.d, 0);
    for (int i = 0; i < 32; i++) assert_int_equal(b.q[i], 0);
}

static void test_known_q4_0(void **state)
{
    (void)state;
    float x[32] = {0}, y[32];
    struct slm2_block_q4_0 b;
    x[0] = -8; /* d = 1 */
    x[1] = 7.4f;
    x[2] = 0.49f;
    x[3] = 0.5f; /* 0.5 + 8.5 = 9 */
    x[16] = 3;
    x[31] = -1;
    slm2_quant_row(SLM2_Q4_0, x, &b, 32);
    assert_int_equal(b.d, 0x3c00);
    assert_int_equal(b.q[0], 0x0 | 11 << 4);
    assert_int_equal(b.q[1] & 15, 15);
    assert_int_equal(b.q[2] & 15, 8);
    assert_int_equal(b.q[3] & 15, 9);
    assert_int_equal(b.q[15] >> 4, 7);
    slm2_dequant_row(SLM2_Q4_0, &b, y, 32);
    assert_true(y[0] == -8 && y[1] == 7 && y[16] == 3 && y[31] == -1 && y[20] == 0);
    memset(x, 0, sizeof x);
    x[5] = 16; /* a positive maximum makes d negative: codes are mirrored */
    x[6] = 15.9f;
    x[7] = -16;
    slm2_quant_row(SLM2_Q4_0, x, &b, 32);
    assert_int_equal(b.d, 0xc000);
    assert_int_equal(b.q[5] & 15, 0);
    assert_int_equal(b.q[6] & 15, 0);
    assert_int_equal(b.q[7] & 15, 15); /* 16.5 is held at 15 */
    assert_int_equal(b.q[8] & 15, 8);
    memset(x, 0, sizeof x);
    slm2_quant_row(SLM2_Q4_0, x, &b, 32);
    slm2_dequant_row(SLM2_Q4_0, &b, y, 32);
    for (int i = 0; i < 32; i++) assert_true(y[i] == 0);
}

static void test_known_q4_1(void **state)
{
    (void)state;
    float x[32] = {0}, y[32];
    struct slm2_block_q4_1 b;
    x[0] = -2; /* m = -2, d = (13 + 2) / 15 = 1 */
    x[1] = 13;
    x[2] = 0.49f;
    x[3] = 0.5f; /* 2.5 + 0.5 = 3 */
    x[16] = 5;
    x[31] = -1;
    slm2_quant_row(SLM2_Q4_1, x, &b, 32);
    assert_int_equal(b.d, 0x3c00);
    assert_int_equal(b.m, 0xc000);
    assert_int_equal(b.q[0], 0 | 7 << 4);
    assert_int_equal(b.q[1], 15 | 2 << 4);
    assert_int_equal(b.q[2] & 15, 2);
    assert_int_equal(b.q[3] & 15, 3);
    assert_int_equal(b.q[15], 2 | 1 << 4);
    slm2_dequant_row(SLM2_Q4_1, &b, y, 32);
    assert_true(y[0] == -2 && y[1] == 13 && y[2] == 0 && y[3] == 1 && y[16] == 5 && y[31] == -1);
    for (int i = 0; i < 32; i++) x[i] = 3; /* one value: all of it is the minimum */
    slm2_quant_row(SLM2_Q4_1, x, &b, 32);
    assert_int_equal(b.d, 0);
    slm2_dequant_row(SLM2_Q4_1, &b, y, 32);
    for (int i = 0; i < 32; i++) assert_true(y[i] == 3);
}

/* Both types with 6-bit scales: group 0 has scale 5 and minimum 3, all in the low bits of bytes 0 and 4; group 5 has scale 45 = 2 * 16 + 13 and
 * minimum 22 = 16 + 6: 13 and 6 in byte 9, 2 in the upper bits of byte 1, 1 in those of byte 5.  d = 1/2, dmin = 1/4. */
static const uint8_t known_scales[12] = {[0] = 5, [4] = 3, [9] = 13 | 6 << 4, [1] = 2 << 6, [5] = 1 << 6};

static void test_known_q4_k(void **state)
{
    (void)state;
    struct slm2_block_q4_k b = {.d = 0x3800, .dmin = 0x3400};
    float x[256];
    memcpy(b.scales, known_scales, sizeof b.scales);
    b.q[0] = 9;                 /* element 0; element 32 has the high nibble */
    b.q[31] = 15 << 4;          /* element 63, of group 1, whose scale is 0 */
    b.q[2 * 32 + 7] = 12 << 4;  /* element 7 of group 5 */
    slm2_dequant_row(SLM2_Q4_K, &b, x, 256);
    assert_true(x[0] == 0.5f * 5 * 9 - 0.25f * 3);
    assert_true(x[1] == -0.75f && x[31] == -0.75f);
    assert_true(x[32] == 0 && x[63] == 0);
    assert_true(x[5 * 32 + 7] == 0.5f * 45 * 12 - 0.25f * 22);
    assert_true(x[4 * 32 + 7] == 0 && x[5 * 32 + 8] == -5.5f && x[255] == 0);
}

static void test_known_q5_k(void **state)
{
    (void)state;
    struct slm2_block_q5_k b = {.d = 0x3800, .dmin = 0x3400};
    float x[256];
    memcpy(b.scales, known_scales, sizeof b.scales);
    b.q[0] = 9;
    b.high[0] = 1 << 0; /* element 0 of group 0: 25 */
    b.high[1] = 1 << 0; /* element 1 of group 0: 16 */
    b.q[2 * 32 + 7] = 12 << 4;
    b.high[7] = 1 << 5; /* element 7 of group 5: 28 */
    slm2_dequant_row(SLM2_Q5_K, &b, x, 256);
    assert_true(x[0] == 0.5f * 5 * 25 - 0.25f * 3);
    assert_true(x[1] == 0.5f * 5 * 16 - 0.75f && x[2] == -0.75f);
    assert_true(x[5 * 32 + 7] == 0.5f * 45 * 28 - 5.5f && x[5 * 32 + 6] == -5.5f);
}

static void test_known_q6_k(void **state)
{
    (void)state;
    struct slm2_block_q6_k b = {.d = 0x3800};
    float x[256];
    b.scales[0] = -3;
    b.scales[2] = 1;
    b.scales[14] = 127;
    b.low[0] = 5; /* element 0: 2 * 16 + 5 - 32 = 5 */
    b.high[0] = 2;
    b.low[64 + 32 + 9] = 14 << 4; /* element 128 + 3 * 32 + 9: 16 + 14 - 32 = -2 */
    b.high[32 + 9] = 1 << 6;
    slm2_dequant_row(SLM2_Q6_K, &b, x, 256);
    assert_true(x[0] == 0.5f * -3 * 5);
    assert_true(x[1] == 0.5f * -3 * -32);
    assert_true(x[40] == 0.5f * -32); /* scale 2 = 40 / 16 */
    assert_true(x[64] == 0 && x[128 + 3 * 32 + 8] == 0.5f * 127 * -32);
    assert_true(x[128 + 3 * 32 + 9] == 0.5f * 127 * -2);
}

/* the definitions again, in double and by another way of writing */
static void test_random_rows(void **state)
{
    (void)state;
    enum { N = 32 * 64 };
    static float x[N], y[N];
    static uint8_t out[N * 4];
    static const float scales[] = {1e-30f, 1e-4f, 0.02f, 1, 3000};
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        for (int i = 0; i < N; i++) x[i] = scales[s] * slm2_rng_normal(7, SLM2_RNG_TEST, s, (uint64_t)i);
        for (int t = 0; t < 3; t++) {
            static const enum slm2_dtype made[] = {SLM2_Q8_0, SLM2_Q4_0, SLM2_Q4_1};
            enum slm2_dtype type = made[t];
            slm2_quant_row(type, x, out, N);
            slm2_dequant_row(type, out, y, N);
            for (int b = 0; b < N / 32; b++) {
                double amax = 0, min = HUGE_VAL, max = -HUGE_VAL;
                for (int i = 0; i < 32; i++) {
                    amax = fmax(amax, fabs((double)x[32 * b + i]));
                    min = fmin(min, (double)x[32 * b + i]);
                    max = fmax(max, (double)x[32 * b + i]);
                }
                /* of d up to 127 times, of m */
                double step = t == 0 ? amax / 127 : t == 1 ? amax / 8 : (max - min) / 15, f16_slack = 0x1p-24 * 127 + (amax + (t == 2 ? max - min : 0)) * 0x1p-10;
                for (int i = 0; i < 32; i++) { /* half a step, a whole one where Q4_0 holds at 15, and the rounding of d and m to f16 */
                    double diff = fabs((double)x[32 * b + i] - (double)y[32 * b + i]);
                    if (diff > step * (t == 1 ? 1.0 : 0.5) * 1.001 + f16_slack) fail_msg("type %d scale %g: %g became %g", t, (double)scales[s], (double)x[32 * b + i], (double)y[32 * b + i]);
                }
            }
        }
    }
    for (uint32_t h = 0; h < 65536; h++) { /* every half and bfloat16 survives its own type */
        uint16_t in = (uint16_t)h, back;
        float f;
        for (int t = 0; t < 2; t++) {
            enum slm2_dtype type = t ? SLM2_BF16 : SLM2_F16;
            slm2_dequant_row(type, &in, &f, 1);
            slm2_quant_row(type, &f, &back, 1);
            if (!isnan(f)) assert_int_equal(back, in);
            else assert_true(t ? (back & 0x7fff) > 0x7f80 : (back & 0x7fff) > 0x7c00);
        }
    }
}

static void test_error_statistics(void **state)
{
    (void)state;
    const float a[4] = {1, 2, 3, 4}, b[4] = {1, 2, 3, 2}, c[2] = {INFINITY, 1}, d[2] = {1, NAN};
    struct slm2_quant_error e = {0}, f = {0};
    slm2_quant_error_add(&e, a, b, 4);
    assert_true(fabs(slm2_quant_rmse(&e) - 1) < 1e-12); /* sqrt(4 / 4) */
    assert_true(fabs(slm2_quant_relative(&e) - sqrt(4.0 / 30)) < 1e-12);
    assert_true(fabs(e.max_abs - 2) < 1e-12);
    slm2_quant_error_add(&f, c, d, 2);
    assert_int_equal(f.n_bad, 2);
    slm2_quant_error_merge(&e, &f);
    assert_int_equal(e.n, 6);
    assert_int_equal(e.n_bad, 2);
}

static void test_hostile_numbers(void **state)
{
    (void)state;
    float x[32];
    uint8_t out[34];
    static const float bad[] = {INFINITY, -INFINITY, NAN, 3.4e38f, 1e-45f};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        for (int i = 0; i < 32; i++) x[i] = i % 3 ? bad[k] : (float)i;
        slm2_quant_row(SLM2_Q8_0, x, out, 32); /* any bytes, no fault */
        slm2_quant_row(SLM2_Q4_0, x, out, 32);
        slm2_quant_row(SLM2_Q4_1, x, out, 32);
    }
    struct slm2_block_q4_1 b;
    for (int i = 0; i < 32; i++) x[i] = i == 0 ? NAN : i == 1 ? INFINITY : i == 2 ? -15 : -7; /* what is not finite counts as 0 */
    slm2_quant_row(SLM2_Q4_1, x, &b, 32);
    assert_int_equal(b.d, 0x3c00);
    assert_int_equal(b.q[0], 15 | 8 << 4);
    assert_int_equal(b.q[1] & 15, 15);
    assert_int_equal(b.q[2] & 15, 0);
}

/* ---- conversions ---------------------------------------------------------------------------------------------------------------- */
static void assert_same_tensors(const char *a, const char *b)
{
    struct slm2_tensors x, y;
    OK(slm2_safetensors_open(&x, a, &err));
    OK(slm2_safetensors_open(&y, b, &err));
    assert_int_equal(x.n, y.n);
    for (int i = 0; i < x.n; i++) {
        const struct slm2_tensor *t = &x.v[i], *u = slm2_tensors_find(&y, t->name);
        if (!u) fail_msg("%s: no %s", b, t->name);
        assert_int_equal(t->dtype, u->dtype);
        assert_int_equal(t->n_dim, u->n_dim);
        assert_memory_equal(t->dim, u->dim, sizeof t->dim);
        assert_memory_equal(t->data, u->data, t->bytes);
    }
    slm2_tensors_free(&x);
    slm2_tensors_free(&y);
}

static void read_config(const char *dir, struct slm2_config *c)
{
    char path[512];
    json_t *j;
    memset(c, 0, sizeof *c);
    snprintf(path, sizeof path, "%s/config.json", dir);
    OK(slm2_json_read(&j, path, 1 << 20, &err));
    OK(slm2_config_from_json(c, j, path, &err));
    json_decref(j);
}

static void test_round_trips(void **state)
{
    (void)state;
    static const char *const models[] = {"golden/tiny", "golden/tiny-bf16", "golden/tiny-gqa-qkln", "golden/tiny-sharded"};
    for (int i = 0; i < 4; i++) {
        const char *in = slm2_test_data(models[i]), *gguf = in_scratch("a.gguf"), *gguf2 = in_scratch("b.gguf"), *dir = in_scratch("hf"), *dir2 = in_scratch("hf2");
        struct slm2_config a, b;
        struct slm2_convert_report r = {0};
        OK(slm2_dir_remove(dir, &err));
        OK(slm2_dir_remove(dir2, &err));
        OK(slm2_convert(in, gguf, NULL, &r, &err));
        OK(slm2_convert(gguf, gguf2, NULL, NULL, &err)); /* GGUF to GGUF */
        OK(slm2_convert(gguf2, dir, NULL, NULL, &err));
        struct slm2_convert_opts o = slm2_convert_opts_default();
        o.max_shard_bytes = 200000;
        OK(slm2_convert(dir, dir2, &o, NULL, &err)); /* folder to folder, sharded */
        assert_same_tensors(in, dir);
        assert_same_tensors(in, dir2);
        read_config(in, &a);
        read_config(dir, &b);
        assert_memory_equal(&a, &b, sizeof a);
        for (int k = 0; k < r.n; k++) assert_true(r.v[k].error.sum_sq == 0);
        slm2_convert_report_free(&r);
    }
}

static void test_dtypes(void **state)
{
    (void)state;
    const char *in = slm2_test_data("golden/tiny"), *out = in_scratch("q.gguf");
    static const enum slm2_dtype types[] = {SLM2_F32, SLM2_F16, SLM2_BF16, SLM2_Q8_0, SLM2_Q4_1, SLM2_Q4_0};
    double last = -1;
    static const double worst[] = {0, 3e-4, 3e-3, 9e-3, 0.12, 0.13};
    struct slm2_tensors hf;
    OK(slm2_safetensors_open(&hf, in, &err));
    for (int i = 0; i < 6; i++) {
        struct slm2_convert_opts o = slm2_convert_opts_default();
        struct slm2_convert_report r = {0};
        struct slm2_gguf g;
        o.dtype = types[i];
        OK(slm2_convert(in, out, &o, &r, &err));
        OK(slm2_gguf_open(&g, out, &err));
        assert_int_equal(g.tensors.n, 46);
        assert_int_equal(slm2_tensors_find(&g.tensors, "blk.1.attn_q.weight")->dtype, types[i]);
        assert_int_equal(slm2_tensors_find(&g.tensors, "token_embd.weight")->dtype, types[i]);
        assert_int_equal(slm2_tensors_find(&g.tensors, "blk.1.attn_q.bias")->dtype, SLM2_F32);
        assert_int_equal(slm2_tensors_find(&g.tensors, "blk.1.attn_norm.weight")->dtype, SLM2_F32);
        /* rows of 176 are no whole blocks */
        assert_int_equal(slm2_tensors_find(&g.tensors, "blk.0.ffn_down.weight")->dtype, i < 3 ? types[i] : SLM2_F16);
        const struct slm2_tensor *t = slm2_tensors_find(&g.tensors, "blk.2.ffn_gate.weight"), *u = slm2_tensors_find(&hf, "model.layers.2.mlp.gate_proj.weight");
        static uint8_t want[176 * 64 * 4];
        slm2_quant_row(types[i], u->data, want, 176 * 64);
        assert_memory_equal(t->data, want, t->bytes);
        for (int k = 0; k < r.n; k++) {
            if (strcmp(r.v[k].name, "blk.2.ffn_gate.weight")) continue;
            double rel = slm2_quant_relative(&r.v[k].error);
            assert_true(rel > last || i == 0);
            assert_true(rel <= worst[i]);
            last = rel;
        }
        slm2_gguf_free(&g);
        slm2_convert_report_free(&r);
    }
    slm2_tensors_free(&hf);
    struct slm2_convert_opts o = slm2_convert_opts_default();
    o.dtype = SLM2_Q4_0;
    o.head_dtype = SLM2_Q8_0;
    o.embed_dtype = SLM2_F16;
    struct slm2_gguf g;
    OK(slm2_convert(in, out, &o, NULL, &err));
    OK(slm2_gguf_open(&g, out, &err));
    assert_int_equal(slm2_tensors_find(&g.tensors, "output.weight")->dtype, SLM2_Q8_0);
    assert_int_equal(slm2_tensors_find(&g.tensors, "token_embd.weight")->dtype, SLM2_F16);
    slm2_gguf_free(&g);
    OK(slm2_convert(out, in_scratch("dequantised"), NULL, NULL, &err)); /* quantised to a folder: F16 */
    struct slm2_tensors ts;
    OK(slm2_safetensors_open(&ts, in_scratch("dequantised"), &err));
    assert_int_equal(slm2_tensors_find(&ts, "model.layers.0.self_attn.q_proj.weight")->dtype, SLM2_F16);
    slm2_tensors_free(&ts);
    assert_int_equal(slm2_convert(in, in_scratch("no"), &o, NULL, &err), SLM2_EUSAGE);
    o.dtype = SLM2_Q4_K; /* not yet */
    assert_int_equal(slm2_convert(in, in_scratch("no.gguf"), &o, NULL, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "cannot make Q4_K yet"));
    assert_int_equal(slm2_convert(in, in, NULL, NULL, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_convert(in_scratch("absent"), out, NULL, NULL, &err), SLM2_EIO);
}

/* A GGUF file of a model of hidden size 256 whose matrices have type t, any bytes with small scales; blk.0.ffn_down gets type down. */
static void put_file(const char *path, const char *like, enum slm2_dtype t, enum slm2_dtype down)
{
    struct slm2_gguf g;
    struct slm2_gguf_writer *w;
    void *made[64] = {0};
    struct slm2_tensor out[64];
    uint64_t at = 0;
    OK(slm2_gguf_open(&g, like, &err));
    OK(slm2_gguf_writer_new(&w, &err));
    assert_true(g.tensors.n <= 64);
    for (int i = 0; i < g.n_kv; i++) slm2_gguf_put_kv(w, &g.kv[i]);
    for (int i = 0; i < g.tensors.n; i++) {
        const struct slm2_tensor *src = &g.tensors.v[i];
        enum slm2_dtype to = src->n_dim < 2 ? SLM2_F32 : strcmp(src->name, "blk.0.ffn_down.weight") ? t : down;
        OK(slm2_tensor_init(&out[i], src->name, to, src->n_dim, src->dim, src->data, &err));
        size_t block = slm2_dtype_info[to].block_bytes;
        uint8_t *p = to == SLM2_F32 ? NULL : malloc(out[i].bytes);
        for (size_t k = 0; p && k < out[i].bytes; k++) p[k] = (uint8_t)slm2_rng_below(5, SLM2_RNG_TEST, 1, at++, 256);
        for (size_t k = 0; p && k < out[i].bytes; k += block) {
            const uint16_t d = slm2_f32_to_f16(0x1p-14f), m = slm2_f32_to_f16(0x1p-13f);
            memcpy(p + k + (to == SLM2_Q6_K ? block - 2 : 0), &d, 2);
            if (to != SLM2_Q6_K) memcpy(p + k + 2, &m, 2);
        }
        if (p) out[i].data = made[i] = p;
        slm2_gguf_add_tensor(w, &out[i]);
    }
    OK(slm2_gguf_writer_save(w, path, &err));
    slm2_gguf_writer_free(w);
    slm2_gguf_free(&g);
    for (int i = 0; i < 64; i++) free(made[i]);
}

/* Types that we do not make are loaded, kept by GGUF to GGUF, and become F16 in a folder; two types in one file. */
static void test_k_types(void **state)
{
    (void)state;
    struct slm2_config c = {.vocab_size = 300, .hidden_size = 256, .intermediate_size = 512, .n_layer = 1, .n_head = 4, .n_kv_head = 4, .head_dim = 64, .n_rot = 16, .n_ctx = 64,
                            .norm_eps = 1e-5f, .rope_theta = 10000, .init_std = 0.02f, .bos_id = 1, .eos_id = 1, .torch_dtype = SLM2_CFG_F32};
    static const enum slm2_dtype types[] = {SLM2_Q4_1, SLM2_Q4_K, SLM2_Q5_K, SLM2_Q6_K};
    const char *f32 = in_scratch("k-f32.gguf"), *path = in_scratch("k.gguf"), *copy = in_scratch("k-copy.gguf"), *dir = in_scratch("k-hf");
    static float x[256 * 512];
    OK(slm2_model_init_to_disk(&c, in_scratch("k"), SLM2_F32, 1, &err));
    OK(slm2_convert(in_scratch("k"), f32, NULL, NULL, &err));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct slm2_gguf g, h;
        struct slm2_tensors ts;
        struct slm2_model *m;
        put_file(path, f32, types[i], SLM2_Q6_K);
        OK(slm2_model_open(&m, path, &err));
        slm2_model_free(m);
        OK(slm2_convert(path, copy, NULL, NULL, &err));
        OK(slm2_gguf_open(&g, path, &err));
        OK(slm2_gguf_open(&h, copy, &err));
        OK(slm2_convert(path, dir, NULL, NULL, &err));
        OK(slm2_safetensors_open(&ts, dir, &err));
        static const char *const names[][2] = {{"blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"}, {"blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"}};
        for (int k = 0; k < 2; k++) {
            const struct slm2_tensor *a = slm2_tensors_find(&g.tensors, names[k][0]), *b = slm2_tensors_find(&h.tensors, names[k][0]);
            const struct slm2_tensor *f16 = slm2_tensors_find(&ts, names[k][1]);
            assert_int_equal(a->dtype, k ? types[i] : SLM2_Q6_K);
            assert_int_equal(b->dtype, a->dtype);
            assert_memory_equal(b->data, a->data, a->bytes);
            assert_int_equal(f16->dtype, SLM2_F16);
            slm2_dequant_row(a->dtype, a->data, x, 256 * 512);
            for (size_t e = 0; e < 256 * 512; e++) {
                uint16_t got;
                memcpy(&got, (const uint8_t *)f16->data + 2 * e, 2);
                assert_int_equal(got, slm2_f32_to_f16(x[e]));
            }
        }
        slm2_tensors_free(&ts);
        slm2_gguf_free(&g);
        slm2_gguf_free(&h);
    }
}

/* config.json and tensors that disagree, numbers that are not finite */
static void test_refusals(void **state)
{
    (void)state;
    const char *dir = in_scratch("bad"), *out = in_scratch("bad.gguf");
    char path[512];
    struct slm2_tensors ts;
    json_t *j;
    OK(slm2_convert(slm2_test_data("golden/tiny"), dir, NULL, NULL, &err));
    OK(slm2_safetensors_open(&ts, slm2_test_data("golden/tiny"), &err));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    int at = -1;
    for (int i = 0; i < ts.n; i++) {
        if (!strcmp(ts.v[i].name, "model.layers.1.mlp.up_proj.weight")) at = i;
    }
    assert_true(at >= 0);
    struct slm2_tensor saved = ts.v[at];
    float *w = malloc(saved.bytes);
    assert_non_null(w);
    memcpy(w, saved.data, saved.bytes);
    w[100] = NAN;
    ts.v[at].data = w;
    OK(slm2_safetensors_write(path, ts.v, ts.n, NULL, &err));
    struct slm2_convert_opts o = slm2_convert_opts_default();
    o.dtype = SLM2_Q8_0;
    assert_int_equal(slm2_convert(dir, out, &o, NULL, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "blk.1.ffn_up.weight"));
    assert_false(slm2_path_exists(out));
    OK(slm2_convert(dir, out, NULL, NULL, &err)); /* bytes are copied, whatever they mean */
    w[100] = 1e6f;
    OK(slm2_safetensors_write(path, ts.v, ts.n, NULL, &err));
    o.dtype = SLM2_F16;
    assert_int_equal(slm2_convert(dir, out, &o, NULL, &err), SLM2_EFORMAT); /* too large for F16 */
    ts.v[at] = saved;
    ts.v[at].dim[0] = 64; /* the same bytes in another shape */
    ts.v[at].dim[1] = 176;
    OK(slm2_safetensors_write(path, ts.v, ts.n, NULL, &err));
    assert_int_equal(slm2_convert(dir, out, NULL, NULL, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "[64, 176]"));
    ts.v[at] = ts.v[ts.n - 1];
    OK(slm2_safetensors_write(path, ts.v, ts.n - 1, NULL, &err));
    assert_int_equal(slm2_convert(dir, out, NULL, NULL, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "missing"));
    ts.v[at] = saved;
    OK(slm2_safetensors_write(path, ts.v, ts.n, NULL, &err));
    free(w);
    slm2_tensors_free(&ts);
    snprintf(path, sizeof path, "%s/config.json", dir);
    OK(slm2_json_read(&j, path, 1 << 20, &err));
    json_object_set_new(j, "vocab_size", json_integer(600));
    OK(slm2_json_write(j, path, &err));
    json_decref(j);
    assert_int_equal(slm2_convert(dir, out, NULL, NULL, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "600"));
}

static void assert_same_file(const char *dir_a, const char *dir_b, const char *name)
{
    char a[512], b[512];
    struct slm2_map x, y;
    snprintf(a, sizeof a, "%s/%s", dir_a, name);
    snprintf(b, sizeof b, "%s/%s", dir_b, name);
    OK(slm2_map_open(&x, a, &err));
    OK(slm2_map_open(&y, b, &err));
    if (x.n != y.n || memcmp(x.p, y.p, x.n)) fail_msg("%s and %s differ", a, b);
    slm2_map_close(&x);
    slm2_map_close(&y);
}

/* the true vocabulary goes through GGUF and comes back as the same files */
static void test_vocabulary(void **state)
{
    (void)state;
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "config.json", "generation_config.json", "model.safetensors"};
    const char *dir = in_scratch("vocab"), *gguf = in_scratch("vocab.gguf"), *back = in_scratch("vocab_back"), *bare = in_scratch("bare");
    struct slm2_config c = {.vocab_size = 100352, .hidden_size = 32, .intermediate_size = 64, .n_layer = 1, .n_head = 2, .n_kv_head = 1, .head_dim = 16, .n_rot = 4, .n_ctx = 64,
                            .norm_eps = 1e-5f, .rope_theta = 50000, .init_std = 0.05f, .bos_id = 100257, .eos_id = 100257, .torch_dtype = SLM2_CFG_BF16};
    struct slm2_tok *tok, *again;
    struct slm2_gguf g;
    float theta;
    OK(slm2_model_init_to_disk(&c, bare, SLM2_BF16, 1, &err));
    OK(slm2_convert(bare, dir, NULL, NULL, &err));
    OK(slm2_tok_open(&tok, NULL, &err));
    OK(slm2_tok_write_hf(tok, dir, slm2_chat_jinja(SLM2_CHAT_CHATML), c.n_ctx, &err));
    OK(slm2_convert(dir, gguf, NULL, NULL, &err));
    OK(slm2_convert(gguf, back, NULL, NULL, &err));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) assert_same_file(dir, back, files[i]);
    OK(slm2_gguf_open(&g, gguf, &err));
    OK(slm2_gguf_get_f32(&g, "stablelm.rope.freq_base", &theta, &err));
    assert_true(theta == 50000);
    assert_non_null(slm2_gguf_find(&g, "tokenizer.chat_template"));
    assert_null(slm2_gguf_find(&g, "slm2.synthetic_vocab"));
    slm2_gguf_free(&g);
    /* a folder without tokenizer whose model has rows for Arcade100k gets it */
    struct slm2_convert_report r = {0};
    OK(slm2_convert(bare, gguf, NULL, &r, &err));
    assert_non_null(strstr(r.vocabulary, "Arcade100k"));
    slm2_convert_report_free(&r);
    OK(slm2_tok_open(&again, gguf, &err));
    assert_int_equal(slm2_tok_n_vocab(again), slm2_tok_n_vocab(tok));
    slm2_tok_free(again);
    slm2_tok_free(tok);
    /* a vocabulary too large for the model */
    struct slm2_convert_opts o = slm2_convert_opts_default();
    o.tokenizer = back;
    assert_int_equal(slm2_convert(slm2_test_data("golden/tiny"), gguf, &o, NULL, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "512"));
}

static void test_clean(void **state)
{
    (void)state;
    OK(slm2_dir_remove(scratch(), &err));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_known_q8_0),      cmocka_unit_test(test_known_q4_0), cmocka_unit_test(test_random_rows), cmocka_unit_test(test_error_statistics),
    cmocka_unit_test(test_known_q4_1),      cmocka_unit_test(test_known_q4_k), cmocka_unit_test(test_known_q5_k),  cmocka_unit_test(test_known_q6_k), cmocka_unit_test(test_k_types),
    cmocka_unit_test(test_hostile_numbers), cmocka_unit_test(test_round_trips), cmocka_unit_test(test_dtypes),     cmocka_unit_test(test_refusals),
    cmocka_unit_test(test_vocabulary),      cmocka_unit_test(test_clean),
};
SLM2_TEST_MAIN(tests)
