/* conf_show.c - shows settings by their table: option lines of --help, and YAML that reads back to the same settings. */
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "base/conf_impl.h"

/* ---- help --------------------------------------------------------------------------------------------------------------- */
enum { HELP_COLUMN = 32, HELP_WIDTH = 100 };

static void put_option(struct slm2_buf *out, const struct slm2_opt *row)
{
    static const char *const value[] = {[SLM2_OPT_INT] = " N",     [SLM2_OPT_INT64] = " N", [SLM2_OPT_FLOAT] = " X",
                                        [SLM2_OPT_DOUBLE] = " X",  [SLM2_OPT_BOOL] = "",    [SLM2_OPT_STR] = " TEXT",
                                        [SLM2_OPT_ENUM] = " NAME", [SLM2_OPT_LIST] = " [{...}]", [SLM2_OPT_STRS] = " TEXT"};
    slm2_buf_printf(out, row->alias ? "  -%c, --" : "      --", row->alias);
    for (const char *p = row->name; *p; p++) slm2_buf_putc(out, *p == '_' ? '-' : *p);
    slm2_buf_puts(out, row->choices == slm2_conf_file ? " FILE" : value[row->type]);
}

/* What stands behind the help text: choices, range, default. */
static void put_facts(struct slm2_buf *out, const struct slm2_opt *row)
{
    struct slm2_buf b = {0};
    if (row->type == SLM2_OPT_ENUM) {
        for (int i = 0; row->choices[i]; i++) slm2_buf_printf(&b, "%s%s", i ? ", " : "one of ", row->choices[i]);
    }
    bool number = row->type == SLM2_OPT_INT || row->type == SLM2_OPT_INT64 || row->type == SLM2_OPT_FLOAT || row->type == SLM2_OPT_DOUBLE;
    if (number && slm2_conf_has_range(row)) slm2_buf_printf(&b, "%.9g to %.9g", row->lo, row->hi);
    if (row->type == SLM2_OPT_STRS) slm2_buf_puts(&b, "may be repeated");
    if (slm2_conf_is_required(row)) {
        slm2_buf_printf(&b, "%srequired", b.n ? "; " : "");
    } else if (row->def && *row->def && !(row->type == SLM2_OPT_BOOL && !strcmp(row->def, "false"))) {
        slm2_buf_printf(&b, "%sdefault %s", b.n ? "; " : "", row->def);
    }
    if (b.n) slm2_buf_printf(out, " (%s)", b.v);
    slm2_buf_free(&b);
}

/* Words of text from column HELP_COLUMN on, broken before HELP_WIDTH. */
static void put_wrapped(struct slm2_buf *out, const char *text, size_t column)
{
    if (column + 2 > HELP_COLUMN) {
        slm2_buf_putc(out, '\n');
        column = 0;
    }
    slm2_buf_printf(out, "%*s", (int)(HELP_COLUMN - column), "");
    column = HELP_COLUMN;
    for (bool first = true; *text; first = false) {
        size_t n = strcspn(text, " ");
        if (!first && column + 1 + n > HELP_WIDTH) {
            slm2_buf_printf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (!first) {
            slm2_buf_putc(out, ' ');
            column++;
        }
        slm2_buf_put(out, text, n);
        column += n;
        text += n;
        text += strspn(text, " ");
    }
    slm2_buf_putc(out, '\n');
}

void slm2_conf_help(const struct slm2_opt *table, struct slm2_buf *out)
{
    for (const struct slm2_opt *r = table; r->name; r++) {
        struct slm2_buf text = {0};
        size_t start = out->n;
        put_option(out, r);
        slm2_buf_puts(&text, r->help ? r->help : "");
        put_facts(&text, r);
        put_wrapped(out, text.v ? text.v : "", out->n - start);
        slm2_buf_free(&text);
        if (r->type != SLM2_OPT_LIST) continue;
        for (const struct slm2_opt *s = r->sub; s->name; s++) { /* the keys of an item */
            struct slm2_buf key = {0};
            slm2_buf_printf(&key, "          %s:", s->name);
            slm2_buf_puts(&text, s->help ? s->help : "");
            put_facts(&text, s);
            slm2_buf_puts(out, key.v ? key.v : "");
            put_wrapped(out, text.v ? text.v : "", key.n);
            slm2_buf_free(&key);
            slm2_buf_free(&text);
        }
    }
}

/* ---- dump --------------------------------------------------------------------------------------------------------------- */
/* The fewest digits that read back to the same number. */
static void put_double(struct slm2_buf *out, double v)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break; /* exact comparison is the point */
    }
    slm2_buf_puts(out, text);
}

static void put_float(struct slm2_buf *out, float v)
{
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if ((float)strtod(text, NULL) == v) break;
    }
    slm2_buf_puts(out, text);
}

/* Double-quoted; what YAML takes for a line break or refuses as a character is escaped. */
static void put_string(struct slm2_buf *out, const char *s)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)(s ? s : "");
    slm2_buf_putc(out, '"');
    while (*p) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k = utf8proc_iterate(p, -1, &c);
        if (k <= 0) {
            c = *p;
            k = 1;
        }
        if (c == '"' || c == '\\') {
            slm2_buf_printf(out, "\\%c", (int)c);
        } else if (c == '\n') {
            slm2_buf_puts(out, "\\n");
        } else if (c == '\t') {
            slm2_buf_puts(out, "\\t");
        } else if (c < 0x20 || (c >= 0x7f && c < 0xa0)) {
            slm2_buf_printf(out, "\\x%02x", (unsigned)c);
        } else if (c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe || c == 0xffff) {
            slm2_buf_printf(out, "\\u%04x", (unsigned)c);
        } else {
            slm2_buf_put(out, p, (size_t)k);
        }
        p += k;
    }
    slm2_buf_putc(out, '"');
}

/* Starts a line; the first line of a list item carries its "- " in the last two columns of the indent. */
static void start_line(struct slm2_buf *out, int indent, bool *bullet)
{
    slm2_buf_printf(out, "%*s%s", *bullet ? indent - 2 : indent, "", *bullet ? "- " : "");
    *bullet = false;
}

static void dump_rows(const struct slm2_opt *table, const void *obj, const char *prefix, size_t n_prefix, int indent, bool *bullet,
                      struct slm2_buf *out);

static void dump_value(const struct slm2_opt *row, const void *obj, int indent, struct slm2_buf *out)
{
    const void *f = slm2_conf_cfield(row, obj);
    const struct slm2_conf_list *list = f;
    slm2_buf_putc(out, ' ');
    switch (row->type) {
    case SLM2_OPT_INT: slm2_buf_printf(out, "%d", *(const int *)f); break;
    case SLM2_OPT_INT64: slm2_buf_printf(out, "%lld", (long long)*(const int64_t *)f); break;
    case SLM2_OPT_FLOAT: put_float(out, *(const float *)f); break;
    case SLM2_OPT_DOUBLE: put_double(out, *(const double *)f); break;
    case SLM2_OPT_BOOL: slm2_buf_puts(out, *(const bool *)f ? "true" : "false"); break;
    case SLM2_OPT_STR: put_string(out, *(char *const *)f); break;
    case SLM2_OPT_ENUM: put_string(out, row->choices[*(const int *)f]); break;
    case SLM2_OPT_LIST:
    case SLM2_OPT_STRS:
        if (list->n == 0) slm2_buf_puts(out, "[]");
        for (int i = 0; i < list->n; i++) {
            bool bullet = true;
            slm2_buf_putc(out, '\n');
            if (row->type == SLM2_OPT_STRS) {
                start_line(out, indent + 4, &bullet);
                put_string(out, ((char *const *)list->items)[i]);
                continue;
            }
            dump_rows(row->sub, (const char *)list->items + (size_t)i * row->sub_size, "", 0, indent + 4, &bullet, out);
            if (bullet) {
                start_line(out, indent + 4, &bullet);
                slm2_buf_puts(out, "{}");
            } else if (out->n && out->v[out->n - 1] == '\n') {
                out->v[--out->n] = 0; /* the caller ends the line */
            }
        }
        break;
    }
    slm2_buf_putc(out, '\n');
}

/* Rows below prefix (a mapping's name with its dot); rows of one mapping come together wherever they stand in the table. */
static void dump_rows(const struct slm2_opt *table, const void *obj, const char *prefix, size_t n_prefix, int indent, bool *bullet,
                      struct slm2_buf *out)
{
    for (const struct slm2_opt *r = table; r->name; r++) {
        if (strncmp(r->name, prefix, n_prefix) != 0 || slm2_conf_is_unset(r, obj)) continue;
        const char *key = r->name + n_prefix, *dot = strchr(key, '.');
        if (!dot) {
            start_line(out, indent, bullet);
            slm2_buf_printf(out, "%s:", key);
            dump_value(r, obj, indent, out);
            continue;
        }
        size_t n_inner = (size_t)(dot + 1 - r->name);
        bool earlier = false;
        for (const struct slm2_opt *q = table; q < r && !earlier; q++) {
            earlier = !strncmp(q->name, r->name, n_inner) && !slm2_conf_is_unset(q, obj);
        }
        if (earlier) continue;
        start_line(out, indent, bullet);
        slm2_buf_put(out, key, (size_t)(dot - key));
        slm2_buf_puts(out, ":\n");
        dump_rows(table, obj, r->name, n_inner, indent + 4, bullet, out);
    }
}

void slm2_conf_dump(const struct slm2_opt *table, const void *obj, struct slm2_buf *out)
{
    bool bullet = false;
    dump_rows(table, obj, "", 0, 0, &bullet, out);
}
