/* http.c - one request, and the patience around it. */
#include "base/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/num.h"

enum { MAX_PAUSE_MS = 60000, MAX_RETRY_AFTER_S = 600, CONNECT_S = 30, SLICE_MS = 50, WORDS = 240, LEAST_KEY = 8 };

struct slm2_http {
    struct slm2_http_opts o; /* url and key: own copies */
    char *url, *key, *shown; /* shown: the address for messages, without its query */
    CURL *curl;
    struct curl_slist *headers;
    struct slm2_buf reply;
    bool too_long;
    char cause[CURL_ERROR_SIZE];
    long status;
    int n_retry;
};

/* libcurl counts its starts, before 7.84 without a lock: threads that open clients at once must not meet there. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode started;
static void start(void) { started = curl_global_init(CURL_GLOBAL_DEFAULT); }

/* ---- opening --------------------------------------------------------------------------------------------------------- */
static bool printable(const char *s)
{
    for (; *s; s++)
        if (*s <= ' ' || *s > '~') return false;
    return true;
}

static slm2_status check(const struct slm2_http_opts *o, struct slm2_err *err)
{
    const char *host = !strncasecmp(o->url, "http://", 7) ? o->url + 7 : !strncasecmp(o->url, "https://", 8) ? o->url + 8 : NULL;
    if (!host || !*host || !printable(o->url)) return slm2_fail(err, SLM2_EUSAGE, "the address \"%.80s\" is none of HTTP, want something like https://host/v1", o->url);
    if (memchr(host, '@', strcspn(host, "/?#"))) return slm2_fail(err, SLM2_EUSAGE, "the address holds a user or a password; give the key by itself");
    if (o->key && !printable(o->key)) return slm2_fail(err, SLM2_EUSAGE, "the key holds a blank or a character that no key has; was a line break copied with it?");
    return SLM2_OK;
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *user)
{
    struct slm2_http *h = user;
    if (n > h->o.max_bytes - slm2_min_size(h->reply.n, h->o.max_bytes)) {
        h->too_long = true;
        return 0;
    }
    slm2_buf_put(&h->reply, bytes, size * n); /* size is 1 by definition */
    return h->reply.failed ? 0 : size * n;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct slm2_http *h = user;
    (void)a, (void)b, (void)c, (void)d;
    return h->o.interrupt && __atomic_load_n(h->o.interrupt, __ATOMIC_RELAXED); /* a signal handler sets it, or another thread */
}

static bool is_loopback(const char *url)
{
    static const char *const name[] = {"127.0.0.1", "localhost", "[::1]"};
    const char *host = strstr(url, "://");
    if (!host) return false;
    host += 3;
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        size_t n = strlen(name[i]);
        if (!strncasecmp(host, name[i], n) && (host[n] == '\0' || strchr(":/?#", host[n]))) return true;
    }
    return false;
}

bool slm2_http_is_open(const char *url) { return !strncasecmp(url, "http://", 7) && !is_loopback(url); }

static bool set_up(struct slm2_http *h)
{
    struct slm2_buf auth = {0};
    struct curl_slist *l = curl_slist_append(NULL, "Content-Type: application/json"), *more = l;
    if (h->key && *h->key) {
        slm2_buf_printf(&auth, "Authorization: Bearer %s", h->key);
        more = l && !auth.failed ? curl_slist_append(l, auth.v) : NULL;
        slm2_buf_free(&auth);
    }
    h->headers = l;
    if (!more) return false;
    bool ok = curl_easy_setopt(h->curl, CURLOPT_URL, h->url) == CURLE_OK && curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, h->headers) == CURLE_OK &&
              curl_easy_setopt(h->curl, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK && curl_easy_setopt(h->curl, CURLOPT_USERAGENT, "slm2/" SLM2_VERSION) == CURLE_OK;
    curl_easy_setopt(h->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h->curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(h->curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(h->curl, CURLOPT_TIMEOUT, (long)h->o.timeout_s);
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, h->cause);
    curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(h->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(h->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(h->curl, CURLOPT_XFERINFODATA, h);
    if (is_loopback(h->url)) curl_easy_setopt(h->curl, CURLOPT_PROXY, ""); /* no proxy reaches this machine from outside */
    return ok;
}

slm2_status slm2_http_new(struct slm2_http **out, const struct slm2_http_opts *o, struct slm2_err *err)
{
    *out = NULL;
    SLM2_TRY(check(o, err));
    pthread_once(&once, start);
    if (started != CURLE_OK) return slm2_fail(err, SLM2_EIO, "libcurl cannot start");
    struct slm2_http *h = calloc(1, sizeof *h);
    if (!h) return slm2_fail(err, SLM2_ENOMEM, "no memory for an HTTP client");
    h->o = *o;
    if (h->o.timeout_s < 1) h->o.timeout_s = 600;
    if (h->o.n_try < 1) h->o.n_try = 6;
    if (h->o.backoff_ms < 1) h->o.backoff_ms = 1000;
    if (h->o.max_bytes == 0) h->o.max_bytes = (size_t)16 << 20;
    h->url = strdup(o->url);
    h->key = strdup(o->key ? o->key : "");
    h->shown = strndup(o->url, strcspn(o->url, "?#"));
    h->curl = curl_easy_init();
    if (!h->url || !h->key || !h->shown || !h->curl || !set_up(h)) {
        slm2_http_free(h);
        return slm2_fail(err, SLM2_ENOMEM, "no memory for an HTTP client");
    }
    *out = h;
    return SLM2_OK;
}

void slm2_http_free(struct slm2_http *h)
{
    if (!h) return;
    if (h->curl) curl_easy_cleanup(h->curl);
    curl_slist_free_all(h->headers);
    slm2_buf_free(&h->reply);
    free(h->url);
    if (h->key) explicit_bzero(h->key, strlen(h->key));
    free(h->key);
    free(h->shown);
    free(h);
}

long slm2_http_status(const struct slm2_http *h) { return h->status; }
int slm2_http_n_retry(const struct slm2_http *h) { return h->n_retry; }

/* ---- messages --------------------------------------------------------------------------------------------------------- */
/* What a server says is foreign: one line, not long, and never the key, which some servers repeat. */
static void tame(const struct slm2_http *h, const char *text, char out[WORDS])
{
    size_t n = 0, n_key = strlen(h->key);
    while (*text && n + 4 < WORDS) {
        if (n_key && !strncmp(text, h->key, n_key)) {
            memcpy(out + n, "***", 3);
            n += 3;
            text += n_key;
            continue;
        }
        unsigned char c = (unsigned char)*text++;
        out[n++] = (char)(c < ' ' || c == 0x7f ? ' ' : c);
    }
    out[n] = '\0';
}

/* A good reply may be put on disk, and a server may repeat the key in it, too.  Stars of the same length leave JSON what it is; shorter keys than any
 * service gives out would be found in words that are none. */
static void mask_key(struct slm2_http *h)
{
    size_t n_key = strlen(h->key);
    for (size_t i = 0; n_key >= LEAST_KEY && i + n_key <= h->reply.n; i++)
        if (memcmp(h->reply.v + i, h->key, n_key) == 0) memset(h->reply.v + i, '*', n_key);
}

/* {"error": {"message": "..."}} or {"error": "..."} or the beginning of what came */
static void server_words(const struct slm2_http *h, char out[WORDS])
{
    struct slm2_err ignored;
    json_t *j = NULL;
    const char *said = NULL;
    if (h->reply.n && slm2_json_parse(&j, h->reply.v, h->reply.n, "reply", &ignored) == SLM2_OK) {
        const json_t *e = json_object_get(j, "error");
        said = json_string_value(e);
        if (!said) said = json_string_value(json_object_get(e, "message"));
    }
    tame(h, said ? said : h->reply.n ? h->reply.v : "", out);
    json_decref(j);
}

/* ---- one try ------------------------------------------------------------------------------------------------------------ */
enum outcome { DONE, AGAIN, NEVER };

static enum outcome judge_status(const struct slm2_http *h, struct slm2_err *err)
{
    char words[WORDS];
    const char *hint = h->status == 401 || h->status == 403 ? *h->key ? " (the key is refused)" : " (it wants a key)" : h->status == 404 ? " (wrong address, or no such model)" : "";
    server_words(h, words);
    slm2_fail(err, SLM2_EIO, "%s: HTTP status %ld%s%s%s", h->shown, h->status, hint, *words ? ": " : "", words);
    return h->status == 408 || h->status == 429 || h->status >= 500 ? AGAIN : NEVER;
}

static enum outcome try_once(struct slm2_http *h, const struct slm2_buf *body, slm2_http_take_fn *take, void *user, struct slm2_err *err)
{
    json_t *j = NULL;
    slm2_buf_clear(&h->reply);
    h->too_long = false;
    h->cause[0] = '\0';
    h->status = 0;
    curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->n);
    curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, body->v);
    CURLcode code = curl_easy_perform(h->curl);
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &h->status);
    if (on_progress(h, 0, 0, 0, 0)) {
        slm2_fail(err, SLM2_ESTOP, "stopped");
        return NEVER;
    }
    if (h->too_long) {
        slm2_fail(err, SLM2_ELIMIT, "%s: a reply of more than %zu bytes", h->shown, h->o.max_bytes);
        return NEVER;
    }
    if (h->reply.failed) {
        slm2_fail(err, SLM2_ENOMEM, "no memory for a reply");
        return NEVER;
    }
    if (code != CURLE_OK) {
        slm2_fail(err, SLM2_EIO, "%s: %s", h->shown, *h->cause ? h->cause : curl_easy_strerror(code));
        return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL ? NEVER : AGAIN;
    }
    if (h->status < 200 || h->status > 299) return judge_status(h, err);
    mask_key(h);
    slm2_status st = slm2_json_parse(&j, h->reply.v, h->reply.n, h->shown, err);
    if (st == SLM2_OK) st = take(user, j, err);
    json_decref(j);
    return st == SLM2_OK ? DONE : st == SLM2_EFORMAT ? AGAIN : NEVER;
}

/* ---- patience ------------------------------------------------------------------------------------------------------------ */
/* false: interrupted */
static bool pause_ms(const struct slm2_http *h, long ms)
{
    for (; ms > 0; ms -= SLICE_MS) {
        if (on_progress((void *)(uintptr_t)h, 0, 0, 0, 0)) return false;
        long part = ms < SLICE_MS ? ms : SLICE_MS;
        nanosleep(&(struct timespec){.tv_nsec = part * 1000000L}, NULL);
    }
    return true;
}

slm2_status slm2_http_post(struct slm2_http *h, const json_t *body, slm2_http_take_fn *take, void *user, struct slm2_err *err)
{
    struct slm2_err why = {0};
    struct slm2_buf text = {0};
    slm2_json_dump(body, &text);
    slm2_status st = slm2_buf_check(&text, err);
    long wait = h->o.backoff_ms;
    for (int i = 1; st == SLM2_OK; i++) {
        enum outcome got = try_once(h, &text, take, user, &why);
        if (got == DONE) break;
        if (got == NEVER || i == h->o.n_try) {
            st = why.status;
            if (got == AGAIN) slm2_wrap(&why, st, "gave up after %d tries", i);
            if (err) *err = why;
            break;
        }
        curl_off_t asked = 0;
        curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER, &asked);
        long longer = (long)(asked > MAX_RETRY_AFTER_S ? MAX_RETRY_AFTER_S : asked) * 1000;
        h->n_retry++;
        if (!pause_ms(h, longer > wait ? longer : wait)) st = slm2_fail(err, SLM2_ESTOP, "stopped");
        wait = wait * 2 < MAX_PAUSE_MS ? wait * 2 : MAX_PAUSE_MS;
    }
    slm2_buf_free(&text);
    return st;
}
