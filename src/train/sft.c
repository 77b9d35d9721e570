/* sft.c - supervised fine-tuning: data sets of conversations, packed; loss on what the assistant says (or on every token). */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "data/convo_rows.h"
#include "train/tune.h"

static const char *const too_long[] = {"cut", "drop", NULL}, *const packing[] = {"reset", "joined", NULL}, *const bad_records[] = {"count", "stop", NULL};
struct opts {
    struct slm2_tune_opts tune;
    struct slm2_conf_list data, valid; /* of struct slm2_convo_set */
    int n_ctx, max_turns, turns, too_long, packing, bad_records;
    bool all_tokens, empty_system, dedup;
};
#define ROW(f, key, type, lo, hi, def, help, choices) {key, type, offsetof(struct opts, f), lo, hi, def, help, choices, NULL, 0, 0}
#define SETS(f, key, help) {key, SLM2_OPT_LIST, offsetof(struct opts, f), 0, 0, NULL, help, NULL, slm2_convo_set_table, sizeof(struct slm2_convo_set), 0}
const struct slm2_opt slm2_sft_settings[] = {
    SLM2_TUNE_ROWS(struct opts, tune, "3", "512", "5e-5", "0.1", "0", "adamw"),
    SETS(data, "data", "data sets of conversations, or files of {\"messages\": [{\"role\", \"content\"}]}; an item has"),
    SETS(valid, "valid", "held-out conversations, in the same form; an item has"),
    ROW(n_ctx, "n_ctx", SLM2_OPT_INT, 2, 1 << 20, "4096", "tokens of a packed row", NULL),
    ROW(packing, "packing", SLM2_OPT_ENUM, 0, 0, "reset", "reset: no conversation of a row sees another; joined: later ones see earlier ones", packing),
    ROW(too_long, "too_long", SLM2_OPT_ENUM, 0, 0, "cut", "a conversation longer than a row: its end is cut off, or it is dropped", too_long),
    ROW(max_turns, "max_turns", SLM2_OPT_INT, 0, 1 << 20, "8", "longer conversations are dropped; 0: no limit", NULL),
    ROW(turns, "turns", SLM2_OPT_ENUM, 0, 0, "messages", "what max_turns counts: messages without the system's, or exchanges (a message and its answer)", slm2_convo_turns),
    ROW(dedup, "dedup", SLM2_OPT_BOOL, 0, 0, "true", "drop what is, token for token, a conversation that came before, in whatever data set", NULL),
    ROW(all_tokens, "all_tokens", SLM2_OPT_BOOL, 0, 0, "false", "learn every token, not only the assistant's", NULL),
    ROW(empty_system, "empty_system", SLM2_OPT_BOOL, 0, 0, "false", "put an empty system message before conversations without one", NULL),
    ROW(bad_records, "bad_records", SLM2_OPT_ENUM, 0, 0, "count", "a record that does not fit its format: counted and left out, or the end", bad_records),
    {0},
};
const size_t slm2_sft_settings_size = sizeof(struct opts);

struct sft {
    struct slm2_convos train, valid;
    struct slm2_convo_rows rows, valid_rows;
    char data[65]; /* hash of the rows and what is in them */
};

/* Loss is the mean over all learnt tokens of the update: each weighs one over their number. */
static slm2_status step(void *user, struct slm2_tune *tune, const uint32_t *items, int n, struct slm2_err *err)
{
    struct sft *s = user;
    int64_t count = 0;
    for (int i = 0; i < n; i++) count += slm2_convos_count_row(&s->train, &s->rows, (int)items[i]);
    for (int i = 0; i < n;) {
        slm2_batch_clear(&tune->batch);
        do SLM2_TRY(slm2_convos_add_row(&s->train, &s->rows, (int)items[i++], 1.0f / (float)count, &tune->batch, err));
        while (i < n && tune->batch.max_tok - tune->batch.n_tok >= s->train.n_ctx);
        slm2_trainer_accumulate(tune->t, &tune->batch);
    }
    tune->loss = tune->t->loss;
    return SLM2_OK;
}

static slm2_status validate(void *user, struct slm2_tune *tune, struct slm2_err *err)
{
    struct sft *s = user;
    int64_t count = 0, right = 0;
    double loss = 0;
    for (int i = 0; i < s->valid_rows.n_rows; i++) count += slm2_convos_count_row(&s->valid, &s->valid_rows, i);
    if (count == 0) return SLM2_OK;
    for (int i = 0; i < s->valid_rows.n_rows; i++) {
        slm2_batch_clear(&tune->batch);
        SLM2_TRY(slm2_convos_add_row(&s->valid, &s->valid_rows, i, 1.0f / (float)count, &tune->batch, err));
        loss += slm2_trainer_evaluate(tune->t, &tune->batch);
        for (int r = 0; r < tune->batch.n_tok; r++) right += tune->batch.target[r] >= 0 && tune->t->argmax[r] == tune->batch.target[r];
    }
    slm2_tune_metric(tune, "valid_loss", loss);
    slm2_tune_metric(tune, "valid_accuracy", (double)right / (double)count);
    return SLM2_OK;
}

/* ---- data --------------------------------------------------------------------------------------------------------------------- */
static slm2_status load(struct sft *s, const struct opts *o, const struct slm2_tok *tok, bool count_only, const volatile sig_atomic_t *stop, struct slm2_err *err)
{
    struct slm2_convo_opts co = {.chat = o->tune.chat, .n_ctx = o->n_ctx, .drop_long = o->too_long == 1, .max_turns = o->max_turns, .turns = o->turns, .all_tokens = o->all_tokens,
                                 .empty_system = o->empty_system, .dedup = o->dedup, .bad_is_fatal = o->bad_records == 1, .count_only = count_only, .dir = count_only ? NULL : o->tune.run,
                                 .n_threads = o->tune.threads, .stop = stop};
    bool joined = o->packing == 1;
    if (o->data.n == 0) return slm2_fail(err, SLM2_EUSAGE, "setting data is empty: name files, or data sets as {format: ultrachat_200k, path: FILE}");
    SLM2_TRY(slm2_convos_load(&s->train, o->data.items, o->data.n, tok, &co, err));
    SLM2_TRY(slm2_convos_load(&s->valid, o->valid.items, o->valid.n, tok, &co, err));
    SLM2_TRY(slm2_convos_pack(&s->train, (uint64_t)o->tune.seed, joined, &s->rows, err));
    return slm2_convos_pack(&s->valid, 0, joined, &s->valid_rows, err);
}

static void unload(struct sft *s)
{
    slm2_convo_rows_free(&s->rows);
    slm2_convo_rows_free(&s->valid_rows);
    slm2_convos_free(&s->train);
    slm2_convos_free(&s->valid);
}

static void hash_data(struct sft *s)
{
    const struct slm2_convo_rows *r = &s->rows;
    struct { char first[65], member[65]; uint8_t joined; struct slm2_text_key tokens; } all;
    memset(&all, 0, sizeof all);
    slm2_sha256_hex(r->first, ((size_t)r->n_rows + 1) * sizeof *r->first, all.first);
    slm2_sha256_hex(r->member, (size_t)r->n_member * sizeof *r->member, all.member);
    all.joined = r->joined;
    all.tokens = s->train.hash;
    slm2_sha256_hex(&all, sizeof all, s->data);
}

static void log_lines(const struct slm2_buf *text)
{
    for (const char *p = text->v, *end; p && (end = strchr(p, '\n')); p = end + 1) slm2_log(SLM2_INFO, "%.*s", (int)(end - p), p);
}

/* What was read, what was left out and why, to the log and the ledger. */
static slm2_status record(struct sft *s, struct slm2_tune *tune, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    const struct slm2_convos *sets[2] = {&s->train, &s->valid};
    slm2_convos_text(&s->train, &s->rows, &text);
    log_lines(&text);
    slm2_buf_free(&text);
    for (int v = 0; v < 2; v++) {
        const struct slm2_convos *c = sets[v];
        for (int k = 0; k < c->n_set; k++) {
            const struct slm2_convo_count *n = &c->set[k];
            const struct { const char *what; double v; } extra[] = {{"read", (double)n->read}, {"truncated", (double)n->truncated}, {"tokens", (double)n->tokens},
                {"assistant_tokens", (double)n->assistant_tokens}, {"repeat", n->repeat}, {"drawn", (double)(v ? &s->valid_rows : &s->rows)->drawn[k]}};
            char key[160];
            for (int i = 0; i < SLM2_CONVO_N_FATE; i++) {
                snprintf(key, sizeof key, "%s.%s.%s", v ? "valid" : "data", n->name, slm2_convo_fates[i]);
                slm2_ledger_figure(tune->ledger, key, (double)n->fate[i]);
            }
            for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
                snprintf(key, sizeof key, "%s.%s.%s", v ? "valid" : "data", n->name, extra[i].what);
                slm2_ledger_figure(tune->ledger, key, extra[i].v);
            }
        }
        for (int i = 0; i < c->n_file; i++) {
            const struct slm2_convo_file *f = &c->file[i];
            struct stat info;
            char hex[65];
            slm2_progress("hash", (double)i / c->n_file, "%s", f->path);
            SLM2_TRY(slm2_sha256_file(f->path, hex, err));
            if (stat(f->path, &info)) return slm2_fail_errno(err, "%s", f->path);
            slm2_ledger_file(tune->ledger, &(struct slm2_ledger_file){.path = f->path, .source = c->set[f->set].name, .sha256 = hex, .bytes = info.st_size, .tokens = f->tokens, .documents = f->conversations});
        }
    }
    slm2_progress_end();
    slm2_tune_figure(tune, "conversations", s->rows.n_member);
    slm2_tune_figure(tune, "rows", s->rows.n_rows);
    slm2_tune_figure(tune, "fill", slm2_convo_rows_fill(&s->train, &s->rows));
    return slm2_ledger_commit(tune->ledger, err);
}

static slm2_status check(const struct opts *o, const struct slm2_config *cfg, struct slm2_err *err)
{
    if (o->n_ctx > o->tune.max_tok) return slm2_fail(err, SLM2_EUSAGE, "micro_batch_tokens is %d, a packed row has n_ctx %d", o->tune.max_tok, o->n_ctx);
    if (o->n_ctx > cfg->n_ctx) return slm2_fail(err, SLM2_EUSAGE, "n_ctx is %d, the model reads at most %d", o->n_ctx, cfg->n_ctx);
    return SLM2_OK;
}

static slm2_status prepare(struct sft *s, const struct opts *o, struct slm2_tune *tune, struct slm2_err *err)
{
    SLM2_TRY(check(o, &tune->t->model->cfg, err));
    SLM2_TRY(load(s, o, tune->tok, false, tune->args->stop, err));
    hash_data(s);
    return record(s, tune, err);
}

slm2_status slm2_sft_plan(const struct slm2_stage_args *args, struct slm2_buf *text, json_t **json, struct slm2_err *err)
{
    struct opts o;
    struct sft s = {0};
    struct slm2_buf dump = {0};
    struct slm2_tune_look look = {0};
    slm2_status st = slm2_tune_settings(slm2_sft_settings, &o, sizeof o, args, &dump, err);
    *json = NULL;
    if (st == SLM2_OK) st = slm2_tune_look(&look, &o.tune, args, err);
    if (st == SLM2_OK) st = check(&o, &look.cfg, err);
    if (st == SLM2_OK) st = load(&s, &o, look.tok, true, args->stop, err);
    if (st == SLM2_OK) {
        slm2_convos_text(&s.train, &s.rows, text);
        *json = slm2_convos_json(&s.train, &s.rows);
        st = slm2_tune_plan(&look, "sft", s.rows.n_rows, "rows", text, json, err);
    }
    unload(&s);
    slm2_tune_look_free(&look);
    slm2_buf_free(&dump);
    slm2_tune_settings_free(slm2_sft_settings, &o, args);
    return st;
}

slm2_status slm2_sft(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err)
{
    struct opts o;
    struct sft s = {0};
    struct slm2_tune tune = {0};
    struct slm2_buf dump = {0};
    slm2_status st = slm2_tune_settings(slm2_sft_settings, &o, sizeof o, args, &dump, err);
    if (st == SLM2_OK) st = slm2_tune_open(&tune, "sft", &o.tune, args, dump.v, result, err);
    if (st == SLM2_OK) st = prepare(&s, &o, &tune, err);
    struct slm2_tune_stage stage = {.name = "sft", .user = &s, .n_item = s.rows.n_rows, .data = s.data, .step = step, .validate = validate};
    if (st == SLM2_OK) st = slm2_tune_run(&tune, &stage, err);
    st = slm2_tune_close(&tune, st, err);
    unload(&s);
    slm2_buf_free(&dump);
    slm2_tune_settings_free(slm2_sft_settings, &o, args);
    return st;
}
