/* params.h - the one table that describes the parameters: loader, initialiser, optimizer, saver and quantiser walk it. */
#ifndef SLM2_MODEL_PARAMS_H
#define SLM2_MODEL_PARAMS_H
#include "io/tensors.h"
#include "model/config.h"
#include "ops/ops.h"

enum slm2_param_kind { /* order of the table */
    SLM2_P_EMBED, SLM2_P_NORM1_W, SLM2_P_NORM1_B, SLM2_P_Q_W, SLM2_P_Q_B, SLM2_P_K_W, SLM2_P_K_B, SLM2_P_V_W, SLM2_P_V_B, SLM2_P_Q_NORM, SLM2_P_K_NORM,
    SLM2_P_O_W, SLM2_P_NORM2_W, SLM2_P_NORM2_B, SLM2_P_GATE_W, SLM2_P_UP_W, SLM2_P_DOWN_W, SLM2_P_NORM_W, SLM2_P_NORM_B, SLM2_P_HEAD, SLM2_N_PARAM_KIND
};
enum slm2_param_part { SLM2_PART_WHOLE, SLM2_PART_LORA_A, SLM2_PART_LORA_B }; /* of an adapter to the matrix `kind`: lora.h */
struct slm2_param {
    enum slm2_param_kind kind;
    int layer;            /* -1 outside the layers */
    enum slm2_param_part part;
    int n_row, n_col;     /* vectors: n_row 1.  q/k norm: [n_head, head_dim] */
    bool is_matrix;       /* weight decay, quantisable; vectors are always held as F32 */
    struct slm2_mat w;    /* the weight as computed with */
    float *master, *grad; /* fp32 [n_row * n_col] while training, else NULL; for fp32 training master == w.data */
    size_t at;            /* start in the flat buffers, elements, a multiple of 64 */
};
struct slm2_params {
    struct slm2_param *v;
    int n;
    size_t n_elem;        /* parameters, without padding */
    size_t flat_elems;    /* with padding */
    int n_per_layer;
    int slot[SLM2_N_PARAM_KIND]; /* of a layer's kinds: place among the layer's parameters, -1 when the config has none */
};
/* The list for a config, without data. Order: embedding, layers, final norm, head. */
slm2_status slm2_params_list(struct slm2_params *p, const struct slm2_config *c, struct slm2_err *err);
void slm2_params_list_free(struct slm2_params *p);
struct slm2_param *slm2_params_get(const struct slm2_params *p, enum slm2_param_kind kind, int layer); /* NULL when the config has none */

/* names.c: spelling of a parameter.  Hugging Face spells q/k norms as one tensor a head: part < slm2_param_hf_parts(). */
int slm2_param_hf_parts(const struct slm2_param *p);
void slm2_param_hf_name(const struct slm2_param *p, int part, char out[128]);
void slm2_param_gguf_name(const struct slm2_param *p, char out[128]);

/* Views of the parameters (from: 0 w, 1 master, 2 grad, or flat + p->at for optimizer state when flat is not NULL) as
 * Hugging Face tensors for slm2_safetensors_write.  *out is malloc'd with its names: slm2_hf_views_free. */
slm2_status slm2_params_hf_views(const struct slm2_params *p, int from, const float *flat, struct slm2_tensor **out, int *n, struct slm2_err *err);
void slm2_hf_views_free(struct slm2_tensor *v, int n);
/* Copies Hugging Face tensors of ts into flat fp32 (flat + p->at), every parameter required, shapes checked. */
slm2_status slm2_params_hf_read(const struct slm2_params *p, const struct slm2_tensors *ts, float *flat, const char *what, struct slm2_err *err);
/* One Hugging Face tensor of a parameter: checks its shape and, when to is not NULL, widens it to fp32. */
slm2_status slm2_params_part_read(const struct slm2_param *p, const struct slm2_tensor *t, float *to, const char *what, struct slm2_err *err);
#endif
