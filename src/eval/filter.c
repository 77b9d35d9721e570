/* filter.c - from what a model or a record says to what counts: cleaning, numbers, the part that a pattern finds. */
#include <regex.h>
#include <string.h>

#include <utf8proc.h>

#include "tok/pystr.h"
#include "eval/task.h"

static const char *const plain[] = {"strip", "lstrip", "first_line", "first_word", "one_space", "lower", "capitalize", "no_punctuation", "spaces", "first_number", "last_number", "wikihow", NULL};
static const char *const with_text[] = {"before:", "after:", "delete:", "drop_end:", "match:", "last_match:", NULL};

/* What follows the name of a filter that takes a text, or NULL. */
static const char *argument(const char *filter, const char *name)
{
    size_t n = strlen(name);
    return strncmp(filter, name, n) == 0 && filter[n] ? filter + n : NULL;
}

slm2_status slm2_filter_check(const char *filter, struct slm2_err *err)
{
    for (int i = 0; plain[i]; i++)
        if (strcmp(filter, plain[i]) == 0) return SLM2_OK;
    for (int i = 0; with_text[i]; i++) {
        const char *arg = argument(filter, with_text[i]);
        if (!arg) continue;
        if (!strstr(with_text[i], "match")) return SLM2_OK;
        regex_t re;
        char why[200];
        int rc = regcomp(&re, arg, REG_EXTENDED);
        if (rc == 0) {
            regfree(&re);
            return SLM2_OK;
        }
        regerror(rc, &re, why, sizeof why);
        return slm2_fail(err, SLM2_EFORMAT, "filter \"%.80s\": no POSIX extended regular expression: %s", filter, why);
    }
    return slm2_fail(err, SLM2_EFORMAT, "filter \"%.60s\", want strip, lstrip, first_line, first_word, one_space, lower, capitalize, no_punctuation, spaces, first_number, last_number, wikihow, "
                                        "before:TEXT, after:TEXT, delete:TEXT, drop_end:TEXT, match:REGEX or last_match:REGEX", filter);
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
    if (b->n == 0) return;
    size_t to = slm2_py_rstrip(b->v, b->n);
    keep(b, slm2_py_lstrip(b->v, to), to);
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

/* b becomes what out holds. */
static slm2_status replace(struct slm2_buf *b, struct slm2_buf *out, struct slm2_err *err)
{
    slm2_status st = slm2_buf_check(out, err);
    if (st == SLM2_OK) {
        slm2_buf_clear(b);
        slm2_buf_put(b, out->v ? out->v : "", out->n);
        st = slm2_buf_check(b, err);
    }
    slm2_buf_free(out);
    return st;
}

static slm2_status no_punctuation(struct slm2_buf *b, struct slm2_err *err)
{
    struct slm2_buf out = {0};
    for (size_t at = 0; at < b->n;) {
        int32_t c;
        size_t len = slm2_utf8_next((const uint8_t *)b->v + at, b->n - at, &c);
        utf8proc_category_t cat = c >= 0 ? utf8proc_category(c) : UTF8PROC_CATEGORY_CN;
        if (cat < UTF8PROC_CATEGORY_PC || cat > UTF8PROC_CATEGORY_PO) slm2_buf_put(&out, b->v + at, len);
        at += len;
    }
    return replace(b, &out, err);
}

static slm2_status cased(struct slm2_buf *b, bool capitalize, struct slm2_err *err)
{
    struct slm2_buf out = {0};
    (capitalize ? slm2_py_capitalize : slm2_py_lower)(b->v, b->n, &out);
    return replace(b, &out, err);
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

static void delete_all(struct slm2_buf *b, const char *text)
{
    size_t n = strlen(text), out = 0;
    for (size_t i = 0; i < b->n;) {
        if (i + n <= b->n && memcmp(b->v + i, text, n) == 0) i += n;
        else b->v[out++] = b->v[i++];
    }
    keep(b, 0, out);
}

/* Texts of wikiHow: " [title]" becomes ". ", other marks in brackets go (the shortest, within a line), then each two spaces become one, once. */
static slm2_status wikihow(struct slm2_buf *b, struct slm2_err *err)
{
    static const char title[] = " [title]";
    struct slm2_buf out = {0};
    strip(b);
    for (size_t i = 0; i < b->n;) {
        if (i + 8 <= b->n && memcmp(b->v + i, title, 8) == 0) {
            slm2_buf_puts(&out, ". ");
            i += 8;
        } else slm2_buf_putc(&out, b->v[i++]);
    }
    SLM2_TRY(replace(b, &out, err));
    size_t n = 0;
    for (size_t i = 0; i < b->n;) {
        const char *close = b->v[i] == '[' ? memchr(b->v + i, ']', b->n - i) : NULL;
        if (close && !memchr(b->v + i, '\n', (size_t)(close - b->v) - i)) i = (size_t)(close - b->v) + 1;
        else b->v[n++] = b->v[i++];
    }
    keep(b, 0, n);
    n = 0;
    for (size_t i = 0; i < b->n; n++) {
        b->v[n] = b->v[i];
        i += i + 1 < b->n && b->v[i] == ' ' && b->v[i + 1] == ' ' ? 2 : 1;
    }
    keep(b, 0, n);
    return SLM2_OK;
}

/* The first or the last place where the pattern matches; of it the first group that took part, stripped. */
static slm2_status match(struct slm2_buf *b, const char *pattern, bool last, struct slm2_err *err)
{
    enum { N = 10 };
    regex_t re;
    regmatch_t m[N];
    size_t from = 0, to = 0, at = 0;
    bool found = false;
    slm2_buf_puts(b, "");
    if (regcomp(&re, pattern, REG_EXTENDED)) return slm2_fail(err, SLM2_EFORMAT, "\"%.80s\" is no regular expression", pattern);
    while (b->v && at <= b->n && (!found || last) && regexec(&re, b->v + at, N, m, at ? REG_NOTBOL : 0) == 0) {
        size_t g = 1;
        while (g < N && g <= re.re_nsub && m[g].rm_so == m[g].rm_eo) g++;
        if (g == N || g > re.re_nsub) g = 0;
        found = true;
        from = at + (size_t)m[g].rm_so;
        to = at + (size_t)m[g].rm_eo;
        at += (size_t)m[0].rm_eo + (m[0].rm_so == m[0].rm_eo);
    }
    regfree(&re);
    if (found) {
        keep(b, from, to);
        strip(b);
    } else {
        slm2_buf_clear(b);
        slm2_buf_puts(b, "[invalid]");
    }
    return slm2_buf_check(b, err);
}

slm2_status slm2_filter_apply(const char *filter, struct slm2_buf *b, struct slm2_err *err)
{
    const char *arg;
    if ((arg = argument(filter, "match:"))) return match(b, arg, false, err);
    if ((arg = argument(filter, "last_match:"))) return match(b, arg, true, err);
    if (b->n == 0) return SLM2_OK;
    if (strcmp(filter, "strip") == 0) strip(b);
    else if (strcmp(filter, "lstrip") == 0) keep(b, slm2_py_lstrip(b->v, b->n), b->n);
    else if (strcmp(filter, "lower") == 0) return cased(b, false, err);
    else if (strcmp(filter, "capitalize") == 0) return cased(b, true, err);
    else if (strcmp(filter, "no_punctuation") == 0) return no_punctuation(b, err);
    else if (strcmp(filter, "one_space") == 0) one_space(b);
    else if (strcmp(filter, "wikihow") == 0) return wikihow(b, err);
    else if (strcmp(filter, "first_number") == 0) number(b, false);
    else if (strcmp(filter, "last_number") == 0) number(b, true);
    else if (strcmp(filter, "spaces") == 0) {
        for (size_t i = 0; i < b->n; i++)
            if (b->v[i] == '_') b->v[i] = ' ';
    } else if (strcmp(filter, "first_line") == 0 || strcmp(filter, "first_word") == 0) {
        strip(b);
        size_t n = 0;
        while (n < b->n && (filter[6] == 'l' ? b->v[n] != '\n' && b->v[n] != '\r' : !is_space(b->v[n]))) n++;
        keep(b, 0, n);
    } else if ((arg = argument(filter, "before:"))) keep(b, 0, find(b, arg, false));
    else if ((arg = argument(filter, "after:"))) {
        size_t at = find(b, arg, true);
        if (at < b->n) keep(b, at + strlen(arg), b->n);
    } else if ((arg = argument(filter, "delete:"))) delete_all(b, arg);
    else if ((arg = argument(filter, "drop_end:"))) {
        size_t n = strlen(arg);
        if (n <= b->n && memcmp(b->v + b->n - n, arg, n) == 0) keep(b, 0, b->n - n);
    }
    return SLM2_OK;
}
