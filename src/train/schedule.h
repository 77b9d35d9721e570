/* schedule.h - the learning rate of each update, in double, from the number of updates already made.
 *
 * Hybrid cosine / inverse square root (pre-training), with M = lr_peak, m = lr_min, N = n_step, W = n_warmup:
 *     s < W:          M s / W
 *     W <= s <= N/4:  m + (M - m)/2 (cos(2 pi s / N) + 1)
 *     s > N/4:        alpha / sqrt(s + beta);  alpha and beta make value and slope continuous at N/4
 *     s >= S:         lr(S) (S + C - s) / C, and 0 from S + C on:  S = cooldown_start, C = n_cooldown
 * The inverse-square-root part has no end, so the cooldown may begin whenever one wants to stop.
 * Inverse square root alone: the same warm-up, then M sqrt(W / s), W at least 1, and the same cooldown.
 * Cosine and linear (later stages): the same warm-up, then from M at W to m at N, where they stay. */
#ifndef SLM2_TRAIN_SCHEDULE_H
#define SLM2_TRAIN_SCHEDULE_H
#include "base/err.h"

enum slm2_schedule_kind { SLM2_SCHEDULE_HYBRID, SLM2_SCHEDULE_COSINE, SLM2_SCHEDULE_LINEAR, SLM2_SCHEDULE_RSQRT };
extern const char *const slm2_schedule_kinds[]; /* "hybrid", "cosine", "linear", "rsqrt", NULL: choices of a settings row */

struct slm2_schedule {
    int kind;
    double lr_peak, lr_min;
    int64_t n_step;         /* N; hybrid: 4 times the length of its cosine part */
    int64_t n_warmup;       /* W */
    int64_t n_cooldown;     /* C, hybrid and rsqrt only */
    int64_t cooldown_start; /* S, hybrid and rsqrt only; negative: no cooldown */
};
/* Ranges: 0 <= lr_min <= lr_peak, n_step > 0, 0 <= n_warmup <= n_step, a started cooldown has a length.  what: for messages. */
slm2_status slm2_schedule_check(const struct slm2_schedule *s, const char *what, struct slm2_err *err);
bool slm2_schedule_cools_down(const struct slm2_schedule *s); /* a kind that has no end of its own */
double slm2_schedule_lr(const struct slm2_schedule *s, int64_t step);        /* step: updates already made, from 0 */
const char *slm2_schedule_phase(const struct slm2_schedule *s, int64_t step); /* "warmup" "cosine" "rsqrt" "linear" "cooldown" "end" */
void slm2_schedule_rsqrt(const struct slm2_schedule *s, double *alpha, double *beta); /* of the hybrid; needs lr_min < lr_peak */
#endif
