/* pair.h - preference records for DPO: a prompt with a chosen and a rejected answer -> two token sequences.
 *
 * A line is {"prompt": text or messages, "chosen": text or messages, "rejected": ...}.  A text prompt is one user message; "chosen"
 * and "rejected" as messages end with the assistant's answer, and what stands before it is the prompt (it must be the same
 * in both; "prompt" is then not used, except as the prompt of a list that is the answer alone).  "question" and "input" are other
 * names of "prompt".  "system" (string) is put in front of a text prompt unless it is empty.
 * ids = rendered prompt with the header of the assistant's turn, then the answer and the token that ends the turn. */
#ifndef SLM2_DATA_PAIR_H
#define SLM2_DATA_PAIR_H
#include "model/batch.h"

struct slm2_pair_opts {
    const char *chat;      /* template: "zephyr", "chatml" */
    int max_len;           /* tokens of prompt + answer */
    int max_prompt;        /* a prompt is cut to this (its end is kept) when the pair would exceed max_len; then the answers are cut */
    size_t max_line_bytes; /* 0: 64 MiB */
    bool bad_is_fatal;
};
struct slm2_pair_opts slm2_pair_opts_default(void); /* zephyr, 1024, 512, skip */

struct slm2_pair_seq { const int32_t *ids; int n, n_prompt; }; /* tokens n_prompt .. n - 1 are the answer; n > n_prompt >= 1 */
struct slm2_pairs {
    int n;
    struct slm2_pair_seq *chosen, *rejected; /* [n], pointing into ids */
    int32_t *ids;
    size_t n_tok;
    int64_t n_bad, n_equal, n_truncated; /* equal: answers that differ in nothing but outer white space, dropped */
};
slm2_status slm2_pairs_load(struct slm2_pairs *p, const char *const *paths, int n_paths, const struct slm2_tok *tok, const struct slm2_pair_opts *o,
                            struct slm2_err *err);
void slm2_pairs_free(struct slm2_pairs *p);
/* Appends ids[0 .. n - 1) as one sequence; the answer's tokens are targets and weigh `weight`, the others have target -1. */
slm2_status slm2_pair_add(struct slm2_batch *b, const struct slm2_pair_seq *s, float weight, struct slm2_err *err);
#endif
