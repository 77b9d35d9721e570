/* log.c - hands messages to the program's sink and draws the progress line.  The sink and the one line of a terminal are the only
 * state here; a mutex keeps threads apart. */
#include "base/log.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static slm2_log_fn *sink;
static void *sink_user;

static struct {
    char what[64];
    double start_s, drawn_s, first_fraction;
    bool shown;
} bar;

void slm2_log_sink(slm2_log_fn *fn, void *user)
{
    pthread_mutex_lock(&lock);
    sink = fn;
    sink_user = user;
    pthread_mutex_unlock(&lock);
}

void slm2_log(enum slm2_log_level level, const char *fmt, ...)
{
    pthread_mutex_lock(&lock);
    slm2_log_fn *fn = sink;
    void *user = sink_user;
    pthread_mutex_unlock(&lock);
    if (!fn) return;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fn(level, text, user);
}

static void clear_bar(void)
{
    if (bar.shown) fputs("\r\033[K", stderr);
    bar.shown = false;
}

void slm2_log_stderr(enum slm2_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == SLM2_DEBUG) return;
    pthread_mutex_lock(&lock);
    clear_bar();
    fprintf(stderr, "%s%s\n", level == SLM2_WARN ? "warning: " : "", text);
    pthread_mutex_unlock(&lock);
}

/* "1:02:03" or "4:05" */
static void clock_text(char *out, size_t cap, double seconds)
{
    long s = seconds > 0 && seconds < 1e7 ? lround(seconds) : 0;
    if (s >= 3600) {
        snprintf(out, cap, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    } else {
        snprintf(out, cap, "%ld:%02ld", s / 60, s % 60);
    }
}

void slm2_progress(const char *what, double fraction, const char *fmt, ...)
{
    if (!isatty(STDERR_FILENO)) return;
    double now = slm2_now_s();
    pthread_mutex_lock(&lock);
    if (!(fraction > 0)) fraction = 0;
    if (fraction > 1) fraction = 1;
    if (strncmp(bar.what, what, sizeof bar.what - 1) != 0) {
        clear_bar();
        snprintf(bar.what, sizeof bar.what, "%s", what);
        bar.start_s = now;
        bar.drawn_s = 0;
        bar.first_fraction = fraction; /* a resumed run starts in the middle: what it did before says nothing about speed now */
    }
    if (now - bar.start_s >= 0.5 && now - bar.drawn_s >= 0.1) {
        char text[256], eta[32] = "", marks[21];
        int n = (int)(fraction * 20);
        memset(marks, '.', 20);
        memset(marks, '#', (size_t)n);
        marks[20] = 0;
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        double done = fraction - bar.first_fraction;
        if (done > 0) {
            char left[24];
            clock_text(left, sizeof left, (now - bar.start_s) / done * (1 - fraction));
            snprintf(eta, sizeof eta, "  ETA %s", left);
        }
        fprintf(stderr, "\r%s  [%s] %3.0f%%  %s%s\033[K", bar.what, marks, 100 * fraction, text, eta);
        fflush(stderr);
        bar.drawn_s = now;
        bar.shown = true;
    }
    pthread_mutex_unlock(&lock);
}

void slm2_progress_end(void)
{
    pthread_mutex_lock(&lock);
    clear_bar();
    bar.what[0] = 0;
    pthread_mutex_unlock(&lock);
}

static double clock_s(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t)) return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double slm2_now_s(void) { return clock_s(CLOCK_MONOTONIC); }

double slm2_cpu_s(void) { return clock_s(CLOCK_PROCESS_CPUTIME_ID); }

size_t slm2_peak_rss_bytes(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u)) return 0;
    return (size_t)u.ru_maxrss * 1024; /* Linux counts KiB */
}
