/* stage.c - runs a fine-tuning stage for a command. */
#include "cli/stage.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/ranks.h"

int slm2_cli_stage(const struct slm2_cli_doc *doc, const struct slm2_opt *table, size_t size, slm2_stage_fn *run, int argc, char **argv)
{
    struct slm2_err err;
    struct slm2_stage_result r;
    void *settings = calloc(1, size);
    if (!settings) return slm2_cli_fail(&(struct slm2_err){SLM2_ENOMEM, "no memory for settings"});
    const char *pos[1];
    int n_pos, rc = slm2_cli_parse(doc, table, settings, argc, argv, pos, 1, &n_pos);
    if (rc < 0) {
        struct slm2_stage_args args = {.settings = settings, .isa = slm2_cli_isa(), .stop = slm2_cli_catch_stop()};
        if (slm2_cli_alone(argv[0], &err) != SLM2_OK || run(&args, &r, &err) != SLM2_OK) rc = slm2_cli_fail(&err);
        else {
            for (int i = 0; i < r.n_figure; i++) printf("%-32s %.6g\n", r.figure[i].name, r.figure[i].value);
            printf("%-32s %lld updates in %.1f s\n%-32s %s\n", "trained", (long long)r.n_step, r.wall_s, "model", r.final_dir);
            rc = 0;
        }
    }
    slm2_conf_free(table, settings);
    free(settings);
    return rc;
}
