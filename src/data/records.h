/* records.h - what the readers of fine-tuning records share: lines of JSON objects, and sequences with a mask. */
#ifndef SLM2_DATA_RECORDS_H
#define SLM2_DATA_RECORDS_H
#include <jansson.h>

#include "model/batch.h"
#include "tok/chat.h"

/* Takes one record.  SLM2_EFORMAT: the record is bad and nothing was taken; other failures end the reading. */
typedef slm2_status slm2_record_fn(void *user, json_t *j, const char *what, struct slm2_err *err);
/* Every line of the file (JSONL; plain, .gz, .zst), or every member of its JSON array, to fn; blank lines are passed over.  Memory is that of one
 * record, whatever the file's size.  A bad line or record counts in *n_bad, or is an error when bad_is_fatal; where some were only counted,
 * *err tells why the first one is bad though the result is SLM2_OK.  An array that is cut off is always an error, and so is Parquet, with
 * the command that turns it into lines.  max_line_bytes, of a line or a member, 0: 64 MiB.  Draws a progress bar. */
slm2_status slm2_records_read(const char *path, size_t max_line_bytes, bool bad_is_fatal, slm2_record_fn *fn, void *user, int64_t *n_bad, struct slm2_err *err);

slm2_status slm2_records_template(const char *name, enum slm2_chat_template *tmpl, struct slm2_err *err); /* "zephyr", "chatml" */

/* Appends ids[0 .. n - 1) as one sequence, n >= 2; ids[i + 1] is the target of place i where mask[i + 1], weighing `weight`. */
slm2_status slm2_records_add(struct slm2_batch *b, const int32_t *ids, const uint8_t *mask, int n, float weight, struct slm2_err *err);
#endif
