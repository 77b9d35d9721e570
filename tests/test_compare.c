/* test_compare.c - comparing next-token distributions: numbers worked out by hand, a model against itself, two models against a peer that
 * goes the long way (an engine, token by token, sums written as in the definition), logits from a file. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "eval/compare.h"
#include "scratch_dir.h"

enum { N_CTX = 24 };
static const char text[] = "One model says what the other does not say, and how far they are from one another is counted here.";
static struct slm2_tok *tok;
static struct slm2_model *one, *two, *wider;

static const char *put_file(const char *name, const void *bytes, size_t n)
{
    struct slm2_err err;
    const char *p = in_dir(name);
    check_ok(slm2_file_write(p, bytes, n, &err), &err);
    return p;
}

static struct slm2_model *random_model(int n_vocab, uint64_t seed)
{
    struct slm2_config cfg = {.vocab_size = n_vocab, .hidden_size = 32, .intermediate_size = 64, .n_layer = 2, .n_head = 2, .n_kv_head = 2, .head_dim = 16, .n_rot = 4, .n_ctx = 96,
                              .norm_eps = 1e-5f, .rope_theta = 10000, .init_std = 0.2f, .qkv_bias = true};
    struct slm2_model *m;
    struct slm2_err err;
    check_ok(slm2_model_trainable(&m, NULL, &cfg, seed, SLM2_FP32, &err), &err);
    return m;
}

/* a vocabulary of the bytes and three models to it, one with more ids */
static int setup(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct slm2_buf vocab = {0};
    struct slm2_err err;
    if (make_dir(state)) return 1;
    for (int b = 0; b < 256; b++) slm2_buf_printf(&vocab, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    check_ok(slm2_tok_open_memory(&tok, vocab.v, vocab.n, "test", &err), &err);
    slm2_buf_free(&vocab);
    int n = slm2_tok_n_vocab(tok);
    one = random_model(n, 1);
    two = random_model(n, 2);
    wider = random_model(n + 8, 1);
    return 0;
}

static int teardown(void **state)
{
    slm2_model_free(one);
    slm2_model_free(two);
    slm2_model_free(wider);
    slm2_tok_free(tok);
    return remove_dir(state);
}

static struct slm2_compare compare(const struct slm2_model *ref, const struct slm2_model *m, const char *logits, int stride, int threads)
{
    struct slm2_compare c;
    struct slm2_err err;
    const char *path = put_file("text.txt", text, sizeof text - 1);
    check_ok(slm2_compare_files(&(struct slm2_compare_side){.m = ref}, &(struct slm2_compare_side){.m = m, .logits = logits}, 1, tok, &path, 1,
                            &(struct slm2_ppl_opts){.n_ctx = N_CTX, .stride = stride, .n_threads = threads}, &c, &err), &err);
    return c;
}

static void test_by_hand(void **state)
{
    const float even[] = {3, 3}, uneven[] = {0, 1.0986122886681098f}, far[] = {-2e4f, 1e4f}, back[] = {1e4f, -2e4f}; /* ln 3 */
    double work[4];
    (void)state;
    struct slm2_compare_row r = slm2_compare_logits(even, uneven, 2, 0, work); /* 1/2 1/2 and 1/4 3/4 */
    assert_true(fabs(r.kl - (0.5 * log(2) + 0.5 * log(2.0 / 3))) < 1e-7);
    assert_true(fabs(r.difference - 0.25) < 1e-7 && !r.same_top);
    assert_true(fabs(r.ref_logprob - log(0.5)) < 1e-12 && fabs(r.logprob - log(0.25)) < 1e-7);
    r = slm2_compare_logits(uneven, even, 2, 1, work); /* not symmetric */
    assert_true(fabs(r.kl - (0.25 * log(0.5) + 0.75 * log(1.5))) < 1e-7 && fabs(r.ref_logprob - log(0.75)) < 1e-7);
    r = slm2_compare_logits(far, back, 2, 0, work); /* a probability that is 0 */
    assert_true(fabs(r.kl - 3e4) < 1e-6 && r.difference == 1 && r.ref_logprob == -3e4 && r.logprob == 0);
    r = slm2_compare_logits(far, far, 2, 0, work);
    assert_true(r.kl == 0 && r.difference == 0 && r.same_top);
    struct slm2_compare c = {0};
    for (int i = 1; i <= 3; i++) slm2_compare_add(&c, &(struct slm2_compare_row){.kl = i, .difference = 0.1 * i, .ref_logprob = -1, .logprob = -i, .same_top = i < 3});
    assert_true(c.n_tokens == 3 && c.n_same_top == 2 && slm2_compare_kl(&c) == 2 && c.max_kl == 3 && c.ref_sum_logprob == -3 && c.sum_logprob == -6);
    assert_true(fabs(slm2_compare_kl_stderr(&c) - 1 / sqrt(3)) < 1e-12); /* sample deviation 1 over sqrt(n) */
    assert_true(fabs(slm2_compare_rms(&c) - sqrt(0.14 / 3)) < 1e-12 && fabs(c.max_difference - 0.3) < 1e-12);
}

static void test_itself(void **state)
{
    (void)state;
    for (int stride = 0; stride < 17; stride += 8) {
        struct slm2_compare c = compare(one, one, NULL, stride, 2);
        assert_int_equal(c.n_tokens, sizeof text - 1);
        assert_int_equal(c.n_same_top, c.n_tokens);
        assert_true(c.sum_kl == 0 && c.max_kl == 0 && c.max_difference == 0 && c.sum_logprob == c.ref_sum_logprob);
        struct slm2_ppl_result r; /* its perplexity by the other road */
        struct slm2_err err;
        const char *path = put_file("text.txt", text, sizeof text - 1);
        check_ok(slm2_perplexity_files(one, tok, &path, 1, &(struct slm2_ppl_opts){.n_ctx = N_CTX, .stride = stride, .n_threads = 1}, &r, &err), &err);
        assert_true(fabs(r.all.sum_logprob - c.sum_logprob) < 1e-5 * fabs(c.sum_logprob));
    }
}

/* Logits of every position of the text into logits[n, vocab], windows of N_CTX that predict N_CTX tokens each, by an engine. */
static void engine_logits(const struct slm2_model *m, float *logits)
{
    struct slm2_engine *e;
    struct slm2_err err;
    struct slm2_engine_opts o = slm2_engine_opts_default();
    int32_t ids[sizeof text];
    ids[0] = slm2_tok_eos(tok);
    for (size_t i = 0; i + 1 < sizeof text; i++) ids[i + 1] = (uint8_t)text[i];
    o.n_threads = 1;
    check_ok(slm2_engine_new(&e, m, &o, &err), &err);
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        if (i % N_CTX == 0) slm2_engine_rewind(e, 0, 0);
        check_ok(slm2_engine_feed(e, 0, &ids[i], 1, logits + i * (size_t)m->cfg.vocab_size, &err), &err);
    }
    slm2_engine_free(e);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_peer(void **state)
{
    size_t n = sizeof text - 1, vocab = (size_t)one->cfg.vocab_size;
    float *a = malloc(n * vocab * sizeof *a), *b = malloc((n + 1) * vocab * sizeof *b);
    double kl = 0, largest = 0, worst = 0, squares = 0, each[sizeof text];
    struct slm2_err err;
    (void)state;
    assert_true(a && b);
    engine_logits(one, a);
    engine_logits(two, b);
    for (size_t i = 0; i < n; i++) { /* as the definition has it */
        double sum_a = 0, sum_b = 0, here = 0, difference = 0;
        for (size_t k = 0; k < vocab; k++) sum_a += exp((double)a[i * vocab + k]), sum_b += exp((double)b[i * vocab + k]);
        for (size_t k = 0; k < vocab; k++) {
            double p = exp((double)a[i * vocab + k]) / sum_a, q = exp((double)b[i * vocab + k]) / sum_b;
            here += p * log(p / q);
            difference = fmax(difference, fabs(p - q));
        }
        kl += here / (double)n;
        each[i] = here;
        worst = fmax(worst, here);
        largest = fmax(largest, difference);
        squares += difference * difference / (double)n;
    }
    struct slm2_compare c = compare(one, two, NULL, 0, 1), c3 = compare(one, two, NULL, 0, 3);
    assert_true(kl > 0.01 && fabs(slm2_compare_kl(&c) - kl) < 1e-5 * kl && fabs(c.max_kl - worst) < 1e-5 * worst);
    assert_true(fabs(c.max_difference - largest) < 1e-5 * largest && fabs(slm2_compare_rms(&c) - sqrt(squares)) < 1e-5 * sqrt(squares));
    assert_true(c.n_same_top < c.n_tokens && c.sum_logprob != c.ref_sum_logprob);
    qsort(each, n, sizeof *each, by_size); /* as the definition has it */
    assert_true(fabs(c.median_kl - (n % 2 ? each[n / 2] : (each[n / 2 - 1] + each[n / 2]) / 2)) < 1e-5 * kl);
    double p99 = 0.99 * (double)(n - 1);
    assert_true(c.p99_kl > c.median_kl && c.p99_kl < c.max_kl && fabs(c.p99_kl - (each[(size_t)p99] + (p99 - floor(p99)) * (each[(size_t)p99 + 1] - each[(size_t)p99]))) < 1e-5 * worst);
    c.seconds = c3.seconds = 0;
    assert_memory_equal(&c, &c3, sizeof c); /* the same bits on three threads */

    struct slm2_compare from_file = compare(one, NULL, put_file("logits", b, n * vocab * sizeof *b), 0, 1);
    assert_true(fabs(slm2_compare_kl(&from_file) - kl) < 1e-5 * kl && from_file.n_same_top == c.n_same_top);
    memset(b + n * vocab, 0, sizeof *b * vocab);
    const char *path = put_file("text.txt", text, sizeof text - 1), *bad[] = {put_file("short", b, (n * vocab - 1) * sizeof *b), put_file("long", b, (n * vocab + 1) * sizeof *b)};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(slm2_compare_files(&(struct slm2_compare_side){.m = one}, &(struct slm2_compare_side){.logits = bad[i]}, 1, tok, &path, 1, &(struct slm2_ppl_opts){.n_ctx = N_CTX}, &c, &err), SLM2_EFORMAT);
        assert_non_null(strstr(err.msg, i ? "long" : "short"));
    }
    assert_int_equal(slm2_compare_files(&(struct slm2_compare_side){.m = one}, &(struct slm2_compare_side){.m = wider}, 1, tok, &path, 1, &(struct slm2_ppl_opts){0}, &c, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_compare_files(&(struct slm2_compare_side){.m = one}, &(struct slm2_compare_side){.m = two}, 1, tok, &path, 1, &(struct slm2_ppl_opts){.n_ctx = 97}, &c, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_compare_files(&(struct slm2_compare_side){.m = one}, &(struct slm2_compare_side){.m = two}, 1, tok, &path, 1, &(struct slm2_ppl_opts){.n_ctx = 8, .stride = 8}, &c, &err), SLM2_EUSAGE);
    free(a);
    free(b);
}

/* Two at once are what each is alone. */
static void test_several(void **state)
{
    struct slm2_compare c[3], alone = compare(one, two, NULL, 8, 1), same = compare(one, one, NULL, 8, 1);
    struct slm2_err err;
    (void)state;
    const char *path = put_file("text.txt", text, sizeof text - 1);
    const struct slm2_compare_side side[] = {{.m = two}, {.m = one}, {.m = wider}};
    volatile sig_atomic_t stop = 1;
    assert_int_equal(slm2_compare_files(&(struct slm2_compare_side){.m = one}, side, 2, tok, &path, 1, &(struct slm2_ppl_opts){.n_ctx = N_CTX, .interrupt = &stop}, c, &err), SLM2_ESTOP);
    check_ok(slm2_compare_files(&(struct slm2_compare_side){.m = one}, side, 2, tok, &path, 1, &(struct slm2_ppl_opts){.n_ctx = N_CTX, .stride = 8, .n_threads = 2}, c, &err), &err);
    c[0].seconds = c[1].seconds = alone.seconds = same.seconds = 0;
    assert_memory_equal(&c[0], &alone, sizeof alone);
    assert_memory_equal(&c[1], &same, sizeof same);
    assert_int_equal(slm2_compare_files(&(struct slm2_compare_side){.m = one}, side, 3, tok, &path, 1, &(struct slm2_ppl_opts){.n_ctx = N_CTX}, c, &err), SLM2_EUSAGE);
    const double v[] = {1, 2, 4};
    assert_true(slm2_quantile(v, 3, 0) == 1 && slm2_quantile(v, 3, 0.5) == 2 && slm2_quantile(v, 3, 0.75) == 3 && slm2_quantile(v, 3, 1) == 4 && slm2_quantile(v, 1, 0.99) == 1);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_hand), cmocka_unit_test(test_itself), cmocka_unit_test(test_peer), cmocka_unit_test(test_several)};
SLM2_TEST_MAIN_WITH(tests, setup, teardown)
