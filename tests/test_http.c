/* test_http.c - the HTTP client against a server that fails in every way that servers do: what is tried again, what is not, and what a message says. */
#include <signal.h>
#include <time.h>

#include "base/http.h"
#include "base/log.h"
#include "fake_judge.h"

static const char key[] = "sk-secret-1234567890";

static slm2_status take_choices(void *user, const json_t *reply, struct slm2_err *err)
{
    ++*(int *)user;
    return json_is_array(json_object_get(reply, "choices")) ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "no choices");
}

/* One request; n_taken: replies that were JSON. */
static slm2_status post(const char *url, const char *with_key, int n_try, int *n_taken, int *n_retry, struct slm2_err *err)
{
    struct slm2_http *h;
    json_t *body = json_pack("{s:s}", "model", "judge");
    *n_taken = 0;
    slm2_status st = slm2_http_new(&h, &(struct slm2_http_opts){.url = url, .key = with_key, .n_try = n_try, .backoff_ms = 1, .timeout_s = 5}, err);
    if (st == SLM2_OK) st = slm2_http_post(h, body, take_choices, n_taken, err);
    if (n_retry) *n_retry = st == SLM2_EUSAGE ? 0 : slm2_http_n_retry(h);
    slm2_http_free(h);
    json_decref(body);
    return st;
}

static void test_tries_again(void **state)
{
    static const struct fake_reply script[] = {{429, "{\"error\": {\"message\": \"slow down\"}}", NULL}, {500, "oops", NULL}, {503, "", NULL}, {200, "<html>not JSON", NULL}, {200, "{\"choices\": 3}", NULL}, {0, NULL, NULL}, {0, NULL, NULL}};
    struct fake_judge f = {.key = key, .script = script, .n_script = 7};
    struct slm2_err err;
    int taken, n_retry;
    (void)state;
    fake_judge_start(&f);
    slm2_status st = post(f.url, key, 7, &taken, &n_retry, &err);
    if (st != SLM2_OK) fail_msg("%s", err.msg);
    assert_int_equal(f.n_request, 8);
    assert_int_equal(n_retry, 6); /* libcurl itself tries again where a connection that it had kept open is found closed */
    assert_int_equal(taken, 2);
    assert_string_equal(f.last_path, "/v1");
    assert_string_equal(json_string_value(json_object_get(f.last, "model")), "judge");
    f.n_request = 0; /* the same with fewer tries: the last cause is told */
    assert_int_equal(post(f.url, key, 2, &taken, NULL, &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "gave up after 2 tries: "));
    assert_non_null(strstr(err.msg, "HTTP status 500: oops"));
    f.n_request = 3;
    assert_int_equal(post(f.url, key, 2, &taken, NULL, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "no choices"));
    fake_judge_stop(&f);
}

static slm2_status take_text(void *user, const json_t *reply, struct slm2_err *err)
{
    (void)err;
    snprintf(user, 80, "%s", json_string_value(json_object_get(reply, "text")));
    return SLM2_OK;
}

/* What a good reply says goes to files: the key does not, though a server repeats it. */
static void test_key_in_reply(void **state)
{
    static const struct fake_reply script[] = {{200, "{\"text\": \"Bearer sk-secret-1234567890: [[5]], sk-secret-123456789\"}", NULL}};
    struct fake_judge f = {.key = key, .script = script, .n_script = 1};
    struct slm2_err err;
    struct slm2_http *h;
    char text[80];
    json_t *body = json_object();
    (void)state;
    fake_judge_start(&f);
    assert_int_equal(slm2_http_new(&h, &(struct slm2_http_opts){.url = f.url, .key = key, .n_try = 1, .timeout_s = 5}, &err), SLM2_OK);
    assert_int_equal(slm2_http_post(h, body, take_text, text, &err), SLM2_OK);
    assert_string_equal(text, "Bearer ********************: [[5]], sk-secret-123456789");
    slm2_http_free(h);
    json_decref(body);
    fake_judge_stop(&f);
}

static void test_does_not(void **state)
{
    static const struct fake_reply script[] = {{400, "{\"error\": \"too long\"}", NULL}, {302, "", NULL}, {404, "a\tb\x01\n", NULL}};
    struct fake_judge f = {.key = key, .script = script, .n_script = 3};
    struct slm2_err err;
    int taken;
    (void)state;
    fake_judge_start(&f);
    assert_int_equal(post(f.url, key, 5, &taken, NULL, &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "HTTP status 400: too long"));
    assert_int_equal(post(f.url, key, 5, &taken, NULL, &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "302"));
    assert_int_equal(post(f.url, key, 5, &taken, NULL, &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "a b  "));
    assert_int_equal(f.n_request, 3);
    assert_int_equal(post(f.url, "sk-wrong-key", 5, &taken, NULL, &err), SLM2_EIO); /* 401, whose text repeats the key */
    assert_non_null(strstr(err.msg, "the key is refused"));
    assert_non_null(strstr(err.msg, "Incorrect API key provided: ***"));
    assert_null(strstr(err.msg, "sk-wrong-key"));
    assert_int_equal(post(f.url, NULL, 5, &taken, NULL, &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "it wants a key"));
    assert_int_equal(f.n_request, 5);
    fake_judge_stop(&f);
    assert_int_equal(post(f.url, key, 2, &taken, NULL, &err), SLM2_EIO); /* nobody listens any more */
    assert_non_null(strstr(err.msg, "gave up after 2 tries: http://127.0.0.1:"));
    static const char *const bad[] = {"", "ftp://host/", "host/v1", "http://", "http://user:word@host/v1", "http://host/a b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_int_equal(post(bad[i], key, 1, &taken, NULL, &err), SLM2_EUSAGE);
    assert_int_equal(post(f.url, "sk-1\r\nX-Evil: 1", 1, &taken, NULL, &err), SLM2_EUSAGE);
    assert_null(strstr(err.msg, "sk-1"));
}

static void test_open(void **state)
{
    static const char *const open[] = {"http://host/v1", "HTTP://host", "http://localhost.evil.invalid/v1", "http://127.0.0.1.evil.invalid", "http://localhostile"};
    static const char *const not[] = {"https://host/v1", "http://localhost", "http://LocalHost:80/v1", "http://127.0.0.1?x=1", "http://[::1]:8080/v1", "host", ""};
    (void)state;
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) assert_true(slm2_http_is_open(open[i]));
    for (size_t i = 0; i < sizeof not / sizeof not[0]; i++) assert_false(slm2_http_is_open(not[i]));
}

static volatile sig_atomic_t stop;
static void on_alarm(int sig)
{
    (void)sig;
    stop = 1;
}

/* A server that asks for a pause of two minutes is obeyed, and an interrupt ends the pause. */
static void test_interrupt(void **state)
{
    static const struct fake_reply script[] = {{429, "{}", "120"}};
    struct fake_judge f = {.script = script, .n_script = 1};
    struct slm2_http *h;
    struct slm2_err err;
    int taken = 0;
    (void)state;
    fake_judge_start(&f);
    json_t *body = json_object();
    assert_int_equal(slm2_http_new(&h, &(struct slm2_http_opts){.url = f.url, .n_try = 3, .backoff_ms = 1, .interrupt = &stop}, &err), SLM2_OK);
    signal(SIGALRM, on_alarm);
    timer_t t;
    assert_int_equal(timer_create(CLOCK_MONOTONIC, NULL, &t), 0);
    timer_settime(t, 0, &(struct itimerspec){.it_value.tv_nsec = 300000000}, NULL);
    double start = slm2_now_s();
    assert_int_equal(slm2_http_post(h, body, take_choices, &taken, &err), SLM2_ESTOP);
    assert_true(slm2_now_s() - start > 0.25 && slm2_now_s() - start < 30);
    assert_int_equal(f.n_request, 1);
    timer_delete(t);
    slm2_http_free(h);
    json_decref(body);
    fake_judge_stop(&f);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_tries_again), cmocka_unit_test(test_key_in_reply), cmocka_unit_test(test_does_not), cmocka_unit_test(test_open), cmocka_unit_test(test_interrupt)};
SLM2_TEST_MAIN(tests)
