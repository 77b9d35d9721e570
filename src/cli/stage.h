/* stage.h - what the commands sft, dpo and selfknow share: settings from YAML and options, a stage run, its figures. */
#ifndef SLM2_CLI_STAGE_H
#define SLM2_CLI_STAGE_H
#include "cli/cli.h"
#include "train/tune.h"

typedef slm2_status slm2_stage_fn(const struct slm2_stage_args *args, struct slm2_stage_result *result, struct slm2_err *err);
/* What a run would be, as text and JSON. */
typedef slm2_status slm2_stage_plan_fn(const struct slm2_stage_args *args, struct slm2_buf *text, json_t **json, struct slm2_err *err);
/* Returns the exit status.  Adds the options --json and --plan. */
int slm2_cli_stage(const struct slm2_cli_doc *doc, const struct slm2_opt *table, size_t size, slm2_stage_fn *run, slm2_stage_plan_fn *plan, int argc, char **argv);
#endif
