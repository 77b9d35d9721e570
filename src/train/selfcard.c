/* selfcard.c - card, few-shot prompt and probes from YAML, with the card's facts filled in. */
#include "train/selfcard.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "tok/tok.h"

/* ---- the files -------------------------------------------------------------------------------------------------------- */
#define STR(T, f, def_, help_) {.name = #f, .type = SLM2_OPT_STR, .offset = offsetof(struct T, f), .def = def_, .help = help_}
#define STRS(T, f, help_) {.name = #f, .type = SLM2_OPT_STRS, .offset = offsetof(struct T, f), .help = help_}
#define LIST(T, f, table, item) {.name = #f, .type = SLM2_OPT_LIST, .offset = offsetof(struct T, f), .sub = table, .sub_size = sizeof(struct item), .help = ""}
static const struct slm2_opt card_table[] = {
    STR(slm2_card, name, "!", "the model's name"), STR(slm2_card, maker, "!", "who made it"), STR(slm2_card, kind, "", "what it is"), STR(slm2_card, released, "", "when"),
    STRS(slm2_card, languages, ""), STRS(slm2_card, abilities, ""), STRS(slm2_card, limits, ""), STRS(slm2_card, others, "names that it must not claim"), {0},
};
static const struct slm2_opt turn_table[] = {STR(slm2_self_turn, ask, "!", "what the user says"), STR(slm2_self_turn, say, "!", "what the model says"), {0}};
static const struct slm2_opt topic_table[] = {STR(slm2_self_topic, fact, "!", "name of the fact"), STRS(slm2_self_topic, ask, "phrases"), STRS(slm2_self_topic, want, "texts"), {0}};
static const struct slm2_opt probe_table[] = {STR(slm2_self_probe, ask, "!", "the question"), STR(slm2_self_probe, fact, "!", "name of the fact"),
                                              STR(slm2_self_probe, right, "!", "a right answer"), STRS(slm2_self_probe, wrong, "answers"), STRS(slm2_self_probe, want, "texts"), {0}};
static const struct slm2_opt prompt_table[] = {LIST(slm2_self, turns, turn_table, slm2_self_turn), STRS(slm2_self, openers, ""), LIST(slm2_self, topics, topic_table, slm2_self_topic), {0}};
static const struct slm2_opt probes_table[] = {LIST(slm2_self, probes, probe_table, slm2_self_probe), {0}};
static const struct slm2_opt keep_out_table[] = {{.name = "probes", .type = SLM2_OPT_LIST, .offset = offsetof(struct slm2_self, keep_out), .sub = probe_table, .sub_size = sizeof(struct slm2_self_probe), .help = ""}, {0}};

static slm2_status read_yaml(const struct slm2_opt *table, void *obj, const char *path, char sha256[65], struct slm2_err *err)
{
    slm2_conf_init(table, obj);
    SLM2_TRY(slm2_conf_yaml(table, obj, path, err));
    slm2_status st = slm2_conf_required(table, obj, err);
    if (st != SLM2_OK) return slm2_wrap(err, st, "%s", path);
    return slm2_sha256_file(path, sha256, err);
}

/* ---- facts into text -------------------------------------------------------------------------------------------------- */
static void put_list(const struct slm2_conf_list *list, struct slm2_buf *out)
{
    char *const *v = list->items;
    for (int i = 0; i < list->n; i++) {
        slm2_buf_puts(out, i == 0 ? "" : i == list->n - 1 ? " and " : ", ");
        slm2_buf_puts(out, v[i]);
    }
}

slm2_status slm2_card_fill(const struct slm2_card *card, const char *text, const char *what, struct slm2_buf *out, bool *complete, struct slm2_err *err)
{
    const struct { const char *key, *text; const struct slm2_conf_list *list; } fact[] = {
        {"{name}", card->name, NULL}, {"{maker}", card->maker, NULL}, {"{kind}", card->kind, NULL}, {"{released}", card->released, NULL},
        {"{languages}", NULL, &card->languages}, {"{abilities}", NULL, &card->abilities}, {"{limits}", NULL, &card->limits}};
    *complete = true;
    while (*text) {
        size_t plain = strcspn(text, "{"), i = 0;
        slm2_buf_put(out, text, plain);
        text += plain;
        if (!*text) break;
        while (i < sizeof fact / sizeof fact[0] && strncmp(text, fact[i].key, strlen(fact[i].key)) != 0) i++;
        if (i == sizeof fact / sizeof fact[0])
            return slm2_fail(err, SLM2_EFORMAT, "%s: \"%.40s\": want {name}, {maker}, {kind}, {released}, {languages}, {abilities} or {limits}", what, text);
        if (fact[i].list) put_list(fact[i].list, out);
        else slm2_buf_puts(out, fact[i].text);
        *complete = *complete && (fact[i].list ? fact[i].list->n > 0 : *fact[i].text);
        text += strlen(fact[i].key);
    }
    return slm2_buf_check(out, err);
}

/* Fills *text in place. */
static slm2_status fill(const struct slm2_card *card, char **text, const char *what, bool *complete, struct slm2_err *err)
{
    struct slm2_buf b = {0};
    bool all;
    slm2_buf_puts(&b, "");
    slm2_status st = slm2_card_fill(card, *text, what, &b, &all, err);
    if (st != SLM2_OK) {
        slm2_buf_free(&b);
        return st;
    }
    free(*text);
    *text = b.v;
    *complete = *complete && all;
    return SLM2_OK;
}

static slm2_status fill_list(const struct slm2_card *card, struct slm2_conf_list *list, const char *what, bool *complete, struct slm2_err *err)
{
    char **v = list->items;
    for (int i = 0; i < list->n; i++) SLM2_TRY(fill(card, &v[i], what, complete, err));
    return SLM2_OK;
}

/* Frees item i of a list and closes the gap. */
static void drop(struct slm2_conf_list *list, const struct slm2_opt *table, size_t size, int i)
{
    char *v = list->items;
    slm2_conf_free(table, v + (size_t)i * size);
    memmove(v + (size_t)i * size, v + (size_t)(i + 1) * size, (size_t)(list->n - 1 - i) * size);
    list->n--;
}

static slm2_status fill_turns(struct slm2_self *s, const char *what, struct slm2_err *err)
{
    for (int i = 0; i < s->turns.n; i++) {
        struct slm2_self_turn *t = (struct slm2_self_turn *)s->turns.items + i;
        bool complete = true;
        SLM2_TRY(fill(&s->card, &t->ask, what, &complete, err));
        SLM2_TRY(fill(&s->card, &t->say, what, &complete, err));
        if (!complete) drop(&s->turns, turn_table, sizeof *t, i--);
    }
    for (int i = 0; i < s->topics.n; i++) {
        struct slm2_self_topic *t = (struct slm2_self_topic *)s->topics.items + i;
        bool complete = true;
        if (t->ask.n < 1 || t->want.n < 1) return slm2_fail(err, SLM2_EFORMAT, "%s: topic \"%s\": want phrases in ask and texts in want", what, t->fact);
        SLM2_TRY(fill_list(&s->card, &t->want, what, &complete, err));
        if (!complete) drop(&s->topics, topic_table, sizeof *t, i--);
    }
    if (s->turns.n < 1) return slm2_fail(err, SLM2_EFORMAT, "%s: no turn that the card has the facts of: positive answers would know nothing", what);
    return SLM2_OK;
}

static slm2_status fill_probes(struct slm2_self *s, const char *what, struct slm2_err *err)
{
    for (int i = 0; i < s->probes.n; i++) {
        struct slm2_self_probe *p = (struct slm2_self_probe *)s->probes.items + i;
        bool complete = true;
        if (p->wrong.n < 1 || p->want.n < 1) return slm2_fail(err, SLM2_EFORMAT, "%s: probe \"%s\": want answers in wrong and texts in want", what, p->ask);
        SLM2_TRY(fill(&s->card, &p->right, what, &complete, err));
        SLM2_TRY(fill_list(&s->card, &p->wrong, what, &complete, err));
        SLM2_TRY(fill_list(&s->card, &p->want, what, &complete, err));
        if (!complete) {
            drop(&s->probes, probe_table, sizeof *p, i--);
            continue;
        }
        for (int k = 0; k < p->wrong.n; k++)
            if (!strcmp(((char **)p->wrong.items)[k], p->right)) return slm2_fail(err, SLM2_EFORMAT, "%s: probe \"%s\": \"%s\" is both right and wrong", what, p->ask, p->right);
    }
    return SLM2_OK;
}

slm2_status slm2_self_read(struct slm2_self *self, const char *card, const char *prompt, const char *probes, const char *keep_out, struct slm2_err *err)
{
    memset(self, 0, sizeof *self);
    SLM2_TRY(read_yaml(card_table, &self->card, card, self->sha256[0], err));
    SLM2_TRY(read_yaml(prompt_table, self, prompt, self->sha256[1], err));
    SLM2_TRY(fill_turns(self, prompt, err));
    if (keep_out && *keep_out) SLM2_TRY(read_yaml(keep_out_table, self, keep_out, self->sha256[3], err));
    if (!probes || !*probes) return SLM2_OK;
    SLM2_TRY(read_yaml(probes_table, self, probes, self->sha256[2], err));
    return fill_probes(self, probes, err);
}

void slm2_self_free(struct slm2_self *self)
{
    slm2_conf_free(card_table, &self->card);
    slm2_conf_free(prompt_table, self);
    slm2_conf_free(probes_table, self);
    slm2_conf_free(keep_out_table, self);
    memset(self, 0, sizeof *self);
}

/* ---- words ------------------------------------------------------------------------------------------------------------ */
slm2_status slm2_self_words(const char *text, size_t n, struct slm2_buf *out, struct slm2_err *err)
{
    struct slm2_buf nfc = {0};
    bool changed, inside = false;
    slm2_status st = slm2_nfc(text, n, &nfc, &changed, err);
    const char *p = changed ? nfc.v : text;
    size_t left = st == SLM2_OK ? (changed ? nfc.n : n) : 0;
    while (left) {
        int32_t cp;
        utf8proc_uint8_t enc[4];
        utf8proc_ssize_t took = utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)left, &cp);
        if (took < 1) took = 1, cp = -1;
        utf8proc_category_t c = cp < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(cp);
        bool letter = c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NO; /* letters, marks and numbers */
        if (letter && !inside) slm2_buf_putc(out, ' ');
        if (!letter && inside) slm2_buf_putc(out, ' ');
        if (letter) slm2_buf_put(out, enc, (size_t)utf8proc_encode_char(utf8proc_tolower(cp), enc));
        inside = letter;
        p += took;
        left -= (size_t)took;
    }
    if (inside) slm2_buf_putc(out, ' ');
    slm2_buf_put(out, "", 0);
    slm2_buf_free(&nfc);
    return st == SLM2_OK ? slm2_buf_check(out, err) : st;
}

slm2_status slm2_self_holds(const char *words, const struct slm2_conf_list *phrases, bool *holds, struct slm2_err *err)
{
    struct slm2_buf b = {0};
    slm2_status st = SLM2_OK;
    *holds = false;
    for (int i = 0; i < phrases->n && !*holds && st == SLM2_OK; i++) {
        const char *p = ((char **)phrases->items)[i];
        slm2_buf_clear(&b);
        st = slm2_self_words(p, strlen(p), &b, err);
        *holds = st == SLM2_OK && b.n && strstr(words, b.v);
    }
    slm2_buf_free(&b);
    return st;
}

slm2_status slm2_self_topic(const struct slm2_self *self, const char *words, const struct slm2_self_topic **topic, struct slm2_err *err)
{
    *topic = NULL;
    for (int i = 0; i < self->topics.n; i++) {
        const struct slm2_self_topic *t = (const struct slm2_self_topic *)self->topics.items + i;
        bool asks;
        SLM2_TRY(slm2_self_holds(words, &t->ask, &asks, err));
        if (asks) {
            *topic = t;
            return SLM2_OK;
        }
    }
    return SLM2_OK;
}
