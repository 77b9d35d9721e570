/* ranks.h - whether mpirun or srun has started this process as one of several, by the environment that they give it. */
#ifndef SLM2_CLI_RANKS_H
#define SLM2_CLI_RANKS_H
#include "cli/cli.h"

int slm2_cli_n_task(const char **name); /* processes of the launcher's job; 0: no launcher says; name (may be NULL): the variable that says it */
bool slm2_cli_launched(void);           /* a rank for MPI to connect; false in a job of one process, which needs no MPI */
/* SLM2_EUSAGE when several processes were started: for commands that know no ranks, whose copies would all write to one folder. */
slm2_status slm2_cli_alone(const char *command, struct slm2_err *err);
#endif
