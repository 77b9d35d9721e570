/* http.h - a client that posts JSON and waits for JSON, with patience: libcurl does the protocol and TLS, this file decides what is tried again.
 *
 * Tried again, after a pause that doubles: no connection, a broken or late one, status 408, 429 and 5xx, a reply of status 2xx that is not JSON
 * or that `take` refuses.  All else fails at once.  Redirects are not followed: the key goes to the address that was given and nowhere else. */
#ifndef SLM2_BASE_HTTP_H
#define SLM2_BASE_HTTP_H
#include <jansson.h>
#include <signal.h>

#include "base/err.h"

struct slm2_http_opts {
    const char *url;  /* http:// or https://, without user or password in it */
    const char *key;  /* sent as "Authorization: Bearer KEY"; NULL or "": none.  It appears in no message, and as stars where a reply repeats it (from 8 characters on). */
    int timeout_s;    /* of one try, to the last byte; 0: 600 */
    int n_try;        /* tries of one request at most; 0: 6 */
    int backoff_ms;   /* first pause; 0: 1000.  At most a minute, unless the server's Retry-After asks for more (at most ten minutes) */
    size_t max_bytes; /* of a reply; 0: 16 MiB */
    const volatile sig_atomic_t *interrupt; /* ends tries and pauses with SLM2_ESTOP; or NULL.  Another thread sets it atomically. */
};

/* Takes a reply.  SLM2_EFORMAT: it is not what was asked for. */
typedef slm2_status slm2_http_take_fn(void *user, const json_t *reply, struct slm2_err *err);

struct slm2_http; /* one connection at a time, kept open between requests; a thread needs its own */
/* Strings are copied.  SLM2_EUSAGE for an address or a key that cannot be. */
slm2_status slm2_http_new(struct slm2_http **h, const struct slm2_http_opts *o, struct slm2_err *err);
void slm2_http_free(struct slm2_http *h);
/* SLM2_EIO: gave up, or refused; SLM2_EFORMAT: still no usable reply.  The message has the address, the last cause and, where the server gave one, its own words. */
slm2_status slm2_http_post(struct slm2_http *h, const json_t *body, slm2_http_take_fn *take, void *user, struct slm2_err *err);
long slm2_http_status(const struct slm2_http *h); /* of the last try; 0: none came */
bool slm2_http_is_open(const char *url);           /* http:// to another machine: who sits between reads along */
int slm2_http_n_retry(const struct slm2_http *h); /* tries that failed and were repeated, all requests together */
#endif
