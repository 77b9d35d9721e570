/* report.h - one self-contained HTML page of a run or of a whole recipe, from the ledgers that the stages wrote.
 *
 * Each folder given is a run (FOLDER/run.sqlite), or holds runs under pretrain/, sft/, dpo/, selfknow/.  Beside the ledgers may
 * lie, and are shown when they do:
 *     eval.json           {"results": {TASK: {METRIC: x, METRIC_stderr: x}}}, or several of these by name: {"sft": {"results": ...}}
 *     mtbench.json        of `slm2 mtbench show` (eval/mtbench.h)
 *     compare.json        of `slm2 compare` (eval/quant_eval.h)
 *     data/manifest.json  of `slm2 data build`
 * The page uses no scripts and asks the network for nothing. */
#ifndef SLM2_REPORT_REPORT_H
#define SLM2_REPORT_REPORT_H
#include "base/json.h"
#include "report/energy.h"

struct slm2_report_opts {
    struct slm2_energy_terms energy;
    const char *title;  /* NULL: "Training report", "Runs compared" */
    bool compare;       /* the runs beside each other, curve over curve, instead of one after the other */
};
struct slm2_report_opts slm2_report_opts_default(void);
/* Reads run_dirs[n] and writes the page to out_path, whole or not at all.  A folder without a ledger, a damaged ledger or JSON
 * file is an error that names it.  o NULL: the defaults. */
slm2_status slm2_report_write(const char *const *run_dirs, int n, const char *out_path, const struct slm2_report_opts *o, struct slm2_err *err);
/* The figures of the page: {"stages": [{"stage", "folder", "steps", "wall_s", "cpu_s", "figures": {}, "energy": {}}], "energy": {}}.
 * *out is owned by the caller. */
slm2_status slm2_report_figures(const char *const *run_dirs, int n, const struct slm2_report_opts *o, json_t **out, struct slm2_err *err);
#endif
