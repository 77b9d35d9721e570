/* pretrain_state.c - what a pre-training run keeps on disk to go on from: checkpoints with their state.json, and the way back to one. */
#include "train/pretrain_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

static json_t *sources_json(const struct slm2_pretrain *r)
{
    json_t *j = json_array();
    for (int i = 0; j && i < r->n_source; i++) json_array_append_new(j, json_pack("{s:s, s:f}", "name", r->train[i].name, "weight", r->train[i].weight));
    if (j && r->o->shuffle_rows) json_array_append_new(j, json_string("shuffle_rows"));
    return j;
}

static slm2_status same_int(const struct slm2_pretrain *r, const json_t *state, const char *key, int64_t now, struct slm2_err *err)
{
    int64_t was;
    SLM2_TRY(slm2_json_get_int(state, key, "state.json", INT64_MIN, INT64_MAX, &was, err));
    if (was == now) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "%s: %s is %lld, the checkpoint in %s was made with %lld; use another run folder or resume=fresh", r->what, key, (long long)now, r->o->run, (long long)was);
}

slm2_status slm2_pretrain_take(struct slm2_pretrain *r, const char *ckpt, struct slm2_err *err)
{
    json_t *state = NULL, *now = NULL;
    int64_t start;
    SLM2_TRY(slm2_ckpt_load(ckpt, r->t, err));
    SLM2_TRY(slm2_ckpt_state(ckpt, &state, err));
    slm2_status st = same_int(r, state, "n_ctx", r->n_ctx, err);
    if (st == SLM2_OK) st = same_int(r, state, "data_seed", r->o->seed, err);
    if (st == SLM2_OK) st = slm2_json_get_int(state, "rows", "state.json", 0, (int64_t)1 << 48, &r->n_row, err);
    if (st == SLM2_OK) st = slm2_json_get_bool_or(state, "cooldown_by_signal", "state.json", false, &r->cooldown_by_signal, err);
    if (st == SLM2_OK) st = slm2_json_get_int_or(state, "cooldown_start", "state.json", -1, INT64_MAX / 4, -1, &start, err);
    if (st == SLM2_OK) st = slm2_json_get_real_or(state, "loss_first", "state.json", (double)NAN, &r->res->loss_first, err);
    if (st == SLM2_OK) st = slm2_json_get_real_or(state, "loss", "state.json", (double)NAN, &r->res->loss, err);
    if (st == SLM2_OK) st = slm2_json_get_real_or(state, "valid_first", "state.json", (double)NAN, &r->res->metric_before, err);
    if (st == SLM2_OK) st = slm2_json_get_real_or(state, "valid_loss", "state.json", (double)NAN, &r->valid_loss, err);
    if (st == SLM2_OK) st = slm2_json_get_int_or(state, "valid_step", "state.json", -1, INT64_MAX / 4, -1, &r->valid_step, err);
    if (st == SLM2_OK) st = slm2_json_get_int_or(state, "branch_cooldown", "state.json", 0, INT64_MAX / 4, 0, &r->branch_cooldown, err);
    if (st == SLM2_OK) r->schedule.cooldown_start = r->cooldown_by_signal ? start : r->o->schedule.cooldown_start;
    if (st == SLM2_OK && r->branch_cooldown) r->schedule.n_cooldown = r->branch_cooldown;
    if (st == SLM2_OK) st = slm2_guard_take(&r->guard, &r->o->guard, json_object_get(state, "guard"), err);
    now = sources_json(r);
    if (st == SLM2_OK && !json_equal(now, json_object_get(state, "sources")))
        slm2_log(SLM2_WARN, "%s: sources, weights or shuffle_rows are not those of the checkpoint; the stream goes on at row %lld of the new mix", r->what, (long long)r->n_row);
    json_decref(now);
    json_decref(state);
    r->saved_step = r->t->n_update;
    return st;
}

int64_t slm2_pretrain_end_step(const struct slm2_pretrain *r)
{
    int64_t end = r->schedule.cooldown_start + r->schedule.n_cooldown;
    if (!slm2_schedule_cools_down(&r->schedule) || r->schedule.cooldown_start < 0) return r->o->steps;
    return r->cooldown_by_signal || end < r->o->steps ? end : r->o->steps;
}

/* A path that rank 0 has found, to all. */
slm2_status slm2_pretrain_tell(struct slm2_pretrain *r, char *path, struct slm2_err *err)
{
    if (r->comm->n_rank == 1) return SLM2_OK;
    SLM2_TRY(r->comm->ops->all_gather(r->comm, r->heard, path, SLM2_PATH_MAX, err));
    memcpy(path, r->heard, SLM2_PATH_MAX);
    return SLM2_OK;
}

void slm2_pretrain_record_sources(struct slm2_pretrain *r)
{
    double planned = (double)slm2_pretrain_end_step(r) * r->rows_per_step * r->n_ctx;
    for (int i = 0; i < r->n_source; i++) {
        double share = slm2_mix_share(r->train_mix, i);
        slm2_ledger_source(r->ledger, r->train[i].name, share, share * planned, slm2_mix_drawn(r->train_mix, i, r->n_row).tokens);
    }
}

/* A checkpoint that a rollback would go to stays, whatever ckpt.keep says of later ones. */
static int64_t pinned_step(const struct slm2_pretrain *r)
{
    const struct slm2_pretrain_opts *o = r->o;
    bool rolls = o->guard.on_nan == SLM2_GUARD_ROLLBACK || o->guard.on_spike == SLM2_GUARD_ROLLBACK;
    return rolls ? r->t->n_update / o->ckpt_every * o->ckpt_every : -1;
}

slm2_status slm2_pretrain_save(struct slm2_pretrain *r, struct slm2_err *err)
{
    if (r->saved_step == r->t->n_update) return SLM2_OK;
    if (r->chief) slm2_pretrain_record_sources(r);
    SLM2_TRY(slm2_comm_agree(r->comm, slm2_ledger_commit(r->ledger, err), err));
    json_t *j = json_pack("{s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:o}", "rows", (json_int_t)r->n_row, "n_ctx", (json_int_t)r->n_ctx, "data_seed", (json_int_t)r->o->seed,
                          "cooldown_start", (json_int_t)r->schedule.cooldown_start, "cooldown_by_signal", (int)r->cooldown_by_signal, "branch_cooldown", (json_int_t)r->branch_cooldown, "tokens", (json_int_t)(r->n_row * r->n_ctx),
                          "loss_first", slm2_json_real(r->res->loss_first, NULL), "loss", slm2_json_real(r->res->loss, NULL), "valid_first", slm2_json_real(r->res->metric_before, NULL),
                          "valid_loss", slm2_json_real(r->valid_loss, NULL), "valid_step", (json_int_t)r->valid_step, "sources", sources_json(r));
    struct slm2_buf dump = {0};
    slm2_conf_dump(slm2_pretrain_table, r->o, &dump);
    if (j && dump.n) json_object_set_new(j, "settings", json_stringn(dump.v, dump.n));
    if (j) json_object_set_new(j, "guard", slm2_guard_json(&r->guard, &r->o->guard));
    slm2_buf_free(&dump);
    double start = slm2_now_s();
    slm2_status st = slm2_comm_agree(r->comm, j ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for the state of the run"), err);
    if (st == SLM2_OK) st = slm2_ckpt_save(r->o->run, r->t, r->tok, j, r->o->ckpt_keep, pinned_step(r), r->path, err);
    json_decref(j);
    if (st != SLM2_OK)
        return slm2_wrap(err, st, "checkpoint of step %" PRId64 " failed, the run goes on from %s when this is mended", r->t->n_update, *r->res->ckpt_dir ? r->res->ckpt_dir : "its start");
    if (r->chief) snprintf(r->res->ckpt_dir, sizeof r->res->ckpt_dir, "%s", r->path);
    r->saved_step = r->t->n_update;
    slm2_ledger_event(r->ledger, r->t->n_update, "checkpoint", "%s in %.1f s", r->res->ckpt_dir, slm2_now_s() - start);
    return SLM2_OK;
}

/* Back to the last regular checkpoint; the rows that led here are behind the run.  Later checkpoints go: their line is abandoned, a start that found
 * them would go on with it.  A cooldown that a signal began after the checkpoint is kept and begins at the same step again, whether or not the process
 * that got the signal is still the same.  *done false: there is no such checkpoint. */
slm2_status slm2_pretrain_roll_back(struct slm2_pretrain *r, bool *done, struct slm2_err *err)
{
    int64_t next = r->n_row + r->rows_per_step, from = r->t->n_update, cooldown_start = r->schedule.cooldown_start;
    int n_event = r->guard.n_event;
    bool cooldown = r->cooldown_by_signal;
    char ckpt[SLM2_PATH_MAX] = "";
    SLM2_TRY(slm2_comm_agree(r->comm, r->chief ? slm2_ckpt_find_regular(r->o->run, r->o->ckpt_every, ckpt, err) : SLM2_OK, err));
    SLM2_TRY(slm2_pretrain_tell(r, ckpt, err));
    *done = *ckpt;
    if (!*ckpt) return SLM2_OK;
    SLM2_TRY(slm2_comm_agree(r->comm, slm2_pretrain_take(r, ckpt, err), err)); /* the target is known to be good */
    SLM2_TRY(slm2_comm_agree(r->comm, r->chief ? slm2_ckpt_drop_after(r->o->run, r->t->n_update, err) : SLM2_OK, err));
    r->saved_step = -1; /* what the target's state says of rows and events is behind: a stop here writes it anew */
    snprintf(r->res->ckpt_dir, sizeof r->res->ckpt_dir, "%s", ckpt);
    r->n_row = next;
    r->guard.n_event = n_event;
    if (cooldown) {
        r->cooldown_by_signal = true;
        r->schedule.cooldown_start = cooldown_start;
    }
    slm2_ledger_rewind(r->ledger, r->t->n_update);
    slm2_ledger_event(r->ledger, r->t->n_update, "rollback", "from step %" PRId64 " to %s; goes on at row %" PRId64, from, ckpt, next);
    return SLM2_OK;
}
