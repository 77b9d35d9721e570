/* slm2_test.h - what every test program shares: cmocka, the closing line, the folder of test data. */
#ifndef SLM2_TEST_H
#define SLM2_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Path of a file under tests/data; SLM2_TEST_DATA names another folder.  Valid until the eighth next call. */
static inline const char *slm2_test_data(const char *name)
{
    static char paths[8][1024];
    static int turn;
    const char *dir = getenv("SLM2_TEST_DATA");
    char *p = paths[turn++ & 7];
    snprintf(p, sizeof paths[0], "%s/%s", dir ? dir : "tests/data", name);
    return p;
}

/* Runs a group of `const struct CMUnitTest tests[]`, before and after it what is given (or NULL), and prints "N passed, N failed"; exit status 1 on any failure. */
#define SLM2_TEST_MAIN_WITH(tests, before, after)                                              \
    int main(void)                                                                             \
    {                                                                                          \
        int n_failed = cmocka_run_group_tests(tests, before, after);                           \
        int n_tests = (int)(sizeof(tests) / sizeof(tests)[0]);                                 \
        printf("%d passed, %d failed\n", n_tests - n_failed, n_failed);                        \
        return n_failed != 0;                                                                  \
    }
#define SLM2_TEST_MAIN(tests) SLM2_TEST_MAIN_WITH(tests, NULL, NULL)
#endif
