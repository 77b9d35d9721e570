/* cmd_eval.c - `slm2 eval`: benchmark tasks as a table and as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/use.h"
#include "eval/eval.h"
#include "eval/harness.h"
#include "eval/reported.h"
#include "eval/show.h"

struct opts {
    char *model, *adapter, *tokenizer, *out, *out_dir, *samples, *markdown, *reported, *keep, *ledger, *prefix, *data_dir, *task_dir;
    struct slm2_conf_list tasks; /* of char * */
    int64_t seed, show;
    double limit;
    int n_shot, threads, batch_tokens, bootstrap_iters;
    bool json, exact, list, one_by_one;
};
static const struct slm2_opt table[] = {
    {.name = "model", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, model), .help = "folder, .safetensors or .gguf file", .alias = 'm'},
    SLM2_USE_ADAPTER(struct opts),
    {.name = "tasks", .type = SLM2_OPT_STRS, .offset = offsetof(struct opts, tasks), .def = "[]", .help = "names of groups and tasks (--list), YAML files, folders of them; separated by commas; default: nano"},
    {.name = "data_dir", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, data_dir), .help = "folder of the benchmarks' data: SET/items.jsonl, SET/pool.jsonl"},
    {.name = "task_dir", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, task_dir), .def = "configs/tasks", .choices = slm2_conf_file, .help = "folder where names of tasks are looked up"},
    {.name = "list", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, list), .help = "only names the groups and tasks; no model"},
    {.name = "show", .type = SLM2_OPT_INT64, .offset = offsetof(struct opts, show), .lo = 0, .hi = 1e12, .def = "0", .help = "only prints the requests of so many items of each task; no model"},
    {.name = "limit", .type = SLM2_OPT_DOUBLE, .offset = offsetof(struct opts, limit), .lo = 0, .hi = 1e12, .def = "0", .help = "items of each task, the first ones; below 1 a part of them; 0: all"},
    {.name = "n_shot", .type = SLM2_OPT_INT, .offset = offsetof(struct opts, n_shot), .lo = -1, .hi = 256, .def = "-1", .help = "examples before each item; -1: as the task says, 0: none"},
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, tokenizer), .choices = slm2_conf_file, .help = "file of the tokenizer, or bundled for ours; default: the adapter's, else the model's, else the bundled one"},
    {.name = "batch_tokens", .type = SLM2_OPT_INT, .offset = offsetof(struct opts, batch_tokens), .lo = 0, .hi = 1 << 20, .def = "0", .help = "tokens computed at once; 0: 1024"},
    {.name = "one_by_one", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, one_by_one), .help = "each request in a pass of its own: the same figures, slowly; to measure what the batches gain"},
    {.name = "keep", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, keep), .help = "folder where answers are kept as they come: after a stop or a crash the same command goes on from there"},
    {.name = "bootstrap_iters", .type = SLM2_OPT_INT, .offset = offsetof(struct opts, bootstrap_iters), .lo = -1, .hi = 1 << 24, .def = "0", .help = "resamples for the standard error of a perplexity; 0: 100000, -1: none"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "the results as one JSON object instead of the table"},
    {.name = "out", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, out), .help = "file for the JSON results", .alias = 'o'},
    {.name = "out_dir", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, out_dir), .help = "folder for the files of lm-evaluation-harness: results_TIME.json, samples_TASK_TIME.jsonl"},
    {.name = "markdown", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, markdown), .help = "file for tables beside the published figures, with the differences in standard errors; -: stdout, instead of the table"},
    {.name = "reported", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, reported), .def = "assets/eval/reported.json", .choices = slm2_conf_file, .help = "the published figures"},
    {.name = "samples", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, samples), .help = "JSON file for every prompt with what the model made of it"},
    {.name = "ledger", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, ledger), .help = "SQLite ledger that receives the figures eval.TASK.METRIC"},
    {.name = "prefix", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, prefix), .help = "in front of the figures' names in the ledger: \"sft.\""},
    SLM2_USE_EXACT(struct opts, "false"),
    SLM2_CLI_SEED(struct opts),
    SLM2_CLI_THREADS(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "eval --model M [--tasks NAME,NAME] [--data-dir DIR] [--limit N] [--json] [--out FILE]",
    .about = "Runs benchmark tasks: multiple choice by log-likelihood, greedy answers compared with the right ones, perplexity of text.\n"
             "A task is a YAML file in configs/tasks/; the data of the benchmarks are yours to fetch: docs/EVALUATION.md says from where.\n"
             "JSON: {\"results\": {TASK: {METRIC: x, METRIC_stderr: x}}, \"versions\", \"n-shot\", \"n-samples\", \"configs\", \"config\"}.",
    .examples = "slm2 eval --model runs/demo/sft/final\nslm2 eval --list\nslm2 eval --tasks arc_challenge --data-dir eval --show 1\n"
                "slm2 eval --model model.gguf --tasks leaderboard --data-dir eval --limit 100 --json",
};

/* The names that are asked for, in text; nano when there are none. */
static slm2_status split(const struct slm2_conf_list *l, struct slm2_buf *text, const char ***names, int *n, struct slm2_err *err)
{
    char nano[] = "nano", *name = nano;
    const struct slm2_conf_list by_default = {.items = &name, .n = 1};
    return slm2_use_split(l->n ? l : &by_default, text, names, n, err);
}

/* What needs no model. */
static int look(const struct opts *o)
{
    struct slm2_err err;
    struct slm2_suite s = {0};
    struct slm2_buf text = {0}, out = {0};
    const char **names = NULL;
    int n = 0;
    slm2_status st = SLM2_OK;
    if (o->list) st = slm2_show_list(o->task_dir, &out, &err);
    else {
        st = split(&o->tasks, &text, &names, &n, &err);
        if (st == SLM2_OK) st = slm2_suite_open(&s, names, n, o->task_dir, o->n_shot, &err);
        if (st == SLM2_OK) st = slm2_show(&s, o->data_dir, o->show, o->seed, o->json, &out, &err);
    }
    if (st == SLM2_OK) st = slm2_cli_print(&out, &err);
    slm2_suite_free(&s);
    slm2_buf_free(&text);
    slm2_buf_free(&out);
    free(names);
    return st ? slm2_cli_fail(&err) : 0;
}

static slm2_status write_markdown(const struct opts *o, const struct slm2_eval_result *r, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    json_t *tables;
    SLM2_TRY(slm2_reported_read(&tables, o->reported, err));
    slm2_status st = slm2_reported_markdown(r, tables, o->model, &text, err);
    if (st == SLM2_OK && strcmp(o->markdown, "-") == 0) st = slm2_cli_print(&text, err);
    else if (st == SLM2_OK) st = slm2_file_write(o->markdown, text.v, text.n, err);
    json_decref(tables);
    slm2_buf_free(&text);
    return st;
}

static int run(const struct opts *o)
{
    struct slm2_err err;
    struct slm2_use u = {0};
    struct slm2_eval_args args;
    struct slm2_eval_result r = {0};
    char path[4096];
    struct slm2_ledger *ledger = NULL;
    struct slm2_buf text = {0}, out = {0};
    const char **names = NULL;
    int n = 0, rc = 0;
    slm2_status st = split(&o->tasks, &text, &names, &n, &err);
    if (st == SLM2_OK) st = slm2_use_open(&u, &(struct slm2_use_opts){.model = o->model, .adapter = o->adapter, .tokenizer = o->tokenizer, .threads = o->threads, .n_ctx = 1, .n_batch = 1}, &err);
    if (st == SLM2_OK) st = slm2_use_need_tok(&u, o->model, &err);
    const char *const results[] = {o->out, o->samples, o->markdown, o->ledger};
    for (size_t i = 0; i < sizeof results / sizeof results[0] && st == SLM2_OK; i++) st = slm2_cli_folder_of(results[i], &err);
    if (st == SLM2_OK && *o->out_dir) st = slm2_dir_make(o->out_dir, &err);
    if (st == SLM2_OK && *o->ledger) st = slm2_ledger_append(&ledger, o->ledger, "eval", &err);
    if (st != SLM2_OK) goto done;
    args = (struct slm2_eval_args){.model = u.model, .exact = o->exact, .tok = u.tok, .model_name = o->model, .adapter = o->adapter, .tasks = names, .n_tasks = n, .task_dir = o->task_dir, .data_dir = o->data_dir, .limit = o->limit,
                                   .n_shot = o->n_shot, .seed = o->seed, .isa = slm2_cli_isa(), .n_threads = o->threads, .batch_tokens = o->batch_tokens, .one_by_one = o->one_by_one, .keep = *o->keep ? o->keep : NULL,
                                   .bootstrap_iters = o->bootstrap_iters, .ledger = ledger, .prefix = o->prefix, .samples = *o->samples || *o->out_dir, .interrupt = slm2_cli_catch_stop()};
    st = slm2_eval(&args, &r, &err);
    if (st == SLM2_OK && *o->out) st = slm2_json_write(r.json, o->out, &err);
    if (st == SLM2_OK && *o->samples) st = slm2_json_write(r.samples, o->samples, &err);
    if (st == SLM2_OK && *o->out_dir) st = slm2_harness_write(&r, &args, o->out_dir, path, sizeof path, &err);
    if (st == SLM2_OK && *o->out_dir) slm2_cli_note("%s", path);
    if (st == SLM2_OK && *o->markdown) st = write_markdown(o, &r, &err);
    if (st == SLM2_OK && o->json) rc = slm2_cli_json(json_incref(r.json));
    else if (st == SLM2_OK && strcmp(o->markdown, "-") != 0) {
        slm2_eval_table(&r, &out);
        st = slm2_cli_print(&out, &err);
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
    if (rc < 0 && !o.list && !o.show && !*o.model) {
        struct slm2_err err;
        slm2_fail(&err, SLM2_EUSAGE, "--model is missing; only --list and --show do without");
        rc = slm2_cli_fail(&err);
    }
    if (rc < 0) rc = o.list || o.show ? look(&o) : run(&o);
    slm2_conf_free(table, &o);
    return rc;
}
