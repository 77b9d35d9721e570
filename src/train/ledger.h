/* ledger.h - the SQLite file of a run: what was asked, what was read, what happened at each step, what it cost.
 *
 * Tables:  run(key, value)                        stage, version, config, started, finished, host
 *          data_file(path, source, sha256, bytes, tokens, documents, language, licence)
 *          source(name, weight, planned, drawn)   tokens
 *          metric(step, name, value)              tokens loss lr grad_norm clip tokens_s; valid_loss, valid_loss.NAME, ...
 *          event(time, step, kind, text)          start resume branch stop signal cooldown checkpoint skip spike rollback warning finish
 *          figure(key, value, text)               summary of a stage: a number, or a text
 *          energy(session, time, step, device, gpu, joules)  the counters of power.h since the session began, every few seconds
 *          session(id, started, wall_s, cpu_s, rapl_j)  one row per start of the program; rapl_j is NULL where it cannot be read or was read too seldom (power.h)
 * Put functions remember the first failure; commit and close report it.  Rows are durable after commit.  The file is in SQLite's WAL mode:
 * others may read it while the run writes, and what a killed run had committed is there at the next opening.
 * Ledger NULL (the ranks of a run that write none): put functions, commit and close do nothing. */
#ifndef SLM2_TRAIN_LEDGER_H
#define SLM2_TRAIN_LEDGER_H
#include "base/buf.h"
#include "train/power.h"

struct slm2_ledger;

/* Opens or creates path for writing and begins a session.  stage: "pretrain", "sft", ... */
slm2_status slm2_ledger_open(struct slm2_ledger **l, const char *path, const char *stage, struct slm2_err *err);
slm2_status slm2_ledger_open_with(struct slm2_ledger **l, const char *path, const char *stage, const struct slm2_power_opts *power, struct slm2_err *err); /* other counters */
slm2_status slm2_ledger_open_read(struct slm2_ledger **l, const char *path, struct slm2_err *err); /* put functions must not be called */
/* For figures about a run that is over: begins no session, so that stage, starts, time and energy stay those of the run.  A file that is not there is made as by open. */
slm2_status slm2_ledger_append(struct slm2_ledger **l, const char *path, const char *stage, struct slm2_err *err);
/* Writes the session's cost, commits, frees (whatever the result). NULL allowed. */
slm2_status slm2_ledger_close(struct slm2_ledger *l, struct slm2_err *err);
/* Forgets metrics of steps above `step`: a resumed or rolled-back run records them again.  Listeners are told. */
void slm2_ledger_rewind(struct slm2_ledger *l, int64_t step);

void slm2_ledger_run(struct slm2_ledger *l, const char *key, const char *value);
struct slm2_ledger_file { const char *path, *source, *sha256, *language, *licence; int64_t bytes, tokens, documents; };
void slm2_ledger_file(struct slm2_ledger *l, const struct slm2_ledger_file *f);
void slm2_ledger_source(struct slm2_ledger *l, const char *name, double weight, double planned, int64_t drawn);
void slm2_ledger_metric(struct slm2_ledger *l, int64_t step, const char *name, double value);
void slm2_ledger_event(struct slm2_ledger *l, int64_t step, const char *kind, const char *fmt, ...) SLM2_PRINTF(4, 5);
void slm2_ledger_figure(struct slm2_ledger *l, const char *key, double value);
void slm2_ledger_figure_text(struct slm2_ledger *l, const char *key, const char *text);
void slm2_ledger_other_cpu(struct slm2_ledger *l, double cpu_s); /* seconds that other processes of this session have used so far */
slm2_status slm2_ledger_commit(struct slm2_ledger *l, struct slm2_err *err);

/* Someone who wants to hear what is written: called on the thread that writes, after the row was put.  Borrowed; NULL members are left out. */
struct slm2_ledger_sink {
    void *user;
    void (*metric)(void *user, int64_t step, const char *name, double value);
    void (*event)(void *user, int64_t step, const char *kind);
    void (*rewind)(void *user, int64_t step); /* what was told of later steps counts no more */
    void (*tick)(void *user, const struct slm2_power_device *device, int n_device); /* at each commit */
};
enum { SLM2_LEDGER_MAX_SINK = 4 };
void slm2_ledger_tee(struct slm2_ledger *l, const struct slm2_ledger_sink *sink);

struct slm2_ledger_cost {
    double wall_s, cpu_s;
    double rapl_j, gpu_j; /* of the processor packages, of the cards */
    bool rapl, gpu;       /* false: the joules are 0 and mean nothing */
    int n_session;
};
slm2_status slm2_ledger_cost(struct slm2_ledger *l, struct slm2_ledger_cost *out, struct slm2_err *err); /* all sessions, the running one included */

/* ---- reading ------------------------------------------------------------------------------------------------------ */
struct slm2_series { int64_t *step; double *value; int n; };
slm2_status slm2_ledger_series(struct slm2_ledger *l, const char *name, struct slm2_series *out, struct slm2_err *err); /* by step; n 0 when there is none */
void slm2_series_free(struct slm2_series *s);
slm2_status slm2_ledger_get(struct slm2_ledger *l, const char *key, struct slm2_buf *out, struct slm2_err *err); /* of table run; nothing when absent */
bool slm2_ledger_get_figure(struct slm2_ledger *l, const char *key, double *value); /* false when absent */
/* Any query; row(user, n_col, text) for each row, text[i] NULL for SQL NULL. arg: bound to ?1, may be NULL. */
typedef void slm2_ledger_row_fn(void *user, int n_col, const char *const *text);
slm2_status slm2_ledger_query(struct slm2_ledger *l, const char *sql, const char *arg, slm2_ledger_row_fn *row, void *user, struct slm2_err *err);
#endif
