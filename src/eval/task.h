/* task.h - what a benchmark task asks: its YAML definition, its items, the prompt of each with its examples, the filters of answers. */
#ifndef SLM2_EVAL_TASK_H
#define SLM2_EVAL_TASK_H
#include <jansson.h>

#include "base/conf.h"
#include "tok/tok.h"

enum slm2_task_kind { SLM2_TASK_CHOICE, SLM2_TASK_GENERATE, SLM2_TASK_PERPLEXITY };
extern const char *const slm2_task_kinds[];

struct slm2_task { /* the settings, in the order of the table in task.c, where each is explained */
    char *name, *prompt, *description, *choices, *gold, *delimiter, *separator, *shots, *group, *chat;
    struct slm2_conf_list data, metrics, stop, filters; /* of char * */
    int kind, version, n_shot, max_new, n_ctx, stride;
    int64_t seed;
    /* read from the files */
    json_t *items, *pool; /* arrays of objects; pool: where examples come from, the items themselves unless `shots` is set */
    char *path;           /* of the YAML file */
};
extern const struct slm2_opt slm2_task_settings[];

/* Reads the definition and its data (not for perplexity).  A data path is taken as it is, or from the YAML file's folder.
 * On failure nothing is held. */
slm2_status slm2_task_open(struct slm2_task *t, const char *path, struct slm2_err *err);
void slm2_task_free(struct slm2_task *t);

/* Appends tmpl with {field} replaced by that member of item: strings, numbers, booleans; {a.b} goes into objects, {a.0} into
 * arrays; "{{" and "}}" are braces.  SLM2_EFORMAT names the missing field. */
slm2_status slm2_template_fill(const char *tmpl, const json_t *item, struct slm2_buf *out, struct slm2_err *err);
slm2_status slm2_template_check(const char *tmpl, struct slm2_err *err); /* balanced, no empty names */

const json_t *slm2_task_item(const struct slm2_task *t, size_t i);
/* Choices of an item (borrowed JSON array of at least two strings) and the number of the right one. */
slm2_status slm2_task_choices(const struct slm2_task *t, const json_t *item, const json_t **choices, size_t *gold, struct slm2_err *err);
/* Accepted answers of an item of a generation task: a new array of strings (json_decref). */
slm2_status slm2_task_answers(const struct slm2_task *t, const json_t *item, json_t **answers, struct slm2_err *err);

/* Indices into the pool of the examples shown before item i: idx[n_shot], never the item itself; a function of (seed, i). */
slm2_status slm2_task_shots(const struct slm2_task *t, size_t i, int n_shot, int64_t seed, uint32_t *idx, struct slm2_err *err);
/* Appends the text of everything before the answer of item i: description, examples, question; a chat with the marks of its template. */
slm2_status slm2_task_prompt(const struct slm2_task *t, size_t i, int n_shot, int64_t seed, struct slm2_buf *text, struct slm2_err *err);
/* Ids of text (a prompt of slm2_task_prompt) and of the continuation.  Plain text: spaces at the end of the prompt move to the
 * continuation, both are encoded as one text and cut where the prompt's own ids end.  Chat: special tokens of the template count. */
slm2_status slm2_task_encode(const struct slm2_task *t, const struct slm2_tok *tok, const char *prompt, size_t n_prompt, const char *continuation, struct slm2_ids *context, struct slm2_ids *ids, struct slm2_err *err);

/* filter.c: applied in the order given, in place.
 *   strip, first_line, lower, no_punctuation, one_space, first_number, last_number, first_word, before:TEXT, after:TEXT
 * A number that is not there leaves "". */
slm2_status slm2_filter_check(const char *filter, struct slm2_err *err);
slm2_status slm2_filter_apply(const char *filter, struct slm2_buf *text, struct slm2_err *err);
bool slm2_filter_normalises(const char *filter); /* strip, lower, no_punctuation, one_space: the gold answer is treated too */
#endif
