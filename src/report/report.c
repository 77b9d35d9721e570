/* report.c - from folders to a page or to figures. */
#include "report/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/page.h"

struct slm2_report_opts slm2_report_opts_default(void)
{
    return (struct slm2_report_opts){.energy = slm2_energy_terms_default()};
}

slm2_status slm2_report_write(const char *const *run_dirs, int n, const char *out_path, const struct slm2_report_opts *o, struct slm2_err *err)
{
    struct slm2_report_opts def = slm2_report_opts_default();
    struct slm2_report_runs runs;
    struct slm2_buf page = {0};
    if (!o) o = &def;
    slm2_status st = slm2_report_runs_open(&runs, run_dirs, n, &o->energy, err);
    if (st == SLM2_OK) st = o->compare ? slm2_report_compare_html(&runs, o, &page, err) : slm2_report_html(&runs, o, &page, err);
    if (st == SLM2_OK) st = slm2_file_write(out_path, page.v, page.n, err);
    slm2_buf_free(&page);
    slm2_report_runs_free(&runs);
    return st;
}

/* ---- figures as JSON ------------------------------------------------------------------------------------------------------ */
static json_t *energy_json(const struct slm2_energy *e)
{
    return json_pack("{s:b, s:f, s:f, s:f, s:f}", "measured", (int)e->measured, "core_h", e->device_h, "device_wh", e->device_wh, "wh", e->wh, "co2_g", e->co2_g);
}

/* NULL stands for bytes that are not UTF-8 */
static json_t *string_or_null(const char *s)
{
    json_t *j = json_string(s);
    return j ? j : json_null();
}

static json_t *run_json(const struct slm2_report_run *run)
{
    json_t *figures = json_object(), *last = json_object();
    double steps = 0;
    for (int i = 0; i < run->figure.n_row; i++) {
        double v = slm2_rows_number(&run->figure, i, 1);
        json_object_set_new(figures, slm2_rows_text(&run->figure, i, 0), isfinite(v) ? json_real(v) : string_or_null(slm2_rows_text(&run->figure, i, 2)));
    }
    for (int i = 0; i < run->metric.n_row; i++) {
        json_object_set_new(last, slm2_rows_text(&run->metric, i, 0), slm2_json_real(slm2_rows_number(&run->metric, i, 2), NULL));
        steps = fmax(steps, slm2_rows_number(&run->metric, i, 1));
    }
    return json_pack("{s:o, s:o, s:I, s:f, s:f, s:i, s:o, s:o, s:o}", "stage", string_or_null(run->stage), "folder", string_or_null(run->dir), "steps", (json_int_t)steps, "wall_s", run->cost.wall_s,
                     "cpu_s", run->cost.cpu_s, "starts", run->cost.n_session, "figures", figures, "last", last, "energy", energy_json(&run->energy));
}

slm2_status slm2_report_figures(const char *const *run_dirs, int n, const struct slm2_report_opts *o, json_t **out, struct slm2_err *err)
{
    struct slm2_report_opts def = slm2_report_opts_default();
    struct slm2_report_runs runs;
    struct slm2_energy sum = {.measured = true};
    if (!o) o = &def;
    *out = NULL;
    slm2_status st = slm2_report_runs_open(&runs, run_dirs, n, &o->energy, err);
    if (st == SLM2_OK) {
        json_t *stages = json_array();
        for (int i = 0; i < runs.n; i++) {
            json_array_append_new(stages, run_json(&runs.run[i]));
            slm2_energy_add(&sum, &runs.run[i].energy);
        }
        *out = json_pack("{s:o, s:o, s:f, s:f, s:f}", "stages", stages, "energy", energy_json(&sum), "core_watts", o->energy.core_watts, "pue", o->energy.pue, "t_co2_per_mwh", o->energy.t_per_mwh);
        if (!*out) st = slm2_fail(err, SLM2_ENOMEM, "no memory for the figures");
    }
    slm2_report_runs_free(&runs);
    return st;
}
