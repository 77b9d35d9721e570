/* schedule.c - learning rates from formulas, never from tables or running sums: any step can be asked in any order. */
#include "train/schedule.h"

#include <math.h>

const char *const slm2_schedule_kinds[] = {"hybrid", "cosine", "linear", "rsqrt", NULL};

slm2_status slm2_schedule_check(const struct slm2_schedule *s, const char *what, struct slm2_err *err)
{
    if (!(s->lr_min >= 0 && s->lr_min <= s->lr_peak && isfinite(s->lr_peak)))
        return slm2_fail(err, SLM2_EUSAGE, "%s: learning rate from %g down to %g; want 0 <= lr_min <= lr_peak", what, s->lr_peak, s->lr_min);
    if (s->n_step < 1) return slm2_fail(err, SLM2_EUSAGE, "%s: the schedule has %lld steps, want at least 1", what, (long long)s->n_step);
    if (s->n_warmup < 0 || s->n_warmup > s->n_step)
        return slm2_fail(err, SLM2_EUSAGE, "%s: warm-up of %lld steps in a schedule of %lld", what, (long long)s->n_warmup, (long long)s->n_step);
    if (slm2_schedule_cools_down(s) && s->cooldown_start >= 0 && s->n_cooldown < 1)
        return slm2_fail(err, SLM2_EUSAGE, "%s: the cooldown starts at step %lld but its length is %lld; want at least 1", what,
                         (long long)s->cooldown_start, (long long)s->n_cooldown);
    return SLM2_OK;
}

/* Equal slopes at N/4 give N/4 + beta = N (M+m) / (4 pi (M-m)); equal values give alpha. */
void slm2_schedule_rsqrt(const struct slm2_schedule *s, double *alpha, double *beta)
{
    double M = s->lr_peak, m = s->lr_min, quarter = (double)s->n_step / 4;
    *beta = quarter * ((M + m) / (M_PI * (M - m)) - 1);
    *alpha = (M + m) / 2 * sqrt((double)s->n_step * (M + m) / (4 * M_PI * (M - m)));
}

bool slm2_schedule_cools_down(const struct slm2_schedule *s)
{
    return s->kind == SLM2_SCHEDULE_HYBRID || s->kind == SLM2_SCHEDULE_RSQRT;
}

/* Of the kinds that cool down, without the cooldown. */
static double endless(const struct slm2_schedule *s, int64_t step)
{
    double M = s->lr_peak, m = s->lr_min, alpha, beta;
    if (step < s->n_warmup) return M * (double)step / (double)s->n_warmup;
    if (s->kind == SLM2_SCHEDULE_RSQRT) return M * sqrt((double)(s->n_warmup > 0 ? s->n_warmup : 1) / (double)(step > 0 ? step : 1));
    if (M == m) return M;
    if (4 * step <= s->n_step) return m + (M - m) / 2 * (cos(2 * M_PI * (double)step / (double)s->n_step) + 1);
    slm2_schedule_rsqrt(s, &alpha, &beta);
    return alpha / sqrt((double)step + beta);
}

double slm2_schedule_lr(const struct slm2_schedule *s, int64_t step)
{
    double M = s->lr_peak, m = s->lr_min;
    if (slm2_schedule_cools_down(s)) {
        int64_t S = s->cooldown_start, C = s->n_cooldown;
        if (S < 0 || step < S) return endless(s, step);
        return step >= S + C ? 0 : endless(s, S) * (double)(S + C - step) / (double)C;
    }
    if (step < s->n_warmup) return M * (double)step / (double)s->n_warmup;
    if (step >= s->n_step) return m;
    double done = (double)(step - s->n_warmup) / (double)(s->n_step - s->n_warmup);
    return s->kind == SLM2_SCHEDULE_COSINE ? m + (M - m) / 2 * (cos(M_PI * done) + 1) : M + (m - M) * done;
}

const char *slm2_schedule_phase(const struct slm2_schedule *s, int64_t step)
{
    if (slm2_schedule_cools_down(s)) {
        if (s->cooldown_start >= 0 && step >= s->cooldown_start) return step >= s->cooldown_start + s->n_cooldown ? "end" : "cooldown";
        return step < s->n_warmup ? "warmup" : s->kind == SLM2_SCHEDULE_HYBRID && 4 * step <= s->n_step ? "cosine" : "rsqrt";
    }
    if (step < s->n_warmup) return "warmup";
    if (step >= s->n_step) return "end";
    return slm2_schedule_kinds[s->kind];
}
