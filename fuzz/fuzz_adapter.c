/* fuzz_adapter.c - settings of a foreign adapter: refused with a text, or within their bounds. */
#include <stdlib.h>

#include "base/json.h"
#include "model/lora.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slm2_lora_opts o;
    struct slm2_err err = {0};
    json_t *j;
    if (slm2_json_parse(&j, (const char *)data, size, "fuzz", &err) != SLM2_OK) return 0;
    slm2_status st = slm2_lora_config_from_json(&o, j, "fuzz", &err);
    if (st == SLM2_OK ? o.rank < 1 || o.rank > SLM2_LORA_MAX_RANK || o.targets : !err.msg[0]) abort();
    json_decref(j);
    return 0;
}
