/* journal.c - append, sync, and mend the end. */
#include "base/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

enum { MAX_BYTES = 1 << 30 };

struct slm2_journal {
    int fd;
    char *path;
    off_t end; /* of the last record that was written whole */
    bool torn; /* something of a record that failed lies behind it */
};

/* Lines of text into list.  *n_good: bytes up to the end of the last whole line; a rest behind it counts as a line when it is one. */
static slm2_status parse(const struct slm2_buf *text, const char *path, json_t *list, size_t *n_good, struct slm2_err *err)
{
    char what[300];
    struct slm2_err why;
    size_t at = 0;
    *n_good = 0;
    for (int line = 1; at < text->n; line++) {
        const char *p = text->v + at, *end = memchr(p, '\n', text->n - at);
        size_t n = end ? (size_t)(end - p) : text->n - at;
        json_t *j = NULL;
        at += n + (end != NULL);
        snprintf(what, sizeof what, "%.250s: line %d", path, line);
        if (strspn(p, " \t\r") >= n) {
            if (end) *n_good = at;
            continue;
        }
        slm2_status st = slm2_json_parse(&j, p, n, what, &why);
        if (st == SLM2_OK && !json_is_object(j)) st = slm2_fail(&why, SLM2_EFORMAT, "%s: not a JSON object", what);
        if (st == SLM2_OK && json_array_append(list, j)) st = slm2_fail(&why, SLM2_ENOMEM, "%s: no memory", what);
        json_decref(j);
        if (st == SLM2_EFORMAT && !end) return SLM2_OK; /* half a record: *n_good ends before it */
        if (st != SLM2_OK) {
            if (err) *err = why;
            return st;
        }
        *n_good = at;
    }
    return SLM2_OK;
}

static slm2_status read_list(const char *path, json_t **list, size_t *n_file, size_t *n_good, bool *ends_with_line, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    *list = json_array();
    slm2_status st = *list ? slm2_file_read(&text, path, MAX_BYTES, err) : slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path);
    if (st == SLM2_OK) st = parse(&text, path, *list, n_good, err);
    *n_file = text.n;
    *ends_with_line = text.n == 0 || text.v[text.n - 1] == '\n';
    slm2_buf_free(&text);
    if (st != SLM2_OK) {
        json_decref(*list);
        *list = NULL;
    }
    return st;
}

static slm2_status write_all(struct slm2_journal *j, const char *bytes, size_t n, struct slm2_err *err)
{
    while (n > 0) {
        ssize_t k = write(j->fd, bytes, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return slm2_fail_errno(err, "%s: cannot be written", j->path);
        bytes += k;
        n -= (size_t)k;
    }
    return fdatasync(j->fd) ? slm2_fail_errno(err, "%s: cannot be written", j->path) : SLM2_OK;
}

static slm2_status sync_folder(const char *path, struct slm2_err *err)
{
    char dir[4096];
    SLM2_TRY(slm2_path_folder(dir, sizeof dir, path, err));
    return slm2_dir_sync(dir, err);
}

slm2_status slm2_journal_open(struct slm2_journal **out, const char *path, json_t **records, struct slm2_err *err)
{
    json_t *list = NULL;
    size_t n_file, n_good;
    bool whole;
    *out = NULL;
    if (records) *records = NULL;
    struct slm2_journal *j = calloc(1, sizeof *j);
    if (!j || !(j->path = strdup(path))) {
        free(j);
        return slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path);
    }
    slm2_status st = SLM2_OK;
    bool fresh = !slm2_path_exists(path);
    j->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (j->fd < 0) st = slm2_fail_errno(err, "%s: cannot be opened", path);
    else if (flock(j->fd, LOCK_EX | LOCK_NB))
        st = errno == EWOULDBLOCK ? slm2_fail(err, SLM2_EIO, "%s: another process is writing it; wait for its end, or stop it", path) : slm2_fail_errno(err, "%s: cannot be locked", path);
    else if (fresh) st = sync_folder(path, err);
    if (st == SLM2_OK) st = read_list(path, &list, &n_file, &n_good, &whole, err);
    if (st == SLM2_OK && n_good < n_file) {
        slm2_log(SLM2_WARN, "%s: the last record was left half written; it is made again", path);
        if (ftruncate(j->fd, (off_t)n_good)) st = slm2_fail_errno(err, "%s: cannot be shortened", path);
    } else if (st == SLM2_OK && !whole) {
        st = write_all(j, "\n", 1, err);
    }
    if (st != SLM2_OK) {
        json_decref(list);
        slm2_journal_close(j);
        return st;
    }
    j->end = (off_t)n_good + (n_good == n_file && !whole);
    if (records) *records = list;
    else json_decref(list);
    *out = j;
    return SLM2_OK;
}

/* Takes away what a failed write left: behind half a line no other may stand. */
static slm2_status mend(struct slm2_journal *j, struct slm2_err *err)
{
    if (!j->torn) return SLM2_OK;
    if (ftruncate(j->fd, j->end)) return slm2_fail_errno(err, "%s: holds half a record and cannot be shortened", j->path);
    j->torn = false;
    return SLM2_OK;
}

slm2_status slm2_journal_put(struct slm2_journal *j, const json_t *record, struct slm2_err *err)
{
    struct slm2_buf line = {0};
    SLM2_TRY(mend(j, err));
    slm2_json_dump(record, &line);
    slm2_buf_putc(&line, '\n');
    slm2_status st = slm2_buf_check(&line, err);
    if (st == SLM2_OK && (st = write_all(j, line.v, line.n, err)) == SLM2_OK) j->end += (off_t)line.n;
    else if (st != SLM2_OK) {
        j->torn = true;
        mend(j, NULL); /* where this fails too, the next call or the next opening does it */
    }
    slm2_buf_free(&line);
    return st;
}

void slm2_journal_close(struct slm2_journal *j)
{
    if (!j) return;
    if (j->fd >= 0) close(j->fd); /* and with it the lock */
    free(j->path);
    free(j);
}

slm2_status slm2_journal_read(const char *path, json_t **records, struct slm2_err *err)
{
    size_t n_file, n_good;
    bool whole;
    SLM2_TRY(read_list(path, records, &n_file, &n_good, &whole, err));
    if (n_good < n_file) slm2_log(SLM2_WARN, "%s: the last record is half written and does not count", path);
    return SLM2_OK;
}

slm2_status slm2_journal_rewrite(const char *path, const json_t *records, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    for (size_t i = 0; i < json_array_size(records); i++) {
        slm2_json_dump(json_array_get(records, i), &text);
        slm2_buf_putc(&text, '\n');
    }
    slm2_status st = slm2_buf_check(&text, err);
    if (st == SLM2_OK) st = slm2_file_write(path, text.n ? text.v : "", text.n, err);
    slm2_buf_free(&text);
    return st;
}
