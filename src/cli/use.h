/* use.h - what the commands that run a model share: opening model, engine and tokenizer, lists of ids, text as JSON. */
#ifndef SLM2_CLI_USE_H
#define SLM2_CLI_USE_H
#include "base/json.h"
#include "infer/engine.h"
#include "tok/tok.h"

struct slm2_use {
    struct slm2_model *model;
    struct slm2_engine *engine;
    struct slm2_tok *tok; /* NULL: the model has no tokenizer and the bundled one has other ids */
    double load_s;        /* model and engine */
};
struct slm2_use_opts {
    const char *model, *tokenizer; /* tokenizer "": the model's own, else the bundled one */
    const char *kv;                /* "f32" or "bf16" */
    int n_ctx, n_batch, threads;
    bool no_tokenizer;
};
slm2_status slm2_use_open(struct slm2_use *u, const struct slm2_use_opts *o, struct slm2_err *err); /* on failure nothing is held */
void slm2_use_free(struct slm2_use *u);
slm2_status slm2_use_need_tok(const struct slm2_use *u, const char *model, struct slm2_err *err); /* SLM2_EUSAGE without tokenizer */

/* "1 2 3", "1,2,3" or "[1, 2, 3]", appended to ids. */
slm2_status slm2_use_parse_ids(const char *text, struct slm2_ids *ids, struct slm2_err *err);
json_t *slm2_use_ids_json(const int32_t *ids, size_t n);
/* A JSON string of text; bytes that are not UTF-8 become U+FFFD. */
json_t *slm2_use_text_json(const char *text, size_t n);
#endif
