/* langid.h - which language a text is in: a naive Bayes model over character trigrams, trained from the bundled corpus sample.
 *
 * A text becomes symbols: a-z, 30 accented Latin letters, "other letter", digit, apostrophe, sentence punctuation, other sign, and space
 * for any run of white space; case does not count.  Each class has -ln p of each trigram of symbols (add-ALPHA smoothing, in
 * 1/12 nat).  The class with the least mean over the text's first 16,384 characters wins.  A text whose mean is far above what the class
 * has on its own texts is in none of the languages.  The bundled model: assets/langid.bin, made by `slm2 data langid --train
 * assets/corpus --out assets/langid.bin`; every fifth document was held out for `slm2 data langid --test assets/corpus`. */
#ifndef SLM2_DATA_LANGID_H
#define SLM2_DATA_LANGID_H
#include "base/buf.h"

enum { SLM2_LANGID_N = 8 };
extern const char *const slm2_langid_names[SLM2_LANGID_N]; /* "code", "de", "en", "es", "fr", "it", "nl", "pt" */

struct slm2_langid;
/* path NULL: the bundled model. */
slm2_status slm2_langid_open(struct slm2_langid **l, const char *path, struct slm2_err *err);
slm2_status slm2_langid_parse(struct slm2_langid **l, const void *bytes, size_t n, const char *what, struct slm2_err *err); /* the bytes of a model */
const char *slm2_langid_sha256(const struct slm2_langid *l); /* of the model's bytes */
void slm2_langid_free(struct slm2_langid *l);

struct slm2_langid_guess {
    int lang;      /* index into slm2_langid_names, -1: none of them */
    double score;  /* of that class, 0 to 1: how far it is ahead of the others.  0 for none. */
};
/* Any thread; any bytes. */
struct slm2_langid_guess slm2_langid_of(const struct slm2_langid *l, const char *text, size_t n);
int slm2_langid_index(const char *name); /* -1: not one of them */

/* Reads DIR/NAME.jsonl of every name and appends the bytes of a model. */
slm2_status slm2_langid_train(const char *dir, struct slm2_buf *out, struct slm2_err *err);

enum { SLM2_LANGID_N_LENGTH = 6 };
extern const int slm2_langid_lengths[SLM2_LANGID_N_LENGTH]; /* characters of a test piece: 20 to 500; 0: the whole document */
struct slm2_langid_test { int64_t pieces[SLM2_LANGID_N][SLM2_LANGID_N_LENGTH], right[SLM2_LANGID_N][SLM2_LANGID_N_LENGTH]; };
/* Pieces of the held-out documents of DIR/NAME.jsonl: how many there are, and of how many the class is found. */
slm2_status slm2_langid_measure(const struct slm2_langid *l, const char *dir, struct slm2_langid_test *t, struct slm2_err *err);
#endif
