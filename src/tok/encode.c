/* encode.c - text to ids and back: NFC, special tokens found in linear time, pieces, merges; decoding, whole and as a stream. */
#include "tok/tok_impl.h"

#include <stdlib.h>

/* ---- growing ids -------------------------------------------------------------------------------------------------- */
slm2_status tok_ids_reserve(struct slm2_ids *ids, size_t more, struct slm2_err *err)
{
    if (ids->cap - ids->n >= more) return SLM2_OK;
    size_t want = ids->n + more, cap = ids->cap + ids->cap / 2 + 64;
    if (cap < want) cap = want;
    int32_t *v = cap > SIZE_MAX / sizeof *v / 2 ? NULL : realloc(ids->v, cap * sizeof *v);
    if (!v) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu token ids", cap);
    ids->v = v;
    ids->cap = cap;
    return SLM2_OK;
}

slm2_status slm2_ids_push(struct slm2_ids *ids, int32_t id, struct slm2_err *err)
{
    SLM2_TRY(tok_ids_reserve(ids, 1, err));
    ids->v[ids->n++] = id;
    return SLM2_OK;
}

void slm2_ids_free(struct slm2_ids *ids)
{
    free(ids->v);
    *ids = (struct slm2_ids){0};
}

/* ---- encoding ----------------------------------------------------------------------------------------------------- */
static slm2_status encode_pieces(const struct slm2_tok *tok, const uint8_t *s, size_t n, struct slm2_ids *ids, struct slm2_err *err)
{
    while (n > 0) {
        size_t len = slm2_split_next(s, n, tok->split);
        int32_t id = tok_find(tok, s, len);
        if (id >= 0 && (tok->all_whole || tok->e[id].whole)) {
            SLM2_TRY(slm2_ids_push(ids, id, err));
        } else {
            size_t m;
            SLM2_TRY(tok_ids_reserve(ids, len, err));
            SLM2_TRY(tok_bpe(tok, s, len, TOK_NO_RANK, ids->v + ids->n, &m, err));
            ids->n += m;
        }
        s += len;
        n -= len;
    }
    return SLM2_OK;
}

/* the longest special or user token at s[0..n): its id, or -1; ordinary text: only user tokens */
static int32_t special_at(const struct slm2_tok *tok, const uint8_t *s, size_t n, bool special)
{
    int32_t found = -1, at = 0;
    for (size_t i = 0; i < n; i++) {
        at = tok->node[at].child;
        while (at >= 0 && tok->node[at].byte != s[i]) at = tok->node[at].next;
        if (at < 0) break;
        int32_t id = tok->node[at].id;
        if (id >= 0 && (special || tok->e[id].kind == TOK_USER)) found = id;
    }
    return found;
}

static slm2_status encode_text(const struct slm2_tok *tok, const uint8_t *s, size_t n, bool special, struct slm2_ids *ids, struct slm2_err *err)
{
    if (!special && !tok->any_user) return encode_pieces(tok, s, n, ids, err);
    size_t from = 0, i = 0;
    while (i < n) {
        if (tok->sole_first >= 0) {
            const uint8_t *p = memchr(s + i, tok->sole_first, n - i);
            i = p ? (size_t)(p - s) : n;
        } else {
            while (i < n && !tok->first[s[i]]) i++;
        }
        int32_t id = i < n ? special_at(tok, s + i, n - i, special) : -1;
        if (id < 0) {
            i++;
            continue;
        }
        SLM2_TRY(encode_pieces(tok, s + from, i - from, ids, err));
        SLM2_TRY(slm2_ids_push(ids, id, err));
        i += tok->e[id].n;
        from = i;
    }
    return encode_pieces(tok, s + from, n - from, ids, err);
}

slm2_status slm2_tok_encode(const struct slm2_tok *tok, const char *text, size_t n, int flags, struct slm2_ids *ids, struct slm2_err *err)
{
    struct slm2_buf nfc = {0};
    size_t before = ids->n;
    slm2_status st = SLM2_OK;
    bool changed = false;
    if (n > INT32_MAX / 4) return slm2_fail(err, SLM2_ELIMIT, "tokenize: a text of %zu bytes; one call takes at most %d: split it at document or line ends", n, INT32_MAX / 4);
    if (flags & SLM2_TOK_NFC) st = slm2_nfc(text, n, &nfc, &changed, err);
    if (st == SLM2_OK) {
        if (changed) {
            text = nfc.v;
            n = nfc.n;
        }
        st = encode_text(tok, (const uint8_t *)text, n, flags & SLM2_TOK_SPECIAL, ids, err);
    }
    if (st != SLM2_OK) ids->n = before;
    slm2_buf_free(&nfc);
    return st;
}

/* ---- decoding ----------------------------------------------------------------------------------------------------- */
static slm2_status no_such_id(const struct slm2_tok *tok, int32_t id, struct slm2_err *err)
{
    return slm2_fail(err, SLM2_EFORMAT, "decode: no token has id %d (the vocabulary's ids end at %d)", id, tok->n_vocab - 1);
}

slm2_status slm2_tok_decode(const struct slm2_tok *tok, const int32_t *ids, size_t n, struct slm2_buf *out, struct slm2_err *err)
{
    size_t len;
    for (size_t i = 0; i < n; i++)
        if (!slm2_tok_bytes(tok, ids[i], &len)) return no_such_id(tok, ids[i], err);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *s = slm2_tok_bytes(tok, ids[i], &len);
        slm2_buf_put(out, s, len);
    }
    return slm2_buf_check(out, err);
}

void slm2_tok_stream_init(struct slm2_tok_stream *st, const struct slm2_tok *tok, bool skip_special)
{
    *st = (struct slm2_tok_stream){.tok = tok, .skip_special = skip_special};
}

/* bytes at the end of s[0..n) that begin a character without ending it: 0 to 3 */
static size_t unfinished(const uint8_t *s, size_t n)
{
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        uint8_t c = s[n - k];
        if ((c & 0xc0) == 0x80) continue;
        size_t need = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 1;
        if (need <= k) return 0;
        if (k == 1) return 1;
        uint8_t d = s[n - k + 1]; /* a second byte out of range: never a character, so it need not wait */
        uint8_t lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        return d >= lo && d <= hi ? k : 0;
    }
    return 0;
}

slm2_status slm2_tok_stream_feed(struct slm2_tok_stream *st, int32_t id, struct slm2_buf *out, struct slm2_err *err)
{
    size_t n;
    const uint8_t *s = slm2_tok_bytes(st->tok, id, &n);
    if (!s) return no_such_id(st->tok, id, err);
    if (st->skip_special && slm2_tok_is_special(st->tok, id)) return SLM2_OK;
    size_t start = out->n;
    slm2_buf_put(out, st->held, (size_t)st->n_held);
    slm2_buf_put(out, s, n);
    SLM2_TRY(slm2_buf_check(out, err));
    size_t k = unfinished((const uint8_t *)out->v + start, out->n - start);
    memcpy(st->held, out->v + out->n - k, k);
    st->n_held = (int)k;
    out->n -= k;
    out->v[out->n] = '\0';
    return SLM2_OK;
}

void slm2_tok_stream_flush(struct slm2_tok_stream *st, struct slm2_buf *out)
{
    slm2_buf_put(out, st->held, (size_t)st->n_held);
    st->n_held = 0;
}
