/* err.c - writes statuses and messages; a message stays one line of valid length whatever is put in. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One line, not ended inside a UTF-8 character. */
static void store(struct slm2_err *err, slm2_status st, const char *text)
{
    size_t n = strlen(text);
    if (n >= sizeof err->msg) {
        n = sizeof err->msg - 1;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    }
    memcpy(err->msg, text, n);
    err->msg[n] = 0;
    for (char *p = err->msg; *p; p++) {
        if (*p == '\n' || *p == '\r') *p = ' ';
    }
    err->status = st;
}

/* names in brackets: clang-tidy reads macros of these names */
slm2_status (slm2_fail)(struct slm2_err *err, slm2_status st, const char *fmt, ...)
{
    if (!err) return st;
    char text[sizeof err->msg + 8]; /* apart from err: its own message may be among the arguments */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    store(err, st, text);
    return st;
}

slm2_status (slm2_wrap)(struct slm2_err *err, slm2_status st, const char *fmt, ...)
{
    if (!err) return st;
    char context[sizeof err->msg], text[2 * sizeof err->msg + 8];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    snprintf(text, sizeof text, "%s: %s", context, err->msg);
    store(err, st, text);
    return st;
}

const char *slm2_errno_remedy(int code)
{
    switch (code) {
    case ENOSPC:
    case EDQUOT: return "make room there, then run the same command again";
    case EFBIG: return "a limit on the size of files was reached: see `ulimit -f`";
    case EROFS: return "that disk is read-only: choose another folder, or mount it for writing";
    case EACCES:
    case EPERM: return "look at the owner and the permissions of the file and its folder";
    case EIO: return "the disk may be failing: look at the system's log";
    case EMFILE: return "raise the limit on open files: see `ulimit -n`";
    default: return NULL;
    }
}

slm2_status (slm2_fail_errno)(struct slm2_err *err, const char *fmt, ...)
{
    int code = errno;
    if (!err) return SLM2_EIO;
    char what[sizeof err->msg], text[sizeof err->msg + 240], reason[128];
    const char *remedy = slm2_errno_remedy(code);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (strerror_r(code, reason, sizeof reason)) snprintf(reason, sizeof reason, "error %d", code);
    snprintf(text, sizeof text, "%s: %s%s%s%s", what, reason, remedy ? " (" : "", remedy ? remedy : "", remedy ? ")" : "");
    store(err, SLM2_EIO, text);
    return SLM2_EIO;
}
