/* pair.h - preference records for DPO: a prompt with a chosen and a rejected answer -> two token sequences.
 *
 * pref.h says which shapes the records have and which are kept.
 * ids = rendered prompt with the header of the assistant's turn, then the answer and the token that ends the turn. */
#ifndef SLM2_DATA_PAIR_H
#define SLM2_DATA_PAIR_H
#include "base/conf.h"
#include "data/pref.h"
#include "model/batch.h"

struct slm2_pair_source { /* a data set as the settings name it */
    int format;                 /* enum slm2_pref_format */
    struct slm2_conf_list path; /* of char *: JSON lines or a JSON array, plain, .gz, .zst */
};
struct slm2_pair_opts {
    const char *chat;      /* template: "zephyr", "chatml" */
    int max_len;           /* tokens of prompt + answer */
    int max_prompt;        /* see slm2_pair_cut */
    bool empty_system;     /* an empty system message in front of conversations without one */
    struct slm2_pref_rules rules;
    size_t max_line_bytes; /* 0: 64 MiB */
    bool bad_is_fatal;
};
struct slm2_pair_opts slm2_pair_opts_default(void); /* zephyr, 1024, 512, chosen score at least 8, all filters, skip */

struct slm2_pair_seq { const int32_t *ids; int n, n_prompt; }; /* tokens n_prompt .. n - 1 are the answer; n > n_prompt >= 1 */
struct slm2_pair_file { /* what became of its records; equal ones of several files count in the later one */
    const char *path; /* the source's */
    int source;
    int64_t n[SLM2_PREF_N_VERDICT];
    int64_t n_tok;                      /* of what is kept, after cutting */
    int64_t n_cut_prompt, n_cut_answer; /* pairs kept that lost tokens of a prompt, of an answer */
    char first_bad[320];                /* why the first bad record is bad, "" when its line is no JSON */
};
struct slm2_pairs {
    int n;
    struct slm2_pair_seq *chosen, *rejected; /* [n], pointing into ids */
    int32_t *ids;
    size_t n_tok;
    struct slm2_pair_file *file; /* [n_file], source by source */
    int n_file;
};
slm2_status slm2_pairs_load(struct slm2_pairs *p, const struct slm2_pair_source *sources, int n_sources, const struct slm2_tok *tok, const struct slm2_pair_opts *o, struct slm2_err *err);
void slm2_pairs_free(struct slm2_pairs *p);

/* Cuts a pair as TRL's trainer does: where prompt and longer answer exceed max_len, prompts keep their last max_prompt tokens; where
 * that is still too much, answers keep their first max_len - max_prompt.  Returns 1 for a cut prompt, 2 for a cut answer, 3 for both, 0. */
int slm2_pair_cut(struct slm2_pair_seq *chosen, struct slm2_pair_seq *rejected, int max_len, int max_prompt);

/* Appends ids[0 .. n - 1) as one sequence; the answer's tokens are targets and weigh `weight`, the others have target -1. */
slm2_status slm2_pair_add(struct slm2_batch *b, const struct slm2_pair_seq *s, float weight, struct slm2_err *err);
#endif
