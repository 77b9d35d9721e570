/* cmd_convert.c - `slm2 convert`: a model from a Hugging Face folder to GGUF, back, or into other types. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/convert_cli.h"
#include "cli/use.h"

struct opts {
    char *dtype, *name, *tokenizer, *chat_template;
    int64_t max_shard_mb;
    bool json, force;
};
static const struct slm2_opt table[] = {
    {.name = "dtype", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, dtype), .def = "keep", .help = "type of the matrices: keep, F32, F16, BF16; Q8_0, Q4_0, Q4_1 in .gguf files"},
    {.name = "name", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, name), .help = "general.name of a GGUF file; default: from the source"},
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, tokenizer), .choices = slm2_conf_file, .help = "vocabulary to put in; default: the source's own, else Arcade100k when the model has rows for it"},
    {.name = "chat_template", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, chat_template), .help = "zephyr, chatml or a file of Jinja text; default: the source's own"},
    {.name = "max_shard_mb", .type = SLM2_OPT_INT64, .offset = offsetof(struct opts, max_shard_mb), .lo = 0, .hi = 1e9, .def = "5000", .help = "largest safetensors file, 1e6 bytes; 0: one file"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "what was written, tensor by tensor, as JSON"},
    SLM2_USE_FORCE(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "convert IN OUT.gguf [--force]\nconvert IN OUT_FOLDER",
    .about = "Converts a model: IN is a Hugging Face folder or a .gguf file, OUT a name ending in .gguf or a folder.\n"
             "Without --dtype nothing is lost: F32, F16 and BF16 weights are kept bit for bit (GGUF holds norms and biases as F32).\n"
             "Quantised matrices become F16 in a folder.",
    .examples = "slm2 convert stablelm-2-1_6b stablelm-2-1_6b.gguf\nslm2 convert model.gguf model-folder --dtype bf16",
};

static int run(const struct opts *o, const char *in, const char *out)
{
    struct slm2_err err;
    struct slm2_convert_opts c = slm2_convert_opts_default();
    struct slm2_convert_report r = {0};
    char *template = NULL;
    static char label[] = "convert";
    slm2_status st;
    int rc = 0;
    if ((st = slm2_use_may_write(out, o->force, &err)) != SLM2_OK) goto done;
    if ((st = slm2_cli_weight_type(&c.dtype, o->dtype, "dtype", &err)) != SLM2_OK) goto done;
    if ((st = slm2_cli_chat_template(&template, o->chat_template, &err)) != SLM2_OK) goto done;
    c.name = *o->name ? o->name : NULL;
    c.tokenizer = *o->tokenizer ? o->tokenizer : NULL;
    c.chat_template = template;
    c.max_shard_bytes = (size_t)o->max_shard_mb * 1000000;
    c.progress = slm2_cli_convert_progress;
    c.user = label;
    st = slm2_convert(in, out, &c, &r, &err);
    slm2_progress_end();
    if (st != SLM2_OK) goto done;
    if (o->json) {
        rc = slm2_cli_json(slm2_cli_convert_json(&r, in, out));
    } else {
        char bytes[32];
        slm2_cli_bytes(bytes, (double)r.bytes_out);
        printf("%s: %d tensors, %s; vocabulary: %s\n", out, r.n, bytes, r.vocabulary);
    }
done:
    free(template);
    slm2_convert_report_free(&r);
    return st ? slm2_cli_fail(&err) : rc;
}

int slm2_cmd_convert(int argc, char **argv)
{
    struct opts o;
    const char *pos[2];
    int n_pos, rc = slm2_cli_parse(&doc, table, &o, argc, argv, pos, 2, &n_pos);
    if (rc < 0) rc = n_pos == 2 ? run(&o, pos[0], pos[1]) : slm2_cli_usage("convert: want a source and a result: slm2 convert IN OUT");
    slm2_conf_free(table, &o);
    return rc;
}
