/* curves.c - which curves a stage has and how they are drawn.  Every chart reads its series, draws and lets go. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"
#include "report/svg.h"
#include "train/schedule.h"

/* ---- series ---------------------------------------------------------------------------------------------------------------- */
void slm2_curve_free(struct slm2_curve *c)
{
    free(c->x);
    free(c->y);
    *c = (struct slm2_curve){0};
}

slm2_status slm2_curve_read(struct slm2_curve *c, const struct slm2_report_run *run, const char *name, struct slm2_err *err)
{
    struct slm2_series s;
    *c = (struct slm2_curve){0};
    SLM2_TRY(slm2_ledger_series(run->ledger, name, &s, err));
    slm2_status st = SLM2_OK;
    if (s.n) {
        c->x = malloc((size_t)s.n * sizeof *c->x);
        c->y = malloc((size_t)s.n * sizeof *c->y);
        if (!c->x || !c->y) st = slm2_fail(err, SLM2_ENOMEM, "no memory for the curve of %s", name);
        for (int i = 0; i < s.n && st == SLM2_OK; i++) c->x[i] = (double)s.step[i], c->y[i] = s.value[i];
        if (st == SLM2_OK) c->n = s.n;
    }
    slm2_series_free(&s);
    if (st != SLM2_OK) slm2_curve_free(c);
    return st;
}

slm2_status slm2_curve_smooth(struct slm2_curve *out, const struct slm2_curve *c, struct slm2_err *err)
{
    int half = c->n / 50 + 1;
    *out = (struct slm2_curve){.x = malloc((size_t)(c->n + 1) * sizeof *out->x), .y = malloc((size_t)(c->n + 1) * sizeof *out->y), .n = c->n};
    double *sum = malloc((size_t)(c->n + 1) * sizeof *sum);
    slm2_status st = out->x && out->y && sum ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for a smoothed curve");
    if (st == SLM2_OK) {
        sum[0] = 0;
        for (int i = 0; i < c->n; i++) sum[i + 1] = sum[i] + c->y[i];
        for (int i = 0; i < c->n; i++) {
            int w = half < i ? half : i;
            if (c->n - 1 - i < w) w = c->n - 1 - i;
            out->x[i] = c->x[i];
            out->y[i] = (sum[i + w + 1] - sum[i - w]) / (2 * w + 1);
        }
    } else slm2_curve_free(out);
    free(sum);
    return st;
}

/* ---- charts ------------------------------------------------------------------------------------------------------------------ */
struct want { const char *metric, *label; int color; bool marks; };

/* One chart of several metrics of a run; those that the ledger does not have are left out. */
static slm2_status chart_of(const struct slm2_report_run *run, const char *title, bool y_zero, const struct want *w, int n, struct slm2_buf *out, struct slm2_err *err)
{
    enum { MAX_LINE = SLM2_SVG_N_COLOR };
    struct slm2_curve c[MAX_LINE] = {{0}};
    struct slm2_svg_line line[MAX_LINE];
    slm2_status st = SLM2_OK;
    for (int i = 0; i < n && i < MAX_LINE && st == SLM2_OK; i++) {
        st = slm2_curve_read(&c[i], run, w[i].metric, err);
        line[i] = (struct slm2_svg_line){.label = w[i].label, .x = c[i].x, .y = c[i].y, .n = c[i].n, .color = w[i].color, .marks = w[i].marks};
    }
    if (st == SLM2_OK) slm2_svg_chart(out, &(struct slm2_svg_chart){.title = title, .x_label = "step", .line = line, .n_line = n < MAX_LINE ? n : MAX_LINE, .y_zero = y_zero});
    for (int i = 0; i < MAX_LINE; i++) slm2_curve_free(&c[i]);
    return st;
}

/* Training loss, pale as measured and smoothed above it, with the validation loss and the unigram entropy. */
static slm2_status loss_chart(const struct slm2_report_run *run, const char *title, const char *train_label, struct slm2_buf *out, struct slm2_err *err)
{
    struct slm2_curve train = {0}, smooth = {0}, valid = {0};
    double entropy = slm2_report_figure(run, "unigram_entropy");
    slm2_status st = slm2_curve_read(&train, run, "loss", err);
    if (st == SLM2_OK) st = slm2_curve_read(&valid, run, "valid_loss", err);
    if (st == SLM2_OK) st = slm2_curve_smooth(&smooth, &train, err);
    if (st == SLM2_OK) {
        bool raw = train.n < 25;
        struct slm2_svg_line line[] = {
            {.label = NULL, .x = train.x, .y = train.y, .n = raw ? 0 : train.n, .color = 0, .faint = true},
            {.label = train_label, .x = train.x, .y = raw ? train.y : smooth.y, .n = train.n, .color = 0},
            {.label = "held out", .x = valid.x, .y = valid.y, .n = valid.n, .color = 1, .marks = true},
        };
        struct slm2_svg_rule rule = {.label = "unigram entropy", .y = entropy, .color = 7};
        slm2_svg_chart(out, &(struct slm2_svg_chart){.title = title, .x_label = "step", .line = line, .n_line = 3, .rule = &rule, .n_rule = isfinite(entropy)});
    }
    slm2_curve_free(&train);
    slm2_curve_free(&smooth);
    slm2_curve_free(&valid);
    return st;
}

/* The schedule of a run as its settings and its events tell; false when they do not. */
static bool schedule_of(const struct slm2_report_run *run, struct slm2_schedule *s)
{
    const char *dump = slm2_rows_find(&run->run, "config");
    char kind[32], v[64];
    slm2_report_setting(dump, "schedule", "kind", kind, sizeof kind);
    *s = (struct slm2_schedule){.kind = -1, .lr_peak = 1, .cooldown_start = -1};
    for (int i = 0; slm2_schedule_kinds[i]; i++)
        if (strcmp(slm2_schedule_kinds[i], kind) == 0) s->kind = i;
    s->n_step = strtoll(slm2_report_setting(dump, "schedule", "n_step", v, sizeof v), NULL, 10);
    if (!s->n_step) s->n_step = strtoll(slm2_report_setting(dump, "train", "steps", v, sizeof v), NULL, 10);
    s->n_warmup = strtoll(slm2_report_setting(dump, "schedule", "n_warmup", v, sizeof v), NULL, 10);
    s->n_cooldown = strtoll(slm2_report_setting(dump, "schedule", "n_cooldown", v, sizeof v), NULL, 10);
    slm2_report_setting(dump, "schedule", "cooldown_start", v, sizeof v);
    if (*v) s->cooldown_start = strtoll(v, NULL, 10);
    for (int i = 0; i < run->event.n_row; i++) /* asked for by a signal */
        if (strcmp(slm2_rows_text(&run->event, i, 2), "cooldown") == 0) s->cooldown_start = strtoll(slm2_rows_text(&run->event, i, 1), NULL, 10);
    return s->kind >= 0 && slm2_schedule_check(s, "settings", NULL) == SLM2_OK;
}

static slm2_status lr_chart(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err)
{
    enum { MAX_BAND = 6 };
    static const struct { const char *phase, *label; } name[] = {{"warmup", "warm-up"}, {"cosine", "cosine"}, {"rsqrt", "inverse root"}, {"linear", "linear"}, {"cooldown", "cooldown"}, {"end", "end"}};
    struct slm2_curve lr;
    struct slm2_schedule s;
    struct slm2_svg_band band[MAX_BAND];
    const char *phase = "";
    int n = 0;
    SLM2_TRY(slm2_curve_read(&lr, run, "lr", err));
    for (int i = 0; i < lr.n && schedule_of(run, &s); i++) { /* the rate of step k was that of k - 1 updates */
        const char *now = slm2_schedule_phase(&s, (int64_t)lr.x[i] - 1);
        if (strcmp(now, phase) == 0) {
            band[n - 1].to = lr.x[i];
            continue;
        }
        if (n == MAX_BAND) break;
        band[n] = (struct slm2_svg_band){.label = now, .from = n ? band[n - 1].to : lr.x[i] - 1, .to = lr.x[i]};
        for (size_t k = 0; k < sizeof name / sizeof name[0]; k++)
            if (strcmp(name[k].phase, now) == 0) band[n].label = name[k].label;
        phase = now;
        n++;
    }
    struct slm2_svg_line line = {.label = "learning rate", .x = lr.x, .y = lr.y, .n = lr.n, .color = 0};
    slm2_svg_chart(out, &(struct slm2_svg_chart){.title = "Learning rate and its stages", .x_label = "step", .line = &line, .n_line = 1, .band = band, .n_band = n, .y_zero = true});
    slm2_curve_free(&lr);
    return SLM2_OK;
}

static slm2_status grad_chart(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err)
{
    struct slm2_curve g;
    double least = HUGE_VAL, most = 0;
    SLM2_TRY(slm2_curve_read(&g, run, "grad_norm", err));
    for (int i = 0; i < g.n; i++)
        if (isfinite(g.y[i]) && g.y[i] > 0) least = fmin(least, g.y[i]), most = fmax(most, g.y[i]);
    struct slm2_svg_line line = {.label = "before clipping", .x = g.x, .y = g.y, .n = g.n, .color = 3};
    slm2_svg_chart(out, &(struct slm2_svg_chart){.title = "Gradient norm", .x_label = "step", .line = &line, .n_line = 1, .y_zero = true, .y_log = most > 20 * least});
    slm2_curve_free(&g);
    return SLM2_OK;
}

/* Held-out loss of each source, when there are few enough to tell apart. */
static slm2_status source_losses(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err)
{
    static const char prefix[] = "valid_loss.";
    struct want w[SLM2_SVG_N_COLOR];
    int n = 0;
    for (int i = 0; i < run->metric.n_row; i++) {
        const char *name = slm2_rows_text(&run->metric, i, 0);
        if (strncmp(name, prefix, sizeof prefix - 1)) continue;
        if (n == SLM2_SVG_N_COLOR) return SLM2_OK;
        w[n] = (struct want){name, name + sizeof prefix - 1, n, true};
        n++;
    }
    return n > 1 ? chart_of(run, "Held-out loss by source, nats per token", false, w, n, out, err) : SLM2_OK;
}

/* The newest bits per byte of each source over the first ones: any number of sources, and of any tokenizers, side by side. */
static slm2_status source_bits(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err)
{
    static const char prefix[] = "valid_bpb.";
    int n = 0;
    struct slm2_svg_bar *bar = malloc((size_t)(run->metric.n_row + 1) * sizeof *bar);
    if (!bar) return slm2_fail(err, SLM2_ENOMEM, "no memory for the sources");
    for (int i = 0; i < run->metric.n_row; i++) {
        const char *name = slm2_rows_text(&run->metric, i, 0);
        if (!strncmp(name, prefix, sizeof prefix - 1)) bar[n++] = (struct slm2_svg_bar){name + sizeof prefix - 1, slm2_report_last(run, name), slm2_report_first(run, name)};
    }
    if (n) slm2_svg_bars(out, "Held-out bits per byte by source", "last", "first", bar, n);
    free(bar);
    return SLM2_OK;
}

static slm2_status source_bars(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err)
{
    int n = run->source.n_row < 40 ? run->source.n_row : 40;
    struct slm2_svg_bar *bar = malloc((size_t)(n + 1) * sizeof *bar);
    if (!bar) return slm2_fail(err, SLM2_ENOMEM, "no memory for the sources");
    for (int i = 0; i < n; i++) bar[i] = (struct slm2_svg_bar){slm2_rows_text(&run->source, i, 0), slm2_rows_number(&run->source, i, 3), slm2_rows_number(&run->source, i, 2)};
    slm2_svg_bars(out, "Tokens drawn per source against the plan", "drawn", "planned", bar, n);
    free(bar);
    return SLM2_OK;
}

/* ---- power ---------------------------------------------------------------------------------------------------------------------- */
struct power_curves { /* one a device */
    struct slm2_curve c[SLM2_SVG_N_COLOR];
    char name[SLM2_SVG_N_COLOR][80], session[24];
    int n, cap[SLM2_SVG_N_COLOR];
    double minutes[SLM2_SVG_N_COLOR], time[SLM2_SVG_N_COLOR], joules[SLM2_SVG_N_COLOR]; /* of the last sample */
    bool failed;
};

/* session, time, device, joules in order of time: between two samples of a device lies its mean power. */
static void take_sample(void *user, int n_col, const char *const *text)
{
    struct power_curves *p = user;
    if (n_col < 4 || !text[0] || !text[1] || !text[2] || !text[3] || p->failed) return;
    double time = strtod(text[1], NULL), joules = strtod(text[3], NULL);
    if (strcmp(text[0], p->session)) { /* a new start of the program: the time between is not running time */
        snprintf(p->session, sizeof p->session, "%s", text[0]);
        for (int i = 0; i < p->n; i++) p->time[i] = (double)NAN;
    }
    int k = 0;
    while (k < p->n && strcmp(p->name[k], text[2])) k++;
    if (k == SLM2_SVG_N_COLOR) return;
    if (k == p->n) {
        snprintf(p->name[p->n++], sizeof p->name[0], "%s", text[2]);
        p->time[k] = (double)NAN;
    }
    struct slm2_curve *c = &p->c[k];
    if (c->n == p->cap[k]) {
        int cap = p->cap[k] ? 2 * p->cap[k] : 256;
        double *x = realloc(c->x, (size_t)cap * sizeof *x), *y = x ? realloc(c->y, (size_t)cap * sizeof *y) : NULL;
        if (x) c->x = x;
        if (y) c->y = y;
        if (!y) {
            p->failed = true;
            return;
        }
        p->cap[k] = cap;
    }
    if (time > p->time[k]) {
        p->minutes[k] += (time - p->time[k]) / 60;
        c->x[c->n] = p->minutes[k];
        c->y[c->n++] = (joules - p->joules[k]) / (time - p->time[k]);
    }
    p->time[k] = time;
    p->joules[k] = joules;
}

static slm2_status power_chart(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err)
{
    struct power_curves p = {0};
    struct slm2_svg_line line[SLM2_SVG_N_COLOR];
    slm2_status st = SLM2_OK;
    if (!run->sampled) return SLM2_OK;
    st = slm2_ledger_query(run->ledger, "SELECT session, time, device, joules FROM energy ORDER BY rowid", NULL, take_sample, &p, err);
    if (st == SLM2_OK && p.failed) st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory for its power", run->dir);
    for (int i = 0; i < p.n; i++) line[i] = (struct slm2_svg_line){.label = p.name[i], .x = p.c[i].x, .y = p.c[i].y, .n = p.c[i].n, .color = i};
    if (st == SLM2_OK) slm2_svg_chart(out, &(struct slm2_svg_chart){.title = "Power by the machine's counters, W", .x_label = "minutes of running", .line = line, .n_line = p.n, .y_zero = true});
    for (int i = 0; i < SLM2_SVG_N_COLOR; i++) slm2_curve_free(&p.c[i]);
    return st;
}

static slm2_status pretrain_curves(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err)
{
    static const struct want speed[] = {{"tokens_s", "tokens per second", 2, false}};
    SLM2_TRY(loss_chart(run, "Loss, nats per token", "training", out, err));
    SLM2_TRY(lr_chart(run, out, err));
    SLM2_TRY(grad_chart(run, out, err));
    SLM2_TRY(chart_of(run, "Speed, tokens per second", true, speed, 1, out, err));
    SLM2_TRY(power_chart(run, out, err));
    SLM2_TRY(source_losses(run, out, err));
    SLM2_TRY(source_bits(run, out, err));
    return source_bars(run, out, err);
}

const char *slm2_report_stage_title(const char *stage)
{
    static const char *const title[][2] = {{"pretrain", "Pre-training"}, {"sft", "Supervised fine-tuning"}, {"dpo", "Preference optimisation (DPO)"}, {"selfknow", "Self-knowledge"}};
    for (size_t i = 0; i < sizeof title / sizeof title[0]; i++)
        if (strcmp(title[i][0], stage) == 0) return title[i][1];
    return stage;
}

slm2_status slm2_report_curves(const struct slm2_report_run *run, struct slm2_buf *out, struct slm2_err *err)
{
    static const struct want right[] = {{"accuracy", "training", 0, false}, {"valid_accuracy", "held out: margin above 0", 1, true}, {"valid_prefers_chosen", "held out: chosen is likelier", 2, true}};
    static const struct want tokens_right[] = {{"valid_accuracy", "held out", 1, true}};
    static const struct want margin[] = {{"margin", "training", 0, false}, {"valid_margin", "held out", 1, true}};
    static const struct want reward[] = {{"reward_chosen", "training: chosen", 2, false}, {"reward_rejected", "training: rejected", 1, false},
                                         {"valid_reward_chosen", "held out: chosen", 2, true}, {"valid_reward_rejected", "held out: rejected", 1, true}};
    static const struct want logp[] = {{"logp_chosen", "chosen answer", 2, false}, {"logp_rejected", "rejected answer", 1, false}};
    static const struct want valid_logp[] = {{"valid_logp_chosen", "chosen answer", 2, true}, {"valid_logp_rejected", "rejected answer", 1, true}};
    static const struct want self[] = {{"valid_loss_positive", "true answers", 2, true}, {"valid_loss_negative", "negative answers", 1, true}};
    static const struct want probe[] = {{"probe_right", "right fact is likelier", 2, true}, {"probe_answers", "greedy answer holds the fact", 1, true}};
    static const struct want probe_margin[] = {{"probe_margin", "right over best wrong fact", 2, true}};
    static const struct want others[] = {{"valid_loss_text", "documents", 2, true}, {"valid_loss_chat", "conversations", 1, true}};
    static const struct want lr[] = {{"lr", "learning rate", 0, false}};
    if (strcmp(run->stage, "pretrain") == 0) return pretrain_curves(run, out, err);
    if (strcmp(run->stage, "sft") == 0) {
        SLM2_TRY(loss_chart(run, "Loss of the assistant's tokens, nats", "training", out, err));
        SLM2_TRY(chart_of(run, "Assistant's tokens predicted right (share)", false, tokens_right, 1, out, err));
    } else if (strcmp(run->stage, "dpo") == 0) {
        SLM2_TRY(loss_chart(run, "DPO loss", "training", out, err));
        SLM2_TRY(chart_of(run, "Reward margin, chosen minus rejected", false, margin, 2, out, err));
        SLM2_TRY(chart_of(run, "Preference accuracy (share of pairs)", true, right, 3, out, err));
        SLM2_TRY(chart_of(run, "Rewards: beta times the change of log-probability", false, reward, 4, out, err));
        SLM2_TRY(chart_of(run, "Log-probability of held-out answers, nats a whole answer", false, valid_logp, 2, out, err));
        SLM2_TRY(chart_of(run, "Log-probability of each update's answers, nats a whole answer", false, logp, 2, out, err));
    } else {
        SLM2_TRY(loss_chart(run, "Loss, nats per token", "training", out, err));
        SLM2_TRY(chart_of(run, "Probes: who are you? (share)", true, probe, 2, out, err));
        SLM2_TRY(chart_of(run, "Probes: margin, nats a token", false, probe_margin, 1, out, err));
        SLM2_TRY(chart_of(run, "Held-out loss by kind of answer, nats", false, self, 2, out, err));
        SLM2_TRY(chart_of(run, "Held-out losses of the stages before, nats", false, others, 2, out, err));
    }
    SLM2_TRY(chart_of(run, "Learning rate", true, lr, 1, out, err));
    return grad_chart(run, out, err);
}
