/* verify.c - hashes of all files at once, then the indices and tokens; and what is remembered of it. */
#include "data/verify.h"

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "data/aside.h"
#include "data/build.h"
#include "data/shard.h"

enum { MAX_PATH = 4096, PIECE = 65536 };
static const char verified_name[] = "verified.json";

/* ---- what is remembered ----------------------------------------------------------------------------------------------------- */
json_t *slm2_verified_read(const char *dir)
{
    char path[MAX_PATH];
    json_t *j = NULL;
    if (slm2_path_join(path, sizeof path, dir, verified_name, NULL) == SLM2_OK && slm2_path_exists(path)) slm2_json_read(&j, path, (size_t)256 << 20, NULL);
    if (json_is_object(j)) return j;
    json_decref(j);
    return json_object();
}

/* Under a name of this process first: the ranks of a run may all do this at once. */
void slm2_verified_write(const json_t *verified, const char *dir)
{
    char path[MAX_PATH], own[MAX_PATH];
    struct slm2_err err = {0};
    slm2_status st = slm2_path_join(path, sizeof path, dir, verified_name, &err);
    if (st == SLM2_OK) st = slm2_aside_name(own, sizeof own, path, &err);
    if (st == SLM2_OK) st = slm2_json_write(verified, own, &err);
    if (st == SLM2_OK && rename(own, path)) st = slm2_fail_errno(&err, "%s: cannot be renamed to %s", own, path);
    if (st != SLM2_OK) slm2_log(SLM2_WARN, "%s; the hashes of this folder will be checked at each start", err.msg);
}

/* The state of the file as JSON; NULL: it cannot be looked at. */
static json_t *state_of(const char *path, const char *sha256)
{
    struct stat s;
    if (stat(path, &s)) return NULL;
    return json_pack("{s:I, s:I, s:I, s:s}", "bytes", (json_int_t)s.st_size, "changed_ns", (json_int_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec, "inode",
                     (json_int_t)s.st_ino, "sha256", sha256);
}

static bool is_verified(const json_t *verified, const char *file, const char *path, const char *sha256)
{
    json_t *now = state_of(path, sha256);
    bool same = now && json_equal(now, json_object_get(verified, file));
    json_decref(now);
    return same;
}

void slm2_verified_add(json_t *verified, const char *dir, const json_t *outputs)
{
    json_t *f;
    size_t i;
    json_array_foreach(outputs, i, f) {
        const char *file = json_string_value(json_object_get(f, "file")), *hex = json_string_value(json_object_get(f, "sha256"));
        char path[MAX_PATH];
        json_t *state;
        if (!file || !hex || slm2_path_join(path, sizeof path, dir, file, NULL) != SLM2_OK || !(state = state_of(path, hex))) continue;
        json_object_set_new(verified, file, state);
    }
}

/* ---- one file --------------------------------------------------------------------------------------------------------------- */
/* A name from a manifest becomes part of a path: nothing but what a build allows. */
static bool is_plain_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= 200 && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == n && name[0] != '.';
}

/* verified NULL: hashed whatever is remembered. */
static slm2_status check_file(const char *dir, const json_t *output, const json_t *verified, struct slm2_err *err)
{
    static const char remedy[] = "the file is damaged: build the folder again, or copy it anew";
    char path[MAX_PATH], hex[65];
    const char *file, *want;
    struct stat info;
    int64_t bytes;
    SLM2_TRY(slm2_json_get_str(output, "file", dir, &file, err));
    SLM2_TRY(slm2_json_get_str(output, "sha256", dir, &want, err));
    SLM2_TRY(slm2_json_get_int(output, "bytes", dir, 0, INT64_MAX, &bytes, err));
    if (!is_plain_name(file)) return slm2_fail(err, SLM2_EFORMAT, "%s/manifest.json: \"%.100s\" is not the name of a data file", dir, file);
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, file, err));
    if (stat(path, &info)) return slm2_fail_errno(err, "%s: is in the manifest but cannot be opened", path);
    if (info.st_size != bytes) return slm2_fail(err, SLM2_EFORMAT, "%s: %" PRId64 " bytes, the manifest says %" PRId64 "; %s", path, (int64_t)info.st_size, bytes, remedy);
    if (verified && is_verified(verified, file, path, want)) return SLM2_OK;
    SLM2_TRY(slm2_sha256_file(path, hex, err));
    if (strcmp(hex, want) != 0) return slm2_fail(err, SLM2_EFORMAT, "%s: SHA-256 is %s, the manifest says %.64s; %s", path, hex, want, remedy);
    return SLM2_OK;
}

/* ---- before training -------------------------------------------------------------------------------------------------------- */
static bool is_tokens(const json_t *output)
{
    const char *file = json_string_value(json_object_get(output, "file"));
    size_t n = file ? strlen(file) : 0;
    return n > 4 && (strcmp(file + n - 4, ".bin") == 0 || strcmp(file + n - 4, ".idx") == 0);
}

slm2_status slm2_dataset_check(const char *dir, const char *source, struct slm2_err *err)
{
    json_t *j, *entry, *out;
    size_t i, k;
    SLM2_TRY(slm2_dataset_manifest(dir, &j, NULL, err));
    slm2_aside_clean(dir, verified_name);
    json_t *verified = slm2_verified_read(dir), *before = json_copy(verified);
    slm2_status st = SLM2_OK;
    json_array_foreach(json_object_get(j, "sources"), i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const json_t *outputs = json_object_get(entry, "outputs");
        if (!name || strcmp(name, source) != 0) continue;
        json_array_foreach(outputs, k, out) {
            if (st == SLM2_OK && is_tokens(out)) st = check_file(dir, out, verified, err);
        }
        if (st == SLM2_OK) slm2_verified_add(verified, dir, outputs);
    }
    if (st == SLM2_OK && !json_equal(verified, before)) slm2_verified_write(verified, dir);
    json_decref(before);
    json_decref(verified);
    json_decref(j);
    return st;
}

/* ---- everything ------------------------------------------------------------------------------------------------------------- */
static slm2_status check_tokens(const struct slm2_dataset *d, const struct slm2_dataset_source *s, int split, struct slm2_err *err)
{
    struct slm2_shard sh;
    slm2_status st = SLM2_OK;
    SLM2_TRY(slm2_shard_open(&sh, s->prefix[split], err));
    int32_t *piece = malloc(PIECE * sizeof *piece);
    if (!piece) st = slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", s->prefix[split]);
    if (sh.n_doc != s->n_doc[split] || sh.n_tok != s->n_tok[split]) {
        st = slm2_fail(err, SLM2_EFORMAT, "%s.idx: %" PRId64 " documents and %" PRId64 " tokens, the manifest says %" PRId64 " and %" PRId64, s->prefix[split], sh.n_doc, sh.n_tok,
                       s->n_doc[split], s->n_tok[split]);
    }
    for (int64_t at = 0; st == SLM2_OK && at < sh.n_tok; at += PIECE) {
        int64_t n = sh.n_tok - at < PIECE ? sh.n_tok - at : PIECE;
        slm2_shard_read(&sh, at, n, piece);
        for (int64_t i = 0; st == SLM2_OK && i < n; i++) {
            if (piece[i] < 0 || piece[i] >= d->vocab_size) {
                st = slm2_fail(err, SLM2_EFORMAT, "%s.bin: token %" PRId64 " has id %" PRId32 ", the vocabulary has %" PRId32, s->prefix[split], at + i, piece[i], d->vocab_size);
            }
        }
    }
    free(piece);
    slm2_shard_close(&sh);
    return st;
}

struct task { /* a file to hash, or the tokens of a split */
    const json_t *output;
    const struct slm2_dataset_source *source;
    int split;
    slm2_status st;
    struct slm2_err err;
};

/* Files first: what is not what was written need not be looked into. */
static slm2_status run_tasks(const char *dir, const struct slm2_dataset *d, struct task *v, int n, int n_threads, struct slm2_err *err)
{
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
    for (int i = 0; i < n; i++) {
        v[i].st = v[i].output ? check_file(dir, v[i].output, NULL, &v[i].err) : check_tokens(d, v[i].source, v[i].split, &v[i].err);
    }
    for (int i = 0; i < n; i++) {
        if (v[i].st == SLM2_OK) continue;
        if (err) *err = v[i].err;
        return v[i].st;
    }
    return SLM2_OK;
}

static slm2_status verify_all(const char *dir, const struct slm2_dataset *d, const json_t *manifest, int n_threads, struct slm2_err *err)
{
    json_t *sources = json_object_get(manifest, "sources"), *entry, *out;
    size_t i, k, n_file = 0, n_split = 0;
    json_array_foreach(sources, i, entry) {
        n_file += json_array_size(json_object_get(entry, "outputs"));
    }
    struct task *files = calloc(n_file + 1, sizeof *files), *splits = calloc((size_t)d->n * SLM2_N_DATA_SPLIT + 1, sizeof *splits);
    slm2_status st = files && splits ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for the names of %zu files", dir, n_file);
    n_file = 0;
    json_array_foreach(sources, i, entry) {
        json_array_foreach(json_object_get(entry, "outputs"), k, out) {
            if (files) files[n_file++].output = out;
        }
    }
    for (int s = 0; splits && s < d->n; s++) {
        for (int c = 0; c < SLM2_N_DATA_SPLIT; c++) {
            if (d->v[s].prefix[c]) splits[n_split++] = (struct task){.source = &d->v[s], .split = c};
        }
    }
    if (st == SLM2_OK) st = run_tasks(dir, d, files, (int)n_file, n_threads, err);
    if (st == SLM2_OK) st = run_tasks(dir, d, splits, (int)n_split, n_threads, err);
    free(files);
    free(splits);
    return st;
}

slm2_status slm2_dataset_verify(const char *dir, int n_threads, struct slm2_err *err)
{
    struct slm2_dataset d;
    json_t *j, *entry;
    size_t i;
    SLM2_TRY(slm2_dataset_open(&d, dir, err));
    slm2_status st = slm2_dataset_manifest(dir, &j, NULL, err);
    if (st == SLM2_OK) {
        st = verify_all(dir, &d, j, n_threads ? n_threads : omp_get_num_procs(), err);
        json_t *verified = json_object();
        json_array_foreach(json_object_get(j, "sources"), i, entry) {
            slm2_verified_add(verified, dir, json_object_get(entry, "outputs"));
        }
        if (st == SLM2_OK) slm2_verified_write(verified, dir);
        json_decref(verified);
        json_decref(j);
    }
    slm2_dataset_free(&d);
    return st;
}
