/* fuzz_tiktoken.c - any bytes as a .tiktoken file, as they are and behind the 256 single bytes: refused with a message, or a
 * vocabulary that encodes the input itself and decodes it again. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void try_open(const char *file, size_t n_file, const uint8_t *text, size_t n_text)
{
    struct slm2_err err = {0};
    struct slm2_tok *tok = NULL;
    struct slm2_buf back = {0};
    struct slm2_ids ids = {0};
    if (slm2_tok_open_memory(&tok, file, n_file, "fuzz.tiktoken", &err) != SLM2_OK) {
        if (!err.msg[0]) abort();
    } else {
        if (slm2_tok_encode(tok, (const char *)text, n_text, SLM2_TOK_SPECIAL, &ids, &err) != SLM2_OK) abort();
        if (slm2_tok_decode(tok, ids.v, ids.n, &back, &err) != SLM2_OK) abort();
        if (back.n != n_text || (n_text && memcmp(back.v, text, n_text) != 0)) abort();
    }
    slm2_tok_free(tok);
    slm2_ids_free(&ids);
    slm2_buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct slm2_buf file = {0};
    if (n > 1 << 20) return 0;
    try_open((const char *)data, n, data, n);
    for (int c = 0; c < 256; c++) slm2_buf_printf(&file, "%c%c== %d\n", digits[c >> 2], digits[(c & 3) << 4], c);
    slm2_buf_put(&file, data, n);
    try_open(file.v, file.n, data, n);
    slm2_buf_free(&file);
    return 0;
}
