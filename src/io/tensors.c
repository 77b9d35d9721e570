/* tensors.c - finding, describing and freeing the tensors of a file.  Lookup is a binary search over an index of names. */
#include "io/tensors.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"

const struct slm2_tensor *slm2_tensors_find(const struct slm2_tensors *ts, const char *name)
{
    int lo = 0, hi = ts->n;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        const struct slm2_tensor *t = ts->by_name[mid];
        int c = strcmp(name, t->name);
        if (c == 0) return t;
        if (c < 0) hi = mid;
        else lo = mid + 1;
    }
    return NULL;
}

slm2_status slm2_tensors_get(const struct slm2_tensors *ts, const char *name, const char *what, const struct slm2_tensor **out, struct slm2_err *err)
{
    const struct slm2_tensor *t = slm2_tensors_find(ts, name);
    if (!t) return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" is missing", what, name);
    if (t->dtype == SLM2_N_DTYPE) {
        return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has type %s, which is not supported; quantise the model again to Q8_0, Q4_0, Q4_1, Q4_K, Q5_K or Q6_K, or take one in F32, F16 or BF16", what, name,
                         t->type_name);
    }
    *out = t;
    return SLM2_OK;
}

void slm2_tensors_free(struct slm2_tensors *ts)
{
    if (!ts) return;
    for (int i = 0; i < ts->n; i++) free(ts->v[i].name);
    free(ts->v);
    free(ts->by_name);
    for (int i = 0; i < ts->n_map; i++) slm2_map_close(&ts->maps[i]);
    free(ts->maps);
    json_decref(ts->metadata);
    memset(ts, 0, sizeof *ts);
}

bool slm2_dims_product(const int64_t *dim, int n_dim, size_t *n_elems)
{
    size_t n = 1;
    for (int i = 0; i < n_dim; i++) {
        if (dim[i] < 0 || !slm2_mul_size(n, (size_t)dim[i], &n)) return false;
    }
    *n_elems = n;
    return true;
}

size_t slm2_tensor_n_elems(const struct slm2_tensor *t)
{
    size_t n = 0;
    return slm2_dims_product(t->dim, t->n_dim, &n) ? n : 0;
}

bool slm2_tensor_aligned(const struct slm2_tensor *t)
{
    size_t need = 1;
    switch (t->dtype) {
    case SLM2_F32: case SLM2_I32: need = 4; break;
    case SLM2_F16: case SLM2_BF16: case SLM2_Q8_0: case SLM2_Q4_0: case SLM2_Q4_1: case SLM2_Q4_K: case SLM2_Q5_K: case SLM2_Q6_K: need = 2; break;
    case SLM2_I64: need = 8; break;
    case SLM2_U8: case SLM2_N_DTYPE: break;
    }
    return (uintptr_t)t->data % need == 0;
}

void slm2_tensor_shape(const struct slm2_tensor *t, char out[96])
{
    size_t at = 0;
    out[at++] = '[';
    for (int i = 0; i < t->n_dim; i++) at += (size_t)snprintf(out + at, 96 - at, "%s%lld", i ? ", " : "", (long long)t->dim[i]); /* at most 4 x 22 */
    snprintf(out + at, 96 - at, "]");
}

slm2_status slm2_tensor_init(struct slm2_tensor *t, const char *name, enum slm2_dtype dtype, int n_dim, const int64_t *dim, const void *data,
                             struct slm2_err *err)
{
    size_t n, n_blocks;
    if (n_dim < 0 || n_dim > SLM2_MAX_DIM) return slm2_fail(err, SLM2_EUSAGE, "tensor \"%s\": %d dimensions, want 0 to %d", name, n_dim, SLM2_MAX_DIM);
    *t = (struct slm2_tensor){.dtype = dtype, .type_name = slm2_dtype_info[dtype].name, .n_dim = n_dim, .data = data, .dim = {1, 1, 1, 1}};
    memcpy(&t->name, &name, sizeof name); /* borrowed: writers never change or free it */
    for (int i = 0; i < n_dim; i++) t->dim[i] = dim[i];
    size_t block = slm2_dtype_info[dtype].block_elems;
    if (!slm2_dims_product(dim, n_dim, &n)) return slm2_fail(err, SLM2_EUSAGE, "tensor \"%s\": its shape has no size", name);
    if ((n_dim ? (size_t)dim[n_dim - 1] : 1) % block) {
        return slm2_fail(err, SLM2_EUSAGE, "tensor \"%s\": rows of %lld elements cannot be %s, which comes in blocks of %zu", name,
                         n_dim ? (long long)dim[n_dim - 1] : 1LL, t->type_name, block);
    }
    n_blocks = n / block;
    if (!slm2_mul_size(n_blocks, slm2_dtype_info[dtype].block_bytes, &t->bytes)) return slm2_fail(err, SLM2_EUSAGE, "tensor \"%s\" is too large", name);
    return SLM2_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct slm2_tensor *const *)a)->name, (*(const struct slm2_tensor *const *)b)->name);
}

slm2_status slm2_tensors_index(struct slm2_tensors *ts, const char *what, struct slm2_err *err)
{
    free(ts->by_name);
    ts->by_name = malloc(sizeof *ts->by_name * (size_t)slm2_max_int(ts->n, 1));
    if (!ts->by_name) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for the index of %d tensors", what, ts->n);
    for (int i = 0; i < ts->n; i++) ts->by_name[i] = &ts->v[i];
    qsort(ts->by_name, (size_t)ts->n, sizeof *ts->by_name, compare_names);
    for (int i = 1; i < ts->n; i++) {
        const char *name = ts->by_name[i]->name;
        if (!strcmp(name, ts->by_name[i - 1]->name)) return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" occurs twice", what, name);
    }
    return SLM2_OK;
}

slm2_status slm2_tensor_emit(const struct slm2_tensor *t, struct slm2_out *o, struct slm2_err *err)
{
    size_t before = slm2_out_size(o);
    if (!t->fill) {
        slm2_out_write(o, t->data, t->bytes);
        return SLM2_OK;
    }
    SLM2_TRY(t->fill(t->user, t, o, err));
    size_t written = slm2_out_size(o) - before;
    if (written != t->bytes) return slm2_fail(err, SLM2_EFORMAT, "tensor \"%s\": %zu bytes were made, its shape needs %zu", t->name, written, t->bytes);
    return SLM2_OK;
}
