/* compare.h - how far the next-token distributions of one model, or of one way to compute it, lie from those of another on real text. */
#ifndef SLM2_EVAL_COMPARE_H
#define SLM2_EVAL_COMPARE_H
#include "eval/perplexity.h"

/* One position: p is the reference's distribution over the vocabulary, q the other's. */
struct slm2_compare_row {
    double kl;                           /* sum p log(p / q), nats */
    double difference;                   /* largest |p - q| of any token */
    double ref_logprob, logprob;         /* of the target under p and q */
    bool same_top;                       /* the most probable token is the same; of equals the first */
};
/* From logits [n], sums in double; 0 <= target < n; work [2 n] is overwritten. */
struct slm2_compare_row slm2_compare_logits(const float *ref, const float *logits, int n, int32_t target, double *work);

struct slm2_compare { /* sums over positions; the measures are derived */
    int64_t n_tokens, n_same_top, n_docs, n_bad;
    double sum_kl, sum_kl2, max_kl;
    double median_kl, p99_kl; /* half of the positions, 99 of 100, have no more; filled by slm2_compare_files */
    double sum_difference2, max_difference;
    double ref_sum_logprob, sum_logprob;
    int n_ctx, stride; /* as used */
    double seconds;
};
void slm2_compare_add(struct slm2_compare *c, const struct slm2_compare_row *row);
double slm2_compare_kl(const struct slm2_compare *c);        /* mean */
double slm2_compare_kl_stderr(const struct slm2_compare *c); /* of the mean, positions as the sample; NaN with fewer than two */
double slm2_compare_rms(const struct slm2_compare *c);       /* of the positions' largest differences */

/* One of the two sides.  Either a model, computed with `exact` as in struct slm2_ctx_opts; or logits of another program: a file of fp32
 * rows [vocab_size], one for each compared position in order, least byte first. */
struct slm2_compare_side { const struct slm2_model *m; bool exact; const char *logits; };
/* Compares each of side[n_side], at least one, with ref, into c[n_side]; ref is computed once.  Texts, windows and limits as in slm2_perplexity_files; all sides
 * see the same windows.  ref.m is a model, side.m too where side.logits is NULL.  Models of another number of ids than ref's are SLM2_EUSAGE; a file of logits
 * that is too short or too long SLM2_EFORMAT. */
slm2_status slm2_compare_files(const struct slm2_compare_side *ref, const struct slm2_compare_side *side, int n_side, const struct slm2_tok *tok, const char *const *paths, int n_paths,
                               const struct slm2_ppl_opts *o, struct slm2_compare *c, struct slm2_err *err);
/* The q-quantile of v[n], n > 0, ascending: between the two nearest by distance, as numpy does it. */
double slm2_quantile(const double *v, size_t n, double q);

json_t *slm2_compare_json(const struct slm2_compare *c);
void slm2_compare_text(const struct slm2_compare *c, struct slm2_buf *out); /* a line for each measure */
#endif
