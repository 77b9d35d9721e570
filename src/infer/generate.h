/* generate.h - the loop from a prompt to an answer: feed, sample, decode, stop.  One for generate, chat, evaluation and training. */
#ifndef SLM2_INFER_GENERATE_H
#define SLM2_INFER_GENERATE_H
#include <signal.h>

#include "base/buf.h"
#include "infer/engine.h"
#include "tok/tok.h"

enum slm2_gen_end {
    SLM2_GEN_LENGTH,      /* n_max tokens were made */
    SLM2_GEN_CONTEXT,     /* the context is full */
    SLM2_GEN_STOP_ID,     /* an id of stop_ids: the last of ids, never text */
    SLM2_GEN_STOP_STRING, /* the text ends before the stop string; ids go on to the token that completed it */
    SLM2_GEN_INTERRUPT,   /* *interrupt became nonzero, or on_text said so */
};
const char *slm2_gen_end_name(enum slm2_gen_end end); /* "length", "context", "stop", "stop_string", "interrupt" */

struct slm2_gen_job;
/* Told by slm2_generate_many of a job that is answered (not of an interrupted one), in the calling thread.  After giving it another prompt (ids, n_ids, sampler) and
 * taking its text away it may set *again: the job goes on in the same sequence, as the next turn of a conversation does. */
typedef slm2_status slm2_gen_job_fn(void *user, struct slm2_gen_job *job, bool *again, struct slm2_err *err);

/* Receives text as soon as it is certain: whole characters, never a part of a stop string.  false ends the answer. */
typedef bool slm2_gen_text_fn(void *user, const char *text, size_t n);

struct slm2_gen_opts {
    int n_max;                  /* new tokens; 0: none, the prompt is only fed */
    const char *const *stop;    /* [n_stop] strings, empty ones are ignored */
    int n_stop;
    const int32_t *stop_ids;    /* [n_stop_ids] */
    int n_stop_ids;
    bool keep_special;          /* special tokens appear in the text */
    const volatile sig_atomic_t *interrupt; /* or NULL */
    slm2_gen_text_fn *on_text;  /* or NULL */
    slm2_gen_job_fn *on_job;    /* of slm2_generate_many; or NULL */
    void *user;                 /* of both */
    float *logprobs;            /* [n_max] log p of each new token under the unmodified logits; or NULL */
};
struct slm2_gen_result {
    enum slm2_gen_end end;
    int n_prompt, n_new;        /* tokens fed before the first draw; tokens drawn */
    double prompt_s, decode_s;  /* wall seconds */
    struct slm2_buf text;       /* of the answer; free with slm2_buf_free */
};

/* Continues sequence seq.  ids is the whole sequence so far: the engine already holds its first n_past tokens, the rest (at least one
 * token) is fed first; new ids are appended to it.  The last new id may not have been fed: the next call feeds it.
 * tok NULL: no text.  sampler draws; its penalty sees all of ids.  SLM2_ELIMIT when the prompt does not fit: nothing has moved. */
slm2_status slm2_generate(struct slm2_engine *e, int seq, struct slm2_sampler *sampler, const struct slm2_tok *tok, const struct slm2_gen_opts *o,
                          struct slm2_ids *ids, struct slm2_gen_result *result, struct slm2_err *err);

/* One of many answers that are made at once. */
struct slm2_gen_job {
    const int32_t *ids;              /* [n_ids] prompt, at least one token; borrowed */
    int n_ids;
    struct slm2_sampler_opts sampler;
    /* answered */
    enum slm2_gen_end end;
    int n_new;                       /* tokens drawn */
    struct slm2_buf text;            /* {0} before the call; free with slm2_buf_free */
};
/* Answers v[n], as many at once as the engine has sequences, one pass over the weights a token of each; a sequence that ends makes room for the
 * next job, and the beginning that its prompt shares with what the sequence holds (the same earlier turns) is not computed again.
 * The same text and end for a job whatever stands beside it: those of slm2_generate alone.  Of o, on_text and logprobs are not looked at.
 * *interrupt ends all jobs that are not done with SLM2_GEN_INTERRUPT.  A failure of on_job ends everything.  All sequences of e are used and left as they end.
 * SLM2_ELIMIT: a prompt that is empty or does not fit. */
slm2_status slm2_generate_many(struct slm2_engine *e, const struct slm2_tok *tok, const struct slm2_gen_opts *o, struct slm2_gen_job *v, int n, struct slm2_err *err);

/* Text on its way out: holds back what may become a stop string. */
struct slm2_stop_filter {
    const char *const *stop;
    int n_stop;
    struct slm2_buf held; /* not yet given out */
};
/* Appends text; *n_ready bytes at the front of held may go out (take them with slm2_stop_filter_take); true: a stop string was met, what
 * is ready then ends before it and the rest is gone. */
bool slm2_stop_filter_put(struct slm2_stop_filter *f, const char *text, size_t n, size_t *n_ready);
void slm2_stop_filter_take(struct slm2_stop_filter *f, size_t n); /* forgets the first n held bytes */
#endif
