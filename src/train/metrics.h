/* metrics.h - the state of a run for Prometheus: GET http://ADDRESS:PORT/metrics while it trains, text format 0.0.4.
 *
 * A thread of libmicrohttpd answers from a snapshot; the training thread only copies a few numbers into it under a lock, when the ledger
 * is written.  So the bits of the run do not change, and a slow reader cannot hold it up.  Bounded: 8 connections, 10 seconds each, a page
 * of some kilobytes whatever the names of sources are.  Whoever reaches the port may read it: the default address is this machine only. */
#ifndef SLM2_TRAIN_METRICS_H
#define SLM2_TRAIN_METRICS_H
#include "train/ledger.h"

struct slm2_metrics;
struct slm2_metrics_opts {
    const char *address; /* numeric IPv4 or IPv6 */
    int port;            /* 1 to 65535 */
    const char *stage;   /* "pretrain" */
    int64_t n_step;      /* planned; 0: unknown */
    int64_t step;        /* updates made, of a resumed run: also the newest checkpoint */
};
/* SLM2_EIO names address and port when they cannot be had. */
slm2_status slm2_metrics_open(struct slm2_metrics **m, const struct slm2_metrics_opts *o, struct slm2_err *err);
void slm2_metrics_close(struct slm2_metrics *m); /* NULL allowed; waits for replies under way */
/* Listens to l until both are closed; m must live as long as l. */
void slm2_metrics_listen(struct slm2_metrics *m, struct slm2_ledger *l);

/* The page as it stands; now_s as slm2_now_s. */
void slm2_metrics_page(struct slm2_metrics *m, double now_s, struct slm2_buf *out);
#endif
