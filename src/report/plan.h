/* plan.h - what a pre-training run will take, from its settings alone: tokens, arithmetic, memory of a rank, time, energy, CO2.
 *
 * Memory of a rank, P parameters with padding (params.h), R ranks, T tokens of a micro-batch, d hidden, I intermediate, q and kv widths of heads, L layers,
 * V words, r rows of logits at a time, a bytes of an activation (bf16 2, fp32 4):
 *     parameters    bf16: 2 P, fp32: 4 P; by layer: 2 P less 2 x (L - 1) layers        gradients   4 P
 *     spares        4 P x (bits of micro-batches of a rank less one): sums of the tree inside a rank
 *     optimizer     bf16: 12 P / R (masters, two moments); fp32: 8 P / R; with bf16 moments 4 P / R less, 8 x min(P / R, 2^20) more
 *     layer         a T (3 d + 2 q + 2 kv + 2 I) + 4 T (4 + heads); parallel residual: 2 d; with q/k norms a T (q + kv) + 8 T (heads + kv heads) more
 *     activations   a T d (L + 1) + layer x (L, or 1 with recomputation) + a T (4 d + 2 q + 2 kv + 3 I) + r (4 V + 2 a d + 16) + 28 T
 *     buckets       R > 1: 2 slots x 4 x bucket x (ranks that send) / R, and sums of squares: 8 P / 4096 x 2
 * Mapped data and the threads' scratch (some MiB each) are not in it. */
#ifndef SLM2_REPORT_PLAN_H
#define SLM2_REPORT_PLAN_H
#include "report/energy.h"
#include "train/pretrain.h"

/* How floating-point operations of a token are counted for the time. */
enum slm2_plan_count {
    SLM2_PLAN_MODEL,    /* forward and backward, causal attention, no recomputation: what MFU means */
    SLM2_PLAN_HARDWARE, /* the same and the second forward where the settings recompute */
    SLM2_PLAN_MEGATRON, /* the formula of Narayanan et al. 2021 (arXiv 2104.04473) that GPT-NeoX took over: an MLP of 4 d, attention over the whole context, recomputation */
};
struct slm2_plan_opts {
    bool plan, json;
    int devices, count;    /* ranks; enum slm2_plan_count */
    double device_tflops;  /* peak of a device */
    double mfu;            /* part of the peak that training reaches */
    double device_watts;   /* mean */
    double pue, t_per_mwh;
};
extern const struct slm2_opt slm2_plan_table[];

struct slm2_plan_memory { double parameters, gradients, spares, optimizer, activations, buckets, all; /* bytes */ };
struct slm2_run_plan {
    double n_param, flops_per_token, counted_flops_per_token;
    int64_t tok_per_step, steps;
    int micro_batches, idle;  /* of the busiest rank; devices that have none */
    double tokens, flops;     /* of the run; flops as counted */
    struct slm2_plan_memory memory;
    double activations_keep, activations_recompute;
    double step_s, hours, device_hours, mwh, tco2;
};
slm2_status slm2_plan_make(struct slm2_run_plan *p, const struct slm2_pretrain_opts *o, const struct slm2_plan_opts *d, const char *what, struct slm2_err *err);
void slm2_plan_text(const struct slm2_run_plan *p, const struct slm2_pretrain_opts *o, const struct slm2_plan_opts *d, struct slm2_buf *out);
json_t *slm2_plan_json(const struct slm2_run_plan *p);
#endif
