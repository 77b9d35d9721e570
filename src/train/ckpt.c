/* ckpt.c - a checkpoint is made aside, fsynced file by file, sealed by its manifest and renamed; what has no sound manifest is none. */
#define _GNU_SOURCE /* renameat2 */
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

/* The newest complete one among the multiples of every from `least` on. */
static slm2_status find_newest(const char *run_dir, int64_t every, int64_t least, char *path, struct slm2_err *err)
{
    struct names steps = {0};
    struct slm2_err why;
    path[0] = 0;
    if (!slm2_path_is_dir(run_dir)) return SLM2_OK;
    slm2_status st = list_steps(&steps, run_dir, err);
    for (size_t i = steps.n; st == SLM2_OK && i-- > 0;) {
        if (step_of(steps.v[i]) < least || step_of(steps.v[i]) % every) continue;
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

slm2_status slm2_ckpt_find(const char *run_dir, char *path, struct slm2_err *err) { return find_newest(run_dir, 1, 0, path, err); }

/* not step 0: that one is written by a stop before the first step only */
slm2_status slm2_ckpt_find_regular(const char *run_dir, int64_t every, char *path, struct slm2_err *err) { return find_newest(run_dir, every, 1, path, err); }

slm2_status slm2_ckpt_newest(const char *run_dir, char *path, struct slm2_err *err)
{
    struct names steps = {0};
    path[0] = 0;
    slm2_status st = list_steps(&steps, run_dir, err);
    if (st == SLM2_OK && steps.n) st = join(path, run_dir, steps.v[steps.n - 1], err);
    names_free(&steps);
    return st;
}

/* Removes a checkpoint.  Renamed first: a removal that is interrupted leaves no folder that looks like a damaged checkpoint, and the next tidy ends it. */
static slm2_status drop(const char *path, struct slm2_err *err)
{
    char old[SLM2_PATH_MAX];
    if (!slm2_path_exists(path)) return SLM2_OK;
    if (snprintf(old, sizeof old, "%s.old.tmp", path) >= (int)sizeof old) return slm2_fail(err, SLM2_ELIMIT, "%s: the path is too long", path);
    SLM2_TRY(slm2_dir_remove(old, err));
    if (rename(path, old)) return slm2_fail_errno(err, "%s: cannot be renamed to %s", path, old);
    return slm2_dir_remove(old, err);
}

slm2_status slm2_ckpt_drop_after(const char *run_dir, int64_t step, struct slm2_err *err)
{
    struct names steps = {0};
    char path[SLM2_PATH_MAX];
    slm2_status st = list_steps(&steps, run_dir, err);
    for (size_t i = steps.n; st == SLM2_OK && i-- > 0 && step_of(steps.v[i]) > step;) {
        st = join(path, run_dir, steps.v[i], err);
        if (st == SLM2_OK) st = drop(path, err);
    }
    names_free(&steps);
    return st == SLM2_OK ? slm2_dir_sync(run_dir, err) : st;
}

/* Removes what an interrupted save left and, unless keep is 0, all behind the keep newest complete ones but the pinned step. */
static slm2_status tidy(const char *run_dir, int keep, int64_t pin, struct slm2_err *err)
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
        if (st == SLM2_OK && n_complete >= keep && step_of(steps.v[i]) != pin) st = drop(path, err);
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
    SLM2_TRY(join(path, dir, name, err));
    SLM2_TRY(slm2_params_hf_views(slm2_model_trained(t->model), 0, flat, &v, &n, err));
    slm2_status st = slm2_safetensors_write(path, v, n, NULL, err);
    slm2_hf_views_free(v, n);
    return st;
}

static slm2_status load_state(struct slm2_trainer *t, enum slm2_state which, const char *path, struct slm2_err *err)
{
    struct slm2_tensors ts;
    float *room = slm2_trainer_room(t, which);
    if (!room) return SLM2_OK;
    SLM2_TRY(slm2_safetensors_open(&ts, path, err));
    slm2_status st = slm2_params_hf_read(slm2_model_trained(t->model), &ts, room, path, err);
    slm2_tensors_free(&ts);
    if (st == SLM2_OK) slm2_trainer_take(t, which);
    return st;
}

static slm2_status save_model(const struct slm2_trainer *t, const float *master, const char *dir, const struct slm2_tok *tok, const char *chat_template, struct slm2_err *err)
{
    if (t->model->lora) SLM2_TRY(slm2_lora_save(t->model->lora, t->model->path, dir, err));
    else SLM2_TRY(slm2_model_save_hf(t->model, master, dir, t->precision == SLM2_BF16_MIXED ? SLM2_BF16 : SLM2_F32, err));
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

/* Folders of a checkpoint that is about to be written: its name in the end, while it is made, and the optimizer's inside. */
struct place { char path[SLM2_PATH_MAX], tmp[SLM2_PATH_MAX], opt[SLM2_PATH_MAX]; };

static slm2_status prepare(struct place *p, const char *run_dir, int64_t step, struct slm2_err *err)
{
    char name[64];
    snprintf(name, sizeof name, STEP_FORM, step);
    SLM2_TRY(slm2_dir_make(run_dir, err));
    SLM2_TRY(join(p->path, run_dir, name, err));
    snprintf(name, sizeof name, STEP_FORM ".tmp", step);
    SLM2_TRY(join(p->tmp, run_dir, name, err));
    SLM2_TRY(join(p->opt, p->tmp, optimizer_dir, err));
    SLM2_TRY(tidy(run_dir, 0, -1, err));
    return slm2_dir_make(p->opt, err);
}

/* Whether the fp32 weights lie beside the model's own file, which is rounded. */
static bool has_master_file(const struct slm2_trainer *t) { return t->precision == SLM2_BF16_MIXED && !t->model->lora; }

/* One state into its files. */
static slm2_status save_state_of(const struct slm2_trainer *t, const struct place *p, enum slm2_state which, const float *flat, const struct slm2_tok *tok, struct slm2_err *err)
{
    static const char *const names[] = {"master.safetensors", "exp_avg.safetensors", "exp_avg_sq.safetensors"};
    if (which == SLM2_STATE_MASTER) SLM2_TRY(save_model(t, flat, p->tmp, tok, NULL, err));
    if (which == SLM2_STATE_MASTER && !has_master_file(t)) return SLM2_OK; /* the model is the master */
    return save_flat(t, p->opt, names[which], flat, err);
}

/* Puts a sealed checkpoint in its place.  One of the same step (damaged, or the target of a rollback) is exchanged with it in one move where the file
 * system can, so that there is always one. */
static slm2_status put_in_place(const struct place *p, const char *run_dir, struct slm2_err *err)
{
    if (renameat2(AT_FDCWD, p->tmp, AT_FDCWD, p->path, RENAME_EXCHANGE) == 0) {
        SLM2_TRY(slm2_dir_sync(run_dir, err));
        return slm2_dir_remove(p->tmp, err);
    }
    SLM2_TRY(drop(p->path, err));
    return rename_dir(p->tmp, p->path, run_dir, err);
}

static slm2_status complete(const struct slm2_trainer *t, const struct place *p, const char *run_dir, const json_t *state, int keep, int64_t pin, struct slm2_err *err)
{
    SLM2_TRY(save_state(t, p->tmp, state, err));
    SLM2_TRY(seal(p->tmp, err));
    SLM2_TRY(put_in_place(p, run_dir, err));
    return tidy(run_dir, keep, pin, err);
}

slm2_status slm2_ckpt_save(const char *run_dir, struct slm2_trainer *t, const struct slm2_tok *tok, const json_t *state, int keep, int64_t pin, char *out, struct slm2_err *err)
{
    static const enum slm2_state states[] = {SLM2_STATE_MASTER, SLM2_STATE_EXP_AVG, SLM2_STATE_EXP_AVG_SQ};
    bool writes = t->zero.comm->rank == 0;
    struct place p = {0};
    slm2_status st = writes ? prepare(&p, run_dir, t->n_update, err) : SLM2_OK;
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) { /* a failed rank 0 still receives what is sent to it */
        const float *flat;
        SLM2_TRY(slm2_trainer_whole(t, states[i], &flat, st == SLM2_OK ? err : NULL));
        if (flat && st == SLM2_OK) st = save_state_of(t, &p, states[i], flat, tok, err);
    }
    if (writes && st == SLM2_OK) st = complete(t, &p, run_dir, state, keep, pin, err);
    if (st != SLM2_OK && *p.tmp) slm2_dir_remove(p.tmp, NULL); /* what a full disk holds of it is room that the ledger may still need */
    if (writes && out) snprintf(out, SLM2_PATH_MAX, "%s", p.path);
    return slm2_comm_agree(t->zero.comm, st, err);
}

static slm2_status export(const char *dir, const struct slm2_trainer *t, const float *master, const struct slm2_tok *tok, const char *chat_template, struct slm2_err *err)
{
    char tmp[SLM2_PATH_MAX], parent[SLM2_PATH_MAX];
    int n = snprintf(tmp, sizeof tmp, "%s.tmp", dir);
    if (n < 0 || (size_t)n >= sizeof tmp) return slm2_fail(err, SLM2_ELIMIT, "%s: the path is too long", dir);
    SLM2_TRY(slm2_path_folder(parent, sizeof parent, dir, err));
    SLM2_TRY(slm2_dir_remove(tmp, err));
    SLM2_TRY(save_model(t, master, tmp, tok, chat_template, err));
    SLM2_TRY(slm2_dir_remove(dir, err));
    return rename_dir(tmp, dir, parent, err);
}

slm2_status slm2_ckpt_export(const char *dir, struct slm2_trainer *t, const struct slm2_tok *tok, const char *chat_template, struct slm2_err *err)
{
    const float *master;
    SLM2_TRY(slm2_trainer_whole(t, SLM2_STATE_MASTER, &master, err));
    return slm2_comm_agree(t->zero.comm, master ? export(dir, t, master, tok, chat_template, err) : SLM2_OK, err);
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
    char opt[SLM2_PATH_MAX], path[SLM2_PATH_MAX];
    json_t *state = NULL;
    int64_t step = 0;
    SLM2_TRY(slm2_ckpt_verify(dir, false, err));
    SLM2_TRY(join(opt, dir, optimizer_dir, err));
    SLM2_TRY(slm2_ckpt_state(dir, &state, err));
    slm2_status st = check_state(t, state, dir, &step, err);
    json_decref(state);
    SLM2_TRY(st);
    if (t->model->lora) SLM2_TRY(join(path, dir, SLM2_LORA_WEIGHTS, err));
    else SLM2_TRY(join(path, opt, "master.safetensors", err));
    SLM2_TRY(load_state(t, SLM2_STATE_MASTER, has_master_file(t) || t->model->lora ? path : dir, err));
    SLM2_TRY(join(path, opt, "exp_avg.safetensors", err));
    SLM2_TRY(load_state(t, SLM2_STATE_EXP_AVG, path, err));
    SLM2_TRY(join(path, opt, "exp_avg_sq.safetensors", err));
    SLM2_TRY(load_state(t, SLM2_STATE_EXP_AVG_SQ, path, err));
    t->n_update = step;
    return SLM2_OK;
}
