/* test_figures.c - from answers to what is published: the mathematics of figures against known values; answers that are kept, through
 * stops and SIGKILL; groups; the harness's files; the tables beside published figures. */
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "scratch_dir.h"

#include "base/json.h"
#include "eval/harness.h"
#include "eval/kept.h"
#include "eval/metric.h"
#include "eval/reported.h"
#include "eval/task.h"
#include "model/lora.h"
#include "other_variant.h"

#define NEAR(got, want, tolerance) do { double g_ = (got), w_ = (want); if (!(fabs(g_ - w_) <= (tolerance))) fail_msg("%s: %.17g, want %.17g", #got, g_, w_); } while (0)

/* ---- mathematics ------------------------------------------------------------------------------------------------------------ */
static void picks(void **state)
{
    (void)state;
    static const double ll[] = {-4, -2, -2, -7};
    static const size_t length[] = {1, 4, 2, 14}, none[] = {0, 4, 0, 14};
    assert_int_equal(slm2_eval_pick(ll, NULL, 4), 1);   /* the first of equals */
    assert_int_equal(slm2_eval_pick(ll, length, 4), 1); /* -4, -1/2, -1, -1/2 */
    assert_int_equal(slm2_eval_pick(ll, none, 4), 1);   /* an empty answer: -inf */
    static const double far[] = {-2000, -2001, -2000.5};
    static const bool is_true[] = {true, false, true};
    double a = 1 + exp(-0.5), b = a + exp(-1.0);
    NEAR(slm2_eval_mc2(far, is_true, 3), a / b, 1e-15); /* exp(-2000) is 0 */
}

static void errors(void **state)
{
    (void)state;
    double *v = calloc(1172, sizeof *v), se;
    struct slm2_err err;
    for (int i = 0; i < 443; i++) v[i] = 1;
    NEAR(slm2_eval_mean(v, 1172), 0.3779863481, 1e-10); /* stablelm-3b-4e1t, arc_challenge */
    NEAR(slm2_eval_stderr(v, 1172), 0.0141696645, 1e-10);
    assert_true(isnan(slm2_eval_stderr(v, 1)));
    free(v);
    /* python3: random.Random(i).choices over chunks of min(1000, iters), sample deviation of exp(-mean) */
    static const double ll[] = {-0.5, -1.25, -3.0, -0.125, -2.5, -0.75, -4.5};
    NEAR(slm2_eval_perplexity(ll, 7), 6.071291976121695, 1e-14);
    check_ok(slm2_eval_perplexity_stderr(ll, 7, 2500, 2, &se, &err), &err);
    NEAR(se, 4.749141584883613, 1e-12);
    check_ok(slm2_eval_perplexity_stderr(ll, 7, 100, 1, &se, &err), &err);
    NEAR(se, 4.420984229849514, 1e-12);
    check_ok(slm2_eval_perplexity_stderr(ll, 7, 0, 1, &se, &err), &err);
    assert_true(isnan(se));
    static const double each[] = {0.05, 0.02, 0.1}, n[] = {100, 400, 25};
    NEAR(slm2_eval_pooled_stderr(each, n, 3), 0.018578374348469127, 1e-16);
    NEAR(slm2_eval_mean_stderr(each, 3), sqrt(0.0025 + 0.0004 + 0.01) / 3, 1e-16);
}

/* Every published row's mean is its stated average: the formula of both averages, and no slip in the file. */
static void published(void **state)
{
    (void)state;
    struct slm2_err err;
    json_t *tables;
    const json_t *t, *row;
    size_t i, k;
    int checked = 0;
    check_ok(slm2_reported_read(&tables, "assets/eval/reported.json", &err), &err);
    json_array_foreach(tables, i, t)
        json_array_foreach(json_object_get(t, "rows"), k, row)
        {
            double v[16];
            size_t n = json_array_size(json_object_get(row, "values"));
            if (!json_object_get(row, "average") || n < 2) continue;
            for (size_t c = 0; c < n; c++) v[c] = json_number_value(json_array_get(json_object_get(row, "values"), c));
            double got = slm2_eval_mean(v, n), want = json_number_value(json_object_get(row, "average"));
            if (fabs(got - want) > 0.0601) fail_msg("%s: mean %.4f, stated %.2f", json_string_value(json_object_get(row, "model")), got, want); /* one decimal in some rows, on both sides */
            checked++;
        }
    assert_int_equal(checked, 24);
    json_decref(tables);
}

/* ---- a model and tasks -------------------------------------------------------------------------------------------------------- */
static struct slm2_tok *tok;
static struct slm2_model *model;

static void put(const char *name, const char *text)
{
    struct slm2_err err;
    check_ok(slm2_file_write(in_dir(name), text, strlen(text), &err), &err);
}

static int make_all(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct slm2_err err;
    struct slm2_buf b = {0};
    if (make_dir(state)) return 1;
    for (int c = 0; c < 256; c++) slm2_buf_printf(&b, "%c%c== %d\n", digits[c >> 2], digits[(c & 3) << 4], c);
    put("bytes.tiktoken", b.v);
    check_ok(slm2_tok_open(&tok, in_dir("bytes.tiktoken"), &err), &err);
    struct slm2_config cfg = {.vocab_size = slm2_tok_n_vocab(tok), .hidden_size = 32, .intermediate_size = 64, .n_layer = 2, .n_head = 2, .n_kv_head = 2, .head_dim = 16, .n_rot = 4, .n_ctx = 192, .norm_eps = 1e-5f,
                              .rope_theta = 10000, .init_std = 0.2f, .qkv_bias = true, .bos_id = 0, .eos_id = slm2_tok_eos(tok) >= 0 ? slm2_tok_eos(tok) : 0};
    check_ok(slm2_model_init_to_disk(&cfg, in_dir("model"), SLM2_F32, 1, &err), &err);
    check_ok(slm2_model_init_to_disk(&cfg, in_dir("other"), SLM2_F32, 2, &err), &err);
    check_ok(slm2_model_open(&model, in_dir("model"), &err), &err);
    for (int f = 0; f < 2; f++) {
        slm2_buf_clear(&b);
        for (int i = 0; i < (f ? 40 : 24); i++)
            slm2_buf_printf(&b, "{\"q\":\"item %d of %d\",\"c\":[\"x\",\"y%d\",\"\u00e9\u00e9 z\",\"w\"],\"a\":%d,\"w\":\"a%d\"}\n", i * 37 % 41, f, i % 5, i % 4, i % 3);
        put(f ? "b.jsonl" : "a.jsonl", b.v);
    }
    slm2_buf_free(&b);
    put("pick_a.yml", "name: pick_a\nprompt: 'Answer truly and at once. {q}:'\ndata: a.jsonl\nchoices: c\ngold: a\nmetrics: [acc, acc_norm, acc_bytes]\n");
    put("pick_b.yml", "name: pick_b\nprompt: 'Answer truly and at once. {q}:'\ndata: b.jsonl\nchoices: c\ngold: a\nmetrics: [acc]\n");
    put("word.yml", "name: word\nkind: word\nprompt: '{q} is'\ntarget: ' {w}'\ndata: b.jsonl\nmetrics: [acc, perplexity]\n");
    put("say.yml", "name: say\nkind: generate\nprompt: '{q}'\ndata: a.jsonl\ngold: w\nmax_new: 6\nstop: [\"\\n\"]\nfilters:\n  - {name: first, steps: [first_word]}\n  - {name: all, steps: [strip]}\n");
    put("text.yml", "name: text\nkind: perplexity\ndata: texts.jsonl\nn_ctx: 32\n");
    put("texts.jsonl", "{\"text\":\"A first text, which is longer than a window of thirty-two tokens.\"}\n{\"text\":\"Second.\"}\n{\"text\":\"And a third one.\"}\n");
    char text[1500];
    snprintf(text, sizeof text, "name: by_items\naverage: items\ntasks:\n  - {task: %s, metric: acc}\n  - {task: %s, metric: acc}\n", in_dir("pick_a.yml"), in_dir("pick_b.yml"));
    put("by_items.yml", text);
    snprintf(text, sizeof text, "name: mixed\naverage: mean\ntasks:\n  - {task: %s, metric: acc_norm}\n  - {task: %s}\n  - {task: %s, metric: acc}\n", in_dir("pick_a.yml"), in_dir("by_items.yml"), in_dir("word.yml"));
    put("mixed.yml", text);
    snprintf(text, sizeof text, "name: apart\naverage: mean\ntasks:\n  - {task: %s, metric: acc}\n  - {task: %s, metric: perplexity}\n", in_dir("pick_a.yml"), in_dir("word.yml"));
    put("apart.yml", text);
    return 0;
}

static int free_all(void **state)
{
    slm2_model_free(model);
    slm2_tok_free(tok);
    return remove_dir(state);
}

static void evaluate(struct slm2_eval_args a, const char *const *names, int n, struct slm2_eval_result *r)
{
    static char path[5][300];
    const char *tasks[5];
    struct slm2_err err;
    for (int i = 0; i < n; i++) {
        snprintf(path[i], sizeof path[i], "%s", in_dir(names[i]));
        tasks[i] = path[i];
    }
    if (!a.model) a.model = model;
    a.n_shot = -1;
    a.tok = tok;
    a.tasks = tasks;
    a.n_tasks = n;
    a.n_threads = 1; /* the test forks */
    a.samples = true;
    a.bootstrap_iters = 200;
    check_ok(slm2_eval(&a, r, &err), &err);
}

static const char *const all[] = {"pick_a.yml", "pick_b.yml", "word.yml", "say.yml", "text.yml"};

static void same_result(const struct slm2_eval_result *a, const struct slm2_eval_result *b)
{
    assert_true(json_equal(json_object_get(a->json, "results"), json_object_get(b->json, "results")));
    assert_true(json_equal(a->samples, b->samples)); /* every log-likelihood, every text */
}

static void batches_do_not_matter(void **state)
{
    (void)state;
    struct slm2_eval_result want, got;
    evaluate((struct slm2_eval_args){.one_by_one = true}, all, 5, &want);
    assert_true(want.work.n_passes == want.n_asked - 24); /* without the generated answers */
    for (int tokens = 16; tokens <= 4096; tokens *= 16) {
        evaluate((struct slm2_eval_args){.batch_tokens = tokens}, all, 5, &got);
        same_result(&want, &got);
        assert_true(got.work.n_tokens < want.work.n_tokens / 2);
        slm2_eval_result_free(&got);
    }
    slm2_eval_result_free(&want);
}

/* ---- kept answers --------------------------------------------------------------------------------------------------------------- */
static void kept_file(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_kept *k, *second;
    char id[SLM2_KEPT_ID], other[SLM2_KEPT_ID];
    json_t *key = json_pack("{s:s}", "model", "one"), *key2 = json_pack("{s:s}", "model", "two");
    slm2_kept_id(id, "score", (int32_t[]){1, 2}, 2, (int32_t[]){3}, 1);
    slm2_kept_id(other, "score", (int32_t[]){1}, 1, (int32_t[]){2, 3}, 2);
    assert_string_not_equal(id, other); /* the same tokens, cut elsewhere */
    slm2_kept_id(other, "generate 5", (int32_t[]){1, 2}, 2, (int32_t[]){3}, 1);
    assert_string_not_equal(id, other);
    check_ok(slm2_kept_open(&k, in_dir("kept"), "task", key, &err), &err);
    assert_int_equal(slm2_kept_open(&second, in_dir("kept"), "task", key, &err), SLM2_EIO); /* held */
    check_ok(slm2_kept_put(k, id, json_pack("{s:f}", "ll", -0.1), &err), &err);
    check_ok(slm2_kept_sync(k, &err), &err);
    check_ok(slm2_kept_put(k, other, json_pack("{s:f}", "ll", -0.2), &err), &err); /* never synced */
    slm2_kept_close(k);
    check_ok(slm2_kept_open(&k, in_dir("kept"), "task", key2, &err), &err);
    assert_null(slm2_kept_find(k, id)); /* another model */
    slm2_kept_close(k);
    check_ok(slm2_kept_open(&k, in_dir("kept"), "task", key, &err), &err);
    assert_true(json_real_value(json_object_get(slm2_kept_find(k, id), "ll")) == -0.1);
    assert_null(slm2_kept_find(k, other));
    slm2_kept_close(k);
    json_decref(key);
    json_decref(key2);
}

/* The first number that a shell command says in this folder of the test. */
static long count(const char *command, const char *name)
{
    char line[500];
    long n = 0;
    snprintf(line, sizeof line, "cd %s 2>/dev/null && %s", in_dir(name), command);
    FILE *f = popen(line, "r");
    if (f && fscanf(f, "%ld", &n) != 1) n = 0;
    if (f) pclose(f);
    return n;
}

static void second_run_asks_nothing(void **state)
{
    (void)state;
    struct slm2_eval_result want, got;
    struct slm2_err err;
    char keep[300];
    snprintf(keep, sizeof keep, "%s", in_dir("again"));
    evaluate((struct slm2_eval_args){.keep = keep, .limit = 10}, all, 5, &want);
    assert_int_equal(want.n_kept, 0);
    evaluate((struct slm2_eval_args){.keep = keep, .limit = 10}, all, 5, &got);
    assert_true(got.n_kept == got.n_asked && got.work.n_tokens == 0);
    assert_int_equal(count("grep -c answers text-*.jsonl", "again"), 3); /* a text each, the second run added none */
    same_result(&want, &got);
    slm2_eval_result_free(&got);
    evaluate((struct slm2_eval_args){.keep = keep}, all, 5, &got); /* more items: the first ones are there */
    assert_true(got.n_kept == want.n_asked && got.n_asked > want.n_asked);
    slm2_eval_result_free(&got);
    evaluate((struct slm2_eval_args){.keep = keep, .limit = 10, .exact = true}, all, 5, &got);
    assert_int_equal(got.n_kept, 0);
    slm2_eval_result_free(&got);
    other_variant(true);
    evaluate((struct slm2_eval_args){.keep = keep, .limit = 10}, all, 5, &got);
    other_variant(false);
    assert_int_equal(got.n_kept, 0);
    slm2_eval_result_free(&got);
    struct slm2_model *other;
    check_ok(slm2_model_open(&other, in_dir("other"), &err), &err);
    evaluate((struct slm2_eval_args){.keep = keep, .limit = 10, .model = other}, all, 5, &got);
    assert_int_equal(got.n_kept, 0);
    slm2_eval_result_free(&got);
    slm2_model_free(other);
    put("pick_a.yml", "name: pick_a\nprompt: 'Answer falsely. {q}:'\ndata: a.jsonl\nchoices: c\ngold: a\nmetrics: [acc, acc_norm, acc_bytes]\n");
    evaluate((struct slm2_eval_args){.keep = keep, .limit = 10}, all, 5, &got);
    assert_int_equal(got.n_kept, want.n_asked - 40);
    slm2_eval_result_free(&got);
    put("pick_a.yml", "name: pick_a\nprompt: 'Answer truly and at once. {q}:'\ndata: a.jsonl\nchoices: c\ngold: a\nmetrics: [acc, acc_norm, acc_bytes]\n");
    slm2_eval_result_free(&want);
}

/* An adapter makes another model, another scale or number of it again another; the configuration beside a single file counts. */
static void another_model_asks_again(void **state)
{
    (void)state;
    struct slm2_eval_result want, got;
    struct slm2_err err;
    struct slm2_model *m;
    struct slm2_buf config = {0};
    char keep[300], hex[2][65];
    snprintf(keep, sizeof keep, "%s", in_dir("adapted"));
    evaluate((struct slm2_eval_args){.keep = keep, .limit = 5}, all, 5, &want);
    check_ok(slm2_model_open(&m, in_dir("model"), &err), &err);
    check_ok(slm2_lora_add(m, &(struct slm2_lora_opts){.rank = 2, .alpha = 4, .targets = slm2_lora_all_targets()}, false, &err), &err);
    slm2_lora_start(m->lora, 3);
    float *b = m->lora->params.v[1].w.data;
    for (int step = 0; step < 3; step++) {
        if (step == 1) b[3] = 5;
        if (step == 2) m->lora->scale *= 2;
        evaluate((struct slm2_eval_args){.keep = keep, .limit = 5, .model = m, .model_name = "m", .adapter = "runs/a"}, all, 5, &got);
        assert_int_equal(got.n_kept, 0);
        assert_int_equal(json_equal(json_object_get(got.json, "results"), json_object_get(want.json, "results")), step == 0);
        assert_string_equal(json_string_value(json_object_get(json_object_get(got.json, "config"), "adapter")), "runs/a");
        slm2_eval_result_free(&got);
    }
    slm2_eval_result_free(&want);
    slm2_model_free(m);

    assert_int_equal(slm2_dir_make(in_dir("single"), NULL), SLM2_OK);
    check_ok(slm2_file_read(&config, in_dir("model/model.safetensors"), 1 << 24, &err), &err);
    check_ok(slm2_file_write(in_dir("single/model.safetensors"), config.v, config.n, &err), &err);
    slm2_buf_clear(&config);
    check_ok(slm2_file_read(&config, in_dir("model/config.json"), 1 << 20, &err), &err);
    for (int i = 0; i < 2; i++) {
        if (i) slm2_buf_putc(&config, '\n');
        check_ok(slm2_file_write(in_dir("single/config.json"), config.v, config.n, &err), &err);
        check_ok(slm2_model_open(&m, in_dir("single/model.safetensors"), &err), &err);
        check_ok(slm2_model_key(m, hex[i], &err), &err);
        slm2_model_free(m);
    }
    assert_string_not_equal(hex[0], hex[1]);
    slm2_buf_free(&config);
    check_ok(slm2_model_trainable(&m, in_dir("model"), NULL, 1, SLM2_FP32, &err), &err);
    assert_int_equal(slm2_model_key(m, hex[0], &err), SLM2_EUSAGE); /* the file would tell another one */
    slm2_model_free(m);
}

/* Killed when its files have grown so far, again and again until it comes through: the result of a run that nobody disturbed. */
static void killed_runs_go_on(void **state)
{
    (void)state;
    struct slm2_eval_result want, got;
    char keep[300];
    int kills = 0, status = 0;
    snprintf(keep, sizeof keep, "%s", in_dir("killed"));
    evaluate((struct slm2_eval_args){.batch_tokens = 32}, all, 5, &want);
    for (long at = 500;; at += 4000) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct slm2_eval_result r;
            evaluate((struct slm2_eval_args){.keep = keep, .batch_tokens = 32}, all, 5, &r);
            _exit(0);
        }
        while (waitpid(pid, &status, WNOHANG) == 0) {
            if (count("cat *.jsonl | wc -c", "killed") >= at) kill(pid, SIGKILL); /* not yet waited for: the number is still this process */
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
        if (WIFEXITED(status)) break;
        kills++;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(kills > 0);
    evaluate((struct slm2_eval_args){.keep = keep, .batch_tokens = 32}, all, 5, &got);
    assert_true(got.n_kept == got.n_asked);
    same_result(&want, &got);
    slm2_eval_result_free(&got);
    slm2_eval_result_free(&want);
}

/* ---- groups and files ------------------------------------------------------------------------------------------------------------- */
static void groups(void **state)
{
    (void)state;
    struct slm2_eval_result r;
    double a_se, b_se, se, norm_se, word_se;
    evaluate((struct slm2_eval_args){0}, (const char *const[]){"mixed.yml"}, 1, &r);
    double a = slm2_eval_figure(&r, "pick_a", "acc", &a_se), b = slm2_eval_figure(&r, "pick_b", "acc", &b_se), items = slm2_eval_figure(&r, "by_items", "acc", &se);
    NEAR(items, (a * 24 + b * 40) / 64, 1e-15);
    NEAR(se, sqrt((23 * a_se * a_se * 24 + 39 * b_se * b_se * 40) / 62 / 64), 1e-15);
    double norm = slm2_eval_figure(&r, "pick_a", "acc_norm", &norm_se), word = slm2_eval_figure(&r, "word", "acc", &word_se), mean = slm2_eval_figure(&r, "mixed", "average", NULL);
    NEAR(mean, (norm + items + word) / 3, 1e-15);
    const json_t *below = json_object_get(json_object_get(r.json, "group_subtasks"), "mixed");
    assert_int_equal(json_array_size(below), 3);
    assert_string_equal(json_string_value(json_array_get(below, 1)), "by_items");
    double ppl, ppl_se;
    ppl = slm2_eval_figure(&r, "word", "perplexity", &ppl_se);
    assert_true(ppl > 1 && ppl_se > 0 && isfinite(ppl_se));
    slm2_eval_result_free(&r);
    evaluate((struct slm2_eval_args){0}, (const char *const[]){"apart.yml"}, 1, &r);
    assert_true(isnan(slm2_eval_figure(&r, "apart", NULL, NULL))); /* an accuracy and a perplexity */
    slm2_eval_result_free(&r);
}

static const char *string_at(const json_t *j, const char *key) { return json_string_value(json_object_get(j, key)); }

static void harness_files(void **state)
{
    (void)state;
    static const char *const parts[] = {"results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", "git_hash", "date", "lm_eval_version", "task_hashes", "model_name",
                                        "max_length", "chat_template", "total_evaluation_time_seconds"};
    struct slm2_eval_result r;
    struct slm2_err err;
    char path[4096], sample[4200];
    json_t *j, *list;
    evaluate((struct slm2_eval_args){0}, all, 5, &r);
    struct slm2_eval_args a = {.model = model, .tok = tok, .model_name = "m", .adapter = "runs/a"};
    check_ok(slm2_harness_write(&r, &a, in_dir("out"), path, sizeof path, &err), &err);
    check_ok(slm2_json_read(&j, path, 1 << 24, &err), &err);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!json_object_get(j, parts[i])) fail_msg("no \"%s\"", parts[i]);
    const json_t *results = json_object_get(j, "results"), *say = json_object_get(results, "say"), *pick = json_object_get(results, "pick_a");
    assert_true(json_is_real(json_object_get(pick, "acc_norm,none")) && json_is_real(json_object_get(pick, "acc_stderr,none")) && json_integer_value(json_object_get(pick, "sample_len")) == 24);
    assert_true(json_is_real(json_object_get(say, "exact_match,first")) && json_is_real(json_object_get(say, "exact_match_stderr,all")));
    assert_true(json_integer_value(json_object_get(json_object_get(json_object_get(j, "n-samples"), "pick_b"), "original")) == 40);
    assert_true(json_is_false(json_object_get(json_object_get(json_object_get(j, "higher_is_better"), "word"), "perplexity")));
    assert_string_equal(string_at(json_object_get(json_object_get(j, "configs"), "word"), "output_type"), "loglikelihood");
    assert_string_equal(string_at(json_object_get(j, "config"), "model_args"), "m,peft=runs/a");
    const char *when = strstr(path, "results_") + 8;
    snprintf(sample, sizeof sample, "%s/samples_pick_a_%.*s.jsonl", in_dir("out"), (int)strcspn(when, "j") - 1, when);
    check_ok(slm2_journal_read(sample, &list, &err), &err); /* lines of JSON objects */
    assert_int_equal(json_array_size(list), 24);
    const json_t *one = json_array_get(list, 3), *first = json_array_get(json_array_get(json_array_get(json_object_get(one, "resps"), 0), 0), 0);
    assert_true(json_integer_value(json_object_get(one, "doc_id")) == 3 && strcmp(string_at(one, "target"), "3") == 0 && strcmp(string_at(one, "filter"), "none") == 0);
    assert_string_equal(string_at(json_object_get(json_object_get(one, "arguments"), "gen_args_2"), "arg_1"), " \u00e9\u00e9 z");
    assert_true(json_is_string(first) && strtod(json_string_value(first), NULL) < 0 && json_equal(first, json_array_get(json_array_get(json_object_get(one, "filtered_resps"), 0), 0)));
    assert_true(json_is_real(json_object_get(one, "acc")) && json_array_size(json_object_get(one, "metrics")) == 3);
    /* python3: sha256(json.dumps(doc, indent=2, ensure_ascii=False)), sha256("3") */
    assert_string_equal(string_at(one, "target_hash"), "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce");
    assert_string_equal(string_at(one, "doc_hash"), "9745ee23b6d96c514038b016a0fe00f4287d2ee864146633a8eedd3b92c4e11a");
    json_decref(list);
    json_decref(j);
    assert_int_equal(json_array_size(json_object_get(r.samples, "say")), 48); /* one a filter */
    slm2_eval_result_free(&r);
}

/* The names and seeds of lm-evaluation-harness: mc2 is "acc" of a task of v0.4, and "mc2" by the leaderboard's rules. */
static void harness_names(void **state)
{
    (void)state;
    static const char *const both[] = {"mc_new.yml", "mc_old.yml"};
    struct slm2_eval_result r;
    put("marks.jsonl", "{\"q\":\"one\",\"c\":[\"x\",\"y\"],\"a\":[1,0]}\n{\"q\":\"two\",\"c\":[\"x\",\"y\"],\"a\":[0,1]}\n");
    put("mc_new.yml", "name: mc_new\nprompt: '{q}'\ndata: marks.jsonl\nchoices: c\ngold: a\nmetrics: [mc2]\n");
    put("mc_old.yml", "name: mc_old\nprompt: '{q}'\ndata: marks.jsonl\nchoices: c\ngold: a\nmetrics: [mc2]\nrules: v0.3\n");
    struct slm2_eval_args a = {.model = model, .tok = tok, .model_name = "m", .n_shot = -1, .seed = 2, .limit = 0.75};
    for (int n = 1; n <= 2; n++) {
        evaluate(a, both, n, &r);
        json_t *j = slm2_harness_json(&r, &a);
        const json_t *new_config = json_object_get(json_object_get(j, "configs"), "mc_new");
        assert_true(json_real_value(json_object_get(json_object_get(j, "config"), "limit")) == 0.75);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(json_object_get(j, "n-samples"), "mc_new"), "effective")), 2);
        static const char *const as_text[][2] = {{"doc_to_text", "{q}"}, {"doc_to_choice", "c"}, {"doc_to_target", "a"}, {"target_delimiter", " "}, {"fewshot_delimiter", "\n\n"}, {"output_type", "multiple_choice"}};
        for (size_t i = 0; i < sizeof as_text / sizeof as_text[0]; i++) assert_string_equal(string_at(new_config, as_text[i][0]), as_text[i][1]);
        const json_t *results = json_object_get(j, "results"), *configs = json_object_get(j, "configs"), *seed = json_object_get(json_object_get(j, "config"), "fewshot_seed");
        assert_true(json_is_real(json_object_get(json_object_get(results, "mc_new"), "acc,none")) && json_is_string(json_object_get(json_object_get(results, "mc_new"), "acc_stderr,none")) == isnan(r.v[0].stderr_));
        assert_null(json_object_get(json_object_get(results, "mc_new"), "mc2,none"));
        assert_string_equal(string_at(json_array_get(json_object_get(json_object_get(configs, "mc_new"), "metric_list"), 0), "metric"), "acc");
        assert_true(json_is_real(json_object_get(json_array_get(json_object_get(r.samples, "mc_new"), 0), "acc")));
        assert_int_equal(json_integer_value(json_object_get(json_object_get(configs, "mc_new"), "fewshot_seed")), 1236);
        if (n == 1) assert_int_equal(json_integer_value(seed), 1236);
        else {
            assert_true(json_is_null(seed)); /* there are two */
            assert_int_equal(json_integer_value(json_object_get(json_object_get(configs, "mc_old"), "fewshot_seed")), 44);
            assert_true(json_is_real(json_object_get(json_object_get(results, "mc_old"), "mc2,none")));
        }
        json_decref(j);
        slm2_eval_result_free(&r);
    }
}

/* ---- what a model cannot do as it is asked ---------------------------------------------------------------------------------------- */
/* Weights of zeros: every token is byte 0, and an answer is what was generated, to its length, also from the journal. */
static void answers_of_nul(void **state)
{
    (void)state;
    struct slm2_eval_result r;
    struct slm2_err err;
    struct slm2_model *m;
    char keep[300];
    snprintf(keep, sizeof keep, "%s", in_dir("nul-keep"));
    check_ok(slm2_model_trainable(&m, in_dir("model"), NULL, 1, SLM2_FP32, &err), &err);
    memset(slm2_model_master(m), 0, sizeof(float) * m->params.flat_elems);
    check_ok(slm2_model_save_hf(m, NULL, in_dir("nul"), SLM2_F32, &err), &err);
    slm2_model_free(m);
    check_ok(slm2_model_open(&m, in_dir("nul"), &err), &err);
    for (int i = 0; i < 2; i++) {
        evaluate((struct slm2_eval_args){.model = m, .limit = 1, .keep = keep}, (const char *const[]){"say.yml"}, 1, &r);
        assert_int_equal(r.n_kept, i);
        const json_t *one = json_array_get(json_object_get(r.samples, "say"), 1), *text = json_array_get(json_array_get(json_object_get(one, "resps"), 0), 0);
        assert_int_equal(json_string_length(text), 6);
        assert_memory_equal(json_string_value(text), "\0\0\0\0\0\0", 7);
        slm2_eval_result_free(&r);
    }
    slm2_model_free(m);
}

/* Answers get at most half of the context; what is cut is counted; WikiText reads in windows of all of it. */
static void limits_of_a_context(void **state)
{
    (void)state;
    struct slm2_eval_result r;
    struct slm2_err err;
    struct slm2_model *m;
    put("long.yml", "name: long\nkind: generate\nprompt: '{q}'\ndata: a.jsonl\ngold: w\nmax_new: 200\nn_shot: 8\n");
    put("pick_long.yml", "name: pick_long\nprompt: '{q}'\ndata: a.jsonl\nchoices: c\ngold: a\nn_shot: 12\n");
    put("pick_few.yml", "name: pick_few\nprompt: '{q}'\ndata: a.jsonl\nchoices: c\ngold: a\nn_shot: 2\n");
    evaluate((struct slm2_eval_args){.limit = 3}, (const char *const[]){"long.yml", "pick_long.yml", "pick_few.yml"}, 3, &r);
    const json_t *configs = json_object_get(r.json, "configs"), *length = json_object_get(json_object_get(configs, "long"), "max_gen_toks");
    assert_int_equal(json_integer_value(length), 96); /* of 192 */
    assert_int_equal(json_integer_value(json_object_get(json_object_get(configs, "long"), "truncated")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(configs, "pick_long"), "truncated")), 12); /* requests: 4 an item */
    assert_int_equal(json_integer_value(json_object_get(json_object_get(configs, "pick_few"), "truncated")), 0);
    slm2_eval_result_free(&r);

    struct slm2_config cfg = model->cfg;
    cfg.n_ctx = 2304;
    check_ok(slm2_model_trainable(&m, NULL, &cfg, 1, SLM2_FP32, &err), &err);
    put("pages.jsonl", "{\"page\":\"A page .\"}\n{\"page\":\"\"}\n{\"page\":\" Two , of @-@ them\", \"id\": \"b\"}\n");
    put("pages.yml", "name: pages\nkind: perplexity\nform: wikitext\ndata: pages.jsonl\nn_ctx: -1\nstride: -1\nmetrics: [word_perplexity, byte_perplexity]\n");
    evaluate((struct slm2_eval_args){.model = m}, (const char *const[]){"pages.yml"}, 1, &r);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json_object_get(r.json, "configs"), "pages"), "n_ctx")), 2304);
    struct slm2_eval_result part;
    evaluate((struct slm2_eval_args){.model = m, .limit = 0.5}, (const char *const[]){"pages.yml"}, 1, &part); /* two pages of three, one of which is empty */
    assert_int_equal(json_array_size(json_object_get(part.samples, "pages")), 1);
    slm2_eval_result_free(&part);
    /* a record of each page, as the harness has them */
    const json_t *pages = json_object_get(r.samples, "pages"), *two = json_array_get(pages, 1), *ll = json_array_get(json_array_get(json_object_get(two, "resps"), 0), 0), *by = json_object_get(two, "word_perplexity");
    assert_true(json_array_size(pages) == 2 && json_integer_value(json_object_get(two, "doc_id")) == 2 && strcmp(string_at(json_object_get(two, "doc"), "id"), "b") == 0);
    assert_string_equal(string_at(two, "target"), " Two, of-them");
    assert_string_equal(string_at(json_object_get(json_object_get(two, "arguments"), "gen_args_0"), "arg_0"), " Two, of-them");
    assert_true(strtod(json_string_value(ll), NULL) == json_real_value(json_array_get(by, 0)) && json_equal(ll, json_array_get(json_object_get(two, "filtered_resps"), 0)));
    assert_true(json_integer_value(json_array_get(by, 1)) == 6 && json_integer_value(json_array_get(json_object_get(two, "byte_perplexity"), 1)) == 18); /* of the page: '', Two ',' of @-@ them; its bytes */
    /* python3: sha256(json.dumps(doc, indent=2, ensure_ascii=False)), sha256(" Two, of-them") */
    assert_string_equal(string_at(two, "doc_hash"), "66124ad9d1a21afeb8d5613d36ca036bb7f9178ba1731786c87b9dac095628e7");
    assert_string_equal(string_at(two, "prompt_hash"), "2eb639ee5a1d92a1a9da2c215269028dfe7a705d400db49bc2052e51a0dfb863");
    double sum = json_real_value(json_array_get(json_object_get(json_array_get(pages, 0), "word_perplexity"), 0)) + json_real_value(json_array_get(by, 0));
    NEAR(slm2_eval_figure(&r, "pages", "word_perplexity", NULL), exp(-sum / 9), 1e-12); /* 3 words and 6 */
    slm2_eval_result_free(&r);
    slm2_model_free(m);
    struct slm2_task t;
    check_ok(slm2_task_define(&t, "configs/tasks/wikitext.yml", NULL, &err), &err);
    assert_int_equal(t.n_ctx, -1);
    slm2_task_free(&t);
}

static slm2_status try_tasks(const char *first, const char *second, struct slm2_eval_result *r, struct slm2_err *err)
{
    char path[2][300];
    snprintf(path[0], sizeof path[0], "%s", in_dir(first));
    snprintf(path[1], sizeof path[1], "%s", in_dir(second));
    return slm2_eval(&(struct slm2_eval_args){.model = model, .tok = tok, .n_shot = -1, .tasks = (const char *const[]){path[0], path[1]}, .n_tasks = 2, .n_threads = 1}, r, err);
}

/* Missing data of the last task stop a list before its first is computed; parts with a long common beginning stay apart. */
static void checked_before(void **state)
{
    (void)state;
    struct slm2_eval_result r;
    struct slm2_err err;
    struct slm2_buf b = {0};
    put("gone.yml", "name: gone\nprompt: '{q}'\ndata: gone.jsonl\nchoices: c\ngold: a\n");
    assert_int_equal(try_tasks("pick_a.yml", "gone.yml", &r, &err), SLM2_EIO);
    assert_int_equal(r.n_asked, 0);
    slm2_eval_result_free(&r);

    for (int i = 0; i < 4; i++) slm2_buf_printf(&b, "{\"q\":\"%d\",\"c\":[\"x\",\"y\"],\"a\":%d,\"g\":\"high_school_government_and_%s\"}\n", i, i % 2, i < 3 ? "law" : "politics");
    put("parts.jsonl", b.v);
    put("parts.yml", "name: parts\nprompt: '{q}'\ndata: parts.jsonl\nchoices: c\ngold: a\ngroup: g\n");
    check_ok(try_tasks("pick_a.yml", "parts.yml", &r, &err), &err);
    const json_t *n = json_object_get(r.json, "n-samples");
    assert_int_equal(json_integer_value(json_object_get(n, "parts.high_school_government_and_law")), 3);
    assert_int_equal(json_integer_value(json_object_get(n, "parts.high_school_government_and_politics")), 1);
    slm2_eval_result_free(&r);
    slm2_buf_clear(&b);
    slm2_buf_printf(&b, "{\"q\":\"1\",\"c\":[\"x\",\"y\"],\"a\":0,\"g\":\"%0200d\"}\n", 1);
    put("parts.jsonl", b.v);
    assert_int_equal(try_tasks("pick_a.yml", "parts.yml", &r, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "200 bytes long, want 153"));
    assert_int_equal(r.n_asked, 0);
    slm2_eval_result_free(&r);
    slm2_buf_free(&b);
}

static void beside_published(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_buf out = {0};
    json_t *tables;
    struct slm2_eval_metric v[] = {{.task = "arc_challenge", .metric = "acc_norm", .value = 0.4534, .stderr_ = 0.01, .n = 1172, .n_shot = 25},
                                   {.task = "hellaswag", .metric = "acc_norm", .value = 0.5, .stderr_ = 0.005, .n = 100, .n_shot = 0},
                                   {.task = "leaderboard", .metric = "average", .value = 0.47525, .stderr_ = 0.005, .n = 9, .n_shot = -1, .is_group = true}};
    struct slm2_eval_result r = {.v = v, .n = 3, .json = json_pack("{s:{s:i}}", "config", "limit", 7)};
    check_ok(slm2_reported_read(&tables, "assets/eval/reported.json", &err), &err);
    check_ok(slm2_reported_markdown(&r, tables, "mine", &out, &err), &err);
    assert_non_null(strstr(out.v, "Only the first 7 items"));
    assert_non_null(strstr(out.v, "| **mine** | | 47.52 ± 0.50 | 45.34 ± 1.00 | 50.00 ± 0.50 (0-shot) | | | | | measured |\n"));
    assert_non_null(strstr(out.v, "| difference to stablelm-2-zephyr-1_6b (report; first card), in standard errors | | -4.4 | +2.0 | | | | | | |\n"));
    assert_non_null(strstr(out.v, "| phi-2 | 2.7B | 61.32 | 61.09 |"));
    assert_null(strstr(out.v, "MT-Bench")); /* nothing of ours */
    slm2_buf_free(&out);
    json_decref(tables);
    json_decref(r.json);
    slm2_buf_clear(&out);
    r.json = json_pack("{s:{s:f}}", "config", "limit", 0.25);
    check_ok(slm2_reported_read(&tables, "assets/eval/reported.json", &err), &err);
    check_ok(slm2_reported_markdown(&r, tables, "mine", &out, &err), &err);
    assert_non_null(strstr(out.v, "Only the first 25 % of the items"));
    slm2_buf_free(&out);
    json_decref(tables);
    json_decref(r.json);
    static const char *const bad[] = {"[]", "{\"tables\":[{\"group\":\"g\"}]}", "{\"tables\":[{\"group\":\"g\",\"columns\":[{\"title\":\"t\",\"task\":\"a\",\"metric\":\"m\"}],\"rows\":[{\"model\":\"x\",\"values\":[1,2]}]}]}"};
    for (size_t i = 0; i < 3; i++) {
        put("bad.json", bad[i]);
        assert_int_equal(slm2_reported_read(&tables, in_dir("bad.json"), &err), SLM2_EFORMAT);
        assert_non_null(strstr(err.msg, "bad.json"));
    }
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(picks), cmocka_unit_test(kept_file), cmocka_unit_test(batches_do_not_matter), cmocka_unit_test(second_run_asks_nothing), cmocka_unit_test(another_model_asks_again), cmocka_unit_test(killed_runs_go_on),
                                   cmocka_unit_test(groups), cmocka_unit_test(harness_files), cmocka_unit_test(harness_names), cmocka_unit_test(answers_of_nul), cmocka_unit_test(limits_of_a_context), cmocka_unit_test(checked_before), cmocka_unit_test(beside_published), cmocka_unit_test(errors), cmocka_unit_test(published)};
SLM2_TEST_MAIN_WITH(tests, make_all, free_all)
