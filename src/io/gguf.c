/* gguf.c - reads GGUF.  Every count, length, type and offset passes a bounded reader or a check before it is used, so that
 * later walks over keys, strings and tensors cannot leave the file. */
#include "io/gguf.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reader.h"

#define MAGIC 0x46554747u /* "GGUF" */
#define MAX_ALIGNMENT (1u << 20)

static const struct { const char *name; size_t bytes; } types[SLM2_GGUF_N_TYPE] = { /* bytes 0: variable */
    [SLM2_GGUF_U8] = {"u8", 1},   [SLM2_GGUF_I8] = {"i8", 1},     [SLM2_GGUF_U16] = {"u16", 2},    [SLM2_GGUF_I16] = {"i16", 2},   [SLM2_GGUF_U32] = {"u32", 4},
    [SLM2_GGUF_I32] = {"i32", 4}, [SLM2_GGUF_F32] = {"f32", 4},   [SLM2_GGUF_BOOL] = {"bool", 1},  [SLM2_GGUF_STR] = {"string", 0}, [SLM2_GGUF_ARR] = {"array", 0},
    [SLM2_GGUF_U64] = {"u64", 8}, [SLM2_GGUF_I64] = {"i64", 8},   [SLM2_GGUF_F64] = {"f64", 8},
};

/* ggml types that this program lists without computing with them: name, elements and bytes of a block */
static const struct other_type { uint32_t id; const char *name; uint16_t elems, bytes; } other_types[] = {
    {6, "Q5_0", 32, 22},     {7, "Q5_1", 32, 24},    {9, "Q8_1", 32, 36},     {10, "Q2_K", 256, 84},   {11, "Q3_K", 256, 110}, {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74}, {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50}, {20, "IQ4_NL", 32, 18},  {21, "IQ3_S", 256, 110}, {22, "IQ2_S", 256, 82}, {23, "IQ4_XS", 256, 136},
    {24, "I8", 1, 1},        {25, "I16", 1, 2},      {28, "F64", 1, 8},       {29, "IQ1_M", 256, 56},  {34, "TQ1_0", 256, 54}, {35, "TQ2_0", 256, 66},
};

const char *slm2_gguf_type_name(enum slm2_gguf_type t) { return (unsigned)t < SLM2_GGUF_N_TYPE ? types[t].name : "?"; }

static uint64_t le(const uint8_t *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* ---- parsing ------------------------------------------------------------------------------------------------------------ */
/* A string used as a name: not empty, without NUL, at most max bytes.  NULL when the reader has failed. */
static char *read_name(struct slm2_rd *r, const char *kind, size_t max)
{
    uint64_t n = slm2_rd_u64(r);
    if (slm2_rd_ok(r) && (n == 0 || n > max)) slm2_rd_fail(r, "%s of %" PRIu64 " bytes, want 1 to %zu", kind, n, max);
    const uint8_t *p = slm2_rd_bytes(r, n);
    if (!slm2_rd_ok(r)) return NULL;
    if (memchr(p, 0, (size_t)n)) {
        slm2_rd_fail(r, "%s contains a NUL byte", kind);
        return NULL;
    }
    char *s = strndup((const char *)p, (size_t)n);
    if (!s) slm2_rd_fail(r, "no memory for a name");
    return s;
}

static enum slm2_gguf_type read_type(struct slm2_rd *r)
{
    uint32_t t = slm2_rd_u32(r);
    if (t >= SLM2_GGUF_N_TYPE) slm2_rd_fail(r, "value type %u is unknown", t);
    return slm2_rd_ok(r) ? (enum slm2_gguf_type)t : SLM2_GGUF_U8;
}

static void skip_bools(struct slm2_rd *r, uint64_t n)
{
    const uint8_t *p = slm2_rd_bytes(r, n);
    for (uint64_t i = 0; p && i < n; i++) {
        if (p[i] > 1) slm2_rd_fail(r, "a bool of value %d", p[i]);
    }
}

/* Steps over n values of one type, checking every length inside. */
static void skip_values(struct slm2_rd *r, enum slm2_gguf_type type, uint64_t n, int depth)
{
    size_t bytes;
    if (type == SLM2_GGUF_BOOL) {
        skip_bools(r, n);
    } else if (types[type].bytes) {
        if (!slm2_mul_size(n, types[type].bytes, &bytes)) slm2_rd_fail(r, "an array of %" PRIu64 " elements", n);
        else slm2_rd_bytes(r, bytes);
    } else {
        for (uint64_t i = 0; i < n && slm2_rd_ok(r); i++) { /* each takes 8 bytes at least: a hostile count ends with the file */
            if (type == SLM2_GGUF_STR) {
                slm2_rd_bytes(r, slm2_rd_u64(r));
            } else {
                enum slm2_gguf_type inner = read_type(r);
                uint64_t count = slm2_rd_u64(r);
                if (depth >= SLM2_GGUF_MAX_DEPTH) slm2_rd_fail(r, "arrays nested deeper than %d", SLM2_GGUF_MAX_DEPTH);
                else skip_values(r, inner, count, depth + 1);
            }
        }
    }
}

static void read_kv(struct slm2_rd *r, struct slm2_gguf_kv *kv)
{
    kv->key = read_name(r, "a key", SLM2_GGUF_MAX_KEY);
    kv->type = read_type(r);
    kv->elem_type = kv->type;
    kv->n = 1;
    if (kv->type == SLM2_GGUF_STR) {
        kv->n = slm2_rd_u64(r);
        kv->value = r->p + r->at;
        slm2_rd_bytes(r, kv->n);
    } else {
        if (kv->type == SLM2_GGUF_ARR) {
            kv->elem_type = read_type(r);
            kv->n = slm2_rd_u64(r);
        }
        kv->value = r->p + r->at;
        skip_values(r, kv->elem_type, kv->n, 1);
    }
    if (slm2_rd_ok(r)) kv->bytes = (size_t)(r->p + r->at - kv->value);
}

/* Reads one tensor description; t->data holds nothing yet, *offset is from the start of the data. */
static void read_tensor(struct slm2_rd *r, struct slm2_tensor *t, uint64_t *offset)
{
    size_t n_elems = 0, elems = 1, bytes = 0;
    t->name = read_name(r, "a tensor name", SLM2_MAX_TENSOR_NAME);
    uint32_t n_dim = slm2_rd_u32(r);
    if (slm2_rd_ok(r) && (n_dim < 1 || n_dim > SLM2_MAX_DIM)) slm2_rd_fail(r, "tensor \"%s\": %u dimensions, want 1 to %d", t->name, n_dim, SLM2_MAX_DIM);
    if (!slm2_rd_ok(r)) return;
    t->n_dim = (int)n_dim;
    for (int i = 0; i < SLM2_MAX_DIM; i++) t->dim[i] = 1;
    for (uint32_t i = 0; i < n_dim; i++) {
        uint64_t d = slm2_rd_u64(r);
        if (slm2_rd_ok(r) && (d < 1 || d > INT64_MAX)) slm2_rd_fail(r, "tensor \"%s\": dimension %u is %" PRIu64, t->name, i, d);
        t->dim[n_dim - 1 - i] = (int64_t)d;
    }
    uint32_t type = slm2_rd_u32(r);
    *offset = slm2_rd_u64(r);
    if (!slm2_rd_ok(r)) return;
    int known = slm2_dtype_from_gguf(type);
    t->dtype = known < 0 ? SLM2_N_DTYPE : (enum slm2_dtype)known;
    if (known >= 0) {
        t->type_name = slm2_dtype_info[known].name;
        elems = slm2_dtype_info[known].block_elems;
        bytes = slm2_dtype_info[known].block_bytes;
    }
    for (size_t i = 0; known < 0 && i < sizeof other_types / sizeof *other_types; i++) {
        if (other_types[i].id != type) continue;
        t->type_name = other_types[i].name;
        elems = other_types[i].elems;
        bytes = other_types[i].bytes;
    }
    if (!t->type_name) {
        slm2_rd_fail(r, "tensor \"%s\": type %u is unknown", t->name, type);
    } else if (t->dim[n_dim - 1] % (int64_t)elems) {
        slm2_rd_fail(r, "tensor \"%s\": rows of %" PRId64 " elements are not whole %s blocks of %zu", t->name, t->dim[n_dim - 1], t->type_name, elems);
    } else if (!slm2_dims_product(t->dim, t->n_dim, &n_elems) || !slm2_mul_size(n_elems / elems, bytes, &t->bytes)) {
        slm2_rd_fail(r, "tensor \"%s\": the product of its dimensions overflows", t->name);
    }
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp((*(const struct slm2_gguf_kv *const *)a)->key, (*(const struct slm2_gguf_kv *const *)b)->key);
}

static slm2_status check_keys(const struct slm2_gguf *g, struct slm2_err *err)
{
    const struct slm2_gguf_kv **order = malloc(sizeof *order * (size_t)slm2_max_int(g->n_kv, 1));
    if (!order) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %d keys", g->what, g->n_kv);
    slm2_status st = SLM2_OK;
    for (int i = 0; i < g->n_kv; i++) order[i] = &g->kv[i];
    qsort(order, (size_t)g->n_kv, sizeof *order, compare_keys);
    for (int i = 1; i < g->n_kv && st == SLM2_OK; i++) {
        if (!strcmp(order[i]->key, order[i - 1]->key)) st = slm2_fail(err, SLM2_EFORMAT, "%s: key \"%s\" occurs twice", g->what, order[i]->key);
    }
    free(order);
    return st;
}

static int compare_places(const void *a, const void *b)
{
    const struct slm2_tensor *x = *(const struct slm2_tensor *const *)a, *y = *(const struct slm2_tensor *const *)b;
    uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    return (p > q) - (p < q);
}

static slm2_status check_overlaps(const struct slm2_gguf *g, struct slm2_err *err)
{
    const struct slm2_tensors *ts = &g->tensors;
    const struct slm2_tensor **order = malloc(sizeof *order * (size_t)slm2_max_int(ts->n, 1));
    if (!order) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %d tensors", g->what, ts->n);
    slm2_status st = SLM2_OK;
    for (int i = 0; i < ts->n; i++) order[i] = &ts->v[i];
    qsort(order, (size_t)ts->n, sizeof *order, compare_places);
    for (int i = 1; i < ts->n && st == SLM2_OK; i++) {
        if ((const uint8_t *)order[i - 1]->data + order[i - 1]->bytes > (const uint8_t *)order[i]->data)
            st = slm2_fail(err, SLM2_EFORMAT, "%s: tensors \"%s\" and \"%s\" overlap", g->what, order[i - 1]->name, order[i]->name);
    }
    free(order);
    return st;
}

/* Everything but the maps.  On failure g is half-built; the caller frees it. */
static slm2_status parse(struct slm2_gguf *g, const uint8_t *p, size_t n, struct slm2_err *err)
{
    struct slm2_rd r;
    uint64_t *offsets = NULL, alignment;
    slm2_status st;
    slm2_rd_init(&r, p, n, g->what);
    if (slm2_rd_u32(&r) != MAGIC) slm2_rd_fail(&r, "not a GGUF file");
    g->version = slm2_rd_u32(&r);
    if (slm2_rd_ok(&r) && g->version != 2 && g->version != 3) {
        bool swapped = g->version == 0x02000000u || g->version == 0x03000000u;
        slm2_rd_fail(&r, swapped ? "a big-endian GGUF file; only little-endian ones are read" : "GGUF version %u, want 2 or 3", g->version);
    }
    uint64_t n_tensors = slm2_rd_u64(&r), n_kv = slm2_rd_u64(&r);
    /* a key takes at least 13 bytes and a tensor 25: counts beyond the file's size are lies and must not size an allocation */
    if (slm2_rd_ok(&r) && (n_kv > SLM2_GGUF_MAX_KV || n_kv > n / 13)) slm2_rd_fail(&r, "%" PRIu64 " keys in a file of %zu bytes: truncated or damaged", n_kv, n);
    if (slm2_rd_ok(&r) && (n_tensors > SLM2_MAX_TENSORS || n_tensors > n / 25)) slm2_rd_fail(&r, "%" PRIu64 " tensors in a file of %zu bytes: truncated or damaged", n_tensors, n);
    if ((st = slm2_rd_status(&r, err)) != SLM2_OK) goto done;
    g->kv = calloc((size_t)n_kv + 1, sizeof *g->kv);
    g->tensors.v = calloc((size_t)n_tensors + 1, sizeof *g->tensors.v);
    offsets = calloc((size_t)n_tensors + 1, sizeof *offsets);
    if (!g->kv || !g->tensors.v || !offsets) {
        st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %" PRIu64 " keys and %" PRIu64 " tensors", g->what, n_kv, n_tensors);
        goto done;
    }
    for (uint64_t i = 0; i < n_kv && slm2_rd_ok(&r); i++) read_kv(&r, &g->kv[g->n_kv++]);
    for (uint64_t i = 0; i < n_tensors && slm2_rd_ok(&r); i++) {
        int k = g->tensors.n++;
        read_tensor(&r, &g->tensors.v[k], &offsets[k]);
    }
    if ((st = slm2_rd_status(&r, err)) != SLM2_OK || (st = check_keys(g, err)) != SLM2_OK) goto done;
    if ((st = slm2_gguf_get_u64_or(g, "general.alignment", MAX_ALIGNMENT, SLM2_GGUF_ALIGNMENT, &alignment, err)) != SLM2_OK) goto done;
    if (alignment == 0 || (alignment & (alignment - 1))) {
        st = slm2_fail(err, SLM2_EFORMAT, "%s: general.alignment is %" PRIu64 ", want a power of two", g->what, alignment);
        goto done;
    }
    g->alignment = (size_t)alignment;
    g->data_offset = slm2_align_up(r.at, g->alignment);
    for (int i = 0; i < g->tensors.n; i++) {
        struct slm2_tensor *t = &g->tensors.v[i];
        size_t from, to;
        if (offsets[i] % alignment) {
            st = slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": offset %" PRIu64 " is not a multiple of %" PRIu64, g->what, t->name, offsets[i], alignment);
            goto done;
        }
        if (!slm2_add_size(g->data_offset, (size_t)offsets[i], &from) || !slm2_add_size(from, t->bytes, &to) || to > n) {
            st = slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": %zu bytes at offset %" PRIu64 " reach beyond the end of the file", g->what, t->name, t->bytes,
                           offsets[i]);
            goto done;
        }
        t->data = p + from;
    }
    if ((st = check_overlaps(g, err)) == SLM2_OK) st = slm2_tensors_index(&g->tensors, g->what, err);
done:
    free(offsets);
    return st;
}

slm2_status slm2_gguf_parse(struct slm2_gguf *g, const void *p, size_t n, const char *what, struct slm2_err *err)
{
    *g = (struct slm2_gguf){.what = strdup(what)};
    if (!g->what) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory", what);
    slm2_status st = parse(g, p, n, err);
    if (st != SLM2_OK) slm2_gguf_free(g);
    return st;
}

slm2_status slm2_gguf_open(struct slm2_gguf *g, const char *path, struct slm2_err *err)
{
    *g = (struct slm2_gguf){.what = strdup(path)};
    g->tensors.maps = calloc(1, sizeof *g->tensors.maps);
    slm2_status st = SLM2_OK;
    if (!g->what || !g->tensors.maps) st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path);
    if (st == SLM2_OK) st = slm2_map_open(&g->tensors.maps[0], path, err);
    if (st == SLM2_OK) {
        g->tensors.n_map = 1;
        st = parse(g, g->tensors.maps[0].p, g->tensors.maps[0].n, err);
    }
    if (st != SLM2_OK) slm2_gguf_free(g);
    return st;
}

void slm2_gguf_free(struct slm2_gguf *g)
{
    if (!g) return;
    for (int i = 0; i < g->n_kv; i++) free(g->kv[i].key);
    free(g->kv);
    slm2_tensors_free(&g->tensors);
    free(g->what);
    *g = (struct slm2_gguf){0};
}

/* ---- keys ----------------------------------------------------------------------------------------------------------------- */
const struct slm2_gguf_kv *slm2_gguf_find(const struct slm2_gguf *g, const char *key)
{
    for (int i = 0; i < g->n_kv; i++) {
        if (!strcmp(g->kv[i].key, key)) return &g->kv[i];
    }
    return NULL;
}

static slm2_status missing(const struct slm2_gguf *g, const char *key, struct slm2_err *err)
{
    return slm2_fail(err, SLM2_EFORMAT, "%s: key \"%s\" is missing", g->what, key);
}

static slm2_status wrong_type(const struct slm2_gguf *g, const struct slm2_gguf_kv *kv, const char *wanted, struct slm2_err *err)
{
    bool arr = kv->type == SLM2_GGUF_ARR;
    return slm2_fail(err, SLM2_EFORMAT, "%s: key \"%s\" is of type %s%s, want %s", g->what, kv->key, arr ? "array of " : "",
                     slm2_gguf_type_name(arr ? kv->elem_type : kv->type), wanted);
}

slm2_status slm2_gguf_get_u64(const struct slm2_gguf *g, const char *key, uint64_t max, uint64_t *out, struct slm2_err *err)
{
    const struct slm2_gguf_kv *kv = slm2_gguf_find(g, key);
    if (!kv) return missing(g, key, err);
    enum slm2_gguf_type t = kv->type;
    bool is_signed = t == SLM2_GGUF_I8 || t == SLM2_GGUF_I16 || t == SLM2_GGUF_I32 || t == SLM2_GGUF_I64;
    if (!is_signed && t != SLM2_GGUF_U8 && t != SLM2_GGUF_U16 && t != SLM2_GGUF_U32 && t != SLM2_GGUF_U64) return wrong_type(g, kv, "an integer", err);
    uint64_t v = le(kv->value, types[t].bytes);
    if (is_signed && kv->value[types[t].bytes - 1] >> 7) return slm2_fail(err, SLM2_EFORMAT, "%s: key \"%s\" is negative", g->what, key);
    if (v > max) return slm2_fail(err, SLM2_EFORMAT, "%s: key \"%s\" is %" PRIu64 ", at most %" PRIu64, g->what, key, v, max);
    *out = v;
    return SLM2_OK;
}

slm2_status slm2_gguf_get_u64_or(const struct slm2_gguf *g, const char *key, uint64_t max, uint64_t def, uint64_t *out, struct slm2_err *err)
{
    *out = def;
    return slm2_gguf_find(g, key) ? slm2_gguf_get_u64(g, key, max, out, err) : SLM2_OK;
}

slm2_status slm2_gguf_get_f32(const struct slm2_gguf *g, const char *key, float *out, struct slm2_err *err)
{
    const struct slm2_gguf_kv *kv = slm2_gguf_find(g, key);
    if (!kv) return missing(g, key, err);
    if (kv->type == SLM2_GGUF_F32) {
        memcpy(out, kv->value, sizeof *out);
    } else if (kv->type == SLM2_GGUF_F64) {
        double d;
        memcpy(&d, kv->value, sizeof d);
        *out = (float)d;
    } else {
        return wrong_type(g, kv, "a float", err);
    }
    return SLM2_OK;
}

slm2_status slm2_gguf_get_f32_or(const struct slm2_gguf *g, const char *key, float def, float *out, struct slm2_err *err)
{
    *out = def;
    return slm2_gguf_find(g, key) ? slm2_gguf_get_f32(g, key, out, err) : SLM2_OK;
}

slm2_status slm2_gguf_get_bool_or(const struct slm2_gguf *g, const char *key, bool def, bool *out, struct slm2_err *err)
{
    const struct slm2_gguf_kv *kv = slm2_gguf_find(g, key);
    *out = def;
    if (!kv) return SLM2_OK;
    if (kv->type != SLM2_GGUF_BOOL) return wrong_type(g, kv, "a bool", err);
    *out = kv->value[0] != 0;
    return SLM2_OK;
}

slm2_status slm2_gguf_get_str(const struct slm2_gguf *g, const char *key, const char **out, size_t *n, struct slm2_err *err)
{
    const struct slm2_gguf_kv *kv = slm2_gguf_find(g, key);
    if (!kv) return missing(g, key, err);
    if (kv->type != SLM2_GGUF_STR) return wrong_type(g, kv, "a string", err);
    *out = (const char *)kv->value;
    *n = (size_t)kv->n;
    return SLM2_OK;
}

/* The key when it is an array of elem; else NULL, and *st says why. */
static const struct slm2_gguf_kv *get_array(const struct slm2_gguf *g, const char *key, enum slm2_gguf_type elem, const char *wanted, slm2_status *st,
                                            struct slm2_err *err)
{
    const struct slm2_gguf_kv *kv = slm2_gguf_find(g, key);
    if (kv && kv->type == SLM2_GGUF_ARR && kv->elem_type == elem) return kv;
    *st = kv ? wrong_type(g, kv, wanted, err) : missing(g, key, err);
    return NULL;
}

slm2_status slm2_gguf_get_strs(const struct slm2_gguf *g, const char *key, struct slm2_gguf_strs *it, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    const struct slm2_gguf_kv *kv = get_array(g, key, SLM2_GGUF_STR, "array of string", &st, err);
    if (!kv) return st;
    *it = (struct slm2_gguf_strs){kv->value, kv->n};
    return SLM2_OK;
}

bool slm2_gguf_strs_next(struct slm2_gguf_strs *it, const char **s, size_t *n)
{
    if (!it->left) return false;
    *n = (size_t)le(it->at, 8);
    *s = (const char *)it->at + 8;
    it->at += 8 + *n;
    it->left--;
    return true;
}

slm2_status slm2_gguf_get_i32s(const struct slm2_gguf *g, const char *key, const uint8_t **p, uint64_t *n, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    const struct slm2_gguf_kv *kv = get_array(g, key, SLM2_GGUF_I32, "array of i32", &st, err);
    if (!kv) return st;
    *p = kv->value;
    *n = kv->n;
    return SLM2_OK;
}

slm2_status slm2_gguf_get_f32s(const struct slm2_gguf *g, const char *key, const uint8_t **p, uint64_t *n, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    const struct slm2_gguf_kv *kv = get_array(g, key, SLM2_GGUF_F32, "array of f32", &st, err);
    if (!kv) return st;
    *p = kv->value;
    *n = kv->n;
    return SLM2_OK;
}

int32_t slm2_gguf_i32_at(const uint8_t *p, uint64_t i)
{
    int32_t v;
    memcpy(&v, p + 4 * i, sizeof v);
    return v;
}

float slm2_gguf_f32_at(const uint8_t *p, uint64_t i)
{
    float v;
    memcpy(&v, p + 4 * i, sizeof v);
    return v;
}
