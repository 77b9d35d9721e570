/* quant_eval.h - quantised files beside their original: size, perplexity, divergence of the next-token distribution, task scores.
 *
 * The original is computed with all products in fp32, the others as they run (integer or bf16 products, or exact when asked).  Perplexity and divergence
 * come from one pass over the same windows (eval/compare.h), scores from eval/eval.h. */
#ifndef SLM2_EVAL_QUANT_EVAL_H
#define SLM2_EVAL_QUANT_EVAL_H
#include "eval/compare.h"
#include "eval/eval.h"

enum { SLM2_QUANT_EVAL_MAX = 32 };

struct slm2_quant_eval_args {
    const char *original;          /* path of the model */
    const struct slm2_model *model; /* the same, open; borrowed, with its tokenizer */
    const struct slm2_tok *tok;
    const char *const *files;      /* [n_files] paths of the others, 1 to SLM2_QUANT_EVAL_MAX */
    int n_files;
    const char *const *texts;      /* [n_texts] as in slm2_perplexity_files */
    int n_texts;
    struct slm2_ppl_opts text;     /* windows and limits; exact is that of the files */
    const char *const *tasks;      /* [n_tasks] as in slm2_eval; none: no scores */
    int n_tasks;
    const char *task_dir, *data_dir; /* as in slm2_eval */
    double limit;                  /* items of each task, below 1 a part of them; 0: all */
};
/* Tasks and their data are looked at first: what is missing is said before anything is computed.
 * {"original": {"file", "bytes", "bits_per_weight", "token_perplexity"}, "tokens", "documents", "n_ctx", "stride", "models": [{"file", "bytes", "bits_per_weight", "token_perplexity",
 *  "perplexity_ratio", "kl", "kl_stderr", "kl_median", "kl_99", "kl_max", "top1_agreement", ... (slm2_compare_json), "tasks": {TASK: {METRIC: {"value", "original",
 *  "difference", "stderr"}}}}]}; stderr is the original's.  bytes: of the file, of a folder its .safetensors; bits_per_weight: of the matrices. */
slm2_status slm2_quant_eval(const struct slm2_quant_eval_args *a, json_t **result, struct slm2_err *err);
void slm2_quant_eval_table(const json_t *result, struct slm2_buf *out);
#endif
