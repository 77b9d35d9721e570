/* info.c - looks at a path, finds out what it is, and describes it as a JSON object.  Opening checks a file as loading does. */
#include "cli/info.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "data/shard.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/lora.h"
#include "tok/chat.h"
#include "tok/tok.h"
#include "train/ckpt.h"
#include "train/ledger.h"

#define MAX_JSON_BYTES ((size_t)256 << 20)

static void set(json_t *j, const char *key, json_t *value) { json_object_set_new(j, key, value ? value : json_null()); }
static void set_int(json_t *j, const char *key, int64_t v) { set(j, key, json_integer((json_int_t)v)); }
static void set_str(json_t *j, const char *key, const char *s) { set(j, key, json_string(s)); }

static bool in_dir(char out[4096], const char *dir, const char *name)
{
    return slm2_path_join(out, 4096, dir, name, NULL) == SLM2_OK && slm2_path_exists(out);
}

/* ---- tensors and models ---------------------------------------------------------------------------------------------------- */
static void put_tensors(json_t *j, const struct slm2_tensors *ts, bool list)
{
    json_t *types = json_object(), *all = list ? json_array() : NULL;
    size_t bytes = 0, elems = 0;
    for (int i = 0; i < ts->n; i++) {
        const struct slm2_tensor *t = &ts->v[i];
        set_int(types, t->type_name, json_integer_value(json_object_get(types, t->type_name)) + 1);
        bytes += t->bytes;
        elems += slm2_tensor_n_elems(t);
        if (!list) continue;
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dim; d++) json_array_append_new(shape, json_integer(t->dim[d]));
        json_array_append_new(all, json_pack("{s:o, s:s, s:o, s:I}", "name", slm2_json_text(t->name, strlen(t->name)), "type", t->type_name, "shape", shape, "bytes",
                                             (json_int_t)t->bytes));
    }
    set_int(j, "tensors", ts->n);
    set_int(j, "elements", (int64_t)elems);
    set_int(j, "bytes", (int64_t)bytes);
    set(j, "types", types);
    if (list) set(j, "tensor_list", all);
}

static void put_config(json_t *j, const struct slm2_config *c)
{
    struct slm2_params p;
    struct slm2_err err;
    json_t *m = json_object();
    if (slm2_params_list(&p, c, &err) == SLM2_OK) {
        set_int(m, "parameters", (int64_t)p.n_elem);
        slm2_params_list_free(&p);
    }
    set_int(m, "vocab_size", c->vocab_size);
    set_int(m, "hidden_size", c->hidden_size);
    set_int(m, "intermediate_size", c->intermediate_size);
    set_int(m, "n_layer", c->n_layer);
    set_int(m, "n_head", c->n_head);
    set_int(m, "n_kv_head", c->n_kv_head);
    set_int(m, "head_dim", c->head_dim);
    set_int(m, "n_rot", c->n_rot);
    set_int(m, "n_ctx", c->n_ctx);
    set(m, "rope_theta", json_real((double)c->rope_theta));
    set(m, "qkv_bias", json_boolean(c->qkv_bias));
    set(m, "qk_norm", json_boolean(c->qk_norm));
    set(m, "parallel_residual", json_boolean(c->parallel_residual));
    set_int(m, "bos_id", c->bos_id);
    set_int(m, "eos_id", c->eos_id);
    set(j, "model", m);
}

static slm2_status info_safetensors(json_t *j, const char *path, bool list, struct slm2_err *err)
{
    struct slm2_tensors ts;
    SLM2_TRY(slm2_safetensors_open(&ts, path, err));
    set_str(j, "kind", "safetensors");
    set_int(j, "files", ts.n_map);
    if (ts.metadata) set(j, "metadata", json_incref(ts.metadata));
    put_tensors(j, &ts, list);
    slm2_tensors_free(&ts);
    return SLM2_OK;
}

/* A key's value; of arrays the first few elements. */
static json_t *kv_json(const struct slm2_gguf *g, const struct slm2_gguf_kv *kv)
{
    enum { SHOWN = 4 };
    struct slm2_gguf_strs it;
    uint64_t u;
    float f;
    bool b;
    if (kv->type == SLM2_GGUF_STR) return slm2_json_text((const char *)kv->value, (size_t)kv->n);
    if (kv->type == SLM2_GGUF_BOOL && slm2_gguf_get_bool_or(g, kv->key, false, &b, NULL) == SLM2_OK) return json_boolean(b);
    if (slm2_gguf_get_u64(g, kv->key, INT64_MAX, &u, NULL) == SLM2_OK) return json_integer((json_int_t)u);
    if (slm2_gguf_get_f32(g, kv->key, &f, NULL) == SLM2_OK) {
        char s[32]; /* the shortest text that reads back: 1e-05, not 9.99999975e-06 */
        for (int digits = 6; digits <= 9; digits++) {
            snprintf(s, sizeof s, "%.*g", digits, (double)f);
            if (strtof(s, NULL) == f) break;
        }
        return json_real(strtod(s, NULL));
    }
    if (kv->type != SLM2_GGUF_ARR) return json_pack("{s:s}", "type", slm2_gguf_type_name(kv->type));
    json_t *first = json_array();
    if (slm2_gguf_get_strs(g, kv->key, &it, NULL) == SLM2_OK) {
        const char *s;
        size_t n;
        for (int i = 0; i < SHOWN && slm2_gguf_strs_next(&it, &s, &n); i++) json_array_append_new(first, slm2_json_text(s, n));
    } else if (kv->elem_type == SLM2_GGUF_I32) {
        for (uint64_t i = 0; i < SHOWN && i < kv->n; i++) json_array_append_new(first, json_integer(slm2_gguf_i32_at(kv->value, i)));
    } else if (kv->elem_type == SLM2_GGUF_F32) {
        for (uint64_t i = 0; i < SHOWN && i < kv->n; i++) json_array_append_new(first, json_real((double)slm2_gguf_f32_at(kv->value, i)));
    }
    return json_pack("{s:s, s:I, s:o}", "array_of", slm2_gguf_type_name(kv->elem_type), "n", (json_int_t)kv->n, "first", first);
}

static slm2_status info_gguf(json_t *j, const char *path, bool list, struct slm2_err *err)
{
    struct slm2_gguf g;
    struct slm2_config c;
    struct slm2_err why;
    json_t *keys = json_object();
    slm2_status st = slm2_gguf_open(&g, path, err);
    if (st != SLM2_OK) {
        json_decref(keys);
        return st;
    }
    set_str(j, "kind", "gguf");
    set_int(j, "version", g.version);
    if (slm2_config_from_gguf(&c, &g, path, &why) == SLM2_OK) put_config(j, &c);
    else set_str(j, "model", why.msg);
    for (int i = 0; i < g.n_kv; i++) set(keys, g.kv[i].key, kv_json(&g, &g.kv[i]));
    set(j, "keys", keys);
    put_tensors(j, &g.tensors, list);
    slm2_gguf_free(&g);
    return SLM2_OK;
}

/* ---- vocabularies, configs, token files ------------------------------------------------------------------------------------- */
static slm2_status info_vocab(json_t *j, const char *path, struct slm2_err *err)
{
    struct slm2_tok *tok;
    int n_special = 0, n_tokens = 0;
    SLM2_TRY(slm2_tok_open(&tok, path, err));
    json_t *v = json_object();
    for (int32_t id = 0; id < slm2_tok_n_vocab(tok); id++) {
        size_t n;
        n_tokens += slm2_tok_bytes(tok, id, &n) != NULL;
        n_special += slm2_tok_is_special(tok, id);
    }
    set_int(v, "n_vocab", slm2_tok_n_vocab(tok));
    set_int(v, "tokens", n_tokens);
    set_int(v, "special", n_special);
    set_int(v, "eos_id", slm2_tok_eos(tok));
    set(v, "nfc", json_boolean(slm2_tok_flags_default(tok) & SLM2_TOK_NFC));
    set(j, "vocabulary", v);
    slm2_tok_free(tok);
    return SLM2_OK;
}

/* The vocabulary and the template of a model's or an adapter's folder; an adapter without them is computed with its model's. */
static void put_vocab(json_t *j, const char *dir)
{
    enum slm2_chat_template tmpl;
    struct slm2_err why;
    if (!slm2_tok_in_dir(dir)) set_str(j, "vocabulary", "none in this folder");
    else if (info_vocab(j, dir, &why) != SLM2_OK) set_str(j, "vocabulary", why.msg);
    if (slm2_chat_detect(dir, &tmpl)) set_str(j, "chat_template", slm2_chat_names[tmpl]);
}

static slm2_status info_config(json_t *j, const char *path, struct slm2_err *err)
{
    json_t *text;
    struct slm2_config c;
    SLM2_TRY(slm2_json_read(&text, path, MAX_JSON_BYTES, err));
    slm2_status st = slm2_config_from_json(&c, text, path, err);
    if (st == SLM2_OK) put_config(j, &c);
    json_decref(text);
    return st;
}

static slm2_status info_shard(json_t *j, const char *prefix, struct slm2_err *err)
{
    struct slm2_shard s;
    int32_t lo = INT32_MAX, hi = 0;
    SLM2_TRY(slm2_shard_open(&s, prefix, err));
    set_str(j, "kind", "token file");
    set_int(j, "token_bytes", (int64_t)s.token_bytes);
    set_int(j, "documents", s.n_doc);
    set_int(j, "sequences", s.n_seq);
    set_int(j, "tokens", s.n_tok);
    for (int64_t i = 0; i < s.n_seq; i++) {
        int32_t n = slm2_shard_size(&s, i);
        if (n < lo) lo = n;
        if (n > hi) hi = n;
    }
    set_int(j, "shortest", s.n_seq ? lo : 0);
    set_int(j, "longest", hi);
    set_int(j, "bytes", (int64_t)(s.bin.n + s.idx.n));
    slm2_shard_close(&s);
    return SLM2_OK;
}

/* ---- runs and folders --------------------------------------------------------------------------------------------------------- */
static void add_row(void *user, int n_col, const char *const *text)
{
    if (n_col == 2 && text[0]) set(user, text[0], text[1] && strlen(text[1]) < 200 ? slm2_json_text(text[1], strlen(text[1])) : json_string("..."));
}

static void add_number(void *user, int n_col, const char *const *text)
{
    if (n_col == 2 && text[0] && text[1]) set(user, text[0], json_real(strtod(text[1], NULL)));
}

static slm2_status info_ledger(json_t *j, const char *path, struct slm2_err *err)
{
    struct slm2_ledger *l;
    struct slm2_ledger_cost cost;
    json_t *run = json_object(), *last = json_object(), *tokens = json_object();
    slm2_status st = slm2_ledger_open_read(&l, path, err);
    if (st == SLM2_OK) {
        st = slm2_ledger_query(l, "SELECT key, value FROM run", NULL, add_row, run, err);
        if (st == SLM2_OK) st = slm2_ledger_query(l, "SELECT 'step', max(step) FROM metric", NULL, add_number, last, err);
        if (st == SLM2_OK) st = slm2_ledger_query(l, "SELECT name, value FROM metric AS m WHERE step = (SELECT max(step) FROM metric WHERE name = m.name)", NULL, add_number, last, err);
        if (st == SLM2_OK) st = slm2_ledger_query(l, "SELECT name, drawn FROM source", NULL, add_number, tokens, err);
        if (st == SLM2_OK) st = slm2_ledger_cost(l, &cost, err);
        struct slm2_err ignored;
        slm2_ledger_close(l, &ignored);
    }
    if (st == SLM2_OK) {
        set(j, "run", json_incref(run));
        set(j, "last", json_incref(last));
        if (json_object_size(tokens)) set(j, "tokens_drawn", json_incref(tokens));
        set(j, "cost", json_pack("{s:i, s:f, s:f}", "sessions", cost.n_session, "wall_s", cost.wall_s, "cpu_s", cost.cpu_s));
    }
    json_decref(run);
    json_decref(last);
    json_decref(tokens);
    return st;
}

static slm2_status info_model_folder(json_t *j, const char *dir, bool list, struct slm2_err *err)
{
    char path[4096];
    set_str(j, "kind", "Hugging Face model");
    if (in_dir(path, dir, "MANIFEST.json")) {
        set_str(j, "kind", "checkpoint");
        SLM2_TRY(slm2_ckpt_verify(dir, false, err));
        json_t *state;
        SLM2_TRY(slm2_ckpt_state(dir, &state, err));
        set(j, "step", json_incref(json_object_get(state, "step")));
        json_decref(state);
    }
    if (!in_dir(path, dir, "config.json")) return slm2_fail(err, SLM2_EFORMAT, "%s: config.json went away", dir);
    SLM2_TRY(info_config(j, path, err));
    struct slm2_tensors ts;
    SLM2_TRY(slm2_safetensors_open(&ts, dir, err));
    set_int(j, "files", ts.n_map);
    put_tensors(j, &ts, list);
    slm2_tensors_free(&ts);
    put_vocab(j, dir);
    return SLM2_OK;
}

static slm2_status info_adapter(json_t *j, const char *dir, const char *config, bool list, struct slm2_err *err)
{
    static const char *const shown[] = {"base_model_name_or_path", "r", "lora_alpha", "use_rslora", "target_modules"};
    char path[4096];
    json_t *c;
    struct slm2_lora_opts o;
    SLM2_TRY(slm2_json_read(&c, config, MAX_JSON_BYTES, err));
    slm2_status st = slm2_lora_config_from_json(&o, c, config, err);
    for (size_t i = 0; st == SLM2_OK && i < sizeof shown / sizeof shown[0]; i++) set(j, shown[i], json_incref(json_object_get(c, shown[i])));
    json_decref(c);
    SLM2_TRY(st);
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, SLM2_LORA_WEIGHTS, err));
    SLM2_TRY(info_safetensors(j, path, list, err));
    set_str(j, "kind", in_dir(path, dir, "MANIFEST.json") ? "checkpoint of a LoRA adapter (PEFT)" : "LoRA adapter (PEFT)");
    put_vocab(j, dir);
    return SLM2_OK;
}

static slm2_status info_folder(json_t *j, const char *dir, bool list, struct slm2_err *err)
{
    char path[4096];
    json_t *manifest;
    if (in_dir(path, dir, "config.json")) return info_model_folder(j, dir, list, err);
    if (in_dir(path, dir, "model.safetensors") || in_dir(path, dir, "model.safetensors.index.json")) return info_safetensors(j, dir, list, err);
    if (in_dir(path, dir, SLM2_LORA_CONFIG)) return info_adapter(j, dir, path, list, err);
    if (in_dir(path, dir, "run.sqlite")) {
        char newest[SLM2_PATH_MAX];
        set_str(j, "kind", "run");
        SLM2_TRY(info_ledger(j, path, err));
        SLM2_TRY(slm2_ckpt_find(dir, newest, err));
        set(j, "newest_checkpoint", *newest ? json_string(newest) : json_null());
        return SLM2_OK;
    }
    if (in_dir(path, dir, "manifest.json")) {
        set_str(j, "kind", "data folder");
        SLM2_TRY(slm2_json_read(&manifest, path, MAX_JSON_BYTES, err));
        set(j, "manifest", manifest);
        return SLM2_OK;
    }
    return slm2_fail(err, SLM2_EFORMAT, "%s: this folder is no model (config.json), no adapter (adapter_config.json), no run (run.sqlite) and no data set (manifest.json)", dir);
}

/* ---- what is it? --------------------------------------------------------------------------------------------------------------- */
static bool has_suffix(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

static slm2_status info_json(json_t *j, const char *path, bool list, struct slm2_err *err)
{
    json_t *text;
    if (has_suffix(path, ".index.json")) return info_safetensors(j, path, list, err);
    SLM2_TRY(slm2_json_read(&text, path, MAX_JSON_BYTES, err));
    bool config = json_object_get(text, "model_type") != NULL, vocab = json_is_object(json_object_get(text, "model"));
    json_decref(text);
    if (vocab) {
        set_str(j, "kind", "tokenizer.json");
        return info_vocab(j, path, err);
    }
    if (!config) return slm2_fail(err, SLM2_EFORMAT, "%s: JSON, but neither a config.json (model_type) nor a tokenizer.json (model)", path);
    set_str(j, "kind", "config.json");
    return info_config(j, path, err);
}

static slm2_status info_file(json_t *j, const char *path, bool list, struct slm2_err *err)
{
    struct slm2_map m;
    uint8_t first[16] = {0};
    SLM2_TRY(slm2_map_open(&m, path, err));
    memcpy(first, m.p, slm2_min_size(m.n, sizeof first));
    set_int(j, "file_bytes", (int64_t)m.n);
    slm2_map_close(&m);
    if (!memcmp(first, "GGUF", 4)) return info_gguf(j, path, list, err);
    if (!memcmp(first, "SQLite format 3", 15)) {
        set_str(j, "kind", "ledger");
        return info_ledger(j, path, err);
    }
    if (!memcmp(first, "MMIDIDX", 8) || has_suffix(path, ".bin")) {
        char prefix[4096];
        if (!has_suffix(path, ".idx") && !has_suffix(path, ".bin")) return slm2_fail(err, SLM2_EFORMAT, "%s: an index of tokens; its name must end in .idx, beside a .bin file", path);
        if ((size_t)snprintf(prefix, sizeof prefix, "%.*s", (int)(strlen(path) - 4), path) >= sizeof prefix) return slm2_fail(err, SLM2_ELIMIT, "%s: the path is too long", path);
        return info_shard(j, prefix, err);
    }
    if (first[8] == '{' && !first[7]) return info_safetensors(j, path, list, err);
    if (has_suffix(path, ".tiktoken")) {
        set_str(j, "kind", "tiktoken");
        return info_vocab(j, path, err);
    }
    if (has_suffix(path, ".json")) return info_json(j, path, list, err);
    return slm2_fail(err, SLM2_EFORMAT, "%s: unknown kind of file; known are .safetensors, .gguf, .bin/.idx, .tiktoken, tokenizer.json, config.json, run.sqlite and folders of these", path);
}

slm2_status slm2_cli_info(json_t **out, const char *path, bool tensors, struct slm2_err *err)
{
    char idx[4096];
    slm2_status st;
    json_t *j = json_object();
    *out = NULL;
    if (!j) return slm2_fail(err, SLM2_ENOMEM, "no memory");
    set(j, "path", slm2_json_text(path, strlen(path)));
    set_str(j, "kind", "?"); /* its place in the order of members; each kind sets it */
    snprintf(idx, sizeof idx, "%s.idx", path);
    if (slm2_path_is_dir(path)) st = info_folder(j, path, tensors, err);
    else if (!slm2_path_exists(path) && slm2_path_exists(idx)) st = info_shard(j, path, err);
    else st = info_file(j, path, tensors, err);
    if (st == SLM2_OK) *out = j;
    else json_decref(j);
    return st;
}
