/* pref.h - preference records in their published shapes -> one form, and what the filters say of each.
 *
 *     pairs                            {"prompt": text or messages, "chosen": text or messages, "rejected": ...}: our own files.  A text prompt is
 *                                      one user message.  Answers as messages end with the assistant's; what stands before it is the prompt
 *                                      ("prompt" is then not used).  "question" and "input" are other names of "prompt"; "system" (text) is put
 *                                      in front of a text prompt unless it is empty.
 *     ultrafeedback_binarized_cleaned  prompt (text), chosen and rejected (messages, the prompt inside), score_chosen, score_rejected
 *     orca_dpo_pairs                   system, question, chosen, rejected (texts)
 *     orca_dpo_pairs_rated             system, input, chosen, rejected (texts), rating [2], status, chosen_score, in_gsm8k_train
 *
 * Scores are of 10.  Those that are absent or null are not given, in every shape; what a shape does not use is not looked at. */
#ifndef SLM2_DATA_PREF_H
#define SLM2_DATA_PREF_H
#include "data/dedup.h"
#include "tok/chat.h"

enum slm2_pref_format { SLM2_PREF_PAIRS, SLM2_PREF_ULTRAFEEDBACK, SLM2_PREF_ORCA, SLM2_PREF_ORCA_RATED };
extern const char *const slm2_pref_formats[]; /* as above, NULL: choices of a setting */

struct slm2_pref {
    struct slm2_msg *v; /* [n + 2] what stands before the answer, and room for two messages; the array is owned, texts belong to the record */
    int n;              /* at least 1 */
    struct slm2_msg chosen, rejected;
    double score_chosen, score_rejected; /* NaN: not given */
    bool tie;                            /* the record says so, or both scores are given and equal */
    bool in_gsm8k_train;
};
/* SLM2_EFORMAT: the record is not of that shape, or prompt, chosen or rejected is missing or blank.  record is only read, must outlive p, and p
 * needs slm2_pref_free whatever the result. */
slm2_status slm2_pref_read(struct slm2_pref *p, enum slm2_pref_format format, json_t *record, const char *what, struct slm2_err *err);
void slm2_pref_free(struct slm2_pref *p);

/* In the order in which they are asked.  Invalid is what slm2_pref_read refuses. */
enum slm2_pref_verdict {
    SLM2_PREF_KEEP,
    SLM2_PREF_INVALID,
    SLM2_PREF_TIE,
    SLM2_PREF_DUPLICATE_CONTENT, /* the answers differ in nothing but outer white space */
    SLM2_PREF_LOW_SCORE,         /* the chosen answer's is given and below min_score */
    SLM2_PREF_IN_GSM8K_TRAIN,    /* the prompt is one of GSM8K's training questions */
    SLM2_PREF_DUPLICATE_PAIR,    /* prompt and answers are those of a record kept before */
    SLM2_PREF_N_VERDICT
};
extern const char *const slm2_pref_verdicts[]; /* "keep", "invalid", "tie", ..., NULL */

struct slm2_pref_rules {
    double min_score;      /* 0: any */
    bool keep_ties, keep_gsm8k_train, keep_duplicate_pairs;
};
/* Adds what it keeps to seen.  key: working memory. */
slm2_status slm2_pref_judge(const struct slm2_pref *p, const struct slm2_pref_rules *rules, struct slm2_seen *seen, struct slm2_buf *key, enum slm2_pref_verdict *verdict,
                            struct slm2_err *err);
#endif
