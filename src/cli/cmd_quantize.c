/* cmd_quantize.c - `slm2 quantize`: Q8_0, Q4_0 and Q4_1 weights, what that changes in the numbers and in the perplexity of a text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/convert_cli.h"
#include "cli/use.h"
#include "eval/perplexity.h"

struct opts {
    char *type, *embed_type, *head_type, *name, *tokenizer, *text;
    int64_t max_tokens;
    int n_ctx, threads;
    bool json, force;
};
static const struct slm2_opt table[] = {
    {.name = "type", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, type), .def = "Q8_0", .help = "of the matrices: Q8_0, Q4_0, Q4_1, F16, BF16 or F32", .alias = 'q'},
    {.name = "embed_type", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, embed_type), .help = "of the embedding; default: like --type"},
    {.name = "head_type", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, head_type), .help = "of the output layer; default: like --type"},
    {.name = "text", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, text), .choices = slm2_conf_file, .help = "text or JSONL {\"text\"}: perplexity before and after"},
    {.name = "max_tokens", .type = SLM2_OPT_INT64, .offset = offsetof(struct opts, max_tokens), .lo = 1, .hi = 1e9, .def = "4096", .help = "tokens of the text that count"},
    {.name = "n_ctx", .type = SLM2_OPT_INT, .offset = offsetof(struct opts, n_ctx), .lo = 2, .hi = 1 << 20, .def = "512", .help = "window of the perplexity, at most the model's context"},
    {.name = "name", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, name), .help = "general.name of the result; default: from the source"},
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, tokenizer), .choices = slm2_conf_file, .help = "vocabulary to put in; default: the source's own"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "everything, tensor by tensor, as JSON"},
    SLM2_USE_FORCE(struct opts),
    SLM2_CLI_THREADS(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "quantize IN OUT.gguf [--type Q4_0] [--text FILE] [--force]",
    .about = "Writes a model with quantised matrices. IN is a Hugging Face folder or a .gguf file.\n"
             "Norms and biases stay F32; a matrix whose rows are no multiple of 32 becomes F16.\n"
             "The table gives, for each kind of matrix, the error relative to the weights: sqrt(sum (w' - w)^2 / sum w^2).\n"
             "With --text, the perplexity of the source and of the result, over disjoint windows of --n-ctx tokens.",
    .examples = "slm2 quantize stablelm-2-1_6b model-q8_0.gguf\nslm2 quantize stablelm-2-1_6b model-q4_0.gguf --type q4_0 --head-type q8_0 --text sample.txt",
};

/* ---- perplexity --------------------------------------------------------------------------------------------------------- */
static slm2_status perplexity(const struct opts *o, const char *model, struct slm2_ppl *p, struct slm2_err *err)
{
    struct slm2_ppl_result r;
    struct slm2_use u;
    SLM2_TRY(slm2_use_open(&u, &(struct slm2_use_opts){.model = model, .tokenizer = o->tokenizer, .threads = o->threads, .n_ctx = 1, .n_batch = 1}, err));
    slm2_status st = slm2_use_need_tok(&u, model, err);
    if (st == SLM2_OK) {
        struct slm2_ppl_opts po = {.isa = slm2_cli_isa(), .n_threads = o->threads, .n_ctx = slm2_min_int(o->n_ctx, slm2_model_n_ctx(u.model)), .max_tokens = o->max_tokens};
        st = slm2_perplexity_file(u.model, u.tok, o->text, &po, &r, err);
        *p = r.all;
    }
    slm2_use_free(&u);
    return st;
}

/* ---- report ---------------------------------------------------------------------------------------------------------------- */
/* "blk.3.attn_q.weight" -> "attn_q.weight" */
static const char *kind_of(const char *name)
{
    if (strncmp(name, "blk.", 4)) return name;
    const char *dot = strchr(name + 4, '.');
    return dot ? dot + 1 : name;
}

static void put_table(const struct slm2_convert_report *r)
{
    printf("%-22s %7s %6s %6s %10s %10s %10s\n", "matrix", "tensors", "from", "to", "relative", "rmse", "max");
    for (int i = 0; i < r->n; i++) {
        const struct slm2_convert_tensor *t = &r->v[i];
        struct slm2_quant_error e = {0};
        int n = 0;
        bool first = t->error.n > 0;
        for (int k = 0; k < r->n; k++) { /* one line a kind, at its first tensor */
            if (strcmp(kind_of(t->name), kind_of(r->v[k].name)) || t->to != r->v[k].to || r->v[k].error.n == 0) continue;
            first = first && k >= i;
            slm2_quant_error_merge(&e, &r->v[k].error);
            n++;
        }
        if (!first || t->to == SLM2_F32) continue;
        printf("%-22s %7d %6s %6s %9.4f%% %10.3g %10.3g\n", kind_of(t->name), n, slm2_dtype_info[t->from].name, slm2_dtype_info[t->to].name, 100 * slm2_quant_relative(&e),
               slm2_quant_rmse(&e), e.max_abs);
    }
}

static int put_result(const struct opts *o, const struct slm2_convert_report *r, const char *in, const char *out, const struct slm2_ppl *before, const struct slm2_ppl *after)
{
    if (o->json) {
        json_t *j = slm2_cli_convert_json(r, in, out);
        if (j && *o->text) {
            json_object_set_new(j, "perplexity", json_pack("{s:s, s:I, s:f, s:f, s:f}", "text", o->text, "tokens", (json_int_t)after->n_tokens, "before", slm2_ppl_token(before),
                                                           "after", slm2_ppl_token(after), "ratio", slm2_ppl_token(after) / slm2_ppl_token(before)));
        }
        return slm2_cli_json(j);
    }
    char a[32], b[32];
    put_table(r);
    slm2_cli_bytes(a, (double)r->bytes_in);
    slm2_cli_bytes(b, (double)r->bytes_out);
    printf("\n%s: weights of %s, were %s (%.1f%%); vocabulary: %s\n", out, b, a, 100.0 * (double)r->bytes_out / (double)r->bytes_in, r->vocabulary);
    if (*o->text) {
        double ratio = slm2_ppl_token(after) / slm2_ppl_token(before);
        printf("perplexity of %s (%lld tokens): %.4f, was %.4f (ratio %.5f, %+.3f%%)\n", o->text, (long long)after->n_tokens, slm2_ppl_token(after), slm2_ppl_token(before), ratio, 100 * (ratio - 1));
    } else {
        slm2_cli_note("give --text FILE to see what it does to the perplexity");
    }
    return 0;
}

static int run(const struct opts *o, const char *in, const char *out)
{
    struct slm2_err err;
    struct slm2_convert_opts c = slm2_convert_opts_default();
    struct slm2_convert_report r = {0};
    struct slm2_ppl before = {0}, after = {0};
    static char label[] = "quantize";
    slm2_status st;
    int rc = 0;
    size_t len = strlen(out);
    if (len <= 5 || strcmp(out + len - 5, ".gguf")) return slm2_cli_usage("quantize: the result is a GGUF file: want a name ending in .gguf, not %s", out);
    if ((st = slm2_use_may_write(out, o->force, &err)) != SLM2_OK) goto done;
    if ((st = slm2_cli_weight_type(&c.dtype, o->type, "type", &err)) != SLM2_OK) goto done;
    if ((st = slm2_cli_weight_type(&c.embed_dtype, o->embed_type, "embed-type", &err)) != SLM2_OK) goto done;
    if ((st = slm2_cli_weight_type(&c.head_dtype, o->head_type, "head-type", &err)) != SLM2_OK) goto done;
    c.name = *o->name ? o->name : NULL;
    c.tokenizer = *o->tokenizer ? o->tokenizer : NULL;
    c.progress = slm2_cli_convert_progress;
    c.user = label;
    st = slm2_convert(in, out, &c, &r, &err);
    slm2_progress_end();
    if (st == SLM2_OK && *o->text) st = perplexity(o, in, &before, &err);
    if (st == SLM2_OK && *o->text) st = perplexity(o, out, &after, &err);
    if (st == SLM2_OK) rc = put_result(o, &r, in, out, &before, &after);
done:
    slm2_convert_report_free(&r);
    return st ? slm2_cli_fail(&err) : rc;
}

int slm2_cmd_quantize(int argc, char **argv)
{
    struct opts o;
    const char *pos[2];
    int n_pos, rc = slm2_cli_parse(&doc, table, &o, argc, argv, pos, 2, &n_pos);
    if (rc < 0) rc = n_pos == 2 ? run(&o, pos[0], pos[1]) : slm2_cli_usage("quantize: want a source and a result: slm2 quantize IN OUT.gguf");
    slm2_conf_free(table, &o);
    return rc;
}
