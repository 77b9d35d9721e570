/* form.c - one function a data set; each follows the harness to the byte, with its oddities. */
#include "eval/form.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "tok/pystr.h"
#include "eval/task.h"

static slm2_status str(const json_t *item, const char *key, const char **s, size_t *n, struct slm2_err *err)
{
    const json_t *v = json_object_get(item, key);
    if (!json_is_string(v)) return slm2_fail(err, SLM2_EFORMAT, "field \"%s\" is %s", key, v ? "no string" : "missing");
    *s = json_string_value(v);
    *n = json_string_length(v);
    return SLM2_OK;
}

/* item[key] = value, which is taken */
static slm2_status set(json_t *item, const char *key, json_t *value, struct slm2_err *err)
{
    return value && json_object_set_new(item, key, value) == 0 ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for a record");
}

static json_t *text_of(struct slm2_buf *b) /* frees b */
{
    json_t *j = b->failed ? NULL : json_stringn(b->v ? b->v : "", b->n);
    slm2_buf_free(b);
    return j;
}

static json_t *filtered(const char *s, size_t n, const char *filter)
{
    struct slm2_buf b = {0};
    slm2_buf_put(&b, s, n);
    if (slm2_filter_apply(filter, &b, NULL) != SLM2_OK) b.failed = true;
    return text_of(&b);
}

static size_t find(const char *s, size_t n, const char *what, size_t from)
{
    size_t k = strlen(what);
    for (size_t i = from; i + k <= n; i++)
        if (memcmp(s + i, what, k) == 0) return i;
    return n;
}

/* ---- HellaSwag ----------------------------------------------------------------------------------------------------------- */
static slm2_status hellaswag(json_t *item, struct slm2_err *err)
{
    const json_t *endings = json_object_get(item, "endings"), *label = json_object_get(item, "label"), *e;
    const char *activity, *a, *b;
    size_t n_activity, n_a, n_b, i;
    if (json_object_get(item, "query")) return SLM2_OK;
    SLM2_TRY(str(item, "activity_label", &activity, &n_activity, err));
    SLM2_TRY(str(item, "ctx_a", &a, &n_a, err));
    SLM2_TRY(str(item, "ctx_b", &b, &n_b, err));
    json_array_foreach(endings, i, e) {
        if (!json_is_string(e)) return slm2_fail(err, SLM2_EFORMAT, "field \"endings\": number %zu is no string", i);
    }
    struct slm2_buf query = {0};
    slm2_buf_put(&query, activity, n_activity);
    slm2_buf_puts(&query, ": ");
    slm2_buf_put(&query, a, n_a);
    slm2_buf_putc(&query, ' ');
    slm2_py_capitalize(b, n_b, &query);
    slm2_status st = slm2_filter_apply("wikihow", &query, err);
    json_t *text = text_of(&query), *choices = json_array();
    json_array_foreach(endings, i, e) {
        json_array_append_new(choices, filtered(json_string_value(e), json_string_length(e), "wikihow"));
    }
    if (st == SLM2_OK) st = set(item, "query", text, err);
    else json_decref(text);
    if (st == SLM2_OK && json_array_size(choices) != json_array_size(endings)) st = slm2_fail(err, SLM2_ENOMEM, "no memory for a record");
    if (st == SLM2_OK) st = set(item, "choices", json_incref(choices), err);
    json_decref(choices);
    if (st == SLM2_OK && label) st = json_object_set(item, "gold", (json_t *)(uintptr_t)label) ? slm2_fail(err, SLM2_ENOMEM, "no memory for a record") : SLM2_OK;
    return st;
}

/* ---- partial evaluation ---------------------------------------------------------------------------------------------------- */
static slm2_status winogrande(json_t *item, struct slm2_err *err)
{
    const char *s, *option;
    size_t n, n_option;
    if (json_object_get(item, "contexts")) return SLM2_OK;
    SLM2_TRY(str(item, "sentence", &s, &n, err));
    size_t gap = find(s, n, "_", 0);
    if (gap == n) return slm2_fail(err, SLM2_EFORMAT, "field \"sentence\" has no \"_\"");
    json_t *contexts = json_array();
    for (int k = 0; k < 2; k++) {
        struct slm2_buf b = {0};
        slm2_status st = str(item, k ? "option2" : "option1", &option, &n_option, err);
        slm2_buf_put(&b, s, gap);
        if (st == SLM2_OK) slm2_buf_put(&b, option, n_option);
        json_array_append_new(contexts, text_of(&b));
        if (st != SLM2_OK) {
            json_decref(contexts);
            return st;
        }
    }
    SLM2_TRY(set(item, "contexts", contexts, err));
    return set(item, "continuation", filtered(s + gap + 1, n - gap - 1, "strip"), err);
}

static bool is_one_of(const char *s, size_t n, const char *const *words)
{
    for (; *words; words++)
        if (strlen(*words) == n && memcmp(s, *words, n) == 0) return true;
    return false;
}

/* The byte where the n-th character begins. */
static size_t char_at(const char *s, size_t n_bytes, size_t n)
{
    size_t at = 0;
    for (int32_t c; n > 0 && at < n_bytes; n--) at += slm2_utf8_next((const uint8_t *)s + at, n_bytes - at, &c);
    return at;
}

/* An option in the place of the pronoun: in the genitive if that is, and in lower case within a sentence. */
static void wsc_option(const char *option, size_t n, const char *pronoun, size_t n_pronoun, bool starts_sentence, struct slm2_buf *out)
{
    static const char *const genitive[] = {"my", "his", "her", "our", "their", NULL}, *const determiner[] = {"A", "An", "The", "She", "He", "It", "They", "My", "His", "Her", "Their", NULL};
    struct slm2_buf text = {0}, lower = {0};
    slm2_buf_put(&text, option, n);
    slm2_py_lower(pronoun, n_pronoun, &lower);
    if (is_one_of(lower.v ? lower.v : "", lower.n, genitive)) slm2_buf_puts(&text, "'s");
    slm2_buf_puts(&text, "");
    size_t begin = text.v ? slm2_py_lstrip(text.v, text.n) : 0, first = begin;
    while (first < text.n && text.v[first] != ' ' && (text.v[first] < '\t' || text.v[first] > '\r')) first++;
    if (!starts_sentence && is_one_of(text.v + begin, first - begin, determiner)) {
        char word[8]; /* the longest has five letters */
        snprintf(word, sizeof word, "%.*s", (int)(first - begin), text.v + begin);
        for (size_t i = 0, k = strlen(word); i < text.n;) {
            if (i + k <= text.n && memcmp(text.v + i, word, k) == 0) {
                slm2_py_lower(word, k, out);
                i += k;
            } else slm2_buf_putc(out, text.v[i++]);
        }
    } else slm2_buf_put(out, text.v ? text.v : "", text.n);
    slm2_buf_free(&text);
    slm2_buf_free(&lower);
}

static slm2_status wsc273(json_t *item, struct slm2_err *err)
{
    const char *raw, *pronoun;
    size_t n_raw, n_pronoun, i;
    int64_t loc;
    const json_t *options = json_object_get(item, "options"), *label = json_object_get(item, "label"), *o;
    if (json_object_get(item, "context_options")) return SLM2_OK;
    SLM2_TRY(str(item, "text", &raw, &n_raw, err));
    SLM2_TRY(str(item, "pronoun", &pronoun, &n_pronoun, err));
    SLM2_TRY(slm2_json_get_int(item, "pronoun_loc", "record", 0, INT32_MAX, &loc, err));
    struct slm2_buf text = {0};
    for (i = 0; i < n_raw; i += raw[i] == ' ' && i + 1 < n_raw && raw[i + 1] == ' ' ? 2 : 1) slm2_buf_putc(&text, raw[i]);
    SLM2_TRY(slm2_buf_check(&text, err));
    const char *s = text.v ? text.v : "";
    size_t at = char_at(s, text.n, (size_t)loc), behind = at + n_pronoun;
    slm2_status st = behind <= text.n ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "field \"pronoun_loc\" is %lld, behind the end of the text", (long long)loc);
    json_t *contexts = json_array();
    for (i = 0; i < json_array_size(options) && st == SLM2_OK; i++) {
        struct slm2_buf b = {0};
        o = json_array_get(options, i);
        slm2_buf_put(&b, s, at);
        /* Python's text[pronoun_loc - 2]: of a pronoun at 0 or 1 that is a character at the end */
        size_t len = slm2_py_len(s, text.n), before = loc >= 2 ? (size_t)loc - 2 : len + (size_t)loc - 2;
        bool starts = len >= 2 && s[char_at(s, text.n, before)] == '.';
        if (json_is_string(o)) wsc_option(json_string_value(o), json_string_length(o), pronoun, n_pronoun, starts, &b);
        else st = slm2_fail(err, SLM2_EFORMAT, "field \"options\" is no list of strings");
        json_array_append_new(contexts, text_of(&b));
    }
    if (st == SLM2_OK) st = set(item, "context_options", json_incref(contexts), err);
    json_decref(contexts);
    if (st == SLM2_OK) st = set(item, "continuation", filtered(s + behind, text.n - behind, "strip"), err);
    if (st == SLM2_OK && label) json_object_set(item, "gold", (json_t *)(uintptr_t)label);
    slm2_buf_free(&text);
    return st;
}

/* ---- LAMBADA: the last piece of split(" ") is asked for ---------------------------------------------------------------------- */
static slm2_status lambada(json_t *item, struct slm2_err *err)
{
    const char *s;
    size_t n;
    SLM2_TRY(str(item, "text", &s, &n, err));
    size_t cut = n;
    while (cut > 0 && s[cut - 1] != ' ') cut--;
    SLM2_TRY(set(item, "word", json_stringn(s + cut, n - cut), err));
    return set(item, "context", json_stringn(s, cut ? cut - 1 : 0), err);
}

/* ---- multilingual ---------------------------------------------------------------------------------------------------------- */
static slm2_status m_arc(json_t *item, bool *skip, struct slm2_err *err)
{
    static const char *const keys[] = {"option_a", "option_b", "option_c", "option_d", "option_e"};
    const char *answer;
    size_t n_answer;
    bool gap = false;
    SLM2_TRY(str(item, "answer", &answer, &n_answer, err));
    int gold = n_answer == 1 && answer[0] >= 'A' && answer[0] <= 'E' ? answer[0] - 'A' : -1;
    if (gold < 0) return slm2_fail(err, SLM2_EFORMAT, "field \"answer\" is \"%.20s\", want a letter from A to E", answer);
    json_t *choices = json_array();
    for (int k = 0; k < 5; k++) {
        const json_t *o = json_object_get(item, keys[k]);
        if (json_string_length(o)) json_array_append_new(choices, filtered(json_string_value(o), json_string_length(o), "wikihow"));
        else gap = gap || k <= gold; /* then the letter does not fit the shortened list */
    }
    *skip = gap;
    if (gap) {
        json_decref(choices);
        return SLM2_OK;
    }
    SLM2_TRY(set(item, "choices", choices, err));
    return set(item, "gold", json_integer(gold), err);
}

static slm2_status truthfulqa(json_t *item, struct slm2_err *err)
{
    static const char *const names[] = {"mc1_targets", "mc2_targets"};
    for (int k = 0; k < 2; k++) {
        char choices[40], labels[40];
        snprintf(choices, sizeof choices, "%s_choices", names[k]);
        snprintf(labels, sizeof labels, "%s_labels", names[k]);
        json_t *c = json_object_get(item, choices), *l = json_object_get(item, labels);
        if (json_object_get(item, names[k]) || !c || !l) continue;
        SLM2_TRY(set(item, names[k], json_pack("{s:O, s:O}", "choices", c, "labels", l), err));
    }
    return SLM2_OK;
}

/* ---- LogiQA ------------------------------------------------------------------------------------------------------------------ */
/* Every "." gets a space behind it, then the whole is stripped. */
static json_t *spaced(const char *s, size_t n)
{
    struct slm2_buf b = {0};
    for (size_t i = 0; i < n; i++) {
        slm2_buf_putc(&b, s[i]);
        if (s[i] == '.') slm2_buf_putc(&b, ' ');
    }
    if (slm2_filter_apply("strip", &b, NULL) != SLM2_OK) b.failed = true;
    return text_of(&b);
}

slm2_status slm2_form_logiqa_text(const char *path, json_t *list, struct slm2_err *err)
{
    static const char *const keys[] = {"label", "context", "question"};
    struct slm2_lines *l;
    json_t *item = NULL;
    int k = 0; /* lines of the record so far, without the blank one */
    SLM2_TRY(slm2_lines_open(&l, path, err));
    slm2_status st = SLM2_OK;
    for (;;) {
        const char *line;
        size_t n;
        if ((st = slm2_lines_next(l, &line, &n, err)) != SLM2_OK || !line) break;
        n = slm2_py_rstrip(line, n);
        if (k == 0 && n == 0) continue;
        if (k == 0 && !(item = json_pack("{s:[]}", "options"))) st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path);
        if (st == SLM2_OK && n == 0) st = slm2_fail(err, SLM2_EFORMAT, "%s: line %llu: blank inside a record; want a letter, passage, question and four options", path, (unsigned long long)slm2_lines_number(l));
        if (st != SLM2_OK) break;
        if (k < 3) st = set(item, keys[k], k ? spaced(line, n) : json_stringn(line, n), err);
        else json_array_append_new(json_object_get(item, "options"), spaced(line + (n < 2 ? n : 2), n < 2 ? 0 : n - 2));
        if (st != SLM2_OK || ++k < 7) continue;
        json_array_append_new(list, item);
        item = NULL;
        k = 0;
    }
    if (st == SLM2_OK && k) st = slm2_fail(err, SLM2_EFORMAT, "%s: ends within a record", path);
    json_decref(item);
    slm2_lines_close(l);
    return st;
}

/* ---- WikiText ------------------------------------------------------------------------------------------------------------------ */
static void replace_all(struct slm2_buf *b, const char *from, const char *to, struct slm2_buf *spare)
{
    size_t n = strlen(from), i = 0;
    slm2_buf_clear(spare);
    while (b->v && i < b->n) {
        size_t at = find(b->v, b->n, from, i);
        slm2_buf_put(spare, b->v + i, at - i);
        if (at < b->n) slm2_buf_puts(spare, to);
        i = at < b->n ? at + n : b->n;
    }
    struct slm2_buf t = *b;
    *b = *spare;
    *spare = t;
}

/* "( x )" -> "(x)": re.sub(r"\(\s*([^\)]*?)\s*\)", r"(\1)"), also for pairs of one and the same sign. */
static void trim_inside(struct slm2_buf *b, char open, char close, struct slm2_buf *spare)
{
    size_t i = 0;
    slm2_buf_clear(spare);
    while (b->v && i < b->n) {
        const char *end = b->v[i] == open ? memchr(b->v + i + 1, close, b->n - i - 1) : NULL;
        slm2_buf_putc(spare, b->v[i++]);
        if (!end) continue;
        size_t n = (size_t)(end - (b->v + i)), to = slm2_py_rstrip(b->v + i, n), from = slm2_py_lstrip(b->v + i, to);
        slm2_buf_put(spare, b->v + i + from, to - from);
        slm2_buf_putc(spare, close);
        i += n + 1;
    }
    struct slm2_buf t = *b;
    *b = *spare;
    *spare = t;
}

slm2_status slm2_form_wikitext(const char *page, size_t n, struct slm2_buf *out, struct slm2_err *err)
{
    static const char *const before[][2] = {{"s '", "s'"}, {" @-@ ", "-"}, {" @,@ ", ","}, {" @.@ ", "."}, {" : ", ": "}, {" ; ", "; "}, {" . ", ". "}, {" ! ", "! "}, {" ? ", "? "}, {" , ", ", "}};
    static const char *const pairs[] = {"()", "[]", "{}", "\"\"", "''"};
    static const char *const behind[][2] = {{"= = = =", "===="}, {"= = =", "==="}, {"= =", "=="}, {" \u00b0 ", "\u00b0"}, {" \n", "\n"}, {"\n ", "\n"}, {" N ", " 1 "}, {" 's", "'s"}};
    struct slm2_buf b = {0}, spare = {0};
    slm2_buf_put(&b, page, n);
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) replace_all(&b, before[i][0], before[i][1], &spare);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) trim_inside(&b, pairs[i][0], pairs[i][1], &spare);
    for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++) replace_all(&b, behind[i][0], behind[i][1], &spare);
    if (b.failed || spare.failed) out->failed = true;
    slm2_buf_put(out, b.v ? b.v : "", b.n);
    slm2_buf_free(&b);
    slm2_buf_free(&spare);
    return slm2_buf_check(out, err);
}

/* ---- all ------------------------------------------------------------------------------------------------------------------------ */
static const char *const forms[] = {"", "hellaswag", "winogrande", "wsc273", "lambada", "logiqa", "m_arc", "truthfulqa", "wikitext", NULL};

bool slm2_form_known(const char *name)
{
    for (int i = 0; forms[i]; i++)
        if (strcmp(forms[i], name) == 0) return true;
    return false;
}

slm2_status slm2_form_apply(const char *name, json_t *item, bool *skip, struct slm2_err *err)
{
    *skip = false;
    if (strcmp(name, "hellaswag") == 0) return hellaswag(item, err);
    if (strcmp(name, "winogrande") == 0) return winogrande(item, err);
    if (strcmp(name, "wsc273") == 0) return wsc273(item, err);
    if (strcmp(name, "lambada") == 0) return lambada(item, err);
    if (strcmp(name, "m_arc") == 0) return m_arc(item, skip, err);
    if (strcmp(name, "truthfulqa") == 0) return truthfulqa(item, err);
    return SLM2_OK;
}
