/* mix.h - the training stream: several token files with weights become rows 0, 1, 2, ... of n_ctx + 1 tokens.
 *
 * Row i is a function of (sources, n_ctx, seed, i) and is found without replaying the rows before it.
 * Which source: see share.h.
 * What it gives: the source's documents, shuffled anew in each epoch by (seed, source, epoch), one after the other, are an endless
 *   stream; its r-th row is tokens r * n_ctx .. r * n_ctx + n_ctx of it.  A row shares its last token with the next row's
 *   first: inputs are the first n_ctx tokens, targets the last n_ctx, so every token is a target once an epoch.
 *   With shuffle_rows the rows of an epoch change places too, so that the parts of a long document do not follow each other.
 * How it is found: the epoch's order and running lengths are two arrays (order.h), made once an epoch and mapped where there is an
 *   index_dir; a row is a binary search in them.
 * One thread at a time (the current epoch's order of a source is kept). */
#ifndef SLM2_DATA_MIX_H
#define SLM2_DATA_MIX_H
#include "data/shard.h"

struct slm2_mix_source {
    const char *name;   /* for messages and counts */
    const char *prefix; /* of .bin and .idx */
    double weight;      /* share of the tokens drawn, relative to the others; 0: never drawn */
};
struct slm2_mix_opts {
    int n_ctx;
    int32_t vocab_size; /* ids at or above are SLM2_EFORMAT when a row is drawn */
    uint64_t seed;
    bool keep_order;    /* no shuffling: validation */
    bool shuffle_rows;  /* rows of an epoch too, not only its documents */
    const char *index_dir; /* where orders are kept as files; NULL: in memory.  Not kept. */
};
struct slm2_mix;
/* Names and files are opened here; v is not kept.  A source with weight > 0 must hold a token. */
slm2_status slm2_mix_open(struct slm2_mix **m, const struct slm2_mix_source *v, int n, const struct slm2_mix_opts *o, struct slm2_err *err);
void slm2_mix_close(struct slm2_mix *m);

/* ids[n_ctx + 1] of row i, *source the index of where it came from (NULL allowed).  0 <= i < 2^48. */
slm2_status slm2_mix_row(struct slm2_mix *m, int64_t i, int32_t *ids, int *source, struct slm2_err *err);
int slm2_mix_source_of(const struct slm2_mix *m, int64_t i);
/* Row r of one source alone, whatever the weights: for validation, r = 0 .. slm2_mix_epoch_rows - 1. */
slm2_status slm2_mix_source_row(struct slm2_mix *m, int source, int64_t r, int32_t *ids, struct slm2_err *err);
/* Full rows in one pass over a source: (n_tok - 1) / n_ctx, at least 1 (a file too short for one row starts over). */
int64_t slm2_mix_epoch_rows(const struct slm2_mix *m, int source);

double slm2_mix_share(const struct slm2_mix *m, int source);      /* weight / sum of weights */
int64_t slm2_mix_source_tokens(const struct slm2_mix *m, int source); /* in its file */
/* What rows 0 .. n_rows - 1 took from a source, in O(log n_rows). */
struct slm2_mix_drawn { int64_t rows, tokens; double epochs; };
struct slm2_mix_drawn slm2_mix_drawn(const struct slm2_mix *m, int source, int64_t n_rows);
#endif
