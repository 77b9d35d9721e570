/* selfprobe.c - probes by log-likelihood and by greedy answers, losses on held-out documents and conversations. */
#include "train/selfprobe.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/num.h"
#include "data/build.h"
#include "data/records.h"
#include "data/shard.h"
#include "infer/generate.h"

/* ---- other losses ----------------------------------------------------------------------------------------------------- */
struct reader { struct slm2_selfprobe *p; const struct slm2_tok *tok; struct slm2_ids ids; size_t cap; };

/* Opens a document: EOS stands before its first token. */
static slm2_status begin_document(struct reader *r, struct slm2_err *err)
{
    struct slm2_selfprobe *p = r->p;
    if ((size_t)p->n_doc + 2 > r->cap) {
        size_t cap = 2 * r->cap + 64;
        size_t *doc = realloc(p->doc, cap * sizeof *doc);
        if (!doc) return slm2_fail(err, SLM2_ENOMEM, "no memory for held-out documents");
        p->doc = doc;
        r->cap = cap;
    }
    p->doc[p->n_doc++] = r->ids.n;
    return slm2_ids_push(&r->ids, slm2_tok_eos(r->tok), err);
}

static slm2_status take_document(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct reader *r = user;
    const char *text;
    SLM2_TRY(slm2_json_get_str(j, "text", what, &text, err));
    SLM2_TRY(begin_document(r, err));
    SLM2_TRY(slm2_tok_encode(r->tok, text, strlen(text), slm2_tok_flags_default(r->tok), &r->ids, err));
    r->p->doc[r->p->n_doc] = r->ids.n;
    return SLM2_OK;
}

/* Documents from the front of a token file until max_tokens; the last one is cut there. */
static slm2_status take_shard(struct reader *r, const char *prefix, int max_tokens, int vocab_size, struct slm2_err *err)
{
    struct slm2_shard shard;
    SLM2_TRY(slm2_shard_open(&shard, prefix, err));
    slm2_status st = SLM2_OK;
    for (int64_t q = 0, left = max_tokens; q < shard.n_seq && left > 0 && st == SLM2_OK; q++) {
        int32_t n = slm2_shard_size(&shard, q), id;
        if (n > left) n = (int32_t)left;
        st = begin_document(r, err);
        for (int32_t i = 0; i < n && st == SLM2_OK; i++) {
            slm2_shard_read(&shard, slm2_shard_start(&shard, q) + i, 1, &id);
            if (id < 0 || id >= vocab_size) st = slm2_fail(err, SLM2_EFORMAT, "%s.bin: id %d, the model knows 0 to %d: it was built with another vocabulary", prefix, id, vocab_size - 1);
            else st = slm2_ids_push(&r->ids, id, err);
        }
        r->p->doc[r->p->n_doc] = r->ids.n;
        left -= n;
    }
    slm2_shard_close(&shard);
    return st;
}

static slm2_status take_data(struct reader *r, const struct slm2_selfprobe_opts *o, int vocab_size, struct slm2_err *err)
{
    struct slm2_dataset set;
    if (!*o->data) return SLM2_OK;
    SLM2_TRY(slm2_dataset_open(&set, o->data, err));
    slm2_status st = SLM2_OK;
    for (int i = 0; i < set.n && st == SLM2_OK; i++)
        if (set.v[i].prefix[SLM2_SPLIT_VAL]) st = take_shard(r, set.v[i].prefix[SLM2_SPLIT_VAL], o->max_tokens, vocab_size, err);
    slm2_dataset_free(&set);
    return st;
}

slm2_status slm2_selfprobe_open(struct slm2_selfprobe *p, const struct slm2_self *self, const struct slm2_tune *tune, const struct slm2_selfprobe_opts *o, struct slm2_err *err)
{
    struct reader r = {.p = p, .tok = tune->tok};
    int64_t n_bad = 0;
    slm2_status st = SLM2_OK;
    memset(p, 0, sizeof *p);
    p->self = self;
    p->answer_tokens = o->answer_tokens;
    p->run = tune->o->run;
    SLM2_TRY(slm2_records_template(tune->o->chat, &p->tmpl, err));
    for (int i = 0; i < o->texts.n && st == SLM2_OK; i++) st = slm2_records_read(((char **)o->texts.items)[i], 0, true, take_document, &r, &n_bad, err);
    if (st == SLM2_OK) st = take_data(&r, o, tune->t->model->cfg.vocab_size, err);
    p->text = r.ids.v;
    p->n_text = r.ids.n;
    if (st != SLM2_OK || !o->chats.n) return st;
    struct slm2_convo_opts co = slm2_convo_opts_default();
    co.chat = tune->o->chat;
    co.n_ctx = slm2_min_int(tune->o->max_tok, tune->t->model->cfg.n_ctx);
    co.bad_is_fatal = true;
    SLM2_TRY(slm2_convos_load(&p->chat, o->chats.items, o->chats.n, tune->tok, &co, err));
    return slm2_convos_pack(&p->chat, 0, false, &p->rows, err);
}

void slm2_selfprobe_free(struct slm2_selfprobe *p)
{
    slm2_convo_rows_free(&p->rows);
    slm2_convos_free(&p->chat);
    free(p->text);
    free(p->doc);
    memset(p, 0, sizeof *p);
}

/* Every document in windows that predict n_ctx tokens each. */
static slm2_status text_loss(struct slm2_selfprobe *p, struct slm2_tune *tune, struct slm2_err *err)
{
    size_t window = (size_t)slm2_min_int(tune->o->max_tok, tune->t->model->cfg.n_ctx), n = 0;
    double loss = 0;
    for (int d = 0; d < p->n_doc; d++)
        for (size_t at = p->doc[d]; at + 1 < p->doc[d + 1]; at += window) {
            size_t k = slm2_min_size(window, p->doc[d + 1] - 1 - at);
            slm2_batch_clear(&tune->batch);
            SLM2_TRY(slm2_batch_add(&tune->batch, p->text + at, NULL, NULL, (int)k, err));
            for (size_t i = 0; i < k; i++) tune->batch.target[i] = p->text[at + i + 1], tune->batch.weight[i] = 1;
            loss += slm2_trainer_evaluate(tune->t, &tune->batch);
            n += k;
        }
    if (n) slm2_tune_metric(tune, "valid_loss_text", loss / (double)n);
    return SLM2_OK;
}

static slm2_status chat_loss(struct slm2_selfprobe *p, struct slm2_tune *tune, struct slm2_err *err)
{
    int64_t n = 0;
    double loss = 0;
    for (int i = 0; i < p->rows.n_rows; i++) {
        slm2_batch_clear(&tune->batch);
        SLM2_TRY(slm2_convos_add_row(&p->chat, &p->rows, i, 1, &tune->batch, err));
        loss += slm2_trainer_evaluate(tune->t, &tune->batch);
        n += slm2_convos_count_row(&p->chat, &p->rows, i);
    }
    if (n) slm2_tune_metric(tune, "valid_loss_chat", loss / (double)n);
    return SLM2_OK;
}

/* ---- probes ----------------------------------------------------------------------------------------------------------- */

/* Mean log p a token of an answer and the end of its turn. */
static slm2_status answer_logprob(struct slm2_selfprobe *p, struct slm2_tune *tune, const char *ask, const char *answer, double *mean, struct slm2_err *err)
{
    struct slm2_msg msgs[2] = {{"user", ask, strlen(ask)}, {"assistant", answer, strlen(answer)}};
    struct slm2_chat_opts co = slm2_chat_opts_default(p->tmpl);
    struct slm2_ids ids = {0};
    struct slm2_buf mask = {0};
    int n = 0;
    slm2_batch_clear(&tune->batch);
    slm2_status st = slm2_chat_encode(tune->tok, &co, msgs, 2, &ids, &mask, err);
    if (st == SLM2_OK) st = slm2_records_add(&tune->batch, ids.v, (const uint8_t *)mask.v, (int)ids.n, 1, err);
    for (size_t i = 1; st == SLM2_OK && i < ids.n; i++) n += mask.v[i];
    if (st == SLM2_OK) *mean = -slm2_trainer_evaluate(tune->t, &tune->batch) / (double)slm2_max_int(n, 1);
    slm2_ids_free(&ids);
    slm2_buf_free(&mask);
    return st;
}

static slm2_status margin_of(struct slm2_selfprobe *p, struct slm2_tune *tune, const struct slm2_self_probe *probe, double *margin, struct slm2_err *err)
{
    double right, best = -HUGE_VAL, wrong;
    SLM2_TRY(answer_logprob(p, tune, probe->ask, probe->right, &right, err));
    for (int i = 0; i < probe->wrong.n; i++) {
        SLM2_TRY(answer_logprob(p, tune, probe->ask, ((char **)probe->wrong.items)[i], &wrong, err));
        best = fmax(best, wrong);
    }
    *margin = right - best;
    return SLM2_OK;
}

/* Greedy answers of the weights as they are now. */
static slm2_status ask_all(struct slm2_selfprobe *p, struct slm2_tune *tune, struct slm2_gen_job *job, int n, struct slm2_err *err)
{
    struct slm2_engine *e = NULL;
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    struct slm2_engine_setup setup = {.isa = tune->args->isa, .kv_dtype = slm2_engine_kv_auto(tune->t->model, false)};
    struct slm2_chat_opts co = slm2_chat_opts_default(p->tmpl);
    int32_t stop_ids[2] = {slm2_chat_stop_id(tune->tok, p->tmpl), slm2_tok_eos(tune->tok)};
    struct slm2_gen_opts go = {.n_max = p->answer_tokens, .stop_ids = stop_ids, .n_stop_ids = 2};
    struct slm2_ids *ids = calloc((size_t)n + 1, sizeof *ids);
    int longest = 0;
    slm2_status st = ids ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for probes");
    co.add_generation_prompt = true;
    for (int i = 0; st == SLM2_OK && i < n; i++) {
        const struct slm2_self_probe *probe = (const struct slm2_self_probe *)p->self->probes.items + i;
        struct slm2_msg msg = {"user", probe->ask, strlen(probe->ask)};
        st = slm2_chat_encode(tune->tok, &co, &msg, 1, &ids[i], NULL, err);
        job[i].ids = ids[i].v;
        job[i].n_ids = (int)ids[i].n;
        job[i].sampler = slm2_sampler_opts_default();
        job[i].sampler.temperature = 0;
        longest = slm2_max_int(longest, job[i].n_ids);
    }
    eo.n_threads = tune->o->threads;
    eo.n_seq = slm2_min_int(n, 16);
    eo.n_ctx = slm2_min_int(longest + p->answer_tokens + 1, tune->t->model->cfg.n_ctx);
    if (st == SLM2_OK) st = slm2_engine_new_setup(&e, tune->t->model, &eo, &setup, err);
    if (st == SLM2_OK) st = slm2_generate_many(e, tune->tok, &go, job, n, err);
    slm2_engine_free(e);
    for (int i = 0; ids && i < n; i++) slm2_ids_free(&ids[i]);
    free(ids);
    return st;
}

struct earlier { struct slm2_buf *lines; int64_t step; };

static slm2_status keep_earlier(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct earlier *e = user;
    int64_t step;
    SLM2_TRY(slm2_json_get_int(j, "step", what, 0, INT64_MAX, &step, err));
    if (step >= e->step) return SLM2_OK; /* of a part of the run that is done again */
    slm2_json_dump(j, e->lines);
    slm2_buf_putc(e->lines, '\n');
    return SLM2_OK;
}

static slm2_status write_answers(const struct slm2_selfprobe *p, const struct slm2_tune *tune, const struct slm2_gen_job *job, const double *margin, const bool *right, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    struct slm2_buf lines = {0};
    struct earlier earlier = {&lines, tune->step};
    int64_t n_bad = 0;
    slm2_status st = slm2_path_join(path, sizeof path, p->run, "answers.jsonl", err);
    if (st == SLM2_OK && slm2_path_exists(path)) st = slm2_records_read(path, 0, true, keep_earlier, &earlier, &n_bad, err);
    for (int i = 0; st == SLM2_OK && i < p->self->probes.n; i++) {
        const struct slm2_self_probe *probe = (const struct slm2_self_probe *)p->self->probes.items + i;
        json_t *j = json_pack("{s:I, s:s, s:s, s:o, s:b, s:f}", "step", (json_int_t)tune->step, "ask", probe->ask, "fact", probe->fact, "answer", slm2_json_text(job[i].text.v, job[i].text.n), "right", (int)right[i], "margin", margin[i]);
        if (!j) lines.failed = true;
        slm2_json_dump(j, &lines);
        slm2_buf_putc(&lines, '\n');
        json_decref(j);
    }
    if (st == SLM2_OK) st = slm2_buf_check(&lines, err);
    if (st == SLM2_OK) st = slm2_file_write(path, lines.v ? lines.v : "", lines.n, err);
    slm2_buf_free(&lines);
    return st;
}

static slm2_status probe_all(struct slm2_selfprobe *p, struct slm2_tune *tune, struct slm2_gen_job *job, double *margin, bool *right, struct slm2_err *err)
{
    const struct slm2_self_probe *probe = p->self->probes.items;
    struct slm2_buf words = {0};
    int n = p->self->probes.n, n_likelier = 0, n_right = 0;
    double sum = 0;
    slm2_status st = ask_all(p, tune, job, n, err);
    for (int i = 0; st == SLM2_OK && i < n; i++) {
        slm2_buf_clear(&words);
        st = slm2_self_words(job[i].text.v ? job[i].text.v : "", job[i].text.n, &words, err);
        if (st == SLM2_OK) st = slm2_self_holds(words.v, &probe[i].want, &right[i], err);
        if (st == SLM2_OK) st = margin_of(p, tune, &probe[i], &margin[i], err);
        sum += margin[i];
        n_likelier += margin[i] > 0;
        n_right += right[i];
    }
    slm2_buf_free(&words);
    if (st == SLM2_OK) st = write_answers(p, tune, job, margin, right, err);
    if (st != SLM2_OK) return st;
    slm2_tune_metric(tune, "probe_margin", sum / n);
    slm2_tune_metric(tune, "probe_right", (double)n_likelier / n);
    slm2_tune_metric(tune, "probe_answers", (double)n_right / n);
    return SLM2_OK;
}

slm2_status slm2_selfprobe_run(struct slm2_selfprobe *p, struct slm2_tune *tune, struct slm2_err *err)
{
    int n = p->self->probes.n;
    struct slm2_gen_job *job = calloc((size_t)n + 1, sizeof *job);
    double *margin = calloc((size_t)n + 1, sizeof *margin);
    bool *right = calloc((size_t)n + 1, sizeof *right);
    slm2_status st = job && margin && right ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for %d probes", n);
    if (st == SLM2_OK && n) st = probe_all(p, tune, job, margin, right, err);
    if (st == SLM2_OK) st = text_loss(p, tune, err);
    if (st == SLM2_OK) st = chat_loss(p, tune, err);
    for (int i = 0; job && i < n; i++) slm2_buf_free(&job[i].text);
    free(job);
    free(margin);
    free(right);
    return st;
}
