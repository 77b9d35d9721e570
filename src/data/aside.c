/* aside.c - names with a process id, and the removal of those that were left behind. */
#include "data/aside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OLD_S = 600 };

slm2_status slm2_aside_name(char *out, size_t cap, const char *path, struct slm2_err *err)
{
    int k = snprintf(out, cap, "%s.%ld", path, (long)getpid());
    return k < 0 || (size_t)k >= cap ? slm2_fail(err, SLM2_ELIMIT, "%.200s...: path is too long", path) : SLM2_OK;
}

/* The process id in NAME.PID or NAME.PID.tmp; 0: the name has another form. */
static long owner_of(const char *name, const char *tail)
{
    size_t n = strlen(name), k = strlen(tail), digits = 0;
    if (n > 4 && strcmp(name + n - 4, ".tmp") == 0) n -= 4;
    while (digits < n && name[n - digits - 1] >= '0' && name[n - digits - 1] <= '9') digits++;
    n -= digits;
    if (digits == 0 || digits > 9 || n < k + 1 || name[n - 1] != '.' || memcmp(name + n - 1 - k, tail, k) != 0) return 0;
    return strtol(name + n, NULL, 10);
}

void slm2_aside_clean(const char *dir, const char *tail)
{
    DIR *d = opendir(dir);
    struct stat s;
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        long pid = owner_of(e->d_name, tail);
        if (pid <= 0 || (kill((pid_t)pid, 0) == 0 || errno != ESRCH)) continue;
        if (fstatat(dirfd(d), e->d_name, &s, AT_SYMLINK_NOFOLLOW) || !S_ISREG(s.st_mode) || time(NULL) - s.st_mtim.tv_sec < OLD_S) continue;
        unlinkat(dirfd(d), e->d_name, 0); /* what stays is looked at next time */
    }
    closedir(d);
}
