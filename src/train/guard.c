/* guard.c - judges a step by numbers that all ranks have alike; see guard.h. */
#include "train/guard.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const slm2_guard_actions[] = {"stop", "skip", "rollback", NULL};

enum { WHY_BYTES = 160 };

/* Oldest first: the sums have one order. */
static double at(const struct slm2_guard *g, const struct slm2_guard_opts *o, int i) { return g->loss[g->n < o->window ? i : (g->at + i) % o->window]; }

enum slm2_guard_verdict slm2_guard_judge(const struct slm2_guard *g, const struct slm2_guard_opts *o, double loss, double grad_norm, char *why)
{
    if (!isfinite(loss) || !isfinite(grad_norm)) {
        snprintf(why, WHY_BYTES, "loss %g and gradient norm %g are not both finite", loss, grad_norm);
        return SLM2_GUARD_NAN;
    }
    if (o->max_norm > 0 && grad_norm > o->max_norm) {
        snprintf(why, WHY_BYTES, "gradient norm %.4g is above %.4g", grad_norm, o->max_norm);
        return SLM2_GUARD_SPIKE;
    }
    if (!(o->sigma > 0) || g->n < o->window) return SLM2_GUARD_FINE;
    double sum = 0, squares = 0;
    for (int i = 0; i < g->n; i++) sum += at(g, o, i);
    double mean = sum / g->n;
    for (int i = 0; i < g->n; i++) squares += (at(g, o, i) - mean) * (at(g, o, i) - mean);
    double deviation = sqrt(squares / g->n);
    if (!(loss > mean + o->sigma * deviation)) return SLM2_GUARD_FINE;
    snprintf(why, WHY_BYTES, "loss %.4f is above %.4f + %.3g x %.4f of the last %d steps", loss, mean, o->sigma, deviation, g->n);
    return SLM2_GUARD_SPIKE;
}

void slm2_guard_accept(struct slm2_guard *g, const struct slm2_guard_opts *o, double loss)
{
    if (g->n < o->window) {
        g->loss[g->n++] = loss;
        return;
    }
    g->loss[g->at] = loss;
    g->at = (g->at + 1) % o->window;
}

json_t *slm2_guard_json(const struct slm2_guard *g, const struct slm2_guard_opts *o)
{
    json_t *list = json_array();
    for (int i = 0; list && i < g->n; i++) json_array_append_new(list, json_real(at(g, o, i)));
    return json_pack("{s:i, s:i, s:o}", "window", o->window, "events", g->n_event, "losses", list);
}

slm2_status slm2_guard_take(struct slm2_guard *g, const struct slm2_guard_opts *o, const json_t *j, struct slm2_err *err)
{
    int64_t window, events;
    memset(g, 0, sizeof *g);
    if (!j) return SLM2_OK;
    SLM2_TRY(slm2_json_get_int(j, "window", "state.json: guard", 0, SLM2_GUARD_WINDOW, &window, err));
    SLM2_TRY(slm2_json_get_int(j, "events", "state.json: guard", 0, INT32_MAX, &events, err));
    const json_t *list = json_object_get(j, "losses"), *x;
    size_t i;
    if (!json_is_array(list) || json_array_size(list) > (size_t)window) return slm2_fail(err, SLM2_EFORMAT, "state.json: guard: losses: want a list of at most %d numbers", (int)window);
    g->n_event = (int)events;
    if (window != o->window) return SLM2_OK;
    json_array_foreach(list, i, x) g->loss[g->n++] = json_number_value(x);
    return SLM2_OK;
}
