/* data_mix.c - `slm2 data mix`: what a mix of sources gives in a run of so many tokens, by the plan and by the stream of rows. */
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/data_cli.h"
#include "data/mixplan.h"

struct mix_opts {
    char *plan;
    double tokens;
    int64_t seed;
    bool json;
};
#define AT(field) offsetof(struct mix_opts, field)
static const struct slm2_opt table[] = {
    {.name = "plan", .type = SLM2_OPT_STR, .offset = AT(plan), .def = "!", .choices = slm2_conf_file, .help = "YAML file with the table: n_ctx, total_tokens, sources with name, weight, tokens, epochs, category"},
    {.name = "tokens", .type = SLM2_OPT_DOUBLE, .offset = AT(tokens), .lo = 0, .hi = 1e15, .def = "0", .help = "tokens of the run; 0: all of the plan", .alias = 'n'},
    SLM2_CLI_SEED(struct mix_opts),
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = AT(json), .help = "one JSON object"},
    {.name = NULL}};

static const struct slm2_mixplan_source *source(const struct slm2_mixplan *p, int i) { return (const struct slm2_mixplan_source *)p->sources.items + i; }
static double off_percent(const struct slm2_mixplan_row *r) { return 100 * ((double)r->drawn / r->planned - 1); }

static void print_text(const struct slm2_mixplan *p, int64_t n_tokens, const struct slm2_mixplan_row *row)
{
    double planned = 0;
    int64_t drawn = 0;
    printf("%-18s %-12s %8s %18s %18s %8s %18s %9s\n", "source", "category", "weight", "holds", "tokens", "epochs", "drawn", "off");
    for (int i = 0; i < p->sources.n; i++) {
        printf("%-18s %-12s %8.4f %18.0f %18.0f %8.3f %18" PRId64 " %8.4f%%\n", source(p, i)->name, source(p, i)->category, row[i].share, row[i].holds, row[i].planned, row[i].epochs,
               row[i].drawn, off_percent(&row[i]));
        planned += row[i].planned;
        drawn += row[i].drawn;
    }
    printf("%-18s %-12s %8.4f %18s %18.0f %8s %18" PRId64 "\n", "total", "", 1.0, "", planned, "", drawn);
    printf("the table: %" PRId64 " tokens", slm2_mixplan_tokens(p));
    if (p->total_tokens) printf(" (%+" PRId64 " against its total)", slm2_mixplan_tokens(p) - p->total_tokens);
    if (slm2_mixplan_weights(p) > 0) printf(", published weights add up to %.4f", slm2_mixplan_weights(p));
    printf("\nthe run: %" PRId64 " tokens in rows of %d\n", n_tokens, p->n_ctx);
}

static int print_json(const struct slm2_mixplan *p, int64_t n_tokens, const struct slm2_mixplan_row *row)
{
    json_t *list = json_array();
    for (int i = 0; i < p->sources.n; i++) {
        json_array_append_new(list, json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:I, s:f}", "name", source(p, i)->name, "category", source(p, i)->category, "weight", row[i].share, "holds",
                                              row[i].holds, "tokens", row[i].planned, "epochs", row[i].epochs, "drawn", (json_int_t)row[i].drawn, "off_percent", off_percent(&row[i])));
    }
    return slm2_cli_json(json_pack("{s:I, s:I, s:f, s:i, s:o}", "table_tokens", (json_int_t)slm2_mixplan_tokens(p), "tokens", (json_int_t)n_tokens, "table_weights", slm2_mixplan_weights(p), "n_ctx",
                                   p->n_ctx, "sources", list));
}

static int show(const struct mix_opts *o, const struct slm2_mixplan *p)
{
    struct slm2_err err = {0};
    int64_t n_tokens = o->tokens > 0 ? (int64_t)o->tokens : slm2_mixplan_tokens(p);
    struct slm2_mixplan_row *row = calloc((size_t)p->sources.n + 1, sizeof *row);
    slm2_status st = row ? slm2_mixplan_check(p, o->plan, &err) : slm2_fail(&err, SLM2_ENOMEM, "%s: out of memory", o->plan);
    if (st == SLM2_OK) st = slm2_mixplan_rows(p, n_tokens, (uint64_t)o->seed, row, &err);
    int rc = st != SLM2_OK ? slm2_cli_fail(&err) : o->json ? print_json(p, n_tokens, row) : 0;
    if (st == SLM2_OK && !o->json) print_text(p, n_tokens, row);
    free(row);
    return rc;
}

int slm2_cli_data_mix(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "data mix --plan FILE.yml [--tokens N] [--json]",
        .about = "Checks that a table of sources adds up (tokens to the total, weights to 1 and to the shares of tokens), and prints for a run\n"
                 "of N tokens what each source gives, in how many passes, and what the stream of rows really draws from it.",
        .examples = "slm2 data mix --plan configs/mix/stablelm-2-1_6b.yml\nslm2 data mix --plan configs/mix/stablelm-2-1_6b.yml --tokens 100e9 --json"};
    struct mix_opts o = {0};
    struct slm2_mixplan p = {0};
    struct slm2_err err = {0};
    int rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    slm2_conf_init(slm2_mixplan_table, &p);
    if (rc < 0) {
        slm2_status st = slm2_conf_yaml(slm2_mixplan_table, &p, o.plan, &err);
        if (st == SLM2_OK) st = slm2_conf_required(slm2_mixplan_table, &p, &err);
        rc = st == SLM2_OK ? show(&o, &p) : slm2_cli_fail(&err);
    }
    slm2_conf_free(slm2_mixplan_table, &p);
    slm2_conf_free(table, &o);
    return rc;
}
