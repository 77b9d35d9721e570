/* variant.c - another tokenizer out of a vocabulary of ranks: fewer tokens, another splitting pattern.  For experiments. */
#include "tok/tok_impl.h"

slm2_status slm2_tok_variant(struct slm2_tok **out, const struct slm2_tok *from, int32_t n_rank, enum slm2_split split, struct slm2_err *err)
{
    static const char what[] = "variant of a vocabulary";
    int32_t n_normal = 0;
    *out = NULL;
    if (from->explicit_merges) return slm2_fail(err, SLM2_EUSAGE, "%s: the ids must be ranks, as in a .tiktoken file; this one has merges of its own", what);
    while (n_normal < from->n_vocab && from->e[n_normal].kind == TOK_NORMAL) n_normal++;
    if (n_rank == 0) n_rank = n_normal;
    if (n_rank < 256 || n_rank > n_normal) return slm2_fail(err, SLM2_EUSAGE, "%s: %d ranks, want 256 to %d", what, n_rank, n_normal);
    struct slm2_tok *tok = tok_new();
    slm2_status st = tok ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "%s: no memory for a tokenizer", what);
    for (int32_t id = 0; id < n_rank && st == SLM2_OK; id++) st = tok_add(tok, id, from->text.v + from->e[id].at, from->e[id].n, TOK_NORMAL, what, err);
    if (st == SLM2_OK) st = tok_index(tok, what, err);
    if (st == SLM2_OK) {
        tok->split = split;
        tok->nfc = from->nfc;
        st = tok_add_arcade_specials(tok, what, err);
    }
    if (st == SLM2_OK) st = tok_finish(tok, what, err);
    if (st == SLM2_OK) *out = tok;
    else slm2_tok_free(tok);
    return st;
}
