/* warc.h - the header of a WARC record (ISO 28500): a version line "WARC/1.0", "Name: value" lines, an empty line; each ends with CR LF.
 * A block of Content-Length bytes and two line ends follow. */
#ifndef SLM2_DATA_WARC_H
#define SLM2_DATA_WARC_H
#include "base/err.h"

struct slm2_warc_field { const char *at; size_t n; }; /* a value, without space around it; {NULL, 0}: not there */
struct slm2_warc_head {
    struct slm2_warc_field type, length, id, uri, language; /* WARC-Type, Content-Length, WARC-Record-ID, WARC-Target-URI,
                                                               WARC-Identified-Content-Language */
    uint64_t content_length;
};
/* Reads text[0..n): whole lines up to and with the empty one.  False: no such header, or no usable Content-Length. */
bool slm2_warc_head_parse(struct slm2_warc_head *h, const char *text, size_t n);
bool slm2_warc_is_version(const char *line, size_t n); /* begins with "WARC/" and a digit */
bool slm2_warc_is(struct slm2_warc_field f, const char *value); /* case does not count */
/* The first language of a list of ISO 639-3 codes, "deu,eng": its two-letter code where we know it, else as it stands.  out[8]; "" for
 * none. */
void slm2_warc_language(struct slm2_warc_field f, char out[8]);
#endif
