/* fake_judge.h - an HTTP server on the loopback that plays a judge: first a script of replies, good and bad, then what `answer` says. */
#ifndef SLM2_FAKE_JUDGE_H
#define SLM2_FAKE_JUDGE_H
#include <arpa/inet.h>
#include <microhttpd.h>
#include <pthread.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "slm2_test.h"

struct fake_reply {
    unsigned status;         /* 0: the connection is closed without a word */
    const char *body;        /* NULL: a good reply */
    const char *retry_after; /* or NULL */
};
struct fake_judge {
    const char *key;                /* wanted in Authorization; NULL: none is asked for */
    const struct fake_reply *script;
    int n_script;
    /* The judge's words about a request; malloc'd.  NULL: "Rating: [[5]]" */
    char *(*answer)(void *user, const json_t *request);
    void *user;
    /* the server's own */
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;
    int n_request, port;
    char url[64], last_path[64], last_version[16]; /* the query's api-version */
    json_t *last;                   /* the newest request that was answered or refused by its status */
};

static enum MHD_Result fake_send(struct MHD_Connection *c, unsigned status, const char *body, const char *retry_after)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(body), (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    if (retry_after) MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, retry_after);
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result fake_reply_to(struct fake_judge *f, struct MHD_Connection *c, const char *url, const struct slm2_buf *body)
{
    const char *auth = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    char want[128], text[256];
    struct slm2_err err;
    int turn = f->n_request++;
    const char *version = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "api-version");
    snprintf(f->last_path, sizeof f->last_path, "%s", url);
    snprintf(f->last_version, sizeof f->last_version, "%s", version ? version : "");
    json_decref(f->last);
    f->last = NULL;
    if (slm2_json_parse(&f->last, body->v ? body->v : "", body->n, "request", &err) != SLM2_OK) return fake_send(c, 400, "{\"error\": {\"message\": \"no JSON\"}}", NULL);
    snprintf(want, sizeof want, "Bearer %s", f->key ? f->key : "");
    if (f->key && (!auth || strcmp(auth, want))) { /* as some servers do, it repeats the key */
        snprintf(text, sizeof text, "{\"error\": {\"message\": \"Incorrect API key provided: %.100s\"}}", auth ? auth + 7 : "none");
        return fake_send(c, 401, text, NULL);
    }
    const struct fake_reply *r = turn < f->n_script ? &f->script[turn] : NULL;
    if (r && !r->status) return MHD_NO;
    if (r && r->body) return fake_send(c, r->status, r->body, r->retry_after);
    char *words = f->answer ? f->answer(f->user, f->last) : strdup("Rating: [[5]]");
    json_t *j = json_pack("{s:s, s:[{s:i, s:{s:s, s:s}, s:s}]}", "object", "chat.completion", "choices", "index", 0, "message", "role", "assistant", "content", words, "finish_reason", "stop");
    char *reply = json_dumps(j, 0);
    enum MHD_Result ok = fake_send(c, r ? r->status : 200, reply, NULL);
    json_decref(j);
    free(reply);
    free(words);
    return ok;
}

static enum MHD_Result fake_on_request(void *user, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *upload, size_t *n_upload, void **state)
{
    struct fake_judge *f = user;
    (void)method;
    (void)version;
    if (!*state) return (*state = calloc(1, sizeof(struct slm2_buf))) ? MHD_YES : MHD_NO;
    struct slm2_buf *body = *state;
    if (*n_upload) {
        slm2_buf_put(body, upload, *n_upload);
        *n_upload = 0;
        return MHD_YES;
    }
    pthread_mutex_lock(&f->lock);
    enum MHD_Result ok = fake_reply_to(f, c, url, body);
    pthread_mutex_unlock(&f->lock);
    return ok;
}

static void fake_on_end(void *user, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode how)
{
    (void)user;
    (void)c;
    (void)how;
    if (*state) slm2_buf_free(*state);
    free(*state);
    *state = NULL;
}

static void fake_judge_start(struct fake_judge *f)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    pthread_mutex_init(&f->lock, NULL);
    f->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL, fake_on_request, f, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&at, MHD_OPTION_NOTIFY_COMPLETED,
                                 fake_on_end, NULL, MHD_OPTION_END);
    assert_non_null(f->daemon);
    f->port = MHD_get_daemon_info(f->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    snprintf(f->url, sizeof f->url, "http://127.0.0.1:%d/v1", f->port);
}

static void fake_judge_stop(struct fake_judge *f)
{
    MHD_stop_daemon(f->daemon);
    pthread_mutex_destroy(&f->lock);
    json_decref(f->last);
    f->last = NULL;
}
#endif
