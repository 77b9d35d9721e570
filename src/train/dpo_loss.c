/* dpo_loss.c - the losses of DPO, in double, without overflow for any margin. */
#include "train/dpo_loss.h"

#include <math.h>
#include <stddef.h>

const char *const slm2_dpo_kinds[] = {"sigmoid", "hinge", "ipo", NULL}; /* as enum slm2_dpo_kind */

/* log sigma(x) = -log(1 + exp(-x)) */
static double log_sigmoid(double x) { return x >= 0 ? -log1p(exp(-x)) : x - log1p(exp(x)); }
static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

struct slm2_dpo_terms slm2_dpo_loss(enum slm2_dpo_kind kind, double pi_chosen, double pi_rejected, double ref_chosen, double ref_rejected, double beta, double label_smoothing)
{
    struct slm2_dpo_terms t = {.reward_chosen = beta * (pi_chosen - ref_chosen), .reward_rejected = beta * (pi_rejected - ref_rejected)};
    double e = label_smoothing;
    t.margin = t.reward_chosen - t.reward_rejected;
    switch (kind) {
    case SLM2_DPO_SIGMOID: /* d/dx log sigma(x) = sigma(-x) */
        t.loss = -(1 - e) * log_sigmoid(t.margin) - e * log_sigmoid(-t.margin);
        t.d_chosen = -beta * ((1 - e) * sigmoid(-t.margin) - e * sigmoid(t.margin));
        break;
    case SLM2_DPO_HINGE: /* a margin that is not a number must not look like a good one */
        t.loss = t.margin >= 1 ? 0 : 1 - t.margin;
        t.d_chosen = t.margin >= 1 ? 0 : -beta;
        break;
    case SLM2_DPO_IPO: {
        double z = (pi_chosen - pi_rejected) - (ref_chosen - ref_rejected), off = z - 1 / (2 * beta);
        t.loss = off * off;
        t.d_chosen = 2 * off;
        break;
    }
    }
    return t;
}
