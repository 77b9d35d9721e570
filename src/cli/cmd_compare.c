/* cmd_compare.c - `slm2 compare`: what quantised files lose beside their original. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/use.h"
#include "eval/quant_eval.h"

struct opts {
    char *tokenizer, *out, *data_dir, *task_dir;
    struct slm2_conf_list text, tasks; /* of char * */
    int64_t max_docs, max_tokens;
    double limit;
    int n_ctx, stride, threads;
    bool json, exact;
};
#define OPT(field, kind) .name = #field, .type = SLM2_OPT_##kind, .offset = offsetof(struct opts, field)
static const struct slm2_opt table[] = {
    {OPT(text, STRS), .def = "[]", .choices = slm2_conf_file, .help = "text (.txt) or JSONL {\"text\"} for perplexity and divergence; may be given several times"},
    {OPT(tasks, STRS), .def = "[]", .help = "names of groups and tasks (slm2 eval --list), YAML files, folders of them, for scores; separated by commas"},
    {OPT(data_dir, STR), .help = "folder of the benchmarks' data: SET/items.jsonl, SET/pool.jsonl"},
    {OPT(task_dir, STR), .def = "configs/tasks", .choices = slm2_conf_file, .help = "folder where names of tasks are looked up"},
    {OPT(limit, DOUBLE), .lo = 0, .hi = 1e12, .def = "0", .help = "items of each task, the first ones; below 1 a part of them; 0: all"},
    {OPT(n_ctx, INT), .lo = 0, .hi = 1 << 20, .def = "0", .help = "tokens of a window; 0: the model's context, at most 2048"},
    {OPT(stride, INT), .lo = 0, .hi = 1 << 20, .def = "0", .help = "tokens from window to window; 0: disjoint windows"},
    {OPT(max_docs, INT64), .lo = 0, .hi = 1e15, .def = "0", .help = "documents that count; 0: all"},
    {OPT(max_tokens, INT64), .lo = 0, .hi = 1e15, .def = "0", .help = "tokens that count; 0: all"},
    {OPT(tokenizer, STR), .choices = slm2_conf_file, .help = "file of the tokenizer, or bundled for ours; default: the original's, else the bundled one"},
    {OPT(out, STR), .help = "file for the figures as JSON, its folder is made; as RUN/compare.json they are in `slm2 report RUN`", .alias = 'o'},
    {OPT(json, BOOL), .help = "the figures as one JSON object instead of the tables"},
    SLM2_USE_EXACT(struct opts, "false"),
    SLM2_CLI_THREADS(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "compare ORIGINAL FILE... --text FILE [--tasks NAME,NAME] [--data-dir DIR] [--out RUN/compare.json]",
    .about = "For each FILE: size, perplexity, how far its next-token distribution is from the original's (KL divergence: mean, median, 99 %, largest), how often\n"
             "the most probable token is the same, and task scores beside the original's. The original is computed in fp32 throughout, each FILE as it runs.\n"
             "ORIGINAL and FILE are models: folders, .safetensors or .gguf files.",
    .examples = "slm2 compare runs/demo/selfknow/final runs/demo/model-q8_0.gguf runs/demo/model-q4_0.gguf --text assets/corpus/en.jsonl --max-tokens 5000\n"
                "slm2 compare stablelm-2-1_6b q8_0.gguf q4_k_m.gguf --text wiki.txt --n-ctx 512 --tasks nano,piqa --data-dir eval --limit 200 --out runs/big/compare.json",
};

static int run(const struct opts *o, const char *const *models, int n)
{
    struct slm2_err err;
    struct slm2_use u = {0};
    struct slm2_buf out = {0};
    struct slm2_buf text = {0};
    const char **tasks = NULL;
    json_t *result = NULL;
    int n_tasks = 0, rc = 0;
    if (n < 2) return slm2_cli_usage("compare: want the original and at least one file: slm2 compare ORIGINAL FILE... --text FILE");
    if (o->text.n < 1) return slm2_cli_usage("compare: --text FILE: want the text to compare on");
    slm2_status st = slm2_use_split(&o->tasks, &text, &tasks, &n_tasks, &err);
    if (st == SLM2_OK) st = slm2_use_open(&u, &(struct slm2_use_opts){.model = models[0], .tokenizer = o->tokenizer, .threads = o->threads, .n_ctx = 1, .n_batch = 1}, &err);
    if (st == SLM2_OK) st = slm2_use_need_tok(&u, models[0], &err);
    if (st == SLM2_OK) st = slm2_cli_folder_of(o->out, &err);
    if (st == SLM2_OK)
        st = slm2_quant_eval(&(struct slm2_quant_eval_args){.original = models[0], .model = u.model, .tok = u.tok, .files = models + 1, .n_files = n - 1, .texts = o->text.items, .n_texts = o->text.n,
                                                            .text = {.isa = slm2_cli_isa(), .exact = o->exact, .n_threads = o->threads, .n_ctx = o->n_ctx, .stride = o->stride, .max_docs = o->max_docs, .interrupt = slm2_cli_catch_stop(),
                                                                     .max_tokens = o->max_tokens},
                                                            .tasks = tasks, .n_tasks = n_tasks, .task_dir = o->task_dir, .data_dir = *o->data_dir ? o->data_dir : NULL, .limit = o->limit}, &result, &err);
    slm2_progress_end();
    if (st == SLM2_OK && *o->out) st = slm2_json_write(result, o->out, &err);
    if (st == SLM2_OK && o->json) rc = slm2_cli_json(json_incref(result));
    else if (st == SLM2_OK) {
        slm2_quant_eval_table(result, &out);
        st = slm2_cli_print(&out, &err);
    }
    json_decref(result);
    slm2_buf_free(&out);
    slm2_buf_free(&text);
    free(tasks);
    slm2_use_free(&u);
    return st ? slm2_cli_fail(&err) : rc;
}

int slm2_cmd_compare(int argc, char **argv)
{
    struct opts o;
    const char *pos[SLM2_QUANT_EVAL_MAX + 1];
    int n_pos, rc = slm2_cli_parse(&doc, table, &o, argc, argv, pos, SLM2_QUANT_EVAL_MAX + 1, &n_pos);
    if (rc < 0) rc = run(&o, pos, n_pos);
    slm2_conf_free(table, &o);
    return rc;
}
