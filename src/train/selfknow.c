/* selfknow.c - self-knowledge training: the model asks itself, answers with and without knowing who it is, and learns from both.
 *
 * 1. Messages and answers are drawn and filtered (selfdraw.h); RUN/samples.jsonl keeps all of them.
 * 2. Kept samples are learnt as in SFT, each alone (not packed); a negative answer stands behind a negative token in place of the assistant's.
 *    Conversations of `replay` are learnt among them, so that what the stages before taught is not lost.
 * 3. Probes that training never saw, and held-out texts of the stages before, are measured before and after (selfprobe.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "data/convo_rows.h"
#include "data/records.h"
#include "train/selfdraw.h"
#include "train/selfprobe.h"
#include "train/tune.h"

struct opts {
    struct slm2_tune_opts tune;
    struct slm2_selfdraw_opts draw;
    struct slm2_near_opts near;                   /* copied into draw */
    char *card, *few_shot, *probes, *keep_out, *negative_token;
    struct slm2_conf_list replay;                 /* of struct slm2_convo_set */
    struct slm2_selfprobe_opts probe;
    int n_valid;
};
#define ROW(f, key, type, lo, hi, def, help) {key, type, offsetof(struct opts, f), lo, hi, def, help, NULL, NULL, 0, 0}
#define FILES(f, key, type, def, help) {key, type, offsetof(struct opts, f), 0, 0, def, help, slm2_conf_file, NULL, 0, 0}
const struct slm2_opt slm2_selfknow_settings[] = {
    SLM2_TUNE_ROWS(struct opts, tune, "6", "256", "3e-6", "0", "100", "adamw"),
    FILES(card, "card", SLM2_OPT_STR, "!", "YAML: who the model is (name, maker, kind, released, languages, abilities, limits, others)"),
    FILES(few_shot, "few_shot", SLM2_OPT_STR, "!", "YAML: the earlier turns that carry the card's facts, openers and topics"),
    FILES(probes, "probes", SLM2_OPT_STR, "", "YAML: held-out questions about the model, measured before and after"),
    FILES(keep_out, "keep_out", SLM2_OPT_STR, "", "YAML: further probes, not measured, which no message may hold either: choose settings by one file, report another"),
    {"replay", SLM2_OPT_LIST, offsetof(struct opts, replay), 0, 0, NULL, "conversations of earlier stages, learnt among the samples so that they are not lost; data sets as those of `slm2 sft`, repeat says how often an epoch has each; an item has", NULL, slm2_convo_set_table, sizeof(struct slm2_convo_set), 0},
    FILES(probe.texts, "other_text", SLM2_OPT_STRS, NULL, "held-out documents, JSONL {\"text\"}: their loss is measured before and after"),
    {"other_chat", SLM2_OPT_LIST, offsetof(struct opts, probe.chats), 0, 0, NULL, "held-out conversations, data sets as those of `slm2 sft`: likewise; an item has", NULL, slm2_convo_set_table, sizeof(struct slm2_convo_set), 0},
    ROW(probe.data, "other_data", SLM2_OPT_STR, 0, 0, "", "folder of `data build`: its held-out documents likewise, as documents"),
    ROW(probe.max_tokens, "other_data_tokens", SLM2_OPT_INT, 1, 1 << 30, "8192", "tokens of each source of other_data"),
    ROW(negative_token, "negative_token", SLM2_OPT_STR, 0, 0, "<|reg0|>", "special token in place of the assistant's for negative answers"),
    SLM2_SELFDRAW_ROWS(struct opts, draw),
    ROW(n_valid, "valid_prompts", SLM2_OPT_INT, 0, 10000000, "0", "of the prompts held out for validation, the last ones"),
    ROW(probe.answer_tokens, "probe_tokens", SLM2_OPT_INT, 1, 1 << 20, "64", "longest answer to a probe"),
    SLM2_NEAR_ROWS(struct opts),
    {0},
};
const size_t slm2_selfknow_settings_size = sizeof(struct opts);

/* ---- what is learnt ---------------------------------------------------------------------------------------------------- */

struct sample { int32_t *ids; uint8_t *mask; int n; bool negative; };
struct selfknow {
    const struct opts *o;
    const struct slm2_tok *tok;
    struct sample *v; /* [n] the first n_train are learnt: positive and negative of each prompt in turn */
    int n, n_train, cap, max_len;
    int n_cut;        /* lost their end */
    struct slm2_convos replay;
    struct slm2_convo_rows replay_rows; /* only for `repeat`: item n_train + i is its member i */
    char data[65];    /* hash of all that is learnt */
    int64_t count[SLM2_SELF_N_VERDICT];
    int64_t n_draw;
    struct slm2_self self;
    struct slm2_selfprobe probe;
};

/* One answer of a sample.  What is longer than the model reads, or than micro_batch_tokens, loses its end and is counted. */
static slm2_status encode(struct selfknow *k, const json_t *sample, const char *what, bool negative, struct slm2_err *err)
{
    const char *prompt, *answer;
    SLM2_TRY(slm2_json_get_str(sample, "prompt", what, &prompt, err));
    SLM2_TRY(slm2_json_get_str(sample, negative ? "negative" : "positive", what, &answer, err));
    struct slm2_msg msgs[2] = {{"user", prompt, strlen(prompt)}, {"assistant", answer, strlen(answer)}};
    enum slm2_chat_template tmpl;
    struct slm2_ids ids = {0};
    struct slm2_buf mask = {0};
    SLM2_TRY(slm2_records_template(k->o->tune.chat, &tmpl, err));
    struct slm2_chat_opts co = slm2_chat_opts_default(tmpl);
    if (negative) co.assistant_token_id = slm2_tok_special_id(k->tok, k->o->negative_token);
    slm2_status st = slm2_chat_encode(k->tok, &co, msgs, 2, &ids, &mask, err);
    if (st == SLM2_OK) {
        k->n_cut += ids.n > (size_t)k->max_len;
        k->v[k->n++] = (struct sample){ids.v, (uint8_t *)mask.v, slm2_min_int((int)ids.n, k->max_len), negative};
    } else {
        slm2_ids_free(&ids);
        slm2_buf_free(&mask);
    }
    return st;
}

/* A line of samples.jsonl: counted, and learnt when it was kept.  Without a verdict it is somebody's own sample. */
static slm2_status take_sample(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct selfknow *k = user;
    const json_t *verdict = json_object_get(j, "verdict");
    int v = 0;
    if (verdict) {
        while (slm2_self_verdict_names[v] && (!json_is_string(verdict) || strcmp(slm2_self_verdict_names[v], json_string_value(verdict)))) v++;
        if (v == SLM2_SELF_N_VERDICT) return slm2_fail(err, SLM2_EFORMAT, "%s: verdict: no known one; remove the file to draw anew", what);
    }
    k->count[v]++;
    k->n_draw++;
    if (v != SLM2_SELF_KEPT) return SLM2_OK;
    if (k->n + 2 > k->cap) {
        int cap = 2 * k->cap + 256;
        struct sample *more = realloc(k->v, (size_t)cap * sizeof *more);
        if (!more) return slm2_fail(err, SLM2_ENOMEM, "no memory for samples");
        k->v = more;
        k->cap = cap;
    }
    SLM2_TRY(encode(k, j, what, false, err));
    return encode(k, j, what, true, err);
}

/* What is read after the draws is there before them: they take hours. */
static slm2_status files_there(const struct opts *o, struct slm2_err *err)
{
    const struct slm2_conf_list *chats[] = {&o->replay, &o->probe.chats};
    for (int i = 0; i < o->probe.texts.n; i++) {
        const char *path = ((char **)o->probe.texts.items)[i];
        if (!slm2_path_exists(path)) return slm2_fail(err, SLM2_EIO, "%s: no such file (other_text)", path);
    }
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < chats[l]->n; i++) {
            const struct slm2_convo_set *set = (const struct slm2_convo_set *)chats[l]->items + i;
            char **path = set->path.items;
            for (int k = 0; k < set->path.n; k++)
                if (!slm2_path_exists(path[k])) return slm2_fail(err, SLM2_EIO, "%s: no such file (%s)", path[k], l ? "other_chat" : "replay");
        }
    if (*o->probe.data && !slm2_path_exists(o->probe.data)) return slm2_fail(err, SLM2_EIO, "%s: no such folder (other_data)", o->probe.data);
    return SLM2_OK;
}

/* Card, earlier turns, probes and the negative token: what a run needs beside the model. */
static slm2_status read_self(struct selfknow *k, const struct opts *o, const struct slm2_tok *tok, struct slm2_err *err)
{
    SLM2_TRY(files_there(o, err));
    SLM2_TRY(slm2_self_read(&k->self, o->card, o->few_shot, o->probes, o->keep_out, err));
    if (slm2_tok_special_id(tok, o->negative_token) >= 0) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "negative_token \"%s\" is not a special token of the vocabulary", o->negative_token);
}

/* Draws before the trainer takes its memory. */
static slm2_status draw(struct selfknow *k, const struct opts *o, const struct slm2_stage_args *args, struct slm2_err *err)
{
    struct slm2_tok *tok = NULL;
    struct slm2_selfdraw_args a = {.o = &o->draw, .self = &k->self, .model = o->tune.model, .adapter = o->tune.lora.adapter, .run = o->tune.run, .seed = (uint64_t)o->tune.seed, .isa = args->isa, .threads = o->tune.threads, .stop = args->stop};
    SLM2_TRY(slm2_records_template(o->tune.chat, &a.tmpl, err));
    slm2_status st = slm2_tune_tok(&tok, &o->tune, err);
    a.tok = tok;
    if (st == SLM2_OK) st = read_self(k, o, tok, err);
    if (st == SLM2_OK) st = slm2_dir_make(o->tune.run, err);
    if (st == SLM2_OK) st = slm2_selfdraw(&a, err);
    slm2_tok_free(tok);
    return st;
}

static slm2_status hash_data(struct selfknow *k, struct slm2_err *err)
{
    struct slm2_buf b = {0};
    for (int i = 0; i < k->n; i++) {
        const struct sample *s = &k->v[i];
        slm2_buf_printf(&b, "%d %d ", s->n, s->negative);
        slm2_buf_put(&b, s->ids, (size_t)s->n * sizeof *s->ids);
        slm2_buf_put(&b, s->mask, (size_t)s->n);
    }
    slm2_buf_put(&b, &k->replay.hash, sizeof k->replay.hash);
    slm2_buf_put(&b, k->replay_rows.member, (size_t)k->replay_rows.n_member * sizeof *k->replay_rows.member);
    slm2_status st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) slm2_sha256_hex(b.v ? b.v : "", b.n, k->data);
    slm2_buf_free(&b);
    return st;
}

/* Each conversation alone, as samples are; the rows only count how often an epoch has it. */
static slm2_status load_replay(struct selfknow *k, const struct opts *o, const char *dir, const volatile sig_atomic_t *stop, struct slm2_err *err)
{
    struct slm2_convo_opts co = slm2_convo_opts_default();
    co.chat = o->tune.chat;
    co.n_ctx = k->max_len - 1;
    co.bad_is_fatal = true;
    co.dir = dir;
    co.n_threads = o->tune.threads;
    co.stop = stop;
    SLM2_TRY(slm2_convos_load(&k->replay, o->replay.items, o->replay.n, k->tok, &co, err));
    return slm2_convos_pack(&k->replay, (uint64_t)o->tune.seed, false, &k->replay_rows, err);
}

static struct sample item(const struct selfknow *k, uint32_t i)
{
    if ((int)i < k->n_train) return k->v[i];
    int c = k->replay_rows.member[(int)i - k->n_train];
    int64_t at = k->replay.start[c];
    return (struct sample){k->replay.ids + at, k->replay.mask + at, (int)(k->replay.start[c + 1] - at), false};
}

/* How many of n answers are learnt: not those of the prompts that are held out. */
static int learnt_of(const struct opts *o, int n) { return n - 2 * slm2_min_int(o->n_valid, n / 4); }

static void begin(struct selfknow *k, const struct opts *o, const struct slm2_tok *tok, const struct slm2_config *cfg)
{
    k->o = o;
    k->tok = tok;
    k->max_len = slm2_min_int(o->tune.max_tok, cfg->n_ctx + 1);
}

/* RUN/samples.jsonl */
static slm2_status read_samples(struct selfknow *k, const char *path, struct slm2_err *err)
{
    int64_t n_bad = 0;
    SLM2_TRY(slm2_records_read(path, 0, true, take_sample, k, &n_bad, err));
    k->n_train = learnt_of(k->o, k->n);
    return SLM2_OK;
}

static slm2_status prepare(struct selfknow *k, const struct opts *o, struct slm2_tune *tune, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX], key[64];
    SLM2_TRY(slm2_path_join(path, sizeof path, o->tune.run, "samples.jsonl", err));
    begin(k, o, tune->tok, &tune->t->model->cfg);
    SLM2_TRY(read_samples(k, path, err));
    SLM2_TRY(load_replay(k, o, o->tune.run, tune->args->stop, err));
    slm2_ledger_figure(tune->ledger, "replay.conversations", k->replay_rows.n_member);
    SLM2_TRY(hash_data(k, err));
    if (k->n_cut) slm2_log(SLM2_WARN, "selfknow: %d of %d answers are longer than %d tokens with their message and lose their end", k->n_cut, k->n, k->max_len);
    slm2_ledger_figure(tune->ledger, "draws.cut", k->n_cut);
    slm2_tune_figure(tune, "draws.cut", k->n_cut);
    slm2_ledger_figure(tune->ledger, "draws", (double)k->n_draw);
    for (int v = 0; v < SLM2_SELF_N_VERDICT; v++)
        if (k->count[v] || v == SLM2_SELF_KEPT) {
            snprintf(key, sizeof key, "draws.%s", slm2_self_verdict_names[v]);
            slm2_ledger_figure(tune->ledger, key, (double)k->count[v]);
        }
    slm2_ledger_run(tune->ledger, "card", k->self.card.name);
    return slm2_selfprobe_open(&k->probe, &k->self, tune, &o->probe, err);
}

static int count(const struct sample *s)
{
    int c = 0;
    for (int i = 1; i < s->n; i++) c += s->mask[i];
    return c;
}

static slm2_status step(void *user, struct slm2_tune *tune, const uint32_t *items, int n, struct slm2_err *err)
{
    struct selfknow *k = user;
    int64_t total = 0;
    for (int i = 0; i < n; i++) {
        struct sample s = item(k, items[i]);
        total += count(&s);
    }
    if (total == 0) total = 1;
    for (int i = 0; i < n;) {
        slm2_batch_clear(&tune->batch);
        do {
            struct sample s = item(k, items[i++]);
            SLM2_TRY(slm2_records_add(&tune->batch, s.ids, s.mask, s.n, 1.0f / (float)total, err));
        } while (i < n && tune->batch.max_tok - tune->batch.n_tok >= item(k, items[i]).n);
        slm2_trainer_accumulate(tune->t, &tune->batch);
    }
    tune->loss = tune->t->loss;
    return SLM2_OK;
}

/* Mean loss of the held-out positives and negatives, each behind its own token; then probes and what else must not be lost. */
static slm2_status validate(void *user, struct slm2_tune *tune, struct slm2_err *err)
{
    struct selfknow *k = user;
    double loss[2] = {0, 0};
    int64_t n[2] = {0, 0};
    for (int i = k->n_train; i < k->n; i++) {
        const struct sample *s = &k->v[i];
        slm2_batch_clear(&tune->batch);
        SLM2_TRY(slm2_records_add(&tune->batch, s->ids, s->mask, s->n, 1, err));
        loss[s->negative] += slm2_trainer_evaluate(tune->t, &tune->batch);
        n[s->negative] += count(s);
    }
    if (n[0]) slm2_tune_metric(tune, "valid_loss_positive", loss[0] / (double)n[0]);
    if (n[1]) slm2_tune_metric(tune, "valid_loss_negative", loss[1] / (double)n[1]);
    return slm2_selfprobe_run(&k->probe, tune, err);
}

static void samples_free(struct selfknow *k)
{
    for (int i = 0; i < k->n; i++) {
        free(k->v[i].ids);
        free(k->v[i].mask);
    }
    free(k->v);
    slm2_convo_rows_free(&k->replay_rows);
    slm2_convos_free(&k->replay);
    slm2_self_free(&k->self);
}

/* What was drawn, or that all is still to be drawn; *n_item answers are learnt. */
static slm2_status plan_samples(struct selfknow *k, const struct opts *o, int64_t *n_item, struct slm2_buf *text, json_t **json, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    int64_t n_tok = 0;
    SLM2_TRY(slm2_path_join(path, sizeof path, o->tune.run, "samples.jsonl", err));
    if (!slm2_path_exists(path)) {
        struct slm2_model *base = NULL;
        if (*o->draw.base && !slm2_path_exists(o->draw.base)) slm2_log(SLM2_WARN, "%s: no such model yet", o->draw.base);
        else if (*o->draw.base) SLM2_TRY(slm2_model_open(&base, o->draw.base, err));
        slm2_model_free(base);
        *n_item = learnt_of(o, 2 * o->draw.n_prompt);
        slm2_buf_printf(text, "%d messages are to be drawn%s%s, with two answers each; how many draws that takes, and their tokens, the model decides\n", o->draw.n_prompt, *o->draw.base ? " from " : "", o->draw.base);
        *json = json_pack("{s:b, s:i, s:I}", "drawn", 0, "prompts", o->draw.n_prompt, "learnt", (json_int_t)*n_item);
        return SLM2_OK;
    }
    SLM2_TRY(read_samples(k, path, err));
    json_t *counts = json_object();
    *n_item = k->n_train;
    for (int i = 0; i < k->n_train; i++) n_tok += k->v[i].n;
    slm2_buf_printf(text, "%s: draws %lld", path, (long long)k->n_draw);
    for (int v = 0; v < SLM2_SELF_N_VERDICT; v++) {
        if (!k->count[v] && v != SLM2_SELF_KEPT) continue;
        slm2_buf_printf(text, ", %s %lld", slm2_self_verdict_names[v], (long long)k->count[v]);
        json_object_set_new(counts, slm2_self_verdict_names[v], json_integer(k->count[v]));
    }
    slm2_buf_printf(text, "\n%d answers of %lld tokens to learn from, %d held out, %d lose their end\n", k->n_train, (long long)n_tok, k->n - k->n_train, k->n_cut);
    *json = json_pack("{s:b, s:I, s:o, s:i, s:i, s:i, s:I}", "drawn", 1, "draws", (json_int_t)k->n_draw, "counts", counts, "learnt", k->n_train, "held_out", k->n - k->n_train, "cut", k->n_cut,
                      "tokens", (json_int_t)n_tok);
    return SLM2_OK;
}

slm2_status slm2_selfknow_plan(const struct slm2_stage_args *args, struct slm2_buf *text, json_t **json, struct slm2_err *err)
{
    struct opts o;
    struct selfknow k = {0};
    struct slm2_tune_look look = {0};
    struct slm2_buf dump = {0};
    int64_t n_item = 0;
    slm2_status st = slm2_tune_settings(slm2_selfknow_settings, &o, sizeof o, args, &dump, err);
    *json = NULL;
    if (st == SLM2_OK) st = slm2_tune_look(&look, &o.tune, args, err);
    if (st == SLM2_OK) st = read_self(&k, &o, look.tok, err);
    if (st == SLM2_OK) begin(&k, &o, look.tok, &look.cfg);
    if (st == SLM2_OK) st = plan_samples(&k, &o, &n_item, text, json, err);
    if (st == SLM2_OK) st = load_replay(&k, &o, NULL, args->stop, err);
    if (st == SLM2_OK && o.replay.n) {
        n_item += k.replay_rows.n_member;
        slm2_buf_printf(text, "%d conversations of replay among them in each epoch\n", k.replay_rows.n_member);
        json_object_set_new(*json, "replay", json_integer(k.replay_rows.n_member));
    }
    if (st == SLM2_OK) st = slm2_tune_plan(&look, "selfknow", n_item, "answers", text, json, err);
    samples_free(&k);
    slm2_tune_look_free(&look);
    slm2_buf_free(&dump);
    slm2_tune_settings_free(slm2_selfknow_settings, &o, args);
    return st;
}

slm2_status slm2_selfknow(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err)
{
    struct opts o;
    struct selfknow k = {0};
    struct slm2_tune tune = {0};
    struct slm2_buf dump = {0};
    slm2_status st = slm2_tune_settings(slm2_selfknow_settings, &o, sizeof o, args, &dump, err);
    o.draw.near = o.near;
    if (st == SLM2_OK) st = draw(&k, &o, args, err);
    if (st == SLM2_OK) st = slm2_tune_open(&tune, "selfknow", &o.tune, args, dump.v, result, err);
    if (st == SLM2_OK) st = prepare(&k, &o, &tune, err);
    struct slm2_tune_stage stage = {.name = "selfknow", .user = &k, .n_item = k.n_train + k.replay_rows.n_member, .data = k.data, .step = step, .validate = validate};
    if (st == SLM2_OK) st = slm2_tune_run(&tune, &stage, err);
    slm2_selfprobe_free(&k.probe);
    st = slm2_tune_close(&tune, st, err);
    samples_free(&k);
    slm2_buf_free(&dump);
    slm2_tune_settings_free(slm2_selfknow_settings, &o, args);
    return st;
}
