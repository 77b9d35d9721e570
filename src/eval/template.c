/* template.c - texts with {field}s of a JSON record. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "eval/task.h"

enum { MAX_NAME = 128 };

const json_t *slm2_template_lookup(const json_t *item, const char *name, size_t n)
{
    while (item && n > 0) {
        const char *dot = memchr(name, '.', n);
        size_t len = dot ? (size_t)(dot - name) : n;
        char key[MAX_NAME];
        if (len >= sizeof key) return NULL;
        memcpy(key, name, len);
        key[len] = '\0';
        if (json_is_array(item)) {
            char *end;
            unsigned long i = strtoul(key, &end, 10);
            item = *end == '\0' && len > 0 ? json_array_get(item, i) : NULL;
        } else item = json_object_get(item, key);
        name += len + (dot != NULL);
        n -= len + (dot != NULL);
    }
    return item;
}

/* The filter that begins at s (behind a '|') into name; the next one or NULL. */
static const char *next_filter(const char *s, const char *end, char name[MAX_NAME])
{
    const char *bar = memchr(s, '|', (size_t)(end - s));
    size_t n = (size_t)((bar ? bar : end) - s);
    if (n >= MAX_NAME) n = MAX_NAME - 1; /* no filter has such a name */
    memcpy(name, s, n);
    name[n] = '\0';
    return bar ? bar + 1 : NULL;
}

static bool put_value(const json_t *v, const char *filters, const char *end, struct slm2_buf *out)
{
    struct slm2_buf text = {0};
    struct slm2_buf *to = filters ? &text : out;
    bool ok = true;
    if (json_is_string(v)) slm2_buf_put(to, json_string_value(v), json_string_length(v));
    else if (json_is_number(v) || json_is_boolean(v)) slm2_json_dump(v, to);
    else return false;
    for (char name[MAX_NAME]; filters && ok;) {
        filters = next_filter(filters, end, name);
        ok = slm2_filter_apply(name, &text, NULL) == SLM2_OK;
    }
    slm2_buf_put(out, text.v ? text.v : "", text.n);
    ok = ok && !text.failed && !out->failed;
    slm2_buf_free(&text);
    return ok;
}

bool slm2_template_value(const json_t *value, const char *field, struct slm2_buf *out)
{
    const char *bar = strchr(field, '|');
    return put_value(value, bar ? bar + 1 : NULL, field + strlen(field), out);
}

/* One {field}: s[n] is what stands between the braces.  item NULL: only checks. */
static slm2_status field(const char *s, size_t n, const json_t *item, struct slm2_buf *out, struct slm2_err *err)
{
    const char *bar = memchr(s, '|', n), *filters = bar ? bar + 1 : NULL;
    size_t n_name = bar ? (size_t)(bar - s) : n;
    if (!item) {
        for (char name[MAX_NAME]; filters;) {
            filters = next_filter(filters, s + n, name);
            SLM2_TRY(slm2_filter_check(name, err));
        }
        return SLM2_OK;
    }
    const json_t *v = slm2_template_lookup(item, s, n_name);
    if (!v) return slm2_fail(err, SLM2_EFORMAT, "template: the item has no field \"%.*s\"", (int)n_name, s);
    if (!put_value(v, filters, s + n, out)) return slm2_fail(err, SLM2_EFORMAT, "template: field \"%.*s\" is neither text nor a number", (int)n_name, s);
    return SLM2_OK;
}

static slm2_status fill(const char *tmpl, const json_t *item, struct slm2_buf *out, struct slm2_err *err)
{
    for (const char *s = tmpl; *s;) {
        if ((*s == '{' || *s == '}') && s[1] == *s) {
            if (out) slm2_buf_putc(out, *s);
            s += 2;
        } else if (*s == '}') {
            return slm2_fail(err, SLM2_EFORMAT, "template: '}' without '{' at byte %td of \"%.80s\"; a brace itself is written \"}}\"", s - tmpl, tmpl);
        } else if (*s == '{') {
            size_t n = strcspn(s + 1, "{}");
            if (s[1 + n] != '}' || n == 0 || s[1] == '|') return slm2_fail(err, SLM2_EFORMAT, "template: '{' at byte %td of \"%.80s\" begins no {field}; a brace itself is written \"{{\"", s - tmpl, tmpl);
            SLM2_TRY(field(s + 1, n, item, out, err));
            s += n + 2;
        } else {
            if (out) slm2_buf_putc(out, *s);
            s++;
        }
    }
    return out ? slm2_buf_check(out, err) : SLM2_OK;
}

slm2_status slm2_template_fill(const char *tmpl, const json_t *item, struct slm2_buf *out, struct slm2_err *err) { return fill(tmpl, item, out, err); }
slm2_status slm2_template_check(const char *tmpl, struct slm2_err *err) { return fill(tmpl, NULL, NULL, err); }
