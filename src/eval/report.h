/* report.h - inside of evaluation: finding tasks, collecting figures, JSON in the harness's form. */
#ifndef SLM2_EVAL_REPORT_H
#define SLM2_EVAL_REPORT_H
#include "eval/eval.h"
#include "eval/task.h"

struct slm2_eval_paths { char **v; int n; };
/* YAML files as named; of a folder its *.yml by name.  SLM2_EUSAGE when there is none. */
slm2_status slm2_eval_find(const char *const *tasks, int n_tasks, struct slm2_eval_paths *out, struct slm2_err *err);
void slm2_eval_paths_free(struct slm2_eval_paths *p);

slm2_status slm2_eval_begin(const struct slm2_eval_args *a, struct slm2_eval_result *r, struct slm2_err *err); /* the JSON frame */
slm2_status slm2_eval_put(struct slm2_eval_result *r, const struct slm2_eval_metric *m, const char *task, const char *metric, struct slm2_err *err);
/* The figures from `first` on belong to t: into the JSON and the ledger. */
slm2_status slm2_eval_record(const struct slm2_eval_args *a, const struct slm2_task *t, int n_shot, int first, double seconds, json_t *samples, struct slm2_eval_result *r, struct slm2_err *err);

/* The largest of ll[n], per byte when n_bytes is given; the first of equals. */
size_t slm2_eval_pick(const double *loglikelihood, const size_t *n_bytes, size_t n);
/* match: exact_match, contains, prefix_match of the filtered text with any of the answers, both normalised. */
slm2_status slm2_eval_match(const struct slm2_task *t, const char *text, size_t n, const json_t *answers, bool match[3], struct slm2_buf *filtered, struct slm2_err *err);
#endif
