/* use.h - what the commands that run a model share: opening model, engine and tokenizer, lists of ids. */
#ifndef SLM2_CLI_USE_H
#define SLM2_CLI_USE_H
#include "base/conf.h"
#include "base/json.h"
#include "infer/engine.h"
#include "tok/chat.h"
#include "tok/tok.h"

struct slm2_use {
    struct slm2_model *model;
    struct slm2_engine *engine;
    struct slm2_tok *tok; /* NULL: the model has no tokenizer and the bundled one has other ids */
    double load_s;        /* model and engine */
};
struct slm2_use_opts {
    const char *adapter;           /* PEFT folder beside the model's weights; NULL or "": none */
    const char *model, *tokenizer; /* tokenizer "": the adapter's own, else the model's, else the bundled one */
    const char *kv;                /* "auto", "f32", "f16", "bf16" or "q8_0" */
    bool exact;                    /* all products in fp32 */
    int n_ctx, n_batch, n_seq, threads; /* n_seq: sequences held at once, 0: one */
    bool no_tokenizer;
};
slm2_status slm2_use_open(struct slm2_use *u, const struct slm2_use_opts *o, struct slm2_err *err); /* on failure nothing is held */
void slm2_use_free(struct slm2_use *u);
slm2_status slm2_cli_folder_of(const char *path, struct slm2_err *err); /* the folder of a result, made where it is not there: before the long computation, not behind it; "" and "-" want none */
slm2_status slm2_use_need_tok(const struct slm2_use *u, const char *model, struct slm2_err *err); /* SLM2_EUSAGE without tokenizer */

/* A field `adapter` of the settings, and its row. */
#define SLM2_USE_ADAPTER(T) {.name = "adapter", .type = SLM2_OPT_STR, .offset = offsetof(T, adapter), .help = "PEFT folder (LoRA) that is computed beside the model's weights"}
/* Writing a model: what lies there already stays, unless the settings' field `force` says otherwise.  SLM2_EUSAGE for a file that exists and a folder that holds a model or
 * an adapter. */
slm2_status slm2_use_may_write(const char *out, bool force, struct slm2_err *err);
#define SLM2_USE_FORCE(T) {.name = "force", .type = SLM2_OPT_BOOL, .offset = offsetof(T, force), .help = "write over the model that is there already"}
/* How exactly to compute: fields `exact` and `kv` of the settings, and their rows. */
#define SLM2_USE_EXACT(T, by_default)                                                                                                               \
    {.name = "exact", .type = SLM2_OPT_BOOL, .offset = offsetof(T, exact), .def = by_default,                                                       \
     .help = "multiply in fp32 whatever the weights' type; else (--no-exact) activations are rounded to int8 or bf16 for packed and bf16 weights"}
#define SLM2_USE_COMPUTE(T, exact_by_default)                                                                                                       \
    SLM2_USE_EXACT(T, exact_by_default),                                                                                                            \
    {.name = "kv", .type = SLM2_OPT_STR, .offset = offsetof(T, kv), .def = "auto", .help = "type of the key/value cache: f32, f16, bf16, q8_0; auto: as exact as the weights"}

/* How to draw: a field `sampling` of the command's settings, and its rows. */
struct slm2_use_sampling {
    float temperature, top_p, min_p, repetition_penalty;
    int top_k;
    bool greedy;
    int64_t seed;
};
#define SLM2_USE_ROW(T, field, kind) .name = #field, .type = SLM2_OPT_##kind, .offset = offsetof(T, sampling.field)
#define SLM2_USE_SAMPLING(T)                                                                                                                       \
    {SLM2_USE_ROW(T, greedy, BOOL), .help = "always the most probable token: --temperature 0"},                                                      \
    {SLM2_USE_ROW(T, temperature, FLOAT), .lo = 0, .hi = 100, .def = "0.7", .help = "flattens (>1) or sharpens (<1) the distribution; 0: greedy"},   \
    {SLM2_USE_ROW(T, top_k, INT), .lo = 0, .hi = 1 << 24, .def = "0", .help = "only the k most probable tokens; 0: off"},                            \
    {SLM2_USE_ROW(T, top_p, FLOAT), .lo = 0, .hi = 1, .def = "0.95", .help = "only the most probable tokens of this mass; 1: off"},                  \
    {SLM2_USE_ROW(T, min_p, FLOAT), .lo = 0, .hi = 1, .def = "0", .help = "only tokens with this share of the best one's probability; 0: off"},      \
    {SLM2_USE_ROW(T, repetition_penalty, FLOAT), .lo = 0.01, .hi = 100, .def = "1", .help = "divides the logits of tokens that occurred; 1: off"},   \
    {SLM2_USE_ROW(T, seed, INT64), .lo = 0, .hi = 9007199254740991.0, .def = "0", .help = "seed of the draws: the same seed gives the same text"}
/* Draws among the ids that model and tokenizer share: padding rows of the head never come out. */
slm2_status slm2_use_sampler(const struct slm2_use *u, const struct slm2_use_sampling *o, struct slm2_sampler **s, struct slm2_err *err);

/* Choices of a setting "template", and the template that one of them means: 0, auto, is what the adapter's folder says, else the checkpoint (path, open as m),
 * else zephyr. */
extern const char *const slm2_use_templates[];
enum slm2_chat_template slm2_use_template(int choice, const char *path, const char *adapter, const struct slm2_model *m);

/* "a,b" and "c" of a list of strings as the three names a, b, c: *names is freed by the caller, the names themselves lie in text.  Names of shared
 * files are found (share.h). */
slm2_status slm2_use_split(const struct slm2_conf_list *l, struct slm2_buf *text, const char ***names, int *n, struct slm2_err *err);

/* "1 2 3", "1,2,3" or "[1, 2, 3]", appended to ids. */
slm2_status slm2_use_parse_ids(const char *text, struct slm2_ids *ids, struct slm2_err *err);
json_t *slm2_use_ids_json(const int32_t *ids, size_t n);
#endif
