/* dpo_loss.h - the losses of direct preference optimisation for one pair, with their derivative. */
#ifndef SLM2_TRAIN_DPO_LOSS_H
#define SLM2_TRAIN_DPO_LOSS_H

/* With z = (pi_c - pi_r) - (ref_c - ref_r) and e = label smoothing:
 *     sigmoid  -(1 - e) log sigma(beta z) - e log sigma(-beta z)
 *     hinge    max(0, 1 - beta z)
 *     ipo      (z - 1 / (2 beta))^2     beta above 0
 * Only the sigmoid loss knows label smoothing. */
enum slm2_dpo_kind { SLM2_DPO_SIGMOID, SLM2_DPO_HINGE, SLM2_DPO_IPO };
extern const char *const slm2_dpo_kinds[]; /* "sigmoid", "hinge", "ipo", NULL: choices of a setting */

struct slm2_dpo_terms {
    double loss, reward_chosen, reward_rejected, margin; /* rewards: beta (log pi - log ref); margin: their difference */
    double d_chosen;                                     /* d loss / d log pi(chosen); for the rejected answer the negative of it */
};
/* pi_*, ref_*: log-probabilities of the answers under policy and reference, summed over their tokens (for ipo too). */
struct slm2_dpo_terms slm2_dpo_loss(enum slm2_dpo_kind kind, double pi_chosen, double pi_rejected, double ref_chosen, double ref_rejected, double beta, double label_smoothing);
#endif
