/* convo.c - data sets of conversations to ids and masks.  Records are read and judged one by one, turned into tokens on all threads a block
 * at a time, and taken in their order: neither threads nor blocks change the result. */
#include "data/convo.h"

#include <inttypes.h>
#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "data/dedup.h"
#include "data/records.h"
#include "tok/chat.h"

enum { BLOCK = 512, BLOCK_BYTES = 8 << 20 }; /* conversations turned into tokens at once, and bytes of their text */

const char *const slm2_convo_turns[] = {"messages", "exchanges", NULL};
const char *const slm2_convo_fates[SLM2_CONVO_N_FATE] = {"kept", "invalid", "too_many_turns", "duplicate", "too_long", "nothing_learnt"};
#define AT(field) offsetof(struct slm2_convo_set, field)
const struct slm2_opt slm2_convo_set_table[] = {
    {.name = "path", .type = SLM2_OPT_STRS, .offset = AT(path), .def = "!", .choices = slm2_conf_file, .help = "files: JSON lines or a JSON array, plain, .gz or .zst", .alias = '='},
    {.name = "format", .type = SLM2_OPT_ENUM, .offset = AT(format), .def = "messages", .help = "shape of its records", .choices = slm2_convo_formats},
    {.name = "name", .type = SLM2_OPT_STR, .offset = AT(name), .def = "", .help = "in lists and ledger; empty: the format's, of `messages` the file's"},
    {.name = "repeat", .type = SLM2_OPT_DOUBLE, .offset = AT(repeat), .lo = 0, .hi = 1000, .def = "1", .help = "how often a pass sees each conversation; 0.5: a seeded half of them"},
    {0},
};

struct slm2_convo_opts slm2_convo_opts_default(void) { return (struct slm2_convo_opts){.chat = "zephyr", .n_ctx = 4096, .dedup = true}; }

/* ---- reading -------------------------------------------------------------------------------------------------------------- */
struct slot { /* a conversation on its way */
    json_t *record; /* the strings of m live here */
    struct slm2_convo_msgs m;
    struct slm2_ids ids;
    struct slm2_buf mask;
    struct slm2_text_key key, mask_key;
    int64_t n_assistant; /* of its tokens that fit a row */
    slm2_status st;
    struct slm2_err err;
};
struct loader {
    struct slm2_convos *c;
    const struct slm2_tok *tok;
    const struct slm2_convo_opts *o;
    enum slm2_chat_template tmpl;
    struct slm2_convo_count *set; /* under work */
    struct slm2_seen seen;
    struct slm2_buf start;
    struct slot *slot;            /* [BLOCK] */
    int n_slot;
    size_t n_bytes;               /* of the block's text */
};

static void encode(const struct loader *l, struct slot *s)
{
    struct slm2_chat_opts chat = slm2_chat_opts_default(l->tmpl);
    chat.learn = s->m.learn;
    s->ids.n = 0;
    slm2_buf_clear(&s->mask);
    s->st = slm2_chat_encode(l->tok, &chat, s->m.v, s->m.n, &s->ids, &s->mask, &s->err);
    if (s->st != SLM2_OK) return;
    s->n_assistant = 0;
    for (size_t i = 1; i < s->mask.n && i <= (size_t)l->o->n_ctx; i++) s->n_assistant += s->mask.v[i] != 0; /* nothing predicts the first token */
    if (l->o->all_tokens) memset(s->mask.v, 1, s->mask.n);
    s->key = slm2_bytes_key(s->ids.v, s->ids.n * sizeof *s->ids.v);
    s->mask_key = slm2_bytes_key(s->mask.v, s->mask.n);
}

/* Room for n bytes behind the first `used`; files grow in large steps. */
static slm2_status room(struct slm2_scratch *s, size_t used, size_t n, const char *dir, struct slm2_err *err)
{
    const size_t least = (size_t)1 << 20, most = (size_t)256 << 20;
    if (n <= s->n - used) return SLM2_OK;
    if (s->n == 0) SLM2_TRY(slm2_scratch_open(s, dir, err));
    size_t step = slm2_min_size(s->n > least ? s->n : least, most);
    return slm2_scratch_grow(s, used + n > s->n + step ? used + n : s->n + step, err);
}

static slm2_status store(struct loader *l, const struct slot *s, size_t n, struct slm2_err *err)
{
    struct slm2_convos *c = l->c;
    if (c->n == INT_MAX) return slm2_fail(err, SLM2_ELIMIT, "more than %d conversations", INT_MAX);
    if (!l->o->count_only) {
        SLM2_TRY(room(&c->ids_file, c->n_tok * sizeof *c->ids, n * sizeof *c->ids, l->o->dir, err));
        SLM2_TRY(room(&c->mask_file, c->n_tok, n, l->o->dir, err));
        memcpy(c->ids_file.p + c->n_tok * sizeof *c->ids, s->ids.v, n * sizeof *c->ids);
        memcpy(c->mask_file.p + c->n_tok, s->mask.v, n);
    }
    const struct { struct slm2_text_key so_far, ids, mask; uint64_t n; } link = {c->hash, s->key, s->mask_key, n};
    c->hash = slm2_bytes_key(&link, sizeof link);
    c->n_tok += n;
    c->n++;
    int64_t end = (int64_t)c->n_tok;
    slm2_buf_put(&l->start, &end, sizeof end);
    return slm2_buf_check(&l->start, err);
}

static slm2_status take_slot(struct loader *l, const struct slot *s, struct slm2_err *err)
{
    struct slm2_convo_count *set = l->set;
    size_t n = s->ids.n, most = (size_t)l->o->n_ctx + 1;
    if (s->st != SLM2_OK) { /* the vocabulary's fault, not a record's */
        if (err) *err = s->err;
        return s->st == SLM2_EFORMAT ? SLM2_EUSAGE : s->st;
    }
    if (l->o->dedup) {
        if (slm2_seen_has(&l->seen, s->key)) {
            set->fate[SLM2_CONVO_DUPLICATE]++;
            return SLM2_OK;
        }
        SLM2_TRY(slm2_seen_add(&l->seen, s->key, err));
    }
    bool cut = n > most;
    if (cut && l->o->drop_long) {
        set->fate[SLM2_CONVO_TOO_LONG]++;
        return SLM2_OK;
    }
    if (cut) n = most;
    if (n < 2 || (s->n_assistant == 0 && !l->o->all_tokens)) {
        set->fate[SLM2_CONVO_NOTHING_LEARNT]++;
        return SLM2_OK;
    }
    set->fate[SLM2_CONVO_KEPT]++;
    set->truncated += cut;
    set->tokens += (int64_t)n;
    set->assistant_tokens += s->n_assistant;
    return store(l, s, n, err);
}

/* The block to tokens, on all threads, and into the store, in order. */
static slm2_status flush(struct loader *l, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    int n_threads = l->o->n_threads > 0 ? l->o->n_threads : omp_get_max_threads();
#pragma omp parallel for num_threads(n_threads) schedule(dynamic)
    for (int i = 0; i < l->n_slot; i++) encode(l, &l->slot[i]);
    for (int i = 0; i < l->n_slot; i++) {
        if (st == SLM2_OK) st = take_slot(l, &l->slot[i], err);
        json_decref(l->slot[i].record);
    }
    l->n_slot = 0;
    l->n_bytes = 0;
    return st;
}

static slm2_status take_record(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct loader *l = user;
    const struct slm2_convo_opts *o = l->o;
    if (l->n_slot == BLOCK || l->n_bytes > BLOCK_BYTES) {
        SLM2_TRY(flush(l, err));
        if (o->stop && *o->stop) return slm2_fail(err, SLM2_ESTOP, "stopped while reading conversations; the next run begins anew");
    }
    struct slot *s = &l->slot[l->n_slot];
    SLM2_TRY(slm2_convo_from_json(&s->m, (enum slm2_convo_format)l->set->format, o->empty_system, j, what, err));
    l->set->read++;
    if (o->max_turns > 0 && (o->turns ? s->m.n_exchanges : s->m.n_messages) > o->max_turns) {
        l->set->fate[SLM2_CONVO_TURNS]++;
        return SLM2_OK;
    }
    s->record = json_incref(j);
    l->n_slot++;
    for (int i = 0; i < s->m.n; i++) l->n_bytes += s->m.v[i].n;
    return SLM2_OK;
}

/* A second data set of the same name is NAME-2. */
static void name_set(const struct slm2_convos *c, struct slm2_convo_count *count, const struct slm2_convo_set *set)
{
    int n = 1;
    const char *path = set->path.n ? ((char *const *)set->path.items)[0] : "", *slash = strrchr(path, '/');
    const char *name = set->name && set->name[0] ? set->name : set->format != SLM2_CONVO_MESSAGES ? slm2_convo_formats[set->format] : slash ? slash + 1 : path;
    snprintf(count->name, sizeof count->name, "%.60s", name);
    for (int k = 0; k < c->n_set; k++) {
        if (strcmp(c->set[k].name, count->name) != 0) continue;
        snprintf(count->name, sizeof count->name, "%.60s-%d", name, ++n);
        k = -1; /* that name may be taken too */
    }
}

static slm2_status load_set(struct loader *l, const struct slm2_convo_set *set, struct slm2_err *err)
{
    struct slm2_convos *c = l->c;
    struct slm2_err first_bad = {0};
    *l->set = (struct slm2_convo_count){.format = set->format, .repeat = set->repeat, .first = c->n};
    name_set(c, l->set, set);
    for (int i = 0; i < set->path.n; i++) {
        struct slm2_err why = {0};
        struct slm2_convo_file *f = &c->file[c->n_file++];
        int64_t n_bad = 0, n_tok = (int64_t)c->n_tok, n = c->n;
        *f = (struct slm2_convo_file){.path = ((char *const *)set->path.items)[i], .set = (int)(l->set - c->set)};
        slm2_status st = slm2_records_read(f->path, l->o->max_line_bytes, l->o->bad_is_fatal, take_record, l, &n_bad, &why);
        if (st == SLM2_OK) st = flush(l, &why);
        if (st != SLM2_OK) {
            if (err) *err = why;
            return st;
        }
        if (n_bad && !first_bad.msg[0]) first_bad = why;
        l->set->read += n_bad;
        l->set->fate[SLM2_CONVO_INVALID] += n_bad;
        f->conversations = c->n - n;
        f->tokens = (int64_t)c->n_tok - n_tok;
    }
    int64_t n_bad = l->set->fate[SLM2_CONVO_INVALID];
    l->set->n = c->n - l->set->first;
    if (n_bad && n_bad == l->set->read)
        return slm2_fail(err, SLM2_EFORMAT, "%s: none of %" PRId64 " records has the form `%s`; the first: %s", l->set->name, n_bad, slm2_convo_formats[set->format], first_bad.msg);
    if (n_bad) slm2_log(SLM2_WARN, "%s: %" PRId64 " of %" PRId64 " records are no usable conversation and left out; the first: %s", l->set->name, n_bad, l->set->read, first_bad.msg);
    return SLM2_OK;
}

static slm2_status open_loader(struct loader *l, const struct slm2_convo_set *sets, int n_sets, struct slm2_err *err)
{
    struct slm2_convos *c = l->c;
    const struct slm2_convo_opts *o = l->o;
    size_t n_file = 0;
    int64_t zero = 0;
    SLM2_TRY(slm2_records_template(o->chat, &l->tmpl, err));
    if (o->n_ctx < 1 || o->n_ctx > 1 << 24) return slm2_fail(err, SLM2_EUSAGE, "n_ctx %d, want 1 to %d", o->n_ctx, 1 << 24);
    if (slm2_chat_stop_id(l->tok, l->tmpl) < 0) return slm2_fail(err, SLM2_EUSAGE, "the vocabulary lacks the token that ends a turn of %s", o->chat);
    for (int i = 0; i < n_sets; i++) n_file += (size_t)sets[i].path.n;
    c->set = calloc((size_t)n_sets + 1, sizeof *c->set);
    c->file = calloc(n_file + 1, sizeof *c->file);
    l->slot = calloc(BLOCK, sizeof *l->slot);
    if (!c->set || !c->file || !l->slot) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d data sets", n_sets);
    slm2_buf_put(&l->start, &zero, sizeof zero);
    return slm2_seen_open(&l->seen, o->dir, err);
}

slm2_status slm2_convos_load(struct slm2_convos *c, const struct slm2_convo_set *sets, int n_sets, const struct slm2_tok *tok, const struct slm2_convo_opts *o,
                             struct slm2_err *err)
{
    *c = (struct slm2_convos){.n_ctx = o->n_ctx};
    struct loader l = {.c = c, .tok = tok, .o = o};
    slm2_status st = open_loader(&l, sets, n_sets, err);
    for (; st == SLM2_OK && c->n_set < n_sets; c->n_set++) {
        l.set = &c->set[c->n_set];
        st = load_set(&l, &sets[c->n_set], err);
    }
    for (int i = 0; l.slot && i < BLOCK; i++) {
        if (i < l.n_slot) json_decref(l.slot[i].record); /* of a block that was given up */
        slm2_convo_msgs_free(&l.slot[i].m);
        slm2_ids_free(&l.slot[i].ids);
        slm2_buf_free(&l.slot[i].mask);
    }
    free(l.slot);
    slm2_seen_close(&l.seen);
    /* the array changes owner; mapped blocks have stopped moving */
    c->start = (int64_t *)(void *)l.start.v;
    c->ids = (int32_t *)(void *)c->ids_file.p;
    c->mask = c->mask_file.p;
    if (st != SLM2_OK) slm2_convos_free(c);
    return st;
}

void slm2_convos_free(struct slm2_convos *c)
{
    if (!c) return;
    slm2_scratch_close(&c->ids_file);
    slm2_scratch_close(&c->mask_file);
    free(c->start);
    free(c->set);
    free(c->file);
    *c = (struct slm2_convos){0};
}
