/* test_train.c - the parts of training: learning rates, one step, checkpoints on damaged disks, the ledger, wrong settings. */
#include <math.h>
#include <string.h>

#include "train_data.h"

/* ---- schedule ----------------------------------------------------------------------------------------------------------- */
static const struct slm2_schedule paper = {.kind = SLM2_SCHEDULE_HYBRID, .lr_peak = 1e-3, .lr_min = 1e-4, .n_step = 540000, .n_warmup = 9720, .n_cooldown = 80000, .cooldown_start = -1};

static void hybrid_schedule(void **state)
{
    (void)state;
    double alpha, beta;
    struct slm2_schedule s = paper;
    slm2_schedule_rsqrt(&s, &alpha, &beta);
    assert_true(fabs(alpha - 0.1260461907165323734882831) < 1e-14 && fabs(beta - -82478.86877967453919626836) < 1e-8);
    const struct { int64_t start, step; double lr; const char *phase; } row[] = {
        {-1, 0, 0, "warmup"}, {-1, 9720, 0.0009971250897340038, "cosine"}, {-1, 135000, 0.00055, "cosine"}, {-1, 135001, 0.0005499947640870127, "rsqrt"},
        {9720, 9719, 0.0009998971193415638, "warmup"}, {9720, 9720, 0.0009971250897340038, "cooldown"}, {9720, 89720, 0, "end"}, {100000, 100000, 0.0007282358947176206, "cooldown"},
        {420000, 420000, 0.00021695978473503842, "cooldown"}, {420000, 410000, 0.00022024703094734069, "rsqrt"}, {460000, 540000, 0, "end"}, {460000, 500000, 0.0002051441289846621 / 2, "cooldown"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        s.cooldown_start = row[i].start;
        if (!(fabs(slm2_schedule_lr(&s, row[i].step) - row[i].lr) < 1e-15)) fail_msg("step %lld: %.17g, want %.17g", (long long)row[i].step, slm2_schedule_lr(&s, row[i].step), row[i].lr);
        assert_string_equal(slm2_schedule_phase(&s, row[i].step), row[i].phase);
    }
    /* value and slope are continuous at N/4 */
    s.cooldown_start = -1;
    double before = slm2_schedule_lr(&s, 135000) - slm2_schedule_lr(&s, 134999), after = slm2_schedule_lr(&s, 135002) - slm2_schedule_lr(&s, 135001);
    assert_true(fabs(before / after - 1) < 1e-4);
    s.lr_min = s.lr_peak; /* no decay at all, not a division by zero */
    assert_true(slm2_schedule_lr(&s, 300000) == s.lr_peak);
}

static void later_schedules(void **state)
{
    (void)state;
    struct slm2_schedule s = {.kind = SLM2_SCHEDULE_COSINE, .lr_peak = 2, .lr_min = 0, .n_step = 110, .n_warmup = 10};
    struct slm2_err err;
    assert_true(slm2_schedule_lr(&s, 0) == 0 && slm2_schedule_lr(&s, 5) == 1 && slm2_schedule_lr(&s, 10) == 2);
    assert_true(fabs(slm2_schedule_lr(&s, 60) - 1) < 1e-15 && slm2_schedule_lr(&s, 110) == 0 && slm2_schedule_lr(&s, 1000) == 0);
    s.kind = SLM2_SCHEDULE_RSQRT; /* M sqrt(W / s), and a cooldown from step 90 on */
    s.cooldown_start = 90;
    s.n_cooldown = 20;
    assert_true(slm2_schedule_lr(&s, 5) == 1 && slm2_schedule_lr(&s, 10) == 2 && fabs(slm2_schedule_lr(&s, 40) - 1) < 1e-15 && fabs(slm2_schedule_lr(&s, 90) - 2.0 / 3) < 1e-15);
    assert_true(fabs(slm2_schedule_lr(&s, 100) - 1.0 / 3) < 1e-15 && slm2_schedule_lr(&s, 110) == 0);
    assert_string_equal(slm2_schedule_phase(&s, 40), "rsqrt");
    assert_string_equal(slm2_schedule_phase(&s, 95), "cooldown");
    s.kind = SLM2_SCHEDULE_LINEAR;
    assert_true(fabs(slm2_schedule_lr(&s, 35) - 1.5) < 1e-15 && slm2_schedule_lr(&s, 110) == 0);
    assert_string_equal(slm2_schedule_phase(&s, 35), "linear");
    assert_int_equal(slm2_schedule_check(&s, "t", &err), SLM2_OK);
    s.n_warmup = 111;
    assert_int_equal(slm2_schedule_check(&s, "t", &err), SLM2_EUSAGE);
    s = paper;
    s.cooldown_start = 5;
    s.n_cooldown = 0;
    assert_int_equal(slm2_schedule_check(&s, "t", &err), SLM2_EUSAGE);
    s = paper;
    s.lr_min = 1;
    assert_int_equal(slm2_schedule_check(&s, "t", &err), SLM2_EUSAGE);
}

/* ---- one step ------------------------------------------------------------------------------------------------------------- */
static struct slm2_trainer *tiny_trainer(enum slm2_precision precision, struct slm2_optim optim)
{
    struct slm2_config cfg;
    struct slm2_trainer *t;
    struct slm2_err err;
    assert_ok(slm2_pretrain_model(&cfg, in_dir("run.yml"), &err));
    assert_ok(slm2_trainer_new(&t, &(struct slm2_trainer_opts){.cfg = &cfg, .seed = 3, .precision = precision, .optim = optim, .max_tok = 64, .ctx = {.n_threads = 1}}, &err));
    return t;
}

static void fill_batch(struct slm2_batch *b, int n_seq, int seq_len, int first, float weight)
{
    int32_t ids[64], target[64];
    float w[64];
    struct slm2_err err;
    slm2_batch_clear(b);
    for (int s = 0; s < n_seq; s++) {
        for (int i = 0; i < seq_len; i++) {
            ids[i] = (first + s * 11 + i * 5) % TEST_VOCAB;
            target[i] = (ids[i] + 5) % TEST_VOCAB;
            w[i] = weight;
        }
        assert_ok(slm2_batch_add(b, ids, target, w, seq_len, &err));
    }
}

/* Two micro-batches of 2 sequences = one batch of 4, to rounding; clipping scales; a NaN changes nothing. */
static void step_accumulates_clips_and_refuses_nan(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_batch b;
    struct slm2_step_stats one, two;
    struct slm2_optim optim = slm2_optim_adamw();
    assert_ok(slm2_batch_init(&b, 64, 8, &err));
    struct slm2_trainer *x = tiny_trainer(SLM2_FP32, optim), *y = tiny_trainer(SLM2_FP32, optim);
    slm2_trainer_begin(x);
    fill_batch(&b, 4, 10, 0, 1.0f / 40);
    slm2_trainer_accumulate(x, &b);
    assert_true(fabs(slm2_trainer_evaluate(x, &b) - x->loss) < 1e-6); /* the same loss without gradients */
    assert_ok(slm2_trainer_update(x, 1e-3, &one, &err));
    slm2_trainer_begin(y);
    fill_batch(&b, 2, 10, 0, 1.0f / 40);
    slm2_trainer_accumulate(y, &b);
    fill_batch(&b, 2, 10, 22, 1.0f / 40);
    slm2_trainer_forward(y, &b); /* as DPO does it */
    slm2_trainer_backward(y, &b);
    assert_ok(slm2_trainer_update(y, 1e-3, &two, &err));
    assert_true(fabs(one.loss - two.loss) < 1e-5 && fabs(one.grad_norm / two.grad_norm - 1) < 1e-5);
    assert_true(one.clip == 1 ? one.grad_norm < 1 : fabs(one.clip * (one.grad_norm + 1e-6) - 1) < 1e-12);
    size_t n = x->model->params.flat_elems, n_near = 0;
    const float *p = slm2_model_master(x->model), *q = slm2_model_master(y->model);
    for (size_t i = 0; i < n; i++) n_near += fabsf(p[i] - q[i]) < 1e-5f;
    assert_true((double)n_near > 0.999 * (double)n);

    /* a step of lr 0 moves the moments only; the next moves every parameter by about lr */
    const float *moments = x->exp_avg;
    float before = p[0], moment = moments[0];
    slm2_trainer_begin(x);
    fill_batch(&b, 4, 10, 7, 1.0f / 40);
    slm2_trainer_accumulate(x, &b);
    assert_ok(slm2_trainer_update(x, 0, &one, &err));
    assert_true(p[0] == before && moments[0] != moment && x->n_update == 2);

    fill_batch(&b, 4, 10, 7, (float)NAN);
    slm2_trainer_begin(x);
    slm2_trainer_accumulate(x, &b);
    assert_int_equal(slm2_trainer_update(x, 1e-3, &one, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "step 2"));
    assert_true(p[0] == before && x->n_update == 2);
    slm2_trainer_free(x);
    slm2_trainer_free(y);
    slm2_batch_free(&b);
    slm2_trainer_free(NULL);
}

/* ---- checkpoints ---------------------------------------------------------------------------------------------------------- */
static void one_step(struct slm2_trainer *t, struct slm2_batch *b)
{
    struct slm2_step_stats stats;
    struct slm2_err err;
    fill_batch(b, 4, 10, (int)t->n_update, 1.0f / 40);
    slm2_trainer_begin(t);
    slm2_trainer_accumulate(t, b);
    assert_ok(slm2_trainer_update(t, 1e-3, &stats, &err));
}

static void damage(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 0x10, f);
    fclose(f);
}

static void damaged_checkpoints_are_passed_over(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_batch b;
    char found[SLM2_PATH_MAX], saved[SLM2_PATH_MAX];
    char run[1024];
    snprintf(run, sizeof run, "%s", in_dir("ckpt"));
    struct slm2_trainer *t = tiny_trainer(SLM2_BF16_MIXED, slm2_optim_adamw()), *u = tiny_trainer(SLM2_BF16_MIXED, slm2_optim_adamw());
    assert_ok(slm2_batch_init(&b, 64, 8, &err));
    assert_ok(slm2_ckpt_find(run, found, &err)); /* no folder at all */
    assert_string_equal(found, "");
    json_t *extra = json_pack("{s:i}", "rows", 42), *back;
    for (int s = 1; s <= 5; s++) {
        one_step(t, &b);
        assert_ok(slm2_ckpt_save(run, t, NULL, extra, 4, -1, saved, &err));
        assert_ok(slm2_ckpt_verify(saved, true, &err));
    }
    json_decref(extra);
    assert_false(slm2_path_exists(in_dir("ckpt/step-00000001"))); /* 4 are kept */
    assert_true(slm2_path_exists(in_dir("ckpt/step-00000002")));
    assert_ok(slm2_ckpt_find(run, found, &err));
    assert_string_equal(found, saved);

    damage(in_dir("ckpt/step-00000005/optimizer/exp_avg.safetensors"), 9000); /* a flipped bit, the right size */
    assert_int_equal(slm2_ckpt_verify(in_dir("ckpt/step-00000005"), false, &err), SLM2_OK);
    assert_int_equal(slm2_ckpt_verify(in_dir("ckpt/step-00000005"), true, &err), SLM2_EFORMAT);
    assert_ok(slm2_ckpt_find(run, found, &err));
    assert_non_null(strstr(found, "step-00000004"));
    assert_int_equal(remove(in_dir("ckpt/step-00000004/state.json")), 0); /* a missing file */
    assert_ok(slm2_ckpt_find(run, found, &err));
    assert_non_null(strstr(found, "step-00000003"));
    assert_int_equal(truncate(in_dir("ckpt/step-00000003/MANIFEST.json"), 30), 0); /* half a manifest */
    assert_ok(slm2_ckpt_find(run, found, &err));
    assert_non_null(strstr(found, "step-00000002"));

    /* names that are not checkpoints, and one that is being written */
    assert_ok(slm2_dir_make(in_dir("ckpt/step-00000009.tmp"), &err));
    assert_ok(slm2_dir_make(in_dir("ckpt/step-9"), &err));
    assert_ok(slm2_dir_make(in_dir("ckpt/step-00000008"), &err)); /* empty */
    assert_ok(slm2_ckpt_find(run, found, &err));
    assert_non_null(strstr(found, "step-00000002"));

    /* what is loaded goes on exactly like what was saved */
    assert_ok(slm2_ckpt_load(found, u, &err));
    assert_int_equal(u->n_update, 2);
    assert_ok(slm2_ckpt_state(found, &back, &err));
    assert_int_equal(json_integer_value(json_object_get(back, "rows")), 42);
    assert_int_equal(json_integer_value(json_object_get(back, "step")), 2);
    json_decref(back);
    for (int s = 0; s < 3; s++) one_step(u, &b);
    size_t bytes = t->model->params.flat_elems * sizeof(float);
    assert_memory_equal(slm2_model_master(t->model), slm2_model_master(u->model), bytes);
    assert_memory_equal(t->exp_avg, u->exp_avg, bytes);
    assert_memory_equal(t->exp_avg_sq, u->exp_avg_sq, bytes);
    assert_ok(slm2_ckpt_save(run, u, NULL, NULL, 1, -1, saved, &err)); /* replaces the damaged step 5 */
    assert_ok(slm2_ckpt_verify(saved, true, &err));
    assert_false(slm2_path_exists(in_dir("ckpt/step-00000009.tmp")));

    /* another precision or optimizer is refused, and so is a manifest that points elsewhere */
    struct slm2_trainer *w = tiny_trainer(SLM2_FP32, slm2_optim_adamw());
    assert_int_equal(slm2_ckpt_load(saved, w, &err), SLM2_EUSAGE);
    slm2_trainer_free(w);
    w = tiny_trainer(SLM2_BF16_MIXED, slm2_optim_rmsprop());
    assert_int_equal(slm2_ckpt_load(saved, w, &err), SLM2_EUSAGE);
    slm2_trainer_free(w);
    const char evil[] = "{\"files\": [{\"name\": \"../run.yml\", \"size\": 1, \"sha256\": \"\"}]}";
    char manifest[SLM2_PATH_MAX + 32];
    snprintf(manifest, sizeof manifest, "%s/MANIFEST.json", saved);
    assert_ok(slm2_file_write(manifest, evil, sizeof evil - 1, &err));
    assert_int_equal(slm2_ckpt_verify(saved, false, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "leaves the folder"));

    /* the finished model opens as a Hugging Face folder, also over an older one */
    struct slm2_model *m;
    for (int i = 0; i < 2; i++) assert_ok(slm2_ckpt_export(in_dir("ckpt/final"), u, NULL, NULL, &err));
    assert_ok(slm2_model_open(&m, in_dir("ckpt/final"), &err));
    assert_int_equal(slm2_model_vocab_size(m), TEST_VOCAB);
    slm2_model_free(m);
    slm2_batch_free(&b);
    slm2_trainer_free(t);
    slm2_trainer_free(u);
}

/* ---- ledger --------------------------------------------------------------------------------------------------------------- */
static void count_row(void *user, int n_col, const char *const *text)
{
    (void)text;
    *(int *)user += n_col == 4;
}

static void ledger_keeps_and_rewinds(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_ledger *l;
    struct slm2_ledger_cost cost;
    struct slm2_series s;
    struct slm2_buf text = {0};
    double v;
    const char *path = in_dir("run.sqlite");
    for (int session = 0; session < 2; session++) {
        assert_ok(slm2_ledger_open(&l, path, "pretrain", &err));
        slm2_ledger_rewind(l, 3); /* the second session goes on from step 3 */
        for (int step = session ? 4 : 1; step <= 5; step++) slm2_ledger_metric(l, step, "loss", 10.0 * session + step);
        slm2_ledger_event(l, 3, session ? "resume" : "start", "it's %d", session);
        slm2_ledger_source(l, "de", 0.25, 1000, 240 + session);
        slm2_ledger_file(l, &(struct slm2_ledger_file){.path = "x.bin", .source = "de", .sha256 = "00", .bytes = 8, .tokens = 4, .documents = 1});
        slm2_ledger_figure(l, "nan", (double)NAN);
        slm2_ledger_figure(l, "answer", 42.5);
        slm2_ledger_figure_text(l, "model", "final");
        slm2_ledger_run(l, "config", "a: 1\nb: \"ü\"\n");
        assert_ok(slm2_ledger_close(l, &err));
    }
    assert_ok(slm2_ledger_open_read(&l, path, &err));
    assert_ok(slm2_ledger_series(l, "loss", &s, &err));
    assert_int_equal(s.n, 5);
    const double want[] = {1, 2, 3, 14, 15};
    for (int i = 0; i < 5; i++) assert_true(s.step[i] == i + 1 && s.value[i] == want[i]);
    slm2_series_free(&s);
    assert_ok(slm2_ledger_series(l, "nothing", &s, &err));
    assert_int_equal(s.n, 0);
    assert_true(slm2_ledger_get_figure(l, "answer", &v) && v == 42.5);
    assert_false(slm2_ledger_get_figure(l, "nan", &v) || slm2_ledger_get_figure(l, "absent", &v));
    assert_ok(slm2_ledger_get(l, "config", &text, &err));
    assert_string_equal(text.v, "a: 1\nb: \"ü\"\n");
    slm2_buf_free(&text);
    int n = 0;
    assert_ok(slm2_ledger_query(l, "SELECT * FROM source WHERE name = ?1", "de", count_row, &n, &err));
    assert_ok(slm2_ledger_query(l, "SELECT * FROM event", NULL, count_row, &n, &err));
    assert_int_equal(n, 3);
    assert_ok(slm2_ledger_cost(l, &cost, &err));
    assert_true(cost.n_session == 2 && cost.wall_s > 0 && cost.cpu_s > 0);
    assert_int_equal(slm2_ledger_query(l, "SELECT nonsense", NULL, count_row, &n, &err), SLM2_EIO);
    assert_ok(slm2_ledger_close(l, &err));
    assert_int_equal(slm2_ledger_open_read(&l, in_dir("a.bin"), &err), SLM2_EFORMAT);
    assert_int_equal(slm2_ledger_open_read(&l, in_dir("absent"), &err), SLM2_EIO);
    assert_ok(slm2_ledger_close(NULL, &err));
}

/* ---- runs ----------------------------------------------------------------------------------------------------------------- */
static void take_four(void *user, int n_col, const char *const *text)
{
    for (int i = 0; i < n_col && i < 4; i++) ((double *)user)[i] = text[i] ? strtod(text[i], NULL) : 0;
}

static void run_is_recorded(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r, again;
    struct slm2_ledger *l;
    double sum[4] = {0};
    assert_ok(run_with("rec", &r, &err, NULL, NULL, NULL, NULL));
    assert_int_equal(r.n_tok, 20 * 6 * 40);
    assert_true(slm2_path_exists(in_dir("rec/final/model.safetensors")));
    assert_ok(slm2_ledger_open_read(&l, r.ledger, &err));
    static const struct { const char *name; int n; } series[] = {{"loss", 20}, {"lr", 20}, {"grad_norm", 20}, {"tokens", 20}, {"tokens_s", 20}, {"clip", 20}, {"valid_loss", 4}, {"valid_loss.a", 4}, {"valid_loss.b", 0}};
    for (size_t i = 0; i < sizeof series / sizeof series[0]; i++) {
        struct slm2_series s;
        assert_ok(slm2_ledger_series(l, series[i].name, &s, &err));
        if (s.n != series[i].n) fail_msg("%s: %d values, want %d", series[i].name, s.n, series[i].n);
        if (!strcmp(series[i].name, "lr")) assert_true(s.value[0] == 0 && s.value[3] > s.value[2] && s.value[19] > 0 && s.value[19] < s.value[14]);
        slm2_series_free(&s);
    }
    struct slm2_buf text = {0};
    assert_ok(slm2_ledger_get(l, "config", &text, &err));
    assert_non_null(strstr(text.v, "lr_peak"));
    slm2_buf_free(&text);
    assert_ok(slm2_ledger_query(l, "SELECT sum(drawn), sum(planned), min(drawn / weight), max(drawn / weight) FROM source", NULL, take_four, sum, &err));
    assert_true(sum[0] == (double)r.n_tok && sum[1] == (double)r.n_tok && sum[2] > 0.95 * sum[0] && sum[3] < 1.05 * sum[0]);
    int n_file = 0;
    assert_ok(slm2_ledger_query(l, "SELECT path, sha256, tokens, documents FROM data_file WHERE length(sha256) = 64 AND tokens > 0", NULL, count_row, &n_file, &err));
    assert_int_equal(n_file, 3);
    assert_ok(slm2_ledger_close(l, &err));
    /* a finished run has nothing left to do and says the same */
    assert_ok(run_with("rec", &again, &err, NULL, NULL, NULL, NULL));
    assert_true(again.step == 20 && again.loss == r.loss && again.metric == r.metric && again.tok_per_s == 0);
    assert_string_equal(again.ckpt_dir, r.ckpt_dir);
}

/* One held-out document of 66 tokens: four rows of 16 predict its tokens 1 to 64, which stand for so many bytes. */
static void bits_per_byte_count_the_text(void **state)
{
    (void)state;
    static const char text[] = "Zwei Ma\xc3\x9f Wasser, drei Tassen Mehl und eine Prise Salz werden in der Sch\xc3\xbcssel verr\xc3\xbchrt, bis ein glatter Teig entsteht.<|endoftext|> Then the oven is "
                               "heated to two hundred degrees; the loaf stays in it for forty minutes and cools on a rack before anybody cuts a slice of it, however hungry they may be.";
    struct slm2_err err;
    struct slm2_tok *tok;
    struct slm2_ids ids = {0};
    struct slm2_shard_out *w;
    struct slm2_train_result r;
    struct slm2_ledger *l;
    struct slm2_series loss, bits;
    double bytes = 0;
    assert_ok(slm2_tok_open(&tok, NULL, &err));
    assert_ok(slm2_tok_encode(tok, text, sizeof text - 1, SLM2_TOK_SPECIAL, &ids, &err));
    assert_true(ids.n >= 66);
    assert_ok(slm2_shard_out_open(&w, in_dir("words"), SLM2_SHARD_I32, &err));
    assert_ok(slm2_shard_out_add(w, ids.v, 66, &err));
    assert_ok(slm2_shard_out_commit(w, &err));
    for (int i = 1, n_special = 0; i <= 64; i++) {
        size_t n = 0;
        if (slm2_tok_is_special(tok, ids.v[i])) assert_int_equal(++n_special, 1);
        else assert_non_null(slm2_tok_bytes(tok, ids.v[i], &n));
        bytes += (double)n;
    }
    char run[600], source[1600];
    snprintf(run, sizeof run, "run=%s", in_dir("bits"));
    snprintf(source, sizeof source, "sources=[{name: w, weight: 1, prefix: %s, valid: %s}]", in_dir("words"), in_dir("words"));
    const char *sets[] = {run, source, "tokenizer=", "model.vocab_size=100352", "model.hidden_size=16", "model.n_layer=1", "model.eos_id=100257", "train.n_ctx=16", "train.micro_batch=1", "train.steps=1", "valid.rows=9"};
    assert_ok(slm2_pretrain(in_dir("run.yml"), sets, (int)(sizeof sets / sizeof sets[0]), &r, &err));
    assert_ok(slm2_ledger_open_read(&l, r.ledger, &err));
    assert_ok(slm2_ledger_series(l, "valid_loss.w", &loss, &err));
    assert_ok(slm2_ledger_series(l, "valid_bpb.w", &bits, &err));
    assert_ok(slm2_ledger_close(l, &err));
    assert_int_equal(bits.n, 2);
    for (int i = 0; i < 2; i++) assert_true(fabs(bits.value[i] / (loss.value[i] * 64 / bytes / log(2)) - 1) < 1e-12);
    const struct slm2_train_time *t = &r.time;
    double sum = t->step_s + t->data_s + t->ledger_s + t->valid_s + t->ckpt_s;
    assert_true(t->step_s > 0 && t->data_s > 0 && t->ledger_s > 0 && t->valid_s > 0 && t->ckpt_s > 0 && t->data_s < t->step_s);
    assert_true(sum < r.wall_s + 0.01); /* the one start of this run */
    slm2_series_free(&loss);
    slm2_series_free(&bits);
    slm2_ids_free(&ids);
    slm2_tok_free(tok);
}

struct drawn { double planned, drawn, worst; int n; };
static void take_source(void *user, int n_col, const char *const *value)
{
    struct drawn *t = user;
    assert_int_equal(n_col, 2);
    double planned = strtod(value[0], NULL), drawn = strtod(value[1], NULL);
    t->worst = fmax(t->worst, fabs(drawn / planned - 1));
    t->planned += planned;
    t->drawn += drawn;
    t->n++;
}

static void check_ledger(const struct slm2_train_result *r, double first_share)
{
    struct slm2_err err;
    struct slm2_ledger *l;
    struct drawn sum = {0}, first = {0};
    assert_ok(slm2_ledger_open_read(&l, r->ledger, &err));
    assert_ok(slm2_ledger_query(l, "SELECT planned, drawn FROM source", NULL, take_source, &sum, &err));
    assert_ok(slm2_ledger_query(l, "SELECT planned, drawn FROM source WHERE name = 'a'", NULL, take_source, &first, &err));
    assert_int_equal(sum.n, 2);
    if (sum.worst > 0.01) fail_msg("a source is %.3f %% off its plan", 100 * sum.worst);
    assert_true(sum.planned == (double)r->n_tok && sum.drawn == (double)r->n_tok);
    assert_true(fabs(first.planned / sum.planned - first_share) < 1e-9);
    assert_ok(slm2_ledger_close(l, &err));
}

/* The ledger of a run of 6000 rows: each source within 1 % of the plan, which is 15 rows and more, by weights and by epochs. */
static void ledger_agrees_with_the_plan(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r;
    struct slm2_shard a, b;
    char epochs[2048];
    assert_ok(run_with("long", &r, &err, "train.n_ctx=8", "train.micro_batch=150", NULL, NULL));
    check_ledger(&r, 0.75);
    assert_true(slm2_path_exists(in_dir("long/index/0-0.order")));
    assert_ok(slm2_shard_open(&a, in_dir("a"), &err));
    assert_ok(slm2_shard_open(&b, in_dir("b"), &err));
    snprintf(epochs, sizeof epochs, "sources=[{name: a, epochs: 2, prefix: %s}, {name: b, epochs: 3, prefix: %s}]", in_dir("a"), in_dir("b"));
    assert_ok(run_with("epochs", &r, &err, "train.n_ctx=8", "train.micro_batch=150", "train.shuffle_rows=true", epochs));
    check_ledger(&r, 2.0 * (double)a.n_tok / (2.0 * (double)a.n_tok + 3.0 * (double)b.n_tok));
    snprintf(epochs, sizeof epochs, "sources=[{name: a, epochs: 2, prefix: %s}, {name: b, weight: 3, prefix: %s}]", in_dir("a"), in_dir("b"));
    assert_int_equal(run_with("bad", &r, &err, epochs, NULL, NULL, NULL), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "epochs"));
    slm2_shard_close(&a);
    slm2_shard_close(&b);
}

static void wrong_settings_are_named(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result r;
    const struct { const char *set, *says; } row[] = {
        {"train.n_ctx=49", "more than the 48 of the model"}, {"model.n_head=5", "n_head"}, {"model.vocab_size=90", "vocab"}, {"train.stepps=3", "stepps"}, {"schedule.n_warmup=1000", "warm-up"},
        {"data=absent", "absent"}, {"init_from=absent", "absent"}, {"resume=require", "no complete checkpoint"}, {"tokenizer=", "vocab_size"}, {"isa=abacus", "abacus"}, {"train.micro_batch=0", "micro_batch"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        slm2_status st = run_with("wrong", &r, &err, row[i].set, NULL, NULL, NULL);
        if (st == SLM2_OK || !strstr(err.msg, row[i].says)) fail_msg("%s: status %d, \"%s\" does not say \"%s\"", row[i].set, st, st ? err.msg : "", row[i].says);
    }
    assert_int_equal(run_with("wrong", &r, &err, "train.micro_batch=65536", "train.accumulation=1048576", NULL, NULL), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "train.accumulation 1048576 are more rows"));
    /* a checkpoint of another model, seed or row length is not gone on from */
    assert_ok(run_with("mine", &r, &err, "train.steps=1", NULL, NULL, NULL));
    const struct { const char *set, *says; } other[] = {{"model.n_layer=1", "num_hidden_layers"}, {"seed=8", "data_seed"}, {"train.n_ctx=32", "n_ctx"}, {"train.precision=bf16", "precision"}};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        slm2_status st = run_with("mine", &r, &err, other[i].set, NULL, NULL, NULL);
        if (st != SLM2_EUSAGE || !strstr(err.msg, other[i].says)) fail_msg("%s: status %d, \"%s\" does not say \"%s\"", other[i].set, st, st ? err.msg : "", other[i].says);
    }
}

static void shipped_configs_read(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_config c;
    struct slm2_params p;
    struct slm2_pretrain_opts o;
    assert_ok(slm2_pretrain_model(&c, "configs/stablelm-2-1_6b.yml", &err));
    assert_ok(slm2_params_list(&p, &c, &err));
    assert_int_equal(p.n_elem, 1644515328);
    slm2_params_list_free(&p);
    assert_ok(slm2_pretrain_settings(&o, "configs/stablelm-2-1_6b.yml", NULL, 0, &err));
    assert_int_equal((int64_t)o.micro_batch * o.accumulation * o.n_ctx, 8388608);
    assert_true(o.schedule.n_warmup == paper.n_warmup && o.schedule.lr_peak == paper.lr_peak && o.schedule.lr_min == paper.lr_min && o.schedule.n_cooldown == paper.n_cooldown);
    slm2_conf_free(slm2_pretrain_table, &o);
    assert_ok(slm2_pretrain_model(&c, "configs/nano.yml", &err));
    assert_int_equal(c.vocab_size, 100352);
}

static void bench_measures(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_pretrain_opts o;
    struct slm2_bench_train_result r;
    assert_ok(slm2_pretrain_settings(&o, in_dir("run.yml"), NULL, 0, &err));
    assert_ok(slm2_bench_train(&o, "bench", 2, &r, &err));
    slm2_conf_free(slm2_pretrain_table, &o);
    assert_true(r.tok_per_s > 0 && r.flops_per_s > 0 && r.mfu > 0 && r.peak_flops_per_s > 1e8 && r.n_tok_per_step == 240);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(hybrid_schedule),
    cmocka_unit_test(later_schedules),
    cmocka_unit_test(step_accumulates_clips_and_refuses_nan),
    cmocka_unit_test(damaged_checkpoints_are_passed_over),
    cmocka_unit_test(ledger_keeps_and_rewinds),
    cmocka_unit_test(run_is_recorded),
    cmocka_unit_test(bits_per_byte_count_the_text),
    cmocka_unit_test(ledger_agrees_with_the_plan),
    cmocka_unit_test(wrong_settings_are_named),
    cmocka_unit_test(shipped_configs_read),
    cmocka_unit_test(bench_measures),
};
SLM2_TEST_MAIN_WITH(tests, make_test_dir, remove_test_dir)
