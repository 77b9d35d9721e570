/* ablate.c - bits per byte against the share of non-English training data: lines for tokenizers and schedules, columns for languages. */
#include "report/ablate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/page.h"
#include "report/svg.h"
#include "report/text.h"

static bool same_line(const struct slm2_ablate_cell *a, const struct slm2_ablate_cell *b)
{
    return !strcmp(a->digits, b->digits) && !strcmp(a->schedule, b->schedule);
}

/* Cells from `from` on that differ in the share only. */
static int line_end(const struct slm2_ablate_grid *g, int from)
{
    int to = from + 1;
    while (to < g->n && same_line(&g->cell[from], &g->cell[to])) to++;
    return to;
}

/* ---- text -------------------------------------------------------------------------------------------------------------- */
static void put_number(struct slm2_buf *b, double v)
{
    if (isfinite(v)) slm2_buf_printf(b, " %8.4f", v);
    else slm2_buf_printf(b, " %8s", "-");
}

void slm2_ablate_text(const struct slm2_ablate_grid *g, struct slm2_buf *b)
{
    for (int from = 0, to; from < g->n; from = to) {
        to = line_end(g, from);
        slm2_buf_printf(b, "%sdigits %s, schedule %s; bits per byte\n%8s %8s %8s %8s", from ? "\n" : "", g->cell[from].digits, g->cell[from].schedule, "share", "all", "english", "others");
        for (int k = 0; k < g->n_lang; k++) slm2_buf_printf(b, " %8.8s", g->lang[k]);
        slm2_buf_puts(b, "\n");
        for (int i = from; i < to; i++) {
            const struct slm2_ablate_cell *c = &g->cell[i];
            slm2_buf_printf(b, "%6.1f %%", 100 * c->share);
            put_number(b, c->all);
            put_number(b, c->english);
            put_number(b, c->other);
            for (int k = 0; k < g->n_lang; k++) put_number(b, c->bits[k]);
            slm2_buf_puts(b, "\n");
        }
    }
}

/* ---- page --------------------------------------------------------------------------------------------------------------- */
enum { MAX_LINE = SLM2_SVG_N_COLOR, MAX_POINT = 64 };
enum what { ALL, ENGLISH, OTHER };

static double value_of(const struct slm2_ablate_cell *c, enum what what) { return what == ALL ? c->all : what == ENGLISH ? c->english : c->other; }

/* A line for each tokenizer and schedule. */
static void chart_of(struct slm2_buf *b, const struct slm2_ablate_grid *g, const char *title, enum what what)
{
    double x[MAX_LINE][MAX_POINT], y[MAX_LINE][MAX_POINT];
    char label[MAX_LINE][80];
    struct slm2_svg_line line[MAX_LINE];
    int n_line = 0;
    for (int from = 0, to; from < g->n && n_line < MAX_LINE; from = to, n_line++) {
        to = line_end(g, from);
        int n = to - from < MAX_POINT ? to - from : MAX_POINT;
        for (int i = 0; i < n; i++) x[n_line][i] = 100 * g->cell[from + i].share, y[n_line][i] = value_of(&g->cell[from + i], what);
        snprintf(label[n_line], sizeof label[0], "%.30s, digits %.30s", g->cell[from].schedule, g->cell[from].digits);
        line[n_line] = (struct slm2_svg_line){.label = label[n_line], .x = x[n_line], .y = y[n_line], .n = n, .color = n_line, .marks = true};
    }
    slm2_svg_chart(b, &(struct slm2_svg_chart){.title = title, .x_label = "share of non-English tokens, %", .line = line, .n_line = n_line});
}

/* A line for each language, of one tokenizer and schedule. */
static void languages_of(struct slm2_buf *b, const struct slm2_ablate_grid *g, int from, int to)
{
    double x[MAX_POINT], y[MAX_LINE][MAX_POINT];
    char title[120];
    struct slm2_svg_line line[MAX_LINE];
    int n_line = 0, n = to - from < MAX_POINT ? to - from : MAX_POINT;
    for (int i = 0; i < n; i++) x[i] = 100 * g->cell[from + i].share;
    for (int k = 0; k < g->n_lang && n_line < MAX_LINE; k++, n_line++) {
        for (int i = 0; i < n; i++) y[n_line][i] = g->cell[from + i].bits[k];
        line[n_line] = (struct slm2_svg_line){.label = g->lang[k], .x = x, .y = y[n_line], .n = n, .color = n_line, .marks = true};
    }
    snprintf(title, sizeof title, "Each language: %.30s, digits %.30s", g->cell[from].schedule, g->cell[from].digits);
    slm2_svg_chart(b, &(struct slm2_svg_chart){.title = title, .x_label = "share of non-English tokens, %", .line = line, .n_line = n_line});
}

static void put_table(struct slm2_buf *b, const struct slm2_ablate_grid *g)
{
    struct slm2_buf heads = {0};
    char s[SLM2_TEXT_MAX];
    double best = HUGE_VAL;
    for (int i = 0; i < g->n; i++) best = fmin(best, g->cell[i].all);
    slm2_buf_puts(&heads, "Schedule|Digits|#Share|#All|#English|#Others");
    for (int k = 0; k < g->n_lang; k++) {
        slm2_buf_puts(&heads, "|#");
        for (const char *c = g->lang[k]; *c; c++) /* '|' parts the heads */
            if (*c == '|') slm2_buf_puts(&heads, "&#124;");
            else slm2_html_escape(&heads, (char[2]){*c, 0});
    }
    if (heads.v) slm2_page_table(b, heads.v);
    if (heads.failed) b->failed = true;
    slm2_buf_free(&heads);
    for (int i = 0; i < g->n; i++) {
        const struct slm2_ablate_cell *c = &g->cell[i];
        slm2_page_row(b, c->schedule);
        slm2_page_cell(b, "", c->digits);
        snprintf(s, sizeof s, "%.4g %%", 100 * c->share);
        slm2_page_cell(b, "n", s);
        slm2_page_cell(b, c->all <= best ? "n best" : "n", slm2_text_real(s, c->all));
        slm2_page_cell_real(b, c->english);
        slm2_page_cell_real(b, c->other);
        for (int k = 0; k < g->n_lang; k++) slm2_page_cell_real(b, c->bits[k]);
        slm2_buf_puts(b, "</tr>");
    }
    slm2_page_table_end(b);
}

void slm2_ablate_html(const struct slm2_ablate_grid *g, struct slm2_buf *b)
{
    slm2_page_start(b, g->title);
    slm2_buf_puts(b, "<p class=\"sub\">");
    slm2_html_escape(b, g->note);
    slm2_buf_puts(b, "</p><p>Bits per byte of held-out text: lower is better, and comparable between tokenizers. All cells have the same seed, model and number of tokens.</p>");
    slm2_page_heading(b, "share", "Against the share of non-English data");
    slm2_buf_puts(b, "<div class=\"grid\">");
    chart_of(b, g, "All held-out text, bits per byte", ALL);
    chart_of(b, g, "English, bits per byte", ENGLISH);
    chart_of(b, g, "Other languages (mean), bits per byte", OTHER);
    slm2_buf_puts(b, "</div>");
    slm2_page_heading(b, "languages", "By language");
    slm2_buf_puts(b, "<div class=\"grid\">");
    for (int from = 0, to; from < g->n; from = to) {
        to = line_end(g, from);
        languages_of(b, g, from, to);
    }
    slm2_buf_puts(b, "</div>");
    slm2_page_heading(b, "table", "All cells, bits per byte");
    put_table(b, g);
    slm2_page_end(b);
}
