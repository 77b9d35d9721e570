/* cmd_bench_tokenizer.c - `slm2 bench tokenizer`: how fast text becomes ids, and ids text. */
#include "cli/bench.h"

#include <stdio.h>

#include "base/file.h"
#include "tok/tok.h"

struct tok_opts {
    char *tokenizer;
    int repeat;
    bool json;
};
static const struct slm2_opt tok_table[] = {
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = offsetof(struct tok_opts, tokenizer), .help = "file of the tokenizer; default: the bundled one"},
    {.name = "repeat", .type = SLM2_OPT_INT, .offset = offsetof(struct tok_opts, repeat), .lo = 1, .hi = 1000, .def = "3", .help = "runs; the best counts", .alias = 'r'},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct tok_opts, json), .help = "one JSON object"},
    {.name = NULL},
};
static const struct slm2_cli_doc tok_doc = {
    .usage = "bench tokenizer FILE [--tokenizer T] [-r 3] [--json]",
    .about = "Encodes a text file on one thread, decodes it again and compares.",
    .examples = "slm2 bench tokenizer README.md\nslm2 bench tokenizer corpus.txt --json",
};

int slm2_cmd_bench_tokenizer(int argc, char **argv)
{
    struct tok_opts o;
    const char *file = NULL;
    int n_pos, rc = slm2_cli_parse(&tok_doc, tok_table, &o, argc, argv, &file, 1, &n_pos);
    struct slm2_err err;
    struct slm2_map map = {0};
    struct slm2_tok *tok = NULL;
    struct slm2_tok_bench b;
    slm2_status st = SLM2_OK;
    if (rc >= 0) goto done;
    if (n_pos != 1) {
        rc = slm2_cli_usage("bench tokenizer: want a text file");
        goto done;
    }
    st = slm2_map_open(&map, file, &err);
    if (!st) st = slm2_tok_open(&tok, *o.tokenizer ? o.tokenizer : NULL, &err);
    if (!st) st = slm2_tok_bench(tok, (const char *)map.p, map.n, o.repeat, &b, &err);
    if (st) {
        rc = slm2_cli_fail(&err);
        goto done;
    }
    rc = 0;
    if (!o.json) {
        printf("encode  %8.2f MB/s   %zu bytes, %zu tokens\ndecode  %8.2f MB/s\nopen    %8.3f s\n", b.mb_per_s, b.bytes, b.tokens, b.decode_mb_per_s, b.open_s);
        goto done;
    }
    json_t *j = json_object();
    json_object_set_new(j, "mb_per_s", json_real(b.mb_per_s));
    json_object_set_new(j, "tokens", json_integer((json_int_t)b.tokens));
    json_object_set_new(j, "bytes", json_integer((json_int_t)b.bytes));
    json_object_set_new(j, "decode_mb_per_s", json_real(b.decode_mb_per_s));
    json_object_set_new(j, "open_s", json_real(b.open_s));
    rc = slm2_cli_json(j);
done:
    slm2_tok_free(tok);
    slm2_map_close(&map);
    slm2_conf_free(tok_table, &o);
    return rc;
}
