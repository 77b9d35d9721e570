/* selfdraw.h - the samples of self-knowledge training: first messages drawn from a model, a positive and a negative answer to each, filters.
 *
 * Draw i is a message behind the header of a user turn (and behind a few openers of the prompt file, drawn for it).  A message that passes its
 * filters gets two answers: behind the turns of the card (positive) and alone (negative).  Everything about draw i follows from (seed, i) and
 * the messages before it: the number of sequences computed at once, threads, and kills change nothing.
 *
 * RUN/draws/N.jsonl     draws N and on, a file a round, each whole; settings.json: what they were drawn with (hashes of model,
 *                       adapter, base and vocabulary, not their paths)
 * RUN/samples.jsonl     all draws in order, when enough are kept; the folder draws/ is then removed.  A line:
 *     {"draw": 17, "verdict": "kept", "topic": "name", "openers": [3, 0], "prompt": "...", "prompt_end": "stop", "prompt_tokens": 9,
 *      "positive": "...", "positive_end": "stop", "positive_tokens": 12, "positive_try": 0, "negative": "...", ...}
 *     A line that was thrown away says why in "verdict"; what was not drawn for it is absent.
 * RUN/samples.json      the settings of the draws and how many had each verdict */
#ifndef SLM2_TRAIN_SELFDRAW_H
#define SLM2_TRAIN_SELFDRAW_H
#include <signal.h>

#include "data/minhash.h"
#include "tok/chat.h"
#include "tok/tok.h"
#include "train/selfcard.h"

#define SLM2_SELF_VERDICTS(X)                                                                        \
    X(KEPT, "kept")                                                                                  \
    X(M_EMPTY, "message_empty") X(M_NOT_TEXT, "message_not_text") X(M_CUT, "message_cut_off")        \
    X(M_SHORT, "message_short") X(M_REPEATS, "message_repeats") X(M_PROBE, "message_is_a_probe")     \
    X(M_DUPLICATE, "message_duplicate") X(M_NEAR, "message_near_duplicate")                          \
    X(P_EMPTY, "positive_empty") X(P_NOT_TEXT, "positive_not_text") X(P_CUT, "positive_cut_off")     \
    X(P_SHORT, "positive_short") X(P_REPEATS, "positive_repeats") X(P_UNASKED, "positive_unasked")   \
    X(P_UNFIT, "positive_unfit")                                                                     \
    X(N_EMPTY, "negative_empty") X(N_NOT_TEXT, "negative_not_text") X(N_CUT, "negative_cut_off")     \
    X(N_SHORT, "negative_short") X(N_REPEATS, "negative_repeats") X(N_KNOWS, "negative_knows")       \
    X(SAME, "negative_is_positive")
#define SLM2_SELF_ENUM_(id, name) SLM2_SELF_##id,
enum slm2_self_verdict { SLM2_SELF_VERDICTS(SLM2_SELF_ENUM_) SLM2_SELF_N_VERDICT };
extern const char *const slm2_self_verdict_names[]; /* NULL behind the last */

struct slm2_selfdraw_opts {
    char *base;                       /* model that the messages are drawn from; "": the one that answers */
    int n_prompt, prompt_tokens, answer_tokens, min_words, n_opener, tries, sequences;
    float temperature, answer_temperature, top_p;
    bool keep_cut;                    /* texts that reach their limit stay */
    struct slm2_near_opts near;
};
#define SLM2_SELFDRAW_ROW_(T, m, f, key, type, lo, hi, def, help) {key, type, offsetof(T, m) + offsetof(struct slm2_selfdraw_opts, f), lo, hi, def, help, NULL, NULL, 0, 0}
/* Rows of a settings table for member m of T, but for those of `near`, which SLM2_NEAR_ROWS has. */
#define SLM2_SELFDRAW_ROWS(T, m)                                                                                                                                     \
    SLM2_SELFDRAW_ROW_(T, m, base, "base", SLM2_OPT_STR, 0, 0, "", "model folder that the first messages are drawn from; empty: the model"),                            \
    SLM2_SELFDRAW_ROW_(T, m, n_prompt, "prompts", SLM2_OPT_INT, 1, 10000000, "10000", "distinct first messages to keep"),                                              \
    SLM2_SELFDRAW_ROW_(T, m, prompt_tokens, "prompt_tokens", SLM2_OPT_INT, 1, 1 << 20, "64", "longest first message"),                                                 \
    SLM2_SELFDRAW_ROW_(T, m, answer_tokens, "answer_tokens", SLM2_OPT_INT, 1, 1 << 20, "256", "longest answer"),                                                       \
    SLM2_SELFDRAW_ROW_(T, m, min_words, "min_words", SLM2_OPT_INT, 1, 1000, "2", "shortest message and answer"),                                                       \
    SLM2_SELFDRAW_ROW_(T, m, keep_cut, "keep_cut_off", SLM2_OPT_BOOL, 0, 0, "false", "keep texts that reach their longest length"),                                    \
    SLM2_SELFDRAW_ROW_(T, m, n_opener, "openers", SLM2_OPT_INT, 0, 64, "3", "example messages before each draw, of those in the prompt file"),                          \
    SLM2_SELFDRAW_ROW_(T, m, tries, "positive_tries", SLM2_OPT_INT, 1, 1000, "1", "positive answers drawn for a message until one passes: for models that seldom follow the card"),\
    SLM2_SELFDRAW_ROW_(T, m, temperature, "temperature", SLM2_OPT_FLOAT, 0.01, 10, "1", "of the messages"),                                                            \
    SLM2_SELFDRAW_ROW_(T, m, answer_temperature, "answer_temperature", SLM2_OPT_FLOAT, 0, 10, "1", "of the answers; 0: greedy"),                                       \
    SLM2_SELFDRAW_ROW_(T, m, top_p, "top_p", SLM2_OPT_FLOAT, 0.01, 1, "0.95", "of all draws"),                                                                         \
    SLM2_SELFDRAW_ROW_(T, m, sequences, "sequences", SLM2_OPT_INT, 1, 1024, "16", "texts drawn at once; changes nothing but speed and memory")

struct slm2_selfdraw_args {
    const struct slm2_selfdraw_opts *o;
    const struct slm2_self *self;
    const struct slm2_tok *tok;
    const char *model, *run;
    const char *adapter;               /* PEFT folder beside the model, not beside `base`; NULL or "": none */
    enum slm2_chat_template tmpl;
    uint64_t seed;
    const char *isa;
    int threads;
    const volatile sig_atomic_t *stop; /* or NULL */
};
/* Makes RUN/samples.jsonl unless it is there.  SLM2_EUSAGE: what is there was drawn with other settings (but for n_prompt, until
 * all are drawn); SLM2_ESTOP: asked to stop, the next call
 * goes on; SLM2_ELIMIT: too few draws pass (the message says why they did not). */
slm2_status slm2_selfdraw(const struct slm2_selfdraw_args *a, struct slm2_err *err);

/* What is wrong with a text whatever it says: SLM2_SELF_M_EMPTY ... M_REPEATS, or KEPT.  words: of the text, by slm2_self_words.  cut: it reached its limit. */
enum slm2_self_verdict slm2_self_judge(const char *text, size_t n, const char *words, bool cut, int min_words);
#endif
