/* task.h - what a benchmark task asks: its YAML definition, its records, and the requests of each item with their examples.
 *
 *     struct slm2_task t;
 *     slm2_task_open(&t, "configs/tasks/arc_challenge.yml", &(struct slm2_task_opts){.data_dir = "eval", .n_shot = -1, .rules = -1}, &err);
 *     for (size_t i = 0; i < t.n; i++) {
 *         struct slm2_requests r;
 *         slm2_task_requests(&t, i, &r, &err);     // r.v[0 .. r.n): context and continuation each; r.gold
 *         slm2_requests_free(&r);
 *     }
 *     slm2_task_free(&t);
 *
 * Everything random is drawn by slm2_task_open, so that the requests of an item do not depend on which were asked for before. */
#ifndef SLM2_EVAL_TASK_H
#define SLM2_EVAL_TASK_H
#include <jansson.h>

#include "base/conf.h"
#include "tok/tok.h"

enum slm2_task_kind {
    SLM2_TASK_CHOICE,     /* a continuation (or, with `contexts`, a context) for each choice; the most probable is the answer */
    SLM2_TASK_WORD,       /* one continuation, `target`: is it what the model would write, and how probable is it */
    SLM2_TASK_GENERATE,   /* a greedy answer, made ready by `filters`, compared with the right ones */
    SLM2_TASK_PERPLEXITY, /* whole texts; no items, no requests */
};
extern const char *const slm2_task_kinds[];
enum slm2_task_rules { SLM2_RULES_V04, SLM2_RULES_V03 }; /* generations of lm-evaluation-harness: how examples are drawn */
extern const char *const slm2_task_rules[];

#define SLM2_NO_SHOT UINT32_MAX /* in the place of an example: there is none */
struct slm2_answer_filter { char *name; struct slm2_conf_list steps; }; /* of char *; results are METRIC,NAME, or METRIC when it has no name */

struct slm2_task { /* the settings, in the order of the table in task.c, where each is explained */
    char *name, *source, *form, *prompt, *description, *target, *contexts, *gold, *delimiter, *separator, *shots, *where, *group, *chat;
    struct slm2_conf_list each, data, choices, labels, metrics, stop, normalise; /* of char * */
    struct slm2_conf_list filters;                                               /* of struct slm2_answer_filter; at least one after opening */
    int kind, version, n_shot, sampler, rules, max_new, n_ctx, stride;
    int64_t seed;
    /* read from the files */
    char *path;             /* of the YAML file */
    char *part;             /* what {each} stands for; or NULL */
    json_t *items, *pool;   /* arrays of objects; pool: where examples come from; it is `items` unless `shots` is set */
    size_t n;               /* items to evaluate; item i is items[order[i]] */
    uint32_t *order, *shot; /* [n]; [n * n_shot] places in the pool */
    size_t n_skipped;       /* records without an answer, left out as the form says */
};
extern const struct slm2_opt slm2_task_settings[];

struct slm2_task_opts {
    const char *data_dir; /* where data files are looked for when they lie neither at their path nor beside the YAML; NULL: nowhere else */
    const char *part;     /* one of the task's `each`; NULL when it has none */
    int n_shot, rules;    /* < 0: as the task says */
    double limit;         /* items; below 1 a part of them, rounded up; 0: all */
    int64_t seed;         /* added to the task's */
};
/* Reads the definition and its data (perplexity: only finds it), and draws the examples.  o NULL: nothing set, n_shot and rules the task's.
 * SLM2_EIO with the source and the wanted form of the data where a file is missing.  On failure nothing is held. */
slm2_status slm2_task_open(struct slm2_task *t, const char *path, const struct slm2_task_opts *o, struct slm2_err *err);
void slm2_task_free(struct slm2_task *t);
/* Only the settings, without data: what a task is.  part NULL: {each} stays as it is. */
slm2_status slm2_task_define(struct slm2_task *t, const char *path, const char *part, struct slm2_err *err);

int64_t slm2_task_draw_seed(const struct slm2_task *t, int64_t added); /* of the examples, after task opts' seed was added */
const json_t *slm2_task_item(const struct slm2_task *t, size_t i); /* i < t->n */

/* ---- requests (prompt.c) ------------------------------------------------------------------------------------------------- */
struct slm2_request {
    struct slm2_buf context, continuation; /* UTF-8; generate: the continuation is empty */
    size_t n_chars, n_bytes;               /* of the choice alone, without the delimiter: what acc_norm and acc_bytes divide by */
    bool is_true;                          /* choice: one of the right answers (mc2 has several) */
};
struct slm2_requests { /* of one item */
    struct slm2_request *v; /* [n] choice: one each; else one */
    int n;
    int gold;               /* choice: the first right one; else 0 */
    json_t *answers;        /* generate: array of strings, each is right; word: [target]; choice: NULL */
    const uint32_t *shots;  /* [t->n_shot] places in the pool of the examples; borrowed from the task */
};
slm2_status slm2_task_requests(const struct slm2_task *t, size_t i, struct slm2_requests *r, struct slm2_err *err);
void slm2_requests_free(struct slm2_requests *r); /* accepts {0} */
/* Appends the ids of a request.  Plain text: white space at the end of the context moves to the continuation, both are encoded as one text
 * and cut where the context's own ids end; an empty context gives no id.  Chat: special tokens of the template count. */
slm2_status slm2_request_encode(const struct slm2_task *t, const struct slm2_tok *tok, const struct slm2_request *r, struct slm2_ids *context, struct slm2_ids *continuation, struct slm2_err *err);

/* ---- templates (template.c) ---------------------------------------------------------------------------------------------- */
/* Appends tmpl with {field} replaced by that member of item: strings, numbers, booleans; {a.b} goes into objects, {a.0} into
 * arrays, {a|strip} applies a filter; "{{" and "}}" are braces.  SLM2_EFORMAT names the missing field. */
slm2_status slm2_template_fill(const char *tmpl, const json_t *item, struct slm2_buf *out, struct slm2_err *err);
slm2_status slm2_template_check(const char *tmpl, struct slm2_err *err); /* balanced, no empty names, known filters */
const json_t *slm2_template_lookup(const json_t *item, const char *path, size_t n); /* "a.b"; NULL when absent */
/* Appends a string, number or boolean after the filters behind the first '|' of field; false: it is neither, or memory ran out. */
bool slm2_template_value(const json_t *value, const char *field, struct slm2_buf *out);

/* ---- filters (filter.c) -------------------------------------------------------------------------------------------------- */
/* In place:
 *   strip, lstrip, first_line, first_word, one_space, lower, capitalize, no_punctuation, spaces ("_" to " "), first_number, last_number,
 *   wikihow (HellaSwag's cleaning of [title] and other marks), before:TEXT, after:TEXT (the last), delete:TEXT (all), drop_end:TEXT,
 *   match:REGEX, last_match:REGEX (POSIX extended; the first group that took part, else all of it).
 * A number that is not there leaves "", a match "[invalid]". */
slm2_status slm2_filter_check(const char *filter, struct slm2_err *err);
slm2_status slm2_filter_apply(const char *filter, struct slm2_buf *text, struct slm2_err *err);
#endif
