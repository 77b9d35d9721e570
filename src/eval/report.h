/* report.h - inside of evaluation: collecting figures, JSON in the harness's form. */
#ifndef SLM2_EVAL_REPORT_H
#define SLM2_EVAL_REPORT_H
#include "eval/eval.h"
#include "eval/task.h"

slm2_status slm2_eval_begin(const struct slm2_eval_args *a, struct slm2_eval_result *r, struct slm2_err *err); /* the JSON frame */
slm2_status slm2_eval_put(struct slm2_eval_result *r, const struct slm2_eval_metric *m, const char *task, const char *metric, struct slm2_err *err);
/* The figures from `first` on belong to t: into the JSON and the ledger. */
slm2_status slm2_eval_record(const struct slm2_eval_args *a, const struct slm2_task *t, int first, double seconds, json_t *samples, struct slm2_eval_result *r, struct slm2_err *err);

/* The largest of ll[n], per unit when lengths are given; the first of equals. */
size_t slm2_eval_pick(const double *loglikelihood, const size_t *length, size_t n);
/* match: exact_match, contains, prefix_match of the filtered text with any of the answers, both normalised. */
slm2_status slm2_eval_match(const struct slm2_task *t, const struct slm2_answer_filter *f, const char *text, size_t n, const json_t *answers, bool match[3], struct slm2_buf *filtered, struct slm2_err *err);
#endif
