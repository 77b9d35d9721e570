/* cmd_bench_tokenizer.c - `slm2 bench tokenizer`: how fast text becomes ids, and ids text. */
#include "cli/share.h"
#include "cli/bench.h"

#include <stdio.h>

#include "base/file.h"
#include "tok/tok.h"

struct tok_opts {
    char *tokenizer;
    int repeat, threads;
    bool json;
};
static const struct slm2_opt tok_table[] = {
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = offsetof(struct tok_opts, tokenizer), .choices = slm2_conf_file, .help = "file of the tokenizer; default: the bundled one"},
    {.name = "repeat", .type = SLM2_OPT_INT, .offset = offsetof(struct tok_opts, repeat), .lo = 1, .hi = 1000, .def = "3", .help = "runs; the best counts", .alias = 'r'},
    SLM2_CLI_THREADS(struct tok_opts),
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct tok_opts, json), .help = "one JSON object"},
    {.name = NULL},
};
static const struct slm2_cli_doc tok_doc = {
    .usage = "bench tokenizer FILE... [--tokenizer T] [-t 2] [-r 3] [--json]",
    .about = "Encodes text files, joined, on one thread and on all, decodes them again and compares. The rate of one thread, and per\n"
             "thread, is of the time the threads computed; the rate of all threads is of the clock.",
    .examples = "slm2 bench tokenizer README.md\nslm2 bench tokenizer part1.txt part2.txt -t 4 --json",
};

static slm2_status read_all(struct slm2_buf *text, const char *const *file, int n_file, struct slm2_err *err)
{
    for (int i = 0; i < n_file; i++) SLM2_TRY(slm2_file_read(text, slm2_share_arg(file[i]), (size_t)1 << 32, err));
    return slm2_buf_check(text, err);
}

static int print_json(const struct slm2_tok_bench *b)
{
    json_t *j = json_object();
    json_object_set_new(j, "mb_per_s", json_real(b->mb_per_s));
    json_object_set_new(j, "tokens", json_integer((json_int_t)b->tokens));
    json_object_set_new(j, "bytes", json_integer((json_int_t)b->bytes));
    json_object_set_new(j, "decode_mb_per_s", json_real(b->decode_mb_per_s));
    json_object_set_new(j, "open_s", json_real(b->open_s));
    json_object_set_new(j, "threads", json_integer(b->n_threads));
    json_object_set_new(j, "threads_mb_per_s", json_real(b->threads_mb_per_s));
    json_object_set_new(j, "per_thread_mb_per_s", json_real(b->per_thread_mb_per_s));
    return slm2_cli_json(j);
}

static void print_text(const struct slm2_tok_bench *b)
{
    printf("encode  %8.2f MB/s   %zu bytes, %zu tokens, one thread\n", b->mb_per_s, b->bytes, b->tokens);
    printf("        %8.2f MB/s   %d threads, each %.2f\n", b->threads_mb_per_s, b->n_threads, b->per_thread_mb_per_s);
    printf("decode  %8.2f MB/s\nopen    %8.3f s\n", b->decode_mb_per_s, b->open_s);
}

int slm2_cmd_bench_tokenizer(int argc, char **argv)
{
    enum { MAX_FILES = 64 };
    struct tok_opts o;
    const char *file[MAX_FILES];
    int n_file, rc = slm2_cli_parse(&tok_doc, tok_table, &o, argc, argv, file, MAX_FILES, &n_file);
    struct slm2_err err;
    struct slm2_buf text = {0};
    struct slm2_tok *tok = NULL;
    struct slm2_tok_bench b;
    struct slm2_ctx ctx = {0};
    slm2_status st = SLM2_OK;
    if (rc >= 0) goto done;
    if (n_file < 1) {
        rc = slm2_cli_usage("bench tokenizer: want a text file");
        goto done;
    }
    st = slm2_cli_ctx(&ctx, o.threads, &err); /* for the number of threads */
    if (!st) st = read_all(&text, file, n_file, &err);
    if (!st) st = slm2_tok_open(&tok, *o.tokenizer ? o.tokenizer : NULL, &err);
    if (!st) st = slm2_tok_bench(tok, text.v ? text.v : "", text.n, o.repeat, ctx.n_threads, &b, &err);
    if (st) {
        rc = slm2_cli_fail(&err);
    } else if (o.json) {
        rc = print_json(&b);
    } else {
        print_text(&b);
        rc = 0;
    }
done:
    slm2_ctx_free(&ctx);
    slm2_tok_free(tok);
    slm2_buf_free(&text);
    slm2_conf_free(tok_table, &o);
    return rc;
}
