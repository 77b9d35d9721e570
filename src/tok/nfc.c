/* nfc.c - Unicode normalisation form C over utf8proc, for text of any length and with bytes that are not UTF-8.
 *
 * Text is cut where it is safe: before a character that is NFC-stable and starts a combining sequence.  Only the stretches that
 * hold a suspicious character (a mark, a conjoining jamo, a character that decomposes for good) are normalised; the rest is copied. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "tok/tok.h"

/* False only for characters that never change under NFC and never combine with one before them. */
static bool suspicious(int32_t c)
{
    if (c < 0x300) return false;
    if ((c >= 0x400 && c <= 0x482) || (c >= 0x1e00 && c <= 0x1eff) || (c >= 0x3041 && c <= 0x3096) || (c >= 0x30a1 && c <= 0x30fa) ||
        (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xac00 && c <= 0xd7a3))
        return false;
    /* jamo vowels and final consonants combine backwards.  U+11A7 just before the finals does not, though utf8proc 2.8 takes it
     * for one and drops it: as a character of its own it never stands behind a syllable in a stretch. */
    if (c >= 0x1161 && c <= 0x11c2) return c <= 0x1175 || c >= 0x11a8;
    const utf8proc_property_t *p = utf8proc_get_property(c);
    if (p->combining_class || (p->category >= UTF8PROC_CATEGORY_MN && p->category <= UTF8PROC_CATEGORY_ME)) return true;
    if (p->decomp_seqindex == UINT16_MAX || p->decomp_type != 0) return false;
    utf8proc_int32_t d[8];
    int last = UTF8PROC_BOUNDCLASS_START;
    utf8proc_ssize_t n = utf8proc_decompose_char(c, d, 8, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
    if (n <= 0 || n > 8) return true;
    n = utf8proc_normalize_utf32(d, n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    return n != 1 || d[0] != c; /* singletons and composition exclusions */
}

/* Canonical order: marks sorted stably by combining class; a bucket pass, so that long runs of marks stay linear. */
static void order_run(int32_t *v, size_t n, int32_t *tmp)
{
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            int32_t c = v[i];
            int cc = utf8proc_get_property(c)->combining_class;
            size_t k = i;
            for (; k > 0 && utf8proc_get_property(v[k - 1])->combining_class > cc; k--) v[k] = v[k - 1];
            v[k] = c;
        }
        return;
    }
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) start[utf8proc_get_property(v[i])->combining_class + 1]++;
    for (int c = 0; c < 256; c++) start[c + 1] += start[c];
    for (size_t i = 0; i < n; i++) tmp[start[utf8proc_get_property(v[i])->combining_class]++] = v[i];
    memcpy(v, tmp, n * sizeof *v);
}

/* s[0..n): valid UTF-8, at most one character and the suspicious ones behind it */
static slm2_status normalise(const uint8_t *s, size_t n, struct slm2_buf *out, struct slm2_err *err)
{
    int32_t small[2][64], *v = small[0], *tmp = small[1];
    size_t room = 64, m = 0;
    slm2_status st = SLM2_OK;
    int last = UTF8PROC_BOUNDCLASS_START;
    if (n * 4 > room) { /* a character decomposes canonically to at most four */
        room = n * 4;
        v = malloc(room * sizeof *v);
        tmp = malloc(room * sizeof *tmp);
        if (!v || !tmp) {
            st = slm2_fail(err, SLM2_ENOMEM, "NFC: no memory for a run of %zu combining characters", n);
            goto done;
        }
    }
    for (size_t i = 0; i < n;) {
        int32_t c;
        i += slm2_utf8_next(s + i, n - i, &c);
        utf8proc_ssize_t k = utf8proc_decompose_char(c, v + m, (utf8proc_ssize_t)(room - m), UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
        if (k < 0 || (size_t)k > room - m) {
            st = slm2_fail(err, SLM2_EFORMAT, "NFC: utf8proc cannot decompose U+%04X: %s", (unsigned)c, k < 0 ? utf8proc_errmsg(k) : "too long");
            goto done;
        }
        m += (size_t)k;
    }
    for (size_t i = 0; i < m;) {
        size_t from = i;
        while (i < m && utf8proc_get_property(v[i])->combining_class) i++;
        if (i - from > 1) order_run(v + from, i - from, tmp);
        if (i == from) i++;
    }
    m = (size_t)utf8proc_normalize_utf32(v, (utf8proc_ssize_t)m, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (size_t i = 0; i < m; i++) {
        utf8proc_uint8_t b[4];
        slm2_buf_put(out, b, (size_t)utf8proc_encode_char(v[i], b));
    }
    st = slm2_buf_check(out, err);
done:
    if (v != small[0]) free(v);
    if (tmp != small[1]) free(tmp);
    return st;
}

slm2_status slm2_nfc(const char *text, size_t n, struct slm2_buf *out, bool *changed, struct slm2_err *err)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t copied = 0, start = 0, i = 0; /* start: of the character before i, i itself when that cannot combine */
    *changed = false;
    while (i < n) {
        if (s[i] < 0xcc) { /* below U+0300, or not UTF-8: nothing to do, and 64-bit steps over ASCII */
            for (uint64_t w; n - i > 8 && (memcpy(&w, s + i, 8), (w & 0x8080808080808080u) == 0); i += 8) start = i + 7;
            if (s[i] >= 0xcc) continue;
            int32_t c;
            size_t len = slm2_utf8_next(s + i, n - i, &c);
            start = c < 0 ? i + len : i;
            i += len;
            continue;
        }
        int32_t c;
        size_t len = slm2_utf8_next(s + i, n - i, &c);
        if (c < 0 || !suspicious(c)) {
            start = c < 0 ? i + len : i;
            i += len;
            continue;
        }
        size_t end = i + len;
        while (end < n) {
            len = slm2_utf8_next(s + end, n - end, &c);
            if (c < 0 || !suspicious(c)) break;
            end += len;
        }
        slm2_buf_put(out, s + copied, start - copied);
        SLM2_TRY(normalise(s + start, end - start, out, err));
        *changed = true;
        copied = start = i = end;
    }
    if (*changed) slm2_buf_put(out, s + copied, n - copied);
    return slm2_buf_check(out, err);
}
