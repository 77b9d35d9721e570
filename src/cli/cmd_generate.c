/* cmd_generate.c - `slm2 generate`: text that continues a prompt, as it is made. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/use.h"
#include "infer/generate.h"

struct opts {
    char *model, *adapter, *tokenizer, *prompt, *prompt_file, *ids, *kv;
    struct slm2_conf_list stop;
    int n_tokens, n_ctx, threads;
    struct slm2_use_sampling sampling;
    bool json, special, ignore_eos, echo, exact;
};
#define OPT(field, kind) .name = #field, .type = SLM2_OPT_##kind, .offset = offsetof(struct opts, field)
static const struct slm2_opt table[] = {
    {OPT(model, STR), .def = "!", .help = "folder, .safetensors or .gguf file", .alias = 'm'},
    SLM2_USE_ADAPTER(struct opts),
    {OPT(prompt, STR), .help = "text to continue", .alias = 'p'},
    {OPT(prompt_file, STR), .help = "file with the text to continue; - is standard input", .alias = 'f'},
    {OPT(ids, STR), .help = "token ids to continue, \"1 2 3\""},
    {OPT(special, BOOL), .help = "special tokens in the prompt's text count as such, and are shown in the answer"},
    {OPT(echo, BOOL), .help = "print the prompt too"},
    {OPT(n_tokens, INT), .lo = 0, .hi = 1 << 24, .def = "128", .help = "new tokens at most", .alias = 'n'},
    {OPT(stop, STRS), .help = "a string that ends the text; may be given several times"},
    {OPT(ignore_eos, BOOL), .help = "do not end at the end-of-text token"},
    SLM2_USE_SAMPLING(struct opts),
    SLM2_CLI_THREADS(struct opts),
    {OPT(n_ctx, INT), .lo = 0, .hi = 1 << 24, .def = "0", .help = "tokens of context; 0: all that the model has", .alias = 'c'},
    SLM2_USE_COMPUTE(struct opts, "false"),
    {OPT(tokenizer, STR), .choices = slm2_conf_file, .help = "file of the tokenizer, or bundled for ours; default: the adapter's, else the model's, else the bundled one"},
    {OPT(json, BOOL), .help = "one JSON object: prompt_ids, ids, text, logprobs, end, times"},
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "generate --model M --prompt TEXT [options]\ngenerate --model M --prompt-file FILE [options]\ngenerate --model M --ids \"1 2 3\" [options]",
    .about = "Continues a prompt. The text appears as it is made; the same seed gives the same text.\n"
             "An empty prompt starts from the end-of-text token. Without a tokenizer the new ids are printed.",
    .examples = "slm2 generate --model runs/nano/final --prompt \"Once upon a time\" -n 100 --seed 1\n"
                "slm2 generate --model model-q8_0.gguf --prompt-file letter.txt --greedy --stop \"User:\" --json",
};

static slm2_status read_prompt(const struct opts *o, struct slm2_buf *text, struct slm2_err *err)
{
    if (*o->prompt) slm2_buf_puts(text, o->prompt);
    else if (strcmp(o->prompt_file, "-") == 0) {
        char part[4096];
        for (size_t n; (n = fread(part, 1, sizeof part, stdin)) > 0;) slm2_buf_put(text, part, n);
        if (ferror(stdin)) return slm2_fail_errno(err, "reading standard input");
    } else if (*o->prompt_file) SLM2_TRY(slm2_file_read(text, o->prompt_file, (size_t)64 << 20, err));
    return slm2_buf_check(text, err);
}

static slm2_status encode_prompt(const struct opts *o, const struct slm2_use *u, struct slm2_buf *text, struct slm2_ids *ids, struct slm2_err *err)
{
    if (*o->ids) SLM2_TRY(slm2_use_parse_ids(o->ids, ids, err));
    else {
        SLM2_TRY(slm2_use_need_tok(u, o->model, err));
        SLM2_TRY(read_prompt(o, text, err));
        int flags = slm2_tok_flags_default(u->tok) | (o->special ? SLM2_TOK_SPECIAL : 0);
        SLM2_TRY(slm2_tok_encode(u->tok, text->n ? text->v : "", text->n, flags, ids, err));
    }
    return ids->n ? SLM2_OK : slm2_ids_push(ids, u->model->cfg.bos_id, err);
}

static bool put_text(void *user, const char *text, size_t n)
{
    (void)user;
    return fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
}

static int put_json(const struct opts *o, const struct slm2_use *u, const struct slm2_ids *ids, size_t n_prompt, const struct slm2_gen_result *r, const float *logprobs)
{
    json_t *lp = json_array();
    for (int i = 0; i < r->n_new; i++) json_array_append_new(lp, json_real((double)logprobs[i]));
    json_t *j = json_object();
    json_object_set_new(j, "model", slm2_json_text(o->model, strlen(o->model)));
    json_object_set_new(j, "prompt_ids", slm2_use_ids_json(ids->v, n_prompt));
    json_object_set_new(j, "ids", slm2_use_ids_json(ids->v + n_prompt, ids->n - n_prompt));
    json_object_set_new(j, "text", u->tok ? slm2_json_text(r->text.v, r->text.n) : json_null());
    json_object_set_new(j, "logprobs", lp);
    json_object_set_new(j, "end", json_string(slm2_gen_end_name(r->end)));
    json_object_set_new(j, "load_s", json_real(u->load_s));
    json_object_set_new(j, "prompt_s", json_real(r->prompt_s));
    json_object_set_new(j, "decode_s", json_real(r->decode_s));
    return slm2_cli_json(j);
}

static int run(const struct opts *o)
{
    struct slm2_err err;
    struct slm2_use u = {0};
    struct slm2_ids ids = {0};
    struct slm2_buf prompt = {0};
    struct slm2_sampler *sampler = NULL;
    struct slm2_gen_result r = {0};
    float *logprobs = NULL;
    slm2_status st;
    int rc = 0;
    if (!!*o->prompt + !!*o->prompt_file + !!*o->ids > 1) return slm2_cli_usage("generate: give one of --prompt, --prompt-file and --ids");
    if ((st = slm2_use_open(&u, &(struct slm2_use_opts){.model = o->model, .adapter = o->adapter, .tokenizer = o->tokenizer, .kv = o->kv, .exact = o->exact, .n_ctx = o->n_ctx, .threads = o->threads}, &err)) != SLM2_OK) goto done;
    if ((st = encode_prompt(o, &u, &prompt, &ids, &err)) != SLM2_OK) goto done;

    if ((st = slm2_use_sampler(&u, &o->sampling, &sampler, &err)) != SLM2_OK) goto done;
    int n_max = slm2_min_int(o->n_tokens, slm2_engine_n_ctx(u.engine) + 1);
    logprobs = malloc(((size_t)n_max + 1) * sizeof *logprobs);
    if (!logprobs) {
        st = slm2_fail(&err, SLM2_ENOMEM, "no memory for %d tokens", n_max);
        goto done;
    }
    const int32_t stop_ids[] = {u.model->cfg.eos_id};
    struct slm2_gen_opts g = {.n_max = n_max, .stop = o->stop.items, .n_stop = o->stop.n, .stop_ids = stop_ids, .n_stop_ids = !o->ignore_eos,
                              .keep_special = o->special, .interrupt = slm2_cli_catch_stop(), .on_text = o->json ? NULL : put_text,
                              .logprobs = o->json ? logprobs : NULL};
    size_t n_prompt = ids.n;
    if (o->echo && !o->json && prompt.n) fwrite(prompt.v, 1, prompt.n, stdout);
    st = slm2_generate(u.engine, 0, sampler, u.tok, &g, &ids, &r, &err);
    if (st) goto done;
    if (o->json) rc = put_json(o, &u, &ids, n_prompt, &r, logprobs);
    else {
        for (size_t i = n_prompt; !u.tok && i < ids.n; i++) printf(i > n_prompt ? " %d" : "%d", ids.v[i]);
        putchar('\n');
        if (isatty(STDERR_FILENO) && r.decode_s > 0.0)
            slm2_cli_note("%d + %d tokens, prompt %.2f s, then %.1f tokens/s, ended by %s", r.n_prompt, r.n_new, r.prompt_s, (r.n_new - 1) / r.decode_s, slm2_gen_end_name(r.end));
    }
done:
    free(logprobs);
    slm2_buf_free(&r.text);
    slm2_buf_free(&prompt);
    slm2_sampler_free(sampler);
    slm2_ids_free(&ids);
    slm2_use_free(&u);
    return st ? slm2_cli_fail(&err) : rc;
}

int slm2_cmd_generate(int argc, char **argv)
{
    struct opts o;
    int rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = run(&o);
    slm2_conf_free(table, &o);
    return rc;
}
