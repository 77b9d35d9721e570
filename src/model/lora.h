/* lora.h - a low-rank adapter beside frozen matrices: what it computes, its parameters, its form in files.
 *
 *   y = x W' + s (x A') B'        A [rank, n_in], B [n_out, rank], s = alpha / rank; rank-stabilised: alpha / sqrt(rank)
 *
 * W is whatever the model holds (mapped, of any type) and is only read; A and B are F32, with gradients while training.  A begins uniform in
 * +-1/sqrt(n_in) (PEFT's kaiming_uniform with a = sqrt(5)), B with zeros: a fresh adapter changes nothing.  No dropout.
 *
 * The form in files is PEFT's: a folder with adapter_config.json and adapter_model.safetensors (docs/FORMATS.md). */
#ifndef SLM2_MODEL_LORA_H
#define SLM2_MODEL_LORA_H
#include "model/model.h"

enum { SLM2_LORA_MAX_RANK = 4096 };
struct slm2_lora_opts {
    int rank;
    double alpha;
    bool rslora;      /* s = alpha / sqrt(rank) */
    uint32_t targets; /* bit per enum slm2_param_kind */
};
/* Names of the matrices that an adapter may stand beside: "q_proj", ... "down_proj", NULL. */
extern const char *const slm2_lora_target_names[];
uint32_t slm2_lora_all_targets(void);
/* The bit of a name; SLM2_EUSAGE with the known ones for another. */
slm2_status slm2_lora_target(const char *name, uint32_t *bit, struct slm2_err *err);

struct slm2_lora {
    struct slm2_lora_opts o;
    float scale;               /* s */
    struct slm2_params params; /* layer by layer, A then B of each target, with w == master */
    struct slm2_arena mem;     /* weights, then gradients when trainable */
};
/* An adapter of zeros for m, which takes it (m->lora) and frees it.  trainable: with gradients.  m must be a mapped model without an adapter, and its
 * activations are to be made afterwards. */
slm2_status slm2_lora_add(struct slm2_model *m, const struct slm2_lora_opts *o, bool trainable, struct slm2_err *err);
/* A as training begins: (seed, parameter, element) decide each number. */
void slm2_lora_start(struct slm2_lora *o, uint64_t seed);
/* slm2_lora_add with the rank, targets and numbers of a PEFT folder.  Every size and name is checked; what this program does not compute (DoRA, biases,
 * patterns of ranks, other modules) is refused by name. */
slm2_status slm2_lora_open(struct slm2_model *m, const char *dir, bool trainable, struct slm2_err *err);
void slm2_lora_free(struct slm2_lora *o);
/* A of a matrix, B behind it; NULL when the kind is not a target. */
struct slm2_param *slm2_lora_get(const struct slm2_lora *o, enum slm2_param_kind kind, int layer);

/* For layer.c; each does nothing where there is no adapter (m->lora NULL, or not a target).
 * y += s (x A') B' */
void slm2_lora_forward(const struct slm2_model *m, struct slm2_acts *a, enum slm2_param_kind kind, int l, struct slm2_mat *y, const struct slm2_mat *x);
/* du = s dy B (kept in the activations);  dB += dy' (s x A');  dA += du' x */
void slm2_lora_backward(const struct slm2_model *m, struct slm2_acts *a, enum slm2_param_kind kind, int l, const struct slm2_mat *dy, const struct slm2_mat *x);
/* dx += du A, behind slm2_lora_backward of the same matrix; dx may be the memory of x */
void slm2_lora_backward_dx(const struct slm2_model *m, struct slm2_acts *a, enum slm2_param_kind kind, int l, struct slm2_mat *dx);

/* Form in files. */
#define SLM2_LORA_CONFIG "adapter_config.json"
#define SLM2_LORA_WEIGHTS "adapter_model.safetensors"
/* Writes both files into dir (made when absent), F32.  base: for base_model_name_or_path. */
slm2_status slm2_lora_save(const struct slm2_lora *o, const char *base, const char *dir, struct slm2_err *err);
/* adapter_config.json; targets is left 0: the tensors say which they are. */
slm2_status slm2_lora_config_from_json(struct slm2_lora_opts *o, const json_t *j, const char *what, struct slm2_err *err);

/* W + s B A in place of W, computed in fp32 and rounded once to the type of W; all else bit for bit.  base: a Hugging Face folder, out: another one, with
 * config.json, generation_config.json and the tokenizer's files (the adapter's where it has them). */
slm2_status slm2_lora_merge(const char *base, const char *adapter, const char *out, struct slm2_ctx *c, struct slm2_err *err);

/* What tells two base models apart: SHA-256 over name, type, shape, first and last 4 KiB of every parameter. */
slm2_status slm2_model_fingerprint(const struct slm2_model *m, char hex[65], struct slm2_err *err);
#endif
