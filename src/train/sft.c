/* sft.c - supervised fine-tuning: packed conversations, loss on what the assistant says (or on every token). */
#include <string.h>

#include "data/convo.h"
#include "train/tune.h"

struct opts {
    struct slm2_tune_opts tune;
    struct slm2_conf_list data, valid; /* of char * */
    int n_ctx, max_messages;
    bool all_tokens;
};
#define ROW(f, key, type, lo, hi, def, help) {key, type, offsetof(struct opts, f), lo, hi, def, help, NULL, NULL, 0, 0}
const struct slm2_opt slm2_sft_settings[] = {
    SLM2_TUNE_ROWS(struct opts, tune, "3", "512", "5e-5", "0.1", "0", "adamw"),
    ROW(data, "data", SLM2_OPT_STRS, 0, 0, NULL, "JSONL files of conversations: {\"messages\": [{\"role\", \"content\"}]}"),
    ROW(valid, "valid", SLM2_OPT_STRS, 0, 0, NULL, "held-out conversations"),
    ROW(n_ctx, "n_ctx", SLM2_OPT_INT, 2, 1 << 20, "4096", "tokens of a packed row"),
    ROW(max_messages, "max_messages", SLM2_OPT_INT, 0, 1 << 20, "16", "longer conversations are dropped (8 turns: 16 messages); 0: no limit"),
    ROW(all_tokens, "all_tokens", SLM2_OPT_BOOL, 0, 0, "false", "learn every token, not only the assistant's"),
    {0},
};
const size_t slm2_sft_settings_size = sizeof(struct opts);

struct sft {
    struct slm2_convos train, valid;
    struct slm2_convo_rows rows, valid_rows;
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

static slm2_status load(struct sft *s, const struct opts *o, struct slm2_tune *tune, struct slm2_err *err)
{
    struct slm2_convo_opts co = slm2_convo_opts_default();
    co.chat = o->tune.chat;
    co.n_ctx = o->n_ctx;
    co.max_messages = o->max_messages;
    co.all_tokens = o->all_tokens;
    if (o->n_ctx > o->tune.max_tok) return slm2_fail(err, SLM2_EUSAGE, "micro_batch_tokens is %d, a packed row has n_ctx %d", o->tune.max_tok, o->n_ctx);
    if (o->n_ctx > tune->t->model->cfg.n_ctx) return slm2_fail(err, SLM2_EUSAGE, "n_ctx is %d, the model reads at most %d", o->n_ctx, tune->t->model->cfg.n_ctx);
    SLM2_TRY(slm2_convos_load(&s->train, o->data.items, o->data.n, tune->tok, &co, err));
    SLM2_TRY(slm2_convos_load(&s->valid, o->valid.items, o->valid.n, tune->tok, &co, err));
    SLM2_TRY(slm2_convos_pack(&s->train, (uint64_t)o->tune.seed, 0, &s->rows, err));
    SLM2_TRY(slm2_convos_pack(&s->valid, 0, 0, &s->valid_rows, err));
    const struct { const char *key; double v; } figures[] = {
        {"conversations", s->train.n}, {"rows", s->rows.n_rows}, {"bad_lines", (double)s->train.n_bad}, {"dropped_long", (double)s->train.n_too_many_messages},
        {"dropped_no_answer", (double)s->train.n_no_answer}, {"truncated", (double)s->train.n_truncated}, {"valid_conversations", s->valid.n},
    };
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) slm2_ledger_figure(tune->ledger, figures[i].key, figures[i].v);
    return SLM2_OK;
}

slm2_status slm2_sft(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err)
{
    struct opts o;
    struct sft s = {0};
    struct slm2_tune tune = {0};
    struct slm2_buf dump = {0};
    slm2_status st = slm2_tune_settings(slm2_sft_settings, &o, sizeof o, args, &dump, err);
    if (st == SLM2_OK) st = slm2_tune_open(&tune, "sft", &o.tune, args, dump.v, result, err);
    if (st == SLM2_OK) st = load(&s, &o, &tune, err);
    struct slm2_tune_stage stage = {.name = "sft", .user = &s, .n_item = s.rows.n_rows, .step = step, .validate = validate};
    if (st == SLM2_OK) st = slm2_tune_run(&tune, &stage, err);
    st = slm2_tune_close(&tune, st, err);
    slm2_convo_rows_free(&s.rows);
    slm2_convo_rows_free(&s.valid_rows);
    slm2_convos_free(&s.train);
    slm2_convos_free(&s.valid);
    slm2_buf_free(&dump);
    slm2_tune_settings_free(slm2_sft_settings, &o, args);
    return st;
}
