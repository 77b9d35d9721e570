/* test_io.c - safetensors and GGUF: round trips, every truncation, every flipped header byte, hostile counts, the sharded golden. */
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "slm2_test.h"

static const char *scratch(void)
{
    static char dir[256];
    if (!dir[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(dir, sizeof dir, "%s/slm2_test_io.XXXXXX", tmp ? tmp : "/tmp");
        assert_non_null(mkdtemp(dir));
    }
    return dir;
}

static const char *in_scratch(const char *name)
{
    static char paths[4][512];
    static int turn;
    char *p = paths[turn++ & 3];
    snprintf(p, sizeof paths[0], "%s/%s", scratch(), name);
    return p;
}

static struct slm2_err err;
#define OK(call)                                              \
    do {                                                      \
        if ((call) != SLM2_OK) fail_msg("%s", err.msg);       \
    } while (0)

/* a parser: returns its status and frees what it made */
typedef slm2_status parser(const void *p, size_t n);

static slm2_status parse_safetensors(const void *p, size_t n)
{
    struct slm2_tensors ts;
    slm2_status st = slm2_safetensors_parse(&ts, p, n, "memory", &err);
    if (st == SLM2_OK) {
        for (int i = 0; i < ts.n; i++) assert_true((const uint8_t *)ts.v[i].data + ts.v[i].bytes <= (const uint8_t *)p + n);
        slm2_tensors_free(&ts);
    } else {
        assert_int_equal(ts.n, 0);
    }
    return st;
}

static slm2_status parse_gguf(const void *p, size_t n)
{
    struct slm2_gguf g;
    slm2_status st = slm2_gguf_parse(&g, p, n, "memory", &err);
    if (st == SLM2_OK) {
        for (int i = 0; i < g.tensors.n; i++) assert_true((const uint8_t *)g.tensors.v[i].data + g.tensors.v[i].bytes <= (const uint8_t *)p + n);
        for (int i = 0; i < g.n_kv; i++) {
            struct slm2_gguf_strs it;
            const char *s;
            size_t len;
            if (slm2_gguf_get_strs(&g, g.kv[i].key, &it, NULL) != SLM2_OK) continue;
            while (slm2_gguf_strs_next(&it, &s, &len)) assert_true((const uint8_t *)s + len <= (const uint8_t *)p + n);
        }
        slm2_gguf_free(&g);
    } else {
        assert_int_equal(g.n_kv, 0);
    }
    return st;
}

/* every prefix, in a block of exactly its size so that a sanitizer sees a read behind the end */
static void check_truncations(parser *parse, const uint8_t *p, size_t n)
{
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1);
        assert_non_null(copy);
        memcpy(copy, p, cut);
        if (parse(copy, cut) == SLM2_OK) fail_msg("the first %zu of %zu bytes were accepted", cut, n);
        free(copy);
    }
    assert_int_equal(parse(p, n), SLM2_OK);
}

/* every byte of the header, each bit and a few values: any verdict, no fault */
static int check_flips(parser *parse, const uint8_t *p, size_t n, size_t n_header)
{
    static const uint8_t values[] = {0, 0x7f, 0x80, 0xff, '"', '}'};
    int refused = 0;
    uint8_t *copy = malloc(n);
    assert_non_null(copy);
    for (size_t i = 0; i < n_header; i++) {
        for (int k = 0; k < 8 + (int)sizeof values; k++) {
            memcpy(copy, p, n);
            copy[i] = k < 8 ? (uint8_t)(p[i] ^ 1u << k) : values[k - 8];
            refused += parse(copy, n) != SLM2_OK;
        }
    }
    free(copy);
    return refused;
}

/* ---- safetensors ---------------------------------------------------------------------------------------------------------- */
static size_t make_safetensors(uint8_t *out, const char *header, size_t n_data)
{
    uint64_t n = strlen(header);
    memcpy(out, &n, 8);
    memcpy(out + 8, header, n);
    for (size_t i = 0; i < n_data; i++) out[8 + n + i] = (uint8_t)i;
    return 8 + n + n_data;
}

static void test_safetensors_round_trip(void **state)
{
    (void)state;
    const float a[6] = {1, -2, 3.5f, 0, 1e-40f, 7};
    const uint16_t b[3] = {0x3f80, 0xffc0, 1}, c[4] = {1, 2, 3, 0x7c00};
    const int32_t i32[2] = {-1, 1 << 30};
    const int64_t i64[1] = {-5000000000}, d23[2] = {2, 3}, d3[1] = {3}, d22[2] = {2, 2}, d2[1] = {2}, d1[1] = {1}, d0[2] = {0, 7};
    const uint8_t u8[3] = {9, 8, 7};
    struct slm2_tensor v[7];
    OK(slm2_tensor_init(&v[0], "z \"quoted\" \xc3\xa9", SLM2_F32, 2, d23, a, &err));
    OK(slm2_tensor_init(&v[1], "b", SLM2_BF16, 1, d3, b, &err));
    OK(slm2_tensor_init(&v[2], "c", SLM2_F16, 2, d22, c, &err));
    OK(slm2_tensor_init(&v[3], "u", SLM2_U8, 1, d3, u8, &err));
    OK(slm2_tensor_init(&v[4], "i", SLM2_I32, 1, d2, i32, &err));
    OK(slm2_tensor_init(&v[5], "l", SLM2_I64, 1, d1, i64, &err));
    OK(slm2_tensor_init(&v[6], "empty", SLM2_F32, 2, d0, a, &err));
    const char *path = in_scratch("round.safetensors");
    OK(slm2_safetensors_write(path, v, 7, NULL, &err));
    struct slm2_tensors ts;
    OK(slm2_safetensors_open(&ts, path, &err));
    assert_int_equal(ts.n, 7);
    assert_string_equal(json_string_value(json_object_get(ts.metadata, "format")), "pt");
    for (int i = 0; i < 7; i++) {
        const struct slm2_tensor *t = slm2_tensors_find(&ts, v[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, v[i].dtype);
        assert_int_equal(t->n_dim, v[i].n_dim);
        assert_memory_equal(t->dim, v[i].dim, sizeof t->dim);
        assert_int_equal(t->bytes, v[i].bytes);
        if (t->bytes) assert_memory_equal(t->data, v[i].data, t->bytes);
    }
    assert_null(slm2_tensors_find(&ts, "nothing"));
    assert_int_equal((uintptr_t)slm2_tensors_find(&ts, v[0].name)->data % 8, 0); /* the header is padded */
    slm2_tensors_free(&ts);
    v[1].name = v[0].name;
    assert_int_equal(slm2_safetensors_write(path, v, 2, NULL, &err), SLM2_EFORMAT);
    const int64_t d32[1] = {32};
    OK(slm2_tensor_init(&v[0], "q", SLM2_Q8_0, 1, d32, a, &err));
    assert_int_equal(slm2_safetensors_write(path, v, 1, NULL, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_tensor_init(&v[0], "q", SLM2_Q8_0, 1, d3, a, &err), SLM2_EUSAGE);
}

static void test_safetensors_headers(void **state)
{
    (void)state;
    static const struct { const char *header; size_t n_data; bool good; } cases[] = {
        {"{}", 0, true},
        {"{}", 1, false}, /* bytes that no tensor owns */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, true},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}   ", 8, true},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, true},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, true}, /* listed, not usable */
        {"{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":{\"dtype\":\"Q8_0\",\"shape\":[32],\"data_offsets\":[0,34]}}", 34, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, false}, /* the product wraps to 0 */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9223372036854775807]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}", 9, false}, /* a hole in front */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":7}", 0, false},
        {"[]", 0, false},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}", 4, true},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 4, true},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, false},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}", 5, false},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}", 4, false},
        {"{\"__metadata__\":{\"k\":\"v\"}}", 0, true},
        {"{\"__metadata__\":{\"k\":1}}", 0, false},
        {"{\"__metadata__\":[]}", 0, false},
        {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, false},
    };
    uint8_t file[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = make_safetensors(file, cases[i].header, cases[i].n_data);
        uint8_t *copy = malloc(n);
        assert_non_null(copy);
        memcpy(copy, file, n);
        if ((parse_safetensors(copy, n) == SLM2_OK) != cases[i].good) fail_msg("%s: %s", cases[i].header, cases[i].good ? err.msg : "accepted");
        free(copy);
    }
    static const uint64_t sizes[] = {0, 1, 3, 100000001, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    size_t n = make_safetensors(file, "{}", 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memcpy(file, &sizes[i], 8);
        assert_int_not_equal(parse_safetensors(file, n), SLM2_OK);
    }
    n = make_safetensors(file, "{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8);
    struct slm2_tensors ts;
    const struct slm2_tensor *t;
    OK(slm2_safetensors_parse(&ts, file, n, "memory", &err));
    assert_int_equal(slm2_tensors_get(&ts, "a", "memory", &t, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "F64"));
    slm2_tensors_free(&ts);
}

static void test_safetensors_damage(void **state)
{
    (void)state;
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                                 "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[24,30]}}";
    uint8_t file[512];
    size_t n = make_safetensors(file, header, 30);
    check_truncations(parse_safetensors, file, n);
    assert_true(check_flips(parse_safetensors, file, n, 8 + sizeof header - 1) > 100);
}

static void test_golden_shards(void **state)
{
    (void)state;
    struct slm2_tensors one, many;
    OK(slm2_safetensors_open(&one, slm2_test_data("golden/tiny"), &err));
    OK(slm2_safetensors_open(&many, slm2_test_data("golden/tiny-sharded"), &err));
    assert_int_equal(one.n, 46);
    assert_int_equal(many.n, one.n);
    assert_int_equal(many.n_map, 2);
    for (int i = 0; i < one.n; i++) {
        const struct slm2_tensor *a = &one.v[i], *b = slm2_tensors_find(&many, a->name);
        assert_non_null(b);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->dim, b->dim, sizeof a->dim);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    slm2_tensors_free(&many);
    /* shards of our own, then back to one file */
    const char *dir = in_scratch("sharded");
    OK(slm2_safetensors_write_sharded(dir, one.v, one.n, 200000, &err));
    OK(slm2_safetensors_open(&many, dir, &err));
    assert_true(many.n_map >= 5);
    for (int i = 0; i < one.n; i++) assert_memory_equal(one.v[i].data, slm2_tensors_find(&many, one.v[i].name)->data, one.v[i].bytes);
    slm2_tensors_free(&many);
    OK(slm2_safetensors_write_sharded(dir, one.v, one.n, 0, &err));
    OK(slm2_safetensors_open(&many, dir, &err));
    assert_int_equal(many.n_map, 1);
    slm2_tensors_free(&many);
    slm2_tensors_free(&one);
}

static void test_hostile_index(void **state)
{
    (void)state;
    char path[512];
    const char *dir = in_scratch("index");
    const uint8_t u8[2] = {1, 2};
    const int64_t d[1] = {2};
    struct slm2_tensor v[2];
    struct slm2_tensors ts;
    static const struct { const char *json; bool good; } cases[] = {
        {"{\"weight_map\":{\"a\":\"s.safetensors\",\"b\":\"s.safetensors\"}}", true},
        {"{\"weight_map\":{\"a\":\"s.safetensors\"}}", false}, /* b is not mapped */
        {"{\"weight_map\":{\"a\":\"s.safetensors\",\"b\":\"s.safetensors\",\"c\":\"s.safetensors\"}}", false},
        {"{\"weight_map\":{\"a\":\"s.safetensors\",\"b\":\"t.safetensors\"}}", false},
        {"{\"weight_map\":{\"a\":\"../index/s.safetensors\",\"b\":\"../index/s.safetensors\"}}", false},
        {"{\"weight_map\":{\"a\":\"\",\"b\":\"s.safetensors\"}}", false},
        {"{\"weight_map\":{\"a\":1}}", false},
        {"{\"weight_map\":[]}", false},
        {"{}", false},
        {"{\"weight_map\":", false},
    };
    OK(slm2_dir_make(dir, &err));
    OK(slm2_tensor_init(&v[0], "a", SLM2_U8, 1, d, u8, &err));
    OK(slm2_tensor_init(&v[1], "b", SLM2_U8, 1, d, u8, &err));
    snprintf(path, sizeof path, "%s/s.safetensors", dir);
    OK(slm2_safetensors_write(path, v, 2, NULL, &err));
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        OK(slm2_file_write(path, cases[i].json, strlen(cases[i].json), &err));
        slm2_status st = slm2_safetensors_open(&ts, dir, &err);
        if ((st == SLM2_OK) != cases[i].good) fail_msg("%s: %s", cases[i].json, cases[i].good ? err.msg : "accepted");
        slm2_tensors_free(&ts);
    }
    assert_int_equal(slm2_safetensors_open(&ts, in_scratch("absent"), &err), SLM2_EIO);
    assert_int_equal(slm2_safetensors_open(&ts, scratch(), &err), SLM2_EIO);
}

/* ---- GGUF ------------------------------------------------------------------------------------------------------------------- */
static slm2_status fill_twice(void *user, const struct slm2_tensor *t, struct slm2_out *o, struct slm2_err *e)
{
    (void)e;
    slm2_out_write(o, user, t->bytes / 2);
    slm2_out_write(o, (const uint8_t *)user + t->bytes / 2, t->bytes - t->bytes / 2);
    return SLM2_OK;
}

static slm2_status fill_short(void *user, const struct slm2_tensor *t, struct slm2_out *o, struct slm2_err *e)
{
    (void)e;
    slm2_out_write(o, user, t->bytes - 1);
    return SLM2_OK;
}

static float weights[64];

static slm2_status write_sample(const char *path, slm2_tensor_fill *fill)
{
    struct slm2_gguf_writer *w;
    struct slm2_tensor t;
    static const char *const strs[] = {"a", "", "\xc4\xa0the"};
    static const int32_t i32s[] = {-1, 0, 7};
    static const float f32s[] = {0.5f, -2};
    const int64_t d[2] = {2, 32}, d1[1] = {5};
    for (int i = 0; i < 64; i++) weights[i] = (float)i;
    OK(slm2_gguf_writer_new(&w, &err));
    slm2_gguf_put_str(w, "general.architecture", "stablelm");
    slm2_gguf_put_u32(w, "u", 4000000000u);
    slm2_gguf_put_f32(w, "f", 1e-5f);
    slm2_gguf_put_bool(w, "t", true);
    slm2_gguf_put_strn(w, "nul", "a\0b", 3);
    slm2_gguf_put_strs(w, "strs", strs, NULL, 3);
    slm2_gguf_put_i32s(w, "i32s", i32s, 3);
    slm2_gguf_put_f32s(w, "f32s", f32s, 2);
    slm2_gguf_put_strs(w, "none", NULL, NULL, 0);
    OK(slm2_tensor_init(&t, "small", SLM2_F32, 1, d1, weights, &err));
    slm2_gguf_add_tensor(w, &t);
    OK(slm2_tensor_init(&t, "w", SLM2_F32, 2, d, fill ? NULL : weights, &err));
    t.fill = fill;
    t.user = weights;
    slm2_gguf_add_tensor(w, &t);
    slm2_status st = slm2_gguf_writer_save(w, path, &err);
    slm2_gguf_writer_free(w);
    return st;
}

static void test_gguf_round_trip(void **state)
{
    (void)state;
    const char *path = in_scratch("round.gguf");
    for (int turn = 0; turn < 2; turn++) {
        struct slm2_gguf g;
        struct slm2_gguf_strs it;
        const struct slm2_tensor *t;
        const char *s;
        const uint8_t *p;
        size_t n;
        uint64_t u;
        float f;
        bool b;
        OK(write_sample(path, turn ? fill_twice : NULL));
        OK(slm2_gguf_open(&g, path, &err));
        assert_int_equal(g.version, 3);
        assert_int_equal(g.n_kv, 9);
        OK(slm2_gguf_get_u64(&g, "u", UINT32_MAX, &u, &err));
        assert_true(u == 4000000000u);
        assert_int_equal(slm2_gguf_get_u64(&g, "u", 100, &u, &err), SLM2_EFORMAT);
        assert_int_equal(slm2_gguf_get_u64(&g, "f", 100, &u, &err), SLM2_EFORMAT);
        assert_int_equal(slm2_gguf_get_u64(&g, "absent", 100, &u, &err), SLM2_EFORMAT);
        OK(slm2_gguf_get_u64_or(&g, "absent", 100, 42, &u, &err));
        assert_int_equal(u, 42);
        OK(slm2_gguf_get_f32(&g, "f", &f, &err));
        assert_true(f == 1e-5f);
        OK(slm2_gguf_get_bool_or(&g, "t", false, &b, &err));
        assert_true(b);
        OK(slm2_gguf_get_str(&g, "nul", &s, &n, &err));
        assert_int_equal(n, 3);
        assert_memory_equal(s, "a\0b", 3);
        OK(slm2_gguf_get_strs(&g, "strs", &it, &err));
        assert_int_equal(it.left, 3);
        assert_true(slm2_gguf_strs_next(&it, &s, &n) && n == 1 && *s == 'a');
        assert_true(slm2_gguf_strs_next(&it, &s, &n) && n == 0);
        assert_true(slm2_gguf_strs_next(&it, &s, &n) && n == 5);
        assert_false(slm2_gguf_strs_next(&it, &s, &n));
        OK(slm2_gguf_get_i32s(&g, "i32s", &p, &u, &err));
        assert_int_equal(u, 3);
        assert_int_equal(slm2_gguf_i32_at(p, 0), -1);
        assert_int_equal(slm2_gguf_get_i32s(&g, "f32s", &p, &u, &err), SLM2_EFORMAT);
        OK(slm2_gguf_get_f32s(&g, "f32s", &p, &u, &err));
        assert_true(slm2_gguf_f32_at(p, 1) == -2);
        OK(slm2_tensors_get(&g.tensors, "w", path, &t, &err));
        assert_int_equal(t->n_dim, 2);
        assert_int_equal(t->dim[0], 2);
        assert_int_equal(t->dim[1], 32);
        assert_int_equal((uintptr_t)t->data % 32, 0);
        assert_memory_equal(t->data, weights, sizeof weights);
        /* every key again through the raw copy */
        struct slm2_gguf_writer *w;
        struct slm2_gguf h;
        OK(slm2_gguf_writer_new(&w, &err));
        for (int i = 0; i < g.n_kv; i++) slm2_gguf_put_kv(w, &g.kv[i]);
        OK(slm2_gguf_writer_save(w, in_scratch("copy.gguf"), &err));
        slm2_gguf_writer_free(w);
        OK(slm2_gguf_open(&h, in_scratch("copy.gguf"), &err));
        assert_int_equal(h.n_kv, g.n_kv);
        for (int i = 0; i < g.n_kv; i++) {
            assert_string_equal(h.kv[i].key, g.kv[i].key);
            assert_int_equal(h.kv[i].type, g.kv[i].type);
            assert_int_equal(h.kv[i].bytes, g.kv[i].bytes);
            if (h.kv[i].bytes) assert_memory_equal(h.kv[i].value, g.kv[i].value, h.kv[i].bytes);
        }
        slm2_gguf_free(&h);
        slm2_gguf_free(&g);
    }
    assert_int_equal(write_sample(path, fill_short), SLM2_EFORMAT);
    struct slm2_gguf g;
    OK(slm2_gguf_open(&g, path, &err)); /* the failed write left the old file */
    slm2_gguf_free(&g);
    struct slm2_gguf_writer *w;
    OK(slm2_gguf_writer_new(&w, &err));
    slm2_gguf_put_u32(w, "k", 1);
    slm2_gguf_put_u32(w, "k", 2);
    assert_int_equal(slm2_gguf_writer_save(w, path, &err), SLM2_EUSAGE);
    slm2_gguf_writer_free(w);
}

/* a GGUF file from parts */
static void le(struct slm2_buf *b, uint64_t v, size_t n) { slm2_buf_put(b, &v, n); }
static void str(struct slm2_buf *b, const char *s)
{
    le(b, strlen(s), 8);
    slm2_buf_puts(b, s);
}
static void head(struct slm2_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    slm2_buf_clear(b);
    slm2_buf_puts(b, "GGUF");
    le(b, version, 4);
    le(b, n_tensors, 8);
    le(b, n_kv, 8);
}
static void tensor(struct slm2_buf *b, const char *name, uint32_t n_dim, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    str(b, name);
    le(b, n_dim, 4);
    for (uint32_t i = 0; i < n_dim && i < 8; i++) le(b, ne[i], 8);
    le(b, type, 4);
    le(b, offset, 8);
}

/* Each type with blocks: written and read, cut anywhere, rows that are no whole blocks, a type that is only listed. */
static void test_gguf_blocks(void **state)
{
    (void)state;
    static const enum slm2_dtype blocks[] = {SLM2_Q8_0, SLM2_Q4_0, SLM2_Q4_1, SLM2_Q4_K, SLM2_Q5_K, SLM2_Q6_K};
    static uint8_t data[4 * 256];
    const char *path = in_scratch("blocks.gguf");
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        int64_t block = (int64_t)slm2_dtype_info[blocks[i]].block_elems, d[2] = {2, 2 * block};
        struct slm2_gguf_writer *w;
        struct slm2_gguf g;
        struct slm2_tensor t;
        struct slm2_buf b = {0};
        OK(slm2_tensor_init(&t, "w", blocks[i], 2, d, data, &err));
        assert_int_equal(t.bytes, 4 * slm2_dtype_info[blocks[i]].block_bytes);
        OK(slm2_gguf_writer_new(&w, &err));
        slm2_gguf_add_tensor(w, &t);
        OK(slm2_gguf_writer_save(w, path, &err));
        slm2_gguf_writer_free(w);
        OK(slm2_gguf_open(&g, path, &err));
        assert_int_equal(g.tensors.v[0].dtype, blocks[i]);
        assert_int_equal(g.tensors.v[0].bytes, t.bytes);
        assert_memory_equal(g.tensors.v[0].data, data, t.bytes);
        slm2_gguf_free(&g);
        OK(slm2_file_read(&b, path, 1 << 20, &err));
        b.n -= slm2_align_up(t.bytes, 32) - t.bytes; /* the padding of the last tensor may be missing, nothing else */
        check_truncations(parse_gguf, (const uint8_t *)b.v, b.n);
        slm2_buf_free(&b);
        d[1] = block + 16; /* a half block of 32; of 256 a sixteenth */
        assert_int_equal(slm2_tensor_init(&t, "w", blocks[i], 2, d, data, &err), SLM2_EUSAGE);
        assert_non_null(strstr(err.msg, slm2_dtype_info[blocks[i]].name));
    }
    struct slm2_buf b = {0};
    struct slm2_gguf g;
    const struct slm2_tensor *t;
    head(&b, 3, 1, 0);
    tensor(&b, "blk.0.ffn_down.weight", 1, (const uint64_t[]){32}, 6, 0); /* Q5_0 */
    while (b.n % 32) le(&b, 0, 1);
    slm2_buf_put(&b, data, 32);
    OK(slm2_gguf_parse(&g, b.v, b.n, "memory", &err));
    assert_int_equal(slm2_tensors_get(&g.tensors, "blk.0.ffn_down.weight", "memory", &t, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "Q5_0"));
    assert_non_null(strstr(err.msg, "blk.0.ffn_down.weight"));
    slm2_gguf_free(&g);
    slm2_buf_free(&b);
}

static void test_gguf_damage(void **state)
{
    (void)state;
    const char *path = in_scratch("damage.gguf");
    struct slm2_buf b = {0};
    OK(write_sample(path, NULL));
    OK(slm2_file_read(&b, path, 1 << 20, &err));
    check_truncations(parse_gguf, (const uint8_t *)b.v, b.n); /* the last tensor fills its padding: no byte can be spared */
    assert_true(check_flips(parse_gguf, (const uint8_t *)b.v, b.n, b.n - 288) > 1000);
    slm2_buf_free(&b);
}

static slm2_status verdict(struct slm2_buf *b, size_t n_data)
{
    while (b->n % 32) le(b, 0, 1);
    for (size_t i = 0; i < n_data; i++) le(b, 0, 1);
    uint8_t *copy = malloc(b->n);
    assert_non_null(copy);
    memcpy(copy, b->v, b->n);
    slm2_status st = parse_gguf(copy, b->n);
    free(copy);
    return st;
}

static void test_gguf_hostile(void **state)
{
    (void)state;
    struct slm2_buf b = {0};
    static const uint64_t counts[] = {1, 1000, 65537, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX / 13};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        head(&b, 3, counts[i], 0);
        assert_int_equal(verdict(&b, 0), SLM2_EFORMAT);
        head(&b, 3, 0, counts[i]);
        assert_int_equal(verdict(&b, 0), SLM2_EFORMAT);
        for (uint32_t elem = 0; elem < SLM2_GGUF_N_TYPE; elem++) { /* arrays that claim more than the file has */
            head(&b, 3, 0, 1);
            str(&b, "k");
            le(&b, SLM2_GGUF_ARR, 4);
            le(&b, elem, 4);
            le(&b, counts[i] < 1000 ? 1000 : counts[i], 8);
            assert_int_equal(verdict(&b, 0), SLM2_EFORMAT);
        }
        head(&b, 3, 0, 1);
        le(&b, counts[i] < 1000 ? 1000 : counts[i], 8); /* a key's length */
        assert_int_equal(verdict(&b, 0), SLM2_EFORMAT);
        uint64_t ne[4] = {counts[i], counts[i], counts[i], counts[i]};
        head(&b, 3, 1, 0);
        tensor(&b, "w", 4, ne, 0, 0);
        assert_int_equal(verdict(&b, 32), i == 0 ? SLM2_OK : SLM2_EFORMAT);
        head(&b, 3, 1, 0);
        tensor(&b, "w", 1, (const uint64_t[]){8}, 0, counts[i] * 32);
        assert_int_equal(verdict(&b, 32), counts[i] * 32 == 0 ? SLM2_OK : SLM2_EFORMAT);
    }
    static const uint32_t versions[] = {0, 1, 4, 0x03000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        head(&b, versions[i], 0, 0);
        assert_int_equal(verdict(&b, 0), SLM2_EFORMAT);
    }
    head(&b, 2, 0, 0);
    assert_int_equal(verdict(&b, 0), SLM2_OK);

    static const struct { uint32_t type; uint64_t ne; size_t bytes; bool good; } types[] = {
        {0, 8, 32, true},  {1, 8, 16, true},   {30, 8, 16, true}, {8, 32, 34, true},   {8, 31, 34, false}, {2, 32, 18, true},   {2, 16, 18, false},
        {12, 256, 144, true}, {12, 128, 144, false}, {12, 320, 288, false}, {13, 256, 176, true}, {13, 224, 176, false}, {14, 256, 210, true}, {14, 288, 420, false},
        {14, 512, 420, true}, {3, 32, 20, true}, {3, 48, 40, false}, {6, 32, 22, true}, {6, 40, 44, false}, {4, 32, 32, false}, {5, 32, 32, false}, {31, 32, 32, false}, {99, 32, 32, false}, {UINT32_MAX, 32, 32, false},
        {0, 0, 32, false}, {0, (uint64_t)1 << 63, 32, false},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        head(&b, 3, 1, 0);
        tensor(&b, "w", 1, &types[i].ne, types[i].type, 0);
        if ((verdict(&b, types[i].bytes) == SLM2_OK) != types[i].good) fail_msg("type %u of %llu", types[i].type, (unsigned long long)types[i].ne);
        head(&b, 3, 1, 0);
        tensor(&b, "w", 1, &types[i].ne, types[i].type, 0);
        assert_int_not_equal(verdict(&b, types[i].bytes - 1), SLM2_OK);
    }
    const uint64_t ne[5] = {8, 1, 1, 1, 1};
    for (uint32_t n_dim = 0; n_dim < 6; n_dim++) {
        head(&b, 3, 1, 0);
        tensor(&b, "w", n_dim, ne, 0, 0);
        assert_int_equal(verdict(&b, 32), n_dim >= 1 && n_dim <= 4 ? SLM2_OK : SLM2_EFORMAT);
    }
    static const uint64_t second[] = {0, 16, 32, 64};
    for (size_t i = 0; i < 4; i++) { /* overlap, misaligned, right behind, with a gap */
        head(&b, 3, 2, 0);
        tensor(&b, "a", 1, ne, 0, 0);
        tensor(&b, "b", 1, ne, 0, second[i]);
        assert_int_equal(verdict(&b, 96), i >= 2 ? SLM2_OK : SLM2_EFORMAT);
    }
    head(&b, 3, 2, 0);
    tensor(&b, "a", 1, ne, 0, 0);
    tensor(&b, "a", 1, ne, 0, 32);
    assert_int_equal(verdict(&b, 64), SLM2_EFORMAT);
    head(&b, 3, 1, 0);
    tensor(&b, "", 1, ne, 0, 0);
    assert_int_equal(verdict(&b, 64), SLM2_EFORMAT);
    static const struct { uint32_t alignment; slm2_status want; } alignments[] = {{0, SLM2_EFORMAT}, {1, SLM2_OK}, {3, SLM2_EFORMAT}, {32, SLM2_OK}, {64, SLM2_OK}, {UINT32_MAX, SLM2_EFORMAT}};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        head(&b, 3, 1, 1);
        str(&b, "general.alignment");
        le(&b, SLM2_GGUF_U32, 4);
        le(&b, alignments[i].alignment, 4);
        tensor(&b, "a", 1, ne, 0, 0);
        assert_int_equal(verdict(&b, 64), alignments[i].want);
    }
    for (int depth = 1; depth < 8; depth++) { /* arrays in arrays */
        head(&b, 3, 0, 1);
        str(&b, "k");
        le(&b, SLM2_GGUF_ARR, 4);
        for (int i = 1; i < depth; i++) {
            le(&b, SLM2_GGUF_ARR, 4);
            le(&b, 1, 8);
        }
        le(&b, SLM2_GGUF_U8, 4);
        le(&b, 2, 8);
        le(&b, 0, 2);
        assert_int_equal(verdict(&b, 0), depth <= SLM2_GGUF_MAX_DEPTH ? SLM2_OK : SLM2_EFORMAT);
    }
    head(&b, 3, 0, 2); /* the same key twice */
    for (int i = 0; i < 2; i++) {
        str(&b, "k");
        le(&b, SLM2_GGUF_U8, 4);
        le(&b, 1, 1);
    }
    assert_int_equal(verdict(&b, 0), SLM2_EFORMAT);
    head(&b, 3, 0, 1);
    str(&b, "k");
    le(&b, SLM2_GGUF_BOOL, 4);
    le(&b, 2, 1);
    assert_int_equal(verdict(&b, 0), SLM2_EFORMAT);
    head(&b, 3, 1, 0);
    tensor(&b, "w", 1, (const uint64_t[]){256}, 10, 0);
    struct slm2_gguf g;
    const struct slm2_tensor *t;
    verdict(&b, 84);
    OK(slm2_gguf_parse(&g, b.v, b.n, "memory", &err));
    assert_string_equal(g.tensors.v[0].type_name, "Q2_K");
    assert_int_equal(slm2_tensors_get(&g.tensors, "w", "memory", &t, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "Q2_K"));
    slm2_gguf_free(&g);
    slm2_buf_free(&b);
}

static void test_gguf_integers(void **state)
{
    (void)state;
    struct slm2_buf b = {0};
    struct slm2_gguf g;
    uint64_t u = 0;
    static const struct { uint32_t type; uint64_t bits; size_t width; bool good; } cases[] = {
        {SLM2_GGUF_U8, 200, 1, true}, {SLM2_GGUF_I8, 0xc8, 1, false}, {SLM2_GGUF_U16, 200, 2, true}, {SLM2_GGUF_I16, 200, 2, true}, {SLM2_GGUF_I32, 200, 4, true},
        {SLM2_GGUF_I64, 200, 8, true}, {SLM2_GGUF_U64, 200, 8, true}, {SLM2_GGUF_I64, UINT64_MAX, 8, false}, {SLM2_GGUF_F32, 200, 4, false}, {SLM2_GGUF_BOOL, 1, 1, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        head(&b, 3, 0, 1);
        str(&b, "k");
        le(&b, cases[i].type, 4);
        le(&b, cases[i].bits, cases[i].width);
        OK(slm2_gguf_parse(&g, b.v, b.n, "memory", &err));
        slm2_status st = slm2_gguf_get_u64(&g, "k", 1000, &u, &err);
        assert_int_equal(st, cases[i].good ? SLM2_OK : SLM2_EFORMAT);
        if (cases[i].good) assert_int_equal(u, 200);
        slm2_gguf_free(&g);
    }
    slm2_buf_free(&b);
}

static void test_clean(void **state)
{
    (void)state;
    OK(slm2_dir_remove(scratch(), &err));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_safetensors_round_trip), cmocka_unit_test(test_safetensors_headers), cmocka_unit_test(test_safetensors_damage),
    cmocka_unit_test(test_golden_shards),          cmocka_unit_test(test_hostile_index),       cmocka_unit_test(test_gguf_round_trip),
    cmocka_unit_test(test_gguf_damage), cmocka_unit_test(test_gguf_blocks),            cmocka_unit_test(test_gguf_hostile),        cmocka_unit_test(test_gguf_integers),
    cmocka_unit_test(test_clean),
};
SLM2_TEST_MAIN(tests)
