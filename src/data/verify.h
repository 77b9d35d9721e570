/* verify.h - whether the files of a built folder are what its manifest says.
 *
 * DIR/verified.json remembers for each file in which state (size, time of last change in ns, inode) its SHA-256 was last found right.  A file
 * in that very state is not hashed again.  So a change, a copy or a repair is noticed by every check, and bits that fall over on the disk
 * only by the full one. */
#ifndef SLM2_DATA_VERIFY_H
#define SLM2_DATA_VERIFY_H
#include "base/json.h"

/* Everything anew: hashes, sizes, indices, token ids, on n_threads (0: one per core).  SLM2_EFORMAT names the first file that is wrong. */
slm2_status slm2_dataset_verify(const char *dir, int n_threads, struct slm2_err *err);
/* What training does for a source before it reads it: hashes of its token files, unless verified.json has them in their present state. */
slm2_status slm2_dataset_check(const char *dir, const char *source, struct slm2_err *err);

/* For the build, which has hashed what it wrote.  outputs: [{file, bytes, sha256}] of a source. */
void slm2_verified_add(json_t *verified, const char *dir, const json_t *outputs);
json_t *slm2_verified_read(const char *dir);                     /* {} when there is none */
void slm2_verified_write(const json_t *verified, const char *dir); /* a folder that cannot be written is a warning: then files are hashed each time */
#endif
