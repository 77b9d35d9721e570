/* convert.h - a model from one form into another: Hugging Face folder to GGUF, back, or the same form in other types.
 *
 * Kept exactly when no type is asked for: every F32, F16 and BF16 number.  GGUF holds vectors (norms, biases) as F32; on the way
 * back a vector returns to the type of the matrices where that loses nothing, and stays F32 where it would.  Asked for Q8_0,
 * Q4_0 or Q4_1, matrices are quantised; a matrix whose rows are not whole blocks of 32 becomes F16.  Quantised matrices become F16 in a
 * Hugging Face folder unless another float type is asked for.
 *
 * The vocabulary of a GGUF file comes from the folder (tokenizer.json, *.tiktoken), or from the file named in the options.  When
 * there is none: the bundled Arcade100k if the model has rows for all of it, else a stand-in that lets other programs load the
 * weights - tokens 0..255 are the bytes, the others unused - marked by the key slm2.synthetic_vocab.  A stand-in is not
 * written back as a tokenizer. */
#ifndef SLM2_QUANT_CONVERT_H
#define SLM2_QUANT_CONVERT_H
#include "io/tensors.h"
#include "quant/quant.h"

#define SLM2_KEEP SLM2_N_DTYPE /* as a type: what the source has */

struct slm2_convert_opts {
    enum slm2_dtype dtype;       /* of matrices; F32, F16, BF16, Q8_0, Q4_0, Q4_1 or SLM2_KEEP */
    enum slm2_dtype embed_dtype; /* of token_embd; SLM2_KEEP: like dtype */
    enum slm2_dtype head_dtype;  /* of output (lm_head); SLM2_KEEP: like dtype */
    const char *name;            /* general.name; NULL: the last part of the source's path */
    const char *tokenizer;       /* vocabulary to use; NULL: the source's own */
    const char *chat_template;   /* Jinja text; NULL: the source's own */
    size_t max_shard_bytes;      /* of safetensors files; 0: one file */
    void (*progress)(double fraction, const char *tensor, void *user); /* NULL allowed */
    void *user;
};
struct slm2_convert_opts slm2_convert_opts_default(void); /* keep everything */

struct slm2_convert_tensor { /* one written tensor */
    char *name;
    enum slm2_dtype from, to;
    int64_t n_elems;
    size_t bytes;
    struct slm2_quant_error error; /* n is 0 when the bytes were copied */
};
struct slm2_convert_report {
    struct slm2_convert_tensor *v;
    int n;
    size_t bytes_in, bytes_out; /* of the tensors */
    char vocabulary[96];        /* where the vocabulary came from, for people */
};
void slm2_convert_report_free(struct slm2_convert_report *r);

/* in: a folder or .gguf file.  out: a name ending in .gguf, or a folder to write.  opts NULL: the default; report NULL or filled.
 * Fails before writing when in and out are the same, when a tensor is missing or has another shape than the config says. */
slm2_status slm2_convert(const char *in, const char *out, const struct slm2_convert_opts *opts, struct slm2_convert_report *report, struct slm2_err *err);
#endif
