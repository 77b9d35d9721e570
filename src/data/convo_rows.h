/* convo_rows.h - conversations packed whole into rows of n_ctx tokens, and rows into batches.
 *
 * With the reset (not joined) each conversation is a sequence of its own: it sees no other and its positions begin at 0; one of L tokens takes
 * L - 1 places, because its last token is a target only.  Joined, a row is one sequence, as in plain packing: later conversations see earlier
 * ones, and the last token of one predicts the first of the next (learnt with all_tokens). */
#ifndef SLM2_DATA_CONVO_ROWS_H
#define SLM2_DATA_CONVO_ROWS_H
#include "data/convo.h"

struct slm2_convo_rows {
    int n_rows;
    int n_member;
    int *first;      /* [n_rows + 1] into member */
    int *member;     /* [n_member] conversations; one that is seen several times a pass stands here as often */
    bool joined;
    int64_t n_used;  /* places of all rows that hold a token, of n_rows * n_ctx */
    int64_t *drawn;  /* [c->n_set] conversations of each data set in the rows */
};
/* Best fit, longest first: a conversation goes to the row in which it leaves least room, or opens one.  Those of equal length come in the
 * order of `seed` (0: of the data), and so do the members of a row: the same data, settings and seed give the same rows. */
slm2_status slm2_convos_pack(const struct slm2_convos *c, uint64_t seed, bool joined, struct slm2_convo_rows *r, struct slm2_err *err);
void slm2_convo_rows_free(struct slm2_convo_rows *r);
double slm2_convo_rows_fill(const struct slm2_convos *c, const struct slm2_convo_rows *r); /* n_used over all places; 0 without rows */
/* Appends row `row` to the batch, learnt targets weighing `weight`; the others have target -1. */
slm2_status slm2_convos_add_row(const struct slm2_convos *c, const struct slm2_convo_rows *r, int row, float weight, struct slm2_batch *b, struct slm2_err *err);
int slm2_convos_count_row(const struct slm2_convos *c, const struct slm2_convo_rows *r, int row); /* learnt targets of a row */

/* The account of data sets and rows: as a table of text, as JSON {"sets": [...], "total": {...}, "rows", "n_ctx", "fill", ...}. */
void slm2_convos_text(const struct slm2_convos *c, const struct slm2_convo_rows *r, struct slm2_buf *out);
json_t *slm2_convos_json(const struct slm2_convos *c, const struct slm2_convo_rows *r); /* NULL: no memory */
#endif
