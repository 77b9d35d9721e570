/* pretrain.c - the pre-training run.  Its whole state is (weights, optimizer, updates made, rows consumed, start of the cooldown):
 * row i of the stream and the learning rate of step s are functions of their index, so a resumed run repeats nothing and skips nothing.
 *
 * Ranks: all run these files in step.  What may fail on one of them ends in slm2_comm_agree; rank 0 ("chief") alone has a ledger, writes and talks. */
#include "train/pretrain_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

static bool asked(const volatile sig_atomic_t *flag) { return flag && *flag; }

static slm2_status meet(struct slm2_pretrain *r, struct slm2_pretrain_meeting *m, struct slm2_err *err)
{
    struct slm2_comm *c = r->comm;
    if (c->n_rank == 1) return SLM2_OK;
    struct slm2_pretrain_meeting *all = r->meetings;
    SLM2_TRY(c->ops->all_gather(c, all, m, sizeof *m, err));
    *m = (struct slm2_pretrain_meeting){0};
    for (int i = 0; i < c->n_rank; i++) {
        m->stop |= all[i].stop;
        m->cooldown |= all[i].cooldown;
        m->count += all[i].count;
        if (i > 0) m->cpu_s += all[i].cpu_s;
    }
    slm2_ledger_other_cpu(r->ledger, m->cpu_s);
    return SLM2_OK;
}

static int32_t *row_ids(const struct slm2_pretrain *r, int row) { return r->ids + (size_t)row * ((size_t)r->n_ctx + 1); }

/* The rows of this rank's micro-batches; *count: positions that will be predicted. */
static slm2_status read_rows(struct slm2_pretrain *r, int64_t *count, struct slm2_err *err)
{
    int n = r->t->block.n * r->o->micro_batch;
    int64_t first = r->n_row + (int64_t)r->t->block.first * r->o->micro_batch;
    *count = 0;
    for (int i = 0; i < n; i++) {
        SLM2_TRY(slm2_mix_row(r->train_mix, first + i, row_ids(r, i), NULL, err));
        *count += slm2_pack_count(row_ids(r, i), r->n_ctx, r->cfg.eos_id, (enum slm2_pack_loss)r->o->loss);
    }
    return SLM2_OK;
}

/* Gradients of the step, summed over all ranks; weights stay. */
static slm2_status gradients(struct slm2_pretrain *r, int64_t count, struct slm2_step_stats *stats, struct slm2_err *err)
{
    const struct slm2_pretrain_opts *o = r->o;
    float weight = count ? (float)(1.0 / (double)count) : 0.0f;
    slm2_trainer_begin(r->t);
    for (int k = 0; k < r->t->block.n; k++) {
        slm2_batch_clear(&r->batch);
        for (int i = 0; i < o->micro_batch; i++) {
            slm2_status st = slm2_pack_row(&r->batch, row_ids(r, k * o->micro_batch + i), r->n_ctx, r->cfg.eos_id, (enum slm2_pack_loss)o->loss, weight, err);
            if (st == SLM2_OK) continue;
            r->comm->broken = true; /* the others are on their way to the exchange of gradients: there is no agreeing with them any more */
            return st;
        }
        slm2_trainer_accumulate(r->t, &r->batch);
    }
    return slm2_trainer_reduce(r->t, stats, err);
}

/* What the policy makes of bad numbers.  *skip: there is no update in this step. */
static slm2_status judge(struct slm2_pretrain *r, const struct slm2_step_stats *stats, bool *skip, struct slm2_err *err)
{
    const struct slm2_guard_opts *g = &r->o->guard;
    char why[160];
    enum slm2_guard_verdict verdict = slm2_guard_judge(&r->guard, g, stats->loss, stats->grad_norm, why); /* NOLINT(clang-analyzer-core.CallAndMessage): gradients() filled them in */
    *skip = verdict != SLM2_GUARD_FINE;
    if (!*skip) {
        slm2_guard_accept(&r->guard, g, stats->loss);
        return SLM2_OK;
    }
    int action = verdict == SLM2_GUARD_NAN ? g->on_nan : g->on_spike;
    int64_t first = r->n_row, last = r->n_row + r->rows_per_step - 1;
    if (action == SLM2_GUARD_STOP)
        return slm2_fail(err, SLM2_EFORMAT, "step %" PRId64 ", rows %" PRId64 " to %" PRId64 ": %s; lower the learning rate, resume an earlier checkpoint, or set spike.on_%s to skip or rollback",
                         r->t->n_update, first, last, why, verdict == SLM2_GUARD_NAN ? "nan" : "spike");
    if (r->guard.n_event >= g->limit)
        return slm2_fail(err, SLM2_EFORMAT, "step %" PRId64 ", rows %" PRId64 " to %" PRId64 ": %s; %d steps were bad before it, which is spike.limit", r->t->n_update, first, last, why, r->guard.n_event);
    r->guard.n_event++;
    if (r->chief) slm2_log(SLM2_WARN, "step %" PRId64 ", rows %" PRId64 " to %" PRId64 ": %s; %s", r->t->n_update, first, last, why, action == SLM2_GUARD_SKIP ? "skipped" : "rolls back");
    bool rolled = false;
    if (action == SLM2_GUARD_ROLLBACK) SLM2_TRY(slm2_pretrain_roll_back(r, &rolled, err));
    if (!rolled) r->n_row += r->rows_per_step;
    slm2_ledger_event(r->ledger, r->t->n_update, rolled ? "spike" : "skip", "rows %" PRId64 " to %" PRId64 ": %s", first, last, why);
    return slm2_comm_agree(r->comm, slm2_ledger_commit(r->ledger, err), err);
}

/* *skipped: the policy let the rows go without an update. */
static slm2_status train_step(struct slm2_pretrain *r, int64_t count, struct slm2_step_stats *stats, bool *skipped, struct slm2_err *err)
{
    SLM2_TRY(slm2_comm_agree(r->comm, gradients(r, count, stats, err), err));
    SLM2_TRY(judge(r, stats, skipped, err));
    if (*skipped) return SLM2_OK;
    SLM2_TRY(slm2_trainer_apply(r->t, slm2_schedule_lr(&r->schedule, r->t->n_update), stats, err));
    r->n_row += r->rows_per_step;
    return SLM2_OK;
}

/* Bytes of text that the targets of a row stand for; without a tokenizer 0. */
static int64_t target_bytes(const struct slm2_pretrain *r, const int32_t *ids)
{
    int64_t sum = 0;
    for (int i = 0; r->tok && i < r->n_ctx; i++) {
        size_t n = 0;
        bool counts = r->o->loss == SLM2_PACK_ALL || ids[i] != r->cfg.eos_id; /* as slm2_pack_count */
        if (counts && !slm2_tok_is_special(r->tok, ids[i + 1]) && slm2_tok_bytes(r->tok, ids[i + 1], &n)) sum += (int64_t)n;
    }
    return sum;
}

/* Loss, tokens and bytes of this rank's batches of a source: batch k is computed by rank k modulo their number. */
static slm2_status validate_own(struct slm2_pretrain *r, int s, int64_t n_rows, struct slm2_err *err)
{
    memset(r->sums, 0, (size_t)r->n_sums * sizeof *r->sums);
    for (int64_t first = 0, k = 0; first < n_rows; first += r->o->micro_batch, k++) {
        if (k % r->comm->n_rank != r->comm->rank) continue;
        int64_t count = 0, bytes = 0;
        slm2_batch_clear(&r->batch);
        for (int64_t row = first; row < n_rows && row < first + r->o->micro_batch; row++) {
            SLM2_TRY(slm2_mix_source_row(r->valid_mix, s, row, r->ids, err));
            count += slm2_pack_count(r->ids, r->n_ctx, r->cfg.eos_id, (enum slm2_pack_loss)r->o->loss);
            bytes += target_bytes(r, r->ids);
            SLM2_TRY(slm2_pack_row(&r->batch, r->ids, r->n_ctx, r->cfg.eos_id, (enum slm2_pack_loss)r->o->loss, 1.0f, err));
        }
        r->sums[3 * k] = slm2_trainer_evaluate(r->t, &r->batch);
        r->sums[3 * k + 1] = (double)count;
        r->sums[3 * k + 2] = (double)bytes;
    }
    return SLM2_OK;
}

/* Mean loss of the held-out rows of each source, and of all of them; of each source also as bits per byte, which other tokenizers can be compared by. */
static slm2_status validate(struct slm2_pretrain *r, struct slm2_err *err)
{
    if (!r->valid_mix || r->valid_step == r->t->n_update) return SLM2_OK;
    double all = 0, n_all = 0;
    char name[256];
    for (int s = 0; s < r->n_valid; s++) {
        int64_t n_rows = slm2_mix_epoch_rows(r->valid_mix, s);
        double sum = 0, count = 0, bytes = 0;
        if (n_rows > r->o->valid_rows) n_rows = r->o->valid_rows;
        SLM2_TRY(slm2_comm_agree(r->comm, validate_own(r, s, n_rows, err), err));
        SLM2_TRY(r->comm->ops->all_gather(r->comm, r->all_sums, r->sums, (size_t)r->n_sums * sizeof *r->sums, err));
        for (int64_t k = 0; 3 * k < r->n_sums; k++) { /* in the order of the rows, whoever computed them */
            const double *of = r->all_sums + (size_t)(k % r->comm->n_rank) * (size_t)r->n_sums;
            sum += of[3 * k];
            count += of[3 * k + 1];
            bytes += of[3 * k + 2];
        }
        all += sum;
        n_all += count;
        snprintf(name, sizeof name, "valid_loss.%s", r->valid[s].name);
        if (count > 0) slm2_ledger_metric(r->ledger, r->t->n_update, name, sum / count);
        snprintf(name, sizeof name, "valid_bpb.%s", r->valid[s].name);
        if (bytes > 0) slm2_ledger_metric(r->ledger, r->t->n_update, name, sum / bytes / M_LN2);
    }
    if (!(n_all > 0)) return SLM2_OK;
    r->valid_loss = all / n_all;
    r->valid_step = r->t->n_update;
    if (r->t->n_update == 0) r->res->metric_before = r->valid_loss;
    slm2_ledger_metric(r->ledger, r->t->n_update, "valid_loss", r->valid_loss);
    if (r->chief) slm2_log(SLM2_INFO, "pretrain: step %" PRId64 ": validation loss %.4f over %.0f tokens", r->t->n_update, r->valid_loss, n_all);
    return SLM2_OK;
}

static void begin_cooldown(struct slm2_pretrain *r)
{
    struct slm2_schedule *s = &r->schedule;
    if (r->cooldown_by_signal || r->cooldown_refused) return;
    if (!slm2_schedule_cools_down(s) || s->n_cooldown < 1 || (s->cooldown_start >= 0 && s->cooldown_start <= r->t->n_update)) {
        slm2_log(SLM2_WARN, "asked for the cooldown, but %s; the run goes on", !slm2_schedule_cools_down(s) ? "the schedule has none" : s->n_cooldown < 1 ? "schedule.n_cooldown is 0" : "it has begun already");
        r->cooldown_refused = true;
        return;
    }
    s->cooldown_start = r->t->n_update;
    r->cooldown_by_signal = true;
    slm2_log(SLM2_INFO, "pretrain: cooldown from step %" PRId64 " to %" PRId64, s->cooldown_start, slm2_pretrain_end_step(r));
    slm2_ledger_event(r->ledger, r->t->n_update, "cooldown", "asked by signal: steps %" PRId64 " to %" PRId64, s->cooldown_start, slm2_pretrain_end_step(r));
}

static slm2_status record_step(struct slm2_pretrain *r, const struct slm2_step_stats *st, double took_s, double comm_s, struct slm2_err *err)
{
    int64_t step = r->t->n_update; /* the step is named by the updates made after it */
    double rate = (double)r->rows_per_step * r->n_ctx / took_s;
    slm2_ledger_metric(r->ledger, step, "tokens", (double)r->n_row * r->n_ctx);
    slm2_ledger_metric(r->ledger, step, "loss", st->loss);
    slm2_ledger_metric(r->ledger, step, "lr", st->lr);
    slm2_ledger_metric(r->ledger, step, "grad_norm", st->grad_norm);
    slm2_ledger_metric(r->ledger, step, "clip", st->clip);
    slm2_ledger_metric(r->ledger, step, "tokens_s", rate);
    if (r->comm->n_rank > 1) slm2_ledger_metric(r->ledger, step, "comm_s", comm_s);
    if (!r->chief) return SLM2_OK;
    slm2_progress("pretrain", (double)step / (double)slm2_pretrain_end_step(r), "step %" PRId64 "  loss %.3f  lr %.2e  norm %.2f  %.0f tok/s", step, st->loss, st->lr, st->grad_norm, rate);
    if (r->o->log_every && step % r->o->log_every == 0)
        slm2_log(SLM2_INFO, "pretrain: step %" PRId64 "/%" PRId64 "  loss %.4f  lr %.3e (%s)  grad norm %.3f  %.0f tokens/s", step, slm2_pretrain_end_step(r), st->loss, st->lr,
                 slm2_schedule_phase(&r->schedule, step - 1), st->grad_norm, rate);
    if (slm2_now_s() - r->committed_s < 1) return SLM2_OK;
    r->committed_s = slm2_now_s();
    return slm2_ledger_commit(r->ledger, err);
}

static slm2_status stop(struct slm2_pretrain *r, struct slm2_err *err)
{
    SLM2_TRY(slm2_pretrain_save(r, err));
    slm2_ledger_event(r->ledger, r->t->n_update, "stop", "asked to stop");
    return slm2_fail(err, SLM2_ESTOP, "stopped at step %" PRId64 " of %" PRId64 "; %s is saved, the same command goes on from there", r->t->n_update, slm2_pretrain_end_step(r), r->res->ckpt_dir);
}

/* Adds to *sum the seconds since *since, which becomes now. */
static void count_time(double *sum, double *since)
{
    double now = slm2_now_s();
    *sum += now - *since;
    *since = now;
}

static slm2_status train(struct slm2_pretrain *r, struct slm2_err *err)
{
    const struct slm2_pretrain_opts *o = r->o;
    int64_t n_step = 0;
    double busy_s = 0, comm_s = 0, at = slm2_now_s();
    struct slm2_train_time *time = &r->res->time;
    if (r->t->n_update == 0 && o->valid_every) SLM2_TRY(validate(r, err));
    count_time(&time->valid_s, &at);
    if (r->t->n_update >= slm2_pretrain_end_step(r))
        slm2_log(SLM2_INFO, "pretrain: the run is complete with %" PRId64 " updates; a larger train.steps goes on, where the schedule allows it", r->t->n_update);
    while (r->t->n_update < slm2_pretrain_end_step(r)) {
        struct slm2_step_stats stats;
        struct slm2_pretrain_meeting m = {.stop = asked(o->stop), .cooldown = asked(o->cooldown), .cpu_s = slm2_cpu_s()};
        bool skipped = false;
        double start = slm2_now_s(), comm_start = r->t->zero.comm_s;
        SLM2_TRY(slm2_comm_agree(r->comm, read_rows(r, &m.count, err), err));
        count_time(&time->data_s, &at);
        SLM2_TRY(meet(r, &m, err));
        if (m.stop) return stop(r, err);
        if (m.cooldown) begin_cooldown(r);
        slm2_status st = train_step(r, m.count, &stats, &skipped, err);
        if (st != SLM2_OK) {
            slm2_ledger_event(r->ledger, r->t->n_update, "warning", "%s", err ? err->msg : "the step failed");
            return st;
        }
        count_time(&time->step_s, &at);
        if (skipped) continue;
        double took_s = slm2_now_s() - start, talked_s = r->t->zero.comm_s - comm_start;
        busy_s += took_s;
        comm_s += talked_s;
        n_step++;
        if (r->t->n_update == 1) r->res->loss_first = stats.loss;
        r->res->loss = stats.loss;
        SLM2_TRY(slm2_comm_agree(r->comm, record_step(r, &stats, took_s, talked_s, err), err));
        count_time(&time->ledger_s, &at);
        if (o->valid_every && r->t->n_update % o->valid_every == 0) SLM2_TRY(validate(r, err));
        count_time(&time->valid_s, &at);
        if (o->ckpt_every && r->t->n_update % o->ckpt_every == 0) SLM2_TRY(slm2_pretrain_save(r, err));
        count_time(&time->ckpt_s, &at);
    }
    if (n_step) r->res->tok_per_s = (double)n_step * r->rows_per_step * r->n_ctx / busy_s;
    if (busy_s > 0) r->res->comm_share = comm_s / busy_s;
    return SLM2_OK;
}

static slm2_status finish(struct slm2_pretrain *r, struct slm2_err *err)
{
    struct slm2_train_result *res = r->res;
    struct slm2_ledger_cost cost;
    double at = slm2_now_s();
    SLM2_TRY(validate(r, err));
    count_time(&res->time.valid_s, &at);
    SLM2_TRY(slm2_pretrain_save(r, err));
    count_time(&res->time.ckpt_s, &at);
    SLM2_TRY(slm2_path_join(res->model_dir, sizeof res->model_dir, r->o->run, "final", err));
    SLM2_TRY(slm2_ckpt_export(res->model_dir, r->t, r->tok, NULL, err));
    if (!r->chief) return SLM2_OK;
    slm2_pretrain_record_sources(r);
    SLM2_TRY(slm2_ledger_cost(r->ledger, &cost, err));
    res->wall_s = cost.wall_s;
    res->cpu_s = cost.cpu_s;
    slm2_ledger_figure(r->ledger, "steps", (double)r->t->n_update);
    slm2_ledger_figure(r->ledger, "tokens", (double)r->n_row * r->n_ctx);
    slm2_ledger_figure(r->ledger, "loss_first", res->loss_first);
    slm2_ledger_figure(r->ledger, "loss", res->loss);
    slm2_ledger_figure(r->ledger, "valid_loss_first", res->metric_before);
    slm2_ledger_figure(r->ledger, "valid_loss", r->valid_loss);
    if (res->tok_per_s > 0) slm2_ledger_figure(r->ledger, "tokens_per_s", res->tok_per_s);
    if (r->comm->n_rank > 1) slm2_ledger_figure(r->ledger, "comm_share", res->comm_share);
    slm2_ledger_figure(r->ledger, "time_step_s", res->time.step_s);
    slm2_ledger_figure(r->ledger, "time_data_s", res->time.data_s);
    slm2_ledger_figure(r->ledger, "time_ledger_s", res->time.ledger_s);
    slm2_ledger_figure(r->ledger, "time_valid_s", res->time.valid_s);
    slm2_ledger_figure(r->ledger, "time_ckpt_s", res->time.ckpt_s);
    slm2_ledger_figure(r->ledger, "wall_s", cost.wall_s);
    slm2_ledger_figure(r->ledger, "cpu_s", cost.cpu_s);
    if (cost.rapl) slm2_ledger_figure(r->ledger, "rapl_j", cost.rapl_j);
    slm2_ledger_figure_text(r->ledger, "model", res->model_dir);
    slm2_ledger_event(r->ledger, r->t->n_update, "finish", "loss %.4f, validation loss %.4f, %s", res->loss, r->valid_loss, res->model_dir);
    return SLM2_OK;
}

slm2_status slm2_pretrain_run(const struct slm2_pretrain_opts *o, const char *what, struct slm2_train_result *res, struct slm2_err *err)
{
    struct slm2_pretrain r = {.o = o, .what = what, .res = res, .saved_step = -1, .valid_step = -1, .valid_loss = (double)NAN};
    struct slm2_err own; /* the message also goes to the ledger */
    slm2_comm_self(&r.alone);
    r.comm = o->comm ? o->comm : &r.alone;
    r.comm->timeout_s = o->timeout_s;
    r.chief = r.comm->rank == 0;
    *res = (struct slm2_train_result){.loss_first = (double)NAN, .loss = (double)NAN, .metric_before = (double)NAN, .metric = (double)NAN};
    slm2_status st = slm2_pretrain_open(&r, &own);
    if (st == SLM2_OK) st = train(&r, &own);
    if (st == SLM2_OK) st = finish(&r, &own);
    slm2_progress_end();
    if (r.t) res->step = r.t->n_update;
    res->n_tok = r.n_row * r.n_ctx;
    res->metric = r.valid_loss;
    struct slm2_err at_close;
    slm2_status closed = slm2_ledger_close(r.ledger, &at_close);
    slm2_watch_close(&r.watch);
    if (st == SLM2_OK && closed != SLM2_OK) {
        st = closed;
        own = at_close;
    }
    if (st != SLM2_OK && err) *err = own;
    slm2_batch_free(&r.batch);
    free(r.ids);
    free(r.sums);
    free(r.meetings);
    free(r.heard);
    slm2_trainer_free(r.t);
    slm2_tok_free(r.tok);
    slm2_mix_close(r.train_mix);
    slm2_mix_close(r.valid_mix);
    free(r.train);
    free(r.valid);
    slm2_dataset_free(&r.set);
    return st;
}
