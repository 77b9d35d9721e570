/* metrics.c - a snapshot under a lock, and libmicrohttpd in front of it. */
#include "train/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { MAX_SOURCE = 64, MAX_CONNECTION = 8, TIMEOUT_S = 10 };

/* Metrics of the ledger that become gauges of their own. */
enum gauge { LOSS, LR, GRAD_NORM, CLIP, SPEED, TOKENS, VALID_LOSS, N_GAUGE };
static const struct { const char *metric, *name, *type, *help; } gauges[N_GAUGE] = {
    [LOSS] = {"loss", "slm2_train_loss", "gauge", "Training loss of the newest step, nats per token."},
    [LR] = {"lr", "slm2_train_learning_rate", "gauge", "Learning rate of the newest step."},
    [GRAD_NORM] = {"grad_norm", "slm2_train_gradient_norm", "gauge", "Global gradient norm of the newest step, before clipping."},
    [CLIP] = {"clip", "slm2_train_clip_factor", "gauge", "What the gradient was multiplied by; 1 is no clipping."},
    [SPEED] = {"tokens_s", "slm2_train_tokens_per_second", "gauge", "Speed of the newest step."},
    [TOKENS] = {"tokens", "slm2_train_tokens_total", "counter", "Tokens trained on, all starts of the run."},
    [VALID_LOSS] = {"valid_loss", "slm2_validation_loss", "gauge", "Loss of the newest validation, nats per token."},
};

struct slm2_metrics {
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;
    bool locks;
    char stage[32];
    /* the snapshot */
    int64_t step, n_step, ckpt_step;
    double ckpt_s; /* slm2_now_s of the newest checkpoint of this start */
    double value[N_GAUGE];
    bool any_loss; /* a loss that is NaN is news, one that is not there is none */
    struct { char name[80]; double loss; } source[MAX_SOURCE];
    int n_source;
    struct slm2_power_device device[SLM2_POWER_MAX_DEVICE];
    int n_device;
};

/* ---- the snapshot ------------------------------------------------------------------------------------------------------ */
static void on_metric(void *user, int64_t step, const char *name, double value)
{
    static const char of_source[] = "valid_loss.";
    struct slm2_metrics *m = user;
    pthread_mutex_lock(&m->lock);
    if (step > m->step) m->step = step;
    for (int i = 0; i < N_GAUGE; i++)
        if (!strcmp(name, gauges[i].metric)) m->value[i] = value, m->any_loss = m->any_loss || i == LOSS;
    if (!strncmp(name, of_source, sizeof of_source - 1)) {
        const char *source = name + sizeof of_source - 1;
        int i = 0;
        while (i < m->n_source && strncmp(m->source[i].name, source, sizeof m->source[0].name - 1)) i++;
        if (i < MAX_SOURCE) {
            if (i == m->n_source) snprintf(m->source[m->n_source++].name, sizeof m->source[0].name, "%.79s", source);
            m->source[i].loss = value;
        }
    }
    pthread_mutex_unlock(&m->lock);
}

static void on_event(void *user, int64_t step, const char *kind)
{
    struct slm2_metrics *m = user;
    if (strcmp(kind, "checkpoint")) return;
    pthread_mutex_lock(&m->lock);
    m->ckpt_step = step;
    m->ckpt_s = slm2_now_s();
    pthread_mutex_unlock(&m->lock);
}

/* Prometheus takes a counter that falls for one that began anew. */
static void on_rewind(void *user, int64_t step)
{
    struct slm2_metrics *m = user;
    pthread_mutex_lock(&m->lock);
    if (m->step > step) m->step = step;
    if (m->ckpt_step > step) m->ckpt_step = step;
    pthread_mutex_unlock(&m->lock);
}

static void on_tick(void *user, const struct slm2_power_device *device, int n)
{
    struct slm2_metrics *m = user;
    pthread_mutex_lock(&m->lock);
    m->n_device = n;
    if (n) memcpy(m->device, device, (size_t)n * sizeof *device);
    pthread_mutex_unlock(&m->lock);
}

void slm2_metrics_listen(struct slm2_metrics *m, struct slm2_ledger *l)
{
    slm2_ledger_tee(l, &(struct slm2_ledger_sink){.user = m, .metric = on_metric, .event = on_event, .rewind = on_rewind, .tick = on_tick});
}

/* ---- the page ------------------------------------------------------------------------------------------------------------ */
static void family(struct slm2_buf *b, const char *name, const char *type, const char *help)
{
    slm2_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Prometheus spells what is not finite in its own way. */
static void number(struct slm2_buf *b, double v)
{
    if (isnan(v)) slm2_buf_puts(b, "NaN\n");
    else if (isinf(v)) slm2_buf_puts(b, v > 0 ? "+Inf\n" : "-Inf\n");
    else slm2_buf_printf(b, "%.15g\n", v);
}

/* A label's value between its quotes. */
static void label(struct slm2_buf *b, const char *text)
{
    for (const char *s = text; *s; s++) {
        if (*s == '\\' || *s == '"') slm2_buf_putc(b, '\\');
        if (*s == '\n') slm2_buf_puts(b, "\\n");
        else slm2_buf_putc(b, *s);
    }
}

static void one(struct slm2_buf *b, const char *name, const char *type, const char *help, double v)
{
    family(b, name, type, help);
    slm2_buf_printf(b, "%s ", name);
    number(b, v);
}

static void put_labelled(struct slm2_buf *b, const char *name, const char *key, const char *value, double v)
{
    slm2_buf_printf(b, "%s{%s=\"", name, key);
    label(b, value);
    slm2_buf_puts(b, "\"} ");
    number(b, v);
}

void slm2_metrics_page(struct slm2_metrics *m, double now_s, struct slm2_buf *b)
{
    pthread_mutex_lock(&m->lock);
    family(b, "slm2_build_info", "gauge", "Version of the program and stage of the run; always 1.");
    slm2_buf_puts(b, "slm2_build_info{version=\"" SLM2_VERSION "\",stage=\"");
    label(b, m->stage);
    slm2_buf_puts(b, "\"} 1\n");
    one(b, "slm2_train_steps_total", "counter", "Updates made, all starts of the run.", (double)m->step);
    if (m->n_step) one(b, "slm2_train_steps_planned", "gauge", "Updates that the settings ask for.", (double)m->n_step);
    for (int i = 0; i < N_GAUGE; i++) /* nothing is said before there is something to say */
        if (!isnan(m->value[i]) || (i == LOSS && m->any_loss)) one(b, gauges[i].name, gauges[i].type, gauges[i].help, m->value[i]);
    if (m->n_source) family(b, "slm2_validation_source_loss", "gauge", "Loss of the newest validation by source, nats per token.");
    for (int i = 0; i < m->n_source; i++) put_labelled(b, "slm2_validation_source_loss", "source", m->source[i].name, m->source[i].loss);
    if (m->ckpt_step >= 0) one(b, "slm2_checkpoint_step", "gauge", "Step of the newest checkpoint.", (double)m->ckpt_step);
    if (m->ckpt_s > 0) one(b, "slm2_checkpoint_age_seconds", "gauge", "Time since the newest checkpoint of this start.", now_s - m->ckpt_s);
    if (m->n_device) family(b, "slm2_energy_joules_total", "counter", "Energy by the machine's counters (RAPL, NVML) since this start.");
    for (int i = 0; i < m->n_device; i++) put_labelled(b, "slm2_energy_joules_total", "device", m->device[i].name, m->device[i].joules);
    pthread_mutex_unlock(&m->lock);
}

/* ---- HTTP ---------------------------------------------------------------------------------------------------------------- */
static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *type, struct slm2_buf *text)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(text->n, text->v, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        slm2_buf_free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result answer(void *user, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *upload, size_t *n_upload, void **state)
{
    struct slm2_buf text = {0};
    (void)version;
    (void)upload;
    if (*n_upload) { /* a body that nobody wants */
        *n_upload = 0;
        return MHD_YES;
    }
    (void)state;
    if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD)) {
        slm2_buf_puts(&text, "only GET\n");
        return reply(c, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", &text);
    }
    if (strcmp(url, "/metrics")) {
        slm2_buf_puts(&text, "want /metrics\n");
        return reply(c, MHD_HTTP_NOT_FOUND, "text/plain", &text);
    }
    slm2_metrics_page(user, slm2_now_s(), &text);
    if (text.failed) {
        slm2_buf_free(&text);
        return MHD_NO;
    }
    return reply(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &text);
}

slm2_status slm2_metrics_open(struct slm2_metrics **out, const struct slm2_metrics_opts *o, struct slm2_err *err)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)o->port)};
    bool is_v6 = false;
    *out = NULL;
    if (inet_pton(AF_INET, o->address, &v4.sin_addr) != 1) {
        is_v6 = inet_pton(AF_INET6, o->address, &v6.sin6_addr) == 1;
        if (!is_v6) return slm2_fail(err, SLM2_EUSAGE, "metrics_address \"%s\" is no IPv4 or IPv6 address, such as 127.0.0.1", o->address);
    }
    struct slm2_metrics *m = calloc(1, sizeof *m);
    if (!m) return slm2_fail(err, SLM2_ENOMEM, "no memory for the metrics");
    snprintf(m->stage, sizeof m->stage, "%.31s", o->stage);
    m->n_step = o->n_step;
    m->step = o->step;
    m->ckpt_step = o->step > 0 ? o->step : -1;
    for (int i = 0; i < N_GAUGE; i++) m->value[i] = (double)NAN;
    m->locks = pthread_mutex_init(&m->lock, NULL) == 0;
    errno = 0;
    if (m->locks)
        m->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO | (is_v6 ? MHD_USE_IPv6 : 0), (uint16_t)o->port, NULL, NULL, answer, m, MHD_OPTION_SOCK_ADDR,
                                     is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4, MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTION, MHD_OPTION_CONNECTION_TIMEOUT,
                                     (unsigned)TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)8192, MHD_OPTION_END);
    if (!m->daemon) {
        slm2_status st = errno ? slm2_fail_errno(err, "metrics at %s port %d (another run may have it: choose another --metrics-port)", o->address, o->port) : slm2_fail(err, SLM2_EIO, "metrics at %s port %d: the port cannot be had", o->address, o->port);
        slm2_metrics_close(m);
        return st;
    }
    *out = m;
    return SLM2_OK;
}

void slm2_metrics_close(struct slm2_metrics *m)
{
    if (!m) return;
    if (m->daemon) MHD_stop_daemon(m->daemon);
    if (m->locks) pthread_mutex_destroy(&m->lock);
    free(m);
}
