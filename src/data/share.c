/* share.c - rows dealt out to sources by a sequence of low discrepancy.
 *
 * The numbers that place a row are 64-bit integers modulo 2^64 standing for fractions of 1, so that nothing depends on rounding:
 * x_i = phase + i * GOLDEN, and source s owns [bound[s], bound[s + 1]).  How often x_0 .. x_{n-1} fell below a bound is a sum of
 * floors of an arithmetic progression, which Euclid's algorithm finds in O(log n) steps. */
#include "data/share.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

__extension__ typedef unsigned __int128 u128;

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio, odd */
enum { MAX_SOURCES = 4096 };

struct slm2_share {
    int n;
    uint64_t phase;
    u128 *bound;  /* [n + 1] of 2^64; 0 first, 2^64 last */
    double *part; /* [n] */
};

/* Sum over j < n of floor((a j + b) / m), modulo 2^128.  n <= 2^48, a, b <= 2 m, m <= 2^64. */
static u128 floor_sum(u128 n, u128 m, u128 a, u128 b)
{
    u128 sum = 0;
    for (;;) {
        if (a >= m) {
            /* n (n - 1) is even: halve first to stay exact */
            sum += n * (n - 1) / 2 * (a / m);
            a %= m;
        }
        if (b >= m) {
            sum += n * (b / m);
            b %= m;
        }
        u128 top = a * n + b;
        if (top < m) return sum;
        n = top / m;
        b = top % m;
        u128 swap = m;
        m = a;
        a = swap;
    }
}

/* How many of x_0 .. x_{n-1} lie below bound (of 2^64). */
static int64_t count_below(const struct slm2_share *s, int64_t n, u128 bound)
{
    const u128 one = (u128)1 << 64;
    if (n <= 0 || bound == 0) return 0;
    if (bound >= one) return n;
    /* a fraction is at or above the bound when adding 1 - bound carries */
    u128 above = floor_sum((u128)n, one, GOLDEN, s->phase + (one - bound)) - floor_sum((u128)n, one, GOLDEN, s->phase);
    return n - (int64_t)above;
}

int64_t slm2_share_rows(const struct slm2_share *s, int source, int64_t n_rows)
{
    return count_below(s, n_rows, s->bound[source + 1]) - count_below(s, n_rows, s->bound[source]);
}

int slm2_share_source(const struct slm2_share *s, int64_t i)
{
    uint64_t x = s->phase + (uint64_t)i * GOLDEN;
    int lo = 0, hi = s->n - 1; /* the last source whose bound is at or below x */
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (s->bound[mid] <= x) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return lo;
}

double slm2_share_of(const struct slm2_share *s, int source) { return s->part[source]; }

static slm2_status sum_weights(const double *weight, const char *const *names, int n, double *sum, struct slm2_err *err)
{
    *sum = 0;
    for (int i = 0; i < n; i++) {
        if (!(weight[i] >= 0) || !isfinite(weight[i])) return slm2_fail(err, SLM2_EUSAGE, "%s: weight %g, want a number from 0", names[i], weight[i]);
        *sum += weight[i];
    }
    if (!(*sum > 0) || !isfinite(*sum)) return slm2_fail(err, SLM2_EUSAGE, "the weights of the %d sources sum to %g: nothing to draw", n, *sum);
    return SLM2_OK;
}

slm2_status slm2_share_open(struct slm2_share **out, const double *weight, const char *const *names, int n, uint64_t seed, struct slm2_err *err)
{
    double sum, before = 0;
    *out = NULL;
    if (n < 1 || n > MAX_SOURCES) return slm2_fail(err, SLM2_EUSAGE, "%d sources, want 1 to %d", n, MAX_SOURCES);
    SLM2_TRY(sum_weights(weight, names, n, &sum, err));
    struct slm2_share *s = calloc(1, sizeof *s);
    if (s) s->bound = calloc((size_t)n + 1, sizeof *s->bound);
    if (s) s->part = calloc((size_t)n, sizeof *s->part);
    if (!s || !s->bound || !s->part) {
        slm2_share_close(s);
        return slm2_fail(err, SLM2_ENOMEM, "out of memory for %d sources", n);
    }
    s->n = n;
    s->phase = slm2_rng_u64(seed, SLM2_RNG_MIX, 0, 0);
    for (int i = 0; i < n; i++) {
        double at = before / sum * 0x1p64;
        s->bound[i] = at < 0x1p64 ? (u128)(uint64_t)at : (u128)1 << 64;
        s->part[i] = weight[i] / sum;
        before += weight[i];
    }
    s->bound[n] = (u128)1 << 64;
    *out = s;
    return SLM2_OK;
}

void slm2_share_close(struct slm2_share *s)
{
    if (!s) return;
    free(s->bound);
    free(s->part);
    free(s);
}
