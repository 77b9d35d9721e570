/* cmd_init.c - `slm2 init`: a random checkpoint of any config, written shard by shard without holding the model in memory. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "base/dtype.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/use.h"
#include "model/model.h"
#include "train/pretrain.h"

struct opts {
    char *config, *out, *tokenizer;
    int dtype;
    int64_t seed;
    bool json, force;
};
static const char *const dtype_names[] = {"f32", "bf16", NULL};
static const struct slm2_opt table[] = {
    {.name = "config", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, config), .def = "!", .choices = slm2_conf_file, .help = "YAML file with the numbers of the model under `model:`; a pre-training file will do"},
    {.name = "out", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, out), .def = "!", .help = "folder to write", .alias = 'o'},
    {.name = "dtype", .type = SLM2_OPT_ENUM, .offset = offsetof(struct opts, dtype), .def = "bf16", .help = "type of the weights", .choices = dtype_names},
    {.name = "tokenizer", .type = SLM2_OPT_STR, .offset = offsetof(struct opts, tokenizer), .choices = slm2_conf_file, .help = "tokenizer to put beside the weights; default: the bundled Arcade100k where its ids fit"},
    SLM2_USE_FORCE(struct opts),
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "the result as one JSON object"},
    SLM2_CLI_SEED(struct opts),
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "init --config FILE.yml --out DIR [--dtype bf16|f32] [--seed N]",
    .about = "Writes a randomly initialised model as a Hugging Face folder: config.json, weights in shards, tokenizer.\n"
             "Each number depends on the seed, its parameter and its index alone; memory stays small whatever the size.",
    .examples = "slm2 init --config configs/stablelm-2-1_6b.yml --out models/random-1_6b\nslm2 init --config configs/nano.yml --out models/nano --dtype f32 --seed 7",
};

static slm2_status write_tokenizer(const struct opts *o, const struct slm2_config *cfg, bool *written, struct slm2_err *err)
{
    struct slm2_tok *tok = NULL;
    slm2_status st = slm2_tok_open(&tok, *o->tokenizer ? o->tokenizer : NULL, err);
    *written = false;
    if (!st && slm2_tok_n_vocab(tok) <= cfg->vocab_size) {
        st = slm2_tok_write_hf(tok, o->out, NULL, cfg->n_ctx, err);
        *written = !st;
    } else if (!st && *o->tokenizer)
        st = slm2_fail(err, SLM2_EUSAGE, "%s: %d ids, the model has %d", o->tokenizer, slm2_tok_n_vocab(tok), cfg->vocab_size);
    else if (!st) slm2_cli_note("no tokenizer written: the bundled one has %d ids, the model %d", slm2_tok_n_vocab(tok), cfg->vocab_size);
    slm2_tok_free(tok);
    return st;
}

static int run(const struct opts *o)
{
    struct slm2_err err;
    struct slm2_config cfg;
    struct slm2_params params = {0};
    bool with_tok = false;
    slm2_status st;
    double start = slm2_now_s();
    if ((st = slm2_pretrain_model(&cfg, o->config, &err)) != SLM2_OK) goto done;
    if ((st = slm2_use_may_write(o->out, o->force, &err)) != SLM2_OK) goto done;
    if ((st = slm2_params_list(&params, &cfg, &err)) != SLM2_OK) goto done;
    if ((st = slm2_dir_make(o->out, &err)) != SLM2_OK) goto done;
    if ((st = slm2_model_init_to_disk(&cfg, o->out, o->dtype ? SLM2_BF16 : SLM2_F32, (uint64_t)o->seed, &err)) != SLM2_OK) goto done;
    st = write_tokenizer(o, &cfg, &with_tok, &err);
done:;
    size_t n_elem = params.n_elem;
    slm2_params_list_free(&params);
    if (st) return slm2_cli_fail(&err);
    double took = slm2_now_s() - start;
    if (!o->json) {
        printf("%s: %.1f million parameters, %s, seed %lld, %s, %.1f s\n", o->out, (double)n_elem / 1e6, dtype_names[o->dtype], (long long)o->seed, with_tok ? "with tokenizer" : "no tokenizer", took);
        return 0;
    }
    json_t *j = json_object();
    json_object_set_new(j, "out", slm2_json_text(o->out, strlen(o->out)));
    json_object_set_new(j, "parameters", json_integer((json_int_t)n_elem));
    json_object_set_new(j, "dtype", json_string(dtype_names[o->dtype]));
    json_object_set_new(j, "seed", json_integer(o->seed));
    json_object_set_new(j, "tokenizer", json_boolean(with_tok));
    json_object_set_new(j, "wall_s", json_real(took));
    json_object_set_new(j, "peak_rss_bytes", json_integer((json_int_t)slm2_peak_rss_bytes()));
    return slm2_cli_json(j);
}

int slm2_cmd_init(int argc, char **argv)
{
    struct opts o;
    int rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = run(&o);
    slm2_conf_free(table, &o);
    return rc;
}
