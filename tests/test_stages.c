/* test_stages.c - SFT, DPO and self-knowledge on a very small model: SFT and DPO move their own figures on held-out data, and a run that was stopped (at once,
 * twice at one step, or at some moment) and resumed ends with the same bits and the same first figures as one that was not. */
#include <glob.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/file.h"
#include "model/model.h"
#include "slm2_test.h"
#include "train/tune.h"

static char root[64];
static volatile sig_atomic_t stop;

static void on_alarm(int sig)
{
    (void)sig;
    stop = 1;
}

static void stop_after_ms(int ms)
{
    struct itimerval t = {.it_value = {.tv_usec = 1000 * ms}};
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &t, NULL);
}

static void ok(slm2_status st, const struct slm2_err *err)
{
    if (st != SLM2_OK) fail_msg("%s", err->msg);
}

static const char *path(const char *name)
{
    static char p[4][256];
    static int turn;
    char *to = p[turn++ & 3];
    snprintf(to, sizeof p[0], "%s/%s", root, name);
    return to;
}

/* The true vocabulary, 16 wide: everything but the size is real. */
static int setup(void **state)
{
    struct slm2_err err;
    struct slm2_config c = {.vocab_size = 100352, .hidden_size = 16, .intermediate_size = 32, .n_layer = 1, .n_head = 2, .n_kv_head = 2, .head_dim = 8, .n_rot = 2, .n_ctx = 256,
                            .norm_eps = 1e-5f, .rope_theta = 10000, .init_std = 0.05f, .qkv_bias = true, .bos_id = 100257, .eos_id = 100257};
    (void)state;
    snprintf(root, sizeof root, "%s/slm2-stages-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(root)) return -1;
    if (slm2_model_init_to_disk(&c, path("model"), SLM2_F32, 5, &err) != SLM2_OK) return -1;
    char yaml[512];
    int n = snprintf(yaml, sizeof yaml, "model: %s/model\nbatch: 8\nmicro_batch_tokens: 512\nlr_peak: 5e-3\nthreads: 2\n", root);
    return slm2_file_write(path("stage.yml"), yaml, (size_t)n, &err) == SLM2_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct slm2_err err;
    (void)state;
    return slm2_dir_remove(root, &err) == SLM2_OK ? 0 : -1;
}

typedef slm2_status stage_fn(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err);

static slm2_status run(stage_fn *stage, const char *run_dir, const char *const *more, int n_more, struct slm2_stage_result *r, struct slm2_err *err)
{
    char run_set[300];
    const char *sets[16] = {run_set};
    snprintf(run_set, sizeof run_set, "run=%s", path(run_dir));
    for (int i = 0; i < n_more; i++) sets[i + 1] = more[i];
    struct slm2_stage_args a = {.config = path("stage.yml"), .sets = sets, .n_sets = n_more + 1, .stop = &stop};
    return stage(&a, r, err);
}

static void same_model(const char *a, const char *b)
{
    char ha[65], hb[65], file[300];
    struct slm2_err err;
    snprintf(file, sizeof file, "%s/final/model.safetensors", path(a));
    ok(slm2_sha256_file(file, ha, &err), &err);
    snprintf(file, sizeof file, "%s/final/model.safetensors", path(b));
    ok(slm2_sha256_file(file, hb, &err), &err);
    assert_string_equal(ha, hb);
}

/* direction: of the metric, 0 where samples drawn from a random model teach nothing.  Undisturbed; then stopped at once, stopped again at the same step, stopped at some moment, and finished. */
static void resumes(stage_fn *stage, const char *const *more, int n_more, const char *metric, int direction, bool prepares)
{
    struct slm2_err err;
    struct slm2_stage_result whole, parts;
    char start[64];
    stop = 0;
    ok(run(stage, "whole", more, n_more, &whole, &err), &err);
    snprintf(start, sizeof start, "start.%s", metric);
    double before = slm2_stage_figure(&whole, start), after = slm2_stage_figure(&whole, metric);
    assert_true(isfinite(before) && isfinite(after));
    assert_true(after != before);
    assert_true((after - before) * direction >= 0);
    struct stat manifest[2];
    for (int i = 0; i < 2; i++) {
        stop = 1;
        assert_int_equal(run(stage, "parts", more, n_more, &parts, &err), SLM2_ESTOP);
        if (prepares) break; /* stopped before samples or reference: nothing is there to resume */
        assert_int_equal(stat(path("parts/step-00000000/MANIFEST.json"), &manifest[i]), 0);
        if (i == 1) assert_true(manifest[0].st_ino == manifest[1].st_ino); /* the only checkpoint is not written again */
    }
    stop = 0;
    stop_after_ms(400);
    slm2_status st = run(stage, "parts", more, n_more, &parts, &err); /* ends before or after the alarm: both are fine */
    if (st != SLM2_OK) assert_int_equal(st, SLM2_ESTOP);
    stop_after_ms(0);
    stop = 0;
    /* the last part is watched, which changes nothing */
    char events[300];
    const char *watched[16] = {events};
    glob_t found;
    snprintf(events, sizeof events, "tensorboard=%s", path("events"));
    for (int i = 0; i < n_more; i++) watched[i + 1] = more[i];
    ok(run(stage, "parts", watched, n_more + 1, &parts, &err), &err);
    snprintf(events, sizeof events, "%s/events.out.tfevents.*", path("events"));
    assert_int_equal(glob(events, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    assert_true(stat(found.gl_pathv[0], &manifest[0]) == 0 && manifest[0].st_size > 200);
    globfree(&found);
    ok(slm2_dir_remove(path("events"), &err), &err);
    same_model("whole", "parts");
    assert_true(slm2_stage_figure(&parts, start) == before);
    assert_true(slm2_stage_figure(&parts, metric) == after);
    ok(slm2_dir_remove(path("whole"), &err), &err);
    ok(slm2_dir_remove(path("parts"), &err), &err);
}

static void test_sft(void **state)
{
    const char *const sets[] = {"data=assets/align/sft.jsonl", "valid=assets/align/sft.valid.jsonl", "n_ctx=128", "epochs=2"};
    (void)state;
    resumes(slm2_sft, sets, 4, "valid_loss", -1, false);
}

static void test_dpo(void **state)
{
    const char *const sets[] = {"data=assets/align/dpo.jsonl", "valid=assets/align/dpo.valid.jsonl", "max_length=64", "max_prompt_length=32", "beta=0.1", "lr_peak=1e-4"};
    (void)state;
    resumes(slm2_dpo, sets, 6, "valid_margin", 1, true);
}

static void test_selfknow(void **state)
{
    const char *const sets[] = {"card=assets/selfknow/card-nano.yml", "few_shot=assets/selfknow/few_shot-nano.yml", "prompts=12", "valid_prompts=2", "prompt_tokens=6", "answer_tokens=6", "keep_cut_off=true",
                                "min_words=1", "sequences=4", "warmup_steps=1", "epochs=3"};
    (void)state;
    resumes(slm2_selfknow, sets, 11, "valid_loss_negative", 0, true);
}

/* Other settings than those of the checkpoint are refused, not quietly mixed. */
static void test_changed_settings(void **state)
{
    const char *const first[] = {"data=assets/align/sft.jsonl", "n_ctx=128", "batch=4"}, *const second[] = {"data=assets/align/sft.jsonl", "n_ctx=128", "batch=8"};
    struct slm2_err err;
    struct slm2_stage_result r;
    (void)state;
    stop = 1;
    assert_int_equal(run(slm2_sft, "changed", first, 3, &r, &err), SLM2_ESTOP);
    stop = 0;
    assert_int_equal(run(slm2_sft, "changed", second, 3, &r, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "batch"));
}

static void test_limits(void **state)
{
    const char *const wide[] = {"data=assets/align/sft.jsonl", "n_ctx=512"}, *const token[] = {"card=assets/selfknow/card-nano.yml", "few_shot=assets/selfknow/few_shot-nano.yml", "negative_token=<|nope|>"};
    struct slm2_err err;
    struct slm2_stage_result r;
    (void)state;
    stop = 0;
    assert_int_equal(run(slm2_sft, "limits", wide, 2, &r, &err), SLM2_EUSAGE);
    assert_int_equal(run(slm2_selfknow, "limits2", token, 3, &r, &err), SLM2_EUSAGE);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_sft), cmocka_unit_test(test_dpo), cmocka_unit_test(test_selfknow), cmocka_unit_test(test_changed_settings), cmocka_unit_test(test_limits),
};

int main(void)
{
    int n_failed = cmocka_run_group_tests(tests, setup, teardown), n = (int)(sizeof tests / sizeof tests[0]);
    printf("%d passed, %d failed\n", n - n_failed, n_failed);
    return n_failed != 0;
}
