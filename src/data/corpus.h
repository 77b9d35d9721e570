/* corpus.h - documents out of files: JSONL, one object a line; a text file that is one document; WARC with extracted text (Common Crawl's
 * WET files: records of type "conversion").  Each plain, .gz (also many members, one behind the other) or .zst.
 *
 * Reading cuts a file into raw pieces, one after the other; judging makes a document of a piece, or says why it is none, and may run on
 * any thread.  Every piece gets a verdict; nothing inside one can stop the reader. */
#ifndef SLM2_DATA_CORPUS_H
#define SLM2_DATA_CORPUS_H
#include <jansson.h>

#include "base/file.h"

enum slm2_verdict {
    SLM2_LINE_OK,
    SLM2_LINE_BLANK,        /* nothing but white space: "empty_line" */
    SLM2_LINE_EMPTY,        /* a record whose text is nothing but white space: "empty" */
    SLM2_LINE_OTHER,        /* a WARC record that holds no extracted text: "other_record" */
    SLM2_LINE_INVALID_UTF8, /* bytes that are not UTF-8 (RFC 3629: no surrogates, no overlong forms) */
    SLM2_LINE_INVALID_JSON, /* not one JSON value, nested too deep, or an object with a key twice */
    SLM2_LINE_NO_TEXT,      /* JSON, but no object with a string at the text field */
    SLM2_LINE_TOO_LONG,     /* more bytes than max_line_bytes */
    SLM2_LINE_BAD_RECORD,   /* no WARC record where one should begin, or one without its header or its end: "bad_record" */
    SLM2_N_VERDICT,
};
const char *slm2_verdict_name(enum slm2_verdict v); /* "ok", "empty_line", "empty", "invalid_utf8", ... */
/* BLANK, EMPTY and OTHER hold nothing and are merely counted; the others are bad lines. */
static inline bool slm2_verdict_is_bad(enum slm2_verdict v) { return v >= SLM2_LINE_INVALID_UTF8; }

/* AUTO: by name; .txt .md (.gz .zst) are text, .wet .warc (.gz .zst) are WET */
enum slm2_corpus_form { SLM2_CORPUS_AUTO, SLM2_CORPUS_JSONL, SLM2_CORPUS_TEXT, SLM2_CORPUS_WET };

/* Where a JSON object says what: keys, or paths such as "meta.language".  A key with that very name comes first. */
struct slm2_fields { const char *text, *id, *lang, *license; };
extern const struct slm2_fields slm2_fields_default; /* "text", "id", "lang", "license" */

struct slm2_raw { /* a piece of a file */
    enum slm2_corpus_form form;    /* never AUTO */
    enum slm2_verdict verdict;     /* OK: to be judged; TOO_LONG and BAD_RECORD are settled, bytes is NULL */
    uint64_t line;                 /* of the file, from 1; of WET: the record's number */
    const char *bytes;             /* [n] */
    size_t n;
};
struct slm2_doc {
    enum slm2_verdict verdict;
    const char *reason;                            /* why not OK; "" when OK */
    uint64_t line;                                 /* as above */
    const char *text;                              /* [n] bytes, may hold NUL; NULL unless OK */
    size_t n;
    const char *id, *lang, *license;               /* NULL when absent or no string */
};

/* The verdict on a piece.  What doc points to lies in raw->bytes and in *root (json_decref; may be NULL).  f NULL: the default. */
void slm2_corpus_judge(const struct slm2_raw *raw, const struct slm2_fields *f, struct slm2_doc *doc, json_t **root);

struct slm2_corpus;
slm2_status slm2_corpus_open(struct slm2_corpus **c, const char *path, enum slm2_corpus_form form, size_t max_line_bytes, struct slm2_err *err);
/* *more false at the end of the file, else *raw is the next piece, valid until the next call.  Fails only when the file cannot be read or
 * decompressed. */
slm2_status slm2_corpus_read(struct slm2_corpus *c, struct slm2_raw *raw, bool *more, struct slm2_err *err);
/* Reading and judging by the default fields in one; *doc is valid until the next call. */
slm2_status slm2_corpus_next(struct slm2_corpus *c, struct slm2_doc *doc, bool *more, struct slm2_err *err);
double slm2_corpus_fraction(const struct slm2_corpus *c);
void slm2_corpus_close(struct slm2_corpus *c);
#endif
