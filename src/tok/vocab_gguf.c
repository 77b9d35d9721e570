/* vocab_gguf.c - reads the vocabulary of a GGUF file: tokenizer.ggml.model "gpt2", tokens and merges in GPT-2's byte alphabet.
 *
 * token_type: 1 normal, 3 control (special), 4 user defined, 5 unused: no token has that id.  tokenizer.ggml.pre names the
 * splitting pattern as llama.cpp does; of these only stablelm2's vocabulary is known to normalise to NFC. */
#include <stdlib.h>

#include "base/num.h"
#include "io/gguf.h"
#include "tok/tok_impl.h"

static const struct { const char *pre; enum slm2_split split; bool nfc; } known_pre[] = {
    {"stablelm2", SLM2_SPLIT_ARCADE, true}, {"qwen2", SLM2_SPLIT_ARCADE, false},    {"llama-bpe", SLM2_SPLIT_CL100K, false},
    {"llama3", SLM2_SPLIT_CL100K, false},   {"dbrx", SLM2_SPLIT_CL100K, false},     {"smaug-bpe", SLM2_SPLIT_CL100K, false},
    {"gpt-2", SLM2_SPLIT_GPT2, false},      {"default", SLM2_SPLIT_GPT2, false},    {"olmo", SLM2_SPLIT_GPT2, false},
};

static slm2_status read_settings(struct slm2_tok *tok, const struct slm2_gguf *g, const char *what, struct slm2_err *err)
{
    const char *s;
    size_t n;
    SLM2_TRY(slm2_gguf_get_str(g, "tokenizer.ggml.model", &s, &n, err));
    if (n != 4 || memcmp(s, "gpt2", 4) != 0)
        return slm2_fail(err, SLM2_EFORMAT, "%s: tokenizer.ggml.model is \"%.*s\", want \"gpt2\" (byte-level BPE)", what, (int)slm2_min_size(n, 40), s);
    s = "default";
    n = strlen(s);
    if (slm2_gguf_find(g, "tokenizer.ggml.pre")) SLM2_TRY(slm2_gguf_get_str(g, "tokenizer.ggml.pre", &s, &n, err));
    for (size_t i = 0; i < sizeof known_pre / sizeof *known_pre; i++)
        if (strlen(known_pre[i].pre) == n && memcmp(known_pre[i].pre, s, n) == 0) {
            tok->split = known_pre[i].split;
            tok->nfc = known_pre[i].nfc;
            return SLM2_OK;
        }
    return slm2_fail(err, SLM2_EFORMAT, "%s: tokenizer.ggml.pre is \"%.*s\"; known: stablelm2, qwen2, llama-bpe, llama3, dbrx, smaug-bpe, gpt-2, default, olmo", what,
                     (int)slm2_min_size(n, 40), s);
}

static slm2_status read_tokens(struct slm2_tok *tok, const struct slm2_gguf *g, const char *what, struct slm2_err *err)
{
    struct slm2_gguf_strs it;
    struct slm2_buf b = {0};
    const uint8_t *types = NULL;
    const char *s;
    size_t n;
    uint64_t n_types = 0;
    slm2_status st = SLM2_OK;
    SLM2_TRY(slm2_gguf_get_strs(g, "tokenizer.ggml.tokens", &it, err));
    uint64_t n_tokens = it.left;
    if (slm2_gguf_find(g, "tokenizer.ggml.token_type")) {
        SLM2_TRY(slm2_gguf_get_i32s(g, "tokenizer.ggml.token_type", &types, &n_types, err));
        if (n_types != n_tokens)
            return slm2_fail(err, SLM2_EFORMAT, "%s: tokenizer.ggml.token_type has %llu entries for %llu tokens", what, (unsigned long long)n_types, (unsigned long long)n_tokens);
    }
    for (int64_t id = 0; st == SLM2_OK && slm2_gguf_strs_next(&it, &s, &n); id++) {
        int32_t type = types ? slm2_gguf_i32_at(types, (uint64_t)id) : 1;
        if (type == 5) continue;
        if (type == 3 || type == 4) {
            st = tok_add(tok, id, s, n, type == 3 ? TOK_SPECIAL : TOK_USER, what, err);
            continue;
        }
        slm2_buf_clear(&b);
        if (type != 1)
            st = slm2_fail(err, SLM2_EFORMAT, "%s: token %lld has type %d, want 1, 3, 4 or 5", what, (long long)id, type);
        else if (!tok_alphabet_get(&b, s, n))
            st = slm2_fail(err, SLM2_EFORMAT, "%s: token %lld, \"%.*s\", is not in GPT-2's byte alphabet", what, (long long)id, (int)slm2_min_size(n, 60), s);
        else if ((st = slm2_buf_check(&b, err)) == SLM2_OK)
            st = tok_add(tok, id, b.v, b.n, TOK_NORMAL, what, err);
    }
    slm2_buf_free(&b);
    SLM2_TRY(st);
    return tok_index(tok, what, err);
}

static slm2_status read_merges(struct slm2_tok *tok, const struct slm2_gguf *g, const char *what, struct slm2_err *err)
{
    struct slm2_gguf_strs it;
    const char *s;
    size_t n;
    SLM2_TRY(slm2_gguf_get_strs(g, "tokenizer.ggml.merges", &it, err));
    if (it.left > TOK_MAX_ID) return slm2_fail(err, SLM2_EFORMAT, "%s: tokenizer.ggml.merges has %llu entries, want at most %d", what, (unsigned long long)it.left, TOK_MAX_ID);
    struct tok_merge *m = malloc((it.left + 1) * sizeof *m);
    slm2_status st = m ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "%s: no memory for its merges", what);
    int32_t i = 0;
    for (; st == SLM2_OK && slm2_gguf_strs_next(&it, &s, &n); i++) {
        const char *sp = n ? memchr(s, ' ', n) : NULL;
        if (!sp)
            st = slm2_fail(err, SLM2_EFORMAT, "%s: tokenizer.ggml.merges[%d]: want \"a b\"", what, i);
        else
            st = tok_parse_merge(tok, s, (size_t)(sp - s), sp + 1, n - 1 - (size_t)(sp - s), i, what, &m[i], err);
    }
    if (st == SLM2_OK) return tok_set_merges(tok, m, i, err);
    free(m);
    return st;
}

slm2_status tok_load_gguf(struct slm2_tok *tok, const void *bytes, size_t n, const char *what, struct slm2_err *err)
{
    struct slm2_gguf g;
    SLM2_TRY(slm2_gguf_parse(&g, bytes, n, what, err));
    slm2_status st = read_settings(tok, &g, what, err);
    if (st == SLM2_OK) st = read_tokens(tok, &g, what, err);
    if (st == SLM2_OK) st = read_merges(tok, &g, what, err);
    if (st == SLM2_OK && slm2_gguf_find(&g, "tokenizer.ggml.eos_token_id")) {
        uint64_t eos;
        st = slm2_gguf_get_u64(&g, "tokenizer.ggml.eos_token_id", INT32_MAX, &eos, err);
        if (st == SLM2_OK && eos < (uint64_t)tok->n_vocab && tok->e[eos].kind == TOK_SPECIAL) tok->eos = (int32_t)eos;
    }
    slm2_gguf_free(&g);
    return st;
}
