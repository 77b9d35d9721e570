/* filter.c - from what a model wrote to what counts as its answer, without regular expressions. */
#include <string.h>

#include <utf8proc.h>

#include "eval/task.h"

static const char *const plain[] = {"strip", "first_line", "lower", "no_punctuation", "one_space", "first_number", "last_number", "first_word", NULL};

static bool has_text(const char *filter)
{
    return (strncmp(filter, "before:", 7) == 0 && filter[7]) || (strncmp(filter, "after:", 6) == 0 && filter[6]);
}

slm2_status slm2_filter_check(const char *filter, struct slm2_err *err)
{
    for (int i = 0; plain[i]; i++)
        if (strcmp(filter, plain[i]) == 0) return SLM2_OK;
    if (has_text(filter)) return SLM2_OK;
    return slm2_fail(err, SLM2_EFORMAT, "filter \"%.60s\", want strip, first_line, lower, no_punctuation, one_space, first_number, last_number, first_word, before:TEXT or after:TEXT", filter);
}

bool slm2_filter_normalises(const char *filter)
{
    return strcmp(filter, "strip") == 0 || strcmp(filter, "lower") == 0 || strcmp(filter, "no_punctuation") == 0 || strcmp(filter, "one_space") == 0;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* What stays is text[from, to). */
static void keep(struct slm2_buf *text, size_t from, size_t to)
{
    if (from > 0 && to > from) memmove(text->v, text->v + from, to - from);
    text->n = to - from;
    if (text->v) text->v[text->n] = '\0';
}

static void strip(struct slm2_buf *b)
{
    size_t from = 0, to = b->n;
    while (from < to && is_space(b->v[from])) from++;
    while (to > from && is_space(b->v[to - 1])) to--;
    keep(b, from, to);
}

/* Bytes of a number at v[at): "-12,345.67"; a sign only where no digit stands before it; 0: none. */
static size_t number_at(const struct slm2_buf *b, size_t at)
{
    size_t i = at;
    if (i < b->n && b->v[i] == '-' && (i == 0 || !is_digit(b->v[i - 1]))) i++;
    if (i == b->n || !is_digit(b->v[i])) return 0;
    while (i < b->n && (is_digit(b->v[i]) || ((b->v[i] == '.' || b->v[i] == ',') && i + 1 < b->n && is_digit(b->v[i + 1])))) i++;
    return i - at;
}

static void number(struct slm2_buf *b, bool last)
{
    size_t from = 0, n = 0;
    for (size_t at = 0; at < b->n;) {
        size_t len = number_at(b, at);
        if (len) {
            from = at;
            n = len;
            if (!last) break;
        }
        at += len ? len : 1;
    }
    keep(b, from, from + n);
    size_t out = 0; /* 12,345 and 12345 are the same */
    for (size_t i = 0; i < b->n; i++)
        if (b->v[i] != ',') b->v[out++] = b->v[i];
    keep(b, 0, out);
}

/* Character by character into a new buffer: lower case, or without punctuation. */
static slm2_status map(struct slm2_buf *b, bool lower, struct slm2_err *err)
{
    struct slm2_buf out = {0};
    for (size_t at = 0; at < b->n;) {
        int32_t c;
        size_t len = slm2_utf8_next((const uint8_t *)b->v + at, b->n - at, &c);
        if (lower && c >= 0) {
            utf8proc_uint8_t bytes[4];
            slm2_buf_put(&out, bytes, (size_t)utf8proc_encode_char(utf8proc_tolower(c), bytes));
        } else {
            utf8proc_category_t cat = c >= 0 ? utf8proc_category(c) : UTF8PROC_CATEGORY_CN;
            if (lower || cat < UTF8PROC_CATEGORY_PC || cat > UTF8PROC_CATEGORY_PO) slm2_buf_put(&out, b->v + at, len);
        }
        at += len;
    }
    slm2_status st = slm2_buf_check(&out, err);
    if (st == SLM2_OK) {
        slm2_buf_clear(b);
        slm2_buf_put(b, out.v ? out.v : "", out.n);
        st = slm2_buf_check(b, err);
    }
    slm2_buf_free(&out);
    return st;
}

static void one_space(struct slm2_buf *b)
{
    size_t out = 0;
    for (size_t i = 0; i < b->n; i++) {
        if (!is_space(b->v[i])) b->v[out++] = b->v[i];
        else if (i == 0 || !is_space(b->v[i - 1])) b->v[out++] = ' ';
    }
    keep(b, 0, out);
}

static size_t find(const struct slm2_buf *b, const char *text, bool last)
{
    size_t n = strlen(text), at = b->n;
    for (size_t i = 0; i + n <= b->n; i++) {
        if (memcmp(b->v + i, text, n)) continue;
        at = i;
        if (!last) break;
    }
    return at;
}

slm2_status slm2_filter_apply(const char *filter, struct slm2_buf *b, struct slm2_err *err)
{
    if (b->n == 0) return SLM2_OK;
    if (strcmp(filter, "strip") == 0) strip(b);
    else if (strcmp(filter, "lower") == 0) return map(b, true, err);
    else if (strcmp(filter, "no_punctuation") == 0) return map(b, false, err);
    else if (strcmp(filter, "one_space") == 0) one_space(b);
    else if (strcmp(filter, "first_number") == 0) number(b, false);
    else if (strcmp(filter, "last_number") == 0) number(b, true);
    else if (strcmp(filter, "first_line") == 0 || strcmp(filter, "first_word") == 0) {
        strip(b);
        size_t n = 0;
        while (n < b->n && (filter[6] == 'l' ? b->v[n] != '\n' && b->v[n] != '\r' : !is_space(b->v[n]))) n++;
        keep(b, 0, n);
    } else if (strncmp(filter, "before:", 7) == 0) keep(b, 0, find(b, filter + 7, false));
    else if (strncmp(filter, "after:", 6) == 0) {
        size_t at = find(b, filter + 6, true);
        if (at < b->n) keep(b, at + strlen(filter + 6), b->n);
    }
    return SLM2_OK;
}
