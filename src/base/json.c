/* json.c - Jansson behind our limits (nesting is bounded by Jansson itself, sizes by the caller) and our errors. */
#include "base/json.h"

#include <math.h>
#include <utf8proc.h>

#include "base/file.h"

slm2_status slm2_json_parse(json_t **out, const char *text, size_t n, const char *what, struct slm2_err *err)
{
    json_error_t e;
    *out = json_loadb(n ? text : "", n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (*out) return SLM2_OK;
    if (json_error_code(&e) == json_error_out_of_memory) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for JSON", what);
    return slm2_fail(err, SLM2_EFORMAT, "%s: line %d, column %d: not valid JSON: %s", what, e.line, e.column, e.text);
}

slm2_status slm2_json_read(json_t **out, const char *path, size_t max_bytes, struct slm2_err *err)
{
    struct slm2_buf b = {0};
    *out = NULL;
    slm2_status st = slm2_file_read(&b, path, max_bytes, err);
    if (st == SLM2_OK) st = slm2_json_parse(out, b.v, b.n, path, err);
    slm2_buf_free(&b);
    return st;
}

static int put(const char *bytes, size_t n, void *user)
{
    slm2_buf_put(user, bytes, n);
    return 0;
}

static void dump(const json_t *j, size_t flags, struct slm2_buf *out)
{
    if (json_dump_callback(j, put, out, flags | JSON_ENCODE_ANY)) out->failed = true;
}

slm2_status slm2_json_write(const json_t *j, const char *path, struct slm2_err *err)
{
    struct slm2_buf b = {0};
    dump(j, JSON_INDENT(2), &b);
    slm2_buf_putc(&b, '\n');
    slm2_status st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) st = slm2_file_write(path, b.v, b.n, err);
    slm2_buf_free(&b);
    return st;
}

void slm2_json_dump(const json_t *j, struct slm2_buf *out) { dump(j, JSON_COMPACT, out); }

void slm2_utf8_clean(const char *text, size_t n, struct slm2_buf *out)
{
    for (size_t at = 0; at < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(n - at), &c);
        if (k > 0) slm2_buf_put(out, text + at, (size_t)k);
        else slm2_buf_puts(out, "\xEF\xBF\xBD");
        at += k > 0 ? (size_t)k : 1;
    }
}

json_t *slm2_json_real(double v, const char *otherwise) { return isfinite(v) ? json_real(v) : otherwise ? json_string(otherwise) : json_null(); }

json_t *slm2_json_text(const char *text, size_t n)
{
    struct slm2_buf clean = {0};
    json_t *j = json_stringn(n ? text : "", n); /* nearly all text is UTF-8: no copy of it */
    if (j) return j;
    slm2_utf8_clean(text, n, &clean);
    j = clean.failed ? NULL : json_stringn(clean.v ? clean.v : "", clean.n);
    slm2_buf_free(&clean);
    return j;
}

static const char *type_name(const json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "of unknown type";
}

/* The member, or NULL when absent or null. */
static slm2_status member(const json_t *obj, const char *key, const char *what, const json_t **out, struct slm2_err *err)
{
    *out = NULL;
    if (!json_is_object(obj)) return slm2_fail(err, SLM2_EFORMAT, "%s: is %s, want an object", what, obj ? type_name(obj) : "missing");
    *out = json_object_get(obj, key);
    if (json_is_null(*out)) *out = NULL;
    return SLM2_OK;
}

slm2_status slm2_json_get_str(const json_t *obj, const char *key, const char *what, const char **out, struct slm2_err *err)
{
    const json_t *j;
    SLM2_TRY(member(obj, key, what, &j, err));
    if (!j) return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is missing, want a string", what, key);
    if (!json_is_string(j)) return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is %s, want a string", what, key, type_name(j));
    *out = json_string_value(j);
    return SLM2_OK;
}

/* Reals without a fraction count as integers: some writers put 1e5 or 100.0. */
static slm2_status integer(const json_t *j, const char *key, const char *what, int64_t lo, int64_t hi, int64_t *out, struct slm2_err *err)
{
    int64_t v = 0;
    bool good = true;
    if (json_is_integer(j)) {
        v = json_integer_value(j);
    } else if (json_is_real(j) && fabs(json_real_value(j)) < 0x1p53 && json_real_value(j) == floor(json_real_value(j))) {
        v = (int64_t)json_real_value(j);
    } else {
        good = false;
    }
    if (!good) {
        return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is %s, want an integer in [%lld, %lld]", what, key, type_name(j), (long long)lo,
                         (long long)hi);
    }
    if (v < lo || v > hi) {
        return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is %lld, want an integer in [%lld, %lld]", what, key, (long long)v, (long long)lo,
                         (long long)hi);
    }
    *out = v;
    return SLM2_OK;
}

slm2_status slm2_json_get_int(const json_t *obj, const char *key, const char *what, int64_t lo, int64_t hi, int64_t *out,
                              struct slm2_err *err)
{
    const json_t *j;
    SLM2_TRY(member(obj, key, what, &j, err));
    if (!j) {
        return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is missing, want an integer in [%lld, %lld]", what, key, (long long)lo,
                         (long long)hi);
    }
    return integer(j, key, what, lo, hi, out, err);
}

slm2_status slm2_json_get_int_or(const json_t *obj, const char *key, const char *what, int64_t lo, int64_t hi, int64_t def, int64_t *out,
                                 struct slm2_err *err)
{
    const json_t *j;
    SLM2_TRY(member(obj, key, what, &j, err));
    if (j) return integer(j, key, what, lo, hi, out, err);
    *out = def;
    return SLM2_OK;
}

slm2_status slm2_json_get_real_or(const json_t *obj, const char *key, const char *what, double def, double *out, struct slm2_err *err)
{
    const json_t *j;
    SLM2_TRY(member(obj, key, what, &j, err));
    if (j && !json_is_number(j)) return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is %s, want a number", what, key, type_name(j));
    *out = j ? json_number_value(j) : def;
    return SLM2_OK;
}

slm2_status slm2_json_get_bool_or(const json_t *obj, const char *key, const char *what, bool def, bool *out, struct slm2_err *err)
{
    const json_t *j;
    SLM2_TRY(member(obj, key, what, &j, err));
    if (j && !json_is_boolean(j)) return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is %s, want true or false", what, key, type_name(j));
    *out = j ? json_is_true(j) : def;
    return SLM2_OK;
}

double slm2_json_show_number(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

const char *slm2_json_str(const json_t *obj, const char *key)
{
    const char *s = json_string_value(json_object_get(obj, key));
    return s ? s : "";
}

const char *slm2_json_show_text(const json_t *obj, const char *key)
{
    const char *s = json_string_value(json_object_get(obj, key));
    return s ? s : "?";
}
