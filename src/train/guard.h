/* guard.h - what a run does about a step whose numbers are bad: not finite, or a spike.
 *
 * A spike is a loss above mean + sigma * standard deviation of the last `window` accepted steps (judged once there are so many), or a gradient norm
 * above max_norm.  Judged before the update, by all ranks on the same numbers:
 *     stop      the run ends with an error that names step and rows; its last checkpoint stands
 *     skip      no update; the run goes on with the next rows
 *     rollback  weights, optimizer and window of the last regular checkpoint (a multiple of ckpt.every); the rows since then up to the
 *               bad ones are not seen again.  Without one yet: skip
 * Everything that decides is in the checkpoint's state, so a resumed run decides as one that was not stopped. */
#ifndef SLM2_TRAIN_GUARD_H
#define SLM2_TRAIN_GUARD_H
#include "base/json.h"

enum { SLM2_GUARD_WINDOW = 1024 };
enum slm2_guard_action { SLM2_GUARD_STOP, SLM2_GUARD_SKIP, SLM2_GUARD_ROLLBACK };
extern const char *const slm2_guard_actions[]; /* names of the settings */

struct slm2_guard_opts {
    int on_nan, on_spike; /* enum slm2_guard_action */
    double sigma;         /* 0: losses are not judged */
    double max_norm;      /* 0: norms are not judged */
    int window;           /* 2 .. SLM2_GUARD_WINDOW */
    int limit;            /* events of a run; one more ends it, whatever the action */
};
struct slm2_guard {
    double loss[SLM2_GUARD_WINDOW]; /* a ring: loss[at] is the oldest once n is the window */
    int n, at, n_event;
};
enum slm2_guard_verdict { SLM2_GUARD_FINE, SLM2_GUARD_NAN, SLM2_GUARD_SPIKE };
/* why [160] receives the numbers of a verdict that is not FINE. */
enum slm2_guard_verdict slm2_guard_judge(const struct slm2_guard *g, const struct slm2_guard_opts *o, double loss, double grad_norm, char *why);
void slm2_guard_accept(struct slm2_guard *g, const struct slm2_guard_opts *o, double loss);
json_t *slm2_guard_json(const struct slm2_guard *g, const struct slm2_guard_opts *o);
/* j NULL: a fresh guard.  A window of another length starts anew. */
slm2_status slm2_guard_take(struct slm2_guard *g, const struct slm2_guard_opts *o, const json_t *j, struct slm2_err *err);
#endif
