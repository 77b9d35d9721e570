/* config.h - the numbers and flags of one member of the family; read from config.json (both generations) or GGUF keys. */
#ifndef SLM2_MODEL_CONFIG_H
#define SLM2_MODEL_CONFIG_H
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
slm2_status slm2_config_from_yaml(struct slm2_config *c, const char *path, struct slm2_err *err); /* the `model:` mapping of configs/NAME.yml; the file itself may be only that */
static inline int slm2_config_q_dim(const struct slm2_config *c) { return c->n_head * c->head_dim; }
static inline int slm2_config_kv_dim(const struct slm2_config *c) { return c->n_kv_head * c->head_dim; }
#endif
