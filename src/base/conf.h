/* conf.h - one table of settings gives the YAML schema, the command line, ranges, --help and the dump of what was in force.
 *
 * A settings struct is plain C; its rows say where each field lies.  Strings are owned by the struct (char *, never NULL after
 * slm2_conf_init: default "" unless given).  Lists are struct slm2_conf_list of sub-structs described by a sub-table.
 * Row names may have dots ("train.lr_peak"): in YAML that is key lr_peak of mapping train; on the command line
 * `--set train.lr_peak=1e-3`, or `--train.lr-peak 1e-3`; a name without dots, "top_k", is the option `--top-k`.  A row's alias
 * is a single-letter option (-t).  Lists are written on the command line as YAML, `--set 'sources=[{path: a.jsonl, weight: 2}]'`;
 * one field of an existing item is `--set sources.0.weight=2`.  Where a row of the sub-table has the alias '=', an item may be plain text,
 * which is that row's value: `data: [a.jsonl, {path: b.jsonl, repeat: 2}]`, `data: a.jsonl`, `--data a.jsonl --data b.jsonl`. */
#ifndef SLM2_BASE_CONF_H
#define SLM2_BASE_CONF_H
#include "base/buf.h"

enum slm2_opt_type {
    SLM2_OPT_INT,    /* int */
    SLM2_OPT_INT64,  /* int64_t */
    SLM2_OPT_FLOAT,  /* float */
    SLM2_OPT_DOUBLE, /* double */
    SLM2_OPT_BOOL,   /* bool; on the command line `--flag`, `--flag=false` or `--no-flag` */
    SLM2_OPT_STR,    /* char * */
    SLM2_OPT_ENUM,   /* int: index into choices */
    SLM2_OPT_LIST,   /* struct slm2_conf_list of sub */
    SLM2_OPT_STRS,   /* struct slm2_conf_list of char *: several strings; repeated on the command line */
};
struct slm2_opt {
    const char *name;
    enum slm2_opt_type type;
    size_t offset;
    double lo, hi;               /* numbers: closed range; both 0: any finite number */
    const char *def;             /* default as text (lists: YAML); NULL: 0, false, "" or an empty list; "!" means required */
    const char *help;
    const char *const *choices;  /* ENUM: names, NULL-terminated; STR, STRS: NULL, or slm2_conf_file */
    const struct slm2_opt *sub;  /* LIST: rows of an item; a table ends with a row whose name is NULL */
    size_t sub_size;             /* LIST: bytes of an item */
    char alias;                  /* single-letter option, '=' (see above), or 0 */
};
struct slm2_conf_list { void *items; int n; };

void slm2_conf_init(const struct slm2_opt *table, void *obj); /* zeroes what the rows name, then sets the defaults */
void slm2_conf_free(const struct slm2_opt *table, void *obj);
/* Unknown keys, duplicates, wrong types and values out of range are errors that name file, line and key, with the nearest known key. */
slm2_status slm2_conf_yaml(const struct slm2_opt *table, void *obj, const char *path, struct slm2_err *err);
slm2_status slm2_conf_set(const struct slm2_opt *table, void *obj, const char *assignment, struct slm2_err *err); /* "key=value" */
/* Parses argv[1..argc): options of the table, `--set k=v`, `--` ends options.  Positional arguments are moved to pos[*n_pos]
 * (at most max_pos).  A lone "--help" or "-h" sets *help.  A first YAML positional is the caller's business (see cli.h). */
slm2_status slm2_conf_args(const struct slm2_opt *table, void *obj, int argc, char **argv, const char **pos, int max_pos, int *n_pos, bool *help, struct slm2_err *err);
/* Insertions, deletions and replacements that turn a into b, '-' and '_' alike: for "did you mean". */
int slm2_conf_distance(const char *a, const char *b);
slm2_status slm2_conf_required(const struct slm2_opt *table, const void *obj, struct slm2_err *err); /* names a required setting that is unset */
/* choices of a text that names a file or folder to be read */
extern const char *const slm2_conf_file[];
/* Calls each for every such text that is not empty; what it frees and puts in its place belongs to the settings. */
slm2_status slm2_conf_files(const struct slm2_opt *table, void *obj, slm2_status (*each)(char **path, struct slm2_err *err), struct slm2_err *err);
void slm2_conf_help(const struct slm2_opt *table, struct slm2_buf *out);                  /* option lines, wrapped at 100 columns */
void slm2_conf_dump(const struct slm2_opt *table, const void *obj, struct slm2_buf *out); /* YAML that reads back to the same settings */
#endif
