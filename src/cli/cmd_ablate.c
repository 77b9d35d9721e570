/* cmd_ablate.c - `slm2 ablate CONFIG`: a grid of small models, one for each share of non-English data, way of splitting digits and
 * schedule, all else equal; a table and a page of their bits per byte by language.  A cell is a run folder of its own and is done when
 * its cell.json is there: what is done is kept, what was broken off goes on from its checkpoint. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/share.h"
#include "data/build.h"
#include "kernels/kernels.h"
#include "report/ablate.h"
#include "tok/tok.h"
#include "train/ledger.h"
#include "train/pretrain.h"

struct opts {
    char *out, *data, *base;
    struct slm2_conf_list set, shares, digits, schedules, english; /* char * */
    double cooldown, val_fraction;
    int vocab_ranks, threads;
    bool json;
};
#define AT(field) offsetof(struct opts, field)
static const struct slm2_opt table[] = {
    {.name = "out", .type = SLM2_OPT_STR, .offset = AT(out), .def = "!", .help = "folder of the grid: tokenizers, token files, a run for each cell, ablate.json, ablate.html", .alias = 'o'},
    {.name = "data", .type = SLM2_OPT_STR, .offset = AT(data), .def = "!", .choices = slm2_conf_file, .help = "YAML file of `slm2 data build`; each source names its lang"},
    {.name = "base", .type = SLM2_OPT_STR, .offset = AT(base), .def = "!", .choices = slm2_conf_file, .help = "YAML file of `slm2 pretrain` that all cells share"},
    {.name = "with", .type = SLM2_OPT_STRS, .offset = AT(set), .help = "key=value that overrides base, repeatable"},
    {.name = "vocab_ranks", .type = SLM2_OPT_INT, .offset = AT(vocab_ranks), .lo = 0, .hi = 1 << 22, .def = "4096", .help = "only so many tokens of Arcade100k, the most frequent first; 0: all"},
    {.name = "shares", .type = SLM2_OPT_STRS, .offset = AT(shares), .def = "[0, 0.1, 0.2, 0.3, 0.4, 0.5]", .help = "shares of the training tokens that are not English, ascending"},
    {.name = "digits", .type = SLM2_OPT_STRS, .offset = AT(digits), .def = "[split, joined]", .help = "split: a digit is a token; joined: up to three are"},
    {.name = "schedules", .type = SLM2_OPT_STRS, .offset = AT(schedules), .def = "[cosine, rsqrt, hybrid]", .help = "learning-rate schedules (schedule.kind)"},
    {.name = "cooldown", .type = SLM2_OPT_DOUBLE, .offset = AT(cooldown), .lo = 0, .hi = 1, .def = "0.2", .help = "last part of the steps in which rsqrt and hybrid fall to zero"},
    {.name = "val_fraction", .type = SLM2_OPT_DOUBLE, .offset = AT(val_fraction), .lo = -1, .hi = 1, .def = "-1", .help = "share of documents held out; -1: what the data's file says"},
    {.name = "english", .type = SLM2_OPT_STRS, .offset = AT(english), .def = "[en, code]", .help = "languages of the sources that are not counted as non-English"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = AT(json), .help = "the results as one JSON object instead of the table"},
    SLM2_CLI_THREADS(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "ablate CONFIG.yml [--out DIR] [-t N] [--json]",
    .about = "Trains a grid of small models with equal seeds: shares of non-English data x digits split or joined x schedules.\n"
             "Gives bits per byte of held-out text by language as a table, as OUT/ablate.json and as OUT/ablate.html with charts.\n"
             "Stop it at any moment: the same command keeps the finished cells and goes on with the others.",
    .examples = "slm2 ablate configs/ablate-nano.yml\nslm2 ablate configs/ablate-nano.yml --out runs/ab --with train.steps=100 --json",
    .yaml_first = true,
};

enum { MAX_SHARE = 64, MAX_CELL = 1024, MAX_SET = 64, MAX_TEXT = 4096 };
struct grid {
    const struct opts *o;
    double share[MAX_SHARE];
    int n_share;
    struct slm2_ablate_cell *cell; /* [MAX_CELL] */
    struct slm2_ablate_grid g;
    char lang[SLM2_ABLATE_MAX_LANG][32], note[512];
    int64_t steps;
    const volatile sig_atomic_t *stop;
};

static const char *item(const struct slm2_conf_list *l, int i) { return ((char *const *)l->items)[i]; }

static bool is_english(const struct opts *o, const char *lang)
{
    for (int i = 0; i < o->english.n; i++)
        if (!strcmp(item(&o->english, i), lang)) return true;
    return false;
}

/* ---- settings -------------------------------------------------------------------------------------------------------- */
static slm2_status check(struct grid *g, struct slm2_err *err)
{
    const struct opts *o = g->o;
    struct slm2_pretrain_opts p;
    if (o->shares.n < 1 || o->shares.n > MAX_SHARE || o->digits.n < 1 || o->schedules.n < 1 || o->shares.n * o->digits.n * o->schedules.n > MAX_CELL)
        return slm2_fail(err, SLM2_EUSAGE, "ablate: %d shares, %d ways of digits and %d schedules; want at least one of each, at most %d shares and %d cells", o->shares.n, o->digits.n, o->schedules.n,
                         MAX_SHARE, MAX_CELL);
    for (int i = 0; i < o->shares.n; i++) {
        char *end;
        const char *text = item(&o->shares, i);
        g->share[i] = strtod(text, &end);
        if (!*text || *end || !(g->share[i] >= 0 && g->share[i] < 1) || (i && g->share[i] <= g->share[i - 1]))
            return slm2_fail(err, SLM2_EUSAGE, "ablate: shares: \"%s\": want numbers from 0 to below 1, ascending", text);
    }
    g->n_share = o->shares.n;
    for (int i = 0; i < o->digits.n; i++)
        if (strcmp(item(&o->digits, i), "split") && strcmp(item(&o->digits, i), "joined"))
            return slm2_fail(err, SLM2_EUSAGE, "ablate: digits: \"%s\", want split or joined", item(&o->digits, i));
    slm2_status st = slm2_pretrain_settings(&p, o->base, o->set.items, o->set.n, err);
    g->steps = p.steps;
    if (st == SLM2_OK) snprintf(g->note, sizeof g->note, "layers %d, width %d, %" PRId64 " steps of %" PRId64 " tokens, %d ranks of the vocabulary, seed %" PRId64, p.model.cfg.n_layer, p.model.cfg.hidden_size, p.steps,
                                (int64_t)p.micro_batch * p.accumulation * (p.n_ctx ? p.n_ctx : p.model.cfg.n_ctx), o->vocab_ranks, p.seed);
    slm2_conf_free(slm2_pretrain_table, &p);
    SLM2_TRY(st);
    for (int i = 0; i < o->schedules.n; i++) {
        bool known = false;
        for (int k = 0; slm2_schedule_kinds[k]; k++) known = known || !strcmp(slm2_schedule_kinds[k], item(&o->schedules, i));
        if (!known) return slm2_fail(err, SLM2_EUSAGE, "ablate: schedules: \"%s\", want cosine, rsqrt, hybrid or linear", item(&o->schedules, i));
    }
    return SLM2_OK;
}

/* ---- tokenizers and token files ---------------------------------------------------------------------------------------- */
static slm2_status make_data(struct grid *g, const char *digits, char tok_dir[MAX_TEXT], char data_dir[MAX_TEXT], struct slm2_err *err)
{
    char name[64], json[MAX_TEXT];
    struct slm2_data_opts d = {0};
    snprintf(name, sizeof name, "tok-%s-%d", digits, g->o->vocab_ranks);
    SLM2_TRY(slm2_path_join(tok_dir, MAX_TEXT, g->o->out, name, err));
    snprintf(name, sizeof name, "data-%s-%d", digits, g->o->vocab_ranks);
    SLM2_TRY(slm2_path_join(data_dir, MAX_TEXT, g->o->out, name, err));
    SLM2_TRY(slm2_path_join(json, sizeof json, tok_dir, "tokenizer.json", err));
    if (!slm2_path_exists(json)) {
        struct slm2_tok *all, *some = NULL;
        SLM2_TRY(slm2_dir_make(tok_dir, err));
        SLM2_TRY(slm2_tok_open(&all, NULL, err));
        slm2_status st = slm2_tok_variant(&some, all, g->o->vocab_ranks, strcmp(digits, "split") ? SLM2_SPLIT_CL100K : SLM2_SPLIT_ARCADE, err);
        if (st == SLM2_OK) st = slm2_tok_write_hf(some, tok_dir, NULL, 0, err);
        slm2_tok_free(some);
        slm2_tok_free(all);
        SLM2_TRY(st);
    }
    slm2_conf_init(slm2_data_table, &d);
    slm2_status st = slm2_conf_yaml(slm2_data_table, &d, g->o->data, err);
    if (st == SLM2_OK) st = slm2_share_settings(slm2_data_table, &d, err);
    char *const replaced[] = {d.out, d.vocab};
    if (st == SLM2_OK) {
        d.out = data_dir;
        d.vocab = tok_dir;
        if (g->o->val_fraction >= 0) d.val_fraction = g->o->val_fraction;
        d.n_threads = g->o->threads;
        d.stop = g->stop;
        st = slm2_data_build(&d, err);
        d.out = replaced[0];
        d.vocab = replaced[1];
    }
    slm2_conf_free(slm2_data_table, &d);
    return st;
}

/* ---- one cell ---------------------------------------------------------------------------------------------------------- */
struct sets { char *v[MAX_SET]; int n; bool failed; };

static void add(struct sets *s, const char *fmt, ...) SLM2_PRINTF(2, 3);
static void add(struct sets *s, const char *fmt, ...)
{
    char text[MAX_TEXT * 2];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || n >= (int)sizeof text || s->n == MAX_SET || !(s->v[s->n] = strdup(text))) s->failed = true;
    else s->n++;
}

/* The sources with weights such that the share of the tokens comes from non-English ones, each part in proportion to what there is. */
static slm2_status add_sources(struct sets *s, const struct grid *g, const struct slm2_dataset *set, double share, struct slm2_err *err)
{
    double total[2] = {0};
    struct slm2_buf list = {0};
    for (int i = 0; i < set->n; i++) total[!is_english(g->o, set->v[i].lang)] += set->v[i].weight;
    if (!(total[0] > 0)) return slm2_fail(err, SLM2_EUSAGE, "ablate: %s has no source whose lang is in `english`", g->o->data);
    if (share > 0 && !(total[1] > 0)) return slm2_fail(err, SLM2_EUSAGE, "ablate: %s has no source in another language than those of `english`", g->o->data);
    for (int i = 0; i < set->n; i++) {
        bool other = !is_english(g->o, set->v[i].lang);
        if (!set->v[i].prefix[SLM2_SPLIT_TRAIN]) continue;
        slm2_buf_printf(&list, "%s{name: %s, weight: %.12g}", list.n ? ", " : "", set->v[i].name, (other ? share : 1 - share) * set->v[i].weight / total[other]);
    }
    if (list.v && !list.failed) add(s, "sources=[%s]", list.v);
    else s->failed = true;
    slm2_buf_free(&list);
    return SLM2_OK;
}

static void add_schedule(struct sets *s, const struct grid *g, const char *kind)
{
    bool falls = !strcmp(kind, "rsqrt") || !strcmp(kind, "hybrid");
    int64_t n = falls ? llround(g->o->cooldown * (double)g->steps) : 0;
    add(s, "schedule.kind=%s", kind);
    add(s, "schedule.n_step=%" PRId64, g->steps);
    add(s, "schedule.n_cooldown=%" PRId64, n);
    add(s, "schedule.cooldown_start=%" PRId64, n ? g->steps - n : -1);
}

/* Bits per byte by language, from the ledger's last held-out losses and the tokens and bytes of the held-out files. */
static slm2_status take_losses(struct grid *g, const struct slm2_dataset *set, const char *ledger, struct slm2_ablate_cell *c, struct slm2_err *err)
{
    struct slm2_ledger *l;
    double nats[SLM2_ABLATE_MAX_LANG] = {0}, bytes[SLM2_ABLATE_MAX_LANG] = {0}, all_nats = 0, all_bytes = 0, all_tok = 0, others = 0;
    int n_other = 0;
    SLM2_TRY(slm2_ledger_open_read(&l, ledger, err));
    slm2_status st = SLM2_OK;
    for (int i = 0; i < set->n && st == SLM2_OK; i++) {
        const struct slm2_dataset_source *s = &set->v[i];
        char name[200];
        struct slm2_series series;
        if (!s->prefix[SLM2_SPLIT_VAL] || !s->n_bytes[SLM2_SPLIT_VAL]) continue;
        snprintf(name, sizeof name, "valid_loss.%.180s", s->name);
        st = slm2_ledger_series(l, name, &series, err);
        if (st == SLM2_OK && series.n) {
            int k = 0;
            while (k < g->g.n_lang && strcmp(g->lang[k], s->lang)) k++;
            if (k == g->g.n_lang && k < SLM2_ABLATE_MAX_LANG) {
                snprintf(g->lang[k], sizeof g->lang[0], "%.31s", s->lang);
                g->g.lang[k] = g->lang[k];
                g->g.n_lang++;
            }
            double x = series.value[series.n - 1] * (double)s->n_tok[SLM2_SPLIT_VAL], b = (double)s->n_bytes[SLM2_SPLIT_VAL];
            if (k < SLM2_ABLATE_MAX_LANG) nats[k] += x, bytes[k] += b;
            all_nats += x, all_bytes += b, all_tok += (double)s->n_tok[SLM2_SPLIT_VAL];
        }
        slm2_series_free(&series);
    }
    slm2_ledger_close(l, NULL);
    SLM2_TRY(st);
    if (!(all_bytes > 0)) return slm2_fail(err, SLM2_EFORMAT, "%s has no held-out losses; %s needs a val_fraction above 0", ledger, g->o->data);
    c->english = (double)NAN;
    for (int k = 0; k < SLM2_ABLATE_MAX_LANG; k++) {
        c->bits[k] = k < g->g.n_lang && bytes[k] > 0 ? nats[k] / (M_LN2 * bytes[k]) : (double)NAN;
        if (k >= g->g.n_lang || !isfinite(c->bits[k])) continue;
        if (!strcmp(g->lang[k], "en")) c->english = c->bits[k];
        if (!is_english(g->o, g->lang[k])) others += c->bits[k], n_other++;
    }
    c->other = n_other ? others / n_other : (double)NAN;
    c->all = all_nats / (M_LN2 * all_bytes);
    c->loss = all_nats / all_tok;
    return SLM2_OK;
}

/* cell.json: the hash of all settings; done when "done" is true. */
static bool cell_is(const char *path, const char *key, bool *done)
{
    json_t *j = NULL;
    *done = false;
    if (!slm2_path_exists(path) || slm2_json_read(&j, path, 1 << 20, NULL) != SLM2_OK) return false;
    const char *was = json_string_value(json_object_get(j, "key"));
    bool same = was && !strcmp(was, key);
    *done = same && json_is_true(json_object_get(j, "done"));
    json_decref(j);
    return same;
}

static slm2_status mark_cell(const char *path, const char *key, const struct slm2_ablate_cell *c, bool done, struct slm2_err *err)
{
    json_t *j = json_pack("{s:s, s:b, s:f, s:s, s:s}", "key", key, "done", (int)done, "share", c->share, "digits", c->digits, "schedule", c->schedule);
    if (!j) return slm2_fail(err, SLM2_ENOMEM, "no memory for %s", path);
    slm2_status st = slm2_json_write(j, path, err);
    json_decref(j);
    return st;
}

static slm2_status train_cell(struct grid *g, struct sets *s, const char *dir, const struct slm2_dataset *set, struct slm2_ablate_cell *c, int no, int n, struct slm2_err *err)
{
    static struct slm2_train_result res; /* three paths: large for a stack */
    char mark[MAX_TEXT], key[65], isa[32];
    struct slm2_pretrain_opts p = {0};
    struct slm2_buf dump = {0};
    const struct slm2_kernels *kernels;
    bool done;
    SLM2_TRY(slm2_path_join(mark, sizeof mark, dir, "cell.json", err));
    slm2_status st = slm2_pretrain_settings(&p, g->o->base, (const char *const *)s->v, s->n, err);
    if (st == SLM2_OK) {
        slm2_conf_dump(slm2_pretrain_table, &p, &dump); /* all that decides the result, the folders too */
        slm2_buf_puts(&dump, set->manifest_sha256);
        st = slm2_kernels_get(&kernels, *p.isa ? p.isa : slm2_cli_isa(), err); /* each variant has its own bits */
    }
    if (st == SLM2_OK) {
        slm2_buf_puts(&dump, kernels->variant);
        st = slm2_buf_check(&dump, err);
    }
    if (st == SLM2_OK) {
        slm2_sha256_hex(dump.v, dump.n, key);
        bool same = cell_is(mark, key, &done);
        char *own = p.isa;
        if (!*p.isa && slm2_cli_isa()) {
            snprintf(isa, sizeof isa, "%s", slm2_cli_isa());
            p.isa = isa;
        }
        p.threads = g->o->threads;
        p.stop = g->stop;
        p.resume = same ? SLM2_RESUME_AUTO : SLM2_RESUME_FRESH;
        if (done) {
            slm2_log(SLM2_INFO, "ablate: cell %d of %d: share %.0f %%, digits %s, %s: kept", no, n, 100 * c->share, c->digits, c->schedule);
        } else {
            slm2_log(SLM2_INFO, "ablate: cell %d of %d: share %.0f %%, digits %s, %s", no, n, 100 * c->share, c->digits, c->schedule);
            /* the old run goes before the new mark comes: a start that fails in between must not find it under the new key */
            if (!same) st = slm2_dir_remove(dir, err);
            if (st == SLM2_OK) st = slm2_dir_make(dir, err);
            if (st == SLM2_OK && !same) st = mark_cell(mark, key, c, false, err);
            if (st == SLM2_OK) st = slm2_pretrain_run(&p, g->o->base, &res, err);
            if (st == SLM2_OK) st = mark_cell(mark, key, c, true, err);
        }
        p.isa = own;
    }
    slm2_buf_free(&dump);
    slm2_conf_free(slm2_pretrain_table, &p);
    return st;
}

static slm2_status run_cell(struct grid *g, const struct slm2_dataset *set, const char *tok_dir, const char *data_dir, struct slm2_ablate_cell *c, int no, int n, struct slm2_err *err)
{
    struct sets s = {0};
    char name[160], dir[MAX_TEXT], ledger[MAX_TEXT];
    snprintf(name, sizeof name, "share-%g-digits-%s-%s", 100 * c->share, c->digits, c->schedule);
    SLM2_TRY(slm2_path_join(dir, sizeof dir, g->o->out, name, err));
    SLM2_TRY(slm2_path_join(ledger, sizeof ledger, dir, "run.sqlite", err));
    for (int i = 0; i < g->o->set.n; i++) add(&s, "%s", item(&g->o->set, i));
    add(&s, "run=%s", dir);
    add(&s, "data=%s", data_dir);
    add(&s, "tokenizer=%s", tok_dir);
    add(&s, "model.vocab_size=%d", (set->vocab_size + 63) / 64 * 64);
    add(&s, "model.bos_id=%d", set->eos);
    add(&s, "model.eos_id=%d", set->eos);
    add(&s, "valid.every=%" PRId64, g->steps); /* before and after, over all that is held out */
    add(&s, "valid.rows=1000000");
    add_schedule(&s, g, c->schedule);
    slm2_status st = add_sources(&s, g, set, c->share, err);
    if (st == SLM2_OK && s.failed) st = slm2_fail(err, SLM2_ELIMIT, "ablate: too many settings in `with` or names that are too long");
    if (st == SLM2_OK) st = train_cell(g, &s, dir, set, c, no, n, err);
    if (st == SLM2_OK) st = take_losses(g, set, ledger, c, err);
    for (int i = 0; i < s.n; i++) free(s.v[i]);
    return st;
}

/* ---- the grid ----------------------------------------------------------------------------------------------------------- */
static slm2_status run_grid(struct grid *g, struct slm2_err *err)
{
    const struct opts *o = g->o;
    int n = g->n_share * o->digits.n * o->schedules.n;
    slm2_status st = SLM2_OK;
    for (int d = 0; d < o->digits.n && st == SLM2_OK; d++) {
        char tok_dir[MAX_TEXT], data_dir[MAX_TEXT];
        struct slm2_dataset set;
        SLM2_TRY(make_data(g, item(&o->digits, d), tok_dir, data_dir, err));
        SLM2_TRY(slm2_dataset_open(&set, data_dir, err));
        for (int k = 0; k < o->schedules.n && st == SLM2_OK; k++) {
            for (int i = 0; i < g->n_share && st == SLM2_OK; i++) {
                struct slm2_ablate_cell *c = &g->cell[g->g.n++];
                *c = (struct slm2_ablate_cell){.share = g->share[i], .digits = item(&o->digits, d), .schedule = item(&o->schedules, k)};
                st = run_cell(g, &set, tok_dir, data_dir, c, g->g.n, n, err);
            }
        }
        slm2_dataset_free(&set);
    }
    return st;
}

static json_t *grid_json(const struct grid *g)
{
    json_t *cells = json_array();
    for (int i = 0; i < g->g.n; i++) {
        const struct slm2_ablate_cell *c = &g->cell[i];
        json_t *bits = json_object();
        for (int k = 0; k < g->g.n_lang; k++) json_object_set_new(bits, g->lang[k], slm2_json_real(c->bits[k], NULL));
        json_array_append_new(cells, json_pack("{s:f, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "share", c->share, "digits", c->digits, "schedule", c->schedule, "loss", slm2_json_real(c->loss, NULL), "all",
                                               slm2_json_real(c->all, NULL), "english", slm2_json_real(c->english, NULL), "other", slm2_json_real(c->other, NULL), "bits_per_byte", bits));
    }
    return json_pack("{s:s, s:o}", "note", g->note, "cells", cells);
}

static slm2_status write_results(const struct grid *g, json_t *j, struct slm2_err *err)
{
    char path[MAX_TEXT];
    struct slm2_buf page = {0};
    SLM2_TRY(slm2_path_join(path, sizeof path, g->o->out, "ablate.json", err));
    SLM2_TRY(slm2_json_write(j, path, err));
    SLM2_TRY(slm2_path_join(path, sizeof path, g->o->out, "ablate.html", err));
    slm2_ablate_html(&g->g, &page);
    slm2_status st = slm2_buf_check(&page, err);
    if (st == SLM2_OK) st = slm2_file_write(path, page.v, page.n, err);
    slm2_buf_free(&page);
    return st;
}

int slm2_cmd_ablate(int argc, char **argv)
{
    struct opts o = {0};
    struct slm2_err err;
    const char *pos[1];
    int n_pos = 0, rc = slm2_cli_parse(&doc, table, &o, argc, argv, pos, 1, &n_pos);
    if (rc < 0) {
        static struct grid g; /* names of languages: large for a stack */
        struct slm2_buf text = {0};
        json_t *j = NULL;
        g = (struct grid){.o = &o, .stop = slm2_cli_catch_stop(), .cell = calloc(MAX_CELL, sizeof *g.cell)};
        g.g = (struct slm2_ablate_grid){.title = "Ablation of data, digits and schedules", .note = g.note, .cell = g.cell};
        slm2_status st = g.cell ? check(&g, &err) : slm2_fail(&err, SLM2_ENOMEM, "no memory for the grid");
        if (st == SLM2_OK) st = slm2_dir_make(o.out, &err);
        if (st == SLM2_OK) st = run_grid(&g, &err);
        if (st == SLM2_OK) st = (j = grid_json(&g)) ? write_results(&g, j, &err) : slm2_fail(&err, SLM2_ENOMEM, "no memory for the results");
        if (st == SLM2_ESTOP) {
            slm2_cli_note("slm2: %s; finished cells are kept", err.msg);
            rc = 1;
        } else if (st != SLM2_OK) rc = slm2_cli_fail(&err);
        else if (o.json) rc = slm2_cli_json(json_incref(j));
        else {
            slm2_ablate_text(&g.g, &text);
            slm2_buf_printf(&text, "\n%s/ablate.html\n", o.out);
            if (slm2_cli_print(&text, &err) != SLM2_OK) rc = slm2_cli_fail(&err);
            else rc = 0;
        }
        json_decref(j);
        slm2_buf_free(&text);
        free(g.cell);
    }
    slm2_conf_free(table, &o);
    return rc;
}
