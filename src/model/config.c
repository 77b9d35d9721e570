/* config.c - reads, checks and writes the numbers of a model: config.json of both generations, GGUF keys, YAML. */
#include "model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/gguf.h"

enum { MAX_VOCAB = 1 << 24, MAX_HIDDEN = 1 << 16, MAX_LAYER = 1024, MAX_HEAD = 1024, MAX_CTX = 1 << 24 };

slm2_status slm2_config_check(const struct slm2_config *c, const char *what, struct slm2_err *err)
{
    const struct { const char *name; int v, hi; } range[] = {
        {"vocab_size", c->vocab_size, MAX_VOCAB}, {"hidden_size", c->hidden_size, MAX_HIDDEN}, {"intermediate_size", c->intermediate_size, 4 * MAX_HIDDEN},
        {"num_hidden_layers", c->n_layer, MAX_LAYER}, {"num_attention_heads", c->n_head, MAX_HEAD}, {"num_key_value_heads", c->n_kv_head, MAX_HEAD},
        {"head_dim", c->head_dim, MAX_HIDDEN}, {"max_position_embeddings", c->n_ctx, MAX_CTX},
    };
    for (size_t i = 0; i < sizeof range / sizeof range[0]; i++)
        if (range[i].v < 1 || range[i].v > range[i].hi)
            return slm2_fail(err, SLM2_EFORMAT, "%s: %s is %d, want 1 to %d", what, range[i].name, range[i].v, range[i].hi);
    if (c->n_head * c->head_dim != c->hidden_size)
        return slm2_fail(err, SLM2_EFORMAT, "%s: hidden_size %d is not num_attention_heads %d times head_dim %d", what, c->hidden_size, c->n_head, c->head_dim);
    if (c->n_head % c->n_kv_head)
        return slm2_fail(err, SLM2_EFORMAT, "%s: num_attention_heads %d is not a multiple of num_key_value_heads %d", what, c->n_head, c->n_kv_head);
    if (c->n_rot < 0 || c->n_rot > c->head_dim || c->n_rot % 2)
        return slm2_fail(err, SLM2_EFORMAT, "%s: %d rotary dims, want an even number up to head_dim %d (partial_rotary_factor)", what, c->n_rot, c->head_dim);
    if (!(c->norm_eps > 0 && c->norm_eps < 1)) return slm2_fail(err, SLM2_EFORMAT, "%s: layer_norm_eps %g, want above 0 and below 1", what, (double)c->norm_eps);
    if (!(c->rope_theta >= 1 && c->rope_theta <= 1e12f)) return slm2_fail(err, SLM2_EFORMAT, "%s: rope_theta %g, want 1 to 1e12", what, (double)c->rope_theta);
    if (!(c->init_std >= 0 && c->init_std < 10)) return slm2_fail(err, SLM2_EFORMAT, "%s: initializer_range %g, want 0 to 10", what, (double)c->init_std);
    if (c->eos_id < 0 || c->eos_id >= c->vocab_size || c->bos_id < 0 || c->bos_id >= c->vocab_size)
        return slm2_fail(err, SLM2_EFORMAT, "%s: bos_token_id %d or eos_token_id %d is outside the vocabulary of %d", what, c->bos_id, c->eos_id, c->vocab_size);
    if (c->tied_embeddings) return slm2_fail(err, SLM2_EFORMAT, "%s: tie_word_embeddings is true; models of this family have an lm_head of their own", what);
    return SLM2_OK;
}

static slm2_status get_int(const json_t *j, const char *key, const char *old_key, const char *what, int64_t def, int *out, struct slm2_err *err)
{
    int64_t v;
    const char *k = old_key && !json_object_get(j, key) ? old_key : key;
    if (def < 0 && !json_object_get(j, k)) return slm2_fail(err, SLM2_EFORMAT, "%s: %s is missing", what, key);
    SLM2_TRY(slm2_json_get_int_or(j, k, what, 0, INT32_MAX, def, &v, err));
    *out = (int)v;
    return SLM2_OK;
}

static slm2_status get_float(const json_t *j, const char *key, const char *old_key, const char *what, double def, float *out, struct slm2_err *err)
{
    double v;
    SLM2_TRY(slm2_json_get_real_or(j, old_key && !json_object_get(j, key) ? old_key : key, what, def, &v, err));
    *out = (float)v;
    return SLM2_OK;
}

/* First generation ("stablelm_epoch"): norm_eps, rope_pct, num_heads, rotary_scaling_factor; second ("stablelm"): as in transformers. */
slm2_status slm2_config_from_json(struct slm2_config *c, const json_t *j, const char *what, struct slm2_err *err)
{
    const char *type;
    memset(c, 0, sizeof *c);
    SLM2_TRY(slm2_json_get_str(j, "model_type", what, &type, err));
    if (strcmp(type, "stablelm") && strcmp(type, "stablelm_epoch"))
        return slm2_fail(err, SLM2_EFORMAT, "%s: model_type \"%s\", want \"stablelm\" or \"stablelm_epoch\"", what, type);
    SLM2_TRY(get_int(j, "vocab_size", NULL, what, -1, &c->vocab_size, err));
    SLM2_TRY(get_int(j, "hidden_size", NULL, what, -1, &c->hidden_size, err));
    SLM2_TRY(get_int(j, "intermediate_size", NULL, what, -1, &c->intermediate_size, err));
    SLM2_TRY(get_int(j, "num_hidden_layers", "num_layers", what, -1, &c->n_layer, err));
    SLM2_TRY(get_int(j, "num_attention_heads", "num_heads", what, -1, &c->n_head, err));
    SLM2_TRY(get_int(j, "num_key_value_heads", NULL, what, c->n_head, &c->n_kv_head, err));
    SLM2_TRY(get_int(j, "max_position_embeddings", NULL, what, 4096, &c->n_ctx, err));
    SLM2_TRY(get_int(j, "eos_token_id", NULL, what, 0, &c->eos_id, err));
    SLM2_TRY(get_int(j, "bos_token_id", NULL, what, c->eos_id, &c->bos_id, err));
    SLM2_TRY(get_float(j, "layer_norm_eps", "norm_eps", what, 1e-5, &c->norm_eps, err));
    SLM2_TRY(get_float(j, "rope_theta", NULL, what, 10000, &c->rope_theta, err));
    SLM2_TRY(get_float(j, "initializer_range", NULL, what, 0.02, &c->init_std, err));
    float rotary;
    SLM2_TRY(get_float(j, "partial_rotary_factor", "rope_pct", what, 0.25, &rotary, err));
    if (!(rotary >= 0 && rotary <= 1)) return slm2_fail(err, SLM2_EFORMAT, "%s: partial_rotary_factor %g, want 0 to 1", what, (double)rotary);
    SLM2_TRY(slm2_json_get_bool_or(j, "use_qkv_bias", what, false, &c->qkv_bias, err));
    SLM2_TRY(slm2_json_get_bool_or(j, "qk_layernorm", what, false, &c->qk_norm, err));
    SLM2_TRY(slm2_json_get_bool_or(j, "use_parallel_residual", what, false, &c->parallel_residual, err));
    SLM2_TRY(slm2_json_get_bool_or(j, "tie_word_embeddings", what, false, &c->tied_embeddings, err));
    const json_t *scaling = json_object_get(j, "rope_scaling");
    if (scaling && !json_is_null(scaling)) return slm2_fail(err, SLM2_EFORMAT, "%s: rope_scaling is set; models of this family have none", what);
    const char *dtype = json_string_value(json_object_get(j, "torch_dtype"));
    if (!dtype) dtype = json_string_value(json_object_get(j, "dtype"));
    c->torch_dtype = dtype && !strcmp(dtype, "float16") ? SLM2_CFG_F16 : dtype && !strcmp(dtype, "bfloat16") ? SLM2_CFG_BF16 : SLM2_CFG_F32;
    if (c->n_head < 1 || c->hidden_size % c->n_head)
        return slm2_fail(err, SLM2_EFORMAT, "%s: hidden_size %d is not a multiple of num_attention_heads %d", what, c->hidden_size, c->n_head);
    c->head_dim = c->hidden_size / c->n_head;
    c->n_rot = (int)((double)c->head_dim * (double)rotary + 1e-3); /* 80 * 0.7f is 55.99 */
    return slm2_config_check(c, what, err);
}

slm2_status slm2_config_from_gguf(struct slm2_config *c, const struct slm2_gguf *g, const char *what, struct slm2_err *err)
{
    const char *arch;
    size_t n;
    memset(c, 0, sizeof *c);
    SLM2_TRY(slm2_gguf_get_str(g, "general.architecture", &arch, &n, err));
    if (n != 8 || memcmp(arch, "stablelm", 8)) return slm2_fail(err, SLM2_EFORMAT, "%s: general.architecture \"%.*s\", want \"stablelm\"", what, (int)slm2_min_size(n, 64), arch);
    const struct { const char *key; int *to; bool required; int def; } keys[] = {
        {"stablelm.embedding_length", &c->hidden_size, true, 0}, {"stablelm.feed_forward_length", &c->intermediate_size, true, 0},
        {"stablelm.block_count", &c->n_layer, true, 0}, {"stablelm.attention.head_count", &c->n_head, true, 0},
        {"stablelm.attention.head_count_kv", &c->n_kv_head, false, -1}, {"stablelm.context_length", &c->n_ctx, true, 0},
        {"stablelm.rope.dimension_count", &c->n_rot, true, 0}, {"tokenizer.ggml.eos_token_id", &c->eos_id, false, 0}, {"tokenizer.ggml.bos_token_id", &c->bos_id, false, -1},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        uint64_t v;
        if (!keys[i].required && !slm2_gguf_find(g, keys[i].key)) { *keys[i].to = keys[i].def; continue; }
        SLM2_TRY(slm2_gguf_get_u64(g, keys[i].key, INT32_MAX, &v, err));
        *keys[i].to = (int)v;
    }
    if (c->n_kv_head < 0) c->n_kv_head = c->n_head;
    if (c->bos_id < 0) c->bos_id = c->eos_id;
    SLM2_TRY(slm2_gguf_get_f32_or(g, "stablelm.attention.layer_norm_epsilon", 1e-5f, &c->norm_eps, err));
    SLM2_TRY(slm2_gguf_get_f32_or(g, "stablelm.rope.freq_base", 10000.0f, &c->rope_theta, err));
    SLM2_TRY(slm2_gguf_get_bool_or(g, "stablelm.use_parallel_residual", false, &c->parallel_residual, err));
    c->init_std = 0.02f;
    const struct slm2_tensor *embd, *q;
    SLM2_TRY(slm2_tensors_get(&g->tensors, "token_embd.weight", what, &embd, err));
    SLM2_TRY(slm2_tensors_get(&g->tensors, "blk.0.attn_q.weight", what, &q, err));
    if (embd->n_dim != 2 || embd->dim[0] > MAX_VOCAB) return slm2_fail(err, SLM2_EFORMAT, "%s: token_embd.weight is not a matrix of at most %d rows", what, MAX_VOCAB);
    c->vocab_size = (int)embd->dim[0]; /* GGUF has no key that must hold it; biases and q/k norms are told by their tensors */
    c->qkv_bias = slm2_tensors_find(&g->tensors, "blk.0.attn_q.bias") != NULL;
    c->qk_norm = slm2_tensors_find(&g->tensors, "blk.0.attn_q_norm.weight") != NULL;
    c->torch_dtype = q->dtype == SLM2_F16 ? SLM2_CFG_F16 : q->dtype == SLM2_BF16 ? SLM2_CFG_BF16 : SLM2_CFG_F32;
    if (c->n_head < 1 || c->hidden_size % c->n_head)
        return slm2_fail(err, SLM2_EFORMAT, "%s: stablelm.embedding_length %d is not a multiple of head_count %d", what, c->hidden_size, c->n_head);
    c->head_dim = c->hidden_size / c->n_head;
    return slm2_config_check(c, what, err);
}

/* A float as the shortest decimal that reads back to it: 1e-05f is written 1e-05, not 9.99999974e-06. */
static json_t *json_float(float f)
{
    char s[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, (double)f);
        if (strtof(s, NULL) == f) break;
    }
    return json_real(strtod(s, NULL));
}

json_t *slm2_config_to_json(const struct slm2_config *c)
{
    static const char *const dtype[] = {"float32", "float16", "bfloat16"};
    json_t *j = json_object(), *arch = json_array();
    if (!j || !arch) { json_decref(j); json_decref(arch); return NULL; }
    json_array_append_new(arch, json_string("StableLmForCausalLM"));
    json_object_set_new(j, "architectures", arch);
    json_object_set_new(j, "attention_dropout", json_real(0));
    json_object_set_new(j, "bos_token_id", json_integer(c->bos_id));
    json_object_set_new(j, "eos_token_id", json_integer(c->eos_id));
    json_object_set_new(j, "hidden_act", json_string("silu"));
    json_object_set_new(j, "hidden_dropout", json_real(0));
    json_object_set_new(j, "hidden_size", json_integer(c->hidden_size));
    json_object_set_new(j, "initializer_range", json_float(c->init_std));
    json_object_set_new(j, "intermediate_size", json_integer(c->intermediate_size));
    json_object_set_new(j, "layer_norm_eps", json_float(c->norm_eps));
    json_object_set_new(j, "max_position_embeddings", json_integer(c->n_ctx));
    json_object_set_new(j, "model_type", json_string("stablelm"));
    json_object_set_new(j, "num_attention_heads", json_integer(c->n_head));
    json_object_set_new(j, "num_hidden_layers", json_integer(c->n_layer));
    json_object_set_new(j, "num_key_value_heads", json_integer(c->n_kv_head));
    json_object_set_new(j, "partial_rotary_factor", json_real((double)c->n_rot / c->head_dim));
    json_object_set_new(j, "qk_layernorm", json_boolean(c->qk_norm));
    json_object_set_new(j, "rope_scaling", json_null());
    json_object_set_new(j, "rope_theta", json_float(c->rope_theta));
    json_object_set_new(j, "tie_word_embeddings", json_boolean(c->tied_embeddings));
    json_object_set_new(j, "torch_dtype", json_string(dtype[c->torch_dtype]));
    json_object_set_new(j, "use_cache", json_true());
    json_object_set_new(j, "use_parallel_residual", json_boolean(c->parallel_residual));
    json_object_set_new(j, "use_qkv_bias", json_boolean(c->qkv_bias));
    json_object_set_new(j, "vocab_size", json_integer(c->vocab_size));
    return j;
}

slm2_status slm2_config_from_settings(struct slm2_config *out, const struct slm2_config_settings *s, const char *what, struct slm2_err *err)
{
    struct slm2_config *c = out;
    *c = s->cfg;
    double rotary_factor = s->rotary_factor;
    if (c->n_kv_head == 0) c->n_kv_head = c->n_head;
    if (c->n_head < 1 || c->hidden_size % c->n_head)
        return slm2_fail(err, SLM2_EUSAGE, "%s: model.hidden_size %d is not a multiple of model.n_head %d", what, c->hidden_size, c->n_head);
    c->head_dim = c->hidden_size / c->n_head;
    c->n_rot = (int)(c->head_dim * rotary_factor + 1e-3);
    return slm2_config_check(c, what, err);
}
