/* file.c - files as mapped bytes, as whole buffers and as outputs that appear whole or not at all; folders; SHA-256. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading ---------------------------------------------------------------------------------------------------------- */
static slm2_status open_regular(const char *path, int *fd, struct stat *info, struct slm2_err *err)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return slm2_fail_errno(err, "%s: cannot be opened", path);
    slm2_status st = SLM2_OK;
    if (fstat(*fd, info)) {
        st = slm2_fail_errno(err, "%s: fstat", path);
    } else if (S_ISDIR(info->st_mode)) {
        st = slm2_fail(err, SLM2_EIO, "%s: is a folder, want a file", path);
    }
    if (st != SLM2_OK) close(*fd);
    return st;
}

slm2_status slm2_map_open(struct slm2_map *m, const char *path, struct slm2_err *err)
{
    int fd;
    struct stat info;
    *m = (struct slm2_map){(const uint8_t *)"", 0};
    SLM2_TRY(open_regular(path, &fd, &info, err));
    slm2_status st = SLM2_OK;
    if (!S_ISREG(info.st_mode)) {
        st = slm2_fail(err, SLM2_EIO, "%s: is not a regular file and cannot be mapped", path);
    } else if (info.st_size > 0) {
        void *p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            st = slm2_fail_errno(err, "%s: cannot be mapped", path);
        } else {
            *m = (struct slm2_map){p, (size_t)info.st_size};
        }
    }
    close(fd);
    return st;
}

void slm2_map_close(struct slm2_map *m)
{
    if (m->n) munmap((void *)(uintptr_t)m->p, m->n);
    *m = (struct slm2_map){(const uint8_t *)"", 0};
}

void slm2_map_forget(const void *p, size_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)p + page - 1) / page * page, to = ((uintptr_t)p + n) / page * page;
    if (from < to) (void)madvise((void *)from, to - from, MADV_DONTNEED); /* a wish, of no consequence where it is refused */
}

slm2_status slm2_file_read(struct slm2_buf *out, const char *path, size_t max_bytes, struct slm2_err *err)
{
    int fd;
    struct stat info;
    char piece[65536];
    size_t total = 0, start = out->n;
    SLM2_TRY(open_regular(path, &fd, &info, err));
    slm2_status st = SLM2_OK;
    slm2_buf_put(out, "", 0);
    while (st == SLM2_OK) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            st = slm2_fail_errno(err, "%s: cannot be read", path);
        } else if (n == 0) {
            break;
        } else if ((size_t)n > max_bytes - total) {
            st = slm2_fail(err, SLM2_ELIMIT, "%s: is larger than the limit of %zu bytes", path, max_bytes);
        } else {
            slm2_buf_put(out, piece, (size_t)n);
            total += (size_t)n;
            st = slm2_buf_check(out, err);
        }
    }
    if (st != SLM2_OK && out->v) {
        out->n = start;
        out->v[start] = 0;
    }
    close(fd);
    return st;
}

/* ---- paths and folders ------------------------------------------------------------------------------------------------ */
bool slm2_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool slm2_path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

slm2_status slm2_path_join(char *out, size_t cap, const char *dir, const char *name, struct slm2_err *err)
{
    size_t n = strlen(dir);
    const char *slash = n == 0 || dir[n - 1] == '/' ? "" : "/";
    int want = snprintf(out, cap, "%s%s%s", dir, slash, name);
    if (want < 0 || (size_t)want >= cap) {
        return slm2_fail(err, SLM2_ELIMIT, "path of %d bytes is too long (at most %zu): %.200s", want, cap ? cap - 1 : 0, dir);
    }
    return SLM2_OK;
}

slm2_status slm2_path_folder(char *out, size_t cap, const char *path, struct slm2_err *err)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash && slash != path ? (size_t)(slash - path) : 1;
    if (n >= cap) return slm2_fail(err, SLM2_ELIMIT, "%.200s: the path is too long", path);
    memcpy(out, slash ? path : ".", n);
    out[n] = '\0';
    return SLM2_OK;
}

slm2_status slm2_path_home(char *out, size_t cap, const char *path, struct slm2_err *err)
{
    return slm2_path_is_dir(path) ? slm2_path_join(out, cap, path, "", err) : slm2_path_folder(out, cap, path, err);
}

bool slm2_path_ends(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);
    return n >= k && memcmp(path + n - k, end, k) == 0;
}

slm2_status slm2_dir_make(const char *path, struct slm2_err *err)
{
    char *p = strdup(path);
    slm2_status st = SLM2_OK;
    if (!p) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for a path", path);
    for (char *at = p;;) {
        char *slash = strchr(at + (*at == '/'), '/');
        if (slash) *slash = 0;
        if (*p && mkdir(p, 0777)) {
            int code = errno; /* asking whether it is there writes another */
            if (!slm2_path_is_dir(p)) {
                errno = code;
                st = slm2_fail_errno(err, "%s: folder cannot be made", p);
                break;
            }
        }
        if (!slash) break;
        *slash = '/';
        at = slash + 1;
        if (!*at) break;
    }
    free(p);
    return st;
}

/* Removes what the open folder holds; takes over fd.  Symbolic links are removed, not followed. */
static slm2_status remove_entries(int fd, const char *path, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    DIR *d = fdopendir(fd);
    if (!d) {
        st = slm2_fail_errno(err, "%s: folder cannot be read", path);
        close(fd);
        return st;
    }
    for (struct dirent *e; st == SLM2_OK && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        struct stat info;
        if (fstatat(dirfd(d), e->d_name, &info, AT_SYMLINK_NOFOLLOW)) {
            if (errno != ENOENT) st = slm2_fail_errno(err, "%s/%s", path, e->d_name);
            continue;
        }
        bool is_dir = S_ISDIR(info.st_mode);
        if (is_dir) {
            int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            st = sub < 0 ? slm2_fail_errno(err, "%s/%s: folder cannot be opened", path, e->d_name) : remove_entries(sub, path, err);
        }
        if (st == SLM2_OK && unlinkat(dirfd(d), e->d_name, is_dir ? AT_REMOVEDIR : 0) && errno != ENOENT) {
            st = slm2_fail_errno(err, "%s/%s: cannot be removed", path, e->d_name);
        }
    }
    closedir(d);
    return st;
}

slm2_status slm2_dir_remove(const char *path, struct slm2_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return SLM2_OK;
    if (fd < 0) return slm2_fail_errno(err, "%s: cannot be removed as a folder", path);
    SLM2_TRY(remove_entries(fd, path, err));
    if (rmdir(path) && errno != ENOENT) return slm2_fail_errno(err, "%s: folder cannot be removed", path);
    return SLM2_OK;
}

slm2_status slm2_dir_sync(const char *path, struct slm2_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return slm2_fail_errno(err, "%s: folder cannot be opened", path);
    slm2_status st = SLM2_OK;
    /* some file systems cannot sync folders and say EINVAL: there is nothing more to do there */
    if (fsync(fd) && errno != EINVAL) st = slm2_fail_errno(err, "%s: folder cannot be synced", path);
    close(fd);
    return st;
}

/* ---- writing aside, then renaming --------------------------------------------------------------------------------------- */
struct slm2_out {
    int fd;
    int code;     /* errno of the first failure, 0 when all is well */
    size_t size;  /* bytes accepted */
    size_t held;  /* of them not yet written */
    char *path, *tmp;
    bool hashed;
    SHA2_CTX hash;
    uint8_t block[1 << 16];
};

slm2_status slm2_out_open(struct slm2_out **out, const char *path, struct slm2_err *err)
{
    size_t n = strlen(path);
    *out = NULL;
    struct slm2_out *o = calloc(1, sizeof *o);
    if (o) {
        o->fd = -1;
        o->path = strdup(path);
        o->tmp = malloc(n + 5);
    }
    if (!o || !o->path || !o->tmp) {
        slm2_out_abort(o);
        return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for an output", path);
    }
    memcpy(o->tmp, path, n);
    memcpy(o->tmp + n, ".tmp", 5);
    o->fd = open(o->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (o->fd < 0) {
        slm2_status st = slm2_fail_errno(err, "%s: cannot be created", o->tmp);
        slm2_out_abort(o);
        return st;
    }
    *out = o;
    return SLM2_OK;
}

static void write_all(struct slm2_out *o, const uint8_t *p, size_t n)
{
    while (n > 0 && !o->code) {
        ssize_t k = write(o->fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            o->code = errno;
            return;
        }
        p += k;
        n -= (size_t)k;
    }
}

static void flush(struct slm2_out *o)
{
    write_all(o, o->block, o->held);
    o->held = 0;
}

void slm2_out_write(struct slm2_out *o, const void *bytes, size_t n)
{
    if (n == 0) return;
    o->size += n;
    if (o->hashed) SHA256Update(&o->hash, bytes, n);
    if (n > sizeof o->block - o->held) flush(o);
    if (n >= sizeof o->block) {
        write_all(o, bytes, n);
        return;
    }
    memcpy(o->block + o->held, bytes, n);
    o->held += n;
}

void slm2_out_hash(struct slm2_out *o)
{
    SHA256Init(&o->hash);
    o->hashed = true;
}

void slm2_out_sha256(struct slm2_out *o, char hex[65]) { SHA256End(&o->hash, hex); }

size_t slm2_out_size(const struct slm2_out *o) { return o->size; }

slm2_status slm2_out_commit(struct slm2_out *o, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    flush(o);
    if (!o->code && fsync(o->fd)) o->code = errno;
    if (close(o->fd) && !o->code) o->code = errno;
    o->fd = -1;
    if (!o->code && rename(o->tmp, o->path)) o->code = errno;
    if (o->code) {
        errno = o->code;
        st = slm2_fail_errno(err, "%s: cannot be written", o->path);
        slm2_out_abort(o);
        return st;
    }
    char *slash = strrchr(o->path, '/');
    if (slash) slash[slash == o->path] = 0; /* "/x" lies in "/" */
    st = slm2_dir_sync(slash ? o->path : ".", err);
    free(o->tmp);
    o->tmp = NULL;
    slm2_out_abort(o);
    return st;
}

void slm2_out_abort(struct slm2_out *o)
{
    if (!o) return;
    if (o->fd >= 0) close(o->fd);
    if (o->tmp) unlink(o->tmp);
    free(o->tmp);
    free(o->path);
    free(o);
}

slm2_status slm2_file_write(const char *path, const void *bytes, size_t n, struct slm2_err *err)
{
    struct slm2_out *o;
    SLM2_TRY(slm2_out_open(&o, path, err));
    slm2_out_write(o, bytes, n);
    return slm2_out_commit(o, err);
}

/* ---- SHA-256 ------------------------------------------------------------------------------------------------------------ */
void slm2_sha256_hex(const void *p, size_t n, char hex[65])
{
    SHA2_CTX c;
    SHA256Init(&c);
    SHA256Update(&c, p, n);
    SHA256End(&c, hex);
}

slm2_status slm2_sha256_file(const char *path, char hex[65], struct slm2_err *err)
{
    int fd;
    struct stat info;
    SHA2_CTX c;
    uint8_t piece[65536];
    SLM2_TRY(open_regular(path, &fd, &info, err));
    SHA256Init(&c);
    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            slm2_status st = slm2_fail_errno(err, "%s: cannot be read", path);
            close(fd);
            return st;
        }
        if (n == 0) break;
        SHA256Update(&c, piece, (size_t)n);
    }
    close(fd);
    SHA256End(&c, hex);
    return SLM2_OK;
}

slm2_status slm2_file_copy(const char *from_dir, const char *to_dir, const char *name, bool required, struct slm2_err *err)
{
    char path[4096];
    struct slm2_map map;
    SLM2_TRY(slm2_path_join(path, sizeof path, from_dir, name, err));
    if (!required && !slm2_path_exists(path)) return SLM2_OK;
    SLM2_TRY(slm2_map_open(&map, path, err));
    slm2_status st = slm2_path_join(path, sizeof path, to_dir, name, err);
    if (st == SLM2_OK) st = slm2_file_write(path, map.p, map.n, err);
    slm2_map_close(&map);
    return st;
}
