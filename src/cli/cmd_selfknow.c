/* cmd_selfknow.c - slm2 selfknow: self-knowledge from one YAML file. */
#include "cli/stage.h"

int slm2_cmd_selfknow(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "selfknow CONFIG.yml [options]\nselfknow CONFIG.yml --plan [--json]",
        .about = "The model draws first messages and two answers each: behind earlier turns that carry a card of facts about it, and without.\n"
                 "Filters throw out what is broken, doubled or untrue to the card; RUN/samples.jsonl keeps every draw and why it stayed or went.\n"
                 "It then learns both kinds, the answers without the card behind a negative token, and what `replay` names beside them.\n"
                 "Probes that it never saw, and the losses of held-out documents and conversations, are measured before and after;\n"
                 "RUN/answers.jsonl has the answers to the probes.\n"
                 "Stopped or killed at any moment, the same command goes on.  docs/ALIGNMENT.md explains the files.\n"
                 "--plan refuses settings and data that a run would refuse and prints updates and memory, and of samples that are there what was kept and why; it draws nothing.",
        .examples = "slm2 selfknow configs/selfknow-nano.yml\nslm2 selfknow configs/selfknow.yml --set lr_peak=1e-5 -t 2",
        .yaml_first = true,
    };
    return slm2_cli_stage(&doc, slm2_selfknow_settings, slm2_selfknow_settings_size, slm2_selfknow, slm2_selfknow_plan, argc, argv);
}
