/* convert_impl.h - what the parts of the converter share: the opened source and the vocabulary of GGUF files. */
#ifndef SLM2_QUANT_CONVERT_IMPL_H
#define SLM2_QUANT_CONVERT_IMPL_H
#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "model/params.h"
#include "quant/convert.h"

struct convert_source {
    const char *path;
    bool is_gguf;
    struct slm2_gguf gguf;       /* when is_gguf */
    struct slm2_tensors hf;      /* when not */
    const struct slm2_tensors *ts; /* one of the two */
    struct slm2_config cfg;
    struct slm2_params params;
};

/* Adds the tokenizer.* keys to w; note[96] receives where the vocabulary came from. */
slm2_status convert_put_vocab(struct slm2_gguf_writer *w, const struct convert_source *s, const struct slm2_convert_opts *o, char note[96],
                              struct slm2_err *err);
/* Writes the tokenizer files of folder dir, from the same choice of vocabularies. */
slm2_status convert_write_vocab(const char *dir, const struct convert_source *s, const struct slm2_convert_opts *o, char note[96], struct slm2_err *err);
#endif
