/* ledger.c - the SQLite file of a run.  Writes are grouped in transactions that commit() ends; a crash loses the open group only. */
#include "train/ledger.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS run(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS data_file(path TEXT PRIMARY KEY, source TEXT, sha256 TEXT, bytes INTEGER, tokens INTEGER, documents INTEGER, language TEXT, licence TEXT);"
    "CREATE TABLE IF NOT EXISTS source(name TEXT PRIMARY KEY, weight REAL, planned REAL, drawn INTEGER);"
    "CREATE TABLE IF NOT EXISTS metric(step INTEGER, name TEXT, value REAL, PRIMARY KEY(name, step)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS event(time TEXT, step INTEGER, kind TEXT, text TEXT);"
    "CREATE TABLE IF NOT EXISTS figure(key TEXT PRIMARY KEY, value REAL, text TEXT);"
    "CREATE TABLE IF NOT EXISTS energy(session INTEGER, time REAL, step INTEGER, device TEXT, gpu INTEGER, joules REAL);"
    "CREATE TABLE IF NOT EXISTS session(id INTEGER PRIMARY KEY, started TEXT, wall_s REAL, cpu_s REAL, rapl_j REAL);"
    "PRAGMA user_version = 1;";

enum { ENERGY_EVERY_S = 5 };
enum put { PUT_RUN, PUT_FILE, PUT_SOURCE, PUT_METRIC, PUT_EVENT, PUT_FIGURE, PUT_SESSION, PUT_ENERGY, PUT_REWIND, N_PUT };
static const char *const put_sql[N_PUT] = {
    [PUT_RUN] = "INSERT OR REPLACE INTO run VALUES(?1, ?2)",
    [PUT_FILE] = "INSERT OR REPLACE INTO data_file VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [PUT_SOURCE] = "INSERT OR REPLACE INTO source VALUES(?1, ?2, ?3, ?4)",
    [PUT_METRIC] = "INSERT OR REPLACE INTO metric VALUES(?1, ?2, ?3)",
    [PUT_EVENT] = "INSERT INTO event VALUES(?1, ?2, ?3, ?4)",
    [PUT_FIGURE] = "INSERT OR REPLACE INTO figure VALUES(?1, ?2, ?3)",
    [PUT_SESSION] = "UPDATE session SET wall_s = ?2, cpu_s = ?3, rapl_j = ?4 WHERE id = ?1",
    [PUT_ENERGY] = "INSERT INTO energy VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [PUT_REWIND] = "DELETE FROM metric WHERE step > ?1",
};

/* ---- opening and closing ------------------------------------------------------------------------------------------------ */
struct slm2_ledger {
    sqlite3 *db;
    sqlite3_stmt *put[N_PUT];
    char *path;
    bool writing, in_group;
    int64_t session;
    double start_wall_s, start_cpu_s, other_cpu_s;
    struct slm2_power *power;
    double sampled_s;   /* when the energy was last written down */
    int64_t step;       /* newest step of a metric */
    struct slm2_ledger_sink sink[SLM2_LEDGER_MAX_SINK];
    int n_sink;
    struct slm2_err failure; /* the first of the put functions */
};

static slm2_status fail_db(const struct slm2_ledger *l, struct slm2_err *err)
{
    int rc = sqlite3_errcode(l->db);
    const char *remedy = slm2_errno_remedy(rc == SQLITE_FULL ? ENOSPC : rc == SQLITE_READONLY ? EACCES : sqlite3_system_errno(l->db));
    if (rc == SQLITE_BUSY) remedy = "another process holds it: is the same run going on twice?";
    else if (!remedy && (rc == SQLITE_IOERR || rc == SQLITE_CANTOPEN)) remedy = "look at free space, permissions, `ulimit -f` and the system's log"; /* SQLite does not always keep errno */
    return slm2_fail(err, rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT ? SLM2_EFORMAT : SLM2_EIO, "ledger %s: %s%s%s%s", l->path, sqlite3_errmsg(l->db), remedy ? " (" : "", remedy ? remedy : "", remedy ? ")" : "");
}

static slm2_status run_sql(struct slm2_ledger *l, const char *sql, struct slm2_err *err)
{
    return sqlite3_exec(l->db, sql, NULL, NULL, NULL) == SQLITE_OK ? SLM2_OK : fail_db(l, err);
}

static void now_text(char out[32])
{
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void ledger_free(struct slm2_ledger *l)
{
    for (int i = 0; i < N_PUT; i++) sqlite3_finalize(l->put[i]);
    sqlite3_close(l->db);
    slm2_power_close(l->power);
    free(l->path);
    free(l);
}

static slm2_status open_db(struct slm2_ledger **out, const char *path, int flags, struct slm2_err *err)
{
    struct slm2_ledger *l = calloc(1, sizeof *l);
    *out = NULL;
    if (!l || !(l->path = strdup(path))) {
        free(l);
        return slm2_fail(err, SLM2_ENOMEM, "no memory for the ledger");
    }
    if (sqlite3_open_v2(path, &l->db, flags, NULL) != SQLITE_OK) {
        slm2_status st = l->db ? fail_db(l, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for the ledger");
        ledger_free(l);
        return st;
    }
    sqlite3_busy_timeout(l->db, 10000); /* a report may be reading */
    *out = l;
    return SLM2_OK;
}

static slm2_status begin_writing(struct slm2_ledger *l, struct slm2_err *err)
{
    SLM2_TRY(run_sql(l, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", err));
    SLM2_TRY(run_sql(l, schema, err));
    for (int i = 0; i < N_PUT; i++)
        if (sqlite3_prepare_v2(l->db, put_sql[i], -1, &l->put[i], NULL) != SQLITE_OK) return fail_db(l, err);
    l->writing = true;
    return SLM2_OK;
}

static slm2_status begin_session(struct slm2_ledger *l, const char *stage, const struct slm2_power_opts *power, struct slm2_err *err)
{
    char now[32], host[256] = "";
    struct utsname u;
    SLM2_TRY(begin_writing(l, err));
    now_text(now);
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(l->db, "INSERT INTO session(started) VALUES(?1)", -1, &s, NULL) != SQLITE_OK) return fail_db(l, err);
    sqlite3_bind_text(s, 1, now, -1, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    sqlite3_finalize(s);
    if (rc != SQLITE_DONE) return fail_db(l, err);
    l->session = sqlite3_last_insert_rowid(l->db);
    l->start_wall_s = slm2_now_s();
    l->start_cpu_s = slm2_cpu_s();
    l->power = slm2_power_open(power);

    slm2_ledger_run(l, "stage", stage);
    slm2_ledger_run(l, "version", SLM2_VERSION);
    if (l->session == 1) slm2_ledger_run(l, "started", now);
    if (uname(&u) == 0) snprintf(host, sizeof host, "%s %s %s, %ld cores", u.sysname, u.release, u.machine, sysconf(_SC_NPROCESSORS_ONLN));
    slm2_ledger_run(l, "host", host);
    return slm2_ledger_commit(l, err);
}

slm2_status slm2_ledger_open(struct slm2_ledger **l, const char *path, const char *stage, struct slm2_err *err)
{
    struct slm2_power_opts power = slm2_power_opts_default();
    return slm2_ledger_open_with(l, path, stage, &power, err);
}

slm2_status slm2_ledger_open_with(struct slm2_ledger **l, const char *path, const char *stage, const struct slm2_power_opts *power, struct slm2_err *err)
{
    SLM2_TRY(open_db(l, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err));
    slm2_status st = begin_session(*l, stage, power, err);
    if (st != SLM2_OK) {
        ledger_free(*l);
        *l = NULL;
    }
    return st;
}

slm2_status slm2_ledger_open_read(struct slm2_ledger **l, const char *path, struct slm2_err *err)
{
    *l = NULL;
    if (!slm2_path_exists(path)) return slm2_fail(err, SLM2_EIO, "%s: no such file; a run keeps its ledger in RUN/run.sqlite", path);
    SLM2_TRY(open_db(l, path, SQLITE_OPEN_READWRITE, err)); /* write access: SQLite may have to finish what a crash left */
    slm2_status st = run_sql(*l, "SELECT count(*) FROM run, metric, event, figure, session WHERE 0", err);
    if (st != SLM2_OK) {
        st = slm2_wrap(err, SLM2_EFORMAT, "%s is not the ledger of a run", path);
        ledger_free(*l);
        *l = NULL;
    }
    return st;
}

slm2_status slm2_ledger_append(struct slm2_ledger **l, const char *path, const char *stage, struct slm2_err *err)
{
    if (!slm2_path_exists(path)) return slm2_ledger_open(l, path, stage, err);
    SLM2_TRY(slm2_ledger_open_read(l, path, err));
    slm2_status st = begin_writing(*l, err);
    if (st != SLM2_OK) {
        ledger_free(*l);
        *l = NULL;
    }
    return st;
}

slm2_status slm2_ledger_close(struct slm2_ledger *l, struct slm2_err *err)
{
    if (!l) return SLM2_OK;
    slm2_status st = SLM2_OK;
    if (l->session) {
        char now[32];
        now_text(now);
        slm2_ledger_run(l, "finished", now);
        l->sampled_s = 0; /* the last word on the energy */
    }
    if (l->writing) st = slm2_ledger_commit(l, err);
    ledger_free(l);
    return st;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */
/* Binds by letters: t text or NULL, i int64_t, d double (NaN becomes NULL), and runs the statement. */
static void put(struct slm2_ledger *l, enum put which, const char *types, ...)
{
    if (!l || l->failure.status != SLM2_OK) return;
    if (!l->in_group) {
        if (run_sql(l, "BEGIN", &l->failure) != SLM2_OK) return;
        l->in_group = true;
    }
    sqlite3_stmt *s = l->put[which];
    va_list ap;
    va_start(ap, types);
    for (int i = 0; types[i]; i++) {
        if (types[i] == 't') sqlite3_bind_text(s, i + 1, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
        else if (types[i] == 'i') sqlite3_bind_int64(s, i + 1, va_arg(ap, int64_t));
        else sqlite3_bind_double(s, i + 1, va_arg(ap, double));
    }
    va_end(ap);
    if (sqlite3_step(s) != SQLITE_DONE) fail_db(l, &l->failure);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
}

void slm2_ledger_rewind(struct slm2_ledger *l, int64_t step)
{
    if (!l) return;
    put(l, PUT_REWIND, "i", step);
    if (l->step > step) l->step = step;
    for (int i = 0; i < l->n_sink; i++)
        if (l->sink[i].rewind) l->sink[i].rewind(l->sink[i].user, step);
}

void slm2_ledger_run(struct slm2_ledger *l, const char *key, const char *value)
{
    put(l, PUT_RUN, "tt", key, value);
}

void slm2_ledger_file(struct slm2_ledger *l, const struct slm2_ledger_file *f)
{
    put(l, PUT_FILE, "tttiiitt", f->path, f->source, f->sha256, f->bytes, f->tokens, f->documents, f->language, f->licence);
}

void slm2_ledger_source(struct slm2_ledger *l, const char *name, double weight, double planned, int64_t drawn)
{
    put(l, PUT_SOURCE, "tddi", name, weight, planned, drawn);
}

void slm2_ledger_metric(struct slm2_ledger *l, int64_t step, const char *name, double value)
{
    if (!l) return;
    put(l, PUT_METRIC, "itd", step, name, value);
    if (step > l->step) l->step = step;
    for (int i = 0; i < l->n_sink; i++)
        if (l->sink[i].metric) l->sink[i].metric(l->sink[i].user, step, name, value);
}

void slm2_ledger_event(struct slm2_ledger *l, int64_t step, const char *kind, const char *fmt, ...)
{
    char text[2048], now[32];
    va_list ap;
    if (!l) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    now_text(now);
    put(l, PUT_EVENT, "titt", now, step, kind, text);
    for (int i = 0; i < l->n_sink; i++)
        if (l->sink[i].event) l->sink[i].event(l->sink[i].user, step, kind);
}

void slm2_ledger_figure(struct slm2_ledger *l, const char *key, double value)
{
    put(l, PUT_FIGURE, "tdt", key, value, (const char *)NULL);
}

void slm2_ledger_figure_text(struct slm2_ledger *l, const char *key, const char *text)
{
    put(l, PUT_FIGURE, "tdt", key, (double)NAN, text);
}

void slm2_ledger_other_cpu(struct slm2_ledger *l, double cpu_s)
{
    if (l) l->other_cpu_s = cpu_s;
}

void slm2_ledger_tee(struct slm2_ledger *l, const struct slm2_ledger_sink *sink)
{
    assert(l->n_sink < SLM2_LEDGER_MAX_SINK);
    l->sink[l->n_sink++] = *sink;
}

/* The counters' joules so far, one row a device, every few seconds: power over the run is their slope. */
static void sample_energy(struct slm2_ledger *l, const struct slm2_power_device *device, int n)
{
    struct timespec now;
    if (n == 0 || (l->sampled_s > 0 && slm2_now_s() - l->sampled_s < ENERGY_EVERY_S)) return;
    l->sampled_s = slm2_now_s();
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < n; i++)
        if (!isnan(device[i].joules)) put(l, PUT_ENERGY, "iditid", l->session, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec, l->step, device[i].name, (int64_t)device[i].gpu, device[i].joules);
}

slm2_status slm2_ledger_commit(struct slm2_ledger *l, struct slm2_err *err)
{
    if (!l) return SLM2_OK;
    int n, n_rapl = 0;
    double rapl_j = 0;
    const struct slm2_power_device *device = slm2_power_read(l->power, &n);
    for (int i = 0; i < n; i++)
        if (!device[i].gpu) rapl_j += device[i].joules, n_rapl++;
    sample_energy(l, device, n);
    if (l->session) put(l, PUT_SESSION, "iddd", l->session, slm2_now_s() - l->start_wall_s, slm2_cpu_s() - l->start_cpu_s + l->other_cpu_s, n_rapl ? rapl_j : (double)NAN);
    for (int i = 0; i < l->n_sink; i++)
        if (l->sink[i].tick) l->sink[i].tick(l->sink[i].user, device, n);
    if (l->failure.status == SLM2_OK) {
        l->in_group = false;
        run_sql(l, "COMMIT", &l->failure);
    }
    if (l->failure.status == SLM2_OK) return SLM2_OK;
    return slm2_fail(err, l->failure.status, "%s", l->failure.msg);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */
slm2_status slm2_ledger_query(struct slm2_ledger *l, const char *sql, const char *arg, slm2_ledger_row_fn *row, void *user, struct slm2_err *err)
{
    enum { MAX_COL = 16 };
    sqlite3_stmt *s;
    const char *text[MAX_COL];
    int rc;
    if (sqlite3_prepare_v2(l->db, sql, -1, &s, NULL) != SQLITE_OK) return fail_db(l, err);
    if (arg) sqlite3_bind_text(s, 1, arg, -1, SQLITE_STATIC);
    int n_col = sqlite3_column_count(s);
    if (n_col > MAX_COL) n_col = MAX_COL;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        for (int i = 0; i < n_col; i++) text[i] = (const char *)sqlite3_column_text(s, i);
        row(user, n_col, text);
    }
    slm2_status st = rc == SQLITE_DONE ? SLM2_OK : fail_db(l, err);
    sqlite3_finalize(s);
    return st;
}

slm2_status slm2_ledger_series(struct slm2_ledger *l, const char *name, struct slm2_series *out, struct slm2_err *err)
{
    sqlite3_stmt *s;
    int rc, cap = 0;
    *out = (struct slm2_series){0};
    if (sqlite3_prepare_v2(l->db, "SELECT step, value FROM metric WHERE name = ?1 AND value IS NOT NULL ORDER BY step", -1, &s, NULL) != SQLITE_OK) return fail_db(l, err);
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    slm2_status st = SLM2_OK;
    while (st == SLM2_OK && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW) {
            st = fail_db(l, err);
            break;
        }
        if (out->n == cap) {
            int want = cap ? cap * 2 : 256;
            int64_t *step = realloc(out->step, (size_t)want * sizeof *step);
            if (step) out->step = step;
            double *value = realloc(out->value, (size_t)want * sizeof *value);
            if (value) out->value = value;
            if (!step || !value) st = slm2_fail(err, SLM2_ENOMEM, "no memory for %d values of %s", want, name);
            else cap = want;
        }
        if (st == SLM2_OK) {
            out->step[out->n] = sqlite3_column_int64(s, 0);
            out->value[out->n++] = sqlite3_column_double(s, 1);
        }
    }
    sqlite3_finalize(s);
    if (st != SLM2_OK) slm2_series_free(out);
    return st;
}

void slm2_series_free(struct slm2_series *s)
{
    free(s->step);
    free(s->value);
    *s = (struct slm2_series){0};
}

static void append_text(void *user, int n_col, const char *const *text)
{
    if (n_col > 0 && text[0]) slm2_buf_puts(user, text[0]);
}

slm2_status slm2_ledger_get(struct slm2_ledger *l, const char *key, struct slm2_buf *out, struct slm2_err *err)
{
    SLM2_TRY(slm2_ledger_query(l, "SELECT value FROM run WHERE key = ?1", key, append_text, out, err));
    return slm2_buf_check(out, err);
}

struct number { double value; bool found; };
static void take_number(void *user, int n_col, const char *const *text)
{
    struct number *x = user;
    if (n_col > 0 && text[0]) *x = (struct number){strtod(text[0], NULL), true};
}

bool slm2_ledger_get_figure(struct slm2_ledger *l, const char *key, double *value)
{
    struct number x = {0};
    if (slm2_ledger_query(l, "SELECT value FROM figure WHERE key = ?1", key, take_number, &x, NULL) != SLM2_OK || !x.found) return false;
    *value = x.value;
    return true;
}

static void take_cost(void *user, int n_col, const char *const *text)
{
    struct slm2_ledger_cost *c = user;
    if (n_col < 4) return;
    c->n_session = text[0] ? atoi(text[0]) : 0;
    c->wall_s = text[1] ? strtod(text[1], NULL) : 0;
    c->cpu_s = text[2] ? strtod(text[2], NULL) : 0;
    c->rapl = text[3] != NULL;
    c->rapl_j = text[3] ? strtod(text[3], NULL) : 0;
}

slm2_status slm2_ledger_cost(struct slm2_ledger *l, struct slm2_ledger_cost *out, struct slm2_err *err)
{
    struct number x = {0};
    *out = (struct slm2_ledger_cost){0};
    if (l->writing) SLM2_TRY(slm2_ledger_commit(l, err));
    /* joules count only when every session had them */
    SLM2_TRY(slm2_ledger_query(l, "SELECT count(*), sum(wall_s), sum(cpu_s), CASE WHEN count(rapl_j) = count(*) THEN sum(rapl_j) END FROM session", NULL, take_cost, out, err));
    SLM2_TRY(slm2_ledger_query(l, "SELECT 1 FROM sqlite_master WHERE name = 'energy'", NULL, take_number, &x, err));
    if (!x.found) return SLM2_OK; /* a ledger from before there were samples */
    x.found = false;
    SLM2_TRY(slm2_ledger_query(l, "SELECT sum(j) FROM (SELECT max(joules) AS j FROM energy WHERE gpu GROUP BY session, device)", NULL, take_number, &x, err));
    out->gpu = x.found;
    out->gpu_j = x.found ? x.value : 0;
    return SLM2_OK;
}
