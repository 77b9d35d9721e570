/* alphabet.c - GPT-2's alphabet: each byte as one printable character, so that vocabularies can be text files.
 *
 * Bytes 21..7E, A1..AC and AE..FF stand for themselves as code points; the other 68, in order, are U+0100..U+0143. */
#include "tok/tok_impl.h"

static bool is_plain(int b) { return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad); }

/* The bytes that are not plain are 00..20 (33), 7F..A0 (34) and AD. */
static int code_point(int b)
{
    if (is_plain(b)) return b;
    return 0x100 + (b <= 0x20 ? b : b <= 0xa0 ? 33 + (b - 0x7f) : 67);
}

static int byte_of(int32_t cp)
{
    if (cp < 0x100) return cp >= 0 && is_plain(cp) ? (int)cp : -1;
    int k = cp - 0x100;
    return k <= 0x20 ? k : k <= 66 ? 0x7f + (k - 33) : k == 67 ? 0xad : -1;
}

void tok_alphabet_put(struct slm2_buf *out, const uint8_t *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int cp = code_point(s[i]);
        if (cp >= 0x80) slm2_buf_putc(out, (char)(0xc0 | cp >> 6));
        slm2_buf_putc(out, (char)(cp < 0x80 ? cp : 0x80 | (cp & 0x3f)));
    }
}

bool tok_alphabet_get(struct slm2_buf *out, const char *s, size_t n)
{
    size_t before = out->n;
    for (size_t i = 0; i < n;) {
        int32_t cp;
        i += slm2_utf8_next((const uint8_t *)s + i, n - i, &cp);
        int b = byte_of(cp);
        if (b < 0) {
            if (!out->failed) out->n = before;
            return false;
        }
        slm2_buf_putc(out, (char)b);
    }
    return true;
}
