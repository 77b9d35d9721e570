/* err.h - the one way to report failure: a status up the stack, a message that names thing, place and remedy. */
#ifndef SLM2_BASE_ERR_H
#define SLM2_BASE_ERR_H
#include <slm2.h>
#define SLM2_PRINTF(a, b) __attribute__((format(printf, a, b)))

/* Writes status and message to err (NULL allowed) and returns the status. */
slm2_status slm2_fail(struct slm2_err *err, slm2_status st, const char *fmt, ...) SLM2_PRINTF(3, 4);
/* Puts "context: " in front of the message already in err and returns st. */
slm2_status slm2_wrap(struct slm2_err *err, slm2_status st, const char *fmt, ...) SLM2_PRINTF(3, 4);
/* SLM2_EIO with strerror(errno) behind the message, and where errno tells one, a remedy. */
slm2_status slm2_fail_errno(struct slm2_err *err, const char *fmt, ...) SLM2_PRINTF(2, 3);

#ifdef __clang_analyzer__ /* it does not look into err.c, and would follow paths on which a failure is SLM2_OK */
#define slm2_fail(err, st, ...) (slm2_fail(err, st, __VA_ARGS__), (st))
#define slm2_wrap(err, st, ...) (slm2_wrap(err, st, __VA_ARGS__), (st))
#define slm2_fail_errno(err, ...) (slm2_fail_errno(err, __VA_ARGS__), SLM2_EIO)
#endif

/* What a person can do about an errno: "make room there, ..."; NULL where it does not tell. */
const char *slm2_errno_remedy(int code);

/* if a call fails, pass its status up */
#define SLM2_TRY(call)                          \
    do {                                        \
        slm2_status slm2_try_st_ = (call);      \
        if (slm2_try_st_ != SLM2_OK) return slm2_try_st_; \
    } while (0)
#endif
