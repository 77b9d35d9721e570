/* pystr.c - Unicode by utf8proc, the sets and exceptions by CPython's documentation. */
#include "tok/pystr.h"

#include <utf8proc.h>

#include "tok/tok.h"

bool slm2_py_isspace(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static size_t next(const char *s, size_t n, int32_t *c) { return slm2_utf8_next((const uint8_t *)s, n, c); }

size_t slm2_py_len(const char *s, size_t n)
{
    size_t chars = 0;
    int32_t c;
    for (size_t at = 0; at < n; chars++) at += next(s + at, n - at, &c);
    return chars;
}

size_t slm2_py_lstrip(const char *s, size_t n)
{
    size_t at = 0;
    while (at < n) {
        int32_t c;
        size_t len = next(s + at, n - at, &c);
        if (!slm2_py_isspace(c)) break;
        at += len;
    }
    return at;
}

size_t slm2_py_rstrip(const char *s, size_t n)
{
    size_t end = 0;
    for (size_t at = 0; at < n;) {
        int32_t c;
        at += next(s + at, n - at, &c);
        if (!slm2_py_isspace(c)) end = at;
    }
    return end;
}

static void put(struct slm2_buf *out, int32_t c)
{
    utf8proc_uint8_t bytes[4];
    slm2_buf_put(out, bytes, (size_t)utf8proc_encode_char(c, bytes));
}

static void put_lower(struct slm2_buf *out, int32_t c)
{
    if (c == 0x130) slm2_buf_puts(out, "i\u0307"); /* capital I with dot: two characters in full mapping */
    else put(out, utf8proc_tolower(c));
}

void slm2_py_lower(const char *s, size_t n, struct slm2_buf *out)
{
    for (size_t at = 0; at < n;) {
        int32_t c;
        size_t len = next(s + at, n - at, &c);
        if (c < 0) slm2_buf_put(out, s + at, len);
        else put_lower(out, c);
        at += len;
    }
}

void slm2_py_capitalize(const char *s, size_t n, struct slm2_buf *out)
{
    int32_t c;
    if (n == 0) return;
    size_t len = next(s, n, &c);
    if (c < 0) slm2_buf_put(out, s, len);
    else if (c == 0xdf) slm2_buf_puts(out, "Ss"); /* sharp s */
    else put(out, utf8proc_totitle(c));
    slm2_py_lower(s + len, n - len, out);
}

size_t slm2_py_split_count(const char *s, size_t n)
{
    size_t pieces = 1;
    bool in_space = false;
    for (size_t at = 0; at < n;) {
        int32_t c;
        at += next(s + at, n - at, &c);
        bool space = slm2_py_isspace(c);
        pieces += space && !in_space;
        in_space = space;
    }
    return pieces;
}
