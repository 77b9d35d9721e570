/* selfcard.h - what self-knowledge training is told: the card (who the model is), the few-shot prompt that carries it, the probes that ask for it.
 *
 * All three are YAML files; an unknown key is an error.
 *
 * Card:    name, maker (required), kind, released: texts.  languages, abilities, limits: lists.  others: names that the model must not claim
 *          (of other models and their makers).
 * Prompt:  turns: [{ask, say}], the earlier turns of a positive answer.  openers: examples of first messages, for drawing more of them.
 *          topics: [{fact, ask: [...], want: [...]}]: a message that holds one of the phrases `ask` asks for that fact, and a true answer to it
 *          holds one of the texts `want`.
 * Probes:  probes: [{ask, fact, right, wrong: [...], want: [...]}]: a question, a right answer and wrong ones to compare, and what a free
 *          answer has to hold.
 *
 * In prompt and probes {name}, {maker}, {kind}, {released}, {languages}, {abilities} and {limits} stand for the card's facts, lists as
 * "a, b and c".  A turn, topic or probe that names a fact which the card leaves out is left out itself; an unknown {word} is an error.
 * Phrases are compared word by word, without case and punctuation. */
#ifndef SLM2_TRAIN_SELFCARD_H
#define SLM2_TRAIN_SELFCARD_H
#include "base/buf.h"
#include "base/conf.h"

struct slm2_card {
    char *name, *maker, *kind, *released;
    struct slm2_conf_list languages, abilities, limits, others; /* of char * */
};
struct slm2_self_turn { char *ask, *say; };
struct slm2_self_topic { char *fact; struct slm2_conf_list ask, want; };                /* of char * */
struct slm2_self_probe { char *ask, *fact, *right; struct slm2_conf_list wrong, want; }; /* of char * */

struct slm2_self {
    struct slm2_card card;
    struct slm2_conf_list turns;   /* of struct slm2_self_turn, filled in */
    struct slm2_conf_list openers; /* of char * */
    struct slm2_conf_list topics;  /* of struct slm2_self_topic, filled in */
    struct slm2_conf_list probes;  /* of struct slm2_self_probe, filled in */
    struct slm2_conf_list keep_out; /* of struct slm2_self_probe as read: not measured, but no message may hold one of them either */
    char sha256[4][65];            /* of the files: card, prompt, probes, keep_out; "" when there is none */
};
/* Reads the files (probes and keep_out, a second file of probes, NULL or "": none).  self is zeroed first; free it whatever the result. */
slm2_status slm2_self_read(struct slm2_self *self, const char *card, const char *prompt, const char *probes, const char *keep_out, struct slm2_err *err);
void slm2_self_free(struct slm2_self *self);

/* Appends text with the card's facts in place of {words}.  *complete: none of them is missing from the card. */
slm2_status slm2_card_fill(const struct slm2_card *card, const char *text, const char *what, struct slm2_buf *out, bool *complete, struct slm2_err *err);

/* Appends text as words in lower case with one space before and behind each, NFC, nothing else: what phrases are compared in, and what counts
 * as the same message.  Bytes that are not UTF-8 part words. */
slm2_status slm2_self_words(const char *text, size_t n, struct slm2_buf *out, struct slm2_err *err);
/* words (of slm2_self_words) hold one of the phrases. */
slm2_status slm2_self_holds(const char *words, const struct slm2_conf_list *phrases, bool *holds, struct slm2_err *err);
/* The first topic that the message asks for, NULL: none. */
slm2_status slm2_self_topic(const struct slm2_self *self, const char *words, const struct slm2_self_topic **topic, struct slm2_err *err);
#endif
