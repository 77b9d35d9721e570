/* build_conf.c - the settings of a build: the tables that read, check, document and dump them. */
#include <stddef.h>

#include "data/build_impl.h"

/* ---- settings ----------------------------------------------------------------------------------------------------------- */
static const char *const forms[] = {"auto", "jsonl", "text", "wet", NULL};
static const char *const splits[] = {"hash", "train", "val", NULL};
const char *const slm2_data_on_bad[] = {"skip", "fatal", NULL};

#define S(field) offsetof(struct slm2_data_source_opts, field)
static const struct slm2_opt source_table[] = {
    {.name = "name", .type = SLM2_OPT_STR, .offset = S(name), .def = "!", .help = "name of the source and its files: letters, digits, - and _"},
    {.name = "path", .type = SLM2_OPT_STRS, .offset = S(path), .def = "!", .choices = slm2_conf_file, .help = "files to read, in order; plain, .gz or .zst"},
    {.name = "format", .type = SLM2_OPT_ENUM, .offset = S(format), .choices = forms, .def = "auto", .help = "jsonl, text (a file is a document), wet (WARC with extracted text), or by name"},
    {.name = "text_field", .type = SLM2_OPT_STR, .offset = S(text_field), .def = "text", .help = "jsonl: key of the text, or its path: content.body"},
    {.name = "id_field", .type = SLM2_OPT_STR, .offset = S(id_field), .def = "id", .help = "jsonl: key or path of what names the document in messages"},
    {.name = "lang_field", .type = SLM2_OPT_STR, .offset = S(lang_field), .def = "lang", .help = "jsonl: key or path of the language"},
    {.name = "license_field", .type = SLM2_OPT_STR, .offset = S(license_field), .def = "license", .help = "jsonl: key or path of the licence"},
    {.name = "weight", .type = SLM2_OPT_DOUBLE, .offset = S(weight), .lo = 0, .hi = 1e18, .def = "0", .help = "share of the training tokens; 0: as many as the source has"},
    {.name = "lang", .type = SLM2_OPT_STR, .offset = S(lang), .help = "language of records that name none or an empty one"},
    {.name = "license", .type = SLM2_OPT_STR, .offset = S(license), .help = "licence of records that name none or an empty one"},
    {.name = "val_fraction", .type = SLM2_OPT_DOUBLE, .offset = S(val_fraction), .lo = -1, .hi = 1, .def = "-1", .help = "share of documents held out; -1: the common setting"},
    {.name = "filter", .type = SLM2_OPT_STR, .offset = S(filter), .help = "set of rules that documents must pass: a name from filters, none, or nothing for the common setting"},
    {.name = "split", .type = SLM2_OPT_ENUM, .offset = S(split), .choices = splits, .def = "hash", .help = "hash: by val_fraction; train, val: all of it"},
    {.name = NULL}};
#undef S
#define D(field) offsetof(struct slm2_data_opts, field)
const struct slm2_opt slm2_data_table[] = {
    {.name = "out", .type = SLM2_OPT_STR, .offset = D(out), .def = "!", .help = "folder to build", .alias = 'o'},
    {.name = "vocab", .type = SLM2_OPT_STR, .offset = D(vocab), .choices = slm2_conf_file, .help = "tokenizer file or folder; empty: the bundled Arcade100k"},
    {.name = "sources", .type = SLM2_OPT_LIST, .offset = D(sources), .def = "!", .sub = source_table, .sub_size = sizeof(struct slm2_data_source_opts), .help = "what to read"},
    {.name = "filters", .type = SLM2_OPT_LIST, .offset = D(filters), .sub = slm2_quality_table, .sub_size = sizeof(struct slm2_quality_opts), .help = "sets of rules for quality; see configs/data-filtered.yml"},
    {.name = "filter", .type = SLM2_OPT_STR, .offset = D(filter), .help = "set of rules for sources that name none; empty: none"},
    {.name = "val_fraction", .type = SLM2_OPT_DOUBLE, .offset = D(val_fraction), .lo = 0, .hi = 1, .def = "0.01", .help = "share of documents held out for validation"},
    {.name = "seed", .type = SLM2_OPT_INT64, .offset = D(seed), .lo = 0, .hi = 9007199254740991.0, .def = "0", .help = "seed of the validation split"},
    {.name = "on_bad_line", .type = SLM2_OPT_ENUM, .offset = D(on_bad_line), .choices = slm2_data_on_bad, .def = "skip", .help = "skip and count bad lines, or fail at the first"},
    {.name = "min_bytes", .type = SLM2_OPT_INT64, .offset = D(min_bytes), .lo = 0, .hi = 1e15, .def = "1", .help = "shorter documents are left out"},
    {.name = "max_bytes", .type = SLM2_OPT_INT64, .offset = D(max_bytes), .lo = 1, .hi = 1e15, .def = "67108864", .help = "longer documents are left out"},
    {.name = "max_line_bytes", .type = SLM2_OPT_INT64, .offset = D(max_line_bytes), .lo = 1, .hi = 2147483647, .def = "268435456", .help = "longer lines are bad lines"},
    {.name = "dedup", .type = SLM2_OPT_BOOL, .offset = D(dedup), .def = "true", .help = "a text that came before, in any source, is left out"},
    SLM2_NEAR_ROWS(struct slm2_data_opts),
    {.name = "append_eos", .type = SLM2_OPT_BOOL, .offset = D(append_eos), .def = "true", .help = "end each document with EOS"},
    {.name = "threads", .type = SLM2_OPT_INT, .offset = D(n_threads), .lo = 0, .hi = 1024, .def = "0", .help = "threads; 0: one per core", .alias = 't'},
    {.name = NULL}};
#undef D
