/* bound.h - which settings a stage's run is bound to: those that decide a bit of the model.  Works on the text that slm2_conf_dump makes. */
#ifndef SLM2_TRAIN_BOUND_H
#define SLM2_TRAIN_BOUND_H
#include "base/buf.h"

enum slm2_bound {
    SLM2_BOUND_RUN,      /* others would give another model */
    SLM2_BOUND_MEASURES, /* what is only measured: others give other figures, which cannot be laid beside those of the start */
    SLM2_BOUND_NOTHING,
};
/* Appends the settings of this kind; a key's indented lines go with it. */
void slm2_bound_settings(const char *dump, enum slm2_bound kind, struct slm2_buf *out);
/* SLM2_EUSAGE, naming the first that differs down to the item of a list, unless both texts of SLM2_BOUND_RUN agree.  path: the checkpoint, for the message. */
slm2_status slm2_bound_agree(const char *old, const char *now, const char *path, struct slm2_err *err);
#endif
