/* eval.h - benchmark tasks: a YAML definition, a JSONL file of items, a model; figures with their standard errors.
 *
 *     struct slm2_eval_args a = {.model = m, .tok = tok, .tasks = paths, .n_tasks = 2, .n_shot = -1};
 *     struct slm2_eval_result r;
 *     slm2_status st = slm2_eval(&a, &r, &err);
 *     double acc = slm2_eval_figure(&r, "nano_choice", "acc", NULL);
 *     slm2_eval_result_free(&r); */
#ifndef SLM2_EVAL_EVAL_H
#define SLM2_EVAL_EVAL_H
#include <signal.h>

#include "eval/perplexity.h"
#include "eval/score.h"
#include "train/ledger.h"

#define SLM2_EVAL_VERSION 3 /* of the way tasks are scored; a change of numbers changes it */

struct slm2_eval_args {
    const struct slm2_model *model; /* borrowed */
    const struct slm2_tok *tok;     /* borrowed */
    const char *model_name;         /* for the config in the result; NULL: "" */
    const char *adapter;            /* path of the adapter that the model has, for the config in the result; NULL or "": none */
    const char *const *tasks;       /* [n_tasks] names of groups and tasks, YAML files, folders of them: see suite.h */
    int n_tasks;
    const char *task_dir;           /* where names are looked up; NULL: configs/tasks */
    const char *data_dir;           /* where the tasks' data lie; NULL: only beside their YAML files */
    double limit;                   /* items of each task; below 1 a part of them, rounded up; 0: all */
    int n_shot;                     /* examples before each item; -1: the tasks' own */
    int64_t seed;                   /* added to the seed of each task */
    const char *backend, *isa;
    bool exact;                     /* as in struct slm2_ctx_opts */
    int n_threads, batch_tokens;
    bool one_by_one;                /* each request in a pass of its own (score.h): the same figures, slowly */
    const char *keep;               /* folder where answers are kept as they come and looked for (kept.h); NULL: nowhere */
    int bootstrap_iters;            /* resamples for the standard error of a perplexity; 0: 100000, < 0: none */
    struct slm2_ledger *ledger;     /* figures "eval.TASK.METRIC" are put there, not committed; or NULL */
    const char *prefix;             /* in front of these keys: "sft." gives "sft.eval.TASK.METRIC"; or NULL */
    bool samples;                   /* record what was asked and answered, item by item: result.samples */
    const volatile sig_atomic_t *interrupt; /* SLM2_ESTOP between items; or NULL */
};

#define SLM2_EVAL_NAME 160 /* bytes with the NUL: a task's name of up to 40, a dot, a part */
struct slm2_eval_metric {
    char task[SLM2_EVAL_NAME], metric[SLM2_EVAL_NAME];
    double value, stderr_; /* NaN: has none */
    int64_t n;             /* items */
    int n_shot;            /* -1: of a group */
    bool lower_is_better, is_group;
};
struct slm2_eval_result {
    struct slm2_eval_metric *v; /* [n], task by task, then group by group */
    int n;
    json_t *json;    /* {"results": {TASK: {METRIC: x, "METRIC_stderr": x}}, "groups", "group_subtasks", "versions", "n-shot", "n-samples", "configs", "config"} */
    json_t *samples; /* {TASK: [records of the harness's form]} or NULL */
    int64_t n_asked, n_kept;                    /* requests; those that a former run had answered */
    struct slm2_scorer_work work;               /* of the log-likelihoods */
    double seconds;                             /* of all tasks */
};
/* result is freed with slm2_eval_result_free whatever the status. */
slm2_status slm2_eval(const struct slm2_eval_args *args, struct slm2_eval_result *result, struct slm2_err *err);
void slm2_eval_result_free(struct slm2_eval_result *r);
/* NaN when absent; *stderr_ may be NULL.  task NULL: the first that has the metric. */
double slm2_eval_figure(const struct slm2_eval_result *r, const char *task, const char *metric, double *stderr_);
void slm2_eval_table(const struct slm2_eval_result *r, struct slm2_buf *out); /* aligned: task, shots, n, metric, value, standard error */
#endif
