/* scratch.c - a file without a name, mapped and enlarged. */
#define _GNU_SOURCE /* O_TMPFILE, memfd_create */
#include "base/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

slm2_status slm2_scratch_open(struct slm2_scratch *s, const char *dir, struct slm2_err *err)
{
    char path[4096];
    *s = (struct slm2_scratch){.fd = dir ? open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : memfd_create("slm2", MFD_CLOEXEC)};
    if (s->fd >= 0) return SLM2_OK;
    if (!dir) return slm2_fail_errno(err, "no memory for tables");
    /* file systems that cannot: for a moment, the file has a name */
    int n = snprintf(path, sizeof path, "%s/.scratch-XXXXXX", dir);
    if (n < 0 || (size_t)n >= sizeof path) return slm2_fail(err, SLM2_ELIMIT, "%.200s...: path is too long", dir);
    s->fd = mkstemp(path);
    if (s->fd < 0) return slm2_fail_errno(err, "%s: cannot be created", path);
    fcntl(s->fd, F_SETFD, FD_CLOEXEC);
    unlink(path);
    return SLM2_OK;
}

slm2_status slm2_scratch_grow(struct slm2_scratch *s, size_t n, struct slm2_err *err)
{
    if (n <= s->n) return SLM2_OK;
    int code = posix_fallocate(s->fd, 0, (off_t)n);
    if (code) {
        errno = code;
        return slm2_fail_errno(err, "no room for %zu bytes of tables beside the output", n);
    }
    if (s->p) munmap(s->p, s->n);
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    s->p = NULL;
    if (p == MAP_FAILED) return slm2_fail_errno(err, "%zu bytes of tables cannot be mapped", n);
    s->p = p;
    s->n = n;
    return SLM2_OK;
}

void slm2_scratch_close(struct slm2_scratch *s)
{
    if (!s) return;
    if (s->p) munmap(s->p, s->n);
    if (s->fd > 0) close(s->fd);
    *s = (struct slm2_scratch){.fd = -1};
}
