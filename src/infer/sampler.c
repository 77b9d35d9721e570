/* sampler.c - logits -> distribution -> next id.  Works in double on the tokens that survive, so that a top-k of 40 costs one
 * scan of the vocabulary and 40 exponentials; top-p pops a heap until its mass is reached instead of sorting everything. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "base/rng.h"

struct candidate {
    double v; /* logit after penalty and temperature; later its weight exp(v - max) */
    int32_t id;
};

struct slm2_sampler {
    struct slm2_sampler_opts opts;
    int vocab_size;
    uint64_t n_draw;
    double *value;           /* [vocab_size] */
    struct candidate *cand;  /* [vocab_size] survivors, ascending ids */
    struct candidate *heap;  /* [vocab_size] scratch of top-k and top-p */
    uint32_t *seen;          /* [vocab_size] == stamp: this id was penalised in this call */
    uint32_t stamp;
};

struct slm2_sampler_opts slm2_sampler_opts_default(void)
{
    return (struct slm2_sampler_opts){.temperature = 0.7f, .top_k = 0, .top_p = 0.95f, .min_p = 0.0f, .repetition_penalty = 1.0f, .seed = 0};
}

slm2_status slm2_sampler_new(struct slm2_sampler **out, int vocab_size, const struct slm2_sampler_opts *o, struct slm2_err *err)
{
    *out = NULL;
    if (vocab_size < 1) return slm2_fail(err, SLM2_EUSAGE, "sampler: vocab_size is %d, want at least 1", vocab_size);
    if (!(o->temperature >= 0.0f) || !isfinite(o->temperature))
        return slm2_fail(err, SLM2_EUSAGE, "temperature is %g, want 0 (greedy) or more", (double)o->temperature);
    if (o->top_k < 0) return slm2_fail(err, SLM2_EUSAGE, "top_k is %d, want 0 (off) or more", o->top_k);
    if (!(o->top_p >= 0.0f && o->top_p <= 1.0f)) return slm2_fail(err, SLM2_EUSAGE, "top_p is %g, want 0 to 1 (off)", (double)o->top_p);
    if (!(o->min_p >= 0.0f && o->min_p <= 1.0f)) return slm2_fail(err, SLM2_EUSAGE, "min_p is %g, want 0 (off) to 1", (double)o->min_p);
    if (!(o->repetition_penalty > 0.0f) || !isfinite(o->repetition_penalty))
        return slm2_fail(err, SLM2_EUSAGE, "repetition_penalty is %g, want more than 0 (1: off)", (double)o->repetition_penalty);

    struct slm2_sampler *s = calloc(1, sizeof *s);
    size_t n = (size_t)vocab_size;
    if (s) {
        *s = (struct slm2_sampler){.opts = *o, .vocab_size = vocab_size};
        s->value = malloc(n * sizeof *s->value);
        s->cand = malloc(n * sizeof *s->cand);
        s->heap = malloc(n * sizeof *s->heap);
        s->seen = calloc(n, sizeof *s->seen);
    }
    if (!s || !s->value || !s->cand || !s->heap || !s->seen) {
        slm2_sampler_free(s);
        return slm2_fail(err, SLM2_ENOMEM, "sampler: no memory for a vocabulary of %d", vocab_size);
    }
    *out = s;
    return SLM2_OK;
}

void slm2_sampler_free(struct slm2_sampler *s)
{
    if (!s) return;
    free(s->value);
    free(s->cand);
    free(s->heap);
    free(s->seen);
    free(s);
}

/* value = logits after the repetition penalty.  What is not a number cannot be drawn; +inf is the largest finite number. */
static void penalised(struct slm2_sampler *s, const float *logits, const int32_t *prev, size_t n_prev)
{
    for (int i = 0; i < s->vocab_size; i++) {
        double v = (double)logits[i];
        s->value[i] = isnan(v) ? -HUGE_VAL : v > 3.4e38 ? 3.4e38 : v;
    }
    double penalty = (double)s->opts.repetition_penalty;
    if (penalty == 1.0) return;
    if (++s->stamp == 0) {
        memset(s->seen, 0, (size_t)s->vocab_size * sizeof *s->seen);
        s->stamp = 1;
    }
    for (size_t i = 0; i < n_prev; i++) {
        int32_t id = prev[i];
        if (id < 0 || id >= s->vocab_size || s->seen[id] == s->stamp) continue;
        s->seen[id] = s->stamp;
        s->value[id] = s->value[id] > 0.0 ? s->value[id] / penalty : s->value[id] * penalty;
    }
}

static int32_t argmax(const double *v, int n)
{
    int32_t best = 0;
    for (int i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

/* ---- heaps -------------------------------------------------------------------------------------------------------- */
/* Of equal values the larger id ranks higher: an ascending stable sort drops the smaller one first. */
static bool ranks_above(const struct candidate *a, const struct candidate *b)
{
    return a->v > b->v || (a->v == b->v && a->id > b->id);
}

/* Max-heap: lets h[i] sink. */
static void sink(struct candidate *h, int n, int i)
{
    struct candidate x = h[i];
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && ranks_above(&h[child + 1], &h[child])) child++;
        if (!ranks_above(&h[child], &x)) break;
        h[i] = h[child];
    }
    h[i] = x;
}

/* The k-th largest of v[n], 1 <= k <= n, with a min-heap of the k largest so far. */
static double kth_largest(const double *v, int n, int k, double *heap)
{
    for (int i = 0; i < n; i++) {
        int at;
        if (i < k) { /* rise */
            for (at = i; at > 0 && heap[(at - 1) / 2] > v[i]; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
        } else if (v[i] > heap[0]) { /* replace the least, sink */
            at = 0;
            for (int child; (child = 2 * at + 1) < k; at = child) {
                if (child + 1 < k && heap[child + 1] < heap[child]) child++;
                if (heap[child] >= v[i]) break;
                heap[at] = heap[child];
            }
        } else continue;
        heap[at] = v[i];
    }
    return heap[0];
}

/* Keeps the highest ranks whose mass reaches p: a token goes when the ranks above it already hold p.  weights sum to total. */
static int keep_top_p(struct slm2_sampler *s, int n, double total)
{
    struct candidate *h = s->heap;
    memcpy(h, s->cand, (size_t)n * sizeof *h);
    for (int i = n / 2 - 1; i >= 0; i--) sink(h, n, i);
    double want = (double)s->opts.top_p * total, mass = 0.0;
    struct candidate last = h[0];
    for (int left = n; left > 0; left--) {
        if (left < n && mass >= want) break;
        last = h[0];
        mass += last.v;
        h[0] = h[left - 1];
        sink(h, left - 1, 0);
    }
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (!ranks_above(&last, &s->cand[i])) s->cand[kept++] = s->cand[i];
    return kept;
}

/* ---- the distribution --------------------------------------------------------------------------------------------- */
static double sum_weights(const struct candidate *c, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += c[i].v;
    return sum;
}

/* cand[0..n) with weights that sum to *total: what all settings leave.  Never empty. */
static int survivors(struct slm2_sampler *s, const float *logits, const int32_t *prev, size_t n_prev, double *total)
{
    penalised(s, logits, prev, n_prev);
    int32_t best = argmax(s->value, s->vocab_size);
    double max = s->value[best];
    if (s->opts.temperature == 0.0f || max == -HUGE_VAL) {
        s->cand[0] = (struct candidate){1.0, best};
        *total = 1.0;
        return 1;
    }
    double floor = -HUGE_VAL; /* top-k keeps ties with the k-th value; dividing by the temperature does not change the order */
    if (s->opts.top_k > 0 && s->opts.top_k < s->vocab_size)
        floor = kth_largest(s->value, s->vocab_size, s->opts.top_k, (double *)(void *)s->heap);
    double temperature = (double)s->opts.temperature;
    int n = 0;
    for (int i = 0; i < s->vocab_size; i++)
        if (s->value[i] >= floor) s->cand[n++] = (struct candidate){exp((s->value[i] - max) / temperature), i};
    *total = sum_weights(s->cand, n);
    if (s->opts.top_p < 1.0f) n = keep_top_p(s, n, *total);
    if (s->opts.min_p > 0.0f) { /* the largest weight is exp(0) = 1 and always survives top-p */
        int kept = 0;
        for (int i = 0; i < n; i++)
            if (s->cand[i].v >= (double)s->opts.min_p) s->cand[kept++] = s->cand[i];
        n = kept;
    }
    *total = sum_weights(s->cand, n);
    return n;
}

void slm2_sampler_probs(struct slm2_sampler *s, const float *logits, const int32_t *prev, size_t n_prev, float *probs)
{
    double total;
    int n = survivors(s, logits, prev, n_prev, &total);
    memset(probs, 0, (size_t)s->vocab_size * sizeof *probs);
    for (int i = 0; i < n; i++) probs[s->cand[i].id] = (float)(s->cand[i].v / total);
}

int32_t slm2_sampler_next(struct slm2_sampler *s, const float *logits, const int32_t *prev, size_t n_prev)
{
    double total;
    int n = survivors(s, logits, prev, n_prev, &total);
    if (s->opts.temperature == 0.0f) return s->cand[0].id;
    double u = slm2_rng_uniform(s->opts.seed, SLM2_RNG_SAMPLE, s->n_draw++, 0) * total, sum = 0.0;
    int32_t id = s->cand[0].id;
    for (int i = 0; i < n; i++) { /* ascending ids: the order of the draw does not depend on how the survivors were found */
        if (s->cand[i].v > 0.0) id = s->cand[i].id;
        sum += s->cand[i].v;
        if (sum > u) break;
    }
    return id;
}
