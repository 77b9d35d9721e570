/* test_kill_data.c - `data build` is killed at random moments, run again and again, and leaves the bytes of an undisturbed build.
 * usage: test_kill_data [KILLS [SEED]]; 10 kills, seed 1.  `make kill-data KILLS=n SEED=s` */
#include "scratch_dir.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rng.h"
#include "data/build.h"
#include "data/verify.h"

static int n_kills = 10;
static uint64_t seed = 1;
/* Everything that writes state: filters, duplicates within and across sources, near-duplicates, two splits. */
static slm2_status build(const char *out, struct slm2_err *err)
{
    static const char *const sets[] = {"near_dup.threshold=0.6", "near_dup.hashes=32", "near_dup.bands=8", "threads=2",
                                       ("sources=[{name: a, path: [assets/corpus/de.jsonl, assets/corpus/nl.jsonl]}, {name: b, path: assets/corpus/en.jsonl}, "
                                       "{name: c, path: [assets/corpus/en.jsonl, assets/corpus/fr.jsonl]}, {name: d, path: assets/corpus/it.jsonl, filter: none}]")};
    struct slm2_data_opts o = {0};
    slm2_conf_init(slm2_data_table, &o);
    slm2_status st = slm2_conf_yaml(slm2_data_table, &o, "configs/data-filtered.yml", err);
    for (size_t i = 0; st == SLM2_OK && i < sizeof sets / sizeof sets[0]; i++) st = slm2_conf_set(slm2_data_table, &o, sets[i], err);
    free(o.out);
    o.out = strdup(out);
    if (st == SLM2_OK) st = slm2_data_build(&o, err);
    if (st == SLM2_OK) st = slm2_dataset_verify(out, 2, err);
    slm2_conf_free(slm2_data_table, &o);
    return st;
}

/* In a process of its own; killed after delay_s (none: negative).  True: it came to its end. */
static bool run(const char *out, double delay_s)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct slm2_err err = {0};
        slm2_status st = build(out, &err);
        if (st != SLM2_OK) fprintf(stderr, "%s\n", err.msg);
        _exit(st != SLM2_OK);
    }
    if (delay_s >= 0) {
        nanosleep(&(struct timespec){(time_t)delay_s, (long)((delay_s - (double)(time_t)delay_s) * 1e9)}, NULL);
        kill(child, SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return false;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return true;
}

static bool is_result(const char *name)
{
    size_t n = strlen(name);
    bool aside = n > 4 && strcmp(name + n - 4, ".tmp") == 0; /* what was being written when the end came */
    return name[0] != '.' && strncmp(name, "verified.json", 13) != 0 && !aside;
}

static int count_results(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += is_result(e->d_name);
    closedir(d);
    return n;
}

/* The same files with the same bytes. */
static void expect_same(const char *want, const char *got)
{
    struct slm2_err err = {0};
    DIR *d = opendir(want);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[1024], a[65], b[65];
        if (!is_result(e->d_name)) continue;
        snprintf(path, sizeof path, "%s/%s", want, e->d_name);
        assert_int_equal(slm2_sha256_file(path, a, &err), SLM2_OK);
        snprintf(path, sizeof path, "%s/%s", got, e->d_name);
        if (slm2_sha256_file(path, b, &err) != SLM2_OK) fail_msg("%s", err.msg);
        if (strcmp(a, b) != 0) fail_msg("%s differs from an undisturbed build", path);
    }
    closedir(d);
    assert_int_equal(count_results(want), count_results(got));
}

static void test_kills(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    double from = slm2_now_s();
    assert_true(run(in_dir("whole"), -1));
    double whole_s = slm2_now_s() - from;
    int n_killed = 0, n_whole = 0;
    for (uint64_t turn = 0; n_killed < n_kills; turn++) {
        if (!run(in_dir("cut"), 1.1 * whole_s * slm2_rng_uniform(seed, SLM2_RNG_TEST, turn, 0))) {
            n_killed++;
            continue;
        }
        expect_same(in_dir("whole"), in_dir("cut")); /* it came to its end before: from the start again */
        n_whole++;
        assert_int_equal(slm2_dir_remove(in_dir("cut"), &err), SLM2_OK);
    }
    assert_true(run(in_dir("cut"), -1));
    expect_same(in_dir("whole"), in_dir("cut"));
    printf("%d kills, %d builds came to their end in between, %.2f s undisturbed, seed %llu\n", n_killed, n_whole + 1, whole_s, (unsigned long long)seed);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_kills, make_dir, remove_dir)};
    if (argc > 1) n_kills = atoi(argv[1]);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    if (n_kills < 1) {
        fprintf(stderr, "usage: test_kill_data [KILLS [SEED]]\n");
        return 2;
    }
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    printf("%d passed, %d failed\n", 1 - n_failed, n_failed);
    return n_failed != 0;
}
