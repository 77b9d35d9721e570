/* form.h - records as their makers published them -> records with the fields that a task's templates name.
 *
 *   form         from the published fields                                          makes
 *   hellaswag    activity_label, ctx_a, ctx_b, endings, label                       query, choices, gold (cleaned)
 *   winogrande   sentence with one "_", option1, option2, answer                    contexts, continuation
 *   wsc273       text, pronoun, pronoun_loc, options, label                         context_options, continuation, gold
 *   lambada      text                                                               context, word
 *   logiqa       label, context, question, options; or the original text form       the same
 *   m_arc        instruction, option_a .. option_e, answer                          choices (not empty, cleaned), gold
 *   truthfulqa   mc1_targets_choices, mc1_targets_labels, mc2_...                   mc1_targets, mc2_targets: {choices, labels}
 *   wikitext     page (or text)                                                     text (as it is scored), original
 *
 * A record that has the made fields already is taken as it is. */
#ifndef SLM2_EVAL_FORM_H
#define SLM2_EVAL_FORM_H
#include "base/json.h"

bool slm2_form_known(const char *name); /* "" is: nothing to do */
/* Adds the made fields to item.  *skip: the record has no right answer among its choices and is to be left out.  SLM2_EFORMAT names the field. */
slm2_status slm2_form_apply(const char *name, json_t *item, bool *skip, struct slm2_err *err);

/* LogiQA's original text: blank line, letter, passage, question, four options "A.text".  Appends the records to list. */
slm2_status slm2_form_logiqa_text(const char *path, json_t *list, struct slm2_err *err);
/* WikiText's spaces around punctuation taken back, rule by rule as the harness does it.  Appends. */
slm2_status slm2_form_wikitext(const char *page, size_t n, struct slm2_buf *out, struct slm2_err *err);
#endif
