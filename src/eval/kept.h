/* kept.h - answers of a model on disk as they come, so that an evaluation that was stopped or killed goes on where it stood.
 *
 * A journal (base/journal.h) for each (task, key): DIR/TASK-HASH.jsonl, where HASH begins the SHA-256 of the key, and the key says what computes:
 * the model's own hash and every setting that can change a bit.  Its first record is {"key": {...}}, every other {"answers": {ID: answer, ...}}, those of
 * one pass.  ID is a hash of what was asked, token by token: a changed task, prompt, tokenizer or number of examples finds nothing, and what
 * stayed the same is found. */
#ifndef SLM2_EVAL_KEPT_H
#define SLM2_EVAL_KEPT_H
#include "base/journal.h"

struct slm2_kept;
enum { SLM2_KEPT_ID = 33 }; /* 32 hex digits and a NUL */

/* Makes dir and file where they are missing.  SLM2_EFORMAT: the file's key is another one.  SLM2_EIO: another process has it. */
slm2_status slm2_kept_open(struct slm2_kept **k, const char *dir, const char *task, const json_t *key, struct slm2_err *err);
void slm2_kept_close(struct slm2_kept *k); /* what was not synced is lost; NULL allowed */
const json_t *slm2_kept_find(const struct slm2_kept *k, const char *id); /* borrowed; NULL: not yet answered */
slm2_status slm2_kept_put(struct slm2_kept *k, const char *id, json_t *answer, struct slm2_err *err); /* takes answer */
slm2_status slm2_kept_sync(struct slm2_kept *k, struct slm2_err *err); /* what was put is on the disk */

/* ID of a request: what is done with it, and two lists of tokens. */
void slm2_kept_id(char id[SLM2_KEPT_ID], const char *kind, const int32_t *context, size_t n_context, const int32_t *continuation, size_t n_continuation);
#endif
