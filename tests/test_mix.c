/* test_mix.c - plans against what is really drawn; orders kept as files; shuffled rows. */
#include "train_data.h"

#include <math.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "data/aside.h"
#include "data/mix.h"
#include "data/order.h"
#include "data/mixplan.h"
#include "data/share.h"

/* ---- plans ------------------------------------------------------------------------------------------------------------------ */
static void test_table_1(void **state)
{
    (void)state;
    struct slm2_mixplan p = {0};
    struct slm2_err err = {0};
    struct slm2_mixplan_row row[28];
    slm2_conf_init(slm2_mixplan_table, &p);
    assert_ok(slm2_conf_yaml(slm2_mixplan_table, &p, "configs/mix/stablelm-2-1_6b.yml", &err));
    assert_int_equal(p.sources.n, 28);
    assert_ok(slm2_mixplan_check(&p, "table", &err));
    assert_true(slm2_mixplan_tokens(&p) == INT64_C(2009831803929));
    struct slm2_mixplan_source *v = p.sources.items;
    const int64_t sizes[] = {INT64_C(2009831803933), INT64_C(100000000000), 1000000000};
    for (int k = 0; k < 3; k++) {
        double planned = 0;
        int64_t drawn = 0;
        assert_ok(slm2_mixplan_rows(&p, sizes[k], 1234, row, &err));
        for (int i = 0; i < 28; i++) {
            planned += row[i].planned;
            drawn += row[i].drawn;
            /* to within a few rows, which is 1 % of the smallest source from 2e9 tokens on */
            if (fabs((double)row[i].drawn - row[i].planned) > fmax(k < 2 ? 0.01 * row[i].planned : 0, 4 * 4096.0))
                fail_msg("%s: %.0f planned, %lld drawn", v[i].name, row[i].planned, (long long)row[i].drawn);
        }
        assert_true(fabs(planned - (double)sizes[k]) < 1e-6 * planned);
        assert_true(drawn == sizes[k] / 4096 * 4096);
    }
    assert_ok(slm2_mixplan_rows(&p, slm2_mixplan_tokens(&p), 1, row, &err));
    for (int i = 0; i < 28; i++) assert_true(fabs(row[i].epochs - v[i].epochs) < 1e-9); /* the whole run makes the published passes */
    v[3].tokens += 1000000000; /* neither the total nor the weight is right any more */
    assert_int_equal(slm2_mixplan_check(&p, "table", &err), SLM2_EFORMAT);
    p.total_tokens = 0;
    assert_int_equal(slm2_mixplan_check(&p, "table", &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "PhilPapers"));
    slm2_conf_free(slm2_mixplan_table, &p);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------------- */
static void test_place(void **state)
{
    (void)state;
    static uint8_t seen[5000];
    for (uint64_t n = 1; n < 5000; n = n * 3 + 1) {
        int moved = 0;
        memset(seen, 0, sizeof seen);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t to = slm2_rng_place(9, SLM2_RNG_ROWS, n, i, n);
            assert_true(to < n);
            assert_false(seen[to]++);
            moved += to != i;
        }
        assert_true(n < 10 || moved > (int)n / 2);
    }
}

enum { N_CTX = 24 };
static struct slm2_mix *open_mix(bool shuffle_rows, const char *index_dir)
{
    struct slm2_err err;
    struct slm2_mix *m;
    const struct slm2_mix_source v[2] = {{"a", in_dir("a"), 2}, {"b", in_dir("b"), 1}};
    assert_ok(slm2_mix_open(&m, v, 2, &(struct slm2_mix_opts){.n_ctx = N_CTX, .vocab_size = TEST_VOCAB, .seed = 3, .shuffle_rows = shuffle_rows, .index_dir = index_dir}, &err));
    return m;
}

/* Shuffled, the rows of an epoch are the same rows in another order, another one in the next epoch; rows far away need none before them. */
static void test_shuffled_rows(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_mix *plain = open_mix(false, NULL), *mixed = open_mix(true, NULL), *fresh;
    int64_t n = slm2_mix_epoch_rows(plain, 0);
    int32_t want[N_CTX + 1], got[N_CTX + 1];
    bool same_order = true;
    int in_place = 0;
    assert_true(n > 50);
    for (int64_t e = 0; e < 2; e++) {
        uint8_t seen[1000] = {0};
        for (int64_t r = 0; r < n; r++) {
            int64_t k = 0;
            assert_ok(slm2_mix_source_row(mixed, 0, e * n + r, got, &err));
            for (; k < n; k++) {
                assert_ok(slm2_mix_source_row(plain, 0, e * n + k, want, &err));
                if (!seen[k] && !memcmp(want, got, sizeof got)) break;
            }
            assert_true(k < n);
            seen[k] = 1;
            in_place += k == r;
        }
    }
    assert_true(in_place < n / 4);
    for (int64_t r = 0; r < n; r++)
        same_order = same_order && slm2_rng_place(3, SLM2_RNG_ROWS, 0, (uint64_t)r, (uint64_t)n) == slm2_rng_place(3, SLM2_RNG_ROWS, 1, (uint64_t)r, (uint64_t)n);
    assert_false(same_order);
    for (int64_t i = 1000000; i < 1000100; i += 7) {
        assert_ok(slm2_mix_row(mixed, i, want, NULL, &err));
        fresh = open_mix(true, NULL);
        assert_ok(slm2_mix_row(fresh, i, got, NULL, &err));
        assert_memory_equal(want, got, sizeof got);
        slm2_mix_close(fresh);
    }
    slm2_mix_close(plain);
    slm2_mix_close(mixed);
}

static void expect_rows(struct slm2_mix *want, struct slm2_mix *got)
{
    struct slm2_err err;
    int32_t x[N_CTX + 1], y[N_CTX + 1];
    for (int64_t i = 0; i < 400; i++) {
        assert_ok(slm2_mix_row(want, i, x, NULL, &err));
        assert_ok(slm2_mix_row(got, i, y, NULL, &err));
        assert_memory_equal(x, y, sizeof x);
    }
}

/* Orders from files are those from memory; a damaged, foreign or cut file is made anew. */
static void test_orders(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_buf good = {0};
    struct slm2_mix *memory = open_mix(false, NULL), *files = open_mix(false, in_dir("orders"));
    expect_rows(memory, files);
    slm2_mix_close(files);
    assert_true(slm2_path_exists(in_dir("orders/0-0.order")) && slm2_path_exists(in_dir("orders/1-1.order")));
    assert_ok(slm2_file_read(&good, in_dir("orders/0-0.order"), 1 << 20, &err));
    for (size_t at = 0; at < good.n + 40; at += 37) {
        struct slm2_buf bad = {0};
        slm2_buf_put(&bad, good.v, good.n);
        if (at < good.n) bad.v[at] ^= 0x10;
        else bad.n -= at - good.n + 1;
        assert_ok(slm2_file_write(in_dir("orders/0-0.order"), bad.v, bad.n, &err));
        files = open_mix(false, in_dir("orders"));
        expect_rows(memory, files);
        slm2_mix_close(files);
        slm2_buf_clear(&bad);
        assert_ok(slm2_file_read(&bad, in_dir("orders/0-0.order"), 1 << 20, &err));
        assert_int_equal(bad.n, good.n);
        assert_memory_equal(bad.v, good.v, good.n);
        slm2_buf_free(&bad);
    }
    slm2_buf_free(&good);
    assert_ok(slm2_file_write(in_dir("no-folder"), "", 0, &err)); /* nothing can be written below a file: kept in memory */
    files = open_mix(false, in_dir("no-folder"));
    expect_rows(memory, files);
    slm2_mix_close(files);
    slm2_mix_close(memory);
}

static void put_file(const char *stem, long pid, const char *tail, bool old)
{
    char path[700];
    struct slm2_err err;
    const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    snprintf(path, sizeof path, "%s.%ld%s", in_dir(stem), pid, tail);
    assert_ok(slm2_file_write(path, "x", 1, &err));
    if (old) assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Names of killed processes go at the next start; those of living ones, new ones and what is not ours stay. */
static void test_leftovers(void **state)
{
    (void)state;
    struct slm2_err err;
    char path[700];
    int32_t row[N_CTX + 1];
    pid_t gone = fork();
    if (gone == 0) _exit(0);
    assert_int_equal(waitpid(gone, NULL, 0), gone);
    const struct { const char *stem, *tail; long pid; bool old, stays; } files[] = {
        {"left/0-0.order", "", gone, true, false}, {"left/0-1.order", ".tmp", gone, true, false}, {"left/0-2.order", "", gone, false, true}, {"left/0-3.order", "", getpid(), true, true},
        {"left/0-4.ordered", "", gone, true, true}, {"left/verified.json", "", gone, true, true}};
    assert_ok(slm2_dir_make(in_dir("left"), &err));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) put_file(files[i].stem, files[i].pid, files[i].tail, files[i].old);
    struct slm2_mix *m = open_mix(false, in_dir("left"));
    assert_ok(slm2_mix_row(m, 0, row, NULL, &err)); /* orders are opened when they are needed */
    slm2_mix_close(m);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s.%ld%s", in_dir(files[i].stem), files[i].pid, files[i].tail);
        if (slm2_path_exists(path) != files[i].stays) fail_msg("%s %s", path, files[i].stays ? "is gone" : "is still there");
    }
    slm2_aside_clean(in_dir("left"), "verified.json");
    snprintf(path, sizeof path, "%s.%ld", in_dir("left/verified.json"), (long)gone);
    assert_false(slm2_path_exists(path));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_table_1),
    cmocka_unit_test(test_place),
    cmocka_unit_test(test_shuffled_rows),
    cmocka_unit_test(test_orders),
    cmocka_unit_test(test_leftovers),
};

SLM2_TEST_MAIN_WITH(tests, make_test_dir, remove_test_dir)
