/* cmd_sft.c - slm2 sft: supervised fine-tuning from one YAML file. */
#include "cli/stage.h"

int slm2_cmd_sft(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "sft CONFIG.yml [options]\nsft CONFIG.yml --plan [--json]",
        .about = "Fine-tunes a model on conversations: packed rows in which no conversation sees another, loss on what the assistant\nsays and on the token that ends its turn.  Stopped (Ctrl-C) or killed, the same command goes on with the same bits.\n"
                 "The published data sets are read in the shape that they have on their hubs, by name: see docs/ALIGNMENT.md.\n--plan refuses settings and data that a run would refuse, reads the data, and prints what is kept and what is left out and why, how full the rows are, updates and memory.",
        .examples = "slm2 sft configs/sft-nano.yml\nslm2 sft configs/sft/stablelm-2-1_6b.yml --plan\n"
                    "slm2 sft configs/sft/stablelm-2-1_6b.yml --set 'data=[{format: capybara, path: capybara.jsonl}, {format: slimorca, path: orca.jsonl.gz, repeat: 0.5}]'",
        .yaml_first = true,
    };
    return slm2_cli_stage(&doc, slm2_sft_settings, slm2_sft_settings_size, slm2_sft, slm2_sft_plan, argc, argv);
}
