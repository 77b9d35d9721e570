/* watch.c - opens what listens to a run's ledger. */
#include "train/watch.h"

#include "train/metrics.h"
#include "train/tensorboard.h"

slm2_status slm2_watch_open(struct slm2_watch *w, const struct slm2_watch_opts *o, const char *stage, int64_t step, int64_t n_step, struct slm2_ledger *l, struct slm2_err *err)
{
    *w = (struct slm2_watch){0};
    if (*o->tensorboard) {
        SLM2_TRY(slm2_tb_open(&w->tensorboard, o->tensorboard, step, err));
        slm2_tb_listen(w->tensorboard, l);
    }
    if (!o->metrics_port) return SLM2_OK;
    struct slm2_metrics_opts m = {.address = o->metrics_address, .port = o->metrics_port, .stage = stage, .n_step = n_step, .step = step};
    SLM2_TRY(slm2_metrics_open(&w->metrics, &m, err));
    slm2_metrics_listen(w->metrics, l);
    return SLM2_OK;
}

void slm2_watch_close(struct slm2_watch *w)
{
    slm2_tb_close(w->tensorboard);
    slm2_metrics_close(w->metrics);
    *w = (struct slm2_watch){0};
}
