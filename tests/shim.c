/* shim.c - a library put before libc (LD_PRELOAD) that disturbs one call of a program which writes files: the n-th of a phase ends the
 * process as a power cut would, or fails as a full or broken disk does.  For test_kill.c and test_disk.c; see disturb.h.
 *
 * SLM2_SHIM_DIR    calls on paths in this folder count, all others pass
 * SLM2_SHIM        "trace", or "MODE PHASE N [ERRNO]":  kill: SIGKILL at the N-th call; a write is torn in the middle first.
 *                  fail: that call alone fails with ERRNO.  full: from there on all that would take space.
 * SLM2_SHIM_LOG    what was disturbed, or with "trace" every call: lines "PHASE CALL PATH" with paths below SLM2_SHIM_DIR */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum mode { OFF, TRACE, KILL, FAIL, FULL };
static enum mode mode;
static char root[PATH_MAX], phase_wanted[32];
static size_t root_len;
static long at, seen;
static int code, log_fd = -1;
static bool is_full;
static const char *renamed; /* phase of the last renaming of a folder, until the fsync that makes it last */

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void)
{
    const char *what = getenv("SLM2_SHIM"), *dir = getenv("SLM2_SHIM_DIR"), *log = getenv("SLM2_SHIM_LOG");
    char name[16] = "";
    if (!what || !dir) return;
    snprintf(root, sizeof root, "%s", dir);
    root_len = strlen(root);
    if (sscanf(what, "%15s %31s %ld %d", name, phase_wanted, &at, &code) < 1) return;
    if (log) log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    mode = !strcmp(name, "trace") ? TRACE : !strcmp(name, "kill") ? KILL : !strcmp(name, "fail") ? FAIL : !strcmp(name, "full") ? FULL : OFF;
}

/* Where a path lies below the root, "" for the root itself, NULL elsewhere. */
static const char *below(const char *path)
{
    if (strncmp(path, root, root_len) || (path[root_len] && path[root_len] != '/')) return NULL;
    return path[root_len] ? path + root_len + 1 : path + root_len;
}

static const char *phase_of(const char *call, const char *path)
{
    bool tmp = strstr(path, ".tmp") && strcspn(path, "/") > 4 && !strncmp(path + strcspn(path, "/") - 4, ".tmp", 4); /* of the first folder */
    if (!strncmp(path, "final", 5)) return "export";
    if (!strncmp(path, "run.sqlite", 10)) return "ledger";
    if (!strncmp(path, "step-", 5) && strstr(path, ".old.tmp")) return "prune"; /* an old checkpoint gets this name before it is removed */
    if (!strncmp(path, "step-", 5) && !strcmp(call, "rename") && !strchr(path, '/')) return "rename";
    if (!*path && !strcmp(call, "fsync") && renamed) return renamed;
    if (!strncmp(path, "step-", 5)) return tmp ? "write" : "prune";
    return "start";
}

static void report(const char *phase, const char *call, const char *path)
{
    char line[PATH_MAX + 64];
    int n = snprintf(line, sizeof line, "%s %s %s\n", phase, call, path);
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "write");
    if (log_fd >= 0 && n > 0 && real(log_fd, line, (size_t)n) < 0) return;
}

/* Whether the call has to fail; errno is set then.  tear: called before the process is ended. */
static bool disturb(const char *call, const char *path, bool takes_space, void (*tear)(void *), void *arg)
{
    char real_path[PATH_MAX];
    if (mode == OFF) return false;
    if (path[0] != '/') { /* relative to the working folder */
        char cwd[PATH_MAX / 2];
        if (!getcwd(cwd, sizeof cwd)) return false;
        snprintf(real_path, sizeof real_path, "%s/%.2000s", cwd, path);
        path = real_path;
    }
    const char *rest = below(path);
    if (!rest) return false;
    const char *phase = phase_of(call, rest);
    if (!strcmp(call, "rename")) renamed = phase;
    else if (!*rest && !strcmp(call, "fsync")) renamed = NULL;
    if (mode == TRACE) {
        report(phase, call, rest);
        return false;
    }
    if (strcmp(phase_wanted, "any") && strcmp(phase, phase_wanted)) return false;
    seen++;
    if (mode == FULL ? seen < at || !takes_space : seen != at) return false;
    if (!is_full) report(phase, call, rest);
    if (mode == KILL) {
        if (tear) tear(arg);
        kill(getpid(), SIGKILL);
        pause();
    }
    is_full = mode == FULL;
    errno = code;
    return true;
}

static bool disturb_fd(const char *call, int fd, bool takes_space, void (*tear)(void *), void *arg)
{
    char link[64], path[PATH_MAX];
    if (mode == OFF) return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return false;
    path[n] = 0;
    return disturb(call, path, takes_space, tear, arg);
}

static bool disturb_at(const char *call, int dir, const char *name, bool takes_space)
{
    char link[64], path[PATH_MAX], whole[PATH_MAX];
    if (mode == OFF) return false;
    if (dir == AT_FDCWD || name[0] == '/') return disturb(call, name, takes_space, NULL, NULL);
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return false;
    path[n] = 0;
    snprintf(whole, sizeof whole, "%.2000s/%.2000s", path, name);
    return disturb(call, whole, takes_space, NULL, NULL);
}

/* ---- calls that write ---------------------------------------------------------------------------------------------------- */
struct piece { int fd; const void *p; size_t n; off_t at; };

static void tear_write(void *arg)
{
    const struct piece *w = arg;
    REAL(write);
    if (w->n > 1 && real(w->fd, w->p, w->n / 2) < 0) return;
}

static void tear_pwrite(void *arg)
{
    const struct piece *w = arg;
    REAL(pwrite);
    if (w->n > 1 && real(w->fd, w->p, w->n / 2, w->at) < 0) return;
}

ssize_t write(int fd, const void *p, size_t n)
{
    REAL(write);
    return disturb_fd("write", fd, true, tear_write, &(struct piece){fd, p, n, 0}) ? -1 : real(fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t where)
{
    REAL(pwrite);
    return disturb_fd("write", fd, true, tear_pwrite, &(struct piece){fd, p, n, where}) ? -1 : real(fd, p, n, where);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off_t where) { return pwrite(fd, p, n, where); }

int fsync(int fd)
{
    REAL(fsync);
    return disturb_fd("fsync", fd, false, NULL, NULL) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return disturb_fd("fsync", fd, false, NULL, NULL) ? -1 : real(fd);
}

/* ---- calls that change folders --------------------------------------------------------------------------------------------- */
int rename(const char *from, const char *to)
{
    REAL(rename);
    return disturb("rename", to, false, NULL, NULL) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t m)
{
    REAL(mkdir);
    return disturb("mkdir", path, true, NULL, NULL) ? -1 : real(path, m);
}

int unlink(const char *path)
{
    REAL(unlink);
    return disturb("unlink", path, false, NULL, NULL) ? -1 : real(path);
}

int unlinkat(int dir, const char *path, int flags)
{
    REAL(unlinkat);
    return disturb_at("unlink", dir, path, false) ? -1 : real(dir, path, flags);
}

int rmdir(const char *path)
{
    REAL(rmdir);
    return disturb("unlink", path, false, NULL, NULL) ? -1 : real(path);
}

int open(const char *path, int flags, ...)
{
    REAL(open);
    va_list ap;
    va_start(ap, flags);
    int m = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    if ((flags & O_CREAT) && disturb("create", path, true, NULL, NULL)) return -1;
    return real(path, flags, m);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int m = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    return open(path, flags, m);
}
