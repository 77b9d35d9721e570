/* file.h - map, read whole, read lines (plain, .gz, .zst), write then rename, folders, SHA-256. */
#ifndef SLM2_BASE_FILE_H
#define SLM2_BASE_FILE_H
#include "base/buf.h"

struct slm2_map { const uint8_t *p; size_t n; };
slm2_status slm2_map_open(struct slm2_map *m, const char *path, struct slm2_err *err); /* read-only; an empty file is {"", 0} */
void slm2_map_close(struct slm2_map *m);
/* Bytes of a map that have been read for the last time: whole pages of them no longer count as memory of the process.  Reading them again reads the file. */
void slm2_map_forget(const void *p, size_t n);

slm2_status slm2_file_read(struct slm2_buf *out, const char *path, size_t max_bytes, struct slm2_err *err); /* appends */
bool slm2_path_exists(const char *path);
bool slm2_path_is_dir(const char *path);
/* out[cap] receives "dir/name"; SLM2_ELIMIT when it does not fit. */
slm2_status slm2_path_join(char *out, size_t cap, const char *dir, const char *name, struct slm2_err *err);
/* out[cap] receives the folder that a file lies in: "a/b" -> "a", "/b" -> "/", "b" -> ".". */
slm2_status slm2_path_folder(char *out, size_t cap, const char *path, struct slm2_err *err);
/* The folder of a model: path itself, or the folder that the file lies in. */
slm2_status slm2_path_home(char *out, size_t cap, const char *path, struct slm2_err *err);
bool slm2_path_ends(const char *path, const char *end); /* by its last letters: ".gguf" */
slm2_status slm2_dir_make(const char *path, struct slm2_err *err);   /* with parents; fine when it exists */
slm2_status slm2_dir_remove(const char *path, struct slm2_err *err); /* a folder and all in it; fine when absent */
slm2_status slm2_dir_sync(const char *path, struct slm2_err *err);   /* fsync of the folder itself */

/* A file that appears whole or not at all: bytes go to "path.tmp", commit fsyncs, renames and fsyncs the folder. */
struct slm2_out;
slm2_status slm2_out_open(struct slm2_out **o, const char *path, struct slm2_err *err);
void slm2_out_write(struct slm2_out *o, const void *bytes, size_t n); /* the first failure is kept until commit */
/* From now on also hashes what is written; call before the first write. */
void slm2_out_hash(struct slm2_out *o);
void slm2_out_sha256(struct slm2_out *o, char hex[65]); /* of all bytes, once, behind the last write */
size_t slm2_out_size(const struct slm2_out *o);                       /* bytes written so far */
slm2_status slm2_out_commit(struct slm2_out *o, struct slm2_err *err); /* frees o whatever the result */
void slm2_out_abort(struct slm2_out *o);                               /* removes path.tmp; NULL allowed */
slm2_status slm2_file_write(const char *path, const void *bytes, size_t n, struct slm2_err *err); /* whole, atomically */
slm2_status slm2_file_copy(const char *from_dir, const char *to_dir, const char *name, bool required, struct slm2_err *err); /* likewise; not required: fine when absent */

/* Lines of a text file, decompressed by content (gzip and zstd magic), without their '\n'.  A last line without newline counts. */
struct slm2_lines;
slm2_status slm2_lines_open(struct slm2_lines **l, const char *path, struct slm2_err *err);
/* *line is NULL at the end; else [*n] bytes, valid until the next call.  Lines over max_line_bytes fail with SLM2_ELIMIT;
 * the rest of such a line is skipped and the next call goes on behind it. A truncated or damaged stream is SLM2_EFORMAT and ends the file. */
slm2_status slm2_lines_next(struct slm2_lines *l, const char **line, size_t *n, struct slm2_err *err);
/* What comes next, not taken: *n bytes of *text, at least one before the end, valid until the next call. */
slm2_status slm2_lines_peek(struct slm2_lines *l, const char **text, size_t *n, struct slm2_err *err);
/* Appends the next n bytes of the text, line breaks included, to out (NULL: passes over them); fewer only at its end.  They do not count
 * as lines. */
slm2_status slm2_lines_read(struct slm2_lines *l, struct slm2_buf *out, size_t n, struct slm2_err *err);
uint64_t slm2_lines_number(const struct slm2_lines *l); /* of the last line returned, from 1 */
double slm2_lines_fraction(const struct slm2_lines *l); /* of the file's bytes consumed, for progress */
void slm2_lines_limit(struct slm2_lines *l, size_t max_line_bytes); /* default 64 MiB */
void slm2_lines_close(struct slm2_lines *l);

/* SHA-256 as 64 hex digits and a NUL. */
void slm2_sha256_hex(const void *p, size_t n, char hex[65]);
slm2_status slm2_sha256_file(const char *path, char hex[65], struct slm2_err *err);
#endif
