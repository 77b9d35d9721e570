/* fuzz_gguf.c - the GGUF parser: any bytes give keys and tensors inside the input, or an error; so do its configuration and its vocabulary. */
#include <stdlib.h>

#include "io/gguf.h"
#include "model/config.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(const void *p, size_t n) /* reads every byte: a sanitizer sees one that is not ours */
{
    const uint8_t *b = p;
    volatile uint8_t seen = 0;
    for (size_t i = 0; i < n; i++) seen = b[i];
    (void)seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slm2_gguf g;
    struct slm2_err err;
    if (slm2_gguf_parse(&g, data, size, "input", &err) != SLM2_OK) return 0;
    for (int i = 0; i < g.n_kv; i++) {
        const char *key = g.kv[i].key, *s;
        struct slm2_gguf_strs it;
        const uint8_t *p;
        size_t len;
        uint64_t n;
        float f;
        bool b;
        touch(g.kv[i].value, g.kv[i].bytes);
        slm2_gguf_get_u64(&g, key, UINT64_MAX, &n, &err);
        slm2_gguf_get_f32(&g, key, &f, &err);
        slm2_gguf_get_bool_or(&g, key, false, &b, &err);
        if (slm2_gguf_get_str(&g, key, &s, &len, &err) == SLM2_OK) touch(s, len);
        if (slm2_gguf_get_i32s(&g, key, &p, &n, &err) == SLM2_OK && n) slm2_gguf_i32_at(p, n - 1);
        if (slm2_gguf_get_f32s(&g, key, &p, &n, &err) == SLM2_OK && n) slm2_gguf_f32_at(p, n - 1);
        if (slm2_gguf_get_strs(&g, key, &it, &err) == SLM2_OK)
            while (slm2_gguf_strs_next(&it, &s, &len)) touch(s, len);
    }
    for (int i = 0; i < g.tensors.n; i++) {
        touch(g.tensors.v[i].data, g.tensors.v[i].bytes);
        if (slm2_tensors_find(&g.tensors, g.tensors.v[i].name) != &g.tensors.v[i]) abort();
    }
    struct slm2_config c;
    struct slm2_tok *tok;
    if (slm2_config_from_gguf(&c, &g, "input", &err) == SLM2_OK && slm2_config_check(&c, "input", &err) != SLM2_OK) abort();
    if (slm2_tok_open_memory(&tok, data, size, "input", &err) == SLM2_OK) slm2_tok_free(tok);
    slm2_gguf_free(&g);
    return 0;
}
