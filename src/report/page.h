/* page.h - the parts of the page, in two files: tables and the frame (html.c), curves (curves.c). */
#ifndef SLM2_REPORT_PAGE_H
#define SLM2_REPORT_PAGE_H
#include "report/report.h"
#include "report/runs.h"

/* The whole page into out. */
slm2_status slm2_report_html(const struct slm2_report_runs *r, const struct slm2_report_opts *o, struct slm2_buf *out, struct slm2_err *err);
/* Charts of one run, by its stage. */
slm2_status slm2_report_curves(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err);
const char *slm2_report_stage_title(const char *stage); /* "Pre-training"; unknown ones as they are */
#endif
