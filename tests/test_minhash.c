/* test_minhash.c - near-duplicates: the estimate of similarity, the probability of becoming candidates, builds with planted copies. */
#include "scratch_dir.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "data/build.h"
#include "data/verify.h"
#include "data/minhash.h"

/* Words first .. first + n - 1 of a language of our own. */
static void put_words(struct slm2_buf *b, int64_t first, int n)
{
    for (int i = 0; i < n; i++) slm2_buf_printf(b, "w%" PRId64 " ", first + i);
}

/* Pairs of texts with n_shared words in both and n_own in each: similarity n_shared / (n_shared + 2 n_own) with shingles of one word.  How
 * many become candidates is binomial with the probability of the S-curve; how many of the hashes agree, with the similarity. */
static void check_pairs(int n_shared, int n_own)
{
    enum { PAIRS = 1500, HASHES = 32 };
    const struct slm2_near_opts o = {.threshold = 1e-9, .n_hash = HASHES, .n_band = 8, .shingle = 1, .seed = n_shared}; /* any candidate is a match */
    struct slm2_err err = {0};
    struct slm2_near *near;
    struct slm2_buf text = {0}, words = {0};
    uint16_t sig[2][HASHES];
    int n_found = 0, n_equal = 0;
    double s = (double)n_shared / (n_shared + 2 * n_own), p = slm2_near_probability(&o, s);
    check_ok(slm2_near_open(&near, &o, dir, &err), &err);
    for (int64_t i = 0; i < PAIRS; i++) {
        for (int k = 0; k < 2; k++) {
            slm2_buf_clear(&text);
            put_words(&text, 1000 * i, n_shared);
            put_words(&text, 1000 * i + 400 + 300 * k, n_own);
            check_ok(slm2_near_sign(near, text.v, text.n, &words, sig[k], &err), &err);
        }
        for (int k = 0; k < HASHES; k++) n_equal += sig[0][k] == sig[1][k];
        assert_int_equal(slm2_near_find(near, sig[1]).text, -1); /* no other pair has anything in common */
        check_ok(slm2_near_add(near, sig[0], &err), &err);
        struct slm2_near_match m = slm2_near_find(near, sig[1]);
        assert_true(m.text == -1 || m.text == i);
        n_found += m.text == i;
    }
    double found = (double)n_found / PAIRS, equal = (double)n_equal / (PAIRS * HASHES);
    printf("similarity %.3f: candidates %.3f, expected %.3f; equal hashes %.4f\n", s, found, p, equal);
    /* four standard deviations, and one pair */
    assert_true(fabs(found - p) < 4 * sqrt(p * (1 - p) / PAIRS) + 1.0 / PAIRS);
    assert_true(fabs(equal - s) < 4 * sqrt(s * (1 - s) / (PAIRS * HASHES)) + 1e-4);
    slm2_buf_free(&text);
    slm2_buf_free(&words);
    slm2_near_close(near);
}

static void test_s_curve(void **state)
{
    (void)state;
    const struct slm2_near_opts o = {.n_hash = 112, .n_band = 14};
    assert_true(fabs(slm2_near_probability(&o, 0.75) - (1 - pow(1 - pow(0.75, 8), 14))) < 1e-15);
    check_pairs(30, 35); /* 0.3 */
    check_pairs(50, 25); /* 0.5 */
    check_pairs(60, 20); /* 0.6 */
    check_pairs(70, 15); /* 0.7 */
    check_pairs(80, 10); /* 0.8 */
    check_pairs(90, 5);  /* 0.9 */
}

static void sign(const struct slm2_near *near, const char *text, uint16_t *sig)
{
    struct slm2_err err = {0};
    struct slm2_buf words = {0};
    check_ok(slm2_near_sign(near, text, strlen(text), &words, sig, &err), &err);
    slm2_buf_free(&words);
}

static void test_texts(void **state)
{
    (void)state;
    struct slm2_near_opts o = {.threshold = 0.7, .n_hash = 64, .n_band = 16, .shingle = 3, .seed = 1};
    struct slm2_err err = {0};
    struct slm2_near *near;
    uint16_t a[64], b[64];
    check_ok(slm2_near_open(&near, &o, dir, &err), &err);
    sign(near, "Große Wörter, und KLEINE: 12 Stück!", a); /* case and signs do not count, letters and digits do */
    sign(near, "große  wörter und kleine 12 stück", b);
    assert_memory_equal(a, b, sizeof a);
    sign(near, "große wörter und kleine 13 stück", b);
    assert_true(memcmp(a, b, sizeof a) != 0);
    sign(near, "two words", a); /* fewer than a shingle */
    sign(near, "two  words.", b);
    assert_memory_equal(a, b, sizeof a);
    sign(near, "words two", b);
    assert_true(memcmp(a, b, sizeof a) != 0);
    sign(near, "昨日の夕方私たちは夕日を見に森へ行きました", a); /* a character is a word: one changed leaves most shingles */
    sign(near, "昨日の夕方私たちは夕日を見に山へ行きました", b);
    check_ok(slm2_near_add(near, a, &err), &err);
    assert_int_equal(slm2_near_find(near, b).text, 0);
    sign(near, " -- ... \n", a); /* no word: like nothing, not even itself */
    check_ok(slm2_near_add(near, a, &err), &err);
    assert_int_equal(slm2_near_find(near, a).text, -1);
    assert_int_equal(slm2_near_n(near), 2);
    slm2_near_close(near);
    o.n_band = 7;
    assert_int_equal(slm2_near_open(&near, &o, dir, &err), SLM2_EUSAGE);
}

/* 200 words of which those at change[] differ from copy to copy. */
static void put_doc(struct slm2_buf *out, int base, int n_change, const char *id)
{
    struct slm2_buf text = {0};
    for (int i = 0; i < 200; i++) {
        bool changed = n_change && i % (200 / n_change) == 100 / n_change;
        slm2_buf_printf(&text, "%s%d ", changed ? id : "w", (int)slm2_rng_below((uint64_t)base, SLM2_RNG_TEST, (uint64_t)i, 0, 5000));
    }
    json_t *j = json_pack("{s:s, s:{s:s}}", "text", text.v, "meta", "name", id);
    slm2_json_dump(j, out);
    slm2_buf_putc(out, '\n');
    json_decref(j);
    slm2_buf_free(&text);
}

static slm2_status build(const char *out, int threads, struct slm2_err *err)
{
    struct slm2_data_opts o = {0};
    struct slm2_buf yaml = {0};
    slm2_buf_printf(&yaml, "out: %s\nnear_dup: {threshold: 0.75, seed: 4}\nsources:\n  - {name: a, path: %s, id_field: meta.name}\n  - {name: b, path: %s, id_field: meta.name}\n",
                    in_dir(out), in_dir("a.jsonl"), in_dir("b.jsonl"));
    check_ok(slm2_file_write(in_dir("data.yml"), yaml.v, yaml.n, err), err);
    slm2_buf_free(&yaml);
    slm2_conf_init(slm2_data_table, &o);
    check_ok(slm2_conf_yaml(slm2_data_table, &o, in_dir("data.yml"), err), err);
    o.n_threads = threads;
    slm2_status st = slm2_data_build(&o, err);
    slm2_conf_free(slm2_data_table, &o);
    return st;
}

static void expect_manifest(const char *out, const char *want)
{
    char name[64], hex[65];
    struct slm2_err err = {0};
    snprintf(name, sizeof name, "%s/manifest.json", out);
    check_ok(slm2_sha256_file(in_dir(name), hex, &err), &err);
    assert_string_equal(hex, want);
    check_ok(slm2_dataset_verify(in_dir(out), 0, &err), &err);
}

static void test_build(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_buf a = {0}, b = {0}, sig = {0};
    char id[32], hex[65];
    json_t *m;
    /* 3000 texts: more than the first table holds.  In a, every tenth comes again with two words changed (similarity 186 / 206 = 0.90: missed
     * with probability 4e-4); in b, 20 of a's the same way, and 20 with 40 words changed (at most 4 of 196 shingles left). */
    for (int i = 0; i < 3000; i++) {
        snprintf(id, sizeof id, "a%d", i);
        put_doc(&a, i, 0, id);
        if (i % 10 == 9) put_doc(&a, i, 2, "again");
    }
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "b%d", i);
        put_doc(&b, i * 7, 2, id);
        put_doc(&b, i * 7, 40, id);
    }
    check_ok(slm2_file_write(in_dir("a.jsonl"), a.v, a.n, &err), &err);
    check_ok(slm2_file_write(in_dir("b.jsonl"), b.v, b.n, &err), &err);
    check_ok(build("one", 1, &err), &err);
    check_ok(slm2_json_read(&m, in_dir("one/manifest.json"), 1 << 20, &err), &err);
    const json_t *sources = json_object_get(m, "sources"), *first = json_object_get(json_array_get(sources, 1), "first_near_duplicates");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(sources, 0), "near_duplicates")), 300);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(sources, 1), "near_duplicates")), 20);
    assert_string_equal(json_string_value(json_object_get(json_array_get(first, 1), "id")), "b1");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(first, 1), "of")), 7);
    assert_true(fabs(json_real_value(json_object_get(json_array_get(first, 1), "similarity")) - 0.9) < 0.12); /* 4 sqrt(0.9 * 0.1 / 112) */
    json_decref(m);
    check_ok(slm2_sha256_file(in_dir("one/manifest.json"), hex, &err), &err);

    check_ok(build("three", 3, &err), &err); /* any number of threads */
    expect_manifest("three", hex);
    remove(in_dir("three/manifest.json")); /* cut off before b: a's signatures are read again */
    remove(in_dir("three/b.json"));
    check_ok(build("three", 2, &err), &err);
    expect_manifest("three", hex);
    remove(in_dir("three/b.json")); /* a's signatures are damaged: a is built again */
    check_ok(slm2_file_read(&sig, in_dir("three/a.minhash"), 1 << 24, &err), &err);
    assert_int_equal(sig.n, 3000 * 112 * 2);
    sig.v[12345] ^= 1;
    check_ok(slm2_file_write(in_dir("three/a.minhash"), sig.v, sig.n, &err), &err);
    check_ok(build("three", 2, &err), &err);
    expect_manifest("three", hex);
    slm2_buf_free(&sig);
    slm2_buf_free(&a);
    slm2_buf_free(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_s_curve, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_texts, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_build, make_dir, remove_dir),
};
SLM2_TEST_MAIN(tests)
