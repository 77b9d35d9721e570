/* pyrandom.h - CPython's random.Random, draw for draw (3.8 to 3.13): few-shot examples and bootstraps are the harness's own.
 *
 *     struct slm2_pyrandom r;
 *     slm2_pyrandom_seed(&r, 1234);
 *     slm2_pyrandom_sample(&r, 1119, 25, idx, &err);    // random.Random(1234).sample(range(1119), 25)
 */
#ifndef SLM2_EVAL_PYRANDOM_H
#define SLM2_EVAL_PYRANDOM_H
#include "base/err.h"

struct slm2_pyrandom { uint32_t state[624]; int at; }; /* MT19937 */

void slm2_pyrandom_seed(struct slm2_pyrandom *r, uint64_t seed); /* Random(seed), an int >= 0 */
uint32_t slm2_pyrandom_u32(struct slm2_pyrandom *r);
uint32_t slm2_pyrandom_below(struct slm2_pyrandom *r, uint32_t n); /* randrange(n), n >= 1 */
double slm2_pyrandom_real(struct slm2_pyrandom *r);                /* random(): [0, 1), 53 bits */
void slm2_pyrandom_shuffle(struct slm2_pyrandom *r, uint32_t *v, uint32_t n);
/* sample(range(n), k): idx[k] in the order drawn.  SLM2_EUSAGE when k > n. */
slm2_status slm2_pyrandom_sample(struct slm2_pyrandom *r, uint32_t n, uint32_t k, uint32_t *idx, struct slm2_err *err);
void slm2_pyrandom_choices(struct slm2_pyrandom *r, uint32_t n, size_t k, uint32_t *idx); /* choices(range(n), k=k), n >= 1 */
#endif
