/* html.c - the page: frame, style, tables.  Whatever came from a file goes through slm2_html_escape. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/page.h"
#include "report/text.h"

/* the look of text and tables, then of the charts */
static const char style_page[] =
    ":root{--bg:#f7f6f3;--card:#fff;--fg:#1d2127;--mut:#5d6570;--rule:#dedbd4;--c0:#2463b0;--c1:#c8501a;--c2:#1b8a52;--c3:#7a49b8;--c4:#a87600;--c5:#0b7f92;--c6:#b83273;--c7:#6b7280;--plan:#c9d6e8}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1c1f25;--fg:#e4e6ea;--mut:#9aa2ad;--rule:#343942;--c0:#6aa7f0;--c1:#f28b52;--c2:#5cc98d;--c3:#b794f0;--c4:#dcb04a;--c5:#5cc6d6;--c6:#ef86b6;--c7:#a0a7b2;--plan:#33435a}}"
    "*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}"
    "body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}"
    "main{max-width:1080px;margin:0 auto;padding:28px 20px 64px}h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px}"
    "h2{font-size:1.25rem;margin:44px 0 12px;padding-top:14px;border-top:1px solid var(--rule)}h3{font-size:.95rem;font-weight:600;margin:0 0 8px}"
    "p{margin:8px 0;max-width:46em}.mut,.sub{color:var(--mut)}.sub{font-size:.9rem;overflow-wrap:anywhere}a{color:var(--c0)}"
    "nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:14px 0 22px;font-size:.92rem}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:12px;margin:18px 0}"
    ".tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 14px}.tile b{display:block;font-size:1.3rem;line-height:1.3;font-weight:600}.tile span{font-size:.82rem;color:var(--mut)}"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px;margin:14px 0}"
    ".scroll{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:8px;margin:12px 0}table{border-collapse:collapse;width:100%;font-size:.9rem}"
    "th,td{padding:7px 12px;text-align:left;border-top:1px solid var(--rule);vertical-align:top}thead th{border-top:0;color:var(--mut);font-weight:500;white-space:nowrap}tbody th{font-weight:500;min-width:7.5em}"
    ".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.hash,code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.8rem}.path{overflow-wrap:anywhere;min-width:13em}.hash{overflow-wrap:anywhere;min-width:17em;color:var(--mut)}tfoot td,tfoot th{font-weight:600;text-align:left}tfoot .n{text-align:right}"
    "details{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:8px 14px;margin:10px 0}summary{cursor:pointer;font-weight:500}details .scroll{border:0;margin:6px -14px -8px}pre{overflow-x:auto;margin:10px 0 4px;line-height:1.45}"
    ".formula{background:var(--card);border:1px solid var(--rule);border-left:3px solid var(--c0);border-radius:6px;padding:10px 14px;overflow-wrap:anywhere}"
    "footer{margin-top:44px;color:var(--mut);font-size:.85rem}";
static const char style_chart[] =
    "figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:14px 16px}svg{display:block;width:100%;height:auto;overflow:visible}"
    "svg text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif;fill:var(--mut);font-variant-numeric:tabular-nums}svg .bt,svg .bv{fill:var(--fg)}svg .bl{font-size:12px}"
    "g.grid line{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--mut);stroke-width:1}.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".faint{opacity:.3}.line.faint{stroke-width:1}.rule{stroke-width:1.6;stroke-dasharray:6 5}"
    ".line.c0,.rule.c0{stroke:var(--c0)}.line.c1,.rule.c1{stroke:var(--c1)}.line.c2,.rule.c2{stroke:var(--c2)}.line.c3,.rule.c3{stroke:var(--c3)}.line.c4,.rule.c4{stroke:var(--c4)}.line.c5,.rule.c5{stroke:var(--c5)}.line.c6,.rule.c6{stroke:var(--c6)}.line.c7,.rule.c7{stroke:var(--c7)}"
    ".mark.c0,.bar.c0{fill:var(--c0)}.mark.c1{fill:var(--c1)}.mark.c2{fill:var(--c2)}.mark.c3{fill:var(--c3)}.mark.c4{fill:var(--c4)}.mark.c5{fill:var(--c5)}.mark.c6{fill:var(--c6)}.mark.c7{fill:var(--c7)}"
    ".band{opacity:.13}.band.b0{fill:var(--c4)}.band.b1{fill:var(--c5)}.band.b2{fill:var(--c3)}.band.b3{fill:var(--c1)}.plan{fill:var(--plan)}"
    "figcaption{display:flex;flex-wrap:wrap;gap:2px 16px;margin-top:8px;font-size:.84rem;color:var(--mut)}.key{white-space:nowrap}.key b{color:var(--fg);font-weight:600;font-variant-numeric:tabular-nums}"
    ".key i{display:inline-block;width:18px;margin-right:6px;vertical-align:middle;border-top:2.5px solid}.key i.dash{border-top-style:dashed}.key i.area,.key i.block,.key i.planned{height:10px;border:0;border-radius:2px}"
    "i.c0{color:var(--c0)}i.c1{color:var(--c1)}i.c2{color:var(--c2)}i.c3{color:var(--c3)}i.c4{color:var(--c4)}i.c5{color:var(--c5)}i.c6{color:var(--c6)}i.c7{color:var(--c7)}i.block{background:currentColor}.key i.planned{background:var(--plan)}"
    "i.area{opacity:.45}i.b0{background:var(--c4)}i.b1{background:var(--c5)}i.b2{background:var(--c3)}i.b3{background:var(--c1)}"
    "@media(max-width:560px){main{padding:18px 12px 48px}.tiles{grid-template-columns:1fr 1fr;gap:8px}figure{padding:12px 8px}svg text{font-size:16px}svg .bl{font-size:14px}th,td{padding:7px 9px}}"
    "@media print{body{background:#fff}figure,.tile,tr{break-inside:avoid}}";

/* ---- small parts ------------------------------------------------------------------------------------------------------------ */
static void cell(struct slm2_buf *b, const char *class, const char *text)
{
    slm2_buf_printf(b, "<td class=\"%s\">", class);
    slm2_html_escape(b, *text ? text : "\xE2\x80\x93");
    slm2_buf_puts(b, "</td>");
}

static void cell_real(struct slm2_buf *b, double v)
{
    char s[SLM2_TEXT_MAX];
    cell(b, "n", slm2_text_real(s, v));
}

static void row_head(struct slm2_buf *b, const char *text)
{
    slm2_buf_puts(b, "<tr><th>");
    slm2_html_escape(b, text);
    slm2_buf_puts(b, "</th>");
}

/* heads: names parted by '|'; those that begin with '#' are columns of numbers */
static void open_table(struct slm2_buf *b, const char *heads)
{
    slm2_buf_puts(b, "<div class=\"scroll\"><table><thead><tr>");
    for (const char *s = heads; *s; s += *s == '|') {
        size_t n = strcspn(s, "|");
        bool number = *s == '#';
        slm2_buf_printf(b, "<th%s>%.*s</th>", number ? " class=\"n\"" : "", (int)n - number, s + number);
        s += n;
    }
    slm2_buf_puts(b, "</tr></thead><tbody>");
}

static void close_table(struct slm2_buf *b)
{
    slm2_buf_puts(b, "</tbody></table></div>");
}

static void tile(struct slm2_buf *b, const char *name, const char *value)
{
    slm2_buf_puts(b, "<div class=\"tile\"><b>");
    slm2_html_escape(b, value);
    slm2_buf_puts(b, "</b><span>");
    slm2_html_escape(b, name);
    slm2_buf_puts(b, "</span></div>");
}

static void heading(struct slm2_buf *b, const char *id, const char *text)
{
    slm2_buf_printf(b, "<h2 id=\"%s\">", id);
    slm2_html_escape(b, text);
    slm2_buf_puts(b, "</h2>");
}

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
        {"dpo", "valid_accuracy", "preference accuracy, held out"}, {"selfknow", "valid_loss_positive", "loss of true answers, held out"},
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
static const char *watt_hours(char *out, double wh)
{
    if (wh >= 1e6) snprintf(out, SLM2_TEXT_MAX, "%.3g MWh", wh / 1e6);
    else if (wh >= 1000) snprintf(out, SLM2_TEXT_MAX, "%.3g kWh", wh / 1000);
    else snprintf(out, SLM2_TEXT_MAX, "%.3g Wh", wh);
    return out;
}

static const char *grams(char *out, double g)
{
    if (g >= 1e6) snprintf(out, SLM2_TEXT_MAX, "%.3g t", g / 1e6);
    else if (g >= 1000) snprintf(out, SLM2_TEXT_MAX, "%.3g kg", g / 1000);
    else snprintf(out, SLM2_TEXT_MAX, "%.3g g", g);
    return out;
}

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
        tile(b, "parameters", slm2_text_count(s, slm2_report_figure(p, "parameters")));
        tile(b, "tokens of pre-training", slm2_text_count(s, isfinite(tokens) ? tokens : slm2_report_last(p, "tokens")));
        if (isfinite(valid)) {
            tile(b, "held-out loss, nats per token", slm2_text_real(s, valid));
            tile(b, "held-out perplexity", slm2_text_real(s, exp(valid)));
        }
        tile(b, "tokens per second", slm2_text_count(s, isfinite(rate) ? rate : slm2_report_last(p, "tokens_s")));
    }
    tile(b, "wall time of all stages", slm2_text_seconds(s, wall));
    snprintf(t, sizeof t, "%s%s", e.measured ? "" : "\xE2\x89\x88\xC2\xA0", watt_hours(s, e.wh));
    tile(b, e.measured ? "energy, measured, with PUE" : "energy, estimated, with PUE", t);
    snprintf(t, sizeof t, "%s%s", e.measured ? "" : "\xE2\x89\x88\xC2\xA0", grams(s, e.co2_g));
    tile(b, "CO\xE2\x82\x82 equivalent", t);
    slm2_buf_puts(b, "</div>");
    open_table(b, "Stage|#Steps|Measure|#First|#Last|#Wall|#CPU|#Starts");
    for (int i = 0; i < r->n; i++) {
        const struct slm2_report_run *run = &r->run[i];
        const char *label, *metric = main_metric(run, &label);
        row_head(b, slm2_report_stage_title(run->stage));
        snprintf(s, sizeof s, "%d", last_step(run));
        cell(b, "n", s);
        cell(b, "", label);
        cell_real(b, slm2_report_first(run, metric));
        cell_real(b, slm2_report_last(run, metric));
        cell(b, "n", slm2_text_seconds(s, run->cost.wall_s));
        cell(b, "n", slm2_text_seconds(s, run->cost.cpu_s));
        snprintf(s, sizeof s, "%d", run->cost.n_session);
        cell(b, "n", s);
        slm2_buf_puts(b, "</tr>");
    }
    close_table(b);
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
            row_head(b, task);
            cell(b, "", metric);
            if (model) cell(b, "", model);
            cell_real(b, json_number_value(v));
            cell_real(b, stderr_of(of_task, metric));
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
        row_head(b, task);
        cell(b, "", dot + 1);
        cell(b, "", model);
        cell_real(b, slm2_rows_number(&run->figure, i, 1));
        cell(b, "n", "");
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
        heading(b, "evaluation", "Evaluation");
        open_table(b, named ? "Task|Metric|Model|#Value|#Standard error" : "Task|Metric|#Value|#Standard error");
        slm2_buf_put(b, rows.v, rows.n);
        close_table(b);
    }
    if (rows.failed) b->failed = true;
    slm2_buf_free(&rows);
    return n > 0;
}

/* ---- quantisation ---------------------------------------------------------------------------------------------------------------- */
static double member(const json_t *j, const char *key)
{
    const json_t *v = json_object_get(j, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static bool put_quant(struct slm2_buf *b, const struct slm2_report_runs *r)
{
    size_t i;
    json_t *q;
    char s[SLM2_TEXT_MAX];
    if (!json_array_size(r->quant)) return false;
    heading(b, "quantisation", "Quantisation");
    open_table(b, "Format|#Size|#Perplexity|#Perplexity ratio|#Weight error (RMSE)");
    json_array_foreach(r->quant, i, q) {
        const char *format = json_string_value(json_object_get(q, "format"));
        row_head(b, format ? format : "?");
        cell(b, "n", slm2_text_bytes(s, member(q, "bytes")));
        cell_real(b, member(q, "perplexity"));
        double ratio = member(q, "ratio");
        if (isfinite(ratio)) snprintf(s, sizeof s, "%.4f", ratio);
        cell(b, "n", isfinite(ratio) ? s : "");
        cell_real(b, member(q, "rmse"));
        slm2_buf_puts(b, "</tr>");
    }
    close_table(b);
    slm2_buf_puts(b, "<p class=\"mut\">Perplexity ratio: quantised over unquantised, on the same held-out text; 1 means nothing was lost.</p>");
    return true;
}

/* ---- speed and energy ------------------------------------------------------------------------------------------------------------- */
static void put_speed(struct slm2_buf *b, const struct slm2_report_run *p)
{
    char s[SLM2_TEXT_MAX];
    double rate = slm2_report_figure(p, "tokens_per_s"), flops = slm2_report_figure(p, "flops_per_token"), bytes = slm2_report_figure(p, "trainer_bytes");
    if (!isfinite(rate)) rate = slm2_report_last(p, "tokens_s");
    heading(b, "speed", "Speed of pre-training");
    open_table(b, "Figure|#Value");
    const struct { const char *name; double v; } row[] = {
        {"tokens per second", rate}, {"tokens per update", slm2_report_figure(p, "tokens_per_step")}, {"arithmetic per token, FLOP (forward and backward)", flops},
        {"arithmetic per second, FLOP/s", rate * flops}, {"threads", slm2_report_figure(p, "threads")}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        if (!isfinite(row[i].v)) continue;
        row_head(b, row[i].name);
        cell(b, "n", slm2_text_count(s, row[i].v));
        slm2_buf_puts(b, "</tr>");
    }
    if (isfinite(bytes)) {
        row_head(b, "memory of the trainer");
        cell(b, "n", slm2_text_bytes(s, bytes));
        slm2_buf_puts(b, "</tr>");
    }
    close_table(b);
}

static void energy_row(struct slm2_buf *b, const char *name, const struct slm2_energy *e)
{
    char s[SLM2_TEXT_MAX];
    row_head(b, name);
    snprintf(s, sizeof s, "%.4g", e->device_h);
    cell(b, "n", s);
    cell(b, "", e->measured ? "measured (RAPL)" : "estimate");
    cell(b, "n", watt_hours(s, e->device_wh));
    cell(b, "n", watt_hours(s, e->wh));
    cell(b, "n", grams(s, e->co2_g));
    slm2_buf_puts(b, "</tr>");
}

static void put_energy(struct slm2_buf *b, const struct slm2_report_runs *r, double core_watts)
{
    struct slm2_energy sum = total_energy(r);
    bool estimated = false, measured = false;
    heading(b, "energy", "Energy and CO\xE2\x82\x82");
    open_table(b, "Stage|#Core hours|Source|#Devices|#With PUE|#CO\xE2\x82\x82" "eq");
    for (int i = 0; i < r->n; i++) {
        energy_row(b, slm2_report_stage_title(r->run[i].stage), &r->run[i].energy);
        estimated = estimated || !r->run[i].energy.measured;
        measured = measured || r->run[i].energy.measured;
    }
    slm2_buf_puts(b, "</tbody><tfoot>");
    energy_row(b, "All stages", &sum);
    slm2_buf_puts(b, "</tfoot></table></div>");
    slm2_buf_printf(b, "<p class=\"formula\">energy [MWh] = device-hours &#215; mean device power [W] &#215; PUE / 10<sup>6</sup>, with PUE %.1f<br/>CO\xE2\x82\x82" "eq [t] = energy [MWh] &#215; %.3f (US average)</p>",
                    SLM2_ENERGY_PUE, SLM2_ENERGY_T_PER_MWH);
    if (estimated)
        slm2_buf_printf(b, "<p><strong>Estimate:</strong> no energy counter (RAPL) could be read for these runs, so power is not measured. A device is one processor core, its hours are CPU time, its mean power is "
                           "<em>assumed</em> to be %g W.</p>", core_watts);
    if (measured) slm2_buf_puts(b, "<p>Where it says &#8220;measured&#8221;, device-hours &#215; power is the energy that the processor's own counters (RAPL) gave; they count everything the processor did meanwhile.</p>");
    slm2_buf_printf(b, "<p class=\"mut\">The formula is the Stable LM 2 technical report's: its 92,000 GPU-hours came to about 30 MWh and about 11 t CO\xE2\x82\x82" "eq (a mean power of %.0f W).</p>", 30e6 / 92000 / SLM2_ENERGY_PUE);
}

/* ---- data ------------------------------------------------------------------------------------------------------------------------- */
static void file_row(struct slm2_buf *b, const char *source, const char *path, const char *lang, const char *licence, double bytes, double tokens, double documents, const char *sha)
{
    char s[SLM2_TEXT_MAX];
    row_head(b, source);
    cell(b, "path", path);
    cell(b, "", lang);
    cell(b, "", *licence ? licence : "not stated");
    cell(b, "n", slm2_text_bytes(s, bytes));
    cell(b, "n", slm2_text_count(s, tokens));
    cell(b, "n", slm2_text_count(s, documents));
    cell(b, "hash", sha);
    slm2_buf_puts(b, "</tr>");
}

static const char *str(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static double train_and_val(const json_t *j, const char *key)
{
    const json_t *pair = json_object_get(j, key);
    double train = member(pair, "train"), val = member(pair, "val");
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
    heading(b, "data", "Data");
    if (json_array_size(sources)) {
        slm2_buf_puts(b, "<h3>Documents read</h3>");
        open_table(b, heads);
        json_array_foreach(sources, i, source)
            json_array_foreach(json_object_get(source, "inputs"), k, input)
                file_row(b, str(source, "name"), str(input, "file"), str(source, "lang"), str(source, "license"), member(input, "bytes"), k ? (double)NAN : train_and_val(source, "tokens"),
                         k ? (double)NAN : train_and_val(source, "documents"), str(input, "sha256"));
        close_table(b);
    }
    for (int n = 0; n < r->n; n++) {
        const struct slm2_rows *f = &r->run[n].file;
        if (!f->n_row) continue;
        slm2_buf_puts(b, "<details><summary>Token files of ");
        slm2_html_escape(b, slm2_report_stage_title(r->run[n].stage));
        slm2_buf_printf(b, " (%d)</summary>", f->n_row);
        open_table(b, heads);
        for (int row = 0; row < f->n_row; row++)
            file_row(b, slm2_rows_text(f, row, 1), slm2_rows_text(f, row, 0), slm2_rows_text(f, row, 6), slm2_rows_text(f, row, 7), slm2_rows_number(f, row, 3), slm2_rows_number(f, row, 4),
                     slm2_rows_number(f, row, 5), slm2_rows_text(f, row, 2));
        close_table(b);
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
    open_table(b, "Key|Value");
    for (int i = 0; i < run->run.n_row; i++) {
        if (strcmp(slm2_rows_text(&run->run, i, 0), "config") == 0) continue;
        row_head(b, slm2_rows_text(&run->run, i, 0));
        cell(b, "path", slm2_rows_text(&run->run, i, 1));
        slm2_buf_puts(b, "</tr>");
    }
    for (int i = 0; i < run->figure.n_row; i++) {
        char s[SLM2_TEXT_MAX];
        double v = slm2_rows_number(&run->figure, i, 1);
        row_head(b, slm2_rows_text(&run->figure, i, 0));
        if (isfinite(v)) snprintf(s, sizeof s, "%.10g", v);
        cell(b, "path", isfinite(v) ? s : slm2_rows_text(&run->figure, i, 2));
        slm2_buf_puts(b, "</tr>");
    }
    close_table(b);
    slm2_buf_puts(b, "</details>");
    if (!run->event.n_row) return;
    open_details(b, run, "events");
    open_table(b, "Time|#Step|Event|Text");
    for (int i = 0; i < run->event.n_row; i++) {
        slm2_buf_puts(b, "<tr>");
        for (int k = 0; k < 4; k++) cell(b, k == 1 ? "n" : k == 3 ? "path" : "", slm2_rows_text(&run->event, i, k));
        slm2_buf_puts(b, "</tr>");
    }
    close_table(b);
    slm2_buf_puts(b, "</details>");
}

/* ---- the page ------------------------------------------------------------------------------------------------------------------------ */
static void put_frame_start(struct slm2_buf *b, const char *title)
{
    slm2_buf_puts(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>"
                     "<meta name=\"color-scheme\" content=\"light dark\"/><title>");
    slm2_html_escape(b, title);
    slm2_buf_puts(b, "</title><style>");
    slm2_buf_puts(b, style_page);
    slm2_buf_puts(b, style_chart);
    slm2_buf_puts(b, "</style></head><body><main><h1>");
    slm2_html_escape(b, title);
    slm2_buf_puts(b, "</h1>");
}

slm2_status slm2_report_html(const struct slm2_report_runs *r, const struct slm2_report_opts *o, struct slm2_buf *out, struct slm2_err *err)
{
    struct slm2_buf body = {0};
    const struct slm2_report_run *p = slm2_report_stage(r, "pretrain");
    slm2_status st = SLM2_OK;
    put_frame_start(out, o->title ? o->title : "Training report");
    put_summary(out, r);
    slm2_buf_puts(out, "<nav>");
    for (int i = 0; i < r->n && st == SLM2_OK; i++) {
        const struct slm2_report_run *run = &r->run[i];
        char id[32];
        snprintf(id, sizeof id, "run%d", i + 1);
        slm2_buf_printf(out, "<a href=\"#%s\">", id);
        slm2_html_escape(out, slm2_report_stage_title(run->stage));
        slm2_buf_puts(out, "</a>");
        heading(&body, id, slm2_report_stage_title(run->stage));
        slm2_buf_puts(&body, "<p class=\"sub\">");
        slm2_html_escape(&body, run->dir);
        slm2_buf_puts(&body, "</p><div class=\"grid\">");
        st = slm2_report_curves(run, &body, err);
        slm2_buf_puts(&body, "</div>");
    }
    if (st == SLM2_OK) {
        if (put_eval(&body, r)) slm2_buf_puts(out, "<a href=\"#evaluation\">Evaluation</a>");
        if (put_quant(&body, r)) slm2_buf_puts(out, "<a href=\"#quantisation\">Quantisation</a>");
        if (p) put_speed(&body, p);
        slm2_buf_printf(out, "%s<a href=\"#energy\">Energy</a>", p ? "<a href=\"#speed\">Speed</a>" : "");
        put_energy(&body, r, o->core_watts);
        if (put_data(&body, r)) slm2_buf_puts(out, "<a href=\"#data\">Data</a>");
        heading(&body, "records", "Settings and events");
        for (int i = 0; i < r->n; i++) put_records(&body, &r->run[i]);
        slm2_buf_puts(out, "<a href=\"#records\">Settings and events</a></nav>");
        if (body.n) slm2_buf_put(out, body.v, body.n);
        slm2_buf_puts(out, "<footer>slm2 " SLM2_VERSION ", from the ledgers of the runs</footer></main></body></html>\n");
        if (body.failed) out->failed = true;
        st = slm2_buf_check(out, err);
    }
    slm2_buf_free(&body);
    return st;
}
