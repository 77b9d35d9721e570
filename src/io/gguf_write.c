/* gguf_write.c - builds and writes GGUF version 3: keys are collected as bytes, tensors by description, data streams at save. */
#include <stdlib.h>

#include "base/num.h"
#include "io/gguf.h"

struct slm2_gguf_writer {
    struct slm2_buf kv; /* key-values as they will lie in the file */
    uint64_t n_kv;
    char **keys;        /* [n_kv] to find duplicates */
    struct slm2_tensor *t;
    int n_tensors, cap;
    struct slm2_err err; /* the first failure */
};

static void fail_memory(struct slm2_gguf_writer *w)
{
    if (w->err.status == SLM2_OK) slm2_fail(&w->err, SLM2_ENOMEM, "no memory for the GGUF header");
}

static void put_le(struct slm2_buf *b, uint64_t v, size_t bytes)
{
    uint8_t p[8];
    for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)(v >> 8 * i);
    slm2_buf_put(b, p, bytes);
}

static void put_string(struct slm2_buf *b, const char *s, size_t n)
{
    put_le(b, n, 8);
    slm2_buf_put(b, s, n);
}

/* The key and its type; false when the writer has failed. */
static bool begin(struct slm2_gguf_writer *w, const char *key, enum slm2_gguf_type type)
{
    if (w->err.status != SLM2_OK) return false;
    if (!*key || strlen(key) > SLM2_GGUF_MAX_KEY || w->n_kv >= SLM2_GGUF_MAX_KV) {
        slm2_fail(&w->err, SLM2_ELIMIT, "GGUF key \"%.60s\": want 1 to %d bytes and at most %d keys", key, SLM2_GGUF_MAX_KEY, SLM2_GGUF_MAX_KV);
        return false;
    }
    for (uint64_t i = 0; i < w->n_kv; i++) {
        if (!strcmp(w->keys[i], key)) {
            slm2_fail(&w->err, SLM2_EUSAGE, "GGUF key \"%s\" is set twice", key);
            return false;
        }
    }
    char **keys = realloc(w->keys, sizeof *keys * (size_t)(w->n_kv + 1));
    if (keys) w->keys = keys;
    char *copy = keys ? strdup(key) : NULL;
    if (!copy) {
        fail_memory(w);
        return false;
    }
    w->keys[w->n_kv++] = copy;
    put_string(&w->kv, key, strlen(key));
    put_le(&w->kv, type, 4);
    return true;
}

static bool begin_array(struct slm2_gguf_writer *w, const char *key, enum slm2_gguf_type elem, uint64_t n)
{
    if (!begin(w, key, SLM2_GGUF_ARR)) return false;
    put_le(&w->kv, elem, 4);
    put_le(&w->kv, n, 8);
    return true;
}

slm2_status slm2_gguf_writer_new(struct slm2_gguf_writer **w, struct slm2_err *err)
{
    *w = calloc(1, sizeof **w);
    return *w ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for a GGUF writer");
}

void slm2_gguf_writer_free(struct slm2_gguf_writer *w)
{
    if (!w) return;
    for (uint64_t i = 0; i < w->n_kv; i++) free(w->keys[i]);
    for (int i = 0; i < w->n_tensors; i++) free(w->t[i].name);
    free(w->keys);
    free(w->t);
    slm2_buf_free(&w->kv);
    free(w);
}

void slm2_gguf_put_u32(struct slm2_gguf_writer *w, const char *key, uint32_t v)
{
    if (begin(w, key, SLM2_GGUF_U32)) put_le(&w->kv, v, 4);
}

void slm2_gguf_put_f32(struct slm2_gguf_writer *w, const char *key, float v)
{
    if (begin(w, key, SLM2_GGUF_F32)) slm2_buf_put(&w->kv, &v, sizeof v);
}

void slm2_gguf_put_bool(struct slm2_gguf_writer *w, const char *key, bool v)
{
    if (begin(w, key, SLM2_GGUF_BOOL)) put_le(&w->kv, v, 1);
}

void slm2_gguf_put_str(struct slm2_gguf_writer *w, const char *key, const char *s) { slm2_gguf_put_strn(w, key, s, strlen(s)); }

void slm2_gguf_put_strn(struct slm2_gguf_writer *w, const char *key, const char *s, size_t n)
{
    if (begin(w, key, SLM2_GGUF_STR)) put_string(&w->kv, s, n);
}

void slm2_gguf_put_strs(struct slm2_gguf_writer *w, const char *key, const char *const *s, const size_t *len, uint64_t n)
{
    if (!begin_array(w, key, SLM2_GGUF_STR, n)) return;
    for (uint64_t i = 0; i < n; i++) put_string(&w->kv, s[i], len ? len[i] : strlen(s[i]));
}

void slm2_gguf_put_i32s(struct slm2_gguf_writer *w, const char *key, const int32_t *v, uint64_t n)
{
    if (begin_array(w, key, SLM2_GGUF_I32, n)) slm2_buf_put(&w->kv, v, sizeof *v * (size_t)n);
}

void slm2_gguf_put_f32s(struct slm2_gguf_writer *w, const char *key, const float *v, uint64_t n)
{
    if (begin_array(w, key, SLM2_GGUF_F32, n)) slm2_buf_put(&w->kv, v, sizeof *v * (size_t)n);
}

void slm2_gguf_put_kv(struct slm2_gguf_writer *w, const struct slm2_gguf_kv *kv)
{
    if (!strcmp(kv->key, "general.alignment")) return; /* the writer's own affair */
    if (kv->type == SLM2_GGUF_ARR) {
        if (!begin_array(w, kv->key, kv->elem_type, kv->n)) return;
    } else {
        if (!begin(w, kv->key, kv->type)) return;
        if (kv->type == SLM2_GGUF_STR) put_le(&w->kv, kv->n, 8);
    }
    slm2_buf_put(&w->kv, kv->value, kv->bytes);
}

void slm2_gguf_add_tensor(struct slm2_gguf_writer *w, const struct slm2_tensor *t)
{
    if (w->err.status != SLM2_OK) return;
    if (w->n_tensors == w->cap) {
        int cap = w->cap ? 2 * w->cap : 64;
        struct slm2_tensor *v = realloc(w->t, sizeof *v * (size_t)cap);
        if (!v) {
            fail_memory(w);
            return;
        }
        w->t = v;
        w->cap = cap;
    }
    char *name = strdup(t->name);
    if (!name) {
        fail_memory(w);
        return;
    }
    w->t[w->n_tensors] = *t;
    w->t[w->n_tensors++].name = name;
}

/* What the reader would refuse is not written. */
static slm2_status check_tensors(struct slm2_gguf_writer *w, struct slm2_err *err)
{
    struct slm2_tensors ts = {.v = w->t, .n = w->n_tensors};
    for (int i = 0; i < w->n_tensors; i++) {
        const struct slm2_tensor *t = &w->t[i];
        size_t n;
        if (t->dtype == SLM2_N_DTYPE || slm2_dtype_info[t->dtype].gguf_type < 0)
            return slm2_fail(err, SLM2_EUSAGE, "tensor \"%s\": GGUF has no type for %s", t->name, t->type_name);
        if (t->n_dim < 1 || !slm2_dims_product(t->dim, t->n_dim, &n) || n == 0 || strlen(t->name) > SLM2_MAX_TENSOR_NAME)
            return slm2_fail(err, SLM2_EUSAGE, "tensor \"%.200s\" cannot be written to GGUF: no dimensions, no elements or too long a name", t->name);
    }
    slm2_status st = slm2_tensors_index(&ts, "GGUF", err);
    free(ts.by_name);
    return st;
}

static void put_tensor(struct slm2_buf *b, const struct slm2_tensor *t, size_t offset)
{
    put_string(b, t->name, strlen(t->name));
    put_le(b, (uint64_t)t->n_dim, 4);
    for (int i = t->n_dim - 1; i >= 0; i--) put_le(b, (uint64_t)t->dim[i], 8);
    put_le(b, (uint64_t)slm2_dtype_info[t->dtype].gguf_type, 4);
    put_le(b, offset, 8);
}

static void pad(struct slm2_out *o)
{
    static const uint8_t zeros[SLM2_GGUF_ALIGNMENT] = {0};
    slm2_out_write(o, zeros, slm2_align_up(slm2_out_size(o), SLM2_GGUF_ALIGNMENT) - slm2_out_size(o));
}

slm2_status slm2_gguf_writer_save(struct slm2_gguf_writer *w, const char *path, struct slm2_err *err)
{
    struct slm2_buf head = {0};
    struct slm2_out *o = NULL;
    slm2_status st;
    if (w->err.status != SLM2_OK) return slm2_fail(err, w->err.status, "%s: %s", path, w->err.msg);
    if ((st = check_tensors(w, err)) != SLM2_OK) return slm2_wrap(err, st, "%s", path);
    slm2_buf_puts(&head, "GGUF");
    put_le(&head, 3, 4);
    put_le(&head, (uint64_t)w->n_tensors, 8);
    put_le(&head, w->n_kv, 8);
    slm2_buf_put(&head, w->kv.v, w->kv.n);
    size_t offset = 0;
    for (int i = 0; i < w->n_tensors; i++) {
        put_tensor(&head, &w->t[i], offset);
        offset = slm2_align_up(offset + w->t[i].bytes, SLM2_GGUF_ALIGNMENT);
    }
    if ((st = slm2_buf_check(&head, err)) != SLM2_OK || (st = slm2_buf_check(&w->kv, err)) != SLM2_OK) goto done;
    if ((st = slm2_out_open(&o, path, err)) != SLM2_OK) goto done;
    slm2_out_write(o, head.v, head.n);
    pad(o);
    for (int i = 0; i < w->n_tensors && st == SLM2_OK; i++) {
        if ((st = slm2_tensor_emit(&w->t[i], o, err)) != SLM2_OK) st = slm2_wrap(err, st, "writing %s", path);
        pad(o);
    }
    if (st == SLM2_OK) {
        st = slm2_out_commit(o, err);
        o = NULL;
    }
done:
    slm2_out_abort(o);
    slm2_buf_free(&head);
    return st;
}
