/* records.c - JSON lines, or the members of JSON arrays, to their reader one by one; a bad one is counted or fatal, as the caller says. */
#include "data/records.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

slm2_status slm2_records_template(const char *name, enum slm2_chat_template *tmpl, struct slm2_err *err)
{
    for (int i = 0; slm2_chat_names[i]; i++) {
        if (strcmp(name, slm2_chat_names[i]) == 0) {
            *tmpl = (enum slm2_chat_template)i;
            return SLM2_OK;
        }
    }
    return slm2_fail(err, SLM2_EUSAGE, "chat template \"%.40s\", want zephyr or chatml", name);
}

struct reading {
    const char *path;
    struct slm2_lines *l;
    size_t limit;            /* bytes of a line or member */
    bool bad_is_fatal;
    slm2_record_fn *fn;
    void *user;
    int64_t n, n_bad;        /* records so far */
    char what[1200];         /* the record under work: file and place */
    struct slm2_err first;   /* why the first bad one is bad */
};

/* Bad input is counted where that is asked for; all else passes. */
static slm2_status judge(struct reading *r, slm2_status st, const struct slm2_err *why, struct slm2_err *err)
{
    if (st == SLM2_EFORMAT && !r->bad_is_fatal) {
        if (r->n_bad++ == 0) r->first = *why;
        return SLM2_OK;
    }
    if (st != SLM2_OK && err) *err = *why;
    return st;
}

static bool is_blank(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!strchr(" \t\r\n", text[i]) || !text[i]) return false;
    }
    return true;
}

static slm2_status take(struct reading *r, const char *text, size_t n, struct slm2_err *err)
{
    json_t *j = NULL;
    struct slm2_err why = {0};
    if ((r->n++ & 255) == 0) slm2_progress("read", slm2_lines_fraction(r->l), "%s  %" PRId64 " records", r->path, r->n);
    slm2_status st = slm2_json_parse(&j, text, n, r->what, &why);
    if (st == SLM2_OK && !json_is_object(j)) st = slm2_fail(&why, SLM2_EFORMAT, "%s: not a JSON object", r->what);
    if (st == SLM2_OK) st = r->fn(r->user, j, r->what, &why);
    json_decref(j);
    return judge(r, st, &why, err);
}

static slm2_status read_lines(struct reading *r, struct slm2_err *err)
{
    const char *line;
    size_t n;
    for (;;) {
        struct slm2_err why = {0};
        slm2_status st = slm2_lines_next(r->l, &line, &n, &why);
        uint64_t number = slm2_lines_number(r->l);
        snprintf(r->what, sizeof r->what, "%.1000s: line %" PRIu64, r->path, number);
        if (st == SLM2_ELIMIT) { /* a line too long is a bad line */
            r->n++;
            SLM2_TRY(judge(r, SLM2_EFORMAT, &why, err));
            continue;
        }
        if (st != SLM2_OK && err) *err = why;
        if (st != SLM2_OK || !line) return st;
        if (number == 1 && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
            line += 3;
            n -= 3;
        }
        if (!is_blank(line, n)) SLM2_TRY(take(r, line, n, err));
    }
}

/* ---- arrays ------------------------------------------------------------------------------------------------------------------ */
/* Where a member of an array ends is seen from brackets and quotes alone; each member is then parsed by itself, so that memory is that
 * of one member, whatever the size of the file. */
struct scan {
    int depth;                  /* open brackets: 0 outside an array, 1 between members */
    bool in_string, escaped, too_long;
    uint64_t line, member_line; /* where we are; where the member begins, 0: nothing but blanks so far */
    int64_t n_member;           /* of this array */
    struct slm2_buf member;
};

static void keep(struct scan *s, const struct reading *r, const char *text, size_t n)
{
    if (n > r->limit || s->member.n > r->limit - n) s->too_long = true;
    if (!s->too_long) slm2_buf_put(&s->member, text, n);
}

static slm2_status end_member(struct scan *s, struct reading *r, bool last, struct slm2_err *err)
{
    struct slm2_err why;
    slm2_status st = SLM2_OK;
    if (last && s->n_member == 0 && !s->member_line) return SLM2_OK; /* [] */
    s->n_member++;
    snprintf(r->what, sizeof r->what, "%.1000s: record %" PRId64 " (line %" PRIu64 ")", r->path, r->n + 1, s->member_line ? s->member_line : s->line);
    if (s->too_long) {
        r->n++;
        slm2_fail(&why, SLM2_EFORMAT, "%s: has more than %zu bytes", r->what, r->limit);
        st = judge(r, SLM2_EFORMAT, &why, err);
    } else {
        st = slm2_buf_check(&s->member, err);
        if (st == SLM2_OK) st = take(r, s->member.n ? s->member.v : "", s->member.n, err);
    }
    slm2_buf_clear(&s->member);
    s->too_long = false;
    s->member_line = 0;
    return st;
}

static slm2_status scan_text(struct scan *s, struct reading *r, const char *p, size_t n, struct slm2_err *err)
{
    size_t from = 0; /* of the member's bytes in p */
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        s->line += c == '\n';
        bool blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
        if (s->depth == 0) {
            if (c == '[') {
                s->depth = 1;
                s->n_member = 0;
                from = i + 1;
            } else if (!blank && !(r->n == 0 && c && strchr("\xef\xbb\xbf", c))) {
                return slm2_fail(err, SLM2_EFORMAT, "%s: line %" PRIu64 ": text behind the end of a JSON array; want one array, or one record a line", r->path, s->line);
            }
            continue;
        }
        if (!s->in_string && s->depth == 1 && (c == ',' || c == ']')) {
            keep(s, r, p + from, i - from);
            SLM2_TRY(end_member(s, r, c == ']', err));
            from = i + 1;
            s->depth = c == ',';
            continue;
        }
        if (!blank && !s->member_line) s->member_line = s->line;
        if (s->in_string) {
            if (s->escaped) s->escaped = false;
            else if (c == '\\') s->escaped = true;
            else if (c == '"') s->in_string = false;
        } else if (c == '"') {
            s->in_string = true;
        } else if (c == '{' || c == '[') {
            s->depth += s->depth < INT32_MAX;
        } else if ((c == '}' || c == ']') && s->depth > 1) {
            s->depth--;
        }
    }
    if (s->depth > 0) keep(s, r, p + from, n - from);
    return SLM2_OK;
}

static slm2_status read_arrays(struct reading *r, struct slm2_err *err)
{
    struct scan s = {.line = 1};
    slm2_status st = SLM2_OK;
    while (st == SLM2_OK) {
        const char *p;
        size_t n;
        st = slm2_lines_peek(r->l, &p, &n, err);
        if (st != SLM2_OK || n == 0) break;
        st = scan_text(&s, r, p, n, err);
        if (st == SLM2_OK) st = slm2_lines_read(r->l, NULL, n, err);
    }
    if (st == SLM2_OK && s.depth > 0)
        st = slm2_fail(err, SLM2_EFORMAT, "%s: the file ends inside a JSON array, in record %" PRId64 " (line %" PRIu64 "); is it cut off?", r->path, r->n + 1, s.member_line ? s.member_line : s.line);
    slm2_buf_free(&s.member);
    return st;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------- */
static slm2_status read_any(struct reading *r, struct slm2_err *err)
{
    const char *p;
    size_t n, i = 0;
    SLM2_TRY(slm2_lines_peek(r->l, &p, &n, err));
    if (n >= 4 && memcmp(p, "PAR1", 4) == 0)
        return slm2_fail(err, SLM2_EFORMAT, "%s: is a Parquet file, want JSON lines or a JSON array; turn it into lines once with DuckDB: duckdb -c \"COPY (FROM '%.200s') TO 'data.jsonl' (FORMAT json)\", "
                         "docs/ALIGNMENT.md names another way", r->path, r->path);
    if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) i = 3;
    while (i < n && strchr(" \t\r\n", p[i]) && p[i]) i++;
    return i < n && p[i] == '[' ? read_arrays(r, err) : read_lines(r, err);
}

slm2_status slm2_records_read(const char *path, size_t max_line_bytes, bool bad_is_fatal, slm2_record_fn *fn, void *user, int64_t *n_bad, struct slm2_err *err)
{
    struct reading r = {.path = path, .limit = max_line_bytes ? max_line_bytes : (size_t)64 << 20, .bad_is_fatal = bad_is_fatal, .fn = fn, .user = user};
    SLM2_TRY(slm2_lines_open(&r.l, path, err));
    slm2_lines_limit(r.l, r.limit);
    slm2_status st = read_any(&r, err);
    slm2_lines_close(r.l);
    slm2_progress_end();
    *n_bad += r.n_bad;
    if (st == SLM2_OK && r.n_bad && err) *err = r.first;
    return st;
}

/* Targets and weights are made where the batch keeps them: a training step allocates nothing. */
slm2_status slm2_records_add(struct slm2_batch *b, const int32_t *ids, const uint8_t *mask, int n, float weight, struct slm2_err *err)
{
    if (n < 2) return slm2_fail(err, SLM2_EUSAGE, "a sequence of %d tokens has nothing to predict, want at least 2", n);
    int32_t *target = b->target + b->n_tok;
    float *w = b->weight + b->n_tok;
    for (int i = 0; i < n - 1 && i < b->max_tok - b->n_tok; i++) { /* what is too long is refused below */
        target[i] = mask[i + 1] ? ids[i + 1] : -1;
        w[i] = mask[i + 1] ? weight : 0.0f;
    }
    return slm2_batch_add(b, ids, target, w, n - 1, err);
}
