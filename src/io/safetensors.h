/* safetensors.h - reads and writes safetensors: one file, or shards with their index.
 *
 * Form: u64 header length, JSON header {name: {dtype, shape, data_offsets}}, then the data, which the tensors cover without
 * holes or overlaps.  All of that is checked: header length (at most 100 MB), JSON, duplicate names, dtype, shape, offsets in
 * the file and shape x element size = range.  Types other than F32 F16 BF16 I32 I64 U8 are listed but have dtype SLM2_N_DTYPE.
 * Tensors are not aligned in general (see tensors.h). */
#ifndef SLM2_IO_SAFETENSORS_H
#define SLM2_IO_SAFETENSORS_H
#include "io/tensors.h"

/* path: a .safetensors file, an index.json, or a folder with model.safetensors or model.safetensors.index.json (looked for in
 * that order).  Everything is mapped, nothing copied.  A shard must hold exactly the tensors that the index places in it.
 * ts is zeroed first; on failure it is left empty. */
slm2_status slm2_safetensors_open(struct slm2_tensors *ts, const char *path, struct slm2_err *err);
/* The same from memory: p[0..n) is borrowed and must outlive ts. */
slm2_status slm2_safetensors_parse(struct slm2_tensors *ts, const void *p, size_t n, const char *what, struct slm2_err *err);

/* Writes v[n] in the given order, streaming, whole or not at all.  metadata: object of strings, NULL for {"format":"pt"}.
 * Quantised types have no safetensors name and are refused. */
slm2_status slm2_safetensors_write(const char *path, const struct slm2_tensor *v, int n, const json_t *metadata, struct slm2_err *err);
/* Writes dir/model.safetensors, or, when the data exceeds max_shard_bytes (0: no limit), model-0000k-of-0000n.safetensors and
 * model.safetensors.index.json.  The index comes last; what an earlier write of the other form left is removed. */
slm2_status slm2_safetensors_write_sharded(const char *dir, const struct slm2_tensor *v, int n, size_t max_shard_bytes, struct slm2_err *err);
#endif
