/* bound.c - sorts the settings of a stage, and finds the first in which two runs differ. */
#include "train/bound.h"

#include <stdio.h>
#include <string.h>

static enum slm2_bound kind_of(const char *line, size_t n)
{
    static const struct { const char *key; enum slm2_bound kind; } keys[] = {
        {"run", SLM2_BOUND_NOTHING},          {"threads", SLM2_BOUND_NOTHING},     {"valid_every", SLM2_BOUND_NOTHING}, {"checkpoint_every", SLM2_BOUND_NOTHING},
        {"keep_checkpoints", SLM2_BOUND_NOTHING}, {"recompute", SLM2_BOUND_NOTHING}, {"reference", SLM2_BOUND_NOTHING}, {"tensorboard", SLM2_BOUND_NOTHING},
        {"metrics_port", SLM2_BOUND_NOTHING}, {"metrics_address", SLM2_BOUND_NOTHING}, {"valid", SLM2_BOUND_MEASURES},  {"other_text", SLM2_BOUND_MEASURES},
        {"other_chat", SLM2_BOUND_MEASURES},  {"other_data", SLM2_BOUND_MEASURES}, {"other_data_tokens", SLM2_BOUND_MEASURES}, {"probe_tokens", SLM2_BOUND_MEASURES}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        size_t k = strlen(keys[i].key);
        if (n > k && !memcmp(line, keys[i].key, k) && line[k] == ':') return keys[i].kind;
    }
    return SLM2_BOUND_RUN;
}

static size_t line_length(const char *s) { return strcspn(s, "\n"); }

void slm2_bound_settings(const char *dump, enum slm2_bound kind, struct slm2_buf *out)
{
    enum slm2_bound now = SLM2_BOUND_RUN;
    slm2_buf_puts(out, "");
    for (size_t n; *dump; dump += n) {
        n = line_length(dump);
        if (dump[0] != ' ') now = kind_of(dump, n);
        n += dump[n] == '\n';
        if (now == kind) slm2_buf_put(out, dump, n);
    }
}

/* ---- the first difference ---------------------------------------------------------------------------------------------------- */
/* Where a line of a dump belongs: the keys above it, each with the item of its list, "data[1].path[0]". */
enum { MAX_LEVEL = 8, MAX_KEY = 40 };
struct place { struct { size_t indent; char key[MAX_KEY]; int item; } level[MAX_LEVEL]; int n; };

static void step_into(struct place *p, const char *line)
{
    size_t end = line_length(line), at = strspn(line, " "), n;
    for (; line[at] == '-' && line[at + 1] == ' '; at += 2) { /* one more item of the nearest key that stands further left */
        while (p->n > 0 && p->level[p->n - 1].indent >= at) p->n--;
        if (p->n > 0) p->level[p->n - 1].item++;
    }
    for (n = at; n < end && (line[n] == '_' || (line[n] >= 'a' && line[n] <= 'z') || (line[n] >= '0' && line[n] <= '9')); n++) {}
    if (n == at || n == end || line[n] != ':') return; /* a value */
    while (p->n > 0 && p->level[p->n - 1].indent >= at) p->n--;
    if (p->n == MAX_LEVEL) return;
    p->level[p->n].indent = at;
    p->level[p->n].item = -1;
    snprintf(p->level[p->n++].key, MAX_KEY, "%.*s", (int)(n - at), line + at);
}

static void name_of(const struct place *p, struct slm2_buf *out)
{
    slm2_buf_puts(out, "");
    for (int i = 0; i < p->n; i++) {
        slm2_buf_printf(out, "%s%s", i ? "." : "", p->level[i].key);
        if (p->level[i].item >= 0) slm2_buf_printf(out, "[%d]", p->level[i].item);
    }
}

/* The text of a line behind its key, or "nothing". */
static void put_value(struct slm2_buf *out, const char *line, bool there)
{
    size_t n = line_length(line), skip = strspn(line, " -"), key = strcspn(line, ":\n\"");
    if (line[key] == ':') skip = key + 1 + strspn(line + key + 1, " ");
    if (!there || !n) slm2_buf_puts(out, "nothing");
    else if (skip >= n) slm2_buf_puts(out, "a list");
    else slm2_buf_printf(out, "%.*s", (int)(n - skip < 300 ? n - skip : 300), line + skip);
}

/* The key that a line begins with; its length, 0 for a value. */
static size_t key_of(const char *line, const char **key)
{
    *key = line + strspn(line, " -");
    size_t n = strcspn(*key, ":\n\"");
    return (*key)[n] == ':' ? n : 0;
}

static bool same_key(const char *a, const char *b)
{
    const char *x, *y;
    size_t n = key_of(a, &x), m = key_of(b, &y);
    return n == m && !memcmp(x, y, n);
}

/* Whether the block that text begins in goes on with the key of `line` at the same place. */
static bool has_key(const char *text, const char *line)
{
    size_t at = strspn(line, " ");
    for (size_t here; *text && (here = strspn(text, " ")) >= at; text += line_length(text), text += *text == '\n')
        if (here == at && same_key(text, line)) return true;
    return false;
}

slm2_status slm2_bound_agree(const char *old, const char *now, const char *path, struct slm2_err *err)
{
    struct place place = {.n = 0};
    struct slm2_buf name = {0}, then = {0}, new = {0};
    for (;;) {
        size_t a = line_length(old), b = line_length(now);
        if (a != b || memcmp(old, now, a) != 0) break;
        if (!old[a] || !now[b]) return SLM2_OK; /* every line has its end, so both texts are at theirs */
        step_into(&place, now);
        old += a + 1;
        now += b + 1;
    }
    /* a line further right is one that the other text lacks, and so is one with another key: whichever of both comes again below is of both texts */
    size_t left = strspn(old, " "), right = strspn(now, " ");
    bool old_more = *old && (!*now || left > right), new_more = *now && (!*old || right > left);
    if (!old_more && !new_more && !same_key(old, now)) {
        new_more = has_key(now, old);
        old_more = !new_more;
    }
    step_into(&place, old_more ? old : now);
    name_of(&place, &name);
    put_value(&then, old, !new_more);
    put_value(&new, now, !old_more);
    slm2_status st = slm2_fail(err, SLM2_EUSAGE, "%s: setting %s was another when this run began (then %s, now %s); go on with the old settings, or use another run folder", path, name.v ? name.v : "?",
                               then.v ? then.v : "?", new.v ? new.v : "?");
    slm2_buf_free(&name);
    slm2_buf_free(&then);
    slm2_buf_free(&new);
    return st;
}
