/* chat.c - the two chat templates: one walk over the messages serves the rendered text and the ids with their loss mask. */
#include "tok/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "tok/tok.h"

const char *const slm2_chat_names[] = {"zephyr", "chatml", NULL};

const char *slm2_chat_jinja(enum slm2_chat_template tmpl)
{
    if (tmpl == SLM2_CHAT_CHATML)
        return "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    return "{% for message in messages %}\n"
           "{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + eos_token }}\n"
           "{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n"
           "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n"
           "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";
}

struct slm2_chat_opts slm2_chat_opts_default(enum slm2_chat_template tmpl)
{
    return (struct slm2_chat_opts){.tmpl = tmpl, .assistant_token_id = -1};
}

/* ---- messages from JSON ------------------------------------------------------------------------------------------- */
slm2_status slm2_msgs_from_json(struct slm2_msgs *m, json_t *j, const char *what, struct slm2_err *err)
{
    const json_t *list = json_is_array(j) ? j : json_object_get(j, "messages");
    *m = (struct slm2_msgs){0};
    if (!json_is_array(list) || json_array_size(list) > 1000000)
        return slm2_fail(err, SLM2_EFORMAT, "%s: messages: want an array of {\"role\", \"content\"}", what);
    size_t n = json_array_size(list);
    struct slm2_msg *v = malloc((n + 1) * sizeof *v);
    if (!v) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %zu messages", what, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i), *role = json_object_get(o, "role"), *content = json_object_get(o, "content");
        if (!json_is_string(role) || !json_is_string(content) || strlen(json_string_value(role)) != json_string_length(role)) {
            free(v);
            return slm2_fail(err, SLM2_EFORMAT, "%s: messages[%zu]: want strings `role` and `content`", what, i);
        }
        v[i] = (struct slm2_msg){json_string_value(role), json_string_value(content), json_string_length(content)};
    }
    *m = (struct slm2_msgs){v, (int)n, json_incref(j)};
    return SLM2_OK;
}

void slm2_msgs_free(struct slm2_msgs *m)
{
    free(m->v);
    json_decref(m->owner);
    *m = (struct slm2_msgs){0};
}

/* ---- the walk ----------------------------------------------------------------------------------------------------- */
/* What a template is made of.  A turn is open + role + "\n" + content + close + "\n"; open, close and an id in place of the role
 * are special; all between two specials is encoded as one ordinary text. */
struct sink {
    struct slm2_buf *text; /* rendering: everything goes here; encoding: the ordinary text since the last special token */
    bool encode;
    const struct slm2_tok *tok;
    int flags;
    struct slm2_ids *ids;
    struct slm2_buf *mask;      /* may be NULL */
    size_t learn_from;          /* offset in text from where tokens are in the mask, SIZE_MAX: none are */
    slm2_status st;
    struct slm2_err *err;
};

static void flush(struct sink *k)
{
    size_t first = k->ids->n, at = 0, n;
    if (k->st != SLM2_OK || (k->st = slm2_buf_check(k->text, k->err)) != SLM2_OK) return;
    if (k->text->n) k->st = slm2_tok_encode(k->tok, k->text->v, k->text->n, k->flags, k->ids, k->err);
    /* what stands before the content is ASCII and ends in a line break, so that NFC moves nothing there */
    for (size_t i = first; k->mask && k->st == SLM2_OK && i < k->ids->n; i++) {
        slm2_buf_putc(k->mask, at >= k->learn_from);
        slm2_tok_bytes(k->tok, k->ids->v[i], &n);
        at += n;
    }
    slm2_buf_clear(k->text);
    k->learn_from = SIZE_MAX;
}

static void put_special(struct sink *k, const char *s, int32_t id, bool learn)
{
    if (!k->encode) {
        slm2_buf_puts(k->text, s);
        return;
    }
    flush(k);
    if (k->st != SLM2_OK) return;
    if (id < 0) id = slm2_tok_special_id(k->tok, s);
    if (id < 0) {
        k->st = slm2_fail(k->err, SLM2_EFORMAT, "chat template: the vocabulary has no special token %s; choose the other template", s);
        return;
    }
    k->st = slm2_ids_push(k->ids, id, k->err);
    if (k->mask && k->st == SLM2_OK) slm2_buf_putc(k->mask, learn);
}

static void put_turn(struct sink *k, const struct slm2_chat_opts *o, const struct slm2_msg *m, bool learn)
{
    bool chatml = o->tmpl == SLM2_CHAT_CHATML, assistant = strcmp(m->role, "assistant") == 0;
    if (!chatml && !assistant && strcmp(m->role, "user") != 0 && strcmp(m->role, "system") != 0) return;
    if (chatml) put_special(k, "<|im_start|>", -1, false);
    if (assistant && k->encode && o->assistant_token_id >= 0)
        put_special(k, "", o->assistant_token_id, false);
    else if (chatml)
        slm2_buf_puts(k->text, m->role);
    else
        slm2_buf_printf(k->text, "<|%s|>", m->role);
    slm2_buf_putc(k->text, '\n');
    if (k->encode && learn) k->learn_from = k->text->n;
    slm2_buf_put(k->text, m->content, m->n);
    put_special(k, chatml ? "<|im_end|>" : "<|endoftext|>", -1, learn);
    slm2_buf_putc(k->text, '\n');
}

static void walk(struct sink *k, const struct slm2_chat_opts *o, const struct slm2_msg *msgs, int n)
{
    for (int i = 0; i < n; i++) put_turn(k, o, &msgs[i], o->learn ? o->learn[i] != 0 : strcmp(msgs[i].role, "assistant") == 0);
    if (!o->add_generation_prompt) return;
    if (o->tmpl == SLM2_CHAT_CHATML) {
        put_special(k, "<|im_start|>", -1, false);
        slm2_buf_puts(k->text, "assistant\n");
    } else if (n > 0) { /* the template asks inside its loop: no messages, no prompt */
        slm2_buf_puts(k->text, "<|assistant|>\n");
    }
}

void slm2_chat_render(enum slm2_chat_template tmpl, const struct slm2_msg *msgs, int n, bool add_generation_prompt, struct slm2_buf *out)
{
    struct slm2_chat_opts o = slm2_chat_opts_default(tmpl);
    o.add_generation_prompt = add_generation_prompt;
    walk(&(struct sink){.text = out}, &o, msgs, n);
}

slm2_status slm2_chat_encode(const struct slm2_tok *tok, const struct slm2_chat_opts *o, const struct slm2_msg *msgs, int n, struct slm2_ids *ids,
                             struct slm2_buf *mask, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    size_t n_ids = ids->n, n_mask = mask ? mask->n : 0;
    struct sink k = {.text = &text, .encode = true, .tok = tok, .flags = o->no_nfc ? 0 : slm2_tok_flags_default(tok), .ids = ids, .mask = mask, .learn_from = SIZE_MAX, .err = err};
    size_t len;
    if (o->assistant_token_id >= 0 && !slm2_tok_bytes(tok, o->assistant_token_id, &len))
        return slm2_fail(err, SLM2_EUSAGE, "chat template: assistant_token_id %d is no token of the vocabulary", o->assistant_token_id);
    walk(&k, o, msgs, n);
    flush(&k);
    if (k.st == SLM2_OK && mask) k.st = slm2_buf_check(mask, err);
    if (k.st != SLM2_OK) {
        ids->n = n_ids;
        if (mask) mask->n = n_mask;
    }
    slm2_buf_free(&text);
    return k.st;
}

int32_t slm2_chat_stop_id(const struct slm2_tok *tok, enum slm2_chat_template tmpl)
{
    return slm2_tok_special_id(tok, tmpl == SLM2_CHAT_CHATML ? "<|im_end|>" : "<|endoftext|>");
}

/* ---- detection ---------------------------------------------------------------------------------------------------- */
bool slm2_chat_detect_text(const char *jinja, enum slm2_chat_template *tmpl)
{
    bool chatml = strstr(jinja, "<|im_start|>"), zephyr = strstr(jinja, "<|user|>");
    *tmpl = chatml ? SLM2_CHAT_CHATML : SLM2_CHAT_ZEPHYR;
    return chatml || zephyr;
}


bool slm2_chat_detect(const char *dir, enum slm2_chat_template *tmpl)
{
    char path[4096];
    struct slm2_buf b = {0};
    json_t *j = NULL;
    bool found = false;
    *tmpl = SLM2_CHAT_ZEPHYR;
    if (slm2_path_join(path, sizeof path, dir, "chat_template.jinja", NULL) == SLM2_OK && slm2_path_exists(path) &&
        slm2_file_read(&b, path, 1 << 20, NULL) == SLM2_OK && b.v)
        found = slm2_chat_detect_text(b.v, tmpl);
    if (!found && slm2_path_join(path, sizeof path, dir, "tokenizer_config.json", NULL) == SLM2_OK && slm2_path_exists(path) &&
        slm2_json_read(&j, path, 64 << 20, NULL) == SLM2_OK) {
        const json_t *t = json_object_get(j, "chat_template");
        if (json_is_array(t)) t = json_object_get(json_array_get(t, 0), "template"); /* several by name: the first is the default */
        if (json_is_string(t)) found = slm2_chat_detect_text(json_string_value(t), tmpl);
    }
    json_decref(j);
    slm2_buf_free(&b);
    return found;
}
