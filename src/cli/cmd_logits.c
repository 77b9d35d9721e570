/* cmd_logits.c - `slm2 logits`: the numbers themselves, for comparison with other programs. */
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/use.h"

struct opts {
    char *model, *adapter, *ids, *text, *tokenizer, *kv;
    bool json, all, exact;
    int threads, top;
};
static const struct slm2_opt table[] = {
    {.name = "model", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, model), .def = "!", .help = "folder, .safetensors or .gguf file", .alias = 'm'},
    SLM2_USE_ADAPTER(struct opts),
    {.name = "ids", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, ids), .help = "token ids, \"1 2 3\""},
    {.name = "text", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, text), .help = "text instead of ids; special tokens in it count"},
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, tokenizer), .choices = slm2_conf_file, .help = "file of the tokenizer, or bundled for ours; default: the adapter's, else the model's, else the bundled one"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "all logits as one JSON object"},
    {.name = "all", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, all), .help = "logits of every position, not only the last"},
    {.name = "top", .type = SLM2_OPT_INT, .offset = offsetof(struct opts, top), .lo = 1, .hi = 1000, .def = "10", .help = "without --json: the most probable tokens to show"},
    SLM2_USE_COMPUTE(struct opts, "true"),
    SLM2_CLI_THREADS(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "logits --model M --ids \"1 2 3\" [--json] [--all]\nlogits --model M --text TEXT",
    .about = "Prints the logits of the token after the given ones.\n"
             "--json: {\"n_tok\", \"vocab_size\", \"logits\": [...]}; with --all a list for every position. Else a table of the most probable tokens.",
    .examples = "slm2 logits --model runs/nano/final --text \"Once upon a\"\nslm2 logits --model runs/nano/final --ids \"1 2 3\" --json --all",
};

static void put_row(const float *x, int n)
{
    putchar('[');
    for (int i = 0; i < n; i++)
        if (isfinite(x[i])) printf(i ? ",%.9g" : "%.9g", (double)x[i]);
        else printf(i ? ",null" : "null");
    putchar(']');
}

static void put_json(const float *logits, int n_tok, int rows, int vocab, bool all)
{
    printf("{\"n_tok\":%d,\"vocab_size\":%d,\"logits\":", n_tok, vocab);
    if (!all) put_row(logits, vocab);
    else {
        putchar('[');
        for (int r = 0; r < rows; r++) {
            if (r) putchar(',');
            put_row(logits + (size_t)r * (size_t)vocab, vocab);
        }
        putchar(']');
    }
    printf("}\n");
}

/* The most probable tokens of one position; logits is used up. */
static void put_top(const struct slm2_tok *tok, float *logits, int vocab, int top)
{
    double max = -HUGE_VAL, sum = 0.0;
    for (int i = 0; i < vocab; i++) max = fmax(max, (double)logits[i]);
    for (int i = 0; i < vocab; i++) sum += exp((double)logits[i] - max);
    printf("%8s %10s %9s  %s\n", "id", "logit", "prob", tok ? "token" : "");
    for (int k = 0; k < top && k < vocab; k++) {
        int best = 0;
        for (int i = 1; i < vocab; i++)
            if (logits[i] > logits[best]) best = i;
        size_t n = 0;
        const uint8_t *bytes = tok ? slm2_tok_bytes(tok, best, &n) : NULL;
        json_t *text = bytes ? slm2_json_text((const char *)bytes, n) : NULL;
        char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
        printf("%8d %10.4f %9.5f  %s\n", best, (double)logits[best], exp((double)logits[best] - max) / sum, quoted ? quoted : "");
        free(quoted);
        json_decref(text);
        logits[best] = -INFINITY;
    }
}

static int run(const struct opts *o)
{
    struct slm2_err err;
    struct slm2_use u = {0};
    struct slm2_ids ids = {0};
    float *logits = NULL;
    slm2_status st;
    if (!*o->ids == !*o->text) return slm2_cli_usage("logits: give either --ids or --text");
    if ((st = slm2_use_open(&u, &(struct slm2_use_opts){.model = o->model, .adapter = o->adapter, .tokenizer = o->tokenizer, .kv = o->kv, .exact = o->exact, .threads = o->threads, .no_tokenizer = o->json && !*o->text}, &err)) != SLM2_OK) goto done;
    if (*o->ids) st = slm2_use_parse_ids(o->ids, &ids, &err);
    else if ((st = slm2_use_need_tok(&u, o->model, &err)) == SLM2_OK)
        st = slm2_tok_encode(u.tok, o->text, strlen(o->text), slm2_tok_flags_default(u.tok) | SLM2_TOK_SPECIAL, &ids, &err);
    if (st) goto done;
    if (ids.n == 0 || ids.n > (size_t)slm2_engine_n_ctx(u.engine)) {
        st = slm2_fail(&err, SLM2_EUSAGE, "logits: %zu tokens, want 1 to %d", ids.n, slm2_engine_n_ctx(u.engine));
        goto done;
    }
    int n = (int)ids.n, vocab = slm2_model_vocab_size(u.model), rows = o->all ? n : 1;
    logits = malloc((size_t)rows * (size_t)vocab * sizeof *logits);
    if (!logits) st = slm2_fail(&err, SLM2_ENOMEM, "no memory for the logits of %d positions", rows);
    else if (o->all) st = slm2_engine_feed_all(u.engine, 0, ids.v, n, logits, &err);
    else st = slm2_engine_feed(u.engine, 0, ids.v, n, logits, &err);
    if (st) goto done;
    if (o->json) put_json(logits, n, rows, vocab, o->all);
    else
        for (int r = 0; r < rows; r++) {
            if (o->all) printf("%safter token %d (id %d)\n", r ? "\n" : "", r, ids.v[r]);
            put_top(u.tok, logits + (size_t)r * (size_t)vocab, vocab, o->top);
        }
done:
    free(logits);
    slm2_ids_free(&ids);
    slm2_use_free(&u);
    return st ? slm2_cli_fail(&err) : 0;
}

int slm2_cmd_logits(int argc, char **argv)
{
    struct opts o;
    int rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = run(&o);
    slm2_conf_free(table, &o);
    return rc;
}
