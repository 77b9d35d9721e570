/* tune.c - the run that the fine-tuning stages share. */
#include "train/tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "data/records.h"
#include "tok/chat.h"
#include "train/bound.h"

const char *const slm2_tune_precisions[] = {"fp32", "bf16", NULL}; /* as enum slm2_precision */
const char *const slm2_tune_optims[] = {"adamw", "rmsprop", NULL}; /* as enum slm2_optim_kind */

slm2_status slm2_tune_settings(const struct slm2_opt *table, void *obj, size_t size, const struct slm2_stage_args *args, struct slm2_buf *dump, struct slm2_err *err)
{
    if (args->settings) memcpy(obj, args->settings, size);
    else {
        slm2_conf_init(table, obj);
        SLM2_TRY(slm2_conf_yaml(table, obj, args->config, err));
        for (int i = 0; i < args->n_sets; i++) SLM2_TRY(slm2_conf_set(table, obj, args->sets[i], err));
        if (args->threads > 0) {
            char set[40];
            snprintf(set, sizeof set, "threads=%d", args->threads);
            SLM2_TRY(slm2_conf_set(table, obj, set, err));
        }
    }
    SLM2_TRY(slm2_conf_required(table, obj, err));
    slm2_conf_dump(table, obj, dump);
    return slm2_buf_check(dump, err);
}

void slm2_tune_settings_free(const struct slm2_opt *table, void *obj, const struct slm2_stage_args *args)
{
    if (!args->settings) slm2_conf_free(table, obj); /* borrowed ones are the caller's */
}

double slm2_stage_figure(const struct slm2_stage_result *r, const char *name)
{
    for (int i = 0; i < r->n_figure; i++)
        if (!strcmp(r->figure[i].name, name)) return r->figure[i].value;
    return (double)NAN;
}

static void set_figure(struct slm2_stage_result *r, const char *prefix, const char *name, double value, bool keep_first)
{
    char full[40];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    for (int i = 0; i < r->n_figure; i++)
        if (!strcmp(r->figure[i].name, full)) {
            if (!keep_first) r->figure[i].value = value;
            return;
        }
    if (r->n_figure == SLM2_STAGE_MAX_FIGURES) return;
    snprintf(r->figure[r->n_figure].name, sizeof r->figure[0].name, "%s", full);
    r->figure[r->n_figure++].value = value;
}

void slm2_tune_metric(struct slm2_tune *tune, const char *name, double value)
{
    slm2_ledger_metric(tune->ledger, tune->step, name, value);
    set_figure(tune->result, "", name, value, false);
    if (tune->step == 0) set_figure(tune->result, "start.", name, value, true);
}

void slm2_tune_figure(struct slm2_tune *tune, const char *name, double value) { set_figure(tune->result, "", name, value, false); }

slm2_status slm2_tune_tok(struct slm2_tok **tok, const struct slm2_tune_opts *o, struct slm2_err *err)
{
    bool bundled;
    return slm2_tok_of_model(tok, &bundled, o->vocab, o->lora.adapter, o->model, err);
}

/* lora receives what to->lora points to. */
static slm2_status trainer_opts(struct slm2_trainer_opts *to, struct slm2_lora_opts *lora, const struct slm2_tune_opts *o, const struct slm2_stage_args *args, struct slm2_err *err)
{
    enum slm2_chat_template known;
    SLM2_TRY(slm2_records_template(o->chat, &known, err));
    *to = (struct slm2_trainer_opts){.model_path = o->model, .seed = (uint64_t)o->seed, .precision = (enum slm2_precision)o->precision, .optim = o->optim,
                                     .recompute = o->recompute, .max_tok = o->max_tok, .ctx = {.isa = args->isa, .n_threads = o->threads}};
    return slm2_tune_lora(&o->lora, lora, to, err);
}

static slm2_status check_vocab(const struct slm2_tune_opts *o, const struct slm2_tok *tok, const struct slm2_config *cfg, struct slm2_err *err)
{
    if (slm2_tok_n_vocab(tok) <= cfg->vocab_size) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "%s: the model has %d ids, the vocabulary %d; setting vocab names the model's own", o->model, cfg->vocab_size, slm2_tok_n_vocab(tok));
}

static slm2_status check_settings(const char *old, const char *now, const char *path, struct slm2_err *err)
{
    struct slm2_buf bound = {0}; /* an earlier version may have held more to be binding */
    if (!old) return slm2_fail(err, SLM2_EUSAGE, "%s: does not say the settings that this run began with: an earlier version wrote it; use another run folder", path);
    slm2_bound_settings(old, SLM2_BOUND_RUN, &bound);
    slm2_status st = slm2_buf_check(&bound, err);
    if (st == SLM2_OK) st = slm2_bound_agree(bound.v ? bound.v : "", now, path, err);
    slm2_buf_free(&bound);
    return st;
}

/* A run folder that began with other settings is refused before its ledger learns of them. */
static slm2_status settings_agree(const struct slm2_tune_opts *o, const char *config_dump, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    json_t *state = NULL;
    struct slm2_buf now = {0};
    SLM2_TRY(slm2_ckpt_newest(o->run, path, err));
    if (!path[0] || slm2_ckpt_state(path, &state, NULL) != SLM2_OK) return SLM2_OK; /* a damaged one is passed over later */
    slm2_bound_settings(config_dump, SLM2_BOUND_RUN, &now);
    slm2_status st = slm2_buf_check(&now, err);
    if (st == SLM2_OK) st = check_settings(json_string_value(json_object_get(state, "settings")), now.v, path, err);
    slm2_buf_free(&now);
    json_decref(state);
    return st;
}

slm2_status slm2_tune_open(struct slm2_tune *tune, const char *stage, const struct slm2_tune_opts *o, const struct slm2_stage_args *args, const char *config_dump, struct slm2_stage_result *result, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    memset(tune, 0, sizeof *tune);
    *result = (struct slm2_stage_result){.loss = (double)NAN};
    tune->o = o;
    tune->args = args;
    tune->config = config_dump;
    tune->result = result;
    tune->saved = -1;
    struct slm2_trainer_opts to;
    struct slm2_lora_opts lora;
    SLM2_TRY(trainer_opts(&to, &lora, o, args, err));
    SLM2_TRY(slm2_dir_make(o->run, err));
    SLM2_TRY(settings_agree(o, config_dump, err));
    SLM2_TRY(slm2_path_join(path, sizeof path, o->run, "run.sqlite", err));
    SLM2_TRY(slm2_ledger_open(&tune->ledger, path, stage, err));
    slm2_ledger_run(tune->ledger, "config", config_dump);
    slm2_ledger_run(tune->ledger, "model", o->model);
    SLM2_TRY(slm2_tune_tok(&tune->tok, o, err));
    SLM2_TRY(slm2_trainer_new(&tune->t, &to, err));
    SLM2_TRY(slm2_tune_lora_opened(tune, err));
    SLM2_TRY(check_vocab(o, tune->tok, &tune->t->model->cfg, err));
    SLM2_TRY(slm2_batch_init(&tune->batch, o->max_tok, o->max_tok, err));
    return slm2_ledger_commit(tune->ledger, err);
}

slm2_status slm2_tune_close(struct slm2_tune *tune, slm2_status st, struct slm2_err *err)
{
    slm2_status closed = slm2_ledger_close(tune->ledger, st == SLM2_OK ? err : NULL);
    slm2_watch_close(&tune->watch);
    slm2_batch_free(&tune->batch);
    slm2_trainer_free(tune->t);
    slm2_tok_free(tune->tok);
    memset(tune, 0, sizeof *tune);
    return st != SLM2_OK ? st : closed;
}

slm2_status slm2_tune_nothing(const char *stage, struct slm2_err *err)
{
    return slm2_fail(err, SLM2_EFORMAT, "%s: the data hold nothing to learn from: the counts above say why; where all records are invalid, their `format` is probably another", stage);
}

/* The run of so many items. */
static slm2_status schedule_of(struct slm2_schedule *sch, const struct slm2_tune_opts *o, const char *stage, int64_t n_item, struct slm2_err *err)
{
    int64_t n_step = (n_item * o->epochs + o->batch - 1) / o->batch, warmup = o->warmup_steps > 0 ? o->warmup_steps : (int64_t)ceil(o->warmup_ratio * (double)n_step);
    *sch = (struct slm2_schedule){.kind = o->schedule, .lr_peak = o->lr_peak, .lr_min = o->lr_min, .n_step = n_step, .n_warmup = warmup < n_step ? warmup : n_step, .cooldown_start = -1};
    return slm2_schedule_check(sch, stage, err);
}

/* ---- a run that is only planned --------------------------------------------------------------------------------------------- */
slm2_status slm2_tune_look(struct slm2_tune_look *look, const struct slm2_tune_opts *o, const struct slm2_stage_args *args, struct slm2_err *err)
{
    struct slm2_trainer_opts to;
    struct slm2_lora_opts lora;
    struct slm2_model *m;
    *look = (struct slm2_tune_look){.o = o};
    SLM2_TRY(trainer_opts(&to, &lora, o, args, err));
    if (!slm2_path_exists(o->model)) { /* often the data are there first */
        slm2_log(SLM2_WARN, "%s: no such model yet; the data are planned for, what depends on its size is not checked", o->model);
        look->cfg.n_ctx = INT32_MAX - 1;
        return slm2_tune_tok(&look->tok, o, err);
    }
    SLM2_TRY(slm2_trainer_look(&m, &look->bytes, &to, err));
    look->cfg = m->cfg;
    look->trained = slm2_model_trained(m)->n_elem;
    look->total = m->params.n_elem + (m->lora ? look->trained : 0);
    slm2_model_free(m);
    SLM2_TRY(slm2_tune_tok(&look->tok, o, err));
    return check_vocab(o, look->tok, &look->cfg, err);
}

void slm2_tune_look_free(struct slm2_tune_look *look)
{
    slm2_tok_free(look->tok);
    *look = (struct slm2_tune_look){0};
}

slm2_status slm2_tune_plan(const struct slm2_tune_look *look, const char *stage, int64_t n_item, const char *items, struct slm2_buf *text, json_t **json, struct slm2_err *err)
{
    const struct slm2_tune_opts *o = look->o;
    struct slm2_schedule sch = {0};
    if (n_item < 1) {
        if (text->n) slm2_log(SLM2_INFO, "%.*s", (int)text->n - 1, text->v); /* the account says why */
        return slm2_tune_nothing(stage, err);
    }
    SLM2_TRY(schedule_of(&sch, o, stage, n_item, err));
    slm2_buf_printf(text, "%lld epochs in updates of %lld %s: %lld updates\n", (long long)o->epochs, (long long)o->batch, items, (long long)sch.n_step);
    if (look->total) slm2_buf_printf(text, "%zu of %zu parameters are trained; the trainer holds %.3g GiB, beside %s\n", look->trained, look->total, (double)look->bytes / (1 << 30),
                    look->trained < look->total ? "the mapped model" : "what the data take");
    json_t *more = json_pack("{s:I}", "updates", (json_int_t)sch.n_step);
    json_t *size = json_pack("{s:I, s:I, s:I}", "trained_parameters", (json_int_t)look->trained, "parameters", (json_int_t)look->total, "trainer_bytes", (json_int_t)look->bytes);
    bool done = *json && more && size && json_object_update(*json, more) == 0 && (!look->total || json_object_update(*json, size) == 0);
    json_decref(size);
    json_decref(more);
    return done ? slm2_buf_check(text, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for the account");
}

/* The items of update `step`: a window of epochs laid end to end, each epoch in its own seeded order. */
struct order {
    uint32_t *perm, *items;
    int64_t epoch; /* whose order perm holds, -1: none */
};

static void items_of(struct order *o, const struct slm2_tune_opts *opts, int n_item, int64_t step, int n)
{
    for (int i = 0; i < n; i++) {
        int64_t at = step * opts->batch + i, epoch = at / n_item;
        if (epoch != o->epoch) {
            slm2_rng_permute((uint64_t)opts->seed, SLM2_RNG_SHUFFLE, (uint64_t)epoch, o->perm, (uint32_t)n_item);
            o->epoch = epoch;
        }
        o->items[i] = o->perm[at % n_item];
    }
}

bool slm2_tune_stopping(const struct slm2_tune *tune) { return tune->args->stop && *tune->args->stop; }

/* What a checkpoint must agree with to be gone on from, and the figures that the run started with. */
static json_t *state_of(const struct slm2_tune *tune, const struct slm2_tune_stage *stage)
{
    const struct slm2_tune_opts *o = tune->o;
    const struct slm2_stage_result *r = tune->result;
    struct slm2_buf settings = {0}, measures = {0};
    json_t *start = json_object();
    slm2_bound_settings(tune->config, SLM2_BOUND_RUN, &settings);
    slm2_bound_settings(tune->config, SLM2_BOUND_MEASURES, &measures);
    for (int i = 0; start && i < r->n_figure; i++)
        if (!strncmp(r->figure[i].name, "start.", 6)) json_object_set_new(start, r->figure[i].name, json_real(r->figure[i].value));
    json_t *state = json_pack("{s:s, s:s%, s:s%, s:s*, s:I, s:I, s:I, s:I, s:o, s:o*}", "stage", stage->name, "settings", settings.v ? settings.v : "", settings.n, "measures", measures.v ? measures.v : "", measures.n, "data", stage->data, "n_item",
                              (json_int_t)stage->n_item, "batch", (json_int_t)o->batch, "epochs", (json_int_t)o->epochs, "order_seed", (json_int_t)o->seed, "start", start, "lora",
                              slm2_tune_lora_state(tune));
    slm2_buf_free(&settings);
    slm2_buf_free(&measures);
    return state;
}

static slm2_status save(struct slm2_tune *tune, const struct slm2_tune_stage *stage, struct slm2_err *err)
{
    if (tune->saved == tune->step) return SLM2_OK; /* it is there: writing it again could only lose it */
    json_t *state = state_of(tune, stage);
    if (!state) return slm2_fail(err, SLM2_ENOMEM, "no memory for the state of a checkpoint");
    slm2_status st = slm2_ckpt_save(tune->o->run, tune->t, tune->tok, state, (int)tune->o->keep, -1, NULL, err);
    json_decref(state);
    if (st != SLM2_OK) return st;
    tune->saved = tune->step;
    slm2_ledger_event(tune->ledger, tune->step, "checkpoint", "step %lld", (long long)tune->step);
    return slm2_ledger_commit(tune->ledger, err);
}

/* The settings that decide what an update does must be those of the checkpoint, and so must data and base model be. */
static slm2_status check_state(const json_t *state, const json_t *now, const char *path, struct slm2_err *err)
{
    static const char *const keys[] = {"stage", "settings", "n_item", "data", "batch", "epochs", "order_seed", "lora"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *old = json_object_get(state, keys[i]), *new = json_object_get(now, keys[i]);
        if (!strcmp(keys[i], "settings")) SLM2_TRY(check_settings(json_string_value(old), json_string_value(new), path, err));
        else if (old != new && !json_equal(old, new)) /* both may be absent */
            return slm2_fail(err, SLM2_EUSAGE, "%s: %s was another when this run began; go on with the old settings and data, or use another run folder", path, keys[i]);
    }
    return SLM2_OK;
}

slm2_status slm2_tune_agrees(const struct slm2_tune *tune, const struct slm2_tune_stage *stage, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    json_t *state = NULL;
    SLM2_TRY(slm2_ckpt_newest(tune->o->run, path, err));
    if (!path[0] || slm2_ckpt_state(path, &state, NULL) != SLM2_OK) return SLM2_OK; /* a damaged one is passed over later */
    json_t *now = state_of(tune, stage);
    slm2_status st = now ? check_state(state, now, path, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for the state of a checkpoint");
    json_decref(now);
    json_decref(state);
    return st;
}

static slm2_status resume(struct slm2_tune *tune, const struct slm2_tune_stage *stage, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    json_t *state = NULL, *v;
    const char *name;
    SLM2_TRY(slm2_ckpt_find(tune->o->run, path, err));
    if (!path[0]) return SLM2_OK;
    SLM2_TRY(slm2_ckpt_state(path, &state, err));
    json_t *now = state_of(tune, stage);
    slm2_status st = now ? check_state(state, now, path, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for the state of a checkpoint");
    if (st == SLM2_OK) st = slm2_ckpt_load(path, tune->t, err);
    bool measured_so = json_equal(json_object_get(state, "measures"), json_object_get(now, "measures"));
    if (st == SLM2_OK && measured_so) json_object_foreach(json_object_get(state, "start"), name, v) set_figure(tune->result, "", name, json_number_value(v), false);
    json_decref(now);
    json_decref(state);
    if (st != SLM2_OK) return st;
    if (!measured_so) slm2_log(SLM2_WARN, "%s: what is measured is not what was measured when this run began: there are no figures of its start", stage->name);
    tune->step = tune->saved = tune->t->n_update;
    slm2_ledger_rewind(tune->ledger, tune->step);
    slm2_ledger_event(tune->ledger, tune->step, "resume", "%s", path);
    slm2_log(SLM2_INFO, "%s: resumed at step %lld from %s", stage->name, (long long)tune->step, path);
    return SLM2_OK;
}

static slm2_status train(struct slm2_tune *tune, const struct slm2_tune_stage *stage, const struct slm2_schedule *sch, struct order *order, struct slm2_err *err)
{
    const struct slm2_tune_opts *o = tune->o;
    double began = slm2_now_s();
    int64_t first = tune->step, total = (int64_t)stage->n_item * o->epochs;
    for (; tune->step < sch->n_step; ) {
        if (slm2_tune_stopping(tune)) {
            slm2_progress_end();
            SLM2_TRY(save(tune, stage, err));
            return slm2_fail(err, SLM2_ESTOP, "stopped at step %lld of %lld; run the same command again to go on", (long long)tune->step, (long long)sch->n_step);
        }
        int n = (int)(total - tune->step * o->batch < o->batch ? total - tune->step * o->batch : o->batch);
        struct slm2_step_stats stats;
        items_of(order, o, stage->n_item, tune->step, n);
        slm2_trainer_begin(tune->t);
        SLM2_TRY(stage->step(stage->user, tune, order->items, n, err));
        tune->t->loss = tune->loss;
        SLM2_TRY(slm2_trainer_update(tune->t, slm2_schedule_lr(sch, tune->step), &stats, err));
        tune->step++;
        tune->result->n_new++;
        tune->result->loss = tune->loss;
        slm2_ledger_metric(tune->ledger, tune->step, "loss", tune->loss);
        slm2_ledger_metric(tune->ledger, tune->step, "lr", stats.lr);
        slm2_ledger_metric(tune->ledger, tune->step, "grad_norm", stats.grad_norm);
        double eta = (slm2_now_s() - began) / (double)(tune->step - first) * (double)(sch->n_step - tune->step);
        slm2_progress(stage->name, (double)tune->step / (double)sch->n_step, "loss %.4f  lr %.2e  norm %.2f  ETA %d:%02d", tune->loss, stats.lr, stats.grad_norm, (int)eta / 60, (int)eta % 60);
        if (o->valid_every && tune->step % o->valid_every == 0 && tune->step < sch->n_step) SLM2_TRY(stage->validate(stage->user, tune, err));
        if (o->checkpoint_every && tune->step % o->checkpoint_every == 0) SLM2_TRY(save(tune, stage, err));
    }
    return SLM2_OK;
}

slm2_status slm2_tune_run(struct slm2_tune *tune, const struct slm2_tune_stage *stage, struct slm2_err *err)
{
    const struct slm2_tune_opts *o = tune->o;
    double began = slm2_now_s();
    if (stage->n_item < 1) return slm2_tune_nothing(stage->name, err);
    struct slm2_schedule sch;
    struct order order = {.perm = malloc(sizeof(uint32_t) * (size_t)stage->n_item), .items = malloc(sizeof(uint32_t) * (size_t)o->batch), .epoch = -1};
    slm2_status st = order.perm && order.items ? schedule_of(&sch, o, stage->name, stage->n_item, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for the order of items");
    if (st == SLM2_OK) st = resume(tune, stage, err);
    if (st == SLM2_OK) st = slm2_watch_open(&tune->watch, &o->watch, stage->name, tune->step, sch.n_step, tune->ledger, err);
    if (st == SLM2_OK && tune->saved < 0) st = stage->validate(stage->user, tune, err);
    if (st == SLM2_OK) st = train(tune, stage, &sch, &order, err);
    if (st == SLM2_OK) st = stage->validate(stage->user, tune, err);
    slm2_progress_end();
    if (st == SLM2_OK) st = save(tune, stage, err); /* the same command again finds the work done */
    if (st == SLM2_OK) st = slm2_path_join(tune->result->final_dir, sizeof tune->result->final_dir, o->run, "final", err);
    if (st == SLM2_OK) st = slm2_ckpt_export(tune->result->final_dir, tune->t, tune->tok, slm2_chat_jinja(!strcmp(o->chat, "chatml") ? SLM2_CHAT_CHATML : SLM2_CHAT_ZEPHYR), err);
    if (st == SLM2_OK) {
        tune->result->n_step = sch.n_step;
        tune->result->wall_s = slm2_now_s() - began;
        for (int i = 0; i < tune->result->n_figure; i++) slm2_ledger_figure(tune->ledger, tune->result->figure[i].name, tune->result->figure[i].value);
        slm2_ledger_event(tune->ledger, tune->step, "finish", "%lld updates", (long long)sch.n_step);
        st = slm2_ledger_commit(tune->ledger, err);
    }
    free(order.perm);
    free(order.items);
    return st;
}
