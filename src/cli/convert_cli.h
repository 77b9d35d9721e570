/* convert_cli.h - what `convert` and `quantize` share: names of types, progress, the report. */
#ifndef SLM2_CLI_CONVERT_CLI_H
#define SLM2_CLI_CONVERT_CLI_H
#include <jansson.h>

#include "quant/convert.h"

/* "", "keep": SLM2_KEEP; else a type of weights, in any case.  option: for the message. */
slm2_status slm2_cli_weight_type(enum slm2_dtype *t, const char *name, const char *option, struct slm2_err *err);
void slm2_cli_convert_progress(double fraction, const char *tensor, void *user); /* user: the command's name */
/* "zephyr", "chatml": the template's text; else the content of the file of that name into *text (to be freed); "" leaves NULL. */
slm2_status slm2_cli_chat_template(char **text, const char *name, struct slm2_err *err);
json_t *slm2_cli_convert_json(const struct slm2_convert_report *r, const char *in, const char *out);
void slm2_cli_bytes(char out[32], double bytes); /* "1.53 GB" */
#endif
