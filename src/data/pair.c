/* pair.c - preference records to token sequences: prompt and answer are encoded as one conversation, so that tokens are those of
 * the rendered text; the answer is what the chat template's mask marks in the last turn. */
#include "data/pair.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/records.h"

struct slm2_pair_opts slm2_pair_opts_default(void)
{
    return (struct slm2_pair_opts){.chat = "zephyr", .max_len = 1024, .max_prompt = 512, .rules = {.min_score = 8}};
}

struct span { size_t at; int n, n_prompt; }; /* in ids, whose memory still moves */
struct loader {
    struct slm2_pairs *p;
    struct slm2_pair_file *file; /* that is read */
    enum slm2_pref_format format;
    const struct slm2_tok *tok;
    const struct slm2_pair_opts *o;
    struct slm2_chat_opts chat;
    struct slm2_seen seen;
    struct slm2_buf key;
    struct slm2_ids ids, one;
    struct slm2_buf mask, spans; /* spans: struct span, chosen and rejected in turn */
};

/* ---- conversations to tokens ------------------------------------------------------------------------------------------------- */
/* Appends prompt and answer to ids; what the template writes behind the end of the answer is left out. */
static slm2_status encode(struct loader *l, struct slm2_pref *p, const struct slm2_msg *answer, const char *what, struct span *out, struct slm2_err *err)
{
    l->one.n = 0;
    slm2_buf_clear(&l->mask);
    p->v[p->n] = *answer;
    SLM2_TRY(slm2_chat_encode(l->tok, &l->chat, p->v, p->n + 1, &l->one, &l->mask, err));
    SLM2_TRY(slm2_buf_check(&l->mask, err));
    size_t end = l->mask.n, first;
    while (end && !l->mask.v[end - 1]) end--;
    for (first = end; first && l->mask.v[first - 1];) first--;
    if (first == 0 || end > INT_MAX) return slm2_fail(err, SLM2_EFORMAT, "%s: no prompt in front of the answer, or too long", what);
    *out = (struct span){.at = l->ids.n, .n = (int)end, .n_prompt = (int)first};
    for (size_t i = 0; i < end; i++) SLM2_TRY(slm2_ids_push(&l->ids, l->one.v[i], err));
    return SLM2_OK;
}

int slm2_pair_cut(struct slm2_pair_seq *chosen, struct slm2_pair_seq *rejected, int max_len, int max_prompt)
{
    struct slm2_pair_seq *const s[2] = {chosen, rejected};
    int a = chosen->n - chosen->n_prompt, b = rejected->n - rejected->n_prompt, longer = a > b ? a : b, cut = 0;
    for (int i = 0; i < 2; i++) {
        int extra = s[i]->n_prompt - max_prompt, most = max_len - max_prompt;
        if (s[i]->n_prompt + longer <= max_len) continue;
        if (extra > 0) {
            s[i]->ids += extra;
            s[i]->n -= extra;
            s[i]->n_prompt -= extra;
            cut |= 1;
        }
        if (s[i]->n_prompt + longer > max_len && s[i]->n - s[i]->n_prompt > most) {
            s[i]->n = s[i]->n_prompt + most;
            cut |= 2;
        }
    }
    return cut;
}

/* The same on places in ids. */
static void shorten(struct loader *l, struct span s[2])
{
    struct slm2_pair_seq q[2];
    for (int i = 0; i < 2; i++) q[i] = (struct slm2_pair_seq){l->ids.v + s[i].at, s[i].n, s[i].n_prompt};
    int cut = slm2_pair_cut(&q[0], &q[1], l->o->max_len, l->o->max_prompt);
    for (int i = 0; i < 2; i++) s[i] = (struct span){(size_t)(q[i].ids - l->ids.v), q[i].n, q[i].n_prompt};
    l->file->n_cut_prompt += (cut & 1) != 0;
    l->file->n_cut_answer += (cut & 2) != 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------- */
static slm2_status keep(struct loader *l, struct slm2_pref *p, const char *what, struct slm2_err *err)
{
    struct span s[2];
    if (l->o->empty_system && strcmp(p->v[0].role, "system") != 0) {
        memmove(p->v + 1, p->v, (size_t)p->n++ * sizeof *p->v);
        p->v[0] = (struct slm2_msg){.role = "system", .content = ""};
    }
    SLM2_TRY(encode(l, p, &p->chosen, what, &s[0], err));
    SLM2_TRY(encode(l, p, &p->rejected, what, &s[1], err));
    if (l->p->n == INT_MAX) return slm2_fail(err, SLM2_ELIMIT, "more than %d pairs", INT_MAX);
    shorten(l, s);
    slm2_buf_put(&l->spans, s, sizeof s);
    SLM2_TRY(slm2_buf_check(&l->spans, err));
    l->file->n_tok += s[0].n + s[1].n;
    l->p->n++;
    return SLM2_OK;
}

static slm2_status take_record(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct loader *l = user;
    struct slm2_pref p;
    struct slm2_err why = {0};
    enum slm2_pref_verdict verdict = SLM2_PREF_INVALID;
    size_t n_ids = l->ids.n;
    slm2_status st = slm2_pref_read(&p, l->format, j, what, &why);
    if (st == SLM2_OK) st = slm2_pref_judge(&p, &l->o->rules, &l->seen, &l->key, &verdict, &why);
    if (st == SLM2_OK && verdict == SLM2_PREF_KEEP) st = keep(l, &p, what, &why);
    slm2_pref_free(&p);
    if (st == SLM2_OK) {
        l->file->n[verdict]++;
        return SLM2_OK;
    }
    l->ids.n = n_ids;
    if (st == SLM2_EFORMAT && !l->file->first_bad[0]) snprintf(l->file->first_bad, sizeof l->file->first_bad, "%.310s", why.msg);
    if (err) *err = why;
    return st; /* the reader counts it */
}

static slm2_status load_files(struct loader *l, const struct slm2_pair_source *sources, int n_sources, struct slm2_err *err)
{
    l->file = l->p->file;
    for (int i = 0; i < n_sources; i++) {
        l->format = (enum slm2_pref_format)sources[i].format;
        for (int k = 0; k < sources[i].path.n; k++, l->file++) {
            *l->file = (struct slm2_pair_file){.path = ((char *const *)sources[i].path.items)[k], .source = i};
            SLM2_TRY(slm2_records_read(l->file->path, l->o->max_line_bytes, l->o->bad_is_fatal, take_record, l, &l->file->n[SLM2_PREF_INVALID], err));
        }
    }
    return SLM2_OK;
}

static slm2_status point_at_ids(struct slm2_pairs *p, const struct slm2_buf *spans, struct slm2_err *err)
{
    size_t n = (size_t)p->n;
    p->chosen = calloc(n + 1, sizeof *p->chosen);
    p->rejected = calloc(n + 1, sizeof *p->rejected);
    if (!p->chosen || !p->rejected) return slm2_fail(err, SLM2_ENOMEM, "out of memory for %d pairs", p->n);
    for (size_t i = 0; i < 2 * n; i++) {
        struct span s;
        memcpy(&s, spans->v + i * sizeof s, sizeof s);
        struct slm2_pair_seq *q = i % 2 ? &p->rejected[i / 2] : &p->chosen[i / 2];
        *q = (struct slm2_pair_seq){.ids = p->ids + s.at, .n = s.n, .n_prompt = s.n_prompt};
    }
    return SLM2_OK;
}

slm2_status slm2_pairs_load(struct slm2_pairs *p, const struct slm2_pair_source *sources, int n_sources, const struct slm2_tok *tok, const struct slm2_pair_opts *o, struct slm2_err *err)
{
    enum slm2_chat_template tmpl;
    *p = (struct slm2_pairs){0};
    for (int i = 0; i < n_sources; i++) p->n_file += sources[i].path.n;
    SLM2_TRY(slm2_records_template(o->chat, &tmpl, err));
    if (o->max_prompt < 1 || o->max_len <= o->max_prompt) {
        return slm2_fail(err, SLM2_EUSAGE, "max_prompt %d and max_len %d: want 1 <= max_prompt < max_len", o->max_prompt, o->max_len);
    }
    if (slm2_chat_stop_id(tok, tmpl) < 0) return slm2_fail(err, SLM2_EUSAGE, "the vocabulary lacks the token that ends a turn of %s", o->chat);
    struct loader l = {.p = p, .tok = tok, .o = o, .chat = slm2_chat_opts_default(tmpl)};
    p->file = calloc((size_t)p->n_file + 1, sizeof *p->file);
    slm2_status st = p->file ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "out of memory for %d files of pairs", p->n_file);
    if (st == SLM2_OK) st = slm2_seen_open(&l.seen, NULL, err);
    if (st == SLM2_OK) st = load_files(&l, sources, n_sources, err);
    p->ids = l.ids.v; /* changes owner */
    p->n_tok = l.ids.n;
    if (st == SLM2_OK) st = point_at_ids(p, &l.spans, err);
    slm2_seen_close(&l.seen);
    slm2_buf_free(&l.key);
    slm2_ids_free(&l.one);
    slm2_buf_free(&l.mask);
    slm2_buf_free(&l.spans);
    if (st != SLM2_OK) slm2_pairs_free(p);
    return st;
}

void slm2_pairs_free(struct slm2_pairs *p)
{
    if (!p) return;
    free(p->chosen);
    free(p->rejected);
    free(p->ids);
    free(p->file);
    *p = (struct slm2_pairs){0};
}

slm2_status slm2_pair_add(struct slm2_batch *b, const struct slm2_pair_seq *s, float weight, struct slm2_err *err)
{
    if (s->n < 2 || s->n_prompt < 1 || s->n_prompt >= s->n) return slm2_fail(err, SLM2_EUSAGE, "a pair of %d tokens with a prompt of %d", s->n, s->n_prompt);
    int32_t *target = b->target + b->n_tok; /* made where the batch keeps them: a training step allocates nothing */
    float *w = b->weight + b->n_tok;
    for (int i = 0; i < s->n - 1 && i < b->max_tok - b->n_tok; i++) { /* what is too long is refused below */
        target[i] = i + 1 >= s->n_prompt ? s->ids[i + 1] : -1;
        w[i] = i + 1 >= s->n_prompt ? weight : 0;
    }
    return slm2_batch_add(b, s->ids, target, w, s->n - 1, err);
}
