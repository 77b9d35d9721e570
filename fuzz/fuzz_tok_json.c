/* fuzz_tok_json.c - any bytes as a tokenizer.json: refused with a message, or a vocabulary that encodes and decodes exactly.
 * The 256 single bytes, which every vocabulary needs, are put in for the marker @BYTES@ so that seeds can stay small. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put_bytes(struct slm2_buf *b)
{
    for (int c = 0, shifted = 0; c < 256; c++) {
        bool plain = (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || c >= 0xae;
        slm2_buf_printf(b, "%s\"\\u%04x\":%d", c ? "," : "", (unsigned)(plain ? c : 256 + shifted++), c);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char mark[] = "@BYTES@", sample[] = "ab abc <s> <s>> it's\n\n  1234 \xff \xc3\xa9 e\xcc\x81";
    struct slm2_err err = {0};
    struct slm2_tok *tok = NULL;
    struct slm2_buf json = {0}, back = {0};
    struct slm2_ids ids = {0};
    if (n > 1 << 20) return 0;
    size_t head = 0, n_mark = sizeof mark - 1;
    while (head + n_mark <= n && memcmp(data + head, mark, n_mark) != 0) head++;
    if (head + n_mark > n) head = n;
    slm2_buf_put(&json, data, head);
    if (head < n) {
        put_bytes(&json);
        slm2_buf_put(&json, data + head + n_mark, n - head - n_mark);
    }
    slm2_status st = slm2_tok_open_memory(&tok, json.v ? json.v : "", json.n, "fuzz.json", &err);
    if (st != SLM2_OK && !err.msg[0]) abort();
    for (int special = 0; st == SLM2_OK && special < 2; special++) {
        ids.n = 0;
        slm2_buf_clear(&back);
        if (slm2_tok_encode(tok, sample, sizeof sample - 1, special ? SLM2_TOK_SPECIAL : 0, &ids, &err) != SLM2_OK) abort();
        if (slm2_tok_decode(tok, ids.v, ids.n, &back, &err) != SLM2_OK) abort();
        if (back.n != sizeof sample - 1 || memcmp(back.v, sample, back.n) != 0) abort();
    }
    slm2_tok_free(tok);
    slm2_ids_free(&ids);
    slm2_buf_free(&json);
    slm2_buf_free(&back);
    return 0;
}
