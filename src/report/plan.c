/* plan.c - closed formulas over the settings; nothing is opened or allocated.  tests/test_plan.c holds them against real trainers. */
#include "report/plan.h"

#include <inttypes.h>
#include <stddef.h>

#include "base/num.h"
#include "dist/bucket.h"
#include "dist/zero.h"

#define AT(field) offsetof(struct slm2_plan_opts, field)
static const char *const counts[] = {"model", "hardware", "megatron", NULL};

const struct slm2_opt slm2_plan_table[] = {
    {.name = "plan", .type = SLM2_OPT_BOOL, .offset = AT(plan), .help = "print what the run will take, and do not start it"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = AT(json), .help = "the plan as one JSON object"},
    {.name = "devices", .type = SLM2_OPT_INT, .offset = AT(devices), .lo = 1, .hi = 1 << 20, .def = "1", .help = "plan: ranks"},
    {.name = "device_tflops", .type = SLM2_OPT_DOUBLE, .offset = AT(device_tflops), .lo = 1e-6, .hi = 1e9, .def = "312", .help = "plan: peak of a device, TFLOP/s; default: A100 in bf16"},
    {.name = "mfu", .type = SLM2_OPT_DOUBLE, .offset = AT(mfu), .lo = 1e-6, .hi = 1, .def = "0.545", .help = "plan: part of the peak that training reaches; default: the report's"},
    {.name = "count", .type = SLM2_OPT_ENUM, .offset = AT(count), .def = "hardware", .choices = counts, .help = "plan: FLOPs that mfu counts: model; hardware: with recomputation; megatron: the formula of Megatron-LM and GPT-NeoX"},
    {.name = "device_watts", .type = SLM2_OPT_DOUBLE, .offset = AT(device_watts), .lo = 0, .hi = 1e6, .def = "296", .help = "plan: mean power of a device; default: what the report's 30 MWh come to"},
    {.name = "pue", .type = SLM2_OPT_DOUBLE, .offset = AT(pue), .lo = 1, .hi = 10, .def = "1.1", .help = "plan: energy of the data centre over that of its devices"},
    {.name = "t_per_mwh", .type = SLM2_OPT_DOUBLE, .offset = AT(t_per_mwh), .lo = 0, .hi = 10, .def = "0.385", .help = "plan: t CO2eq per MWh; default: US average"},
    {.name = NULL},
};

static double activations(const struct slm2_config *c, double a, double T, double r, bool recompute)
{
    double d = c->hidden_size, I = c->intermediate_size, q = slm2_config_q_dim(c), kv = slm2_config_kv_dim(c), L = c->n_layer;
    double layer = a * T * ((c->parallel_residual ? 2 : 3) * d + 2 * q + 2 * kv + 2 * I) + 4 * T * (4 + c->n_head);
    if (c->qk_norm) layer += a * T * (q + kv) + 8 * T * (c->n_head + c->n_kv_head);
    return a * T * d * (L + 1) + layer * (recompute ? 1 : L) + a * T * (4 * d + 2 * q + 2 * kv + 3 * I) + r * (4.0 * c->vocab_size + 2 * a * d + 16) + 28 * T;
}

/* 24 f L d^2 (1 + s / (6 d) + V / (16 L d)) a token with f = 3, or 4 with recomputation: arXiv 2104.04473, section 5.1. */
static double megatron_flops(const struct slm2_config *c, double n_ctx, bool recompute)
{
    double d = c->hidden_size, L = c->n_layer;
    return 24 * (recompute ? 4 : 3) * L * d * d * (1 + n_ctx / (6 * d) + c->vocab_size / (16 * L * d));
}

static int64_t steps_of(const struct slm2_pretrain_opts *o)
{
    const struct slm2_schedule *s = &o->schedule;
    int64_t end = s->cooldown_start + s->n_cooldown;
    return slm2_schedule_cools_down(s) && s->cooldown_start >= 0 && end < o->steps ? end : o->steps;
}

static void plan_memory(struct slm2_run_plan *p, const struct slm2_config *c, const struct slm2_pretrain_opts *o, const struct slm2_params *list, int n_ctx, int R)
{
    struct slm2_plan_memory *m = &p->memory;
    bool mixed = o->precision == SLM2_BF16_MIXED;
    double P = (double)list->flat_elems, layer = (double)(list->v[1 + list->n_per_layer].at - list->v[1].at), moments = o->moments == SLM2_MOMENTS_BF16 ? 4 : 8;
    double a = mixed ? 2 : 4, T = (double)o->micro_batch * n_ctx, bucket = o->bucket_elems < P ? (double)o->bucket_elems : P;
    int rows = slm2_min_int((int)T, slm2_max_int(64, slm2_min_int(512, c->hidden_size))); /* as the trainer chooses them */
    int block = slm2_block_size(o->accumulation, R), senders = (o->accumulation + block - 1) / block - 1, levels = 0;
    while ((p->micro_batches - 1) >> levels > 0) levels++;
    m->parameters = (mixed ? 2 : 4) * P - (o->by_layer ? 2 * layer * (c->n_layer - 1) : 0);
    m->gradients = 4 * P;
    m->spares = 4 * P * levels;
    m->optimizer = ((mixed ? 4 : 0) + moments) * P / R + (moments < 8 ? 8 * (P / R < SLM2_MOMENT_PIECE ? P / R : SLM2_MOMENT_PIECE) : 0);
    p->activations_keep = activations(c, a, T, rows, false);
    p->activations_recompute = activations(c, a, T, rows, true);
    m->activations = o->recompute ? p->activations_recompute : p->activations_keep;
    m->buckets = (R > 1 ? SLM2_ZERO_SLOTS * 4 * bucket * senders / R + 8 * P / SLM2_SQ_CHUNK : 0) + 8 * P / SLM2_SQ_CHUNK;
    m->all = m->parameters + m->gradients + m->spares + m->optimizer + m->activations + m->buckets;
}

slm2_status slm2_plan_make(struct slm2_run_plan *p, const struct slm2_pretrain_opts *o, const struct slm2_plan_opts *d, const char *what, struct slm2_err *err)
{
    struct slm2_config c;
    struct slm2_params list;
    *p = (struct slm2_run_plan){0};
    SLM2_TRY(slm2_config_from_settings(&c, &o->model, what, err));
    SLM2_TRY(slm2_config_check(&c, what, err));
    int n_ctx = o->n_ctx ? o->n_ctx : c.n_ctx;
    if (n_ctx > c.n_ctx) return slm2_fail(err, SLM2_EUSAGE, "%s: train.n_ctx %d is more than the %d of the model", what, n_ctx, c.n_ctx);
    SLM2_TRY(slm2_params_list(&list, &c, err));
    p->n_param = (double)list.n_elem;

    int block = slm2_block_size(o->accumulation, d->devices);
    p->micro_batches = slm2_min_int(block, o->accumulation);
    p->idle = d->devices - (o->accumulation + block - 1) / block;
    p->tok_per_step = (int64_t)o->micro_batch * o->accumulation * n_ctx;
    p->steps = steps_of(o);
    p->tokens = (double)p->tok_per_step * (double)p->steps;
    p->flops_per_token = slm2_model_flops_per_token(&c, n_ctx / 2.0);
    p->counted_flops_per_token = d->count == SLM2_PLAN_MEGATRON ? megatron_flops(&c, n_ctx, o->recompute) : p->flops_per_token * (d->count == SLM2_PLAN_HARDWARE && o->recompute ? 4.0 / 3 : 1);
    p->flops = p->tokens * p->counted_flops_per_token;
    plan_memory(p, &c, o, &list, n_ctx, d->devices);
    slm2_params_list_free(&list);

    /* the busiest rank decides: a device with fewer micro-batches waits for it */
    double rate = d->device_tflops * 1e12 * d->mfu;
    p->step_s = (double)p->micro_batches * o->micro_batch * n_ctx * p->counted_flops_per_token / rate;
    p->hours = p->step_s * (double)p->steps / 3600;
    p->device_hours = p->hours * d->devices;
    const struct slm2_energy_terms terms = {.pue = d->pue, .t_per_mwh = d->t_per_mwh};
    p->mwh = slm2_energy_mwh(p->device_hours, d->device_watts, &terms);
    p->tco2 = slm2_energy_tco2(p->mwh, &terms);
    return SLM2_OK;
}

static void row(struct slm2_buf *out, const char *name, double bytes) { slm2_buf_printf(out, "  %-34s%12.3f GiB\n", name, bytes / (1 << 30)); }

void slm2_plan_text(const struct slm2_run_plan *p, const struct slm2_pretrain_opts *o, const struct slm2_plan_opts *d, struct slm2_buf *out)
{
    const struct slm2_plan_memory *m = &p->memory;
    slm2_buf_printf(out, "model     %.0f parameters, %.2f GFLOP a token, %.2f as counted (%s)\n", p->n_param, p->flops_per_token / 1e9, p->counted_flops_per_token / 1e9, counts[d->count]);
    slm2_buf_printf(out, "step      %" PRId64 " tokens: %d micro-batches of %d rows; up to %d on each of %d devices\n", p->tok_per_step, o->accumulation, o->micro_batch, p->micro_batches, d->devices);
    if (p->idle) slm2_buf_printf(out, "          %d devices have no micro-batch: use fewer devices or a larger train.accumulation\n", p->idle);
    slm2_buf_printf(out, "run       %" PRId64 " steps, %.4g tokens, %.3g FLOP\n", p->steps, p->tokens, p->flops);
    slm2_buf_printf(out, "memory    of a rank:\n");
    row(out, o->precision == SLM2_BF16_MIXED ? "parameters, bf16" : "parameters, fp32 (masters too)", m->parameters);
    row(out, "gradients, fp32", m->gradients);
    row(out, "sums of micro-batches", m->spares);
    row(out, "optimizer, own shard", m->optimizer);
    row(out, o->recompute ? "activations, recomputed" : "activations, all kept", m->activations);
    row(out, "buckets", m->buckets);
    row(out, "all", m->all);
    slm2_buf_printf(out, "          activations would be %.3f GiB %s\n", (o->recompute ? p->activations_keep : p->activations_recompute) / (1 << 30), o->recompute ? "all kept" : "with train.recompute");
    slm2_buf_printf(out, "time      %.3g s a step, %.1f days; %.0f device-hours at %.1f TFLOP/s (%.1f %% of %g)\n", p->step_s, p->hours / 24, p->device_hours, d->device_tflops * d->mfu, 100 * d->mfu, d->device_tflops);
    slm2_buf_printf(out, "energy    %.4g MWh at %g W a device, PUE %g; %.3g t CO2eq at %g t/MWh\n", p->mwh, d->device_watts, d->pue, p->tco2, d->t_per_mwh);
}

json_t *slm2_plan_json(const struct slm2_run_plan *p)
{
    const struct slm2_plan_memory *m = &p->memory;
    json_t *memory = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "parameters", m->parameters, "gradients", m->gradients, "spares", m->spares, "optimizer", m->optimizer,
                               "activations", m->activations, "buckets", m->buckets, "all", m->all);
    return json_pack("{s:f, s:f, s:f, s:I, s:I, s:i, s:i, s:f, s:f, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "parameters", p->n_param, "flops_per_token", p->flops_per_token,
                     "counted_flops_per_token", p->counted_flops_per_token, "tokens_per_step", (json_int_t)p->tok_per_step, "steps", (json_int_t)p->steps, "micro_batches_per_device",
                     p->micro_batches, "idle_devices", p->idle, "tokens", p->tokens, "flops", p->flops, "memory_bytes", memory, "activations_keep_bytes", p->activations_keep,
                     "activations_recompute_bytes", p->activations_recompute, "step_s", p->step_s, "hours", p->hours, "device_hours", p->device_hours, "mwh", p->mwh, "tco2", p->tco2);
}
