/* log.h - levels, a sink that the program sets, and the progress line for terminals. */
#ifndef SLM2_BASE_LOG_H
#define SLM2_BASE_LOG_H
#include "base/err.h"

enum slm2_log_level { SLM2_DEBUG, SLM2_INFO, SLM2_WARN };
typedef void slm2_log_fn(enum slm2_log_level level, const char *text, void *user);
void slm2_log_sink(slm2_log_fn *fn, void *user); /* NULL: silence, the library's default */
void slm2_log(enum slm2_log_level level, const char *fmt, ...) SLM2_PRINTF(2, 3);
void slm2_log_stderr(enum slm2_log_level level, const char *text, void *user); /* a sink: clears the progress line first; DEBUG is dropped */

/* A bar on stderr, only when stderr is a terminal and after half a second; redrawn at most ten times a second:
 * "pretrain  [#####.....]  48%  loss 7.31  1,830 tok/s  ETA 1:02".  One at a time. */
void slm2_progress(const char *what, double fraction, const char *fmt, ...) SLM2_PRINTF(3, 4);
void slm2_progress_end(void); /* clears it */

double slm2_now_s(void);     /* monotonic seconds */
double slm2_cpu_s(void);     /* CPU seconds of this process, all threads */
size_t slm2_peak_rss_bytes(void);
#endif
