/* safetensors.c - reads and writes safetensors files, single and sharded.  Trusts nothing in a file: the header's tensors must
 * tile the data exactly, as the format asks. */
#include "io/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "base/num.h"
#include "base/reader.h"

#define MAX_HEADER_BYTES 100000000 /* the format's own limit */
#define MAX_SHARDS 99999           /* five digits in the file name */
#define MAX_JSON_BYTES ((size_t)256 << 20)
#define HEADER_PAD 8

/* types of the format that this program only lists */
static const struct { const char *name; size_t bytes; } other_types[] = {
    {"BOOL", 1}, {"I8", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2}, {"U32", 4}, {"U64", 8}, {"F64", 8},
};

/* ---- reading one file ----------------------------------------------------------------------------------------------- */
static slm2_status set_type(struct slm2_tensor *t, const char *name, size_t *elem_bytes, const char *what, struct slm2_err *err)
{
    for (int d = 0; d < SLM2_N_DTYPE; d++) {
        if (slm2_dtype_info[d].block_elems == 1 && !strcmp(name, slm2_dtype_info[d].name)) {
            t->dtype = (enum slm2_dtype)d;
            t->type_name = slm2_dtype_info[d].name;
            *elem_bytes = slm2_dtype_info[d].block_bytes;
            return SLM2_OK;
        }
    }
    for (size_t i = 0; i < sizeof other_types / sizeof *other_types; i++) {
        if (!strcmp(name, other_types[i].name)) {
            t->dtype = SLM2_N_DTYPE;
            t->type_name = other_types[i].name;
            *elem_bytes = other_types[i].bytes;
            return SLM2_OK;
        }
    }
    return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": unknown dtype \"%.32s\"", what, t->name, name);
}

/* One header entry into *t; its data lies in data[0..n_data). */
static slm2_status read_entry(struct slm2_tensor *t, const char *name, const json_t *entry, const uint8_t *data, size_t n_data, const char *what,
                              struct slm2_err *err)
{
    size_t elem_bytes = 0, n_elems, want;
    if (strlen(name) > SLM2_MAX_TENSOR_NAME) return slm2_fail(err, SLM2_EFORMAT, "%s: a tensor name of %zu bytes", what, strlen(name));
    if (!(t->name = strdup(name))) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for a tensor name", what);
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"), *range = json_object_get(entry, "data_offsets");
    if (!json_is_object(entry) || !json_is_string(dtype) || !json_is_array(shape) || !json_is_array(range) || json_array_size(range) != 2)
        return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": want an object with dtype, shape and two data_offsets", what, name);
    SLM2_TRY(set_type(t, json_string_value(dtype), &elem_bytes, what, err));
    if (json_array_size(shape) > SLM2_MAX_DIM)
        return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": %zu dimensions, at most %d", what, name, json_array_size(shape), SLM2_MAX_DIM);
    t->n_dim = (int)json_array_size(shape);
    for (int i = 0; i < SLM2_MAX_DIM; i++) {
        const json_t *d = i < t->n_dim ? json_array_get(shape, (size_t)i) : NULL;
        t->dim[i] = d ? json_integer_value(d) : 1;
        if (d && (!json_is_integer(d) || t->dim[i] < 0)) return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": dimension %d is no size", what, name, i);
    }
    const json_t *jb = json_array_get(range, 0), *je = json_array_get(range, 1);
    int64_t b = json_integer_value(jb), e = json_integer_value(je);
    if (!json_is_integer(jb) || !json_is_integer(je) || b < 0 || e < b || (uint64_t)e > n_data) {
        return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": data_offsets [%" PRId64 ", %" PRId64 "] do not lie in the file's %zu bytes of data", what,
                         name, b, e, n_data);
    }
    if (!slm2_dims_product(t->dim, t->n_dim, &n_elems) || !slm2_mul_size(n_elems, elem_bytes, &want) || want != (size_t)(e - b)) {
        char s[96];
        slm2_tensor_shape(t, s);
        return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": %s %s does not fill its %" PRId64 " bytes", what, name, t->type_name, s, e - b);
    }
    t->data = data + b;
    t->bytes = (size_t)(e - b);
    return SLM2_OK;
}

static int compare_places(const void *a, const void *b)
{
    const struct slm2_tensor *x = *(const struct slm2_tensor *const *)a, *y = *(const struct slm2_tensor *const *)b;
    uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    if (p != q) return p < q ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty tensors first */
}

/* The tensors v[n] must cover data[0..n_data) without holes or overlaps. */
static slm2_status check_tiling(const struct slm2_tensor *v, int n, const uint8_t *data, size_t n_data, const char *what, struct slm2_err *err)
{
    const struct slm2_tensor **order = malloc(sizeof *order * (size_t)slm2_max_int(n, 1));
    if (!order) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory to check %d tensors", what, n);
    slm2_status st = SLM2_OK;
    const uint8_t *at = data;
    for (int i = 0; i < n; i++) order[i] = &v[i];
    qsort(order, (size_t)n, sizeof *order, compare_places);
    for (int i = 0; i < n && st == SLM2_OK; i++) {
        const uint8_t *p = order[i]->data;
        if (p != at) st = slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" %s", what, order[i]->name, p < at ? "overlaps another" : "is preceded by a hole");
        at = p + order[i]->bytes;
    }
    if (st == SLM2_OK && at != data + n_data)
        st = slm2_fail(err, SLM2_EFORMAT, "%s: %zu bytes behind the last tensor", what, (size_t)(data + n_data - at));
    free(order);
    return st;
}

/* Appends the tensors of one file to ts; no index yet.  *metadata receives a new reference or stays as it is. */
static slm2_status append_file(struct slm2_tensors *ts, const uint8_t *p, size_t n, const char *what, json_t **metadata, struct slm2_err *err)
{
    json_t *header = NULL;
    slm2_status st;
    struct slm2_rd r;
    slm2_rd_init(&r, p, n, what);
    uint64_t n_header = slm2_rd_u64(&r);
    if (slm2_rd_ok(&r) && n_header > MAX_HEADER_BYTES) slm2_rd_fail(&r, "the header claims %" PRIu64 " bytes, at most %d", n_header, MAX_HEADER_BYTES);
    const uint8_t *text = slm2_rd_bytes(&r, n_header);
    if (slm2_rd_ok(&r) && (n_header < 2 || text[0] != '{')) slm2_rd_fail(&r, "no safetensors header");
    if ((st = slm2_rd_status(&r, err)) != SLM2_OK) goto done;
    const uint8_t *data = p + r.at;
    size_t n_data = n - r.at;
    if ((st = slm2_json_parse(&header, (const char *)text, (size_t)n_header, what, err)) != SLM2_OK) goto done;
    if (!json_is_object(header) || json_object_size(header) > SLM2_MAX_TENSORS) {
        st = slm2_fail(err, SLM2_EFORMAT, "%s: want a header object of at most %d tensors", what, SLM2_MAX_TENSORS);
        goto done;
    }
    int first = ts->n;
    size_t room = (size_t)first + json_object_size(header) + 1;
    struct slm2_tensor *v = realloc(ts->v, sizeof *v * room);
    if (!v) {
        st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %zu tensors", what, room);
        goto done;
    }
    ts->v = v;
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (!strcmp(name, "__metadata__")) {
            const char *key;
            json_t *value;
            bool ok = json_is_object(entry);
            json_object_foreach(entry, key, value) ok = ok && json_is_string(value);
            if (!ok) {
                st = slm2_fail(err, SLM2_EFORMAT, "%s: __metadata__ must be an object of strings", what);
                goto done;
            }
            json_decref(*metadata);
            *metadata = json_incref(entry);
            continue;
        }
        v[ts->n] = (struct slm2_tensor){0};
        st = read_entry(&v[ts->n++], name, entry, data, n_data, what, err);
        if (st != SLM2_OK) goto done;
    }
    st = check_tiling(v + first, ts->n - first, data, n_data, what, err);
done:
    json_decref(header);
    return st;
}

slm2_status slm2_safetensors_parse(struct slm2_tensors *ts, const void *p, size_t n, const char *what, struct slm2_err *err)
{
    *ts = (struct slm2_tensors){0};
    slm2_status st = append_file(ts, p, n, what, &ts->metadata, err);
    if (st == SLM2_OK) st = slm2_tensors_index(ts, what, err);
    if (st != SLM2_OK) slm2_tensors_free(ts);
    return st;
}

/* ---- files and shards ------------------------------------------------------------------------------------------------ */
/* Maps path and appends its tensors; the map is handed to ts first, so that freeing ts is always enough. */
static slm2_status append_path(struct slm2_tensors *ts, const char *path, struct slm2_err *err)
{
    struct slm2_map *maps = realloc(ts->maps, sizeof *maps * (size_t)(ts->n_map + 1));
    if (!maps) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path);
    ts->maps = maps;
    SLM2_TRY(slm2_map_open(&maps[ts->n_map], path, err));
    ts->n_map++;
    return append_file(ts, maps[ts->n_map - 1].p, maps[ts->n_map - 1].n, path, &ts->metadata, err);
}

/* A shard's name comes from a file: it must stay in the folder. */
static bool plain_file_name(const char *s)
{
    return *s && *s != '.' && !strchr(s, '/') && !strchr(s, '\\') && strlen(s) < 256;
}

static slm2_status open_index(struct slm2_tensors *ts, const char *path, struct slm2_err *err)
{
    char dir[4096], shard[4096];
    json_t *index = NULL, *done = json_object();
    slm2_status st;
    if (!done) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path);
    if ((st = slm2_path_folder(dir, sizeof dir, path, err)) != SLM2_OK) goto done;
    if ((st = slm2_json_read(&index, path, MAX_JSON_BYTES, err)) != SLM2_OK) goto done;
    json_t *map = json_object_get(index, "weight_map"), *file;
    const char *name;
    if (!json_is_object(map)) {
        st = slm2_fail(err, SLM2_EFORMAT, "%s: no weight_map", path);
        goto done;
    }
    json_object_foreach(map, name, file) {
        const char *f = json_string_value(file);
        if (!f || !plain_file_name(f)) {
            st = slm2_fail(err, SLM2_EFORMAT, "%s: weight_map: \"%.200s\": want the name of a file in the same folder", path, name);
            goto done;
        }
        if (json_object_get(done, f)) continue;
        int first = ts->n;
        if ((st = slm2_path_join(shard, sizeof shard, dir, f, err)) != SLM2_OK || (st = append_path(ts, shard, err)) != SLM2_OK) {
            st = slm2_wrap(err, st, "%s", path);
            goto done;
        }
        if (json_object_set_new(done, f, json_true()) != 0 || json_object_size(done) > MAX_SHARDS) {
            st = slm2_fail(err, SLM2_ELIMIT, "%s: more shards than memory or the limit of %d allow", path, MAX_SHARDS);
            goto done;
        }
        for (int i = first; i < ts->n; i++) {
            const char *home = json_string_value(json_object_get(map, ts->v[i].name));
            if (!home || strcmp(home, f)) {
                st = slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" lies in %s, but weight_map %s", path, ts->v[i].name, f,
                               home ? "places it in another file" : "does not know it");
                goto done;
            }
        }
    }
    if ((st = slm2_tensors_index(ts, path, err)) != SLM2_OK) goto done;
    json_object_foreach(map, name, file) {
        if (!slm2_tensors_find(ts, name)) {
            st = slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%.200s\" is not in %s, where weight_map places it", path, name, json_string_value(file));
            goto done;
        }
    }
done:
    json_decref(index);
    json_decref(done);
    return st;
}

slm2_status slm2_safetensors_open(struct slm2_tensors *ts, const char *path, struct slm2_err *err)
{
    char file[4096];
    slm2_status st;
    *ts = (struct slm2_tensors){0};
    if (slm2_path_is_dir(path)) {
        SLM2_TRY(slm2_path_join(file, sizeof file, path, "model.safetensors", err));
        if (!slm2_path_exists(file)) {
            SLM2_TRY(slm2_path_join(file, sizeof file, path, "model.safetensors.index.json", err));
            if (!slm2_path_exists(file)) return slm2_fail(err, SLM2_EIO, "%s: the folder holds no model.safetensors and no model.safetensors.index.json", path);
        }
        path = file;
    }
    size_t n = strlen(path);
    if (n > 5 && !strcmp(path + n - 5, ".json")) {
        st = open_index(ts, path, err);
    } else {
        st = append_path(ts, path, err);
        if (st == SLM2_OK) st = slm2_tensors_index(ts, path, err);
    }
    if (st != SLM2_OK) slm2_tensors_free(ts);
    return st;
}

/* ---- writing ----------------------------------------------------------------------------------------------------------- */
static json_t *header_of(const struct slm2_tensor *v, int n, const json_t *metadata)
{
    json_t *h = json_object();
    size_t at = 0;
    int bad = json_object_set_new(h, "__metadata__", metadata ? json_deep_copy(metadata) : json_pack("{s:s}", "format", "pt"));
    for (int i = 0; i < n; i++) {
        json_t *shape = json_array();
        for (int d = 0; d < v[i].n_dim; d++) bad |= json_array_append_new(shape, json_integer(v[i].dim[d]));
        bad |= json_object_set_new(h, v[i].name, json_pack("{s:s, s:o, s:[I, I]}", "dtype", v[i].type_name, "shape", shape, "data_offsets", (json_int_t)at,
                                                           (json_int_t)(at + v[i].bytes)));
        at += v[i].bytes;
    }
    if (bad) {
        json_decref(h);
        return NULL;
    }
    return h;
}

static slm2_status check_writable(const char *path, const struct slm2_tensor *v, int n, struct slm2_err *err)
{
    struct slm2_tensors ts = {.n = n};
    if (n < 0 || n > SLM2_MAX_TENSORS) return slm2_fail(err, SLM2_ELIMIT, "%s: %d tensors, at most %d", path, n, SLM2_MAX_TENSORS);
    for (int i = 0; i < n; i++) {
        if (v[i].dtype == SLM2_N_DTYPE || slm2_dtype_info[v[i].dtype].block_elems != 1)
            return slm2_fail(err, SLM2_EUSAGE, "%s: tensor \"%s\": safetensors has no type %s; write F32, F16 or BF16", path, v[i].name, v[i].type_name);
    }
    struct slm2_tensor *copy = malloc(sizeof *copy * (size_t)slm2_max_int(n, 1));
    if (!copy) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %d tensors", path, n);
    if (n) memcpy(copy, v, sizeof *copy * (size_t)n);
    ts.v = copy;
    slm2_status st = slm2_tensors_index(&ts, path, err); /* duplicate names */
    free(ts.by_name);
    free(copy);
    return st;
}

slm2_status slm2_safetensors_write(const char *path, const struct slm2_tensor *v, int n, const json_t *metadata, struct slm2_err *err)
{
    static const char spaces[HEADER_PAD] = "        ";
    struct slm2_buf text = {0};
    struct slm2_out *o = NULL;
    slm2_status st;
    SLM2_TRY(check_writable(path, v, n, err));
    json_t *header = header_of(v, n, metadata);
    if (!header) return slm2_fail(err, SLM2_ENOMEM, "%s: the header cannot be made: no memory, or a name that is not UTF-8", path);
    slm2_json_dump(header, &text);
    json_decref(header);
    if (!text.failed) slm2_buf_put(&text, spaces, slm2_align_up(text.n, HEADER_PAD) - text.n);
    if ((st = slm2_buf_check(&text, err)) != SLM2_OK) goto done;
    if (text.n > MAX_HEADER_BYTES) {
        st = slm2_fail(err, SLM2_ELIMIT, "%s: the header has %zu bytes, at most %d", path, text.n, MAX_HEADER_BYTES);
        goto done;
    }
    if ((st = slm2_out_open(&o, path, err)) != SLM2_OK) goto done;
    uint8_t size[8];
    for (int i = 0; i < 8; i++) size[i] = (uint8_t)((uint64_t)text.n >> 8 * i);
    slm2_out_write(o, size, sizeof size);
    slm2_out_write(o, text.v, text.n);
    for (int i = 0; i < n && st == SLM2_OK; i++) {
        if ((st = slm2_tensor_emit(&v[i], o, err)) != SLM2_OK) st = slm2_wrap(err, st, "writing %s", path);
    }
    if (st == SLM2_OK) {
        st = slm2_out_commit(o, err);
        o = NULL;
    }
done:
    slm2_out_abort(o);
    slm2_buf_free(&text);
    return st;
}

/* Shards are filled in order; a tensor larger than the limit has a shard of its own.  Returns the end of the shard that begins at first. */
static int shard_end(const struct slm2_tensor *v, int n, int first, size_t max_bytes)
{
    size_t bytes = 0;
    int i = first;
    while (i < n && (i == first || v[i].bytes <= max_bytes - slm2_min_size(bytes, max_bytes))) bytes += v[i++].bytes;
    return i;
}

static slm2_status remove_in(const char *dir, const char *name, struct slm2_err *err)
{
    char path[4096];
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, name, err));
    if (slm2_path_exists(path) && unlink(path) != 0) return slm2_fail_errno(err, "%s: cannot remove what an earlier write left", path);
    return SLM2_OK;
}

slm2_status slm2_safetensors_write_sharded(const char *dir, const struct slm2_tensor *v, int n, size_t max_shard_bytes, struct slm2_err *err)
{
    char path[4096], name[64];
    int n_shards = 0;
    size_t total = 0;
    if (max_shard_bytes == 0) max_shard_bytes = SIZE_MAX;
    for (int i = 0; i < n; i = shard_end(v, n, i, max_shard_bytes)) n_shards++;
    for (int i = 0; i < n; i++) total += v[i].bytes;
    SLM2_TRY(slm2_dir_make(dir, err));
    if (n_shards <= 1) {
        SLM2_TRY(slm2_path_join(path, sizeof path, dir, "model.safetensors", err));
        SLM2_TRY(slm2_safetensors_write(path, v, n, NULL, err));
        return remove_in(dir, "model.safetensors.index.json", err);
    }
    if (n_shards > MAX_SHARDS) return slm2_fail(err, SLM2_ELIMIT, "%s: %d shards, at most %d; allow larger ones", dir, n_shards, MAX_SHARDS);
    json_t *map = json_object(), *index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    slm2_status st = index ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "%s: no memory for the index", dir);
    for (int first = 0, k = 1; first < n && st == SLM2_OK; k++) {
        int end = shard_end(v, n, first, max_shard_bytes);
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", k, n_shards);
        st = slm2_path_join(path, sizeof path, dir, name, err);
        if (st == SLM2_OK) st = slm2_safetensors_write(path, v + first, end - first, NULL, err);
        for (; first < end && st == SLM2_OK; first++) {
            if (json_object_get(map, v[first].name)) st = slm2_fail(err, SLM2_EUSAGE, "%s: tensor \"%s\" occurs twice", dir, v[first].name);
            else if (json_object_set_new(map, v[first].name, json_string(name)) != 0) st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory for the index", dir);
        }
    }
    if (st == SLM2_OK) st = slm2_path_join(path, sizeof path, dir, "model.safetensors.index.json", err);
    if (st == SLM2_OK) st = slm2_json_write(index, path, err);
    if (st == SLM2_OK) st = remove_in(dir, "model.safetensors", err);
    json_decref(map);
    json_decref(index);
    return st;
}
