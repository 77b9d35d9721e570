/* lines.c - lines of a text file, plain, gzip (several members too) or zstd (several frames too), told apart by their first bytes.
 * A stream that ends inside a member or frame, or is damaged, is an error: data never goes missing silently. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/file.h"

enum { IN_BYTES = 1 << 16, OUT_BYTES = 1 << 17 };
enum kind { PLAIN, GZIP, ZSTD };

struct slm2_lines {
    int fd;
    enum kind kind;
    char *path;
    uint8_t *in;              /* [IN_BYTES] raw bytes, in_at..in_n not yet decoded */
    size_t in_n, in_at;
    bool in_end;              /* the file has no more bytes */
    bool inside;              /* a gzip member or zstd frame is open */
    char *out;                /* [OUT_BYTES] text, out_at..out_n not yet given away */
    size_t out_n, out_at;
    bool ended;               /* nothing follows: end of text or a failure that ended it */
    z_stream z;
    bool z_open;
    ZSTD_DStream *zstd;
    struct slm2_buf line;     /* a line that spans blocks */
    size_t limit;
    uint64_t number, consumed, total; /* lines returned; raw bytes read, and of the whole file (0: unknown) */
};

static slm2_status fill_raw(struct slm2_lines *l, struct slm2_err *err)
{
    while (l->in_at == l->in_n && !l->in_end) {
        ssize_t n = read(l->fd, l->in, IN_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return slm2_fail_errno(err, "%s: cannot be read", l->path);
        l->in_at = 0;
        l->in_n = (size_t)n;
        l->consumed += (uint64_t)n;
        l->in_end = n == 0;
    }
    return SLM2_OK;
}

static slm2_status damaged(const struct slm2_lines *l, const char *why, struct slm2_err *err)
{
    return slm2_fail(err, SLM2_EFORMAT, "%s: behind line %llu: %s stream is damaged: %s", l->path, (unsigned long long)l->number,
                     l->kind == GZIP ? "gzip" : "zstd", why);
}

static slm2_status cut_off(const struct slm2_lines *l, struct slm2_err *err)
{
    return slm2_fail(err, SLM2_EFORMAT, "%s: behind line %llu: %s stream is truncated", l->path, (unsigned long long)l->number,
                     l->kind == GZIP ? "gzip" : "zstd");
}

/* One call of the decoder: may give no text.  Zero padding behind the last gzip member is allowed, as gzip(1) does. */
static slm2_status decode_gzip(struct slm2_lines *l, struct slm2_err *err)
{
    if (!l->inside) {
        if (l->in[l->in_at] == 0) { /* a file of this kind opens with the magic: some member came before */
            l->in_at++;
            return SLM2_OK;
        }
        if (inflateReset(&l->z) != Z_OK) return damaged(l, "cannot be reset", err);
        l->inside = true;
    }
    l->z.next_in = l->in + l->in_at;
    l->z.avail_in = (uInt)(l->in_n - l->in_at);
    l->z.next_out = (Bytef *)l->out;
    l->z.avail_out = OUT_BYTES;
    int code = inflate(&l->z, Z_NO_FLUSH);
    l->in_at = l->in_n - l->z.avail_in;
    l->out_n = OUT_BYTES - l->z.avail_out;
    if (code == Z_STREAM_END) l->inside = false;
    if (code == Z_MEM_ERROR) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for gzip", l->path);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return damaged(l, l->z.msg ? l->z.msg : "unknown code", err);
    return SLM2_OK;
}

static slm2_status decode_zstd(struct slm2_lines *l, struct slm2_err *err)
{
    ZSTD_inBuffer in = {l->in + l->in_at, l->in_n - l->in_at, 0};
    ZSTD_outBuffer out = {l->out, OUT_BYTES, 0};
    size_t code = ZSTD_decompressStream(l->zstd, &out, &in);
    l->in_at += in.pos;
    l->out_n = out.pos;
    if (ZSTD_isError(code)) return damaged(l, ZSTD_getErrorName(code), err);
    l->inside = code != 0;
    return SLM2_OK;
}

/* More text into out, or ended. */
static slm2_status fill(struct slm2_lines *l, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    bool was_full = l->out_n == OUT_BYTES; /* the decoder may hold text that needs no further input */
    l->out_at = l->out_n = 0;
    while (st == SLM2_OK && l->out_n == 0 && !l->ended) {
        st = fill_raw(l, err);
        if (st != SLM2_OK) break;
        bool raw_end = l->in_at == l->in_n;
        if (raw_end && !(was_full && l->inside)) {
            l->ended = true;
            if (l->inside) st = cut_off(l, err);
        } else if (l->kind == PLAIN) {
            size_t n = l->in_n - l->in_at;
            memcpy(l->out, l->in + l->in_at, n);
            l->in_at = l->in_n;
            l->out_n = n;
        } else {
            st = l->kind == GZIP ? decode_gzip(l, err) : decode_zstd(l, err);
            was_full = l->out_n == OUT_BYTES;
        }
    }
    if (st != SLM2_OK) {
        l->ended = true;
        l->out_n = 0;
    }
    return st;
}

slm2_status slm2_lines_open(struct slm2_lines **out, const char *path, struct slm2_err *err)
{
    static const uint8_t gzip_magic[2] = {0x1f, 0x8b}, zstd_magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
    slm2_status st = SLM2_OK;
    struct stat info;
    *out = NULL;
    struct slm2_lines *l = calloc(1, sizeof *l);
    if (!l) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for reading lines", path);
    l->limit = (size_t)64 << 20;
    l->in = malloc(IN_BYTES);
    l->out = malloc(OUT_BYTES);
    l->path = strdup(path);
    l->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (!l->in || !l->out || !l->path) {
        st = slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for reading lines", path);
    } else if (l->fd < 0) {
        st = slm2_fail_errno(err, "%s: cannot be opened", path);
    } else if (fstat(l->fd, &info)) {
        st = slm2_fail_errno(err, "%s: fstat", path);
    } else if (S_ISDIR(info.st_mode)) {
        st = slm2_fail(err, SLM2_EIO, "%s: is a folder, want a file", path);
    } else {
        l->total = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
        st = fill_raw(l, err);
    }
    if (st == SLM2_OK && l->in_n >= 2 && !memcmp(l->in, gzip_magic, 2)) {
        l->kind = GZIP;
        l->z_open = inflateInit2(&l->z, 15 + 16) == Z_OK; /* the widest window, gzip form only */
        if (!l->z_open) st = slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for gzip", path);
    } else if (st == SLM2_OK && l->in_n >= 4 && !memcmp(l->in, zstd_magic, 4)) {
        l->kind = ZSTD;
        l->zstd = ZSTD_createDStream();
        if (!l->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(l->zstd, ZSTD_d_windowLogMax, 27))) {
            st = slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for zstd", path);
        }
    }
    if (st != SLM2_OK) {
        slm2_lines_close(l);
        return st;
    }
    *out = l;
    return SLM2_OK;
}

slm2_status slm2_lines_next(struct slm2_lines *l, const char **line, size_t *n, struct slm2_err *err)
{
    bool started = false, too_long = false;
    size_t length = 0;
    *line = NULL;
    *n = 0;
    slm2_buf_clear(&l->line);
    for (;;) {
        if (l->out_at == l->out_n) {
            if (!l->ended) SLM2_TRY(fill(l, err));
            if (l->out_at == l->out_n) { /* the end: a line without '\n' may stand before it */
                if (!started) return SLM2_OK;
                break;
            }
        }
        const char *p = l->out + l->out_at;
        size_t left = l->out_n - l->out_at;
        const char *end = memchr(p, '\n', left);
        size_t piece = end ? (size_t)(end - p) : left;
        l->out_at += piece + (end != NULL);
        length += piece;
        too_long = too_long || length > l->limit;
        if (end && !started && !too_long) { /* whole within the block: given away without a copy */
            *line = p;
            *n = piece;
            l->number++;
            return SLM2_OK;
        }
        started = true;
        if (!too_long) slm2_buf_put(&l->line, p, piece);
        if (end) break;
    }
    l->number++;
    if (too_long) {
        return slm2_fail(err, SLM2_ELIMIT, "%s: line %llu has %zu bytes, at most %zu are allowed", l->path, (unsigned long long)l->number,
                         length, l->limit);
    }
    slm2_status st = slm2_buf_check(&l->line, err);
    if (st != SLM2_OK) {
        slm2_buf_free(&l->line);
        return st;
    }
    *line = l->line.v;
    *n = l->line.n;
    return SLM2_OK;
}

slm2_status slm2_lines_peek(struct slm2_lines *l, const char **text, size_t *n, struct slm2_err *err)
{
    *text = NULL;
    *n = 0;
    if (l->out_at == l->out_n && !l->ended) SLM2_TRY(fill(l, err));
    *text = l->out + l->out_at;
    *n = l->out_n - l->out_at;
    return SLM2_OK;
}

slm2_status slm2_lines_read(struct slm2_lines *l, struct slm2_buf *out, size_t n, struct slm2_err *err)
{
    while (n > 0) {
        if (l->out_at == l->out_n) {
            if (!l->ended) SLM2_TRY(fill(l, err));
            if (l->out_at == l->out_n) return SLM2_OK;
        }
        size_t left = l->out_n - l->out_at, piece = left < n ? left : n;
        if (out) slm2_buf_put(out, l->out + l->out_at, piece);
        l->out_at += piece;
        n -= piece;
    }
    return out ? slm2_buf_check(out, err) : SLM2_OK;
}

uint64_t slm2_lines_number(const struct slm2_lines *l) { return l->number; }

double slm2_lines_fraction(const struct slm2_lines *l)
{
    uint64_t done = l->consumed - (l->in_n - l->in_at);
    if (l->total == 0) return l->ended ? 1 : 0;
    return done >= l->total ? 1 : (double)done / (double)l->total;
}

void slm2_lines_limit(struct slm2_lines *l, size_t max_line_bytes) { l->limit = max_line_bytes; }

void slm2_lines_close(struct slm2_lines *l)
{
    if (!l) return;
    if (l->fd >= 0) close(l->fd);
    if (l->z_open) inflateEnd(&l->z);
    ZSTD_freeDStream(l->zstd);
    slm2_buf_free(&l->line);
    free(l->in);
    free(l->out);
    free(l->path);
    free(l);
}
