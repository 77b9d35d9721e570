/* harness.h - files in the form of lm-evaluation-harness v0.4, for whatever reads those: DIR/results_TIME.json and DIR/samples_TASK_TIME.jsonl.
 *
 * TIME is local, ISO 8601 with '-' for ':'.  Figures are named "METRIC,FILTER" ("none" without a filter), "METRIC_stderr,FILTER". */
#ifndef SLM2_EVAL_HARNESS_H
#define SLM2_EVAL_HARNESS_H
#include "eval/eval.h"

/* The results file as JSON (json_decref); NULL without memory. */
json_t *slm2_harness_json(const struct slm2_eval_result *r, const struct slm2_eval_args *a);
/* Writes both kinds of files; samples where r has them.  DIR is made.  path[cap] receives the name of the results file. */
slm2_status slm2_harness_write(const struct slm2_eval_result *r, const struct slm2_eval_args *a, const char *dir, char *path, size_t cap, struct slm2_err *err);
#endif
