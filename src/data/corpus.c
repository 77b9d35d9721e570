/* corpus.c - files to pieces, pieces to documents: UTF-8 first, then JSON or the header of a record, then whether it is a document. */
#include "data/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "data/warc.h"
#include "tok/tok.h"

enum { DEFAULT_LINE_BYTES = 64 << 20, MAX_HEAD = 1 << 20, MAX_PATH_KEY = 256 };

const char *slm2_verdict_name(enum slm2_verdict v)
{
    static const char *const names[SLM2_N_VERDICT] = {"ok", "empty_line", "empty", "other_record", "invalid_utf8", "invalid_json", "no_text", "too_long", "bad_record"};
    return names[v];
}

/* ---- bytes -------------------------------------------------------------------------------------------------------------- */
static bool is_utf8(const char *text, size_t n)
{
    const uint8_t *s = (const uint8_t *)text;
    for (size_t i = 0; i < n;) {
        int32_t cp;
        if (s[i] < 0x80) {
            i++;
            continue;
        }
        i += slm2_utf8_next(s + i, n - i, &cp);
        if (cp < 0) return false;
    }
    return true;
}

static bool is_space(int32_t cp)
{
    if (cp == ' ' || (cp >= '\t' && cp <= '\r') || cp == 0x85) return true;
    if (cp < 0x80) return false;
    utf8proc_category_t c = utf8proc_category(cp);
    return c == UTF8PROC_CATEGORY_ZS || c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP;
}

/* Valid UTF-8 with nothing but white space in it. */
static bool is_blank(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        int32_t cp;
        i += slm2_utf8_next((const uint8_t *)text + i, n - i, &cp);
        if (!is_space(cp)) return false;
    }
    return true;
}

static bool is_json_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!strchr(" \t\r", line[i]) || !line[i]) return false;
    }
    return true;
}

/* ---- one piece ---------------------------------------------------------------------------------------------------------- */
const struct slm2_fields slm2_fields_default = {"text", "id", "lang", "license"};

static void judge(struct slm2_doc *doc, enum slm2_verdict v, const char *reason)
{
    doc->verdict = v;
    doc->reason = reason;
}

/* The member named path, or the one at the end of the dotted path; NULL when there is none. */
static const json_t *find_field(const json_t *obj, const char *path)
{
    const json_t *j = json_object_get(obj, path);
    if (j || !strchr(path, '.')) return j;
    for (j = obj; j && path; path = path ? path + 1 : NULL) {
        char key[MAX_PATH_KEY];
        size_t n = strcspn(path, ".");
        if (n >= sizeof key) return NULL;
        memcpy(key, path, n);
        key[n] = 0;
        j = json_object_get(j, key);
        path = strchr(path, '.');
    }
    return j;
}

static const char *string_or_null(const json_t *obj, const char *path)
{
    return json_string_value(find_field(obj, path)); /* NULL unless a string */
}

/* Of what a source may say instead: an empty text says nothing. */
static const char *filled_or_null(const json_t *obj, const char *path)
{
    const char *s = string_or_null(obj, path);
    return s && *s ? s : NULL;
}

static void take_text(struct slm2_doc *doc, const char *text, size_t n)
{
    if (is_blank(text, n)) {
        judge(doc, SLM2_LINE_EMPTY, "the text is empty or white space");
        return;
    }
    judge(doc, SLM2_LINE_OK, "");
    doc->text = text;
    doc->n = n;
}

static void judge_json(const char *line, size_t n, const struct slm2_fields *f, struct slm2_doc *doc, json_t **root)
{
    json_error_t why;
    if (is_json_blank(line, n)) {
        judge(doc, SLM2_LINE_BLANK, "empty line");
        return;
    }
    if (!is_utf8(line, n)) {
        judge(doc, SLM2_LINE_INVALID_UTF8, "bytes that are not UTF-8");
        return;
    }
    /* numbers of any size are JSON: they are read as reals, nobody here uses them */
    json_t *j = json_loadb(line, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY, &why);
    if (!j) {
        judge(doc, SLM2_LINE_INVALID_JSON, "not one JSON value");
        return;
    }
    const json_t *text = find_field(j, f->text);
    if (!json_is_object(j)) {
        judge(doc, SLM2_LINE_NO_TEXT, "JSON, but not an object");
    } else if (!text) {
        judge(doc, SLM2_LINE_NO_TEXT, "object without the text field");
    } else if (!json_is_string(text)) {
        judge(doc, SLM2_LINE_NO_TEXT, "the text field is not a string");
    } else {
        take_text(doc, json_string_value(text), json_string_length(text));
    }
    if (doc->verdict != SLM2_LINE_OK) {
        json_decref(j);
        return;
    }
    doc->id = string_or_null(j, f->id);
    doc->lang = filled_or_null(j, f->lang);
    doc->license = filled_or_null(j, f->license);
    *root = j;
}

/* Bytes of a record's header with its empty line; 0: it has no end. */
static size_t head_bytes(const char *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        const char *nl = memchr(p + at, '\n', n - at);
        if (!nl) return 0;
        size_t line = (size_t)(nl - (p + at));
        bool empty = line == 0 || (line == 1 && p[at] == '\r');
        at += line + 1;
        if (empty) return at;
    }
    return 0;
}

static void judge_record(const char *p, size_t n, struct slm2_doc *doc, json_t **root)
{
    struct slm2_warc_head h;
    char lang[8];
    size_t head = head_bytes(p, n);
    if (head == 0 || !slm2_warc_head_parse(&h, p, head)) {
        judge(doc, SLM2_LINE_BAD_RECORD, "no WARC header with WARC-Type and Content-Length");
    } else if (h.content_length != n - head) {
        judge(doc, SLM2_LINE_BAD_RECORD, "the record is shorter than its Content-Length");
    } else if (!slm2_warc_is(h.type, "conversion")) {
        judge(doc, SLM2_LINE_OTHER, "a record of another type than conversion");
    } else if (!is_utf8(p, n)) {
        judge(doc, SLM2_LINE_INVALID_UTF8, "bytes that are not UTF-8");
    } else {
        while (n > head && (p[n - 1] == '\n' || p[n - 1] == '\r')) n--;
        take_text(doc, p + head, n - head);
    }
    if (doc->verdict != SLM2_LINE_OK) return;
    struct slm2_warc_field id = h.uri.at ? h.uri : h.id;
    slm2_warc_language(h.language, lang);
    *root = json_object();
    if (id.at) json_object_set_new(*root, "id", json_stringn(id.at, id.n));
    if (*lang) json_object_set_new(*root, "lang", json_string(lang));
    doc->id = string_or_null(*root, "id");
    doc->lang = string_or_null(*root, "lang");
}

void slm2_corpus_judge(const struct slm2_raw *raw, const struct slm2_fields *f, struct slm2_doc *doc, json_t **root)
{
    const char *p = raw->bytes;
    size_t n = raw->n;
    *doc = (struct slm2_doc){.line = raw->line};
    *root = NULL;
    if (raw->verdict != SLM2_LINE_OK) {
        judge(doc, raw->verdict, raw->verdict == SLM2_LINE_TOO_LONG ? "more bytes than max_line_bytes" : "no WARC record begins here");
        return;
    }
    if (raw->form == SLM2_CORPUS_WET) {
        judge_record(p, n, doc, root);
        return;
    }
    if (raw->line == 1 && n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) { /* a byte-order mark */
        p += 3;
        n -= 3;
    }
    if (raw->form == SLM2_CORPUS_JSONL) {
        judge_json(p, n, f ? f : &slm2_fields_default, doc, root);
    } else if (!is_utf8(p, n)) {
        judge(doc, SLM2_LINE_INVALID_UTF8, "bytes that are not UTF-8");
    } else {
        take_text(doc, p, n);
    }
}

/* ---- a file ------------------------------------------------------------------------------------------------------------- */
struct slm2_corpus {
    struct slm2_lines *lines;
    enum slm2_corpus_form form;
    bool ended;
    size_t limit;
    uint64_t n_record;     /* of WET, so far */
    struct slm2_buf piece; /* a text file, a record */
    struct slm2_buf ahead; /* the version line of the next record, when looking for it has already read it */
    json_t *root;          /* of the last document of slm2_corpus_next */
};

static bool ends_with(const char *s, size_t n, const char *tail)
{
    size_t k = strlen(tail);
    return n >= k && memcmp(s + n - k, tail, k) == 0;
}

static enum slm2_corpus_form form_of_name(const char *path)
{
    size_t n = strlen(path);
    if (ends_with(path, n, ".gz")) n -= 3;
    if (ends_with(path, n, ".zst")) n -= 4;
    if (ends_with(path, n, ".txt") || ends_with(path, n, ".md")) return SLM2_CORPUS_TEXT;
    return ends_with(path, n, ".wet") || ends_with(path, n, ".warc") ? SLM2_CORPUS_WET : SLM2_CORPUS_JSONL;
}

slm2_status slm2_corpus_open(struct slm2_corpus **out, const char *path, enum slm2_corpus_form form, size_t max_line_bytes, struct slm2_err *err)
{
    *out = NULL;
    struct slm2_corpus *c = calloc(1, sizeof *c);
    if (!c) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", path);
    slm2_status st = slm2_lines_open(&c->lines, path, err);
    if (st != SLM2_OK) {
        free(c);
        return st;
    }
    c->limit = max_line_bytes ? max_line_bytes : DEFAULT_LINE_BYTES;
    slm2_lines_limit(c->lines, c->limit);
    c->form = form == SLM2_CORPUS_AUTO ? form_of_name(path) : form;
    *out = c;
    return SLM2_OK;
}

/* The whole file as one piece; the newline at its end is left out. */
static slm2_status read_whole(struct slm2_corpus *c, struct slm2_raw *raw, bool *more, struct slm2_err *err)
{
    const char *line;
    size_t n;
    bool too_long = false, first = true;
    *more = !c->ended;
    if (c->ended) return SLM2_OK;
    c->ended = true;
    for (;; first = false) {
        slm2_status st = slm2_lines_next(c->lines, &line, &n, err);
        if (st != SLM2_OK && st != SLM2_ELIMIT) return st;
        if (st == SLM2_OK && !line) break;
        if (!first) slm2_buf_putc(&c->piece, '\n');
        too_long = too_long || st == SLM2_ELIMIT || c->piece.n > c->limit || n > c->limit - c->piece.n; /* one '\n' may be over it */
        if (too_long) {
            slm2_buf_clear(&c->piece);
        } else {
            slm2_buf_put(&c->piece, line, n);
            SLM2_TRY(slm2_buf_check(&c->piece, err));
        }
    }
    raw->line = 1;
    raw->verdict = too_long ? SLM2_LINE_TOO_LONG : SLM2_LINE_OK;
    if (!too_long) {
        raw->bytes = c->piece.v ? c->piece.v : "";
        raw->n = c->piece.n;
    }
    return SLM2_OK;
}

static slm2_status read_line(struct slm2_corpus *c, struct slm2_raw *raw, bool *more, struct slm2_err *err)
{
    struct slm2_err why = {0};
    slm2_status st = slm2_lines_next(c->lines, &raw->bytes, &raw->n, &why);
    if (st != SLM2_OK && st != SLM2_ELIMIT) {
        if (err) *err = why;
        return st;
    }
    *more = st == SLM2_ELIMIT || raw->bytes;
    raw->line = slm2_lines_number(c->lines);
    raw->verdict = st == SLM2_ELIMIT ? SLM2_LINE_TOO_LONG : SLM2_LINE_OK;
    if (st == SLM2_ELIMIT) raw->bytes = NULL;
    return SLM2_OK;
}

/* The next line into c->piece with its '\n'; *ended at the end of the file.  A line over the limit is taken as empty. */
static slm2_status head_line(struct slm2_corpus *c, size_t *n, bool *ended, struct slm2_err *err)
{
    const char *line;
    slm2_status st = slm2_lines_next(c->lines, &line, n, err);
    if (st != SLM2_OK && st != SLM2_ELIMIT) return st;
    *ended = st == SLM2_OK && !line;
    if (*ended) return SLM2_OK;
    if (st == SLM2_ELIMIT) *n = 0;
    slm2_buf_put(&c->piece, line, *n);
    slm2_buf_putc(&c->piece, '\n');
    return slm2_buf_check(&c->piece, err);
}

/* Passes over what is no record, into c->ahead the version line of the next one. */
static slm2_status find_record(struct slm2_corpus *c, struct slm2_err *err)
{
    bool ended = false;
    slm2_buf_clear(&c->ahead);
    while (!ended) {
        size_t n;
        slm2_buf_clear(&c->piece);
        SLM2_TRY(head_line(c, &n, &ended, err));
        if (ended || !slm2_warc_is_version(c->piece.v, n)) continue;
        slm2_buf_put(&c->ahead, c->piece.v, c->piece.n);
        return slm2_buf_check(&c->ahead, err);
    }
    c->ended = true;
    return SLM2_OK;
}

static slm2_status read_record(struct slm2_corpus *c, struct slm2_raw *raw, bool *more, struct slm2_err *err)
{
    struct slm2_warc_head h;
    bool ended = c->ended, blank = false;
    size_t n = 0;
    slm2_buf_clear(&c->piece);
    slm2_buf_put(&c->piece, c->ahead.v, c->ahead.n);
    slm2_buf_clear(&c->ahead);
    while (c->piece.n == 0 && !ended) { /* empty lines stand between records */
        SLM2_TRY(head_line(c, &n, &ended, err));
        if (!ended && (n == 0 || (n == 1 && c->piece.v[0] == '\r'))) slm2_buf_clear(&c->piece);
    }
    *more = c->piece.n > 0;
    if (!*more) return SLM2_OK;
    raw->line = ++c->n_record;
    bool good = slm2_warc_is_version(c->piece.v, c->piece.n);
    while (good && !blank) {
        SLM2_TRY(head_line(c, &n, &ended, err));
        good = !ended && c->piece.n <= MAX_HEAD;
        blank = n == 0 || (n == 1 && c->piece.v[c->piece.n - 2] == '\r');
    }
    if (!good || !slm2_warc_head_parse(&h, c->piece.v, c->piece.n)) {
        raw->verdict = SLM2_LINE_BAD_RECORD;
        return ended ? SLM2_OK : find_record(c, err);
    }
    bool fits = h.content_length <= c->limit;
    SLM2_TRY(slm2_lines_read(c->lines, fits ? &c->piece : NULL, (size_t)h.content_length, err));
    raw->verdict = fits ? SLM2_LINE_OK : SLM2_LINE_TOO_LONG;
    if (fits) {
        raw->bytes = c->piece.v;
        raw->n = c->piece.n;
    }
    return SLM2_OK;
}

slm2_status slm2_corpus_read(struct slm2_corpus *c, struct slm2_raw *raw, bool *more, struct slm2_err *err)
{
    *more = false;
    *raw = (struct slm2_raw){.form = c->form};
    if (c->form == SLM2_CORPUS_TEXT) return read_whole(c, raw, more, err);
    return c->form == SLM2_CORPUS_WET ? read_record(c, raw, more, err) : read_line(c, raw, more, err);
}

slm2_status slm2_corpus_next(struct slm2_corpus *c, struct slm2_doc *doc, bool *more, struct slm2_err *err)
{
    struct slm2_raw raw;
    json_decref(c->root);
    c->root = NULL;
    SLM2_TRY(slm2_corpus_read(c, &raw, more, err));
    if (*more) slm2_corpus_judge(&raw, NULL, doc, &c->root);
    return SLM2_OK;
}

double slm2_corpus_fraction(const struct slm2_corpus *c) { return slm2_lines_fraction(c->lines); }

void slm2_corpus_close(struct slm2_corpus *c)
{
    if (!c) return;
    json_decref(c->root);
    slm2_lines_close(c->lines);
    slm2_buf_free(&c->piece);
    slm2_buf_free(&c->ahead);
    free(c);
}
