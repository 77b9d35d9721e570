/* cmd_bench_limits.c - `slm2 bench limits`: the ceilings of this machine, for one thread and for all. */
#include "cli/bench.h"

#include <stdio.h>

#define READ_S 0.3

struct opts {
    int threads;
    bool read_only, json;
};
static const struct slm2_opt table[] = {
    {.name = "read_only", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, read_only), .help = "the read bandwidth of all threads alone: to set beside another program"},
    SLM2_CLI_THREADS(struct opts),
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "one JSON object"},
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "bench limits [-t N] [--read-only] [--json]",
    .about = "Measures what bounds everything else: bytes a second read from memory (best of several ways: pages of 4 KiB and 2 MiB, with and\n"
             "without prefetch) and multiply-adds in registers, in fp32, bf16 and int8 (each counts as two operations).",
    .examples = "slm2 bench limits\nSLM2_ISA=avx2 slm2 bench limits -t 1 --json",
};

struct limits {
    int n_threads;
    double read, peak[SLM2_N_PEAK];
    const char *how;
    bool huge;
};

static slm2_status measure(const struct slm2_peak *peak, int n_threads, bool read_only, struct limits *l, struct slm2_err *err)
{
    struct slm2_bench_probe probe;
    *l = (struct limits){.n_threads = n_threads};
    for (int k = 0; k < SLM2_N_PEAK && !read_only; k++) l->peak[k] = slm2_bench_peak(peak, (enum slm2_peak_kind)k, n_threads);
    SLM2_TRY(slm2_bench_probe_open(&probe, peak, n_threads, err));
    l->read = slm2_bench_probe_read(&probe, READ_S);
    l->how = slm2_peak_read_name[probe.how];
    l->huge = probe.huge;
    slm2_bench_probe_close(&probe);
    return SLM2_OK;
}

static json_t *row_json(const struct limits *l, bool read_only)
{
    static const char *const name[SLM2_N_PEAK] = {"fp32_gflop_per_s", "bf16_gflop_per_s", "int8_gop_per_s"};
    json_t *j = json_object();
    json_object_set_new(j, "threads", json_integer(l->n_threads));
    json_object_set_new(j, "read_gb_per_s", json_real(l->read / 1e9));
    json_object_set_new(j, "read_how", json_string(l->how));
    json_object_set_new(j, "page_bytes", json_integer(l->huge ? 2 << 20 : 4 << 10));
    for (int k = 0; k < SLM2_N_PEAK && !read_only; k++) json_object_set_new(j, name[k], json_real(l->peak[k] / 1e9));
    return j;
}

static int print_json(const struct limits *l, int n, const char *kernels, bool read_only)
{
    json_t *j = json_object(), *rows = json_array();
    json_object_set_new(j, "kernels", json_string(kernels));
    for (int i = 0; i < n; i++) json_array_append_new(rows, row_json(&l[i], read_only));
    json_object_set_new(j, "limits", rows);
    return slm2_cli_json(j);
}

static void print_text(const struct limits *l, int n, const char *kernels, bool read_only)
{
    const char *pages[] = {"4 KiB", "2 MiB"};
    if (read_only) {
        printf("%.2f GB/s read by %d threads   (pages of %s, %s)\n", l->read / 1e9, l->n_threads, pages[l->huge], l->how);
        return;
    }
    printf("threads   read GB/s   fp32 GFLOP/s   bf16 GFLOP/s   int8 GOP/s   kernels %s; 0: no such instruction\n", kernels);
    for (int i = 0; i < n; i++)
        printf("%7d %11.2f %14.1f %14.1f %12.1f   pages of %s, %s\n", l[i].n_threads, l[i].read / 1e9, l[i].peak[SLM2_PEAK_FP32] / 1e9, l[i].peak[SLM2_PEAK_BF16] / 1e9,
               l[i].peak[SLM2_PEAK_INT8] / 1e9, pages[l[i].huge], l[i].how);
}

int slm2_cmd_bench_limits(int argc, char **argv)
{
    struct opts o;
    struct slm2_err err;
    struct slm2_ctx ctx = {0};
    struct limits l[2];
    int n = 0, rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) {
        slm2_status st = slm2_cli_ctx(&ctx, o.threads, &err); /* for the number of threads and the kernels */
        if (!st && !o.read_only) st = measure(slm2_peak_get(ctx.k), 1, false, &l[n++], &err);
        if (!st && (o.read_only || ctx.n_threads > 1)) st = measure(slm2_peak_get(ctx.k), ctx.n_threads, o.read_only, &l[n++], &err);
        rc = 0;
        if (st) rc = slm2_cli_fail(&err);
        else if (o.json) rc = print_json(l, n, ctx.k->variant, o.read_only);
        else print_text(l, n, ctx.k->variant, o.read_only);
        slm2_ctx_free(&ctx);
    }
    slm2_conf_free(table, &o);
    return rc;
}
