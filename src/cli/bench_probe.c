/* bench_probe.c - what the machine can do: bytes read from memory and operations a second, by any number of threads. */
#include "cli/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"

enum { BLOCK_BYTES = 512 << 20, HUGE_PAGE = 2 << 20, MIN_PASSES = 3, PEAK_RUNS = 5 };
#define TRY_S 0.1   /* for each way of reading */
#define PEAK_S 0.05 /* for each run */

struct slm2_bench_stat slm2_bench_stat(double *v, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && v[k] < v[k - 1]; k--) {
            double t = v[k];
            v[k] = v[k - 1];
            v[k - 1] = t;
        }
    return (struct slm2_bench_stat){.median = (v[(n - 1) / 2] + v[n / 2]) / 2, .min = v[0], .max = v[n - 1]};
}

void slm2_bench_stat_json(json_t *j, const char *name, struct slm2_bench_stat s)
{
    char key[64];
    json_object_set_new(j, name, json_real(s.median));
    snprintf(key, sizeof key, "%s_min", name);
    json_object_set_new(j, key, json_real(s.min));
    snprintf(key, sizeof key, "%s_max", name);
    json_object_set_new(j, key, json_real(s.max));
}

/* The part of thread t, whole units. */
static uint8_t *part(const struct slm2_bench_probe *p, int t, size_t *bytes)
{
    size_t units = p->bytes / SLM2_READ_UNIT, n = (size_t)p->n_threads;
    size_t from = units * (size_t)t / n, to = units * (size_t)(t + 1) / n;
    *bytes = (to - from) * SLM2_READ_UNIT;
    return p->block + from * SLM2_READ_UNIT;
}

static slm2_status map_block(struct slm2_bench_probe *p, bool huge, struct slm2_err *err)
{
    p->huge = huge;
    p->bytes = BLOCK_BYTES;
    p->block = aligned_alloc(HUGE_PAGE, p->bytes);
    if (!p->block) return slm2_fail(err, SLM2_ENOMEM, "no memory for the block of %d MiB that measures the read bandwidth", BLOCK_BYTES >> 20);
#ifdef MADV_HUGEPAGE
    madvise(p->block, p->bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); /* a refusal leaves the system's choice */
#endif
#pragma omp parallel for schedule(static) num_threads(p->n_threads)
    for (int t = 0; t < p->n_threads; t++) { /* pages lie near the thread that first writes them */
        size_t n;
        uint8_t *from = part(p, t, &n);
        memset(from, t + 1, n);
    }
    return SLM2_OK;
}

void slm2_bench_probe_close(struct slm2_bench_probe *p)
{
    free(p->block);
    p->block = NULL;
}

double slm2_bench_probe_read(const struct slm2_bench_probe *p, double seconds)
{
    static volatile uint64_t sink;
    double best = HUGE_VAL, start = slm2_now_s();
    for (int pass = 0; pass < MIN_PASSES || slm2_now_s() - start < seconds; pass++) {
        uint64_t check = 0;
        double pass_start = slm2_now_s();
#pragma omp parallel for schedule(static) num_threads(p->n_threads)
        for (int t = 0; t < p->n_threads; t++) {
            size_t n;
            const uint8_t *from = part(p, t, &n);
            uint64_t words = p->peak->read[p->how](from, n);
#pragma omp atomic
            check ^= words;
        }
        best = fmin(best, slm2_now_s() - pass_start);
        sink = check;
    }
    (void)sink;
    return (double)p->bytes / best;
}

slm2_status slm2_bench_probe_open(struct slm2_bench_probe *p, const struct slm2_peak *peak, int n_threads, struct slm2_err *err)
{
    double best = -1.0;
    enum slm2_peak_read best_how = SLM2_READ_PLAIN;
    bool best_huge = false;
    *p = (struct slm2_bench_probe){.peak = peak, .n_threads = n_threads};
    for (int huge = 0; huge < 2; huge++) {
        SLM2_TRY(map_block(p, huge != 0, err));
        for (int how = 0; how < SLM2_N_READ; how++) {
            if (!peak->read[how]) continue;
            p->how = (enum slm2_peak_read)how;
            double rate = slm2_bench_probe_read(p, TRY_S);
            if (rate <= best) continue;
            best = rate;
            best_how = p->how;
            best_huge = huge != 0;
        }
        if (huge && best_huge) break; /* this block stays */
        slm2_bench_probe_close(p);
    }
    if (!best_huge) SLM2_TRY(map_block(p, false, err));
    p->how = best_how;
    return SLM2_OK;
}

double slm2_bench_peak(const struct slm2_peak *peak, enum slm2_peak_kind kind, int n_threads)
{
    double best = 0.0;
    for (int run = 0; run < PEAK_RUNS && peak->compute[kind]; run++) {
        double sum = 0.0;
#pragma omp parallel num_threads(n_threads)
        {
            double one = slm2_peak_measure(peak, kind, PEAK_S);
#pragma omp atomic
            sum += one;
        }
        best = fmax(best, sum);
    }
    return best;
}
