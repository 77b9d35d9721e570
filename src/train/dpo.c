/* dpo.c - direct preference optimisation: reference log-probabilities computed once and stored, then pairs against them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/pair.h"
#include "train/dpo_loss.h"
#include "train/tune.h"

struct opts {
    struct slm2_tune_opts tune;
    struct slm2_conf_list data, valid; /* of char * */
    double beta, label_smoothing;
    int max_len, max_prompt;
};
#define ROW(f, key, type, lo, hi, def, help) {key, type, offsetof(struct opts, f), lo, hi, def, help, NULL, NULL, 0, 0}
const struct slm2_opt slm2_dpo_settings[] = {
    SLM2_TUNE_ROWS(struct opts, tune, "1", "128", "4e-6", "0.1", "0", "rmsprop"),
    ROW(data, "data", SLM2_OPT_STRS, 0, 0, NULL, "JSONL files of pairs: {\"prompt\", \"chosen\", \"rejected\"}"),
    ROW(valid, "valid", SLM2_OPT_STRS, 0, 0, NULL, "held-out pairs"),
    ROW(beta, "beta", SLM2_OPT_DOUBLE, 0, 100, "0.01", "strength of the pull towards the reference"),
    ROW(label_smoothing, "label_smoothing", SLM2_OPT_DOUBLE, 0, 0.5, "0", "chance that a label is wrong"),
    ROW(max_len, "max_length", SLM2_OPT_INT, 4, 1 << 20, "1024", "tokens of prompt and answer"),
    ROW(max_prompt, "max_prompt_length", SLM2_OPT_INT, 1, 1 << 20, "512", "tokens that a prompt keeps when the pair is too long"),
    {0},
};
const size_t slm2_dpo_settings_size = sizeof(struct opts);

struct set { /* pairs with the reference's summed log-probabilities: chosen [2i], rejected [2i + 1] */
    struct slm2_pairs p;
    double *ref;
};
struct dpo {
    const struct opts *o;
    struct set train, valid;
};

/* As many pairs of items[0..n) as fit one batch (at least one); returns how many. */
static slm2_status fill(const struct set *s, const uint32_t *items, int n, struct slm2_batch *b, int *taken, struct slm2_err *err)
{
    slm2_batch_clear(b);
    for (*taken = 0; *taken < n; ++*taken) {
        uint32_t i = items[*taken];
        if (*taken > 0 && b->max_tok - b->n_tok < s->p.chosen[i].n + s->p.rejected[i].n) break;
        SLM2_TRY(slm2_pair_add(b, &s->p.chosen[i], 0, err));
        SLM2_TRY(slm2_pair_add(b, &s->p.rejected[i], 0, err));
    }
    return SLM2_OK;
}

static double sum_of(const struct slm2_batch *b, const float *lp, int seq)
{
    double sum = 0;
    for (int r = b->cu_seqlens[seq]; r < b->cu_seqlens[seq + 1]; r++) sum += (double)lp[r];
    return sum;
}

static void set_weight(struct slm2_batch *b, int seq, double w) /* loss = -sum weight * lp */
{
    for (int r = b->cu_seqlens[seq]; r < b->cu_seqlens[seq + 1]; r++) b->weight[r] = b->target[r] < 0 ? 0 : (float)w;
}

static struct slm2_dpo_terms terms(const struct dpo *d, const struct set *s, uint32_t item, const struct slm2_tune *tune, int seq)
{
    const struct slm2_batch *b = &tune->batch;
    return slm2_dpo_loss(sum_of(b, tune->t->lp, seq), sum_of(b, tune->t->lp, seq + 1), s->ref[2 * item], s->ref[2 * item + 1], d->o->beta, d->o->label_smoothing);
}

static slm2_status step(void *user, struct slm2_tune *tune, const uint32_t *items, int n, struct slm2_err *err)
{
    struct dpo *d = user;
    double loss = 0, margin = 0, right = 0;
    for (int at = 0, k; at < n; at += k) {
        SLM2_TRY(fill(&d->train, items + at, n - at, &tune->batch, &k, err));
        slm2_trainer_forward(tune->t, &tune->batch);
        for (int i = 0; i < k; i++) {
            struct slm2_dpo_terms t = terms(d, &d->train, items[at + i], tune, 2 * i);
            loss += t.loss / n;
            margin += t.margin / n;
            right += t.margin > 0;
            set_weight(&tune->batch, 2 * i, -t.d_chosen / n);
            set_weight(&tune->batch, 2 * i + 1, t.d_chosen / n);
        }
        slm2_trainer_backward(tune->t, &tune->batch);
    }
    tune->loss = loss;
    slm2_ledger_metric(tune->ledger, tune->step + 1, "margin", margin);
    slm2_ledger_metric(tune->ledger, tune->step + 1, "accuracy", right / n);
    return SLM2_OK;
}

static slm2_status validate(void *user, struct slm2_tune *tune, struct slm2_err *err)
{
    struct dpo *d = user;
    int n = d->valid.p.n;
    struct slm2_dpo_terms sum = {0};
    double right = 0, preferred = 0;
    if (n == 0) return SLM2_OK;
    for (uint32_t i = 0; i < (uint32_t)n; i++) {
        int k;
        SLM2_TRY(fill(&d->valid, &i, 1, &tune->batch, &k, err));
        slm2_trainer_evaluate(tune->t, &tune->batch);
        struct slm2_dpo_terms t = terms(d, &d->valid, i, tune, 0);
        sum.loss += t.loss / n;
        sum.margin += t.margin / n;
        sum.reward_chosen += t.reward_chosen / n;
        sum.reward_rejected += t.reward_rejected / n;
        right += t.margin > 0;
        preferred += sum_of(&tune->batch, tune->t->lp, 0) > sum_of(&tune->batch, tune->t->lp, 1);
    }
    slm2_tune_metric(tune, "valid_loss", sum.loss);
    slm2_tune_metric(tune, "valid_accuracy", right / n); /* of the rewards: pairs whose margin grew over the reference's */
    slm2_tune_metric(tune, "valid_margin", sum.margin);
    slm2_tune_metric(tune, "valid_reward_chosen", sum.reward_chosen);
    slm2_tune_metric(tune, "valid_reward_rejected", sum.reward_rejected);
    slm2_tune_metric(tune, "valid_prefers_chosen", preferred / n); /* pairs whose chosen answer is the likelier one */
    return SLM2_OK;
}

/* ---- the reference: the start weights, frozen -------------------------------------------------------------------------- */

static slm2_status compute_reference(struct set *s, struct slm2_tune *tune, struct slm2_err *err)
{
    for (uint32_t i = 0; i < (uint32_t)s->p.n; i++) {
        int k;
        if (slm2_tune_stopping(tune)) return slm2_fail(err, SLM2_ESTOP, "stopped while computing the reference; the next run begins it again");
        SLM2_TRY(fill(s, &i, 1, &tune->batch, &k, err));
        slm2_trainer_evaluate(tune->t, &tune->batch);
        s->ref[2 * i] = sum_of(&tune->batch, tune->t->lp, 0);
        s->ref[2 * i + 1] = sum_of(&tune->batch, tune->t->lp, 1);
        slm2_progress("reference", (i + 1.0) / s->p.n, "%u of %d pairs", i + 1, s->p.n);
    }
    slm2_progress_end();
    return SLM2_OK;
}

/* What the numbers depend on: the weights, precision and kernels, and the tokens of the pairs. */
static slm2_status reference_key(const struct set *s, const struct slm2_tune *tune, char model[65], char data[65], struct slm2_err *err)
{
    struct slm2_buf b = {0};
    slm2_tune_weights_sha256(tune, model);
    slm2_buf_printf(&b, "%s %s;", slm2_tune_precisions[tune->o->precision], tune->t->ctx.k->name);
    for (int i = 0; i < 2 * s->p.n; i++) {
        const struct slm2_pair_seq *q = i % 2 ? &s->p.rejected[i / 2] : &s->p.chosen[i / 2];
        slm2_buf_put(&b, &q->n, sizeof q->n);
        slm2_buf_put(&b, &q->n_prompt, sizeof q->n_prompt);
        slm2_buf_put(&b, q->ids, sizeof *q->ids * (size_t)q->n);
    }
    slm2_status st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) slm2_sha256_hex(b.v ? b.v : "", b.n, data);
    slm2_buf_free(&b);
    return st;
}

/* Takes the stored numbers when they are of this model and these pairs. */
static bool stored_reference(struct set *s, const char *path, const char *model, const char *data)
{
    json_t *j = NULL;
    struct slm2_err ignored;
    if (!slm2_path_exists(path) || slm2_json_read(&j, path, (size_t)1 << 30, &ignored) != SLM2_OK) return false;
    const char *m = json_string_value(json_object_get(j, "model_sha256")), *d = json_string_value(json_object_get(j, "pairs_sha256"));
    const json_t *lp = json_object_get(j, "log_prob");
    bool ok = m && d && !strcmp(m, model) && !strcmp(d, data) && json_array_size(lp) == 2 * (size_t)s->p.n;
    for (size_t i = 0; ok && i < 2 * (size_t)s->p.n; i++) s->ref[i] = json_number_value(json_array_get(lp, i));
    json_decref(j);
    return ok;
}

static slm2_status reference(struct set *s, const char *name, struct slm2_tune *tune, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX], model[65], data[65];
    if (s->p.n == 0) return SLM2_OK;
    if (!(s->ref = calloc(2 * (size_t)s->p.n, sizeof *s->ref))) return slm2_fail(err, SLM2_ENOMEM, "no memory for reference log-probabilities");
    SLM2_TRY(slm2_path_join(path, sizeof path, tune->o->run, name, err));
    SLM2_TRY(reference_key(s, tune, model, data, err));
    if (stored_reference(s, path, model, data)) return SLM2_OK;
    SLM2_TRY(compute_reference(s, tune, err));
    json_t *lp = json_array(), *j = json_pack("{s:s, s:s, s:o}", "model_sha256", model, "pairs_sha256", data, "log_prob", lp);
    for (size_t i = 0; j && i < 2 * (size_t)s->p.n; i++) json_array_append_new(lp, json_real(s->ref[i]));
    slm2_status st = j ? slm2_json_write(j, path, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for %s", path);
    json_decref(j);
    return st;
}

static slm2_status load(struct dpo *d, const struct opts *o, struct slm2_tune *tune, struct slm2_err *err)
{
    struct slm2_pair_opts po = slm2_pair_opts_default();
    po.chat = o->tune.chat;
    po.max_len = o->max_len;
    po.max_prompt = o->max_prompt;
    d->o = o;
    if (o->max_prompt >= o->max_len) return slm2_fail(err, SLM2_EUSAGE, "max_prompt_length %d leaves no room for answers in max_length %d", o->max_prompt, o->max_len);
    if (2 * o->max_len > o->tune.max_tok) return slm2_fail(err, SLM2_EUSAGE, "micro_batch_tokens is %d, a pair may have twice max_length %d", o->tune.max_tok, o->max_len);
    if (o->max_len > tune->t->model->cfg.n_ctx) return slm2_fail(err, SLM2_EUSAGE, "max_length is %d, the model reads at most %d", o->max_len, tune->t->model->cfg.n_ctx);
    SLM2_TRY(slm2_pairs_load(&d->train.p, o->data.items, o->data.n, tune->tok, &po, err));
    SLM2_TRY(slm2_pairs_load(&d->valid.p, o->valid.items, o->valid.n, tune->tok, &po, err));
    slm2_ledger_figure(tune->ledger, "pairs", d->train.p.n);
    slm2_ledger_figure(tune->ledger, "valid_pairs", d->valid.p.n);
    slm2_ledger_figure(tune->ledger, "bad_lines", (double)d->train.p.n_bad);
    slm2_ledger_figure(tune->ledger, "dropped_equal", (double)d->train.p.n_equal);
    slm2_ledger_figure(tune->ledger, "truncated", (double)d->train.p.n_truncated);
    SLM2_TRY(reference(&d->train, "reference.json", tune, err));
    return reference(&d->valid, "reference_valid.json", tune, err);
}

slm2_status slm2_dpo(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err)
{
    struct opts o;
    struct dpo d = {0};
    struct slm2_tune tune = {0};
    struct slm2_buf dump = {0};
    slm2_status st = slm2_tune_settings(slm2_dpo_settings, &o, sizeof o, args, &dump, err);
    if (st == SLM2_OK) st = slm2_tune_open(&tune, "dpo", &o.tune, args, dump.v, result, err);
    if (st == SLM2_OK) st = load(&d, &o, &tune, err);
    struct slm2_tune_stage stage = {.name = "dpo", .user = &d, .n_item = d.train.p.n, .step = step, .validate = validate};
    if (st == SLM2_OK) st = slm2_tune_run(&tune, &stage, err);
    st = slm2_tune_close(&tune, st, err);
    slm2_pairs_free(&d.train.p);
    slm2_pairs_free(&d.valid.p);
    free(d.train.ref);
    free(d.valid.ref);
    slm2_buf_free(&dump);
    slm2_tune_settings_free(slm2_dpo_settings, &o, args);
    return st;
}
