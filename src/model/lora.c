/* lora.c - the adapter's parameters and its part of a linear layer, forward and backward. */
#include "model/lora.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/rng.h"
#include "model/acts.h"

const char *const slm2_lora_target_names[] = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", NULL};
static const enum slm2_param_kind target_kinds[] = {SLM2_P_Q_W, SLM2_P_K_W, SLM2_P_V_W, SLM2_P_O_W, SLM2_P_GATE_W, SLM2_P_UP_W, SLM2_P_DOWN_W};
enum { N_TARGET = sizeof target_kinds / sizeof target_kinds[0] };

uint32_t slm2_lora_all_targets(void)
{
    uint32_t all = 0;
    for (int i = 0; i < N_TARGET; i++) all |= 1u << target_kinds[i];
    return all;
}

slm2_status slm2_lora_target(const char *name, uint32_t *bit, struct slm2_err *err)
{
    for (int i = 0; i < N_TARGET; i++)
        if (!strcmp(name, slm2_lora_target_names[i])) {
            *bit = 1u << target_kinds[i];
            return SLM2_OK;
        }
    return slm2_fail(err, SLM2_EUSAGE, "\"%.60s\" is no matrix that an adapter can stand beside; want q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj", name);
}

/* ---- parameters ------------------------------------------------------------------------------------------------------------ */
static void append(struct slm2_params *p, enum slm2_param_kind kind, int layer, enum slm2_param_part part, int n_row, int n_col)
{
    size_t n = (size_t)n_row * (size_t)n_col; /* the rank is bounded, the rest by slm2_config_check: cannot overflow */
    p->v[p->n++] = (struct slm2_param){.kind = kind, .layer = layer, .part = part, .n_row = n_row, .n_col = n_col, .is_matrix = true, .at = p->flat_elems};
    p->n_elem += n;
    p->flat_elems += slm2_align_up(n, 64);
}

static slm2_status list(struct slm2_lora *o, const struct slm2_params *base, int n_layer, struct slm2_err *err)
{
    struct slm2_params *p = &o->params;
    p->v = calloc((size_t)n_layer * 2 * N_TARGET, sizeof *p->v);
    if (!p->v) return slm2_fail(err, SLM2_ENOMEM, "no memory for the adapter's parameter list");
    for (int k = 0; k < SLM2_N_PARAM_KIND; k++) p->slot[k] = -1;
    for (int i = 0; i < N_TARGET; i++) {
        if (!(o->o.targets >> target_kinds[i] & 1)) continue;
        p->slot[target_kinds[i]] = p->n_per_layer;
        p->n_per_layer += 2;
    }
    for (int l = 0; l < n_layer; l++)
        for (int i = 0; i < N_TARGET; i++) {
            const struct slm2_param *w = slm2_params_get(base, target_kinds[i], l);
            if (p->slot[target_kinds[i]] < 0) continue;
            append(p, target_kinds[i], l, SLM2_PART_LORA_A, o->o.rank, w->n_col);
            append(p, target_kinds[i], l, SLM2_PART_LORA_B, w->n_row, o->o.rank);
        }
    return SLM2_OK;
}

static slm2_status lay(struct slm2_lora *o, bool trainable, struct slm2_err *err)
{
    size_t piece = slm2_arena_piece(sizeof(float) * o->params.flat_elems);
    SLM2_TRY(slm2_arena_init(&o->mem, trainable ? 2 * piece : piece, "the adapter", err));
    float *w = slm2_arena_take(&o->mem, piece), *grad = trainable ? slm2_arena_take(&o->mem, piece) : NULL;
    for (int i = 0; i < o->params.n; i++) {
        struct slm2_param *p = &o->params.v[i];
        p->master = w + p->at;
        p->grad = grad ? grad + p->at : NULL;
        p->w = slm2_mat_of(p->master, SLM2_F32, p->n_row, p->n_col);
    }
    return SLM2_OK;
}

/* As nn.Linear begins: kaiming_uniform with a = sqrt(5) has the bound sqrt(6 / ((1 + 5) n_in)). */
void slm2_lora_start(struct slm2_lora *o, uint64_t seed)
{
    for (int i = 0; i < o->params.n; i++) {
        struct slm2_param *p = &o->params.v[i];
        if (p->part != SLM2_PART_LORA_A) continue;
        double bound = 1 / sqrt((double)p->n_col);
        for (size_t k = 0; k < (size_t)p->n_row * (size_t)p->n_col; k++)
            p->master[k] = (float)((2 * slm2_rng_uniform(seed, SLM2_RNG_LORA, (uint64_t)i, k) - 1) * bound);
    }
}

slm2_status slm2_lora_add(struct slm2_model *m, const struct slm2_lora_opts *opts, bool trainable, struct slm2_err *err)
{
    assert(!m->lora && !m->params.v[0].grad);
    if (opts->rank < 1 || opts->rank > SLM2_LORA_MAX_RANK) return slm2_fail(err, SLM2_EUSAGE, "an adapter of rank %d: want 1 to %d", opts->rank, SLM2_LORA_MAX_RANK);
    if (!(fabs(opts->alpha) <= 1e6)) return slm2_fail(err, SLM2_EUSAGE, "an adapter with alpha %g: want a number up to 1e6", opts->alpha);
    if (!opts->targets || opts->targets & ~slm2_lora_all_targets()) return slm2_fail(err, SLM2_EUSAGE, "an adapter without matrices to stand beside; name some of q_proj ... down_proj");
    struct slm2_lora *o = calloc(1, sizeof *o);
    if (!o) return slm2_fail(err, SLM2_ENOMEM, "no memory for an adapter");
    o->o = *opts;
    o->scale = (float)(opts->alpha / (opts->rslora ? sqrt((double)opts->rank) : (double)opts->rank));
    slm2_status st = list(o, &m->params, m->cfg.n_layer, err);
    if (st == SLM2_OK) st = lay(o, trainable, err);
    if (st != SLM2_OK) {
        slm2_lora_free(o);
        return st;
    }
    m->lora = o;
    return SLM2_OK;
}

void slm2_lora_free(struct slm2_lora *o)
{
    if (!o) return;
    slm2_params_list_free(&o->params);
    slm2_arena_free(&o->mem);
    free(o);
}

struct slm2_param *slm2_lora_get(const struct slm2_lora *o, enum slm2_param_kind kind, int layer)
{
    int slot = o->params.slot[kind];
    return slot < 0 ? NULL : &o->params.v[layer * o->params.n_per_layer + slot];
}

/* ---- its part of a linear layer -------------------------------------------------------------------------------------------- */
static struct slm2_param *adapter(const struct slm2_model *m, enum slm2_param_kind kind, int l) { return m->lora ? slm2_lora_get(m->lora, kind, l) : NULL; }

/* The first rows and columns of a slot of the activations, rows one behind the other. */
static struct slm2_mat part_of(const struct slm2_mat *slot, int n_row, int n_col) { return slm2_mat_of(slot->data, SLM2_F32, n_row, n_col); }

/* u = s x A'; made again in the backward, which costs less than keeping it for every matrix */
static struct slm2_mat down(const struct slm2_model *m, struct slm2_acts *a, const struct slm2_param *A, const struct slm2_mat *x)
{
    struct slm2_mat u = part_of(&a->lora_u, x->n_row, A->n_row);
    a->c->ops->linear(a->c, &u, x, &A->w, NULL);
    a->c->ops->scale(a->c, &u, m->lora->scale);
    return u;
}

void slm2_lora_forward(const struct slm2_model *m, struct slm2_acts *a, enum slm2_param_kind kind, int l, struct slm2_mat *y, const struct slm2_mat *x)
{
    const struct slm2_param *A = adapter(m, kind, l);
    if (!A) return;
    const struct slm2_param *B = A + 1;
    struct slm2_mat u = down(m, a, A, x), z = part_of(&a->lora_z, x->n_row, B->n_row);
    a->c->ops->linear(a->c, &z, &u, &B->w, NULL);
    a->c->ops->add(a->c, y, y, &z);
}

void slm2_lora_backward(const struct slm2_model *m, struct slm2_acts *a, enum slm2_param_kind kind, int l, const struct slm2_mat *dy, const struct slm2_mat *x)
{
    const struct slm2_param *A = adapter(m, kind, l);
    if (!A) return;
    const struct slm2_param *B = A + 1;
    struct slm2_mat u = down(m, a, A, x), du = part_of(&a->lora_du, x->n_row, A->n_row);
    struct slm2_mat dA = slm2_mat_of(A->grad, SLM2_F32, A->n_row, A->n_col), dB = slm2_mat_of(B->grad, SLM2_F32, B->n_row, B->n_col);
    a->c->ops->linear_bwd(a->c, &du, false, &dB, NULL, dy, &u, &B->w);
    a->c->ops->scale(a->c, &du, m->lora->scale);
    a->c->ops->linear_bwd(a->c, NULL, false, &dA, NULL, &du, x, &A->w);
}

void slm2_lora_backward_dx(const struct slm2_model *m, struct slm2_acts *a, enum slm2_param_kind kind, int l, struct slm2_mat *dx)
{
    const struct slm2_param *A = adapter(m, kind, l);
    if (!A) return;
    struct slm2_mat du = part_of(&a->lora_du, dx->n_row, A->n_row);
    a->c->ops->linear_bwd(a->c, dx, true, NULL, NULL, &du, NULL, &A->w);
}
