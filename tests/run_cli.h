/* run_cli.h - runs the program slm2 that lies beside the test's own folder: BUILD/slm2 for BUILD/tests/test_NAME; the tests' group has make_dir and remove_dir around it. */
#ifndef SLM2_RUN_CLI_H
#define SLM2_RUN_CLI_H
#include "scratch_dir.h"

#include <limits.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char program[PATH_MAX];
static struct slm2_buf out, err_out; /* of the last run */

/* The shell runs `slm2 ARGS`; the exit status, or -1 after a signal. */
static int run(const char *args)
{
    char cmd[8192];
    const char *file = in_dir("err");
    int n = snprintf(cmd, sizeof cmd, "'%s' %s 2>'%s'", program, args, file);
    assert_true(n > 0 && (size_t)n < sizeof cmd);
    slm2_buf_clear(&out);
    slm2_buf_clear(&err_out);
    FILE *p = popen(cmd, "r");
    assert_non_null(p);
    char part[4096];
    for (size_t k; (k = fread(part, 1, sizeof part, p)) > 0;) slm2_buf_put(&out, part, k);
    int status = pclose(p);
    slm2_buf_put(&out, "", 1);
    out.n--;
    slm2_file_read(&err_out, file, 1 << 20, NULL);
    slm2_buf_put(&err_out, "", 1);
    err_out.n--;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect(const char *args, int status, const char *in_stdout, const char *in_stderr)
{
    int got = run(args);
    if (got != status) fail_msg("slm2 %s: status %d, want %d; stderr: %s", args, got, status, err_out.v);
    if (in_stdout ? !strstr(out.v, in_stdout) : out.n > 0) fail_msg("slm2 %s: stdout is \"%.300s\"", args, out.v);
    if (in_stderr ? !strstr(err_out.v, in_stderr) : err_out.n > 0) fail_msg("slm2 %s: stderr is \"%.300s\"", args, err_out.v);
}

/* False, and a skipped test is reported, where it is not built. */
static bool find_program(void)
{
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 8);
    char *slash = n > 0 ? strrchr(program, '/') : NULL;
    if (slash) *slash = '\0';
    if (slash && (slash = strrchr(program, '/')) != NULL) strcpy(slash, "/slm2");
    if (slash && access(program, X_OK) == 0) return true;
    printf("skipped: %s is not built\n0 passed, 0 failed\n", program);
    return false;
}
#endif
