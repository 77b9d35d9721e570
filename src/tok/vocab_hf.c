/* vocab_hf.c - reads Hugging Face's tokenizer.json in its GPT-2 byte-level form.
 *
 * Taken: model BPE (vocab, merges as "a b" or ["a", "b"], ignore_merges), added_tokens, normalizer NFC or none, pre_tokenizer
 * ByteLevel or Split with one of the patterns of pretok.c.  Anything that would change the ids and is not known here is an
 * error that names it.  Normalisation comes before added tokens are looked for, whatever their `normalized` says. */
#include <stdlib.h>

#include "base/json.h"
#include "tok/tok_impl.h"

#define REST "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}%s| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const char *type_of(const json_t *o)
{
    const char *t = json_string_value(json_object_get(o, "type"));
    return t ? t : "none";
}

/* Split whose pattern is one that pretok.c knows */
static bool known_pattern(const char *re, enum slm2_split *split)
{
    static const char *const heads[] = {"(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"};
    static const char *const numbers[] = {"", "{1,3}"};
    char s[256];
    for (size_t h = 0; h < 2; h++)
        for (size_t k = 0; k < 2; k++) {
            snprintf(s, sizeof s, "%s" REST, heads[h], numbers[k]);
            if (strcmp(s, re) == 0) {
                *split = k ? SLM2_SPLIT_CL100K : SLM2_SPLIT_ARCADE;
                return true;
            }
        }
    if (strcmp(re, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+") != 0) return false;
    *split = SLM2_SPLIT_GPT2;
    return true;
}

/* one pre-tokenizer of the sequence; *n_split counts what decided the split, *byte_level whether bytes were mapped */
static slm2_status read_step(struct slm2_tok *tok, const json_t *o, int *n_split, bool *byte_level, const char *what, struct slm2_err *err)
{
    const char *type = type_of(o);
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(o, "pretokenizers");
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *step = json_array_get(list, i);
            if (strcmp(type_of(step), "Sequence") == 0) return slm2_fail(err, SLM2_EFORMAT, "%s: pre_tokenizer: a Sequence inside a Sequence", what);
            SLM2_TRY(read_step(tok, step, n_split, byte_level, what, err));
        }
        return SLM2_OK;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        const json_t *use = json_object_get(o, "use_regex");
        if (json_is_true(json_object_get(o, "add_prefix_space")))
            return slm2_fail(err, SLM2_EFORMAT, "%s: pre_tokenizer.add_prefix_space is true, which is not supported", what);
        *byte_level = true;
        if (!use || json_is_true(use)) {
            tok->split = SLM2_SPLIT_GPT2;
            (*n_split)++;
        }
        return SLM2_OK;
    }
    if (strcmp(type, "Split") == 0) {
        const char *re = json_string_value(json_object_get(json_object_get(o, "pattern"), "Regex"));
        const char *behavior = json_string_value(json_object_get(o, "behavior"));
        bool invert = json_is_true(json_object_get(o, "invert"));
        if (!re || !known_pattern(re, &tok->split))
            return slm2_fail(err, SLM2_EFORMAT, "%s: pre_tokenizer: unknown Split pattern %.300s; known: those of GPT-2, cl100k and Arcade100k", what, re ? re : "(none)");
        if (!behavior || !(strcmp(behavior, "Isolated") == 0 || (strcmp(behavior, "Removed") == 0 && invert)))
            return slm2_fail(err, SLM2_EFORMAT, "%s: pre_tokenizer: Split behavior %s, want Isolated, or Removed with invert", what, behavior ? behavior : "missing");
        (*n_split)++;
        return SLM2_OK;
    }
    return slm2_fail(err, SLM2_EFORMAT, "%s: pre_tokenizer of type %s, want ByteLevel, Split or a Sequence of these", what, type);
}

static slm2_status read_normalizer(struct slm2_tok *tok, const json_t *o, const char *what, struct slm2_err *err)
{
    if (!o || json_is_null(o)) return SLM2_OK;
    if (strcmp(type_of(o), "Sequence") == 0) {
        const json_t *list = json_object_get(o, "normalizers");
        if (json_array_size(list) == 0) return SLM2_OK;
        if (json_array_size(list) == 1) o = json_array_get(list, 0);
    }
    if (strcmp(type_of(o), "NFC") != 0)
        return slm2_fail(err, SLM2_EFORMAT, "%s: normalizer of type %s, want NFC or null", what, type_of(o));
    tok->nfc = true;
    return SLM2_OK;
}

static slm2_status read_added(struct slm2_tok *tok, const json_t *list, const char *what, struct slm2_err *err)
{
    if (list && !json_is_array(list)) return slm2_fail(err, SLM2_EFORMAT, "%s: added_tokens is not an array", what);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i), *text = json_object_get(o, "content"), *id = json_object_get(o, "id");
        static const char *const flags[] = {"lstrip", "rstrip", "single_word"};
        if (!json_is_string(text) || !json_is_integer(id))
            return slm2_fail(err, SLM2_EFORMAT, "%s: added_tokens[%zu]: want an object with an integer `id` and a string `content`", what, i);
        for (size_t k = 0; k < 3; k++)
            if (json_is_true(json_object_get(o, flags[k])))
                return slm2_fail(err, SLM2_EFORMAT, "%s: added_tokens[%zu], \"%.60s\": %s is true, which is not supported", what, i, json_string_value(text), flags[k]);
        SLM2_TRY(tok_add(tok, json_integer_value(id), json_string_value(text), json_string_length(text),
                         json_is_true(json_object_get(o, "special")) ? TOK_SPECIAL : TOK_USER, what, err));
    }
    return SLM2_OK;
}

static slm2_status read_vocab(struct slm2_tok *tok, const json_t *vocab, const char *what, struct slm2_err *err)
{
    struct slm2_buf b = {0};
    slm2_status st = SLM2_OK;
    const char *key;
    const json_t *v;
    /* jansson's iteration macros want a writable object, though they only read it */
    for (void *it = json_object_iter((json_t *)(uintptr_t)vocab); it && st == SLM2_OK; it = json_object_iter_next((json_t *)(uintptr_t)vocab, it)) {
        key = json_object_iter_key(it);
        v = json_object_iter_value(it);
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id >= 0 && id < tok->n_vocab && tok->e[id].kind != TOK_NONE) {
            if (strlen(key) == tok->e[id].n && memcmp(key, tok->text.v + tok->e[id].at, tok->e[id].n) == 0) continue; /* an added token, listed twice */
        }
        slm2_buf_clear(&b);
        if (!tok_alphabet_get(&b, key, strlen(key)))
            st = slm2_fail(err, SLM2_EFORMAT, "%s: model.vocab: \"%.60s\" is not in GPT-2's byte alphabet", what, key);
        else if ((st = slm2_buf_check(&b, err)) == SLM2_OK)
            st = tok_add(tok, id, b.v, b.n, TOK_NORMAL, what, err);
    }
    slm2_buf_free(&b);
    return st;
}

static slm2_status read_merges(struct slm2_tok *tok, const json_t *list, const char *what, struct slm2_err *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > TOK_MAX_ID) return slm2_fail(err, SLM2_EFORMAT, "%s: model.merges: want an array of at most %d", what, TOK_MAX_ID);
    struct tok_merge *m = malloc((n + 1) * sizeof *m);
    slm2_status st = m ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %zu merges", what, n);
    for (size_t i = 0; i < n && st == SLM2_OK; i++) {
        const json_t *o = json_array_get(list, i);
        const char *a = NULL, *b = NULL;
        size_t n_a = 0, n_b = 0;
        if (json_is_string(o)) {
            a = json_string_value(o);
            b = strchr(a, ' ');
            if (b) {
                n_a = (size_t)(b++ - a);
                n_b = strlen(b);
            }
        } else if (json_array_size(o) == 2) {
            a = json_string_value(json_array_get(o, 0));
            b = json_string_value(json_array_get(o, 1));
            n_a = a ? strlen(a) : 0;
            n_b = b ? strlen(b) : 0;
        }
        if (!a || !b)
            st = slm2_fail(err, SLM2_EFORMAT, "%s: model.merges[%zu]: want \"a b\" or [\"a\", \"b\"]", what, i);
        else
            st = tok_parse_merge(tok, a, n_a, b, n_b, (int32_t)i, what, &m[i], err);
    }
    if (st == SLM2_OK) return tok_set_merges(tok, m, (int32_t)n, err);
    free(m);
    return st;
}

static slm2_status read_model(struct slm2_tok *tok, const json_t *model, const char *what, struct slm2_err *err)
{
    const char *type = json_string_value(json_object_get(model, "type")); /* old files leave it out */
    const json_t *vocab = json_object_get(model, "vocab");
    static const char *const affix[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    if (!json_is_object(model) || (type && strcmp(type, "BPE") != 0) || !json_is_object(vocab))
        return slm2_fail(err, SLM2_EFORMAT, "%s: model of type %s, want BPE with an object `vocab`", what, type ? type : "(none)");
    for (size_t i = 0; i < 2; i++) {
        const char *v = json_string_value(json_object_get(model, affix[i]));
        if (v && *v) return slm2_fail(err, SLM2_EFORMAT, "%s: model.%s is \"%.20s\", which is not supported", what, affix[i], v);
    }
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return slm2_fail(err, SLM2_EFORMAT, "%s: model.byte_fallback is true: not the byte-level form", what);
    tok->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    SLM2_TRY(read_vocab(tok, vocab, what, err));
    SLM2_TRY(tok_index(tok, what, err));
    return read_merges(tok, json_object_get(model, "merges"), what, err);
}

slm2_status tok_load_hf(struct slm2_tok *tok, const char *json, size_t n, const char *what, struct slm2_err *err)
{
    json_t *root = NULL;
    int n_split = 0;
    bool byte_level = false;
    SLM2_TRY(slm2_json_parse(&root, json, n, what, err));
    slm2_status st = read_normalizer(tok, json_object_get(root, "normalizer"), what, err);
    if (st == SLM2_OK) st = read_step(tok, json_object_get(root, "pre_tokenizer"), &n_split, &byte_level, what, err);
    if (st == SLM2_OK && (n_split != 1 || !byte_level))
        st = slm2_fail(err, SLM2_EFORMAT, "%s: pre_tokenizer: %d patterns%s, want one pattern and ByteLevel", what, n_split, byte_level ? "" : " and no ByteLevel");
    if (st == SLM2_OK) st = read_added(tok, json_object_get(root, "added_tokens"), what, err);
    if (st == SLM2_OK) st = read_model(tok, json_object_get(root, "model"), what, err);
    json_decref(root);
    return st;
}
