/* fuzz_text.c - what a build asks of a text: measures of quality, language, signature.  Any bytes give shares of 0 to 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/minhash.h"
#include "data/quality.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_share(double x) { return x >= 0 && x <= 1; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct slm2_langid *l;
    static struct slm2_near *near;
    static struct slm2_quality_work *w;
    const struct slm2_near_opts o = {.threshold = 0.5, .n_hash = 8, .n_band = 4, .shingle = 3};
    struct slm2_text_measure m;
    struct slm2_buf words = {0};
    uint16_t sig[8];
    if (!l && slm2_langid_open(&l, NULL, NULL) != SLM2_OK) return 0;
    if (!near && slm2_near_open(&near, &o, P_tmpdir, NULL) != SLM2_OK) return 0;
    if (!w && !(w = slm2_quality_work_new())) return 0;
    const char *text = (const char *)data;
    if (slm2_text_measure(&m, w, text, size, "fr", NULL) != SLM2_OK || slm2_text_measure_n_grams(&m, w, NULL) != SLM2_OK) return 0;
    const double shares[] = {m.bullet_lines, m.ellipsis_lines, m.alpha_words, m.digits, m.symbols, m.punct_lines, m.short_lines, m.dup_lines, m.dup_line_chars, m.dup_paragraphs,
                             m.dup_paragraph_chars, m.dup_gram[0], m.dup_gram[1], m.dup_gram[2], m.dup_gram[3], m.dup_gram[4], m.dup_gram[5]};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        if (!is_share(shares[i])) abort();
    }
    if (m.stop_words > m.words || m.words > (double)size || !(m.mean_word >= 0)) abort();
    if (!is_share(slm2_langid_of(l, text, size).score)) abort();
    if (slm2_near_sign(near, text, size, &words, sig, NULL) == SLM2_OK && slm2_near_find(near, sig).text >= 0) abort(); /* nothing was added */
    slm2_buf_free(&words);
    return 0;
}
