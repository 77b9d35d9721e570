/* chat.h - conversations to text, token ids and loss mask, by the two templates that Stable LM 2 checkpoints use.
 *
 * zephyr (stablelm-2-zephyr-1_6b):  <|user|>\n CONTENT <|endoftext|>\n ; roles user, system, assistant, others are left out.
 * ChatML (stablelm-2-1_6b-chat):    <|im_start|>ROLE\n CONTENT <|im_end|>\n ; any role.
 * Special tokens come only from the template: "<|endoftext|>" in a message is ordinary text. */
#ifndef SLM2_TOK_CHAT_H
#define SLM2_TOK_CHAT_H
#include <jansson.h>

#include "base/buf.h"

enum slm2_chat_template { SLM2_CHAT_ZEPHYR, SLM2_CHAT_CHATML };
extern const char *const slm2_chat_names[]; /* "zephyr", "chatml", NULL: choices of a setting */

struct slm2_msg {
    const char *role;    /* borrowed, NUL-terminated */
    const char *content; /* borrowed; n bytes, may hold NUL */
    size_t n;
};
struct slm2_msgs { /* a conversation read from JSON */
    struct slm2_msg *v;
    int n;
    json_t *owner; /* the strings live here */
};
/* j: {"messages": [{"role": ..., "content": ...}, ...], ...} or the array itself; j is retained, not taken. */
slm2_status slm2_msgs_from_json(struct slm2_msgs *m, json_t *j, const char *what, struct slm2_err *err);
void slm2_msgs_free(struct slm2_msgs *m);

struct slm2_chat_opts {
    enum slm2_chat_template tmpl;
    bool add_generation_prompt;
    bool no_nfc;                /* leave the text as it is */
    int32_t assistant_token_id; /* >= 0: this id stands in place of "<|assistant|>" (zephyr) or of the role's name (ChatML) in the
                                 * assistant's turns; never in the generation prompt */
    const uint8_t *learn;       /* one byte a message: its content and end of turn are in the mask; NULL: the assistant's are */
};
struct slm2_chat_opts slm2_chat_opts_default(enum slm2_chat_template tmpl); /* assistant_token_id -1 */

/* Appends the text, special tokens spelled out. */
void slm2_chat_render(enum slm2_chat_template tmpl, const struct slm2_msg *msgs, int n, bool add_generation_prompt, struct slm2_buf *out);

/* Appends ids and, unless mask is NULL, one byte an id: 1 on the content of the assistant (or of `learn`) and the token that ends its turn, else 0.
 * Without special strings in the content the ids are those of the rendered text encoded with SLM2_TOK_SPECIAL.  A token that
 * reaches from the template into the content (a content that begins with a line break) is not in the mask: at inference the
 * prompt would hold it.  SLM2_EFORMAT when the vocabulary lacks the template's special tokens. */
struct slm2_tok;
slm2_status slm2_chat_encode(const struct slm2_tok *tok, const struct slm2_chat_opts *o, const struct slm2_msg *msgs, int n, struct slm2_ids *ids,
                             struct slm2_buf *mask, struct slm2_err *err);
int32_t slm2_chat_stop_id(const struct slm2_tok *tok, enum slm2_chat_template tmpl); /* ends a turn: <|endoftext|>, <|im_end|>; -1: missing */

/* The template that a Jinja text is; false (and zephyr) when it is neither. */
bool slm2_chat_detect_text(const char *jinja, enum slm2_chat_template *tmpl);
/* From the folder of a checkpoint or an adapter: chat_template.jinja, else tokenizer_config.json; false (and zephyr) when neither says it. */
bool slm2_chat_detect(const char *dir, enum slm2_chat_template *tmpl);
const char *slm2_chat_jinja(enum slm2_chat_template tmpl); /* for tokenizer_config.json */
#endif
