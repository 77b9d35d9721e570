/* minhash.h - near-duplicates by MinHash and locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman, Ullman: "Mining of Massive
 * Datasets", chapter 3).
 *
 * A text is the set of its shingles: runs of `shingle` words, where words are letters and digits in lower case (a CJK character is a word).
 * Each of n_hash seeded hashes keeps its least value over the set; two sets agree in one of them with the probability of their Jaccard
 * similarity.  The signature keeps 16 bits of each.  It is cut into n_band bands of n_hash / n_band rows; texts that agree in a whole
 * band are candidates, which two of similarity s become with probability 1 - (1 - s^rows)^bands.  A candidate is a near-duplicate when the
 * share of equal hashes, the estimate of s, reaches the threshold.
 *
 * The index and all signatures lie in unnamed files beside the output: 2 * n_hash bytes a text, and 16 to 32 bytes a band. */
#ifndef SLM2_DATA_MINHASH_H
#define SLM2_DATA_MINHASH_H
#include "base/buf.h"
#include "base/conf.h"

enum { SLM2_NEAR_MAX_HASH = 1024 };
struct slm2_near_opts {
    double threshold; /* 0: off */
    int n_hash, n_band, shingle;
    int64_t seed;
};
/* Fields `near` of settings T, under "near_dup". */
#define SLM2_NEAR_AT(T, field) .offset = offsetof(T, near.field)
#define SLM2_NEAR_ROWS(T)                                                                                                                                       \
    {.name = "near_dup.threshold", .type = SLM2_OPT_DOUBLE, SLM2_NEAR_AT(T, threshold), .lo = 0, .hi = 1, .def = "0", .help = "a text at least this similar (Jaccard) to one before is left out; FineWeb about 0.75; 0: off"}, \
    {.name = "near_dup.hashes", .type = SLM2_OPT_INT, SLM2_NEAR_AT(T, n_hash), .lo = 1, .hi = SLM2_NEAR_MAX_HASH, .def = "112", .help = "hashes of a signature"},              \
    {.name = "near_dup.bands", .type = SLM2_OPT_INT, SLM2_NEAR_AT(T, n_band), .lo = 1, .hi = SLM2_NEAR_MAX_HASH, .def = "14", .help = "bands that they are cut into, a divisor: more find less similar texts"}, \
    {.name = "near_dup.shingle", .type = SLM2_OPT_INT, SLM2_NEAR_AT(T, shingle), .lo = 1, .hi = 64, .def = "5", .help = "words of a shingle"},                   \
    {.name = "near_dup.seed", .type = SLM2_OPT_INT64, SLM2_NEAR_AT(T, seed), .lo = 0, .hi = 9007199254740991.0, .def = "0", .help = "seed of the hashes"}

double slm2_near_probability(const struct slm2_near_opts *o, double similarity); /* of becoming candidates */

struct slm2_near;
/* dir: where the index's files lie.  SLM2_EUSAGE: n_band does not divide n_hash. */
slm2_status slm2_near_open(struct slm2_near **near, const struct slm2_near_opts *o, const char *dir, struct slm2_err *err);
void slm2_near_close(struct slm2_near *near);

/* sig[n_hash] of a text; of one without a word, all are 0xffff, and it is similar to nothing.  words: working memory, kept for the next
 * call.  Any thread. */
slm2_status slm2_near_sign(const struct slm2_near *near, const char *text, size_t n, struct slm2_buf *words, uint16_t *sig, struct slm2_err *err);

struct slm2_near_match { int64_t text; double similarity; }; /* number of the text, in the order added; -1: none */
/* The first text added that is a near-duplicate.  Of a crowded bucket only the first NEAR_PROBES (256) are compared. */
struct slm2_near_match slm2_near_find(const struct slm2_near *near, const uint16_t *sig);
slm2_status slm2_near_add(struct slm2_near *near, const uint16_t *sig, struct slm2_err *err); /* the next number, also without words */
int64_t slm2_near_n(const struct slm2_near *near);
/* Signatures of texts from .. slm2_near_n - 1, [n_hash] each, in native order.  Valid until the next add. */
const uint16_t *slm2_near_signatures(const struct slm2_near *near, int64_t from);
#endif
