/* fuzz_encode.c - any bytes as text for the bundled vocabulary: decoding the ids gives the bytes back, as a whole and as a stream,
 * with special tokens on and off; with NFC it gives the NFC, which is its own NFC. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool good)
{
    if (!good) abort();
}

static void same(const struct slm2_buf *b, const void *want, size_t n) { must(b->n == n && (n == 0 || memcmp(b->v, want, n) == 0)); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct slm2_tok *tok; /* opened once for all inputs */
    struct slm2_err err;
    struct slm2_ids ids = {0};
    struct slm2_buf back = {0}, stream = {0}, nfc = {0}, again = {0};
    bool changed, changed_again;
    if (!tok) must(slm2_tok_open(&tok, NULL, &err) == SLM2_OK);
    const char *text = n ? (const char *)data : "";
    for (int flags = 0; flags <= SLM2_TOK_SPECIAL; flags += SLM2_TOK_SPECIAL) {
        ids.n = 0;
        slm2_buf_clear(&back);
        slm2_buf_clear(&stream);
        must(slm2_tok_encode(tok, text, n, flags, &ids, &err) == SLM2_OK);
        must(slm2_tok_decode(tok, ids.v, ids.n, &back, &err) == SLM2_OK);
        same(&back, text, n);
        struct slm2_tok_stream st;
        slm2_tok_stream_init(&st, tok, false);
        for (size_t i = 0; i < ids.n; i++) must(slm2_tok_stream_feed(&st, ids.v[i], &stream, &err) == SLM2_OK);
        slm2_tok_stream_flush(&st, &stream);
        same(&stream, text, n);
    }
    must(slm2_nfc(text, n, &nfc, &changed, &err) == SLM2_OK);
    if (!changed) slm2_buf_put(&nfc, text, n);
    must(slm2_nfc(nfc.v ? nfc.v : "", nfc.n, &again, &changed_again, &err) == SLM2_OK);
    if (changed_again) same(&again, nfc.v, nfc.n);
    ids.n = 0;
    slm2_buf_clear(&back);
    must(slm2_tok_encode(tok, text, n, SLM2_TOK_NFC, &ids, &err) == SLM2_OK);
    must(slm2_tok_decode(tok, ids.v, ids.n, &back, &err) == SLM2_OK);
    same(&back, nfc.v, nfc.n);
    slm2_ids_free(&ids);
    slm2_buf_free(&back);
    slm2_buf_free(&stream);
    slm2_buf_free(&nfc);
    slm2_buf_free(&again);
    return 0;
}
