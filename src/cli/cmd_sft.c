/* cmd_sft.c - slm2 sft: supervised fine-tuning from one YAML file. */
#include "cli/stage.h"

int slm2_cmd_sft(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "sft CONFIG.yml [options]",
        .about = "Fine-tunes a model on conversations: packed rows in which no conversation sees another, loss on what the assistant\nsays and on the token that ends its turn.  Stopped (Ctrl-C) or killed, the same command goes on with the same bits.",
        .examples = "slm2 sft configs/sft-nano.yml\nslm2 sft configs/sft.yml --set lr_peak=1e-5 -t 2",
        .yaml_first = true,
    };
    return slm2_cli_stage(&doc, slm2_sft_settings, slm2_sft_settings_size, slm2_sft, argc, argv);
}
