/* data_cli.h - parts of `slm2 data` that have a file of their own. */
#ifndef SLM2_CLI_DATA_CLI_H
#define SLM2_CLI_DATA_CLI_H
int slm2_cli_data_mix(int argc, char **argv);
int slm2_cli_data_langid(int argc, char **argv);
#endif
