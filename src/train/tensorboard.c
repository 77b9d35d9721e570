/* tensorboard.c - Event protobufs in TFRecord form.  Only what scalars need: a dozen bytes of protobuf are no reason for a library of it. */
#include "train/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

enum { BLOCK = 1 << 16, MAX_TAG = 200 };
struct slm2_tb {
    int fd;
    char *path;
    struct slm2_buf out; /* waits to be written; holds its memory, so a step allocates nothing once it has grown */
};

/* ---- CRC-32C, reflected, polynomial 0x1EDC6F41 --------------------------------------------------------------------------- */
uint32_t slm2_crc32c(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0x82F63B78 & (0 - (crc & 1))); /* bit by bit: a few hundred bytes a step */
    }
    return ~crc;
}

static uint32_t masked(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xA282EAD8; }

/* ---- bytes ------------------------------------------------------------------------------------------------------------- */
static void put_le(struct slm2_buf *b, uint64_t v, int n)
{
    uint8_t le[8];
    for (int i = 0; i < n; i++) le[i] = (uint8_t)(v >> 8 * i);
    slm2_buf_put(b, le, (size_t)n);
}

static void put_varint(struct slm2_buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) slm2_buf_putc(b, (char)(v | 0x80));
    slm2_buf_putc(b, (char)v);
}

void slm2_tb_put_record(struct slm2_buf *out, const void *event, size_t n)
{
    uint8_t len[8];
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)n >> 8 * i);
    slm2_buf_put(out, len, 8);
    put_le(out, masked(slm2_crc32c(len, 8)), 4);
    slm2_buf_put(out, event, n);
    put_le(out, masked(slm2_crc32c(event, n)), 4);
}

/* ---- events ------------------------------------------------------------------------------------------------------------ */
/* Field numbers of event.proto and summary.proto; a key is number * 8 + wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes). */
enum { EVENT_WALL_TIME = 1 << 3 | 1, EVENT_STEP = 2 << 3 | 0, EVENT_FILE_VERSION = 3 << 3 | 2, EVENT_SUMMARY = 5 << 3 | 2, EVENT_SESSION_LOG = 7 << 3 | 2 };
enum { SUMMARY_VALUE = 1 << 3 | 2, VALUE_TAG = 1 << 3 | 2, VALUE_SIMPLE = 2 << 3 | 5, SESSION_STATUS = 1 << 3 | 0, SESSION_START = 1 };

static void begin_event(struct slm2_buf *b, double wall_s, int64_t step)
{
    uint64_t bits;
    memcpy(&bits, &wall_s, sizeof bits);
    slm2_buf_putc(b, EVENT_WALL_TIME);
    put_le(b, bits, 8);
    if (step) { /* proto3 leaves zeros out */
        slm2_buf_putc(b, EVENT_STEP);
        put_varint(b, (uint64_t)step);
    }
}

void slm2_tb_put_scalar(struct slm2_buf *out, double wall_s, int64_t step, const char *metric, double value)
{
    char space[MAX_TAG + 64], tag[MAX_TAG];
    struct slm2_buf event = {.v = space, .cap = sizeof space}; /* never grows: the tag is cut */
    bool valid = !strncmp(metric, "valid_", 6);
    int n = snprintf(tag, sizeof tag, "%s%.180s", valid ? "valid/" : "train/", metric + (valid ? 6 : 0));
    float v = (float)value;
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    begin_event(&event, wall_s, step);
    slm2_buf_putc(&event, EVENT_SUMMARY); /* of one value: a tag, below 2^14 bytes, and four bytes */
    int value_len = 1 + (n < 0x80 ? 1 : 2) + n + 5;
    put_varint(&event, (uint64_t)(1 + (value_len < 0x80 ? 1 : 2) + value_len));
    slm2_buf_putc(&event, SUMMARY_VALUE);
    put_varint(&event, (uint64_t)value_len);
    slm2_buf_putc(&event, VALUE_TAG);
    put_varint(&event, (uint64_t)n);
    slm2_buf_put(&event, tag, (size_t)n);
    slm2_buf_putc(&event, VALUE_SIMPLE);
    put_le(&event, bits, 4);
    slm2_tb_put_record(out, event.v, event.n);
}

/* Readers drop what came before of steps above `step`. */
static void put_restart(struct slm2_buf *out, double wall_s, int64_t step)
{
    char space[64];
    struct slm2_buf event = {.v = space, .cap = sizeof space}; /* never grows: 9 + 11 + 4 bytes */
    const char start[] = {EVENT_SESSION_LOG, 2, SESSION_STATUS, SESSION_START};
    begin_event(&event, wall_s, step + 1);
    slm2_buf_put(&event, start, sizeof start);
    slm2_tb_put_record(out, event.v, event.n);
}

static double wall_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the file ---------------------------------------------------------------------------------------------------------- */
static void flush(struct slm2_tb *t)
{
    size_t done = 0;
    while (t->fd >= 0 && done < t->out.n) {
        ssize_t n = write(t->fd, t->out.v + done, t->out.n - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) { /* the ledger has it all: training goes on */
            slm2_log(SLM2_WARN, "%s: cannot be written: %s; no more TensorBoard events are written by this run", t->path, strerror(errno));
            close(t->fd);
            t->fd = -1;
            break;
        }
        done += (size_t)n;
    }
    slm2_buf_clear(&t->out);
}

slm2_status slm2_tb_open(struct slm2_tb **out, const char *dir, int64_t resume_step, struct slm2_err *err)
{
    char host[64] = "", name[160], path[4096];
    struct slm2_buf event = {0};
    double now = wall_now();
    *out = NULL;
    SLM2_TRY(slm2_dir_make(dir, err));
    if (gethostname(host, sizeof host - 1) || !*host) snprintf(host, sizeof host, "host");
    int fd = -1;
    for (int k = 0; fd < 0 && k < 1000; k++) { /* never into the file of another start */
        snprintf(name, sizeof name, "events.out.tfevents.%010" PRId64 ".%s.%ld.%d", (int64_t)now, host, (long)getpid(), k);
        SLM2_TRY(slm2_path_join(path, sizeof path, dir, name, err));
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) break;
    }
    if (fd < 0) return slm2_fail_errno(err, "%s: cannot be created", path);
    struct slm2_tb *t = calloc(1, sizeof *t);
    if (!t || !(t->path = strdup(path))) {
        free(t);
        close(fd);
        return slm2_fail(err, SLM2_ENOMEM, "no memory for TensorBoard events");
    }
    t->fd = fd;
    begin_event(&event, now, 0);
    slm2_buf_putc(&event, EVENT_FILE_VERSION);
    slm2_buf_putc(&event, 13);
    slm2_buf_puts(&event, "brain.Event:2");
    slm2_tb_put_record(&t->out, event.v, event.n);
    if (resume_step > 0) put_restart(&t->out, now, resume_step);
    slm2_status st = event.failed || t->out.failed ? slm2_fail(err, SLM2_ENOMEM, "no memory for TensorBoard events") : SLM2_OK;
    slm2_buf_free(&event);
    if (st != SLM2_OK) slm2_tb_close(t);
    else *out = t;
    return st;
}

void slm2_tb_close(struct slm2_tb *t)
{
    if (!t) return;
    flush(t);
    if (t->fd >= 0) close(t->fd);
    slm2_buf_free(&t->out);
    free(t->path);
    free(t);
}

static void on_metric(void *user, int64_t step, const char *name, double value)
{
    struct slm2_tb *t = user;
    if (t->fd < 0) return;
    slm2_tb_put_scalar(&t->out, wall_now(), step, name, value);
    if (t->out.n >= BLOCK) flush(t);
}

static void on_rewind(void *user, int64_t step)
{
    struct slm2_tb *t = user;
    if (t->fd >= 0) put_restart(&t->out, wall_now(), step);
}

static void on_tick(void *user, const struct slm2_power_device *device, int n)
{
    (void)device;
    (void)n;
    flush(user);
}

void slm2_tb_listen(struct slm2_tb *t, struct slm2_ledger *l)
{
    slm2_ledger_tee(l, &(struct slm2_ledger_sink){.user = t, .metric = on_metric, .rewind = on_rewind, .tick = on_tick});
}
