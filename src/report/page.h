/* page.h - what the pages of the report are made of.  page.c: the look, the frame, the parts of tables.  html.c: the page of a run.
 * curves.c: charts of one run.  compare.c: several runs on one page.  scores.c: MT-Bench, quantised files beside their original.  Text given here is escaped unless it says HTML. */
#ifndef SLM2_REPORT_PAGE_H
#define SLM2_REPORT_PAGE_H
#include "report/report.h"
#include "report/runs.h"

/* ---- frame and tables ----------------------------------------------------------------------------------------------- */
void slm2_page_start(struct slm2_buf *b, const char *title); /* up to the headline */
void slm2_page_end(struct slm2_buf *b);
void slm2_page_heading(struct slm2_buf *b, const char *id, const char *text);
void slm2_page_tile(struct slm2_buf *b, const char *name, const char *value);
/* heads: HTML names parted by '|'; those that begin with '#' are columns of numbers.  Then rows: slm2_page_row opens one with its
 * first cell, cells follow, "</tr>" closes it. */
void slm2_page_table(struct slm2_buf *b, const char *heads);
void slm2_page_row(struct slm2_buf *b, const char *text);
void slm2_page_cell(struct slm2_buf *b, const char *class, const char *text); /* class "n": a number, "path": long text */
void slm2_page_cell_real(struct slm2_buf *b, double v);
void slm2_page_table_end(struct slm2_buf *b);

/* ---- curves --------------------------------------------------------------------------------------------------------- */
struct slm2_curve { double *x, *y; int n; };
slm2_status slm2_curve_read(struct slm2_curve *c, const struct slm2_report_run *run, const char *metric, struct slm2_err *err); /* x: steps */
/* Mean over a window around each value, about a twenty-fifth of the curve wide; shorter at the ends. */
slm2_status slm2_curve_smooth(struct slm2_curve *out, const struct slm2_curve *c, struct slm2_err *err);
void slm2_curve_free(struct slm2_curve *c);

/* ---- whole parts ---------------------------------------------------------------------------------------------------- */
/* The whole page into out. */
slm2_status slm2_report_html(const struct slm2_report_runs *r, const struct slm2_report_opts *o, struct slm2_buf *out, struct slm2_err *err);
slm2_status slm2_report_compare_html(const struct slm2_report_runs *r, const struct slm2_report_opts *o, struct slm2_buf *out, struct slm2_err *err);
/* Charts of one run, by its stage. */
slm2_status slm2_report_curves(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err);
/* The sections of mtbench.json and of compare.json; false when there is nothing to show. */
bool slm2_report_mtbench(const struct slm2_report_runs *r, struct slm2_buf *out);
bool slm2_report_losses(const struct slm2_report_runs *r, struct slm2_buf *out);
const char *slm2_report_stage_title(const char *stage); /* "Pre-training"; unknown ones as they are */
#endif
