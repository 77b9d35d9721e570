/* config.h - the numbers and flags of one member of the family; read from config.json (both generations) or GGUF keys. */
#ifndef SLM2_MODEL_CONFIG_H
#define SLM2_MODEL_CONFIG_H
#include "base/conf.h"
#include "base/json.h"

struct slm2_gguf;

struct slm2_config {
    int vocab_size, hidden_size, intermediate_size, n_layer, n_head, n_kv_head, head_dim;
    int n_rot;      /* rotated dims of each head: head_dim * partial_rotary_factor */
    int n_ctx;      /* max_position_embeddings */
    float norm_eps, rope_theta, init_std;
    bool qkv_bias, qk_norm, parallel_residual, tied_embeddings;
    int bos_id, eos_id;
    enum slm2_dtype_tag { SLM2_CFG_F32, SLM2_CFG_F16, SLM2_CFG_BF16 } torch_dtype;
};
/* Every number is bounded (named limits in config.c) and the relations between them are checked. */
slm2_status slm2_config_check(const struct slm2_config *c, const char *what, struct slm2_err *err);
slm2_status slm2_config_from_json(struct slm2_config *c, const json_t *j, const char *what, struct slm2_err *err);
slm2_status slm2_config_from_gguf(struct slm2_config *c, const struct slm2_gguf *g, const char *what, struct slm2_err *err);
json_t *slm2_config_to_json(const struct slm2_config *c); /* second generation: model_type "stablelm" */

/* A model described in a YAML file: include the rows SLM2_CONFIG_ROWS(struct my_opts, member) in the table of settings, where
 * member is a struct slm2_config_settings, then call slm2_config_from_settings. */
struct slm2_config_settings { struct slm2_config cfg; double rotary_factor; };
#define SLM2_CONFIG_ROW_(T, m, f, name, type, lo, hi, def, help) {"model." name, type, offsetof(T, m) + offsetof(struct slm2_config_settings, f), lo, hi, def, help, NULL, NULL, 0, 0}
#define SLM2_CONFIG_ROWS(T, m)                                                                                                              \
    SLM2_CONFIG_ROW_(T, m, cfg.vocab_size, "vocab_size", SLM2_OPT_INT, 1, 1 << 24, "100352", "rows of the embedding (100,289 tokens, padded)"), \
    SLM2_CONFIG_ROW_(T, m, cfg.hidden_size, "hidden_size", SLM2_OPT_INT, 1, 65536, "2048", "width of the residual stream"),                  \
    SLM2_CONFIG_ROW_(T, m, cfg.intermediate_size, "intermediate_size", SLM2_OPT_INT, 1, 262144, "5632", "width of the SwiGLU layer"),         \
    SLM2_CONFIG_ROW_(T, m, cfg.n_layer, "n_layer", SLM2_OPT_INT, 1, 1024, "24", "layers"),                                                   \
    SLM2_CONFIG_ROW_(T, m, cfg.n_head, "n_head", SLM2_OPT_INT, 1, 1024, "32", "attention heads"),                                            \
    SLM2_CONFIG_ROW_(T, m, cfg.n_kv_head, "n_kv_head", SLM2_OPT_INT, 0, 1024, "0", "key/value heads; 0: as many as heads"),                  \
    SLM2_CONFIG_ROW_(T, m, cfg.n_ctx, "n_ctx", SLM2_OPT_INT, 1, 1 << 24, "4096", "longest sequence, tokens"),                                \
    SLM2_CONFIG_ROW_(T, m, cfg.norm_eps, "norm_eps", SLM2_OPT_FLOAT, 1e-12, 0.1, "1e-5", "epsilon of LayerNorm"),                            \
    SLM2_CONFIG_ROW_(T, m, cfg.rope_theta, "rope_theta", SLM2_OPT_FLOAT, 1, 1e12, "10000", "base of the rotary frequencies"),                \
    SLM2_CONFIG_ROW_(T, m, rotary_factor, "rotary_factor", SLM2_OPT_DOUBLE, 0, 1, "0.25", "part of head_dim that is rotated"),               \
    SLM2_CONFIG_ROW_(T, m, cfg.init_std, "init_std", SLM2_OPT_FLOAT, 0, 10, "0.02", "standard deviation of the initial weights"),            \
    SLM2_CONFIG_ROW_(T, m, cfg.qkv_bias, "qkv_bias", SLM2_OPT_BOOL, 0, 0, "true", "biases of the q, k, v projections"),                      \
    SLM2_CONFIG_ROW_(T, m, cfg.qk_norm, "qk_norm", SLM2_OPT_BOOL, 0, 0, "false", "LayerNorm of each query and key head"),                    \
    SLM2_CONFIG_ROW_(T, m, cfg.parallel_residual, "parallel_residual", SLM2_OPT_BOOL, 0, 0, "false", "x + attn(norm x) + mlp(norm x)"),       \
    SLM2_CONFIG_ROW_(T, m, cfg.bos_id, "bos_id", SLM2_OPT_INT, 0, 1 << 24, "100257", "id of <|endoftext|>"),                                 \
    SLM2_CONFIG_ROW_(T, m, cfg.eos_id, "eos_id", SLM2_OPT_INT, 0, 1 << 24, "100257", "id of <|endoftext|>")
slm2_status slm2_config_from_settings(struct slm2_config *c, const struct slm2_config_settings *s, const char *what, struct slm2_err *err);
static inline int slm2_config_q_dim(const struct slm2_config *c) { return c->n_head * c->head_dim; }
static inline int slm2_config_kv_dim(const struct slm2_config *c) { return c->n_kv_head * c->head_dim; }
#endif
