/* compare.c - several runs on one page: final figures beside each other, the settings that differ, and each curve overlaid, against the
 * step and against the tokens read.  A run keeps its colour throughout. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"
#include "report/svg.h"
#include "report/text.h"

enum { MAX_RUN = SLM2_SVG_N_COLOR }; /* one colour a run */

/* ---- names of runs ----------------------------------------------------------------------------------------------------- */
/* The part of the folder that tells the runs apart: without the beginning and the end that all share. */
static void name_runs(const struct slm2_report_runs *r, char name[MAX_RUN][64])
{
    size_t head = 0, tail = 0;
    for (int i = 0; i < r->n; i++) {
        const char *a = r->run[0].dir, *b = r->run[i].dir;
        size_t n = 0, na = strlen(a), nb = strlen(b), k = 0;
        while (a[n] && a[n] == b[n]) n++;
        while (k < na && k < nb && a[na - 1 - k] == b[nb - 1 - k]) k++;
        if (i == 0) head = n, tail = k;
        if (n < head) head = n;
        if (k < tail) tail = k;
    }
    while (head > 0 && r->run[0].dir[head - 1] != '/') head--; /* whole names */
    size_t n0 = strlen(r->run[0].dir);
    while (tail > 0 && r->run[0].dir[n0 - tail] != '/') tail--;
    for (int i = 0; i < r->n; i++) {
        const char *dir = r->run[i].dir;
        size_t n = strlen(dir), from = head, to = n > head + tail ? n - tail : n;
        if (r->n == 1 || from >= to) from = 0, to = n;
        snprintf(name[i], sizeof name[i], "%.*s", (int)(to - from < 60 ? to - from : 60), dir + from);
    }
}

/* Number columns headed by the names of the runs. */
static void open_run_table(struct slm2_buf *b, const char *first, const struct slm2_report_runs *r, char name[MAX_RUN][64])
{
    struct slm2_buf heads = {0};
    slm2_buf_puts(&heads, first);
    for (int i = 0; i < r->n; i++) {
        slm2_buf_printf(&heads, "|#<i class=\"dot c%d\"></i>", i);
        for (const char *s = name[i]; *s; s++) /* '|' parts the heads */
            if (*s == '|') slm2_buf_puts(&heads, "&#124;");
            else slm2_html_escape(&heads, (char[2]){*s, 0});
    }
    slm2_page_table(b, heads.v ? heads.v : first);
    if (heads.failed) b->failed = true;
    slm2_buf_free(&heads);
}

/* ---- final figures ------------------------------------------------------------------------------------------------------ */
enum better { NEITHER, LOWER, HIGHER };

static void value_row(struct slm2_buf *b, const struct slm2_report_runs *r, const char *label, const double *v, const char *(*text)(char *, double), enum better better)
{
    char s[SLM2_TEXT_MAX];
    int best = -1;
    bool any = false, differ = false;
    for (int i = 0; i < r->n; i++) {
        any = any || isfinite(v[i]);
        differ = differ || v[i] < v[0] || v[i] > v[0];
        if (better != NEITHER && isfinite(v[i]) && (best < 0 || (better == LOWER ? v[i] < v[best] : v[i] > v[best]))) best = i;
    }
    if (!any) return;
    slm2_page_row(b, label);
    for (int i = 0; i < r->n; i++) slm2_page_cell(b, differ && i == best ? "n best" : "n", text(s, v[i]));
    slm2_buf_puts(b, "</tr>");
}

static void put_figures(struct slm2_buf *b, const struct slm2_report_runs *r, char name[MAX_RUN][64])
{
    static const struct { const char *label, *figure, *metric; const char *(*text)(char *, double); enum better better; } row[] = {
        {"parameters", "parameters", NULL, slm2_text_count, NEITHER}, {"tokens", "tokens", "tokens", slm2_text_count, NEITHER},
        {"training loss, nats a token", NULL, "loss", slm2_text_real, LOWER}, {"held-out loss, nats a token", NULL, "valid_loss", slm2_text_real, LOWER},
        {"gradient norm", NULL, "grad_norm", slm2_text_real, NEITHER}, {"learning rate", NULL, "lr", slm2_text_real, NEITHER},
        {"tokens per second", "tokens_per_s", "tokens_s", slm2_text_count, HIGHER}};
    double v[MAX_RUN], steps[MAX_RUN], wall[MAX_RUN], cpu[MAX_RUN], wh[MAX_RUN], co2[MAX_RUN];
    slm2_page_heading(b, "figures", "Final figures");
    open_run_table(b, "Figure", r, name);
    for (int i = 0; i < r->n; i++) {
        const struct slm2_report_run *run = &r->run[i];
        steps[i] = 0;
        for (int k = 0; k < run->metric.n_row; k++) steps[i] = fmax(steps[i], slm2_rows_number(&run->metric, k, 1));
        wall[i] = run->cost.wall_s, cpu[i] = run->cost.cpu_s, wh[i] = run->energy.wh, co2[i] = run->energy.co2_g;
    }
    value_row(b, r, "steps", steps, slm2_text_count, NEITHER);
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        for (int i = 0; i < r->n; i++) {
            v[i] = row[k].figure ? slm2_report_figure(&r->run[i], row[k].figure) : (double)NAN;
            if (!isfinite(v[i]) && row[k].metric) v[i] = slm2_report_last(&r->run[i], row[k].metric);
        }
        value_row(b, r, row[k].label, v, row[k].text, row[k].better);
    }
    value_row(b, r, "wall time", wall, slm2_text_seconds, NEITHER);
    value_row(b, r, "CPU time", cpu, slm2_text_seconds, NEITHER);
    value_row(b, r, "energy with PUE", wh, slm2_text_watt_hours, LOWER);
    value_row(b, r, "CO\xE2\x82\x82 equivalent", co2, slm2_text_grams, LOWER);
    slm2_page_table_end(b);
    slm2_buf_puts(b, "<p class=\"mut\">Bold: the best of a row. Losses, norms and rates are those of the last step that was recorded.</p>");
}

/* ---- settings ------------------------------------------------------------------------------------------------------------ */
struct setting { char key[128]; char *value[MAX_RUN]; };
struct settings { struct setting *v; int n, cap; bool failed; };

static void add_setting(struct settings *t, int run, const char *key, const char *value, size_t n)
{
    int i = 0;
    while (i < t->n && strcmp(t->v[i].key, key)) i++;
    if (i == t->n) {
        if (t->n == t->cap) {
            int cap = t->cap ? 2 * t->cap : 64;
            struct setting *v = cap <= 1 << 14 ? realloc(t->v, (size_t)cap * sizeof *v) : NULL;
            if (!v) {
                t->failed = true;
                return;
            }
            t->v = v;
            t->cap = cap;
        }
        t->v[t->n] = (struct setting){0};
        snprintf(t->v[t->n++].key, sizeof t->v[0].key, "%s", key);
    }
    free(t->v[i].value[run]);
    if (!(t->v[i].value[run] = strndup(value, n))) t->failed = true;
}

/* The lines of a settings dump (YAML of mappings and lists, as conf.h writes it) as paths: "train.steps", "sources.0.weight". */
static void read_settings(struct settings *t, int run, const char *dump)
{
    char section[48] = "", key[128];
    int item = -1;
    size_t n;
    for (const char *s = dump; *s; s += n + (s[n] == '\n')) {
        n = strcspn(s, "\n");
        size_t at = strspn(s, " ");
        if (at < n && s[at] == '-') { /* a new item of the list */
            item++;
            at += 1 + strspn(s + at + 1, " ");
        }
        const char *colon = at < n ? memchr(s + at, ':', n - at) : NULL;
        if (!colon) continue;
        const char *value = colon + 1, *end = s + n;
        while (value < end && *value == ' ') value++;
        while (end > value && end[-1] == ' ') end--;
        if (s[0] != ' ') item = -1;
        if (s[0] != ' ' && value == end) {
            snprintf(section, sizeof section, "%.*s", (int)(colon - s), s);
            continue;
        }
        if (s[0] != ' ') section[0] = 0;
        if (item >= 0) snprintf(key, sizeof key, "%s.%d.%.*s", section, item, (int)(colon - s - (ptrdiff_t)at), s + at);
        else snprintf(key, sizeof key, "%s%s%.*s", section, *section ? "." : "", (int)(colon - s - (ptrdiff_t)at), s + at);
        if (end - value >= 2 && *value == '"' && end[-1] == '"') value++, end--;
        add_setting(t, run, key, value, (size_t)(end - value));
    }
}

static slm2_status put_settings(struct slm2_buf *b, const struct slm2_report_runs *r, char name[MAX_RUN][64], struct slm2_err *err)
{
    static const char *const circumstance[] = {"version", "kernels", "host", "data_manifest_sha256"};
    struct settings t = {0};
    int n_same = 0, n_row = 0;
    for (int i = 0; i < r->n; i++) {
        read_settings(&t, i, slm2_rows_find(&r->run[i].run, "config"));
        for (size_t k = 0; k < sizeof circumstance / sizeof circumstance[0]; k++) {
            const char *v = slm2_rows_find(&r->run[i].run, circumstance[k]);
            add_setting(&t, i, circumstance[k], v, strlen(v));
        }
    }
    slm2_page_heading(b, "settings", "Settings that differ");
    for (int k = 0; k < t.n; k++) {
        bool same = true;
        for (int i = 1; i < r->n; i++) {
            const char *x = t.v[k].value[0], *y = t.v[k].value[i];
            same = same && (x && y ? !strcmp(x, y) : x == y);
        }
        n_same += same;
        if (same || !strcmp(t.v[k].key, "run")) continue;
        if (!n_row++) open_run_table(b, "Setting", r, name);
        slm2_page_row(b, t.v[k].key);
        for (int i = 0; i < r->n; i++) slm2_page_cell(b, "n wrap", t.v[k].value[i] ? t.v[k].value[i] : "");
        slm2_buf_puts(b, "</tr>");
    }
    if (n_row) slm2_page_table_end(b);
    slm2_buf_printf(b, "<p class=\"mut\">%s%d settings are the same in all runs.</p>", n_row ? "" : "No setting differs. ", n_same);
    for (int k = 0; k < t.n; k++)
        for (int i = 0; i < MAX_RUN; i++) free(t.v[k].value[i]);
    free(t.v);
    return t.failed ? slm2_fail(err, SLM2_ENOMEM, "no memory for the settings of %d runs", r->n) : SLM2_OK;
}

/* ---- curves -------------------------------------------------------------------------------------------------------------- */
/* Steps become tokens, by the run's own count; a step between two counts lies between them, step 0 at 0. */
static void to_tokens(struct slm2_curve *c, const struct slm2_curve *tokens)
{
    int k = 0;
    for (int i = 0; i < c->n; i++) {
        while (k < tokens->n && tokens->x[k] < c->x[i]) k++;
        if (k == tokens->n) {
            c->n = i; /* nothing is known of what lies behind the last count */
            return;
        }
        double x0 = k ? tokens->x[k - 1] : 0, y0 = k ? tokens->y[k - 1] : 0, x1 = tokens->x[k], y1 = tokens->y[k];
        c->x[i] = x1 > x0 ? y0 + (c->x[i] - x0) / (x1 - x0) * (y1 - y0) : y1;
    }
}

struct overlay { const char *metric, *title; bool y_zero, marks, smooth; };

/* Two charts: against steps and, where the runs count them, against tokens. */
static slm2_status put_overlay(struct slm2_buf *b, const struct slm2_report_runs *r, char name[MAX_RUN][64], const struct overlay *o, struct slm2_err *err)
{
    struct slm2_curve c[MAX_RUN] = {{0}}, tokens = {0};
    struct slm2_svg_line line[MAX_RUN];
    char title[160];
    double least = HUGE_VAL, most = 0;
    bool smoothed = false;
    slm2_status st = SLM2_OK;
    for (int i = 0; i < r->n && st == SLM2_OK; i++) {
        st = slm2_curve_read(&c[i], &r->run[i], o->metric, err);
        if (st == SLM2_OK && o->smooth && c[i].n >= 25) {
            struct slm2_curve raw = c[i];
            st = slm2_curve_smooth(&c[i], &raw, err);
            slm2_curve_free(&raw);
            smoothed = true;
        }
        for (int k = 0; st == SLM2_OK && k < c[i].n; k++)
            if (isfinite(c[i].y[k]) && c[i].y[k] > 0) least = fmin(least, c[i].y[k]), most = fmax(most, c[i].y[k]);
    }
    for (int against = 0; against < 2 && st == SLM2_OK; against++) {
        for (int i = 0; i < r->n && against == 1 && st == SLM2_OK; i++) {
            st = slm2_curve_read(&tokens, &r->run[i], "tokens", err);
            if (st == SLM2_OK) to_tokens(&c[i], &tokens);
            slm2_curve_free(&tokens);
        }
        for (int i = 0; i < r->n; i++) line[i] = (struct slm2_svg_line){.label = name[i], .x = c[i].x, .y = c[i].y, .n = c[i].n, .color = i, .marks = o->marks};
        snprintf(title, sizeof title, "%s%s", o->title, smoothed ? ", smoothed" : "");
        if (st == SLM2_OK)
            slm2_svg_chart(b, &(struct slm2_svg_chart){.title = title, .x_label = against ? "tokens" : "step", .line = line, .n_line = r->n, .y_zero = o->y_zero, .y_log = !strcmp(o->metric, "grad_norm") && most > 20 * least});
    }
    for (int i = 0; i < MAX_RUN; i++) slm2_curve_free(&c[i]);
    return st;
}

static slm2_status put_curves(struct slm2_buf *b, const struct slm2_report_runs *r, char name[MAX_RUN][64], struct slm2_err *err)
{
    static const struct overlay all[] = {{"loss", "Training loss, nats per token", false, false, true}, {"valid_loss", "Held-out loss, nats per token", false, true, false},
                                         {"lr", "Learning rate", true, false, false}, {"grad_norm", "Gradient norm before clipping", true, false, false},
                                         {"tokens_s", "Speed, tokens per second", true, false, true}};
    slm2_page_heading(b, "curves", "Curves");
    slm2_buf_puts(b, "<div class=\"grid\">");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) SLM2_TRY(put_overlay(b, r, name, &all[i], err));
    slm2_buf_puts(b, "</div>");
    static const char prefix[] = "valid_loss.";
    bool open = false;
    for (int i = 0; i < r->n; i++) {
        for (int k = 0; k < r->run[i].metric.n_row; k++) {
            const char *metric = slm2_rows_text(&r->run[i].metric, k, 0);
            char title[128];
            bool seen = strncmp(metric, prefix, sizeof prefix - 1) != 0;
            for (int j = 0; j < i && !seen; j++) seen = isfinite(slm2_report_last(&r->run[j], metric)); /* drawn with an earlier run */
            if (seen) continue;
            if (!open) slm2_page_heading(b, "sources", "Held-out loss by source");
            if (!open) slm2_buf_puts(b, "<div class=\"grid\">");
            open = true;
            snprintf(title, sizeof title, "%s, nats per token", metric + sizeof prefix - 1);
            SLM2_TRY(put_overlay(b, r, name, &(struct overlay){metric, title, false, true, false}, err));
        }
    }
    slm2_buf_puts(b, open ? "</div>" : "");
    return SLM2_OK;
}

slm2_status slm2_report_compare_html(const struct slm2_report_runs *r, const struct slm2_report_opts *o, struct slm2_buf *out, struct slm2_err *err)
{
    char name[MAX_RUN][64];
    if (r->n < 2) return slm2_fail(err, SLM2_EUSAGE, "one run cannot be compared; name the folders of two to %d runs", MAX_RUN);
    if (r->n > MAX_RUN) return slm2_fail(err, SLM2_EUSAGE, "%d runs are too many for one page; compare at most %d", r->n, MAX_RUN);
    name_runs(r, name);
    slm2_page_start(out, o->title ? o->title : "Runs compared");
    slm2_buf_puts(out, "<p class=\"sub\">");
    for (int i = 0; i < r->n; i++) {
        slm2_buf_printf(out, "%s<i class=\"dot c%d\"></i>", i ? "<br/>" : "", i);
        slm2_html_escape(out, name[i]);
        slm2_buf_puts(out, ": ");
        slm2_html_escape(out, slm2_report_stage_title(r->run[i].stage));
        slm2_buf_puts(out, ", ");
        slm2_html_escape(out, r->run[i].dir);
    }
    slm2_buf_puts(out, "</p>");
    put_figures(out, r, name);
    SLM2_TRY(put_settings(out, r, name, err));
    SLM2_TRY(put_curves(out, r, name, err));
    slm2_page_end(out);
    return slm2_buf_check(out, err);
}
