/* equal_model.c - equalities that must hold bit for bit, on every backend and instruction set:
 *   recompute = keep (gradients), threads 1 = 2 = 3 (gradients, log-probabilities),
 *   token by token with a cache = uneven chunks = one forward of the whole sequence (logits). */
#include "golden.h"

enum { N_TOK = 61 };

static struct slm2_config small_config(bool big_family)
{
    struct slm2_config c = {.vocab_size = 515, .hidden_size = 48, .intermediate_size = 72, .n_layer = 3, .n_head = 4, .n_kv_head = big_family ? 2 : 4, .head_dim = 12, .n_rot = 4, .n_ctx = 64,
                            .norm_eps = 1e-5f, .rope_theta = 10000, .init_std = 0.15f, .qkv_bias = !big_family, .qk_norm = big_family, .parallel_residual = big_family, .bos_id = 0, .eos_id = 0};
    return c;
}

static void fill_batch(struct slm2_batch *b, int vocab)
{
    struct slm2_err err;
    int32_t ids[N_TOK], target[N_TOK];
    float weight[N_TOK];
    uint8_t start[N_TOK];
    for (int i = 0; i < N_TOK; i++) {
        ids[i] = (i * 7919 + 13) % vocab;
        target[i] = i % 5 == 4 ? -1 : (i * 104729 + 7) % vocab;
        weight[i] = 1.0f / (float)(i % 7 + 1);
        start[i] = i == 11 || i == 12 || i == 40;
    }
    must(slm2_batch_init(b, N_TOK, N_TOK, &err), &err);
    must(slm2_batch_add_packed(b, ids, target, weight, start, N_TOK, &err), &err);
}

/* Gradients then log-probabilities of one batch; malloc'd, *n floats. */
static float *gradients(const char *backend, const char *isa, const struct slm2_config *cfg, enum slm2_precision precision, enum slm2_plan plan, int threads, size_t *n)
{
    struct slm2_err err;
    struct slm2_ctx c;
    struct slm2_model *m;
    struct slm2_acts *a;
    struct slm2_batch b;
    must(slm2_ctx_init(&c, &(struct slm2_ctx_opts){.backend = backend, .isa = isa, .n_threads = threads}, &err), &err);
    must(slm2_model_trainable(&m, NULL, cfg, 7, precision, &err), &err);
    must(slm2_acts_new(&a, m, &c, plan, precision == SLM2_FP32 ? SLM2_F32 : SLM2_BF16, N_TOK, 17, &err), &err);
    fill_batch(&b, cfg->vocab_size);
    *n = m->params.flat_elems + N_TOK;
    float *out = calloc(*n, sizeof *out);
    slm2_model_forward(m, a, &b, NULL, NULL);
    slm2_model_backward(m, a, &b, out + m->params.flat_elems, NULL);
    memcpy(out, slm2_model_grad(m), sizeof(float) * m->params.flat_elems);
    slm2_acts_free(a);
    slm2_model_free(m);
    slm2_batch_free(&b);
    slm2_ctx_free(&c);
    return out;
}

static void test_gradients(struct golden *g, const char *backend, const char *isa, const struct slm2_config *cfg, enum slm2_precision p)
{
    size_t n;
    float *keep = gradients(backend, isa, cfg, p, SLM2_KEEP_ALL, 1, &n), *other;
    double norm = 0;
    for (size_t i = 0; i < n; i++) norm += (double)keep[i] * (double)keep[i];
    golden_result(g, norm > 1e-6 && isfinite(norm), "gradients are there", norm, INFINITY);
    other = gradients(backend, isa, cfg, p, SLM2_RECOMPUTE, 1, &n);
    golden_equal(g, "recompute = keep", memcmp(keep, other, sizeof(float) * n), 0);
    free(other);
    for (int t = 2; t <= 3; t++) {
        other = gradients(backend, isa, cfg, p, SLM2_KEEP_ALL, t, &n);
        golden_equal(g, t == 2 ? "threads 1 = 2" : "threads 1 = 3", memcmp(keep, other, sizeof(float) * n), 0);
        free(other);
    }
    free(keep);
}

/* Logits of every position, fed in chunks of `chunk` tokens through a cache (0: one training forward without cache). */
static float *logits_of(struct slm2_ctx *c, const struct slm2_config *cfg, enum slm2_precision precision, enum slm2_dtype cache, int chunk)
{
    struct slm2_err err;
    struct slm2_model *m;
    struct slm2_acts *a;
    struct slm2_batch b;
    struct slm2_kv kv;
    int32_t ids[N_TOK], slot = 1;
    enum slm2_dtype t = precision == SLM2_FP32 ? SLM2_F32 : SLM2_BF16;
    float *out = calloc((size_t)N_TOK * (size_t)cfg->vocab_size, sizeof *out);
    for (int i = 0; i < N_TOK; i++) ids[i] = (i * 7919 + 13) % cfg->vocab_size;
    must(slm2_model_trainable(&m, NULL, cfg, 7, precision, &err), &err);
    must(slm2_acts_new(&a, m, c, chunk ? SLM2_INFER : SLM2_KEEP_ALL, t, N_TOK, N_TOK, &err), &err);
    must(slm2_batch_init(&b, N_TOK, 1, &err), &err);
    must(slm2_kv_init(&kv, cfg, 2, N_TOK, cache, &err), &err);
    for (int at = 0, k = chunk ? chunk : N_TOK; at < N_TOK; at += k, k = chunk > 1 ? chunk + at % 3 : k) {
        int n = k < N_TOK - at ? k : N_TOK - at;
        slm2_batch_clear(&b);
        must(slm2_batch_add(&b, ids + at, NULL, NULL, n, &err), &err);
        for (int r = 0; r < n; r++) b.position[r] = at + r;
        slm2_model_forward(m, a, &b, chunk ? &kv : NULL, &slot);
        slm2_model_logits(m, a, 0, n, out + (size_t)at * (size_t)cfg->vocab_size);
        k = n;
    }
    slm2_kv_free(&kv);
    slm2_batch_free(&b);
    slm2_acts_free(a);
    slm2_model_free(m);
    return out;
}

/* A cache in the type of the activations holds what training sees; any other type must at least give the same however the tokens come. */
static void test_decode(struct golden *g, const struct slm2_config *cfg, enum slm2_precision p)
{
    enum slm2_dtype own = p == SLM2_FP32 ? SLM2_F32 : SLM2_BF16;
    static const enum slm2_dtype cache[] = {SLM2_F32, SLM2_F16, SLM2_BF16, SLM2_Q8_0};
    size_t bytes = sizeof(float) * (size_t)N_TOK * (size_t)cfg->vocab_size;
    for (int i = 0; i < 4; i++) {
        char what[100];
        if (cache[i] == SLM2_Q8_0 && cfg->head_dim % SLM2_QK) continue;
        float *whole = logits_of(&g->ctx, cfg, p, cache[i], cache[i] == own ? 0 : N_TOK), *single = logits_of(&g->ctx, cfg, p, cache[i], 1), *chunks = logits_of(&g->ctx, cfg, p, cache[i], 9);
        snprintf(what, sizeof what, "token by token = whole sequence, cache %s", slm2_dtype_info[cache[i]].name);
        golden_equal(g, what, memcmp(whole, single, bytes), 0);
        snprintf(what, sizeof what, "uneven chunks = whole sequence, cache %s", slm2_dtype_info[cache[i]].name);
        golden_equal(g, what, memcmp(whole, chunks, bytes), 0);
        free(whole), free(single), free(chunks);
    }
}

static void run_all(struct golden *g, const char *backend, const char *isa)
{
    struct slm2_err err;
    if (slm2_ctx_init(&g->ctx, &(struct slm2_ctx_opts){.backend = backend, .isa = isa, .n_threads = 2}, &err) != SLM2_OK) {
        printf("skip %s/%s: %s\n", backend, isa, err.msg);
        return;
    }
    for (int family = 0; family < 3; family++)
        for (int p = SLM2_FP32; p <= SLM2_BF16_MIXED; p++) {
            struct slm2_config cfg = small_config(family == 1);
            if (family == 2) cfg.hidden_size = 128, cfg.head_dim = 32; /* what attention in bf16 takes */
            snprintf(g->where, sizeof g->where, "%s/%s %s %s", backend, isa, family == 1 ? "12B" : family ? "1.6B, wide heads" : "1.6B", p == SLM2_FP32 ? "fp32" : "bf16");
            test_gradients(g, backend, isa, &cfg, (enum slm2_precision)p);
            test_decode(g, &cfg, (enum slm2_precision)p);
        }
    slm2_ctx_free(&g->ctx);
}

int main(void)
{
    static const char *const isas[] = {"scalar", "avx2", "avx512"};
    struct golden g = {.dir = "."};
    run_all(&g, "ref", "scalar");
    for (int i = 0; i < 3; i++) run_all(&g, "cpu", isas[i]);
    printf("%d passed, %d failed\n", g.n_passed, g.n_failed);
    return g.n_failed != 0 || g.n_passed == 0;
}
