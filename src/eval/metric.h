/* metric.h - from log-likelihoods and answers to figures: the mathematics of evaluation, as the harness has it. */
#ifndef SLM2_EVAL_METRIC_H
#define SLM2_EVAL_METRIC_H
#include "base/err.h"

/* The largest of ll[n], per unit where lengths are given; the first of equals.  An answer of length 0 is never the best. */
size_t slm2_eval_pick(const double *ll, const size_t *length, size_t n);
/* Probability of the true answers among all: sum_true p / sum p, p = exp(ll), without overflow. */
double slm2_eval_mc2(const double *ll, const bool *is_true, size_t n);

double slm2_eval_mean(const double *v, size_t n);
double slm2_eval_stderr(const double *v, size_t n); /* of the mean: sample deviation over sqrt(n); NaN for n < 2 */

#define SLM2_BOOTSTRAP_ITERS 100000
/* exp(-mean) of log-likelihoods and its standard error: the deviation over `iters` resamples (0: NaN), those of chunk i of min(1000, iters)
 * drawn by CPython's Random(i).choices.  Chunks go to threads (0: one per core), the bits do not depend on how many. */
double slm2_eval_perplexity(const double *ll, size_t n);
slm2_status slm2_eval_perplexity_stderr(const double *ll, size_t n, int iters, int n_threads, double *out, struct slm2_err *err);

/* Standard error of the mean over all items of k tasks, of which task i has n[i] and the standard error se[i]; NaN if any is. */
double slm2_eval_pooled_stderr(const double *se, const double *n, size_t k);
/* Of the plain mean of k independent figures. */
double slm2_eval_mean_stderr(const double *se, size_t k);
#endif
