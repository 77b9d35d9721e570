/* share.h - which source row i comes from: a function of (weights, seed, i).
 *
 * x_i = phase(seed) + i / golden ratio, modulo 1, falls into one of the intervals that the weights cut [0, 1) into.  That sequence is of low
 * discrepancy: after any number of rows each source has given its share to within a few rows. */
#ifndef SLM2_DATA_SHARE_H
#define SLM2_DATA_SHARE_H
#include "base/err.h"

struct slm2_share;
/* weight[n], 1 to 4096 of them, from 0 and finite, not all 0; names are for messages only. */
slm2_status slm2_share_open(struct slm2_share **s, const double *weight, const char *const *names, int n, uint64_t seed, struct slm2_err *err);
void slm2_share_close(struct slm2_share *s);
int slm2_share_source(const struct slm2_share *s, int64_t i);                      /* 0 <= i < 2^48 */
int64_t slm2_share_rows(const struct slm2_share *s, int source, int64_t n_rows);   /* how many of rows 0 .. n_rows - 1, in O(log n_rows) */
double slm2_share_of(const struct slm2_share *s, int source);                      /* weight / sum of weights */
#endif
