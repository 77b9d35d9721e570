/* test_journal.c - a growing file of records: cut at every byte it opens again with the whole records before the cut, and goes on. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/journal.h"
#include "scratch_dir.h"

static void put(const char *path, int from, int n)
{
    struct slm2_journal *j;
    struct slm2_err err;
    check_ok(slm2_journal_open(&j, path, NULL, &err), &err);
    for (int i = from; i < from + n; i++) {
        json_t *r = json_pack("{s:i, s:s}", "i", i, "text", "a\nb");
        check_ok(slm2_journal_put(j, r, &err), &err);
        json_decref(r);
    }
    slm2_journal_close(j);
}

static void test_cut_anywhere(void **state)
{
    struct slm2_buf whole = {0};
    struct slm2_err err;
    (void)state;
    const char *path = in_dir("cut.jsonl");
    put(path, 0, 3);
    check_ok(slm2_file_read(&whole, path, 1 << 20, &err), &err);
    for (size_t n = 0; n <= whole.n; n++) {
        struct slm2_journal *j;
        json_t *got, *again;
        size_t want = 0;
        for (size_t i = 0; i < n; i++) want += whole.v[i] == '\n';
        want += n < whole.n && whole.v[n] == '\n'; /* a whole record without its line break counts */
        check_ok(slm2_file_write(path, whole.v, n, &err), &err);
        check_ok(slm2_journal_open(&j, path, &got, &err), &err);
        assert_int_equal(json_array_size(got), want);
        slm2_journal_close(j);
        put(path, (int)want, 1);
        check_ok(slm2_journal_read(path, &again, &err), &err);
        assert_int_equal(json_array_size(again), want + 1);
        for (size_t i = 0; i <= want; i++) assert_int_equal(json_integer_value(json_object_get(json_array_get(again, i), "i")), i);
        json_decref(got);
        json_decref(again);
    }
    slm2_buf_free(&whole);
}

static void test_refuses(void **state)
{
    static const struct { const char *text, *says; } bad[] = {{"{}\n{\"a\": \n{}\n", "line 2"}, {"{}\n\n[1]\n{}\n", "line 3"}, {"7\n", "line 1"}};
    struct slm2_journal *j, *second;
    struct slm2_err err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_ok(slm2_file_write(in_dir("bad.jsonl"), bad[i].text, strlen(bad[i].text), &err), &err);
        assert_int_equal(slm2_journal_open(&j, in_dir("bad.jsonl"), NULL, &err), SLM2_EFORMAT);
        assert_non_null(strstr(err.msg, bad[i].says));
        struct slm2_buf now = {0};
        check_ok(slm2_file_read(&now, in_dir("bad.jsonl"), 1 << 20, &err), &err);
        assert_int_equal(now.n, strlen(bad[i].text)); /* nothing of it was taken away */
        slm2_buf_free(&now);
    }
    check_ok(slm2_journal_open(&j, in_dir("lock.jsonl"), NULL, &err), &err);
    assert_int_equal(slm2_journal_open(&second, in_dir("lock.jsonl"), NULL, &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "another process"));
    slm2_journal_close(j);
    assert_int_equal(slm2_journal_open(&j, in_dir("no/such/folder"), NULL, &err), SLM2_EIO);
}

/* A write that ends in the middle of a line, as on a full disk: the line is taken away, and what comes later stands on lines of its own. */
static void test_full_disk(void **state)
{
    struct slm2_journal *j;
    struct slm2_err err;
    struct slm2_buf before = {0}, after = {0};
    struct rlimit was, low;
    json_t *got, *r = json_pack("{s:i, s:s}", "i", 2, "text", "more than a few bytes");
    (void)state;
    const char *path = in_dir("full.jsonl");
    put(path, 0, 2);
    check_ok(slm2_file_read(&before, path, 1 << 20, &err), &err);
    check_ok(slm2_journal_open(&j, path, NULL, &err), &err);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    low = was;
    low.rlim_cur = before.n + 10;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    slm2_status st = slm2_journal_put(j, r, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(st, SLM2_EIO);
    assert_non_null(strstr(err.msg, "full.jsonl"));
    check_ok(slm2_file_read(&after, path, 1 << 20, &err), &err);
    assert_true(after.n == before.n && memcmp(after.v, before.v, before.n) == 0);
    check_ok(slm2_journal_put(j, r, &err), &err);
    slm2_journal_close(j);
    check_ok(slm2_journal_read(path, &got, &err), &err);
    assert_int_equal(json_array_size(got), 3);
    assert_true(json_equal(json_array_get(got, 2), r));
    json_decref(got);
    json_decref(r);
    slm2_buf_free(&before);
    slm2_buf_free(&after);
}

static void test_rewrite(void **state)
{
    struct slm2_err err;
    json_t *list = json_pack("[{s:i}, {s:i}]", "a", 2, "a", 1), *got;
    (void)state;
    check_ok(slm2_journal_rewrite(in_dir("new.jsonl"), list, &err), &err);
    check_ok(slm2_journal_read(in_dir("new.jsonl"), &got, &err), &err);
    assert_true(json_equal(got, list));
    json_decref(got);
    json_decref(list);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_refuses), cmocka_unit_test(test_full_disk), cmocka_unit_test(test_rewrite)};
SLM2_TEST_MAIN_WITH(tests, make_dir, remove_dir)
