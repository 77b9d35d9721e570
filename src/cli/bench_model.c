/* bench_model.c - `slm2 bench --model M`: how fast a model reads a prompt and writes, beside what the machine allows.
 *
 * Reading a prompt is bound by arithmetic: its limit is the time of all products with weights at the peak rate of their type.  Writing reads
 * every weight once a token: its limit is the read bandwidth, which is probed just before and just after every run of it. */
#include "cli/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "base/rng.h"
#include "cli/use.h"

#define ADJACENT_S 0.15 /* for a probe beside a run */

struct opts {
    char *model, *kv, *contexts, *seqs;
    int n_prompt, n_gen, n_batch, repeat, threads;
    int64_t seed;
    bool json, exact;
};
#define OPT(field, kind) .type = SLM2_OPT_##kind, .offset = offsetof(struct opts, field)
static const struct slm2_opt table[] = {
    {.name = "model", OPT(model, STR), .def = "!", .help = "folder, .safetensors or .gguf file", .alias = 'm'},
    {.name = "n_prompt", OPT(n_prompt, INT), .lo = 1, .hi = 1 << 20, .def = "512", .help = "tokens of the prompt", .alias = 'p'},
    {.name = "n_gen", OPT(n_gen, INT), .lo = 1, .hi = 1 << 20, .def = "64", .help = "tokens decoded behind it", .alias = 'n'},
    {.name = "n_batch", OPT(n_batch, INT), .lo = 1, .hi = 65536, .def = "512", .help = "tokens of the prompt computed at once", .alias = 'b'},
    {.name = "repeat", OPT(repeat, INT), .lo = 1, .hi = 1000, .def = "3", .help = "runs; the median counts", .alias = 'r'},
    {.name = "contexts", OPT(contexts, STR), .help = "depths such as 512,4096: prefill of so many tokens, and decoding the last of them, against a short context"},
    {.name = "seqs", OPT(seqs, STR), .help = "numbers such as 8,16: decoding so many sequences at once, each behind its own prompt"},
    SLM2_USE_COMPUTE(struct opts, "false"),
    SLM2_CLI_THREADS(struct opts),
    SLM2_CLI_SEED(struct opts),
    {.name = "json", OPT(json, BOOL), .help = "one JSON object"},
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "bench --model M [-p 512] [-n 64] [-t 2] [-r 3] [--contexts 512,4096 | --seqs 8,16] [--json]\nbench limits [-t N] [--json]\n"
             "bench train --config FILE [--steps N] [--json]\nbench tokenizer FILE [--json]",
    .about = "Times reading a prompt (prefill) and writing (decode) with random tokens: median, and least and most of the runs. Each stands\n"
             "beside its limit, measured in the same run: multiply-adds a second in the type of the weights for prefill; for decode the read\n"
             "bandwidth just before and after each run (share_of_limit: bytes read a token times tokens a second over it).\n"
             "`slm2 bench limits --help`, `train --help` and `tokenizer --help` have their own options.",
    .examples = "slm2 bench --model runs/nano/final -p 512 -n 64 -t 2\nslm2 bench --model model-q8_0.gguf --contexts 512,4096 --json",
};

struct bench {
    const struct opts *o;
    struct slm2_use u;
    struct slm2_ctx ctx; /* for the number of threads and the kernels */
    struct slm2_bench_probe probe;
    struct slm2_ids contexts, seqs; /* ascending; empty: not asked for */
    int n_ids, vocab;
    int32_t *ids;   /* [n_ids] */
    float *logits;  /* [most sequences, vocab] */
    double *sample; /* room for the figures of all runs */
    size_t weights; /* bytes that a decoded token reads */
    double load_s, first_token_s, load_warm_s, first_token_warm_s;
    size_t peak_rss;
};

/* ---- what a token costs ------------------------------------------------------------------------------------------- */
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

/* In what arithmetic a type of weights is multiplied here, at best. */
static enum slm2_peak_kind kind_of(const struct bench *b, enum slm2_dtype t)
{
    enum slm2_peak_kind k = t == SLM2_F32 || t == SLM2_F16 ? SLM2_PEAK_FP32 : t == SLM2_BF16 ? SLM2_PEAK_BF16 : SLM2_PEAK_INT8;
    return b->o->exact || !slm2_peak_get(b->ctx.k)->compute[k] ? SLM2_PEAK_FP32 : k;
}

struct prefill_limit {
    double seconds;              /* of the prompt's products with weights at the peak rates */
    enum slm2_peak_kind kind;    /* of most of them */
    enum slm2_dtype dtype;       /* of most weights */
};

/* All matrices of the layers for every token; the head, or the embedding in its place, for the last one. */
static struct prefill_limit prefill_limit(const struct bench *b)
{
    const struct slm2_model *m = b->u.model;
    double peak[SLM2_N_PEAK] = {0}, ops[SLM2_N_DTYPE] = {0};
    struct prefill_limit l = {0};
    for (int i = 0; i < m->params.n; i++) {
        const struct slm2_param *p = &m->params.v[i];
        bool head = p->kind == (m->cfg.tied_embeddings ? SLM2_P_EMBED : SLM2_P_HEAD);
        if (p->is_matrix && (head || p->kind != SLM2_P_EMBED)) ops[p->w.dtype] += 2.0 * p->n_row * p->n_col * (head ? 1 : b->o->n_prompt);
    }
    for (int t = 0; t < SLM2_N_DTYPE; t++) {
        enum slm2_peak_kind k = kind_of(b, (enum slm2_dtype)t);
        if (ops[t] <= 0.0) continue;
        if (peak[k] <= 0.0) peak[k] = slm2_bench_peak(slm2_peak_get(b->ctx.k), k, b->ctx.n_threads);
        l.seconds += ops[t] / peak[k];
        if (ops[t] > ops[l.dtype]) l.dtype = (enum slm2_dtype)t;
    }
    l.kind = kind_of(b, l.dtype);
    return l;
}

/* ---- timing ------------------------------------------------------------------------------------------------------- */
static slm2_status time_feed(struct bench *b, int from, int to, double *seconds, struct slm2_err *err)
{
    double start = slm2_now_s();
    SLM2_TRY(slm2_engine_feed(b->u.engine, 0, b->ids + from, to - from, b->logits, err));
    *seconds = slm2_now_s() - start;
    return SLM2_OK;
}

struct decoded { double tps, bandwidth, share; };

/* Decodes n_gen tokens behind the n_past in the cache and forgets them, between two probes. */
static slm2_status time_decode(struct bench *b, int n_past, struct decoded *d, struct slm2_err *err)
{
    int n = b->o->n_gen;
    double before = slm2_bench_probe_read(&b->probe, ADJACENT_S), start = slm2_now_s();
    for (int i = 0; i < n; i++) SLM2_TRY(slm2_engine_feed(b->u.engine, 0, b->ids + n_past + i, 1, b->logits, err));
    double took = slm2_now_s() - start, after = slm2_bench_probe_read(&b->probe, ADJACENT_S);
    slm2_engine_rewind(b->u.engine, 0, n_past);
    d->tps = n / took;
    d->bandwidth = (before + after) / 2;
    d->share = d->tps * ((double)b->weights + (double)slm2_engine_kv_bytes(b->u.engine, n_past + n / 2)) / d->bandwidth;
    return SLM2_OK;
}

struct speeds { struct slm2_bench_stat prefill, decode, bandwidth, share; };

static struct speeds summarise(double *prefill, const struct decoded *d, double *room, int n)
{
    struct speeds s = {.prefill = slm2_bench_stat(prefill, n)};
    for (int i = 0; i < n; i++) room[i] = d[i].tps;
    s.decode = slm2_bench_stat(room, n);
    for (int i = 0; i < n; i++) room[i] = d[i].bandwidth;
    s.bandwidth = slm2_bench_stat(room, n);
    for (int i = 0; i < n; i++) room[i] = d[i].share;
    s.share = slm2_bench_stat(room, n);
    return s;
}

static json_t *common_json(const struct bench *b, enum slm2_dtype dtype)
{
    const struct opts *o = b->o;
    json_t *j = json_object();
    json_object_set_new(j, "model", slm2_json_text(o->model, strlen(o->model)));
    json_object_set_new(j, "type", json_string(slm2_dtype_info[dtype].name));
    json_object_set_new(j, "load_s", json_real(b->load_s));
    json_object_set_new(j, "first_token_s", json_real(b->first_token_s));
    json_object_set_new(j, "load_warm_s", json_real(b->load_warm_s));
    json_object_set_new(j, "first_token_warm_s", json_real(b->first_token_warm_s));
    json_object_set_new(j, "peak_rss_bytes", json_integer((json_int_t)b->peak_rss));
    json_object_set_new(j, "weight_bytes_per_token", json_integer((json_int_t)b->weights));
    json_object_set_new(j, "n_prompt", json_integer(o->n_prompt));
    json_object_set_new(j, "n_gen", json_integer(o->n_gen));
    json_object_set_new(j, "repeat", json_integer(o->repeat));
    json_object_set_new(j, "threads", json_integer(b->ctx.n_threads));
    json_object_set_new(j, "kernels", json_string(b->ctx.k->variant));
    json_object_set_new(j, "kv", json_string(o->kv));
    json_object_set_new(j, "exact", json_boolean(o->exact));
    return j;
}

static void print_common(const struct bench *b)
{
    printf("load     %10.3f s          and %.3f s to the first token; %.3f s and %.3f s when the file is cached\npeak     %10.1f MB\nkernels  %10s           %d threads\n",
           b->load_s, b->first_token_s, b->load_warm_s, b->first_token_warm_s, (double)b->peak_rss / 1e6, b->ctx.k->variant, b->ctx.n_threads);
}

/* ---- one prompt, one sequence ------------------------------------------------------------------------------------- */
static slm2_status bench_prompt(struct bench *b, struct decoded *d, struct speeds *s, struct slm2_err *err)
{
    int n = b->o->repeat;
    for (int r = 0; r < n; r++) {
        double took;
        slm2_engine_rewind(b->u.engine, 0, 0);
        SLM2_TRY(time_feed(b, 0, b->o->n_prompt, &took, err));
        b->sample[r] = b->o->n_prompt / took;
        SLM2_TRY(time_decode(b, b->o->n_prompt, &d[r], err));
    }
    *s = summarise(b->sample, d, b->sample + n, n);
    return SLM2_OK;
}

static int show_prompt(const struct bench *b, const struct speeds *s)
{
    static const char *const kind_name[SLM2_N_PEAK] = {"fp32", "bf16", "int8"};
    const struct opts *o = b->o;
    struct prefill_limit limit = prefill_limit(b);
    double limit_tps = o->n_prompt / limit.seconds, rate = s->decode.median * ((double)b->weights + (double)slm2_engine_kv_bytes(b->u.engine, o->n_prompt + o->n_gen / 2));
    if (!o->json) {
        printf("prefill  %10.1f tokens/s   %.1f to %.1f in %d runs of %d tokens; %.0f %% of the %s limit, %.1f\n", s->prefill.median, s->prefill.min, s->prefill.max, o->repeat, o->n_prompt,
               100 * s->prefill.median / limit_tps, kind_name[limit.kind], limit_tps);
        printf("decode   %10.1f tokens/s   %.1f to %.1f in %d runs of %d tokens\n", s->decode.median, s->decode.min, s->decode.max, o->repeat, o->n_gen);
        printf("memory   %10.2f GB/s       read while decoding: %.0f %% (%.0f to %.0f) of the %.2f GB/s probed beside each run\n", rate / 1e9, 100 * s->share.median, 100 * s->share.min,
               100 * s->share.max, s->bandwidth.median / 1e9);
        print_common(b);
        return 0;
    }
    json_t *j = common_json(b, limit.dtype);
    slm2_bench_stat_json(j, "prefill_tps", s->prefill);
    json_object_set_new(j, "prompt_s", json_real(o->n_prompt / s->prefill.median));
    json_object_set_new(j, "prefill_limit", json_string(kind_name[limit.kind]));
    json_object_set_new(j, "prefill_limit_tps", json_real(limit_tps));
    json_object_set_new(j, "prefill_share_of_limit", json_real(s->prefill.median / limit_tps));
    slm2_bench_stat_json(j, "decode_tps", s->decode);
    json_object_set_new(j, "decode_gb_per_s", json_real(rate / 1e9));
    slm2_bench_stat_json(j, "read_gb_per_s", (struct slm2_bench_stat){s->bandwidth.median / 1e9, s->bandwidth.min / 1e9, s->bandwidth.max / 1e9});
    slm2_bench_stat_json(j, "share_of_limit", s->share);
    return slm2_cli_json(j);
}

/* ---- depths of context -------------------------------------------------------------------------------------------- */
/* Row 0 is the short context: the prompt alone, and decoding behind one token.  A row of c tokens: prefill from nothing to c - n_gen
 * tokens, where decoding leads to c.  One prefill passes through all depths. */
static slm2_status bench_contexts(struct bench *b, double *prefill, struct decoded *d, struct slm2_err *err)
{
    int n = b->o->repeat, rows = (int)b->contexts.n;
    for (int r = 0; r < n; r++) {
        double took, spent = 0.0;
        slm2_engine_rewind(b->u.engine, 0, 0);
        SLM2_TRY(time_feed(b, 0, b->o->n_prompt, &took, err));
        prefill[r] = b->o->n_prompt / took;
        slm2_engine_rewind(b->u.engine, 0, 1);
        SLM2_TRY(time_decode(b, 1, &d[r], err));
        slm2_engine_rewind(b->u.engine, 0, 0);
        for (int i = 0, at = 0; i < rows; i++) {
            int to = b->contexts.v[i] - b->o->n_gen;
            SLM2_TRY(time_feed(b, at, to, &took, err));
            spent += took;
            at = to;
            prefill[(i + 1) * n + r] = to / spent;
            SLM2_TRY(time_decode(b, to, &d[(i + 1) * n + r], err));
            slm2_progress("bench", ((double)r * rows + i + 1) / ((double)n * rows), "context %d", b->contexts.v[i]);
        }
    }
    slm2_progress_end();
    return SLM2_OK;
}

/* What stands behind the rows of a table, or around the list of them, which is taken. */
static int show_common(struct bench *b, const char *name, json_t *list)
{
    if (!b->o->json) {
        print_common(b);
        json_decref(list);
        return 0;
    }
    json_t *j = common_json(b, prefill_limit(b).dtype);
    json_object_set_new(j, name, list);
    return slm2_cli_json(j);
}

static int show_contexts(struct bench *b, double *prefill, const struct decoded *d)
{
    int n = b->o->repeat, rows = (int)b->contexts.n + 1;
    json_t *list = json_array();
    struct speeds base = {0};
    if (!b->o->json) printf("context   prefill tokens/s   ratio   decode tokens/s   ratio   share of the bandwidth   (medians of %d)\n", n);
    for (int i = 0; i < rows; i++) {
        struct speeds s = summarise(prefill + i * n, d + i * n, b->sample, n);
        int depth = i ? b->contexts.v[i - 1] : 0;
        if (i == 0) base = s;
        double prefill_ratio = s.prefill.median / base.prefill.median, decode_ratio = s.decode.median / base.decode.median;
        if (!b->o->json) {
            printf("%7d   %16.1f   %5.2f   %15.1f   %5.2f   %20.0f %%\n", depth, s.prefill.median, prefill_ratio, s.decode.median, decode_ratio, 100 * s.share.median);
            continue;
        }
        json_t *row = json_object();
        json_object_set_new(row, "context", json_integer(depth));
        slm2_bench_stat_json(row, "prefill_tps", s.prefill);
        json_object_set_new(row, "prefill_ratio", json_real(prefill_ratio));
        slm2_bench_stat_json(row, "decode_tps", s.decode);
        json_object_set_new(row, "decode_ratio", json_real(decode_ratio));
        slm2_bench_stat_json(row, "read_gb_per_s", (struct slm2_bench_stat){s.bandwidth.median / 1e9, s.bandwidth.min / 1e9, s.bandwidth.max / 1e9});
        slm2_bench_stat_json(row, "share_of_limit", s.share);
        json_array_append_new(list, row);
    }
    if (!b->o->json) printf("context 0: prefill of %d tokens, decoding behind one\n", b->o->n_prompt);
    return show_common(b, "contexts", list);
}

/* ---- several sequences at once ------------------------------------------------------------------------------------ */
/* All tokens a second of the first n sequences together; each then stands behind its prompt again. */
static slm2_status time_step(struct bench *b, const int *seq, int n, double *tps, struct slm2_err *err)
{
    double start = slm2_now_s();
    for (int i = 0; i < b->o->n_gen; i++) SLM2_TRY(slm2_engine_step(b->u.engine, n, seq, b->ids + (size_t)i * (size_t)n, b->logits, err));
    *tps = n * (b->o->n_gen / (slm2_now_s() - start));
    for (int s = 0; s < n; s++) slm2_engine_rewind(b->u.engine, s, b->o->n_prompt);
    return SLM2_OK;
}

static slm2_status bench_seqs(struct bench *b, double *tps, struct slm2_err *err)
{
    int n = b->o->repeat, rows = (int)b->seqs.n, most = b->seqs.v[rows - 1];
    int *seq = malloc((size_t)most * sizeof *seq);
    slm2_status st = seq ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "bench: no memory for %d sequences", most);
    for (int s = 0; !st && s < most; s++) {
        seq[s] = s;
        slm2_engine_rewind(b->u.engine, s, 0);
        st = slm2_engine_feed(b->u.engine, s, b->ids + s, b->o->n_prompt, b->logits, err); /* ids shifted: texts that differ */
        slm2_progress("bench", (s + 1.0) / most, "prompt %d of %d", s + 1, most);
    }
    slm2_progress_end();
    for (int r = 0; r < n; r++) /* the numbers in turn, so that a slow minute is everybody's */
        for (int i = 0; !st && i < rows; i++) st = time_step(b, seq, b->seqs.v[i], &tps[i * n + r], err);
    free(seq);
    return st;
}

static int show_seqs(struct bench *b, double *tps)
{
    json_t *list = json_array();
    double one = 0.0;
    if (!b->o->json) printf("sequences   tokens/s, all      least       most    ratio to one   (medians of %d, each behind a prompt of %d)\n", b->o->repeat, b->o->n_prompt);
    for (size_t i = 0; i < b->seqs.n; i++) {
        struct slm2_bench_stat s = slm2_bench_stat(tps + (int)i * b->o->repeat, b->o->repeat);
        if (i == 0) one = s.median;
        if (!b->o->json) {
            printf("%9d   %13.1f %10.1f %10.1f   %13.2f\n", b->seqs.v[i], s.median, s.min, s.max, s.median / one);
            continue;
        }
        json_t *row = json_object();
        json_object_set_new(row, "seqs", json_integer(b->seqs.v[i]));
        slm2_bench_stat_json(row, "decode_tps", s);
        json_object_set_new(row, "ratio", json_real(s.median / one));
        json_array_append_new(list, row);
    }
    return show_common(b, "seqs", list);
}

/* ---- the command -------------------------------------------------------------------------------------------------- */
static int ascending(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

/* A list of numbers from least on, ascending. */
static slm2_status parse_list(const char *name, const char *text, int least, int most, struct slm2_ids *list, struct slm2_err *err)
{
    SLM2_TRY(slm2_use_parse_ids(text, list, err));
    if (list->n) qsort(list->v, list->n, sizeof *list->v, ascending);
    if (list->n && (list->v[0] < least || list->v[list->n - 1] > most))
        return slm2_fail(err, SLM2_EUSAGE, "bench: --%s %s: want numbers from %d to %d", name, text, least, most);
    return SLM2_OK;
}

/* --contexts without 0 and --seqs with 1: both are there in any case. */
static slm2_status parse_lists(struct bench *b, struct slm2_err *err)
{
    const struct opts *o = b->o;
    if (*o->contexts && *o->seqs) return slm2_fail(err, SLM2_EUSAGE, "bench: --contexts and --seqs are two measurements, give one of them");
    SLM2_TRY(parse_list("contexts", o->contexts, 0, 1 << 24, &b->contexts, err));
    while (b->contexts.n && b->contexts.v[0] == 0) memmove(b->contexts.v, b->contexts.v + 1, --b->contexts.n * sizeof *b->contexts.v);
    if (*o->contexts && !b->contexts.n) return slm2_fail(err, SLM2_EUSAGE, "bench: --contexts \"%s\" names no length above 0; want something like 512,4096", o->contexts);
    if (b->contexts.n && b->contexts.v[0] <= o->n_gen)
        return slm2_fail(err, SLM2_EUSAGE, "bench: a context of %d cannot end with %d decoded tokens; lower -n", b->contexts.v[0], o->n_gen);
    if (!*o->seqs) return SLM2_OK;
    SLM2_TRY(slm2_ids_push(&b->seqs, 1, err));
    SLM2_TRY(parse_list("seqs", o->seqs, 1, 4096, &b->seqs, err));
    while (b->seqs.n > 1 && b->seqs.v[1] == 1) memmove(b->seqs.v, b->seqs.v + 1, --b->seqs.n * sizeof *b->seqs.v);
    return SLM2_OK;
}

/* Opens the model and computes one token: the first read of the weights. */
static slm2_status open_timed(struct bench *b, double *load_s, double *first_token_s, struct slm2_err *err)
{
    const struct opts *o = b->o;
    int n_seq = b->seqs.n ? b->seqs.v[b->seqs.n - 1] : 1;
    struct slm2_use_opts uo = {.model = o->model, .kv = o->kv, .exact = o->exact, .n_batch = o->n_batch, .n_seq = n_seq, .threads = o->threads, .no_tokenizer = true};
    if (n_seq > 1) uo.n_ctx = o->n_prompt + o->n_gen; /* memory for no more than that */
    SLM2_TRY(slm2_use_open(&b->u, &uo, err));
    *load_s = b->u.load_s;
    if (!b->logits) {
        b->vocab = slm2_model_vocab_size(b->u.model);
        b->logits = malloc((size_t)n_seq * (size_t)b->vocab * sizeof *b->logits);
        if (!b->logits) return slm2_fail(err, SLM2_ENOMEM, "bench: no memory for the logits of %d sequences", n_seq);
    }
    int32_t first = 0;
    double start = slm2_now_s();
    SLM2_TRY(slm2_engine_feed(b->u.engine, 0, &first, 1, b->logits, err));
    *first_token_s = slm2_now_s() - start;
    return SLM2_OK;
}

static slm2_status make_ids(struct bench *b, struct slm2_err *err)
{
    const struct opts *o = b->o;
    int most_seqs = b->seqs.n ? b->seqs.v[b->seqs.n - 1] : 1, deepest = b->contexts.n ? b->contexts.v[b->contexts.n - 1] : o->n_prompt + o->n_gen;
    int needed = b->contexts.n ? slm2_max_int(deepest, slm2_max_int(o->n_prompt, 1 + o->n_gen)) : deepest;
    if (needed > slm2_engine_n_ctx(b->u.engine))
        return slm2_fail(err, SLM2_EUSAGE, "bench: %d tokens, the model's context holds %d; lower -p, -n or --contexts", needed, slm2_engine_n_ctx(b->u.engine));
    size_t n = (size_t)needed + (size_t)most_seqs * (size_t)o->n_gen;
    b->n_ids = (int)n;
    b->ids = malloc(n * sizeof *b->ids);
    if (!b->ids) return slm2_fail(err, SLM2_ENOMEM, "bench: no memory for %zu tokens", n);
    for (size_t i = 0; i < n; i++) b->ids[i] = (int32_t)slm2_rng_below((uint64_t)o->seed, SLM2_RNG_TEST, 0, (uint64_t)i, (uint64_t)b->vocab);
    return SLM2_OK;
}

/* Another opening finds the file cached. */
static slm2_status open_warm(struct bench *b, struct slm2_err *err)
{
    size_t all = slm2_peak_rss_bytes(), alone = all > b->probe.bytes ? all - b->probe.bytes : 0; /* the block was there throughout the runs */
    b->peak_rss = b->peak_rss > alone ? b->peak_rss : alone;
    slm2_bench_probe_close(&b->probe);
    slm2_use_free(&b->u);
    return open_timed(b, &b->load_warm_s, &b->first_token_warm_s, err);
}

static slm2_status measure(struct bench *b, int *rc, struct slm2_err *err)
{
    size_t n = (size_t)b->o->repeat, rows = 1 + b->contexts.n + b->seqs.n;
    struct decoded *d = calloc(n * rows, sizeof *d);
    double *figures = calloc(n * rows, sizeof *figures);
    struct speeds s = {0};
    b->sample = calloc(2 * n, sizeof *b->sample);
    slm2_status st = d && figures && b->sample ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "bench: no memory for %zu runs", n);
    if (st) goto done;
    if (b->contexts.n) st = bench_contexts(b, figures, d, err);
    else if (b->seqs.n) st = bench_seqs(b, figures, err);
    else st = bench_prompt(b, d, &s, err);
    if (!st) st = open_warm(b, err);
    if (st) goto done;
    if (b->contexts.n) *rc = show_contexts(b, figures, d);
    else if (b->seqs.n) *rc = show_seqs(b, figures);
    else *rc = show_prompt(b, &s);
done:
    free(d);
    free(figures);
    return st;
}

static int bench_model(const struct opts *o)
{
    struct slm2_err err;
    struct bench b = {.o = o};
    int rc = 0;
    slm2_status st = slm2_cli_ctx(&b.ctx, o->threads, &err);
    if (!st) st = parse_lists(&b, &err);
    if (!st) st = open_timed(&b, &b.load_s, &b.first_token_s, &err);
    if (!st) st = make_ids(&b, &err);
    if (!st) {
        slm2_engine_rewind(b.u.engine, 0, 0);
        st = slm2_engine_feed(b.u.engine, 0, b.ids, slm2_min_int(o->n_batch, o->n_prompt), b.logits, &err); /* warms up */
    }
    b.peak_rss = slm2_peak_rss_bytes();
    if (!st) st = slm2_bench_probe_open(&b.probe, slm2_peak_get(b.ctx.k), b.ctx.n_threads, &err);
    if (!st) b.weights = weight_bytes_per_token(b.u.model);
    if (!st) st = measure(&b, &rc, &err);
    free(b.ids);
    free(b.logits);
    free(b.sample);
    slm2_ids_free(&b.contexts);
    slm2_ids_free(&b.seqs);
    slm2_bench_probe_close(&b.probe);
    slm2_use_free(&b.u);
    slm2_ctx_free(&b.ctx);
    return st ? slm2_cli_fail(&err) : rc;
}

int slm2_cmd_bench_model(int argc, char **argv)
{
    struct opts o;
    int rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = bench_model(&o);
    slm2_conf_free(table, &o);
    return rc;
}
