/* ckpt.c - a checkpoint is made aside, fsynced file by file, sealed by its manifest and renamed; what has no sound manifest is none. */
#include "train/ckpt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "io/safetensors.h"
#include "tok/tok.h"

#define STEP_FORM "step-%08" PRId64
static const char optimizer_dir[] = "optimizer", manifest_name[] = "MANIFEST.json", state_name[] = "state.json";
enum { MAX_FILES = 4096, MAX_JSON_BYTES = 16 << 20 };

static slm2_status join(char out[SLM2_PATH_MAX], const char *dir, const char *name, struct slm2_err *err)
{
    return slm2_path_join(out, SLM2_PATH_MAX, dir, name, err);
}

/* ---- lists of files ----------------------------------------------------------------------------------------------------- */
struct names { char **v; size_t n, cap; };

static void names_free(struct names *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->v[i]);
    free(l->v);
    *l = (struct names){0};
}

static slm2_status names_add(struct names *l, const char *prefix, const char *name, struct slm2_err *err)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 32;
        char **v = realloc(l->v, cap * sizeof *v);
        if (!v) return slm2_fail(err, SLM2_ENOMEM, "no memory for a list of files");
        l->v = v;
        l->cap = cap;
    }
    size_t n = strlen(prefix) + strlen(name) + 1;
    char *s = malloc(n);
    if (!s) return slm2_fail(err, SLM2_ENOMEM, "no memory for a list of files");
    snprintf(s, n, "%s%s", prefix, name);
    l->v[l->n++] = s;
    return SLM2_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Entries of dir in order of name, without . and ..; each behind prefix. */
static slm2_status list_dir(struct names *l, const char *dir, const char *prefix, struct slm2_err *err)
{
    DIR *d = opendir(dir);
    if (!d) return slm2_fail_errno(err, "%s: folder cannot be read", dir);
    slm2_status st = SLM2_OK;
    for (struct dirent *e; st == SLM2_OK && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) st = names_add(l, prefix, e->d_name, err);
    closedir(d);
    if (l->n) qsort(l->v, l->n, sizeof *l->v, by_name);
    return st;
}

/* Files of a checkpoint: of the folder and of its optimizer/. */
static slm2_status list_ckpt(struct names *out, const char *dir, struct slm2_err *err)
{
    struct names top = {0};
    char path[SLM2_PATH_MAX];
    slm2_status st = list_dir(&top, dir, "", err);
    for (size_t i = 0; st == SLM2_OK && i < top.n; i++) {
        st = join(path, dir, top.v[i], err);
        if (st != SLM2_OK) break;
        if (!slm2_path_is_dir(path)) st = names_add(out, "", top.v[i], err);
        else if (!strcmp(top.v[i], optimizer_dir)) st = list_dir(out, path, "optimizer/", err);
    }
    names_free(&top);
    return st;
}

/* ---- the manifest ------------------------------------------------------------------------------------------------------- */
static slm2_status sync_file(const char *path, int64_t *size, struct slm2_err *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return slm2_fail_errno(err, "%s: cannot be opened", path);
    slm2_status st = SLM2_OK;
    if (fstat(fd, &info) || fsync(fd)) st = slm2_fail_errno(err, "%s: cannot be synchronised to disk", path);
    else *size = info.st_size;
    close(fd);
    return st;
}

/* Fsyncs and lists every file of dir, then the folders themselves. */
static slm2_status seal(const char *dir, struct slm2_err *err)
{
    struct names files = {0};
    char path[SLM2_PATH_MAX], hex[65];
    json_t *list = json_array(), *j = json_object();
    slm2_status st = list && j ? list_ckpt(&files, dir, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for a manifest");
    for (size_t i = 0; st == SLM2_OK && i < files.n; i++) {
        int64_t size = 0;
        st = join(path, dir, files.v[i], err);
        if (st == SLM2_OK) st = sync_file(path, &size, err);
        if (st == SLM2_OK) st = slm2_sha256_file(path, hex, err);
        if (st == SLM2_OK && json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "name", files.v[i], "size", (json_int_t)size, "sha256", hex)))
            st = slm2_fail(err, SLM2_ENOMEM, "no memory for a manifest");
    }
    json_object_set(j, "files", list);
    if (st == SLM2_OK) st = join(path, dir, optimizer_dir, err);
    if (st == SLM2_OK && slm2_path_is_dir(path)) st = slm2_dir_sync(path, err);
    if (st == SLM2_OK) st = join(path, dir, manifest_name, err);
    if (st == SLM2_OK) st = slm2_json_write(j, path, err); /* fsyncs the file and dir */
    json_decref(list);
    json_decref(j);
    names_free(&files);
    return st;
}

slm2_status slm2_ckpt_verify(const char *dir, bool hashes, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX], hex[65];
    json_t *j = NULL;
    SLM2_TRY(join(path, dir, manifest_name, err));
    SLM2_TRY(slm2_json_read(&j, path, MAX_JSON_BYTES, err));
    const json_t *list = json_object_get(j, "files");
    slm2_status st = SLM2_OK;
    bool has_state = false;
    if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > MAX_FILES)
        st = slm2_fail(err, SLM2_EFORMAT, "%s: \"files\" is not a list of files", path);
    for (size_t i = 0; st == SLM2_OK && i < json_array_size(list); i++) {
        const json_t *f = json_array_get(list, i);
        const char *name = NULL, *sha = NULL;
        int64_t size = 0;
        struct stat info;
        st = slm2_json_get_str(f, "name", manifest_name, &name, err);
        if (st == SLM2_OK) st = slm2_json_get_str(f, "sha256", manifest_name, &sha, err);
        if (st == SLM2_OK) st = slm2_json_get_int(f, "size", manifest_name, 0, INT64_MAX, &size, err);
        if (st == SLM2_OK && (name[0] == '/' || strstr(name, ".."))) st = slm2_fail(err, SLM2_EFORMAT, "%s/%s: file name \"%s\" leaves the folder", dir, manifest_name, name);
        if (st == SLM2_OK) st = join(path, dir, name, err);
        if (st != SLM2_OK) break;
        has_state = has_state || !strcmp(name, state_name);
        if (stat(path, &info) || !S_ISREG(info.st_mode)) st = slm2_fail(err, SLM2_EFORMAT, "%s: missing, though the manifest lists it", path);
        else if (info.st_size != size)
            st = slm2_fail(err, SLM2_EFORMAT, "%s: has %lld bytes, the manifest says %lld", path, (long long)info.st_size, (long long)size);
        if (st == SLM2_OK && hashes) st = slm2_sha256_file(path, hex, err);
        if (st == SLM2_OK && hashes && strcmp(hex, sha)) st = slm2_fail(err, SLM2_EFORMAT, "%s: its SHA-256 is not that of the manifest: the file was changed or damaged", path);
    }
    if (st == SLM2_OK && !has_state) st = slm2_fail(err, SLM2_EFORMAT, "%s/%s: lists no %s: not a training checkpoint", dir, manifest_name, state_name);
    json_decref(j);
    return st;
}

/* ---- finding ------------------------------------------------------------------------------------------------------------ */
/* The step of "step-00000100", -1 for any other name. */
static int64_t step_of(const char *name)
{
    char again[64], *end;
    if (strncmp(name, "step-", 5) || name[5] < '0' || name[5] > '9') return -1;
    errno = 0;
    long long step = strtoll(name + 5, &end, 10);
    if (*end || errno) return -1;
    snprintf(again, sizeof again, STEP_FORM, (int64_t)step);
    return strcmp(again, name) ? -1 : (int64_t)step;
}

static int by_step(const void *a, const void *b)
{
    int64_t x = step_of(*(char *const *)a), y = step_of(*(char *const *)b);
    return (x > y) - (x < y);
}

/* Names of checkpoint folders, complete or not, oldest first. */
static slm2_status list_steps(struct names *out, const char *run_dir, struct slm2_err *err)
{
    struct names all = {0};
    slm2_status st = list_dir(&all, run_dir, "", err);
    for (size_t i = 0; st == SLM2_OK && i < all.n; i++)
        if (step_of(all.v[i]) >= 0) st = names_add(out, "", all.v[i], err);
    if (out->n) qsort(out->v, out->n, sizeof *out->v, by_step);
    names_free(&all);
    return st;
}

slm2_status slm2_ckpt_find(const char *run_dir, char *path, struct slm2_err *err)
{
    struct names steps = {0};
    struct slm2_err why;
    path[0] = 0;
    if (!slm2_path_is_dir(run_dir)) return SLM2_OK;
    slm2_status st = list_steps(&steps, run_dir, err);
    for (size_t i = steps.n; st == SLM2_OK && i-- > 0;) {
        st = join(path, run_dir, steps.v[i], err);
        if (st != SLM2_OK) break;
        if (slm2_ckpt_verify(path, true, &why) == SLM2_OK) break;
        slm2_log(SLM2_WARN, "checkpoint %s is damaged and passed over: %s", path, why.msg);
        path[0] = 0;
    }
    names_free(&steps);
    if (st != SLM2_OK) path[0] = 0;
    return st;
}

slm2_status slm2_ckpt_newest(const char *run_dir, char *path, struct slm2_err *err)
{
    struct names steps = {0};
    path[0] = 0;
    slm2_status st = list_steps(&steps, run_dir, err);
    if (st == SLM2_OK && steps.n) st = join(path, run_dir, steps.v[steps.n - 1], err);
    names_free(&steps);
    return st;
}

/* Removes what an interrupted save left and, unless keep is 0, all behind the keep newest complete ones. */
static slm2_status tidy(const char *run_dir, int keep, struct slm2_err *err)
{
    struct names all = {0}, steps = {0};
    char path[SLM2_PATH_MAX];
    slm2_status st = list_dir(&all, run_dir, "", err);
    for (size_t i = 0; st == SLM2_OK && i < all.n; i++) {
        size_t n = strlen(all.v[i]);
        if (strncmp(all.v[i], "step-", 5) || n < 5 || strcmp(all.v[i] + n - 4, ".tmp")) continue;
        st = join(path, run_dir, all.v[i], err);
        if (st == SLM2_OK && slm2_path_is_dir(path)) st = slm2_dir_remove(path, err);
    }
    if (st == SLM2_OK && keep > 0) st = list_steps(&steps, run_dir, err);
    int n_complete = 0; /* a damaged one counts for nothing: it must not push out a good one */
    for (size_t i = steps.n; st == SLM2_OK && i-- > 0;) {
        st = join(path, run_dir, steps.v[i], err);
        if (st == SLM2_OK && n_complete >= keep) st = slm2_dir_remove(path, err);
        else if (st == SLM2_OK && slm2_ckpt_verify(path, false, NULL) == SLM2_OK) n_complete++;
    }
    names_free(&all);
    names_free(&steps);
    return st;
}

/* ---- saving ------------------------------------------------------------------------------------------------------------- */
static slm2_status rename_dir(const char *from, const char *to, const char *parent, struct slm2_err *err)
{
    if (rename(from, to)) return slm2_fail_errno(err, "%s: cannot be renamed to %s", from, to);
    return slm2_dir_sync(parent, err);
}

/* A flat buffer under the Hugging Face names of the parameters. */
static slm2_status save_flat(const struct slm2_trainer *t, const char *dir, const char *name, const float *flat, struct slm2_err *err)
{
    struct slm2_tensor *v = NULL;
    int n = 0;
    char path[SLM2_PATH_MAX];
    if (!flat) return SLM2_OK;
    SLM2_TRY(join(path, dir, name, err));
    SLM2_TRY(slm2_params_hf_views(&t->model->params, 0, flat, &v, &n, err));
    slm2_status st = slm2_safetensors_write(path, v, n, NULL, err);
    slm2_hf_views_free(v, n);
    return st;
}

static slm2_status load_flat(const struct slm2_trainer *t, const char *dir, const char *name, float *flat, struct slm2_err *err)
{
    struct slm2_tensors ts;
    char path[SLM2_PATH_MAX];
    if (!flat) return SLM2_OK;
    SLM2_TRY(join(path, dir, name, err));
    SLM2_TRY(slm2_safetensors_open(&ts, path, err));
    slm2_status st = slm2_params_hf_read(&t->model->params, &ts, flat, path, err);
    slm2_tensors_free(&ts);
    return st;
}

static slm2_status save_model(const struct slm2_trainer *t, const char *dir, const struct slm2_tok *tok, const char *chat_template, struct slm2_err *err)
{
    SLM2_TRY(slm2_model_save_hf(t->model, dir, t->precision == SLM2_BF16_MIXED ? SLM2_BF16 : SLM2_F32, err));
    return tok ? slm2_tok_write_hf(tok, dir, chat_template, t->model->cfg.n_ctx, err) : SLM2_OK;
}

static const char *optim_name(const struct slm2_trainer *t) { return t->optim.kind == SLM2_ADAMW ? "adamw" : "rmsprop"; }
static const char *precision_name(const struct slm2_trainer *t) { return t->precision == SLM2_BF16_MIXED ? "bf16" : "fp32"; }

static slm2_status save_state(const struct slm2_trainer *t, const char *dir, const json_t *state, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX], seed[32];
    SLM2_TRY(join(path, dir, state_name, err));
    snprintf(seed, sizeof seed, "%" PRIu64, t->seed); /* as text: JSON integers are signed */
    json_t *j = json_pack("{s:I, s:s, s:s, s:s, s:s}", "step", (json_int_t)t->n_update, "seed", seed, "precision", precision_name(t), "optimizer", optim_name(t), "version", SLM2_VERSION);
    if (!j || (state && json_object_update_missing(j, (json_t *)(uintptr_t)state))) {
        json_decref(j);
        return slm2_fail(err, SLM2_ENOMEM, "no memory for %s", path);
    }
    slm2_status st = slm2_json_write(j, path, err);
    json_decref(j);
    return st;
}

static slm2_status write_aside(const struct slm2_trainer *t, const char *tmp, const struct slm2_tok *tok, const json_t *state, struct slm2_err *err)
{
    char opt[SLM2_PATH_MAX];
    SLM2_TRY(join(opt, tmp, optimizer_dir, err));
    SLM2_TRY(slm2_dir_make(opt, err));
    SLM2_TRY(save_model(t, tmp, tok, NULL, err));
    SLM2_TRY(save_flat(t, opt, "exp_avg.safetensors", t->exp_avg, err));
    SLM2_TRY(save_flat(t, opt, "exp_avg_sq.safetensors", t->exp_avg_sq, err));
    if (t->precision == SLM2_BF16_MIXED) SLM2_TRY(save_flat(t, opt, "master.safetensors", slm2_model_master(t->model), err));
    SLM2_TRY(save_state(t, tmp, state, err));
    return seal(tmp, err);
}

slm2_status slm2_ckpt_save(const char *run_dir, const struct slm2_trainer *t, const struct slm2_tok *tok, const json_t *state, int keep, char *out, struct slm2_err *err)
{
    char name[64], path[SLM2_PATH_MAX], tmp[SLM2_PATH_MAX];
    snprintf(name, sizeof name, STEP_FORM, t->n_update);
    SLM2_TRY(slm2_dir_make(run_dir, err));
    SLM2_TRY(join(path, run_dir, name, err));
    snprintf(name, sizeof name, STEP_FORM ".tmp", t->n_update);
    SLM2_TRY(join(tmp, run_dir, name, err));
    SLM2_TRY(tidy(run_dir, 0, err));
    slm2_status st = write_aside(t, tmp, tok, state, err);
    if (st != SLM2_OK) { /* what a full disk holds of it is room that the ledger may still need */
        slm2_dir_remove(tmp, NULL);
        return st;
    }
    SLM2_TRY(slm2_dir_remove(path, err)); /* a damaged one of the same step */
    SLM2_TRY(rename_dir(tmp, path, run_dir, err));
    if (out) snprintf(out, SLM2_PATH_MAX, "%s", path);
    return tidy(run_dir, keep, err);
}

slm2_status slm2_ckpt_export(const char *dir, const struct slm2_trainer *t, const struct slm2_tok *tok, const char *chat_template, struct slm2_err *err)
{
    char tmp[SLM2_PATH_MAX], parent[SLM2_PATH_MAX];
    int n = snprintf(tmp, sizeof tmp, "%s.tmp", dir);
    if (n < 0 || (size_t)n >= sizeof tmp) return slm2_fail(err, SLM2_ELIMIT, "%s: the path is too long", dir);
    snprintf(parent, sizeof parent, "%s", dir);
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent) *slash = 0;
    else snprintf(parent, sizeof parent, "%s", slash ? "/" : ".");
    SLM2_TRY(slm2_dir_remove(tmp, err));
    SLM2_TRY(save_model(t, tmp, tok, chat_template, err));
    SLM2_TRY(slm2_dir_remove(dir, err));
    return rename_dir(tmp, dir, parent, err);
}

/* ---- loading ------------------------------------------------------------------------------------------------------------ */
slm2_status slm2_ckpt_state(const char *dir, json_t **state, struct slm2_err *err)
{
    char path[SLM2_PATH_MAX];
    SLM2_TRY(join(path, dir, state_name, err));
    return slm2_json_read(state, path, MAX_JSON_BYTES, err);
}

static slm2_status check_state(const struct slm2_trainer *t, const json_t *state, const char *what, int64_t *step, struct slm2_err *err)
{
    const char *precision, *optim;
    SLM2_TRY(slm2_json_get_int(state, "step", what, 0, INT64_MAX / 2, step, err));
    SLM2_TRY(slm2_json_get_str(state, "precision", what, &precision, err));
    SLM2_TRY(slm2_json_get_str(state, "optimizer", what, &optim, err));
    if (strcmp(precision, precision_name(t)))
        return slm2_fail(err, SLM2_EUSAGE, "%s was made with precision %s, the settings say %s; use another run folder", what, precision, precision_name(t));
    if (strcmp(optim, optim_name(t)))
        return slm2_fail(err, SLM2_EUSAGE, "%s was made with optimizer %s, the settings say %s; use another run folder", what, optim, optim_name(t));
    return SLM2_OK;
}

slm2_status slm2_ckpt_load(const char *dir, struct slm2_trainer *t, struct slm2_err *err)
{
    struct slm2_tensors ts = {0};
    char opt[SLM2_PATH_MAX];
    json_t *state = NULL;
    int64_t step = 0;
    SLM2_TRY(slm2_ckpt_verify(dir, false, err));
    SLM2_TRY(join(opt, dir, optimizer_dir, err));
    SLM2_TRY(slm2_ckpt_state(dir, &state, err));
    slm2_status st = check_state(t, state, dir, &step, err);
    json_decref(state);
    SLM2_TRY(st);
    if (t->precision == SLM2_BF16_MIXED) {
        SLM2_TRY(load_flat(t, opt, "master.safetensors", slm2_model_master(t->model), err));
    } else {
        SLM2_TRY(slm2_safetensors_open(&ts, dir, err));
        st = slm2_params_hf_read(&t->model->params, &ts, slm2_model_master(t->model), dir, err);
        slm2_tensors_free(&ts);
        SLM2_TRY(st);
    }
    SLM2_TRY(load_flat(t, opt, "exp_avg.safetensors", t->exp_avg, err));
    SLM2_TRY(load_flat(t, opt, "exp_avg_sq.safetensors", t->exp_avg_sq, err));
    slm2_model_refresh(t->model, &t->ctx);
    t->n_update = step;
    return SLM2_OK;
}
