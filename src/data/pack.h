/* pack.h - a row of n_ctx + 1 tokens becomes n_ctx inputs and targets of a batch, with document boundaries.
 *
 * EOS belongs to the document it ends; the token after it starts a new document at position 0 and sees nothing before it.
 * A document cut by the start of the row simply starts there. */
#ifndef SLM2_DATA_PACK_H
#define SLM2_DATA_PACK_H
#include "model/batch.h"

enum slm2_pack_loss {
    SLM2_PACK_ALL,    /* every position has a target, also EOS -> first token of the next document (GPT-NeoX's habit) */
    SLM2_PACK_MASKED, /* positions whose input is EOS have none (target -1, weight 0) */
};
/* Appends ids[n_ctx + 1]; positions with a target weigh `weight`: 1 / slm2_pack_count summed over the whole (global) batch gives
 * the mean loss.  The batch needs room for n_ctx tokens and up to n_ctx sequences (all may be EOS); SLM2_ELIMIT otherwise. */
slm2_status slm2_pack_row(struct slm2_batch *b, const int32_t *ids, int n_ctx, int32_t eos, enum slm2_pack_loss loss, float weight, struct slm2_err *err);
/* Positions of the row that have a target. */
int slm2_pack_count(const int32_t *ids, int n_ctx, int32_t eos, enum slm2_pack_loss loss);
#endif
