/* cmd_data.c - `slm2 data build|stats|verify|mix|langid`: documents to token files, and what such files hold. */
#include <math.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/file.h"
#include "cli/cli.h"
#include "cli/data_cli.h"
#include "data/build.h"
#include "data/verify.h"

/* ---- build ---------------------------------------------------------------------------------------------------------------- */
/* {"manifest", "threads", "wall_s", "mb_per_s", "stages": {NAME: {"bytes", "cpu_s", "mb_per_s"}}}; a stage's rate is of one thread. */
static json_t *speed_json(const char *manifest, const struct slm2_data_speed *v)
{
    json_t *stages = json_object();
    for (int i = 0; i < SLM2_N_STAGE; i++) {
        json_object_set_new(stages, slm2_data_stages[i], json_pack("{s:I, s:f, s:f}", "bytes", (json_int_t)v->bytes[i], "cpu_s", v->cpu_s[i], "mb_per_s",
                                                                   v->cpu_s[i] > 0 ? 1e-6 * (double)v->bytes[i] / v->cpu_s[i] : 0.0));
    }
    return json_pack("{s:s, s:i, s:f, s:f, s:f, s:o}", "manifest", manifest, "threads", v->n_threads, "wall_s", v->wall_s, "inputs_hash_s", v->inputs_s, "mb_per_s",
                     v->wall_s > 0 ? 1e-6 * (double)v->bytes[SLM2_STAGE_READ] / v->wall_s : 0.0, "stages", stages);
}

/* --json is no setting of a build: it is taken out of the arguments. */
static bool take_json(int *argc, char **argv)
{
    int n = 0;
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], "--json") != 0) argv[n++] = argv[i];
    }
    bool found = n < *argc;
    *argc = n;
    return found;
}

static int data_build(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "data build CONFIG.yml [--out DIR] [--set KEY=VALUE] [--json]",
        .about = "Reads the sources of a YAML file, drops duplicates and bad lines, and writes token files with a manifest.\n"
                 "An interrupted build goes on where it was: complete sources with the same inputs and settings are kept.\n"
                 "--json prints the speed: of all, and of each stage on one thread.",
        .examples = "slm2 data build configs/data-nano.yml\nslm2 data build configs/data-nano.yml --out data/other --on-bad-line fatal",
        .yaml_first = true};
    struct slm2_data_opts o = {0};
    struct slm2_err err = {0};
    struct slm2_data_speed speed;
    char manifest[4096];
    const char *pos[1] = {0};
    bool json = take_json(&argc, argv);
    int n_pos = 0, rc = slm2_cli_parse(&doc, slm2_data_table, &o, argc, argv, pos, 1, &n_pos);
    if (rc < 0) {
        o.stop = slm2_cli_catch_stop();
        o.speed = &speed;
        slm2_status st = slm2_path_join(manifest, sizeof manifest, o.out, "manifest.json", &err);
        if (st == SLM2_OK) st = slm2_data_build(&o, &err);
        rc = st != SLM2_OK ? slm2_cli_fail(&err) : json ? slm2_cli_json(speed_json(manifest, &speed)) : 0;
        if (st == SLM2_OK && !json) puts(manifest);
    }
    slm2_conf_free(slm2_data_table, &o);
    return rc;
}

/* ---- stats ---------------------------------------------------------------------------------------------------------------- */
struct stats_opts {
    char *vocab;
    bool json;
};
static const struct slm2_opt stats_table[] = {
    {.name = "vocab", .type = SLM2_OPT_STR, .offset = offsetof(struct stats_opts, vocab), .choices = slm2_conf_file, .help = "tokenizer file or folder; empty: the bundled Arcade100k"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct stats_opts, json), .help = "one JSON object"},
    {.name = NULL}};

static json_t *stats_json(const char *name, const char *split, const char *lang, const char *license, const struct slm2_data_stats *s)
{
    json_t *length = json_array();
    for (int k = 0; k < 32; k++) {
        if (s->length[k]) json_array_append_new(length, json_pack("{s:I, s:I, s:I}", "from", (json_int_t)(k ? INT64_C(1) << k : 0), "to",
                                                                  (json_int_t)((INT64_C(2) << k) - 1), "documents", (json_int_t)s->length[k]));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:f, s:f, s:o}", "name", name, "split", split, "lang", lang, "license", license, "documents",
                     (json_int_t)s->n_doc, "tokens", (json_int_t)s->n_tok, "bytes", (json_int_t)s->n_bytes, "bytes_per_token",
                     s->n_tok ? (double)s->n_bytes / (double)s->n_tok : 0.0, "min_length", (json_int_t)s->min_len, "max_length", (json_int_t)s->max_len, "distinct_tokens",
                     (json_int_t)s->n_distinct, "unigram_entropy_nats", s->entropy_nats, "unigram_bits_per_byte", s->bits_per_byte, "length_histogram", length);
}

static void print_row(const char *name, const char *split, const char *lang, const struct slm2_data_stats *s)
{
    printf("%-20s %-5s %-8s %9" PRId64 " %12" PRId64 " %7.3f %8" PRId64 " %9" PRId64 " %9" PRId64 " %8.4f %7.4f\n", name, split, lang, s->n_doc, s->n_tok,
           s->n_tok ? (double)s->n_bytes / (double)s->n_tok : 0.0, s->min_len, s->max_len, s->n_distinct, s->entropy_nats, s->bits_per_byte);
}

static void print_histogram(const struct slm2_data_stats *s)
{
    int64_t most = 1;
    for (int k = 0; k < 32; k++) {
        if (s->length[k] > most) most = s->length[k];
    }
    for (int k = 0; k < 32; k++) {
        if (!s->length[k]) continue;
        int bar = (int)ceil(40.0 * (double)s->length[k] / (double)most);
        printf("    %10" PRId64 " .. %-10" PRId64 " %9" PRId64 "  %.*s\n", k ? INT64_C(1) << k : 0, (INT64_C(2) << k) - 1, s->length[k], bar,
               "########################################");
    }
}

static const char head[] = "source               split lang     documents       tokens bytes/t      min       max  distinct  H(nats)  bits/B\n";

static slm2_status stats_of(const char *name, const char *split, const char *lang, const char *license, const char *prefix, const struct slm2_tok *tok, json_t *list,
                            struct slm2_err *err)
{
    struct slm2_data_stats s;
    SLM2_TRY(slm2_data_stats(&s, prefix, tok, err));
    if (list) {
        json_array_append_new(list, stats_json(name, split, lang, license, &s));
    } else {
        print_row(name, split, lang, &s);
        print_histogram(&s);
    }
    return SLM2_OK;
}

/* ---- what a build left out, by its manifest --------------------------------------------------------------------------------- */
static const char *const left_out[] = {"bad", "empty_lines", "empty_texts", "other_records", "too_short", "too_long", "duplicates", "near_duplicates", "filtered"};
enum { N_LEFT_OUT = sizeof left_out / sizeof left_out[0] };

static json_t *left_out_json(const json_t *entry)
{
    json_t *j = json_object();
    json_object_set(j, "name", json_object_get(entry, "name"));
    for (int i = 0; i < N_LEFT_OUT; i++) json_object_set(j, left_out[i], json_object_get(entry, left_out[i]));
    json_object_set(j, "filtered_by", json_object_get(entry, "filtered_by"));
    json_object_set(j, "lines", json_object_get(entry, "lines"));
    return j;
}

/* "    of 154 lines left out: 3 duplicates, 12 filtered (min_words 2, langs 10)" */
static void print_left_out(const json_t *entry)
{
    json_t *by = json_object_get(entry, "filtered_by"), *n;
    const char *rule, *before = " (";
    bool any = false;
    printf("    of %" PRId64 " lines left out:", (int64_t)json_integer_value(json_object_get(entry, "lines")));
    for (int i = 0; i < N_LEFT_OUT; i++) {
        int64_t count = json_integer_value(json_object_get(entry, left_out[i]));
        if (!count) continue;
        printf("%s %" PRId64 " ", any ? "," : "", count);
        for (const char *c = left_out[i]; *c; c++) putchar(*c == '_' ? ' ' : *c);
        any = true;
    }
    json_object_foreach(by, rule, n) {
        printf("%s%s %" PRId64, before, rule, (int64_t)json_integer_value(n));
        before = ", ";
    }
    puts(json_object_size(by) ? ")" : any ? "" : " none");
}

/* A token file is named by its .bin, its .idx or what they share. */
static slm2_status stats_of_file(const char *path, const struct slm2_tok *tok, json_t *list, struct slm2_err *err)
{
    char prefix[4096];
    size_t n = strlen(path);
    if (n >= sizeof prefix) return slm2_fail(err, SLM2_ELIMIT, "%.200s...: path is too long", path);
    memcpy(prefix, path, n + 1);
    if (n > 4 && (strcmp(path + n - 4, ".bin") == 0 || strcmp(path + n - 4, ".idx") == 0)) prefix[n - 4] = 0;
    const char *slash = strrchr(prefix, '/');
    return stats_of(slash ? slash + 1 : prefix, "-", "", "", prefix, tok, list, err);
}

static slm2_status stats_of_dir(const char *path, const struct slm2_tok *tok, json_t *list, json_t *gone, struct slm2_err *err)
{
    struct slm2_dataset d;
    char name[4096];
    json_t *manifest = NULL;
    SLM2_TRY(slm2_dataset_open(&d, path, err));
    slm2_status st = slm2_path_join(name, sizeof name, path, "manifest.json", err);
    if (st == SLM2_OK) st = slm2_json_read(&manifest, name, SIZE_MAX / 2, err);
    for (int i = 0; i < d.n; i++) {
        const json_t *entry = json_array_get(json_object_get(manifest, "sources"), (size_t)i);
        const struct slm2_dataset_source *s = &d.v[i];
        for (int k = 0; st == SLM2_OK && k < SLM2_N_DATA_SPLIT; k++) {
            if (!s->prefix[k]) continue;
            st = stats_of(s->name, k ? "val" : "train", s->lang, s->license, s->prefix[k], tok, list, err);
        }
        if (st == SLM2_OK && list) json_array_append_new(gone, left_out_json(entry));
        if (st == SLM2_OK && !list) print_left_out(entry);
    }
    json_decref(manifest);
    slm2_dataset_free(&d);
    return st;
}

static int data_stats(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "data stats DIR|FILE [--json]",
        .about = "Documents, tokens, bytes a token, lengths in tokens and unigram entropy of token files: of each source of a built\n"
                 "folder, with what was left out and why, or of one .bin/.idx.  Bytes are those of the text; the entropy counts the ends of documents too.",
        .examples = "slm2 data stats runs/data-nano\nslm2 data stats runs/data-nano/en.bin --json"};
    struct stats_opts o = {0};
    struct slm2_err err = {0};
    struct slm2_tok *tok = NULL;
    const char *pos[1] = {0};
    json_t *list = NULL, *gone = json_array();
    int n_pos = 0, rc = slm2_cli_parse(&doc, stats_table, &o, argc, argv, pos, 1, &n_pos);
    if (rc < 0 && n_pos != 1) rc = slm2_cli_usage("data stats: name a folder or a token file");
    if (rc < 0) {
        if (o.json) list = json_array();
        slm2_status st = slm2_tok_open(&tok, *o.vocab ? o.vocab : NULL, &err);
        if (st == SLM2_OK && !o.json) fputs(head, stdout);
        if (st == SLM2_OK) st = slm2_path_is_dir(pos[0]) ? stats_of_dir(pos[0], tok, list, gone, &err) : stats_of_file(pos[0], tok, list, &err);
        if (st != SLM2_OK) {
            rc = slm2_cli_fail(&err);
        } else {
            rc = o.json ? slm2_cli_json(json_pack("{s:O, s:O}", "sources", list, "left_out", gone)) : 0;
        }
    }
    json_decref(list);
    json_decref(gone);
    slm2_tok_free(tok);
    slm2_conf_free(stats_table, &o);
    return rc;
}

/* ---- verify --------------------------------------------------------------------------------------------------------------- */
struct verify_opts { int threads; };
static const struct slm2_opt verify_table[] = {SLM2_CLI_THREADS(struct verify_opts), {.name = NULL}};

static int data_verify(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {.usage = "data verify DIR [-t N]",
                                            .about = "Checks every hash, size, index and token id of a built folder and names the first file that is damaged.\n"
                                                     "Training checks hashes too, once for each state of a file (DIR/verified.json).",
                                            .examples = "slm2 data verify runs/data-nano"};
    struct slm2_err err = {0};
    struct verify_opts o = {0};
    const char *pos[1] = {0};
    int n_pos = 0, rc = slm2_cli_parse(&doc, verify_table, &o, argc, argv, pos, 1, &n_pos);
    if (rc >= 0) return rc;
    if (n_pos != 1) return slm2_cli_usage("data verify: name a folder");
    if (slm2_dataset_verify(pos[0], o.threads, &err) != SLM2_OK) return slm2_cli_fail(&err);
    printf("%s: all files are as the manifest says\n", pos[0]);
    return 0;
}

int slm2_cmd_data(int argc, char **argv)
{
    static const struct { const char *name; int (*run)(int argc, char **argv); } parts[] = {
        {"build", data_build}, {"stats", data_stats}, {"verify", data_verify}, {"mix", slm2_cli_data_mix}, {"langid", slm2_cli_data_langid}};
    char full[32]; /* "data build": what messages call the command */
    static const char usage[] = "usage: slm2 data build CONFIG.yml\n       slm2 data stats DIR|FILE [--json]\n       slm2 data verify DIR\n       slm2 data mix --plan FILE.yml\n       slm2 data langid FILE...\n"
                                "`slm2 data build --help` and so on tell more.\n";
    if (argc < 2) return slm2_cli_usage("data: name what to do: build, stats, verify, mix or langid");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) != 0) continue;
        snprintf(full, sizeof full, "data %s", parts[i].name);
        argv[1] = full;
        return parts[i].run(argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    return slm2_cli_usage("data: unknown part \"%s\", want build, stats, verify, mix or langid", argv[1]);
}
