/* perplexity.h - how well a model predicts text: per token, word and byte, and by language. */
#ifndef SLM2_EVAL_PERPLEXITY_H
#define SLM2_EVAL_PERPLEXITY_H
#include <signal.h>

#include "eval/kept.h"
#include "eval/score.h"
#include "tok/tok.h"
#include <jansson.h>

struct slm2_ppl { /* sums; the measures are derived */
    double sum_logprob; /* nats */
    int64_t n_docs, n_tokens, n_words, n_bytes;
    double nll2, nll_bytes, bytes2; /* of the documents' nats and bytes, squares and products: for the standard error of their ratio */
};
double slm2_ppl_token(const struct slm2_ppl *p); /* exp(-sum / tokens) */
double slm2_ppl_word(const struct slm2_ppl *p);  /* exp(-sum / white-space separated words) */
double slm2_ppl_byte(const struct slm2_ppl *p);  /* exp(-sum / bytes) */
double slm2_ppl_bits_per_byte(const struct slm2_ppl *p);
double slm2_ppl_bits_stderr(const struct slm2_ppl *p); /* of the ratio, documents as the sample; NaN with fewer than two */
void slm2_ppl_add(struct slm2_ppl *sum, const struct slm2_ppl *p);

struct slm2_ppl_opts {
    const char *backend, *isa;
    bool exact;         /* as in struct slm2_ctx_opts */
    int n_threads;
    int n_ctx;          /* tokens of a window; 0: the model's context, at most 2048 */
    int stride;         /* 0: disjoint windows; -1: the harness's, see score.h */
    int64_t max_docs;   /* 0: all */
    int64_t max_tokens; /* stops after the document that reaches them; a document is cut to them; 0: all */
    struct slm2_kept *kept; /* where documents' sums are kept as they come and looked for; or NULL */
    const volatile sig_atomic_t *interrupt; /* SLM2_ESTOP between documents; or NULL */
    bool jsonl;         /* every file is JSONL; else by name (.txt and .md, also .gz and .zst: one document) */
    bool wikitext;      /* records {"page"} of WikiText: scored as form.h makes them, words and bytes counted as they are */
    const char *lang;   /* language of records that name none; NULL: the file's name without folder and endings */
    /* Or NULL: called for each document, in order.  record: as JSON, NULL of a plain text; text[n]: what the file says; one: its sums, n_docs 0 where there is no token to predict. */
    slm2_status (*on_doc)(void *user, const json_t *record, const char *text, size_t n, const struct slm2_ppl *one, struct slm2_err *err);
    void *user;
};
struct slm2_ppl_opts slm2_ppl_opts_default(void);

#define SLM2_PPL_MAX_LANGS 64
struct slm2_ppl_lang { char lang[32]; struct slm2_ppl p; };
struct slm2_ppl_result {
    struct slm2_ppl all;
    struct slm2_ppl_lang lang[SLM2_PPL_MAX_LANGS]; /* [n_lang] in order of appearance; records beyond the limit go to the last, "other" */
    int n_lang;
    int64_t n_bad;      /* lines that hold no document */
    int64_t n_seen;     /* documents, also those without a token to predict: max_docs is of these */
    int n_ctx, stride;  /* as used */
    double seconds;
};
/* The documents in these files; jsonl and wikitext of o say how they are read. */
slm2_status slm2_perplexity_count(const char *const *paths, int n_paths, const struct slm2_ppl_opts *o, int64_t *n, struct slm2_err *err);
/* Every document by itself, EOS before it.  Files are text or JSONL {"text", "lang"}, plain, .gz or .zst.  m and tok are borrowed. */
slm2_status slm2_perplexity_files(const struct slm2_model *m, const struct slm2_tok *tok, const char *const *paths, int n_paths, const struct slm2_ppl_opts *o, struct slm2_ppl_result *r, struct slm2_err *err);
slm2_status slm2_perplexity_file(const struct slm2_model *m, const struct slm2_tok *tok, const char *path, const struct slm2_ppl_opts *o, struct slm2_ppl_result *r, struct slm2_err *err);
/* Adds one text with a scorer that is there already.  original[n_original]: what words and bytes are counted on; NULL: the text itself.
 * Words are pieces between white space; of an original as re.split counts them, with empty ones at the ends. */
slm2_status slm2_perplexity_text(struct slm2_scorer *s, const struct slm2_tok *tok, const char *text, size_t n, const char *original, size_t n_original, int n_ctx, int stride, int64_t max_tokens, struct slm2_ppl *p, struct slm2_err *err);

json_t *slm2_ppl_json(const struct slm2_ppl *p);               /* {"token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", ...}; NULL without memory */
json_t *slm2_ppl_result_json(const struct slm2_ppl_result *r); /* the same of all, and "languages": {"de": {...}} */
void slm2_ppl_table(const struct slm2_ppl_result *r, struct slm2_buf *out); /* one aligned line a language */
#endif
