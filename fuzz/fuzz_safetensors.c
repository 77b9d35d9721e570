/* fuzz_safetensors.c - the safetensors parser: any bytes give tensors inside the input, or an error. */
#include <stdlib.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slm2_tensors ts;
    struct slm2_err err;
    if (slm2_safetensors_parse(&ts, data, size, "input", &err) != SLM2_OK) return 0;
    for (int i = 0; i < ts.n; i++) {
        const uint8_t *p = ts.v[i].data;
        uint8_t sum = 0;
        for (size_t k = 0; k < ts.v[i].bytes; k++) sum ^= p[k];
        char shape[96];
        slm2_tensor_shape(&ts.v[i], shape);
        if (slm2_tensors_find(&ts, ts.v[i].name) != &ts.v[i] || (sum && !ts.v[i].bytes)) abort();
    }
    slm2_tensors_free(&ts);
    return 0;
}
