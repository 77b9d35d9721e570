/* cmd_bench.c - `slm2 bench`: how fast it reads a prompt, writes and encodes text, beside what the memory could deliver.
 * Decoding reads every weight once a token, so its limit is the memory's read bandwidth, which is measured in the same run. */
#include "cli/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "base/rng.h"
#include "cli/use.h"

/* ---- memory bandwidth --------------------------------------------------------------------------------------------- */
enum { PROBE_BYTES = 256 << 20, PROBE_RUNS = 10, LINE = 8 /* words of a cache line */ };

/* Folds words [from, to), both multiples of a line. */
static uint64_t fold(const uint64_t *p, size_t from, size_t to)
{
    uint64_t a[LINE] = {0};
    for (size_t i = from; i < to; i += LINE)
        for (int k = 0; k < LINE; k++) a[k] ^= p[i + (size_t)k];
    return a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];
}

/* Bytes a second that n_threads read from memory: best of several passes over a block larger than any cache; 0 without memory. */
static double probe_read_bandwidth(int n_threads)
{
    struct slm2_arena mem = {0};
    if (slm2_arena_init(&mem, PROBE_BYTES, "the bandwidth probe", NULL) != SLM2_OK) return 0.0;
    uint64_t *p = (uint64_t *)(void *)mem.base, check = 0;
    size_t lines = PROBE_BYTES / (LINE * sizeof *p);
    memset(p, 1, PROBE_BYTES);
    double best = 0.0;
    for (int run = 0; run < PROBE_RUNS; run++) {
        double start = slm2_now_s();
#pragma omp parallel for schedule(static) num_threads(n_threads)
        for (int t = 0; t < n_threads; t++) {
            uint64_t x = fold(p, lines * (size_t)t / (size_t)n_threads * LINE, lines * (size_t)(t + 1) / (size_t)n_threads * LINE);
#pragma omp atomic
            check ^= x;
        }
        best = fmax(best, PROBE_BYTES / (slm2_now_s() - start));
    }
    if (check == 1) best = 0.0; /* the sum is used: the loop cannot be dropped */
    slm2_arena_free(&mem);
    return best;
}

/* ---- a model ------------------------------------------------------------------------------------------------------ */
struct opts {
    char *model, *kv;
    int n_prompt, n_gen, n_batch, repeat, threads;
    int64_t seed;
    bool json;
};
#define OPT(field, kind) .type = SLM2_OPT_##kind, .offset = offsetof(struct opts, field)
static const struct slm2_opt table[] = {
    {.name = "model", OPT(model, STR), .def = "!", .help = "folder, .safetensors or .gguf file", .alias = 'm'},
    {.name = "n_prompt", OPT(n_prompt, INT), .lo = 1, .hi = 1 << 20, .def = "512", .help = "tokens of the prompt", .alias = 'p'},
    {.name = "n_gen", OPT(n_gen, INT), .lo = 1, .hi = 1 << 20, .def = "64", .help = "tokens decoded behind it", .alias = 'n'},
    {.name = "n_batch", OPT(n_batch, INT), .lo = 1, .hi = 65536, .def = "256", .help = "tokens of the prompt computed at once", .alias = 'b'},
    {.name = "repeat", OPT(repeat, INT), .lo = 1, .hi = 1000, .def = "1", .help = "runs; the best counts", .alias = 'r'},
    {.name = "kv", OPT(kv, STR), .def = "f32", .help = "type of the key/value cache: f32 or bf16"},
    SLM2_CLI_THREADS(struct opts),
    SLM2_CLI_SEED(struct opts),
    {.name = "json", OPT(json, BOOL), .help = "one JSON object"},
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "bench --model M [-p 512] [-n 64] [-t 2] [--json]\nbench train --config FILE [--steps N] [--json]\nbench tokenizer FILE [--json]",
    .about = "Times reading a prompt (prefill) and writing (decode) with random tokens; `slm2 bench train --help` and\n"
             "`slm2 bench tokenizer --help` have their own options. share_of_limit is the memory traffic of decoding over the\n"
             "read bandwidth measured in the same run.",
    .examples = "slm2 bench --model runs/nano -p 512 -n 64 -t 2\nslm2 bench --model model-q8_0.gguf --json",
};

/* Bytes of weights that computing one token reads: all matrices, but one row of the embedding. */
static size_t weight_bytes_per_token(const struct slm2_model *m)
{
    size_t bytes = 0;
    for (int i = 0; i < m->params.n; i++) {
        const struct slm2_param *p = &m->params.v[i];
        size_t all = slm2_mat_row_bytes(&p->w) * (size_t)p->w.n_row;
        if (p->kind != SLM2_P_EMBED || m->cfg.tied_embeddings) bytes += all;
        else bytes += slm2_mat_row_bytes(&p->w);
    }
    return bytes;
}

struct times { double prefill_s, decode_s; };

static slm2_status time_once(struct slm2_engine *e, const int32_t *ids, int n_prompt, int n_gen, float *logits, struct times *t, struct slm2_err *err)
{
    slm2_engine_rewind(e, 0, 0);
    double start = slm2_now_s();
    SLM2_TRY(slm2_engine_feed(e, 0, ids, n_prompt, logits, err));
    double fed = slm2_now_s();
    for (int i = 0; i < n_gen; i++) SLM2_TRY(slm2_engine_feed(e, 0, ids + n_prompt + i, 1, logits, err));
    t->prefill_s = fmin(t->prefill_s, fed - start);
    t->decode_s = fmin(t->decode_s, slm2_now_s() - fed);
    return SLM2_OK;
}

static int bench_model(const struct opts *o)
{
    struct slm2_err err;
    struct slm2_use u = {0};
    struct times best = {HUGE_VAL, HUGE_VAL};
    struct slm2_ctx ctx = {0};
    int n = o->n_prompt + o->n_gen;
    int32_t *ids = NULL;
    float *logits = NULL;
    slm2_status st = slm2_cli_ctx(&ctx, o->threads, &err); /* for the number of threads and the name of the kernels */
    if (!st) st = slm2_use_open(&u, &(struct slm2_use_opts){.model = o->model, .kv = o->kv, .n_batch = o->n_batch, .threads = o->threads, .no_tokenizer = true}, &err);
    if (st) goto done;
    if (n > slm2_engine_n_ctx(u.engine)) {
        st = slm2_fail(&err, SLM2_EUSAGE, "bench: %d + %d tokens, the model's context holds %d; lower -p or -n", o->n_prompt, o->n_gen, slm2_engine_n_ctx(u.engine));
        goto done;
    }
    int vocab = slm2_model_vocab_size(u.model);
    ids = malloc((size_t)n * sizeof *ids);
    logits = malloc((size_t)vocab * sizeof *logits);
    if (!ids || !logits) {
        st = slm2_fail(&err, SLM2_ENOMEM, "bench: no memory for %d tokens", n);
        goto done;
    }
    for (int i = 0; i < n; i++) ids[i] = (int32_t)slm2_rng_below((uint64_t)o->seed, SLM2_RNG_TEST, 0, (uint64_t)i, (uint64_t)vocab);
    double start = slm2_now_s(); /* the first token reads the weights from the file */
    if ((st = slm2_engine_feed(u.engine, 0, ids, 1, logits, &err)) != SLM2_OK) goto done;
    double first_token_s = slm2_now_s() - start;
    for (int r = 0; !st && r < o->repeat; r++) st = time_once(u.engine, ids, o->n_prompt, o->n_gen, logits, &best, &err);
    if (st) goto done;
    size_t rss = slm2_peak_rss_bytes(); /* before the probe takes its block */

    double limit = probe_read_bandwidth(ctx.n_threads), decode_tps = o->n_gen / best.decode_s, prefill_tps = o->n_prompt / best.prefill_s;
    size_t weights = weight_bytes_per_token(u.model);
    double bytes = (double)weights + (double)slm2_engine_kv_bytes(u.engine, o->n_prompt + o->n_gen / 2), rate = bytes * decode_tps;
    if (!o->json) {
        printf("prefill  %10.1f tokens/s   (%d tokens)\ndecode   %10.1f tokens/s   (%d tokens)\n", prefill_tps, o->n_prompt, decode_tps, o->n_gen);
        printf("memory   %10.2f GB/s       read while decoding, %.0f %% of the %.2f GB/s measured\n", rate / 1e9, limit > 0.0 ? 100.0 * rate / limit : 0.0, limit / 1e9);
        printf("load     %10.3f s          first token %.3f s\npeak     %10.1f MB\nkernels  %10s           %d threads\n", u.load_s, first_token_s, (double)rss / 1e6, ctx.k->name, ctx.n_threads);
    } else {
        json_t *j = json_object();
        json_object_set_new(j, "model", slm2_use_text_json(o->model, strlen(o->model)));
        json_object_set_new(j, "prefill_tps", json_real(prefill_tps));
        json_object_set_new(j, "decode_tps", json_real(decode_tps));
        json_object_set_new(j, "load_s", json_real(u.load_s));
        json_object_set_new(j, "first_token_s", json_real(first_token_s));
        json_object_set_new(j, "peak_rss_bytes", json_integer((json_int_t)rss));
        json_object_set_new(j, "weight_bytes_per_token", json_integer((json_int_t)weights));
        json_object_set_new(j, "decode_gb_per_s", json_real(rate / 1e9));
        json_object_set_new(j, "read_gb_per_s", json_real(limit / 1e9));
        json_object_set_new(j, "share_of_limit", limit > 0.0 ? json_real(rate / limit) : json_null());
        json_object_set_new(j, "n_prompt", json_integer(o->n_prompt));
        json_object_set_new(j, "n_gen", json_integer(o->n_gen));
        json_object_set_new(j, "threads", json_integer(ctx.n_threads));
        json_object_set_new(j, "kernels", json_string(ctx.k->name));
        free(ids);
        ids = NULL;
        int rc = slm2_cli_json(j);
        if (rc) st = slm2_fail(&err, SLM2_EIO, "bench: the result could not be written");
    }
done:
    free(ids);
    free(logits);
    slm2_use_free(&u);
    slm2_ctx_free(&ctx);
    return st ? slm2_cli_fail(&err) : 0;
}

int slm2_cmd_bench(int argc, char **argv)
{
    static const struct {
        char name[12], full[20]; /* full: the name in messages */
        int (*run)(int argc, char **argv);
    } parts[] = {{"tokenizer", "bench tokenizer", slm2_cmd_bench_tokenizer}, {"train", "bench train", slm2_cmd_bench_train}};
    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(argv[1], parts[i].name) == 0) {
            char full[20];
            memcpy(full, parts[i].full, sizeof full);
            argv[1] = full;
            return parts[i].run(argc - 1, argv + 1);
        }
    struct opts o;
    int rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = bench_model(&o);
    slm2_conf_free(table, &o);
    return rc;
}
