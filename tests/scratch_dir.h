/* scratch_dir.h - a folder that a group of tests works in, made before it and removed behind it; TMPDIR says where. */
#ifndef SLM2_SCRATCH_DIR_H
#define SLM2_SCRATCH_DIR_H
#include "slm2_test.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/file.h"

static char dir[128];
/* Path of a file in it; valid until the eighth next call. */
static inline const char *in_dir(const char *name)
{
    static char path[8][256];
    static int turn;
    char *p = path[turn++ & 7];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}
static inline int make_dir(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    char *real = realpath(base && *base ? base : P_tmpdir, NULL); /* tests go elsewhere */
    bool fits = real && snprintf(dir, sizeof dir, "%s/slm2-test.XXXXXX", real) < (int)sizeof dir;
    free(real);
    if (fits && mkdtemp(dir)) return 0;
    printf("no folder for tests can be made in TMPDIR, or its path has more than 100 characters\n");
    return -1;
}
static inline int remove_dir(void **state)
{
    (void)state;
    return slm2_dir_remove(dir, NULL) != SLM2_OK;
}

static inline void check_ok(slm2_status st, const struct slm2_err *err)
{
    if (st != SLM2_OK) fail_msg("%s", err->msg);
}
#endif
