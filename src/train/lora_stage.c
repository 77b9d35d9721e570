/* lora_stage.c - what of a fine-tuning stage is different when an adapter is trained: settings, counts, what a checkpoint must agree with. */
#include <string.h>

#include "base/log.h"
#include "train/tune.h"

slm2_status slm2_tune_lora(const struct slm2_tune_lora *s, struct slm2_lora_opts *lora, struct slm2_trainer_opts *to, struct slm2_err *err)
{
    if (s->adapter[0]) {
        if (s->rank) return slm2_fail(err, SLM2_EUSAGE, "lora.adapter %s brings its own rank: leave lora.rank at 0", s->adapter);
        to->adapter = s->adapter;
        return SLM2_OK;
    }
    if (!s->rank) return SLM2_OK;
    *lora = (struct slm2_lora_opts){.rank = s->rank, .alpha = s->alpha > 0 ? s->alpha : 2.0 * s->rank, .rslora = s->rslora, .targets = s->targets.n ? 0 : slm2_lora_all_targets()};
    for (int i = 0; i < s->targets.n; i++) {
        uint32_t bit;
        slm2_status st = slm2_lora_target(((char **)s->targets.items)[i], &bit, err);
        if (st != SLM2_OK) return st;
        lora->targets |= bit;
    }
    to->lora = lora;
    return SLM2_OK;
}

slm2_status slm2_tune_lora_opened(struct slm2_tune *tune, struct slm2_err *err)
{
    const struct slm2_model *m = tune->t->model;
    size_t trained = slm2_model_trained(m)->n_elem, total = m->params.n_elem + (m->lora ? trained : 0);
    slm2_ledger_figure(tune->ledger, "trainable_parameters", (double)trained);
    slm2_ledger_figure(tune->ledger, "total_parameters", (double)total);
    if (!m->lora) return SLM2_OK;
    slm2_log(SLM2_INFO, "adapter of rank %d, counted %g times: %zu of %zu parameters are trained (%.2f %%)", m->lora->o.rank, (double)m->lora->scale, trained, total,
             100.0 * (double)trained / (double)total);
    return slm2_model_fingerprint(m, tune->base, err);
}

json_t *slm2_tune_lora_state(const struct slm2_tune *tune)
{
    const struct slm2_lora *l = tune->t->model->lora;
    return l ? json_pack("{s:i, s:f, s:I, s:s}", "rank", l->o.rank, "scale", (double)l->scale, "targets", (json_int_t)l->o.targets, "base", tune->base) : NULL;
}
