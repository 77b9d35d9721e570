/* json.h - Jansson with our limits and our errors. */
#ifndef SLM2_BASE_JSON_H
#define SLM2_BASE_JSON_H
#include "base/buf.h"
#include <jansson.h>

/* Parses one JSON value; trailing bytes, duplicate keys and invalid UTF-8 are errors.  what: file (and line) for messages.
 * Strings may contain \u0000.  *out is owned by the caller (json_decref). */
slm2_status slm2_json_parse(json_t **out, const char *text, size_t n, const char *what, struct slm2_err *err);
slm2_status slm2_json_read(json_t **out, const char *path, size_t max_bytes, struct slm2_err *err);
slm2_status slm2_json_write(const json_t *j, const char *path, struct slm2_err *err); /* indented, keys in order of insertion, atomically */
void slm2_json_dump(const json_t *j, struct slm2_buf *out); /* compact, one line, no newline */

/* Bytes as text that JSON can hold: each byte that is not UTF-8 becomes U+FFFD, all else stays, also NUL.  Appended; or a JSON string, NULL without memory. */
void slm2_utf8_clean(const char *text, size_t n, struct slm2_buf *out);
json_t *slm2_json_text(const char *text, size_t n);
json_t *slm2_json_real(double v, const char *otherwise); /* infinities and NaN, which JSON lacks, are the text, or null for NULL */

/* Members of an object, checked.  "what: key: missing / is a string, want an integer in [lo, hi]".  *_or give a default when absent or null. */
slm2_status slm2_json_get_str(const json_t *obj, const char *key, const char *what, const char **out, struct slm2_err *err); /* borrowed */
slm2_status slm2_json_get_int(const json_t *obj, const char *key, const char *what, int64_t lo, int64_t hi, int64_t *out, struct slm2_err *err);
slm2_status slm2_json_get_int_or(const json_t *obj, const char *key, const char *what, int64_t lo, int64_t hi, int64_t def, int64_t *out, struct slm2_err *err);
slm2_status slm2_json_get_real_or(const json_t *obj, const char *key, const char *what, double def, double *out, struct slm2_err *err);
slm2_status slm2_json_get_bool_or(const json_t *obj, const char *key, const char *what, bool def, bool *out, struct slm2_err *err);
const char *slm2_json_str(const json_t *obj, const char *key); /* of a member; borrowed; "" when it is absent or no string */
/* For tables and pages, where what is absent is shown so: NaN, "?" (borrowed). */
double slm2_json_show_number(const json_t *obj, const char *key);
const char *slm2_json_show_text(const json_t *obj, const char *key);
#endif
