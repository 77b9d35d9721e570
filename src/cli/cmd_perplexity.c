/* cmd_perplexity.c - `slm2 perplexity`: how well a model predicts the text of files, by language, and how far it is from another. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/share.h"
#include "cli/use.h"
#include "eval/compare.h"

enum { MAX_FILES = 256 };

struct opts {
    char *model, *adapter, *tokenizer, *lang, *against, *logits;
    int64_t max_docs, max_tokens;
    int n_ctx, stride, threads;
    bool jsonl, json, exact;
};
static const struct slm2_opt table[] = {
    {.name = "model", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, model), .def = "!", .help = "folder, .safetensors or .gguf file", .alias = 'm'},
    SLM2_USE_ADAPTER(struct opts),
    {.name = "n_ctx", .type = SLM2_OPT_INT, .offset = offsetof(struct opts, n_ctx), .lo = 0, .hi = 1 << 20, .def = "0", .help = "tokens of a window; 0: the model's context, at most 2048"},
    {.name = "stride", .type = SLM2_OPT_INT, .offset = offsetof(struct opts, stride), .lo = 0, .hi = 1 << 20, .def = "0", .help = "tokens from window to window; 0: disjoint windows"},
    {.name = "jsonl", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, jsonl), .help = "every file is JSONL, whatever its name"},
    {.name = "lang", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, lang), .help = "language of text that names none; default: the file's name"},
    {.name = "max_docs", .type = SLM2_OPT_INT64, .offset = offsetof(struct opts, max_docs), .lo = 0, .hi = 1e15, .def = "0", .help = "documents that count; 0: all"},
    {.name = "max_tokens", .type = SLM2_OPT_INT64, .offset = offsetof(struct opts, max_tokens), .lo = 0, .hi = 1e15, .def = "0", .help = "tokens that count; 0: all"},
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, tokenizer), .choices = slm2_conf_file, .help = "file of the tokenizer, or bundled for ours; default: the adapter's, else the model's, else the bundled one"},
    {.name = "against", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, against), .help = "compare with this model, or with `exact`: the same file, all products in fp32"},
    {.name = "logits", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, logits), .help = "with --against: these logits instead of the model's own, fp32 rows of another program"},
    SLM2_USE_EXACT(struct opts, "false"),
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "one JSON object instead of the table"},
    SLM2_CLI_THREADS(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "perplexity --model M FILE... [--n-ctx N] [--stride N] [--json]\nperplexity --model M FILE... --against REF|exact [--json]",
    .about = "Files are text (one document) or JSONL {\"text\", \"lang\"}, plain, .gz or .zst. Every document stands alone, <|endoftext|> before it.\n"
             "The table has a line for each language; bits per byte compares models with different tokenizers.\n"
             "With --stride, windows overlap and a token counts in the first window that can predict it.\n"
             "With --against, the next-token distributions of every position are compared with a reference's: mean KL(reference || model),\n"
             "the largest difference of a probability, how often the most probable token is the same.",
    .examples = "slm2 perplexity --model runs/nano/final assets/corpus/de.jsonl assets/corpus/fr.jsonl\nslm2 perplexity --model model.gguf book.txt --n-ctx 512 --stride 256 --json\nslm2 perplexity --model model-q4_0.gguf book.txt --max-tokens 1000 --against exact",
};

static slm2_status compare(const struct opts *o, const struct slm2_use *u, const char *const *files, int n, const struct slm2_ppl_opts *po, struct slm2_compare *c, struct slm2_err *err)
{
    bool itself = strcmp(o->against, "exact") == 0;
    struct slm2_model *other = NULL;
    slm2_status st = itself ? SLM2_OK : slm2_model_open(&other, o->against, err);
    struct slm2_compare_side ref = {.m = itself ? u->model : other, .exact = itself || o->exact};
    struct slm2_compare_side side = {.m = u->model, .exact = o->exact, .logits = *o->logits ? o->logits : NULL};
    if (st == SLM2_OK) st = slm2_compare_files(&ref, &side, 1, u->tok, files, n, po, c, err);
    slm2_model_free(other);
    return st;
}

static int run(const struct opts *o, const char *const *files, int n)
{
    struct slm2_ppl_result r;
    struct slm2_compare c;
    struct slm2_err err;
    struct slm2_use u;
    struct slm2_buf out = {0};
    int rc = 0;
    if (n == 0) return slm2_cli_usage("perplexity: want at least one file: slm2 perplexity --model M FILE...");
    if (*o->logits && !*o->against) return slm2_cli_usage("perplexity: --logits wants --against: the model that they are compared with");
    slm2_status st = slm2_use_open(&u, &(struct slm2_use_opts){.model = o->model, .adapter = o->adapter, .tokenizer = o->tokenizer, .threads = o->threads, .n_ctx = 1, .n_batch = 1}, &err);
    if (st != SLM2_OK) return slm2_cli_fail(&err);
    struct slm2_ppl_opts po = {.isa = slm2_cli_isa(), .interrupt = slm2_cli_catch_stop(), .exact = o->exact, .n_threads = o->threads, .n_ctx = o->n_ctx, .stride = o->stride, .max_docs = o->max_docs, .max_tokens = o->max_tokens, .jsonl = o->jsonl,
                               .lang = *o->lang ? o->lang : NULL};
    st = slm2_use_need_tok(&u, o->model, &err);
    if (st == SLM2_OK) st = *o->against ? compare(o, &u, files, n, &po, &c, &err) : slm2_perplexity_files(u.model, u.tok, files, n, &po, &r, &err);
    long long n_bad = st != SLM2_OK ? 0 : *o->against ? c.n_bad : r.n_bad;
    if (n_bad) slm2_cli_note("%lld bad lines were passed over", n_bad);
    if (st == SLM2_OK && o->json) rc = slm2_cli_json(*o->against ? slm2_compare_json(&c) : slm2_ppl_result_json(&r));
    else if (st == SLM2_OK) {
        if (*o->against) slm2_compare_text(&c, &out);
        else slm2_ppl_table(&r, &out);
        st = slm2_cli_print(&out, &err);
    }
    slm2_buf_free(&out);
    slm2_use_free(&u);
    return st ? slm2_cli_fail(&err) : rc;
}

int slm2_cmd_perplexity(int argc, char **argv)
{
    struct opts o;
    const char *pos[MAX_FILES];
    int n_pos, rc = slm2_cli_parse(&doc, table, &o, argc, argv, pos, MAX_FILES, &n_pos);
    for (int i = 0; rc < 0 && i < n_pos; i++) pos[i] = slm2_share_arg(pos[i]);
    if (rc < 0) rc = run(&o, pos, n_pos);
    slm2_conf_free(table, &o);
    return rc;
}
