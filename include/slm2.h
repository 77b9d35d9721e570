/* slm2.h - the public interface of libslm2: errors, tokenizer, model, engine, sampling.
 *
 * Ownership: every slm2_X_open/new has an slm2_X_free that accepts NULL.  `const` arguments are borrowed until the call
 * returns.  A call that can fail returns a status and, when `err` is not NULL, leaves a message in it; a failed call takes
 * nothing and leaves its object as it was.  Nothing in the library prints, exits or aborts on bad input.
 * Threads: objects may be used by one thread at a time; a model may be shared by engines on several threads. */
#ifndef SLM2_H
#define SLM2_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLM2_VERSION "0.1.0"

/* ---- errors ------------------------------------------------------------------------------------------------------- */
typedef enum slm2_status {
    SLM2_OK = 0,
    SLM2_EUSAGE,  /* the caller's options are wrong (exit code 2) */
    SLM2_EIO,     /* the operating system refused: missing file, full disk */
    SLM2_EFORMAT, /* foreign bytes are not what they should be */
    SLM2_ENOMEM,
    SLM2_ELIMIT,  /* a stated limit was reached: full cache, too many items */
    SLM2_ESTOP,   /* asked to stop (signal); everything is saved */
} slm2_status;

struct slm2_err {
    slm2_status status;
    char msg[1024]; /* what, where, found, wanted, remedy; UTF-8, no newline */
};

/* ---- tokenizer ---------------------------------------------------------------------------------------------------- */
struct slm2_tok;

enum { /* flags of slm2_tok_encode */
    SLM2_TOK_SPECIAL = 1, /* special strings become their ids; without it they are ordinary text */
    SLM2_TOK_NFC = 2,     /* normalise to NFC first (the original tokenizer always does) */
};

/* Opens a vocabulary: NULL for the bundled Arcade100k, else a .tiktoken file, a Hugging Face tokenizer.json, a GGUF file, or a
 * folder that holds one of these (tokenizer.json, then *.tiktoken). */
slm2_status slm2_tok_open(struct slm2_tok **tok, const char *path, struct slm2_err *err);
void slm2_tok_free(struct slm2_tok *tok);
int32_t slm2_tok_n_vocab(const struct slm2_tok *tok); /* one more than the largest id */
int32_t slm2_tok_eos(const struct slm2_tok *tok);     /* <|endoftext|>: BOS, EOS and PAD */
int32_t slm2_tok_special_id(const struct slm2_tok *tok, const char *text); /* id of a special token, -1 when there is none */
/* Bytes of one token; NULL when the id is unassigned.  Borrowed from tok. */
const uint8_t *slm2_tok_bytes(const struct slm2_tok *tok, int32_t id, size_t *n);
bool slm2_tok_is_special(const struct slm2_tok *tok, int32_t id);

struct slm2_ids { /* a growing array of token ids; start with {0}, end with slm2_ids_free */
    int32_t *v;
    size_t n, cap;
};
slm2_status slm2_ids_push(struct slm2_ids *ids, int32_t id, struct slm2_err *err);
void slm2_ids_free(struct slm2_ids *ids);

/* Appends the ids of text[0..n) to ids.  Any bytes are accepted; bytes that are not UTF-8 become their byte tokens. */
slm2_status slm2_tok_encode(const struct slm2_tok *tok, const char *text, size_t n, int flags, struct slm2_ids *ids, struct slm2_err *err);

/* ---- model and engine --------------------------------------------------------------------------------------------- */
struct slm2_model;  /* config + read-only weights, mapped from the file */
struct slm2_engine; /* caches and sequences over one model */

struct slm2_engine_opts {
    int n_ctx;      /* tokens a sequence can hold; 0: the model's maximum */
    int n_seq;      /* sequences held at once */
    int n_batch;    /* tokens of a prompt computed at once */
    int n_threads;  /* 0: one per core */
};
struct slm2_engine_opts slm2_engine_opts_default(void);

/* path: a Hugging Face folder, a .safetensors file beside its config.json, or a .gguf file. */
slm2_status slm2_model_open(struct slm2_model **m, const char *path, struct slm2_err *err);
void slm2_model_free(struct slm2_model *m);
int slm2_model_vocab_size(const struct slm2_model *m);
int slm2_model_n_ctx(const struct slm2_model *m);

slm2_status slm2_engine_new(struct slm2_engine **e, const struct slm2_model *m, const struct slm2_engine_opts *o, struct slm2_err *err);
void slm2_engine_free(struct slm2_engine *e);
/* Appends tok[n_tok] to sequence seq (0 <= seq < n_seq); logits of the last token to logits[vocab_size] unless NULL.
 * SLM2_ELIMIT when the cache is full: the sequence then stands where it stood before. */
slm2_status slm2_engine_feed(struct slm2_engine *e, int seq, const int32_t *tok, int n_tok, float *logits, struct slm2_err *err);
int slm2_engine_n_past(const struct slm2_engine *e, int seq);
void slm2_engine_rewind(struct slm2_engine *e, int seq, int n_past); /* forgets everything after the first n_past tokens */

/* ---- sampling ----------------------------------------------------------------------------------------------------- */
struct slm2_sampler_opts {
    float temperature;        /* 0: greedy */
    int top_k;                /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off */
    uint64_t seed;
};
struct slm2_sampler_opts slm2_sampler_opts_default(void);
struct slm2_sampler;
slm2_status slm2_sampler_new(struct slm2_sampler **s, int vocab_size, const struct slm2_sampler_opts *o, struct slm2_err *err);
void slm2_sampler_free(struct slm2_sampler *s);
/* Order: repetition penalty over prev[n_prev] (once per distinct id), temperature, top-k, top-p, min-p, softmax.
 * probs[vocab_size] receives the distribution, removed tokens exactly 0. */
void slm2_sampler_probs(struct slm2_sampler *s, const float *logits, const int32_t *prev, size_t n_prev, float *probs);
/* Draws the next id; the draw depends only on (seed, number of draws so far, probabilities). */
int32_t slm2_sampler_next(struct slm2_sampler *s, const float *logits, const int32_t *prev, size_t n_prev);

#endif
