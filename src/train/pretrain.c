/* pretrain.c - the pre-training run.  Its whole state is (weights, optimizer, updates made, rows consumed, start of the cooldown):
 * row i of the stream and the learning rate of step s are functions of their index, so a resumed run repeats nothing and skips nothing.
 *
 * Ranks: all run this file in step.  What may fail on one of them ends in slm2_comm_agree; rank 0 ("chief") alone has a ledger, writes and talks. */
#include "train/pretrain.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "data/build.h"
#include "data/mix.h"
#include "data/verify.h"
#include "data/pack.h"
#include "train/ledger.h"

struct meeting;
struct run {
    const struct slm2_pretrain_opts *o;
    const char *what;
    struct slm2_config cfg;
    struct slm2_schedule schedule;
    bool cooldown_by_signal, cooldown_refused;
    int64_t branch_cooldown; /* length of the cooldown with which this run branched off, 0: none */
    struct slm2_comm *comm, alone;
    bool chief;
    struct slm2_guard guard;
    int n_ctx, rows_per_step;
    struct slm2_dataset set;
    struct slm2_mix_source *train, *valid; /* [n_source]; names and prefixes borrowed from o and set */
    int n_source, n_valid;
    struct slm2_mix *train_mix, *valid_mix;
    struct slm2_trainer *t;
    struct slm2_tok *tok;
    struct slm2_ledger *ledger;
    struct slm2_watch watch;
    struct slm2_batch batch;
    int32_t *ids;          /* [micro_batch * micro-batches of this rank, at least 1; n_ctx + 1] */
    double *sums, *all_sums; /* [n_sums], [ranks * n_sums] validation: loss, tokens and bytes of each batch */
    int64_t n_sums;
    int64_t n_row;         /* consumed */
    int64_t saved_step;    /* of the newest checkpoint, -1 */
    double valid_loss;     /* newest, NaN when not measured */
    int64_t valid_step;
    double committed_s;
    struct meeting *meetings; /* [ranks] */
    char *heard;              /* [ranks * SLM2_PATH_MAX]: what all have said, other than meetings */
    char path[SLM2_PATH_MAX];
    struct slm2_train_result *res;
};

static bool asked(const volatile sig_atomic_t *flag) { return flag && *flag; }

/* ---- data ------------------------------------------------------------------------------------------------------------- */
static const struct slm2_dataset_source *find_source(const struct run *r, const char *name)
{
    for (int i = 0; i < r->set.n; i++)
        if (!strcmp(r->set.v[i].name, name)) return &r->set.v[i];
    return NULL;
}

static slm2_status add_source(struct run *r, const char *name, double weight, const char *prefix, const char *valid, struct slm2_err *err)
{
    const struct slm2_dataset_source *s = find_source(r, name);
    if (!*prefix && !s) return slm2_fail(err, SLM2_EUSAGE, "%s: source \"%s\" is neither in the data folder \"%s\" nor has a prefix of its own", r->what, name, r->o->data);
    if (!*prefix) prefix = s->prefix[SLM2_SPLIT_TRAIN];
    if (!*valid && s) valid = s->prefix[SLM2_SPLIT_VAL];
    if (weight < 0 && !s) return slm2_fail(err, SLM2_EUSAGE, "%s: source \"%s\" needs a weight, or epochs", r->what, name);
    if (weight < 0) weight = s->weight;
    if (!prefix) return slm2_fail(err, SLM2_EUSAGE, "%s: source \"%s\" of %s holds no training documents", r->what, name, r->o->data);
    r->train[r->n_source++] = (struct slm2_mix_source){.name = name, .prefix = prefix, .weight = weight};
    if (valid && *valid) r->valid[r->n_valid++] = (struct slm2_mix_source){.name = name, .prefix = valid, .weight = 1};
    return SLM2_OK;
}

/* Sources by epochs weigh what they would give: all of them, or none. */
static slm2_status weigh_by_epochs(struct run *r, const struct slm2_pretrain_source *list, int n, struct slm2_err *err)
{
    int by_epochs = 0;
    for (int i = 0; i < n; i++) by_epochs += list[i].epochs > 0;
    if (by_epochs == 0) return SLM2_OK;
    for (int i = 0; i < n; i++) {
        struct slm2_shard shard;
        if (list[i].epochs == 0 || list[i].weight >= 0)
            return slm2_fail(err, SLM2_EUSAGE, "%s: source \"%s\": give each source epochs and no weight, or none of them epochs", r->what, list[i].name);
        SLM2_TRY(slm2_shard_open(&shard, r->train[i].prefix, err));
        r->train[i].weight = list[i].epochs * (double)shard.n_tok;
        slm2_shard_close(&shard);
    }
    return SLM2_OK;
}

/* Token files of the data folder are hashed, unless they are known to be sound in their present state; of others the index is checked. */
static slm2_status check_files(struct run *r, struct slm2_err *err)
{
    for (int i = 0; i < r->n_source; i++) {
        const struct slm2_dataset_source *s = find_source(r, r->train[i].name);
        if (s && s->prefix[SLM2_SPLIT_TRAIN] == r->train[i].prefix) SLM2_TRY(slm2_dataset_check(r->o->data, s->name, err));
    }
    return SLM2_OK;
}

static slm2_status open_data(struct run *r, struct slm2_err *err)
{
    const struct slm2_pretrain_opts *o = r->o;
    const struct slm2_pretrain_source *list = o->sources.items;
    if (*o->data) SLM2_TRY(slm2_dataset_open(&r->set, o->data, err));
    int n = o->sources.n ? o->sources.n : r->set.n;
    if (n == 0) return slm2_fail(err, SLM2_EUSAGE, "%s: no data; set data to a folder made by `slm2 data build`, or list sources with a prefix", r->what);
    if (r->set.n && r->set.vocab_size > r->cfg.vocab_size)
        return slm2_fail(err, SLM2_EUSAGE, "%s: ids of %s go to %d, model.vocab_size is %d", r->what, o->data, r->set.vocab_size, r->cfg.vocab_size);
    if (r->set.n && r->set.eos != r->cfg.eos_id)
        return slm2_fail(err, SLM2_EUSAGE, "%s: documents of %s end with id %d, model.eos_id is %d", r->what, o->data, r->set.eos, r->cfg.eos_id);
    r->train = calloc((size_t)n, sizeof *r->train);
    r->valid = calloc((size_t)n, sizeof *r->valid);
    if (!r->train || !r->valid) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d sources", n);
    for (int i = 0; i < n; i++) {
        if (o->sources.n) SLM2_TRY(add_source(r, list[i].name, list[i].epochs > 0 && list[i].weight < 0 ? 0 : list[i].weight, list[i].prefix, list[i].valid, err));
        else if (r->set.v[i].prefix[SLM2_SPLIT_TRAIN]) SLM2_TRY(add_source(r, r->set.v[i].name, -1, "", "", err));
    }
    char index_dir[SLM2_PATH_MAX];
    SLM2_TRY(weigh_by_epochs(r, list, o->sources.n, err));
    SLM2_TRY(check_files(r, err));
    SLM2_TRY(slm2_path_join(index_dir, sizeof index_dir, o->run, "index", err));
    struct slm2_mix_opts m = {.n_ctx = r->n_ctx, .vocab_size = r->cfg.vocab_size, .seed = (uint64_t)o->seed, .shuffle_rows = o->shuffle_rows, .index_dir = index_dir};
    SLM2_TRY(slm2_mix_open(&r->train_mix, r->train, r->n_source, &m, err));
    m.keep_order = true;
    m.shuffle_rows = false;
    m.index_dir = NULL;
    if (r->n_valid && o->valid_every) SLM2_TRY(slm2_mix_open(&r->valid_mix, r->valid, r->n_valid, &m, err));
    if (!r->n_valid && o->valid_every) slm2_log(SLM2_WARN, "%s: no source has held-out documents; there will be no validation loss", r->what);
    return SLM2_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------ */
static slm2_status same_config(const struct run *r, const struct slm2_config *of_ckpt, struct slm2_err *err)
{
    struct slm2_config a = r->cfg, b = *of_ckpt;
    a.torch_dtype = b.torch_dtype = SLM2_CFG_F32;
    json_t *x = slm2_config_to_json(&a), *y = slm2_config_to_json(&b);
    const char *key;
    json_t *value;
    slm2_status st = x && y ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory to compare configs");
    json_object_foreach(x, key, value)
        if (st == SLM2_OK && !json_equal(value, json_object_get(y, key)))
            st = slm2_fail(err, SLM2_EUSAGE, "%s: %s differs between the settings and the checkpoint in %s; use another run folder or resume=fresh", r->what, key, r->o->run);
    json_decref(x);
    json_decref(y);
    return st;
}

static slm2_status same_int(const struct run *r, const json_t *state, const char *key, int64_t now, struct slm2_err *err)
{
    int64_t was;
    SLM2_TRY(slm2_json_get_int(state, key, "state.json", INT64_MIN, INT64_MAX, &was, err));
    if (was == now) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "%s: %s is %lld, the checkpoint in %s was made with %lld; use another run folder or resume=fresh", r->what, key, (long long)now, r->o->run, (long long)was);
}

static json_t *sources_json(const struct run *r)
{
    json_t *j = json_array();
    for (int i = 0; j && i < r->n_source; i++) json_array_append_new(j, json_pack("{s:s, s:f}", "name", r->train[i].name, "weight", r->train[i].weight));
    if (j && r->o->shuffle_rows) json_array_append_new(j, json_string("shuffle_rows"));
    return j;
}

static slm2_status take_state(struct run *r, const char *ckpt, struct slm2_err *err)
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

/* Checkpoints, ledger and model of an earlier run in the same folder. */
static slm2_status start_over(struct run *r, struct slm2_err *err)
{
    static const char *const ledger[] = {"run.sqlite", "run.sqlite-wal", "run.sqlite-shm"};
    for (;;) {
        SLM2_TRY(slm2_ckpt_newest(r->o->run, r->path, err));
        if (!*r->path) break;
        SLM2_TRY(slm2_dir_remove(r->path, err));
    }
    for (int i = 0; i < 3; i++) {
        SLM2_TRY(slm2_path_join(r->path, sizeof r->path, r->o->run, ledger[i], err));
        if (slm2_path_exists(r->path) && remove(r->path)) return slm2_fail_errno(err, "%s: cannot be removed", r->path);
    }
    SLM2_TRY(slm2_path_join(r->path, sizeof r->path, r->o->run, "final", err));
    return slm2_dir_remove(r->path, err);
}

static slm2_status open_trainer(struct run *r, const char *ckpt, struct slm2_err *err)
{
    const struct slm2_pretrain_opts *o = r->o;
    size_t max_tok;
    if (!slm2_mul_size((size_t)o->micro_batch, (size_t)r->n_ctx, &max_tok) || max_tok > INT32_MAX / 2)
        return slm2_fail(err, SLM2_EUSAGE, "%s: train.micro_batch %d rows of %d tokens are too many at once; use train.accumulation", r->what, o->micro_batch, r->n_ctx);
    int share = r->comm->n_rank > 1 ? slm2_max_int(1, omp_get_num_procs() / r->comm->n_share) : 0;
    struct slm2_trainer_opts t = {.model_path = *ckpt ? ckpt : *o->init_from ? o->init_from : NULL, .cfg = &r->cfg, .seed = (uint64_t)o->seed,
                                  .precision = (enum slm2_precision)o->precision, .recompute = o->recompute, .by_layer = o->by_layer, .max_tok = (int)max_tok, .moments = (enum slm2_moments)o->moments,
                                  .optim = {.kind = SLM2_ADAMW, .beta1 = o->beta1, .beta2 = o->beta2, .eps = o->eps, .weight_decay = o->weight_decay, .max_grad_norm = o->max_grad_norm},
                                  .ctx = {.isa = *o->isa ? o->isa : NULL, .n_threads = o->threads ? o->threads : share},
                                  .n_micro = o->accumulation, .comm = r->comm, .bucket_elems = (size_t)o->bucket_elems};
    SLM2_TRY(slm2_trainer_new(&r->t, &t, err));
    if (*o->init_from) r->cfg = r->t->model->cfg;
    else SLM2_TRY(same_config(r, &r->t->model->cfg, err));
    SLM2_TRY(slm2_batch_init(&r->batch, (int)max_tok, (int)max_tok, err));
    r->ids = malloc((size_t)o->micro_batch * (size_t)slm2_max_int(r->t->block.n, 1) * ((size_t)r->n_ctx + 1) * sizeof *r->ids);
    for (int s = 0; r->valid_mix && s < r->n_valid; s++) {
        int64_t rows = slm2_mix_epoch_rows(r->valid_mix, s), n = ((rows < o->valid_rows ? rows : o->valid_rows) + o->micro_batch - 1) / o->micro_batch;
        if (3 * n > r->n_sums) r->n_sums = 3 * n;
    }
    r->sums = calloc((size_t)(r->comm->n_rank + 1) * (size_t)(r->n_sums + 1), sizeof *r->sums);
    if (!r->ids || !r->sums) return slm2_fail(err, SLM2_ENOMEM, "no memory for the rows of a step");
    r->all_sums = r->sums + r->n_sums;
    r->res->bytes = slm2_trainer_bytes(r->t);
    return SLM2_OK;
}

static slm2_status open_tokenizer(struct run *r, struct slm2_err *err)
{
    const char *name = r->o->tokenizer;
    if (!strcmp(name, "none")) return SLM2_OK;
    SLM2_TRY(slm2_tok_open(&r->tok, *name ? name : NULL, err));
    if (slm2_tok_n_vocab(r->tok) <= r->cfg.vocab_size) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "%s: the tokenizer has %d ids, model.vocab_size is %d; set tokenizer to the vocabulary of the data, or to none", r->what, slm2_tok_n_vocab(r->tok), r->cfg.vocab_size);
}

static slm2_status record_files(struct run *r, const struct slm2_mix_source *v, int n, int split, struct slm2_err *err)
{
    for (int i = 0; i < n; i++) {
        const struct slm2_dataset_source *s = find_source(r, v[i].name);
        char bin[SLM2_PATH_MAX], hex[65];
        struct slm2_shard shard;
        struct slm2_ledger_file f = {.path = bin, .source = v[i].name, .sha256 = hex, .language = s ? s->lang : "", .licence = s ? s->license : ""};
        if (snprintf(bin, sizeof bin, "%s.bin", v[i].prefix) >= (int)sizeof bin) return slm2_fail(err, SLM2_ELIMIT, "%s: the path is too long", v[i].prefix);
        if (s && s->prefix[split] && !strcmp(s->prefix[split], v[i].prefix)) snprintf(hex, sizeof hex, "%s", s->sha256[split]);
        else SLM2_TRY(slm2_sha256_file(bin, hex, err));
        SLM2_TRY(slm2_shard_open(&shard, v[i].prefix, err));
        f.bytes = (int64_t)shard.bin.n;
        f.tokens = shard.n_tok;
        f.documents = shard.n_doc;
        slm2_shard_close(&shard);
        slm2_ledger_file(r->ledger, &f);
    }
    return SLM2_OK;
}

static slm2_status open_ledger(struct run *r, struct slm2_err *err)
{
    struct slm2_buf dump = {0};
    SLM2_TRY(slm2_path_join(r->res->ledger, sizeof r->res->ledger, r->o->run, "run.sqlite", err));
    SLM2_TRY(slm2_ledger_open(&r->ledger, r->res->ledger, "pretrain", err));
    slm2_conf_dump(slm2_pretrain_table, r->o, &dump);
    slm2_status st = slm2_buf_check(&dump, err);
    if (st == SLM2_OK) slm2_ledger_run(r->ledger, "config", dump.v);
    slm2_buf_free(&dump);
    slm2_ledger_run(r->ledger, "config_file", r->what);
    slm2_ledger_run(r->ledger, "kernels", r->t->ctx.k->name);
    slm2_ledger_run(r->ledger, "data_manifest_sha256", r->set.n ? r->set.manifest_sha256 : "");
    slm2_ledger_figure(r->ledger, "parameters", (double)r->t->model->params.n_elem);
    slm2_ledger_figure(r->ledger, "tokens_per_step", (double)r->rows_per_step * r->n_ctx);
    slm2_ledger_figure(r->ledger, "flops_per_token", slm2_model_flops_per_token(&r->cfg, r->n_ctx / 2.0));
    slm2_ledger_figure(r->ledger, "trainer_bytes", (double)r->res->bytes);
    slm2_ledger_figure(r->ledger, "threads", r->t->ctx.n_threads);
    slm2_ledger_figure(r->ledger, "ranks", r->comm->n_rank);
    slm2_ledger_rewind(r->ledger, r->t->n_update);
    if (st == SLM2_OK) st = record_files(r, r->train, r->n_source, SLM2_SPLIT_TRAIN, err);
    if (st == SLM2_OK) st = record_files(r, r->valid, r->n_valid, SLM2_SPLIT_VAL, err);
    return st;
}

static int64_t end_step(const struct run *r)
{
    int64_t end = r->schedule.cooldown_start + r->schedule.n_cooldown;
    if (!slm2_schedule_cools_down(&r->schedule) || r->schedule.cooldown_start < 0) return r->o->steps;
    return r->cooldown_by_signal || end < r->o->steps ? end : r->o->steps;
}

/* ---- ranks --------------------------------------------------------------------------------------------------------------- */
/* All ranks must compute the same: one version, one set of kernels, one set of settings (threads apart). */
static slm2_status same_on_all_ranks(struct run *r, struct slm2_err *err)
{
    struct words { char version[16], kernels[16], settings[65]; } mine = {0}, *all = (struct words *)r->heard;
    struct slm2_pretrain_opts o = *r->o;
    struct slm2_buf dump = {0};
    o.threads = 0;
    if (r->comm->n_rank == 1) return SLM2_OK;
    slm2_conf_dump(slm2_pretrain_table, &o, &dump);
    slm2_sha256_hex(dump.v, dump.n, mine.settings);
    slm2_buf_free(&dump);
    snprintf(mine.version, sizeof mine.version, "%s", SLM2_VERSION);
    snprintf(mine.kernels, sizeof mine.kernels, "%s", r->t->ctx.k->name);
    slm2_status st = r->comm->ops->all_gather(r->comm, all, &mine, sizeof mine, err);
    for (int i = 1; st == SLM2_OK && i < r->comm->n_rank; i++) {
        if (strcmp(all[i].version, all[0].version)) st = slm2_fail(err, SLM2_EUSAGE, "rank %d runs slm2 %s, rank 0 %s; start one build everywhere", i, all[i].version, all[0].version);
        else if (strcmp(all[i].kernels, all[0].kernels))
            st = slm2_fail(err, SLM2_EUSAGE, "rank %d computes with %s, rank 0 with %s, which gives other bits; set isa to what all hosts have", i, all[i].kernels, all[0].kernels);
        else if (strcmp(all[i].settings, all[0].settings)) st = slm2_fail(err, SLM2_EUSAGE, "rank %d has other settings than rank 0; start all ranks with one configuration", i);
    }
    return st;
}

/* A path that rank 0 has found, to all. */
static slm2_status tell_path(struct run *r, char *path, struct slm2_err *err)
{
    if (r->comm->n_rank == 1) return SLM2_OK;
    SLM2_TRY(r->comm->ops->all_gather(r->comm, r->heard, path, SLM2_PATH_MAX, err));
    memcpy(path, r->heard, SLM2_PATH_MAX);
    return SLM2_OK;
}

/* What ranks tell each other before each step: requests, which any rank may have got, and what their rows come to. */
struct meeting { int32_t stop, cooldown; int64_t count; double cpu_s; };

static slm2_status meet(struct run *r, struct meeting *m, struct slm2_err *err)
{
    struct slm2_comm *c = r->comm;
    if (c->n_rank == 1) return SLM2_OK;
    struct meeting *all = r->meetings;
    SLM2_TRY(c->ops->all_gather(c, all, m, sizeof *m, err));
    *m = (struct meeting){0};
    for (int i = 0; i < c->n_rank; i++) {
        m->stop |= all[i].stop;
        m->cooldown |= all[i].cooldown;
        m->count += all[i].count;
        if (i > 0) m->cpu_s += all[i].cpu_s;
    }
    slm2_ledger_other_cpu(r->ledger, m->cpu_s);
    return SLM2_OK;
}

/* ---- opening, all of it ----------------------------------------------------------------------------------------------------- */
static slm2_status open_settings(struct run *r, struct slm2_err *err)
{
    const struct slm2_pretrain_opts *o = r->o;
    r->schedule = o->schedule;
    if (!r->schedule.n_step) r->schedule.n_step = o->steps;
    if (o->cooldown_steps) {
        if (!*o->from) return slm2_fail(err, SLM2_EUSAGE, "%s: cooldown_steps needs from, the checkpoint at which the branch begins", r->what);
        if (!slm2_schedule_cools_down(&o->schedule))
            return slm2_fail(err, SLM2_EUSAGE, "%s: only the schedules hybrid and rsqrt have a cooldown; schedule.kind is %s", r->what, slm2_schedule_kinds[o->schedule.kind]);
        r->schedule.n_cooldown = o->cooldown_steps;
        r->schedule.cooldown_start = -1; /* the checkpoint says where */
    }
    SLM2_TRY(slm2_schedule_check(&r->schedule, r->what, err));
    if ((o->guard.on_nan == SLM2_GUARD_ROLLBACK || o->guard.on_spike == SLM2_GUARD_ROLLBACK) && !o->ckpt_every)
        return slm2_fail(err, SLM2_EUSAGE, "%s: a rollback needs regular checkpoints; set ckpt.every", r->what);
    SLM2_TRY(slm2_config_from_settings(&r->cfg, &o->model, r->what, err));
    if (*o->init_from) { /* its config rules; opened once more by the trainer */
        struct slm2_model *m;
        SLM2_TRY(slm2_model_open(&m, o->init_from, err));
        r->cfg = m->cfg;
        slm2_model_free(m);
    }
    r->n_ctx = o->n_ctx ? o->n_ctx : r->cfg.n_ctx;
    if (r->n_ctx > r->cfg.n_ctx) return slm2_fail(err, SLM2_EUSAGE, "%s: train.n_ctx %d is more than the %d of the model", r->what, r->n_ctx, r->cfg.n_ctx);
    size_t rows;
    if (!slm2_mul_size((size_t)o->micro_batch, (size_t)o->accumulation, &rows) || rows > INT32_MAX)
        return slm2_fail(err, SLM2_EUSAGE, "%s: train.micro_batch %d x train.accumulation %d are more rows in a step than the %d that are possible", r->what, o->micro_batch, o->accumulation, INT32_MAX);
    r->rows_per_step = (int)rows;
    r->meetings = calloc((size_t)r->comm->n_rank, sizeof *r->meetings);
    r->heard = calloc((size_t)r->comm->n_rank, SLM2_PATH_MAX); /* here, where a failure is agreed on: between collectives a rank must not fail alone */
    if (!r->meetings || !r->heard) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d ranks", r->comm->n_rank);
    SLM2_TRY(open_data(r, err));
    return open_tokenizer(r, err);
}

/* What a run begins with must not lie in its own folder: a branch needs a folder of its own, and starting over empties the folder. */
static slm2_status outside_run(const struct run *r, const char *key, const char *path, struct slm2_err *err)
{
    char *run = *path ? realpath(r->o->run, NULL) : NULL, *real = *path ? realpath(path, NULL) : NULL; /* absent: found out later */
    size_t n = run ? strlen(run) : 0;
    bool inside = run && real && !strncmp(real, run, n) && (real[n] == '/' || !real[n]);
    free(run);
    free(real);
    return inside ? slm2_fail(err, SLM2_EUSAGE, "%s: %s, %s, is in the run folder %s; use another run folder", r->what, key, path, r->o->run) : SLM2_OK;
}

/* The run folder and where the run goes on from: its newest checkpoint, else the one that it branches off from, else "". */
static slm2_status find_start(struct run *r, char *ckpt, bool *branch, struct slm2_err *err)
{
    const struct slm2_pretrain_opts *o = r->o;
    bool fresh = o->resume == SLM2_RESUME_FRESH;
    SLM2_TRY(slm2_dir_make(o->run, err));
    SLM2_TRY(outside_run(r, "from", o->from, err));
    if (fresh) SLM2_TRY(outside_run(r, "init_from", o->init_from, err));
    if (!fresh) SLM2_TRY(slm2_ckpt_find(o->run, ckpt, err));
    if (!*ckpt && o->resume == SLM2_RESUME_REQUIRE) return slm2_fail(err, SLM2_EUSAGE, "%s: %s holds no complete checkpoint to resume", r->what, o->run);
    *branch = !*ckpt && *o->from;
    if (*branch) {
        if (snprintf(ckpt, SLM2_PATH_MAX, "%s", o->from) >= SLM2_PATH_MAX) return slm2_fail(err, SLM2_ELIMIT, "%s: the path is too long", o->from);
        slm2_status st = slm2_ckpt_verify(ckpt, true, err);
        if (st != SLM2_OK) return slm2_wrap(err, st, "from: %s is not a complete training checkpoint", o->from);
    }
    return fresh ? start_over(r, err) : SLM2_OK; /* last: what the run begins with is known to be good before anything goes */
}

static slm2_status begin_branch(struct run *r, struct slm2_err *err)
{
    r->saved_step = -1; /* the branch has no checkpoint of its own yet */
    if (!r->o->cooldown_steps) return SLM2_OK;
    if (r->schedule.n_warmup > r->t->n_update)
        return slm2_fail(err, SLM2_EUSAGE, "%s: from is at step %" PRId64 ", inside the warm-up of %" PRId64 " steps; there is nothing to cool down", r->what, r->t->n_update, r->schedule.n_warmup);
    r->schedule.cooldown_start = r->t->n_update;
    r->schedule.n_cooldown = r->branch_cooldown = r->o->cooldown_steps;
    r->cooldown_by_signal = true; /* kept in the state, like one that a signal began */
    return SLM2_OK;
}

/* cooldown_steps belongs to the command that begins a branch, and to the same command when it goes on. */
static slm2_status same_branch(const struct run *r, struct slm2_err *err)
{
    if (!r->o->cooldown_steps || r->o->cooldown_steps == r->branch_cooldown) return SLM2_OK;
    if (r->branch_cooldown)
        return slm2_fail(err, SLM2_EUSAGE, "%s: cooldown_steps is %" PRId64 ", the run in %s branched off with %" PRId64 "; keep that, or use another run folder", r->what, r->o->cooldown_steps, r->o->run, r->branch_cooldown);
    return slm2_fail(err, SLM2_EUSAGE, "%s: cooldown_steps begins a branch in a folder of its own, but %s already holds a run at step %" PRId64 " that did not begin so; use another run folder, or leave cooldown_steps out",
                     r->what, r->o->run, r->t->n_update);
}

static slm2_status open_run(struct run *r, struct slm2_err *err)
{
    const struct slm2_pretrain_opts *o = r->o;
    struct slm2_comm *c = r->comm;
    char ckpt[SLM2_PATH_MAX] = "";
    bool branch = false;
    SLM2_TRY(slm2_comm_agree(c, open_settings(r, err), err));
    SLM2_TRY(slm2_comm_agree(c, r->chief ? find_start(r, ckpt, &branch, err) : SLM2_OK, err));
    SLM2_TRY(tell_path(r, ckpt, err));
    if (!r->chief) branch = *ckpt && *o->from && !strcmp(ckpt, o->from);
    SLM2_TRY(slm2_comm_agree(c, open_trainer(r, ckpt, err), err));
    SLM2_TRY(same_on_all_ranks(r, err));
    slm2_status st = *ckpt ? take_state(r, ckpt, err) : SLM2_OK;
    if (st == SLM2_OK && *ckpt) st = branch ? begin_branch(r, err) : same_branch(r, err);
    SLM2_TRY(slm2_comm_agree(c, st, err));
    if (r->chief) {
        st = open_ledger(r, err);
        if (st == SLM2_OK) st = slm2_watch_open(&r->watch, &o->watch, "pretrain", r->t->n_update, end_step(r), r->ledger, err);
        slm2_ledger_event(r->ledger, r->t->n_update, branch ? "branch" : *ckpt ? "resume" : "start", "%s", *ckpt ? ckpt : *o->init_from ? o->init_from : "random weights");
        if (c->n_rank > 1) slm2_log(SLM2_INFO, "pretrain: %d ranks, %d threads each, %d micro-batches of %d on rank 0", c->n_rank, r->t->ctx.n_threads, r->t->block.n, o->accumulation);
        if (c->n_rank > 1 && r->t->block.n * c->n_rank > o->accumulation)
            slm2_log(SLM2_WARN, "%d micro-batches do not divide evenly: the busiest rank has %d, the mean is %.2f; a power of two for each rank would", o->accumulation, r->t->block.n, (double)o->accumulation / c->n_rank);
        if (*ckpt) slm2_log(SLM2_INFO, "pretrain: %s at step %" PRId64 " from %s", branch ? "branches off" : "resumes", r->t->n_update, ckpt);
        snprintf(r->res->ckpt_dir, sizeof r->res->ckpt_dir, "%s", ckpt);
        if (st == SLM2_OK) st = slm2_ledger_commit(r->ledger, err);
    }
    return slm2_comm_agree(c, st, err);
}

/* ---- checkpoints and the account of the data --------------------------------------------------------------------------------- */
static void record_sources(struct run *r)
{
    double planned = (double)end_step(r) * r->rows_per_step * r->n_ctx;
    for (int i = 0; i < r->n_source; i++) {
        double share = slm2_mix_share(r->train_mix, i);
        slm2_ledger_source(r->ledger, r->train[i].name, share, share * planned, slm2_mix_drawn(r->train_mix, i, r->n_row).tokens);
    }
}

/* A checkpoint that a rollback would go to stays, whatever ckpt.keep says of later ones. */
static int64_t pinned_step(const struct run *r)
{
    const struct slm2_pretrain_opts *o = r->o;
    bool rolls = o->guard.on_nan == SLM2_GUARD_ROLLBACK || o->guard.on_spike == SLM2_GUARD_ROLLBACK;
    return rolls ? r->t->n_update / o->ckpt_every * o->ckpt_every : -1;
}

static slm2_status save(struct run *r, struct slm2_err *err)
{
    if (r->saved_step == r->t->n_update) return SLM2_OK;
    if (r->chief) record_sources(r);
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

/* ---- one step, one validation ------------------------------------------------------------------------------------------------ */
static int32_t *row_ids(const struct run *r, int row) { return r->ids + (size_t)row * ((size_t)r->n_ctx + 1); }

/* The rows of this rank's micro-batches; *count: positions that will be predicted. */
static slm2_status read_rows(struct run *r, int64_t *count, struct slm2_err *err)
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
static slm2_status gradients(struct run *r, int64_t count, struct slm2_step_stats *stats, struct slm2_err *err)
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

/* Back to the last regular checkpoint; the rows that led here are behind the run.  Later checkpoints go: their line is abandoned, a start that found
 * them would go on with it.  A cooldown that a signal began after the checkpoint is kept and begins at the same step again, whether or not the process
 * that got the signal is still the same.  *done false: there is no such checkpoint. */
static slm2_status roll_back(struct run *r, bool *done, struct slm2_err *err)
{
    int64_t next = r->n_row + r->rows_per_step, from = r->t->n_update, cooldown_start = r->schedule.cooldown_start;
    int n_event = r->guard.n_event;
    bool cooldown = r->cooldown_by_signal;
    char ckpt[SLM2_PATH_MAX] = "";
    SLM2_TRY(slm2_comm_agree(r->comm, r->chief ? slm2_ckpt_find_regular(r->o->run, r->o->ckpt_every, ckpt, err) : SLM2_OK, err));
    SLM2_TRY(tell_path(r, ckpt, err));
    *done = *ckpt;
    if (!*ckpt) return SLM2_OK;
    SLM2_TRY(slm2_comm_agree(r->comm, take_state(r, ckpt, err), err)); /* the target is known to be good */
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

/* What the policy makes of bad numbers.  *skip: there is no update in this step. */
static slm2_status judge(struct run *r, const struct slm2_step_stats *stats, bool *skip, struct slm2_err *err)
{
    const struct slm2_guard_opts *g = &r->o->guard;
    char why[160];
    enum slm2_guard_verdict verdict = slm2_guard_judge(&r->guard, g, stats->loss, stats->grad_norm, why);
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
    if (action == SLM2_GUARD_ROLLBACK) SLM2_TRY(roll_back(r, &rolled, err));
    if (!rolled) r->n_row += r->rows_per_step;
    slm2_ledger_event(r->ledger, r->t->n_update, rolled ? "spike" : "skip", "rows %" PRId64 " to %" PRId64 ": %s", first, last, why);
    return slm2_comm_agree(r->comm, slm2_ledger_commit(r->ledger, err), err);
}

/* *skipped: the policy let the rows go without an update. */
static slm2_status train_step(struct run *r, int64_t count, struct slm2_step_stats *stats, bool *skipped, struct slm2_err *err)
{
    SLM2_TRY(slm2_comm_agree(r->comm, gradients(r, count, stats, err), err));
    SLM2_TRY(judge(r, stats, skipped, err));
    if (*skipped) return SLM2_OK;
    SLM2_TRY(slm2_trainer_apply(r->t, slm2_schedule_lr(&r->schedule, r->t->n_update), stats, err));
    r->n_row += r->rows_per_step;
    return SLM2_OK;
}

/* Bytes of text that the targets of a row stand for; without a tokenizer 0. */
static int64_t target_bytes(const struct run *r, const int32_t *ids)
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
static slm2_status validate_own(struct run *r, int s, int64_t n_rows, struct slm2_err *err)
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
static slm2_status validate(struct run *r, struct slm2_err *err)
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

static void begin_cooldown(struct run *r)
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
    slm2_log(SLM2_INFO, "pretrain: cooldown from step %" PRId64 " to %" PRId64, s->cooldown_start, end_step(r));
    slm2_ledger_event(r->ledger, r->t->n_update, "cooldown", "asked by signal: steps %" PRId64 " to %" PRId64, s->cooldown_start, end_step(r));
}

static slm2_status record_step(struct run *r, const struct slm2_step_stats *st, double took_s, double comm_s, struct slm2_err *err)
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
    slm2_progress("pretrain", (double)step / (double)end_step(r), "step %" PRId64 "  loss %.3f  lr %.2e  norm %.2f  %.0f tok/s", step, st->loss, st->lr, st->grad_norm, rate);
    if (r->o->log_every && step % r->o->log_every == 0)
        slm2_log(SLM2_INFO, "pretrain: step %" PRId64 "/%" PRId64 "  loss %.4f  lr %.3e (%s)  grad norm %.3f  %.0f tokens/s", step, end_step(r), st->loss, st->lr,
                 slm2_schedule_phase(&r->schedule, step - 1), st->grad_norm, rate);
    if (slm2_now_s() - r->committed_s < 1) return SLM2_OK;
    r->committed_s = slm2_now_s();
    return slm2_ledger_commit(r->ledger, err);
}

static slm2_status stop(struct run *r, struct slm2_err *err)
{
    SLM2_TRY(save(r, err));
    slm2_ledger_event(r->ledger, r->t->n_update, "stop", "asked to stop");
    return slm2_fail(err, SLM2_ESTOP, "stopped at step %" PRId64 " of %" PRId64 "; %s is saved, the same command goes on from there", r->t->n_update, end_step(r), r->res->ckpt_dir);
}

/* Adds to *sum the seconds since *since, which becomes now. */
static void count_time(double *sum, double *since)
{
    double now = slm2_now_s();
    *sum += now - *since;
    *since = now;
}

static slm2_status train(struct run *r, struct slm2_err *err)
{
    const struct slm2_pretrain_opts *o = r->o;
    int64_t n_step = 0;
    double busy_s = 0, comm_s = 0, at = slm2_now_s();
    struct slm2_train_time *time = &r->res->time;
    if (r->t->n_update == 0 && o->valid_every) SLM2_TRY(validate(r, err));
    count_time(&time->valid_s, &at);
    while (r->t->n_update < end_step(r)) {
        struct slm2_step_stats stats;
        struct meeting m = {.stop = asked(o->stop), .cooldown = asked(o->cooldown), .cpu_s = slm2_cpu_s()};
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
        if (o->ckpt_every && r->t->n_update % o->ckpt_every == 0) SLM2_TRY(save(r, err));
        count_time(&time->ckpt_s, &at);
    }
    if (n_step) r->res->tok_per_s = (double)n_step * r->rows_per_step * r->n_ctx / busy_s;
    if (busy_s > 0) r->res->comm_share = comm_s / busy_s;
    return SLM2_OK;
}

static slm2_status finish(struct run *r, struct slm2_err *err)
{
    struct slm2_train_result *res = r->res;
    struct slm2_ledger_cost cost;
    double at = slm2_now_s();
    SLM2_TRY(validate(r, err));
    count_time(&res->time.valid_s, &at);
    SLM2_TRY(save(r, err));
    count_time(&res->time.ckpt_s, &at);
    SLM2_TRY(slm2_path_join(res->model_dir, sizeof res->model_dir, r->o->run, "final", err));
    SLM2_TRY(slm2_ckpt_export(res->model_dir, r->t, r->tok, NULL, err));
    if (!r->chief) return SLM2_OK;
    record_sources(r);
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
    struct run r = {.o = o, .what = what, .res = res, .saved_step = -1, .valid_step = -1, .valid_loss = (double)NAN};
    struct slm2_err own; /* the message also goes to the ledger */
    slm2_comm_self(&r.alone);
    r.comm = o->comm ? o->comm : &r.alone;
    r.comm->timeout_s = o->timeout_s;
    r.chief = r.comm->rank == 0;
    *res = (struct slm2_train_result){.loss_first = (double)NAN, .loss = (double)NAN, .metric_before = (double)NAN, .metric = (double)NAN};
    slm2_status st = open_run(&r, &own);
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
