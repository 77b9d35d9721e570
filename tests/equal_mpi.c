/* equal_mpi.c - several ranks: the same bits as one process, resumed with other numbers of ranks, after the death of a rank, and a rank that hangs.
 *
 * Runs BUILD/slm2 under mpirun, each run in a folder of its own with the same relative paths, so that whole checkpoints, settings included, must
 * be equal.  `equal_mpi full` (make test-mpi) takes more ranks and more deaths. */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"
#include "train_data.h"

static char program[PATH_MAX], skip_why[256];
static bool full;

/* ---- running -------------------------------------------------------------------------------------------------------------- */
/* The command of a run in test_dir/name: n 0 is one process without mpirun. */
static void command(char *cmd, size_t cap, const char *name, int n, const char *sets)
{
    char mpi[256] = "";
    const char *root = getuid() == 0 ? " --allow-run-as-root" : "";
    if (n) snprintf(mpi, sizeof mpi, "env ASAN_OPTIONS=detect_leaks=0 mpirun%s --oversubscribe -np %d", root, n); /* MPI keeps some memory to its end */
    int k = snprintf(cmd, cap, "mkdir -p '%s/%s' && cd '%s/%s' && exec %s '%s' pretrain ../run.yml --run out --set threads=1 --set dist.bucket_elems=8192 %s >out.log 2>err.log", test_dir, name,
                     test_dir, name, mpi, program, sets);
    assert_true(k > 0 && (size_t)k < cap);
}

static int run_ranks(const char *name, int n, const char *sets)
{
    char cmd[4096];
    command(cmd, sizeof cmd, name, n, sets);
    int status = system(cmd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void errors_of(const char *name, struct slm2_buf *text)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/err.log", test_dir, name);
    slm2_buf_clear(text);
    slm2_file_read(text, path, 1 << 20, NULL);
    slm2_buf_put(text, "", 1);
}

static void must_run(const char *name, int n, const char *sets)
{
    int status = run_ranks(name, n, sets);
    struct slm2_buf text = {0};
    if (status != 0) errors_of(name, &text);
    if (status != 0) fail_msg("%s, %d ranks, %s: status %d: %s", name, n, sets, status, text.v);
}

/* Every file of the checkpoint of that step and of the finished model; without the settings: but state.json, which holds them, and the manifest, which
 * has its hash. */
static void assert_same(const char *a, const char *b, int step, bool bf16, bool settings)
{
    static const char *const files[] = {"out/final/model.safetensors", "out/final/config.json", "%s/config.json", "%s/model.safetensors", "%s/optimizer/exp_avg.safetensors",
                                        "%s/optimizer/exp_avg_sq.safetensors", "%s/state.json", "%s/MANIFEST.json", "%s/optimizer/master.safetensors"};
    struct slm2_err err;
    char ckpt[64], file[256], path[1024], x[65], y[65];
    snprintf(ckpt, sizeof ckpt, "out/step-%08d", step);
    for (size_t i = 0; i < sizeof files / sizeof files[0] - !bf16; i++) {
        const char *rest = strncmp(files[i], "%s", 2) ? NULL : files[i] + 2;
        snprintf(file, sizeof file, "%s%s", rest ? ckpt : files[i], rest ? rest : "");
        if (!settings && (!strcmp(files[i], "%s/state.json") || !strcmp(files[i], "%s/MANIFEST.json"))) continue;
        snprintf(path, sizeof path, "%s/%s/%s", test_dir, a, file);
        assert_ok(slm2_sha256_file(path, x, &err));
        snprintf(path, sizeof path, "%s/%s/%s", test_dir, b, file);
        assert_ok(slm2_sha256_file(path, y, &err));
        if (strcmp(x, y)) fail_msg("%s differs between the runs %s and %s", file, a, b);
    }
}

static void assert_same_files(const char *a, const char *b, int step, bool bf16) { assert_same(a, b, step, bf16, true); }

/* ---- equalities ------------------------------------------------------------------------------------------------------------ */
static const char *const precisions[] = {"--set train.precision=fp32", "--set train.precision=bf16"};

static void ranks_give_the_same_bits(void **state)
{
    (void)state;
    if (*skip_why) skip();
    /* 4 micro-batches over 2 and 4 ranks; 5 (not a power of two) over 2, 3 and 8, where some ranks have nothing to do */
    static const struct { int n_micro, ranks[4]; } rows[] = {{4, {2, 4, 1, 0}}, {5, {3, 2, 8, 0}}};
    char sets[256], one[32], many[32];
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < 2; i++) {
            snprintf(sets, sizeof sets, "%s --set train.accumulation=%d", precisions[p], rows[i].n_micro);
            snprintf(one, sizeof one, "alone-%d-%d", p, i);
            must_run(one, 0, sets);
            for (int k = 0; k < 4 && rows[i].ranks[k]; k++) {
                if (!full && (k > 1 || (k > 0 && i != p))) continue;
                snprintf(many, sizeof many, "ranks-%d-%d-%d", p, i, rows[i].ranks[k]);
                must_run(many, rows[i].ranks[k], sets);
                assert_same_files(one, many, 20, p);
            }
        }
}

/* Threads, buckets and recomputation change what state.json says of the settings, and no bit of weights or optimizer. */
static void threads_buckets_and_recomputation_do_not_matter(void **state)
{
    (void)state;
    if (*skip_why) skip();
    static const char *const more[] = {"--set dist.bucket_elems=4096 --set train.recompute=true", "--set threads=2 --set dist.bucket_elems=1000000", "--set threads=3 --set train.recompute=true"};
    char sets[256], one[32], many[32];
    for (int p = full ? 0 : 1; p < 2; p++) {
        snprintf(sets, sizeof sets, "%s --set train.accumulation=4", precisions[p]);
        snprintf(one, sizeof one, "fixed-%d", p);
        must_run(one, 0, sets);
        for (int i = 0; i < (full ? 3 : 2); i++) {
            snprintf(sets, sizeof sets, "%s --set train.accumulation=4 %s", precisions[p], more[i]);
            snprintf(many, sizeof many, "varied-%d-%d", p, i);
            must_run(many, 2, sets);
            assert_same(one, many, 20, p, false);
        }
    }
}

/* 2 ranks to step 7, one process to 13, 4 ranks to 20. */
static void resumed_with_other_ranks(void **state)
{
    (void)state;
    if (*skip_why) skip();
    char sets[256];
    static const int ranks[] = {2, 1, 4};
    static const char *const until[] = {"--set train.steps=7", "--set train.steps=13", ""};
    static const char *const kinds[] = {"--set train.precision=fp32", "--set train.precision=bf16", "--set train.precision=bf16 --set optim.moments=bf16"};
    for (int k = full ? 0 : 2; k < 3; k++) {
        char name[32], whole[32];
        snprintf(name, sizeof name, "changing-%d", k);
        snprintf(whole, sizeof whole, "whole-%d", k);
        snprintf(sets, sizeof sets, "%s --set train.accumulation=4", kinds[k]);
        must_run(whole, 0, sets);
        for (int i = 0; i < 3; i++) {
            snprintf(sets, sizeof sets, "%s --set train.accumulation=4 %s", kinds[k], until[i]);
            must_run(name, ranks[i], sets);
        }
        assert_same_files(whole, name, 20, k > 0);
    }
}

/* Ranks judge alike; some norms of this run's first steps are above the limit (equal_train has the same). */
static void bad_steps_are_the_same_on_all_ranks(void **state)
{
    (void)state;
    if (*skip_why) skip();
    const char *sets = "--set train.accumulation=4 --set spike.max_norm=1.11 --set spike.on_spike=rollback";
    must_run("spike", 0, sets);
    must_run("spike-2", 2, sets);
    assert_same_files("spike", "spike-2", 20, false);
    struct slm2_buf text = {0};
    errors_of("spike-2", &text);
    assert_non_null(strstr(text.v, "rolls back"));
    slm2_buf_free(&text);
}

/* ---- deaths ------------------------------------------------------------------------------------------------------------------- */
static bool file_has(const char *path, const char *what)
{
    char text[65536];
    FILE *f = fopen(path, "r");
    if (!f) return false;
    size_t n = fread(text, 1, sizeof text - 1, f), k = strlen(what);
    fclose(f);
    for (size_t i = 0; i + k <= n; i++)
        if (!memcmp(text + i, what, k)) return true;
    return false;
}

/* Process of that rank whose working folder is test_dir/name; rank -1: any process there.  0: none. */
static pid_t find_rank(const char *name, int rank)
{
    char path[PATH_MAX], cwd[PATH_MAX], want[PATH_MAX], key[64];
    snprintf(want, sizeof want, "%s/%s", test_dir, name);
    snprintf(key, sizeof key, "OMPI_COMM_WORLD_RANK=%d", rank);
    DIR *d = opendir("/proc");
    pid_t found = 0;
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/%.20s/cwd", e->d_name);
        ssize_t n = readlink(path, cwd, sizeof cwd - 1);
        if (n <= 0) continue;
        cwd[n] = 0;
        snprintf(path, sizeof path, "/proc/%.20s/environ", e->d_name);
        if (!strcmp(cwd, want) && (rank < 0 || file_has(path, key))) found = (pid_t)atoi(e->d_name);
    }
    if (d) closedir(d);
    return found;
}

/* Starts a run of n ranks and sends a signal to one of them after its checkpoint of `step`.  Seconds until mpirun has ended. */
static double disturb(const char *name, int n, const char *sets, int rank, int sig, int step)
{
    char cmd[4096], ckpt[1024];
    command(cmd, sizeof cmd, name, n, sets);
    snprintf(ckpt, sizeof ckpt, "%s/%s/out/step-%08d", test_dir, name, step);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
        _exit(127);
    }
    double start = slm2_now_s();
    while (!slm2_path_exists(ckpt) && slm2_now_s() - start < 60) usleep(2000);
    pid_t victim = find_rank(name, rank);
    if (victim <= 0) {
        kill(child, SIGTERM);
        fail_msg("%s: no process of rank %d", name, rank);
    }
    assert_int_equal(kill(victim, sig), 0);
    start = slm2_now_s();
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0 && slm2_now_s() - start < 60) usleep(2000);
    double took = slm2_now_s() - start;
    if (took >= 60) kill(child, SIGKILL);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 0);
    for (int i = 0; find_rank(name, -1) && i < 100; i++) usleep(20000); /* what mpirun has killed may still be ending */
    assert_int_equal(find_rank(name, -1), 0);
    return took;
}

static void assert_checkpoints_whole(const char *name)
{
    struct slm2_err err;
    char run[1024], path[2048];
    snprintf(run, sizeof run, "%s/%s/out", test_dir, name);
    DIR *d = opendir(run);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, "step-", 5) || strstr(e->d_name, ".tmp")) continue;
        snprintf(path, sizeof path, "%s/%s", run, e->d_name);
        assert_ok(slm2_ckpt_verify(path, true, &err));
    }
    closedir(d);
}

static const char long_run[] = "--set train.accumulation=4 --set train.steps=400 --set schedule.cooldown_start=-1 --set ckpt.every=50";

/* SIGKILL of one rank in the middle of the steps. */
static void a_dead_rank_ends_the_run_by_name(void **state)
{
    (void)state;
    if (*skip_why) skip();
    struct slm2_buf text = {0};
    char wanted[64];
    must_run("undisturbed", 0, long_run);
    for (int i = 0; i < (full ? 6 : 2); i++) {
        int n = i % 2 ? 3 : 2, rank = i % 2 ? 0 : 1;
        double took = disturb("killed", n, long_run, rank, SIGKILL, 50 * (i + 1));
        if (took > 10) fail_msg("the run took %.1f s to end", took);
        errors_of("killed", &text);
        snprintf(wanted, sizeof wanted, "slm2: error: rank %d (process", rank);
        if (!strstr(text.v, wanted) || !strstr(text.v, "the same command goes on")) fail_msg("no word of rank %d: %s", rank, text.v);
        assert_null(strstr(strstr(text.v, wanted) + 1, "slm2: error:")); /* said once */
        assert_checkpoints_whole("killed");
        print_message("killed rank %d of %d: ended after %.2f s\n", rank, n, took);
    }
    must_run("killed", 2, long_run);
    assert_same_files("undisturbed", "killed", 400, false);
    slm2_buf_free(&text);
}

/* A stopped rank answers nobody: the others give up after dist.timeout_s. */
static void a_hanging_rank_ends_the_run_in_time(void **state)
{
    (void)state;
    if (*skip_why) skip();
    struct slm2_buf text = {0};
    char sets[512];
    snprintf(sets, sizeof sets, "%s --set dist.timeout_s=1", long_run);
    double took = disturb("hanging", 2, sets, 1, SIGSTOP, 50);
    if (took > 15) fail_msg("the run took %.1f s to end", took);
    errors_of("hanging", &text);
    assert_non_null(strstr(text.v, "rank 0 waited 1 s for the other ranks"));
    assert_checkpoints_whole("hanging");
    slm2_buf_free(&text);
}

/* SIGUSR2 to one rank: all stop after the same step with a checkpoint. */
static void one_rank_asked_stops_all(void **state)
{
    (void)state;
    if (*skip_why) skip();
    struct slm2_buf text = {0};
    disturb("asked", 2, long_run, 1, SIGUSR2, 50);
    errors_of("asked", &text);
    assert_non_null(strstr(text.v, "is saved, the same command goes on"));
    assert_checkpoints_whole("asked");
    if (full) must_run("asked", 4, long_run);
    slm2_buf_free(&text);
}

/* ---- */
static int start(void **state)
{
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0 || make_test_dir(state) != 0) return -1;
    for (int i = 0; i < 2; i++) *strrchr(program, '/') = 0; /* BUILD/tests/equal_mpi */
    strcat(program, "/slm2");
    if (system("command -v mpirun >/dev/null 2>&1") != 0) snprintf(skip_why, sizeof skip_why, "mpirun is not installed (openmpi-bin)");
    else if (run_ranks("probe", 2, "--set train.steps=1") != 0) {
        struct slm2_buf text = {0};
        errors_of("probe", &text);
        if (!strstr(text.v, "built without MPI")) fail_msg("two ranks do not start: %s", text.v);
        snprintf(skip_why, sizeof skip_why, "slm2 is built without MPI");
        slm2_buf_free(&text);
    }
    if (*skip_why) printf("skipped: %s\n", skip_why);
    return 0;
}

int main(int argc, char **argv)
{
    full = argc > 1 && !strcmp(argv[1], "full");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_give_the_same_bits),
        cmocka_unit_test(threads_buckets_and_recomputation_do_not_matter),
        cmocka_unit_test(resumed_with_other_ranks),
        cmocka_unit_test(bad_steps_are_the_same_on_all_ranks),
        cmocka_unit_test(a_dead_rank_ends_the_run_by_name),
        cmocka_unit_test(a_hanging_rank_ends_the_run_in_time),
        cmocka_unit_test(one_rank_asked_stops_all),
    };
    int n_failed = cmocka_run_group_tests(tests, start, remove_test_dir), n = (int)(sizeof tests / sizeof tests[0]);
    printf("%d passed, %d failed\n", n - n_failed, n_failed);
    return n_failed != 0;
}
