/* dpo.c - direct preference optimisation: reference log-probabilities computed once and stored, then pairs against them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "train/dpo_loss.h"
#include "train/dpo_ref.h"
#include "train/tune.h"

struct opts {
    struct slm2_tune_opts tune;
    struct slm2_conf_list data, valid; /* of struct slm2_pair_source */
    char *reference;
    double beta, label_smoothing, min_score;
    int loss, max_len, max_prompt;
    bool empty_system, keep_ties, keep_gsm8k_train, keep_duplicate_pairs;
};
#define SOURCE_AT(f) offsetof(struct slm2_pair_source, f)
static const struct slm2_opt source_rows[] = {
    {"format", SLM2_OPT_ENUM, SOURCE_AT(format), 0, 0, "pairs", "shape of the records", slm2_pref_formats, NULL, 0, 0},
    {"path", SLM2_OPT_STRS, SOURCE_AT(path), 0, 0, "!", "JSON lines or a JSON array, plain, .gz or .zst; an item that is plain text is its path", slm2_conf_file, NULL, 0, '='},
    {0},
};
#define ROW(f, key, type, lo, hi, def, help) {key, type, offsetof(struct opts, f), lo, hi, def, help, NULL, NULL, 0, 0}
#define SOURCES(f, key, help) {key, SLM2_OPT_LIST, offsetof(struct opts, f), 0, 0, NULL, help, NULL, source_rows, sizeof(struct slm2_pair_source), 0}
const struct slm2_opt slm2_dpo_settings[] = {
    SLM2_TUNE_ROWS(struct opts, tune, "1", "128", "4e-6", "0.1", "0", "rmsprop"),
    SOURCES(data, "data", "data sets of pairs; an item has"),
    SOURCES(valid, "valid", "held-out pairs, in the same form; an item has"),
    ROW(empty_system, "empty_system", SLM2_OPT_BOOL, 0, 0, "false", "put an empty system message before conversations without one"),
    ROW(min_score, "min_chosen_score", SLM2_OPT_DOUBLE, 0, 10, "8", "pairs whose chosen answer has a lower score are dropped; 0: none"),
    ROW(keep_ties, "keep_ties", SLM2_OPT_BOOL, 0, 0, "false", "keep pairs of equal scores"),
    ROW(keep_gsm8k_train, "keep_gsm8k_train", SLM2_OPT_BOOL, 0, 0, "false", "keep pairs that are marked as questions of GSM8K's training set"),
    ROW(keep_duplicate_pairs, "keep_duplicate_pairs", SLM2_OPT_BOOL, 0, 0, "false", "keep pairs that came before, in any file of the list"),
    ROW(reference, "reference", SLM2_OPT_STR, 0, 0, "", "folder of stored reference log-probabilities; empty: dpo-reference/ beside the run's folder"),
    {"loss", SLM2_OPT_ENUM, offsetof(struct opts, loss), 0, 0, "sigmoid", "DPO's sigmoid, hinge, or ipo (squared distance of the log-ratio from 1 / (2 beta))", slm2_dpo_kinds, NULL, 0, 0},
    ROW(beta, "beta", SLM2_OPT_DOUBLE, 0, 100, "0.01", "strength of the pull towards the reference"),
    ROW(label_smoothing, "label_smoothing", SLM2_OPT_DOUBLE, 0, 0.5, "0", "chance that a label is wrong; loss sigmoid only"),
    ROW(max_len, "max_length", SLM2_OPT_INT, 4, 1 << 20, "1024", "tokens of prompt and answer"),
    ROW(max_prompt, "max_prompt_length", SLM2_OPT_INT, 1, 1 << 20, "512", "tokens at its end that a prompt keeps when the pair is too long"),
    {0},
};
const size_t slm2_dpo_settings_size = sizeof(struct opts);

struct set { /* pairs with the reference's summed log-probabilities: chosen [2i], rejected [2i + 1] */
    struct slm2_pairs p;
    char hash[65]; /* of the pairs' tokens */
    double *ref;
};
struct dpo {
    const struct opts *o;
    struct set train, valid;
    char data[65]; /* hash of training pairs and model */
};

/* ---- pairs through the model --------------------------------------------------------------------------------------------- */
/* As many pairs from `at` on as fit one batch (at least one); items NULL: the pairs in order.  Returns how many in *taken. */
static slm2_status fill(const struct set *s, const uint32_t *items, int at, int n, struct slm2_batch *b, int *taken, struct slm2_err *err)
{
    slm2_batch_clear(b);
    for (*taken = 0; at + *taken < n; ++*taken) {
        uint32_t i = items ? items[at + *taken] : (uint32_t)(at + *taken);
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

/* ---- what is logged -------------------------------------------------------------------------------------------------------- */
/* Means over n pairs. */
enum figure { LOSS, MARGIN, REWARD_CHOSEN, REWARD_REJECTED, LOGP_CHOSEN, LOGP_REJECTED, ACCURACY, PREFERS_CHOSEN, N_FIGURE };
static const char *const figure_name[N_FIGURE] = {"loss", "margin", "reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected",
                                                  "accuracy",         /* pairs whose margin grew over the reference's */
                                                  "prefers_chosen"};  /* pairs whose chosen answer is the likelier one */

/* Adds the pair at sequences seq and seq + 1 of the batch; returns its derivative. */
static double add_pair(double *f, const struct dpo *d, const struct set *s, uint32_t item, const struct slm2_tune *tune, int seq, int n)
{
    double chosen = sum_of(&tune->batch, tune->t->lp, seq), rejected = sum_of(&tune->batch, tune->t->lp, seq + 1);
    struct slm2_dpo_terms t = slm2_dpo_loss((enum slm2_dpo_kind)d->o->loss, chosen, rejected, s->ref[2 * item], s->ref[2 * item + 1], d->o->beta, d->o->label_smoothing);
    f[LOSS] += t.loss / n;
    f[MARGIN] += t.margin / n;
    f[REWARD_CHOSEN] += t.reward_chosen / n;
    f[REWARD_REJECTED] += t.reward_rejected / n;
    f[LOGP_CHOSEN] += chosen / n;
    f[LOGP_REJECTED] += rejected / n;
    f[ACCURACY] += t.margin > 0; /* whole numbers until all are there: 3 of 3 is 1 exactly */
    f[PREFERS_CHOSEN] += chosen > rejected;
    return t.d_chosen;
}

static slm2_status step(void *user, struct slm2_tune *tune, const uint32_t *items, int n, struct slm2_err *err)
{
    struct dpo *d = user;
    double f[N_FIGURE] = {0};
    for (int at = 0, k; at < n; at += k) {
        SLM2_TRY(fill(&d->train, items, at, n, &tune->batch, &k, err));
        slm2_trainer_forward(tune->t, &tune->batch);
        for (int i = 0; i < k; i++) {
            double d_chosen = add_pair(f, d, &d->train, items[at + i], tune, 2 * i, n);
            set_weight(&tune->batch, 2 * i, -d_chosen / n);
            set_weight(&tune->batch, 2 * i + 1, d_chosen / n);
        }
        slm2_trainer_backward(tune->t, &tune->batch);
    }
    tune->loss = f[LOSS];
    f[ACCURACY] /= n;
    for (int i = LOSS + 1; i <= ACCURACY; i++) { /* the loss is shown with all stages' */
        char name[40];
        snprintf(name, sizeof name, "last_%s", figure_name[i]);
        slm2_tune_figure(tune, name, f[i]); /* of the run, in the end */
        slm2_ledger_metric(tune->ledger, tune->step + 1, figure_name[i], f[i]);
    }
    return SLM2_OK;
}

static slm2_status validate(void *user, struct slm2_tune *tune, struct slm2_err *err)
{
    struct dpo *d = user;
    int n = d->valid.p.n;
    double f[N_FIGURE] = {0};
    if (n == 0) return SLM2_OK;
    for (int at = 0, k; at < n; at += k) {
        SLM2_TRY(fill(&d->valid, NULL, at, n, &tune->batch, &k, err));
        slm2_trainer_evaluate(tune->t, &tune->batch);
        for (int i = 0; i < k; i++) add_pair(f, d, &d->valid, (uint32_t)(at + i), tune, 2 * i, n);
        slm2_progress("validation", (double)(at + k) / n, "%d of %d pairs", at + k, n);
    }
    slm2_progress_end();
    f[ACCURACY] /= n;
    f[PREFERS_CHOSEN] /= n;
    for (int i = 0; i < N_FIGURE; i++) {
        char name[40];
        snprintf(name, sizeof name, "valid_%s", figure_name[i]);
        slm2_tune_metric(tune, name, f[i]);
    }
    return SLM2_OK;
}

/* ---- the reference: the start weights, frozen -------------------------------------------------------------------------- */
enum { STORE_S = 60 }; /* so much work is lost at most when the process is killed */

static slm2_status compute_reference(struct set *s, int done, const char *dir, const struct slm2_dpo_ref_key *key, struct slm2_tune *tune, struct slm2_err *err)
{
    double stored = slm2_now_s();
    int n = s->p.n;
    while (done < n) {
        int k;
        if (slm2_tune_stopping(tune)) {
            slm2_progress_end();
            SLM2_TRY(slm2_dpo_ref_write(dir, key, s->ref, n, done, err));
            return slm2_fail(err, SLM2_ESTOP, "stopped at pair %d of %d of the reference; run the same command again to go on", done, n);
        }
        SLM2_TRY(fill(s, NULL, done, n, &tune->batch, &k, err));
        slm2_trainer_evaluate(tune->t, &tune->batch);
        for (int i = 0; i < 2 * k; i++) s->ref[2 * done + i] = sum_of(&tune->batch, tune->t->lp, i);
        done += k;
        slm2_progress("reference", (double)done / n, "%d of %d pairs", done, n);
        if (done < n && slm2_now_s() - stored > STORE_S) {
            SLM2_TRY(slm2_dpo_ref_write(dir, key, s->ref, n, done, err));
            stored = slm2_now_s();
        }
    }
    slm2_progress_end();
    return slm2_dpo_ref_write(dir, key, s->ref, n, n, err);
}

/* dpo-reference/ beside the run's folder: other runs from the same model find it. */
static slm2_status reference_dir(char *out, size_t cap, const struct opts *o, struct slm2_err *err)
{
    size_t n = strlen(o->tune.run);
    if (o->reference[0]) {
        if (strlen(o->reference) >= cap) return slm2_fail(err, SLM2_ELIMIT, "reference: the path is too long");
        strcpy(out, o->reference);
        return SLM2_OK;
    }
    while (n > 1 && o->tune.run[n - 1] == '/') n--;
    while (n > 0 && o->tune.run[n - 1] != '/') n--;
    int k = snprintf(out, cap, "%.*sdpo-reference", (int)n, o->tune.run);
    return k < 0 || (size_t)k >= cap ? slm2_fail(err, SLM2_ELIMIT, "%s: the path is too long", o->tune.run) : SLM2_OK;
}

static slm2_status reference(struct set *s, const char *name, const char *model, struct slm2_tune *tune, const struct opts *o, struct slm2_err *err)
{
    char dir[SLM2_PATH_MAX], path[SLM2_PATH_MAX], figure[60];
    struct slm2_dpo_ref_key key = {.precision = slm2_tune_precisions[o->tune.precision], .kernels = tune->t->ctx.k->variant};
    struct slm2_err why;
    int n = s->p.n, done;
    if (n == 0) return SLM2_OK;
    if (!(s->ref = calloc(2 * (size_t)n, sizeof *s->ref))) return slm2_fail(err, SLM2_ENOMEM, "no memory for reference log-probabilities");
    memcpy(key.model, model, sizeof key.model);
    memcpy(key.pairs, s->hash, sizeof key.pairs);
    SLM2_TRY(reference_dir(dir, sizeof dir, o, err));
    SLM2_TRY(slm2_dpo_ref_path(path, sizeof path, dir, &key, err));
    if (slm2_dpo_ref_read(path, &key, s->ref, n, &done, &why) != SLM2_OK) {
        slm2_log(SLM2_WARN, "%s; the reference is computed again", why.msg);
        slm2_ledger_event(tune->ledger, tune->step, "warning", "%s; the reference is computed again", why.msg);
        done = 0;
    }
    slm2_log(SLM2_INFO, "%s: log-probabilities of the reference: %d of %d pairs from %s%s", name, done, n, path, done < n ? ", the others are computed now" : "");
    snprintf(figure, sizeof figure, "%s.reference_computed", name); /* by this start of the program */
    slm2_ledger_figure(tune->ledger, figure, n - done);
    return done == n ? SLM2_OK : compute_reference(s, done, dir, &key, tune, err);
}

/* ---- data ------------------------------------------------------------------------------------------------------------------ */
/* "train.orca_dpo_pairs", with a number behind the format from its second source on. */
static void label_of(char *out, size_t cap, const char *list, const struct slm2_pair_source *sources, int i)
{
    const char *format = slm2_pref_formats[sources[i].format];
    int earlier = 0;
    for (int k = 0; k < i; k++) earlier += sources[k].format == sources[i].format;
    if (earlier) snprintf(out, cap, "%s.%s-%d", list, format, earlier + 1);
    else snprintf(out, cap, "%s.%s", list, format);
}

static slm2_status account_file(const char *label, const struct slm2_pair_file *f, struct slm2_ledger *ledger, struct slm2_err *err)
{
    struct slm2_map m;
    char hex[65];
    SLM2_TRY(slm2_map_open(&m, f->path, err));
    slm2_sha256_hex(m.p, m.n, hex);
    slm2_ledger_file(ledger, &(struct slm2_ledger_file){.path = f->path, .source = label, .sha256 = hex, .language = "", .licence = "", .bytes = (int64_t)m.n, .tokens = f->n_tok,
                                                        .documents = f->n[SLM2_PREF_KEEP]});
    slm2_map_close(&m);
    return SLM2_OK;
}

/* What became of the records of a data set. */
enum { RECORDS = SLM2_PREF_N_VERDICT, CUT_PROMPT, CUT_ANSWER, N_COUNT };
struct account { char label[100]; int64_t n[N_COUNT]; };
static const char *count_name(int v)
{
    static const char *const more[] = {"records", "cut_prompt", "cut_answer"};
    return v < RECORDS ? slm2_pref_verdicts[v] : more[v - RECORDS];
}

static struct account account_of(const char *list, const struct slm2_conf_list *sources, const struct slm2_pairs *p, int source)
{
    struct account a = {0};
    label_of(a.label, sizeof a.label, list, sources->items, source);
    for (int k = 0; k < p->n_file; k++) {
        const struct slm2_pair_file *f = &p->file[k];
        if (f->source != source) continue;
        for (int v = 0; v < SLM2_PREF_N_VERDICT; v++) a.n[v] += f->n[v], a.n[RECORDS] += f->n[v];
        a.n[CUT_PROMPT] += f->n_cut_prompt;
        a.n[CUT_ANSWER] += f->n_cut_answer;
    }
    return a;
}

static void put_account(const struct account *a, struct slm2_buf *line)
{
    slm2_buf_printf(line, "%s: records %lld, keep %lld", a->label, (long long)a->n[RECORDS], (long long)a->n[SLM2_PREF_KEEP]);
    for (int v = 0; v < N_COUNT; v++)
        if (a->n[v] && v != SLM2_PREF_KEEP && v != RECORDS) slm2_buf_printf(line, ", %s %lld", count_name(v), (long long)a->n[v]);
}

/* Shown, and in the ledger. */
static slm2_status account(const char *list, const struct slm2_conf_list *sources, const struct slm2_pairs *p, struct slm2_tune *tune, struct slm2_err *err)
{
    for (int i = 0; i < sources->n; i++) {
        struct account a = account_of(list, sources, p, i);
        struct slm2_buf line = {0};
        for (int k = 0; k < p->n_file; k++)
            if (p->file[k].source == i) SLM2_TRY(account_file(a.label, &p->file[k], tune->ledger, err));
        for (int v = 0; v < N_COUNT; v++) {
            char key[160];
            snprintf(key, sizeof key, "%s.%s", a.label, count_name(v));
            slm2_ledger_figure(tune->ledger, key, (double)a.n[v]);
        }
        put_account(&a, &line);
        slm2_log(SLM2_INFO, "%s", line.v ? line.v : a.label);
        slm2_buf_free(&line);
    }
    return SLM2_OK;
}

static slm2_status check(const struct opts *o, const struct slm2_config *cfg, struct slm2_err *err)
{
    if (o->label_smoothing > 0 && o->loss != SLM2_DPO_SIGMOID)
        return slm2_fail(err, SLM2_EUSAGE, "label_smoothing is %g, loss %s has none; take loss: sigmoid, or label_smoothing: 0", o->label_smoothing, slm2_dpo_kinds[o->loss]);
    if (o->loss == SLM2_DPO_IPO && o->beta <= 0) return slm2_fail(err, SLM2_EUSAGE, "beta is 0, loss ipo divides by it; want a number above 0");
    if (o->max_prompt >= o->max_len) return slm2_fail(err, SLM2_EUSAGE, "max_prompt_length %d leaves no room for answers in max_length %d", o->max_prompt, o->max_len);
    if (2 * o->max_len > o->tune.max_tok) return slm2_fail(err, SLM2_EUSAGE, "micro_batch_tokens is %d, a pair may have twice max_length %d", o->tune.max_tok, o->max_len);
    if (o->max_len > cfg->n_ctx) return slm2_fail(err, SLM2_EUSAGE, "max_length is %d, the model reads at most %d", o->max_len, cfg->n_ctx);
    if (o->data.n == 0) return slm2_fail(err, SLM2_EUSAGE, "setting data is empty: name files of pairs, or data sets as {format: orca_dpo_pairs, path: FILE}");
    return SLM2_OK;
}

/* What a checkpoint goes on with: another reference or other pairs would be another loss. */
static void hash_of_all(struct dpo *d, const char *model, struct slm2_tune *tune)
{
    char both[2 * 65];
    snprintf(both, sizeof both, "%s %s", d->train.hash, model);
    slm2_sha256_hex(both, strlen(both), d->data);
    slm2_ledger_run(tune->ledger, "pairs_sha256", d->train.hash);
    slm2_ledger_run(tune->ledger, "model_sha256", model);
}

/* Reads one list; the first bad record of each file is told. */
static slm2_status read_pairs(struct slm2_pairs *p, const struct slm2_conf_list *sources, const struct opts *o, const struct slm2_tok *tok, struct slm2_err *err)
{
    struct slm2_pair_opts po = slm2_pair_opts_default();
    po.chat = o->tune.chat;
    po.empty_system = o->empty_system;
    po.max_len = o->max_len;
    po.max_prompt = o->max_prompt;
    po.rules = (struct slm2_pref_rules){.min_score = o->min_score, .keep_ties = o->keep_ties, .keep_gsm8k_train = o->keep_gsm8k_train, .keep_duplicate_pairs = o->keep_duplicate_pairs};
    SLM2_TRY(slm2_pairs_load(p, sources->items, sources->n, tok, &po, err));
    for (int i = 0; i < p->n_file; i++)
        if (p->file[i].first_bad[0]) slm2_log(SLM2_WARN, "%s (the first of %lld invalid records)", p->file[i].first_bad, (long long)p->file[i].n[SLM2_PREF_INVALID]);
    return SLM2_OK;
}

static slm2_status load(struct dpo *d, const struct opts *o, struct slm2_tune *tune, struct slm2_tune_stage *stage, struct slm2_err *err)
{
    const struct { const char *name; const struct slm2_conf_list *sources; struct set *set; } lists[] = {{"train", &o->data, &d->train}, {"valid", &o->valid, &d->valid}};
    char model[65];
    d->o = o;
    SLM2_TRY(check(o, &tune->t->model->cfg, err));
    for (int i = 0; i < 2; i++) {
        SLM2_TRY(read_pairs(&lists[i].set->p, lists[i].sources, o, tune->tok, err));
        SLM2_TRY(slm2_dpo_ref_pairs(&lists[i].set->p, lists[i].set->hash, err));
        SLM2_TRY(account(lists[i].name, lists[i].sources, &lists[i].set->p, tune, err));
    }
    if (d->train.p.n == 0) return slm2_tune_nothing("dpo", err); /* before the reference of the held-out pairs is computed */
    slm2_tune_figure(tune, "pairs", d->train.p.n);
    slm2_ledger_figure(tune->ledger, "valid_pairs", d->valid.p.n);
    SLM2_TRY(slm2_model_key_of(o->tune.model, tune->t->model->lora, model, err)); /* all that the start weights come from */
    hash_of_all(d, model, tune);
    stage->n_item = d->train.p.n;
    SLM2_TRY(slm2_tune_agrees(tune, stage, err)); /* before the reference is computed */
    for (int i = 0; i < 2; i++) SLM2_TRY(reference(lists[i].set, lists[i].name, model, tune, o, err));
    return slm2_ledger_commit(tune->ledger, err);
}

static json_t *account_json(const struct account *a)
{
    json_t *j = json_pack("{s:s}", "set", a->label);
    for (int v = 0; j && v < N_COUNT; v++) json_object_set_new(j, count_name(v), json_integer(a->n[v]));
    return j;
}

slm2_status slm2_dpo_plan(const struct slm2_stage_args *args, struct slm2_buf *text, json_t **json, struct slm2_err *err)
{
    struct opts o;
    struct dpo d = {0};
    struct slm2_tune_look look = {0};
    struct slm2_buf dump = {0};
    slm2_status st = slm2_tune_settings(slm2_dpo_settings, &o, sizeof o, args, &dump, err);
    const struct { const char *name; const struct slm2_conf_list *sources; struct set *set; } lists[] = {{"train", &o.data, &d.train}, {"valid", &o.valid, &d.valid}};
    json_t *sets = json_array();
    *json = NULL;
    if (st == SLM2_OK) st = slm2_tune_look(&look, &o.tune, args, err);
    if (st == SLM2_OK) st = check(&o, &look.cfg, err);
    for (int l = 0; l < 2 && st == SLM2_OK; l++) {
        st = read_pairs(&lists[l].set->p, lists[l].sources, &o, look.tok, err);
        for (int i = 0; i < lists[l].sources->n && st == SLM2_OK; i++) {
            struct account a = account_of(lists[l].name, lists[l].sources, &lists[l].set->p, i);
            put_account(&a, text);
            slm2_buf_putc(text, '\n');
            json_array_append_new(sets, account_json(&a));
        }
    }
    if (st == SLM2_OK) {
        const struct slm2_pairs *p = &d.train.p;
        slm2_buf_printf(text, "%d pairs of %zu tokens to learn from, %d held out; the reference is computed for both, unless it is stored\n", p->n, p->n_tok, d.valid.p.n);
        *json = json_pack("{s:O, s:i, s:i, s:I}", "sets", sets, "pairs", p->n, "valid_pairs", d.valid.p.n, "tokens", (json_int_t)p->n_tok);
        st = slm2_tune_plan(&look, "dpo", p->n, "pairs", text, json, err);
    }
    json_decref(sets);
    slm2_pairs_free(&d.train.p);
    slm2_pairs_free(&d.valid.p);
    slm2_tune_look_free(&look);
    slm2_buf_free(&dump);
    slm2_tune_settings_free(slm2_dpo_settings, &o, args);
    return st;
}

slm2_status slm2_dpo(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err)
{
    struct opts o;
    struct dpo d = {0};
    struct slm2_tune tune = {0};
    struct slm2_buf dump = {0};
    slm2_status st = slm2_tune_settings(slm2_dpo_settings, &o, sizeof o, args, &dump, err);
    if (st == SLM2_OK) st = slm2_tune_open(&tune, "dpo", &o.tune, args, dump.v, result, err);
    struct slm2_tune_stage stage = {.name = "dpo", .user = &d, .data = d.data, .step = step, .validate = validate};
    if (st == SLM2_OK) st = load(&d, &o, &tune, &stage, err);
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
