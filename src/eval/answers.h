/* answers.h - what a model says to all requests of a task: log-likelihoods of continuations, or generated text.
 *
 * All requests are known before the first is computed, so that whatever they share is computed once (score.h).  Answers that a former run kept
 * (kept.h) are taken from there; an answer does not depend on what else was asked, so both ways give the same bits. */
#ifndef SLM2_EVAL_ANSWERS_H
#define SLM2_EVAL_ANSWERS_H
#include "eval/eval.h"
#include "eval/kept.h"
#include "eval/task.h"

struct slm2_answer {
    double ll;          /* choice, word */
    bool is_greedy;
    char *text;         /* generate: without what ended it, UTF-8, NUL-terminated; bytes that are not UTF-8 became U+FFFD */
    size_t n_text;
};
struct slm2_answers {
    struct slm2_answer *v; /* [n] */
    size_t *first;         /* [t->n + 1]: item i has the answers [first[i], first[i + 1]) */
    size_t n, n_kept;      /* n_kept: taken from a former run */
    size_t n_cut;          /* requests that were too long for the model and lost their beginning */
    struct slm2_scorer_work work;
};
/* kept may be NULL.  SLM2_ESTOP when args.interrupt asked for it; what was answered by then is kept.  Freed whatever the status. */
slm2_status slm2_answers_get(struct slm2_answers *out, const struct slm2_eval_args *args, const struct slm2_task *t, struct slm2_kept *kept, struct slm2_err *err);
void slm2_answers_free(struct slm2_answers *a);
#endif
