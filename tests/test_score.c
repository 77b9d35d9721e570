/* test_score.c - requests with common beginnings, in batches of any size, give the bits that each gives by itself: fp32, bf16 and Q8_0 weights,
 * on each instruction set, exact or not, for any number of threads. */
#include <math.h>
#include <string.h>

#include "scratch_dir.h"

#include "eval/score.h"
#include "model/model.h"
#include "quant/convert.h"

enum { N = 70, CTX = 200, MAX_LEN = 190, CHAIN = 36 };

struct asked { int32_t context[CTX + 40], continuation[CTX + 40]; float logprobs[CTX + 40]; };
static struct asked asked[N];

static int32_t id(int a, int b) { return (int32_t)((unsigned)(a * 7919 + b * 104729 + (a ^ b) * 31) % 290u); }

/* Two heads of examples in front of five questions with four answers each; of these some begin alike, some are one token, some come twice.
 * Then a chain in which every request leaves the one before it a token later, and what is without context, too long, or all continuation. */
static int make_requests(struct slm2_score *v)
{
    int n = 0;
    for (int q = 0; q < 5; q++) {
        for (int c = 0; c < 4; c++, n++) {
            int head = 120 + q % 2 * 40, own = 3 + q * 6, k = q % 3 == 0 ? 1 : 2 + (q + c) % 9;
            for (int i = 0; i < head + own; i++) asked[n].context[i] = i < head ? id(q % 2, i) : id(100 + q, i);
            for (int i = 0; i < k; i++) asked[n].continuation[i] = i < 2 && q % 3 == 1 ? 7 + i : id(200 + (q == 4 ? c / 2 : c), i);
            v[n].n_context = head + own;
            v[n].n_continuation = k;
        }
    }
    for (int c = 0; c < CHAIN; c++, n++) {
        for (int i = 0; i < 3 + c; i++) asked[n].context[i] = 50 + i;
        asked[n].continuation[0] = 3;
        asked[n].continuation[1] = 5;
        v[n].n_context = 3 + c;
        v[n].n_continuation = 2;
    }
    static const int odd[][2] = {{0, 1}, {0, 5}, {CTX + 20, 4}, {CTX + 20, 9}, {5, CTX + 30}, {1, 1}, {1, 1}};
    for (size_t o = 0; o < sizeof odd / sizeof odd[0]; o++, n++) {
        for (int i = 0; i < odd[o][0]; i++) asked[n].context[i] = id(9, i);
        for (int i = 0; i < odd[o][1]; i++) asked[n].continuation[i] = id(11, i);
        v[n].n_context = odd[o][0];
        v[n].n_continuation = odd[o][1];
    }
    assert_true(n <= N);
    for (int i = 0; i < n; i++) v[i].context = asked[i].context, v[i].continuation = asked[i].continuation, v[i].logprobs = asked[i].logprobs;
    return n;
}

struct answers { double ll[N]; bool greedy[N]; float logprobs[N][CTX + 40]; struct slm2_scorer_work work; };

static void score_all(const struct slm2_model *m, const struct slm2_scorer_opts *o, struct answers *a)
{
    struct slm2_err err;
    struct slm2_scorer *s;
    struct slm2_score v[N] = {0};
    memset(a, 0, sizeof *a);
    memset(asked, 0, sizeof asked);
    int n = make_requests(v);
    check_ok(slm2_scorer_new(&s, m, o, &err), &err);
    check_ok(slm2_score(s, v, n, NULL, &err), &err);
    for (int i = 0; i < n; i++) {
        a->ll[i] = v[i].loglikelihood;
        a->greedy[i] = v[i].is_greedy;
        memcpy(a->logprobs[i], asked[i].logprobs, sizeof a->logprobs[i]);
        assert_true(isfinite(v[i].loglikelihood) && v[i].loglikelihood < 0);
    }
    a->work = slm2_scorer_work(s);
    slm2_scorer_free(s);
}

static void same(const struct answers *a, const struct answers *b, const char *what)
{
    for (int i = 0; i < N; i++) {
        if (memcmp(&a->ll[i], &b->ll[i], sizeof a->ll[i])) fail_msg("%s: request %d: log-likelihood %.17g, by itself %.17g", what, i, b->ll[i], a->ll[i]);
        if (a->greedy[i] != b->greedy[i] || memcmp(a->logprobs[i], b->logprobs[i], sizeof a->logprobs[i])) fail_msg("%s: request %d: tokens differ", what, i);
    }
}

static const struct { const char *name; enum slm2_dtype dtype; } types[] = {{"f32", SLM2_F32}, {"bf16", SLM2_BF16}, {"q8_0.gguf", SLM2_Q8_0}};
static const char *const isas[] = {"scalar", "avx2", "avx512"};

static struct slm2_model *open_model(int type)
{
    struct slm2_config cfg = {.vocab_size = 290, .hidden_size = 64, .intermediate_size = 96, .n_layer = 2, .n_head = 2, .n_kv_head = 2, .head_dim = 32, .n_rot = 8, .n_ctx = CTX, .norm_eps = 1e-5f,
                              .rope_theta = 10000, .init_std = 0.2f, .qkv_bias = true, .bos_id = 0, .eos_id = 0};
    struct slm2_err err;
    struct slm2_model *m;
    if (!slm2_path_exists(in_dir("f32"))) {
        check_ok(slm2_model_init_to_disk(&cfg, in_dir("f32"), SLM2_F32, 3, &err), &err);
        for (int t = 1; t < 3; t++) {
            struct slm2_convert_opts o = slm2_convert_opts_default();
            o.dtype = types[t].dtype;
            check_ok(slm2_convert(in_dir("f32"), in_dir(types[t].name), &o, NULL, &err), &err);
        }
    }
    check_ok(slm2_model_open(&m, in_dir(types[type].name), &err), &err);
    return m;
}

static void batched_is_one_by_one(void **state)
{
    (void)state;
    static const int batches[] = {1, 7, 64, 200, 0};
    static struct answers alone, got;
    for (int type = 0; type < 3; type++) {
        struct slm2_model *m = open_model(type);
        for (int i = 0; i < 6; i++) {
            if (i == 1 && type) continue; /* scalar and exact: once */
            struct slm2_scorer_opts o = slm2_scorer_opts_default();
            struct slm2_ctx c;
            o.isa = isas[i / 2];
            o.exact = i % 2;
            o.max_len = MAX_LEN;
            if (slm2_ctx_init(&c, &(struct slm2_ctx_opts){.isa = o.isa}, NULL) != SLM2_OK) continue;
            slm2_ctx_free(&c);
            o.one_by_one = true, o.n_threads = 1;
            score_all(m, &o, &alone);
            o.one_by_one = false;
            for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
                char what[100];
                if (batches[b] == 1 ? i != 2 : i < 2 && batches[b] != 64) continue; /* slow */
                o.batch_tokens = batches[b];
                o.n_threads = 1 + (int)b % 2;
                snprintf(what, sizeof what, "%s %s%s, batches of %d", types[type].name, o.isa, o.exact ? " exact" : "", batches[b]);
                score_all(m, &o, &got);
                same(&alone, &got, what);
                assert_int_equal(got.work.n_asked, alone.work.n_asked);
                assert_true(got.work.n_tokens < alone.work.n_tokens / 3); /* beginnings are computed once */
                if (batches[b] == 0) assert_true(got.work.n_passes < 5);
            }
        }
        slm2_model_free(m);
    }
}

/* The judge of the others sees the same sequences in pieces. */
static void reference_backend(void **state)
{
    (void)state;
    static struct answers alone, got;
    struct slm2_model *m = open_model(0);
    struct slm2_scorer_opts o = slm2_scorer_opts_default();
    o.backend = "ref";
    o.max_len = 24; /* it is slow */
    o.one_by_one = true;
    score_all(m, &o, &alone);
    o.one_by_one = false;
    o.batch_tokens = 50;
    score_all(m, &o, &got);
    same(&alone, &got, "ref");
    slm2_model_free(m);
}

struct watched { int n[N], passes, stop_after; };

static slm2_status watch(void *user, int i, struct slm2_err *err)
{
    struct watched *w = user;
    if (i >= 0) w->n[i]++;
    else w->passes++;
    return w->stop_after && w->passes >= w->stop_after ? slm2_fail(err, SLM2_ESTOP, "stopped") : SLM2_OK;
}

static void each_answer_is_told_once(void **state)
{
    (void)state;
    struct slm2_model *m = open_model(0);
    struct slm2_scorer_opts o = slm2_scorer_opts_default();
    struct slm2_scorer *s;
    struct slm2_err err;
    struct slm2_score v[N] = {0};
    struct watched w = {.stop_after = 0};
    o.batch_tokens = 64;
    o.max_len = MAX_LEN;
    int n = make_requests(v), told = 0;
    check_ok(slm2_scorer_new(&s, m, &o, &err), &err);
    check_ok(slm2_score(s, v, n, &(struct slm2_score_watch){watch, &w}, &err), &err);
    for (int i = 0; i < n; i++) assert_int_equal(w.n[i], 1);
    assert_int_equal(w.passes, slm2_scorer_work(s).n_passes);
    double ll = v[0].loglikelihood;
    w = (struct watched){.stop_after = 3};
    assert_int_equal(slm2_score(s, v, n, &(struct slm2_score_watch){watch, &w}, &err), SLM2_ESTOP);
    for (int i = 0; i < n; i++) told += w.n[i];
    assert_true(w.passes == 3 && told > 0 && told < n);
    check_ok(slm2_score(s, v, 1, NULL, &err), &err); /* it goes on after a stop */
    assert_true(v[0].loglikelihood == ll);
    check_ok(slm2_score(s, v, 0, NULL, &err), &err);
    slm2_scorer_free(s);
    slm2_model_free(m);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(batched_is_one_by_one), cmocka_unit_test(reference_backend), cmocka_unit_test(each_answer_is_told_once)};
SLM2_TEST_MAIN_WITH(tests, make_dir, remove_dir)
