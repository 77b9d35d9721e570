/* lora_file.c - an adapter in PEFT's form, written and read; the fingerprint of the model that it belongs to. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/safetensors.h"
#include "model/lora.h"

enum { CONFIG_MAX_BYTES = 1 << 20, PRINT_BYTES = 4096 };

/* ---- adapter_config.json --------------------------------------------------------------------------------------------------- */
/* Settings that change what an adapter computes, and that this program does not know: they must be absent or empty. */
static const char *const unsupported[] = {"use_dora",           "lora_bias",      "fan_in_fan_out",    "rank_pattern",     "alpha_pattern",           "modules_to_save",
                                          "layers_to_transform", "layer_replication", "target_parameters", "trainable_token_indices", "use_qalora",
                                          "alora_invocation_tokens"};
/* Beginnings of ways to start A and B that change the base model's weights too. */
static const char *const changes_base[] = {"pissa", "olora", "corda", "loftq"};

static bool is_empty(const json_t *j)
{
    return !j || json_is_null(j) || json_is_false(j) || (json_is_array(j) && json_array_size(j) == 0) || (json_is_object(j) && json_object_size(j) == 0);
}

slm2_status slm2_lora_config_from_json(struct slm2_lora_opts *o, const json_t *j, const char *what, struct slm2_err *err)
{
    const char *type, *bias = json_string_value(json_object_get(j, "bias")), *init = json_string_value(json_object_get(j, "init_lora_weights"));
    int64_t rank;
    *o = (struct slm2_lora_opts){0};
    if (!json_is_object(j)) return slm2_fail(err, SLM2_EFORMAT, "%s: not a JSON object", what);
    SLM2_TRY(slm2_json_get_str(j, "peft_type", what, &type, err));
    if (strcmp(type, "LORA")) return slm2_fail(err, SLM2_EFORMAT, "%s: peft_type is \"%.40s\", want \"LORA\"", what, type);
    SLM2_TRY(slm2_json_get_int(j, "r", what, 1, SLM2_LORA_MAX_RANK, &rank, err));
    SLM2_TRY(slm2_json_get_real_or(j, "lora_alpha", what, 8, &o->alpha, err));
    SLM2_TRY(slm2_json_get_bool_or(j, "use_rslora", what, false, &o->rslora, err));
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
        if (!is_empty(json_object_get(j, unsupported[i])))
            return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is set, which is not computed here; merge the adapter with PEFT (merge_and_unload) and take the merged model", what, unsupported[i]);
    if (bias && strcmp(bias, "none")) return slm2_fail(err, SLM2_EFORMAT, "%s: bias is \"%.40s\", want \"none\"; merge the adapter with PEFT (merge_and_unload) and take the merged model", what, bias);
    for (size_t i = 0; init && i < sizeof changes_base / sizeof changes_base[0]; i++)
        if (!strncmp(init, changes_base[i], strlen(changes_base[i])))
            return slm2_fail(err, SLM2_EFORMAT, "%s: init_lora_weights is \"%.40s\", which changes the base model too; convert it with PEFT (path_initial_model_for_weight_conversion)", what, init);
    o->rank = (int)rank;
    return SLM2_OK;
}

static json_t *config_json(const struct slm2_lora *o, const char *base)
{
    json_t *targets = json_array(), *alpha = o->o.alpha == floor(o->o.alpha) ? json_integer((json_int_t)o->o.alpha) : json_real(o->o.alpha); /* PEFT declares an integer */
    for (int i = 0; slm2_lora_target_names[i]; i++) {
        uint32_t bit;
        if (slm2_lora_target(slm2_lora_target_names[i], &bit, NULL) == SLM2_OK && o->o.targets & bit) json_array_append_new(targets, json_string(slm2_lora_target_names[i]));
    }
    return json_pack("{s:s, s:s, s:s, s:i, s:o, s:f, s:b, s:s, s:b, s:b, s:b, s:n, s:n, s:o}", "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", base, "r", o->o.rank,
                     "lora_alpha", alpha, "lora_dropout", 0.0, "use_rslora", (int)o->o.rslora, "bias", "none", "fan_in_fan_out", 0, "inference_mode", 1, "init_lora_weights", 1,
                     "modules_to_save", "layers_to_transform", "target_modules", targets);
}

/* ---- the folder ------------------------------------------------------------------------------------------------------------- */
slm2_status slm2_lora_save(const struct slm2_lora *o, const char *base, const char *dir, struct slm2_err *err)
{
    char path[4096];
    struct slm2_tensor *v = NULL;
    int n = 0;
    SLM2_TRY(slm2_dir_make(dir, err));
    json_t *j = config_json(o, base);
    slm2_status st = j ? slm2_path_join(path, sizeof path, dir, SLM2_LORA_CONFIG, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for " SLM2_LORA_CONFIG);
    if (st == SLM2_OK) st = slm2_json_write(j, path, err);
    json_decref(j);
    SLM2_TRY(st);
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, SLM2_LORA_WEIGHTS, err));
    SLM2_TRY(slm2_params_hf_views(&o->params, 1, NULL, &v, &n, err));
    st = slm2_safetensors_write(path, v, n, NULL, err);
    slm2_hf_views_free(v, n);
    return st;
}

/* Which matrices have an adapter: those of the first layer tell.  Their rank is looked at before memory is taken for it. */
static slm2_status find_targets(struct slm2_lora_opts *o, const struct slm2_tensors *ts, const char *path, struct slm2_err *err)
{
    char name[128], got[96];
    for (int k = 0; k < SLM2_N_PARAM_KIND; k++) {
        const struct slm2_param p = {.kind = (enum slm2_param_kind)k, .part = SLM2_PART_LORA_A};
        if (!(slm2_lora_all_targets() >> k & 1)) continue;
        slm2_param_hf_name(&p, 0, name);
        const struct slm2_tensor *t = slm2_tensors_find(ts, name);
        if (t && (t->n_dim != 2 || t->dim[0] != o->rank)) {
            slm2_tensor_shape(t, got);
            return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has shape %s, " SLM2_LORA_CONFIG " says r = %d", path, name, got, o->rank);
        }
        if (t) o->targets |= 1u << k;
    }
    return o->targets ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "%s: no tensor is called base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight or the like: not an adapter of this family", path);
}

/* All tensors that the adapter needs are there: more are of something else.  Names differ, so one of the first params->n + 1 is unknown. */
static slm2_status refuse_others(const struct slm2_params *ps, const struct slm2_tensors *ts, const char *path, struct slm2_err *err)
{
    char name[128];
    for (int i = 0; ts->n != ps->n && i < ts->n; i++) {
        bool known = false;
        for (int k = 0; !known && k < ps->n; k++) {
            slm2_param_hf_name(&ps->v[k], 0, name);
            known = !strcmp(name, ts->v[i].name);
        }
        if (!known) return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%.200s\" belongs to no matrix of the model that can have an adapter here (q_proj ... down_proj of %d layers)", path, ts->v[i].name, ps->v[ps->n - 1].layer + 1);
    }
    return SLM2_OK;
}

static slm2_status read_weights(struct slm2_model *m, struct slm2_lora_opts *o, const char *path, bool trainable, struct slm2_err *err)
{
    struct slm2_tensors ts;
    SLM2_TRY(slm2_safetensors_open(&ts, path, err));
    slm2_status st = find_targets(o, &ts, path, err);
    if (st == SLM2_OK) st = slm2_lora_add(m, o, trainable, err);
    if (st == SLM2_OK) st = slm2_params_hf_read(&m->lora->params, &ts, m->lora->params.v[0].master, path, err);
    if (st == SLM2_OK) st = refuse_others(&m->lora->params, &ts, path, err);
    slm2_tensors_free(&ts);
    return st;
}

slm2_status slm2_lora_open(struct slm2_model *m, const char *dir, bool trainable, struct slm2_err *err)
{
    char path[4096];
    json_t *j = NULL;
    struct slm2_lora_opts o;
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, "final/" SLM2_LORA_CONFIG, err));
    bool in_final = slm2_path_exists(path);
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, SLM2_LORA_CONFIG, err));
    if (in_final && !slm2_path_exists(path)) return slm2_fail(err, SLM2_EUSAGE, "%s: is the folder of a run, not an adapter; what came out of it is %s/final", dir, dir);
    SLM2_TRY(slm2_json_read(&j, path, CONFIG_MAX_BYTES, err));
    slm2_status st = slm2_lora_config_from_json(&o, j, path, err);
    json_decref(j);
    SLM2_TRY(st);
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, SLM2_LORA_WEIGHTS, err));
    st = read_weights(m, &o, path, trainable, err);
    if (st != SLM2_OK) {
        slm2_lora_free(m->lora);
        m->lora = NULL;
    }
    return st;
}

/* ---- the base model --------------------------------------------------------------------------------------------------------- */
slm2_status slm2_model_fingerprint(const struct slm2_model *m, char hex[65], struct slm2_err *err)
{
    struct slm2_buf b = {0};
    char name[128];
    for (int i = 0; i < m->params.n; i++) {
        const struct slm2_param *p = &m->params.v[i];
        size_t bytes = slm2_dtype_bytes(p->w.dtype, (size_t)p->n_row * (size_t)p->n_col), end = bytes < PRINT_BYTES ? bytes : PRINT_BYTES;
        slm2_param_hf_name(p, 0, name);
        slm2_buf_printf(&b, "%s %s %d %d;", name, slm2_dtype_info[p->w.dtype].name, p->n_row, p->n_col);
        slm2_buf_put(&b, p->w.data, end);
        slm2_buf_put(&b, (const uint8_t *)p->w.data + (bytes - end), end);
    }
    slm2_status st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) slm2_sha256_hex(b.v, b.n, hex);
    slm2_buf_free(&b);
    return st;
}
