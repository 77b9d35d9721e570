/* info.h - what a file, a model folder or a run is, as a JSON object. */
#ifndef SLM2_CLI_INFO_H
#define SLM2_CLI_INFO_H
#include <jansson.h>

#include "base/err.h"

/* Kinds: safetensors file or index, GGUF, Hugging Face folder (checkpoints too), PEFT folder, .bin/.idx token file (either name or the prefix),
 * data folder, vocabulary (.tiktoken, tokenizer.json), config.json, run folder or its ledger.  Told by content.
 * tensors: list every tensor.  *out is the caller's to json_decref. */
slm2_status slm2_cli_info(json_t **out, const char *path, bool tensors, struct slm2_err *err);
#endif
