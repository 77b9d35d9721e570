/* cmd_demo.c - `slm2 demo`: the whole recipe at nano scale on bundled text, every stage the real one, with a table and a report.
 *
 * DIR/{data,pretrain,sft,dpo,selfknow}/  what each stage writes     DIR/held_out.jsonl  documents that no stage has learnt from
 * DIR/eval.json, compare.json, summary.json  figures                DIR/model-*.gguf, report.html
 * summary.json holds no times: two runs give the same file. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/share.h"
#include "cli/use.h"
#include "data/build.h"
#include "data/shard.h"
#include "eval/eval.h"
#include "eval/quant_eval.h"
#include "infer/generate.h"
#include "quant/convert.h"
#include "report/report.h"
#include "tok/chat.h"
#include "train/pretrain.h"
#include "train/tune.h"

enum { HELD_OUT_TOKENS = 1500 }; /* of each source, for perplexity: enough to compare models, little enough to wait for */

struct opts { char *out; int64_t steps; int threads; bool resume; };
static const struct slm2_opt table[] = {
    {.name = "out", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, out), .def = "runs/demo", .help = "folder of the demo; an earlier demo in it is replaced"},
    {.name = "steps", .type = SLM2_OPT_INT64, .offset = offsetof(struct opts, steps), .lo = 0, .hi = 1e6, .def = "0", .help = "updates of pre-training; 0: as configs/nano.yml says"},
    {.name = "resume", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, resume), .help = "go on with what an interrupted demo left"},
    SLM2_CLI_THREADS(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "demo [--out DIR] [-t N]",
    .about = "Makes a language model on this machine in a few minutes, from bundled text in seven languages and code: tokenises it, pre-trains\n"
             "a nano model of the Stable LM 2 architecture with the true vocabulary and the hybrid schedule, fine-tunes it (SFT, DPO,\n"
             "self-knowledge), evaluates and quantises it, asks it a question, and writes an HTML report.",
    .examples = "slm2 demo\nslm2 demo --out runs/short --steps 40 -t 2",
};

struct demo {
    const struct opts *o;
    struct slm2_tok *tok;
    json_t *summary;                 /* figures of every stage, without times */
    struct slm2_buf text;            /* the table that is printed at the end */
    double began;
    double unigram_entropy;          /* of the held-out text, nats a token */
    char pretrained[SLM2_PATH_MAX], tuned[SLM2_PATH_MAX], final[SLM2_PATH_MAX], held_out[SLM2_PATH_MAX];
    int n_wrong;                     /* promises that did not hold */
};

/* ---- paths and rows ---------------------------------------------------------------------------------------------------- */

static const char *in_out(const struct demo *d, const char *name, char path[SLM2_PATH_MAX])
{
    snprintf(path, SLM2_PATH_MAX, "%s/%s", d->o->out, name);
    return path;
}

static const char *in_share(const char *name, char path[SLM2_PATH_MAX])
{
    static_assert((int)SLM2_PATH_MAX == (int)SLM2_SHARE_PATH, "one size of paths");
    slm2_share_find(name, path);
    return path;
}

static void stage_begins(const struct demo *d, const char *what)
{
    slm2_cli_note("%3d s  %s", (int)(slm2_now_s() - d->began), what);
}

static void figure(struct demo *d, const char *key, double v) { json_object_set_new(d->summary, key, slm2_json_real(v, NULL)); }

static void row(struct demo *d, const char *stage, const char *what, double before, double after, const char *note)
{
    char b[32] = "", a[32];
    if (isfinite(before)) snprintf(b, sizeof b, "%.4g", before);
    snprintf(a, sizeof a, "%.4g", after);
    slm2_buf_printf(&d->text, "  %-14s %-46s %10s %10s   %s\n", stage, what, b, a, note);
}

/* A promise of the demo: said in the table, and the demo fails when it does not hold. */
static const char *promise(struct demo *d, bool holds, const char *text)
{
    static char line[4][160];
    static int turn;
    char *l = line[turn++ & 3];
    if (d->o->steps) return "shortened run: no promise";
    d->n_wrong += !holds;
    snprintf(l, sizeof line[0], "%s: %s", holds ? "ok" : "NOT SO", text);
    return l;
}

/* ---- stages ------------------------------------------------------------------------------------------------------------ */

static slm2_status build_data(struct demo *d, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    struct slm2_data_opts o;
    stage_begins(d, "data: text to token files");
    slm2_conf_init(slm2_data_table, &o);
    slm2_status st = slm2_conf_yaml(slm2_data_table, &o, in_share("configs/data-nano.yml", path), err);
    if (st == SLM2_OK) st = slm2_share_settings(slm2_data_table, &o, err);
    if (st == SLM2_OK) {
        free(o.out);
        o.out = strdup(in_out(d, "data", path));
        o.n_threads = d->o->threads;
        o.stop = slm2_cli_catch_stop();
        st = o.out ? slm2_data_build(&o, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for a path");
    }
    slm2_conf_free(slm2_data_table, &o);
    return st;
}

/* Appends documents of a held-out token file to held_out.jsonl, up to HELD_OUT_TOKENS, and counts every token of it. */
static slm2_status held_out_source(struct demo *d, const struct slm2_dataset_source *s, int32_t n_vocab, int64_t *count, struct slm2_buf *jsonl, struct slm2_err *err)
{
    struct slm2_shard shard;
    struct slm2_buf text = {0};
    int64_t taken = 0;
    if (!s->prefix[SLM2_SPLIT_VAL]) return SLM2_OK;
    SLM2_TRY(slm2_shard_open(&shard, s->prefix[SLM2_SPLIT_VAL], err));
    int32_t *ids = malloc(sizeof *ids * (size_t)(shard.n_tok + 1));
    slm2_status st = ids ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for held-out tokens");
    if (st == SLM2_OK) slm2_shard_read(&shard, 0, shard.n_tok, ids);
    for (int64_t i = 0; st == SLM2_OK && i < shard.n_tok; i++)
        if (ids[i] >= 0 && ids[i] < n_vocab) count[ids[i]]++;
        else st = slm2_fail(err, SLM2_EFORMAT, "%s.bin: token %lld is %d, the vocabulary has %d", s->prefix[SLM2_SPLIT_VAL], (long long)i, ids[i], n_vocab);
    for (int64_t q = 0; st == SLM2_OK && q < shard.n_seq && taken < HELD_OUT_TOKENS; q++) {
        int32_t n = slm2_shard_size(&shard, q);
        slm2_buf_clear(&text);
        st = slm2_tok_decode(d->tok, ids + slm2_shard_start(&shard, q), (size_t)(n > 0 ? n - 1 : 0), &text, err); /* without EOS */
        json_t *j = st == SLM2_OK ? json_pack("{s:o, s:s}", "text", json_stringn(text.v ? text.v : "", text.n), "lang", s->lang[0] ? s->lang : s->name) : NULL;
        if (j) {
            slm2_json_dump(j, jsonl);
            slm2_buf_putc(jsonl, '\n');
        }
        json_decref(j);
        taken += n;
    }
    free(ids);
    slm2_buf_free(&text);
    slm2_shard_close(&shard);
    return st;
}

static slm2_status held_out(struct demo *d, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    struct slm2_dataset set;
    struct slm2_buf jsonl = {0};
    int64_t n_train = 0, total = 0;
    SLM2_TRY(slm2_dataset_open(&set, in_out(d, "data", path), err));
    int64_t *count = calloc((size_t)set.vocab_size + 1, sizeof *count);
    slm2_status st = count ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for token counts");
    for (int i = 0; st == SLM2_OK && i < set.n; i++) {
        n_train += set.v[i].n_tok[SLM2_SPLIT_TRAIN];
        st = held_out_source(d, &set.v[i], set.vocab_size, count, &jsonl, err);
    }
    for (int32_t v = 0; st == SLM2_OK && v < set.vocab_size; v++) total += count[v];
    d->unigram_entropy = 0;
    for (int32_t v = 0; st == SLM2_OK && v < set.vocab_size; v++)
        if (count[v]) d->unigram_entropy -= (double)count[v] / (double)total * log((double)count[v] / (double)total);
    if (st == SLM2_OK) st = slm2_buf_check(&jsonl, err);
    if (st == SLM2_OK) st = slm2_file_write(in_out(d, "held_out.jsonl", d->held_out), jsonl.v ? jsonl.v : "", jsonl.n, err);
    if (st == SLM2_OK) {
        row(d, "data", "training tokens", (double)NAN, (double)n_train, "8 sources: 7 languages and code");
        row(d, "data", "held-out tokens", (double)NAN, (double)total, "whole documents, never learnt");
        figure(d, "data.train_tokens", (double)n_train);
        figure(d, "data.held_out_tokens", (double)total);
        figure(d, "data.unigram_entropy", d->unigram_entropy);
    }
    free(count);
    slm2_buf_free(&jsonl);
    slm2_dataset_free(&set);
    return st;
}

/* Puts a figure into a finished run's ledger, for the report. */
static slm2_status ledger_figure(const char *path, const char *key, double v, struct slm2_err *err)
{
    struct slm2_ledger *l;
    SLM2_TRY(slm2_ledger_append(&l, path, "pretrain", err));
    slm2_ledger_figure(l, key, v);
    return slm2_ledger_close(l, err);
}

static slm2_status pretrain(struct demo *d, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX], data[SLM2_PATH_MAX + 8], run[SLM2_PATH_MAX + 8], steps[5][64], config[SLM2_PATH_MAX];
    const char *sets[8] = {data, run};
    int n = 2;
    struct slm2_pretrain_opts o;
    struct slm2_train_result r;
    stage_begins(d, "pretrain: next-token prediction, hybrid schedule with cooldown");
    snprintf(data, sizeof data, "data=%s", in_out(d, "data", path));
    snprintf(run, sizeof run, "run=%s", in_out(d, "pretrain", path));
    if (d->o->steps) { /* a shorter run keeps the schedule's shape */
        snprintf(steps[0], sizeof steps[0], "train.steps=%lld", (long long)d->o->steps);
        snprintf(steps[1], sizeof steps[1], "schedule.n_step=%lld", (long long)(d->o->steps * 20 / 11 + 1));
        snprintf(steps[2], sizeof steps[2], "schedule.cooldown_start=%lld", (long long)(d->o->steps * 5 / 11));
        snprintf(steps[3], sizeof steps[3], "schedule.n_cooldown=%lld", (long long)(d->o->steps - d->o->steps * 5 / 11));
        snprintf(steps[4], sizeof steps[4], "schedule.n_warmup=%lld", (long long)(d->o->steps / 50));
        for (int i = 0; i < 5; i++) sets[n++] = steps[i];
    }
    slm2_status st = slm2_pretrain_settings(&o, in_share("configs/nano.yml", config), sets, n, err);
    if (st == SLM2_OK) {
        if (d->o->threads) o.threads = d->o->threads;
        o.stop = slm2_cli_catch_stop();
        free(o.isa);
        o.isa = strdup(slm2_cli_isa() ? slm2_cli_isa() : "");
        st = slm2_pretrain_run(&o, config, &r, err);
    }
    slm2_conf_free(slm2_pretrain_table, &o);
    if (st != SLM2_OK) return st;
    snprintf(d->pretrained, sizeof d->pretrained, "%s", r.model_dir);
    row(d, "pretrain", "held-out loss, nats a token", r.metric_before, r.metric, promise(d, r.metric < d->unigram_entropy - 0.15, "under the unigram entropy by over 0.15"));
    row(d, "", "unigram entropy of the held-out text", (double)NAN, d->unigram_entropy, "what counting tokens alone can reach");
    figure(d, "pretrain.valid_loss_before", r.metric_before);
    figure(d, "pretrain.valid_loss", r.metric);
    figure(d, "pretrain.train_loss", r.loss);
    figure(d, "pretrain.tokens", (double)r.n_tok);
    return ledger_figure(r.ledger, "unigram_entropy", d->unigram_entropy, err);
}

typedef slm2_status stage_fn(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err);

/* One fine-tuning stage from `model`; data[n_data] are assignments whose value lies under the share folder. */
static slm2_status tune(struct demo *d, const char *name, stage_fn *run, const char *model, const char *const (*files)[2], int n_files, struct slm2_stage_result *r, struct slm2_err *err)
{
    char config[SLM2_PATH_MAX], file[40], set[8][SLM2_PATH_MAX + 16], path[SLM2_PATH_MAX];
    const char *sets[8];
    int n = 0;
    snprintf(file, sizeof file, "configs/%s-nano.yml", name);
    snprintf(set[n++], sizeof set[0], "model=%s", model);
    snprintf(set[n++], sizeof set[0], "run=%s", in_out(d, name, path));
    for (int i = 0; i < n_files; i++) snprintf(set[n++], sizeof set[0], "%s=%s", files[i][0], in_share(files[i][1], path));
    if (!strcmp(name, "selfknow")) snprintf(set[n++], sizeof set[0], "other_text=%s", d->held_out);
    for (int i = 0; i < n; i++) sets[i] = set[i];
    struct slm2_stage_args args = {.config = in_share(file, config), .sets = sets, .n_sets = n, .isa = slm2_cli_isa(), .threads = d->o->threads, .stop = slm2_cli_catch_stop()};
    SLM2_TRY(run(&args, r, err));
    for (int i = 0; i < r->n_figure; i++) {
        char key[80];
        snprintf(key, sizeof key, "%s.%s", name, r->figure[i].name);
        figure(d, key, r->figure[i].value);
    }
    return SLM2_OK;
}

static slm2_status align(struct demo *d, struct slm2_err *err)
{
    static const char *const sft_files[][2] = {{"data", "assets/align/sft.jsonl"}, {"valid", "assets/align/sft.valid.jsonl"}};
    static const char *const dpo_files[][2] = {{"data", "assets/align/dpo.jsonl"}, {"valid", "assets/align/dpo.valid.jsonl"}};
    static const char *const self_files[][2] = {{"card", "assets/selfknow/card-nano.yml"}, {"few_shot", "assets/selfknow/few_shot-nano.yml"}, {"probes", "assets/selfknow/probes-nano.yml"}, {"other_chat", "assets/align/sft.valid.jsonl"}};
    struct slm2_stage_result r;
    char model[SLM2_PATH_MAX];

    stage_begins(d, "sft: conversations, loss on the assistant's tokens");
    SLM2_TRY(tune(d, "sft", slm2_sft, d->pretrained, sft_files, 2, &r, err));
    double before = slm2_stage_figure(&r, "start.valid_loss"), after = slm2_stage_figure(&r, "valid_loss");
    row(d, "sft", "held-out assistant-token loss", before, after, promise(d, after < before - 0.5, "learnt to answer"));
    row(d, "", "held-out assistant-token accuracy", slm2_stage_figure(&r, "start.valid_accuracy"), slm2_stage_figure(&r, "valid_accuracy"), "");
    snprintf(d->tuned, sizeof d->tuned, "%s", r.final_dir);
    snprintf(model, sizeof model, "%s", r.final_dir);

    stage_begins(d, "dpo: pairs of answers against the frozen reference");
    SLM2_TRY(tune(d, "dpo", slm2_dpo, model, dpo_files, 2, &r, err));
    double margin = slm2_stage_figure(&r, "valid_margin");
    after = slm2_stage_figure(&r, "valid_accuracy");
    before = slm2_stage_figure(&r, "start.valid_accuracy");
    row(d, "dpo", "held-out preference accuracy (reward margin > 0)", before, after, promise(d, after > 0.75, "prefers the chosen answers more than before"));
    row(d, "", "held-out reward margin", slm2_stage_figure(&r, "start.valid_margin"), margin, "");
    row(d, "", "held-out pairs whose chosen answer is likelier", slm2_stage_figure(&r, "start.valid_prefers_chosen"), slm2_stage_figure(&r, "valid_prefers_chosen"), "");
    snprintf(model, sizeof model, "%s", r.final_dir);

    stage_begins(d, "selfknow: the model's own messages, positive and negative answers");
    SLM2_TRY(tune(d, "selfknow", slm2_selfknow, model, self_files, 4, &r, err));
    static const char *const self_rows[][2] = {{"probe_margin", "probes: right over best wrong fact, nats a token"}, {"probe_answers", "probes: greedy answers that hold the fact"},
                                               {"valid_loss_positive", "held-out loss, positive answers"}, {"valid_loss_negative", "held-out loss, negative answers behind their token"},
                                               {"valid_loss_text", "held-out loss of the documents"}, {"valid_loss_chat", "held-out loss of the conversations"}};
    for (size_t i = 0; i < sizeof self_rows / sizeof self_rows[0]; i++) {
        char start[64];
        snprintf(start, sizeof start, "start.%s", self_rows[i][0]);
        row(d, i ? "" : "selfknow", self_rows[i][1], slm2_stage_figure(&r, start), slm2_stage_figure(&r, self_rows[i][0]), i ? "" : "too small a model to know: see configs/selfknow/");
    }
    snprintf(d->final, sizeof d->final, "%s", r.final_dir);
    return SLM2_OK;
}

/* ---- judging ----------------------------------------------------------------------------------------------------------- */

static slm2_status perplexity(struct demo *d, const char *model, struct slm2_ppl_result *r, struct slm2_err *err)
{
    struct slm2_model *m;
    struct slm2_ppl_opts o = slm2_ppl_opts_default();
    o.isa = slm2_cli_isa();
    o.n_threads = d->o->threads;
    o.jsonl = true;
    SLM2_TRY(slm2_model_open(&m, model, err));
    slm2_status st = slm2_perplexity_file(m, d->tok, d->held_out, &o, r, err);
    slm2_model_free(m);
    return st;
}

static slm2_status tasks_of(struct demo *d, const char *model, const char *label, json_t *all, double *accuracy, struct slm2_err *err)
{
    char dir[SLM2_PATH_MAX];
    struct slm2_model *m = NULL;
    struct slm2_eval_result r = {0};
    const char *tasks[] = {"nano"};
    SLM2_TRY(slm2_model_open(&m, model, err));
    struct slm2_eval_args a = {.model = m, .tok = d->tok, .model_name = label, .tasks = tasks, .n_tasks = 1, .task_dir = in_share("configs/tasks", dir), .n_shot = 0, .isa = slm2_cli_isa(), .n_threads = d->o->threads, .interrupt = slm2_cli_catch_stop()};
    slm2_status st = slm2_eval(&a, &r, err);
    if (st == SLM2_OK) {
        *accuracy = slm2_eval_figure(&r, NULL, "acc", NULL);
        for (int i = 0; i < r.n; i++) {
            char key[400];
            snprintf(key, sizeof key, "eval.%s.%s.%s", label, r.v[i].task, r.v[i].metric);
            figure(d, key, r.v[i].value);
        }
        json_object_set(all, label, r.json);
    }
    slm2_eval_result_free(&r);
    slm2_model_free(m);
    return st;
}

static slm2_status evaluate(struct demo *d, struct slm2_err *err)
{
    struct slm2_ppl_result before, after;
    char path[SLM2_PATH_MAX];
    double acc_before = (double)NAN, acc_after = (double)NAN;
    json_t *all = json_object();
    stage_begins(d, "eval: bits per byte by language, tasks");
    slm2_status st = all ? tasks_of(d, d->pretrained, "pretrain", all, &acc_before, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for results");
    if (st == SLM2_OK) st = tasks_of(d, d->final, "final", all, &acc_after, err);
    if (st == SLM2_OK) st = perplexity(d, d->pretrained, &before, err);
    if (st == SLM2_OK) st = perplexity(d, d->final, &after, err);
    if (st == SLM2_OK) {
        row(d, "eval", "multiple choice, accuracy", acc_before, acc_after, "pre-trained, final");
        for (int i = 0; i < before.n_lang; i++) {
            char what[64], key[64];
            snprintf(what, sizeof what, "bits per byte, %s", before.lang[i].lang);
            row(d, i ? "" : "eval", what, slm2_ppl_bits_per_byte(&before.lang[i].p), slm2_ppl_bits_per_byte(&after.lang[i].p), i ? "" : "pre-trained, final; held-out documents");
            snprintf(key, sizeof key, "eval.pretrain.bits_per_byte.%s", before.lang[i].lang);
            figure(d, key, slm2_ppl_bits_per_byte(&before.lang[i].p));
        }
        st = slm2_json_write(all, in_out(d, "eval.json", path), err);
    }
    json_decref(all);
    return st;
}

/* A row and figures of one file beside the F32 one, whose perplexity is base. */
static void put_file(struct demo *d, const char *stage, const char *name, const json_t *file, double base)
{
    const double perplexity = slm2_json_show_number(file, "token_perplexity"), kl = slm2_json_show_number(file, "kl"), same = slm2_json_show_number(file, "top1_agreement");
    const struct { const char *name; double v; } figures[] = {{"perplexity", perplexity}, {"kl", kl}, {"top1_agreement", same}};
    char what[80], note[160], key[80];
    snprintf(what, sizeof what, "%s: perplexity a token, F32 and now", name);
    snprintf(note, sizeof note, "%.1f MB, %+.2f %%; KL %.2g nats, same top token %.1f %%", slm2_json_show_number(file, "bytes") / 1e6, 100 * (perplexity / base - 1), kl, 100 * same);
    row(d, stage, what, base, perplexity, note);
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        snprintf(key, sizeof key, "quantize.%s.%s", name, figures[i].name);
        figure(d, key, figures[i].v);
    }
}

/* GGUF files, and what `slm2 compare` says of the quantised ones beside that in F32: compare.json. */
static slm2_status quantise(struct demo *d, struct slm2_err *err)
{
    static const struct { enum slm2_dtype t; const char *file; } forms[] = {{SLM2_F32, "model-f32.gguf"}, {SLM2_Q8_0, "model-q8_0.gguf"}, {SLM2_Q4_0, "model-q4_0.gguf"}};
    enum { N = sizeof forms / sizeof forms[0] };
    char path[N][SLM2_PATH_MAX], dir[SLM2_PATH_MAX], out[SLM2_PATH_MAX];
    const char *files[N], *text = d->held_out, *tasks[] = {"nano"};
    struct slm2_model *m = NULL;
    json_t *result = NULL;
    stage_begins(d, "quantize: GGUF in F32, Q8_0 and Q4_0; perplexity, divergence and scores beside F32");
    for (int i = 0; i < N; i++) {
        struct slm2_convert_opts o = slm2_convert_opts_default();
        o.dtype = forms[i].t;
        o.name = "slm2 nano";
        files[i] = in_out(d, forms[i].file, path[i]);
        SLM2_TRY(slm2_convert(d->final, files[i], &o, NULL, err));
    }
    SLM2_TRY(slm2_model_open(&m, files[0], err));
    struct slm2_quant_eval_args a = {.original = files[0], .model = m, .tok = d->tok, .files = files + 1, .n_files = N - 1, .texts = &text, .n_texts = 1,
                                     .text = {.isa = slm2_cli_isa(), .n_threads = d->o->threads, .jsonl = true, .interrupt = slm2_cli_catch_stop()}, .tasks = tasks, .n_tasks = 1, .task_dir = in_share("configs/tasks", dir)};
    slm2_status st = slm2_quant_eval(&a, &result, err);
    if (st == SLM2_OK) {
        double base = slm2_json_show_number(json_object_get(result, "original"), "token_perplexity");
        figure(d, "quantize.F32.perplexity", base);
        for (int i = 1; i < N; i++) put_file(d, i == 1 ? "quantize" : "", slm2_dtype_info[forms[i].t].name, json_array_get(json_object_get(result, "models"), (size_t)i - 1), base);
        st = slm2_json_write(result, in_out(d, "compare.json", out), err);
    }
    json_decref(result);
    slm2_model_free(m);
    return st;
}

/* One greedy answer of the quantised model. */
static slm2_status ask(struct demo *d, const char *model, const char *question, struct slm2_buf *answer, struct slm2_err *err)
{
    struct slm2_model *m = NULL;
    struct slm2_engine *e = NULL;
    struct slm2_sampler *s = NULL;
    struct slm2_ids ids = {0};
    struct slm2_gen_result r = {0};
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    struct slm2_engine_setup setup = {.isa = slm2_cli_isa(), .kv_dtype = SLM2_F32};
    struct slm2_sampler_opts so = slm2_sampler_opts_default();
    struct slm2_chat_opts co = slm2_chat_opts_default(SLM2_CHAT_ZEPHYR);
    struct slm2_msg msg = {"user", question, strlen(question)};
    int32_t stop_id = slm2_chat_stop_id(d->tok, SLM2_CHAT_ZEPHYR);
    struct slm2_gen_opts go = {.n_max = 40, .stop_ids = &stop_id, .n_stop_ids = 1};
    eo.n_threads = d->o->threads;
    so.temperature = 0;
    co.add_generation_prompt = true;
    slm2_status st = slm2_model_open(&m, model, err);
    if (st == SLM2_OK) st = slm2_engine_new_setup(&e, m, &eo, &setup, err);
    if (st == SLM2_OK) st = slm2_sampler_new(&s, slm2_model_vocab_size(m), &so, err);
    if (st == SLM2_OK) st = slm2_chat_encode(d->tok, &co, &msg, 1, &ids, NULL, err);
    if (st == SLM2_OK) st = slm2_generate(e, 0, s, d->tok, &go, &ids, &r, err);
    if (st == SLM2_OK) slm2_buf_put(answer, r.text.v ? r.text.v : "", r.text.n);
    slm2_buf_free(&r.text);
    slm2_ids_free(&ids);
    slm2_sampler_free(s);
    slm2_engine_free(e);
    slm2_model_free(m);
    return st;
}

static slm2_status chat(struct demo *d, struct slm2_err *err)
{
    static const char *const questions[] = {"What does the command grep do?", "What is the French word for house?"};
    char path[SLM2_PATH_MAX];
    stage_begins(d, "chat: a question to the Q8_0 model");
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        struct slm2_buf answer = {0};
        char key[40];
        slm2_status st = ask(d, in_out(d, "model-q8_0.gguf", path), questions[i], &answer, err);
        if (st == SLM2_OK) {
            json_t *text = slm2_json_text(answer.v ? answer.v : "", answer.n); /* bytes that are not UTF-8 are replaced */
            slm2_buf_printf(&d->text, "  %-14s > %s\n  %-14s   %s\n", i ? "" : "chat", questions[i], "", text ? json_string_value(text) : "");
            snprintf(key, sizeof key, "chat.%zu", i);
            json_object_set_new(d->summary, key, text);
        }
        slm2_buf_free(&answer);
        if (st != SLM2_OK) return st;
    }
    return SLM2_OK;
}

static slm2_status report(struct demo *d, struct slm2_err *err)
{
    char out[SLM2_PATH_MAX];
    const char *dirs[] = {d->o->out};
    stage_begins(d, "report: curves, data, evaluation, energy");
    struct slm2_report_opts o = slm2_report_opts_default();
    SLM2_TRY(slm2_report_write(dirs, 1, in_out(d, "report.html", out), &o, err));
    slm2_buf_printf(&d->text, "  %-14s %s\n", "report", out);
    return SLM2_OK;
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

/* A fresh folder, or one that an earlier demo made (it holds demo.json): nothing else is removed. */
static slm2_status prepare(struct demo *d, struct slm2_err *err)
{
    static const char mark[] = "{\"made_by\": \"slm2 demo\"}\n";
    char path[SLM2_PATH_MAX];
    in_out(d, "demo.json", path);
    if (slm2_path_exists(d->o->out) && !slm2_path_exists(path))
        return slm2_fail(err, SLM2_EUSAGE, "%s exists and is not of an earlier demo; name another folder with --out", d->o->out);
    if (slm2_path_exists(path) && !d->o->resume) SLM2_TRY(slm2_dir_remove(d->o->out, err));
    SLM2_TRY(slm2_dir_make(d->o->out, err));
    SLM2_TRY(slm2_file_write(path, mark, sizeof mark - 1, err));
    d->summary = json_object();
    return d->summary ? slm2_tok_open(&d->tok, NULL, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for a summary");
}

static slm2_status run(struct demo *d, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    d->began = slm2_now_s();
    SLM2_TRY(prepare(d, err));
    SLM2_TRY(build_data(d, err));
    SLM2_TRY(held_out(d, err));
    SLM2_TRY(pretrain(d, err));
    SLM2_TRY(align(d, err));
    SLM2_TRY(evaluate(d, err));
    SLM2_TRY(quantise(d, err));
    SLM2_TRY(chat(d, err));
    SLM2_TRY(slm2_json_write(d->summary, in_out(d, "summary.json", path), err));
    SLM2_TRY(report(d, err));
    printf("\n  %-14s %-46s %10s %10s\n%s", "stage", "figure", "before", "after", d->text.v);
    printf("  %-14s %s (the same file every time)\n  %-14s %.0f s\n", "figures", path, "time", slm2_now_s() - d->began);
    if (d->n_wrong) return slm2_fail(err, SLM2_EFORMAT, "%d promise%s of the demo did not hold (NOT SO above)", d->n_wrong, d->n_wrong > 1 ? "s" : "");
    return SLM2_OK;
}

int slm2_cmd_demo(int argc, char **argv)
{
    struct opts o;
    struct slm2_err err;
    int rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) {
        struct demo d = {.o = &o};
        rc = run(&d, &err) == SLM2_OK ? 0 : slm2_cli_fail(&err);
        slm2_tok_free(d.tok);
        json_decref(d.summary);
        slm2_buf_free(&d.text);
    }
    slm2_conf_free(table, &o);
    return rc;
}
