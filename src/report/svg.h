/* svg.h - charts as <figure> elements with inline SVG.  Colours come from the page: classes c0..c7 (lines), b0..b3 (bands).
 *
 * The legend is HTML below the drawing, so it wraps and never covers a curve.  Text given here is escaped; values that are not
 * finite are left out and interrupt their line. */
#ifndef SLM2_REPORT_SVG_H
#define SLM2_REPORT_SVG_H
#include "base/buf.h"

enum { SLM2_SVG_N_COLOR = 8 };
struct slm2_svg_line {
    const char *label;      /* NULL: not in the legend */
    const double *x, *y;    /* [n], x ascending */
    int n, color;
    bool faint, marks;      /* pale; a dot at each value */
};
struct slm2_svg_rule { const char *label; double y; int color; };         /* a dashed horizontal line */
struct slm2_svg_band { const char *label; double from, to; };             /* a shaded range of x, named in the legend and, where it fits, inside */
struct slm2_svg_chart {
    const char *title, *x_label;
    const struct slm2_svg_line *line;
    const struct slm2_svg_rule *rule;
    const struct slm2_svg_band *band;
    int n_line, n_rule, n_band;
    bool y_zero, y_log;     /* the axis begins at 0; is logarithmic (only values above 0 are drawn) */
    bool scatter;           /* points by themselves: room to the left and to the right of them */
};
void slm2_svg_chart(struct slm2_buf *b, const struct slm2_svg_chart *c); /* nothing when there is no value at all */

struct slm2_svg_bar { const char *label; double value, plan; };            /* one of them may be NaN: none.  plan is drawn as a pale bar behind */
void slm2_svg_bars(struct slm2_buf *b, const char *title, const char *value_name, const char *plan_name, const struct slm2_svg_bar *bar, int n);

struct slm2_svg_ring { const char *label; const double *v; int color; };   /* v[n_axis]; what is not finite is left out */
/* Values from 0 to top on n_axis >= 3 axes around a centre, a closed line for each ring; nothing when there is no value at all. */
void slm2_svg_radar(struct slm2_buf *b, const char *title, const char *const *axis, int n_axis, double top, const struct slm2_svg_ring *ring, int n_ring);

/* A round step so that [lo, hi] has about n_tick ticks: 1, 2 or 5 times a power of ten; above 0. */
double slm2_svg_step(double lo, double hi, int n_tick);
#endif
