/* show.h - what tasks would ask, without a model: for people and for comparison with other programs. */
#ifndef SLM2_EVAL_SHOW_H
#define SLM2_EVAL_SHOW_H
#include "eval/suite.h"

/* The requests of an item: {"task", "item" (place in the data), "fewshot_pool_indices", "requests": [[context, continuation], ...], "gold"}.
 * Generation has {"until", "max_gen_toks"} for a continuation.  gold: number of the choice, marks of all choices, or the text.
 * NULL without memory. */
json_t *slm2_show_item(const struct slm2_task *t, size_t i, const struct slm2_requests *r);
/* The first `limit` items of every task of the suite: as text, or one JSON object a line. */
slm2_status slm2_show(const struct slm2_suite *s, const char *data_dir, double limit, int64_t seed, bool json, struct slm2_buf *out, struct slm2_err *err);
/* One line for each group and task of the folder (NULL: configs/tasks): name, examples, metrics, where the data lie. */
slm2_status slm2_show_list(const char *folder, struct slm2_buf *out, struct slm2_err *err);
#endif
