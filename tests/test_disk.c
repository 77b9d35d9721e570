/* test_disk.c - what a pre-training run does on a disk that is full, broken or read-only: a message that names file and remedy, the last
 * good checkpoint kept, and the bits of an undisturbed run once the trouble is over.
 *   test_disk [--faults N] [--seed S]     N calls that write are made to fail, drawn from the seed; "--faults 0": every one in turn */
#include <sys/mount.h>
#include <sys/stat.h>

#include "disturb.h"

enum { LAST_STEP = 20, NOBODY = 65534 };
static int n_faults = 24;
static uint64_t seed = 1;
static struct slm2_buf whole;       /* describe_run of the undisturbed run */
static struct { char (*v)[256]; int n; } trace; /* lines "PHASE CALL PATH" */

/* The undisturbed run, and each of its calls that write. */
static int make_whole(void **state)
{
    char run[PATH_MAX], line[256];
    if (make_disturb_dir(state)) return -1;
    chmod(test_dir, 0755); /* another user runs the program in one of the tests */
    snprintf(run, sizeof run, "%s", in_dir("whole"));
    struct child c = {.run = run, .shim = "trace any 0", .kill_after_us = -1};
    run_child(&c);
    if (!done(&c)) return fprintf(stderr, "the undisturbed run failed: %s\n", c.err.v), -1;
    slm2_buf_free(&c.err);
    describe_run(run, LAST_STEP, &whole);
    FILE *f = fopen(in_dir("shim.log"), "re");
    while (f && fgets(line, sizeof line, f)) {
        trace.v = realloc(trace.v, (size_t)(trace.n + 1) * sizeof *trace.v);
        line[strcspn(line, "\n")] = 0;
        memcpy(trace.v[trace.n++], line, sizeof line);
    }
    return f && trace.n > 0 ? fclose(f) : -1;
}

static int free_whole(void **state)
{
    free(trace.v);
    slm2_buf_free(&whole);
    return remove_test_dir(state);
}

/* The same command again, now undisturbed: it ends well and alike. */
static void expect_recovery(const char *run, const char *why)
{
    struct slm2_err err;
    struct child c = {.run = run, .kill_after_us = -1};
    run_child(&c);
    if (!done(&c)) fail_msg("%s: the next start failed too: %s", why, c.err.v);
    expect_same_run(run, LAST_STEP, &whole, why);
    slm2_buf_free(&c.err);
    assert_ok(slm2_dir_remove(run, &err));
}

static const char *error_line(const struct child *c)
{
    const char *at = c->err.v ? strstr(c->err.v, "slm2: error: ") : NULL;
    return at ? at : "";
}

static void expect_error(const struct child *c, const char *file, const char *remedy, const char *why)
{
    const char *line = error_line(c);
    if (!WIFEXITED(c->status) || WEXITSTATUS(c->status) != 1) fail_msg("%s: status %d, want an exit with 1; stderr: %s", why, c->status, c->err.v);
    if (!strstr(line, file)) fail_msg("%s: the error does not name %s: %s", why, file, *line ? line : c->err.v);
    if (!strstr(line, remedy)) fail_msg("%s: the error does not say \"%s\": %s", why, remedy, line);
}

/* ---- the order of writes ---------------------------------------------------------------------------------------------------- */
static bool is_call(int i, const char *phase, const char *call, const char *path)
{
    char want[320];
    snprintf(want, sizeof want, "%s %s %s", phase, call, path);
    return !strncmp(trace.v[i], want, strlen(want));
}

/* A checkpoint gets its name when each of its files is on the disk; an older one goes when that name is. */
static void old_goes_when_new_is_durable(void **state)
{
    (void)state;
    int n_renamed = 0, n_pruned = 0;
    for (int i = 0; i < trace.n; i++) {
        if (is_call(i, "rename", "rename", "step-")) {
            char tmp[64];
            snprintf(tmp, sizeof tmp, "%s.tmp", strrchr(trace.v[i], ' ') + 1);
            int n_file = 0, manifest = -1, last = -1;
            for (int k = 0; k < i; k++) { /* each file written aside in it: fsync between its last write and its renaming */
                char call[16], path[200];
                if (sscanf(trace.v[k], "write %15s %199s", call, path) != 2 || strncmp(path, tmp, strlen(tmp)) || strcmp(call, "rename")) continue;
                bool synced = false, written = false;
                char aside[256];
                snprintf(aside, sizeof aside, "%s.tmp", path);
                for (int j = k - 1; j >= 0 && !written; j--) {
                    synced = synced || is_call(j, "write", "fsync", aside);
                    written = is_call(j, "write", "write", aside);
                }
                if (!synced || !written) fail_msg("%s got its name before it was on the disk", path);
                if (strstr(path, "MANIFEST")) manifest = k;
                last = k;
                n_file++;
            }
            assert_true(n_file >= 6);
            assert_int_equal(manifest, last);
            assert_true(i + 1 < trace.n && !strcmp(trace.v[i + 1], "rename fsync "));
            n_renamed++;
        }
        if (is_call(i, "prune", "unlink", "step-")) {
            assert_true(n_renamed >= 3); /* two are kept */
            n_pruned++;
        }
    }
    assert_int_equal(n_renamed, 4);
    assert_true(n_pruned > 0);
}

/* ---- every call fails ---------------------------------------------------------------------------------------------------------- */
static void each_call_may_fail(void **state)
{
    (void)state;
    char run[PATH_MAX], shim[64], why[256];
    int n = n_faults ? n_faults : 2 * trace.n, n_survived = 0;
    double began = slm2_now_s();
    struct slm2_err err;
    snprintf(run, sizeof run, "%s", in_dir("fault"));
    for (int i = 0; i < n; i++) {
        int at = n_faults ? (int)slm2_rng_below(seed, SLM2_RNG_TEST, (uint64_t)i, 0, (uint64_t)trace.n) : i / 2;
        bool full = i % 2; /* a full disk stays full; a broken block is one call's */
        int sound = -1;
        for (int k = 0; k < at; k++) sound += is_call(k, "rename", "fsync", "");
        snprintf(shim, sizeof shim, "%s any %d %d", full ? "full" : "fail", at + 1, full ? ENOSPC : EIO);
        struct child c = {.run = run, .shim = shim, .kill_after_us = -1};
        run_child(&c);
        snprintf(why, sizeof why, "%s at \"%.150s\"", full ? "no space" : "input/output error", c.report);
        if (!*c.report) snprintf(why, sizeof why, "call %d was not reached", at + 1);
        if (done(&c)) { /* what failed was not needed: removing a leftover, or an fsync that SQLite repeats */
            expect_same_run(run, LAST_STEP, &whole, why);
            n_survived++;
        } else {
            /* SQLite does not keep errno when it cannot create a file */
            expect_error(&c, run, !full ? "(" : strstr(c.report, "ledger create") ? "free space" : "make room", why);
            if (sound >= 0 && sound_step(run) < 0) fail_msg("%s: no sound checkpoint is left of %d", why, sound + 1);
        }
        slm2_buf_free(&c.err);
        if (slm2_path_exists(run)) expect_recovery(run, why);
        slm2_dir_remove(run, &err);
    }
    printf("  %d failures over %d calls, %d without harm, %.1f s\n", n, trace.n, n_survived, slm2_now_s() - began);
    assert_true(n_survived < n);
}

/* ---- real disks ------------------------------------------------------------------------------------------------------------------ */
static void full_disk(void **state)
{
    (void)state;
    char disk[PATH_MAX], run[PATH_MAX];
    snprintf(disk, sizeof disk, "%s", in_dir("disk"));
    snprintf(run, sizeof run, "%.4000s/run", disk);
    assert_int_equal(mkdir(disk, 0755), 0);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=704k")) {
        printf("skipped: a small tmpfs cannot be mounted here (%s); the other tests of full disks still ran\n", strerror(errno));
        skip();
    }
    struct child c = {.run = run, .kill_after_us = -1};
    run_child(&c);
    bool kept = sound_step(run) >= 5;
    bool failed = !done(&c);
    if (failed) expect_error(&c, run, "make room", "full tmpfs");
    printf("  full disk: %s", error_line(&c));
    slm2_buf_free(&c.err);
    int remounted = mount("tmpfs", disk, "tmpfs", MS_REMOUNT, "size=8m");
    if (failed && kept && !remounted) expect_recovery(run, "full tmpfs, made larger");
    umount(disk);
    assert_true(failed);
    assert_true(kept);
    assert_int_equal(remounted, 0);
}

static void file_size_limit(void **state)
{
    (void)state;
    char run[PATH_MAX];
    snprintf(run, sizeof run, "%s", in_dir("limited"));
    struct child c = {.run = run, .kill_after_us = -1, .max_file_bytes = 160 << 10}; /* the ledger's log of changes grows over it */
    run_child(&c);
    expect_error(&c, run, "(", "ulimit -f");
    slm2_buf_free(&c.err);
    assert_true(sound_step(run) >= 5);
    expect_recovery(run, "ulimit -f");
    c.max_file_bytes = 40 << 10; /* no checkpoint fits */
    run_child(&c);
    expect_error(&c, run, "ulimit -f", "ulimit -f, small");
    slm2_buf_free(&c.err);
    expect_recovery(run, "ulimit -f, small");
}

static void read_only_folder(void **state)
{
    (void)state;
    char closed[PATH_MAX], run[PATH_MAX];
    int uid = geteuid() ? 0 : NOBODY; /* permissions do not hold root back */
    snprintf(closed, sizeof closed, "%s", in_dir("closed"));
    snprintf(run, sizeof run, "%.4000s/run", closed);
    assert_int_equal(mkdir(closed, 0555), 0);
    struct child c = {.run = run, .kill_after_us = -1, .uid = uid};
    run_child(&c);
    if (WIFEXITED(c.status) && WEXITSTATUS(c.status) >= 126) {
        printf("skipped: user %d cannot run %s\n", uid, program);
        slm2_buf_free(&c.err);
        skip();
    }
    expect_error(&c, run, "permissions", "no permission to make the folder");
    slm2_buf_free(&c.err);

    /* a run that was stopped, then its folder was closed */
    assert_int_equal(chmod(closed, 0755), 0);
    struct child half = {.run = run, .kill_line = 15, .kill_after_us = 0};
    run_child(&half);
    slm2_buf_free(&half.err);
    long step = sound_step(run);
    assert_true(step > 0);
    assert_int_equal(chmod(run, 0555), 0);
    run_child(&c);
    expect_error(&c, run, "permissions", "a folder that was closed");
    slm2_buf_free(&c.err);
    assert_int_equal(sound_step(run), step);
    assert_int_equal(chmod(run, 0755), 0);
    expect_recovery(run, "a folder that was closed and opened");
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(old_goes_when_new_is_durable), cmocka_unit_test(each_call_may_fail), cmocka_unit_test(full_disk), cmocka_unit_test(file_size_limit),
                                          cmocka_unit_test(read_only_folder)};

int main(int argc, char **argv)
{
    find_programs(argv[0]);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--faults")) n_faults = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--seed")) seed = strtoull(argv[i + 1], NULL, 10);
        else return fprintf(stderr, "usage: test_disk [--faults N] [--seed S]\n"), 2;
    }
    int n = (int)(sizeof tests / sizeof tests[0]), n_failed = cmocka_run_group_tests(tests, make_whole, free_whole);
    printf("%d passed, %d failed\n", n - n_failed, n_failed);
    return n_failed != 0;
}
