/* test_lora.c - low-rank adapters: gradients against those of the whole matrices and finite differences, on both backends; equal bits; PEFT's
 * files and hostile ones; the merged model. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "base/rng.h"
#include "infer/engine.h"
#include "io/safetensors.h"
#include "model/lora.h"
#include "quant/convert.h"
#include "scratch_dir.h"

enum { N_TOK = 45, RANK = 5 };

static struct slm2_config small_config(bool big_family)
{
    struct slm2_config c = {.vocab_size = 131, .hidden_size = 48, .intermediate_size = 72, .n_layer = 2, .n_head = 4, .n_kv_head = big_family ? 2 : 4, .head_dim = 12, .n_rot = 4, .n_ctx = 64,
                            .norm_eps = 1e-5f, .rope_theta = 10000, .init_std = 0.15f, .qkv_bias = !big_family, .qk_norm = big_family, .parallel_residual = big_family, .bos_id = 0, .eos_id = 0};
    return c;
}

static void fill_batch(struct slm2_batch *b)
{
    struct slm2_err err;
    int32_t ids[N_TOK], target[N_TOK];
    float weight[N_TOK];
    uint8_t start[N_TOK];
    for (int i = 0; i < N_TOK; i++) {
        ids[i] = (i * 7919 + 13) % 131;
        target[i] = i % 5 == 4 ? -1 : (i * 104729 + 7) % 131;
        weight[i] = 1.0f / (float)(i % 7 + 1);
        start[i] = i == 11 || i == 12 || i == 40;
    }
    check_ok(slm2_batch_init(b, N_TOK, N_TOK, &err), &err);
    check_ok(slm2_batch_add_packed(b, ids, target, weight, start, N_TOK, &err), &err);
}

/* A random model on disk, and an adapter of it whose B is not zero any more. */
static const char *base_on_disk(bool big_family, enum slm2_dtype dtype)
{
    struct slm2_config cfg = small_config(big_family);
    struct slm2_err err;
    const char *path = in_dir(big_family ? "big" : dtype == SLM2_BF16 ? "bf16" : "base");
    if (!slm2_path_exists(path)) check_ok(slm2_model_init_to_disk(&cfg, path, dtype, 7, &err), &err);
    return path;
}

static void move_b(struct slm2_lora *o)
{
    for (int i = 0; i < o->params.n; i++) {
        struct slm2_param *p = &o->params.v[i];
        for (int k = 0; p->part == SLM2_PART_LORA_B && k < p->n_row * p->n_col; k++) p->master[k] = 0.1f * slm2_rng_normal(3, SLM2_RNG_TEST, (uint64_t)i, (uint64_t)k);
    }
}

static struct slm2_lora_opts some(uint32_t targets) { return (struct slm2_lora_opts){.rank = RANK, .alpha = 7, .targets = targets}; }

struct bench { /* a model with its adapter, or a trainable one, ready for the batch */
    struct slm2_ctx c;
    struct slm2_model *m;
    struct slm2_acts *a;
    struct slm2_batch b;
    float lp[N_TOK];
};

static void open_bench(struct bench *t, const char *backend, const char *path, bool adapted, enum slm2_plan plan, enum slm2_dtype act, int threads)
{
    struct slm2_err err;
    struct slm2_lora_opts o = some(slm2_lora_all_targets());
    check_ok(slm2_ctx_init(&t->c, &(struct slm2_ctx_opts){.backend = backend, .n_threads = threads, .exact = true}, &err), &err);
    if (adapted) {
        check_ok(slm2_model_open(&t->m, path, &err), &err);
        check_ok(slm2_lora_add(t->m, &o, true, &err), &err);
        slm2_lora_start(t->m->lora, 11);
        move_b(t->m->lora);
    } else check_ok(slm2_model_trainable(&t->m, path, NULL, 0, SLM2_FP32, &err), &err);
    check_ok(slm2_acts_new(&t->a, t->m, &t->c, plan, act, N_TOK, 17, &err), &err);
    fill_batch(&t->b);
}

static void close_bench(struct bench *t)
{
    slm2_acts_free(t->a);
    slm2_model_free(t->m);
    slm2_batch_free(&t->b);
    slm2_ctx_free(&t->c);
}

/* -sum weight lp; gradients are added when the model has some */
static double loss_of(struct bench *t, bool backward)
{
    double loss = 0;
    slm2_model_forward(t->m, t->a, &t->b, NULL, NULL);
    if (backward) slm2_model_backward(t->m, t->a, &t->b, t->lp, NULL);
    else slm2_model_logprob(t->m, t->a, &t->b, t->lp, NULL);
    for (int r = 0; r < N_TOK; r++) loss -= (double)t->b.weight[r] * (double)t->lp[r];
    return loss;
}

/* ---- gradients -------------------------------------------------------------------------------------------------------------- */

/* W + s B A into the trainable model */
static void add_product(struct slm2_model *whole, const struct slm2_lora *o)
{
    for (int i = 0; i < whole->params.n; i++) {
        struct slm2_param *w = &whole->params.v[i];
        const struct slm2_param *A = w->layer < 0 ? NULL : slm2_lora_get(o, w->kind, w->layer), *B = A ? A + 1 : NULL;
        for (int r = 0; A && r < w->n_row; r++)
            for (int c = 0; c < w->n_col; c++) {
                double sum = (double)w->master[r * w->n_col + c];
                for (int k = 0; k < RANK; k++) sum += (double)o->scale * (double)B->master[r * RANK + k] * (double)A->master[k * w->n_col + c];
                w->master[r * w->n_col + c] = (float)sum;
            }
    }
}

/* Largest difference between got and want, in parts of the largest want. */
struct near { double diff, most; };
static void compare(struct near *n, double got, double want)
{
    n->diff = fmax(n->diff, fabs(got - want));
    n->most = fmax(n->most, fabs(want));
}

/* dA = s B' dW and dB = s dW A', with dW of a model whose weights are W + s B A.  Both are sums of fp32 products over 45 rows behind two layers of them: a relative
 * 2^-24 each, 45 + 5 of them in a row and some ten rows before. */
static void gradients_are_those_of_the_whole(void **state)
{
    (void)state;
    for (int family = 0; family < 2; family++)
        for (int backend = 0; backend < 2; backend++) {
            const char *path = base_on_disk(family, SLM2_F32), *name = backend ? "cpu" : "ref";
            struct bench lora, whole;
            open_bench(&lora, name, path, true, SLM2_KEEP_ALL, SLM2_F32, 2);
            open_bench(&whole, name, path, false, SLM2_KEEP_ALL, SLM2_F32, 2);
            add_product(whole.m, lora.m->lora);
            double a = loss_of(&lora, true), b = loss_of(&whole, true);
            if (!(fabs(a - b) < 1e-5 * fabs(b))) fail_msg("loss %.9g, of the whole %.9g", a, b);
            const struct slm2_lora *o = lora.m->lora;
            for (int i = 0; i < o->params.n; i += 2) {
                const struct slm2_param *A = &o->params.v[i], *B = A + 1, *w = slm2_params_get(&whole.m->params, A->kind, A->layer);
                struct near da = {0}, db = {0};
                for (int k = 0; k < RANK; k++)
                    for (int c = 0; c < w->n_col; c++) {
                        double sum = 0;
                        for (int r = 0; r < w->n_row; r++) sum += (double)o->scale * (double)B->master[r * RANK + k] * (double)w->grad[r * w->n_col + c];
                        compare(&da, (double)A->grad[k * w->n_col + c], sum);
                    }
                for (int r = 0; r < w->n_row; r++)
                    for (int k = 0; k < RANK; k++) {
                        double sum = 0;
                        for (int c = 0; c < w->n_col; c++) sum += (double)o->scale * (double)w->grad[r * w->n_col + c] * (double)A->master[k * w->n_col + c];
                        compare(&db, (double)B->grad[r * RANK + k], sum);
                    }
                char hf[128];
                slm2_param_hf_name(A, 0, hf);
                if (!(da.most > 1e-4 && db.most > 1e-4 && da.diff <= 1e-5 * da.most && db.diff <= 1e-5 * db.most))
                    fail_msg("%s, %s: dA differs by %g of %g, dB by %g of %g", name, hf, da.diff, da.most, db.diff, db.most);
            }
            close_bench(&lora);
            close_bench(&whole);
        }
}

/* A base in blocks, whose rows must be whole ones. */
static const char *packed_base(void)
{
    struct slm2_config cfg = small_config(false);
    struct slm2_convert_opts o = slm2_convert_opts_default();
    struct slm2_err err;
    cfg.hidden_size = 64;
    cfg.intermediate_size = 96;
    cfg.head_dim = 16;
    cfg.vocab_size = 300;
    o.dtype = SLM2_Q8_0;
    check_ok(slm2_model_init_to_disk(&cfg, in_dir("wide"), SLM2_F32, 7, &err), &err);
    check_ok(slm2_convert(in_dir("wide"), in_dir("wide.gguf"), &o, NULL, &err), &err);
    return in_dir("wide.gguf");
}

/* Along a random direction: (L(h) - L(-h)) / 2h = <gradient, direction>, less what h^2 leaves (a quarter for each half of h: 0.6 % at
 * 2^-9 for the packed base) and what fp32 rounds away of losses of about 100. */
static void check_differences(const char *backend, const char *path)
{
    struct bench t;
    open_bench(&t, backend, path, true, SLM2_KEEP_ALL, SLM2_F32, 1);
    loss_of(&t, true);
    size_t n = slm2_model_trained(t.m)->flat_elems;
    float *w = slm2_model_master(t.m), *g = slm2_model_grad(t.m);
    double along = 0, loss[2];
    const float h = 0x1p-11f;
    for (size_t i = 0; i < n; i++) along += (double)g[i] * (double)(slm2_rng_u64(5, SLM2_RNG_TEST, 0, i) & 1 ? 1 : -1);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++) w[i] += (float)(side ? -2 : 1) * (slm2_rng_u64(5, SLM2_RNG_TEST, 0, i) & 1 ? h : -h);
        loss[side] = loss_of(&t, false);
    }
    double found = (loss[0] - loss[1]) / (2 * (double)h);
    if (!(fabs(along) > 1 && fabs(found - along) < 0.001 * fabs(along))) fail_msg("%s, %s: %g along the direction, the gradients say %g", backend, path, found, along);
    close_bench(&t);
}

static void gradients_are_those_of_differences(void **state)
{
    (void)state;
    check_differences("ref", base_on_disk(false, SLM2_F32));
    check_differences("cpu", base_on_disk(false, SLM2_BF16));
    const char *packed = packed_base();
    check_differences("ref", packed);
    check_differences("cpu", packed);
}

/* ---- equal bits ------------------------------------------------------------------------------------------------------------- */
static float *gradient_of(const char *path, enum slm2_plan plan, enum slm2_dtype act, int threads, size_t *bytes)
{
    struct bench t;
    open_bench(&t, "cpu", path, true, plan, act, threads);
    loss_of(&t, true);
    *bytes = sizeof(float) * slm2_model_trained(t.m)->flat_elems;
    float *g = malloc(*bytes);
    memcpy(g, slm2_model_grad(t.m), *bytes);
    close_bench(&t);
    return g;
}

static void same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        const char *path = base_on_disk(i == 3, i == 3 ? SLM2_F32 : SLM2_BF16);
        enum slm2_dtype act = i % 2 ? SLM2_BF16 : SLM2_F32;
        size_t bytes;
        float *keep = gradient_of(path, SLM2_KEEP_ALL, act, 1, &bytes), *again = gradient_of(path, SLM2_RECOMPUTE, act, 1, &bytes);
        assert_memory_equal(keep, again, bytes);
        free(again);
        for (int threads = 2; threads <= 3; threads++) {
            again = gradient_of(path, SLM2_KEEP_ALL, act, threads, &bytes);
            assert_memory_equal(keep, again, bytes);
            free(again);
        }
        free(keep);
    }
}

/* Token by token with a cache = the whole prompt, with an adapter too. */
static void decoding_is_reading(void **state)
{
    struct bench t;
    struct slm2_engine *e;
    struct slm2_err err;
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    float *all = malloc(sizeof *all * 20 * 131), *one = malloc(sizeof *one * 131);
    (void)state;
    open_bench(&t, "cpu", base_on_disk(false, SLM2_BF16), true, SLM2_KEEP_ALL, SLM2_F32, 2);
    eo.n_ctx = 32;
    eo.n_seq = 2;
    eo.n_threads = 2;
    check_ok(slm2_engine_new_setup(&e, t.m, &eo, &(struct slm2_engine_setup){.kv_dtype = SLM2_F32, .exact = true}, &err), &err);
    check_ok(slm2_engine_feed_all(e, 0, t.b.ids, 20, all, &err), &err);
    for (int i = 0; i < 20; i++) {
        check_ok(slm2_engine_feed(e, 1, t.b.ids + i, 1, one, &err), &err);
        assert_memory_equal(one, all + 131 * i, sizeof *one * 131);
    }
    slm2_engine_free(e);
    close_bench(&t);
    free(all);
    free(one);
}

/* ---- how it begins ---------------------------------------------------------------------------------------------------------- */
static void a_fresh_one_changes_nothing(void **state)
{
    struct bench lora, whole;
    struct slm2_err err;
    (void)state;
    open_bench(&lora, "cpu", base_on_disk(false, SLM2_F32), true, SLM2_KEEP_ALL, SLM2_F32, 1);
    open_bench(&whole, "cpu", base_on_disk(false, SLM2_F32), false, SLM2_KEEP_ALL, SLM2_F32, 1);
    struct slm2_lora *o = lora.m->lora;
    assert_true(o->scale == 1.4f);
    assert_true(loss_of(&lora, false) != loss_of(&whole, false));
    for (int i = 0; i < o->params.n; i++)
        if (o->params.v[i].part == SLM2_PART_LORA_B) memset(o->params.v[i].master, 0, sizeof(float) * (size_t)(o->params.v[i].n_row * RANK));
    assert_true(loss_of(&lora, false) == loss_of(&whole, false)); /* x + 0 is x */
    /* A: uniform in +-1/sqrt(n_in): mean square is a third of the bound's; 13,000 draws, so within 2 % */
    double sum = 0, n = 0, most = 0;
    for (int i = 0; i < o->params.n; i += 2) {
        const struct slm2_param *A = &o->params.v[i];
        for (int k = 0; k < RANK * A->n_col; k++) {
            double x = (double)A->master[k] * sqrt((double)A->n_col);
            sum += x * x;
            most = fmax(most, fabs(x));
            n++;
        }
    }
    assert_true(most <= 1 && most > 0.99 && fabs(3 * sum / n - 1) < 0.05);
    close_bench(&lora);
    close_bench(&whole);
    /* some targets only; scale of the rank-stabilised form; seeds differ */
    struct slm2_model *m[2];
    struct slm2_lora_opts opts = some(1u << SLM2_P_V_W | 1u << SLM2_P_DOWN_W);
    opts.rslora = true;
    for (int i = 0; i < 2; i++) {
        check_ok(slm2_model_open(&m[i], base_on_disk(false, SLM2_F32), &err), &err);
        check_ok(slm2_lora_add(m[i], &opts, false, &err), &err);
        slm2_lora_start(m[i]->lora, (uint64_t)i);
    }
    assert_int_equal(m[0]->lora->params.n, 2 * 2 * 2);
    assert_int_equal(m[0]->lora->params.n_elem, 2 * RANK * (48 + 48 + 72 + 48));
    assert_true(fabs((double)m[0]->lora->scale - 7 / sqrt(5.0)) < 1e-6 && !slm2_lora_get(m[0]->lora, SLM2_P_Q_W, 0));
    assert_memory_not_equal(m[0]->lora->params.v[0].master, m[1]->lora->params.v[0].master, 40);
    slm2_model_free(m[0]);
    slm2_model_free(m[1]);
    uint32_t bit;
    assert_int_equal(slm2_lora_target("lm_head", &bit, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "gate_proj"));
}

/* ---- files ------------------------------------------------------------------------------------------------------------------ */
/* Writes an adapter of the base model into a folder and returns its name. */
static const char *saved(const char *name, uint32_t targets)
{
    struct slm2_model *m;
    struct slm2_err err;
    struct slm2_lora_opts o = some(targets);
    check_ok(slm2_model_open(&m, base_on_disk(false, SLM2_F32), &err), &err);
    check_ok(slm2_lora_add(m, &o, false, &err), &err);
    slm2_lora_start(m->lora, 11);
    move_b(m->lora);
    check_ok(slm2_lora_save(m->lora, "the/base", in_dir(name), &err), &err);
    slm2_model_free(m);
    return in_dir(name);
}

static slm2_status reopen(struct slm2_model **m, const char *adapter, struct slm2_err *err)
{
    struct slm2_err base_err;
    check_ok(slm2_model_open(m, base_on_disk(false, SLM2_F32), &base_err), &base_err);
    return slm2_lora_open(*m, adapter, false, err);
}

static void peft_form(void **state)
{
    struct slm2_model *m, *fresh;
    struct slm2_err err;
    struct slm2_tensors ts;
    json_t *j;
    char path[300];
    (void)state;
    const char *folder = saved("peft", slm2_lora_all_targets());
    check_ok(reopen(&m, folder, &err), &err);
    assert_true(m->lora->scale == 1.4f && m->lora->o.targets == slm2_lora_all_targets());
    check_ok(slm2_model_open(&fresh, base_on_disk(false, SLM2_F32), &err), &err);
    struct slm2_lora_opts o = some(slm2_lora_all_targets());
    check_ok(slm2_lora_add(fresh, &o, false, &err), &err);
    slm2_lora_start(fresh->lora, 11);
    move_b(fresh->lora);
    assert_memory_equal(slm2_model_master(m), slm2_model_master(fresh), sizeof(float) * m->lora->params.flat_elems);
    slm2_model_free(m);
    slm2_model_free(fresh);

    /* what peft's LoraConfig and its loader of weights look for */
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    check_ok(slm2_json_read(&j, path, 1 << 20, &err), &err);
    assert_string_equal(json_string_value(json_object_get(j, "peft_type")), "LORA");
    assert_string_equal(json_string_value(json_object_get(j, "task_type")), "CAUSAL_LM");
    assert_string_equal(json_string_value(json_object_get(j, "base_model_name_or_path")), "the/base");
    assert_string_equal(json_string_value(json_object_get(j, "bias")), "none");
    assert_int_equal(json_integer_value(json_object_get(j, "r")), RANK);
    assert_true(json_number_value(json_object_get(j, "lora_alpha")) == 7);
    assert_int_equal(json_array_size(json_object_get(j, "target_modules")), 7);
    assert_true(json_is_false(json_object_get(j, "use_rslora")) && json_is_null(json_object_get(j, "modules_to_save")));
    json_decref(j);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    check_ok(slm2_safetensors_open(&ts, path, &err), &err);
    assert_int_equal(ts.n, 2 * 7 * 2);
    const struct slm2_tensor *a = slm2_tensors_find(&ts, "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"), *b = slm2_tensors_find(&ts, "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight");
    assert_true(a && b && a->dtype == SLM2_F32 && a->dim[0] == RANK && a->dim[1] == 72 && b->dim[0] == 48 && b->dim[1] == RANK);
    slm2_tensors_free(&ts);
}

/* The saved folder with one change of its settings, or of its tensors, is refused with a text that names it. */
static void refused(const char *what, const char *change, const char *text)
{
    char from[300], to[300];
    struct slm2_err err;
    struct slm2_model *m;
    json_t *j, *more;
    const char *folder = saved("hostile", slm2_lora_all_targets());
    snprintf(from, sizeof from, "%s/adapter_config.json", folder);
    snprintf(to, sizeof to, "%s/adapter_config.json", folder);
    check_ok(slm2_json_read(&j, from, 1 << 20, &err), &err);
    check_ok(slm2_json_parse(&more, change, strlen(change), "change", &err), &err);
    json_object_update(j, more);
    check_ok(slm2_json_write(j, to, &err), &err);
    json_decref(j);
    json_decref(more);
    slm2_status st = reopen(&m, folder, &err);
    if (st != SLM2_EFORMAT) fail_msg("%s: status %d", what, st);
    if (!strstr(err.msg, text)) fail_msg("%s: \"%s\" does not say \"%s\"", what, err.msg, text);
    assert_null(m->lora);
    slm2_model_free(m);
}

static void hostile_settings(void **state)
{
    (void)state;
    refused("another method", "{\"peft_type\": \"IA3\"}", "IA3");
    refused("no rank", "{\"r\": 0}", "r");
    refused("huge rank", "{\"r\": 1000000}", "r");
    refused("not a rank", "{\"r\": \"8\"}", "r");
    refused("another rank than the tensors", "{\"r\": 6}", "lora_A");
    refused("alpha that is no number", "{\"lora_alpha\": \"x\"}", "lora_alpha");
    refused("DoRA", "{\"use_dora\": true}", "use_dora");
    refused("ranks by name", "{\"rank_pattern\": {\"q_proj\": 2}}", "rank_pattern");
    refused("other modules", "{\"modules_to_save\": [\"lm_head\"]}", "modules_to_save");
    refused("biases", "{\"bias\": \"all\"}", "bias");
    refused("a start that changes the base", "{\"init_lora_weights\": \"pissa_niter_16\"}", "pissa");
}

/* Writes the tensors of the saved adapter with `skip` left out and one more of a name (NULL: none). */
static void rewrite(const char *path, int skip, const char *more)
{
    struct slm2_tensors ts;
    struct slm2_tensor v[64];
    struct slm2_err err;
    float one = 1;
    int n = 0;
    int64_t dim[2] = {1, 1};
    check_ok(slm2_safetensors_open(&ts, path, &err), &err);
    for (int i = 0; i < ts.n; i++)
        if (i != skip) v[n++] = ts.v[i];
    if (more) check_ok(slm2_tensor_init(&v[n++], more, SLM2_F32, 2, dim, &one, &err), &err);
    check_ok(slm2_safetensors_write(path, v, n, NULL, &err), &err);
    slm2_tensors_free(&ts);
}

static void hostile_tensors(void **state)
{
    char path[300];
    struct slm2_err err;
    struct slm2_model *m;
    const struct { int skip; const char *more, *text; } row[] = {
        {3, NULL, "missing"},
        {-1, "base_model.model.lm_head.lora_A.weight", "lm_head"},
        {-1, "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight", "layers.2"}, /* the model has two */
        {0, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "shape"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", saved("hostile", slm2_lora_all_targets()));
        rewrite(path, row[i].skip, row[i].more);
        assert_int_equal(reopen(&m, in_dir("hostile"), &err), SLM2_EFORMAT);
        if (!strstr(err.msg, row[i].text)) fail_msg("\"%s\" does not say \"%s\"", err.msg, row[i].text);
        slm2_model_free(m);
    }
    /* an adapter of another model; half a file; none */
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", saved("hostile", slm2_lora_all_targets()));
    check_ok(slm2_model_open(&m, base_on_disk(true, SLM2_F32), &err), &err); /* fewer key/value heads */
    assert_int_equal(slm2_lora_open(m, in_dir("hostile"), false, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "k_proj.lora_B"));
    slm2_model_free(m);
    struct slm2_buf half = {0};
    check_ok(slm2_file_read(&half, path, 1 << 24, &err), &err);
    check_ok(slm2_file_write(path, half.v, half.n / 2, &err), &err);
    slm2_buf_free(&half);
    assert_int_equal(reopen(&m, in_dir("hostile"), &err), SLM2_EFORMAT);
    slm2_model_free(m);
    assert_int_equal(remove(path), 0);
    assert_int_equal(reopen(&m, in_dir("hostile"), &err), SLM2_EIO);
    slm2_model_free(m);
}

/* ---- merged ----------------------------------------------------------------------------------------------------------------- */
static double log_probs(struct slm2_model *m, float lp[N_TOK])
{
    struct bench t = {.m = m};
    struct slm2_err err;
    check_ok(slm2_ctx_init(&t.c, &(struct slm2_ctx_opts){.n_threads = 2, .exact = true}, &err), &err);
    check_ok(slm2_acts_new(&t.a, m, &t.c, SLM2_INFER, SLM2_F32, N_TOK, 17, &err), &err);
    fill_batch(&t.b);
    double loss = loss_of(&t, false);
    memcpy(lp, t.lp, sizeof t.lp);
    close_bench(&t);
    return loss;
}

static void merged_is_both(void **state)
{
    struct slm2_ctx c;
    struct slm2_model *m;
    struct slm2_err err;
    struct slm2_tensors before, after;
    float both[N_TOK], merged[N_TOK], base[N_TOK];
    (void)state;
    const char *adapter = saved("some", 1u << SLM2_P_V_W | 1u << SLM2_P_DOWN_W | 1u << SLM2_P_Q_W);
    check_ok(slm2_ctx_init(&c, &(struct slm2_ctx_opts){.n_threads = 2}, &err), &err);
    check_ok(slm2_lora_merge(base_on_disk(false, SLM2_F32), adapter, in_dir("merged"), &c, &err), &err);
    check_ok(reopen(&m, adapter, &err), &err);
    log_probs(m, both);
    check_ok(slm2_model_open(&m, in_dir("merged"), &err), &err);
    log_probs(m, merged);
    check_ok(slm2_model_open(&m, base_on_disk(false, SLM2_F32), &err), &err);
    log_probs(m, base);
    double near = 0, far = 0;
    for (int i = 0; i < N_TOK; i++) {
        near = fmax(near, fabs((double)both[i] - (double)merged[i]));
        far = fmax(far, fabs((double)both[i] - (double)base[i]));
    }
    if (!(near < 1e-4 && far > 0.1)) fail_msg("merged is %g from base and adapter, the base %g", near, far); /* log-probabilities of about 10, fp32 through two layers */
    /* what has no adapter is the same, bit for bit */
    check_ok(slm2_safetensors_open(&before, base_on_disk(false, SLM2_F32), &err), &err);
    check_ok(slm2_safetensors_open(&after, in_dir("merged"), &err), &err);
    assert_int_equal(before.n, after.n);
    int changed = 0;
    for (int i = 0; i < before.n; i++) {
        const struct slm2_tensor *t = slm2_tensors_find(&after, before.v[i].name);
        assert_true(t && t->bytes == before.v[i].bytes && t->dtype == before.v[i].dtype);
        changed += memcmp(t->data, before.v[i].data, t->bytes) != 0;
    }
    assert_int_equal(changed, 2 * 3);
    slm2_tensors_free(&before);
    slm2_tensors_free(&after);
    /* not over its own sources */
    assert_int_equal(slm2_lora_merge(base_on_disk(false, SLM2_F32), adapter, base_on_disk(false, SLM2_F32), &c, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_lora_merge(base_on_disk(false, SLM2_F32), adapter, adapter, &c, &err), SLM2_EUSAGE);
    slm2_ctx_free(&c);
}

/* A bf16 base is rounded once: the merged weight is the bf16 number next to W + s B A. */
static void merged_is_rounded_once(void **state)
{
    struct slm2_ctx c;
    struct slm2_model *base, *merged;
    struct slm2_err err;
    (void)state;
    const char *adapter = saved("some", 1u << SLM2_P_K_W);
    check_ok(slm2_ctx_init(&c, &(struct slm2_ctx_opts){.n_threads = 2}, &err), &err);
    check_ok(slm2_lora_merge(base_on_disk(false, SLM2_BF16), adapter, in_dir("merged16"), &c, &err), &err);
    check_ok(slm2_model_open(&base, base_on_disk(false, SLM2_BF16), &err), &err);
    check_ok(slm2_lora_open(base, adapter, false, &err), &err);
    check_ok(slm2_model_open(&merged, in_dir("merged16"), &err), &err);
    const struct slm2_param *w = slm2_params_get(&base->params, SLM2_P_K_W, 1), *to = slm2_params_get(&merged->params, SLM2_P_K_W, 1), *A = slm2_lora_get(base->lora, SLM2_P_K_W, 1), *B = A + 1;
    assert_int_equal(to->w.dtype, SLM2_BF16);
    for (int i = 0; i < w->n_row * w->n_col; i++) {
        double sum = 0;
        for (int k = 0; k < RANK; k++) sum += (double)B->master[i / w->n_col * RANK + k] * (double)A->master[k * w->n_col + i % w->n_col];
        double want = (double)slm2_bf16_to_f32(((uint16_t *)w->w.data)[i]) + (double)base->lora->scale * sum, got = (double)slm2_bf16_to_f32(((uint16_t *)to->w.data)[i]);
        assert_true(fabs(got - want) <= fabs(want) * (0x1p-8 + 1e-5) + 1e-7); /* half a unit of 8 bits, and fp32's sum of five */
    }
    slm2_model_free(base);
    slm2_model_free(merged);
    slm2_ctx_free(&c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(gradients_are_those_of_the_whole), cmocka_unit_test(gradients_are_those_of_differences), cmocka_unit_test(same_bits), cmocka_unit_test(decoding_is_reading),
    cmocka_unit_test(a_fresh_one_changes_nothing), cmocka_unit_test(peft_form), cmocka_unit_test(hostile_settings), cmocka_unit_test(hostile_tensors), cmocka_unit_test(merged_is_both),
    cmocka_unit_test(merged_is_rounded_once),
};

SLM2_TEST_MAIN_WITH(tests, make_dir, remove_dir)
