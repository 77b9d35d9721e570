/* pretok.c - cuts text into the pieces inside which bytes may merge: the published patterns, matched by hand in linear time.
 *
 * Arcade100k, alternatives in this order, leftmost match:
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d)  |  [^\r\n\p{L}\p{N}]?\p{L}+  |  \p{N}  |  ?[^\s\p{L}\p{N}]+[\r\n]*  |  \s*[\r\n]+  |  \s+(?!\S)  |  \s+
 * cl100k has \p{N}{1,3} for \p{N}.  GPT-2:  's|'t|'re|'ve|'m|'ll|'d  |  ?\p{L}+  |  ?\p{N}+  |  ?[^\s\p{L}\p{N}]+  |  \s+(?!\S)  |  \s+
 *
 * \s is Unicode's White_Space: U+0085 is in it, U+FEFF, U+180E and U+001C..U+001F are not.  A byte that is not part of valid
 * UTF-8 is a character of its own, neither letter nor number nor space. */
#include "tok/tok.h"

#include <utf8proc.h>

enum { O, L, N, S, R }; /* other, letter, number, space, line break (\r \n) */

static const uint8_t ascii_class[128] = {
    O, O, O, O, O, O, O, O, O, S, R, S, S, R, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, /* 00 */
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O, /* 20 */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O, /* 40 */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O, /* 60 */
};

size_t slm2_utf8_next(const uint8_t *s, size_t n, int32_t *cp)
{
    uint8_t c = s[0];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    *cp = -1;
    if (c < 0xc2 || c > 0xf4) return 1;
    size_t need = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n < need) return 1;
    /* the second byte's range rules out overlong forms, surrogates and code points above U+10FFFF */
    uint8_t lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < lo || s[1] > hi) return 1;
    int32_t v = (c & (0x7f >> need)) << 6 | (s[1] & 0x3f);
    for (size_t i = 2; i < need; i++) {
        if ((s[i] & 0xc0) != 0x80) return 1;
        v = v << 6 | (s[i] & 0x3f);
    }
    *cp = v;
    return need;
}

static int class_of(int32_t cp)
{
    if (cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f ||
        cp == 0x205f || cp == 0x3000)
        return S;
    int cat = utf8proc_category(cp);
    if (cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO) return L;
    return cat >= UTF8PROC_CATEGORY_ND && cat <= UTF8PROC_CATEGORY_NO ? N : O;
}

/* class of the character at s[0..n), n > 0, and its length */
static inline int class_at(const uint8_t *s, size_t n, size_t *len)
{
    if (s[0] < 0x80) {
        *len = 1;
        return ascii_class[s[0]];
    }
    int32_t cp;
    *len = slm2_utf8_next(s, n, &cp);
    return cp < 0 ? O : class_of(cp);
}

/* end of the run of characters of class c that begins at s[i]; at most max of them */
static size_t run(const uint8_t *s, size_t n, size_t i, int c, size_t max)
{
    size_t len;
    while (i < n && max-- > 0 && class_at(s + i, n - i, &len) == c) i += len;
    return i;
}

/* length of a contraction at s[0] == '\'', or 0.  Without case, U+017F (long s) is an s too. */
static size_t contraction(const uint8_t *s, size_t n, bool any_case)
{
    if (n < 2) return 0;
    uint8_t fold = any_case ? 0x20 : 0, a = s[1] | fold, b = n > 2 ? s[2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return any_case && n > 2 && s[1] == 0xc5 && s[2] == 0xbf ? 3 : 0;
}

/* s[0] is a space or line break, and no piece that takes a space in front of something else begins here */
static size_t spaces(const uint8_t *s, size_t n, bool breaks)
{
    size_t end = 0, last = 0, after_break = 0, len = 0;
    for (; end < n; end += len) {
        int c = class_at(s + end, n - end, &len);
        if (c != S && c != R) break;
        last = end;
        if (c == R) after_break = end + len;
    }
    if (breaks && after_break) return after_break; /* \s*[\r\n]+ : up to the last break of the run */
    if (end == n || last == 0) return end;         /* \s+(?!\S) at the end of the text, or one space alone: \s+ */
    return last;                                   /* \s+(?!\S) leaves the last space to what follows */
}

static size_t next_gpt2(const uint8_t *s, size_t n)
{
    size_t len, k = s[0] == '\'' ? contraction(s, n, false) : 0;
    if (k) return k;
    size_t skip = s[0] == ' ' && n > 1;
    int c = class_at(s + skip, n - skip, &len);
    if (c == S || c == R) return spaces(s, n, false);
    return run(s, n, skip + len, c, SIZE_MAX);
}

size_t slm2_split_next(const uint8_t *s, size_t n, enum slm2_split kind)
{
    if (kind == SLM2_SPLIT_GPT2) return next_gpt2(s, n);
    size_t len, len1;
    int c = class_at(s, n, &len);
    if (c == L) return run(s, n, len, L, SIZE_MAX);
    if (c == N) return kind == SLM2_SPLIT_ARCADE ? len : run(s, n, len, N, 2);
    size_t k = s[0] == '\'' ? contraction(s, n, true) : 0;
    if (k) return k;
    int c1 = len < n ? class_at(s + len, n - len, &len1) : R;
    if (c != R && c1 == L) return run(s, n, len + len1, L, SIZE_MAX);
    if (c == O || (s[0] == ' ' && c1 == O)) return run(s, n, run(s, n, len, O, SIZE_MAX), R, SIZE_MAX);
    return spaces(s, n, true);
}
