/* dpo_ref.h - log-probabilities of the reference, kept on disk so that no run computes them twice.
 *
 * A file holds the sums for the pairs of one data set under one model, as JSON:
 *     {"form", "model_sha256", "pairs_sha256", "precision", "kernels", "pairs": N, "done": D, "log_prob_sha256", "log_prob": [2 D numbers]}
 * chosen and rejected in turn; D < N where a run was stopped while it computed them.  Its name comes from what the numbers depend on, the
 * content says the same again, and the numbers have their hash: what does not agree is refused.  Files are written aside and renamed; two
 * runs that want the same numbers at once each compute them and write the same file. */
#ifndef SLM2_TRAIN_DPO_REF_H
#define SLM2_TRAIN_DPO_REF_H
#include "data/pair.h"

struct slm2_dpo_ref_key {
    char model[65];         /* slm2_model_key_of: configuration, weight files, adapter */
    char pairs[65];         /* of the tokens: template, vocabulary, lengths and filters act through them */
    const char *precision;  /* borrowed, as are the kernels: other arithmetic gives other last bits */
    const char *kernels;
};
slm2_status slm2_dpo_ref_pairs(const struct slm2_pairs *p, char hex[65], struct slm2_err *err);

slm2_status slm2_dpo_ref_path(char *out, size_t cap, const char *dir, const struct slm2_dpo_ref_key *key, struct slm2_err *err);
/* lp [2 n_pair] receives what the file holds, *done the number of pairs; 0 when there is no file.  SLM2_EFORMAT with the reason, *done 0: the file
 * is damaged or something else; remove or overwrite it. */
slm2_status slm2_dpo_ref_read(const char *path, const struct slm2_dpo_ref_key *key, double *lp, int n_pair, int *done, struct slm2_err *err);
/* The folder is made when it is missing.  Numbers that are not finite are SLM2_EFORMAT: the model is damaged. */
slm2_status slm2_dpo_ref_write(const char *dir, const struct slm2_dpo_ref_key *key, const double *lp, int n_pair, int done, struct slm2_err *err);
#endif
