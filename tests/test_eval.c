/* test_eval.c [DIR] - evaluation: golden log-likelihoods, picks and perplexity windows on each instruction set (tests/data/golden or a
 * folder of the same form), then a whole run. */
#include <unistd.h>

#include "golden.h"
#include "eval/report.h"

static struct golden g = {.dir = "tests/data/golden"};

static void expect(const char *what, bool ok) { golden_result(&g, ok, what, ok, 1); }

/* ---- golden -------------------------------------------------------------------------------------------------------------- */
static double worst_list(const float *got, const json_t *want, int n)
{
    double worst = (int)json_array_size(want) == n ? 0 : HUGE_VAL;
    for (int i = 0; i < n; i++) worst = fmax(worst, fabs((double)got[i] - json_number_value(json_array_get(want, (size_t)i))));
    return worst;
}

/* Scores list[n] of {context, continuation, ...} in one call; ll[n]. */
static void golden_scores(struct slm2_scorer *s, const json_t *list, const char *name, double *ll)
{
    int n = (int)json_array_size(list);
    struct slm2_score *v = calloc((size_t)n, sizeof *v);
    struct slm2_err err;
    char what[200];
    for (int i = 0; i < n; i++) {
        const json_t *p = json_array_get(list, (size_t)i);
        v[i].context = int_list(json_object_get(p, "context"), &v[i].n_context);
        v[i].continuation = int_list(json_object_get(p, "continuation"), &v[i].n_continuation);
        v[i].logprobs = calloc((size_t)v[i].n_continuation, sizeof(float));
    }
    must(slm2_score(s, v, n, NULL, &err), &err);
    for (int i = 0; i < n; i++) {
        const json_t *p = json_array_get(list, (size_t)i);
        snprintf(what, sizeof what, "%s %d: log-likelihood", name, i);
        golden_within(&g, what, fabs(v[i].loglikelihood - num(p, "loglikelihood")), 1e-4);
        snprintf(what, sizeof what, "%s %d: log p of each token", name, i);
        golden_within(&g, what, worst_list(v[i].logprobs, json_object_get(p, "token_logprobs"), v[i].n_continuation), 3e-5);
        snprintf(what, sizeof what, "%s %d: is_greedy", name, i);
        golden_equal(&g, what, v[i].is_greedy, json_is_true(json_object_get(p, "is_greedy")));
        if (ll) ll[i] = v[i].loglikelihood;
        free((void *)(uintptr_t)v[i].context);
        free((void *)(uintptr_t)v[i].continuation);
        free(v[i].logprobs);
    }
    free(v);
}

static void golden_groups(struct slm2_scorer *s, const json_t *j)
{
    const json_t *groups = json_object_get(j, "groups");
    size_t n = json_array_size(groups);
    double acc = 0, acc_norm = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *group = json_array_get(groups, i), *choices = json_object_get(group, "choices");
        size_t k = json_array_size(choices), *bytes = calloc(k, sizeof *bytes);
        double *ll = calloc(k, sizeof *ll);
        char what[100];
        for (size_t c = 0; c < k; c++) bytes[c] = strlen(json_string_value(json_object_get(json_array_get(choices, c), "continuation_text")));
        snprintf(what, sizeof what, "group %zu", i);
        golden_scores(s, choices, what, ll);
        size_t pick = slm2_eval_pick(ll, NULL, k), pick_norm = slm2_eval_pick(ll, bytes, k), gold = (size_t)num(group, "gold");
        snprintf(what, sizeof what, "group %zu: pick", i);
        golden_equal(&g, what, (double)pick, num(group, "pick"));
        snprintf(what, sizeof what, "group %zu: pick_norm", i);
        golden_equal(&g, what, (double)pick_norm, num(group, "pick_norm"));
        acc += pick == gold;
        acc_norm += pick_norm == gold;
        free(ll);
        free(bytes);
    }
    golden_within(&g, "acc", fabs(acc / (double)n - num(j, "acc")), 1e-12);
    golden_within(&g, "acc_norm", fabs(acc_norm / (double)n - num(j, "acc_norm")), 1e-12);
}

static void golden_stream(struct slm2_scorer *s, const json_t *stream)
{
    const json_t *runs = json_object_get(stream, "runs"), *run;
    int n, *ids = int_list(json_object_get(stream, "tokens"), &n);
    float *lp = calloc((size_t)n, sizeof *lp);
    size_t i;
    json_array_foreach(runs, i, run) {
        const json_t *want = json_object_get(run, "windows");
        int window = (int)num(run, "max_len"), stride = (int)num(run, "stride");
        size_t n_windows = slm2_score_n_windows((size_t)n, window, stride);
        struct slm2_window *w = calloc(n_windows, sizeof *w);
        struct slm2_err err;
        struct slm2_ppl p = {.n_tokens = n, .n_words = (int64_t)num(stream, "n_words"), .n_bytes = (int64_t)num(stream, "n_bytes")};
        char what[200], name[100];
        snprintf(name, sizeof name, "stream %s %d/%d", json_string_value(json_object_get(run, "method")), window, stride);
        must(slm2_score_stream(s, ids, (size_t)n, window, stride, &p.sum_logprob, lp, w, &err), &err);
        snprintf(what, sizeof what, "%s: number of windows", name);
        golden_equal(&g, what, (double)n_windows, (double)json_array_size(want));
        double total = 0, worst = 0, counts = 0;
        for (int k = 0; k < n; k++) total += (double)lp[k];
        for (size_t k = 0; k < n_windows && k < json_array_size(want); k++) {
            const json_t *one = json_array_get(want, k);
            worst = fmax(worst, fabs(w[k].sum_logprob - num(one, "sum_logprob")));
            counts += w[k].n_scored != (int)num(one, "n_scored") || w[k].n_input != (int)num(one, stride ? "n_window" : "n_input");
        }
        const struct { const char *key; double got; } sums[] = {{"token_perplexity", slm2_ppl_token(&p)}, {"word_perplexity", slm2_ppl_word(&p)}, {"byte_perplexity", slm2_ppl_byte(&p)}, {"bits_per_byte", slm2_ppl_bits_per_byte(&p)}};
        snprintf(what, sizeof what, "%s: windows of another size", name);
        golden_equal(&g, what, counts, 0);
        snprintf(what, sizeof what, "%s: worst window", name);
        golden_within(&g, what, worst, 1e-3);
        snprintf(what, sizeof what, "%s: log-likelihood", name);
        golden_within(&g, what, fabs(p.sum_logprob - num(run, "sum_logprob")), 1e-3);
        snprintf(what, sizeof what, "%s: sum of the tokens", name);
        golden_within(&g, what, fabs(total - p.sum_logprob), 1e-6);
        for (size_t k = 0; k < 4; k++) { /* a relative error of (error of the sum) / (number of units) */
            snprintf(what, sizeof what, "%s: %s, relative", name, sums[k].key);
            golden_within(&g, what, fabs(sums[k].got / num(run, sums[k].key) - 1), 1e-3 / (k == 1 ? (double)p.n_words : (double)p.n_tokens));
        }
        free(w);
    }
    free(lp);
    free(ids);
}

/* The stream's tokens spell its text: words and bytes are counted from it as the reference counts them. */
static void golden_text(const json_t *stream)
{
    json_t *texts = golden_json(&g, "eval/token_text.json");
    const json_t *tokens = json_object_get(stream, "tokens"), *id;
    const char *want = json_string_value(json_object_get(stream, "text"));
    struct slm2_buf text = {0};
    size_t i;
    json_array_foreach(tokens, i, id) slm2_buf_puts(&text, json_string_value(json_array_get(texts, (size_t)json_integer_value(id))));
    expect("stream: tokens spell the text", text.v && want && strcmp(text.v, want) == 0);
    golden_equal(&g, "stream: bytes", (double)text.n, num(stream, "n_bytes"));
    slm2_buf_free(&text);
    json_decref(texts);
}

static void golden_all(const char *backend, const char *isa)
{
    json_t *j = golden_json(&g, "eval/eval.json");
    struct slm2_model *m;
    struct slm2_err err;
    snprintf(g.where, sizeof g.where, "%s%s%s", backend, isa ? "/" : "", isa ? isa : "");
    must(slm2_model_open(&m, golden_path(&g, json_string_value(json_object_get(j, "model"))), &err), &err);
    for (int batch = 0; batch <= 700; batch += 700) { /* 0: the default; 700: the stream's windows fall into several batches */
        struct slm2_scorer *s;
        struct slm2_scorer_opts o = {.backend = backend, .isa = isa, .n_threads = batch ? 2 : 1, .max_len = (int)num(j, "max_len"), .batch_tokens = batch ? 150 : 0, .prefix_id = (int32_t)num(j, "prefix_token")};
        must(slm2_scorer_new(&s, m, &o, &err), &err);
        golden_scores(s, json_object_get(j, "pairs"), "pair", NULL);
        golden_groups(s, j);
        golden_stream(s, json_object_get(j, "stream"));
        struct slm2_score bad = {.context = &(int32_t){1 << 30}, .n_context = 1, .continuation = &(int32_t){1}, .n_continuation = 1};
        expect("an id outside the vocabulary is refused", slm2_score(s, &bad, 1, NULL, &err) == SLM2_EFORMAT);
        bad = (struct slm2_score){.n_continuation = 0};
        expect("an empty continuation is refused", slm2_score(s, &bad, 1, NULL, &err) == SLM2_EFORMAT);
        double sum;
        expect("a stride of the window's size is refused", slm2_score_stream(s, &(int32_t){1}, 1, 16, 16, &sum, NULL, NULL, &err) == SLM2_EUSAGE);
        expect("no token, no sum", slm2_score_stream(s, &(int32_t){1}, 0, 16, 0, &sum, NULL, NULL, &err) == SLM2_OK && sum == 0);
        slm2_scorer_free(s);
    }
    golden_text(json_object_get(j, "stream"));
    slm2_model_free(m);
    json_decref(j);
}

/* ---- tasks --------------------------------------------------------------------------------------------------------------------- */
static char folder[] = "build-test-eval-XXXXXX";

static const char *put_file(const char *name, const char *text)
{
    static char path[4][256];
    static int turn;
    char *p = path[turn++ & 3];
    struct slm2_err err;
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    must(slm2_file_write(p, text, strlen(text), &err), &err);
    return p;
}

static const char items[] = "{\"q\":\"one\",\"c\":[\"x\",\"yy\"],\"a\":0,\"l\":\"en\"}\n{\"q\":\"two\",\"c\":[\"x\",\"yy\"],\"a\":\"B\",\"l\":\"de\"}\n"
                            "{\"q\":\"three\",\"c\":[\"x\",\"yy\",\"z\"],\"a\":\"z\",\"l\":\"en\"}\n{\"q\":\"four\",\"c\":[\"x\",\"yy\"],\"a\":1,\"l\":\"de\"}\n";

/* A random model with the true vocabulary would be large: a small vocabulary of bytes and a model to it, all tasks from a folder, twice. */
static void test_run(void)
{
    struct slm2_err err;
    struct slm2_buf vocab = {0};
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int b = 0; b < 256; b++) slm2_buf_printf(&vocab, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    struct slm2_tok *tok;
    const char *path = put_file("bytes.tiktoken", vocab.v);
    must(slm2_tok_open(&tok, path, &err), &err);
    slm2_buf_free(&vocab);
    int n_vocab = slm2_tok_n_vocab(tok);
    struct slm2_config cfg = {.vocab_size = n_vocab, .hidden_size = 32, .intermediate_size = 64, .n_layer = 2, .n_head = 2, .n_kv_head = 2, .head_dim = 16, .n_rot = 4, .n_ctx = 96, .norm_eps = 1e-5f,
                              .rope_theta = 10000, .init_std = 0.2f, .qkv_bias = true, .eos_id = slm2_tok_eos(tok) >= 0 ? slm2_tok_eos(tok) : 0};
    struct slm2_model *m;
    must(slm2_model_trainable(&m, NULL, &cfg, 1, SLM2_FP32, &err), &err);
    put_file("items.jsonl", items);
    put_file("text.jsonl", "{\"text\":\"Guten Tag.\",\"lang\":\"de\"}\n{\"text\":\"Good day to you.\",\"lang\":\"en\"}\nbroken\n{\"text\":\"Gute Nacht.\",\"lang\":\"de\"}\n");
    const char *paths[] = {put_file("run1.yml", "name: pick\nprompt: 'Q: {q} A:'\ndata: items.jsonl\nchoices: c\ngold: a\nn_shot: 1\ngroup: l\n"),
                           put_file("run2.yml", "name: say\nkind: generate\nprompt: '{q}'\ndata: items.jsonl\ngold: q\nmax_new: 8\nstop: [\"\\n\"]\n"),
                           put_file("run3.yml", "name: text\nkind: perplexity\ndata: text.jsonl\ngroup: lang\nn_ctx: 16\n")};
    char ledger_path[300];
    snprintf(ledger_path, sizeof ledger_path, "%s/run.sqlite", folder);
    struct slm2_ledger *l;
    must(slm2_ledger_open(&l, ledger_path, "eval", &err), &err);
    struct slm2_eval_args a = {.model = m, .tok = tok, .tasks = paths, .n_tasks = 3, .n_shot = -1, .n_threads = 1, .samples = true, .ledger = l, .prefix = "sft."};
    struct slm2_eval_result r, again;
    must(slm2_eval(&a, &r, &err), &err);
    double v = -1, se, de = slm2_eval_figure(&r, "pick.de", "acc", NULL), en = slm2_eval_figure(&r, "pick.en", "acc", NULL), acc = slm2_eval_figure(&r, "pick", "acc", &se);
    expect("run: groups make up the whole", fabs((de + en) / 2 - acc) < 1e-12 && se >= 0);
    double n = 4, want = sqrt(acc * (1 - acc) / (n - 1)); /* sample deviation of ones and zeros over sqrt(n) */
    expect("run: standard error", fabs(se - want) < 1e-12);
    expect("run: perplexity by language", slm2_eval_figure(&r, "text.de", "bits_per_byte", &se) > 0 && isfinite(se) && isnan(slm2_eval_figure(&r, "text.fr", "bits_per_byte", NULL)));
    expect("run: byte tokens, so both perplexities agree", fabs(slm2_eval_figure(&r, "text", "token_perplexity", NULL) - slm2_eval_figure(&r, "text", "byte_perplexity", NULL)) < 1e-9);
    expect("run: the ledger has the figure", slm2_ledger_get_figure(l, "sft.eval.pick.acc", &v) && v == acc);
    expect("run: JSON", json_number_value(json_object_get(json_object_get(json_object_get(r.json, "results"), "pick"), "acc")) == acc);
    expect("run: samples", json_array_size(json_object_get(r.samples, "pick")) == 4 && json_array_size(json_object_get(r.samples, "say")) == 4);
    must(slm2_ledger_close(l, &err), &err);
    a.ledger = NULL;
    a.n_threads = 2;
    must(slm2_eval(&a, &again, &err), &err);
    expect("run: again, with two threads, the same", r.n == again.n && json_equal(json_object_get(r.json, "results"), json_object_get(again.json, "results")) && json_equal(json_object_get(r.samples, "say"), json_object_get(again.samples, "say")));
    slm2_eval_result_free(&again);
    a.limit = 2;
    must(slm2_eval(&a, &again, &err), &err);
    expect("run: limit", json_array_size(json_object_get(again.samples, "pick")) == 2);
    slm2_eval_result_free(&again);
    const char *twice[] = {paths[0], paths[0]};
    a.tasks = twice;
    a.n_tasks = 2;
    expect("run: a task named twice runs once", slm2_eval(&a, &again, &err) == SLM2_OK && json_array_size(json_object_get(again.samples, "pick")) == 2 && json_object_size(again.samples) == 1);
    slm2_eval_result_free(&again);
    a.tasks = (const char *[]){"no-such-task.yml"};
    a.n_tasks = 1;
    expect("run: a missing task is an error", slm2_eval(&a, &again, &err) == SLM2_EIO);
    slm2_eval_result_free(&again);
    slm2_eval_result_free(&r);
    slm2_model_free(m);
    slm2_tok_free(tok);
}

int main(int argc, char **argv)
{
    static const char *const isas[] = {"scalar", "avx2", "avx512", NULL};
    struct slm2_err err;
    if (argc > 1) g.dir = argv[1];
    if (golden_has(&g, "eval/eval.json")) {
        golden_all("ref", NULL);
        for (int i = 0; isas[i]; i++) {
            struct slm2_ctx c;
            if (slm2_ctx_init(&c, &(struct slm2_ctx_opts){.backend = "cpu", .isa = isas[i], .n_threads = 1}, &err) != SLM2_OK) {
                printf("skip cpu/%s: %s\n", isas[i], err.msg);
                continue;
            }
            slm2_ctx_free(&c);
            golden_all("cpu", isas[i]);
        }
    } else golden_skip(&g, "eval/eval.json");
    snprintf(g.where, sizeof g.where, "tasks");
    if (!mkdtemp(folder)) {
        printf("FAIL cannot make %s\n0 passed, 1 failed\n", folder);
        return 1;
    }
    test_run();
    must(slm2_dir_remove(folder, &err), &err);
    printf("%d passed, %d failed\n", g.n_passed, g.n_failed);
    return g.n_failed != 0;
}
