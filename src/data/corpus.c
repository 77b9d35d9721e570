/* corpus.c - one line, one verdict: UTF-8 first, then JSON, then whether it is a document. */
#include "data/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "tok/tok.h"

enum { DEFAULT_LINE_BYTES = 64 << 20 };

const char *slm2_verdict_name(enum slm2_verdict v)
{
    static const char *const names[SLM2_N_VERDICT] = {"ok", "empty_line", "empty", "invalid_utf8", "invalid_json", "no_text", "too_long"};
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

/* ---- one line ----------------------------------------------------------------------------------------------------------- */
static void judge(struct slm2_doc *doc, enum slm2_verdict v, const char *reason)
{
    doc->verdict = v;
    doc->reason = reason;
}

static const char *string_or_null(const json_t *obj, const char *key)
{
    return json_string_value(json_object_get(obj, key)); /* NULL unless a string */
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

void slm2_corpus_line(const char *line, size_t n, bool first, struct slm2_doc *doc, json_t **root)
{
    json_error_t why;
    uint64_t number = doc->line;
    *doc = (struct slm2_doc){.line = number};
    *root = NULL;
    if (first && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3;
        n -= 3;
    }
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
    const json_t *text = json_object_get(j, "text");
    if (!json_is_object(j)) {
        judge(doc, SLM2_LINE_NO_TEXT, "JSON, but not an object");
    } else if (!text) {
        judge(doc, SLM2_LINE_NO_TEXT, "object without \"text\"");
    } else if (!json_is_string(text)) {
        judge(doc, SLM2_LINE_NO_TEXT, "\"text\" is not a string");
    } else {
        take_text(doc, json_string_value(text), json_string_length(text));
    }
    if (doc->verdict != SLM2_LINE_OK) {
        json_decref(j);
        return;
    }
    doc->source = string_or_null(j, "source");
    doc->lang = string_or_null(j, "lang");
    doc->license = string_or_null(j, "license");
    doc->kind = string_or_null(j, "kind");
    *root = j;
}

/* ---- a file ------------------------------------------------------------------------------------------------------------- */
struct slm2_corpus {
    struct slm2_lines *lines;
    bool whole; /* the file is one document */
    bool ended;
    size_t limit;
    json_t *root;          /* of the last line */
    struct slm2_buf whole_text;
};

static bool ends_with(const char *s, size_t n, const char *tail)
{
    size_t k = strlen(tail);
    return n >= k && memcmp(s + n - k, tail, k) == 0;
}

static bool looks_like_text(const char *path)
{
    size_t n = strlen(path);
    if (ends_with(path, n, ".gz")) n -= 3;
    if (ends_with(path, n, ".zst")) n -= 4;
    return ends_with(path, n, ".txt") || ends_with(path, n, ".md");
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
    c->whole = form == SLM2_CORPUS_TEXT || (form == SLM2_CORPUS_AUTO && looks_like_text(path));
    *out = c;
    return SLM2_OK;
}

/* The whole file as one document; the newline at its end is left out. */
static slm2_status read_whole(struct slm2_corpus *c, struct slm2_doc *doc, bool *more, struct slm2_err *err)
{
    const char *line;
    size_t n;
    bool too_long = false;
    *more = !c->ended;
    if (c->ended) return SLM2_OK;
    c->ended = true;
    for (;;) {
        slm2_status st = slm2_lines_next(c->lines, &line, &n, err);
        if (st != SLM2_OK && st != SLM2_ELIMIT) return st;
        if (st == SLM2_OK && !line) break;
        bool first = slm2_lines_number(c->lines) == 1;
        if (!first) slm2_buf_putc(&c->whole_text, '\n');
        if (first && n >= 3 && st == SLM2_OK && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
            line += 3;
            n -= 3;
        }
        too_long = too_long || st == SLM2_ELIMIT || n > c->limit - c->whole_text.n;
        if (too_long) {
            slm2_buf_clear(&c->whole_text);
        } else {
            slm2_buf_put(&c->whole_text, line, n);
            SLM2_TRY(slm2_buf_check(&c->whole_text, err));
        }
    }
    *doc = (struct slm2_doc){.line = 1};
    if (too_long) {
        judge(doc, SLM2_LINE_TOO_LONG, "the file has more bytes than max_line_bytes");
    } else if (!is_utf8(c->whole_text.v ? c->whole_text.v : "", c->whole_text.n)) {
        judge(doc, SLM2_LINE_INVALID_UTF8, "bytes that are not UTF-8");
    } else {
        take_text(doc, c->whole_text.v ? c->whole_text.v : "", c->whole_text.n);
    }
    return SLM2_OK;
}

slm2_status slm2_corpus_next(struct slm2_corpus *c, struct slm2_doc *doc, bool *more, struct slm2_err *err)
{
    const char *line;
    size_t n;
    json_decref(c->root);
    c->root = NULL;
    *more = false;
    if (c->whole) return read_whole(c, doc, more, err);
    struct slm2_err why = {0};
    slm2_status st = slm2_lines_next(c->lines, &line, &n, &why);
    if (st != SLM2_OK && st != SLM2_ELIMIT) {
        if (err) *err = why;
        return st;
    }
    if (st == SLM2_OK && !line) return SLM2_OK;
    *more = true;
    doc->line = slm2_lines_number(c->lines);
    if (st == SLM2_ELIMIT) {
        *doc = (struct slm2_doc){.line = doc->line};
        judge(doc, SLM2_LINE_TOO_LONG, "more bytes than max_line_bytes");
    } else {
        slm2_corpus_line(line, n, doc->line == 1, doc, &c->root);
    }
    return SLM2_OK;
}

double slm2_corpus_fraction(const struct slm2_corpus *c) { return slm2_lines_fraction(c->lines); }

void slm2_corpus_close(struct slm2_corpus *c)
{
    if (!c) return;
    json_decref(c->root);
    slm2_lines_close(c->lines);
    slm2_buf_free(&c->whole_text);
    free(c);
}
