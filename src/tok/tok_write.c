/* tok_write.c - vocabularies for other programs: .tiktoken, a Hugging Face folder, and the arrays of a GGUF file. */
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "base/num.h"
#include "tok/tok_impl.h"

static const uint8_t *bytes_of(const struct slm2_tok *tok, int32_t id) { return (const uint8_t *)tok->text.v + tok->e[id].at; }

/* ---- .tiktoken ---------------------------------------------------------------------------------------------------- */
slm2_status slm2_tok_write_tiktoken(const struct slm2_tok *tok, const char *path, struct slm2_err *err)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (tok->explicit_merges)
        return slm2_fail(err, SLM2_EUSAGE, "%s: this vocabulary has a list of merges, a .tiktoken file holds only ranks; write a Hugging Face folder", path);
    struct slm2_buf out = {0};
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        if (tok->e[id].kind != TOK_NORMAL) continue;
        const uint8_t *s = bytes_of(tok, id);
        for (size_t i = 0, n = tok->e[id].n; i < n; i += 3) {
            uint32_t v = (uint32_t)s[i] << 16 | (i + 1 < n ? (uint32_t)s[i + 1] << 8 : 0) | (i + 2 < n ? s[i + 2] : 0);
            char q[4] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=', i + 2 < n ? digits[v & 63] : '='};
            slm2_buf_put(&out, q, 4);
        }
        slm2_buf_printf(&out, " %d\n", id);
    }
    slm2_status st = slm2_buf_check(&out, err);
    if (st == SLM2_OK) st = slm2_file_write(path, out.v, out.n, err);
    slm2_buf_free(&out);
    return st;
}

/* ---- Hugging Face folder ------------------------------------------------------------------------------------------ */
static void put_json_string(struct slm2_buf *out, const char *s, size_t n)
{
    slm2_buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)s[i];
        if (c == '"' || c == '\\')
            slm2_buf_printf(out, "\\%c", c);
        else if (c < 0x20)
            slm2_buf_printf(out, "\\u%04x", c);
        else
            slm2_buf_putc(out, (char)c);
    }
    slm2_buf_putc(out, '"');
}

static void put_token(struct slm2_buf *out, struct slm2_buf *tmp, const struct slm2_tok *tok, int32_t id)
{
    slm2_buf_clear(tmp);
    tok_alphabet_put(tmp, bytes_of(tok, id), tok->e[id].n);
    put_json_string(out, tmp->v, tmp->n);
}

/* {"token": id, ...}, one a line, in order of the ids */
static void put_vocab(struct slm2_buf *out, struct slm2_buf *tmp, const struct slm2_tok *tok, const char *indent)
{
    const char *sep = "";
    slm2_buf_puts(out, "{");
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        if (tok->e[id].kind != TOK_NORMAL) continue;
        slm2_buf_printf(out, "%s\n%s", sep, indent);
        put_token(out, tmp, tok, id);
        slm2_buf_printf(out, ": %d", id);
        sep = ",";
    }
    slm2_buf_puts(out, "\n}");
}

static void put_pre_tokenizer(struct slm2_buf *out, enum slm2_split split)
{
    static const char head[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}";
    static const char tail[] = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    struct slm2_buf re = {0};
    if (split == SLM2_SPLIT_GPT2) {
        slm2_buf_puts(out, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}");
        return;
    }
    slm2_buf_printf(&re, "%s%s%s", head, split == SLM2_SPLIT_CL100K ? "{1,3}" : "", tail);
    slm2_buf_puts(out, "{\"type\": \"Sequence\", \"pretokenizers\": [\n    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
    put_json_string(out, re.v, re.n);
    slm2_buf_puts(out, "}, \"behavior\": \"Isolated\", \"invert\": false},\n"
                       "    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}\n  ]}");
    out->failed |= re.failed;
    slm2_buf_free(&re);
}

static void put_tokenizer_json(struct slm2_buf *out, struct slm2_buf *tmp, const struct slm2_tok *tok, const struct tok_merge *m, int32_t n_m, bool ignore_merges)
{
    const char *sep = "";
    slm2_buf_puts(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        if (tok->e[id].kind < TOK_SPECIAL) continue;
        slm2_buf_printf(out, "%s\n    {\"id\": %d, \"content\": ", sep, id);
        put_json_string(out, (const char *)bytes_of(tok, id), tok->e[id].n);
        /* normalized: looked for after NFC, as the original tokenizer does */
        slm2_buf_printf(out, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": true, \"special\": %s}",
                        tok->e[id].kind == TOK_SPECIAL ? "true" : "false");
        sep = ",";
    }
    slm2_buf_printf(out, "\n  ],\n  \"normalizer\": %s,\n  \"pre_tokenizer\": ", tok->nfc ? "{\"type\": \"NFC\"}" : "null");
    put_pre_tokenizer(out, tok->split);
    slm2_buf_puts(out, ",\n  \"post_processor\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": true},\n"
                       "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n"
                       "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n"
                       "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n");
    slm2_buf_printf(out, "    \"ignore_merges\": %s,\n    \"vocab\": ", ignore_merges ? "true" : "false");
    put_vocab(out, tmp, tok, "      ");
    slm2_buf_puts(out, ",\n    \"merges\": [");
    for (int32_t i = 0; i < n_m; i++) {
        slm2_buf_clear(tmp);
        tok_alphabet_put(tmp, bytes_of(tok, m[i].a), tok->e[m[i].a].n);
        slm2_buf_putc(tmp, ' ');
        tok_alphabet_put(tmp, bytes_of(tok, m[i].b), tok->e[m[i].b].n);
        slm2_buf_puts(out, i ? ",\n      " : "\n      ");
        put_json_string(out, tmp->v, tmp->n);
    }
    slm2_buf_puts(out, "\n    ]\n  }\n}\n");
}

/* json_object_set_new that remembers a failure */
static void set(json_t *o, const char *key, json_t *v, bool *failed) { *failed |= json_object_set_new(o, key, v) != 0; }

static json_t *text_of(const struct slm2_tok *tok, int32_t id) { return json_stringn((const char *)bytes_of(tok, id), tok->e[id].n); }

static slm2_status write_config(const struct slm2_tok *tok, const char *dir, const char *chat_template, int64_t model_max_length, struct slm2_err *err)
{
    char path[4096], key[16];
    bool failed = false;
    slm2_status st;
    json_t *o = json_object(), *map = json_object(), *added = json_object();
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        if (tok->e[id].kind < TOK_SPECIAL) continue;
        json_t *t = json_object();
        set(t, "content", text_of(tok, id), &failed);
        set(t, "lstrip", json_false(), &failed);
        set(t, "normalized", json_true(), &failed);
        set(t, "rstrip", json_false(), &failed);
        set(t, "single_word", json_false(), &failed);
        set(t, "special", json_boolean(tok->e[id].kind == TOK_SPECIAL), &failed);
        snprintf(key, sizeof key, "%d", id);
        set(added, key, t, &failed);
    }
    set(o, "add_prefix_space", json_false(), &failed);
    set(o, "added_tokens_decoder", json_incref(added), &failed);
    static const char *const roles[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
    for (size_t i = 0; i < 4 && tok->eos >= 0; i++) {
        set(o, roles[i], text_of(tok, tok->eos), &failed);
        set(map, roles[i], text_of(tok, tok->eos), &failed);
    }
    if (chat_template) set(o, "chat_template", json_string(chat_template), &failed);
    set(o, "clean_up_tokenization_spaces", json_false(), &failed);
    if (model_max_length > 0) set(o, "model_max_length", json_integer(model_max_length), &failed);
    set(o, "tokenizer_class", json_string("PreTrainedTokenizerFast"), &failed);
    st = failed ? slm2_fail(err, SLM2_ENOMEM, "%s: no memory for tokenizer_config.json", dir) : slm2_path_join(path, sizeof path, dir, "tokenizer_config.json", err);
    if (st == SLM2_OK) st = slm2_json_write(o, path, err);
    if (st == SLM2_OK) st = slm2_path_join(path, sizeof path, dir, "special_tokens_map.json", err);
    if (st == SLM2_OK) st = slm2_json_write(map, path, err);
    json_decref(o);
    json_decref(map);
    json_decref(added);
    return st;
}

/* the file dir/name from out, which is emptied */
static slm2_status write_out(struct slm2_buf *out, const char *dir, const char *name, struct slm2_err *err)
{
    char path[4096];
    SLM2_TRY(slm2_buf_check(out, err));
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, name, err));
    SLM2_TRY(slm2_file_write(path, out->v, out->n, err));
    slm2_buf_clear(out);
    return SLM2_OK;
}

slm2_status slm2_tok_write_hf(const struct slm2_tok *tok, const char *dir, const char *chat_template, int64_t model_max_length,
                              struct slm2_err *err)
{
    struct slm2_buf out = {0}, tmp = {0};
    struct tok_merge *m = NULL;
    int32_t n_m = 0, n_long = 0;
    slm2_status st = tok_merges(tok, &m, &n_m, err);
    if (st != SLM2_OK) goto done;
    for (int32_t id = 0; id < tok->n_vocab; id++) n_long += tok->e[id].kind == TOK_NORMAL && tok->e[id].n > 1;
    put_tokenizer_json(&out, &tmp, tok, m, n_m, tok->explicit_merges ? tok->ignore_merges : n_m < n_long);
    st = write_out(&out, dir, "tokenizer.json", err);
    if (st != SLM2_OK) goto done;
    put_vocab(&out, &tmp, tok, "  ");
    slm2_buf_puts(&out, "\n");
    st = write_out(&out, dir, "vocab.json", err);
    if (st != SLM2_OK) goto done;
    slm2_buf_puts(&out, "#version: 0.2\n");
    for (int32_t i = 0; i < n_m; i++) {
        tok_alphabet_put(&out, bytes_of(tok, m[i].a), tok->e[m[i].a].n);
        slm2_buf_putc(&out, ' ');
        tok_alphabet_put(&out, bytes_of(tok, m[i].b), tok->e[m[i].b].n);
        slm2_buf_putc(&out, '\n');
    }
    st = write_out(&out, dir, "merges.txt", err);
    if (st == SLM2_OK) st = write_config(tok, dir, chat_template, model_max_length, err);
done:
    slm2_buf_free(&out);
    slm2_buf_free(&tmp);
    free(m);
    return st;
}

/* ---- GGUF --------------------------------------------------------------------------------------------------------- */
slm2_status slm2_tok_gguf_make(const struct slm2_tok *tok, int32_t n_tokens, struct slm2_tok_gguf *g, struct slm2_err *err)
{
    *g = (struct slm2_tok_gguf){.pre = tok->split == SLM2_SPLIT_GPT2 ? "gpt-2" : tok->split == SLM2_SPLIT_CL100K ? "llama-bpe" : "stablelm2"};
    if (n_tokens < tok->n_vocab || n_tokens > TOK_MAX_ID)
        return slm2_fail(err, SLM2_EUSAGE, "GGUF vocabulary: %d rows for token ids up to %d", n_tokens, tok->n_vocab - 1);
    struct tok_merge *m = NULL;
    size_t *at = NULL; /* where each string begins in g->text: it moves while it grows */
    slm2_status st = tok_merges(tok, &m, &g->n_merges, err);
    if (st != SLM2_OK) goto done;
    g->n_tokens = n_tokens;
    g->tokens = malloc((size_t)n_tokens * sizeof *g->tokens);
    g->types = malloc((size_t)n_tokens * sizeof *g->types);
    g->merges = malloc(((size_t)g->n_merges + 1) * sizeof *g->merges);
    at = malloc(((size_t)n_tokens + (size_t)g->n_merges) * sizeof *at);
    if (!g->tokens || !g->types || !g->merges || !at) {
        st = slm2_fail(err, SLM2_ENOMEM, "GGUF vocabulary: no memory for %d tokens", n_tokens);
        goto done;
    }
    for (int32_t id = 0; id < n_tokens; id++) {
        int kind = id < tok->n_vocab ? tok->e[id].kind : TOK_NONE;
        at[id] = g->text.n;
        g->types[id] = kind == TOK_NORMAL ? 1 : kind == TOK_SPECIAL ? 3 : kind == TOK_USER ? 4 : 5;
        if (kind == TOK_NONE)
            slm2_buf_printf(&g->text, "[PAD%d]", id);
        else if (kind == TOK_NORMAL)
            tok_alphabet_put(&g->text, bytes_of(tok, id), tok->e[id].n);
        else
            slm2_buf_put(&g->text, bytes_of(tok, id), strnlen((const char *)bytes_of(tok, id), tok->e[id].n));
        slm2_buf_putc(&g->text, '\0');
    }
    for (int32_t i = 0; i < g->n_merges; i++) {
        at[n_tokens + i] = g->text.n;
        tok_alphabet_put(&g->text, bytes_of(tok, m[i].a), tok->e[m[i].a].n);
        slm2_buf_putc(&g->text, ' ');
        tok_alphabet_put(&g->text, bytes_of(tok, m[i].b), tok->e[m[i].b].n);
        slm2_buf_putc(&g->text, '\0');
    }
    st = slm2_buf_check(&g->text, err);
    if (st != SLM2_OK) goto done;
    for (int32_t id = 0; id < n_tokens; id++) g->tokens[id] = g->text.v + at[id];
    for (int32_t i = 0; i < g->n_merges; i++) g->merges[i] = g->text.v + at[n_tokens + i];
done:
    free(m);
    free(at);
    if (st != SLM2_OK) slm2_tok_gguf_free(g);
    return st;
}

void slm2_tok_gguf_free(struct slm2_tok_gguf *g)
{
    free(g->tokens);
    free(g->types);
    free(g->merges);
    slm2_buf_free(&g->text);
    *g = (struct slm2_tok_gguf){0};
}
