/* text.h - text and numbers for a page: escaping, quantities as people read them. */
#ifndef SLM2_REPORT_TEXT_H
#define SLM2_REPORT_TEXT_H
#include "base/buf.h"

/* Appends text so that it is only text in HTML and SVG, inside elements and quoted attributes.  Bytes that are not UTF-8 and
 * control characters become U+FFFD.  NULL is empty. */
void slm2_html_escape(struct slm2_buf *b, const char *text);
/* The same for at most max_chars characters; the rest becomes an ellipsis. */
void slm2_html_escape_short(struct slm2_buf *b, const char *text, int max_chars);

enum { SLM2_TEXT_MAX = 48 };
/* Each writes into out[SLM2_TEXT_MAX] and returns it; NaN is an en dash. */
const char *slm2_text_count(char *out, double v);    /* 0, 950, 12.3 k, 1.64 G */
const char *slm2_text_bytes(char *out, double v);    /* 512 B, 1.5 KiB, 3.06 GiB */
const char *slm2_text_seconds(char *out, double v);  /* 0.42 s, 3 min 07 s, 2 h 05 min */
const char *slm2_text_real(char *out, double v);     /* 4 significant digits, no needless zeros: 4.213, 0.0004, 4e-05 */
const char *slm2_text_watt_hours(char *out, double wh); /* 12.3 Wh, 1.2 kWh, 30 MWh */
const char *slm2_text_grams(char *out, double g);       /* 12.3 g, 1.2 kg, 11 t */
#endif
