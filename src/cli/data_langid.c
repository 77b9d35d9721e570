/* data_langid.c - `slm2 data langid`: the language of texts; training and testing of the model that says it. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/data_cli.h"
#include "cli/share.h"
#include "data/corpus.h"
#include "data/langid.h"

struct langid_opts {
    char *model, *train, *out, *test;
    bool json;
};
#define AT(field) offsetof(struct langid_opts, field)
static const struct slm2_opt table[] = {
    {.name = "model", .type = SLM2_OPT_STR, .offset = AT(model), .help = "model to use; empty: the bundled one"},
    {.name = "train", .type = SLM2_OPT_STR, .offset = AT(train), .choices = slm2_conf_file, .help = "folder with code.jsonl, de.jsonl, en.jsonl, ...: make a model from four fifths of their documents"},
    {.name = "out", .type = SLM2_OPT_STR, .offset = AT(out), .help = "file of the model that --train makes", .alias = 'o'},
    {.name = "test", .type = SLM2_OPT_STR, .offset = AT(test), .choices = slm2_conf_file, .help = "such a folder: the share of pieces of the other documents whose language is found"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = AT(json), .help = "one JSON object, a line for each document of files"},
    {.name = NULL}};

static slm2_status train(const struct langid_opts *o, struct slm2_err *err)
{
    struct slm2_buf model = {0};
    slm2_status st = slm2_langid_train(o->train, &model, err);
    if (st == SLM2_OK) st = slm2_file_write(o->out, model.v, model.n, err);
    if (st == SLM2_OK) printf("%s: %zu bytes\n", o->out, model.n);
    slm2_buf_free(&model);
    return st;
}

static double share(int64_t part, int64_t all) { return all ? (double)part / (double)all : 0.0; }

static int print_test(const struct slm2_langid_test *t, bool json)
{
    json_t *j = json_object();
    if (!json) printf("accuracy by length in characters (pieces)\n%-6s", "");
    for (int i = 0; !json && i < SLM2_LANGID_N_LENGTH; i++) {
        if (slm2_langid_lengths[i]) printf(" %15d", slm2_langid_lengths[i]);
        else printf(" %15s", "document");
    }
    for (int c = 0; c <= SLM2_LANGID_N; c++) { /* the last row is of all */
        const char *name = c < SLM2_LANGID_N ? slm2_langid_names[c] : "all";
        json_t *row = json_object();
        if (!json) printf("\n%-6s", name);
        for (int i = 0; i < SLM2_LANGID_N_LENGTH; i++) {
            int64_t right = 0, all = 0;
            char length[16];
            for (int k = 0; k < SLM2_LANGID_N; k++) {
                if (c < SLM2_LANGID_N && k != c) continue;
                right += t->right[k][i];
                all += t->pieces[k][i];
            }
            if (slm2_langid_lengths[i]) snprintf(length, sizeof length, "%d", slm2_langid_lengths[i]);
            else strcpy(length, "document");
            json_object_set_new(row, length, json_real(share(right, all)));
            if (!json) printf(" %6.2f %% %6" PRId64, 100 * share(right, all), all);
        }
        json_object_set_new(j, name, row);
    }
    if (json) return slm2_cli_json(j);
    putchar('\n');
    json_decref(j);
    return 0;
}

static slm2_status identify(const struct slm2_langid *l, const char *path, bool json, struct slm2_err *err)
{
    struct slm2_corpus *corpus;
    struct slm2_doc doc;
    bool more;
    SLM2_TRY(slm2_corpus_open(&corpus, path, SLM2_CORPUS_AUTO, 0, err));
    slm2_status st;
    while ((st = slm2_corpus_next(corpus, &doc, &more, err)) == SLM2_OK && more) {
        if (doc.verdict != SLM2_LINE_OK) continue;
        struct slm2_langid_guess g = slm2_langid_of(l, doc.text, doc.n);
        const char *name = g.lang < 0 ? "unknown" : slm2_langid_names[g.lang];
        if (json) {
            slm2_cli_json(json_pack("{s:s, s:I, s:s, s:f}", "file", path, "line", (json_int_t)doc.line, "lang", name, "score", g.score));
        } else {
            printf("%s:%" PRIu64 ": %s %.3f\n", path, doc.line, name, g.score);
        }
    }
    slm2_corpus_close(corpus);
    return st;
}

int slm2_cli_data_langid(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "data langid FILE...\ndata langid --train DIR --out MODEL\ndata langid --test DIR [--model MODEL] [--json]",
        .about = "Says in which of de, en, es, fr, it, nl, pt a document is, or code, or unknown, by character trigrams.\n"
                 "The score says how far that class is ahead of the others; filters use both.",
        .examples = "slm2 data langid README.md\nslm2 data langid --test assets/corpus"};
    enum { MAX_FILES = 64 };
    struct langid_opts o = {0};
    struct slm2_err err = {0};
    struct slm2_langid *l = NULL;
    struct slm2_langid_test t = {0};
    const char *pos[MAX_FILES] = {0};
    int n_pos = 0, rc = slm2_cli_parse(&doc, table, &o, argc, argv, pos, MAX_FILES, &n_pos);
    if (rc < 0 && !*o.train && !*o.test && n_pos == 0) rc = slm2_cli_usage("data langid: name files, or --train or --test a folder");
    if (rc < 0 && *o.train && !*o.out) rc = slm2_cli_usage("data langid: --train needs --out");
    if (rc < 0) {
        slm2_status st = *o.train ? train(&o, &err) : SLM2_OK;
        rc = 0;
        if (st == SLM2_OK && (*o.test || n_pos)) st = slm2_langid_open(&l, *o.model ? o.model : *o.train ? o.out : NULL, &err);
        if (st == SLM2_OK && *o.test && (st = slm2_langid_measure(l, o.test, &t, &err)) == SLM2_OK) rc = print_test(&t, o.json);
        for (int i = 0; st == SLM2_OK && i < n_pos; i++) st = identify(l, slm2_share_arg(pos[i]), o.json, &err);
        if (st != SLM2_OK) rc = slm2_cli_fail(&err);
    }
    slm2_langid_free(l);
    slm2_conf_free(table, &o);
    return rc;
}
