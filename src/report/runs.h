/* runs.h - what a report is made of, read from folders: open ledgers with their small tables, and the JSON files beside them. */
#ifndef SLM2_REPORT_RUNS_H
#define SLM2_REPORT_RUNS_H
#include "base/json.h"
#include "report/energy.h"

struct slm2_rows { /* the rows of a query as text; NULL for SQL NULL */
    char **v; /* [n_row * n_col] */
    int n_row, n_col, cap;
    bool failed;
};
const char *slm2_rows_text(const struct slm2_rows *t, int row, int col);   /* "" for NULL and outside */
double slm2_rows_number(const struct slm2_rows *t, int row, int col);      /* NaN for NULL, outside and what is no number */
const char *slm2_rows_find(const struct slm2_rows *t, const char *key);    /* column 1 of the row whose column 0 is key; "" when absent */

struct slm2_report_run {
    char *dir, *stage;               /* folder; "pretrain", "sft", ... */
    struct slm2_ledger *ledger;
    struct slm2_rows run;            /* key, value */
    struct slm2_rows figure;         /* key, value, text */
    struct slm2_rows source;         /* name, weight, planned, drawn */
    struct slm2_rows file;           /* path, source, sha256, bytes, tokens, documents, language, licence */
    struct slm2_rows event;          /* time, step, kind, text */
    struct slm2_rows metric;         /* name, last step, last value, first value */
    bool sampled;                    /* has the table energy: older ledgers do not */
    struct slm2_ledger_cost cost;
    struct slm2_energy energy;
};
struct slm2_report_runs {
    struct slm2_report_run *run;
    int n, cap;
    json_t *eval, *manifest, *mtbench, *compare; /* NULL when absent; of several folders the last that has one */
};
slm2_status slm2_report_runs_open(struct slm2_report_runs *r, const char *const *dirs, int n, const struct slm2_energy_terms *terms, struct slm2_err *err);
void slm2_report_runs_free(struct slm2_report_runs *r); /* also after a failed open */

double slm2_report_figure(const struct slm2_report_run *run, const char *key);  /* NaN when absent */
double slm2_report_last(const struct slm2_report_run *run, const char *metric); /* NaN when absent */
double slm2_report_first(const struct slm2_report_run *run, const char *metric);
const struct slm2_report_run *slm2_report_stage(const struct slm2_report_runs *r, const char *stage); /* the first of it, or NULL */
/* Value of "key" in mapping "section" of a settings dump (YAML); section NULL: at the top.  "" when absent.  Into out[cap]. */
const char *slm2_report_setting(const char *dump, const char *section, const char *key, char *out, size_t cap);
#endif
