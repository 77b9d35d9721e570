/* ablate.h - the results of a grid of small models (`slm2 ablate`) as a text table and as a page with charts. */
#ifndef SLM2_REPORT_ABLATE_H
#define SLM2_REPORT_ABLATE_H
#include "base/buf.h"

enum { SLM2_ABLATE_MAX_LANG = 32 };
struct slm2_ablate_cell {
    double share;                       /* of non-English tokens in training, 0 to 1 */
    const char *digits, *schedule;      /* "split"; "hybrid" */
    double bits[SLM2_ABLATE_MAX_LANG];  /* bits per byte of held-out text, by language of the grid; NaN: none */
    double english, other, all;         /* of English; mean of the other languages; of all bytes */
    double loss;                        /* nats a token of all: not comparable between tokenizers */
};
struct slm2_ablate_grid {
    const char *title, *note;           /* note: what was trained, a sentence of text */
    const char *lang[SLM2_ABLATE_MAX_LANG];
    int n_lang;
    const struct slm2_ablate_cell *cell; /* [n], in order of digits, schedule, share */
    int n;
};
void slm2_ablate_text(const struct slm2_ablate_grid *g, struct slm2_buf *out); /* aligned lines, a block for digits and schedule */
void slm2_ablate_html(const struct slm2_ablate_grid *g, struct slm2_buf *out); /* self-contained, no scripts */
#endif
