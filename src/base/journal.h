/* journal.h - a file of JSON lines that grows record by record.  A record is on the disk when its call returns; what a kill left half written at
 * the end is taken away when the file is opened again. */
#ifndef SLM2_BASE_JOURNAL_H
#define SLM2_BASE_JOURNAL_H
#include <jansson.h>

#include "base/err.h"

struct slm2_journal;
/* Opens path for appending, made where absent, and gives every record that is there to *records (a new array, or NULL: not wanted).  A line that is no JSON
 * object is SLM2_EFORMAT, except an unfinished last one.  A file that another process has open is SLM2_EIO. */
slm2_status slm2_journal_open(struct slm2_journal **j, const char *path, json_t **records, struct slm2_err *err);
/* One thread at a time.  A record that fails (a full disk) leaves nothing behind: later ones may be put. */
slm2_status slm2_journal_put(struct slm2_journal *j, const json_t *record, struct slm2_err *err);
void slm2_journal_close(struct slm2_journal *j); /* NULL allowed */

/* The records of such a file, read only; *records is an array. */
slm2_status slm2_journal_read(const char *path, json_t **records, struct slm2_err *err);
/* The same file with these records (an array of objects), whole or not at all. */
slm2_status slm2_journal_rewrite(const char *path, const json_t *records, struct slm2_err *err);
#endif
