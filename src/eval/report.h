/* report.h - inside of evaluation: collecting figures, our JSON and table; samples. */
#ifndef SLM2_EVAL_REPORT_H
#define SLM2_EVAL_REPORT_H
#include "eval/answers.h"
#include "eval/eval.h"
#include "eval/metric.h"
#include "eval/suite.h"

json_t *slm2_eval_limit_json(double limit); /* a whole number from 1 on, a part below */
slm2_status slm2_eval_begin(const struct slm2_eval_args *a, struct slm2_eval_result *r, struct slm2_err *err); /* the JSON frame */
slm2_status slm2_eval_put(struct slm2_eval_result *r, const struct slm2_eval_metric *m, const char *task, const char *metric, struct slm2_err *err);
/* The figures from `first` on belong to t: into the JSON and the ledger. */
slm2_status slm2_eval_record(const struct slm2_eval_args *a, const struct slm2_task *t, int first, double seconds, size_t n_cut, json_t *samples, struct slm2_eval_result *r, struct slm2_err *err);

/* The figures from `first` on are averages of the suite's groups. */
slm2_status slm2_eval_record_groups(const struct slm2_eval_args *a, const struct slm2_suite *s, int first, struct slm2_eval_result *r, struct slm2_err *err);

/* What was asked about an item, what came, what it was worth (sample.c): one record of the harness's samples_TASK_TIME.jsonl. */
struct slm2_eval_sample {
    const struct slm2_task *t;
    size_t item;
    const struct slm2_requests *q;
    const struct slm2_answer *answer;  /* [q->n] */
    const char *filter;                /* its name, "" for none */
    const struct slm2_buf *filtered;   /* generate: the answer after the filter */
    const char *metric[16];            /* [n_metric] "acc", or "exact_match,FILTER" */
    double value[16];
    int n_metric;
};
json_t *slm2_eval_sample_json(const struct slm2_eval_sample *s); /* NULL without memory */
/* The same of a document of a perplexity task: record as slm2_ppl_opts.on_doc has it, scored[n] what went through the model; each metric is [log-likelihood, what it is divided by]. */
json_t *slm2_eval_document_json(const struct slm2_task *t, size_t item, const json_t *record, const char *scored, size_t n, const struct slm2_ppl *p);

/* match: exact_match, contains, prefix_match of the filtered text with any of the answers, both normalised. */
slm2_status slm2_eval_match(const struct slm2_task *t, const struct slm2_answer_filter *f, const char *text, size_t n, const json_t *answers, bool match[3], struct slm2_buf *filtered, struct slm2_err *err);
#endif
