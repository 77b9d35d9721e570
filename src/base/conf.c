/* conf.c - reads settings by their table: from YAML (libyaml's document form), from "key=value" and from a command line.
 * Every value, whatever its source, passes through set_text, so that types and ranges are judged in one place. */
#include "base/conf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>
#include <yaml.h>

#include "base/conf_impl.h"
#include "base/file.h"
#include "base/num.h"

enum { MAX_NAME = 256, MAX_ITEMS = 100000, MAX_FILE_BYTES = 16 << 20 };

/* Where a value comes from, for messages. */
struct place {
    const char *file; /* NULL: the command line */
    size_t line;      /* from 1 */
};

static slm2_status bad(const struct place *at, const char *name, struct slm2_err *err, const char *fmt, ...) SLM2_PRINTF(4, 5);
static slm2_status bad(const struct place *at, const char *name, struct slm2_err *err, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!at->file) return slm2_fail(err, SLM2_EUSAGE, "setting %s: %s", name, text);
    return slm2_fail(err, SLM2_EFORMAT, "%s: line %zu: %s: %s", at->file, at->line, name, text);
}

/* ---- names -------------------------------------------------------------------------------------------------------------- */
/* Names are equal up to '-' and '_'. */
static bool same_name(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char x = a[i] == '-' ? '_' : a[i], y = b[i] == '-' ? '_' : b[i];
        if (x != y || !x) return x == y;
    }
    return true;
}

static const struct slm2_opt *find_row(const struct slm2_opt *table, const char *name, size_t n)
{
    for (const struct slm2_opt *r = table; r->name; r++) {
        if (strlen(r->name) == n && same_name(r->name, name, n)) return r;
    }
    return NULL;
}

int slm2_conf_distance(const char *a, const char *b)
{
    int row[MAX_NAME + 1];
    int n = (int)strnlen(b, MAX_NAME);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; *a && i <= MAX_NAME; i++, a++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j], best = diagonal + ((*a == '-' ? '_' : *a) != b[j - 1]);
            best = slm2_min_int(best, slm2_min_int(above, row[j - 1]) + 1);
            diagonal = above;
            row[j] = best;
        }
    }
    return row[n];
}

/* "; did you mean \"x\"?" or nothing when no name is near. */
static const char *hint(const struct slm2_opt *table, const char *name, char *out, size_t cap)
{
    int best = slm2_max_int(2, (int)strnlen(name, MAX_NAME) / 3) + 1;
    const char *nearest = NULL;
    for (const struct slm2_opt *r = table; r->name; r++) {
        const char *last = strrchr(r->name, '.'); /* the last part alone counts too: lr_peak for train.lr_peak */
        int d = slm2_conf_distance(name, r->name);
        if (last) d = slm2_min_int(d, slm2_conf_distance(name, last + 1) + 1);
        if (d < best) {
            best = d;
            nearest = r->name;
        }
    }
    out[0] = 0;
    if (nearest) snprintf(out, cap, "; did you mean \"%s\"?", nearest);
    return out;
}

/* ---- values ------------------------------------------------------------------------------------------------------------- */
static void free_list(const struct slm2_opt *row, struct slm2_conf_list *list)
{
    for (int i = 0; i < list->n; i++) {
        if (row->type == SLM2_OPT_STRS) {
            free(((char **)list->items)[i]);
        } else {
            slm2_conf_free(row->sub, (char *)list->items + (size_t)i * row->sub_size);
        }
    }
    free(list->items);
    *list = (struct slm2_conf_list){0};
}

/* One more item, zeroed; NULL when out of memory. */
static void *list_add(const struct slm2_opt *row, struct slm2_conf_list *list)
{
    size_t size = row->type == SLM2_OPT_STRS ? sizeof(char *) : row->sub_size;
    char *items = realloc(list->items, ((size_t)list->n + 1) * size);
    if (!items) return NULL;
    list->items = items;
    return memset(items + (size_t)list->n++ * size, 0, size);
}

static bool is_utf8(const char *s)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)s;
    for (utf8proc_int32_t c; *p;) {
        utf8proc_ssize_t k = utf8proc_iterate(p, -1, &c);
        if (k <= 0) return false;
        p += k;
    }
    return true;
}

static slm2_status set_str(char **field, const char *text, const char *name, const struct place *at, struct slm2_err *err)
{
    if (!is_utf8(text)) return bad(at, name, err, "is not valid UTF-8");
    char *copy = strdup(text);
    if (!copy) return slm2_fail(err, SLM2_ENOMEM, "setting %s: out of memory", name);
    free(*field);
    *field = copy;
    return SLM2_OK;
}

static bool parse_real(const char *s, double *out)
{
    char *end;
    if (!strchr("+-.0123456789", *s) || !*s) return false;
    errno = 0;
    *out = strtod(s, &end);
    return !*end && isfinite(*out);
}

/* 12, -3, 0x10 and, when exact, 1e9 */
static bool parse_integer(const char *s, int64_t *out)
{
    char *end;
    double d;
    if (!*s || !strchr("+-0123456789", *s)) return false;
    errno = 0;
    bool hex = strchr(s, 'x') || strchr(s, 'X');
    *out = strtoll(s, &end, hex ? 16 : 10);
    if (!*end) return errno == 0 && end != s;
    if (hex || !parse_real(s, &d) || d != floor(d) || fabs(d) > 0x1p53) return false;
    *out = (int64_t)d;
    return true;
}

static void range_text(const struct slm2_opt *row, char *out, size_t cap)
{
    out[0] = 0;
    if (slm2_conf_has_range(row)) snprintf(out, cap, " in [%.15g, %.15g]", row->lo, row->hi);
}

static slm2_status set_integer(const struct slm2_opt *row, void *field, const char *text, const char *name, const struct place *at,
                               struct slm2_err *err)
{
    char range[80];
    int64_t v;
    bool is_int = row->type == SLM2_OPT_INT;
    range_text(row, range, sizeof range);
    if (!parse_integer(text, &v)) return bad(at, name, err, "is \"%.80s\", want an integer%s", text, range);
    if (v == INT64_MIN || (is_int && (v <= INT_MIN || v > INT_MAX)) ||
        (slm2_conf_has_range(row) && ((double)v < row->lo || (double)v > row->hi))) {
        return bad(at, name, err, "is %s, out of range: want an integer%s", text, range[0] ? range : " that fits the type");
    }
    if (is_int) {
        *(int *)field = (int)v;
    } else {
        *(int64_t *)field = v;
    }
    return SLM2_OK;
}

static slm2_status set_real(const struct slm2_opt *row, void *field, const char *text, const char *name, const struct place *at,
                            struct slm2_err *err)
{
    char range[80];
    double v;
    range_text(row, range, sizeof range);
    if (!parse_real(text, &v)) return bad(at, name, err, "is \"%.80s\", want a number%s", text, range);
    if (slm2_conf_has_range(row) && !(v >= row->lo && v <= row->hi)) {
        return bad(at, name, err, "is %s, out of range: want a number%s", text, range);
    }
    if (row->type == SLM2_OPT_DOUBLE) {
        *(double *)field = v;
    } else if (fabs(v) > 3.4028234e38) {
        return bad(at, name, err, "is %s, too large for single precision", text);
    } else {
        *(float *)field = (float)v;
    }
    return SLM2_OK;
}

static slm2_status set_bool(bool *field, const char *text, const char *name, const struct place *at, struct slm2_err *err)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!strcmp(text, words[i])) {
            *field = i & 1;
            return SLM2_OK;
        }
    }
    return bad(at, name, err, "is \"%.80s\", want true or false", text);
}

static slm2_status set_enum(const struct slm2_opt *row, int *field, const char *text, const char *name, const struct place *at,
                            struct slm2_err *err)
{
    struct slm2_buf all = {0};
    for (int i = 0; row->choices[i]; i++) {
        if (!strcmp(text, row->choices[i])) {
            slm2_buf_free(&all);
            *field = i;
            return SLM2_OK;
        }
        slm2_buf_printf(&all, "%s%s", i ? ", " : "", row->choices[i]);
    }
    slm2_status st = bad(at, name, err, "is \"%.80s\", want one of %s", text, all.v ? all.v : "(nothing)");
    slm2_buf_free(&all);
    return st;
}

/* A value that is one text. */
static slm2_status set_text(const struct slm2_opt *row, void *obj, const char *text, const char *name, const struct place *at,
                            struct slm2_err *err)
{
    void *f = slm2_conf_field(row, obj);
    switch (row->type) {
    case SLM2_OPT_INT:
    case SLM2_OPT_INT64: return set_integer(row, f, text, name, at, err);
    case SLM2_OPT_FLOAT:
    case SLM2_OPT_DOUBLE: return set_real(row, f, text, name, at, err);
    case SLM2_OPT_BOOL: return set_bool(f, text, name, at, err);
    case SLM2_OPT_STR: return set_str(f, text, name, at, err);
    case SLM2_OPT_ENUM: return set_enum(row, f, text, name, at, err);
    case SLM2_OPT_LIST: break;
    case SLM2_OPT_STRS: {
        char **item = list_add(row, f);
        if (!item) return slm2_fail(err, SLM2_ENOMEM, "setting %s: out of memory", name);
        slm2_status st = set_str(item, text, name, at, err);
        if (st != SLM2_OK) ((struct slm2_conf_list *)f)->n--;
        return st;
    }
    }
    return bad(at, name, err, "want a list of mappings");
}

/* ---- YAML --------------------------------------------------------------------------------------------------------------- */
static slm2_status set_mapping(const struct slm2_opt *table, void *obj, yaml_document_t *doc, yaml_node_t *node, const char *prefix,
                               const char *label, const char *file, struct slm2_err *err);

static bool is_null(const yaml_node_t *node)
{
    const char *s = (const char *)node->data.scalar.value;
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*s || !strcmp(s, "~") || !strcmp(s, "null"));
}

static slm2_status set_scalar(const struct slm2_opt *row, void *obj, const yaml_node_t *node, const char *name, const struct place *at,
                              struct slm2_err *err)
{
    if (node->type != YAML_SCALAR_NODE) {
        return bad(at, name, err, "is a %s, want one value", node->type == YAML_MAPPING_NODE ? "mapping" : "list");
    }
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length) return bad(at, name, err, "has a NUL character");
    bool is_text = row->type == SLM2_OPT_STR || row->type == SLM2_OPT_STRS || row->type == SLM2_OPT_ENUM;
    if (!is_text && node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) {
        return bad(at, name, err, "is a string (quoted), want a %s", row->type == SLM2_OPT_BOOL ? "boolean" : "number");
    }
    if (row->type == SLM2_OPT_STR && is_null(node)) text = "";
    return set_text(row, obj, text, name, at, err);
}

/* The row of a sub-table that an item of plain text is the value of, or NULL. */
static const struct slm2_opt *plain_row(const struct slm2_opt *list)
{
    for (const struct slm2_opt *r = list->type == SLM2_OPT_LIST ? list->sub : NULL; r && r->name; r++) {
        if (r->alias == '=') return r;
    }
    return NULL;
}

/* One more item of a list, from plain text. */
static slm2_status add_plain(const struct slm2_opt *row, void *obj, const char *text, const char *name, const struct place *at, struct slm2_err *err)
{
    void *sub = list_add(row, slm2_conf_field(row, obj));
    if (!sub) return slm2_fail(err, SLM2_ENOMEM, "setting %s: out of memory", name);
    slm2_conf_init(row->sub, sub);
    return set_text(plain_row(row), sub, text, name, at, err);
}

static slm2_status set_list(const struct slm2_opt *row, void *obj, yaml_document_t *doc, yaml_node_t *node, const char *name,
                            const struct place *at, struct slm2_err *err)
{
    struct slm2_conf_list *list = slm2_conf_field(row, obj);
    free_list(row, list);
    if (is_null(node)) return SLM2_OK;
    if (node->type == YAML_SCALAR_NODE && row->type == SLM2_OPT_STRS) return set_scalar(row, obj, node, name, at, err);
    if (node->type == YAML_SCALAR_NODE && plain_row(row)) return add_plain(row, obj, (const char *)node->data.scalar.value, name, at, err);
    if (node->type != YAML_SEQUENCE_NODE) return bad(at, name, err, "want a list");
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(doc, *i);
        struct place where = {at->file, at->file ? item->start_mark.line + 1 : 0};
        char label[MAX_NAME];
        if (list->n >= MAX_ITEMS) return bad(&where, name, err, "has more than %d items", MAX_ITEMS);
        snprintf(label, sizeof label, "%s[%d]", name, list->n);
        if (row->type == SLM2_OPT_STRS) {
            SLM2_TRY(set_scalar(row, obj, item, label, &where, err));
            continue;
        }
        if (item->type == YAML_SCALAR_NODE && plain_row(row)) {
            SLM2_TRY(add_plain(row, obj, (const char *)item->data.scalar.value, label, &where, err));
            continue;
        }
        void *sub = list_add(row, list);
        if (!sub) return slm2_fail(err, SLM2_ENOMEM, "setting %s: out of memory", name);
        slm2_conf_init(row->sub, sub);
        if (item->type != YAML_MAPPING_NODE) return bad(&where, label, err, "want a mapping");
        SLM2_TRY(set_mapping(row->sub, sub, doc, item, "", label, at->file, err));
    }
    return SLM2_OK;
}

static bool is_prefix(const struct slm2_opt *table, const char *name)
{
    size_t n = strlen(name);
    for (const struct slm2_opt *r = table; r->name; r++) {
        if (strlen(r->name) > n && r->name[n] == '.' && same_name(r->name, name, n)) return true;
    }
    return false;
}

/* prefix: what the keys of this mapping lack of their rows' names ("" or "train."); label: the item of a list that it is, or "". */
static slm2_status set_mapping(const struct slm2_opt *table, void *obj, yaml_document_t *doc, yaml_node_t *node, const char *prefix,
                               const char *label, const char *file, struct slm2_err *err)
{
    yaml_node_pair_t *first = node->data.mapping.pairs.start;
    for (yaml_node_pair_t *pair = first; pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = yaml_document_get_node(doc, pair->key), *value = yaml_document_get_node(doc, pair->value);
        struct place at = {file, file ? key->start_mark.line + 1 : 0};
        char name[MAX_NAME], full[2 * MAX_NAME + 2], near[MAX_NAME + 32];
        if (key->type != YAML_SCALAR_NODE) return bad(&at, *label ? label : "settings", err, "a key is not a plain word");
        const char *text = (const char *)key->data.scalar.value;
        snprintf(name, sizeof name, "%s%.100s", prefix, text);
        snprintf(full, sizeof full, "%s%s%s", label, *label ? "." : "", name);
        for (yaml_node_pair_t *p = first; p < pair; p++) {
            yaml_node_t *earlier = yaml_document_get_node(doc, p->key);
            if (!strcmp((const char *)earlier->data.scalar.value, text)) {
                return bad(&at, full, err, "is given twice, first on line %zu", earlier->start_mark.line + 1);
            }
        }
        const struct slm2_opt *row = find_row(table, name, strlen(name));
        if (row && (row->type == SLM2_OPT_LIST || row->type == SLM2_OPT_STRS)) {
            SLM2_TRY(set_list(row, obj, doc, value, full, &at, err));
        } else if (row) {
            SLM2_TRY(set_scalar(row, obj, value, full, &at, err));
        } else if (!is_prefix(table, name)) {
            return bad(&at, full, err, "unknown setting%s", hint(table, name, near, sizeof near));
        } else if (value->type == YAML_MAPPING_NODE) {
            char inner[MAX_NAME + 1];
            snprintf(inner, sizeof inner, "%s.", name);
            SLM2_TRY(set_mapping(table, obj, doc, value, inner, label, file, err));
        } else if (!is_null(value)) {
            return bad(&at, full, err, "want a mapping");
        }
    }
    return SLM2_OK;
}

/* Parses text; row NULL: a mapping of the whole table, else the value of that row. */
static slm2_status set_yaml(const struct slm2_opt *table, const struct slm2_opt *row, void *obj, const char *text, size_t n,
                            const char *file, struct slm2_err *err)
{
    yaml_parser_t parser;
    yaml_document_t doc, next;
    slm2_status st = SLM2_OK;
    struct place at = {file, 1};
    const char *name = row ? row->name : "settings";
    bool have_doc = false;
    if (!yaml_parser_initialize(&parser)) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for YAML", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    if (!yaml_parser_load(&parser, &doc)) {
        at.line = parser.problem_mark.line + 1;
        st = bad(&at, name, err, "not valid YAML: %s%s%s", parser.context ? parser.context : "", parser.context ? ": " : "",
                 parser.problem ? parser.problem : "unknown problem");
        goto done;
    }
    have_doc = true;
    yaml_node_t *root = yaml_document_get_root_node(&doc);
    if (root && row) {
        st = set_list(row, obj, &doc, root, row->name, &at, err);
    } else if (root && root->type == YAML_MAPPING_NODE) {
        st = set_mapping(table, obj, &doc, root, "", "", file, err);
    } else if (root && !is_null(root)) {
        st = bad(&at, name, err, "want a mapping of settings (key: value lines)");
    }
    if (st == SLM2_OK && root) { /* behind the end there must be nothing: a second document would be settings not honoured */
        if (!yaml_parser_load(&parser, &next)) {
            at.line = parser.problem_mark.line + 1;
            st = bad(&at, name, err, "not valid YAML: %s", parser.problem ? parser.problem : "unknown problem");
        } else {
            if (yaml_document_get_root_node(&next)) {
                at.line = yaml_document_get_root_node(&next)->start_mark.line + 1;
                st = bad(&at, name, err, "a second YAML document begins, want one");
            }
            yaml_document_delete(&next);
        }
    }
done:
    if (have_doc) yaml_document_delete(&doc);
    yaml_parser_delete(&parser);
    return st;
}

slm2_status slm2_conf_yaml(const struct slm2_opt *table, void *obj, const char *path, struct slm2_err *err)
{
    struct slm2_buf b = {0};
    slm2_status st = slm2_file_read(&b, path, MAX_FILE_BYTES, err);
    if (st == SLM2_OK) st = set_yaml(table, NULL, obj, b.v, b.n, path, err);
    slm2_buf_free(&b);
    return st;
}

/* ---- life of the object ------------------------------------------------------------------------------------------------- */
void slm2_conf_init(const struct slm2_opt *table, void *obj)
{
    static const struct place built_in = {"default", 0};
    for (const struct slm2_opt *r = table; r->name; r++) {
        void *f = slm2_conf_field(r, obj);
        bool required = slm2_conf_is_required(r);
        const char *def = required ? NULL : r->def;
        switch (r->type) {
        case SLM2_OPT_INT: *(int *)f = required ? INT_MIN : 0; break;
        case SLM2_OPT_INT64: *(int64_t *)f = required ? INT64_MIN : 0; break;
        case SLM2_OPT_FLOAT: *(float *)f = required ? NAN : 0; break;
        case SLM2_OPT_DOUBLE: *(double *)f = required ? (double)NAN : 0; break;
        case SLM2_OPT_BOOL: *(bool *)f = false; break;
        case SLM2_OPT_STR:
            *(char **)f = NULL;
            if (!def) def = "";
            break;
        case SLM2_OPT_ENUM: *(int *)f = required ? -1 : 0; break;
        case SLM2_OPT_LIST:
        case SLM2_OPT_STRS: *(struct slm2_conf_list *)f = (struct slm2_conf_list){0}; break;
        }
        if (!def) continue;
        if (r->type == SLM2_OPT_LIST || r->type == SLM2_OPT_STRS) {
            set_yaml(table, r, obj, def, strlen(def), "default", NULL);
        } else {
            set_text(r, obj, def, r->name, &built_in, NULL);
        }
    }
}

void slm2_conf_free(const struct slm2_opt *table, void *obj)
{
    for (const struct slm2_opt *r = table; r->name; r++) {
        void *f = slm2_conf_field(r, obj);
        if (r->type == SLM2_OPT_STR) {
            free(*(char **)f);
            *(char **)f = NULL;
        } else if (r->type == SLM2_OPT_LIST || r->type == SLM2_OPT_STRS) {
            free_list(r, f);
        }
    }
}

/* ---- assignments and command lines -------------------------------------------------------------------------------------- */
static slm2_status assign(const struct slm2_opt *table, void *obj, const char *name, size_t n, const char *value, struct slm2_err *err)
{
    static const struct place command_line = {NULL, 0};
    const struct slm2_opt *row = find_row(table, name, n);
    char shown[MAX_NAME], near[MAX_NAME + 32];
    snprintf(shown, sizeof shown, "%.*s", (int)slm2_min_size(n, MAX_NAME - 1), name);
    if (row && plain_row(row) && !strchr("[{", value[0])) { /* taken as it is */
        free_list(row, slm2_conf_field(row, obj));
        return add_plain(row, obj, value, row->name, &command_line, err);
    }
    if (row && plain_row(row) && !value[0]) free_list(row, slm2_conf_field(row, obj));
    if (row && (row->type == SLM2_OPT_LIST || (row->type == SLM2_OPT_STRS && value[0] == '['))) {
        return set_yaml(table, row, obj, value, strlen(value), NULL, err);
    }
    if (row) {
        if (row->type == SLM2_OPT_STRS) free_list(row, slm2_conf_field(row, obj));
        return set_text(row, obj, value, row->name, &command_line, err);
    }
    for (const struct slm2_opt *r = table; r->name; r++) { /* sources.0.weight */
        size_t k = strlen(r->name);
        if (r->type != SLM2_OPT_LIST || n <= k + 1 || name[k] != '.' || !same_name(r->name, name, k)) continue;
        const struct slm2_conf_list *list = slm2_conf_field(r, obj);
        char *end;
        long i = strtol(name + k + 1, &end, 10);
        if (end == name + k + 1 || *end != '.' || end >= name + n || i < 0) break;
        if (i >= list->n) return bad(&command_line, shown, err, "the list has %d items", list->n);
        slm2_status st = assign(r->sub, (char *)list->items + (size_t)i * r->sub_size, end + 1, n - (size_t)(end + 1 - name), value, err);
        return st == SLM2_OK ? st : slm2_wrap(err, st, "%s[%ld]", r->name, i);
    }
    return bad(&command_line, shown, err, "unknown%s", hint(table, shown, near, sizeof near));
}

slm2_status slm2_conf_set(const struct slm2_opt *table, void *obj, const char *assignment, struct slm2_err *err)
{
    const char *equal = strchr(assignment, '=');
    if (!equal || equal == assignment) return slm2_fail(err, SLM2_EUSAGE, "\"%.200s\" is not of the form key=value", assignment);
    return assign(table, obj, assignment, (size_t)(equal - assignment), equal + 1, err);
}

/* One option; *i advances past a value that is an argument of its own.  seen[row]: several strings were begun by this command line. */
static slm2_status option(const struct slm2_opt *table, void *obj, int argc, char **argv, int *i, bool *seen, struct slm2_err *err)
{
    static const struct place command_line = {NULL, 0};
    char *arg = argv[*i];
    const struct slm2_opt *row = NULL;
    const char *value = NULL;
    char near[MAX_NAME + 32];
    if (arg[1] == '-') {
        const char *name = arg + 2, *equal = strchr(name, '=');
        size_t n = equal ? (size_t)(equal - name) : strlen(name);
        if (equal) value = equal + 1;
        row = find_row(table, name, n);
        if (!row && !equal && !strncmp(name, "no-", 3)) {
            row = find_row(table, name + 3, n - 3);
            if (row && row->type == SLM2_OPT_BOOL) return set_text(row, obj, "false", row->name, &command_line, err);
            row = NULL;
        }
        if (!row && n == 3 && !strncmp(name, "set", 3)) {
            if (!value && *i + 1 < argc) value = argv[++*i];
            if (!value) return slm2_fail(err, SLM2_EUSAGE, "--set: wants key=value behind it");
            return slm2_conf_set(table, obj, value, err);
        }
        if (!row && value && strchr(name, '.')) return assign(table, obj, name, n, value, err); /* --sources.0.weight=2 */
        if (!row) {
            char shown[MAX_NAME];
            snprintf(shown, sizeof shown, "%.*s", (int)slm2_min_size(n, MAX_NAME - 1), name);
            hint(table, shown, near, sizeof near);
            for (char *p = near; *p; p++) {
                if (*p == '_') *p = '-';
            }
            return slm2_fail(err, SLM2_EUSAGE, "unknown option --%s%s", shown, near);
        }
    } else {
        for (const struct slm2_opt *r = table; r->name && !row; r++) {
            if (r->alias && r->alias != '=' && r->alias == arg[1]) row = r;
        }
        if (!row) return slm2_fail(err, SLM2_EUSAGE, "unknown option %.80s", arg);
        if (arg[2]) value = arg + 2 + (arg[2] == '=');
    }
    if (!value && row->type == SLM2_OPT_BOOL) value = "true";
    if (!value && *i + 1 < argc) value = argv[++*i];
    if (!value) return slm2_fail(err, SLM2_EUSAGE, "option %s wants a value behind it", arg);
    if (row->type == SLM2_OPT_STRS && seen[row - table]) return set_text(row, obj, value, row->name, &command_line, err);
    if (plain_row(row) && seen[row - table] && !strchr("[{", value[0])) return add_plain(row, obj, value, row->name, &command_line, err);
    seen[row - table] = true;
    if (row->type == SLM2_OPT_STRS) { /* taken as it is: a stop string may begin with '[' */
        free_list(row, slm2_conf_field(row, obj));
        return set_text(row, obj, value, row->name, &command_line, err);
    }
    return assign(table, obj, row->name, strlen(row->name), value, err);
}

slm2_status slm2_conf_args(const struct slm2_opt *table, void *obj, int argc, char **argv, const char **pos, int max_pos, int *n_pos,
                           bool *help, struct slm2_err *err)
{
    size_t n_rows = 1;
    slm2_status st = SLM2_OK;
    bool options = true;
    while (table[n_rows - 1].name) n_rows++;
    bool *seen = calloc(n_rows, sizeof *seen);
    if (!seen) return slm2_fail(err, SLM2_ENOMEM, "out of memory for the command line");
    for (int i = 1; i < argc && st == SLM2_OK; i++) {
        char *arg = argv[i];
        if (options && !strcmp(arg, "--")) {
            options = false;
        } else if (options && (!strcmp(arg, "--help") || !strcmp(arg, "-h"))) {
            *help = true;
        } else if (options && arg[0] == '-' && arg[1]) {
            st = option(table, obj, argc, argv, &i, seen, err);
        } else if (*n_pos < max_pos) {
            pos[(*n_pos)++] = arg;
        } else {
            st = slm2_fail(err, SLM2_EUSAGE, "unexpected argument \"%.200s\"", arg);
        }
    }
    free(seen);
    return st;
}

static slm2_status required(const struct slm2_opt *table, const void *obj, const char *label, struct slm2_err *err)
{
    for (const struct slm2_opt *r = table; r->name; r++) {
        if (slm2_conf_is_unset(r, obj)) {
            return slm2_fail(err, SLM2_EUSAGE, "setting %s%s is required: %s", label, r->name, r->help ? r->help : "");
        }
        if (r->type != SLM2_OPT_LIST) continue;
        const struct slm2_conf_list *list = slm2_conf_cfield(r, obj);
        for (int i = 0; i < list->n; i++) {
            char inner[MAX_NAME];
            snprintf(inner, sizeof inner, "%.150s%.80s[%d].", label, r->name, i);
            SLM2_TRY(required(r->sub, (const char *)list->items + (size_t)i * r->sub_size, inner, err));
        }
    }
    return SLM2_OK;
}

slm2_status slm2_conf_required(const struct slm2_opt *table, const void *obj, struct slm2_err *err)
{
    return required(table, obj, "", err);
}

/* ---- names of files ------------------------------------------------------------------------------------------------------- */
const char *const slm2_conf_file[] = {NULL};

slm2_status slm2_conf_files(const struct slm2_opt *table, void *obj, slm2_status (*each)(char **path, struct slm2_err *err), struct slm2_err *err)
{
    for (const struct slm2_opt *r = table; r->name; r++) {
        void *f = slm2_conf_field(r, obj);
        const struct slm2_conf_list *list = f;
        if (r->type == SLM2_OPT_LIST) {
            for (int i = 0; i < list->n; i++) SLM2_TRY(slm2_conf_files(r->sub, (char *)list->items + (size_t)i * r->sub_size, each, err));
        } else if (r->choices == slm2_conf_file) {
            char **path = r->type == SLM2_OPT_STRS ? list->items : f;
            for (int i = 0; i < (r->type == SLM2_OPT_STRS ? list->n : 1); i++)
                if (path[i] && *path[i]) SLM2_TRY(each(&path[i], err));
        }
    }
    return SLM2_OK;
}
