/* corpus.h - documents out of text files: JSONL, one {"text", "source", "lang", "license", "kind"} a line, or a plain text file that
 * is one document; each plain, .gz or .zst.  Every line gets a verdict; nothing in a line can stop the reader. */
#ifndef SLM2_DATA_CORPUS_H
#define SLM2_DATA_CORPUS_H
#include <jansson.h>

#include "base/file.h"

enum slm2_verdict {
    SLM2_LINE_OK,
    SLM2_LINE_BLANK,        /* nothing but white space: "empty_line" */
    SLM2_LINE_EMPTY,        /* a record whose text is nothing but white space: "empty" */
    SLM2_LINE_INVALID_UTF8, /* bytes that are not UTF-8 (RFC 3629: no surrogates, no overlong forms) */
    SLM2_LINE_INVALID_JSON, /* not one JSON value, nested too deep, or an object with a key twice */
    SLM2_LINE_NO_TEXT,      /* JSON, but no object with a string "text" */
    SLM2_LINE_TOO_LONG,     /* more bytes than max_line_bytes */
    SLM2_N_VERDICT,
};
const char *slm2_verdict_name(enum slm2_verdict v); /* "ok", "empty_line", "empty", "invalid_utf8", ... */
/* BLANK and EMPTY hold nothing and are merely counted; the others are bad lines. */
static inline bool slm2_verdict_is_bad(enum slm2_verdict v) { return v >= SLM2_LINE_INVALID_UTF8; }

enum slm2_corpus_form { SLM2_CORPUS_AUTO, SLM2_CORPUS_JSONL, SLM2_CORPUS_TEXT }; /* AUTO: by name; .txt .md (.gz .zst) are text */

struct slm2_doc {
    enum slm2_verdict verdict;
    const char *reason;                            /* why not OK; "" when OK */
    uint64_t line;                                 /* in the file, from 1 */
    const char *text;                              /* [n] bytes, may hold NUL; NULL unless OK */
    size_t n;
    const char *source, *lang, *license, *kind;    /* NULL when absent or no string */
};                                                 /* all valid until the next call */

struct slm2_corpus;
slm2_status slm2_corpus_open(struct slm2_corpus **c, const char *path, enum slm2_corpus_form form, size_t max_line_bytes, struct slm2_err *err);
/* *more false at the end of the file, else *doc is the next line.  Fails only when the file cannot be read or decompressed. */
slm2_status slm2_corpus_next(struct slm2_corpus *c, struct slm2_doc *doc, bool *more, struct slm2_err *err);
double slm2_corpus_fraction(const struct slm2_corpus *c);
void slm2_corpus_close(struct slm2_corpus *c);

/* The verdict on one line; *root owns what doc points into (json_decref; NULL unless OK).  first: a byte-order mark is skipped. */

void slm2_corpus_line(const char *line, size_t n, bool first, struct slm2_doc *doc, json_t **root);
#endif
