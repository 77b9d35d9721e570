/* pyrandom.c - the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), seeded by an array, and what Python makes of its words. */
#include "eval/pyrandom.h"

#include <stdlib.h>
#include <string.h>

enum { N = 624, M = 397 };

static void seed_word(struct slm2_pyrandom *r, uint32_t s)
{
    r->state[0] = s;
    for (uint32_t i = 1; i < N; i++) r->state[i] = 1812433253u * (r->state[i - 1] ^ (r->state[i - 1] >> 30)) + i;
    r->at = N;
}

void slm2_pyrandom_seed(struct slm2_pyrandom *r, uint64_t seed)
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, n_key = key[1] ? 2 : 1, i = 1, j = 0;
    uint32_t *s = r->state;
    seed_word(r, 19650218u);
    for (int k = N; k > 0; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + key[j] + j;
        if (++i == N) {
            s[0] = s[N - 1];
            i = 1;
        }
        if (++j == n_key) j = 0;
    }
    for (int k = N - 1; k > 0; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - i;
        if (++i == N) {
            s[0] = s[N - 1];
            i = 1;
        }
    }
    s[0] = 0x80000000u; /* never all zero */
}

static void turn(uint32_t *s)
{
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
}

uint32_t slm2_pyrandom_u32(struct slm2_pyrandom *r)
{
    if (r->at >= N) {
        turn(r->state);
        r->at = 0;
    }
    uint32_t y = r->state[r->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

uint32_t slm2_pyrandom_below(struct slm2_pyrandom *r, uint32_t n)
{
    int bits = 0;
    while (bits < 32 && n >> bits) bits++;
    uint32_t v;
    do v = slm2_pyrandom_u32(r) >> (32 - bits);
    while (v >= n);
    return v;
}

double slm2_pyrandom_real(struct slm2_pyrandom *r)
{
    uint32_t a = slm2_pyrandom_u32(r) >> 5, b = slm2_pyrandom_u32(r) >> 6;
    return (a * 67108864.0 + b) / 9007199254740992.0;
}

void slm2_pyrandom_shuffle(struct slm2_pyrandom *r, uint32_t *v, uint32_t n)
{
    for (uint32_t i = n; i-- > 1;) {
        uint32_t j = slm2_pyrandom_below(r, i + 1), t = v[i];
        v[i] = v[j];
        v[j] = t;
    }
}

/* Python keeps a set of what was drawn where that is smaller than a list of all: the size of such a set decides between two algorithms
 * that draw different things. */
static uint64_t set_size(uint32_t k)
{
    uint64_t size = 21, step = 1;
    if (k <= 5) return size;
    while (step < 3 * (uint64_t)k) step *= 4;
    return size + step;
}

slm2_status slm2_pyrandom_sample(struct slm2_pyrandom *r, uint32_t n, uint32_t k, uint32_t *idx, struct slm2_err *err)
{
    if (k > n) return slm2_fail(err, SLM2_EUSAGE, "%u examples wanted, there are %u", k, n);
    if (n > set_size(k)) {
        for (uint32_t i = 0; i < k; i++) {
            bool seen;
            do {
                idx[i] = slm2_pyrandom_below(r, n);
                seen = false;
                for (uint32_t at = 0; at < i && !seen; at++) seen = idx[at] == idx[i];
            } while (seen);
        }
        return SLM2_OK;
    }
    uint32_t *pool = malloc(sizeof *pool * ((size_t)n + 1));
    if (!pool) return slm2_fail(err, SLM2_ENOMEM, "no memory to draw from %u examples", n);
    for (uint32_t i = 0; i < n; i++) pool[i] = i;
    for (uint32_t i = 0; i < k; i++) {
        uint32_t j = slm2_pyrandom_below(r, n - i);
        idx[i] = pool[j];
        pool[j] = pool[n - i - 1];
    }
    free(pool);
    return SLM2_OK;
}

void slm2_pyrandom_choices(struct slm2_pyrandom *r, uint32_t n, size_t k, uint32_t *idx)
{
    for (size_t i = 0; i < k; i++) idx[i] = (uint32_t)(slm2_pyrandom_real(r) * (double)n);
}
