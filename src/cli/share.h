/* share.h - where the files that come with the program lie: configs/ and assets/.
 *
 * A name that begins with one of these folders means a file of the current folder where there is one, else the shared file.  Shared files are looked for
 * in the folder that SLM2_SHARE names, and in that one only; without it in the source tree whose build folder holds the program, in share/slm2 beside the
 * program's bin/, and in PREFIX/share/slm2.  So `slm2 eval --list` and `slm2 sft configs/sft-nano.yml` work anywhere.  Only names of what is read are treated so. */
#ifndef SLM2_CLI_SHARE_H
#define SLM2_CLI_SHARE_H
#include "base/conf.h"

enum { SLM2_SHARE_PATH = 4096 };
/* True, and out is where it lies, when path names a shared file that the current folder lacks; else out is path as it stands. */
bool slm2_share_find(const char *path, char out[SLM2_SHARE_PATH]);
/* The same for every setting that names a file to read (slm2_conf_file). */
slm2_status slm2_share_settings(const struct slm2_opt *table, void *obj, struct slm2_err *err);
/* The same for an argument; what is returned lives as long as the program. */
const char *slm2_share_arg(const char *arg);
/* Behind an error whose message names a shared file that is nowhere: says on stderr where it was looked for. */
void slm2_share_hint(const char *msg);
#endif
