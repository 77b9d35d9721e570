/* train_data.h - a folder for a test, two synthetic token files in it, and the settings of a tiny run on them. */
#ifndef SLM2_TESTS_TRAIN_DATA_H
#define SLM2_TESTS_TRAIN_DATA_H
#include "slm2_test.h"

#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/shard.h"
#include "train/ledger.h"
#include "train/pretrain.h"

enum { TEST_VOCAB = 96, TEST_EOS = 95 };
static char test_dir[512];

static inline const char *in_dir(const char *name) /* a few at a time */
{
    static char paths[8][1024];
    static int turn;
    char *p = paths[turn++ & 7];
    snprintf(p, sizeof paths[0], "%s/%s", test_dir, name);
    return p;
}

/* Documents where the next token is mostly the last one plus `stride`: something to learn. */
static inline void write_shard(const char *name, int n_doc, int stride, uint64_t seed)
{
    struct slm2_shard_out *w;
    struct slm2_err err;
    int32_t ids[64];
    assert_int_equal(slm2_shard_out_open(&w, in_dir(name), SLM2_SHARD_U16, &err), SLM2_OK);
    for (int d = 0; d < n_doc; d++) {
        int n = 5 + (int)slm2_rng_below(seed, SLM2_RNG_TEST, (uint64_t)d, 0, 50);
        for (int i = 0; i < n; i++) {
            bool jump = i == 0 || slm2_rng_below(seed, SLM2_RNG_TEST, (uint64_t)d, 100 + (uint64_t)i, 8) == 0;
            ids[i] = jump ? (int32_t)slm2_rng_below(seed, SLM2_RNG_TEST, (uint64_t)d, 200 + (uint64_t)i, TEST_EOS) : (ids[i - 1] + stride) % TEST_EOS;
        }
        ids[n - 1] = TEST_EOS;
        assert_int_equal(slm2_shard_out_add(w, ids, (size_t)n, &err), SLM2_OK);
    }
    assert_int_equal(slm2_shard_out_commit(w, &err), SLM2_OK);
}

static inline int make_test_dir(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(test_dir, sizeof test_dir, "%s/slm2-train-XXXXXX", base && *base ? base : P_tmpdir);
    if (!mkdtemp(test_dir)) return -1;
    write_shard("a", 80, 1, 1);
    write_shard("b", 40, 7, 2);
    write_shard("a.val", 10, 1, 3);
    char yaml[4096];
    int n = snprintf(yaml, sizeof yaml,
                     "tokenizer: none\nseed: 7\nthreads: 1\n"
                     "sources:\n  - {name: a, weight: 3, prefix: %s/a, valid: %s/a.val}\n  - {name: b, weight: 1, prefix: %s/b}\n"
                     "model: {vocab_size: %d, hidden_size: 32, intermediate_size: 48, n_layer: 2, n_head: 4, n_kv_head: 2, n_ctx: 48, rotary_factor: 0.5, init_std: 0.1, qk_norm: true, bos_id: %d, eos_id: %d}\n"
                     "train: {n_ctx: 40, micro_batch: 3, accumulation: 2, steps: 20}\n"
                     "schedule: {lr_peak: 1e-2, lr_min: 1e-3, n_step: 24, n_warmup: 3, n_cooldown: 6, cooldown_start: 14}\n"
                     "valid: {every: 8, rows: 4}\nckpt: {every: 5, keep: 2}\nlog: {every: 0}\n",
                     test_dir, test_dir, test_dir, TEST_VOCAB, TEST_EOS, TEST_EOS);
    struct slm2_err err;
    return n > 0 && (size_t)n < sizeof yaml && slm2_file_write(in_dir("run.yml"), yaml, (size_t)n, &err) == SLM2_OK ? 0 : -1;
}

static inline int remove_test_dir(void **state)
{
    (void)state;
    return slm2_dir_remove(test_dir, NULL) != SLM2_OK;
}

/* A run of the settings above in test_dir/name, with up to four more settings (NULL ends them early). */
static inline slm2_status run_with(const char *name, struct slm2_train_result *res, struct slm2_err *err, const char *a, const char *b, const char *c, const char *d)
{
    char run[600];
    snprintf(run, sizeof run, "run=%s", in_dir(name));
    const char *sets[5] = {run, a, b, c, d};
    int n = 1;
    while (n < 5 && sets[n]) n++;
    return slm2_pretrain(in_dir("run.yml"), sets, n, res, err);
}
#define assert_ok(call)                                                       \
    do {                                                                      \
        slm2_status ok_st = (call);                                           \
        if (ok_st != SLM2_OK) fail_msg("%s: %d: %s", #call, ok_st, err.msg); \
    } while (0)
#endif
