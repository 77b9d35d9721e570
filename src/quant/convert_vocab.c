/* convert_vocab.c - the vocabulary of a converted model: which one, and its keys in GGUF or its files in a folder. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/num.h"
#include "quant/convert_impl.h"
#include "tok/tok.h"

#define SYNTHETIC "slm2.synthetic_vocab"
#define TEMPLATE "tokenizer.chat_template"

/* ---- which vocabulary ---------------------------------------------------------------------------------------------------- */
static bool has_suffix(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

static bool folder_has_vocab(const char *dir)
{
    struct dirent *f;
    bool found = false;
    DIR *d = opendir(dir);
    if (!d) return false;
    while ((f = readdir(d))) found = found || !strcmp(f->d_name, "tokenizer.json") || has_suffix(f->d_name, ".tiktoken");
    closedir(d);
    return found;
}

/* Opens the vocabulary that convert.h describes; *tok stays NULL when a stand-in has to serve. */
static slm2_status open_vocab(struct slm2_tok **tok, const struct convert_source *s, const struct slm2_convert_opts *o, char note[96], struct slm2_err *err)
{
    bool standin = false;
    slm2_status st;
    *tok = NULL;
    if (o->tokenizer) {
        snprintf(note, 96, "%s", o->tokenizer);
        st = slm2_tok_open(tok, o->tokenizer, err);
    } else if (s->is_gguf) {
        SLM2_TRY(slm2_gguf_get_bool_or(&s->gguf, SYNTHETIC, false, &standin, err));
        snprintf(note, 96, "%s", standin ? "a stand-in of byte tokens" : "the GGUF file's own");
        st = standin ? SLM2_OK : slm2_tok_open(tok, s->path, err);
    } else if (folder_has_vocab(s->path)) {
        snprintf(note, 96, "the folder's own");
        st = slm2_tok_open(tok, s->path, err);
    } else {
        snprintf(note, 96, "the bundled Arcade100k");
        st = slm2_tok_open(tok, NULL, err);
        if (st == SLM2_OK && slm2_tok_n_vocab(*tok) > s->cfg.vocab_size) {
            snprintf(note, 96, "a stand-in of byte tokens");
            slm2_tok_free(*tok);
            *tok = NULL;
        }
    }
    if (st == SLM2_OK && *tok && slm2_tok_n_vocab(*tok) > s->cfg.vocab_size) {
        st = slm2_fail(err, SLM2_EFORMAT, "%s: the vocabulary (%s) has %d tokens, the model has rows for %d; name another with --tokenizer", s->path, note,
                       slm2_tok_n_vocab(*tok), s->cfg.vocab_size);
        slm2_tok_free(*tok);
        *tok = NULL;
    }
    return st;
}

/* "chat_template" is a text, or a list of {name, template} of which "default" counts. */
static const char *template_of(const json_t *config)
{
    const json_t *t = json_object_get(config, "chat_template"), *item;
    size_t i;
    if (json_is_string(t)) return json_string_value(t);
    json_array_foreach(t, i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && !strcmp(name, "default")) return json_string_value(json_object_get(item, "template"));
    }
    return NULL;
}

/* chat_template.jinja, else in tokenizer_config.json, as slm2_chat_detect; appends nothing when the folder has no template. */
static slm2_status folder_template(struct slm2_buf *out, const char *dir, struct slm2_err *err)
{
    char path[4096];
    json_t *config = NULL;
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, "chat_template.jinja", err));
    if (slm2_path_exists(path)) SLM2_TRY(slm2_file_read(out, path, (size_t)1 << 20, err));
    if (out->n) return SLM2_OK;
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, "tokenizer_config.json", err));
    if (slm2_path_exists(path)) SLM2_TRY(slm2_json_read(&config, path, (size_t)16 << 20, err));
    const char *text = template_of(config);
    if (text) slm2_buf_puts(out, text);
    json_decref(config);
    return slm2_buf_check(out, err);
}

/* Appends the chat template, Jinja text; nothing when there is none. */
static slm2_status find_template(struct slm2_buf *out, const struct convert_source *s, const struct slm2_convert_opts *o, struct slm2_err *err)
{
    const char *text;
    size_t n;
    if (o->chat_template) {
        slm2_buf_puts(out, o->chat_template);
    } else if (!s->is_gguf) {
        SLM2_TRY(folder_template(out, s->path, err));
    } else if (slm2_gguf_find(&s->gguf, TEMPLATE)) {
        SLM2_TRY(slm2_gguf_get_str(&s->gguf, TEMPLATE, &text, &n, err));
        slm2_buf_put(out, text, n);
    }
    return slm2_buf_check(out, err);
}

/* ---- GGUF ------------------------------------------------------------------------------------------------------------------ */
/* Byte b in the alphabet of GPT-2 vocabularies, as UTF-8: printable Latin-1 stands for itself, the others are U+0100 and up. */
static void byte_letter(int b, char out[4])
{
    int cp = b, n_before = 0;
    for (int i = 0; i <= b; i++) {
        bool plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        if (i == b && !plain) cp = 256 + n_before;
        n_before += !plain;
    }
    if (cp < 128) {
        out[0] = (char)cp;
        out[1] = 0;
    } else {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 63));
        out[2] = 0;
    }
}

static slm2_status put_standin(struct slm2_gguf_writer *w, const struct slm2_config *cfg, struct slm2_err *err)
{
    enum { NORMAL = 1, CONTROL = 3, UNUSED = 5, TEXT = 32 };
    size_t n = (size_t)cfg->vocab_size;
    char (*text)[TEXT] = calloc(n, sizeof *text);
    const char **tokens = calloc(n, sizeof *tokens);
    int32_t *types = calloc(n, sizeof *types);
    slm2_status st = SLM2_OK;
    if (!text || !tokens || !types) {
        st = slm2_fail(err, SLM2_ENOMEM, "no memory for a vocabulary of %zu tokens", n);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        bool eos = (int)i == cfg->eos_id, bos = (int)i == cfg->bos_id;
        tokens[i] = text[i];
        types[i] = eos || bos ? CONTROL : i < 256 ? NORMAL : UNUSED;
        if (eos) snprintf(text[i], TEXT, "<|endoftext|>");
        else if (bos) snprintf(text[i], TEXT, "<|startoftext|>");
        else if (i < 256) byte_letter((int)i, text[i]);
        else snprintf(text[i], TEXT, "[PAD%zu]", i);
    }
    slm2_gguf_put_str(w, "tokenizer.ggml.model", "gpt2");
    slm2_gguf_put_str(w, "tokenizer.ggml.pre", "stablelm2");
    slm2_gguf_put_strs(w, "tokenizer.ggml.tokens", tokens, NULL, n);
    slm2_gguf_put_i32s(w, "tokenizer.ggml.token_type", types, n);
    slm2_gguf_put_strs(w, "tokenizer.ggml.merges", NULL, NULL, 0);
    slm2_gguf_put_bool(w, SYNTHETIC, true);
done:
    free(text);
    free(tokens);
    free(types);
    return st;
}

static slm2_status put_tok(struct slm2_gguf_writer *w, const struct slm2_tok *tok, const struct slm2_config *cfg, struct slm2_err *err)
{
    struct slm2_tok_gguf v = {0};
    SLM2_TRY(slm2_tok_gguf_make(tok, cfg->vocab_size, &v, err));
    slm2_gguf_put_str(w, "tokenizer.ggml.model", "gpt2");
    slm2_gguf_put_str(w, "tokenizer.ggml.pre", v.pre);
    slm2_gguf_put_strs(w, "tokenizer.ggml.tokens", v.tokens, NULL, (uint64_t)v.n_tokens);
    slm2_gguf_put_i32s(w, "tokenizer.ggml.token_type", v.types, (uint64_t)v.n_tokens);
    slm2_gguf_put_strs(w, "tokenizer.ggml.merges", v.merges, NULL, (uint64_t)v.n_merges);
    slm2_tok_gguf_free(&v);
    return SLM2_OK;
}

slm2_status convert_put_vocab(struct slm2_gguf_writer *w, const struct convert_source *s, const struct slm2_convert_opts *o, char note[96],
                              struct slm2_err *err)
{
    struct slm2_tok *tok;
    struct slm2_buf template = {0};
    if (s->is_gguf && !o->tokenizer) { /* key by key, as it is */
        for (int i = 0; i < s->gguf.n_kv; i++) {
            const struct slm2_gguf_kv *kv = &s->gguf.kv[i];
            bool replaced = o->chat_template && !strcmp(kv->key, TEMPLATE);
            if ((!strncmp(kv->key, "tokenizer.", 10) || !strcmp(kv->key, SYNTHETIC)) && !replaced) slm2_gguf_put_kv(w, kv);
        }
        if (o->chat_template) slm2_gguf_put_str(w, TEMPLATE, o->chat_template);
        snprintf(note, 96, "the GGUF file's own");
        return SLM2_OK;
    }
    SLM2_TRY(open_vocab(&tok, s, o, note, err));
    slm2_status st = tok ? put_tok(w, tok, &s->cfg, err) : put_standin(w, &s->cfg, err);
    slm2_tok_free(tok);
    if (st == SLM2_OK) st = find_template(&template, s, o, err);
    slm2_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)s->cfg.bos_id);
    slm2_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)s->cfg.eos_id);
    slm2_gguf_put_u32(w, "tokenizer.ggml.padding_token_id", (uint32_t)s->cfg.bos_id); /* <|endoftext|> is BOS and PAD in this family */
    slm2_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false);
    if (template.n) slm2_gguf_put_strn(w, TEMPLATE, template.v, template.n);
    slm2_buf_free(&template);
    return st;
}

/* ---- folders --------------------------------------------------------------------------------------------------------------- */
slm2_status convert_write_vocab(const char *dir, const struct convert_source *s, const struct slm2_convert_opts *o, char note[96], struct slm2_err *err)
{
    struct slm2_tok *tok;
    struct slm2_buf template = {0};
    slm2_status st = SLM2_OK;
    if (!s->is_gguf && !o->tokenizer && !o->chat_template) { /* the files as they are; also when there is no vocabulary among them */
        DIR *d = opendir(s->path);
        if (!d) return slm2_fail_errno(err, "%s: cannot list the folder", s->path);
        struct dirent *f;
        snprintf(note, 96, "%s", folder_has_vocab(s->path) ? "the folder's own" : "none");
        while (st == SLM2_OK && (f = readdir(d))) {
            if (slm2_tok_is_file(f->d_name) || !strcmp(f->d_name, "generation_config.json")) st = slm2_file_copy(s->path, dir, f->d_name, true, err);
        }
        closedir(d);
        return st;
    }
    SLM2_TRY(open_vocab(&tok, s, o, note, err));
    if (!tok) {
        snprintf(note, 96, "none");
        return SLM2_OK;
    }
    st = find_template(&template, s, o, err);
    if (st == SLM2_OK) st = slm2_tok_write_hf(tok, dir, template.n ? template.v : NULL, s->cfg.n_ctx, err);
    slm2_tok_free(tok);
    slm2_buf_free(&template);
    return st;
}
