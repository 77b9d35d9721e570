/* line.c - one line from a terminal or from a pipe. */
#include "cli/line.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "base/file.h"

struct slm2_line {
    const char *prompt; /* borrowed */
    const volatile sig_atomic_t *stop;
    EditLine *el; /* NULL: plain reading */
    History *history;
    char file[4096]; /* of the history; "" none */
    char *plain;     /* buffer of getline */
    size_t plain_cap;
};

static char *show_prompt(EditLine *el)
{
    struct slm2_line *l = NULL;
    static char none[] = "";
    el_get(el, EL_CLIENTDATA, &l);
    return l ? (char *)(uintptr_t)l->prompt : none;
}

/* One character for libedit.  Its own reader goes on after a signal; this one gives up, so that Ctrl-C is seen. */
static int read_char(EditLine *el, wchar_t *out)
{
    struct slm2_line *l = NULL;
    mbstate_t state = {0};
    el_get(el, EL_CLIENTDATA, &l);
    for (;;) {
        char byte;
        if (*l->stop) return -1;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR && !*l->stop) continue;
        if (n <= 0) return (int)n;
        size_t k = mbrtowc(out, &byte, 1, &state);
        if (k == (size_t)-2) continue; /* the character goes on */
        if (k == (size_t)-1) *out = L'?';
        return 1;
    }
}

/* file = state folder/slm2/name; "" when there is no such folder to be had. */
static void find_history(struct slm2_line *l, const char *name)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char dir[3072];
    int n = state && *state == '/' ? snprintf(dir, sizeof dir, "%s/slm2", state) : home && *home ? snprintf(dir, sizeof dir, "%s/.local/state/slm2", home) : -1;
    if (n < 0 || (size_t)n >= sizeof dir || slm2_dir_make(dir, NULL) != SLM2_OK) return;
    if (slm2_path_join(l->file, sizeof l->file, dir, name, NULL) != SLM2_OK) l->file[0] = '\0';
}

slm2_status slm2_line_open(struct slm2_line **out, const char *prompt, const char *name, const volatile sig_atomic_t *stop, struct slm2_err *err)
{
    struct slm2_line *l = calloc(1, sizeof *l);
    *out = l;
    if (!l) return slm2_fail(err, SLM2_ENOMEM, "no memory to read lines");
    l->prompt = prompt;
    l->stop = stop;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return SLM2_OK;

    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8"); /* characters, not bytes */
    l->el = el_init("slm2", stdin, stdout, stderr);
    l->history = history_init();
    if (!l->el || !l->history) return SLM2_OK; /* a terminal that cannot be edited: plain reading */
    HistEvent ev;
    history(l->history, &ev, H_SETSIZE, 1000);
    history(l->history, &ev, H_SETUNIQUE, 1);
    find_history(l, name);
    if (l->file[0]) history(l->history, &ev, H_LOAD, l->file);
    el_set(l->el, EL_CLIENTDATA, l);
    el_set(l->el, EL_PROMPT, show_prompt);
    el_set(l->el, EL_EDITOR, "emacs");
    el_set(l->el, EL_SIGNAL, 0);
    el_set(l->el, EL_HIST, history, l->history);
    el_set(l->el, EL_GETCFN, read_char);
    el_set(l->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    return SLM2_OK;
}

void slm2_line_free(struct slm2_line *l)
{
    if (!l) return;
    if (l->history) history_end(l->history);
    if (l->el) el_end(l->el);
    free(l->plain);
    free(l);
}

bool slm2_line_is_terminal(const struct slm2_line *l)
{
    return l->el != NULL;
}

static enum slm2_line_got read_terminal(struct slm2_line *l, struct slm2_buf *out)
{
    int n;
    const char *line = el_gets(l->el, &n);
    if (*l->stop) {
        el_reset(l->el);
        fputs("\n", stdout);
        return SLM2_LINE_INTERRUPT;
    }
    if (!line || n <= 0) {
        fputs("\n", stdout);
        return SLM2_LINE_END;
    }
    size_t len = (size_t)n;
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) len--;
    slm2_buf_put(out, line, len);
    if (len > 0) {
        HistEvent ev;
        history(l->history, &ev, H_ENTER, out->v);
        if (l->file[0]) history(l->history, &ev, H_SAVE, l->file);
    }
    return SLM2_LINE_TEXT;
}

enum slm2_line_got slm2_line_read(struct slm2_line *l, struct slm2_buf *out)
{
    slm2_buf_clear(out);
    slm2_buf_puts(out, "");
    if (l->el && l->history) return read_terminal(l, out);
    errno = 0;
    ssize_t n = getline(&l->plain, &l->plain_cap, stdin);
    if (*l->stop) return SLM2_LINE_INTERRUPT;
    if (n < 0) return SLM2_LINE_END;
    size_t len = (size_t)n;
    while (len > 0 && (l->plain[len - 1] == '\n' || l->plain[len - 1] == '\r')) len--;
    slm2_buf_put(out, l->plain, len);
    return SLM2_LINE_TEXT;
}
