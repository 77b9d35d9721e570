/* metric.c - every sum in the order of the items. */
#include "eval/metric.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"
#include "eval/pyrandom.h"

enum { CHUNK = 1000, ROUND = 8 }; /* resamples that one generator draws; chunks between two looks at the bar */

size_t slm2_eval_pick(const double *ll, const size_t *length, size_t n)
{
    size_t best = 0;
    double most = -(double)INFINITY;
    for (size_t i = 0; i < n; i++) {
        double v = length ? ll[i] / (double)length[i] : ll[i];
        if (!(v > most)) continue;
        most = v;
        best = i;
    }
    return best;
}

double slm2_eval_mc2(const double *ll, const bool *is_true, size_t n)
{
    double most = -(double)INFINITY, right = 0, all = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, ll[i]);
    for (size_t i = 0; i < n; i++) {
        double p = exp(ll[i] - most);
        all += p;
        if (is_true[i]) right += p;
    }
    return right / all;
}

double slm2_eval_mean(const double *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += v[i];
    return sum / (double)n;
}

static double deviation(const double *v, size_t n)
{
    double mean = slm2_eval_mean(v, n), sq = 0;
    for (size_t i = 0; i < n; i++) sq += (v[i] - mean) * (v[i] - mean);
    return n > 1 ? sqrt(sq / (double)(n - 1)) : (double)NAN;
}

double slm2_eval_stderr(const double *v, size_t n) { return deviation(v, n) / sqrt((double)n); }

double slm2_eval_perplexity(const double *ll, size_t n) { return exp(-slm2_eval_mean(ll, n)); }

/* Chunk i: perplexities of `size` resamples. */
static void resample(const double *ll, size_t n, int i, int size, double *out)
{
    struct slm2_pyrandom r;
    slm2_pyrandom_seed(&r, (uint64_t)i);
    for (int k = 0; k < size; k++) {
        double sum = 0;
        for (size_t j = 0; j < n; j++) {
            uint32_t i_draw;
            slm2_pyrandom_choices(&r, (uint32_t)n, 1, &i_draw);
            sum += ll[i_draw];
        }
        out[k] = exp(-sum / (double)n);
    }
}

slm2_status slm2_eval_perplexity_stderr(const double *ll, size_t n, int iters, int n_threads, double *out, struct slm2_err *err)
{
    int size = slm2_min_int(CHUNK, iters), n_chunk = size > 0 ? iters / size : 0, total = n_chunk * size;
    *out = (double)NAN;
    if (total < 2 || n == 0) return SLM2_OK;
    double *v = calloc((size_t)total, sizeof *v);
    if (!v) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d resamples", total);
    for (int first = 0; first < n_chunk; first += ROUND) {
#pragma omp parallel for num_threads(n_threads > 0 ? n_threads : omp_get_num_procs()) schedule(static)
        for (int i = first; i < slm2_min_int(first + ROUND, n_chunk); i++) resample(ll, n, i, size, v + i * size);
        slm2_progress("standard error", (double)first / n_chunk, "%d of %d resamples", first * size, total);
    }
    slm2_progress_end();
    *out = deviation(v, (size_t)total);
    free(v);
    return SLM2_OK;
}

double slm2_eval_pooled_stderr(const double *se, const double *n, size_t k)
{
    double pooled = 0, items = 0;
    for (size_t i = 0; i < k; i++) {
        pooled += (n[i] - 1) * se[i] * se[i] * n[i];
        items += n[i];
    }
    return sqrt(pooled / (items - (double)k) / items);
}

double slm2_eval_mean_stderr(const double *se, size_t k)
{
    double sq = 0;
    for (size_t i = 0; i < k; i++) sq += se[i] * se[i];
    return sqrt(sq) / (double)k;
}
