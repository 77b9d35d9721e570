/* records.c - lines of JSON to their reader; a bad one is counted or fatal, as the caller says. */
#include "data/records.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

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

/* Bad input is counted where that is asked for; all else passes. */
static slm2_status judge(slm2_status st, const struct slm2_err *why, bool bad_is_fatal, int64_t *n_bad, struct slm2_err *err)
{
    if (st == SLM2_EFORMAT && !bad_is_fatal) {
        ++*n_bad;
        return SLM2_OK;
    }
    if (st != SLM2_OK && err) *err = *why;
    return st;
}

static bool is_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r') return false;
    }
    return true;
}

static slm2_status take_line(const char *line, size_t n, const char *what, bool bad_is_fatal, slm2_record_fn *fn, void *user, int64_t *n_bad, struct slm2_err *err)
{
    json_t *j, *member;
    struct slm2_err why = {0};
    size_t i;
    slm2_status st = slm2_json_parse(&j, line, n, what, &why);
    if (st != SLM2_OK) return judge(st, &why, bad_is_fatal, n_bad, err);
    if (json_is_array(j)) {
        json_array_foreach(j, i, member) {
            st = judge(fn(user, member, what, &why), &why, bad_is_fatal, n_bad, err);
            if (st != SLM2_OK) break;
        }
    } else if (json_is_object(j)) {
        st = judge(fn(user, j, what, &why), &why, bad_is_fatal, n_bad, err);
    } else {
        slm2_fail(&why, SLM2_EFORMAT, "%s: not a JSON object", what);
        st = judge(SLM2_EFORMAT, &why, bad_is_fatal, n_bad, err);
    }
    json_decref(j);
    return st;
}

/* A pretty-printed JSON array: the first line opens it and is not a value by itself. */
static bool opens_array(const char *line, size_t n)
{
    size_t i = 0;
    while (i < n && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r')) i++;
    if (i == n || line[i] != '[') return false;
    json_t *j = json_loadb(line, n, JSON_ALLOW_NUL, NULL);
    json_decref(j);
    return j == NULL;
}

static slm2_status read_rest(struct slm2_lines *l, struct slm2_buf *text, size_t limit, const char *path, struct slm2_err *err)
{
    const char *line;
    size_t n;
    for (;;) {
        SLM2_TRY(slm2_lines_next(l, &line, &n, err));
        if (!line) return slm2_buf_check(text, err);
        if (n > limit - text->n - 1) return slm2_fail(err, SLM2_ELIMIT, "%s: a JSON array of more than %zu bytes; write one record a line", path, limit);
        slm2_buf_putc(text, '\n');
        slm2_buf_put(text, line, n);
        SLM2_TRY(slm2_buf_check(text, err));
    }
}

slm2_status slm2_records_read(const char *path, size_t max_line_bytes, bool bad_is_fatal, slm2_record_fn *fn, void *user, int64_t *n_bad, struct slm2_err *err)
{
    const size_t array_limit = (size_t)1 << 30;
    struct slm2_lines *l;
    struct slm2_buf whole = {0};
    struct slm2_err why = {0};
    const char *line;
    char what[1200];
    size_t n;
    slm2_status st;
    SLM2_TRY(slm2_lines_open(&l, path, err));
    slm2_lines_limit(l, max_line_bytes ? max_line_bytes : (size_t)64 << 20);
    for (;;) {
        st = slm2_lines_next(l, &line, &n, &why);
        snprintf(what, sizeof what, "%.1000s: line %" PRIu64, path, slm2_lines_number(l));
        if (st == SLM2_ELIMIT) { /* a line too long is a bad line */
            st = judge(SLM2_EFORMAT, &why, bad_is_fatal, n_bad, err);
            if (st != SLM2_OK) break;
            continue;
        }
        if (st != SLM2_OK && err) *err = why;
        if (st != SLM2_OK || !line) break;
        if (slm2_lines_number(l) == 1 && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
            line += 3;
            n -= 3;
        }
        if (is_blank(line, n)) continue;
        if (slm2_lines_number(l) == 1 && opens_array(line, n)) {
            slm2_buf_put(&whole, line, n);
            st = read_rest(l, &whole, array_limit, path, err);
            if (st == SLM2_OK) st = take_line(whole.v, whole.n, path, bad_is_fatal, fn, user, n_bad, err);
            break;
        }
        st = take_line(line, n, what, bad_is_fatal, fn, user, n_bad, err);
        if (st != SLM2_OK) break;
    }
    slm2_lines_close(l);
    slm2_buf_free(&whole);
    return st;
}

slm2_status slm2_records_add(struct slm2_batch *b, const int32_t *ids, const uint8_t *mask, int n, float weight, struct slm2_err *err)
{
    if (n < 2) return slm2_fail(err, SLM2_EUSAGE, "a sequence of %d tokens has nothing to predict, want at least 2", n);
    size_t k = (size_t)n - 1;
    int32_t *target = malloc(k * (sizeof *target + sizeof(float)));
    if (!target) return slm2_fail(err, SLM2_ENOMEM, "out of memory for a sequence of %d tokens", n);
    float *w = (float *)(target + k);
    for (size_t i = 0; i < k; i++) {
        target[i] = mask[i + 1] ? ids[i + 1] : -1;
        w[i] = mask[i + 1] ? weight : 0.0f;
    }
    slm2_status st = slm2_batch_add(b, ids, target, w, n - 1, err);
    free(target);
    return st;
}
