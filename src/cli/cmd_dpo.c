/* cmd_dpo.c - slm2 dpo: preference optimisation from one YAML file. */
#include "cli/stage.h"

int slm2_cmd_dpo(int argc, char **argv)
{
    static const struct slm2_cli_doc doc = {
        .usage = "dpo CONFIG.yml [options]\ndpo CONFIG.yml --plan [--json]",
        .about = "Direct preference optimisation on pairs of answers, in our own form or in the published shapes of UltraFeedback (binarized, cleaned) and\n"
                 "the Orca pairs, filtered; what is kept and what is left out, and why, is shown before training and stands in the run's ledger.\n"
                 "The log-probabilities of the reference (the model that training starts from) are computed once and stored: another run, or this\n"
                 "one gone on with, takes them from there.  Stopped or killed, the same command goes on with the same bits.  `slm2 report` draws\n"
                 "rewards and log-probabilities; docs/ALIGNMENT.md tells why both usually fall.\n"
                 "--plan refuses settings and data that a run would refuse, reads the pairs, and prints what is kept and why, updates and memory.",
        .examples = "slm2 dpo configs/dpo-nano.yml\nslm2 dpo configs/dpo/stablelm-2-1_6b.yml --plan --json\nslm2 dpo configs/dpo/stablelm-2-1_6b.yml --lr-peak 1e-6 --loss ipo\n"
                    "slm2 dpo configs/dpo/stablelm-2-1_6b.yml --set 'data=[{format: orca_dpo_pairs, path: orca_rlhf.jsonl}, my_pairs.jsonl]'",
        .yaml_first = true,
    };
    return slm2_cli_stage(&doc, slm2_dpo_settings, slm2_dpo_settings_size, slm2_dpo, slm2_dpo_plan, argc, argv);
}
