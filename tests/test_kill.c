/* test_kill.c - a pre-training run that is killed again and again ends with the same bits as one that was not.
 *   test_kill [--kills N] [--seed S]      `make kill-test KILLS=n SEED=s`
 * Each kill aims at one phase of the run in turn; its moment inside the phase is drawn from the seed: the n-th call of the phase
 * that touches a file (through shim.so; a write is torn in the middle), or so many microseconds behind the n-th line of the log. */
#include "disturb.h"

enum phase { START, STEP, VALIDATION, LEDGER, WRITE, RENAME, PRUNE, EXPORT, N_PHASE };
static const char *const phase_name[N_PHASE] = {"start", "step", "validation", "ledger", "write", "rename", "prune", "export"};
static const char *const phase_text[N_PHASE] = {"start-up", "training step", "validation", "ledger", "checkpoint written", "checkpoint renamed", "old checkpoint pruned", "model exported"};
enum { LAST_STEP = 20, VALID_EVERY = 8, KEEP = 2, PER_RUN = 10, MAX_MORE = 200 };

static int n_kills = 50;
static uint64_t seed = 1;

static uint64_t draw(uint64_t kill_no, uint64_t what, uint64_t n)
{
    return n ? slm2_rng_below(seed, SLM2_RNG_TEST, kill_no, what, (uint32_t)n) : 0;
}

/* ---- the undisturbed run, and what can be hit in it ------------------------------------------------------------------------- */
struct plan {
    struct slm2_buf want;        /* describe_run */
    int n_call[N_PHASE];
    int n_line;
    double start_s, step_s;
};

static void make_plan(struct plan *p)
{
    char run[PATH_MAX], line[PATH_MAX];
    struct child c = {.run = run, .shim = "trace any 0", .kill_after_us = -1};
    snprintf(run, sizeof run, "%s", in_dir("whole"));
    run_child(&c);
    if (!done(&c)) fail_msg("the undisturbed run failed with status %d: %s", c.status, c.err.v);
    *p = (struct plan){.n_line = count_lines(&c.err), .start_s = c.first_line_s, .step_s = (c.took_s - c.first_line_s) / (2 * LAST_STEP)};
    describe_run(run, LAST_STEP, &p->want);
    FILE *f = fopen(in_dir("shim.log"), "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        for (int i = 0; i < N_PHASE; i++)
            if (!strncmp(line, phase_name[i], strlen(phase_name[i])) && line[strlen(phase_name[i])] == ' ') p->n_call[i]++;
    fclose(f);
    static const enum phase by_call[] = {START, LEDGER, WRITE, RENAME, PRUNE, EXPORT};
    for (size_t i = 0; i < sizeof by_call / sizeof by_call[0]; i++) assert_true(p->n_call[by_call[i]] > 0);
    slm2_buf_free(&c.err);
}

/* ---- one kill --------------------------------------------------------------------------------------------------------------- */
static void aim(struct child *c, const struct plan *p, enum phase at, uint64_t no, char *shim, size_t cap)
{
    c->kill_after_us = -1;
    c->shim = NULL;
    bool by_time = at == STEP || at == VALIDATION || (at == START && draw(no, 1, 2));
    if (by_time) {
        double within_s = at == START ? p->start_s : p->step_s;
        c->kill_after_us = (long)(1e6 * within_s * slm2_rng_uniform(seed, SLM2_RNG_TEST, no, 2));
        /* line 1 is the first validation, then a line a step and one a validation */
        int k = 1 + (int)draw(no, 3, (uint64_t)(p->n_line - 1));
        if (at == VALIDATION) k = (int[]){0, 9, 18, 23}[draw(no, 3, 4)]; /* lines behind which one is computed */
        c->kill_line = at == START ? 0 : k;
        if (at == VALIDATION && k == 0) c->kill_after_us = (long)(1e6 * p->start_s * (0.7 + 0.3 * slm2_rng_uniform(seed, SLM2_RNG_TEST, no, 2)));
    } else {
        snprintf(shim, cap, "kill %s %llu", phase_name[at], 1 + (unsigned long long)draw(no, 3, (uint64_t)p->n_call[at]));
        c->shim = shim;
    }
}

/* Where the process was, by what it left: the shim's word, half-made folders, the last line of its log. */
static enum phase phase_at_death(const struct child *c)
{
    for (int i = 0; i < N_PHASE; i++)
        if (*c->report && !strncmp(c->report, phase_name[i], strlen(phase_name[i]))) return (enum phase)i;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3000s/final.tmp", c->run);
    if (slm2_path_exists(path)) return EXPORT;
    int n_step = 0;
    for (int i = 0; i <= LAST_STEP; i++) {
        snprintf(path, sizeof path, "%.3000s/step-%08d.tmp", c->run, i);
        if (slm2_path_exists(path)) return WRITE;
        snprintf(path, sizeof path, "%.3000s/step-%08d", c->run, i);
        n_step += slm2_path_exists(path);
    }
    if (n_step > KEEP) return PRUNE;
    if (!c->err.n) return START;
    size_t at = c->err.n - 1;
    while (at > 0 && c->err.v[at - 1] != '\n') at--;
    const char *line = c->err.v + at;
    long step = 0;
    if (sscanf(line, "pretrain: step %ld/", &step) == 1 && strchr(line, '/') && (step % VALID_EVERY == 0 || step == LAST_STEP)) return VALIDATION;
    return STEP;
}

static void take_count(void *user, int n_col, const char *const *text)
{
    if (n_col) *(long *)user = text[0] ? strtol(text[0], NULL, 10) : 0;
}

/* The rows of "PRAGMA integrity_check": "ok", or what is damaged, with a good status. */
static void take_text(void *user, int n_col, const char *const *text)
{
    struct slm2_buf *b = user;
    if (n_col) slm2_buf_printf(b, "%s\n", text[0] ? text[0] : "");
}

/* After each death: no checkpoint was lost, and the ledger opens and has every step up to the newest one. */
static void check_remains(const struct child *c, long before, int *n_wal)
{
    char path[PATH_MAX];
    struct slm2_err err;
    struct slm2_ledger *l;
    long step = sound_step(c->run), n = 0;
    if (step < before) fail_msg("killed in \"%s\": the newest sound checkpoint was step %ld, now %ld", c->report, before, step);
    if (step < 0) return;
    snprintf(path, sizeof path, "%.3000s/run.sqlite-wal", c->run);
    *n_wal += slm2_path_exists(path);
    path[strlen(path) - 4] = 0;
    assert_ok(slm2_ledger_open_read(&l, path, &err));
    char step_text[32];
    snprintf(step_text, sizeof step_text, "%ld", step);
    assert_ok(slm2_ledger_query(l, "SELECT count(*) FROM metric WHERE name = 'loss' AND step BETWEEN 1 AND CAST(?1 AS INTEGER)", step_text, take_count, &n, &err));
    struct slm2_buf sound = {0};
    assert_ok(slm2_ledger_query(l, "PRAGMA integrity_check", NULL, take_text, &sound, &err));
    if (!sound.v || strcmp(sound.v, "ok\n")) fail_msg("killed in \"%s\": the ledger is damaged: %s", c->report, sound.v ? sound.v : "no answer");
    slm2_buf_free(&sound);
    assert_ok(slm2_ledger_close(l, &err));
    if (n != step) fail_msg("killed in \"%s\": the ledger has %ld of the %ld steps of the checkpoint", c->report, n, step);
}

static void killed_runs_end_alike(void **state)
{
    (void)state;
    struct plan p;
    struct slm2_err err;
    int hit[N_PHASE] = {0}, n_killed = 0, n_run = 0, n_wal = 0, of_run = 0, n_start = 0;
    double began = slm2_now_s();
    char run[PATH_MAX], shim[64];
    make_plan(&p);
    snprintf(run, sizeof run, "%s", in_dir("killed"));
    long best = -1;
    int n_more = 0;
    for (uint64_t no = 0;; no++) {
        struct child c = {.run = run, .kill_after_us = -1};
        enum phase missed = START; /* a validation takes a millisecond: on a busy machine a kill behind a line may come too late for it */
        while (missed < N_PHASE && hit[missed]) missed++;
        bool more = n_killed < n_kills || (n_kills >= 50 && missed < N_PHASE && n_more < MAX_MORE);
        if (!more && of_run == 0) break;
        n_more += n_killed >= n_kills;
        /* in turn, the late phases with what the earlier kills left; the last start of a folder is left alone */
        if (more && of_run < PER_RUN) aim(&c, &p, n_killed < n_kills ? (enum phase)(no % N_PHASE) : missed, no, shim, sizeof shim);
        run_child(&c);
        n_start++;
        if (killed(&c)) {
            enum phase at = phase_at_death(&c);
            hit[at]++;
            n_killed++;
            of_run++;
            check_remains(&c, best, &n_wal);
            best = sound_step(run);
        } else if (done(&c)) {
            char why[64];
            snprintf(why, sizeof why, "seed %llu, run %d after %d kills", (unsigned long long)seed, n_run + 1, of_run);
            expect_same_run(run, LAST_STEP, &p.want, why);
            assert_ok(slm2_dir_remove(run, &err));
            n_run++;
            of_run = 0;
            best = -1;
        } else fail_msg("status %d after \"%s\": %s", c.status, c.report, c.err.v);
        slm2_buf_free(&c.err);
    }
    for (int i = 0; i < N_PHASE; i++) printf("  %-24s %4d kills\n", phase_text[i], hit[i]);
    printf("  %d kills, %d starts, %d runs with the bits of the undisturbed one, %d ledgers with a -wal to recover, seed %llu, %.1f s\n", n_killed, n_start, n_run, n_wal, (unsigned long long)seed,
           slm2_now_s() - began);
    for (int i = 0; i < N_PHASE; i++)
        if (n_kills >= 50 && !hit[i]) fail_msg("no kill hit the phase \"%s\"", phase_text[i]);
    assert_true(n_kills < 50 || n_wal > 0);
    slm2_buf_free(&p.want);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(killed_runs_end_alike, make_disturb_dir, remove_test_dir)};

int main(int argc, char **argv)
{
    find_programs(argv[0]);
    for (int i = 1; i + 1 < argc; i += 2) {
        char *end;
        long long v = strtoll(argv[i + 1], &end, 10);
        if (!*argv[i + 1] || *end || v < 0) return fprintf(stderr, "test_kill: %s wants a number, not \"%s\"\n", argv[i], argv[i + 1]), 2;
        if (!strcmp(argv[i], "--kills") && v < 10000000) n_kills = (int)v;
        else if (!strcmp(argv[i], "--seed")) seed = (uint64_t)v;
        else return fprintf(stderr, "usage: test_kill [--kills N] [--seed S]\n"), 2;
    }
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    printf("%d passed, %d failed\n", 1 - n_failed, n_failed);
    return n_failed != 0;
}
