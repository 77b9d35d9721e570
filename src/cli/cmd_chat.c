/* cmd_chat.c - `slm2 chat`: a conversation in the terminal.  The whole conversation goes through the model's template at each turn; what
 * the cache already holds of it is kept, so only new text is computed.  When the context is full the oldest turns are left out. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/line.h"
#include "cli/use.h"
#include "infer/generate.h"
#include "tok/chat.h"

struct opts {
    char *model, *adapter, *tokenizer, *system, *kv;
    struct slm2_conf_list stop;
    int tmpl, n_tokens, n_ctx, threads;
    bool exact;
    struct slm2_use_sampling sampling;
};
#define OPT(field, kind) .type = SLM2_OPT_##kind, .offset = offsetof(struct opts, field)
static const struct slm2_opt table[] = {
    {.name = "model", OPT(model, STR), .def = "!", .help = "folder, .safetensors or .gguf file", .alias = 'm'},
    SLM2_USE_ADAPTER(struct opts),
    {.name = "system", OPT(system, STR), .help = "what the model is told before the conversation"},
    {.name = "template", OPT(tmpl, ENUM), .def = "auto", .help = "form of the conversation; auto: what the adapter says, else the checkpoint, else zephyr", .choices = slm2_use_templates},
    {.name = "n_tokens", OPT(n_tokens, INT), .lo = 1, .hi = 1 << 24, .def = "512", .help = "tokens of an answer at most", .alias = 'n'},
    {.name = "stop", OPT(stop, STRS), .help = "a string that ends an answer; may be given several times"},
    SLM2_USE_SAMPLING(struct opts),
    SLM2_CLI_THREADS(struct opts),
    {.name = "n_ctx", OPT(n_ctx, INT), .lo = 0, .hi = 1 << 24, .def = "0", .help = "tokens of context; 0: all that the model has", .alias = 'c'},
    SLM2_USE_COMPUTE(struct opts, "false"),
    {.name = "tokenizer", OPT(tokenizer, STR), .choices = slm2_conf_file, .help = "file of the tokenizer, or bundled for ours; default: the adapter's, else the model's, else the bundled one"},
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "chat --model M [--system TEXT] [options]",
    .about = "Talks with a model. Ctrl-C ends an answer, Ctrl-D or /quit the conversation; /help lists the commands.\n"
             "Without a terminal every line of standard input is a message and every answer is printed behind it.",
    .examples = "slm2 chat --model runs/demo/dpo/final --temperature 0.6\necho 'Who are you?' | slm2 chat --model model-q8_0.gguf --seed 1",
};
static const char help_text[] = "/reset         forget the conversation\n"
                                "/system TEXT   set what the model is told first, and start again\n"
                                "/save FILE     write the conversation as JSON\n"
                                "/help          this text\n"
                                "/quit          leave (or Ctrl-D); Ctrl-C stops an answer";

/* ---- the conversation --------------------------------------------------------------------------------------------- */
struct chat {
    const struct opts *o;
    struct slm2_use u;
    struct slm2_sampler *sampler;
    struct slm2_line *line;
    const volatile sig_atomic_t *stop;
    enum slm2_chat_template tmpl;
    json_t *messages;         /* array of {"role", "content"} */
    struct slm2_ids cached;   /* what the engine's sequence holds, and perhaps one token more */
    const char **stops;       /* stop strings: the user's and the template's; n_stop of them, all borrowed */
    int n_stop;
    int32_t stop_ids[2];
    bool begun;               /* of the answer being printed: something but white space was seen */
};

static slm2_status add_message(struct chat *c, const char *role, const char *text, size_t n, struct slm2_err *err)
{
    json_t *m = json_object();
    if (json_object_set_new(m, "role", json_string(role)) || json_object_set_new(m, "content", slm2_json_text(text, n)) || json_array_append(c->messages, m)) {
        json_decref(m);
        return slm2_fail(err, SLM2_ENOMEM, "no memory for the message");
    }
    json_decref(m);
    return SLM2_OK;
}

static slm2_status reset(struct chat *c, const char *system, struct slm2_err *err)
{
    if (system && *system) {
        json_array_clear(c->messages);
        return add_message(c, "system", system, strlen(system), err);
    }
    const json_t *first = json_array_get(c->messages, 0);
    bool keep = !system && first && strcmp(json_string_value(json_object_get(first, "role")), "system") == 0;
    while (json_array_size(c->messages) > (keep ? 1U : 0U)) json_array_remove(c->messages, json_array_size(c->messages) - 1);
    return SLM2_OK;
}

/* ids = the conversation by the template, with the opening of an answer. */
static slm2_status encode(struct chat *c, struct slm2_ids *ids, struct slm2_err *err)
{
    struct slm2_msgs msgs;
    struct slm2_chat_opts co = slm2_chat_opts_default(c->tmpl);
    co.add_generation_prompt = true;
    ids->n = 0;
    SLM2_TRY(slm2_msgs_from_json(&msgs, c->messages, "conversation", err));
    slm2_status st = slm2_chat_encode(c->u.tok, &co, msgs.v, msgs.n, ids, NULL, err);
    slm2_msgs_free(&msgs);
    return st;
}

/* The same, shortened by the oldest turns until an answer of some length fits. */
static slm2_status encode_fitting(struct chat *c, struct slm2_ids *ids, struct slm2_err *err)
{
    size_t n_ctx = (size_t)slm2_engine_n_ctx(c->u.engine), room = slm2_min_size((size_t)c->o->n_tokens, n_ctx / 4);
    int n_dropped = 0;
    SLM2_TRY(encode(c, ids, err));
    while (ids->n + room > n_ctx) {
        size_t n = json_array_size(c->messages);
        const json_t *first = json_array_get(c->messages, 0);
        size_t oldest = strcmp(json_string_value(json_object_get(first, "role")), "system") == 0;
        if (oldest + 1 >= n) break; /* only the new message is left */
        json_array_remove(c->messages, oldest);
        n_dropped++;
        SLM2_TRY(encode(c, ids, err));
    }
    if (ids->n >= n_ctx) return slm2_fail(err, SLM2_ELIMIT, "the message has %zu tokens, the context holds %zu", ids->n, n_ctx);
    if (n_dropped) slm2_cli_note("(the context is full: the %d oldest messages are forgotten)", n_dropped);
    return SLM2_OK;
}

/* ---- an answer ---------------------------------------------------------------------------------------------------- */
/* Prints text as it comes, without the line break that the template puts before it. */
static bool put_text(void *user, const char *text, size_t n)
{
    struct chat *c = user;
    while (!c->begun && n > 0 && strchr(" \t\r\n", *text)) {
        text++;
        n--;
    }
    c->begun = c->begun || n > 0;
    return n == 0 || (fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0);
}

static slm2_status answer(struct chat *c, struct slm2_err *err)
{
    struct slm2_ids ids = {0};
    struct slm2_gen_result r = {0};
    slm2_status st = encode_fitting(c, &ids, err);
    if (st) goto done;
    size_t same = 0, held = (size_t)slm2_engine_n_past(c->u.engine, 0);
    while (same < held && same < ids.n - 1 && c->cached.v[same] == ids.v[same]) same++;
    slm2_engine_rewind(c->u.engine, 0, (int)same);
    c->begun = false;
    struct slm2_gen_opts g = {.n_max = c->o->n_tokens, .stop = c->stops, .n_stop = c->n_stop, .stop_ids = c->stop_ids, .n_stop_ids = 2,
                              .interrupt = c->stop, .on_text = put_text, .user = c};
    st = slm2_generate(c->u.engine, 0, c->sampler, c->u.tok, &g, &ids, &r, err);
    printf("\n");
    slm2_ids_free(&c->cached);
    c->cached = ids;
    ids = (struct slm2_ids){0};
    if (st) goto done;
    const char *text = r.text.n ? r.text.v : "";
    size_t n = r.text.n;
    while (n > 0 && strchr(" \t\r\n", *text)) {
        text++;
        n--;
    }
    while (n > 0 && strchr(" \t\r\n", text[n - 1])) n--;
    st = add_message(c, "assistant", text, n, err);
    if (slm2_line_is_terminal(c->line)) {
        double rate = r.n_new > 1 && r.decode_s > 0.0 ? (r.n_new - 1) / r.decode_s : 0.0;
        slm2_cli_note("\033[2m[%d tokens, %.1f/s, context %d of %d%s]\033[0m", r.n_new, rate, slm2_engine_n_past(c->u.engine, 0), slm2_engine_n_ctx(c->u.engine),
                      r.end == SLM2_GEN_INTERRUPT ? ", stopped" : r.end == SLM2_GEN_LENGTH ? ", cut at the length limit" : "");
    }
done:
    slm2_ids_free(&ids);
    slm2_buf_free(&r.text);
    return st;
}

/* ---- commands ----------------------------------------------------------------------------------------------------- */
static slm2_status save(struct chat *c, const char *path, struct slm2_err *err)
{
    if (!*path) return slm2_fail(err, SLM2_EUSAGE, "/save wants a file name");
    json_t *j = json_object();
    json_object_set(j, "messages", c->messages);
    slm2_status st = slm2_json_write(j, path, err);
    json_decref(j);
    if (!st) slm2_cli_note("(%zu messages saved to %s)", json_array_size(c->messages), path);
    return st;
}

/* true: the command is followed by the end of the line or a space; *rest is its argument. */
static bool is_command(const char *line, const char *name, const char **rest)
{
    size_t n = strlen(name);
    if (strncmp(line, name, n) != 0 || (line[n] && line[n] != ' ')) return false;
    *rest = line + n + strspn(line + n, " ");
    return true;
}

/* A line that begins with '/'.  *quit ends the conversation. */
static slm2_status command(struct chat *c, const char *line, bool *quit, struct slm2_err *err)
{
    const char *rest;
    if (is_command(line, "/quit", &rest) || is_command(line, "/exit", &rest)) *quit = true;
    else if (is_command(line, "/help", &rest)) slm2_cli_note("%s", help_text);
    else if (is_command(line, "/save", &rest)) return save(c, rest, err);
    else if (is_command(line, "/reset", &rest)) {
        SLM2_TRY(reset(c, NULL, err));
        slm2_cli_note("(the conversation is forgotten)");
    } else if (is_command(line, "/system", &rest)) {
        SLM2_TRY(reset(c, rest, err));
        slm2_cli_note(*rest ? "(a new conversation, told: %s)" : "(a new conversation, told nothing%s)", rest);
    } else return slm2_fail(err, SLM2_EUSAGE, "unknown command %.40s; /help lists all", line);
    return SLM2_OK;
}

/* Until the input ends.  A command or message that fails is reported and the conversation goes on. */
static int converse(struct chat *c)
{
    struct slm2_buf line = {0};
    struct slm2_err err;
    int rc = 0;
    for (bool quit = false; !quit;) {
        enum slm2_line_got got = slm2_line_read(c->line, &line);
        if (got == SLM2_LINE_END) break;
        if (got == SLM2_LINE_INTERRUPT) {
            bool leave = *c->stop == SIGTERM || !slm2_line_is_terminal(c->line);
            slm2_cli_clear_stop();
            if (leave) break;
            slm2_cli_note("(/quit or Ctrl-D leaves)");
            continue;
        }
        if (strspn(line.v, " \t") == line.n) continue;
        slm2_status st;
        if (line.v[0] == '/') st = command(c, line.v, &quit, &err);
        else {
            st = add_message(c, "user", line.v, line.n, &err);
            if (!st && (st = answer(c, &err)) != SLM2_OK) json_array_remove(c->messages, json_array_size(c->messages) - 1); /* as if not said */
            quit = *c->stop == SIGTERM || (*c->stop && !slm2_line_is_terminal(c->line));
            slm2_cli_clear_stop();
        }
        if (st) {
            int failed = slm2_cli_fail(&err);
            if (!slm2_line_is_terminal(c->line)) rc = failed;
        }
        if (ferror(stdout)) break;
    }
    slm2_buf_free(&line);
    return rc;
}

/* ---- beginning and end -------------------------------------------------------------------------------------------- */
static slm2_status set_stops(struct chat *c, struct slm2_err *err)
{
    /* what begins another turn ends this one: text of the template that is no token of the vocabulary */
    static const char *const markers[] = {"<|user|>", "<|system|>", "<|im_start|>"};
    c->stop_ids[0] = c->u.model->cfg.eos_id;
    c->stop_ids[1] = slm2_chat_stop_id(c->u.tok, c->tmpl);
    c->stops = malloc(((size_t)c->o->stop.n + 3) * sizeof *c->stops);
    if (!c->stops) return slm2_fail(err, SLM2_ENOMEM, "no memory for the stop strings");
    for (int i = 0; i < c->o->stop.n; i++) c->stops[c->n_stop++] = ((char **)c->o->stop.items)[i];
    for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++) c->stops[c->n_stop++] = markers[i];
    return SLM2_OK;
}

static int run(const struct opts *o)
{
    struct slm2_err err;
    struct chat c = {.o = o, .messages = json_array(), .stop = slm2_cli_catch_stop()};
    int rc = 0;
    slm2_status st = slm2_use_open(&c.u, &(struct slm2_use_opts){.model = o->model, .adapter = o->adapter, .tokenizer = o->tokenizer, .kv = o->kv, .exact = o->exact, .n_ctx = o->n_ctx, .threads = o->threads}, &err);
    if (!st) st = slm2_use_need_tok(&c.u, o->model, &err);
    if (!st) st = slm2_use_sampler(&c.u, &o->sampling, &c.sampler, &err);
    if (st) goto done;
    c.tmpl = slm2_use_template(o->tmpl, o->model, o->adapter, c.u.model);
    if ((st = set_stops(&c, &err)) != SLM2_OK) goto done;
    if ((st = reset(&c, o->system, &err)) != SLM2_OK) goto done;
    if ((st = slm2_line_open(&c.line, "> ", "chat_history", c.stop, &err)) != SLM2_OK) goto done;
    if (slm2_line_is_terminal(c.line)) slm2_cli_note("%s, template %s, context %d. /help lists the commands.", o->model, slm2_chat_names[c.tmpl], slm2_engine_n_ctx(c.u.engine));
    rc = converse(&c);
done:
    slm2_line_free(c.line);
    free(c.stops);
    json_decref(c.messages);
    slm2_ids_free(&c.cached);
    slm2_sampler_free(c.sampler);
    slm2_use_free(&c.u);
    return st ? slm2_cli_fail(&err) : rc;
}

int slm2_cmd_chat(int argc, char **argv)
{
    struct opts o;
    int rc = slm2_cli_parse(&doc, table, &o, argc, argv, NULL, 0, NULL);
    if (rc < 0) rc = run(&o);
    slm2_conf_free(table, &o);
    return rc;
}
