/* cmd_merge.c - `slm2 merge`: a model and a LoRA adapter become one model. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/use.h"
#include "model/lora.h"

struct opts {
    char *model, *adapter, *out;
    int threads;
    bool force;
};
static const struct slm2_opt table[] = {
    {.name = "model", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, model), .def = "!", .help = "base model: a Hugging Face folder", .alias = 'm'},
    {.name = "adapter", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, adapter), .def = "!", .help = "PEFT folder: adapter_config.json, adapter_model.safetensors"},
    {.name = "out", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, out), .def = "!", .help = "folder for the merged model", .alias = 'o'},
    SLM2_USE_FORCE(struct opts),
    SLM2_CLI_THREADS(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "merge --model M --adapter A --out DIR [--force]",
    .about = "Writes W + (alpha / rank) B A in place of each matrix W that has an adapter, computed in fp32 and rounded once to the type of W;\n"
             "all other tensors bit for bit, config.json, and the tokenizer's files: the adapter's where it has them.\n"
             "`--adapter` of logits, generate, chat, eval, perplexity and mtbench answer computes the same without merging.",
    .examples = "slm2 merge --model models/stablelm-2-1_6b --adapter runs/sft-lora/final --out models/my-1_6b\nslm2 convert models/my-1_6b my-1_6b.gguf",
};

static int run(const struct opts *o)
{
    struct slm2_err err;
    struct slm2_ctx c;
    slm2_status st = slm2_use_may_write(o->out, o->force, &err);
    if (st == SLM2_OK) st = slm2_cli_ctx(&c, o->threads, &err);
    if (st == SLM2_OK) {
        st = slm2_lora_merge(o->model, o->adapter, o->out, &c, &err);
        slm2_ctx_free(&c);
    }
    if (st != SLM2_OK) return slm2_cli_fail(&err);
    printf("%s: %s with %s\n", o->out, o->model, o->adapter);
    return 0;
}

int slm2_cmd_merge(int argc, char **argv)
{
    struct opts o;
    int rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = run(&o);
    slm2_conf_free(table, &o);
    return rc;
}
