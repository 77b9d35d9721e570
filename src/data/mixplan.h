/* mixplan.h - a mix on paper: how many tokens of which source a run shall see, in how many passes.  For a table such as Table 1 of the
 * Stable LM 2 report, before any data is there. */
#ifndef SLM2_DATA_MIXPLAN_H
#define SLM2_DATA_MIXPLAN_H
#include "base/conf.h"

struct slm2_mixplan_source {
    char *name, *category;
    double weight;  /* share of all tokens, as published: rounded; 0: from tokens */
    int64_t tokens; /* drawn from it in the whole run */
    double epochs;  /* passes that these are; tokens / epochs is what the source holds */
};
struct slm2_mixplan {
    int n_ctx;
    int64_t total_tokens; /* of the whole run, as published; 0: not said */
    double weight_step;   /* weights are multiples of this */
    struct slm2_conf_list sources; /* struct slm2_mixplan_source */
};
extern const struct slm2_opt slm2_mixplan_table[];

int64_t slm2_mixplan_tokens(const struct slm2_mixplan *p); /* sum over the sources */
double slm2_mixplan_weights(const struct slm2_mixplan *p); /* sum */
/* Counts add up to total_tokens within one a source, for they were rounded; each weight is its source's share of the tokens within one
 * weight_step; the weights add up to 1 within half a step a source.  SLM2_EFORMAT names the first that does not fit.  (Table 1 of the report
 * adds up to 4 tokens less than its total, and gives StackExchange 0.0231 where its tokens are 0.02304.) */
slm2_status slm2_mixplan_check(const struct slm2_mixplan *p, const char *what, struct slm2_err *err);

struct slm2_mixplan_row { /* of a run of n_tokens */
    double share, holds;   /* of all tokens; what the source holds */
    double planned, epochs;
    int64_t drawn;         /* what the stream of rows (share.h) takes in floor(n_tokens / n_ctx) rows */
};
/* row[sources.n] */
slm2_status slm2_mixplan_rows(const struct slm2_mixplan *p, int64_t n_tokens, uint64_t seed, struct slm2_mixplan_row *row, struct slm2_err *err);
#endif
