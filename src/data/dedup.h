/* dedup.h - the set of texts that came before, by hash.  32 bytes or more a text, in a file that the kernel may page out. */
#ifndef SLM2_DATA_DEDUP_H
#define SLM2_DATA_DEDUP_H
#include "base/buf.h"
#include "base/scratch.h"

struct slm2_text_key { uint64_t a, b; }; /* upper half of the SHA-256 of the NFC text; never 0, 0 */
/* nfc: working memory, kept for the next call. */
slm2_status slm2_text_key(const char *text, size_t n, struct slm2_buf *nfc, struct slm2_text_key *k, struct slm2_err *err);

struct slm2_text_key slm2_bytes_key(const void *bytes, size_t n); /* of the bytes as they are */

struct slm2_seen {
    struct slm2_scratch table; /* struct slm2_text_key [cap], a power of two; open addressing */
    size_t n, cap;
    const char *dir; /* borrowed */
};
slm2_status slm2_seen_open(struct slm2_seen *s, const char *dir, struct slm2_err *err); /* dir: where the table's file lies; NULL: memory */
bool slm2_seen_has(const struct slm2_seen *s, struct slm2_text_key k);                  /* threads: any, while nobody adds */
slm2_status slm2_seen_add(struct slm2_seen *s, struct slm2_text_key k, struct slm2_err *err); /* fine when it is there */
void slm2_seen_close(struct slm2_seen *s);
#endif
