/* disturb.h - runs `slm2 pretrain` on the data of train_data.h as a process of its own, disturbs it through shim.so or by a signal at a
 * chosen moment, and tells two runs apart by what must not differ: every byte of model and optimizer, every metric but the speed. */
#ifndef SLM2_TESTS_DISTURB_H
#define SLM2_TESTS_DISTURB_H
#include "train_data.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "train/ckpt.h"

static char program[PATH_MAX], shim_path[PATH_MAX];

/* BUILD/slm2 and BUILD/tests/shim.so for BUILD/tests/test_NAME.  Hundreds of small runs sync their files: in memory, where there is a place for that. */
static inline void find_programs(const char *argv0)
{
    if (!access("/dev/shm", W_OK | X_OK)) setenv("TMPDIR", "/dev/shm", 0);
    char self[PATH_MAX];
    if (!realpath(argv0, self)) snprintf(self, sizeof self, "%s", argv0);
    *strrchr(self, '/') = 0;
    snprintf(shim_path, sizeof shim_path, "%.4000s/shim.so", self);
    *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%.4000s/slm2", self);
}

/* The folder of train_data.h with more held-out text: a validation must last long enough to be hit. */
static inline int make_disturb_dir(void **state)
{
    int rc = make_test_dir(state);
    if (rc == 0) write_shard("a.val", 120, 1, 3);
    return rc;
}

struct child {
    const char *run;        /* folder of the run */
    const char *shim;       /* SLM2_SHIM; NULL: none */
    int kill_line;          /* SIGKILL when so many lines came on stderr ... */
    long kill_after_us;     /* ... and then so much time went by; negative: no such kill */
    int uid;                /* above 0: become that user first */
    long max_file_bytes;    /* above 0: RLIMIT_FSIZE */
    int status;             /* out, of waitpid */
    double took_s, first_line_s;
    struct slm2_buf err;    /* out: stderr */
    char report[256];       /* out: first line of the shim's log, "" when it did nothing */
};

static inline char **child_env(const struct child *c)
{
    static char text[5][PATH_MAX + 32];
    static char *env[8];
    int n = 0;
    snprintf(text[0], sizeof text[0], "OMP_WAIT_POLICY=passive"); /* also keeps the program from starting itself again */
    env[n++] = text[0];
    /* the address sanitizer wants to be the first library */
    snprintf(text[1], sizeof text[1], "ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0");
    env[n++] = text[1];
    if (c->shim) {
        snprintf(text[2], sizeof text[2], "LD_PRELOAD=%s", shim_path);
        snprintf(text[3], sizeof text[3], "SLM2_SHIM=%s", c->shim);
        snprintf(text[4], sizeof text[4], "SLM2_SHIM_LOG=%s/shim.log", test_dir);
        static char dir[PATH_MAX + 32];
        snprintf(dir, sizeof dir, "SLM2_SHIM_DIR=%s", c->run);
        env[n++] = text[2], env[n++] = text[3], env[n++] = text[4], env[n++] = dir;
    }
    env[n] = NULL;
    return env;
}

static inline int count_lines(const struct slm2_buf *b)
{
    int n = 0;
    for (size_t i = 0; i < b->n; i++) n += b->v[i] == '\n';
    return n;
}

/* Starts the program and waits for its end; the caller frees c->err. */
static inline void run_child(struct child *c)
{
    int pipes[2];
    char run[PATH_MAX + 8], log[PATH_MAX], conf[PATH_MAX];
    snprintf(conf, sizeof conf, "%s", in_dir("run.yml"));
    snprintf(run, sizeof run, "run=%s", c->run);
    snprintf(log, sizeof log, "%s/shim.log", test_dir);
    remove(log);
    c->err = (struct slm2_buf){0};
    slm2_buf_put(&c->err, "", 0);
    c->report[0] = 0;
    c->first_line_s = 0;
    if (pipe(pipes)) fail_msg("pipe: %s", strerror(errno));
    fcntl(pipes[0], F_SETFD, FD_CLOEXEC);
    fcntl(pipes[1], F_SETFD, FD_CLOEXEC);
    char **env = child_env(c);
    double start = slm2_now_s();
    pid_t pid = fork();
    if (pid < 0) fail_msg("fork: %s", strerror(errno));
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        dup2(pipes[1], 2);
        if (c->max_file_bytes > 0) {
            struct rlimit limit = {(rlim_t)c->max_file_bytes, (rlim_t)c->max_file_bytes};
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &limit);
        }
        if (c->uid > 0 && (setgid((gid_t)c->uid) || setuid((uid_t)c->uid))) _exit(126);
        execle(program, program, "pretrain", conf, "--set", run, "--set", "valid.rows=1000", "--set", "log.every=1", (char *)NULL, env);
        _exit(127);
    }
    close(pipes[1]);
    bool to_kill = c->kill_after_us >= 0;
    char part[4096];
    for (;;) {
        if (to_kill && count_lines(&c->err) >= c->kill_line) {
            nanosleep(&(struct timespec){.tv_sec = c->kill_after_us / 1000000, .tv_nsec = c->kill_after_us % 1000000 * 1000}, NULL);
            kill(pid, SIGKILL); /* not yet waited for: the number is still this process */
            to_kill = false;
        }
        ssize_t n = read(pipes[0], part, sizeof part);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        slm2_buf_put(&c->err, part, (size_t)n);
        if (c->first_line_s <= 0) c->first_line_s = slm2_now_s() - start;
    }
    close(pipes[0]);
    while (waitpid(pid, &c->status, 0) < 0 && errno == EINTR) {}
    c->took_s = slm2_now_s() - start;
    FILE *f = fopen(log, "re");
    if (!f) return;
    if (fgets(c->report, sizeof c->report, f)) c->report[strcspn(c->report, "\n")] = 0;
    fclose(f);
}

static inline bool killed(const struct child *c) { return WIFSIGNALED(c->status) && WTERMSIG(c->status) == SIGKILL; }
static inline bool done(const struct child *c) { return WIFEXITED(c->status) && WEXITSTATUS(c->status) == 0; }

/* ---- what a run is -------------------------------------------------------------------------------------------------------- */
static inline void put_row(void *user, int n_col, const char *const *text)
{
    for (int i = 0; i < n_col; i++) slm2_buf_printf(user, "%s%s", i ? " " : "", text[i] ? text[i] : "NULL");
    slm2_buf_puts(user, "\n");
}

/* Hashes of the finished model and of the last checkpoint, its state, and what the ledger says of steps, sources and results. */
static inline void describe_run(const char *run, int last_step, struct slm2_buf *out)
{
    static const char *const files[] = {"final/config.json", "final/model.safetensors", "step/model.safetensors", "step/optimizer/exp_avg.safetensors", "step/optimizer/exp_avg_sq.safetensors"};
    char path[PATH_MAX], hex[65], ckpt[PATH_MAX];
    struct slm2_err err;
    struct slm2_ledger *l;
    json_t *state;
    snprintf(ckpt, sizeof ckpt, "%s/step-%08d", run, last_step);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (!strncmp(files[i], "step/", 5)) snprintf(path, sizeof path, "%.3000s/%s", ckpt, files[i] + 5);
        else snprintf(path, sizeof path, "%.3000s/%s", run, files[i]);
        assert_ok(slm2_sha256_file(path, hex, &err));
        slm2_buf_printf(out, "%s %s\n", files[i], hex);
    }
    assert_ok(slm2_ckpt_state(ckpt, &state, &err));
    json_object_del(state, "settings"); /* they name the folder */
    slm2_json_dump(state, out);
    json_decref(state);
    snprintf(path, sizeof path, "%.3000s/run.sqlite", run);
    assert_ok(slm2_ledger_open_read(&l, path, &err));
    assert_ok(slm2_ledger_query(l, "SELECT name, step, printf('%!.20g', value) FROM metric WHERE name <> 'tokens_s' ORDER BY name, step", NULL, put_row, out, &err));
    assert_ok(slm2_ledger_query(l, "SELECT name, weight, planned, drawn FROM source ORDER BY name", NULL, put_row, out, &err));
    assert_ok(slm2_ledger_query(l, "SELECT key, printf('%!.20g', value) FROM figure WHERE key IN ('steps', 'tokens', 'loss', 'loss_first', 'valid_loss', 'valid_loss_first') ORDER BY key", NULL, put_row, out, &err));
    assert_ok(slm2_ledger_close(l, &err));
    assert_ok(slm2_buf_check(out, &err));
}

static inline void expect_same_run(const char *run, int last_step, const struct slm2_buf *want, const char *why)
{
    struct slm2_buf got = {0};
    describe_run(run, last_step, &got);
    if (got.n != want->n || memcmp(got.v, want->v, got.n)) {
        size_t i = 0;
        while (i < got.n && i < want->n && got.v[i] == want->v[i]) i++;
        while (i > 0 && got.v[i - 1] != '\n') i--;
        fail_msg("%s: %s differs from the undisturbed run: \"%.*s\", want \"%.*s\"", why, run, (int)strcspn(got.v + i, "\n"), got.v + i, (int)strcspn(want->v + i, "\n"), want->v + i);
    }
    slm2_buf_free(&got);
}

/* Step of the newest sound checkpoint, -1 without one. */
static inline long sound_step(const char *run)
{
    char path[PATH_MAX];
    struct slm2_err err;
    assert_ok(slm2_ckpt_find(run, path, &err));
    return *path ? strtol(strrchr(path, '-') + 1, NULL, 10) : -1;
}
#endif
