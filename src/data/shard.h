/* shard.h - token files in GPT-NeoX / Megatron form (MMapIndexedDataset): PREFIX.bin holds tokens, PREFIX.idx says where they lie.
 *
 * .bin: the tokens of all sequences, one after the other, little-endian.
 * .idx, little-endian, no padding:
 *     9 bytes  magic "MMIDIDX\0\0"
 *     u64      version, 1
 *     u8       type of the tokens: 4 = int32, 8 = uint16 (others exist and are refused)
 *     u64      n_seq
 *     u64      entries of doc_idx = documents + 1
 *     i32      sizes[n_seq]      tokens of each sequence
 *     i64      pointers[n_seq]   byte offset of each sequence in .bin: the sum of what lies before it
 *     i64      doc_idx[documents + 1]   first sequence of each document; 0 first, n_seq last, never falling
 * Here a document is one sequence and ends with EOS.  Limits: 2^31 - 1 tokens a sequence, 2^32 - 1 documents a file. */
#ifndef SLM2_DATA_SHARD_H
#define SLM2_DATA_SHARD_H
#include "base/file.h"

enum slm2_shard_type { SLM2_SHARD_I32 = 4, SLM2_SHARD_U16 = 8 };

struct slm2_shard {
    struct slm2_map bin, idx;
    enum slm2_shard_type type;
    size_t token_bytes;             /* 4 or 2 */
    int64_t n_seq, n_doc, n_tok;
    const uint8_t *sizes, *pointers, *doc_idx; /* in idx, unaligned: read through the functions below */
};

/* Maps PREFIX.bin and PREFIX.idx and checks every number of the index: the form above holds exactly, both files have just the
 * size that it says.  Reads the index once, the tokens not at all.  s is zeroed first; after a failure it is empty. */
slm2_status slm2_shard_open(struct slm2_shard *s, const char *prefix, struct slm2_err *err);
/* The same on bytes that the caller keeps (idx[n_idx] and a .bin of bin[n_bin]): for tests and fuzzing. */
slm2_status slm2_shard_parse(struct slm2_shard *s, const void *idx, size_t n_idx, const void *bin, size_t n_bin, const char *what, struct slm2_err *err);
void slm2_shard_close(struct slm2_shard *s); /* accepts NULL and empty */

int32_t slm2_shard_size(const struct slm2_shard *s, int64_t seq);        /* tokens of a sequence, 0 <= seq < n_seq */
int64_t slm2_shard_start(const struct slm2_shard *s, int64_t seq);       /* its first token, counted over the file */
int64_t slm2_shard_doc(const struct slm2_shard *s, int64_t doc);         /* first sequence of a document, 0 <= doc <= n_doc */
/* Tokens at .. at + n of the file, 0 <= at, at + n <= n_tok, into out[n].  Ids are as they lie there: check them against the
 * vocabulary before use (slm2_mix_row does). */
void slm2_shard_read(const struct slm2_shard *s, int64_t at, int64_t n, int32_t *out);

/* Writer: one document after the other; both files appear at commit, the index last, or not at all. */
struct slm2_shard_out;
slm2_status slm2_shard_out_open(struct slm2_shard_out **w, const char *prefix, enum slm2_shard_type type, struct slm2_err *err);
/* Appends one document of ids[n].  SLM2_ELIMIT when an id does not fit the type or a limit above is reached. */
slm2_status slm2_shard_out_add(struct slm2_shard_out *w, const int32_t *ids, size_t n, struct slm2_err *err);
void slm2_shard_out_sha256(struct slm2_shard_out *w, char hex[65]); /* of .bin: once, behind the last document */
slm2_status slm2_shard_out_commit(struct slm2_shard_out *w, struct slm2_err *err); /* frees w whatever the result */
void slm2_shard_out_abort(struct slm2_shard_out *w);                              /* NULL allowed */
#endif
