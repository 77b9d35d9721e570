/* cmd_selfknow.c - slm2 selfknow: self-knowledge from one YAML file. */
#include "cli/stage.h"

int slm2_cmd_selfknow(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "selfknow CONFIG.yml [options]",
        .about = "The model draws its own first messages and two answers each: with earlier turns that say who it is, and without.  It then learns\nboth, the answers without behind a negative token.  The samples are kept in RUN/samples.jsonl.",
        .examples = "slm2 selfknow configs/selfknow-nano.yml\nslm2 selfknow configs/selfknow.yml --set lr_peak=1e-5 -t 2",
        .yaml_first = true,
    };
    return slm2_cli_stage(&doc, slm2_selfknow_settings, slm2_selfknow_settings_size, slm2_selfknow, NULL, argc, argv);
}
