/* cmd_dpo.c - slm2 dpo: preference optimisation from one YAML file. */
#include "cli/stage.h"

int slm2_cmd_dpo(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "dpo CONFIG.yml [options]",
        .about = "Direct preference optimisation on pairs of answers.  The log-probabilities of the reference (the model that training starts from)\nare computed once and stored in the run folder.  Stopped or killed, the same command goes on with the same bits.",
        .examples = "slm2 dpo configs/dpo-nano.yml\nslm2 dpo configs/dpo.yml --set lr_peak=1e-5 -t 2",
        .yaml_first = true,
    };
    return slm2_cli_stage(&doc, slm2_dpo_settings, slm2_dpo_settings_size, slm2_dpo, NULL, argc, argv);
}
