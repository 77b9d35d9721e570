/* reported.h - our figures beside published ones, as Markdown. */
#ifndef SLM2_EVAL_REPORTED_H
#define SLM2_EVAL_REPORTED_H
#include "eval/eval.h"

/* Published tables: a JSON file of the form of assets/eval/reported.json.
 *   {"tables": [{"group": our group, "title", "unit": "percent" or another, "source", "columns": [{"title", "task", "metric", "n_shot"}],
 *                "rows": [{"model", "note", "size", "average", "values": [one a column], "stderr": [...] or absent, "mark", "own": true where we differ from it}]}]}
 * Checked: SLM2_EFORMAT names the table and row that is not so. */
slm2_status slm2_reported_read(json_t **tables, const char *path, struct slm2_err *err);

/* For every table of which we have a figure: ours with standard errors, then the difference to each `own` row in standard errors (of both, where
 * theirs is known), then all rows.  Behind them, all our figures.  A figure with another number of examples is shown with it, and no difference.  name: of our model. */
slm2_status slm2_reported_markdown(const struct slm2_eval_result *r, const json_t *tables, const char *name, struct slm2_buf *out, struct slm2_err *err);
#endif
