/* ckpt.h - checkpoints that are complete or not there.
 *
 * RUN/step-00000100/ is a Hugging Face model folder (config.json, model.safetensors, tokenizer files) with
 *     optimizer/exp_avg.safetensors, exp_avg_sq.safetensors   state of the optimizer, Hugging Face names
 *     optimizer/master.safetensors                            fp32 weights, when model.safetensors is BF16
 *     state.json                                              step, seed, and what the stage adds: rows consumed, schedule, settings
 *     MANIFEST.json                                           name, size and SHA-256 of every other file; written last
 * Of a run with an adapter (model/lora.h) it is a PEFT folder instead, and holds nothing of the base model: adapter_config.json,
 * adapter_model.safetensors (fp32), tokenizer files, the optimizer's state under PEFT's names.
 * It is written as step-00000100.tmp, every file fsynced, then renamed and RUN fsynced.  Whatever moment the power goes, the
 * newest folder whose manifest holds is found; damaged ones are passed over with a warning. */
#ifndef SLM2_TRAIN_CKPT_H
#define SLM2_TRAIN_CKPT_H
#include "base/json.h"
#include "train/step.h"

enum { SLM2_PATH_MAX = 4096 };

/* Saves the trainer at step t->n_update; all ranks of the trainer call, rank 0 writes, whole tensors whatever the number of ranks.  tok NULL: no tokenizer files.  state: object with what the stage wants back; "step" and
 * "seed" are added; borrowed.  Then removes all but the `keep` newest checkpoints (0: keep all) and that of step `pin` (-1: none).  path [SLM2_PATH_MAX], may be NULL,
 * receives the folder on rank 0. */
slm2_status slm2_ckpt_save(const char *run_dir, struct slm2_trainer *t, const struct slm2_tok *tok, const json_t *state, int keep, int64_t pin, char *path, struct slm2_err *err);

/* path [SLM2_PATH_MAX] receives the newest complete checkpoint, "" when there is none.  Hashes are verified. */
slm2_status slm2_ckpt_find(const char *run_dir, char *path, struct slm2_err *err);
/* The same without looking inside: complete or damaged, the highest step. */
slm2_status slm2_ckpt_newest(const char *run_dir, char *path, struct slm2_err *err);
/* The newest complete one whose step is a multiple of `every`, "" when there is none. */
slm2_status slm2_ckpt_find_regular(const char *run_dir, int64_t every, char *path, struct slm2_err *err);
/* Removes the checkpoints above `step`, complete or damaged, newest first; durable when it returns. */
slm2_status slm2_ckpt_drop_after(const char *run_dir, int64_t step, struct slm2_err *err);
/* Sizes of all files of the manifest, with hashes their bytes too. */
slm2_status slm2_ckpt_verify(const char *ckpt_dir, bool hashes, struct slm2_err *err);
/* state.json of a checkpoint; the caller's to json_decref. */
slm2_status slm2_ckpt_state(const char *ckpt_dir, json_t **state, struct slm2_err *err);
/* Weights, optimizer state and n_update into a trainer of the same config, precision and optimizer; sizes are verified (find has verified the hashes).
 * Each rank reads all and keeps its part: the number of ranks need not be that of the run that saved. */
slm2_status slm2_ckpt_load(const char *ckpt_dir, struct slm2_trainer *t, struct slm2_err *err);

/* The folder as a finished model: weights (BF16 in mixed precision, else F32; an adapter in PEFT's form) and tokenizer files, no optimizer.  Written aside
 * and renamed. */
slm2_status slm2_ckpt_export(const char *dir, struct slm2_trainer *t, const struct slm2_tok *tok, const char *chat_template, struct slm2_err *err);
#endif
