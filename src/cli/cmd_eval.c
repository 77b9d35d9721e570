/* cmd_eval.c - `slm2 eval`: benchmark tasks as a table and as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/use.h"
#include "eval/eval.h"

struct opts {
    char *model, *adapter, *tokenizer, *out, *samples, *ledger, *prefix;
    struct slm2_conf_list tasks; /* of char * */
    int64_t limit, seed;
    int n_shot, threads, batch_tokens;
    bool json, exact;
};
static const struct slm2_opt table[] = {
    {.name = "model", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, model), .def = "!", .help = "folder, .safetensors or .gguf file", .alias = 'm'},
    SLM2_USE_ADAPTER(struct opts),
    {.name = "tasks", .type = SLM2_OPT_STRS, .offset = offsetof(struct opts, tasks), .def = "[]", .help = "YAML files, separated by commas, or folders of them; default: configs/tasks"},
    {.name = "limit", .type = SLM2_OPT_INT64, .offset = offsetof(struct opts, limit), .lo = 0, .hi = 1e12, .def = "0", .help = "items of each task; 0: all"},
    {.name = "n_shot", .type = SLM2_OPT_INT, .offset = offsetof(struct opts, n_shot), .lo = -1, .hi = 256, .def = "0", .help = "examples before each item; 0: as the task says, -1: none"},
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, tokenizer), .help = "file of the tokenizer; default: the model's, else the bundled one"},
    {.name = "batch_tokens", .type = SLM2_OPT_INT, .offset = offsetof(struct opts, batch_tokens), .lo = 0, .hi = 1 << 20, .def = "0", .help = "tokens computed at once; 0: 1024"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "the results as one JSON object instead of the table"},
    {.name = "out", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, out), .help = "file for the JSON results", .alias = 'o'},
    {.name = "samples", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, samples), .help = "JSON file for every prompt with what the model made of it"},
    {.name = "ledger", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, ledger), .help = "SQLite ledger that receives the figures eval.TASK.METRIC"},
    {.name = "prefix", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, prefix), .help = "in front of the figures' names in the ledger: \"sft.\""},
    SLM2_USE_EXACT(struct opts, "false"),
    SLM2_CLI_SEED(struct opts),
    SLM2_CLI_THREADS(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "eval --model M [--tasks a.yml,b.yml | --tasks DIR] [--limit N] [--json] [--out FILE]",
    .about = "Runs benchmark tasks: multiple choice by log-likelihood, greedy answers compared with the right ones, perplexity of text.\n"
             "A task is a YAML file beside a JSONL file of items; configs/tasks/ holds examples.\n"
             "JSON: {\"results\": {TASK: {METRIC: x, METRIC_stderr: x}}, \"versions\", \"n-shot\", \"n-samples\", \"configs\", \"config\"}.",
    .examples = "slm2 eval --model runs/demo/sft/final --tasks configs/tasks\nslm2 eval --model model.gguf --tasks configs/tasks/nano_choice.yml --n-shot 3 --json",
};

/* "a.yml,b.yml" as two names, which lie in text. */
static slm2_status split(const struct slm2_conf_list *l, struct slm2_buf *text, const char ***names, int *n, struct slm2_err *err)
{
    int most = 1;
    for (int i = 0; i < l->n; i++) {
        slm2_buf_puts(text, ((char **)l->items)[i]);
        slm2_buf_putc(text, ',');
    }
    if (l->n == 0) slm2_buf_puts(text, "configs/tasks");
    SLM2_TRY(slm2_buf_check(text, err));
    for (size_t i = 0; i < text->n; i++) most += text->v[i] == ',';
    *names = calloc((size_t)most, sizeof **names);
    if (!*names) return slm2_fail(err, SLM2_ENOMEM, "no memory for the list of tasks");
    char *rest = NULL;
    for (char *s = strtok_r(text->v, ",", &rest); s; s = strtok_r(NULL, ",", &rest)) (*names)[(*n)++] = s;
    return SLM2_OK;
}

static int run(const struct opts *o)
{
    struct slm2_err err;
    struct slm2_use u = {0};
    struct slm2_eval_result r = {0};
    struct slm2_ledger *ledger = NULL;
    struct slm2_buf text = {0}, out = {0};
    const char **names = NULL;
    int n = 0, rc = 0;
    slm2_status st = split(&o->tasks, &text, &names, &n, &err);
    if (st == SLM2_OK) st = slm2_use_open(&u, &(struct slm2_use_opts){.model = o->model, .adapter = o->adapter, .tokenizer = o->tokenizer, .threads = o->threads, .n_ctx = 1, .n_batch = 1}, &err);
    if (st == SLM2_OK) st = slm2_use_need_tok(&u, o->model, &err);
    if (st == SLM2_OK && *o->ledger) st = slm2_ledger_open(&ledger, o->ledger, "eval", &err);
    if (st != SLM2_OK) goto done;
    st = slm2_eval(&(struct slm2_eval_args){.model = u.model, .exact = o->exact, .tok = u.tok, .model_name = o->model, .tasks = names, .n_tasks = n, .limit = o->limit, .n_shot = o->n_shot, .seed = o->seed,
                                            .isa = slm2_cli_isa(), .n_threads = o->threads, .batch_tokens = o->batch_tokens, .ledger = ledger, .prefix = o->prefix,
                                            .samples = *o->samples != '\0', .interrupt = slm2_cli_catch_stop()}, &r, &err);
    if (st == SLM2_OK && *o->out) st = slm2_json_write(r.json, o->out, &err);
    if (st == SLM2_OK && *o->samples) st = slm2_json_write(r.samples, o->samples, &err);
    if (st == SLM2_OK && o->json) rc = slm2_cli_json(json_incref(r.json));
    else if (st == SLM2_OK) {
        slm2_eval_table(&r, &out);
        st = slm2_buf_check(&out, &err);
        if (st == SLM2_OK) fwrite(out.v, 1, out.n, stdout);
    }
done:
    slm2_progress_end();
    if (ledger) {
        slm2_status closed = slm2_ledger_close(ledger, st == SLM2_OK ? &err : NULL);
        if (st == SLM2_OK) st = closed;
    }
    slm2_eval_result_free(&r);
    slm2_use_free(&u);
    slm2_buf_free(&text);
    slm2_buf_free(&out);
    free(names);
    return st ? slm2_cli_fail(&err) : rc;
}

int slm2_cmd_eval(int argc, char **argv)
{
    struct opts o;
    int n_pos, rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, &n_pos);
    if (rc < 0) rc = run(&o);
    slm2_conf_free(table, &o);
    return rc;
}
