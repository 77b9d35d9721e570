/* ranks.c - what Open MPI, MPICH, PMIx and Slurm say in the environment. */
#include "cli/ranks.h"

#include <stdlib.h>

int slm2_cli_n_task(const char **name)
{
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    int most = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const char *text = getenv(sizes[i]);
        int n = text ? atoi(text) : 0;
        if (n <= most) continue;
        most = n;
        if (name) *name = sizes[i];
    }
    return most;
}

bool slm2_cli_launched(void)
{
    static const char *const ranks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++)
        if (getenv(ranks[i])) return slm2_cli_n_task(NULL) != 1;
    return false;
}

slm2_status slm2_cli_alone(const char *command, struct slm2_err *err)
{
    if (!slm2_cli_launched() && slm2_cli_n_task(NULL) < 2) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "%s runs as one process, but mpirun or srun has started several, which would all write to one folder; start it without, or as one task; only pretrain shares its work among ranks", command);
}
