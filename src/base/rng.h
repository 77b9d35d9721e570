/* rng.h - counter-based random numbers: every draw is a function of (seed, purpose, a, b), so that order and threads do not matter. */
#ifndef SLM2_BASE_RNG_H
#define SLM2_BASE_RNG_H
#include <stdint.h>

enum slm2_rng_purpose { SLM2_RNG_INIT = 1, SLM2_RNG_SHUFFLE, SLM2_RNG_MIX, SLM2_RNG_SAMPLE, SLM2_RNG_SPLIT, SLM2_RNG_TEST, SLM2_RNG_FEWSHOT, SLM2_RNG_MINHASH, SLM2_RNG_ROWS, SLM2_RNG_LORA };

uint64_t slm2_rng_u64(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b); /* Philox 4x32-10 */
double slm2_rng_uniform(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b); /* [0, 1), 53 bits */
float slm2_rng_normal(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b);   /* N(0, 1), Box-Muller in double */
uint64_t slm2_rng_below(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b, uint64_t n); /* [0, n), unbiased to 2^-64 */
/* idx[n] becomes a permutation of 0..n-1 (Fisher-Yates). */
void slm2_rng_permute(uint64_t seed, uint64_t purpose, uint64_t a, uint32_t *idx, uint32_t n);
/* Where i of [0, n) goes in a permutation of (seed, purpose, a), n up to 2^62, without an array (Feistel rounds, repeated until inside). */
uint64_t slm2_rng_place(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t i, uint64_t n);
#endif
