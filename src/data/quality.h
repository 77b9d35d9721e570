/* quality.h - rules that web text must pass, as the field has published them: MassiveText (Rae et al., "Scaling Language Models: Methods,
 * Analysis & Insights from Training Gopher", 2021, A.1), C4 (Raffel et al., 2020, 2.2), FineWeb (Penedo et al., 2024, 3.6).  They judge whole
 * documents and never change one.  A document is counted at the first rule, in the order below, that it breaks.
 *
 * Words stand between white space; characters are code points; shares are of 1.  Lines and paragraphs (between empty lines) that hold only
 * white space do not count.  Of repetitions, the second and later occurrences count; characters of n-grams are those of their words.
 * A repeated n-gram is passed over as a whole, so that no character counts twice. */
#ifndef SLM2_DATA_QUALITY_H
#define SLM2_DATA_QUALITY_H
#include "base/conf.h"
#include "data/langid.h"

/* X(rule, MIN or MAX, what is measured, help).  -1 turns a rule off, which is the default. */
#define SLM2_QUALITY_RULES(X)                                                                                                                  \
    X(min_words, MIN, words, "words; Gopher 50")                                                                                              \
    X(max_words, MAX, words, "words; Gopher 100000")                                                                                          \
    X(min_mean_word, MIN, mean_word, "characters of a word on average; Gopher 3")                                                             \
    X(max_mean_word, MAX, mean_word, "characters of a word on average; Gopher 10")                                                            \
    X(max_hash_ratio, MAX, hash_ratio, "# signs and, counted apart, ellipses for each word, the larger; Gopher 0.1")                          \
    X(max_bullet_lines, MAX, bullet_lines, "share of lines that begin with a bullet; Gopher 0.9")                                             \
    X(max_ellipsis_lines, MAX, ellipsis_lines, "share of lines that end with an ellipsis; Gopher 0.3")                                        \
    X(min_alpha_words, MIN, alpha_words, "share of words with a letter; Gopher 0.8")                                                          \
    X(min_stop_words, MIN, stop_words, "stop words of the document's language, each counted as often as it comes; Gopher 2; languages without a list pass") \
    X(max_digits, MAX, digits, "share of digits among characters other than white space")                                                     \
    X(max_symbols, MAX, symbols, "share of characters that are no letter, digit, white space or . , ; : ! ? ' \" ( ) -")                      \
    X(min_punct_lines, MIN, punct_lines, "share of lines that end as a sentence does; FineWeb 0.12")                                          \
    X(max_short_lines, MAX, short_lines, "share of lines of less than 30 characters; FineWeb 0.67")                                           \
    X(min_sentences, MIN, sentences, "sentences, by their ends . ! ?; C4 3")                                                                  \
    X(max_braces, MAX, braces, "opening curly brackets; C4 0, which leaves out code")                                                         \
    X(max_lorem_ipsum, MAX, lorem_ipsum, "times \"lorem ipsum\"; C4 0")                                                                       \
    X(max_dup_lines, MAX, dup_lines, "share of lines that came before; Gopher 0.3")                                                           \
    X(max_dup_line_chars, MAX, dup_line_chars, "share of characters in them; Gopher 0.2, FineWeb 0.1")                                        \
    X(max_dup_paragraphs, MAX, dup_paragraphs, "share of paragraphs that came before; Gopher 0.3")                                            \
    X(max_dup_paragraph_chars, MAX, dup_paragraph_chars, "share of characters in them; Gopher 0.2")                                           \
    X(max_top_2gram, MAX, top_gram[0], "share of characters in the most frequent pair of words; Gopher 0.2")                                  \
    X(max_top_3gram, MAX, top_gram[1], "in the most frequent 3 words; Gopher 0.18")                                                           \
    X(max_top_4gram, MAX, top_gram[2], "in the most frequent 4 words; Gopher 0.16")                                                           \
    X(max_dup_5gram, MAX, dup_gram[0], "share of characters in 5 words that came before; Gopher 0.15")                                        \
    X(max_dup_6gram, MAX, dup_gram[1], "in 6 words; Gopher 0.14")                                                                             \
    X(max_dup_7gram, MAX, dup_gram[2], "in 7 words; Gopher 0.13")                                                                             \
    X(max_dup_8gram, MAX, dup_gram[3], "in 8 words; Gopher 0.12")                                                                             \
    X(max_dup_9gram, MAX, dup_gram[4], "in 9 words; Gopher 0.11")                                                                             \
    X(max_dup_10gram, MAX, dup_gram[5], "in 10 words; Gopher 0.1")

enum slm2_quality_rule {
#define X(rule, side, measure, help) SLM2_QUALITY_##rule,
    SLM2_QUALITY_RULES(X)
#undef X
    SLM2_QUALITY_langs, SLM2_QUALITY_min_lang_score, SLM2_QUALITY_lang_match, /* by the language identified, see langid.h */
    SLM2_N_QUALITY_RULE,
    SLM2_QUALITY_PASSED = SLM2_N_QUALITY_RULE,
};
const char *slm2_quality_rule_name(enum slm2_quality_rule rule);

struct slm2_text_measure {
    double words, mean_word, hash_ratio, bullet_lines, ellipsis_lines, alpha_words, stop_words, digits, symbols, punct_lines, short_lines, sentences, braces, lorem_ipsum;
    double dup_lines, dup_line_chars, dup_paragraphs, dup_paragraph_chars, top_gram[3], dup_gram[6];
    bool has_stop_list;
};
struct slm2_quality_opts { /* a set of rules, named by sources */
    char *name;
    double limit[SLM2_QUALITY_langs]; /* of the rules above */
    struct slm2_conf_list langs;     /* char *: the document must be in one of these; "unknown" allows what is in none that is known */
    double min_lang_score;           /* what is in none that is known fails it, unless langs has "unknown" */
    bool lang_match;                 /* the language identified must be the one that the document has by its record or source */
};
extern const struct slm2_opt slm2_quality_table[];
slm2_status slm2_quality_check(const struct slm2_quality_opts *o, struct slm2_err *err); /* SLM2_EUSAGE: a language that nobody knows */
bool slm2_quality_needs_langid(const struct slm2_quality_opts *o);
void slm2_quality_key(const struct slm2_quality_opts *o, struct slm2_buf *out); /* all that a verdict depends on, as text */

struct slm2_quality_work; /* working memory of one thread; only its size depends on what was measured before */
struct slm2_quality_work *slm2_quality_work_new(void); /* NULL: no memory */
void slm2_quality_work_free(struct slm2_quality_work *w);

/* lang: of the document, "" when unknown: whose stop words count.  All but top_gram and dup_gram, which are 0. */
slm2_status slm2_text_measure(struct slm2_text_measure *m, struct slm2_quality_work *w, const char *text, size_t n, const char *lang, struct slm2_err *err);
/* The others, of the text measured last with w. */
slm2_status slm2_text_measure_n_grams(struct slm2_text_measure *m, struct slm2_quality_work *w, struct slm2_err *err);
struct slm2_quality_verdict {
    enum slm2_quality_rule broken; /* SLM2_QUALITY_PASSED: none */
    const char *lang;             /* identified, "unknown"; NULL when the rules need no language */
};
/* lang: as the record or the source says, "" when neither does; then the identified one counts.  l may be NULL when not needed. */
slm2_status slm2_quality_judge(const struct slm2_quality_opts *o, const struct slm2_langid *l, struct slm2_quality_work *w, const char *text, size_t n, const char *lang,
                              struct slm2_quality_verdict *v, struct slm2_err *err);
#endif
