/* equal_train.c - runs that must give the same bits: undisturbed, resumed, resumed from an older checkpoint behind a damaged one, on 1, 2
 * and 3 threads, with recomputation, with weights by layer, with bf16 moments; and runs that must not, so that equality means something. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "train_data.h"

/* SHA-256 over all files of weights and optimizer of a run's checkpoint of that step. */
static void fingerprint(const char *run, int step, bool bf16, char hex[65])
{
    static const char *const files[] = {"model.safetensors", "optimizer/exp_avg.safetensors", "optimizer/exp_avg_sq.safetensors", "optimizer/master.safetensors"};
    struct slm2_err err;
    char path[1024], all[65 * 4] = "";
    for (int i = 0; i < (bf16 ? 4 : 3); i++) {
        snprintf(path, sizeof path, "%s/step-%08d/%s", in_dir(run), step, files[i]);
        assert_ok(slm2_sha256_file(path, all + 64 * i, &err));
    }
    slm2_sha256_hex(all, strlen(all), hex);
}

static void assert_same_run(const char *a, const char *b, int step, bool bf16)
{
    char x[65], y[65];
    fingerprint(a, step, bf16, x);
    fingerprint(b, step, bf16, y);
    assert_string_equal(x, y);
}

/* 20 = 10 + resume + 10, and 20 from a run cut at 13 whose last checkpoint is damaged: what lies behind step 10 is done again. */
static void resumed_equals_undisturbed(void **state)
{
    (void)state;
    static const char *const precisions[] = {"train.precision=fp32", "train.precision=bf16"};
    struct slm2_err err;
    for (int p = 0; p < 2; p++) {
        struct slm2_train_result whole, part;
        const char *a = p ? "whole-bf16" : "whole", *b = p ? "halves-bf16" : "halves";
        assert_ok(run_with(a, &whole, &err, precisions[p], NULL, NULL, NULL));
        assert_int_equal(whole.step, 20);
        assert_true(whole.loss < whole.loss_first && whole.metric < whole.metric_before);
        assert_ok(run_with(b, &part, &err, precisions[p], "train.steps=10", NULL, NULL));
        assert_int_equal(part.step, 10);
        assert_ok(run_with(b, &part, &err, precisions[p], "resume=require", NULL, NULL));
        assert_same_run(a, b, 20, p);
        assert_true(part.loss == whole.loss && part.metric == whole.metric && part.loss_first == whole.loss_first && part.n_tok == whole.n_tok);

        /* the newest complete checkpoint is that of step 10 */
        struct slm2_series x, y;
        struct slm2_ledger *l;
        const char *c = p ? "killed-bf16" : "killed";
        assert_ok(run_with(c, &part, &err, precisions[p], "train.steps=13", NULL, NULL));
        char last[1024];
        snprintf(last, sizeof last, "%s/step-00000013/model.safetensors", in_dir(c));
        assert_int_equal(truncate(last, 100), 0);
        assert_ok(run_with(c, &part, &err, precisions[p], NULL, NULL, NULL));
        assert_same_run(a, c, 20, p);
        /* and the record is that of one run */
        assert_ok(slm2_ledger_open_read(&l, whole.ledger, &err));
        assert_ok(slm2_ledger_series(l, "loss", &x, &err));
        assert_ok(slm2_ledger_close(l, &err));
        assert_ok(slm2_ledger_open_read(&l, part.ledger, &err));
        assert_ok(slm2_ledger_series(l, "loss", &y, &err));
        assert_ok(slm2_ledger_close(l, &err));
        assert_int_equal(x.n, 20);
        assert_int_equal(y.n, 20);
        assert_memory_equal(x.value, y.value, 20 * sizeof *x.value);
        slm2_series_free(&x);
        slm2_series_free(&y);
    }
}

static void threads_and_recomputation_do_not_matter(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r;
    static const char *const precisions[] = {"train.precision=fp32", "train.precision=bf16"};
    for (int p = 0; p < 2; p++) {
        const char *steps = "train.steps=6", *names[] = {"t1", "t2", "t3", "recompute"};
        assert_ok(run_with("t1", &r, &err, precisions[p], steps, "resume=fresh", "threads=1"));
        assert_ok(run_with("t2", &r, &err, precisions[p], steps, "resume=fresh", "threads=2"));
        assert_ok(run_with("t3", &r, &err, precisions[p], steps, "resume=fresh", "threads=3"));
        assert_ok(run_with("recompute", &r, &err, precisions[p], steps, "resume=fresh", "train.recompute=true"));
        for (int i = 1; i < 4; i++) assert_same_run("t1", names[i], 6, p);
    }
}

/* Weights of one layer at a time are the same weights; the master weights of a run go on in a run of the other kind. */
static void layer_by_layer_is_the_same(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r;
    static const char *const more[] = {"train.recompute=false", "train.recompute=true"};
    assert_ok(run_with("all-layers", &r, &err, "train.precision=bf16", NULL, NULL, NULL));
    size_t bytes = r.bytes;
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "by-layer-recomputed" : "by-layer";
        assert_ok(run_with(name, &r, &err, "train.precision=bf16", "train.by_layer=true", more[i], NULL));
        assert_true(r.bytes < bytes);
        assert_same_run("all-layers", name, 20, true);
    }
    assert_ok(run_with("by-turns", &r, &err, "train.precision=bf16", "train.by_layer=true", "train.steps=10", NULL));
    assert_ok(run_with("by-turns", &r, &err, "train.precision=bf16", NULL, NULL, NULL));
    assert_same_run("all-layers", "by-turns", 20, true);
    assert_int_equal(run_with("by-layer-fp32", &r, &err, "train.by_layer=true", NULL, NULL, NULL), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "precision bf16"));
}

/* bf16 moments: other bits than fp32 ones, about the same loss, and all the equalities. */
static void bf16_moments_are_exact_too(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result full, half, part;
    const char *moments = "optim.moments=bf16", *precision = "train.precision=bf16";
    assert_ok(run_with("full-moments", &full, &err, precision, NULL, NULL, NULL));
    assert_ok(run_with("half-moments", &half, &err, precision, moments, NULL, NULL));
    assert_true(half.loss != full.loss);
    if (!(fabs(half.loss / full.loss - 1) < 0.02)) fail_msg("loss %g with bf16 moments, %g with fp32 ones", half.loss, full.loss);
    assert_ok(run_with("half-threads", &part, &err, precision, moments, "threads=3", "train.by_layer=true"));
    assert_same_run("half-moments", "half-threads", 20, true);
    assert_ok(run_with("half-resumed", &part, &err, precision, moments, "train.steps=10", NULL));
    assert_ok(run_with("half-resumed", &part, &err, precision, moments, "resume=require", NULL));
    assert_same_run("half-moments", "half-resumed", 20, true);
}

static void other_settings_give_other_bits(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r;
    char a[65], b[65];
    const char *steps = "train.steps=4";
    assert_ok(run_with("base", &r, &err, steps, NULL, NULL, NULL));
    fingerprint("base", 4, false, a);
    const char *other[] = {"seed=8", "schedule.lr_peak=9e-3", "train.loss=masked", "optim.weight_decay=0", "optim.max_grad_norm=0.01"};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        assert_ok(run_with("other", &r, &err, steps, "resume=fresh", other[i], NULL));
        fingerprint("other", 4, false, b);
        assert_string_not_equal(a, b);
    }
}

/* SIGUSR1 at step 8 of a run without cooldown of its own: the cooldown is kept over a resume and ends the run at 14. */
static void cooldown_by_signal_survives_a_resume(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r;
    volatile sig_atomic_t flag = 0;
    const char *none = "schedule.cooldown_start=-1";
    char run[3][600];
    double lr[2][14];
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "cool-resumed" : "cool";
        snprintf(run[i], sizeof run[i], "run=%s", in_dir(name));
        assert_ok(run_with(name, &r, &err, none, "train.steps=8", NULL, NULL));
        struct slm2_pretrain_opts o;
        const char *sets[] = {run[i], none};
        assert_ok(slm2_pretrain_settings(&o, in_dir("run.yml"), sets, 2, &err));
        flag = 1;
        o.cooldown = &flag;
        if (i == 0) {
            assert_ok(slm2_pretrain_run(&o, "test", &r, &err));
        } else { /* asked to stop at the same moment: the next start finds the flag still up */
            volatile sig_atomic_t stop = 1;
            o.stop = &stop;
            assert_int_equal(slm2_pretrain_run(&o, "test", &r, &err), SLM2_ESTOP);
            assert_int_equal(r.step, 8);
            o.stop = NULL;
            assert_ok(slm2_pretrain_run(&o, "test", &r, &err));
        }
        slm2_conf_free(slm2_pretrain_table, &o);
        assert_int_equal(r.step, 14);
        struct slm2_ledger *l;
        struct slm2_series s;
        assert_ok(slm2_ledger_open_read(&l, r.ledger, &err));
        assert_ok(slm2_ledger_series(l, "lr", &s, &err));
        assert_ok(slm2_ledger_close(l, &err));
        assert_int_equal(s.n, 14);
        memcpy(lr[i], s.value, sizeof lr[i]);
        slm2_series_free(&s);
    }
    assert_same_run("cool", "cool-resumed", 14, false);
    for (int s = 8; s < 14; s++) assert_true(fabs(lr[0][s] - lr[0][8] * (14 - s) / 6) < 1e-15);
    /* a state that says so is believed: go on from a checkpoint inside the cooldown */
    assert_ok(slm2_dir_remove(in_dir("cool/step-00000014"), &err));
    assert_ok(run_with("cool", &r, &err, none, NULL, NULL, NULL));
    assert_int_equal(r.step, 14);
    assert_same_run("cool", "cool-resumed", 14, false);
}

/* Events of a kind in a run's ledger. */
static void take_int(void *user, int n_col, const char *const *text) { *(int *)user = n_col && text[0] ? atoi(text[0]) : -1; }
static int events(const char *path, const char *kind)
{
    struct slm2_ledger *l;
    struct slm2_err err;
    int n = -1;
    assert_ok(slm2_ledger_open_read(&l, path, &err));
    assert_ok(slm2_ledger_query(l, "SELECT count(*) FROM event WHERE kind = ?1", kind, take_int, &n, &err));
    assert_ok(slm2_ledger_close(l, &err));
    return n;
}

/* A run with any number of settings; the list ends with NULL. */
static slm2_status run_list(const char *name, struct slm2_train_result *res, struct slm2_err *err, const char *const *more)
{
    char run[600];
    const char *sets[12] = {run};
    int n = 1;
    snprintf(run, sizeof run, "run=%s", in_dir(name));
    while (*more) sets[n++] = *more++;
    return slm2_pretrain(in_dir("run.yml"), sets, n, res, err);
}
#define RUN(name, res, ...) run_list(name, res, &err, (const char *const[]){__VA_ARGS__, NULL})

/* Bad steps are skipped or rolled back, and a run that was stopped at 7 (behind the regular checkpoint 5, with one to keep) does as one that was not. */
static void bad_steps_are_part_of_the_state(void **state)
{
    (void)state;
    static const char *const actions[] = {"skip", "rollback"}, *const limits[] = {"spike.max_norm=1.11", "spike.sigma=0.5"};
    const char *four = "train.accumulation=4", *one = "ckpt.keep=1", *window = "spike.window=3", *fresh = "resume=fresh";
    struct slm2_err err;
    struct slm2_train_result r, cut;
    char plain[65], with[65], action[64];
    assert_ok(RUN("plain", &r, four));
    fingerprint("plain", 20, false, plain);
    for (int i = 0; i < 4; i++) {
        const char *limit = limits[i / 2];
        snprintf(action, sizeof action, "spike.on_spike=%s", actions[i % 2]);
        assert_ok(RUN("bad", &r, four, one, window, fresh, limit, action));
        assert_int_equal(r.step, 20);
        assert_true(r.n_tok > 20 * 4 * 3 * 40); /* rows without an update */
        fingerprint("bad", 20, false, with);
        assert_string_not_equal(plain, with);
        if (!events(r.ledger, actions[i % 2])) fail_msg("%s %s: no event", limit, action);
        assert_ok(slm2_dir_remove(in_dir("cut"), &err));
        assert_ok(RUN("cut", &cut, four, one, window, limit, action, "train.steps=7"));
        assert_ok(RUN("cut", &cut, four, one, window, limit, action, "resume=require"));
        assert_same_run("bad", "cut", 20, false);
        assert_int_equal(cut.n_tok, r.n_tok);
    }
    /* stop names step and rows; a limit ends what would go on for ever */
    assert_int_equal(RUN("bad", &r, four, "spike.max_norm=1.11", "spike.on_spike=stop", fresh), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "rows 12 to 23: gradient norm"));
    assert_int_equal(RUN("bad", &r, "spike.max_norm=1e-9", "spike.on_spike=rollback", "spike.limit=3", fresh), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "3 steps were bad before it, which is spike.limit"));
    assert_int_equal(RUN("bad", &r, "optim.weight_decay=100", "schedule.lr_peak=100", "schedule.lr_min=100", "schedule.n_warmup=0", "spike.on_nan=skip", "spike.limit=2", "valid.every=0", fresh), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "not both finite; 2 steps were bad before it"));
    assert_int_equal(RUN("bad", &r, "spike.on_nan=rollback", "ckpt.every=0", fresh), SLM2_EUSAGE);
}

/* The step with the largest norm among those that begin neither at a regular checkpoint nor before the first; "spike.max_norm=..." just below makes it a
 * spike, and few others. */
static int worst_step(const char *ledger, char set[64])
{
    struct slm2_ledger *l;
    struct slm2_series s;
    struct slm2_err err;
    int worst = 7;
    assert_ok(slm2_ledger_open_read(&l, ledger, &err));
    assert_ok(slm2_ledger_series(l, "grad_norm", &s, &err));
    assert_ok(slm2_ledger_close(l, &err));
    assert_int_equal(s.n, 20);
    for (int step = 7; step < 20; step++)
        if (step % 5 != 1 && s.value[step - 1] > s.value[worst - 1]) worst = step;
    snprintf(set, 64, "spike.max_norm=%.9g", s.value[worst - 1] * 0.9999);
    slm2_series_free(&s);
    return worst;
}

/* The stop flag goes up when a rollback is told of, `n_stop` times. */
static volatile sig_atomic_t stop_flag;
static int n_stop;
static void stop_at_rollback(enum slm2_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == SLM2_WARN && strstr(text, "rolls back") && n_stop > 0) stop_flag = 1, n_stop--;
}

/* Rollbacks of a run that has a newer checkpoint than the regular ones: without stops and asked to stop right after each. */
static void a_rollback_abandons_newer_checkpoints(void **state)
{
    (void)state;
    static const char *const action = "spike.on_spike=rollback", *const one = "ckpt.keep=1", *const none = "schedule.cooldown_start=-1";
    struct slm2_err err;
    struct slm2_train_result whole, r;
    char run[600], spike[64], steps[64];
    n_stop = 0;
    assert_ok(RUN("norms", &r, none));
    snprintf(steps, sizeof steps, "train.steps=%d", worst_step(r.ledger, spike) - 1);
    for (int i = 0; i < 2; i++) assert_ok(RUN(i ? "abandons-cut" : "abandons", &r, none, one, steps, action));
    assert_ok(RUN("abandons", &whole, none, one, action, spike));
    assert_true(events(whole.ledger, "rollback") > 0);
    struct slm2_pretrain_opts o;
    snprintf(run, sizeof run, "run=%s", in_dir("abandons-cut"));
    const char *sets[] = {run, none, one, action, spike};
    assert_ok(slm2_pretrain_settings(&o, in_dir("run.yml"), sets, 5, &err));
    o.stop = &stop_flag;
    slm2_log_sink(stop_at_rollback, NULL);
    int n_cut = 0;
    slm2_status st;
    do {
        stop_flag = 0;
        n_stop = 1;
        st = slm2_pretrain_run(&o, "test", &r, &err);
        if (st != SLM2_ESTOP) break;
        n_cut++;
        assert_int_equal(r.step % 5, 0);
        char newest[SLM2_PATH_MAX];
        assert_ok(slm2_ckpt_find(in_dir("abandons-cut"), newest, &err));
        assert_string_equal(newest, r.ckpt_dir);
        assert_ok(slm2_ckpt_newest(in_dir("abandons-cut"), newest, &err));
        assert_string_equal(newest, r.ckpt_dir);
    } while (n_cut < 100);
    slm2_log_sink(NULL, NULL);
    assert_int_equal(st, SLM2_OK);
    assert_int_equal(n_cut, events(whole.ledger, "rollback"));
    assert_same_run("abandons", "abandons-cut", 20, false);
    assert_int_equal(whole.n_tok, r.n_tok);
    slm2_conf_free(slm2_pretrain_table, &o);
}

/* SIGUSR1, then a rollback to a checkpoint from before it: the cooldown goes from and to the same steps all the same. */
static void cooldown_by_signal_survives_a_rollback(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r;
    volatile sig_atomic_t flag = 1;
    char run[600], spike[64], steps[64];
    const char *none = "schedule.cooldown_start=-1";
    assert_ok(RUN("norms", &r, none, "resume=fresh"));
    int start = worst_step(r.ledger, spike) - 1; /* the first step of the cooldown is the spike */
    snprintf(steps, sizeof steps, "train.steps=%d", start);
    assert_ok(RUN("cool-back", &r, none, steps));
    snprintf(run, sizeof run, "run=%s", in_dir("cool-back"));
    const char *sets[] = {run, none, "spike.on_spike=rollback", spike};
    struct slm2_pretrain_opts o;
    assert_ok(slm2_pretrain_settings(&o, in_dir("run.yml"), sets, 4, &err));
    o.cooldown = &flag;
    assert_ok(slm2_pretrain_run(&o, "test", &r, &err));
    slm2_conf_free(slm2_pretrain_table, &o);
    assert_true(events(r.ledger, "rollback") > 0);
    assert_int_equal(events(r.ledger, "cooldown"), 1);
    assert_int_equal(r.step, start + 6);
    struct slm2_ledger *l;
    struct slm2_series s;
    assert_ok(slm2_ledger_open_read(&l, r.ledger, &err));
    assert_ok(slm2_ledger_series(l, "lr", &s, &err));
    assert_ok(slm2_ledger_close(l, &err));
    assert_int_equal(s.n, start + 6);
    assert_true(s.value[start - 1] > s.value[start] && s.value[start - 1] < s.value[start] * 1.2); /* of the run without a cooldown */
    for (int i = 0; i < 6; i++) assert_true(fabs(s.value[start + i] - s.value[start] * (6 - i) / 6) < 1e-15);
    slm2_series_free(&s);
}

/* A branch into another folder from step 10 with a cooldown of 6 = a run whose settings had that cooldown from the start; also when it is resumed. */
static void cooldown_branch_equals_a_run_configured_so(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r;
    char from[1100];
    const char *endless = "schedule.cooldown_start=-1", *keep = "ckpt.keep=0";
    assert_ok(run_with("endless", &r, &err, endless, keep, NULL, NULL));
    assert_ok(run_with("configured", &r, &err, "schedule.cooldown_start=10", NULL, NULL, NULL));
    assert_int_equal(r.step, 16);
    snprintf(from, sizeof from, "from=%s", in_dir("endless/step-00000010"));
    assert_ok(run_with("branch", &r, &err, from, "cooldown_steps=6", endless, NULL));
    assert_int_equal(r.step, 16);
    assert_same_run("configured", "branch", 16, false);
    assert_true(events(r.ledger, "branch") == 1);
    /* its own checkpoint at 15 goes on inside the cooldown */
    assert_ok(slm2_dir_remove(in_dir("branch/step-00000016"), &err));
    assert_ok(run_with("branch", &r, &err, from, "cooldown_steps=6", endless, NULL));
    assert_int_equal(r.step, 16);
    assert_same_run("configured", "branch", 16, false);
    /* the state has its length too: without the option it goes on alike, with another length not at all */
    assert_ok(slm2_dir_remove(in_dir("branch/step-00000016"), &err));
    assert_ok(RUN("branch", &r, endless, "schedule.n_cooldown=2"));
    assert_int_equal(r.step, 16);
    assert_same_run("configured", "branch", 16, false);
    assert_int_equal(run_with("branch", &r, &err, from, "cooldown_steps=7", endless, NULL), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "branched off with 6"));
    /* a run that did not begin so has no cooldown to go on with, whether or not its settings have one */
    assert_ok(RUN("own", &r, "train.steps=5"));
    assert_int_equal(RUN("own", &r, from, "cooldown_steps=6"), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "already holds a run at step 5"));
    assert_ok(RUN("own", &r, "train.steps=6", from));
    /* without a cooldown the branch is the run that it left */
    assert_ok(run_with("fork", &r, &err, from, endless, NULL, NULL));
    assert_same_run("endless", "fork", 20, false);
    assert_int_equal(run_with("nowhere", &r, &err, "cooldown_steps=6", NULL, NULL, NULL), SLM2_EUSAGE);
    snprintf(from, sizeof from, "from=%s", in_dir("endless/final"));
    assert_int_not_equal(run_with("nowhere", &r, &err, from, "cooldown_steps=6", NULL, NULL), SLM2_OK);
    assert_non_null(strstr(err.msg, "is not a complete training checkpoint"));
    snprintf(from, sizeof from, "from=%s", in_dir("endless/step-00000010"));
    assert_int_equal(run_with("nowhere", &r, &err, from, "cooldown_steps=6", "schedule.kind=cosine", NULL), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "hybrid and rsqrt"));
    /* the other kind that cools down */
    const char *rsqrt = "schedule.kind=rsqrt";
    assert_ok(RUN("endless-rsqrt", &r, rsqrt, endless, "train.steps=10"));
    assert_ok(RUN("configured-rsqrt", &r, rsqrt, "schedule.cooldown_start=10"));
    snprintf(from, sizeof from, "from=%s", in_dir("endless-rsqrt/step-00000010"));
    assert_ok(RUN("branch-rsqrt", &r, rsqrt, endless, from, "cooldown_steps=6"));
    assert_int_equal(r.step, 16);
    assert_same_run("configured-rsqrt", "branch-rsqrt", 16, false);
}

/* What `from` and `init_from` name is looked at before the folder is emptied, and may not lie in it. */
static void starting_over_keeps_what_it_starts_from(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r;
    char sets[4][1200];
    const char *fresh = "resume=fresh", *steps = "train.steps=6", *endless = "schedule.cooldown_start=-1";
    assert_ok(RUN("keeper", &r, steps, endless));
    snprintf(sets[0], sizeof sets[0], "from=%s", in_dir("keeper/step-00000005"));
    snprintf(sets[1], sizeof sets[1], "from=%s", in_dir("other/../keeper/./step-00000005"));
    snprintf(sets[2], sizeof sets[2], "init_from=%s", in_dir("keeper/final"));
    snprintf(sets[3], sizeof sets[3], "from=%s", in_dir("absent/step-00000005"));
    assert_ok(slm2_dir_make(in_dir("other"), &err));
    for (int i = 0; i < 4; i++) {
        slm2_status st = RUN("keeper", &r, fresh, steps, endless, sets[i]);
        if (st == SLM2_OK || (i < 3 && (st != SLM2_EUSAGE || !strstr(err.msg, "is in the run folder")))) fail_msg("%s: status %d: %s", sets[i], st, st ? err.msg : "");
        assert_ok(slm2_ckpt_verify(in_dir("keeper/step-00000005"), true, &err));
        assert_ok(slm2_ckpt_verify(in_dir("keeper/step-00000006"), true, &err));
        assert_true(slm2_path_exists(in_dir("keeper/final/model.safetensors")) && slm2_path_exists(in_dir("keeper/run.sqlite")));
    }
    /* from elsewhere, the folder is emptied as before */
    assert_ok(RUN("other", &r, "train.steps=1"));
    assert_ok(RUN("other", &r, fresh, steps, endless, sets[0]));
    assert_same_run("keeper", "other", 6, false);
    assert_false(slm2_path_exists(in_dir("other/step-00000001")));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(resumed_equals_undisturbed),
    cmocka_unit_test(threads_and_recomputation_do_not_matter), cmocka_unit_test(layer_by_layer_is_the_same), cmocka_unit_test(bf16_moments_are_exact_too),
    cmocka_unit_test(other_settings_give_other_bits),
    cmocka_unit_test(cooldown_by_signal_survives_a_resume),
    cmocka_unit_test(bad_steps_are_part_of_the_state),
    cmocka_unit_test(a_rollback_abandons_newer_checkpoints),
    cmocka_unit_test(cooldown_by_signal_survives_a_rollback),
    cmocka_unit_test(cooldown_branch_equals_a_run_configured_so),
    cmocka_unit_test(starting_over_keeps_what_it_starts_from),
};
SLM2_TEST_MAIN_WITH(tests, make_test_dir, remove_test_dir)
