/* acts.h - activations of a batch: the slots that the layer program writes, and who shares them under each memory plan.
 *
 *   plan        x (layer input)     the other slots of a layer
 *   KEEP_ALL    one a layer         one set a layer
 *   RECOMPUTE   one a layer         one set, filled again in the backward
 *   INFER       two, in turn        one set; keys and values go to the cache
 */
#ifndef SLM2_MODEL_ACTS_H
#define SLM2_MODEL_ACTS_H
#include "model/model.h"

struct slm2_layer_acts { /* T = tokens, d = hidden_size, I = intermediate_size; names as in the equations of layer.c */
    struct slm2_mat ln1;          /* [T, d] */
    struct slm2_mat q_raw, k_raw; /* [T, q_dim], [T, kv_dim] before the q/k norm; only with qk_norm, else the same memory as q, k */
    struct slm2_mat q, k, v;      /* after norm and rope */
    struct slm2_mat att;          /* [T, q_dim] heads' outputs, before o_proj */
    struct slm2_mat mid;          /* [T, d] x + attention */
    struct slm2_mat ln2;          /* [T, d]; parallel residual: ln1 itself */
    struct slm2_mat gate, up;     /* [T, I] */
    float *mean1, *rstd1, *mean2, *rstd2; /* [T]; NULL at inference */
    float *q_mean, *q_rstd, *k_mean, *k_rstd; /* [T * n_head], [T * n_kv_head]; with qk_norm */
    float *lse;                   /* [T * n_head]; NULL at inference */
};

struct slm2_acts {
    struct slm2_ctx *c;
    enum slm2_plan plan;
    enum slm2_dtype dtype;
    int max_tok, max_logit_rows, n_tok;
    struct slm2_arena mem;
    struct slm2_mat *x;              /* [n_layer + 1] layer inputs and the last output */
    struct slm2_layer_acts *layer;   /* [n_layer], aliased as the plan says */
    struct slm2_mat h, tmp;          /* [T, I] gate * up, also its gradient; [T, d] */
    struct slm2_mat xf;              /* [T, d] after the final norm */
    float *mean, *rstd;              /* of the final norm */
    struct slm2_mat head_x, head_dx; /* [max_logit_rows, d] rows gathered for the head */
    struct slm2_mat logits;          /* [max_logit_rows, vocab_size], F32; training plans and logprob */
    struct slm2_mat dx, dln, datt, dq, dk, dv, dgate, dup; /* gradients of one layer; training plans */
    struct slm2_mat lora_u, lora_du, lora_z; /* with an adapter, F32: [T, rank] twice, the gradient only for training; [T, widest output] */
    int32_t *rows, *head_target, *head_argmax; /* [max_tok], [max_logit_rows] x 2 */
    float *head_weight, *head_lp;
    int32_t *kv_index, *kv_start;    /* [max_tok] */
};

void slm2_layer_forward(const struct slm2_model *m, struct slm2_acts *a, int l, const struct slm2_seqs *seqs, const struct slm2_kv *kv);
void slm2_layer_backward(struct slm2_model *m, struct slm2_acts *a, int l, const struct slm2_seqs *seqs);
/* Sets n_row of every slot to n_tok. */
void slm2_acts_resize(struct slm2_acts *a, const struct slm2_model *m, int n_tok);
#endif
