/* mixplan.c - the arithmetic of a mix. */
#include "data/mixplan.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "data/share.h"

#define S(field) offsetof(struct slm2_mixplan_source, field)
static const struct slm2_opt source_table[] = {
    {.name = "name", .type = SLM2_OPT_STR, .offset = S(name), .def = "!", .help = "name of the source"},
    {.name = "weight", .type = SLM2_OPT_DOUBLE, .offset = S(weight), .lo = 0, .hi = 1, .def = "0", .help = "published share of all tokens; 0: none published"},
    {.name = "tokens", .type = SLM2_OPT_INT64, .offset = S(tokens), .lo = 1, .hi = 9007199254740991.0, .def = "!", .help = "tokens of it in the whole run"},
    {.name = "epochs", .type = SLM2_OPT_DOUBLE, .offset = S(epochs), .lo = 1e-9, .hi = 1e6, .def = "1", .help = "passes over the source that these are"},
    {.name = "category", .type = SLM2_OPT_STR, .offset = S(category), .help = "kind of text"},
    {.name = NULL}};
#undef S
#define P(field) offsetof(struct slm2_mixplan, field)
const struct slm2_opt slm2_mixplan_table[] = {
    {.name = "n_ctx", .type = SLM2_OPT_INT, .offset = P(n_ctx), .lo = 1, .hi = 1 << 24, .def = "4096", .help = "tokens of a row"},
    {.name = "total_tokens", .type = SLM2_OPT_INT64, .offset = P(total_tokens), .lo = 0, .hi = 9007199254740991.0, .def = "0", .help = "what the sources must add up to, within one a source; 0: anything"},
    {.name = "weight_step", .type = SLM2_OPT_DOUBLE, .offset = P(weight_step), .lo = 0, .hi = 1, .def = "0.0001", .help = "weights must be the shares of the tokens within this"},
    {.name = "sources", .type = SLM2_OPT_LIST, .offset = P(sources), .def = "!", .sub = source_table, .sub_size = sizeof(struct slm2_mixplan_source), .help = "the table"},
    {.name = NULL}};
#undef P

static const struct slm2_mixplan_source *source(const struct slm2_mixplan *p, int i) { return (const struct slm2_mixplan_source *)p->sources.items + i; }

int64_t slm2_mixplan_tokens(const struct slm2_mixplan *p)
{
    int64_t sum = 0; /* at most 2^53 each, of a file of some megabytes */
    for (int i = 0; i < p->sources.n; i++) sum += source(p, i)->tokens;
    return sum;
}

double slm2_mixplan_weights(const struct slm2_mixplan *p)
{
    double sum = 0;
    for (int i = 0; i < p->sources.n; i++) sum += source(p, i)->weight;
    return sum;
}

slm2_status slm2_mixplan_check(const struct slm2_mixplan *p, const char *what, struct slm2_err *err)
{
    int64_t total = slm2_mixplan_tokens(p);
    double weights = slm2_mixplan_weights(p);
    if (p->total_tokens && llabs(total - p->total_tokens) > p->sources.n) {
        return slm2_fail(err, SLM2_EFORMAT, "%s: the sources add up to %" PRId64 " tokens, total_tokens says %" PRId64, what, total, p->total_tokens);
    }
    for (int i = 0; i < p->sources.n; i++) {
        const struct slm2_mixplan_source *s = source(p, i);
        double share = (double)s->tokens / (double)total;
        if (s->weight > 0 && fabs(s->weight - share) > p->weight_step) {
            return slm2_fail(err, SLM2_EFORMAT, "%s: source %s has weight %g, its tokens are a share of %.6f", what, s->name, s->weight, share);
        }
    }
    if (weights > 0 && fabs(weights - 1) > p->weight_step / 2 * p->sources.n) return slm2_fail(err, SLM2_EFORMAT, "%s: the weights add up to %.6f, want 1", what, weights);
    return SLM2_OK;
}

slm2_status slm2_mixplan_rows(const struct slm2_mixplan *p, int64_t n_tokens, uint64_t seed, struct slm2_mixplan_row *row, struct slm2_err *err)
{
    struct slm2_share *share = NULL;
    int n = p->sources.n;
    double *weight = calloc((size_t)n + 1, sizeof *weight);
    const char **name = calloc((size_t)n + 1, sizeof *name);
    for (int i = 0; weight && name && i < n; i++) {
        weight[i] = (double)source(p, i)->tokens;
        name[i] = source(p, i)->name;
    }
    slm2_status st = weight && name ? slm2_share_open(&share, weight, name, n, seed, err) : slm2_fail(err, SLM2_ENOMEM, "out of memory for %d sources", n);
    for (int i = 0; st == SLM2_OK && i < n; i++) {
        const struct slm2_mixplan_source *s = source(p, i);
        row[i].share = slm2_share_of(share, i);
        row[i].holds = (double)s->tokens / s->epochs;
        row[i].planned = row[i].share * (double)n_tokens;
        row[i].epochs = row[i].planned / row[i].holds;
        row[i].drawn = slm2_share_rows(share, i, n_tokens / p->n_ctx) * p->n_ctx;
    }
    slm2_share_close(share);
    free(weight);
    free(name);
    return st;
}
