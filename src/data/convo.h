/* convo.h - chat records for supervised fine-tuning: {"messages": [{"role", "content"}]} a line -> ids and loss mask, then rows of
 * whole conversations.  A conversation never sees another: each is a sequence of its own in the batch. */
#ifndef SLM2_DATA_CONVO_H
#define SLM2_DATA_CONVO_H
#include "model/batch.h"

struct slm2_convo_opts {
    const char *chat;        /* template: "zephyr", "chatml" */
    int n_ctx;               /* a conversation longer than n_ctx + 1 tokens loses its end, counted */
    int max_messages;        /* longer conversations are dropped, counted; 0: no limit */
    bool all_tokens;         /* loss on every token, not only on what the assistant says */
    size_t max_line_bytes;   /* 0: 64 MiB */
    bool bad_is_fatal;       /* a bad line is an error, else counted and skipped */
};
struct slm2_convo_opts slm2_convo_opts_default(void); /* zephyr, n_ctx 4096, no limit, assistant only, skip */

struct slm2_convos {
    int n;                   /* conversations */
    int n_ctx;
    size_t n_tok;
    int64_t *start;          /* [n + 1] first token of each in ids */
    int32_t *ids;            /* [n_tok] */
    uint8_t *mask;           /* [n_tok], aligned with ids: 1 = this token is learnt */
    int64_t n_bad, n_too_many_messages, n_truncated, n_no_answer; /* no_answer: dropped, nothing in it is learnt */
};
/* Reads the files one after the other; appends to nothing: c is zeroed first. */
slm2_status slm2_convos_load(struct slm2_convos *c, const char *const *paths, int n_paths, const struct slm2_tok *tok, const struct slm2_convo_opts *o,
                             struct slm2_err *err);
void slm2_convos_free(struct slm2_convos *c);

/* Which conversations share a row: first fit, in the order of (seed, epoch), or of the file when seed is 0.  A conversation of L
 * tokens takes L - 1 of the row's n_ctx places (its last token is a target only). */
struct slm2_convo_rows {
    int n_rows;
    int *first;  /* [n_rows + 1] into member */
    int *member; /* [c->n] conversations */
};
slm2_status slm2_convos_pack(const struct slm2_convos *c, uint64_t seed, uint64_t epoch, struct slm2_convo_rows *r, struct slm2_err *err);
void slm2_convo_rows_free(struct slm2_convo_rows *r);
/* Appends row `row` to the batch, learnt targets weighing `weight`; the others have target -1. */
slm2_status slm2_convos_add_row(const struct slm2_convos *c, const struct slm2_convo_rows *r, int row, float weight, struct slm2_batch *b, struct slm2_err *err);
/* Appends one conversation alone (not packed). */
slm2_status slm2_convos_add(const struct slm2_convos *c, int convo, float weight, struct slm2_batch *b, struct slm2_err *err);
int slm2_convos_count_row(const struct slm2_convos *c, const struct slm2_convo_rows *r, int row); /* learnt targets of a row */
int slm2_convos_count(const struct slm2_convos *c, int convo);                                   /* of one conversation */
#endif
