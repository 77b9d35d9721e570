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
#include "other_variant.h"
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
    const char *name = slm2_path_exists(file) ? "model.safetensors" : "adapter_model.safetensors";
    snprintf(file, sizeof file, "%s/final/%s", path(a), name);
    ok(slm2_sha256_file(file, ha, &err), &err);
    snprintf(file, sizeof file, "%s/final/%s", path(b), name);
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
    assert_true(stat(found.gl_pathv[0], &manifest[0]) == 0 && manifest[0].st_size > (st == SLM2_OK ? 0 : 200)); /* of a run that was at its end there is nothing to tell */
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

/* Data sets by name with parts of them, joined rows, every token: resumes with the same bits as well. */
static void test_sft_sets(void **state)
{
    const char *const sets[] = {"data=[{format: slimorca, path: tests/data/align/samples/slimorca.jsonl, repeat: 1.5}, {format: deita_10k, path: tests/data/align/samples/deita_10k.jsonl}]",
                                "valid=[{format: capybara, path: tests/data/align/samples/capybara.jsonl}]", "n_ctx=128", "packing=joined", "all_tokens=true", "batch=2", "epochs=1", "dedup=false"};
    (void)state;
    resumes(slm2_sft, sets, 8, "valid_loss", -1, false);
}

/* The account of the data is in the ledger and the result; a checkpoint goes on with the data that it began with only. */
static void test_sft_account(void **state)
{
    const char *const sets[] = {"data=[{format: slimorca, path: tests/data/align/samples/slimorca.jsonl}, {format: deita_10k, path: tests/data/align/samples/deita_10k.jsonl}]", "n_ctx=128", "batch=2", "epochs=1"};
    const char *const others[] = {"data=[{format: slimorca, path: tests/data/align/samples/slimorca.jsonl}, {format: deita_10k, path: tests/data/align/samples/deita_10k.jsonl}]", "n_ctx=128", "batch=2", "epochs=1",
                                  "all_tokens=true"};
    static const struct { const char *key; double v; } want[] = {{"data.slimorca.read", 20}, {"data.slimorca.kept", 8}, {"data.slimorca.invalid", 5}, {"data.slimorca.too_many_turns", 6},
        {"data.slimorca.duplicate", 1}, {"data.slimorca.truncated", 1}, {"data.deita_10k.duplicate", 9}, {"data.deita_10k.kept", 0}};
    struct slm2_err err;
    struct slm2_stage_result r;
    struct slm2_ledger *l;
    struct slm2_buf text = {0};
    json_t *json;
    double v, fill;
    (void)state;
    stop = 1;
    assert_int_equal(run(slm2_sft, "account", sets, 4, &r, &err), SLM2_ESTOP);
    stop = 0;
    assert_int_equal(run(slm2_sft, "account", others, 5, &r, &err), SLM2_EUSAGE); /* as many rows, other targets */
    assert_non_null(strstr(err.msg, "all_tokens"));
    ok(run(slm2_sft, "account", sets, 4, &r, &err), &err);
    fill = slm2_stage_figure(&r, "fill");
    assert_true(fill > 0.5 && fill <= 1 && slm2_stage_figure(&r, "conversations") == 8);
    ok(slm2_ledger_open_read(&l, path("account/run.sqlite"), &err), &err);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        if (!slm2_ledger_get_figure(l, want[i].key, &v) || v != want[i].v) fail_msg("%s: %g, want %g", want[i].key, v, want[i].v);
    }
    assert_true(slm2_ledger_get_figure(l, "fill", &v) && fabs(v - fill) < 1e-14); /* SQLite's text of it has 15 digits */
    ok(slm2_ledger_close(l, &err), &err);
    /* the plan says the same and makes no run folder */
    const char *plan_sets[] = {"run=none/run", sets[0], sets[1], sets[2], sets[3]};
    struct slm2_stage_args a = {.config = path("stage.yml"), .sets = plan_sets, .n_sets = 5};
    ok(slm2_sft_plan(&a, &text, &json, &err), &err);
    assert_true(json_real_value(json_object_get(json, "fill")) == fill);
    assert_int_equal(json_integer_value(json_object_get(json, "updates")), r.n_step);
    assert_non_null(strstr(text.v, "slimorca"));
    assert_false(slm2_path_exists("none"));
    json_decref(json);
    slm2_buf_free(&text);
}

/* The recipes are settings of today. */
static void test_sft_recipes(void **state)
{
    glob_t found;
    struct slm2_err err;
    (void)state;
    assert_int_equal(glob("configs/sft/*.yml", 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 2);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        void *o = calloc(1, slm2_sft_settings_size);
        slm2_conf_init(slm2_sft_settings, o);
        ok(slm2_conf_yaml(slm2_sft_settings, o, found.gl_pathv[i], &err), &err);
        ok(slm2_conf_required(slm2_sft_settings, o, &err), &err);
        slm2_conf_free(slm2_sft_settings, o);
        free(o);
    }
    globfree(&found);
}

static void test_dpo(void **state)
{
    const char *const sets[] = {"data=assets/align/dpo.jsonl", "valid=assets/align/dpo.valid.jsonl", "max_length=64", "max_prompt_length=32", "beta=0.1", "lr_peak=1e-4"};
    (void)state;
    resumes(slm2_dpo, sets, 6, "valid_margin", 1, true);
}

#define DATA_ORCA "data=[{format: orca_dpo_pairs, path: tests/data/align/samples/orca_dpo_pairs.jsonl}]"
#define VALID_ORCA "valid=[{format: orca_dpo_pairs, path: tests/data/align/samples/orca_dpo_pairs.jsonl}]"

/* The other losses, on a published shape. */
static void test_dpo_losses(void **state)
{
    const char *const hinge[] = {DATA_ORCA, VALID_ORCA, "max_length=64", "max_prompt_length=32", "beta=0.1", "lr_peak=1e-4", "batch=4", "loss=hinge", "label_smoothing=0"};
    const char *const ipo[] = {DATA_ORCA, VALID_ORCA, "max_length=64", "max_prompt_length=32", "beta=0.1", "lr_peak=1e-4", "batch=4", "loss=ipo", "optimizer=adamw"};
    const char *const wrong[] = {DATA_ORCA, "max_length=64", "max_prompt_length=32", "loss=ipo", "label_smoothing=0.1"};
    struct slm2_err err;
    struct slm2_stage_result r;
    (void)state;
    resumes(slm2_dpo, hinge, 9, "valid_margin", 1, true);
    resumes(slm2_dpo, ipo, 9, "valid_margin", 1, true);
    assert_int_equal(run(slm2_dpo, "wrong", wrong, 5, &r, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "label_smoothing"));
}

static double figure(const char *run_dir, const char *key)
{
    char file[300];
    struct slm2_ledger *l;
    struct slm2_err err;
    double v;
    snprintf(file, sizeof file, "%s/run.sqlite", path(run_dir));
    ok(slm2_ledger_open_read(&l, file, &err), &err);
    if (!slm2_ledger_get_figure(l, key, &v)) fail_msg("%s has no figure %s", run_dir, key);
    ok(slm2_ledger_close(l, &err), &err);
    return v;
}

/* Rewards and log-probabilities of every update; before the first one policy and reference are the same, to the bit. */
static void check_log(const char *run_dir, int n_step)
{
    static const char *const names[] = {"loss", "margin", "accuracy", "reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected"};
    static const double first[] = {M_LN2, 0, 0, 0, 0};
    char file[300];
    struct slm2_ledger *l;
    struct slm2_err err;
    snprintf(file, sizeof file, "%s/run.sqlite", path(run_dir));
    ok(slm2_ledger_open_read(&l, file, &err), &err);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct slm2_series s;
        ok(slm2_ledger_series(l, names[i], &s, &err), &err);
        assert_int_equal(s.n, n_step);
        if (i < 5) assert_true(fabs(s.value[0] - first[i]) <= (i ? 0 : 1e-15));
        else assert_true(s.value[0] < -1);
        slm2_series_free(&s);
    }
    ok(slm2_ledger_close(l, &err), &err);
}

static void reference_file(char out[300], const char *dir)
{
    char pattern[300];
    glob_t g;
    snprintf(pattern, sizeof pattern, "%s/*.dpo_ref.json", dir);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    assert_int_equal(g.gl_pathc, 1);
    snprintf(out, 300, "%s", g.gl_pathv[0]);
    globfree(&g);
}

/* The reference is computed once for one model and one set of pairs, whatever else changes; what is damaged is made again, to the bit. */
static void test_dpo_reference(void **state)
{
    enum { N = 16 };
    char a[256], b[256], other[300], ref_a[300], ref_b[300], file_a[300], file_b[300], ha[65], hb[65];
    const char *sets[] = {DATA_ORCA, "max_length=64", "max_prompt_length=32", "batch=8", ref_a, "micro_batch_tokens=128", "beta=0.1", "model=x"};
    struct slm2_err err;
    struct slm2_stage_result r;
    (void)state;
    stop = 0;
    snprintf(a, sizeof a, "%s", path("ref_a"));
    snprintf(b, sizeof b, "%s", path("ref_b"));
    snprintf(ref_a, sizeof ref_a, "reference=%s", a);
    snprintf(ref_b, sizeof ref_b, "reference=%s", b);
    ok(run(slm2_dpo, "d1", sets, 7, &r, &err), &err);
    assert_true(figure("d1", "train.reference_computed") == N);
    assert_true(slm2_stage_figure(&r, "pairs") == N && figure("d1", "pairs") == N);
    assert_true(fabs(slm2_stage_figure(&r, "last_margin") - (slm2_stage_figure(&r, "last_reward_chosen") - slm2_stage_figure(&r, "last_reward_rejected"))) < 1e-12);
    assert_true(r.loss > 0 && slm2_stage_figure(&r, "last_logp_chosen") < 0 && slm2_stage_figure(&r, "last_logp_rejected") < 0 && slm2_stage_figure(&r, "last_accuracy") >= 0);
    assert_true(figure("d1", "train.orca_dpo_pairs.keep") == N && figure("d1", "train.orca_dpo_pairs.records") == 20);
    assert_true(figure("d1", "train.orca_dpo_pairs.duplicate_pair") == 1 && figure("d1", "train.orca_dpo_pairs.invalid") == 2);
    check_log("d1", 2);
    reference_file(file_a, a);
    ok(slm2_sha256_file(file_a, ha, &err), &err);

    sets[6] = "beta=0.02";
    ok(run(slm2_dpo, "d2", sets, 7, &r, &err), &err);
    assert_true(figure("d2", "train.reference_computed") == 0);
    check_log("d2", 2);

    sets[4] = ref_b; /* other micro-batches, the same numbers */
    sets[5] = "micro_batch_tokens=512";
    ok(run(slm2_dpo, "d3", sets, 7, &r, &err), &err);
    assert_true(figure("d3", "train.reference_computed") == N);
    reference_file(file_b, b);
    ok(slm2_sha256_file(file_b, hb, &err), &err);
    assert_string_equal(ha, hb);

    assert_int_equal(truncate(file_a, 700), 0);
    sets[4] = ref_a;
    ok(run(slm2_dpo, "d4", sets, 7, &r, &err), &err);
    assert_true(figure("d4", "train.reference_computed") == N);
    ok(slm2_sha256_file(file_a, hb, &err), &err);
    assert_string_equal(ha, hb);
    other_variant(true); /* a file of its own */
    ok(run(slm2_dpo, "variant", sets, 7, &r, &err), &err);
    other_variant(false);
    assert_true(figure("variant", "train.reference_computed") == N);

    stop = 1; /* stopped at once: nothing is computed, what is there stays usable */
    ok(slm2_dir_remove(b, &err), &err);
    sets[4] = ref_b;
    assert_int_equal(run(slm2_dpo, "d5", sets, 7, &r, &err), SLM2_ESTOP);
    stop = 0;
    assert_true(slm2_path_exists(file_b));
    ok(run(slm2_dpo, "d5", sets, 7, &r, &err), &err);
    ok(slm2_sha256_file(file_b, hb, &err), &err);
    assert_string_equal(ha, hb);

    stop = 1; /* a checkpoint at step 0: from here on, other pairs or another model are refused */
    assert_int_equal(run(slm2_dpo, "d8", sets, 7, &r, &err), SLM2_ESTOP);
    stop = 0;
    sets[1] = "max_length=40";
    sets[2] = "max_prompt_length=16";
    assert_int_equal(run(slm2_dpo, "d8", sets, 7, &r, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "max_length"));
    sets[1] = "max_length=64";
    sets[2] = "max_prompt_length=32";
    remove(path("d8/run.sqlite")); /* the checkpoint knows, not the ledger alone */

    struct slm2_config c = {.vocab_size = 100352, .hidden_size = 16, .intermediate_size = 32, .n_layer = 1, .n_head = 2, .n_kv_head = 2, .head_dim = 8, .n_rot = 2, .n_ctx = 256,
                            .norm_eps = 1e-5f, .rope_theta = 10000, .init_std = 0.05f, .qkv_bias = true, .bos_id = 100257, .eos_id = 100257};
    ok(slm2_model_init_to_disk(&c, path("model2"), SLM2_F32, 6, &err), &err);
    snprintf(other, sizeof other, "model=%s", path("model2"));
    sets[7] = other; /* another model: never the old one's numbers */
    assert_int_equal(run(slm2_dpo, "d8", sets, 8, &r, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "model2"));
    /* the same names with other content: the model, then the pairs */
    ok(slm2_model_init_to_disk(&c, path("model3"), SLM2_F32, 7, &err), &err);
    snprintf(other, sizeof other, "model=%s", path("model3"));
    stop = 1;
    assert_int_equal(run(slm2_dpo, "d9", sets, 8, &r, &err), SLM2_ESTOP);
    stop = 0;
    ok(run(slm2_dpo, "d9", sets, 8, &r, &err), &err);
    ok(slm2_dir_remove(path("model3"), &err), &err);
    ok(slm2_model_init_to_disk(&c, path("model3"), SLM2_F32, 8, &err), &err);
    remove(path("d9/run.sqlite"));
    assert_int_equal(run(slm2_dpo, "d9", sets, 8, &r, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "data was another"));
    snprintf(other, sizeof other, "model=%s", path("model2"));
    ok(run(slm2_dpo, "d6", sets, 8, &r, &err), &err);
    assert_true(figure("d6", "train.reference_computed") == N);
    check_log("d6", 2);
    sets[1] = "max_length=40"; /* shorter pairs: other tokens */
    sets[2] = "max_prompt_length=16";
    ok(run(slm2_dpo, "d7", sets, 8, &r, &err), &err);
    assert_true(figure("d7", "train.reference_computed") == N);
}

static void test_selfknow(void **state)
{
    const char *const sets[] = {"card=assets/selfknow/card-nano.yml", "few_shot=assets/selfknow/few_shot-nano.yml", "prompts=12", "valid_prompts=2", "prompt_tokens=6", "answer_tokens=6", "keep_cut_off=true",
                                "min_words=1", "sequences=4", "warmup_steps=1", "epochs=3"};
    (void)state;
    resumes(slm2_selfknow, sets, 11, "valid_loss_negative", 0, true);
}

/* With an adapter: the same, and the base model's file is not among what a checkpoint holds. */
static void test_lora(void **state)
{
    const char *const sft[] = {"data=assets/align/sft.jsonl", "valid=assets/align/sft.valid.jsonl", "n_ctx=128", "lora.rank=4", "lr_peak=2e-2", "epochs=1"};
    const char *const dpo[] = {"data=assets/align/dpo.jsonl", "valid=assets/align/dpo.valid.jsonl", "max_length=64", "max_prompt_length=32", "beta=0.1", "lora.rank=4", "lr_peak=1e-3", "precision=bf16"};
    (void)state;
    resumes(slm2_sft, sft, 6, "valid_loss", -1, false);
    resumes(slm2_dpo, dpo, 8, "valid_margin", 1, true);

    const char *const other_rank[] = {"data=assets/align/sft.jsonl", "n_ctx=128", "lora.rank=5"}, *const both[] = {"data=assets/align/sft.jsonl", "lora.rank=5", "lora.adapter=x"},
               *const unknown[] = {"data=assets/align/sft.jsonl", "lora.rank=5", "lora.targets=[lm_head]"};
    char go_on[300];
    const char *const from_adapter[] = {"data=assets/align/sft.jsonl", "valid=assets/align/sft.valid.jsonl", "n_ctx=128", "epochs=1", "lr_peak=0", go_on};
    struct slm2_err err;
    struct slm2_stage_result r, again;
    stop = 1;
    assert_int_equal(run(slm2_sft, "lora", sft, 6, &r, &err), SLM2_ESTOP);
    assert_true(slm2_path_exists(path("lora/step-00000000/adapter_model.safetensors")) && slm2_path_exists(path("lora/step-00000000/optimizer/exp_avg.safetensors")));
    assert_false(slm2_path_exists(path("lora/step-00000000/model.safetensors")));
    stop = 0;
    assert_int_equal(run(slm2_sft, "lora", other_rank, 3, &r, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "lora"));
    assert_int_equal(run(slm2_sft, "lora2", both, 3, &r, &err), SLM2_EUSAGE);
    assert_int_equal(run(slm2_sft, "lora3", unknown, 3, &r, &err), SLM2_EUSAGE);
    static const char *const dropped[] = {"lora.alpha=8", "lora.targets=[q_proj]", "lora.rslora=true"}; /* they would have no effect */
    for (size_t i = 0; i < 3; i++) {
        const char *const no_rank[] = {"data=assets/align/sft.jsonl", "n_ctx=128", dropped[i]}, *const adapter[] = {"data=assets/align/sft.jsonl", "n_ctx=128", "lora.adapter=x", dropped[i]};
        assert_int_equal(run(slm2_sft, "lora5", no_rank, 3, &r, &err), SLM2_EUSAGE);
        assert_non_null(strstr(err.msg, "lora.rank is 0"));
        assert_int_equal(run(slm2_sft, "lora5", adapter, 4, &r, &err), SLM2_EUSAGE);
        assert_non_null(strstr(err.msg, "leave out lora.alpha"));
    }
    /* gone on from: a run that learns nothing begins and ends with the figures that the first one ended with */
    ok(run(slm2_sft, "lora", sft, 6, &r, &err), &err);
    snprintf(go_on, sizeof go_on, "lora.adapter=%s/final", path("lora"));
    ok(run(slm2_sft, "lora4", from_adapter, 6, &again, &err), &err);
    assert_true(slm2_stage_figure(&again, "start.valid_loss") == slm2_stage_figure(&r, "valid_loss"));
}

/* Other settings than those of the checkpoint are refused by name, not quietly mixed; those that change no bit are free. */
static void test_changed_settings(void **state)
{
    static const struct { stage_fn *stage; const char *dir, *set, *named; } cases[] = {
        {slm2_sft, "changed", "batch=4", "setting batch"}, {slm2_sft, "changed", "lr_peak=1e-3", "setting lr_peak"}, {slm2_sft, "changed", "schedule=linear", "setting schedule"},
        {slm2_sft, "changed", "data=[{path: assets/align/sft.jsonl, repeat: 2}]", "setting data[0].repeat was another when this run began (then 1, now 2)"},
        {slm2_sft, "changed", "data=[assets/align/sft.jsonl, assets/align/sft.valid.jsonl]", "setting data[1].path was another when this run began (then nothing, now a list)"}, {slm2_sft, "changed", "lora.rank=2", "setting lora"},
        {slm2_dpo, "changed_dpo", "beta=0.2", "setting beta was another when this run began (then 0.1, now 0.2)"}, {slm2_dpo, "changed_dpo", "loss=hinge", "setting loss"},
        {slm2_dpo, "changed_dpo", "weight_decay=0.1", "setting weight_decay"}, {slm2_selfknow, "changed_self", "lr_peak=1e-3", "setting lr_peak"}};
    const char *const sft[] = {"data=assets/align/sft.jsonl", "n_ctx=128", "epochs=1"}, *const dpo[] = {DATA_ORCA, "max_length=64", "max_prompt_length=32", "beta=0.1"},
               *const self[] = {"card=assets/selfknow/card-nano.yml", "few_shot=assets/selfknow/few_shot-nano.yml", "prompts=8", "prompt_tokens=6", "answer_tokens=6", "keep_cut_off=true", "min_words=1", "epochs=1", "checkpoint_every=1"};
    const char *const free_ones[] = {"threads=1", "valid_every=1", "checkpoint_every=2", "keep_checkpoints=0", "recompute=true"};
    struct slm2_err err;
    struct slm2_stage_result r;
    stop = 1;
    assert_int_equal(run(slm2_sft, "changed", sft, 3, &r, &err), SLM2_ESTOP);
    stop = 0;
    ok(run(slm2_dpo, "changed_dpo", dpo, 4, &r, &err), &err);
    ok(run(slm2_selfknow, "changed_self", self, 9, &r, &err), &err);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *sets[16];
        int n = cases[i].stage == slm2_sft ? 3 : cases[i].stage == slm2_dpo ? 4 : 9;
        memcpy(sets, cases[i].stage == slm2_sft ? sft : cases[i].stage == slm2_dpo ? dpo : self, (size_t)n * sizeof *sets);
        sets[n] = cases[i].set;
        char ledger[64], was[65], is[65];
        snprintf(ledger, sizeof ledger, "%s/run.sqlite", cases[i].dir);
        ok(slm2_sha256_file(path(ledger), was, &err), &err);
        assert_int_equal(run(cases[i].stage, cases[i].dir, sets, n + 1, &r, &err), SLM2_EUSAGE);
        struct slm2_err at_hash;
        ok(slm2_sha256_file(path(ledger), is, &at_hash), &at_hash);
        assert_string_equal(was, is); /* the ledger tells of the run that was, not of the one that was refused */
        if (!strstr(err.msg, cases[i].named)) fail_msg("%s: %s", cases[i].set, err.msg);
        if (!strstr(err.msg, "another run folder")) fail_msg("%s: %s", cases[i].set, err.msg);
    }
    const char *sets[16];
    memcpy(sets, sft, sizeof sft);
    memcpy(sets + 3, free_ones, sizeof free_ones);
    ok(run(slm2_sft, "changed", sets, 8, &r, &err), &err);
    /* finished: the same command finds the last checkpoint and learns nothing more */
    struct slm2_stage_result again;
    struct stat manifest[2];
    char last[64];
    snprintf(last, sizeof last, "changed/step-%08lld/MANIFEST.json", (long long)r.n_step);
    assert_int_equal(stat(path(last), &manifest[0]), 0);
    ok(run(slm2_sft, "changed", sets, 8, &again, &err), &err);
    assert_int_equal(stat(path(last), &manifest[1]), 0);
    assert_true(manifest[0].st_ino == manifest[1].st_ino && again.n_step == r.n_step);
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

/* What is only measured may be added to a run: the same weights, and no figures of a start that was not measured. */
static void test_added_validation(void **state)
{
    static const char *const sets[] = {"data=assets/align/sft.jsonl", "n_ctx=128", "epochs=1", "valid=assets/align/sft.valid.jsonl"};
    struct slm2_err err;
    struct slm2_stage_result plain, with, again;
    (void)state;
    ok(run(slm2_sft, "plain", sets, 3, &plain, &err), &err);
    assert_true(isfinite(plain.loss) && plain.n_new == plain.n_step);
    assert_true(isnan(slm2_stage_figure(&plain, "valid_loss")));
    stop = 1;
    assert_int_equal(run(slm2_sft, "added", sets, 3, &with, &err), SLM2_ESTOP);
    stop = 0;
    ok(run(slm2_sft, "added", sets, 4, &with, &err), &err);
    assert_true(slm2_stage_figure(&with, "valid_loss") > 0 && isnan(slm2_stage_figure(&with, "start.valid_loss")));
    assert_true(with.n_new == with.n_step && with.loss == plain.loss);
    same_model("plain", "added");
    ok(run(slm2_sft, "plain", sets, 4, &again, &err), &err); /* a finished run is measured, and learns nothing */
    assert_true(again.n_new == 0 && again.n_step == plain.n_step && slm2_stage_figure(&again, "valid_loss") == slm2_stage_figure(&with, "valid_loss"));
}

typedef slm2_status plan_fn(const struct slm2_stage_args *args, struct slm2_buf *text, json_t **json, struct slm2_err *err);
static slm2_status plan(plan_fn *f, const char *dir, const char *const *sets, int n, json_t **json, struct slm2_err *err)
{
    char to[300];
    const char *all[16] = {to};
    struct slm2_buf text = {0};
    snprintf(to, sizeof to, "run=%s", path(dir));
    memcpy(all + 1, sets, (size_t)n * sizeof *sets);
    slm2_status st = f(&(struct slm2_stage_args){.config = path("stage.yml"), .sets = all, .n_sets = n + 1}, &text, json, err);
    slm2_buf_free(&text);
    return st;
}

/* A plan refuses what the run refuses, but for a model that is not there yet, in the same words, and makes nothing. */
static void test_plans_refuse(void **state)
{
#define SELF "card=assets/selfknow/card-nano.yml", "few_shot=assets/selfknow/few_shot-nano.yml"
    static const struct { stage_fn *run; plan_fn *plan; const char *sets[4], *named; } cases[] = {
        {slm2_sft, slm2_sft_plan, {"data=assets/align/sft.jsonl", "n_ctx=512"}, "n_ctx is 512, the model reads at most 256"},
        {slm2_sft, slm2_sft_plan, {"data=assets/align/sft.jsonl", "n_ctx=128", "micro_batch_tokens=64"}, "micro_batch_tokens is 64"},
        {slm2_sft, slm2_sft_plan, {"data=assets/align/sft.jsonl", "n_ctx=128", "lora.alpha=8"}, "lora.rank is 0"},
        {slm2_sft, slm2_sft_plan, {"data=assets/align/sft.jsonl", "n_ctx=128", "lora.rank=2", "lora.targets=[head]"}, "head"},
        {slm2_sft, slm2_sft_plan, {"data=assets/align/sft.jsonl", "n_ctx=128", "lora.adapter=none"}, "none/adapter_config.json"},
        {slm2_sft, slm2_sft_plan, {"data=assets/align/sft.jsonl", "n_ctx=128", "model=tests/data/golden/tiny"}, "ids, the vocabulary"},
        {slm2_sft, slm2_sft_plan, {"data=assets/align/sft.jsonl", "n_ctx=128", "chat_template=llama"}, "want zephyr or chatml"},
        {slm2_sft, slm2_sft_plan, {"data=assets/align/sft.jsonl", "n_ctx=128", "lr_peak=1e-5", "lr_min=1e-4"}, "lr_min"},
        {slm2_dpo, slm2_dpo_plan, {DATA_ORCA, "max_length=64", "max_prompt_length=64"}, "max_prompt_length"},
        {slm2_dpo, slm2_dpo_plan, {DATA_ORCA, "max_length=300", "max_prompt_length=32"}, "micro_batch_tokens"},
        {slm2_selfknow, slm2_selfknow_plan, {SELF, "negative_token=<|nope|>"}, "negative_token"},
        {slm2_selfknow, slm2_selfknow_plan, {SELF, "chat_template=llama"}, "want zephyr or chatml"},
        {slm2_selfknow, slm2_selfknow_plan, {SELF, "probes=none.yml"}, "none.yml"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_err planned, ran;
        struct slm2_stage_result r;
        json_t *json;
        int n = 0;
        while (n < 4 && cases[i].sets[n]) n++;
        slm2_status st = plan(cases[i].plan, "planned", cases[i].sets, n, &json, &planned);
        if (st == SLM2_OK || !strstr(planned.msg, cases[i].named)) fail_msg("case %zu: %s", i, st == SLM2_OK ? "planned" : planned.msg);
        assert_false(slm2_path_exists(path("planned")));
        json_decref(json);
        assert_int_equal(run(cases[i].run, "refused", cases[i].sets, n, &r, &ran), st);
        assert_string_equal(planned.msg, ran.msg);
    }
}

/* What a plan foretells is what the run does. */
static void test_plans(void **state)
{
    static const char *const dpo[] = {DATA_ORCA, VALID_ORCA, "max_length=64", "max_prompt_length=32", "batch=3", "epochs=2"},
                      *const self[] = {SELF, "prompts=8", "prompt_tokens=6", "answer_tokens=6", "keep_cut_off=true", "min_words=1", "epochs=1", "valid_prompts=2"};
    struct slm2_err err;
    struct slm2_stage_result r;
    struct slm2_ledger *l;
    json_t *json;
    double v;
    (void)state;
    ok(plan(slm2_dpo_plan, "foretold", dpo, 6, &json, &err), &err);
    ok(run(slm2_dpo, "foretold", dpo, 6, &r, &err), &err);
    assert_int_equal(json_integer_value(json_object_get(json, "updates")), r.n_step);
    ok(slm2_ledger_open_read(&l, path("foretold/run.sqlite"), &err), &err);
    assert_true(slm2_ledger_get_figure(l, "pairs", &v) && v > 0 && (double)json_integer_value(json_object_get(json, "pairs")) == v);
    assert_true(slm2_ledger_get_figure(l, "valid_pairs", &v) && (double)json_integer_value(json_object_get(json, "valid_pairs")) == v);
    ok(slm2_ledger_close(l, &err), &err);
    json_decref(json);
    for (int drawn = 0; drawn < 2; drawn++) { /* before and behind the draws */
        ok(plan(slm2_selfknow_plan, "foretold-self", self, 9, &json, &err), &err);
        if (!drawn) ok(run(slm2_selfknow, "foretold-self", self, 9, &r, &err), &err);
        assert_int_equal(json_is_true(json_object_get(json, "drawn")), drawn);
        assert_int_equal(json_integer_value(json_object_get(json, "updates")), r.n_step);
        assert_int_equal(json_integer_value(json_object_get(json, "learnt")), 12);
        if (drawn) assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "counts"), "kept")), 8);
        json_decref(json);
    }
    /* memory */
    struct slm2_lora_opts lora = {.rank = 4, .alpha = 8, .targets = slm2_lora_all_targets()};
    const struct slm2_trainer_opts to[] = {{.optim = slm2_optim_adamw()}, {.optim = slm2_optim_rmsprop(), .precision = SLM2_BF16_MIXED}, {.optim = slm2_optim_adamw(), .recompute = true, .lora = &lora}};
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
        struct slm2_trainer_opts o = to[i];
        struct slm2_trainer *t;
        struct slm2_model *m;
        size_t bytes;
        o.model_path = path("model");
        o.max_tok = 256;
        ok(slm2_trainer_look(&m, &bytes, &o, &err), &err);
        ok(slm2_trainer_new(&t, &o, &err), &err);
        double held = (double)slm2_trainer_bytes(t);
        if (fabs((double)bytes / held - 1) > 0.01) fail_msg("case %zu: foretold %zu bytes, the trainer holds %.0f", i, bytes, held);
        slm2_trainer_free(t);
        slm2_model_free(m);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_sft), cmocka_unit_test(test_sft_sets), cmocka_unit_test(test_sft_account), cmocka_unit_test(test_sft_recipes), cmocka_unit_test(test_dpo), cmocka_unit_test(test_dpo_losses),
    cmocka_unit_test(test_dpo_reference), cmocka_unit_test(test_selfknow), cmocka_unit_test(test_lora), cmocka_unit_test(test_changed_settings), cmocka_unit_test(test_limits),
    cmocka_unit_test(test_added_validation), cmocka_unit_test(test_plans_refuse), cmocka_unit_test(test_plans),
};

SLM2_TEST_MAIN_WITH(tests, setup, teardown)
