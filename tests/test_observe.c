/* test_observe.c - who watches a run: TensorBoard files byte for byte, the metrics page while a run goes on, and that neither changes its bits.
 * The byte vectors were computed by a few lines of Python from the definitions: CRC-32C, TFRecord, event.proto. */
#include <arpa/inet.h>
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "train/metrics.h"
#include "train/tensorboard.h"
#include "train_data.h"

/* ---- TensorBoard ----------------------------------------------------------------------------------------------------------- */
static void records_have_the_bytes_of_the_format(void **state)
{
    (void)state;
    struct slm2_buf b = {0};
    static const uint8_t empty[] = {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x29, 0x03, 0x98, 0x07, 0xd8, 0xea, 0x82, 0xa2};
    /* Event{wall_time 1.5, step 300, summary{value{tag "train/loss", simple_value 2.25}}} */
    static const uint8_t scalar[] = {0x21, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x7b, 0xec, 0xf6, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf8, 0x3f, 0x10, 0xac, 0x02, 0x2a,
                                     0x13, 0x0a, 0x11, 0x0a, 0x0a, 0x74, 0x72, 0x61, 0x69, 0x6e, 0x2f, 0x6c, 0x6f, 0x73, 0x73, 0x15, 0x00, 0x00, 0x10, 0x40, 0x18, 0x4a, 0x34, 0x60};
    assert_int_equal(slm2_crc32c("123456789", 9), 0xE3069283);
    assert_int_equal(slm2_crc32c("", 0), 0);
    slm2_tb_put_record(&b, "", 0);
    assert_int_equal(b.n, sizeof empty);
    assert_memory_equal(b.v, empty, sizeof empty);
    slm2_buf_clear(&b);
    slm2_tb_put_scalar(&b, 1.5, 300, "loss", 2.25);
    assert_int_equal(b.n, sizeof scalar);
    assert_memory_equal(b.v, scalar, sizeof scalar);
    slm2_buf_clear(&b);
    char name[400];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = 0;
    slm2_tb_put_scalar(&b, 1e9, INT64_MAX, name, (double)NAN); /* a name of any length is cut, not run over */
    assert_true(b.n > 180 && b.n < 300 && !b.failed);
    slm2_buf_free(&b);
}

static bool holds(const struct slm2_buf *b, size_t at, size_t n, const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i + len <= n; i++)
        if (!memcmp(b->v + at + i, text, len)) return true;
    return false;
}

/* Walks the records of all event files of a folder: lengths and both sums must hold to the last byte. */
static int count_records(const char *dir, int *n_file, const char *text, int *n_text)
{
    int n = 0;
    struct slm2_err err;
    DIR *d = opendir(dir);
    assert_non_null(d);
    *n_file = *n_text = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char path[900];
        struct slm2_buf b = {0};
        if (e->d_name[0] == '.') continue;
        assert_non_null(strstr(e->d_name, "tfevents"));
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        assert_ok(slm2_file_read(&b, path, 1 << 24, &err));
        for (size_t at = 0; at < b.n;) {
            uint64_t len = 0;
            struct slm2_buf again = {0};
            assert_true(b.n - at >= 16);
            for (int i = 7; i >= 0; i--) len = len << 8 | (uint8_t)b.v[at + (size_t)i];
            assert_true(len <= b.n - at - 16);
            slm2_tb_put_record(&again, b.v + at + 12, len);
            assert_memory_equal(again.v, b.v + at, again.n);
            *n_text += holds(&b, at, again.n, text);
            at += again.n;
            n++;
            slm2_buf_free(&again);
        }
        slm2_buf_free(&b);
        ++*n_file;
    }
    closedir(d);
    return n;
}

/* ---- the metrics page --------------------------------------------------------------------------------------------------------- */
/* A strict reading of the text format 0.0.4: HELP, TYPE, samples of that family, each family once, labels quoted, numbers whole. */
static void expect_exposition(const char *page)
{
    char family[128] = "", seen[64][128];
    int n_seen = 0, n_sample = -1;
    assert_true(*page && page[strlen(page) - 1] == '\n');
    for (const char *s = page; *s;) {
        size_t n = strcspn(s, "\n");
        char line[600], name[128], rest[400];
        assert_true(n > 0 && n < sizeof line);
        snprintf(line, sizeof line, "%.*s", (int)n, s);
        s += n + 1;
        if (sscanf(line, "# HELP %127[a-z0-9_] %399[^\n]", name, rest) == 2) {
            if (n_sample == 0) fail_msg("%s has no sample", family);
            for (int i = 0; i < n_seen; i++) assert_string_not_equal(seen[i], name);
            snprintf(seen[n_seen++], sizeof seen[0], "%s", name);
            snprintf(family, sizeof family, "%s", name);
            n_sample = -2;
        } else if (sscanf(line, "# TYPE %127[a-z0-9_] %399s", name, rest) == 2) {
            assert_string_equal(name, family);
            assert_int_equal(n_sample, -2);
            assert_true(!strcmp(rest, "gauge") || !strcmp(rest, "counter"));
            assert_int_equal(!strcmp(rest, "counter"), strlen(name) > 6 && !strcmp(name + strlen(name) - 6, "_total"));
            n_sample = 0;
        } else {
            size_t k = strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789_");
            char *end;
            assert_true(n_sample >= 0 && k == strlen(family) && !strncmp(line, family, k));
            if (line[k] == '{') {
                do {
                    k++;
                    size_t m = strspn(line + k, "abcdefghijklmnopqrstuvwxyz_");
                    assert_true(m > 0 && line[k + m] == '=' && line[k + m + 1] == '"');
                    for (k += m + 2; line[k] && line[k] != '"'; k++)
                        if (line[k] == '\\') assert_non_null(strchr("\\\"n", line[++k]));
                    assert_int_equal(line[k++], '"');
                } while (line[k] == ',');
                assert_int_equal(line[k++], '}');
            }
            assert_int_equal(line[k], ' ');
            strtod(line + k + 1, &end);
            if (!line[k + 1] || *end) fail_msg("not a number: %s", line);
            n_sample++;
        }
    }
    assert_true(n_sample > 0);
}

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s >= 0 && bind(s, (struct sockaddr *)&a, sizeof a) == 0 && getsockname(s, (struct sockaddr *)&a, &n) == 0);
    close(s);
    return ntohs(a.sin_port);
}

/* Sends text and reads to the end; 0 when nobody listens. */
static int talk(int port, const char *request, struct slm2_buf *reply)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status = 0;
    char part[4096];
    slm2_buf_clear(reply);
    if (connect(s, (struct sockaddr *)&a, sizeof a) == 0 && send(s, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request)) {
        for (ssize_t n; (n = recv(s, part, sizeof part, 0)) > 0;) slm2_buf_put(reply, part, (size_t)n);
        if (reply->v) sscanf(reply->v, "HTTP/1.%*d %d", &status);
    }
    close(s);
    return status;
}

static const char *body_of(const struct slm2_buf *reply)
{
    const char *at = strstr(reply->v, "\r\n\r\n");
    assert_non_null(at);
    return at + 4;
}

static double sample(const char *page, const char *name)
{
    char want[160];
    snprintf(want, sizeof want, "\n%s ", name);
    const char *at = strstr(page, want);
    return at ? strtod(at + strlen(want), NULL) : (double)NAN;
}

static const char get[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

static void page_is_exposition(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_metrics *m, *second;
    struct slm2_ledger *l;
    struct slm2_buf b = {0};
    struct slm2_power_opts none = {.powercap = "/nowhere", .nvml = ""};
    struct slm2_metrics_opts o = {.address = "127.0.0.1", .port = free_port(), .stage = "a\"b\\c\nd", .n_step = 50};
    assert_ok(slm2_metrics_open(&m, &o, &err));
    assert_ok(slm2_ledger_open_with(&l, in_dir("page.sqlite"), "pretrain", &none, &err));
    slm2_metrics_listen(m, l);
    slm2_metrics_page(m, 0, &b);
    expect_exposition(b.v);
    assert_string_equal(b.v, "# HELP slm2_build_info Version of the program and stage of the run; always 1.\n# TYPE slm2_build_info gauge\n"
                             "slm2_build_info{version=\"" SLM2_VERSION "\",stage=\"a\\\"b\\\\c\\nd\"} 1\n"
                             "# HELP slm2_train_steps_total Updates made, all starts of the run.\n# TYPE slm2_train_steps_total counter\nslm2_train_steps_total 0\n"
                             "# HELP slm2_train_steps_planned Updates that the settings ask for.\n# TYPE slm2_train_steps_planned gauge\nslm2_train_steps_planned 50\n");
    slm2_ledger_metric(l, 7, "loss", (double)NAN);
    slm2_ledger_metric(l, 7, "grad_norm", HUGE_VAL);
    slm2_ledger_metric(l, 7, "tokens", 123456789);
    slm2_ledger_metric(l, 7, "valid_loss.de", 3.5);
    char name[200] = "valid_loss.";
    for (int i = 0; i < 100; i++) { /* more sources than a page should have, with names that are too long */
        memset(name + 11, 'a' + i % 26, 150);
        snprintf(name + 161, 20, "%d", i);
        name[11] = (char)('A' + i / 26);
        slm2_ledger_metric(l, 7, name, i);
    }
    slm2_ledger_event(l, 6, "checkpoint", "x");
    slm2_buf_clear(&b);
    slm2_metrics_page(m, slm2_now_s() + 30, &b);
    expect_exposition(b.v);
    assert_true(b.n < 16384);
    assert_true(isnan(sample(b.v, "slm2_train_loss")) && strstr(b.v, "\nslm2_train_loss NaN\n"));
    assert_non_null(strstr(b.v, "\nslm2_train_gradient_norm +Inf\n"));
    assert_true(sample(b.v, "slm2_train_tokens_total") == 123456789 && sample(b.v, "slm2_train_steps_total") == 7 && sample(b.v, "slm2_checkpoint_step") == 6);
    assert_true(sample(b.v, "slm2_checkpoint_age_seconds") >= 29 && sample(b.v, "slm2_checkpoint_age_seconds") < 60);
    assert_non_null(strstr(b.v, "\nslm2_validation_source_loss{source=\"de\"} 3.5\n"));
    printf("  page with 64 sources: %zu bytes\n", b.n);

    /* over the wire */
    assert_int_equal(talk(o.port, get, &b), 200);
    assert_non_null(strstr(b.v, "text/plain; version=0.0.4"));
    expect_exposition(body_of(&b));
    assert_int_equal(talk(o.port, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &b), 404);
    assert_int_equal(talk(o.port, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", &b), 405);
    int status = talk(o.port, "\x01\x02\r\n\r\n", &b); /* refused or hung up on, as the library likes */
    assert_true(status == 400 || status == 0);
    assert_int_equal(talk(o.port, get, &b), 200);
    assert_int_equal(slm2_metrics_open(&second, &o, &err), SLM2_EIO); /* taken */
    char port[16];
    snprintf(port, sizeof port, "%d", o.port);
    assert_non_null(strstr(err.msg, port));
    o.address = "localhost:1";
    assert_int_equal(slm2_metrics_open(&second, &o, &err), SLM2_EUSAGE);
    assert_ok(slm2_ledger_close(l, &err));
    slm2_metrics_close(m);
    assert_int_equal(talk(o.port, get, &b), 0);
    slm2_buf_free(&b);
}

/* ---- a run that is watched ------------------------------------------------------------------------------------------------------- */
struct watched {
    int port;
    slm2_status st;
    struct slm2_err err;
    volatile int done;
    pthread_mutex_t lock;
    pthread_cond_t looked_at;
    int n_pause, n_seen; /* pauses of the run; those during which a page was asked for and came */
};

/* The log's line of a step: the run goes on when somebody has seen a page, however fast the machine is.  The end is for a page that never comes. */
static void pause_at_step(enum slm2_log_level level, const char *text, void *user)
{
    struct watched *w = user;
    struct timespec end;
    (void)level;
    if (strncmp(text, "pretrain: step ", 15) || !strchr(text, '/')) return;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    pthread_mutex_lock(&w->lock);
    int no = ++w->n_pause, rc = 0;
    while (w->n_seen < no && rc == 0) rc = pthread_cond_timedwait(&w->looked_at, &w->lock, &end);
    pthread_mutex_unlock(&w->lock);
}

static int pauses(struct watched *w)
{
    pthread_mutex_lock(&w->lock);
    int n = w->n_pause;
    pthread_mutex_unlock(&w->lock);
    return n;
}

static void saw(struct watched *w, int n_pause)
{
    pthread_mutex_lock(&w->lock);
    w->n_seen = n_pause;
    pthread_cond_signal(&w->looked_at);
    pthread_mutex_unlock(&w->lock);
}

/* 80 steps, with a line in the log at each twentieth */
static slm2_status long_run(const char *name, const char *a, const char *b, struct slm2_train_result *res, struct slm2_err *err)
{
    char run[600];
    snprintf(run, sizeof run, "run=%s", in_dir(name));
    const char *sets[] = {run, "train.steps=100", "schedule.cooldown_start=74", "ckpt.every=100", "log.every=20", a, b};
    return slm2_pretrain(in_dir("run.yml"), sets, a ? 7 : 5, res, err);
}

static void *run_watched(void *arg)
{
    struct watched *w = arg;
    char port[32], dir[600];
    struct slm2_train_result res;
    snprintf(port, sizeof port, "metrics_port=%d", w->port);
    snprintf(dir, sizeof dir, "tensorboard=%s", in_dir("events"));
    w->st = long_run("watched", port, dir, &res, &w->err);
    w->done = 1;
    return NULL;
}

static void take_int(void *user, int n_col, const char *const *text) { *(int *)user = n_col && text[0] ? atoi(text[0]) : -1; }
static int rollbacks(const char *path)
{
    struct slm2_ledger *l;
    struct slm2_err err;
    int n = -1;
    assert_ok(slm2_ledger_open_read(&l, path, &err));
    assert_ok(slm2_ledger_query(l, "SELECT count(*) FROM event WHERE kind = 'rollback'", NULL, take_int, &n, &err));
    assert_ok(slm2_ledger_close(l, &err));
    return n;
}

static void watching_changes_nothing(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_train_result res;
    struct slm2_buf b = {0};
    struct watched w = {.port = free_port(), .lock = PTHREAD_MUTEX_INITIALIZER, .looked_at = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    char a[65], c[65];
    slm2_log_sink(pause_at_step, &w);
    assert_int_equal(pthread_create(&thread, NULL, run_watched, &w), 0);
    int n_page = 0, n_rise = 0;
    double last = -1, first_tokens = 0, tokens = 0;
    size_t largest = 0;
    while (!w.done) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        int n_pause = pauses(&w);
        if (talk(w.port, get, &b) != 200) continue; /* not yet, or no more */
        saw(&w, n_pause);
        const char *page = body_of(&b);
        expect_exposition(page);
        double step = sample(page, "slm2_train_steps_total");
        assert_true(step >= last);
        n_rise += step > last && step > 0;
        last = step;
        if (strlen(page) > largest) largest = strlen(page);
        tokens = sample(page, "slm2_train_tokens_total");
        if (!n_page++) first_tokens = tokens;
    }
    pthread_join(thread, NULL);
    slm2_log_sink(NULL, NULL);
    if (w.st != SLM2_OK) fail_msg("%s", w.err.msg);
    printf("  %d pages while 80 steps were made, %d with a newer step, at most %zu bytes\n", n_page, n_rise, largest);
    assert_true(w.n_pause == 4 && w.n_seen == 4 && n_page >= 4 && n_rise >= 4); /* steps 20, 40, 60, 80 */
    assert_true(!(tokens < first_tokens));

    assert_ok(long_run("alone", NULL, NULL, &res, &err));
    assert_ok(slm2_sha256_file(in_dir("watched/final/model.safetensors"), a, &err));
    assert_ok(slm2_sha256_file(in_dir("alone/final/model.safetensors"), c, &err));
    assert_string_equal(a, c);

    int n_file, n_start, n = count_records(in_dir("events"), &n_file, "train/loss", &n_start);
    assert_int_equal(n_file, 1);
    assert_int_equal(n_start, 80); /* one a step */
    assert_true(n > 80 * 6);

    /* gone on from a checkpoint: a second file, which says from where on the first no longer counts */
    char dir[600];
    snprintf(dir, sizeof dir, "tensorboard=%s", in_dir("events2"));
    assert_ok(run_with("again", &res, &err, "train.steps=10", dir, "schedule.cooldown_start=-1", NULL));
    assert_ok(run_with("again", &res, &err, "train.steps=14", dir, "schedule.cooldown_start=-1", NULL));
    /* step 11, session_log{status START} */
    count_records(in_dir("events2"), &n_file, "\x10\x0b\x3a\x02\x08\x01", &n_start);
    assert_int_equal(n_file, 2);
    assert_int_equal(n_start, 1);

    /* rolled back: the same word in the same file, at each rollback */
    int n_restart;
    double worst = 0; /* the largest norm of the steps 7 to 10 becomes a spike */
    struct slm2_series norm;
    struct slm2_ledger *l;
    assert_ok(slm2_ledger_open_read(&l, res.ledger, &err));
    assert_ok(slm2_ledger_series(l, "grad_norm", &norm, &err));
    assert_ok(slm2_ledger_close(l, &err));
    for (int i = 6; i < 10; i++) worst = norm.value[i] > worst ? norm.value[i] : worst;
    slm2_series_free(&norm);
    snprintf(dir, sizeof dir, "tensorboard=%s", in_dir("events3"));
    assert_ok(run_with("back", &res, &err, "train.steps=5", "schedule.cooldown_start=-1", NULL, NULL));
    char run[600], spike[64];
    snprintf(spike, sizeof spike, "spike.max_norm=%.9g", worst * 0.9999);
    snprintf(run, sizeof run, "run=%s", in_dir("back"));
    const char *sets[] = {run, "train.steps=10", "schedule.cooldown_start=-1", "spike.on_spike=rollback", spike, "spike.limit=100", dir};
    assert_ok(slm2_pretrain(in_dir("run.yml"), sets, 7, &res, &err));
    /* step 6: one for the resumed start, one for each rollback to 5 */
    count_records(in_dir("events3"), &n_file, "\x10\x06\x3a\x02\x08\x01", &n_restart);
    int n_back = rollbacks(res.ledger);
    printf("  %d rollbacks, %d restarts\n", n_back, n_restart);
    assert_true(n_back > 0);
    assert_int_equal(n_restart, 1 + n_back);
    slm2_buf_free(&b);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(records_have_the_bytes_of_the_format), cmocka_unit_test(page_is_exposition), cmocka_unit_test(watching_changes_nothing)};

SLM2_TEST_MAIN_WITH(tests, make_test_dir, remove_test_dir)
