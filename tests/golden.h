/* golden.h - what the golden tests share: one line a check, references from files, the backends to run. */
#ifndef SLM2_TESTS_GOLDEN_H
#define SLM2_TESTS_GOLDEN_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "model/model.h"

struct golden {
    const char *dir;
    int n_passed, n_failed, n_skipped;
    char where[160]; /* "cpu/avx512 fp32", in front of each line */
    struct slm2_ctx ctx;
    enum slm2_precision precision;
};

static inline void golden_result(struct golden *g, bool ok, const char *what, double got, double allowed)
{
    if (ok) g->n_passed++;
    else g->n_failed++;
    if (!ok || getenv("VERBOSE")) printf("%s %-22s %-62s %.3g (allowed %.3g)\n", ok ? "ok  " : "FAIL", g->where, what, got, allowed);
}
/* got must not exceed allowed; a NaN fails. */
static inline void golden_within(struct golden *g, const char *what, double got, double allowed) { golden_result(g, got <= allowed, what, got, allowed); }
static inline void golden_equal(struct golden *g, const char *what, double got, double want) { golden_result(g, got == want, what, got, want); }
static inline void golden_skip(struct golden *g, const char *what)
{
    g->n_skipped++;
    printf("skip %-22s %s: not in %s\n", g->where, what, g->dir);
}

/* Any failure of the library in a test ends it: there is nothing to go on with. */
static inline void must(slm2_status st, const struct slm2_err *err)
{
    if (st == SLM2_OK) return;
    printf("FAIL %s\n0 passed, 1 failed\n", err->msg);
    exit(1);
}

static inline const char *golden_path(const struct golden *g, const char *name)
{
    static char path[4][2048];
    static int turn;
    char *p = path[turn++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", g->dir, name);
    return p;
}
static inline bool golden_has(const struct golden *g, const char *name) { return slm2_path_exists(golden_path(g, name)); }

static inline json_t *golden_json(const struct golden *g, const char *name)
{
    struct slm2_err err;
    json_t *j = NULL;
    must(slm2_json_read(&j, golden_path(g, name), 64 << 20, &err), &err);
    return j;
}
static inline struct slm2_tensors golden_tensors(const struct golden *g, const char *name)
{
    struct slm2_err err;
    struct slm2_tensors ts;
    must(slm2_safetensors_open(&ts, golden_path(g, name), &err), &err);
    return ts;
}
/* A copy of a 4-byte tensor (F32 or I32), aligned; *n elements.  free() it.  NULL when absent. */
static inline void *golden_copy(const struct slm2_tensors *ts, const char *name, size_t *n)
{
    const struct slm2_tensor *t = slm2_tensors_find(ts, name);
    if (!t) return NULL;
    void *p = malloc(t->bytes + 1);
    memcpy(p, t->data, t->bytes);
    if (n) *n = t->bytes / 4;
    return p;
}

static inline double num(const json_t *j, const char *key) { return json_number_value(json_object_get(j, key)); }
static inline int *int_list(const json_t *a, int *n)
{
    *n = (int)json_array_size(a);
    int *v = malloc(sizeof *v * (size_t)(*n + 1));
    for (int i = 0; i < *n; i++) v[i] = (int)json_integer_value(json_array_get(a, (size_t)i));
    return v;
}

static inline double max_abs(const float *x, const float *y, size_t n)
{
    double m = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)x[i] - (double)y[i]);
        if (!(d <= m)) m = d;
    }
    return m;
}
static inline double rel_l2(const float *x, const float *ref, size_t n)
{
    double d = 0, r = 0;
    for (size_t i = 0; i < n; i++) d += ((double)x[i] - (double)ref[i]) * ((double)x[i] - (double)ref[i]), r += (double)ref[i] * (double)ref[i];
    return r > 0 ? sqrt(d / r) : sqrt(d);
}
#endif
