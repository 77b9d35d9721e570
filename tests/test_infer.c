/* test_infer.c - sampler, engine and generation against the golden vectors; what the engine promises about its sequences. */
#define _GNU_SOURCE /* memmem */
#include "slm2_test.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/rng.h"
#include "infer/engine.h"
#include "infer/generate.h"
#include "io/safetensors.h"

/* ---- a counter of allocations -------------------------------------------------------------------------------------
 * glibc's allocator stays underneath.  A sanitizer brings its own, which must not be replaced: then nothing is counted. */
#if defined(__SANITIZE_ADDRESS__)
#define COUNTS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COUNTS 0
#endif
#endif
#ifndef COUNTS
#define COUNTS 1
#endif
static volatile bool counting; /* volatile: compilers believe that malloc touches no variable */
static volatile int n_alloc;
#if COUNTS
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t m);
extern void *__libc_realloc(void *p, size_t n);
void *malloc(size_t n)
{
    n_alloc += counting;
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t m)
{
    n_alloc += counting;
    return __libc_calloc(n, m);
}
void *realloc(void *p, size_t n)
{
    n_alloc += counting;
    return __libc_realloc(p, n);
}
#endif

static void ok(slm2_status st, const struct slm2_err *err)
{
    if (st != SLM2_OK) fail_msg("%s", err->msg);
}

static json_t *golden_json(const char *name)
{
    struct slm2_err err;
    json_t *j = NULL;
    ok(slm2_json_read(&j, slm2_test_data(name), 1 << 26, &err), &err);
    return j;
}

/* ---- sampler ------------------------------------------------------------------------------------------------------ */
static float case_number(const json_t *c, const char *key, float off)
{
    const json_t *v = json_object_get(c, key);
    return json_is_number(v) ? (float)json_number_value(v) : off;
}

static struct slm2_sampler_opts case_opts(const json_t *c)
{
    return (struct slm2_sampler_opts){.temperature = case_number(c, "temperature", 1.0f), .top_k = (int)case_number(c, "top_k", 0.0f),
                                      .top_p = case_number(c, "top_p", 1.0f), .min_p = case_number(c, "min_p", 0.0f),
                                      .repetition_penalty = case_number(c, "repetition_penalty", 1.0f)};
}

static size_t ids_of(const json_t *list, int32_t *out, size_t cap)
{
    size_t n = json_array_size(list);
    assert_true(n <= cap);
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static void test_sampler_golden(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_tensors ts;
    json_t *j = golden_json("golden/generate/sampling.json");
    ok(slm2_safetensors_open(&ts, slm2_test_data("golden/generate/sampling.safetensors"), &err), &err);
    const struct slm2_tensor *logits = slm2_tensors_find(&ts, "logits");
    assert_non_null(logits);
    int n_row = (int)logits->dim[0], vocab = (int)logits->dim[1];
    float *x = malloc(logits->bytes), *p = malloc((size_t)vocab * sizeof *p), *want = malloc(logits->bytes);
    memcpy(x, logits->data, logits->bytes);
    const char *name;
    json_t *c;
    double worst = 0.0;
    int n_case = 0;
    json_object_foreach(json_object_get(j, "cases"), name, c)
    {
        char key[128];
        snprintf(key, sizeof key, "probs.%s", name);
        const struct slm2_tensor *probs = slm2_tensors_find(&ts, key);
        assert_non_null(probs);
        memcpy(want, probs->data, probs->bytes);
        struct slm2_sampler_opts o = case_opts(c);
        struct slm2_sampler *s;
        ok(slm2_sampler_new(&s, vocab, &o, &err), &err);
        for (int r = 0; r < n_row; r++, n_case++) {
            int32_t prev[256];
            size_t n_prev = ids_of(json_object_get(json_array_get(json_object_get(j, "vectors"), (size_t)r), "previous_ids"), prev, 256);
            slm2_sampler_probs(s, x + (size_t)r * (size_t)vocab, prev, n_prev, p);
            for (int i = 0; i < vocab; i++) {
                float w = want[r * vocab + i];
                if ((p[i] == 0.0f) != (w == 0.0f)) fail_msg("%s row %d id %d: %g, want %g", name, r, i, (double)p[i], (double)w);
                worst = fmax(worst, fabs((double)p[i] - (double)w));
            }
        }
        slm2_sampler_free(s);
    }
    print_message("sampling: %d distributions, largest error %.2g\n", n_case, worst);
    assert_true(n_case > 0);
    assert_true(worst < 2e-6);
    free(x);
    free(p);
    free(want);
    slm2_tensors_free(&ts);
    json_decref(j);
}

enum { BIG = 100352 };

/* The plain way, for comparison: sort everything. */
struct pair { double v; int id; };
static int by_value(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->v != y->v) return x->v < y->v ? -1 : 1;
    return x->id - y->id;
}

static void test_sampler_large_vocabulary(void **state)
{
    (void)state;
    struct slm2_err err;
    float *x = malloc(BIG * sizeof *x), *p = malloc(BIG * sizeof *p);
    struct pair *sorted = malloc(BIG * sizeof *sorted);
    static const struct slm2_sampler_opts settings[] = {
        {.temperature = 0.7f, .top_k = 40, .top_p = 0.95f, .min_p = 0.0f, .repetition_penalty = 1.0f},
        {.temperature = 1.0f, .top_k = 0, .top_p = 0.9f, .min_p = 0.0f, .repetition_penalty = 1.0f},
        {.temperature = 1.3f, .top_k = 5000, .top_p = 1.0f, .min_p = 0.02f, .repetition_penalty = 1.0f},
        {.temperature = 0.8f, .top_k = BIG, .top_p = 0.5f, .min_p = 0.0f, .repetition_penalty = 1.0f},
    };
    for (size_t k = 0; k < sizeof settings / sizeof settings[0]; k++) {
        const struct slm2_sampler_opts *o = &settings[k];
        /* many ties: logits on a coarse grid */
        for (int i = 0; i < BIG; i++) x[i] = roundf(12.0f * slm2_rng_normal(1, SLM2_RNG_TEST, k, (uint64_t)i)) / 4.0f;
        for (int i = 0; i < BIG; i++) sorted[i] = (struct pair){(double)x[i] / (double)o->temperature, i};
        qsort(sorted, BIG, sizeof *sorted, by_value);
        int first = 0;
        if (o->top_k > 0 && o->top_k < BIG) {
            first = BIG - o->top_k;
            while (first > 0 && sorted[first - 1].v == sorted[first].v) first--;
        }
        double sum = 0.0, acc = 0.0, max = sorted[BIG - 1].v;
        for (int i = first; i < BIG; i++) sum += exp(sorted[i].v - max);
        if (o->top_p < 1.0f)
            for (; first < BIG - 1; first++) {
                acc += exp(sorted[first].v - max) / sum;
                if (acc > 1.0 - (double)o->top_p) break;
            }
        while (o->min_p > 0.0f && exp(sorted[first].v - max) < (double)o->min_p) first++;
        struct slm2_sampler *s;
        ok(slm2_sampler_new(&s, BIG, o, &err), &err);
        double t = slm2_now_s();
        slm2_sampler_probs(s, x, NULL, 0, p);
        print_message("setting %zu: %d of %d tokens kept, %.2f ms\n", k, BIG - first, BIG, 1e3 * (slm2_now_s() - t));
        int kept = 0;
        double total = 0.0;
        for (int i = 0; i < BIG; i++) {
            kept += p[i] > 0.0f;
            total += (double)p[i];
        }
        assert_int_equal(kept, BIG - first);
        for (int i = first; i < BIG; i++) assert_true(p[sorted[i].id] > 0.0f);
        assert_true(fabs(total - 1.0) < 1e-5);
        slm2_sampler_free(s);
    }
    free(x);
    free(p);
    free(sorted);
}

/* The draws follow the distribution, and are the same again for the same seed. */
static void test_sampler_draws(void **state)
{
    (void)state;
    struct slm2_err err;
    enum { V = 8, N = 40000 };
    const float x[V] = {0.0f, 1.0f, 2.0f, -1.0f, 0.5f, -3.0f, 1.5f, -INFINITY};
    float p[V];
    int count[V] = {0}, same = 0;
    struct slm2_sampler_opts o = {.temperature = 1.0f, .top_k = 5, .top_p = 1.0f, .min_p = 0.0f, .repetition_penalty = 1.0f, .seed = 7};
    struct slm2_sampler *a, *b, *c;
    ok(slm2_sampler_new(&a, V, &o, &err), &err);
    ok(slm2_sampler_new(&b, V, &o, &err), &err);
    o.seed = 8;
    ok(slm2_sampler_new(&c, V, &o, &err), &err);
    slm2_sampler_probs(a, x, NULL, 0, p); /* looking is not drawing */
    for (int i = 0; i < N; i++) {
        int32_t id = slm2_sampler_next(a, x, NULL, 0);
        assert_int_equal(id, slm2_sampler_next(b, x, NULL, 0));
        same += id == slm2_sampler_next(c, x, NULL, 0);
        count[id]++;
    }
    assert_true(same < N / 2);
    for (int i = 0; i < V; i++) { /* five standard deviations */
        double q = (double)p[i], sd = sqrt(q * (1.0 - q) * N);
        assert_true(fabs((double)count[i] - q * N) <= 5.0 * sd + 1e-9);
    }
    slm2_sampler_free(a);
    slm2_sampler_free(b);
    slm2_sampler_free(c);
}

static void test_sampler_edges(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_sampler_opts o = slm2_sampler_opts_default();
    struct slm2_sampler *s;
    o.temperature = 0.0f;
    ok(slm2_sampler_new(&s, 4, &o, &err), &err);
    assert_int_equal(slm2_sampler_next(s, (const float[]){NAN, 1.0f, 1.0f, 0.0f}, NULL, 0), 1); /* first of equals, never NaN */
    slm2_sampler_free(s);
    o.temperature = 1.0f;
    o.top_p = 0.0f;
    ok(slm2_sampler_new(&s, 4, &o, &err), &err);
    assert_int_equal(slm2_sampler_next(s, (const float[]){0.0f, INFINITY, 1.0f, NAN}, NULL, 0), 1);
    assert_int_equal(slm2_sampler_next(s, (const float[]){-INFINITY, -INFINITY, NAN, NAN}, NULL, 0), 0);
    assert_int_equal(slm2_sampler_next(s, (const float[]){0.0f, 0.1f, 3.0f, 0.2f}, (const int32_t[]){-5, 99}, 2), 2); /* foreign ids are no business of the penalty */
    slm2_sampler_free(s);

    static const struct slm2_sampler_opts wrong[] = {
        {-1.0f, 0, 1.0f, 0.0f, 1.0f, 0}, {NAN, 0, 1.0f, 0.0f, 1.0f, 0},  {1.0f, -1, 1.0f, 0.0f, 1.0f, 0}, {1.0f, 0, 1.5f, 0.0f, 1.0f, 0},
        {1.0f, 0, -0.1f, 0.0f, 1.0f, 0}, {1.0f, 0, 1.0f, 2.0f, 1.0f, 0}, {1.0f, 0, 1.0f, 0.0f, 0.0f, 0},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(slm2_sampler_new(&s, 4, &wrong[i], &err), SLM2_EUSAGE);
        assert_null(s);
    }
}

/* ---- engine ------------------------------------------------------------------------------------------------------- */
static struct slm2_model *open_model(const char *name)
{
    struct slm2_err err;
    struct slm2_model *m = NULL;
    char path[64];
    snprintf(path, sizeof path, "golden/%s", name);
    ok(slm2_model_open(&m, slm2_test_data(path), &err), &err);
    return m;
}

/* SLM2_ISA in the environment of the test chooses the kernels. */
static struct slm2_engine *open_engine_on(const char *backend, const struct slm2_model *m, int n_ctx, int n_seq, int n_batch, int n_threads)
{
    struct slm2_err err;
    struct slm2_engine *e = NULL;
    struct slm2_engine_opts o = {.n_ctx = n_ctx, .n_seq = n_seq, .n_batch = n_batch, .n_threads = n_threads};
    struct slm2_engine_setup setup = {.isa = getenv("SLM2_ISA"), .backend = backend, .kv_dtype = SLM2_F32};
    ok(slm2_engine_new_setup(&e, m, &o, &setup, &err), &err);
    return e;
}

static struct slm2_engine *open_engine(const struct slm2_model *m, int n_ctx, int n_seq, int n_batch, int n_threads)
{
    return open_engine_on("cpu", m, n_ctx, n_seq, n_batch, n_threads);
}

enum { N = 40 };
static void some_ids(const struct slm2_model *m, int32_t *ids, int n, uint64_t turn)
{
    for (int i = 0; i < n; i++) ids[i] = (int32_t)slm2_rng_below(3, SLM2_RNG_TEST, turn, (uint64_t)i, (uint64_t)slm2_model_vocab_size(m));
}

/* One piece = any pieces = token by token, for 1, 2 and 3 threads, bit for bit. */
static void test_engine_chunks(void **state)
{
    (void)state;
    static const char *const names[] = {"tiny", "tiny-gqa-qkln", "tiny-bf16"};
    struct slm2_err err;
    for (int k = 0; k < 3; k++) {
        struct slm2_model *m = open_model(names[k]);
        size_t vocab = (size_t)slm2_model_vocab_size(m), bytes = N * vocab * sizeof(float);
        int32_t ids[N];
        some_ids(m, ids, N, 0);
        float *want = malloc(bytes), *got = malloc(bytes);
        struct slm2_engine *e = open_engine(m, 0, 1, 128, 1);
        ok(slm2_engine_feed_all(e, 0, ids, N, want, &err), &err);
        slm2_engine_free(e);
        for (int threads = 1; threads <= 3; threads++)
            for (int n_batch = 1; n_batch <= 64; n_batch = n_batch * 3 + 1) {
                memset(got, 0, bytes);
                e = open_engine(m, 0, 1, n_batch, threads);
                ok(slm2_engine_feed_all(e, 0, ids, 7, got, &err), &err);
                ok(slm2_engine_feed_all(e, 0, ids + 7, N - 8, got + 7 * vocab, &err), &err);
                ok(slm2_engine_feed(e, 0, ids + N - 1, 1, got + (N - 1) * vocab, &err), &err);
                if (memcmp(want, got, bytes) != 0) fail_msg("%s: other bits with chunks of %d and %d threads", names[k], n_batch, threads);
                slm2_engine_free(e);
            }
        free(want);
        free(got);
        slm2_model_free(m);
    }
}

static double furthest(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

/* A mapped bf16 model: exact is as near to the judge as fp32 must be; fast is not, where it rounds activations, but as near as bf16 must be. */
static void test_engine_exact(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_model *m = open_model("tiny-bf16");
    size_t n = N * (size_t)slm2_model_vocab_size(m);
    float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    int32_t ids[N];
    some_ids(m, ids, N, 0);
    struct slm2_engine *e = open_engine_on("ref", m, 0, 1, 128, 1);
    ok(slm2_engine_feed_all(e, 0, ids, N, want, &err), &err);
    slm2_engine_free(e);
    for (int exact = 0; exact < 2; exact++) {
        struct slm2_engine_opts o = {.n_seq = 1, .n_batch = 128, .n_threads = 2};
        struct slm2_engine_setup setup = {.isa = getenv("SLM2_ISA"), .exact = exact, .kv_dtype = slm2_engine_kv_auto(m, exact)};
        assert_int_equal(setup.kv_dtype, exact ? SLM2_F32 : SLM2_BF16);
        ok(slm2_engine_new_setup(&e, m, &o, &setup, &err), &err);
        ok(slm2_engine_feed_all(e, 0, ids, N, got, &err), &err);
        slm2_engine_free(e);
        double off = furthest(want, got, n);
        if (exact ? off > 5e-5 : off > 0.3 || off < 1e-4) fail_msg("%s: %.2g from the judge", exact ? "exact" : "fast", off);
    }
    free(want);
    free(got);
    slm2_model_free(m);
}

/* Several sequences at once, in any company, give the bits of one alone; so does a sequence that was rewound. */
static void test_engine_sequences(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_model *m = open_model("tiny");
    size_t vocab = (size_t)slm2_model_vocab_size(m);
    enum { S = 3 };
    int32_t ids[S][N];
    float *want = malloc(S * vocab * sizeof *want), *got = malloc(S * vocab * sizeof *got);
    for (int s = 0; s < S; s++) {
        some_ids(m, ids[s], N, (uint64_t)s);
        struct slm2_engine *one = open_engine(m, 0, 1, 64, 1);
        ok(slm2_engine_feed(one, 0, ids[s], 10 + s + 5, want + (size_t)s * vocab, &err), &err);
        slm2_engine_free(one);
    }
    struct slm2_engine *e = open_engine(m, 64, S, 16, 2);
    for (int s = 0; s < S; s++) ok(slm2_engine_feed(e, s, ids[s], 10 + s, NULL, &err), &err);
    ok(slm2_engine_feed(e, 1, ids[2], 20, got, &err), &err); /* a detour */
    slm2_engine_rewind(e, 1, 11);
    slm2_engine_rewind(e, 2, 50); /* not backwards: nothing */
    assert_int_equal(slm2_engine_n_past(e, 1), 11);
    assert_int_equal(slm2_engine_n_past(e, 2), 12);
    for (int step = 0; step < 5; step++) {
        int seq[S];
        int32_t tok[S];
        for (int i = 0; i < S; i++) {
            seq[i] = (i + step) % S;
            tok[i] = ids[seq[i]][10 + seq[i] + step];
        }
        ok(slm2_engine_step(e, S, seq, tok, got, &err), &err);
        for (int i = 0; step == 4 && i < S; i++)
            assert_memory_equal(got + (size_t)i * vocab, want + (size_t)seq[i] * vocab, vocab * sizeof *got);
    }
    assert_int_equal(slm2_engine_step(e, 2, (const int[]){1, 1}, (const int32_t[]){1, 2}, got, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_engine_step(e, 2, (const int[]){0, 3}, (const int32_t[]){1, 2}, got, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_engine_step(e, 2, (const int[]){0, 1}, (const int32_t[]){1, (int32_t)vocab}, got, &err), SLM2_EUSAGE);
    for (int s = 0; s < S; s++) assert_int_equal(slm2_engine_n_past(e, s), 15 + s);
    slm2_engine_free(e);
    free(want);
    free(got);
    slm2_model_free(m);
}

static void test_engine_full(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_model *m = open_model("tiny");
    size_t vocab = (size_t)slm2_model_vocab_size(m);
    float *want = malloc(vocab * sizeof *want), *got = malloc(vocab * sizeof *got);
    int32_t ids[N];
    some_ids(m, ids, N, 0);
    struct slm2_engine *e = open_engine(m, 16, 1, 8, 1);
    ok(slm2_engine_feed(e, 0, ids, 16, want, &err), &err);
    slm2_engine_rewind(e, 0, 15);
    assert_int_equal(slm2_engine_feed(e, 0, ids, 2, got, &err), SLM2_ELIMIT);
    assert_int_equal(slm2_engine_n_past(e, 0), 15);
    assert_int_equal(slm2_engine_feed(e, 0, (const int32_t[]){-1}, 1, got, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_engine_feed(e, 1, ids, 1, got, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_engine_n_past(e, 0), 15);
    ok(slm2_engine_feed(e, 0, ids + 15, 1, got, &err), &err); /* as if nothing had been tried */
    assert_memory_equal(want, got, vocab * sizeof *got);
    assert_int_equal(slm2_engine_feed(e, 0, ids, 1, got, &err), SLM2_ELIMIT);
    slm2_engine_rewind(e, 0, 0);
    ok(slm2_engine_feed(e, 0, ids, 16, got, &err), &err);
    assert_memory_equal(want, got, vocab * sizeof *got);
    slm2_engine_free(e);
    struct slm2_engine_opts o = slm2_engine_opts_default();
    o.n_ctx = slm2_model_n_ctx(m) + 1;
    assert_int_equal(slm2_engine_new(&e, m, &o, &err), SLM2_EUSAGE);
    assert_null(e);
    free(want);
    free(got);
    slm2_model_free(m);
}

/* A BF16 cache costs accuracy, not much. */
static void test_engine_bf16_cache(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_model *m = open_model("tiny");
    int vocab = slm2_model_vocab_size(m);
    float *want = malloc((size_t)vocab * sizeof *want), *got = malloc((size_t)vocab * sizeof *got);
    int32_t ids[N];
    some_ids(m, ids, N, 0);
    struct slm2_engine *e = open_engine(m, 0, 1, 16, 1), *h = NULL;
    struct slm2_engine_opts o = slm2_engine_opts_default();
    ok(slm2_engine_new_setup(&h, m, &o, &(struct slm2_engine_setup){.kv_dtype = SLM2_BF16}, &err), &err);
    ok(slm2_engine_feed(e, 0, ids, N, want, &err), &err);
    ok(slm2_engine_feed(h, 0, ids, N, got, &err), &err);
    double worst = 0.0;
    for (int i = 0; i < vocab; i++) worst = fmax(worst, fabs((double)want[i] - (double)got[i]));
    assert_true(worst > 0.0 && worst < 0.1);
    assert_int_equal(slm2_engine_kv_bytes(e, 3), 2 * slm2_engine_kv_bytes(h, 3));
    slm2_engine_free(e);
    slm2_engine_free(h);
    free(want);
    free(got);
    slm2_model_free(m);
}

static void test_decode_allocates_nothing(void **state)
{
    (void)state;
    if (!COUNTS) {
        print_message("skipped: the sanitizer owns the allocator\n");
        skip();
    }
    struct slm2_err err;
    struct slm2_model *m = open_model("tiny");
    float *logits = malloc((size_t)slm2_model_vocab_size(m) * sizeof *logits);
    struct slm2_engine *e = open_engine(m, 0, 2, 16, 2);
    struct slm2_sampler *s;
    struct slm2_sampler_opts o = {.temperature = 0.8f, .top_k = 40, .top_p = 0.9f, .min_p = 0.01f, .repetition_penalty = 1.1f};
    ok(slm2_sampler_new(&s, slm2_model_vocab_size(m), &o, &err), &err);
    int32_t ids[64];
    some_ids(m, ids, 20, 0);
    ok(slm2_engine_feed(e, 0, ids, 20, logits, &err), &err);
    counting = true;
    for (int i = 20; i < 64; i++) {
        ids[i] = slm2_sampler_next(s, logits, ids, (size_t)i);
        if (slm2_engine_feed(e, 0, ids + i, 1, logits, &err) != SLM2_OK) break;
    }
    slm2_engine_feed(e, 1, ids, 64, logits, &err);
    counting = false;
    assert_int_equal(slm2_engine_n_past(e, 0), 64);
    assert_int_equal(slm2_engine_n_past(e, 1), 64);
    assert_int_equal(n_alloc, 0);
    counting = true; /* the counter counts */
    void *volatile p = malloc(1); /* volatile: or the compiler drops it */
    free(p);
    counting = false;
    assert_int_equal(n_alloc, 1);
    slm2_sampler_free(s);
    slm2_engine_free(e);
    free(logits);
    slm2_model_free(m);
}

/* ---- generation --------------------------------------------------------------------------------------------------- */
static void run_greedy(const char *backend, const json_t *run, int n_max, double *worst)
{
    struct slm2_err err;
    struct slm2_model *m = open_model(json_string_value(json_object_get(run, "model")));
    struct slm2_engine *e = open_engine_on(backend, m, 0, 1, 4, 2);
    int32_t want[256], eos = m->cfg.eos_id, first[256];
    float logprobs[256];
    const json_t *lp = json_object_get(run, "logprobs");
    size_t n_want = ids_of(json_object_get(run, "continuation"), want, 256);
    struct slm2_ids ids = {0};
    size_t n_prompt = ids_of(json_object_get(run, "prompt"), first, 256);
    for (size_t i = 0; i < n_prompt; i++) ok(slm2_ids_push(&ids, first[i], &err), &err);
    struct slm2_sampler_opts so = {.temperature = 0.0f, .top_p = 1.0f, .repetition_penalty = (float)json_number_value(json_object_get(run, "repetition_penalty"))};
    struct slm2_sampler *s;
    ok(slm2_sampler_new(&s, slm2_model_vocab_size(m), &so, &err), &err);
    struct slm2_gen_opts o = {.n_max = n_max, .stop_ids = &eos, .n_stop_ids = 1, .logprobs = logprobs};
    struct slm2_gen_result r;
    ok(slm2_generate(e, 0, s, NULL, &o, &ids, &r, &err), &err);
    assert_int_equal(r.n_prompt, n_prompt);
    assert_int_equal(r.n_new, n_want);
    assert_int_equal(ids.n, n_prompt + n_want);
    assert_memory_equal(ids.v + n_prompt, want, n_want * sizeof *want);
    assert_int_equal(r.end, want[n_want - 1] == eos ? SLM2_GEN_STOP_ID : SLM2_GEN_LENGTH);
    for (size_t i = 0; i < json_array_size(lp); i++) *worst = fmax(*worst, fabs((double)logprobs[i] - json_number_value(json_array_get(lp, i))));
    slm2_buf_free(&r.text);
    slm2_ids_free(&ids);
    slm2_sampler_free(s);
    slm2_engine_free(e);
    slm2_model_free(m);
}

static void test_greedy_golden(void **state)
{
    (void)state;
    json_t *j = golden_json("golden/generate/greedy.json"), *run;
    int n_new = (int)json_integer_value(json_object_get(j, "n_new"));
    size_t i;
    assert_true(json_array_size(json_object_get(j, "runs")) > 0);
    static const char *const backends[] = {"cpu", "ref"};
    for (int k = 0; k < 2; k++) {
        double worst = 0.0;
        json_array_foreach(json_object_get(j, "runs"), i, run) run_greedy(backends[k], run, n_new, &worst);
        json_array_foreach(json_object_get(j, "eos_stop"), i, run) run_greedy(backends[k], run, 100, &worst);
        print_message("greedy on %s: %zu runs, largest error of a log-probability %.2g\n", backends[k], json_array_size(json_object_get(j, "runs")), worst);
        assert_true(worst < 3e-5);
    }
    json_decref(j);
}

/* All that comes out of the filter when text comes in by pieces of n bytes. */
static bool filter(const char *text, size_t piece, const char *const *stop, int n_stop, struct slm2_buf *out)
{
    struct slm2_stop_filter f = {.stop = stop, .n_stop = n_stop};
    size_t len = strlen(text), ready = 0;
    bool stopped = false;
    slm2_buf_clear(out);
    for (size_t at = 0; at < len && !stopped; at += piece) {
        size_t n = piece < len - at ? piece : len - at;
        stopped = slm2_stop_filter_put(&f, text + at, n, &ready);
        slm2_buf_put(out, f.held.v, ready);
        slm2_stop_filter_take(&f, ready);
        slm2_buf_putc(out, '\0');
        out->n--;
    }
    if (!stopped) slm2_buf_put(out, f.held.v, f.held.n);
    slm2_buf_putc(out, '\0');
    slm2_buf_free(&f.held);
    return stopped;
}

static void test_stop_strings(void **state)
{
    (void)state;
    static const char *const stop[] = {"", "<|end|>", "aab", "User:"};
    static const struct { const char *in, *out; bool stopped; } cases[] = {
        {"plain text", "plain text", false}, {"abc<|end|>tail", "abc", true},   {"abc<|en", "abc<|en", false}, {"aaaab", "aa", true},
        {"aaaa", "aaaa", false},             {"<|end<|end|>", "<|end", true},   {"User: aab", "", true},       {"<|enaab|>", "<|en", true},
        {"", "", false},                     {"Use r: <|end|", "Use r: <|end|", false},
    };
    struct slm2_buf out = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t piece = 1; piece < 16; piece++) {
            assert_int_equal(filter(cases[i].in, piece, stop, 4, &out), cases[i].stopped);
            assert_string_equal(out.v, cases[i].out);
        }
    /* nothing that may belong to a stop string leaves early */
    struct slm2_stop_filter f = {.stop = stop, .n_stop = 4};
    size_t ready;
    assert_false(slm2_stop_filter_put(&f, "x<|e", 4, &ready));
    assert_int_equal(ready, 1);
    slm2_buf_free(&f.held);
    slm2_buf_free(&out);
}

struct heard { struct slm2_buf text; int n_call, max_call; };
static bool hear(void *user, const char *text, size_t n)
{
    struct heard *h = user;
    assert_true(n > 0);
    slm2_buf_put(&h->text, text, n);
    return ++h->n_call < h->max_call;
}

/* A stop string over the border of two tokens, the end by the listener, the end of the context: with text of the bundled vocabulary,
 * whose first 512 ids serve as the tiny model's. */
static void test_generate_ends(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_model *m = open_model("tiny");
    struct slm2_tok *tok;
    ok(slm2_tok_open(&tok, NULL, &err), &err);
    struct slm2_sampler_opts so = {.temperature = 0.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};
    struct slm2_sampler *s;
    ok(slm2_sampler_new(&s, slm2_model_vocab_size(m), &so, &err), &err);
    const int32_t prompt[] = {381}; /* the first greedy run: 32 tokens without an end */
    struct slm2_ids ids = {0};
    struct slm2_gen_result r;
    struct slm2_gen_opts o = {.n_max = 32};
    struct slm2_engine *e = open_engine(m, 40, 1, 16, 1);

    ok(slm2_ids_push(&ids, prompt[0], &err), &err);
    struct heard h = {.max_call = 1000};
    o.on_text = hear;
    o.user = &h;
    ok(slm2_generate(e, 0, s, tok, &o, &ids, &r, &err), &err);
    assert_int_equal(r.end, SLM2_GEN_LENGTH);
    assert_int_equal(r.n_new, 32);
    assert_int_equal(h.text.n, r.text.n); /* the stream is the text */
    assert_memory_equal(h.text.v, r.text.v, r.text.n);
    struct slm2_buf whole = {0}, two = {0};
    ok(slm2_tok_decode(tok, ids.v + 1, 32, &whole, &err), &err);
    assert_int_equal(whole.n, r.text.n);
    assert_memory_equal(whole.v, r.text.v, r.text.n);
    slm2_buf_free(&r.text);

    /* the stop string: last byte of token 5 and first of token 6; the answer is what stands before its first appearance */
    size_t n5, n6;
    const uint8_t *t5 = slm2_tok_bytes(tok, ids.v[1 + 5], &n5), *t6 = slm2_tok_bytes(tok, ids.v[1 + 6], &n6);
    slm2_buf_putc(&two, (char)t5[n5 - 1]);
    slm2_buf_putc(&two, (char)t6[0]);
    slm2_buf_putc(&two, '\0');
    assert_int_equal(strlen(two.v), 2);
    const char *at = memmem(whole.v, whole.n, two.v, 2), *stop[] = {two.v};
    assert_non_null(at);
    ids.n = 1;
    slm2_engine_rewind(e, 0, 0);
    o.stop = stop;
    o.n_stop = 1;
    ok(slm2_generate(e, 0, s, tok, &o, &ids, &r, &err), &err);
    assert_int_equal(r.end, SLM2_GEN_STOP_STRING);
    assert_int_equal(r.text.n, at - whole.v);
    assert_memory_equal(r.text.v, whole.v, r.text.n);
    assert_true(r.n_new <= 7);
    slm2_buf_free(&r.text);
    o.n_stop = 0;

    ids.n = 1; /* the listener has had enough */
    slm2_engine_rewind(e, 0, 0);
    h.n_call = 0;
    h.max_call = 3;
    ok(slm2_generate(e, 0, s, tok, &o, &ids, &r, &err), &err);
    assert_int_equal(r.end, SLM2_GEN_INTERRUPT);
    assert_true(r.n_new < 10);
    slm2_buf_free(&r.text);
    o.on_text = NULL;

    o.n_max = 1000; /* goes on where it stopped, to the end of the context */
    ok(slm2_generate(e, 0, s, tok, &o, &ids, &r, &err), &err);
    assert_int_equal(r.end, SLM2_GEN_CONTEXT);
    assert_int_equal(ids.n, 41);
    slm2_buf_free(&r.text);
    assert_int_equal(slm2_generate(e, 0, s, tok, &o, &ids, &r, &err), SLM2_ELIMIT);
    slm2_engine_rewind(e, 0, 0);
    ids.n = 0;
    assert_int_equal(slm2_generate(e, 0, s, tok, &o, &ids, &r, &err), SLM2_EUSAGE);

    slm2_buf_free(&h.text);
    slm2_buf_free(&whole);
    slm2_buf_free(&two);
    slm2_ids_free(&ids);
    slm2_sampler_free(s);
    slm2_engine_free(e);
    slm2_tok_free(tok);
    slm2_model_free(m);
}

/* Many answers at once are those that slm2_generate gives one by one, however many sequences there are: prompts that begin alike (what a sequence
 * holds is used again), one of the context's whole length, ends by a stop id, a stop string and both limits. */
static void test_generate_many(void **state)
{
    (void)state;
    enum { N_JOB = 9, CTX = 24 };
    struct slm2_err err;
    struct slm2_model *m = open_model("tiny");
    struct slm2_tok *tok;
    int32_t prompt[N_JOB][CTX];
    int len[N_JOB] = {5, 1, 8, 8, 3, CTX, 16, 8, 2};
    struct slm2_gen_result alone[N_JOB];
    const char *stop[] = {"e", "in"};
    struct slm2_gen_opts o = {.n_max = 14, .stop = stop, .n_stop = 2};
    struct slm2_sampler_opts so[N_JOB];
    bool seen_end[5] = {false};
    ok(slm2_tok_open(&tok, NULL, &err), &err);
    for (int i = 0; i < N_JOB; i++) {
        some_ids(m, prompt[i], CTX, (uint64_t)i);
        if (i > 1) memcpy(prompt[i], prompt[0], 5 * sizeof prompt[0][0]); /* the same earlier turns */
        so[i] = (struct slm2_sampler_opts){.temperature = i % 3 ? 1.0f : 0.0f, .top_p = 0.95f, .repetition_penalty = 1.0f, .seed = 100 + (uint64_t)i};
    }
    int32_t stop_id = 0;
    for (int pass = 0; pass < 2; pass++) /* the first finds an id that ends an answer of the second */
        for (int i = 0; i < N_JOB; i++) {
            struct slm2_engine *e = open_engine(m, CTX, 1, 16, 1);
            struct slm2_sampler *s;
            struct slm2_ids ids = {0};
            ok(slm2_sampler_new(&s, slm2_model_vocab_size(m), &so[i], &err), &err);
            for (int k = 0; k < len[i]; k++) ok(slm2_ids_push(&ids, prompt[i][k], &err), &err);
            ok(slm2_generate(e, 0, s, tok, &o, &ids, &alone[i], &err), &err);
            if (pass == 0 && i == 4) stop_id = ids.v[len[i] + alone[i].n_new / 2];
            if (pass == 0) slm2_buf_free(&alone[i].text);
            else seen_end[alone[i].end] = true;
            slm2_ids_free(&ids);
            slm2_sampler_free(s);
            slm2_engine_free(e);
            if (i == N_JOB - 1) o.stop_ids = &stop_id, o.n_stop_ids = 1;
        }
    assert_true(seen_end[SLM2_GEN_LENGTH] && seen_end[SLM2_GEN_CONTEXT] && seen_end[SLM2_GEN_STOP_ID]);
    for (int n_seq = 1; n_seq <= 12; n_seq += n_seq < 4 ? 1 : 8) {
        struct slm2_engine *e = open_engine(m, CTX, n_seq, 16, 2);
        struct slm2_gen_job job[N_JOB] = {{0}};
        for (int i = 0; i < N_JOB; i++) job[i] = (struct slm2_gen_job){.ids = prompt[i], .n_ids = len[i], .sampler = so[i]};
        ok(slm2_generate_many(e, tok, &o, job, N_JOB, &err), &err);
        for (int i = 0; i < N_JOB; i++) {
            assert_int_equal(job[i].end, alone[i].end);
            assert_int_equal(job[i].n_new, alone[i].n_new);
            assert_int_equal(job[i].text.n, alone[i].text.n);
            if (alone[i].text.n) assert_memory_equal(job[i].text.v, alone[i].text.v, alone[i].text.n);
            slm2_buf_free(&job[i].text);
        }
        volatile sig_atomic_t now = 1;
        o.interrupt = &now;
        ok(slm2_generate_many(e, tok, &o, job, 2, &err), &err);
        assert_true(job[0].end == SLM2_GEN_INTERRUPT && job[1].end == SLM2_GEN_INTERRUPT);
        o.interrupt = NULL;
        job[0].n_ids = 0;
        assert_int_equal(slm2_generate_many(e, tok, &o, job, 1, &err), SLM2_ELIMIT);
        slm2_engine_free(e);
    }
    for (int i = 0; i < N_JOB; i++) slm2_buf_free(&alone[i].text);
    slm2_tok_free(tok);
    slm2_model_free(m);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_sampler_golden),    cmocka_unit_test(test_sampler_large_vocabulary), cmocka_unit_test(test_sampler_draws),
    cmocka_unit_test(test_sampler_edges),     cmocka_unit_test(test_stop_strings),             cmocka_unit_test(test_engine_chunks), cmocka_unit_test(test_engine_exact),
    cmocka_unit_test(test_engine_sequences),  cmocka_unit_test(test_engine_full),              cmocka_unit_test(test_engine_bf16_cache),
    cmocka_unit_test(test_decode_allocates_nothing), cmocka_unit_test(test_greedy_golden),     cmocka_unit_test(test_generate_ends),
    cmocka_unit_test(test_generate_many),
};
SLM2_TEST_MAIN(tests)
