/* selfknow.c - self-knowledge training: the model asks itself, answers with and without knowing who it is, and learns from both.
 *
 * 1. First messages are drawn from the model itself, behind the header of a user turn; distinct ones are kept.
 * 2. Positive answers are drawn behind earlier turns that carry the facts (the settings' few-shot file); negative ones without.
 * 3. Both are learnt as in SFT, each alone (not packed); a negative stands behind a negative token in place of the assistant's.
 * The samples are stored in RUN/samples.jsonl and used again on resume. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "base/rng.h"
#include "infer/generate.h"
#include "tok/chat.h"
#include "train/tune.h"

struct opts {
    struct slm2_tune_opts tune;
    char *facts, *negative_token;
    int n_prompt, prompt_tokens, answer_tokens, n_valid;
    float temperature, top_p;
};
#define ROW(f, key, type, lo, hi, def, help) {key, type, offsetof(struct opts, f), lo, hi, def, help, NULL, NULL, 0, 0}
const struct slm2_opt slm2_selfknow_settings[] = {
    SLM2_TUNE_ROWS(struct opts, tune, "6", "256", "3e-6", "0", "100", "adamw"),
    ROW(facts, "facts", SLM2_OPT_STR, 0, 0, "!", "JSON {\"messages\": [...]}: the turns that carry the facts about the model"),
    ROW(negative_token, "negative_token", SLM2_OPT_STR, 0, 0, "<|reg0|>", "special token in place of the assistant's for negative answers"),
    ROW(n_prompt, "prompts", SLM2_OPT_INT, 1, 10000000, "10000", "distinct first messages to draw"),
    ROW(n_valid, "valid_prompts", SLM2_OPT_INT, 0, 10000000, "0", "of them held out for validation"),
    ROW(prompt_tokens, "prompt_tokens", SLM2_OPT_INT, 1, 1 << 20, "64", "longest first message"),
    ROW(answer_tokens, "answer_tokens", SLM2_OPT_INT, 1, 1 << 20, "256", "longest answer"),
    ROW(temperature, "temperature", SLM2_OPT_FLOAT, 0.01, 10, "1", "of all draws"),
    ROW(top_p, "top_p", SLM2_OPT_FLOAT, 0.01, 1, "0.95", "of all draws"),
    {0},
};
const size_t slm2_selfknow_settings_size = sizeof(struct opts);

/* ---- drawing the samples ----------------------------------------------------------------------------------------------- */

struct draw {
    const struct opts *o;
    struct slm2_model *m;
    struct slm2_engine *e;
    struct slm2_tok *tok;
    enum slm2_chat_template tmpl;
    struct slm2_msgs facts;
    const volatile sig_atomic_t *stop;
    uint64_t n_draw; /* draws so far: the seed of the next */
};

static slm2_status draw_open(struct draw *d, const struct opts *o, const struct slm2_stage_args *args, struct slm2_tok *tok, struct slm2_err *err)
{
    json_t *j = NULL;
    *d = (struct draw){.o = o, .tok = tok, .stop = args->stop, .tmpl = strcmp(o->tune.chat, "chatml") ? SLM2_CHAT_ZEPHYR : SLM2_CHAT_CHATML};
    SLM2_TRY(slm2_json_read(&j, o->facts, 1 << 20, err));
    slm2_status st = slm2_msgs_from_json(&d->facts, j, o->facts, err);
    json_decref(j);
    if (st != SLM2_OK) return st;
    SLM2_TRY(slm2_model_open(&d->m, o->tune.model, err));
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    struct slm2_engine_setup setup = {.isa = args->isa, .kv_dtype = slm2_engine_kv_auto(d->m, false)};
    eo.n_threads = o->tune.threads;
    eo.n_seq = 1;
    return slm2_engine_new_setup(&d->e, d->m, &eo, &setup, err);
}

static void draw_close(struct draw *d)
{
    slm2_engine_free(d->e);
    slm2_model_free(d->m);
    slm2_msgs_free(&d->facts);
}

/* Draws the text that continues ids up to the end of a turn or a new header; white space around it is cut. */
static slm2_status continue_turn(struct draw *d, struct slm2_ids *ids, int n_max, struct slm2_buf *text, struct slm2_err *err)
{
    static const char *const stop[] = {"<|user|>", "<|assistant|>", "<|system|>"};
    struct slm2_sampler *sampler = NULL;
    struct slm2_gen_result r = {0};
    struct slm2_sampler_opts so = slm2_sampler_opts_default();
    int32_t stop_id = slm2_chat_stop_id(d->tok, d->tmpl), stop_ids[2] = {stop_id, slm2_tok_eos(d->tok)};
    struct slm2_gen_opts go = {.n_max = n_max, .stop = stop, .n_stop = 3, .stop_ids = stop_ids, .n_stop_ids = 2};
    int room = slm2_engine_n_ctx(d->e) - (int)ids->n;
    if (room < 2) return slm2_fail(err, SLM2_ELIMIT, "%s: %zu tokens of earlier turns leave no room in a context of %d", d->o->facts, ids->n, slm2_engine_n_ctx(d->e));
    if (go.n_max > room) go.n_max = room;
    so.temperature = d->o->temperature;
    so.top_p = d->o->top_p;
    so.top_k = 0;
    so.seed = slm2_rng_u64((uint64_t)d->o->tune.seed, SLM2_RNG_SAMPLE, d->n_draw++, 0);
    slm2_engine_rewind(d->e, 0, 0);
    slm2_status st = slm2_sampler_new(&sampler, slm2_model_vocab_size(d->m), &so, err);
    if (st == SLM2_OK) st = slm2_generate(d->e, 0, sampler, d->tok, &go, ids, &r, err);
    if (st == SLM2_OK) {
        const char *p = r.text.v ? r.text.v : "";
        size_t n = r.text.n;
        while (n && strchr(" \t\r\n", *p)) p++, n--;
        while (n && strchr(" \t\r\n", p[n - 1])) n--;
        slm2_buf_clear(text);
        slm2_buf_put(text, p, n);
        st = slm2_buf_check(text, err);
    }
    slm2_sampler_free(sampler);
    slm2_buf_free(&r.text);
    return st;
}

/* A first message: behind an empty user turn's header, as the model goes on. */
static slm2_status draw_prompt(struct draw *d, struct slm2_buf *text, struct slm2_err *err)
{
    struct slm2_ids ids = {0};
    const char *header = d->tmpl == SLM2_CHAT_ZEPHYR ? "<|user|>\n" : "<|im_start|>user\n";
    slm2_status st = slm2_tok_encode(d->tok, header, strlen(header), SLM2_TOK_SPECIAL, &ids, err);
    if (st == SLM2_OK) st = continue_turn(d, &ids, d->o->prompt_tokens, text, err);
    slm2_ids_free(&ids);
    return st;
}

static slm2_status draw_answer(struct draw *d, const struct slm2_buf *prompt, bool knows, struct slm2_buf *text, struct slm2_err *err)
{
    struct slm2_ids ids = {0};
    int n = knows ? d->facts.n : 0;
    struct slm2_msg *msgs = calloc((size_t)n + 1, sizeof *msgs);
    if (!msgs) return slm2_fail(err, SLM2_ENOMEM, "no memory for a prompt");
    for (int i = 0; i < n; i++) msgs[i] = d->facts.v[i];
    msgs[n] = (struct slm2_msg){"user", prompt->v, prompt->n};
    struct slm2_chat_opts co = slm2_chat_opts_default(d->tmpl);
    co.add_generation_prompt = true;
    slm2_status st = slm2_chat_encode(d->tok, &co, msgs, n + 1, &ids, NULL, err);
    if (st == SLM2_OK) st = continue_turn(d, &ids, d->o->answer_tokens, text, err);
    free(msgs);
    slm2_ids_free(&ids);
    return st;
}

/* Bytes that are no UTF-8 (a cut character) cannot stand in JSON: such drafts are drawn again. */
static json_t *json_text(const struct slm2_buf *b) { return json_stringn(b->v ? b->v : "", b->n); }

static slm2_status draw_samples(struct draw *d, json_t *samples, struct slm2_err *err)
{
    struct slm2_buf prompt = {0}, yes = {0}, no = {0};
    json_t *seen = json_object();
    slm2_status st = seen ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for samples");
    int n_try = 0, max_try = 20 * d->o->n_prompt + 100;
    while (st == SLM2_OK && (int)json_array_size(samples) < d->o->n_prompt && n_try++ < max_try) {
        if (d->stop && *d->stop) {
            st = slm2_fail(err, SLM2_ESTOP, "stopped while drawing samples, %zu of %d; the next run begins them again", json_array_size(samples), d->o->n_prompt);
            break;
        }
        st = draw_prompt(d, &prompt, err);
        if (st != SLM2_OK || prompt.n == 0) continue;
        json_t *p = json_text(&prompt);
        if (!p || json_object_getn(seen, prompt.v, prompt.n)) {
            json_decref(p);
            continue;
        }
        json_object_setn_new(seen, prompt.v, prompt.n, json_true());
        st = draw_answer(d, &prompt, true, &yes, err);
        if (st == SLM2_OK) st = draw_answer(d, &prompt, false, &no, err);
        json_t *y = json_text(&yes), *n = json_text(&no);
        if (st == SLM2_OK && y && n && yes.n && no.n) {
            json_array_append_new(samples, json_pack("{s:o, s:o, s:o}", "prompt", p, "positive", y, "negative", n));
            slm2_progress("samples", (double)json_array_size(samples) / d->o->n_prompt, "%zu of %d", json_array_size(samples), d->o->n_prompt);
        } else {
            json_decref(p);
            json_decref(y);
            json_decref(n);
        }
    }
    slm2_progress_end();
    if (st == SLM2_OK && (int)json_array_size(samples) < d->o->n_prompt)
        st = slm2_fail(err, SLM2_ELIMIT, "%d draws gave only %zu distinct messages with answers, want %d; raise the temperature or lower `prompts`", max_try, json_array_size(samples), d->o->n_prompt);
    json_decref(seen);
    slm2_buf_free(&prompt);
    slm2_buf_free(&yes);
    slm2_buf_free(&no);
    return st;
}

static slm2_status write_samples(const char *path, const json_t *samples, struct slm2_err *err)
{
    struct slm2_buf b = {0};
    size_t i;
    json_t *s;
    json_array_foreach(samples, i, s)
    {
        slm2_json_dump(s, &b);
        slm2_buf_putc(&b, '\n');
    }
    slm2_status st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) st = slm2_file_write(path, b.v ? b.v : "", b.n, err);
    slm2_buf_free(&b);
    return st;
}

static slm2_status read_samples(const char *path, json_t *samples, struct slm2_err *err)
{
    struct slm2_lines *l;
    const char *line;
    size_t n;
    SLM2_TRY(slm2_lines_open(&l, path, err));
    slm2_status st;
    while ((st = slm2_lines_next(l, &line, &n, err)) == SLM2_OK && line) {
        json_t *j = NULL;
        if ((st = slm2_json_parse(&j, line, n, path, err)) != SLM2_OK) break;
        json_array_append_new(samples, j);
    }
    slm2_lines_close(l);
    return st;
}

/* ---- training on them -------------------------------------------------------------------------------------------------- */

struct sample { int32_t *ids; uint8_t *mask; int n; bool negative; };
struct selfknow {
    struct sample *v; /* [n] the first n_train are learnt: positive and negative of each prompt in turn */
    int n, n_train;
};

static slm2_status encode(struct selfknow *k, const json_t *sample, bool negative, const struct opts *o, struct slm2_tok *tok, int max_len, struct slm2_err *err)
{
    const char *prompt, *answer, *what = "samples.jsonl";
    SLM2_TRY(slm2_json_get_str(sample, "prompt", what, &prompt, err));
    SLM2_TRY(slm2_json_get_str(sample, negative ? "negative" : "positive", what, &answer, err));
    struct slm2_msg msgs[2] = {{"user", prompt, strlen(prompt)}, {"assistant", answer, strlen(answer)}};
    struct slm2_chat_opts co = slm2_chat_opts_default(strcmp(o->tune.chat, "chatml") ? SLM2_CHAT_ZEPHYR : SLM2_CHAT_CHATML);
    struct slm2_ids ids = {0};
    struct slm2_buf mask = {0};
    if (negative && (co.assistant_token_id = slm2_tok_special_id(tok, o->negative_token)) < 0)
        return slm2_fail(err, SLM2_EUSAGE, "negative_token \"%s\" is not a special token of the vocabulary", o->negative_token);
    slm2_status st = slm2_chat_encode(tok, &co, msgs, 2, &ids, &mask, err);
    if (st == SLM2_OK) {
        int n = (int)(ids.n < (size_t)max_len ? ids.n : (size_t)max_len);
        k->v[k->n++] = (struct sample){ids.v, (uint8_t *)mask.v, n, negative};
    } else {
        slm2_ids_free(&ids);
        slm2_buf_free(&mask);
    }
    return st;
}

static slm2_status prepare(struct selfknow *k, const struct opts *o, struct slm2_tune *tune, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    int max_len = slm2_min_int(o->tune.max_tok, tune->t->model->cfg.n_ctx + 1);
    json_t *samples = json_array();
    slm2_status st = slm2_path_join(path, sizeof path, o->tune.run, "samples.jsonl", err);
    if (st == SLM2_OK && slm2_path_exists(path)) {
        slm2_log(SLM2_INFO, "selfknow: taking the samples of %s; remove it to draw new ones", path);
        st = read_samples(path, samples, err);
    }
    else if (st == SLM2_OK) {
        struct draw d;
        st = draw_open(&d, o, tune->args, tune->tok, err);
        if (st == SLM2_OK) st = draw_samples(&d, samples, err);
        if (st == SLM2_OK) st = write_samples(path, samples, err);
        draw_close(&d);
    }
    size_t n = json_array_size(samples);
    if (st == SLM2_OK && !(k->v = calloc(2 * n + 1, sizeof *k->v))) st = slm2_fail(err, SLM2_ENOMEM, "no memory for samples");
    for (size_t i = 0; st == SLM2_OK && i < n; i++) {
        st = encode(k, json_array_get(samples, i), false, o, tune->tok, max_len, err);
        if (st == SLM2_OK) st = encode(k, json_array_get(samples, i), true, o, tune->tok, max_len, err);
    }
    int n_valid = o->n_valid < (int)n / 2 ? o->n_valid : (int)n / 2;
    k->n_train = k->n - 2 * n_valid;
    slm2_ledger_figure(tune->ledger, "samples", (double)n);
    json_decref(samples);
    return st;
}

static int count(const struct sample *s)
{
    int c = 0;
    for (int i = 1; i < s->n; i++) c += s->mask[i];
    return c;
}

/* Appends a sample as one sequence: every token but the last is input, masked tokens are targets. */
static slm2_status add(struct slm2_batch *b, const struct sample *s, float weight, struct slm2_err *err)
{
    int first = b->n_tok;
    SLM2_TRY(slm2_batch_add(b, s->ids, NULL, NULL, s->n - 1, err));
    for (int i = 0; i + 1 < s->n; i++) {
        b->target[first + i] = s->mask[i + 1] ? s->ids[i + 1] : -1;
        b->weight[first + i] = s->mask[i + 1] ? weight : 0;
    }
    return SLM2_OK;
}

static slm2_status step(void *user, struct slm2_tune *tune, const uint32_t *items, int n, struct slm2_err *err)
{
    struct selfknow *k = user;
    int64_t total = 0;
    for (int i = 0; i < n; i++) total += count(&k->v[items[i]]);
    if (total == 0) total = 1;
    for (int i = 0; i < n;) {
        slm2_batch_clear(&tune->batch);
        do SLM2_TRY(add(&tune->batch, &k->v[items[i++]], 1.0f / (float)total, err));
        while (i < n && tune->batch.max_tok - tune->batch.n_tok >= k->v[items[i]].n);
        slm2_trainer_accumulate(tune->t, &tune->batch);
    }
    tune->loss = tune->t->loss;
    return SLM2_OK;
}

/* Mean loss of the held-out positives and negatives, each behind its own token. */
static slm2_status validate(void *user, struct slm2_tune *tune, struct slm2_err *err)
{
    struct selfknow *k = user;
    double loss[2] = {0, 0};
    int64_t n[2] = {0, 0};
    for (int i = k->n_train; i < k->n; i++) {
        const struct sample *s = &k->v[i];
        slm2_batch_clear(&tune->batch);
        SLM2_TRY(add(&tune->batch, s, 1, err));
        loss[s->negative] += slm2_trainer_evaluate(tune->t, &tune->batch);
        n[s->negative] += count(s);
    }
    if (n[0]) slm2_tune_metric(tune, "valid_loss_positive", loss[0] / (double)n[0]);
    if (n[1]) slm2_tune_metric(tune, "valid_loss_negative", loss[1] / (double)n[1]);
    return SLM2_OK;
}

slm2_status slm2_selfknow(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err)
{
    struct opts o;
    struct selfknow k = {0};
    struct slm2_tune tune = {0};
    struct slm2_buf dump = {0};
    slm2_status st = slm2_tune_settings(slm2_selfknow_settings, &o, sizeof o, args, &dump, err);
    if (st == SLM2_OK) st = slm2_tune_open(&tune, "selfknow", &o.tune, args, dump.v, result, err);
    if (st == SLM2_OK) st = prepare(&k, &o, &tune, err);
    struct slm2_tune_stage stage = {.name = "selfknow", .user = &k, .n_item = k.n_train, .step = step, .validate = validate};
    if (st == SLM2_OK) st = slm2_tune_run(&tune, &stage, err);
    st = slm2_tune_close(&tune, st, err);
    for (int i = 0; i < k.n; i++) {
        free(k.v[i].ids);
        free(k.v[i].mask);
    }
    free(k.v);
    slm2_buf_free(&dump);
    slm2_tune_settings_free(slm2_selfknow_settings, &o, args);
    return st;
}
