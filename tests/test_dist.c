/* test_dist.c - what needs no second process: the layout of buckets and blocks, the tree of micro-batches, the policy for bad steps. */
#include <math.h>
#include <string.h>

#include "train_data.h"

/* Buckets tile the flat buffer from its end to its start, parts tile a bucket, borders are those of chunks. */
static void buckets_and_parts_tile_the_buffer(void **state)
{
    (void)state;
    static const struct { size_t flat, bucket; int ranks; } cases[] = {{0, 0, 1}, {0, 4096, 3}, {64, 0, 1}, {64, 0, 3}, {4096, 4096, 2}, {4160, 4096, 2}, {100000, 5000, 4}, {100000, 1u << 20, 7}, {1u << 20, 65536, 16}};
    struct slm2_err err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_buckets b;
        size_t end = cases[i].flat;
        assert_ok(slm2_buckets_init(&b, cases[i].flat, cases[i].bucket, cases[i].ranks, &err));
        if (cases[i].ranks == 1) assert_int_equal(b.n, cases[i].flat > 0);
        for (int k = 0; k < b.n; k++) {
            assert_true(b.v[k].to == end && b.v[k].from < end && b.v[k].from % SLM2_SQ_CHUNK == 0);
            size_t at = b.v[k].from;
            for (int r = 0; r < cases[i].ranks; r++) {
                struct slm2_span s = slm2_buckets_part(&b, k, r);
                assert_true(s.from == at && s.to >= s.from && (s.to % SLM2_SQ_CHUNK == 0 || s.to == b.flat_elems));
                at = s.to;
            }
            assert_true(at == end && end - b.v[k].from <= b.largest);
            end = b.v[k].from;
        }
        assert_int_equal(end, 0);
        slm2_buckets_free(&b);
    }
}

static void blocks_are_subtrees(void **state)
{
    (void)state;
    for (int n = 1; n <= 40; n++)
        for (int R = 1; R <= 9; R++) {
            int size = slm2_block_size(n, R), next = 0;
            assert_true((size & (size - 1)) == 0 && size * R >= n && (size == 1 || size / 2 * R < n));
            for (int r = 0; r < R; r++) {
                struct slm2_block b = slm2_block_of(n, R, r);
                assert_true(b.first == next && b.n >= 0 && b.n <= size && (b.n == 0 || b.first % size == 0));
                next += b.n;
            }
            assert_int_equal(next, n);
        }
}

/* ---- the tree ----------------------------------------------------------------------------------------------------------- */
static struct slm2_trainer *trainer(int n_micro)
{
    struct slm2_config cfg;
    struct slm2_trainer *t;
    struct slm2_err err;
    assert_ok(slm2_pretrain_model(&cfg, in_dir("run.yml"), &err));
    assert_ok(slm2_trainer_new(&t, &(struct slm2_trainer_opts){.cfg = &cfg, .seed = 3, .optim = slm2_optim_adamw(), .max_tok = 32, .n_micro = n_micro, .ctx = {.n_threads = 1}}, &err));
    return t;
}

static void fill(struct slm2_batch *b, int which)
{
    int32_t ids[20], target[20];
    float w[20];
    struct slm2_err err;
    for (int i = 0; i < 20; i++) {
        ids[i] = (which * 13 + i * 5) % TEST_VOCAB;
        target[i] = (ids[i] + 5) % TEST_VOCAB;
        w[i] = 0.05f;
    }
    slm2_batch_clear(b);
    assert_ok(slm2_batch_add(b, ids, target, w, 20, &err));
}

/* The definition: leaves [first, first + width) of n, halves added; what lies beyond n is left out. */
static void sum_by_hand(float *out, float *const *leaf, int first, int width, int n, size_t elems)
{
    if (width == 1) {
        memcpy(out, leaf[first], elems * sizeof *out);
        return;
    }
    sum_by_hand(out, leaf, first, width / 2, n, elems);
    if (first + width / 2 >= n) return;
    float *right = malloc(elems * sizeof *right);
    assert_non_null(right);
    sum_by_hand(right, leaf, first + width / 2, width / 2, n, elems);
    for (size_t i = 0; i < elems; i++) out[i] += right[i];
    free(right);
}

static void gradients_are_the_tree_over_micro_batches(void **state)
{
    (void)state;
    enum { MAX = 9 };
    struct slm2_err err;
    struct slm2_batch b;
    struct slm2_step_stats stats;
    float *leaf[MAX], *want;
    double loss[MAX];
    assert_ok(slm2_batch_init(&b, 32, 4, &err));
    struct slm2_trainer *one = trainer(1);
    size_t n = one->model->params.flat_elems;
    for (int i = 0; i < MAX; i++) {
        leaf[i] = malloc(n * sizeof(float));
        assert_non_null(leaf[i]);
        fill(&b, i);
        slm2_trainer_begin(one);
        slm2_trainer_accumulate(one, &b);
        assert_ok(slm2_trainer_reduce(one, &stats, &err));
        memcpy(leaf[i], slm2_model_grad(one->model), n * sizeof(float));
        loss[i] = stats.loss;
    }
    slm2_trainer_free(one);
    want = malloc(n * sizeof(float));
    assert_non_null(want);
    int n_other = 0; /* the tree is not the sum in order */
    for (int count = 1; count <= MAX; count++) {
        struct slm2_trainer *t = trainer(count);
        double sum = 0;
        for (int turn = 0; turn < 2; turn++) { /* nothing is left over from the step before */
            slm2_trainer_begin(t);
            for (int i = 0; i < count; i++) {
                fill(&b, i);
                slm2_trainer_accumulate(t, &b);
            }
            assert_ok(slm2_trainer_reduce(t, &stats, &err));
        }
        sum_by_hand(want, leaf, 0, 16, count, n);
        assert_memory_equal(slm2_model_grad(t->model), want, n * sizeof(float));
        for (int i = 0; i < count; i++) sum += loss[i];
        assert_true(stats.loss == sum);
        for (int i = 1; i < count; i++)
            for (size_t k = 0; k < n; k++) want[k] = i == 1 ? leaf[0][k] + leaf[1][k] : want[k] + leaf[i][k];
        n_other += memcmp(slm2_model_grad(t->model), want, n * sizeof(float)) != 0;
        slm2_trainer_free(t);
    }
    assert_true(n_other >= 5);
    for (int i = 0; i < MAX; i++) free(leaf[i]);
    free(want);
    slm2_batch_free(&b);
}

/* ---- the policy ----------------------------------------------------------------------------------------------------------- */
static void guard_judges_and_remembers(void **state)
{
    (void)state;
    static struct slm2_guard g, back;
    struct slm2_guard_opts o = {.sigma = 3, .window = 4, .max_norm = 5, .limit = 9};
    struct slm2_err err;
    char why[160];
    for (int i = 0; i < 3; i++) slm2_guard_accept(&g, &o, 2 + i);
    assert_int_equal(slm2_guard_judge(&g, &o, 1000, 1, why), SLM2_GUARD_FINE); /* the window is not full */
    for (int i = 0; i < 6; i++) slm2_guard_accept(&g, &o, i % 2 ? 3 : 1);     /* mean 2, deviation 1; the first three are forgotten */
    assert_int_equal(slm2_guard_judge(&g, &o, 5, 1, why), SLM2_GUARD_FINE);
    assert_int_equal(slm2_guard_judge(&g, &o, 5.001, 1, why), SLM2_GUARD_SPIKE);
    assert_string_equal(why, "loss 5.0010 is above 2.0000 + 3 x 1.0000 of the last 4 steps");
    assert_int_equal(slm2_guard_judge(&g, &o, 2, 5.5, why), SLM2_GUARD_SPIKE);
    assert_int_equal(slm2_guard_judge(&g, &o, (double)NAN, 1, why), SLM2_GUARD_NAN);
    assert_int_equal(slm2_guard_judge(&g, &o, 2, (double)INFINITY, why), SLM2_GUARD_NAN);
    o.sigma = o.max_norm = 0; /* off */
    assert_int_equal(slm2_guard_judge(&g, &o, 1e9, 1e9, why), SLM2_GUARD_FINE);
    /* through a checkpoint: the same verdicts, bit for bit */
    g.n_event = 7;
    json_t *j = slm2_guard_json(&g, &o);
    assert_ok(slm2_guard_take(&back, &o, j, &err));
    assert_true(back.n == 4 && back.n_event == 7);
    for (int i = 0; i < 4; i++) assert_true(back.loss[i] == g.loss[(g.at + i) % 4]);
    o.window = 8; /* another window begins anew, the count stays */
    assert_ok(slm2_guard_take(&back, &o, j, &err));
    assert_true(back.n == 0 && back.n_event == 7);
    json_object_set_new(j, "losses", json_string("x"));
    assert_int_equal(slm2_guard_take(&back, &o, j, &err), SLM2_EFORMAT);
    json_decref(j);
    assert_ok(slm2_guard_take(&back, &o, NULL, &err));
    assert_true(back.n == 0 && back.n_event == 0);
}

/* A rank that is out of step makes no call of the communicator: its word would be taken for something else. */
static int n_call;
static slm2_status count_call(struct slm2_comm *c, void *all, const void *mine, size_t bytes, struct slm2_err *err)
{
    n_call++;
    memset(all, 0, bytes * (size_t)c->n_rank);
    memcpy((char *)all + bytes * (size_t)c->rank, mine, bytes);
    (void)err;
    return SLM2_OK;
}

static void close_nothing(struct slm2_comm *c) { (void)c; }

static void broken_ranks_agree_on_nothing(void **state)
{
    (void)state;
    const struct slm2_comm_ops ops = {.name = "count", .all_gather = count_call, .close = close_nothing};
    struct slm2_comm c = {.ops = &ops, .n_rank = 2, .rank = 1};
    struct slm2_err err;
    n_call = 0;
    assert_int_equal(slm2_comm_agree(&c, SLM2_OK, &err), SLM2_OK);
    assert_int_equal(slm2_comm_agree(&c, slm2_fail(&err, SLM2_ENOMEM, "mine"), &err), SLM2_ENOMEM);
    assert_int_equal(n_call, 2);
    c.broken = true;
    assert_int_equal(slm2_comm_agree(&c, slm2_fail(&err, SLM2_ELIMIT, "own"), &err), SLM2_ELIMIT);
    assert_string_equal(err.msg, "own");
    assert_int_equal(n_call, 2);
    slm2_comm_close(&c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(buckets_and_parts_tile_the_buffer),
    cmocka_unit_test(blocks_are_subtrees),
    cmocka_unit_test(gradients_are_the_tree_over_micro_batches),
    cmocka_unit_test(guard_judges_and_remembers), cmocka_unit_test(broken_ranks_agree_on_nothing),
};
SLM2_TEST_MAIN_WITH(tests, make_test_dir, remove_test_dir)
