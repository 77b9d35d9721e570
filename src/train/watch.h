/* watch.h - who may watch a run of any stage: the settings for TensorBoard files and the metrics page, opened and closed together. */
#ifndef SLM2_TRAIN_WATCH_H
#define SLM2_TRAIN_WATCH_H
#include "base/conf.h"
#include "train/ledger.h"

struct slm2_watch_opts {
    char *tensorboard;     /* folder; "": none */
    char *metrics_address;
    int metrics_port;      /* 0: none */
};
#define SLM2_WATCH_ROW_(T, m, f, key, type, hi, def, help) {key, type, offsetof(T, m) + offsetof(struct slm2_watch_opts, f), 0, hi, def, help, NULL, NULL, 0, 0}
/* Rows of a settings table for member m (a struct slm2_watch_opts) of struct T. */
#define SLM2_WATCH_ROWS(T, m)                                                                                                                          \
    SLM2_WATCH_ROW_(T, m, tensorboard, "tensorboard", SLM2_OPT_STR, 0, NULL, "folder for TensorBoard event files; none: do not write any"),             \
    SLM2_WATCH_ROW_(T, m, metrics_port, "metrics_port", SLM2_OPT_INT, 65535, "0", "port of http://ADDRESS:PORT/metrics for Prometheus while the run goes on; 0: none"), \
    SLM2_WATCH_ROW_(T, m, metrics_address, "metrics_address", SLM2_OPT_STR, 0, "127.0.0.1", "address of metrics_port; other machines reach what is not a loopback address")

struct slm2_watch { struct slm2_tb *tensorboard; struct slm2_metrics *metrics; }; /* NULL: not asked for */
/* They listen to l from now on.  step: updates made already; n_step: planned.  After a failure slm2_watch_close frees what was opened. */
slm2_status slm2_watch_open(struct slm2_watch *w, const struct slm2_watch_opts *o, const char *stage, int64_t step, int64_t n_step, struct slm2_ledger *l, struct slm2_err *err);
void slm2_watch_close(struct slm2_watch *w); /* after the ledger */
#endif
