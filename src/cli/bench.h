/* bench.h - what the parts of `slm2 bench` share. */
#ifndef SLM2_CLI_BENCH_H
#define SLM2_CLI_BENCH_H
#include "cli/cli.h"

int slm2_cmd_bench_tokenizer(int argc, char **argv);
#endif
