/* rng.c - Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 * The counter is (b, a), the key the seed with the purpose in its top byte: a draw needs no state, and purpose 0 is plain Philox. */
#include "base/rng.h"

#include <math.h>

/* Ten rounds on the counter c[4] with the key k[2]. */
static void philox(uint32_t c[4], uint32_t k0, uint32_t k1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c[0], p1 = (uint64_t)0xcd9e8d57u * c[2];
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        c[0] = n0;
        c[2] = n2;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
}

/* The 128 bits of one draw. */
static void draw(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b, uint64_t out[2])
{
    uint64_t key = seed ^ purpose << 56;
    uint32_t c[4] = {(uint32_t)b, (uint32_t)(b >> 32), (uint32_t)a, (uint32_t)(a >> 32)};
    philox(c, (uint32_t)key, (uint32_t)(key >> 32));
    out[0] = c[0] | (uint64_t)c[1] << 32;
    out[1] = c[2] | (uint64_t)c[3] << 32;
}

uint64_t slm2_rng_u64(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b)
{
    uint64_t u[2];
    draw(seed, purpose, a, b, u);
    return u[0];
}

static double unit(uint64_t u) { return (double)(u >> 11) * 0x1p-53; }

double slm2_rng_uniform(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b)
{
    return unit(slm2_rng_u64(seed, purpose, a, b));
}

float slm2_rng_normal(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b)
{
    uint64_t u[2];
    draw(seed, purpose, a, b, u);
    double radius = sqrt(-2.0 * log(1.0 - unit(u[0]))); /* 1 - u is in (0, 1]: the logarithm is finite */
    return (float)(radius * cos(6.283185307179586477 * unit(u[1])));
}

/* The upper 64 bits of (draw * n) / 2^64 with all 128 bits of the draw: a bias of at most n / 2^128. */
uint64_t slm2_rng_below(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b, uint64_t n)
{
    __extension__ typedef unsigned __int128 u128;
    uint64_t u[2];
    draw(seed, purpose, a, b, u);
    return (uint64_t)(((u128)u[0] * n + ((u128)u[1] * n >> 64)) >> 64);
}

void slm2_rng_permute(uint64_t seed, uint64_t purpose, uint64_t a, uint32_t *idx, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) idx[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)slm2_rng_below(seed, purpose, a, i, i), t = idx[i - 1];
        idx[i - 1] = idx[j];
        idx[j] = t;
    }
}

/* Four rounds on two halves of b bits each permute [0, 4^b), at most four times n; what falls outside goes round again (a cycle of the
 * larger permutation leads back inside). */
uint64_t slm2_rng_place(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t i, uint64_t n)
{
    unsigned b = 1;
    while (b < 31 && (n - 1) >> 2 * b) b++;
    uint64_t mask = (UINT64_C(1) << b) - 1;
    do {
        uint64_t left = i >> b, right = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t next = left ^ (slm2_rng_u64(seed, purpose, a, round << 32 | right) & mask);
            left = right;
            right = next;
        }
        i = left << b | right;
    } while (i >= n);
    return i;
}
