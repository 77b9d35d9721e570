/* tensors.h - a directory of named tensors: name, type, shape, bytes.  Knows files, not models.
 *
 * A reader (safetensors.h, gguf.h) fills a struct slm2_tensors whose data pointers lie in read-only maps that it owns: nothing
 * is copied, so pages are read when they are touched.  data is NOT aligned for its type in general (a foreign safetensors file
 * may put an F32 tensor at any byte): use memcpy, unaligned loads, or slm2_tensor_aligned to ask.
 * Threads: a filled directory is never changed and may be read by several. */
#ifndef SLM2_IO_TENSORS_H
#define SLM2_IO_TENSORS_H
#include <jansson.h>

#include "base/dtype.h"
#include "base/file.h"

#define SLM2_MAX_DIM 4
#define SLM2_MAX_TENSORS (1 << 20) /* of a file; more is refused */
#define SLM2_MAX_TENSOR_NAME 1024  /* bytes */

/* Writes exactly the tensor's bytes, in order, in as many slm2_out_write calls as it likes.  Only writers call it. */
struct slm2_tensor;
typedef slm2_status slm2_tensor_fill(void *user, const struct slm2_tensor *t, struct slm2_out *o, struct slm2_err *err);

struct slm2_tensor {
    char *name;
    enum slm2_dtype dtype;       /* SLM2_N_DTYPE: a type that files know and this program does not compute with */
    const char *type_name;       /* "F32", "Q4_K": as the file calls it; static */
    int n_dim;                   /* 0 (one element) to 4 */
    int64_t dim[SLM2_MAX_DIM];   /* row-major, outermost first; dimensions past n_dim are 1 */
    const void *data;            /* little-endian elements */
    size_t bytes;
    slm2_tensor_fill *fill;      /* writers: makes the bytes when data is NULL */
    void *user;                  /* for fill */
};

struct slm2_tensors {
    struct slm2_tensor *v; /* [n] in the order of the file; names owned */
    int n;
    const struct slm2_tensor **by_name; /* [n] into v, sorted by name */
    struct slm2_map *maps; /* [n_map] files that data points into */
    int n_map;
    json_t *metadata;      /* safetensors' __metadata__ (object of strings) or NULL */
};

/* The tensor of that name, NULL when there is none.  Binary search. */
const struct slm2_tensor *slm2_tensors_find(const struct slm2_tensors *ts, const char *name);
/* The same, where absence or a type that this program cannot use is an error that names file (what) and tensor. */
slm2_status slm2_tensors_get(const struct slm2_tensors *ts, const char *name, const char *what, const struct slm2_tensor **out, struct slm2_err *err);
void slm2_tensors_free(struct slm2_tensors *ts); /* unmaps; accepts NULL and half-built; leaves ts zeroed */

size_t slm2_tensor_n_elems(const struct slm2_tensor *t);
bool slm2_tensor_aligned(const struct slm2_tensor *t); /* data may be read through a pointer to its element type */
void slm2_tensor_shape(const struct slm2_tensor *t, char out[96]); /* "[512, 64]" */
/* A tensor to be written: sets dtype, shape and bytes; name and data are borrowed.  Fails when a row is not whole blocks. */
slm2_status slm2_tensor_init(struct slm2_tensor *t, const char *name, enum slm2_dtype dtype, int n_dim, const int64_t *dim, const void *data,
                             struct slm2_err *err);
/* For readers, after v is complete: builds by_name; duplicate names are SLM2_EFORMAT. */
slm2_status slm2_tensors_index(struct slm2_tensors *ts, const char *what, struct slm2_err *err);
/* For readers: *n_elems = product of dim[n_dim]; false when it overflows. */
bool slm2_dims_product(const int64_t *dim, int n_dim, size_t *n_elems);
/* For writers: data or fill into o, checked to be t->bytes long. */
slm2_status slm2_tensor_emit(const struct slm2_tensor *t, struct slm2_out *o, struct slm2_err *err);
#endif
