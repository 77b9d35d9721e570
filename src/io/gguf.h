/* gguf.h - reads GGUF versions 2 and 3 (little-endian), writes version 3.
 *
 * Form: magic, version, counts, key-values, tensor descriptions, padding, data aligned to general.alignment (32).  All counts,
 * lengths, types, dimensions and offsets are checked before use; keys and tensor names must be unique.  GGUF writes dimensions
 * innermost first; struct slm2_tensor has them outermost first.
 * Tensor types that this program does not compute with are listed with dtype SLM2_N_DTYPE and refused by slm2_tensors_get. */
#ifndef SLM2_IO_GGUF_H
#define SLM2_IO_GGUF_H
#include "io/tensors.h"

#define SLM2_GGUF_MAX_KV 65536
#define SLM2_GGUF_MAX_KEY 1024     /* bytes; the format allows 65535 */
#define SLM2_GGUF_MAX_DEPTH 4      /* arrays of arrays */
#define SLM2_GGUF_ALIGNMENT 32

enum slm2_gguf_type { /* as in the file */
    SLM2_GGUF_U8, SLM2_GGUF_I8, SLM2_GGUF_U16, SLM2_GGUF_I16, SLM2_GGUF_U32, SLM2_GGUF_I32, SLM2_GGUF_F32, SLM2_GGUF_BOOL, SLM2_GGUF_STR, SLM2_GGUF_ARR,
    SLM2_GGUF_U64, SLM2_GGUF_I64, SLM2_GGUF_F64, SLM2_GGUF_N_TYPE
};
struct slm2_gguf_kv {
    char *key;
    enum slm2_gguf_type type;      /* of the value */
    enum slm2_gguf_type elem_type; /* of an array's elements */
    uint64_t n;                    /* elements of an array, bytes of a string, else 1 */
    const uint8_t *value;          /* first byte of the value itself: behind a string's length, behind an array's type and count */
    size_t bytes;                  /* from value to its end */
};
struct slm2_gguf {
    uint32_t version;
    struct slm2_gguf_kv *kv; /* [n_kv] in the order of the file */
    int n_kv;
    size_t alignment, data_offset;
    struct slm2_tensors tensors;
    char *what; /* file name for messages; owned */
};

slm2_status slm2_gguf_open(struct slm2_gguf *g, const char *path, struct slm2_err *err); /* mapped; on failure g is empty */
slm2_status slm2_gguf_parse(struct slm2_gguf *g, const void *p, size_t n, const char *what, struct slm2_err *err); /* p borrowed, must outlive g */
void slm2_gguf_free(struct slm2_gguf *g);
const char *slm2_gguf_type_name(enum slm2_gguf_type t);

/* Keys.  A missing key or a value of another kind is SLM2_EFORMAT with file and key in the message.  Any integer type serves for
 * _u64 and _i64 when the value fits, any float type for _f32.  The *_or forms give def when the key is absent. */
const struct slm2_gguf_kv *slm2_gguf_find(const struct slm2_gguf *g, const char *key); /* NULL when absent */
slm2_status slm2_gguf_get_u64(const struct slm2_gguf *g, const char *key, uint64_t max, uint64_t *out, struct slm2_err *err);
slm2_status slm2_gguf_get_u64_or(const struct slm2_gguf *g, const char *key, uint64_t max, uint64_t def, uint64_t *out, struct slm2_err *err);
slm2_status slm2_gguf_get_f32(const struct slm2_gguf *g, const char *key, float *out, struct slm2_err *err);
slm2_status slm2_gguf_get_f32_or(const struct slm2_gguf *g, const char *key, float def, float *out, struct slm2_err *err);
slm2_status slm2_gguf_get_bool_or(const struct slm2_gguf *g, const char *key, bool def, bool *out, struct slm2_err *err);
/* *out is borrowed from the file and NOT NUL-terminated. */
slm2_status slm2_gguf_get_str(const struct slm2_gguf *g, const char *key, const char **out, size_t *n, struct slm2_err *err);

/* An array of strings, walked without allocation:
 *     struct slm2_gguf_strs it;
 *     SLM2_TRY(slm2_gguf_get_strs(g, "tokenizer.ggml.tokens", &it, err));
 *     while (slm2_gguf_strs_next(&it, &s, &n)) ...
 * The whole array was checked at open, so the walk cannot fail. */
struct slm2_gguf_strs { const uint8_t *at; uint64_t left; };
slm2_status slm2_gguf_get_strs(const struct slm2_gguf *g, const char *key, struct slm2_gguf_strs *it, struct slm2_err *err); /* it.left = count */
bool slm2_gguf_strs_next(struct slm2_gguf_strs *it, const char **s, size_t *n);
/* Arrays of numbers: *p is borrowed, unaligned little-endian; read elements with slm2_gguf_i32_at. */
slm2_status slm2_gguf_get_i32s(const struct slm2_gguf *g, const char *key, const uint8_t **p, uint64_t *n, struct slm2_err *err);
slm2_status slm2_gguf_get_f32s(const struct slm2_gguf *g, const char *key, const uint8_t **p, uint64_t *n, struct slm2_err *err);
int32_t slm2_gguf_i32_at(const uint8_t *p, uint64_t i);
float slm2_gguf_f32_at(const uint8_t *p, uint64_t i);

/* Writer: keys, then tensors, then save.  Put functions remember the first failure (out of memory, duplicate key) until save. */
struct slm2_gguf_writer;
slm2_status slm2_gguf_writer_new(struct slm2_gguf_writer **w, struct slm2_err *err);
void slm2_gguf_writer_free(struct slm2_gguf_writer *w);
void slm2_gguf_put_u32(struct slm2_gguf_writer *w, const char *key, uint32_t v);
void slm2_gguf_put_f32(struct slm2_gguf_writer *w, const char *key, float v);
void slm2_gguf_put_bool(struct slm2_gguf_writer *w, const char *key, bool v);
void slm2_gguf_put_str(struct slm2_gguf_writer *w, const char *key, const char *s);
void slm2_gguf_put_strn(struct slm2_gguf_writer *w, const char *key, const char *s, size_t n);
void slm2_gguf_put_strs(struct slm2_gguf_writer *w, const char *key, const char *const *s, const size_t *len, uint64_t n); /* len NULL: NUL-terminated */
void slm2_gguf_put_i32s(struct slm2_gguf_writer *w, const char *key, const int32_t *v, uint64_t n);
void slm2_gguf_put_f32s(struct slm2_gguf_writer *w, const char *key, const float *v, uint64_t n);
void slm2_gguf_put_kv(struct slm2_gguf_writer *w, const struct slm2_gguf_kv *kv); /* a key of another file, as it is; general.alignment is left out */
/* t is copied, its name too; data, or fill and user, are borrowed until save. */
void slm2_gguf_add_tensor(struct slm2_gguf_writer *w, const struct slm2_tensor *t);
slm2_status slm2_gguf_writer_save(struct slm2_gguf_writer *w, const char *path, struct slm2_err *err); /* streaming, whole or not at all */
#endif
