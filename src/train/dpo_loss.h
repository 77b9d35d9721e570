/* dpo_loss.h - the loss of direct preference optimisation for one pair, with its derivative. */
#ifndef SLM2_TRAIN_DPO_LOSS_H
#define SLM2_TRAIN_DPO_LOSS_H

struct slm2_dpo_terms {
    double loss, reward_chosen, reward_rejected, margin; /* rewards: beta (log pi - log ref); margin: their difference */
    double d_chosen;                                     /* d loss / d log pi(chosen); for the rejected answer the negative of it */
};
/* pi_*, ref_*: summed log-probabilities of the answers under policy and reference.  With z = (pi_c - pi_r) - (ref_c - ref_r) and
 * e = label_smoothing:  loss = -(1 - e) log sigma(beta z) - e log sigma(-beta z). */
struct slm2_dpo_terms slm2_dpo_loss(double pi_chosen, double pi_rejected, double ref_chosen, double ref_rejected, double beta, double label_smoothing);
#endif
