/* score.h - log-likelihoods of continuations and of long texts under a model: what every measure of evaluation is made of.
 *
 * A continuation is scored as the harness does it: an empty context is the single token EOS; the input is the last
 * max_len + 1 tokens of context and continuation, minus the final one. */
#ifndef SLM2_EVAL_SCORE_H
#define SLM2_EVAL_SCORE_H
#include "model/model.h"

struct slm2_scorer_opts {
    const char *backend, *isa; /* as in struct slm2_ctx_opts; NULL: "cpu", best */
    bool exact;                /* as in struct slm2_ctx_opts */
    int n_threads;             /* 0: one per core */
    int max_len;               /* longest input, tokens; 0: the model's context */
    int batch_tokens;          /* computed at once; 0: 1024, at least max_len */
    int32_t prefix_id;         /* stands before what has no context; < 0: the model's eos_id */
};
struct slm2_scorer_opts slm2_scorer_opts_default(void);

struct slm2_scorer; /* a model with activations for a ragged batch; the model must outlive it */
slm2_status slm2_scorer_new(struct slm2_scorer **s, const struct slm2_model *m, const struct slm2_scorer_opts *o, struct slm2_err *err);
void slm2_scorer_free(struct slm2_scorer *s);
int slm2_scorer_max_len(const struct slm2_scorer *s);

struct slm2_score {
    /* asked */
    const int32_t *context, *continuation; /* [n_context], [n_continuation] borrowed */
    int n_context, n_continuation;
    float *logprobs;                       /* [n_continuation] of each token, 0 where it fell out of the window; or NULL */
    /* answered */
    double loglikelihood; /* sum over the continuation's tokens within the window */
    bool is_greedy;       /* each of them was the most probable one */
    int n_scored;         /* tokens of the continuation within the window: the last max_len at most */
};
/* Scores v[n], as many at once as the batch holds.  Ids outside the model's vocabulary and empty continuations are SLM2_EFORMAT. */
slm2_status slm2_score(struct slm2_scorer *s, struct slm2_score *v, int n, struct slm2_err *err);

struct slm2_window { int n_input, n_scored; double sum_logprob; }; /* tokens in the window, those that count */
/* log p of every token of ids[n] (the prefix token stands before the first), through windows of window tokens (0: max_len):
 * stride 0, "rolling": disjoint windows that predict `window` tokens each, the token before them as the first input;
 * stride > 0, "sliding": x = prefix + ids, windows x[b : b + window], b = 0, stride, ..., positions from 0 in each, a token
 * counts in the first window that can predict it (stride < window).  logprobs [n] or NULL.  windows: [slm2_score_n_windows] or NULL. */
slm2_status slm2_score_stream(struct slm2_scorer *s, const int32_t *ids, size_t n, int window, int stride, double *sum, float *logprobs, struct slm2_window *windows, struct slm2_err *err);
size_t slm2_score_n_windows(size_t n, int window, int stride);
#endif
