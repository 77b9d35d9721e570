/* pretrain_open.c - opens a pre-training run: data, settings, where it goes on from, ledger; ranks must agree on all of it. */
#include "train/pretrain_run.h"

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "data/verify.h"

static const struct slm2_dataset_source *find_source(const struct slm2_pretrain *r, const char *name)
{
    for (int i = 0; i < r->set.n; i++)
        if (!strcmp(r->set.v[i].name, name)) return &r->set.v[i]; /* NOLINT(clang-analyzer-core.NonNullParamChecker): sources of a data folder have names */
    return NULL;
}

static slm2_status add_source(struct slm2_pretrain *r, const char *name, double weight, const char *prefix, const char *valid, struct slm2_err *err)
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
static slm2_status weigh_by_epochs(struct slm2_pretrain *r, const struct slm2_pretrain_source *list, int n, struct slm2_err *err)
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
static slm2_status check_files(struct slm2_pretrain *r, struct slm2_err *err)
{
    for (int i = 0; i < r->n_source; i++) {
        const struct slm2_dataset_source *s = find_source(r, r->train[i].name);
        if (s && s->prefix[SLM2_SPLIT_TRAIN] == r->train[i].prefix) SLM2_TRY(slm2_dataset_check(r->o->data, s->name, err));
    }
    return SLM2_OK;
}

static slm2_status open_data(struct slm2_pretrain *r, struct slm2_err *err)
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

static slm2_status open_tokenizer(struct slm2_pretrain *r, struct slm2_err *err)
{
    const char *name = r->o->tokenizer;
    if (!strcmp(name, "none")) return SLM2_OK;
    SLM2_TRY(slm2_tok_open(&r->tok, *name ? name : NULL, err));
    if (slm2_tok_n_vocab(r->tok) <= r->cfg.vocab_size) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "%s: the tokenizer has %d ids, model.vocab_size is %d; set tokenizer to the vocabulary of the data, or to none", r->what, slm2_tok_n_vocab(r->tok), r->cfg.vocab_size);
}

static slm2_status open_settings(struct slm2_pretrain *r, struct slm2_err *err)
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

static slm2_status same_config(const struct slm2_pretrain *r, const struct slm2_config *of_ckpt, struct slm2_err *err)
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

static slm2_status open_trainer(struct slm2_pretrain *r, const char *ckpt, struct slm2_err *err)
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

/* All ranks must compute the same: one version, one set of kernels, one set of settings (threads apart). */
static slm2_status same_on_all_ranks(struct slm2_pretrain *r, struct slm2_err *err)
{
    struct words { char version[16], kernels[SLM2_VARIANT_MAX], settings[65]; } mine = {0}, *all = (struct words *)r->heard;
    struct slm2_pretrain_opts o = *r->o;
    struct slm2_buf dump = {0};
    o.threads = 0;
    if (r->comm->n_rank == 1) return SLM2_OK;
    slm2_conf_dump(slm2_pretrain_table, &o, &dump);
    slm2_sha256_hex(dump.v, dump.n, mine.settings);
    slm2_buf_free(&dump);
    snprintf(mine.version, sizeof mine.version, "%s", SLM2_VERSION);
    snprintf(mine.kernels, sizeof mine.kernels, "%s", r->t->ctx.k->variant);
    slm2_status st = r->comm->ops->all_gather(r->comm, all, &mine, sizeof mine, err);
    for (int i = 1; st == SLM2_OK && i < r->comm->n_rank; i++) {
        if (strcmp(all[i].version, all[0].version)) st = slm2_fail(err, SLM2_EUSAGE, "rank %d runs slm2 %s, rank 0 %s; start one build everywhere", i, all[i].version, all[0].version);
        else if (strcmp(all[i].kernels, all[0].kernels))
            st = slm2_fail(err, SLM2_EUSAGE, "rank %d computes with %s, rank 0 with %s, which may give other bits; set isa to what all hosts have (avx2)", i, all[i].kernels, all[0].kernels);
        else if (strcmp(all[i].settings, all[0].settings)) st = slm2_fail(err, SLM2_EUSAGE, "rank %d has other settings than rank 0; start all ranks with one configuration", i);
    }
    return st;
}

/* What a run begins with must not lie in its own folder: a branch needs a folder of its own, and starting over empties the folder. */
static slm2_status outside_run(const struct slm2_pretrain *r, const char *key, const char *path, struct slm2_err *err)
{
    char *run = *path ? realpath(r->o->run, NULL) : NULL, *real = *path ? realpath(path, NULL) : NULL; /* absent: found out later */
    size_t n = run ? strlen(run) : 0;
    bool inside = run && real && !strncmp(real, run, n) && (real[n] == '/' || !real[n]);
    free(run);
    free(real);
    return inside ? slm2_fail(err, SLM2_EUSAGE, "%s: %s, %s, is in the run folder %s; use another run folder", r->what, key, path, r->o->run) : SLM2_OK;
}

/* Checkpoints, ledger and model of an earlier run in the same folder. */
static slm2_status start_over(struct slm2_pretrain *r, struct slm2_err *err)
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

/* The run folder and where the run goes on from: its newest checkpoint, else the one that it branches off from, else "". */
static slm2_status find_start(struct slm2_pretrain *r, char *ckpt, bool *branch, struct slm2_err *err)
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

static slm2_status begin_branch(struct slm2_pretrain *r, struct slm2_err *err)
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
static slm2_status same_branch(const struct slm2_pretrain *r, struct slm2_err *err)
{
    if (!r->o->cooldown_steps || r->o->cooldown_steps == r->branch_cooldown) return SLM2_OK;
    if (r->branch_cooldown)
        return slm2_fail(err, SLM2_EUSAGE, "%s: cooldown_steps is %" PRId64 ", the run in %s branched off with %" PRId64 "; keep that, or use another run folder", r->what, r->o->cooldown_steps, r->o->run, r->branch_cooldown);
    return slm2_fail(err, SLM2_EUSAGE, "%s: cooldown_steps begins a branch in a folder of its own, but %s already holds a run at step %" PRId64 " that did not begin so; use another run folder, or leave cooldown_steps out",
                     r->what, r->o->run, r->t->n_update);
}

static slm2_status record_files(struct slm2_pretrain *r, const struct slm2_mix_source *v, int n, int split, struct slm2_err *err)
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

static slm2_status open_ledger(struct slm2_pretrain *r, struct slm2_err *err)
{
    struct slm2_buf dump = {0};
    SLM2_TRY(slm2_path_join(r->res->ledger, sizeof r->res->ledger, r->o->run, "run.sqlite", err));
    SLM2_TRY(slm2_ledger_open(&r->ledger, r->res->ledger, "pretrain", err));
    slm2_conf_dump(slm2_pretrain_table, r->o, &dump);
    slm2_status st = slm2_buf_check(&dump, err);
    if (st == SLM2_OK) slm2_ledger_run(r->ledger, "config", dump.v);
    slm2_buf_free(&dump);
    slm2_ledger_run(r->ledger, "config_file", r->what);
    slm2_ledger_run(r->ledger, "kernels", r->t->ctx.k->variant);
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

slm2_status slm2_pretrain_open(struct slm2_pretrain *r, struct slm2_err *err)
{
    const struct slm2_pretrain_opts *o = r->o;
    struct slm2_comm *c = r->comm;
    char ckpt[SLM2_PATH_MAX] = "";
    bool branch = false;
    SLM2_TRY(slm2_comm_agree(c, open_settings(r, err), err));
    SLM2_TRY(slm2_comm_agree(c, r->chief ? find_start(r, ckpt, &branch, err) : SLM2_OK, err));
    SLM2_TRY(slm2_pretrain_tell(r, ckpt, err));
    if (!r->chief) branch = *ckpt && *o->from && !strcmp(ckpt, o->from);
    SLM2_TRY(slm2_comm_agree(c, open_trainer(r, ckpt, err), err));
    SLM2_TRY(same_on_all_ranks(r, err));
    slm2_status st = *ckpt ? slm2_pretrain_take(r, ckpt, err) : SLM2_OK;
    if (st == SLM2_OK && *ckpt) st = branch ? begin_branch(r, err) : same_branch(r, err);
    SLM2_TRY(slm2_comm_agree(c, st, err));
    if (r->chief) {
        st = open_ledger(r, err);
        if (st == SLM2_OK) st = slm2_watch_open(&r->watch, &o->watch, "pretrain", r->t->n_update, slm2_pretrain_end_step(r), r->ledger, err);
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
