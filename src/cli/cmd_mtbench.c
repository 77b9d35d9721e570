/* cmd_mtbench.c - `slm2 mtbench answer|judge|show`: MT-Bench in three steps, each of which can be stopped and goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/use.h"
#include "eval/mtbench.h"
#include "eval/reported.h"

/* ---- where the data are --------------------------------------------------------------------------------------------------------- */
#define DATA_ROW(T) \
    {.name = "data", .type = SLM2_OPT_STR, .offset = offsetof(T, data), .def = "data/mt_bench", .help = "folder of question.jsonl, judge_prompts.jsonl and reference_gpt-4.jsonl", .alias = 'd'}

/* judging: prompts and references too */
static slm2_status read_data(struct slm2_mt_data *d, const char *dir, bool judging, struct slm2_err *err)
{
    char path[3][4096];
    static const char *const name[3] = {"question.jsonl", "judge_prompts.jsonl", "reference_gpt-4.jsonl"};
    for (int i = 0; i < 3; i++) SLM2_TRY(slm2_path_join(path[i], sizeof path[i], dir, name[i], err));
    return slm2_mt_read(d, path[0], judging ? path[1] : NULL, judging ? path[2] : NULL, err);
}

/* ---- answer ------------------------------------------------------------------------------------------------------------------------ */
struct answer_opts {
    char *model, *adapter, *data, *out, *model_id, *tokenizer;
    int tmpl, max_new, top_k, seqs, n_ctx, threads;
    float top_p, repetition_penalty;
    int64_t seed, limit;
    bool exact, json;
};
#define OPT(field, kind) .type = SLM2_OPT_##kind, .offset = offsetof(struct answer_opts, field)
static const struct slm2_opt answer_table[] = {
    {.name = "model", OPT(model, STR), .def = "!", .help = "folder, .safetensors or .gguf file", .alias = 'm'},
    SLM2_USE_ADAPTER(struct answer_opts),
    DATA_ROW(struct answer_opts),
    {.name = "out", OPT(out, STR), .def = "!", .help = "JSONL file of the answers; those it holds are kept", .alias = 'o'},
    {.name = "model_id", OPT(model_id, STR), .help = "the model's name in records and tables; default: --model as it is, behind it + and the --adapter"},
    {.name = "template", OPT(tmpl, ENUM), .def = "auto", .help = "form of the conversation; auto: what the adapter says, else the checkpoint, else zephyr", .choices = slm2_use_templates},
    {.name = "max_new", OPT(max_new, INT), .lo = 1, .hi = 1 << 20, .def = "1024", .help = "tokens of an answer at most"},
    {.name = "top_k", OPT(top_k, INT), .lo = 0, .hi = 1 << 24, .def = "50", .help = "draw from the k most probable tokens; 0: off.  50 is transformers' default, which FastChat leaves as it is"},
    {.name = "top_p", OPT(top_p, FLOAT), .lo = 0, .hi = 1, .def = "1", .help = "draw from the most probable tokens of this mass; 1: off"},
    {.name = "repetition_penalty", OPT(repetition_penalty, FLOAT), .lo = 0.01, .hi = 100, .def = "1", .help = "divides the logits of tokens that occurred; 1: off"},
    {.name = "seqs", OPT(seqs, INT), .lo = 1, .hi = 1024, .def = "8", .help = "conversations at once; changes the speed and the memory, never an answer"},
    {.name = "n_ctx", OPT(n_ctx, INT), .lo = 0, .hi = 1 << 24, .def = "0", .help = "tokens of a conversation; 0: the model's context", .alias = 'c'},
    {.name = "limit", OPT(limit, INT64), .lo = 0, .hi = 1e12, .def = "0", .help = "questions, from the first; 0: all"},
    {.name = "tokenizer", OPT(tokenizer, STR), .choices = slm2_conf_file, .help = "file of the tokenizer, or bundled for ours; default: the adapter's, else the model's, else the bundled one"},
    {.name = "json", OPT(json, BOOL), .help = "what was done as one JSON object"},
    SLM2_USE_EXACT(struct answer_opts, "false"),
    SLM2_CLI_SEED(struct answer_opts),
    SLM2_CLI_THREADS(struct answer_opts),
    {.name = NULL},
};
#undef OPT

static int answer(const struct answer_opts *o)
{
    struct slm2_err err;
    struct slm2_use u = {0};
    struct slm2_mt_data d = {0};
    struct slm2_mt_answer_done done = {0};
    struct slm2_buf id = {0};
    slm2_buf_puts(&id, *o->model_id ? o->model_id : o->model);
    if (!*o->model_id && *o->adapter) slm2_buf_printf(&id, "+%s", o->adapter); /* adapters of one model are models of their own in tables */
    slm2_status st = slm2_buf_check(&id, &err);
    if (st == SLM2_OK) st = read_data(&d, o->data, false, &err);
    if (st == SLM2_OK) st = slm2_use_open(&u, &(struct slm2_use_opts){.model = o->model, .adapter = o->adapter, .tokenizer = o->tokenizer, .threads = o->threads, .n_ctx = 1, .n_batch = 1}, &err);
    if (st == SLM2_OK) st = slm2_use_need_tok(&u, o->model, &err);
    if (st == SLM2_OK)
        st = slm2_mt_answer(&d, &(struct slm2_mt_answer_args){.model = u.model, .tok = u.tok, .model_id = id.v, .out = o->out, .tmpl = slm2_use_template(o->tmpl, o->model, o->adapter, u.model),
                                                              .max_new = o->max_new, .top_k = o->top_k, .top_p = o->top_p, .repetition_penalty = o->repetition_penalty, .seed = o->seed, .limit = o->limit,
                                                              .n_seq = o->seqs, .n_ctx = o->n_ctx, .isa = slm2_cli_isa(), .exact = o->exact, .n_threads = o->threads, .interrupt = slm2_cli_catch_stop()}, &done, &err);
    slm2_mt_data_free(&d);
    slm2_use_free(&u);
    slm2_buf_free(&id);
    if (done.n_cut) slm2_cli_note("%d prompts were longer than the context allows: their beginning was left out", done.n_cut);
    if (done.n_long) slm2_cli_note("%d answers ended at the limit of tokens", done.n_long);
    if (st) return slm2_cli_fail(&err);
    if (o->json)
        return slm2_cli_json(json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:f}", "answers", o->out, "questions", done.n_question, "kept", done.n_kept, "new", done.n_new, "cut_prompts", done.n_cut,
                                       "cut_answers", done.n_long, "prompt_tokens", (json_int_t)done.n_prompt, "tokens", (json_int_t)done.n_token, "seconds", done.seconds));
    printf("%s: %d answers, %d of them new, in %.0f s (%.1f tokens/s)\n", o->out, done.n_kept + done.n_new, done.n_new, done.seconds, (double)done.n_token / done.seconds);
    return 0;
}

static int mtbench_answer(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "mtbench answer --model M [--adapter DIR] --data DIR --out answers.jsonl",
        .about = "Answers MT-Bench's 80 questions of two turns with the model's own chat template. Temperature by category: writing and roleplay 0.7,\n"
                 "stem and humanities 0.1, else 0. Several conversations are computed at once. Each is written when it is complete; a run that was\n"
                 "stopped or killed goes on where it was. docs/MTBENCH.md tells where the data come from.",
        .examples = "slm2 mtbench answer --model runs/demo/dpo/final --data ../mt_bench --out answers.jsonl\n"
                    "slm2 mtbench answer --model model-q8_0.gguf --model-id mine-q8 --data ../mt_bench --out q8.jsonl --seqs 16\n"
                    "slm2 mtbench answer --model models/stablelm-2-1_6b --adapter runs/sft-lora/final --model-id mine --data ../mt_bench --out lora.jsonl"};
    struct answer_opts o;
    int rc = slm2_cli_parse(&doc, answer_table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = answer(&o);
    slm2_conf_free(answer_table, &o);
    return rc;
}

/* ---- judge ------------------------------------------------------------------------------------------------------------------------- */
struct judge_opts {
    char *data, *answers, *out, *judge;
    int parallel, max_tokens, tries, timeout_s, backoff_ms;
    bool json;
};
#define OPT(field, kind) .type = SLM2_OPT_##kind, .offset = offsetof(struct judge_opts, field)
static const struct slm2_opt judge_table[] = {
    DATA_ROW(struct judge_opts),
    {.name = "answers", OPT(answers, STR), .def = "!", .help = "JSONL file of answers, ours or FastChat's"},
    {.name = "out", OPT(out, STR), .def = "!", .help = "JSONL file of the judgements; those it holds are kept", .alias = 'o'},
    {.name = "judge", OPT(judge, STR), .def = "gpt-4", .help = "model that the endpoint is asked for"},
    {.name = "parallel", OPT(parallel, INT), .lo = 1, .hi = 64, .def = "4", .help = "requests at once"},
    {.name = "max_tokens", OPT(max_tokens, INT), .lo = 1, .hi = 1 << 20, .def = "2048", .help = "tokens of a judgement"},
    {.name = "tries", OPT(tries, INT), .lo = 1, .hi = 100, .def = "8", .help = "tries of one request before it is given up"},
    {.name = "timeout_s", OPT(timeout_s, INT), .lo = 1, .hi = 86400, .def = "300", .help = "seconds that one try may take"},
    {.name = "backoff_ms", OPT(backoff_ms, INT), .lo = 1, .hi = 60000, .def = "1000", .help = "first pause between tries; it doubles, to a minute"},
    {.name = "json", OPT(json, BOOL), .help = "what was done as one JSON object"},
    {.name = NULL},
};
#undef OPT

static int judge(const struct judge_opts *o)
{
    struct slm2_err err;
    struct slm2_mt_data d = {0};
    struct slm2_mt_judge_done done = {0};
    const char *url = getenv("SLM2_JUDGE_URL"), *key = getenv("SLM2_JUDGE_KEY");
    if (!url || !*url)
        return slm2_cli_usage("mtbench judge: set SLM2_JUDGE_URL to the base of an OpenAI-compatible endpoint, such as https://api.openai.com/v1 or http://127.0.0.1:8080/v1, and SLM2_JUDGE_KEY to its key");
    if (key && *key && slm2_http_is_open(url))
        slm2_cli_note("SLM2_JUDGE_URL is http://: the key goes over the network as it is; https:// hides it");
    slm2_status st = read_data(&d, o->data, true, &err);
    if (st == SLM2_OK)
        st = slm2_mt_judge(&d, &(struct slm2_mt_judge_args){.answers = o->answers, .out = o->out, .judge = o->judge, .max_tokens = o->max_tokens, .n_parallel = o->parallel,
                                                            .http = {.url = url, .key = key, .timeout_s = o->timeout_s, .n_try = o->tries, .backoff_ms = o->backoff_ms, .interrupt = slm2_cli_catch_stop()}}, &done, &err);
    slm2_mt_data_free(&d);
    if (st == SLM2_EIO && (!key || !*key) && strstr(err.msg, url)) slm2_cli_note("SLM2_JUDGE_KEY is not set: the endpoint was asked without a key");
    if (st) return slm2_cli_fail(&err);
    if (done.n_refused) {
        slm2_fail(&err, SLM2_EIO, "%d of %d judgements were refused or had no usable reply, the others are in %s; the first: %s", done.n_refused, done.n_answer, o->out, done.refusal);
        return slm2_cli_fail(&err);
    }
    if (o->json)
        return slm2_cli_json(json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "judgements", o->out, "wanted", done.n_answer, "kept", done.n_kept, "new", done.n_new, "unrated", done.n_unrated, "retries", done.n_retry));
    printf("%s: %d judgements, %d of them new, %d of these without a rating; %d tries were repeated\n", o->out, done.n_kept + done.n_new, done.n_new, done.n_unrated, done.n_retry);
    return 0;
}

static int mtbench_judge(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "mtbench judge --answers answers.jsonl --data DIR --out judgements.jsonl [--judge gpt-4]",
        .about = "Has a judge grade both turns of every answer, with the published prompts and, for math, reasoning and coding, the reference answers.\n"
                 "The endpoint is any that speaks OpenAI's chat completions: SLM2_JUDGE_URL is its base (https://host/v1), SLM2_JUDGE_KEY its key, which is\n"
                 "never printed. Temperature 0. What the server may do later (429, 5xx, a broken reply) is tried again. A run that was stopped goes on.",
        .examples = "SLM2_JUDGE_URL=https://api.openai.com/v1 SLM2_JUDGE_KEY=... slm2 mtbench judge --answers answers.jsonl --data ../mt_bench --out judgements.jsonl\n"
                    "SLM2_JUDGE_URL=http://127.0.0.1:8080/v1 slm2 mtbench judge --judge local --answers answers.jsonl --data ../mt_bench --out local.jsonl --parallel 1"};
    struct judge_opts o;
    int rc = slm2_cli_parse(&doc, judge_table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = judge(&o);
    slm2_conf_free(judge_table, &o);
    return rc;
}

/* ---- show -------------------------------------------------------------------------------------------------------------------------- */
struct show_opts {
    char *data, *judgements, *judge, *out, *reported;
    bool json;
};
#define OPT(field, kind) .type = SLM2_OPT_##kind, .offset = offsetof(struct show_opts, field)
static const struct slm2_opt show_table[] = {
    DATA_ROW(struct show_opts),
    {.name = "judgements", OPT(judgements, STR), .def = "!", .help = "JSONL file of judgements, ours or FastChat's; of one model or several"},
    {.name = "judge", OPT(judge, STR), .help = "whose judgements; default: the only judge in the file"},
    {.name = "out", OPT(out, STR), .help = "file for the scores as JSON; as RUN/mtbench.json it is in `slm2 report RUN`", .alias = 'o'},
    {.name = "reported", OPT(reported, STR), .def = "assets/eval/reported.json", .choices = slm2_conf_file, .help = "published figures, put beside ours in table, JSON and page where the file is there"},
    {.name = "json", OPT(json, BOOL), .help = "the scores as one JSON object instead of the table"},
    {.name = NULL},
};
#undef OPT

static int show(const struct show_opts *o)
{
    struct slm2_err err;
    struct slm2_mt_data d = {0};
    struct slm2_buf out = {0};
    json_t *scores = NULL, *published = NULL;
    int rc = 0;
    slm2_status st = read_data(&d, o->data, false, &err);
    if (st == SLM2_OK) st = slm2_mt_scores(&d, o->judgements, *o->judge ? o->judge : NULL, &scores, &err);
    if (st == SLM2_OK && (slm2_path_exists(o->reported) || strcmp(o->reported, "assets/eval/reported.json") != 0)) st = slm2_reported_read(&published, o->reported, &err);
    if (st == SLM2_OK) slm2_mt_published(scores, published);
    if (st == SLM2_OK && *o->out) st = slm2_json_write(scores, o->out, &err);
    if (st == SLM2_OK && o->json) rc = slm2_cli_json(json_incref(scores));
    else if (st == SLM2_OK) {
        slm2_mt_table(scores, &out);
        st = slm2_cli_print(&out, &err);
    }
    json_decref(scores);
    json_decref(published);
    slm2_buf_free(&out);
    slm2_mt_data_free(&d);
    return st ? slm2_cli_fail(&err) : rc;
}

static int mtbench_show(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {.usage = "mtbench show --judgements judgements.jsonl --data DIR [--out RUN/mtbench.json] [--json]",
                                            .about = "Means of the ratings: by category, by turn, over all 160. A judgement without a rating is left out of the means and counted.",
                                            .examples = "slm2 mtbench show --judgements judgements.jsonl --data ../mt_bench --out runs/demo/mtbench.json"};
    struct show_opts o;
    int rc = slm2_cli_parse(&doc, show_table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = show(&o);
    slm2_conf_free(show_table, &o);
    return rc;
}

int slm2_cmd_mtbench(int argc, char **argv)
{
    static const struct { const char *name; int (*run)(int argc, char **argv); } parts[] = {{"answer", mtbench_answer}, {"judge", mtbench_judge}, {"show", mtbench_show}};
    static const char usage[] = "usage: slm2 mtbench answer --model M --data DIR --out answers.jsonl\n       slm2 mtbench judge --answers answers.jsonl --data DIR --out judgements.jsonl\n"
                                "       slm2 mtbench show --judgements judgements.jsonl --data DIR\n`slm2 mtbench answer --help` and so on tell more.\n";
    char full[32]; /* "mtbench answer": what messages call the command */
    if (argc < 2) return slm2_cli_usage("mtbench: name what to do: answer, judge or show");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) != 0) continue;
        snprintf(full, sizeof full, "mtbench %s", parts[i].name);
        argv[1] = full;
        return parts[i].run(argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    return slm2_cli_usage("mtbench: unknown part \"%s\", want answer, judge or show", argv[1]);
}
