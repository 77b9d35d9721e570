/* cli.h - what the commands share: the entry functions, options with --help, errors, output, the environment.
 *
 * A command is one file src/cli/cmd_NAME.c with `int slm2_cmd_NAME(int argc, char **argv)`; argv[0] is the command's name and
 * the result is the exit status: 0 done, 1 failed, 2 wrong usage.  stdout carries results only, everything else is stderr.
 * The environment is read in this folder and nowhere else: SLM2_ISA, SLM2_SHARE (share.h), the folder of the chat's history, the judge's address and key.
 *
 *     static const struct slm2_opt table[] = {
 *         {.name = "model", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, model), .def = "!", .help = "model to read"},
 *         SLM2_CLI_THREADS(struct opts), SLM2_CLI_SEED(struct opts), {.name = NULL}};
 *     static const struct slm2_cli_doc doc = {.usage = "logits --model M --ids \"1 2 3\"", .about = "...", .examples = "..."};
 *     struct opts o;
 *     int rc = slm2_cli_parse(&doc, table, &o, argc, argv, pos, 1, &n_pos);
 *     if (rc < 0) rc = run(&o);
 *     slm2_conf_free(table, &o);
 *     return rc; */
#ifndef SLM2_CLI_H
#define SLM2_CLI_H
#include "base/conf.h"
#include "ops/ops.h"
#include <jansson.h>

/* The commands, in the order of `slm2 help`: X(name, group, one line of help).  A new command is a row here and its file. */
#define SLM2_CLI_COMMANDS(X)                                                                           \
    X(demo, "start here", "the whole recipe at nano scale on bundled text, with a report")              \
    X(info, "start here", "what a file, a model or a run is")                                           \
    X(tokenize, "text and data", "text to token ids")                                                   \
    X(detokenize, "text and data", "token ids to text")                                                 \
    X(data, "text and data", "build, stats, verify: documents to token files")                          \
    X(init, "training", "a fresh random checkpoint of any config")                                      \
    X(pretrain, "training", "pre-training from one YAML file")                                          \
    X(sft, "training", "supervised fine-tuning on conversations")                                       \
    X(dpo, "training", "direct preference optimisation on answer pairs")                                \
    X(selfknow, "training", "self-knowledge training with the negative token")                          \
    X(ablate, "evaluation", "a grid of small models: data, digits, schedules")                          \
    X(eval, "evaluation", "benchmark tasks: tables and JSON")                                           \
    X(mtbench, "evaluation", "two-turn answers, graded by a judge behind an OpenAI endpoint")          \
    X(perplexity, "evaluation", "perplexity and bits per byte of text")                                 \
    X(compare, "evaluation", "quantised files beside their original: size, divergence, scores")        \
    X(report, "evaluation", "an HTML page of a run: curves, data, energy")                              \
    X(convert, "files", "Hugging Face folder to GGUF and back")                                         \
    X(merge, "files", "a model and its LoRA adapter to one model")                                     \
    X(quantize, "files", "Q8_0, Q4_0 and Q4_1 weights, with the loss in perplexity")                          \
    X(generate, "use", "text that continues a prompt")                                                  \
    X(chat, "use", "an interactive chat in the terminal")                                               \
    X(logits, "use", "logits of the next token")                                                        \
    X(bench, "use", "tokens per second, memory and bandwidth")

#define SLM2_CLI_DECLARE(name, group, help) int slm2_cmd_##name(int argc, char **argv);
SLM2_CLI_COMMANDS(SLM2_CLI_DECLARE)
#undef SLM2_CLI_DECLARE
int slm2_cmd_bench_train(int argc, char **argv); /* `slm2 bench train`, in cmd_pretrain.c */

/* What --help says: usage lines (without the leading "slm2 "), a description, two examples (lines, with the leading "slm2 "). */
struct slm2_cli_doc {
    const char *usage, *about, *examples;
    bool yaml_first; /* the first positional argument is a YAML file of the table, read before the options override it */
};

/* Rows that commands share: fields `int threads` and `int64_t seed` of struct T. */
#define SLM2_CLI_THREADS(T)                                                                             \
    {.name = "threads", .type = SLM2_OPT_INT, .offset = offsetof(T, threads), .lo = 0, .hi = 1024, .def = "0", \
     .help = "threads; 0: one per core", .alias = 't'}
#define SLM2_CLI_SEED(T)                                                                                \
    {.name = "seed", .type = SLM2_OPT_INT64, .offset = offsetof(T, seed), .lo = 0, .hi = 9007199254740991.0, .def = "0", \
     .help = "seed of all random numbers"}

/* Sets obj to the defaults, then to the arguments.  Returns -1 to go on; otherwise the exit status: 0 after --help, 2 after
 * wrong usage, 1 for a YAML file that cannot be read (the message is printed).  Required rows are checked.  obj may be
 * given to slm2_conf_free whatever the result.  argv[0] is named in the hint: "bench tokenizer" for a command below a command.  pos may be NULL when max_pos is 0; too many positional arguments are an error. */
int slm2_cli_parse(const struct slm2_cli_doc *doc, const struct slm2_opt *table, void *obj, int argc, char **argv, const char **pos, int max_pos, int *n_pos);

int slm2_cli_fail(const struct slm2_err *err);                      /* "slm2: error: ..." on stderr; 2 for SLM2_EUSAGE, else 1 */
int slm2_cli_usage(const char *fmt, ...) SLM2_PRINTF(1, 2);         /* the same for a wrong use that the command itself finds; 2 */
void slm2_cli_note(const char *fmt, ...) SLM2_PRINTF(1, 2);         /* a line of talk on stderr */
const char *slm2_cli_isa(void);                                     /* SLM2_ISA, or NULL */
/* The context of all computation: backend "cpu", the ISA of the environment, so many threads. */
slm2_status slm2_cli_ctx(struct slm2_ctx *c, int threads, struct slm2_err *err);
/* Prints text on stdout; SLM2_ENOMEM when it could not be built, SLM2_EIO when it could not be written. */
slm2_status slm2_cli_print(const struct slm2_buf *text, struct slm2_err *err);
/* Prints a JSON value as one line on stdout and releases it; 0, or 1 when it could not be built or written. */
int slm2_cli_json(json_t *j);

/* SIGINT and SIGTERM ask to stop: what the pointer points to becomes their number, a second one ends the program at once.
 * For pretrain, chat and whatever must finish something first. */
#include <signal.h>
const volatile sig_atomic_t *slm2_cli_catch_stop(void);
void slm2_cli_clear_stop(void); /* the request was served */
#endif
