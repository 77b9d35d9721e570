/* dpo_loss.c - the sigmoid loss of DPO, in double, without overflow for any margin. */
#include "train/dpo_loss.h"

#include <math.h>

/* log sigma(x) = -log(1 + exp(-x)) */
static double log_sigmoid(double x) { return x >= 0 ? -log1p(exp(-x)) : x - log1p(exp(x)); }
static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

struct slm2_dpo_terms slm2_dpo_loss(double pi_chosen, double pi_rejected, double ref_chosen, double ref_rejected, double beta, double label_smoothing)
{
    struct slm2_dpo_terms t;
    double e = label_smoothing;
    t.reward_chosen = beta * (pi_chosen - ref_chosen);
    t.reward_rejected = beta * (pi_rejected - ref_rejected);
    t.margin = t.reward_chosen - t.reward_rejected;
    t.loss = -(1 - e) * log_sigmoid(t.margin) - e * log_sigmoid(-t.margin);
    /* d/dx log sigma(x) = sigma(-x) */
    t.d_chosen = -beta * ((1 - e) * sigmoid(-t.margin) - e * sigmoid(t.margin));
    return t;
}
