/* html.c - the page of a run or a recipe: summary and tables.  Whatever came from a file goes through slm2_html_escape. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "data/records.h"
#include "report/page.h"
#include "report/text.h"

/* ---- small parts ------------------------------------------------------------------------------------------------------------ */
static int last_step(const struct slm2_report_run *run)
{
    double top = 0;
    for (int i = 0; i < run->metric.n_row; i++) top = fmax(top, slm2_rows_number(&run->metric, i, 1));
    return (int)fmin(top, 2e9);
}

/* The measure by which a stage is judged. */
static const char *main_metric(const struct slm2_report_run *run, const char **label)
{
    static const char *const known[][3] = {
        {"dpo", "valid_accuracy", "preference accuracy, held out"}, {"selfknow", "probe_margin", "probes: right over wrong facts, nats a token"}, {"selfknow", "valid_loss_positive", "loss of true answers, held out"},
        {"", "valid_loss", "loss, held out"}, {"", "loss", "loss"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (*known[i][0] && strcmp(known[i][0], run->stage)) continue;
        if (!isfinite(slm2_report_last(run, known[i][1]))) continue;
        *label = known[i][2];
        return known[i][1];
    }
    *label = "";
    return "";
}

static struct slm2_energy total_energy(const struct slm2_report_runs *r)
{
    struct slm2_energy sum = {.measured = true};
    for (int i = 0; i < r->n; i++) slm2_energy_add(&sum, &r->run[i].energy);
    return sum;
}

/* ---- summary ------------------------------------------------------------------------------------------------------------------ */
static void put_model(struct slm2_buf *b, const struct slm2_report_run *run)
{
    static const char *const key[][2] = {{"n_layer", "layers"}, {"hidden_size", "hidden"}, {"n_head", "heads"}, {"n_ctx", "context"}, {"vocab_size", "vocabulary"}};
    const char *dump = slm2_rows_find(&run->run, "config"), *comma = "";
    char v[64];
    slm2_buf_puts(b, "<p class=\"sub\">");
    for (size_t i = 0; i < sizeof key / sizeof key[0]; i++) {
        if (!*slm2_report_setting(dump, "model", key[i][0], v, sizeof v)) continue;
        slm2_buf_printf(b, "%s%s ", comma, key[i][1]);
        slm2_html_escape(b, v);
        comma = ", ";
    }
    const char *more[] = {slm2_rows_find(&run->run, "kernels"), slm2_rows_find(&run->run, "host")};
    for (size_t i = 0; i < 2; i++) {
        if (!*more[i]) continue;
        slm2_buf_puts(b, *comma ? " \xC2\xB7 " : "");
        if (i == 0) slm2_buf_puts(b, "kernels ");
        slm2_html_escape(b, more[i]);
        comma = ", ";
    }
    slm2_buf_puts(b, "</p>");
}

static void put_summary(struct slm2_buf *b, const struct slm2_report_runs *r)
{
    const struct slm2_report_run *p = slm2_report_stage(r, "pretrain");
    struct slm2_energy e = total_energy(r);
    double wall = 0, cpu = 0;
    char s[SLM2_TEXT_MAX], t[SLM2_TEXT_MAX + 16];
    for (int i = 0; i < r->n; i++) wall += r->run[i].cost.wall_s, cpu += r->run[i].cost.cpu_s;
    if (p) put_model(b, p);
    slm2_buf_puts(b, "<div class=\"tiles\">");
    if (p) {
        double tokens = slm2_report_figure(p, "tokens"), rate = slm2_report_figure(p, "tokens_per_s"), valid = slm2_report_last(p, "valid_loss");
        slm2_page_tile(b, "parameters", slm2_text_count(s, slm2_report_figure(p, "parameters")));
        slm2_page_tile(b, "tokens of pre-training", slm2_text_count(s, isfinite(tokens) ? tokens : slm2_report_last(p, "tokens")));
        if (isfinite(valid)) {
            slm2_page_tile(b, "held-out loss, nats per token", slm2_text_real(s, valid));
            slm2_page_tile(b, "held-out perplexity", slm2_text_real(s, exp(valid)));
        }
        slm2_page_tile(b, "tokens per second", slm2_text_count(s, isfinite(rate) ? rate : slm2_report_last(p, "tokens_s")));
    }
    slm2_page_tile(b, "wall time of all stages", slm2_text_seconds(s, wall));
    snprintf(t, sizeof t, "%s%s", e.measured ? "" : "\xE2\x89\x88\xC2\xA0", slm2_text_watt_hours(s, e.wh));
    slm2_page_tile(b, e.measured ? "energy, measured, with PUE" : "energy, estimated, with PUE", t);
    snprintf(t, sizeof t, "%s%s", e.measured ? "" : "\xE2\x89\x88\xC2\xA0", slm2_text_grams(s, e.co2_g));
    slm2_page_tile(b, "CO\xE2\x82\x82 equivalent", t);
    slm2_buf_puts(b, "</div>");
    slm2_page_table(b, "Stage|#Steps|Measure|#First|#Last|#Wall|#CPU|#Starts");
    for (int i = 0; i < r->n; i++) {
        const struct slm2_report_run *run = &r->run[i];
        const char *label, *metric = main_metric(run, &label);
        slm2_page_row(b, slm2_report_stage_title(run->stage));
        snprintf(s, sizeof s, "%d", last_step(run));
        slm2_page_cell(b, "n", s);
        slm2_page_cell(b, "", label);
        slm2_page_cell_real(b, slm2_report_first(run, metric));
        slm2_page_cell_real(b, slm2_report_last(run, metric));
        slm2_page_cell(b, "n", slm2_text_seconds(s, run->cost.wall_s));
        slm2_page_cell(b, "n", slm2_text_seconds(s, run->cost.cpu_s));
        snprintf(s, sizeof s, "%d", run->cost.n_session);
        slm2_page_cell(b, "n", s);
        slm2_buf_puts(b, "</tr>");
    }
    slm2_page_table_end(b);
}

/* ---- evaluation ------------------------------------------------------------------------------------------------------------------ */
/* "acc,none" -> "acc_stderr,none" */
static double stderr_of(const json_t *task, const char *metric)
{
    char key[256];
    size_t n = strcspn(metric, ",");
    snprintf(key, sizeof key, "%.*s_stderr%s", (int)n, metric, metric + n);
    const json_t *v = json_object_get(task, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static int put_results(struct slm2_buf *b, const char *model, const json_t *results)
{
    const char *task, *metric;
    json_t *of_task, *v;
    int n = 0;
    json_object_foreach((json_t *)(uintptr_t)results, task, of_task) {
        json_object_foreach(of_task, metric, v) {
            if (!json_is_number(v) || strstr(metric, "_stderr")) continue;
            slm2_page_row(b, task);
            slm2_page_cell(b, "", metric);
            if (model) slm2_page_cell(b, "", model);
            slm2_page_cell_real(b, json_number_value(v));
            slm2_page_cell_real(b, stderr_of(of_task, metric));
            slm2_buf_puts(b, "</tr>");
            n++;
        }
    }
    return n;
}

/* "eval.TASK.METRIC" and "STAGE.eval.TASK.METRIC" among the figures of a ledger */
static int put_eval_figures(struct slm2_buf *b, const struct slm2_report_run *run)
{
    int n = 0;
    for (int i = 0; i < run->figure.n_row; i++) {
        const char *key = slm2_rows_text(&run->figure, i, 0), *at = strncmp(key, "eval.", 5) ? strstr(key, ".eval.") : key;
        char model[64], task[128];
        if (!at || strstr(key, "_stderr")) continue;
        const char *rest = at == key ? key + 5 : at + 6, *dot = strrchr(rest, '.');
        if (!dot) continue;
        snprintf(model, sizeof model, "%.*s", at == key ? (int)strlen(run->stage) : (int)(at - key), at == key ? run->stage : key);
        snprintf(task, sizeof task, "%.*s", (int)(dot - rest), rest);
        slm2_page_row(b, task);
        slm2_page_cell(b, "", dot + 1);
        slm2_page_cell(b, "", model);
        slm2_page_cell_real(b, slm2_rows_number(&run->figure, i, 1));
        slm2_page_cell(b, "n", "");
        slm2_buf_puts(b, "</tr>");
        n++;
    }
    return n;
}

static bool put_eval(struct slm2_buf *b, const struct slm2_report_runs *r)
{
    struct slm2_buf rows = {0};
    int n = 0;
    const char *name;
    json_t *one;
    const json_t *results = json_object_get(r->eval, "results");
    bool named = !results; /* whose results these are */
    if (results) n += put_results(&rows, NULL, results);
    else json_object_foreach(r->eval, name, one) n += put_results(&rows, name, json_object_get(one, "results"));
    for (int i = 0; i < r->n && !r->eval; i++) n += put_eval_figures(&rows, &r->run[i]);
    if (n) {
        slm2_page_heading(b, "evaluation", "Evaluation");
        slm2_page_table(b, named ? "Task|Metric|Model|#Value|#Standard error" : "Task|Metric|#Value|#Standard error");
        slm2_buf_put(b, rows.v, rows.n);
        slm2_page_table_end(b);
    }
    if (rows.failed) b->failed = true;
    slm2_buf_free(&rows);
    return n > 0;
}

/* ---- self-knowledge ------------------------------------------------------------------------------------------------------------------ */
struct answers { json_t *first, *last; }; /* of the lowest and the highest step, in the order of the probes */

static slm2_status take_answer(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct answers *a = user;
    json_int_t step = json_integer_value(json_object_get(j, "step"));
    (void)what, (void)err;
    if (step > json_integer_value(json_object_get(json_array_get(a->last, 0), "step"))) json_array_clear(a->last);
    if (step <= json_integer_value(json_object_get(json_array_get(a->first, 0), "step")) || !json_array_size(a->first)) json_array_append(a->first, j);
    json_array_append(a->last, j);
    return SLM2_OK;
}

/* What RUN/answers.jsonl says; a run without it has no such table. */
static void put_answers(struct slm2_buf *b, const struct slm2_report_run *run)
{
    char path[4096];
    int64_t n_bad = 0;
    struct answers a = {json_array(), json_array()};
    if (!strcmp(run->stage, "selfknow") && slm2_path_join(path, sizeof path, run->dir, "answers.jsonl", NULL) == SLM2_OK && slm2_path_exists(path))
        slm2_records_read(path, 0, false, take_answer, &a, &n_bad, NULL);
    size_t n = json_array_size(a.first) < json_array_size(a.last) ? json_array_size(a.first) : json_array_size(a.last);
    if (n) {
        slm2_buf_puts(b, "<h3>Probes: questions that training never saw</h3>");
        slm2_page_table(b, "Question|Answer before|Answer after|#Margin before|#after");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *first = json_array_get(a.first, i), *last = json_array_get(a.last, i);
        slm2_page_row(b, slm2_json_str(first, "ask"));
        slm2_page_cell(b, "path", slm2_json_str(first, "answer"));
        slm2_page_cell(b, "path", slm2_json_str(last, "answer"));
        slm2_page_cell_real(b, slm2_json_show_number(first, "margin"));
        slm2_page_cell_real(b, slm2_json_show_number(last, "margin"));
        slm2_buf_puts(b, "</tr>");
    }
    if (n) slm2_page_table_end(b);
    json_decref(a.first);
    json_decref(a.last);
}

/* ---- speed and energy ------------------------------------------------------------------------------------------------------------- */
static void put_speed(struct slm2_buf *b, const struct slm2_report_run *p)
{
    char s[SLM2_TEXT_MAX];
    double rate = slm2_report_figure(p, "tokens_per_s"), flops = slm2_report_figure(p, "flops_per_token"), bytes = slm2_report_figure(p, "trainer_bytes");
    if (!isfinite(rate)) rate = slm2_report_last(p, "tokens_s");
    slm2_page_heading(b, "speed", "Speed of pre-training");
    slm2_page_table(b, "Figure|#Value");
    const struct { const char *name; double v; } row[] = {
        {"tokens per second", rate}, {"tokens per update", slm2_report_figure(p, "tokens_per_step")}, {"arithmetic per token, FLOP (forward and backward)", flops},
        {"arithmetic per second, FLOP/s", rate * flops}, {"threads", slm2_report_figure(p, "threads")}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        if (!isfinite(row[i].v)) continue;
        slm2_page_row(b, row[i].name);
        slm2_page_cell(b, "n", slm2_text_count(s, row[i].v));
        slm2_buf_puts(b, "</tr>");
    }
    static const struct { const char *key, *name; } part[] = {{"time_step_s", "of the time since the last start: steps, %"}, {"time_data_s", "reading rows, %"}, {"time_ledger_s", "the ledger, %"},
                                                              {"time_valid_s", "validation, %"}, {"time_ckpt_s", "checkpoints, %"}};
    double all = 0;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) all += slm2_report_figure(p, part[i].key);
    for (size_t i = 0; all > 0 && i < sizeof part / sizeof part[0]; i++) { /* NaN: a run of a version that did not say */
        slm2_page_row(b, part[i].name);
        snprintf(s, sizeof s, "%.3g", 100 * slm2_report_figure(p, part[i].key) / all);
        slm2_page_cell(b, "n", s);
        slm2_buf_puts(b, "</tr>");
    }
    if (isfinite(bytes)) {
        slm2_page_row(b, "memory of the trainer");
        slm2_page_cell(b, "n", slm2_text_bytes(s, bytes));
        slm2_buf_puts(b, "</tr>");
    }
    slm2_page_table_end(b);
}

static void energy_row(struct slm2_buf *b, const char *name, const struct slm2_energy *e)
{
    char s[SLM2_TEXT_MAX];
    slm2_page_row(b, name);
    snprintf(s, sizeof s, "%.4g", e->device_h);
    slm2_page_cell(b, "n", s);
    slm2_page_cell(b, "", e->measured ? e->gpu ? "measured (RAPL, NVML)" : "measured (RAPL)" : e->gpu ? "estimate; cards measured (NVML)" : "estimate");
    slm2_page_cell(b, "n", slm2_text_watt_hours(s, e->device_wh));
    slm2_page_cell(b, "n", slm2_text_watt_hours(s, e->wh));
    slm2_page_cell(b, "n", slm2_text_grams(s, e->co2_g));
    slm2_buf_puts(b, "</tr>");
}

static void put_energy(struct slm2_buf *b, const struct slm2_report_runs *r, const struct slm2_energy_terms *terms)
{
    struct slm2_energy sum = total_energy(r);
    bool estimated = false, measured = false;
    slm2_page_heading(b, "energy", "Energy and CO\xE2\x82\x82");
    slm2_page_table(b, "Stage|#Core hours|Source|#Devices|#With PUE|#CO\xE2\x82\x82" "eq");
    for (int i = 0; i < r->n; i++) {
        energy_row(b, slm2_report_stage_title(r->run[i].stage), &r->run[i].energy);
        estimated = estimated || !r->run[i].energy.measured;
        measured = measured || r->run[i].energy.measured;
    }
    slm2_buf_puts(b, "</tbody><tfoot>");
    energy_row(b, "All stages", &sum);
    slm2_buf_puts(b, "</tfoot></table></div>");
    slm2_buf_printf(b, "<p class=\"formula\">energy [MWh] = device-hours &#215; mean device power [W] &#215; PUE / 10<sup>6</sup>, with PUE %g<br/>CO\xE2\x82\x82" "eq [t] = energy [MWh] &#215; %g%s</p>",
                    terms->pue, terms->t_per_mwh, terms->t_per_mwh == slm2_energy_terms_default().t_per_mwh ? " (US average)" : "");
    if (estimated)
        slm2_buf_printf(b, "<p><strong>Estimate:</strong> no energy counter (RAPL) could be read for these runs, so power is not measured. A device is one processor core, its hours are CPU time, its mean power is "
                           "<em>assumed</em> to be %g W.</p>", terms->core_watts);
    if (measured) slm2_buf_puts(b, "<p>Where it says &#8220;measured&#8221;, device-hours &#215; power is the energy that the processor's own counters (RAPL) gave; they count everything the processor did meanwhile.</p>");
    if (sum.gpu) slm2_buf_puts(b, "<p>Cards are in it with what their driver (NVML) counted, all of the machine's, whatever they did.</p>");
    slm2_buf_printf(b, "<p class=\"mut\">The formula is the Stable LM 2 technical report's: its 92,000 GPU-hours came to about 30 MWh and about 11 t CO\xE2\x82\x82" "eq (a mean power of %.0f W).</p>", 30e6 / 92000 / slm2_energy_terms_default().pue);
}

/* ---- data ------------------------------------------------------------------------------------------------------------------------- */
static void file_row(struct slm2_buf *b, const char *source, const char *path, const char *lang, const char *licence, double bytes, double tokens, double documents, const char *sha)
{
    char s[SLM2_TEXT_MAX];
    slm2_page_row(b, source);
    slm2_page_cell(b, "path", path);
    slm2_page_cell(b, "", lang);
    slm2_page_cell(b, "", *licence ? licence : "not stated");
    slm2_page_cell(b, "n", slm2_text_bytes(s, bytes));
    slm2_page_cell(b, "n", slm2_text_count(s, tokens));
    slm2_page_cell(b, "n", slm2_text_count(s, documents));
    slm2_page_cell(b, "hash", sha);
    slm2_buf_puts(b, "</tr>");
}

static double train_and_val(const json_t *j, const char *key)
{
    const json_t *pair = json_object_get(j, key);
    double train = slm2_json_show_number(pair, "train"), val = slm2_json_show_number(pair, "val");
    return isfinite(val) ? train + val : train;
}

static bool put_data(struct slm2_buf *b, const struct slm2_report_runs *r)
{
    static const char heads[] = "Source|File|Language|Licence|#Size|#Tokens|#Documents|SHA-256";
    const json_t *sources = json_object_get(r->manifest, "sources");
    json_t *source, *input;
    size_t i, k;
    bool any = json_array_size(sources) > 0;
    for (int n = 0; n < r->n; n++) any = any || r->run[n].file.n_row;
    if (!any) return false;
    slm2_page_heading(b, "data", "Data");
    if (json_array_size(sources)) {
        slm2_buf_puts(b, "<h3>Documents read</h3>");
        slm2_page_table(b, heads);
        json_array_foreach(sources, i, source)
            json_array_foreach(json_object_get(source, "inputs"), k, input)
                file_row(b, slm2_json_str(source, "name"), slm2_json_str(input, "file"), slm2_json_str(source, "lang"), slm2_json_str(source, "license"), slm2_json_show_number(input, "bytes"), k ? (double)NAN : train_and_val(source, "tokens"),
                         k ? (double)NAN : train_and_val(source, "documents"), slm2_json_str(input, "sha256"));
        slm2_page_table_end(b);
    }
    for (int n = 0; n < r->n; n++) {
        const struct slm2_rows *f = &r->run[n].file;
        if (!f->n_row) continue;
        slm2_buf_puts(b, "<details><summary>Token files of ");
        slm2_html_escape(b, slm2_report_stage_title(r->run[n].stage));
        slm2_buf_printf(b, " (%d)</summary>", f->n_row);
        slm2_page_table(b, heads);
        for (int row = 0; row < f->n_row; row++)
            file_row(b, slm2_rows_text(f, row, 1), slm2_rows_text(f, row, 0), slm2_rows_text(f, row, 6), slm2_rows_text(f, row, 7), slm2_rows_number(f, row, 3), slm2_rows_number(f, row, 4),
                     slm2_rows_number(f, row, 5), slm2_rows_text(f, row, 2));
        slm2_page_table_end(b);
        slm2_buf_puts(b, "</details>");
    }
    return true;
}

/* ---- settings, figures, events --------------------------------------------------------------------------------------------------------- */
static void open_details(struct slm2_buf *b, const struct slm2_report_run *run, const char *what)
{
    slm2_buf_puts(b, "<details><summary>");
    slm2_html_escape(b, slm2_report_stage_title(run->stage));
    slm2_buf_printf(b, ": %s</summary>", what);
}

static void put_records(struct slm2_buf *b, const struct slm2_report_run *run)
{
    const char *config = slm2_rows_find(&run->run, "config");
    if (*config) {
        open_details(b, run, "settings");
        slm2_buf_puts(b, "<pre>");
        slm2_html_escape(b, config);
        slm2_buf_puts(b, "</pre></details>");
    }
    open_details(b, run, "figures and circumstances");
    slm2_page_table(b, "Key|Value");
    for (int i = 0; i < run->run.n_row; i++) {
        if (strcmp(slm2_rows_text(&run->run, i, 0), "config") == 0) continue;
        slm2_page_row(b, slm2_rows_text(&run->run, i, 0));
        slm2_page_cell(b, "path", slm2_rows_text(&run->run, i, 1));
        slm2_buf_puts(b, "</tr>");
    }
    for (int i = 0; i < run->figure.n_row; i++) {
        char s[SLM2_TEXT_MAX];
        double v = slm2_rows_number(&run->figure, i, 1);
        slm2_page_row(b, slm2_rows_text(&run->figure, i, 0));
        if (isfinite(v)) snprintf(s, sizeof s, "%.10g", v);
        slm2_page_cell(b, "path", isfinite(v) ? s : slm2_rows_text(&run->figure, i, 2));
        slm2_buf_puts(b, "</tr>");
    }
    slm2_page_table_end(b);
    slm2_buf_puts(b, "</details>");
    if (!run->event.n_row) return;
    open_details(b, run, "events");
    slm2_page_table(b, "Time|#Step|Event|Text");
    for (int i = 0; i < run->event.n_row; i++) {
        slm2_buf_puts(b, "<tr>");
        for (int k = 0; k < 4; k++) slm2_page_cell(b, k == 1 ? "n" : k == 3 ? "path" : "", slm2_rows_text(&run->event, i, k));
        slm2_buf_puts(b, "</tr>");
    }
    slm2_page_table_end(b);
    slm2_buf_puts(b, "</details>");
}

/* ---- the page ------------------------------------------------------------------------------------------------------------------------ */
slm2_status slm2_report_html(const struct slm2_report_runs *r, const struct slm2_report_opts *o, struct slm2_buf *out, struct slm2_err *err)
{
    struct slm2_buf body = {0};
    const struct slm2_report_run *p = slm2_report_stage(r, "pretrain");
    slm2_status st = SLM2_OK;
    slm2_page_start(out, o->title ? o->title : "Training report");
    put_summary(out, r);
    slm2_buf_puts(out, "<nav>");
    for (int i = 0; i < r->n && st == SLM2_OK; i++) {
        const struct slm2_report_run *run = &r->run[i];
        char id[32];
        snprintf(id, sizeof id, "run%d", i + 1);
        slm2_buf_printf(out, "<a href=\"#%s\">", id);
        slm2_html_escape(out, slm2_report_stage_title(run->stage));
        slm2_buf_puts(out, "</a>");
        slm2_page_heading(&body, id, slm2_report_stage_title(run->stage));
        slm2_buf_puts(&body, "<p class=\"sub\">");
        slm2_html_escape(&body, run->dir);
        slm2_buf_puts(&body, "</p><div class=\"grid\">");
        st = slm2_report_curves(run, &body, err);
        slm2_buf_puts(&body, "</div>");
        put_answers(&body, run);
    }
    if (st == SLM2_OK) {
        if (put_eval(&body, r)) slm2_buf_puts(out, "<a href=\"#evaluation\">Evaluation</a>");
        if (slm2_report_mtbench(r, &body)) slm2_buf_puts(out, "<a href=\"#mtbench\">MT-Bench</a>");
        if (slm2_report_losses(r, &body)) slm2_buf_puts(out, "<a href=\"#losses\">Quantised files</a>");
        if (p) put_speed(&body, p);
        slm2_buf_printf(out, "%s<a href=\"#energy\">Energy</a>", p ? "<a href=\"#speed\">Speed</a>" : "");
        put_energy(&body, r, &o->energy);
        if (put_data(&body, r)) slm2_buf_puts(out, "<a href=\"#data\">Data</a>");
        slm2_page_heading(&body, "records", "Settings and events");
        for (int i = 0; i < r->n; i++) put_records(&body, &r->run[i]);
        slm2_buf_puts(out, "<a href=\"#records\">Settings and events</a></nav>");
        if (body.n) slm2_buf_put(out, body.v, body.n);
        slm2_page_end(out);
        if (body.failed) out->failed = true;
        st = slm2_buf_check(out, err);
    }
    slm2_buf_free(&body);
    return st;
}
