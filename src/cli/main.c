/* main.c - the program: finds the command, sets the log and the signals, and checks at the end that the results were
 * really written.  `slm2`, `slm2 help [COMMAND]`, `slm2 --version`. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/share.h"

struct command {
    const char *name, *group, *help;
    int (*run)(int argc, char **argv);
};
#define ROW(name, group, help) {#name, group, help, slm2_cmd_##name},
static const struct command commands[] = {SLM2_CLI_COMMANDS(ROW)};
enum { N_COMMAND = sizeof commands / sizeof commands[0] };

/* ---- messages and options ----------------------------------------------------------------------------------------- */
int slm2_cli_fail(const struct slm2_err *err)
{
    slm2_progress_end();
    fflush(stdout);
    fprintf(stderr, "slm2: error: %s\n", err->msg);
    slm2_share_hint(err->msg);
    return err->status == SLM2_EUSAGE ? 2 : 1;
}

int slm2_cli_usage(const char *fmt, ...)
{
    struct slm2_err err = {.status = SLM2_EUSAGE};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err.msg, sizeof err.msg, fmt, ap);
    va_end(ap);
    return slm2_cli_fail(&err);
}

void slm2_cli_note(const char *fmt, ...)
{
    slm2_progress_end();
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

const char *slm2_cli_isa(void)
{
    const char *isa = getenv("SLM2_ISA");
    return isa && *isa ? isa : NULL;
}

slm2_status slm2_cli_ctx(struct slm2_ctx *c, int threads, struct slm2_err *err)
{
    return slm2_ctx_init(c, &(struct slm2_ctx_opts){.isa = slm2_cli_isa(), .n_threads = threads}, err);
}

slm2_status slm2_cli_print(const struct slm2_buf *text, struct slm2_err *err)
{
    SLM2_TRY(slm2_buf_check(text, err));
    return fwrite(text->v ? text->v : "", 1, text->n, stdout) == text->n ? SLM2_OK : slm2_fail_errno(err, "writing the result");
}

int slm2_cli_json(json_t *j)
{
    struct slm2_buf out = {0};
    struct slm2_err err;
    if (j) slm2_json_dump(j, &out);
    slm2_buf_putc(&out, '\n');
    slm2_status st = j ? slm2_cli_print(&out, &err) : slm2_fail(&err, SLM2_ENOMEM, "no memory for the JSON result");
    slm2_buf_free(&out);
    json_decref(j);
    return st ? slm2_cli_fail(&err) : 0;
}

/* Lines of text, each behind a prefix. */
static void put_lines(const char *text, const char *prefix)
{
    while (text && *text) {
        size_t n = strcspn(text, "\n");
        printf("%s%.*s\n", prefix, (int)n, text);
        text += n + (text[n] == '\n');
    }
}

static void put_help(const struct slm2_cli_doc *doc, const struct slm2_opt *table)
{
    printf("usage:\n");
    put_lines(doc->usage, "  slm2 ");
    printf("\n%s\n\noptions:\n", doc->about);
    struct slm2_buf b = {0};
    slm2_conf_help(table, &b);
    if (b.n) fwrite(b.v, 1, b.n, stdout);
    slm2_buf_free(&b);
    printf("\nexamples:\n");
    put_lines(doc->examples, "  ");
}

int slm2_cli_parse(const struct slm2_cli_doc *doc, const struct slm2_opt *table, void *obj, int argc, char **argv, const char **pos, int max_pos, int *n_pos)
{
    struct slm2_err err;
    bool help = false;
    int n = 0;
    slm2_conf_init(table, obj);
    slm2_status st = slm2_conf_args(table, obj, argc, argv, pos, max_pos, &n, &help, &err);
    if (help) {
        put_help(doc, table);
        return 0;
    }
    if (st == SLM2_OK && doc->yaml_first && n > 0) { /* now that the file is known: defaults, file, arguments */
        slm2_conf_free(table, obj);
        slm2_conf_init(table, obj);
        const char *file = slm2_share_arg(pos[0]);
        st = slm2_conf_yaml(table, obj, file, &err);
        if (st != SLM2_OK) return slm2_cli_fail(&err);
        n = 0;
        st = slm2_conf_args(table, obj, argc, argv, pos, max_pos, &n, &help, &err);
        pos[0] = file;
    }
    if (st == SLM2_OK) st = slm2_share_settings(table, obj, &err);
    if (st == SLM2_OK) st = slm2_conf_required(table, obj, &err);
    if (n_pos) *n_pos = n;
    if (st == SLM2_OK) return -1;
    int rc = slm2_cli_fail(&err);
    if (rc == 2) fprintf(stderr, "slm2: `slm2 %s --help` lists the options\n", argv[0]);
    return rc;
}

/* ---- signals ------------------------------------------------------------------------------------------------------ */
static volatile sig_atomic_t stop_signal;

static void on_stop(int sig)
{
    if (stop_signal) { /* asked twice: the default action */
        signal(sig, SIG_DFL);
        raise(sig);
        return;
    }
    stop_signal = sig;
}

const volatile sig_atomic_t *slm2_cli_catch_stop(void)
{
    struct sigaction sa = {.sa_handler = on_stop};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGUSR2, &sa, NULL); /* mpirun passes it on, where SIGTERM would end the ranks */
    return &stop_signal;
}

void slm2_cli_clear_stop(void)
{
    stop_signal = 0;
}

/* ---- the program -------------------------------------------------------------------------------------------------- */
static const struct command *find_command(const char *name)
{
    for (int i = 0; i < N_COMMAND; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const struct command *near = NULL;
    int best = 4;
    for (int i = 0; i < N_COMMAND; i++) {
        int d = slm2_conf_distance(name, commands[i].name);
        if (d < best) {
            best = d;
            near = &commands[i];
        }
    }
    if (near) return slm2_cli_usage("unknown command \"%s\"; did you mean \"%s\"? `slm2 help` lists all", name, near->name);
    return slm2_cli_usage("unknown command \"%s\"; `slm2 help` lists all", name);
}

static void put_commands(FILE *f)
{
    fprintf(f, "slm2 %s - the Stable LM 2 recipe: tokenizer, data, training, alignment, evaluation, quantisation, inference\n\n", SLM2_VERSION);
    fprintf(f, "usage: slm2 COMMAND [options]    slm2 help COMMAND    slm2 --version\n");
    const char *group = "";
    for (int i = 0; i < N_COMMAND; i++) {
        if (strcmp(commands[i].group, group) != 0) fprintf(f, "\n%s\n", commands[i].group);
        group = commands[i].group;
        fprintf(f, "  %-12s%s\n", commands[i].name, commands[i].help);
    }
    fprintf(f, "\nEvery command has --help. Common: -t N threads, --seed N. Environment: SLM2_ISA=scalar|avx2|avx512|neon,\nSLM2_SHARE=DIR, the folder of configs/ and assets/ in place of the installed one.\n");
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        put_commands(stderr);
        return 2;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("slm2 %s\n", SLM2_VERSION);
        return 0;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        if (argc < 3) {
            put_commands(stdout);
            return 0;
        }
        const struct command *c = find_command(argv[2]);
        static char flag[] = "--help";
        char *part = argc > 3 ? argv[3] : flag; /* help data build */
        return c ? c->run(argc > 3 ? 3 : 2, (char *[]){argv[2], part, flag, NULL}) : unknown_command(argv[2]);
    }
    const struct command *c = find_command(word);
    return c ? c->run(argc - 1, argv + 1) : unknown_command(word);
}

/* libgomp lets idle threads spin for milliseconds, which on a machine with other work makes small operations many times slower.
 * How long is read from the environment before main, so the program starts itself once more with a shorter time (about 20 us)
 * unless the user has chosen one. */
static void limit_spinning(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    if (setenv("GOMP_SPINCOUNT", "20000", 1) == 0) execv("/proc/self/exe", argv); /* where that fails all still works */
}

int main(int argc, char **argv)
{
    limit_spinning(argv);
    signal(SIGPIPE, SIG_DFL); /* `slm2 ... | head` ends quietly, even where a parent ignored the signal */
    signal(SIGXFSZ, SIG_IGN); /* a file over `ulimit -f` is then an error with a message */
    slm2_log_sink(slm2_log_stderr, NULL);
    int rc = dispatch(argc, argv);
    slm2_progress_end();
    if ((fflush(stdout) != 0 || ferror(stdout)) && rc == 0) { /* a full disk must not look like success */
        struct slm2_err err;
        slm2_fail_errno(&err, "writing to standard output");
        rc = slm2_cli_fail(&err);
    }
    return rc;
}
