/* cmd_tokenize.c - `slm2 tokenize` and `slm2 detokenize`: text to ids and back, plain or as JSON lines. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/share.h"
#include "tok/tok.h"

#define MAX_TEXT ((size_t)1 << 29) /* bytes of one text: the tokenizer's own limit */

struct tokenize_opts { char *vocab, *jsonl, *text; bool nfc, special, count, json; int threads; };

static const struct slm2_opt tokenize_table[] = {
    {.name = "vocab", .type = SLM2_OPT_STR, .offset = offsetof(struct tokenize_opts, vocab), .choices = slm2_conf_file, .help = ".tiktoken, tokenizer.json, GGUF or a folder; the bundled Arcade100k"},
    {.name = "jsonl", .type = SLM2_OPT_STR, .offset = offsetof(struct tokenize_opts, jsonl), .choices = slm2_conf_file, .help = "lines {\"text\", \"allowed_special\": \"all\"|\"none\", \"norm\": \"nfc\"|\"none\"} (- is stdin), a line {\"ids\"} each"},
    {.name = "text", .type = SLM2_OPT_STR, .offset = offsetof(struct tokenize_opts, text), .help = "text to encode, instead of a file"},
    {.name = "nfc", .type = SLM2_OPT_BOOL, .offset = offsetof(struct tokenize_opts, nfc), .def = "true", .help = "normalise to NFC first, where the vocabulary does; --no-nfc: leave the text as it is"},
    {.name = "special", .type = SLM2_OPT_BOOL, .offset = offsetof(struct tokenize_opts, special), .help = "special strings become their ids; without it they are ordinary text"},
    {.name = "count", .type = SLM2_OPT_BOOL, .offset = offsetof(struct tokenize_opts, count), .help = "print the number of tokens only"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct tokenize_opts, json), .help = "print {\"ids\": [...]} or {\"tokens\", \"bytes\"}"},
    SLM2_CLI_THREADS(struct tokenize_opts),
    {.name = NULL}};

static const struct slm2_cli_doc tokenize_doc = {
    .usage = "tokenize [FILE] [--text TEXT] [--jsonl FILE] [-t 2]",
    .about = "Prints the token ids of a file, of --text, or of standard input. Lines and long texts are shared among threads; what is\n"
             "printed does not depend on them.",
    .examples = "slm2 tokenize --text \"Hello, world\"\nslm2 tokenize --count book.txt",
};

static bool flush_out(struct slm2_buf *b)
{
    bool ok = !b->failed && fwrite(b->v ? b->v : "", 1, b->n, stdout) == b->n;
    slm2_buf_clear(b);
    return ok;
}

static void put_ids(struct slm2_buf *out, const struct slm2_ids *ids, const char *sep)
{
    char d[12];
    for (size_t i = 0; i < ids->n; i++) {
        char *p = d + sizeof d;
        int32_t v = ids->v[i];
        do *--p = (char)('0' + v % 10);
        while (v /= 10);
        if (i) slm2_buf_puts(out, sep);
        slm2_buf_put(out, p, (size_t)(d + sizeof d - p));
    }
}

/* all of a file, "-" or NULL: standard input */
static slm2_status read_input(struct slm2_buf *b, const char *path, struct slm2_err *err)
{
    char chunk[65536];
    if (path && strcmp(path, "-") != 0) return slm2_file_read(b, path, MAX_TEXT, err);
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, stdin)) > 0;) {
        if (b->n + n > MAX_TEXT) return slm2_fail(err, SLM2_ELIMIT, "standard input: more than %zu bytes; use --jsonl with one text a line", MAX_TEXT);
        slm2_buf_put(b, chunk, n);
    }
    if (ferror(stdin)) return slm2_fail_errno(err, "standard input");
    return slm2_buf_check(b, err);
}

/* one line {"text": ...}: its ids are appended */
static slm2_status encode_line(const struct slm2_tok *tok, const struct tokenize_opts *o, const json_t *j, const char *where, struct slm2_ids *ids, struct slm2_err *err)
{
    const json_t *text = json_object_get(j, "text"), *special = json_object_get(j, "allowed_special"), *norm = json_object_get(j, "norm");
    int flags = (o->special ? SLM2_TOK_SPECIAL : 0) | (o->nfc ? slm2_tok_flags_default(tok) : 0);
    if (!json_is_string(text)) return slm2_fail(err, SLM2_EFORMAT, "%s: no string \"text\"", where);
    if (special) {
        const char *s = json_string_value(special);
        if (!s || (strcmp(s, "all") != 0 && strcmp(s, "none") != 0)) return slm2_fail(err, SLM2_EFORMAT, "%s: allowed_special: want \"all\" or \"none\"", where);
        flags = (flags & ~SLM2_TOK_SPECIAL) | (strcmp(s, "all") == 0 ? SLM2_TOK_SPECIAL : 0);
    }
    if (norm) {
        const char *s = json_string_value(norm);
        if (!s || (strcmp(s, "nfc") != 0 && strcmp(s, "none") != 0)) return slm2_fail(err, SLM2_EFORMAT, "%s: norm: want \"nfc\" or \"none\"", where);
        flags = (flags & ~SLM2_TOK_NFC) | (strcmp(s, "nfc") == 0 ? SLM2_TOK_NFC : 0);
    }
    return slm2_tok_encode(tok, json_string_value(text), json_string_length(text), flags, ids, err);
}

/* The lines of a file or of standard input, with their number for messages. */
struct line_in { struct slm2_lines *l; const char *name; char *own; size_t cap; uint64_t number; };

static slm2_status line_open(struct line_in *in, const char *path, struct slm2_err *err)
{
    *in = (struct line_in){.name = strcmp(path, "-") == 0 ? "stdin" : path};
    return strcmp(path, "-") == 0 ? SLM2_OK : slm2_lines_open(&in->l, path, err);
}

/* *line NULL at the end */
static slm2_status line_next(struct line_in *in, const char **line, size_t *n, struct slm2_err *err)
{
    in->number++;
    if (in->l) return slm2_lines_next(in->l, line, n, err);
    ssize_t got = getline(&in->own, &in->cap, stdin);
    *line = got < 0 ? NULL : in->own;
    *n = got < 0 ? 0 : (size_t)got - (in->own[got - 1] == '\n');
    return got < 0 && ferror(stdin) ? slm2_fail_errno(err, "standard input") : SLM2_OK;
}

static void line_close(struct line_in *in)
{
    slm2_lines_close(in->l);
    free(in->own);
}

/* ---- many lines on many threads --------------------------------------------------------------------------------------
 * Lines are read into a block; groups of them are encoded at the same time, each into its own output; the outputs are written in
 * order.  Where a line is bad, what stands before it is written all the same, so the bytes do not depend on the threads. */
enum { GROUP_BYTES = 1 << 17, GROUP_LINES = 4096, GROUPS_PER_THREAD = 8 };

struct line { size_t at, n; uint64_t number; };
struct group {
    size_t first, end; /* lines */
    struct slm2_buf out;
    struct slm2_ids ids;
    size_t n_tokens;
    slm2_status st;
    struct slm2_err err;
};
struct block {
    struct slm2_buf text; /* the lines, one behind the other */
    struct line *line;    /* [n_group * GROUP_LINES] */
    size_t n_line;
    struct group *group;  /* [max_group] */
    size_t n_group, max_group;
    bool ended;
};

static slm2_status block_init(struct block *b, int n_threads, struct slm2_err *err)
{
    *b = (struct block){.max_group = (size_t)n_threads * GROUPS_PER_THREAD};
    b->group = calloc(b->max_group, sizeof *b->group);
    b->line = malloc(b->max_group * GROUP_LINES * sizeof *b->line);
    return b->group && b->line ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "tokenize: no memory for the lines of %d threads; use fewer", n_threads);
}

static void block_free(struct block *b)
{
    for (size_t i = 0; b->group && i < b->max_group; i++) {
        slm2_buf_free(&b->group[i].out);
        slm2_ids_free(&b->group[i].ids);
    }
    free(b->group);
    free(b->line);
    slm2_buf_free(&b->text);
}

/* Lines until every group has its share or the input ends; on failure the lines before stay. */
static slm2_status block_read(struct block *b, struct line_in *in, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    size_t bytes = 0; /* of the group */
    slm2_buf_clear(&b->text);
    b->n_line = b->n_group = 0;
    struct group *g = NULL;
    while (g == NULL || b->n_group < b->max_group || (bytes < GROUP_BYTES && g->end - g->first < GROUP_LINES)) {
        const char *line;
        size_t n;
        st = line_next(in, &line, &n, err);
        b->ended = st != SLM2_OK || !line;
        if (b->ended) break;
        if (!g || bytes >= GROUP_BYTES || g->end - g->first == GROUP_LINES) {
            g = &b->group[b->n_group++];
            g->first = g->end = b->n_line;
            bytes = 0;
        }
        b->line[b->n_line++] = (struct line){b->text.n, n, in->number};
        g->end++;
        bytes += n;
        slm2_buf_put(&b->text, line, n);
        if ((st = slm2_buf_check(&b->text, err)) != SLM2_OK) break;
    }
    return st;
}

static slm2_status encode_group(const struct slm2_tok *tok, const struct tokenize_opts *o, const struct block *b, const char *name, struct group *g)
{
    char where[1100];
    slm2_status st = SLM2_OK;
    g->n_tokens = 0;
    slm2_buf_clear(&g->out);
    for (size_t i = g->first; i < g->end && st == SLM2_OK; i++) {
        const struct line *l = &b->line[i];
        json_t *j = NULL;
        snprintf(where, sizeof where, "%.1000s:%llu", name, (unsigned long long)l->number);
        g->ids.n = 0;
        st = slm2_json_parse(&j, b->text.v ? b->text.v + l->at : "", l->n, where, &g->err);
        if (st == SLM2_OK) st = encode_line(tok, o, j, where, &g->ids, &g->err);
        json_decref(j);
        if (st != SLM2_OK) break;
        g->n_tokens += g->ids.n;
        if (o->count) continue;
        slm2_buf_puts(&g->out, "{\"ids\":[");
        put_ids(&g->out, &g->ids, ",");
        slm2_buf_puts(&g->out, "]}\n");
        st = slm2_buf_check(&g->out, &g->err);
    }
    return st;
}

/* The outputs in order, up to and with the part of the first group that failed. */
static slm2_status block_write(struct block *b, size_t *total, struct slm2_err *err)
{
    for (size_t i = 0; i < b->n_group; i++) {
        struct group *g = &b->group[i];
        *total += g->n_tokens;
        if (!flush_out(&g->out)) return slm2_fail_errno(err, "standard output");
        if (g->st == SLM2_OK) continue;
        *err = g->err;
        return g->st;
    }
    return SLM2_OK;
}

static int tokenize_lines(const struct slm2_tok *tok, const struct tokenize_opts *o, int n_threads)
{
    struct line_in in = {0};
    struct block b;
    struct slm2_err err = {0}, later = {0};
    size_t total = 0;
    slm2_status st = block_init(&b, n_threads, &err);
    if (st == SLM2_OK) st = line_open(&in, o->jsonl, &err);
    json_object_seed(0); /* before there are threads */
    while (st == SLM2_OK && !b.ended) {
        slm2_status read = block_read(&b, &in, &later);
#pragma omp parallel for num_threads(n_threads) schedule(dynamic)
        for (size_t i = 0; i < b.n_group; i++) b.group[i].st = encode_group(tok, o, &b, in.name, &b.group[i]);
        st = block_write(&b, &total, &err);
        if (st == SLM2_OK && read != SLM2_OK) {
            st = read;
            err = later;
        }
    }
    if (st == SLM2_OK && o->count) printf(o->json ? "{\"tokens\":%zu}\n" : "%zu\n", total);
    if (fflush(stdout) && st == SLM2_OK) st = slm2_fail_errno(&err, "standard output");
    line_close(&in);
    block_free(&b);
    return st == SLM2_OK ? 0 : slm2_cli_fail(&err);
}

static int tokenize_text(const struct slm2_tok *tok, const struct tokenize_opts *o, const char *path, int n_threads)
{
    struct slm2_err err = {0};
    struct slm2_ids ids = {0};
    struct slm2_buf in = {0}, out = {0};
    slm2_status st = SLM2_OK;
    if (*o->text)
        slm2_buf_puts(&in, o->text);
    else
        st = read_input(&in, path, &err);
    if (st == SLM2_OK) st = slm2_buf_check(&in, &err);
    int flags = (o->special ? SLM2_TOK_SPECIAL : 0) | (o->nfc ? slm2_tok_flags_default(tok) : 0);
    if (st == SLM2_OK) st = slm2_tok_encode_threads(tok, in.v ? in.v : "", in.n, flags, n_threads, &ids, &err);
    if (st == SLM2_OK) {
        if (o->count) {
            slm2_buf_printf(&out, o->json ? "{\"tokens\":%zu,\"bytes\":%zu}\n" : "%zu\n", ids.n, in.n);
        } else {
            slm2_buf_puts(&out, o->json ? "{\"ids\":[" : "");
            put_ids(&out, &ids, o->json ? "," : " ");
            slm2_buf_puts(&out, o->json ? "]}\n" : "\n");
        }
        if (!flush_out(&out) || fflush(stdout)) st = slm2_fail_errno(&err, "standard output");
    }
    slm2_ids_free(&ids);
    slm2_buf_free(&in);
    slm2_buf_free(&out);
    return st == SLM2_OK ? 0 : slm2_cli_fail(&err);
}

int slm2_cmd_tokenize(int argc, char **argv)
{
    struct tokenize_opts o;
    struct slm2_tok *tok = NULL;
    struct slm2_ctx ctx = {0}; /* for the number of threads */
    struct slm2_err err = {0};
    const char *pos[1] = {NULL};
    int n_pos = 0, rc = slm2_cli_parse(&tokenize_doc, tokenize_table, &o, argc, argv, pos, 1, &n_pos);
    if (rc >= 0) goto done;
    if ((*o.jsonl != 0) + (*o.text != 0) + (n_pos > 0) > 1) {
        rc = slm2_cli_usage("tokenize: FILE, --text and --jsonl exclude one another");
        goto done;
    }
    if (slm2_cli_ctx(&ctx, o.threads, &err) != SLM2_OK || slm2_tok_open(&tok, *o.vocab ? o.vocab : NULL, &err) != SLM2_OK)
        rc = slm2_cli_fail(&err);
    else
        rc = *o.jsonl ? tokenize_lines(tok, &o, ctx.n_threads) : tokenize_text(tok, &o, n_pos ? slm2_share_arg(pos[0]) : NULL, ctx.n_threads);
done:
    slm2_ctx_free(&ctx);
    slm2_tok_free(tok);
    slm2_conf_free(tokenize_table, &o);
    return rc;
}

/* ---- detokenize --------------------------------------------------------------------------------------------------- */
struct detokenize_opts { char *vocab, *jsonl; bool skip_special, json; };

static const struct slm2_opt detokenize_table[] = {
    {.name = "vocab", .type = SLM2_OPT_STR, .offset = offsetof(struct detokenize_opts, vocab), .choices = slm2_conf_file, .help = ".tiktoken, tokenizer.json, GGUF or a folder; the bundled Arcade100k"},
    {.name = "jsonl", .type = SLM2_OPT_STR, .offset = offsetof(struct detokenize_opts, jsonl), .choices = slm2_conf_file, .help = "lines {\"ids\": [...]} (- is stdin), a line {\"text\"} each"},
    {.name = "skip_special", .type = SLM2_OPT_BOOL, .offset = offsetof(struct detokenize_opts, skip_special), .help = "special tokens give no text"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct detokenize_opts, json), .help = "print {\"text\"}; bytes that are not UTF-8 become U+FFFD there"},
    {.name = NULL}};

static const struct slm2_cli_doc detokenize_doc = {
    .usage = "detokenize [ID...] [--jsonl FILE]",
    .about = "Prints the exact bytes of token ids: given as arguments, or on standard input separated by anything that is not a digit.",
    .examples = "slm2 detokenize 9906 11 1917\nslm2 tokenize book.txt | slm2 detokenize",
};

/* the decimal numbers of s[0..n) */
static slm2_status parse_ids(const char *s, size_t n, struct slm2_ids *ids, struct slm2_err *err)
{
    for (size_t i = 0; i < n;) {
        if (s[i] == '-') return slm2_fail(err, SLM2_EUSAGE, "detokenize: ids are not negative");
        if (s[i] < '0' || s[i] > '9') {
            i++;
            continue;
        }
        int64_t v = 0;
        for (; i < n && s[i] >= '0' && s[i] <= '9'; i++)
            if ((v = v * 10 + (s[i] - '0')) > INT32_MAX) return slm2_fail(err, SLM2_EUSAGE, "detokenize: an id over %d", INT32_MAX);
        SLM2_TRY(slm2_ids_push(ids, (int32_t)v, err));
    }
    return SLM2_OK;
}

static slm2_status decode(const struct slm2_tok *tok, const struct detokenize_opts *o, struct slm2_ids *ids, struct slm2_buf *out, struct slm2_err *err)
{
    size_t k = 0;
    for (size_t i = 0; i < ids->n; i++)
        if (!o->skip_special || !slm2_tok_is_special(tok, ids->v[i])) ids->v[k++] = ids->v[i];
    ids->n = k;
    return slm2_tok_decode(tok, ids->v, ids->n, out, err);
}

/* {"text": s} and a line break; bytes that are not UTF-8 become U+FFFD */
static void put_text(struct slm2_buf *out, const struct slm2_buf *s)
{
    json_t *j = json_pack("{s:o}", "text", slm2_json_text(s->v, s->n));
    slm2_json_dump(j, out);
    slm2_buf_putc(out, '\n');
    json_decref(j);
}

static slm2_status ids_of_line(const char *line, size_t n, const char *where, struct slm2_ids *ids, struct slm2_err *err)
{
    json_t *j = NULL;
    SLM2_TRY(slm2_json_parse(&j, line, n, where, err));
    const json_t *list = json_object_get(j, "ids");
    slm2_status st = json_is_array(list) ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "%s: no array \"ids\"", where);
    for (size_t i = 0; i < json_array_size(list) && st == SLM2_OK; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            st = slm2_fail(err, SLM2_EFORMAT, "%s: ids[%zu]: want a token id", where, i);
        else
            st = slm2_ids_push(ids, (int32_t)json_integer_value(v), err);
    }
    json_decref(j);
    return st;
}

static slm2_status detokenize_lines(const struct slm2_tok *tok, const struct detokenize_opts *o, struct slm2_buf *out, struct slm2_err *err)
{
    struct line_in in;
    struct slm2_ids ids = {0};
    struct slm2_buf bytes = {0};
    const char *line = "";
    char where[1100];
    size_t n = 0;
    slm2_status st = line_open(&in, o->jsonl, err);
    while (st == SLM2_OK) {
        st = line_next(&in, &line, &n, err);
        if (st != SLM2_OK || !line) break;
        snprintf(where, sizeof where, "%.1000s:%llu", in.name, (unsigned long long)in.number);
        ids.n = 0;
        slm2_buf_clear(&bytes);
        st = ids_of_line(line, n, where, &ids, err);
        if (st == SLM2_OK) st = decode(tok, o, &ids, &bytes, err);
        if (st != SLM2_OK) break;
        put_text(out, &bytes);
        if (out->n > 1 << 16 && !flush_out(out)) st = slm2_fail_errno(err, "standard output");
    }
    line_close(&in);
    slm2_ids_free(&ids);
    slm2_buf_free(&bytes);
    return st;
}

static slm2_status detokenize_ids(const struct slm2_tok *tok, const struct detokenize_opts *o, const char **pos, int n_pos, struct slm2_buf *out, struct slm2_err *err)
{
    struct slm2_ids ids = {0};
    struct slm2_buf in = {0}, bytes = {0};
    slm2_status st = SLM2_OK;
    for (int i = 0; i < n_pos && st == SLM2_OK; i++) st = parse_ids(pos[i], strlen(pos[i]), &ids, err);
    if (n_pos == 0) {
        st = read_input(&in, NULL, err);
        if (st == SLM2_OK) st = parse_ids(in.v ? in.v : "", in.n, &ids, err);
    }
    if (st == SLM2_OK) st = decode(tok, o, &ids, o->json ? &bytes : out, err);
    if (st == SLM2_OK && o->json) put_text(out, &bytes);
    slm2_ids_free(&ids);
    slm2_buf_free(&in);
    slm2_buf_free(&bytes);
    return st;
}

int slm2_cmd_detokenize(int argc, char **argv)
{
    enum { MAX_IDS = 65536 };
    struct detokenize_opts o;
    struct slm2_tok *tok = NULL;
    struct slm2_err err = {0};
    struct slm2_buf out = {0};
    const char **pos = malloc(MAX_IDS * sizeof *pos);
    if (!pos) return slm2_cli_fail(&(struct slm2_err){SLM2_ENOMEM, "no memory for ids"});
    int n_pos = 0, rc = slm2_cli_parse(&detokenize_doc, detokenize_table, &o, argc, argv, pos, MAX_IDS, &n_pos);
    if (rc >= 0) goto done;
    if (n_pos && *o.jsonl) {
        rc = slm2_cli_usage("detokenize: ids and --jsonl exclude each other");
        goto done;
    }
    slm2_status st = slm2_tok_open(&tok, *o.vocab ? o.vocab : NULL, &err);
    if (st == SLM2_OK) st = *o.jsonl ? detokenize_lines(tok, &o, &out, &err) : detokenize_ids(tok, &o, pos, n_pos, &out, &err);
    if ((!flush_out(&out) || fflush(stdout)) && st == SLM2_OK) st = slm2_fail_errno(&err, "standard output");
    rc = st == SLM2_OK ? 0 : slm2_cli_fail(&err);
done:
    slm2_tok_free(tok);
    slm2_buf_free(&out);
    slm2_conf_free(detokenize_table, &o);
    free(pos);
    return rc;
}
