/* line.h - lines typed by a person (libedit: editing, history kept in a file) or piped in (plain reading, no prompt). */
#ifndef SLM2_CLI_LINE_H
#define SLM2_CLI_LINE_H
#include <signal.h>

#include "base/buf.h"

struct slm2_line;
/* prompt: shown on a terminal only.  name: of the history file below the user's state folder ($XDG_STATE_HOME/slm2, else
 * ~/.local/state/slm2), made for its owner only; without such a folder there is no history.  stop: see slm2_cli_catch_stop. */
slm2_status slm2_line_open(struct slm2_line **l, const char *prompt, const char *name, const volatile sig_atomic_t *stop, struct slm2_err *err);
void slm2_line_free(struct slm2_line *l);
bool slm2_line_is_terminal(const struct slm2_line *l);

enum slm2_line_got { SLM2_LINE_TEXT, SLM2_LINE_END, SLM2_LINE_INTERRUPT };
/* One line without its newline, NUL-terminated in out (replaced).  INTERRUPT: *stop became nonzero while waiting. */
enum slm2_line_got slm2_line_read(struct slm2_line *l, struct slm2_buf *out);
#endif
