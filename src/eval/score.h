/* score.h - log-likelihoods of continuations and of long texts under a model: what every measure of evaluation is made of.
 *
 * A continuation is scored as the harness does it: an empty context is the single token EOS; the input is the last
 * max_len + 1 tokens of context and continuation, minus the final one.
 *
 * Requests of one call are computed together: sorted, so that those with a common beginning stand side by side and it is computed
 * once (the context of an item's choices, the examples in front of all items); equal inputs share their only pass.  Every figure has the bits that
 * its request gets when it is scored by itself, whatever stands beside it and however large the batch is. */
#ifndef SLM2_EVAL_SCORE_H
#define SLM2_EVAL_SCORE_H
#include "model/model.h"

struct slm2_scorer_opts {
    const char *backend, *isa; /* as in struct slm2_ctx_opts; NULL: "cpu", best */
    bool exact;                /* as in struct slm2_ctx_opts */
    bool one_by_one;           /* each request in a pass of its own: the plain loop that the rest is measured against */
    int n_threads;             /* 0: one per core */
    int max_len;               /* longest input, tokens; 0: the model's context */
    int batch_tokens;          /* computed at once; 0: 1024 */
    int32_t prefix_id;         /* stands before what has no context; < 0: the model's eos_id */
};
struct slm2_scorer_opts slm2_scorer_opts_default(void);

/* A model with activations for a ragged batch and a cache (F32) for the beginnings; the model must outlive it.  They grow with the longest
 * request: batch_tokens of activations, batch_tokens plus that length of keys and values. */
struct slm2_scorer;
slm2_status slm2_scorer_new(struct slm2_scorer **s, const struct slm2_model *m, const struct slm2_scorer_opts *o, struct slm2_err *err);
void slm2_scorer_free(struct slm2_scorer *s);

struct slm2_scorer_work { int64_t n_passes, n_tokens, n_asked; }; /* forward passes; tokens that went through the layers; tokens of all inputs */
struct slm2_scorer_work slm2_scorer_work(const struct slm2_scorer *s); /* since the scorer was made */

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
/* Told of each answer v[i] as soon as it is there, in the order of computing, and after each pass with i < 0: a moment to keep what is
 * there, and to stop by returning another status than SLM2_OK. */
struct slm2_score_watch { slm2_status (*call)(void *user, int i, struct slm2_err *err); void *user; };
/* Scores v[n]; watch may be NULL.  Ids outside the model's vocabulary and empty continuations are SLM2_EFORMAT, before anything is computed. */
slm2_status slm2_score(struct slm2_scorer *s, struct slm2_score *v, int n, const struct slm2_score_watch *watch, struct slm2_err *err);

struct slm2_window { int n_input, n_scored; double sum_logprob; }; /* tokens in the window, those that count */
/* log p of every token of ids[n] (the prefix token stands before the first), through windows of window tokens (0: max_len):
 * stride 0, "rolling": disjoint windows that predict `window` tokens each, the token before them as the first input;
 * stride -1, the harness's rolling: the same, but the last window has `window` tokens of input too, so that its first tokens see more;
 * stride > 0, "sliding": x = prefix + ids, windows x[b : b + window], b = 0, stride, ..., positions from 0 in each, a token
 * counts in the first window that can predict it (stride < window).  logprobs [n] or NULL.  windows: [slm2_score_n_windows] or NULL. */
slm2_status slm2_score_stream(struct slm2_scorer *s, const int32_t *ids, size_t n, int window, int stride, double *sum, float *logprobs, struct slm2_window *windows, struct slm2_err *err);
size_t slm2_score_n_windows(size_t n, int window, int stride);
#endif
