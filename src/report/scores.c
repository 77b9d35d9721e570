/* scores.c - two sections of the page, each from a JSON file beside the ledger: MT-Bench (mtbench.json, of `slm2 mtbench show`) and quantised files
 * beside their original (compare.json, of `slm2 compare`).  The files may be anybody's: what has another form is passed over. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/page.h"
#include "report/svg.h"
#include "report/text.h"

enum { MAX_AXIS = 16, MAX_MODEL = SLM2_SVG_N_COLOR, MAX_FILE = 32, MAX_PUBLISHED = 32 };

/* ---- MT-Bench -------------------------------------------------------------------------------------------------------------------- */
static void put_score_row(struct slm2_buf *b, const char *model, const char *category, const json_t *s)
{
    static const char *const key[] = {"score", "first_turn", "second_turn"};
    char t[SLM2_TEXT_MAX];
    slm2_page_row(b, model);
    slm2_page_cell(b, "", category);
    for (size_t i = 0; i < sizeof key / sizeof key[0]; i++) {
        double v = slm2_json_show_number(s, key[i]);
        if (isfinite(v)) snprintf(t, sizeof t, "%.2f", v);
        slm2_page_cell(b, "n", isfinite(v) ? t : "");
    }
    slm2_page_cell(b, "n", slm2_text_count(t, slm2_json_show_number(s, "ratings")));
    slm2_page_cell(b, "n", slm2_text_count(t, slm2_json_show_number(s, "unrated")));
    slm2_buf_puts(b, "</tr>");
}

/* Of one model: its turns by category.  Of several: the models. */
static void put_score_bars(struct slm2_buf *b, const json_t *models)
{
    struct slm2_svg_bar bar[MAX_AXIS];
    const json_t *m = json_array_get(models, 0);
    const char *name;
    json_t *s;
    int n = 0;
    if (json_array_size(models) == 1) {
        json_object_foreach(json_object_get(m, "categories"), name, s)
            if (n < MAX_AXIS) bar[n++] = (struct slm2_svg_bar){name, slm2_json_show_number(s, "second_turn"), slm2_json_show_number(s, "first_turn")};
        slm2_svg_bars(b, "Mean rating by turn", "second turn", "first turn", bar, n);
        return;
    }
    for (size_t i = 0; i < json_array_size(models) && n < MAX_MODEL; i++) {
        m = json_array_get(models, i);
        bar[n++] = (struct slm2_svg_bar){slm2_json_show_text(m, "model"), slm2_json_show_number(m, "score"), (double)NAN};
    }
    slm2_svg_bars(b, "Mean rating", "both turns", NULL, bar, n);
}

static void put_radar(struct slm2_buf *b, const json_t *models)
{
    const char *axis[MAX_AXIS], *name;
    double v[MAX_MODEL][MAX_AXIS];
    struct slm2_svg_ring ring[MAX_MODEL];
    json_t *s;
    int n_axis = 0, n_ring = 0;
    json_object_foreach(json_object_get(json_array_get(models, 0), "categories"), name, s)
        if (n_axis < MAX_AXIS) axis[n_axis++] = name;
    for (size_t k = 0; k < json_array_size(models) && n_ring < MAX_MODEL; k++, n_ring++) {
        const json_t *m = json_array_get(models, k), *categories = json_object_get(m, "categories");
        for (int i = 0; i < n_axis; i++) v[n_ring][i] = slm2_json_show_number(json_object_get(categories, axis[i]), "score");
        ring[n_ring] = (struct slm2_svg_ring){slm2_json_show_text(m, "model"), v[n_ring], n_ring};
    }
    slm2_svg_radar(b, "Mean rating by category, 1 to 10", axis, n_axis, 10, ring, n_ring);
}

/* What others published is beside ours, but told from it: other judges, other days, some figures unchecked. */
static void put_published_bars(struct slm2_buf *b, const json_t *models, const json_t *rows)
{
    struct slm2_svg_bar bar[MAX_MODEL + MAX_PUBLISHED];
    int n = 0;
    for (size_t i = 0; i < json_array_size(models) && i < MAX_MODEL; i++)
        bar[n++] = (struct slm2_svg_bar){slm2_json_show_text(json_array_get(models, i), "model"), slm2_json_show_number(json_array_get(models, i), "score"), (double)NAN};
    for (size_t i = 0; i < json_array_size(rows) && i < MAX_PUBLISHED; i++)
        bar[n++] = (struct slm2_svg_bar){slm2_json_show_text(json_array_get(rows, i), "model"), (double)NAN, slm2_json_show_number(json_array_get(rows, i), "score")};
    if (json_array_size(rows)) slm2_svg_bars(b, "Mean rating beside published ones", "measured here", "published, marked below", bar, n);
}

static void put_published_table(struct slm2_buf *b, const json_t *published, const json_t *rows)
{
    char t[SLM2_TEXT_MAX];
    json_t *row;
    size_t i;
    bool any_unchecked = false;
    if (!json_array_size(rows)) return;
    slm2_buf_puts(b, "<h3>Published: ");
    slm2_html_escape(b, slm2_json_show_text(published, "title"));
    slm2_buf_puts(b, "</h3>");
    slm2_page_table(b, "Model|Size|#Score|Standing");
    json_array_foreach(rows, i, row) {
        double v = slm2_json_show_number(row, "score");
        bool unchecked = json_is_true(json_object_get(row, "unchecked"));
        slm2_page_row(b, slm2_json_show_text(row, "model"));
        slm2_page_cell(b, "", slm2_json_str(row, "size"));
        if (isfinite(v)) snprintf(t, sizeof t, "%.2f", v);
        slm2_page_cell(b, "n", isfinite(v) ? t : "");
        slm2_page_cell(b, "", unchecked ? "from memory, unchecked" : "read in its source");
        slm2_buf_puts(b, "</tr>");
        any_unchecked = any_unchecked || unchecked;
    }
    slm2_page_table_end(b);
    slm2_buf_puts(b, "<p class=\"mut\">Source: ");
    slm2_html_escape(b, slm2_json_show_text(published, "source"));
    slm2_buf_printf(b, ". Nothing of it was measured here.%s</p>", any_unchecked ? " Figures from memory are a guide, never a limit." : "");
}

bool slm2_report_mtbench(const struct slm2_report_runs *r, struct slm2_buf *b)
{
    const json_t *models = json_object_get(r->mtbench, "models"), *published = json_object_get(r->mtbench, "published"), *rows = json_object_get(published, "rows");
    const char *category;
    json_t *m, *s;
    size_t i;
    if (!json_array_size(models)) return false;
    slm2_page_heading(b, "mtbench", "MT-Bench");
    slm2_buf_puts(b, "<div class=\"grid\">");
    put_radar(b, models);
    put_score_bars(b, models);
    put_published_bars(b, models, rows);
    slm2_buf_puts(b, "</div>");
    slm2_page_table(b, "Model|Category|#Score|#First turn|#Second turn|#Ratings|#Unrated");
    json_array_foreach(models, i, m) {
        put_score_row(b, slm2_json_show_text(m, "model"), "all", m);
        json_object_foreach(json_object_get(m, "categories"), category, s) put_score_row(b, slm2_json_show_text(m, "model"), category, s);
    }
    slm2_page_table_end(b);
    slm2_buf_puts(b, "<p class=\"mut\">Two-turn questions, each answer rated from 1 to 10 by ");
    slm2_html_escape(b, slm2_json_show_text(r->mtbench, "judge"));
    slm2_buf_puts(b, ". Unrated judgements are left out of the means. Ratings of different judges do not compare.</p>");
    put_published_table(b, published, rows);
    return true;
}

/* ---- quantised files ---------------------------------------------------------------------------------------------------------------- */
static void put_file_row(struct slm2_buf *b, const json_t *m, bool original)
{
    static const char *const key[] = {"kl", "kl_median", "kl_99", "kl_max"};
    char s[SLM2_TEXT_MAX];
    slm2_page_row(b, slm2_json_show_text(m, "file"));
    slm2_page_cell(b, "n", slm2_text_bytes(s, slm2_json_show_number(m, "bytes")));
    slm2_page_cell_real(b, slm2_json_show_number(m, "bits_per_weight"));
    slm2_page_cell_real(b, slm2_json_show_number(m, "token_perplexity"));
    double change = 100 * (slm2_json_show_number(m, "perplexity_ratio") - 1), same = 100 * slm2_json_show_number(m, "top1_agreement");
    if (isfinite(change)) snprintf(s, sizeof s, "%+.2f\xC2\xA0%%", change);
    slm2_page_cell(b, "n", isfinite(change) ? s : "");
    for (size_t i = 0; i < sizeof key / sizeof key[0]; i++) {
        double v = slm2_json_show_number(m, key[i]);
        if (isfinite(v)) snprintf(s, sizeof s, v && fabs(v) < 1e-3 ? "%.1e" : "%.4f", v);
        slm2_page_cell(b, "n", isfinite(v) && !original ? s : "");
    }
    if (isfinite(same)) snprintf(s, sizeof s, "%.2f\xC2\xA0%%", same);
    slm2_page_cell(b, "n", isfinite(same) ? s : "");
    slm2_buf_puts(b, "</tr>");
}

static void put_loss_charts(struct slm2_buf *b, const json_t *original, const json_t *models)
{
    struct slm2_svg_bar bar[MAX_FILE];
    struct slm2_svg_line line[MAX_FILE];
    double x[MAX_FILE], y[MAX_FILE], whole = slm2_json_show_number(original, "bytes");
    int n = 0;
    for (size_t i = 0; i < json_array_size(models) && n < MAX_FILE; i++, n++) {
        const json_t *m = json_array_get(models, i);
        x[n] = slm2_json_show_number(m, "bits_per_weight");
        y[n] = slm2_json_show_number(m, "kl");
        line[n] = (struct slm2_svg_line){.label = slm2_json_show_text(m, "file"), .x = &x[n], .y = &y[n], .n = 1, .color = n, .marks = true};
        bar[n] = (struct slm2_svg_bar){slm2_json_show_text(m, "file"), slm2_json_show_number(m, "bytes"), whole};
    }
    slm2_buf_puts(b, "<div class=\"grid\">");
    struct slm2_svg_chart c = {.title = "Mean KL divergence from the original, nats", .x_label = "bits a weight", .line = line, .n_line = n, .y_log = true, .scatter = true};
    slm2_svg_chart(b, &c);
    slm2_svg_bars(b, "Size, bytes", "file", "original", bar, n);
    slm2_buf_puts(b, "</div>");
}

static void put_task_rows(struct slm2_buf *b, const json_t *m)
{
    const char *task, *metric;
    json_t *of_task, *v;
    char s[SLM2_TEXT_MAX];
    json_object_foreach(json_object_get(m, "tasks"), task, of_task)
        json_object_foreach(of_task, metric, v) {
            double d = slm2_json_show_number(v, "difference");
            slm2_page_row(b, slm2_json_show_text(m, "file"));
            slm2_page_cell(b, "", task);
            slm2_page_cell(b, "", metric);
            slm2_page_cell_real(b, slm2_json_show_number(v, "original"));
            slm2_page_cell_real(b, slm2_json_show_number(v, "value"));
            if (isfinite(d)) snprintf(s, sizeof s, "%+.4f", d);
            slm2_page_cell(b, "n", isfinite(d) ? s : "");
            slm2_page_cell_real(b, slm2_json_show_number(v, "stderr"));
            slm2_buf_puts(b, "</tr>");
        }
}

bool slm2_report_losses(const struct slm2_report_runs *r, struct slm2_buf *b)
{
    const json_t *models = json_object_get(r->compare, "models"), *original = json_object_get(r->compare, "original");
    json_t *m;
    char s[SLM2_TEXT_MAX];
    size_t i;
    bool tasks = false;
    if (!json_array_size(models)) return false;
    slm2_page_heading(b, "losses", "Quantised files beside the original");
    put_loss_charts(b, original, models);
    slm2_page_table(b, "File|#Size|#Bits a weight|#Perplexity|#Change|#KL mean|#Median|#99 %|#Largest|#Same top token");
    put_file_row(b, original, true);
    json_array_foreach(models, i, m) {
        put_file_row(b, m, false);
        tasks = tasks || json_object_size(json_object_get(m, "tasks"));
    }
    slm2_page_table_end(b);
    slm2_buf_printf(b, "<p class=\"mut\">Next-token distributions at %s positions of the same text; KL(original || file) in nats. Bits a weight: of the matrices.</p>", slm2_text_count(s, slm2_json_show_number(r->compare, "tokens")));
    if (!tasks) return true;
    slm2_page_table(b, "File|Task|Metric|#Original|#File|#Difference|#Standard error");
    json_array_foreach(models, i, m) put_task_rows(b, m);
    slm2_page_table_end(b);
    slm2_buf_puts(b, "<p class=\"mut\">Standard error: of the original's figure. A difference within it says little.</p>");
    return true;
}
