/* test_ledger.c - the ledger as others see it while a run writes: readers, listeners; and the energy that it samples from counters. */
#include "scratch_dir.h"

#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "train/ledger.h"

static char library[PATH_MAX];
static struct slm2_power_opts none = {.powercap = "/nowhere", .nvml = ""};

#define assert_ok(call)                                                      \
    do {                                                                     \
        slm2_status ok_st = (call);                                          \
        if (ok_st != SLM2_OK) fail_msg("%s: %d: %s", #call, ok_st, err.msg); \
    } while (0)

static void put_text(void *user, int n_col, const char *const *text)
{
    for (int i = 0; i < n_col; i++) slm2_buf_printf(user, "%s%s", i ? "," : "", text[i] ? text[i] : "NULL");
    slm2_buf_puts(user, ";");
}

static void expect_rows(struct slm2_ledger *l, const char *sql, const char *want)
{
    struct slm2_err err;
    struct slm2_buf b = {0};
    slm2_buf_put(&b, "", 0);
    assert_ok(slm2_ledger_query(l, sql, NULL, put_text, &b, &err));
    assert_string_equal(b.v, want);
    slm2_buf_free(&b);
}

/* ---- readers ------------------------------------------------------------------------------------------------------------ */
struct midway { struct slm2_ledger *writer; int n_row; };
static void write_meanwhile(void *user, int n_col, const char *const *text)
{
    struct midway *m = user;
    struct slm2_err err;
    (void)n_col;
    (void)text;
    slm2_ledger_metric(m->writer, 100 + m->n_row++, "loss", 1);
    assert_ok(slm2_ledger_commit(m->writer, &err));
}

/* A reader sees what was committed, never half of it, and neither waits for the other. */
static void readable_while_written(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_ledger *w, *r;
    assert_ok(slm2_ledger_open_with(&w, in_dir("run.sqlite"), "pretrain", &none, &err));
    expect_rows(w, "PRAGMA journal_mode", "wal;");
    for (int i = 1; i <= 3; i++) slm2_ledger_metric(w, i, "loss", i);
    assert_ok(slm2_ledger_commit(w, &err));
    slm2_ledger_metric(w, 4, "loss", 4); /* open */
    double start = slm2_now_s();
    assert_ok(slm2_ledger_open_read(&r, in_dir("run.sqlite"), &err));
    expect_rows(r, "SELECT count(*), max(step) FROM metric", "3,3;");
    assert_ok(slm2_ledger_commit(w, &err));
    expect_rows(r, "SELECT count(*), max(step) FROM metric", "4,4;");
    struct midway m = {.writer = w}; /* commits between the rows of somebody's query */
    assert_ok(slm2_ledger_query(r, "SELECT step FROM metric ORDER BY step", NULL, write_meanwhile, &m, &err));
    assert_int_equal(m.n_row, 4);
    expect_rows(r, "SELECT count(*) FROM metric", "8;");
    assert_true(slm2_now_s() - start < 5); /* nobody sat out the 10 s for a lock */
    assert_ok(slm2_ledger_close(r, &err));
    assert_ok(slm2_ledger_close(w, &err));
    assert_false(slm2_path_exists(in_dir("run.sqlite-wal"))); /* the last one folds it in: one file a run */
}

/* What is measured of a run that is over is no part of it. */
static void figures_after_the_run(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_ledger *l;
    double v;
    assert_ok(slm2_ledger_open_with(&l, in_dir("over.sqlite"), "sft", &none, &err));
    assert_ok(slm2_ledger_close(l, &err));
    assert_ok(slm2_ledger_open_read(&l, in_dir("over.sqlite"), &err));
    expect_rows(l, "UPDATE run SET value = 'then' WHERE key = 'finished'; ", "");
    assert_ok(slm2_ledger_close(l, &err));
    assert_ok(slm2_ledger_append(&l, in_dir("over.sqlite"), "eval", &err));
    slm2_ledger_figure(l, "eval.x", 0.5);
    assert_ok(slm2_ledger_close(l, &err));
    assert_ok(slm2_ledger_open_read(&l, in_dir("over.sqlite"), &err));
    expect_rows(l, "SELECT count(*) FROM session", "1;");
    expect_rows(l, "SELECT value FROM run WHERE key IN ('stage', 'finished') ORDER BY key", "then;sft;");
    assert_true(slm2_ledger_get_figure(l, "eval.x", &v) && v == 0.5);
    assert_ok(slm2_ledger_close(l, &err));
    assert_ok(slm2_ledger_append(&l, in_dir("own.sqlite"), "eval", &err)); /* an evaluation's own */
    expect_rows(l, "SELECT count(*) FROM session", "1;");
    assert_ok(slm2_ledger_close(l, &err));
}

/* ---- listeners ----------------------------------------------------------------------------------------------------------- */
static void hear_metric(void *user, int64_t step, const char *name, double value) { slm2_buf_printf(user, "%s@%d=%g;", name, (int)step, value); }
static void hear_event(void *user, int64_t step, const char *kind) { slm2_buf_printf(user, "%s@%d;", kind, (int)step); }
static void hear_rewind(void *user, int64_t step) { slm2_buf_printf(user, "back@%d;", (int)step); }
static void hear_tick(void *user, const struct slm2_power_device *d, int n)
{
    (void)d;
    slm2_buf_printf(user, "tick%d;", n);
}

static void listeners_hear_all(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_ledger *l;
    struct slm2_buf heard = {0};
    assert_ok(slm2_ledger_open_with(&l, in_dir("heard.sqlite"), "sft", &none, &err));
    slm2_ledger_tee(l, &(struct slm2_ledger_sink){.user = &heard, .metric = hear_metric, .event = hear_event, .rewind = hear_rewind, .tick = hear_tick});
    slm2_ledger_tee(l, &(struct slm2_ledger_sink){0}); /* one that cares for nothing */
    slm2_ledger_metric(l, 7, "loss", 2.5);
    slm2_ledger_event(l, 7, "checkpoint", "x");
    assert_ok(slm2_ledger_commit(l, &err));
    assert_string_equal(heard.v, "loss@7=2.5;checkpoint@7;tick0;");
    slm2_buf_clear(&heard);
    slm2_ledger_rewind(l, 4);
    slm2_ledger_metric(l, 5, "loss", 2);
    slm2_buf_put(&heard, "", 1);
    assert_string_equal(heard.v, "back@4;loss@5=2;");
    assert_ok(slm2_ledger_close(l, &err));
    slm2_buf_free(&heard);
}

/* ---- energy -------------------------------------------------------------------------------------------------------------- */
static void zone(const char *name, const char *what, const char *energy)
{
    struct slm2_err err;
    char path[512];
    snprintf(path, sizeof path, "%s/cap/%s", dir, name);
    assert_ok(slm2_dir_make(path, &err));
    const char *file[][2] = {{"name", what}, {"energy_uj", energy}, {"max_energy_range_uj", "262143328850\n"}};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/cap/%s/%s", dir, name, file[i][0]);
        assert_ok(slm2_file_write(path, file[i][1], strlen(file[i][1]), &err));
    }
}

static int fake_open_count(void)
{
    void *lib = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    if (!lib) return 0;
    int (*fn)(void);
    void *at = dlsym(lib, "fake_open");
    memcpy(&fn, &at, sizeof at);
    int n = fn();
    dlclose(lib);
    return n;
}

static void counters_are_read(void **state)
{
    (void)state;
    int n;
    zone("intel-rapl:0", "package-0\n", "262143328000\n");
    zone("intel-rapl:0:0", "core\n", "10\n");   /* in the package */
    zone("intel-rapl:1", "psys\n", "10\n");     /* holds the package */
    zone("intel-rapl:2", "package-1\n", "1000000\n");
    struct slm2_power_opts o = {.powercap = in_dir("cap"), .nvml = library};
    struct slm2_power *p = slm2_power_open(&o);
    assert_non_null(p);
    zone("intel-rapl:0", "package-0\n", "4999150\n"); /* went round: 850 uJ to the end, then 4,999,150 */
    zone("intel-rapl:2", "package-1\n", "3500000\n");
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    const struct slm2_power_device *d = slm2_power_read(p, &n);
    assert_int_equal(n, 4);
    assert_string_equal(d[0].name, "package-0");
    assert_true(!d[0].gpu && fabs(d[0].joules - 5.0) < 1e-9);
    assert_string_equal(d[1].name, "package-1");
    assert_true(fabs(d[1].joules - 2.5) < 1e-9);
    assert_string_equal(d[2].name, "GPU 0 Fake");
    assert_true(d[2].gpu && fabs(d[2].joules - 2.5) < 1e-9);
    assert_string_equal(d[3].name, "GPU 1");
    assert_true(d[3].gpu && d[3].joules >= 40 * 0.02 && d[3].joules < 40 * 10); /* 40 W over the time slept, or longer on a busy machine */
    assert_int_equal(fake_open_count(), 1);
    slm2_power_close(p);
    assert_int_equal(fake_open_count(), 0);

    p = slm2_power_open(&none);
    slm2_power_read(p, &n);
    assert_int_equal(n, 0);
    slm2_power_close(p);
    slm2_power_read(NULL, &n);
    assert_int_equal(n, 0);
}

/* A counter that may have gone round unseen gives no figure, and the session none: 40 uJ are 0.1 us of 400 W. */
static void rare_readings_are_no_measure(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_ledger *l;
    struct slm2_ledger_cost cost;
    struct slm2_power_opts o = {.powercap = in_dir("cap"), .nvml = ""};
    char range[512];
    int n;
    zone("intel-rapl:0", "package-0\n", "7\n");
    zone("intel-rapl:2", "package-1\n", "0\n");
    snprintf(range, sizeof range, "%s/cap/intel-rapl:0/max_energy_range_uj", dir);
    assert_ok(slm2_file_write(range, "40\n", 3, &err));
    struct slm2_power *p = slm2_power_open(&o);
    nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL);
    const struct slm2_power_device *d = slm2_power_read(p, &n);
    assert_true(n == 2 && isnan(d[0].joules) && d[1].joules == 0);
    slm2_power_close(p);
    assert_ok(slm2_ledger_open_with(&l, in_dir("rare.sqlite"), "pretrain", &o, &err));
    slm2_ledger_metric(l, 1, "loss", 1);
    assert_ok(slm2_ledger_cost(l, &cost, &err));
    assert_true(cost.n_session == 1 && !cost.rapl && cost.rapl_j == 0);
    expect_rows(l, "SELECT DISTINCT device FROM energy", "package-1;");
    assert_ok(slm2_ledger_close(l, &err));
}

static void energy_is_in_the_ledger(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_ledger *l;
    struct slm2_ledger_cost cost;
    struct slm2_power_opts o = {.powercap = in_dir("cap"), .nvml = library};
    zone("intel-rapl:0", "package-0\n", "0\n");
    zone("intel-rapl:2", "package-1\n", "0\n");
    for (int session = 0; session < 2; session++) {
        assert_ok(slm2_ledger_open_with(&l, in_dir("energy.sqlite"), "pretrain", &o, &err));
        slm2_ledger_metric(l, session * 10 + 3, "loss", 1);
        zone("intel-rapl:0", "package-0\n", session ? "9000000\n" : "6000000\n"); /* 6 J, then 3 more */
        assert_ok(slm2_ledger_commit(l, &err)); /* too soon for another sample */
        assert_ok(slm2_ledger_close(l, &err));
    }
    assert_ok(slm2_ledger_open_read(&l, in_dir("energy.sqlite"), &err));
    expect_rows(l, "SELECT session, step, device, gpu, joules FROM energy WHERE device LIKE 'package%' ORDER BY rowid",
                "1,0,package-0,0,0.0;1,0,package-1,0,0.0;1,3,package-0,0,6.0;1,3,package-1,0,0.0;2,0,package-0,0,0.0;2,0,package-1,0,0.0;2,13,package-0,0,3.0;2,13,package-1,0,0.0;");
    assert_ok(slm2_ledger_cost(l, &cost, &err));
    assert_true(cost.rapl && fabs(cost.rapl_j - 9) < 1e-9 && cost.n_session == 2);
    assert_true(cost.gpu && cost.gpu_j >= 10); /* two sessions of card 0: 2.5 J a reading, at least twice each */
    assert_ok(slm2_ledger_close(l, &err));

    assert_ok(slm2_ledger_open_with(&l, in_dir("energy.sqlite"), "pretrain", &none, &err)); /* a session without counters: no sum would be true */
    assert_ok(slm2_ledger_cost(l, &cost, &err));
    assert_true(!cost.rapl && cost.rapl_j == 0 && cost.gpu);
    assert_ok(slm2_ledger_close(l, &err));
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(readable_while_written), cmocka_unit_test(figures_after_the_run), cmocka_unit_test(listeners_hear_all), cmocka_unit_test(counters_are_read), cmocka_unit_test(rare_readings_are_no_measure),
                                          cmocka_unit_test(energy_is_in_the_ledger)};

int main(int argc, char **argv)
{
    (void)argc;
    char self[PATH_MAX];
    if (!realpath(argv[0], self)) return 1;
    *strrchr(self, '/') = 0;
    snprintf(library, sizeof library, "%.4000s/fake_nvml.so", self);
    int n = (int)(sizeof tests / sizeof tests[0]), n_failed = cmocka_run_group_tests(tests, make_dir, remove_dir);
    printf("%d passed, %d failed\n", n - n_failed, n_failed);
    return n_failed != 0;
}
