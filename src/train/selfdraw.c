/* selfdraw.c - draws messages and answers in rounds; a round is one file, so that a kill loses at most the round in hand. */
#include "train/selfdraw.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "base/rng.h"
#include "data/dedup.h"
#include "data/records.h"
#include "infer/generate.h"
#include "model/lora.h"
#include "train/ckpt.h"
#include "train/dpo_ref.h"

enum { ROUND_PER_SEQUENCE = 4, TRIES_PER_PROMPT = 50, MAX_PERIOD = 16, MAX_SIGNATURE = SLM2_NEAR_MAX_HASH };
#define SLM2_SELF_NAME_(id, name) name,
const char *const slm2_self_verdict_names[] = {SLM2_SELF_VERDICTS(SLM2_SELF_NAME_) NULL};
_Static_assert(sizeof slm2_self_verdict_names / sizeof *slm2_self_verdict_names == SLM2_SELF_N_VERDICT + 1, "a name for each verdict");

/* ---- judging one text ------------------------------------------------------------------------------------------------- */

/* Some block of 1 to MAX_PERIOD words comes four times on end, or covers the text three times: a model in a loop. */
static bool loops(const char *words)
{
    const char *at[511];
    int n = 0;
    for (const char *p = words; *p && n < 511; p += strcspn(p, " ")) {
        p += *p == ' ';
        if (*p && *p != ' ') at[n++] = p;
    }
    for (int period = 1; period <= MAX_PERIOD && 3 * period <= n; period++) {
        int same = 0; /* words that equal the one a period before */
        for (int i = period; i < n; i++) {
            size_t a = strcspn(at[i], " "), b = strcspn(at[i - period], " ");
            same = a == b && !memcmp(at[i], at[i - period], a) ? same + 1 : 0;
            if (same >= 3 * period || (same >= 2 * period && same + period == n && period > 1)) return true;
        }
    }
    return false;
}

static int count_words(const char *words)
{
    int n = 0;
    for (const char *p = words; *p; p += strcspn(p, " ")) {
        while (*p == ' ') p++;
        n += *p != 0;
    }
    return n;
}

enum slm2_self_verdict slm2_self_judge(const char *text, size_t n, const char *words, bool cut, int min_words)
{
    json_t *utf8 = n ? json_stringn(text, n) : NULL;
    json_decref(utf8);
    if (n == 0) return SLM2_SELF_M_EMPTY;
    if (!utf8 || memchr(text, 0, n) || strstr(text, "<|")) return SLM2_SELF_M_NOT_TEXT; /* half characters, pieces of a template */
    if (cut) return SLM2_SELF_M_CUT;
    if (count_words(words) < min_words) return SLM2_SELF_M_SHORT;
    return loops(words) ? SLM2_SELF_M_REPEATS : SLM2_SELF_KEPT;
}

/* ---- what is open while drawing --------------------------------------------------------------------------------------- */
struct draw {
    const struct slm2_selfdraw_args *a;
    struct slm2_model *model, *base;    /* base NULL: the model */
    struct slm2_engine *engine, *base_engine;
    struct slm2_msg *turns;             /* [2 * turns of the prompt + 1] the last is the message */
    struct slm2_seen seen;              /* words of messages that came before, and of openers */
    struct slm2_conf_list probes;       /* of const char *: their questions, borrowed */
    struct slm2_near *near;             /* probes, openers, messages that came before; NULL: off */
    char dir[SLM2_PATH_MAX];            /* RUN/draws */
    int64_t n_draw;
    int n_kept;
    int64_t count[SLM2_SELF_N_VERDICT];
    struct slm2_buf words, other, nfc, shingles;
};

struct text { struct slm2_buf v; enum slm2_gen_end end; int n_tok, attempt; bool drawn; };
struct item {
    int64_t draw;
    int opener[64], n_opener;
    struct text prompt, positive, negative;
    const struct slm2_self_topic *topic;
    enum slm2_self_verdict verdict;
};

static void item_free(struct item *it)
{
    slm2_buf_free(&it->prompt.v);
    slm2_buf_free(&it->positive.v);
    slm2_buf_free(&it->negative.v);
}

/* The key of a text's words. */
static slm2_status key_of(struct draw *d, const char *text, size_t n, struct slm2_text_key *key, struct slm2_err *err)
{
    slm2_buf_clear(&d->words);
    SLM2_TRY(slm2_self_words(text, n, &d->words, err));
    return slm2_text_key(d->words.v, d->words.n, &d->nfc, key, err);
}

static slm2_status note_near(struct draw *d, const char *text, struct slm2_err *err)
{
    uint16_t sig[MAX_SIGNATURE];
    if (!d->near) return SLM2_OK;
    SLM2_TRY(slm2_near_sign(d->near, text, strlen(text), &d->shingles, sig, err));
    return slm2_near_add(d->near, sig, err);
}

/* What messages must not be, before any was drawn. */
static slm2_status note_probes_and_openers(struct draw *d, struct slm2_err *err)
{
    const struct slm2_self *self = d->a->self;
    const struct slm2_conf_list *probes[] = {&self->probes, &self->keep_out};
    char *const *opener = self->openers.items;
    struct slm2_text_key key;
    const char **ask = calloc((size_t)self->probes.n + (size_t)self->keep_out.n + 1, sizeof *ask);
    if (!ask) return slm2_fail(err, SLM2_ENOMEM, "no memory for probes");
    d->probes = (struct slm2_conf_list){.items = ask};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < probes[k]->n; i++) {
            ask[d->probes.n] = ((const struct slm2_self_probe *)probes[k]->items)[i].ask;
            SLM2_TRY(note_near(d, ask[d->probes.n++], err));
        }
    for (int i = 0; i < self->openers.n; i++) {
        SLM2_TRY(key_of(d, opener[i], strlen(opener[i]), &key, err));
        SLM2_TRY(slm2_seen_add(&d->seen, key, err));
        SLM2_TRY(note_near(d, opener[i], err));
    }
    return SLM2_OK;
}

static bool has_adapter(const struct slm2_selfdraw_args *a) { return a->adapter && *a->adapter; }

/* The messages come from another model than the answers: a bare one is another than the same with an adapter. */
static bool has_base(const struct slm2_selfdraw_args *a) { return *a->o->base && (has_adapter(a) || strcmp(a->o->base, a->model)); }

static slm2_status open_engine(struct slm2_model **m, struct slm2_engine **e, const char *path, const char *adapter, int n_ctx, const struct slm2_selfdraw_args *a, struct slm2_err *err)
{
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    SLM2_TRY(slm2_model_open(m, path, err));
    if (adapter) SLM2_TRY(slm2_lora_open(*m, adapter, false, err));
    if (slm2_tok_n_vocab(a->tok) > slm2_model_vocab_size(*m))
        return slm2_fail(err, SLM2_EUSAGE, "%s: the model has %d ids, the vocabulary %d", path, slm2_model_vocab_size(*m), slm2_tok_n_vocab(a->tok));
    struct slm2_engine_setup setup = {.isa = a->isa, .kv_dtype = slm2_engine_kv_auto(*m, false)};
    eo.n_threads = a->threads;
    eo.n_seq = a->o->sequences;
    eo.n_ctx = slm2_min_int(n_ctx, slm2_model_n_ctx(*m));
    return slm2_engine_new_setup(e, *m, &eo, &setup, err);
}

static slm2_status draw_open(struct draw *d, struct slm2_err *err)
{
    const struct slm2_selfdraw_args *a = d->a;
    const struct slm2_self *self = a->self;
    const struct slm2_self_turn *t = self->turns.items;
    struct slm2_ids ids = {0};
    int n = self->turns.n;
    if (!(d->turns = calloc(2 * (size_t)n + 1, sizeof *d->turns))) return slm2_fail(err, SLM2_ENOMEM, "no memory for a prompt");
    for (int i = 0; i < n; i++) {
        d->turns[2 * i] = (struct slm2_msg){"user", t[i].ask, strlen(t[i].ask)};
        d->turns[2 * i + 1] = (struct slm2_msg){"assistant", t[i].say, strlen(t[i].say)};
    }
    SLM2_TRY(slm2_seen_open(&d->seen, a->run, err));
    if (a->o->near.threshold > 0) SLM2_TRY(slm2_near_open(&d->near, &a->o->near, a->run, err));
    SLM2_TRY(note_probes_and_openers(d, err));
    struct slm2_chat_opts co = slm2_chat_opts_default(a->tmpl);
    slm2_status st = slm2_chat_encode(a->tok, &co, d->turns, 2 * n, &ids, NULL, err);
    int n_ctx = (int)ids.n + 2 * a->o->prompt_tokens + a->o->answer_tokens + 64; /* a text encoded again may have other tokens */
    int n_turns = (int)ids.n;
    slm2_ids_free(&ids);
    if (st == SLM2_OK) st = open_engine(&d->model, &d->engine, a->model, has_adapter(a) ? a->adapter : NULL, n_ctx, a, err);
    if (st == SLM2_OK && n_turns + 16 > slm2_engine_n_ctx(d->engine))
        st = slm2_fail(err, SLM2_ELIMIT, "the few-shot prompt with the card takes %d tokens, the model's context holds %d: shorten it", n_turns, slm2_engine_n_ctx(d->engine));
    if (st == SLM2_OK && has_base(a)) st = open_engine(&d->base, &d->base_engine, a->o->base, NULL, n_ctx, a, err);
    return st;
}

static void draw_close(struct draw *d)
{
    slm2_engine_free(d->engine);
    slm2_engine_free(d->base_engine);
    slm2_model_free(d->model);
    slm2_model_free(d->base);
    slm2_seen_close(&d->seen);
    free(d->probes.items);
    if (d->near) slm2_near_close(d->near);
    free(d->turns);
    slm2_buf_free(&d->words);
    slm2_buf_free(&d->other);
    slm2_buf_free(&d->nfc);
    slm2_buf_free(&d->shingles);
}

/* ---- texts from the model --------------------------------------------------------------------------------------------- */

/* The end of a text is its turn's end, or a new header. */
static slm2_status generate(struct draw *d, struct slm2_engine *e, int n_max, struct slm2_gen_job *job, struct text **to, int n, struct slm2_err *err)
{
    static const char *const stop[] = {"<|user|>", "<|assistant|>", "<|system|>", "<|im_start|>"};
    const struct slm2_selfdraw_args *a = d->a;
    int32_t stop_ids[2] = {slm2_chat_stop_id(a->tok, a->tmpl), slm2_tok_eos(a->tok)};
    struct slm2_gen_opts go = {.n_max = n_max, .stop = stop, .n_stop = 4, .stop_ids = stop_ids, .n_stop_ids = 2, .interrupt = a->stop};
    SLM2_TRY(slm2_generate_many(e, a->tok, &go, job, n, err));
    for (int i = 0; i < n; i++) {
        const char *p = job[i].text.v ? job[i].text.v : "";
        size_t len = job[i].text.n;
        while (len && strchr(" \t\r\n", *p)) p++, len--;
        while (len && strchr(" \t\r\n", p[len - 1])) len--;
        slm2_buf_clear(&to[i]->v);
        slm2_buf_put(&to[i]->v, p, len);
        SLM2_TRY(slm2_buf_check(&to[i]->v, err));
        to[i]->end = job[i].end;
        to[i]->n_tok = job[i].n_new;
        to[i]->drawn = true;
    }
    return SLM2_OK;
}

/* kind 0: the message, 1: the negative answer, 2 + n: the positive answer's attempt n. */
static struct slm2_sampler_opts sampler_of(const struct draw *d, const struct item *it, int kind)
{
    struct slm2_sampler_opts so = slm2_sampler_opts_default();
    so.temperature = kind ? d->a->o->answer_temperature : d->a->o->temperature;
    so.top_p = d->a->o->top_p;
    so.top_k = 0;
    so.seed = slm2_rng_u64(d->a->seed, SLM2_RNG_SAMPLE, (uint64_t)it->draw, (uint64_t)kind);
    return so;
}

/* Openers as user turns, then the header of one more. */
static slm2_status message_prompt(struct draw *d, struct item *it, struct slm2_ids *ids, struct slm2_err *err)
{
    const struct slm2_selfdraw_args *a = d->a;
    const struct slm2_conf_list *openers = &a->self->openers;
    const char *header = a->tmpl == SLM2_CHAT_ZEPHYR ? "<|user|>\n" : "<|im_start|>user\n";
    struct slm2_msg msgs[64];
    struct slm2_chat_opts co = slm2_chat_opts_default(a->tmpl);
    it->n_opener = slm2_min_int(a->o->n_opener, openers->n);
    for (int i = 0; i < it->n_opener; i++) {
        it->opener[i] = (int)slm2_rng_place(a->seed, SLM2_RNG_FEWSHOT, (uint64_t)it->draw, (uint64_t)i, (uint64_t)openers->n);
        const char *text = ((char **)openers->items)[it->opener[i]];
        msgs[i] = (struct slm2_msg){"user", text, strlen(text)};
    }
    SLM2_TRY(slm2_chat_encode(a->tok, &co, msgs, it->n_opener, ids, NULL, err));
    return slm2_tok_encode(a->tok, header, strlen(header), SLM2_TOK_SPECIAL, ids, err);
}

static slm2_status answer_prompt(struct draw *d, const struct item *it, bool knows, struct slm2_ids *ids, struct slm2_err *err)
{
    int n = 2 * d->a->self->turns.n, from = knows ? 0 : n;
    struct slm2_chat_opts co = slm2_chat_opts_default(d->a->tmpl);
    co.add_generation_prompt = true;
    d->turns[n] = (struct slm2_msg){"user", it->prompt.v.v, it->prompt.v.n};
    return slm2_chat_encode(d->a->tok, &co, d->turns + from, n - from + 1, ids, NULL, err);
}

struct jobs { struct slm2_gen_job *job; struct slm2_ids *ids; struct text **to; int n; };

static slm2_status jobs_open(struct jobs *j, int n, struct slm2_err *err)
{
    *j = (struct jobs){calloc((size_t)n + 1, sizeof *j->job), calloc((size_t)n + 1, sizeof *j->ids), calloc((size_t)n + 1, sizeof(struct text *)), 0};
    return j->job && j->ids && j->to ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for %d texts", n);
}

static void jobs_put(struct jobs *j, struct slm2_sampler_opts so, struct text *to)
{
    j->job[j->n] = (struct slm2_gen_job){.ids = j->ids[j->n].v, .n_ids = (int)j->ids[j->n].n, .sampler = so};
    j->to[j->n++] = to;
}

static void jobs_close(struct jobs *j, int cap)
{
    for (int i = 0; i < cap; i++) {
        if (j->job) slm2_buf_free(&j->job[i].text);
        if (j->ids) slm2_ids_free(&j->ids[i]);
    }
    free(j->job);
    free(j->ids);
    free(j->to);
}

static slm2_status draw_messages(struct draw *d, struct item *v, int n, struct slm2_err *err)
{
    struct jobs j;
    slm2_status st = jobs_open(&j, n, err);
    for (int i = 0; st == SLM2_OK && i < n; i++) {
        st = message_prompt(d, &v[i], &j.ids[i], err);
        jobs_put(&j, sampler_of(d, &v[i], 0), &v[i].prompt);
    }
    if (st == SLM2_OK) st = generate(d, d->base_engine ? d->base_engine : d->engine, d->a->o->prompt_tokens, j.job, j.to, n, err);
    jobs_close(&j, n);
    return st;
}

/* Answers of the kept among v[n], or of those of them whose positive answer is still wanted. */
static slm2_status draw_answers(struct draw *d, struct item *v, int n, bool positive, int attempt, struct slm2_err *err)
{
    struct jobs j;
    slm2_status st = jobs_open(&j, n, err);
    for (int i = 0; st == SLM2_OK && i < n; i++) {
        if (attempt ? v[i].verdict < SLM2_SELF_P_EMPTY || v[i].verdict > SLM2_SELF_P_UNFIT : v[i].verdict != SLM2_SELF_KEPT) continue;
        if (positive) v[i].positive.attempt = attempt;
        st = answer_prompt(d, &v[i], positive, &j.ids[j.n], err);
        jobs_put(&j, sampler_of(d, &v[i], positive ? 2 + attempt : 1), positive ? &v[i].positive : &v[i].negative);
    }
    if (st == SLM2_OK) st = generate(d, d->engine, d->a->o->answer_tokens, j.job, j.to, j.n, err);
    jobs_close(&j, n);
    return st;
}

/* ---- filters ---------------------------------------------------------------------------------------------------------- */
static bool is_cut(const struct draw *d, const struct text *t) { return !d->a->o->keep_cut && (t->end == SLM2_GEN_LENGTH || t->end == SLM2_GEN_CONTEXT); }

/* Enters a message that passed into what later ones are compared with. */
static slm2_status remember(struct draw *d, const struct slm2_buf *text, bool *duplicate, bool *near, struct slm2_err *err)
{
    uint16_t sig[MAX_SIGNATURE];
    struct slm2_text_key key;
    *duplicate = *near = false;
    SLM2_TRY(key_of(d, text->v, text->n, &key, err));
    if ((*duplicate = slm2_seen_has(&d->seen, key))) return SLM2_OK;
    if (d->near) {
        SLM2_TRY(slm2_near_sign(d->near, text->v, text->n, &d->shingles, sig, err));
        if ((*near = slm2_near_find(d->near, sig).text >= 0)) return SLM2_OK;
        SLM2_TRY(slm2_near_add(d->near, sig, err));
    }
    return slm2_seen_add(&d->seen, key, err);
}

static slm2_status judge_message(struct draw *d, struct item *it, struct slm2_err *err)
{
    bool probe, duplicate, near;
    slm2_buf_clear(&d->words);
    SLM2_TRY(slm2_self_words(it->prompt.v.v ? it->prompt.v.v : "", it->prompt.v.n, &d->words, err));
    it->verdict = slm2_self_judge(it->prompt.v.v, it->prompt.v.n, d->words.v, is_cut(d, &it->prompt), d->a->o->min_words);
    if (it->verdict != SLM2_SELF_KEPT) return SLM2_OK;
    SLM2_TRY(slm2_self_topic(d->a->self, d->words.v, &it->topic, err));
    SLM2_TRY(slm2_self_holds(d->words.v, &d->probes, &probe, err));
    if (probe) {
        it->verdict = SLM2_SELF_M_PROBE;
        return SLM2_OK;
    }
    SLM2_TRY(remember(d, &it->prompt.v, &duplicate, &near, err));
    if (duplicate || near) it->verdict = duplicate ? SLM2_SELF_M_DUPLICATE : SLM2_SELF_M_NEAR;
    return SLM2_OK;
}

/* Positive answers tell no other name; where the message asks for a fact, they tell that fact, and elsewhere they do not bring up the name. */
static slm2_status judge_positive(struct draw *d, struct item *it, struct slm2_err *err)
{
    static const enum slm2_self_verdict as_positive[] = {SLM2_SELF_P_EMPTY, SLM2_SELF_P_NOT_TEXT, SLM2_SELF_P_CUT, SLM2_SELF_P_SHORT, SLM2_SELF_P_REPEATS};
    char *own[] = {d->a->self->card.name};
    const struct slm2_conf_list name = {.items = own, .n = 1};
    bool others, told;
    slm2_buf_clear(&d->words);
    SLM2_TRY(slm2_self_words(it->positive.v.v, it->positive.v.n, &d->words, err));
    enum slm2_self_verdict v = slm2_self_judge(it->positive.v.v, it->positive.v.n, d->words.v, is_cut(d, &it->positive), d->a->o->min_words);
    SLM2_TRY(slm2_self_holds(d->words.v, &d->a->self->card.others, &others, err));
    SLM2_TRY(slm2_self_holds(d->words.v, it->topic ? &it->topic->want : &name, &told, err));
    if (v != SLM2_SELF_KEPT) it->verdict = as_positive[v - SLM2_SELF_M_EMPTY];
    else if (others || (it->topic && !told)) it->verdict = SLM2_SELF_P_UNFIT;
    else it->verdict = told && !it->topic ? SLM2_SELF_P_UNASKED : SLM2_SELF_KEPT;
    return SLM2_OK;
}

/* Negative answers do not know the fact, and say something else than the positive one. */
static slm2_status judge_negative(struct draw *d, struct item *it, struct slm2_err *err)
{
    static const enum slm2_self_verdict as_negative[] = {SLM2_SELF_N_EMPTY, SLM2_SELF_N_NOT_TEXT, SLM2_SELF_N_CUT, SLM2_SELF_N_SHORT, SLM2_SELF_N_REPEATS};
    char *own[] = {d->a->self->card.name};
    const struct slm2_conf_list name = {.items = own, .n = 1};
    bool knows;
    slm2_buf_clear(&d->words);
    slm2_buf_clear(&d->other);
    SLM2_TRY(slm2_self_words(it->negative.v.v, it->negative.v.n, &d->words, err));
    SLM2_TRY(slm2_self_words(it->positive.v.v, it->positive.v.n, &d->other, err));
    enum slm2_self_verdict v = slm2_self_judge(it->negative.v.v, it->negative.v.n, d->words.v, is_cut(d, &it->negative), d->a->o->min_words);
    SLM2_TRY(slm2_self_holds(d->words.v, it->topic ? &it->topic->want : &name, &knows, err));
    if (v != SLM2_SELF_KEPT) it->verdict = as_negative[v - SLM2_SELF_M_EMPTY];
    else if (knows) it->verdict = SLM2_SELF_N_KNOWS;
    else if (!strcmp(d->words.v, d->other.v)) it->verdict = SLM2_SELF_SAME;
    return SLM2_OK;
}

/* ---- rounds on disk --------------------------------------------------------------------------------------------------- */
static void put_text(json_t *j, const char *name, const struct text *t)
{
    char key[32];
    if (!t->drawn) return;
    json_t *s = json_stringn(t->v.v ? t->v.v : "", t->v.n);
    json_object_set_new(j, name, s ? s : json_null()); /* half a character cannot stand in JSON */
    snprintf(key, sizeof key, "%s_end", name);
    json_object_set_new(j, key, json_string(slm2_gen_end_name(t->end)));
    snprintf(key, sizeof key, "%s_tokens", name);
    json_object_set_new(j, key, json_integer(t->n_tok));
}

static void put_item(const struct item *it, struct slm2_buf *out)
{
    json_t *openers = json_array(), *j = json_pack("{s:I, s:s, s:s?}", "draw", (json_int_t)it->draw, "verdict", slm2_self_verdict_names[it->verdict], "topic", it->topic ? it->topic->fact : NULL);
    for (int i = 0; i < it->n_opener; i++) json_array_append_new(openers, json_integer(it->opener[i]));
    if (!j || !openers) out->failed = true;
    json_object_set_new(j, "openers", openers);
    put_text(j, "prompt", &it->prompt);
    put_text(j, "positive", &it->positive);
    if (it->positive.drawn) json_object_set_new(j, "positive_try", json_integer(it->positive.attempt));
    put_text(j, "negative", &it->negative);
    slm2_json_dump(j, out);
    slm2_buf_putc(out, '\n');
    json_decref(j);
}

static slm2_status round_path(const struct draw *d, int64_t first, char path[SLM2_PATH_MAX], struct slm2_err *err)
{
    char name[40];
    snprintf(name, sizeof name, "%09" PRId64 ".jsonl", first);
    return slm2_path_join(path, SLM2_PATH_MAX, d->dir, name, err);
}

static void tally(struct draw *d, enum slm2_self_verdict v)
{
    d->count[v]++;
    d->n_kept += v == SLM2_SELF_KEPT;
    d->n_draw++;
}

/* Takes a line of a round that is on disk: its message is compared with later ones, as if just drawn. */
static slm2_status take_line(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct draw *d = user;
    const char *verdict, *prompt;
    int64_t draw;
    int v = 0;
    bool duplicate, near;
    if (d->n_kept == d->a->o->n_prompt) return SLM2_OK;
    SLM2_TRY(slm2_json_get_int(j, "draw", what, 0, INT64_MAX, &draw, err));
    SLM2_TRY(slm2_json_get_str(j, "verdict", what, &verdict, err));
    while (slm2_self_verdict_names[v] && strcmp(slm2_self_verdict_names[v], verdict)) v++;
    if (v == SLM2_SELF_N_VERDICT || draw != d->n_draw)
        return slm2_fail(err, SLM2_EFORMAT, "%s: draw %" PRId64 ", verdict \"%s\", want draw %" PRId64 "; remove the folder to draw anew", what, draw, verdict, d->n_draw);
    if (v == SLM2_SELF_KEPT || v >= SLM2_SELF_P_EMPTY) {
        SLM2_TRY(slm2_json_get_str(j, "prompt", what, &prompt, err));
        struct slm2_buf text = {0};
        slm2_buf_puts(&text, prompt);
        slm2_status st = slm2_buf_check(&text, err);
        if (st == SLM2_OK) st = remember(d, &text, &duplicate, &near, err);
        slm2_buf_free(&text);
        if (st != SLM2_OK) return st;
    }
    tally(d, (enum slm2_self_verdict)v);
    return SLM2_OK;
}

static bool is_stopping(const struct draw *d) { return d->a->stop && *d->a->stop; }

static slm2_status one_round(struct draw *d, struct item *v, int n, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    struct slm2_buf lines = {0};
    int64_t first = d->n_draw;
    for (int i = 0; i < n; i++) v[i].draw = first + i;
    slm2_status st = draw_messages(d, v, n, err);
    for (int i = 0; st == SLM2_OK && i < n; i++) st = judge_message(d, &v[i], err);
    for (int k = 0; st == SLM2_OK && k < d->a->o->tries && !is_stopping(d); k++) { /* one after the other: sequences keep the card's turns, which all share */
        st = draw_answers(d, v, n, true, k, err);
        for (int i = 0; st == SLM2_OK && i < n; i++)
            if (v[i].positive.drawn && v[i].positive.attempt == k) st = judge_positive(d, &v[i], err);
    }
    if (st == SLM2_OK && !is_stopping(d)) st = draw_answers(d, v, n, false, 0, err);
    if (st == SLM2_OK && is_stopping(d)) {
        slm2_progress_end();
        st = slm2_fail(err, SLM2_ESTOP, "stopped while drawing samples, %d of %d; run the same command again to go on", d->n_kept, d->a->o->n_prompt);
    }
    for (int i = 0; st == SLM2_OK && i < n && d->n_kept < d->a->o->n_prompt; i++) {
        if (v[i].verdict == SLM2_SELF_KEPT) st = judge_negative(d, &v[i], err);
        if (st != SLM2_OK) break;
        put_item(&v[i], &lines);
        tally(d, v[i].verdict);
    }
    if (st == SLM2_OK) st = slm2_buf_check(&lines, err);
    if (st == SLM2_OK) st = round_path(d, first, path, err);
    if (st == SLM2_OK) st = slm2_file_write(path, lines.v ? lines.v : "", lines.n, err);
    slm2_buf_free(&lines);
    return st;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

/* Tokens, which of them are special, and how a text that vocabularies split differently is split. */
static slm2_status hash_vocab(const struct slm2_tok *tok, char hex[65], struct slm2_err *err)
{
    static const char text[] = "Don't cut 12345  a\n\n\te\xcc\x81.";
    struct slm2_buf b = {0};
    struct slm2_ids ids = {0};
    slm2_status st = slm2_tok_encode(tok, text, sizeof text - 1, slm2_tok_flags_default(tok), &ids, err);
    for (int32_t i = 0; i < slm2_tok_n_vocab(tok); i++) {
        size_t n = 0;
        const uint8_t *bytes = slm2_tok_bytes(tok, i, &n);
        slm2_buf_printf(&b, "%d %zu ", bytes ? 1 + slm2_tok_is_special(tok, i) : 0, bytes ? n : 0);
        if (bytes) slm2_buf_put(&b, bytes, n);
    }
    for (size_t i = 0; i < ids.n; i++) slm2_buf_printf(&b, " %d", (int)ids.v[i]);
    if (st == SLM2_OK) st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) slm2_sha256_hex(b.v, b.n, hex);
    slm2_ids_free(&ids);
    slm2_buf_free(&b);
    return st;
}

static slm2_status hash_adapter(const char *folder, char hex[65], struct slm2_err *err)
{
    char path[SLM2_PATH_MAX], both[2][65];
    SLM2_TRY(slm2_path_join(path, sizeof path, folder, SLM2_LORA_CONFIG, err));
    SLM2_TRY(slm2_sha256_file(path, both[0], err));
    SLM2_TRY(slm2_path_join(path, sizeof path, folder, SLM2_LORA_WEIGHTS, err));
    SLM2_TRY(slm2_sha256_file(path, both[1], err));
    slm2_sha256_hex(both, sizeof both, hex);
    return SLM2_OK;
}

/* What the draws hang on: contents, not names, of files; figures as text, so that they compare after a way through a file. */
static slm2_status settings_of(const struct slm2_selfdraw_args *a, json_t **settings, struct slm2_err *err)
{
    const struct slm2_selfdraw_opts *o = a->o;
    char number[4][40], model[65], base[65] = "", adapter[65] = "", vocab[65];
    SLM2_TRY(slm2_model_key_of(a->model, NULL, model, err));
    if (has_adapter(a)) SLM2_TRY(hash_adapter(a->adapter, adapter, err)); /* base stays "" where messages are drawn with the adapter too */
    if (has_base(a)) SLM2_TRY(slm2_model_key_of(o->base, NULL, base, err));
    else if (!has_adapter(a)) memcpy(base, model, sizeof base);
    SLM2_TRY(hash_vocab(a->tok, vocab, err));
    snprintf(number[0], sizeof number[0], "%.9g", (double)o->temperature);
    snprintf(number[1], sizeof number[1], "%.9g", (double)o->answer_temperature);
    snprintf(number[2], sizeof number[2], "%.9g", (double)o->top_p);
    snprintf(number[3], sizeof number[3], "%.17g", o->near.threshold);
    *settings = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:i, s:i, s:i, s:b, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:I}", "model_sha256", model, "adapter_sha256", adapter, "base_sha256", base,
                          "vocab_sha256", vocab, "card_sha256", a->self->sha256[0], "few_shot_sha256", a->self->sha256[1], "probes_sha256", a->self->sha256[2], "chat_template", slm2_chat_names[a->tmpl], "seed",
                          (json_int_t)a->seed, "prompt_tokens", o->prompt_tokens, "answer_tokens", o->answer_tokens, "min_words", o->min_words, "openers", o->n_opener, "positive_tries", o->tries,
                          "keep_cut_off", (int)o->keep_cut, "temperature", number[0], "answer_temperature", number[1], "top_p", number[2], "near_dup.threshold", number[3], "near_dup.hashes", o->near.n_hash,
                          "near_dup.bands", o->near.n_band, "near_dup.shingle", o->near.shingle, "near_dup.seed", (json_int_t)o->near.seed);
    bool failed = !*settings || (*a->self->sha256[3] && json_object_set_new(*settings, "keep_out_sha256", json_string(a->self->sha256[3]))); /* earlier versions had none */
    return failed ? slm2_fail(err, SLM2_ENOMEM, "no memory for settings") : SLM2_OK;
}

/* How many are kept decides no draw, only where drawing stops: of samples that are complete it is a setting, of rounds it is not. */
static slm2_status put_prompts(json_t *settings, const struct slm2_selfdraw_opts *o, struct slm2_err *err)
{
    return json_object_set_new(settings, "prompts", json_integer(o->n_prompt)) ? slm2_fail(err, SLM2_ENOMEM, "no memory for settings") : SLM2_OK;
}

/* Settings in the file at path must be those of now; a file that is not there is no objection. */
static slm2_status check_settings(const char *path, json_t *now, const char *what, struct slm2_err *err)
{
    json_t *then = NULL, *v;
    const char *key;
    if (!slm2_path_exists(path)) return SLM2_OK;
    SLM2_TRY(slm2_json_read(&then, path, 1 << 20, err));
    const json_t *s = json_object_get(then, "settings") ? json_object_get(then, "settings") : then;
    slm2_status st = SLM2_OK;
    json_object_foreach(now, key, v)
        if (st == SLM2_OK && !json_equal(v, json_object_get(s, key)))
            st = slm2_fail(err, SLM2_EUSAGE, "%s was drawn with another %s (see %s); remove it to draw anew, or use another run folder", what, key, path);
    json_decref(then);
    return st;
}

static void put_counts(const struct draw *d, struct slm2_buf *out)
{
    slm2_buf_printf(out, "%" PRId64 " draws: %d kept", d->n_draw, d->n_kept);
    for (int v = 1; v < SLM2_SELF_N_VERDICT; v++)
        if (d->count[v]) slm2_buf_printf(out, ", %" PRId64 " %s", d->count[v], slm2_self_verdict_names[v]);
    slm2_buf_put(out, "", 0);
}

/* Rounds on disk, up to the draw that is the last one wanted: `prompts` may have been lowered since. */
static slm2_status load_rounds(struct draw *d, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    int64_t n_bad = 0;
    while (d->n_kept < d->a->o->n_prompt) {
        int64_t before = d->n_draw;
        SLM2_TRY(round_path(d, d->n_draw, path, err));
        if (!slm2_path_exists(path)) return SLM2_OK;
        SLM2_TRY(slm2_records_read(path, 0, true, take_line, d, &n_bad, err));
        if (d->n_draw == before) return slm2_fail(err, SLM2_EFORMAT, "%s: holds no draw; remove it", path);
    }
    return SLM2_OK;
}

static slm2_status draw_rounds(struct draw *d, struct slm2_err *err)
{
    const struct slm2_selfdraw_opts *o = d->a->o;
    int n = o->sequences * ROUND_PER_SEQUENCE;
    int64_t most = (int64_t)TRIES_PER_PROMPT * o->n_prompt + 100;
    slm2_status st = SLM2_OK;
    while (st == SLM2_OK && d->n_kept < o->n_prompt && d->n_draw < most) {
        struct item *v = calloc((size_t)n, sizeof *v);
        st = v ? one_round(d, v, n, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for %d draws", n);
        for (int i = 0; v && i < n; i++) item_free(&v[i]);
        free(v);
        slm2_progress("samples", (double)d->n_kept / o->n_prompt, "%d of %d, %" PRId64 " draws", d->n_kept, o->n_prompt, d->n_draw);
    }
    slm2_progress_end();
    if (st != SLM2_OK || d->n_kept == o->n_prompt) return st;
    struct slm2_buf why = {0};
    put_counts(d, &why);
    st = slm2_fail(err, SLM2_ELIMIT, "too few messages pass the filters, want %d: %s; see %s; lower `prompts` to what was kept, or remove that folder and draw anew with other settings (a higher temperature, other filters)", o->n_prompt, why.v ? why.v : "", d->dir);
    slm2_buf_free(&why);
    return st;
}

/* All rounds, but for draws behind the last one wanted, into samples.jsonl, which then stands for them. */
static slm2_status finish(struct draw *d, const json_t *settings, const char *samples, const char *summary, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    struct slm2_buf all = {0};
    json_t *count = json_object(), *j = json_pack("{s:O, s:o}", "settings", settings, "draws", count);
    slm2_status st = j && count ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for samples");
    for (int v = 0; v < SLM2_SELF_N_VERDICT; v++) json_object_set_new(count, slm2_self_verdict_names[v], json_integer(d->count[v]));
    for (int64_t at = 0; st == SLM2_OK && at < d->n_draw;) {
        size_t from = all.n;
        st = round_path(d, at, path, err);
        if (st == SLM2_OK) st = slm2_file_read(&all, path, (size_t)1 << 32, err);
        for (size_t i = from; i < all.n && at < d->n_draw; i++)
            if (all.v[i] == '\n' && ++at == d->n_draw) all.n = i + 1;
    }
    if (st == SLM2_OK) st = slm2_json_write(j, summary, err);
    if (st == SLM2_OK) st = slm2_file_write(samples, all.v ? all.v : "", all.n, err);
    if (st == SLM2_OK) st = slm2_dir_remove(d->dir, err);
    if (st == SLM2_OK) {
        slm2_buf_clear(&all);
        put_counts(d, &all);
        slm2_log(SLM2_INFO, "selfknow: %s", all.v ? all.v : "");
    }
    slm2_buf_free(&all);
    json_decref(j);
    return st;
}

slm2_status slm2_selfdraw(const struct slm2_selfdraw_args *a, struct slm2_err *err)
{
    char samples[SLM2_PATH_MAX], summary[SLM2_PATH_MAX], settings_path[SLM2_PATH_MAX], first[SLM2_PATH_MAX];
    struct draw d = {.a = a};
    json_t *settings = NULL;
    slm2_status st = slm2_path_join(samples, sizeof samples, a->run, "samples.jsonl", err);
    if (st == SLM2_OK) st = slm2_path_join(summary, sizeof summary, a->run, "samples.json", err);
    if (st == SLM2_OK) st = slm2_path_join(d.dir, sizeof d.dir, a->run, "draws", err);
    if (st == SLM2_OK) st = slm2_path_join(settings_path, sizeof settings_path, d.dir, "settings.json", err);
    bool own = st == SLM2_OK && slm2_path_exists(samples) && !slm2_path_exists(summary); /* somebody's own samples: held to nothing */
    if (st == SLM2_OK && !own) st = settings_of(a, &settings, err);
    if (st == SLM2_OK && slm2_path_exists(samples)) {
        if (!own) st = put_prompts(settings, a->o, err);
        if (st == SLM2_OK && !own) st = check_settings(summary, settings, samples, err);
        if (st == SLM2_OK) slm2_log(SLM2_INFO, "selfknow: taking the samples of %s", samples);
        if (st == SLM2_OK) st = slm2_dir_remove(d.dir, err); /* what a kill right behind the last rename left */
        json_decref(settings);
        return st;
    }
    if (st == SLM2_OK) st = round_path(&d, 0, first, err);
    if (st == SLM2_OK && slm2_path_exists(first)) st = check_settings(settings_path, settings, d.dir, err); /* before the first round nothing is held to them */
    if (st == SLM2_OK) st = draw_open(&d, err);
    if (st == SLM2_OK) st = slm2_dir_make(d.dir, err);
    if (st == SLM2_OK) st = slm2_json_write(settings, settings_path, err);
    if (st == SLM2_OK) st = load_rounds(&d, err);
    if (st == SLM2_OK) st = draw_rounds(&d, err);
    if (st == SLM2_OK) st = put_prompts(settings, a->o, err);
    if (st == SLM2_OK) st = finish(&d, settings, samples, summary, err);
    draw_close(&d);
    json_decref(settings);
    return st;
}
