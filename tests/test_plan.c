/* test_plan.c - the plan of a run: memory formulas against real trainers, the report's own run against its published figures. */
#include <math.h>
#include <string.h>

#include "report/plan.h"
#include "train_data.h"

static struct slm2_plan_opts plan_defaults(void)
{
    struct slm2_plan_opts d = {0};
    slm2_conf_init(slm2_plan_table, &d);
    return d;
}

/* A communicator that says it is one of n ranks and talks to nobody: enough to build a trainer. */
static struct slm2_comm one_of(int n, int rank)
{
    struct slm2_comm c;
    slm2_comm_self(&c);
    c.n_rank = n;
    c.rank = rank;
    return c;
}

/* Every term within 1 % of what is allocated, for models large enough that the padding of pieces does not count. */
static void memory_is_what_a_trainer_takes(void **state)
{
    (void)state;
    static const struct { int ranks, accumulation, bucket; const char *set[4]; } cases[] = {
        {1, 1, 4096, {"train.precision=fp32"}},
        {1, 1, 4096, {"train.precision=bf16", "train.recompute=true"}},
        {1, 6, 4096, {"train.precision=bf16", "model.qk_norm=true", "model.n_kv_head=2"}},
        {2, 2, 65536, {"train.precision=bf16", "model.parallel_residual=true"}},
        {4, 8, 65536, {"train.precision=bf16", "train.recompute=true"}},
        {4, 8, 32768, {"train.precision=fp32", "model.qkv_bias=false"}},
        {1, 2, 4096, {"train.precision=bf16", "train.by_layer=true", "train.recompute=true", "optim.moments=bf16"}},
        {2, 2, 65536, {"train.precision=bf16", "optim.moments=bf16"}},
    };
    struct slm2_err err;
    struct slm2_plan_opts d = plan_defaults();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_pretrain_opts o;
        struct slm2_run_plan plan;
        struct slm2_config cfg;
        struct slm2_trainer *t;
        char accumulation[64], bucket[64];
        snprintf(accumulation, sizeof accumulation, "train.accumulation=%d", cases[i].accumulation);
        snprintf(bucket, sizeof bucket, "dist.bucket_elems=%d", cases[i].bucket);
        const char *sets[20] = {"run=none", "model.vocab_size=2000", "model.hidden_size=128", "model.intermediate_size=320", "model.n_layer=3", "model.n_head=8", "model.n_ctx=128", "model.bos_id=0", "model.eos_id=0",
                                "train.micro_batch=2", accumulation, bucket};
        int n = 12;
        for (int k = 0; k < 4 && cases[i].set[k]; k++) sets[n++] = cases[i].set[k];
        assert_ok(slm2_pretrain_settings(&o, NULL, sets, n, &err));
        assert_ok(slm2_config_from_settings(&cfg, &o.model, "test", &err));
        d.devices = cases[i].ranks;
        assert_ok(slm2_plan_make(&plan, &o, &d, "test", &err));
        struct slm2_comm comm = one_of(cases[i].ranks, 0);
        struct slm2_trainer_opts to = {.cfg = &cfg, .seed = 1, .precision = (enum slm2_precision)o.precision, .optim = slm2_optim_adamw(), .recompute = o.recompute, .by_layer = o.by_layer, .max_tok = 256, .moments = (enum slm2_moments)o.moments,
                                       .n_micro = o.accumulation, .comm = &comm, .bucket_elems = (size_t)o.bucket_elems, .ctx = {.n_threads = 1}};
        assert_ok(slm2_trainer_new(&t, &to, &err));
        double bytes = (double)slm2_trainer_bytes(t);
        if (!(fabs(plan.memory.all / bytes - 1) < 0.01)) fail_msg("case %zu: the plan says %.0f bytes, the trainer has %.0f", i, plan.memory.all, bytes);
        double acts = (double)slm2_acts_bytes(t->acts);
        if (!(fabs(plan.memory.activations / acts - 1) < 0.005)) fail_msg("case %zu: activations: the plan says %.0f bytes, there are %.0f", i, plan.memory.activations, acts);
        assert_true(plan.activations_recompute < plan.activations_keep);
        slm2_trainer_free(t);
        slm2_conf_free(slm2_pretrain_table, &o);
    }
}

static const char *published(void)
{
    return slm2_path_exists("configs/stablelm-2-1_6b.yml") ? "configs/stablelm-2-1_6b.yml" : NULL;
}

/* 512 A100: 8,388,608 tokens a step; two passes over Table 1 at 170 TFLOP/s in the count of Megatron-LM: about 92,000 hours; 30 MWh; 11 t. */
static void published_run_has_its_published_figures(void **state)
{
    (void)state;
    if (!published()) skip();
    struct slm2_err err;
    struct slm2_pretrain_opts o;
    struct slm2_run_plan plan;
    struct slm2_plan_opts d = plan_defaults();
    d.devices = 512;
    d.count = SLM2_PLAN_MEGATRON;
    assert_true(fabs(d.device_tflops * d.mfu - 170) < 0.1); /* 54.5 % of 312 */
    assert_ok(slm2_pretrain_settings(&o, published(), NULL, 0, &err));
    assert_ok(slm2_plan_make(&plan, &o, &d, "published", &err));
    assert_int_equal(plan.tok_per_step, 8388608);
    assert_int_equal(plan.steps, 540000);
    assert_int_equal(plan.micro_batches, 2);
    assert_int_equal(plan.idle, 0);
    assert_true(plan.n_param == 1644515328);
    assert_true(plan.memory.all < 40e9); /* fits the device */
    o.steps = 479180; /* two epochs of 2,009,831,803,933 tokens */
    assert_ok(slm2_plan_make(&plan, &o, &d, "published", &err));
    assert_true(fabs(plan.tokens / (2 * 2009831803933.0) - 1) < 1e-4);
    if (!(fabs(plan.device_hours / 92000 - 1) < 0.01)) fail_msg("%.0f device-hours", plan.device_hours);
    assert_true(fabs(plan.mwh / 30 - 1) < 0.01 && plan.tco2 > 11 && plan.tco2 < 12);
    slm2_conf_free(slm2_pretrain_table, &o);
}

/* Ranks that do not divide the step are seen, and what waits is counted. */
static void idle_devices_are_named(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_pretrain_opts o;
    struct slm2_run_plan few, many;
    struct slm2_plan_opts d = plan_defaults();
    struct slm2_buf text = {0};
    const char *sets[] = {"run=none", "model.vocab_size=256", "model.hidden_size=64", "model.intermediate_size=128", "model.n_layer=2", "model.n_head=4", "model.n_ctx=64", "train.accumulation=5", "model.bos_id=0", "model.eos_id=0"};
    assert_ok(slm2_pretrain_settings(&o, NULL, sets, 10, &err));
    d.devices = 3;
    assert_ok(slm2_plan_make(&few, &o, &d, "t", &err));
    d.devices = 8;
    assert_ok(slm2_plan_make(&many, &o, &d, "t", &err));
    assert_int_equal(few.micro_batches, 2);
    assert_int_equal(few.idle, 0);
    assert_int_equal(many.micro_batches, 1);
    assert_int_equal(many.idle, 3);
    assert_true(fabs(few.step_s / many.step_s - 2) < 1e-12);
    slm2_plan_text(&many, &o, &d, &text);
    assert_non_null(strstr(text.v, "3 devices have no micro-batch"));
    slm2_buf_free(&text);
    slm2_conf_free(slm2_pretrain_table, &o);
}

/* A cooldown ends the run, whichever of the two schedules has it. */
static void a_cooldown_ends_the_run(void **state)
{
    (void)state;
    static const struct { const char *kind; int steps; } rows[] = {{"hybrid", 400}, {"rsqrt", 400}, {"cosine", 1000}, {"linear", 1000}};
    struct slm2_err err;
    struct slm2_plan_opts d = plan_defaults();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slm2_pretrain_opts o;
        struct slm2_run_plan plan;
        char kind[64];
        snprintf(kind, sizeof kind, "schedule.kind=%s", rows[i].kind);
        const char *sets[] = {"run=none", "model.vocab_size=256", "model.hidden_size=64", "model.intermediate_size=128", "model.n_layer=2", "model.n_head=4", "model.n_ctx=64", "model.bos_id=0", "model.eos_id=0",
                              "train.steps=1000", "schedule.cooldown_start=300", "schedule.n_cooldown=100", kind};
        assert_ok(slm2_pretrain_settings(&o, NULL, sets, 13, &err));
        assert_ok(slm2_plan_make(&plan, &o, &d, "t", &err));
        if (plan.steps != rows[i].steps) fail_msg("%s: %d steps, want %d", rows[i].kind, (int)plan.steps, rows[i].steps);
        slm2_conf_free(slm2_pretrain_table, &o);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(memory_is_what_a_trainer_takes),
    cmocka_unit_test(published_run_has_its_published_figures),
    cmocka_unit_test(idle_devices_are_named),
    cmocka_unit_test(a_cooldown_ends_the_run),
};
SLM2_TEST_MAIN(tests)
