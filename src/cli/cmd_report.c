/* cmd_report.c - `slm2 report RUN_DIR... --out report.html`: the page of a run or of a whole recipe. */
#include <stdio.h>

#include "cli/cli.h"
#include "report/report.h"

enum { MAX_RUN = 64 };
struct opts {
    char *out, *title;
    double watts, pue, grid;
    bool json, compare;
};
static const struct slm2_opt table[] = {
    {.name = "out", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, out), .def = "report.html", .help = "the page to write", .alias = 'o'},
    {.name = "title", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, title), .help = "headline of the page; default: Training report"},
    {.name = "watts", .type = SLM2_OPT_DOUBLE, .offset = offsetof(struct opts, watts), .lo = 0, .hi = 1e5, .def = "10", .help = "assumed power of a busy core, where no counter could be read"},
    {.name = "pue", .type = SLM2_OPT_DOUBLE, .offset = offsetof(struct opts, pue), .lo = 1, .hi = 10, .def = "1.1", .help = "energy of the whole site over that of its devices"},
    {.name = "grid", .type = SLM2_OPT_DOUBLE, .offset = offsetof(struct opts, grid), .lo = 0, .hi = 10, .def = "0.385", .help = "t of CO2 a MWh (kg a kWh) where the energy comes from; default: US average"},
    {.name = "compare", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, compare), .help = "two to eight runs beside each other: final figures, settings that differ, curves overlaid"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "also the figures as JSON on stdout"},
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "report RUN_DIR... [--out report.html] [--watts 10] [--pue 1.1] [--grid 0.385] [--json]\nreport --compare RUN_DIR RUN_DIR... [--out report.html]",
    .about = "Writes one HTML page without scripts: curves, data, evaluation, quantisation, speed, energy, settings and events.\n"
             "RUN_DIR is the folder of a run (with run.sqlite), or holds runs as pretrain/, sft/, dpo/ and selfknow/.\n"
             "Files eval.json, mtbench.json (slm2 mtbench show), compare.json (slm2 compare) and data/manifest.json in it are shown too. Runs may still be going on.\n"
             "Energy is device-hours x mean power x PUE, CO2 is MWh x the grid's intensity. Without a readable energy counter (RAPL),\n"
             "device-hours are CPU hours and the power is --watts for each core: an estimate, and called so on the page.",
    .examples = "slm2 report runs/nano --out nano.html\nslm2 report --compare runs/a runs/b runs/c --out abc.html\nslm2 report runs/pretrain runs/sft runs/dpo --out report.html --watts 6 --json",
};

int slm2_cmd_report(int argc, char **argv)
{
    struct opts o;
    struct slm2_err err;
    const char *pos[MAX_RUN];
    json_t *figures = NULL;
    int n = 0, rc = slm2_cli_parse(&doc, table, &o, argc, argv, pos, MAX_RUN, &n);
    if (rc < 0 && n == 0) rc = slm2_cli_usage("report: want the folder of a run: slm2 report RUN_DIR... --out report.html");
    if (rc < 0) {
        struct slm2_report_opts r = slm2_report_opts_default();
        r.energy = (struct slm2_energy_terms){.core_watts = o.watts, .pue = o.pue, .t_per_mwh = o.grid};
        r.compare = o.compare;
        if (*o.title) r.title = o.title;
        slm2_status st = slm2_report_write(pos, n, o.out, &r, &err);
        if (st == SLM2_OK && o.json) st = slm2_report_figures(pos, n, &r, &figures, &err);
        if (st != SLM2_OK) rc = slm2_cli_fail(&err);
        else if (o.json) rc = slm2_cli_json(figures);
        else rc = printf("%s\n", o.out) < 0;
    }
    slm2_conf_free(table, &o);
    return rc;
}
