/* dpo_ref.c - the reference's numbers on disk: keys, reading with suspicion, writing aside. */
#include "train/dpo_ref.h"

#include <errno.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/aside.h"

static const char form[] = "slm2 DPO reference 1"; /* a change of what is summed, or how, takes another number */
static const char tail[] = ".dpo_ref.json";
enum { PIECE = 64 << 20, MAX_PATH = 4096 };

/* ---- keys ---------------------------------------------------------------------------------------------------------------- */
/* Appends "NAME SIZE\n" and the hashes of the file's pieces. */
static slm2_status put_file(struct slm2_buf *b, const char *path, struct slm2_err *err)
{
    struct slm2_map m;
    char hex[65];
    const char *name = strrchr(path, '/');
    SLM2_TRY(slm2_map_open(&m, path, err));
    slm2_buf_printf(b, "%s %zu\n", name ? name + 1 : path, m.n);
    for (size_t at = 0; at < m.n; at += PIECE) {
        slm2_sha256_hex(m.p + at, m.n - at < PIECE ? m.n - at : PIECE, hex);
        slm2_buf_puts(b, hex);
        slm2_progress("hash of the model", (double)at / (double)m.n, "%s", name ? name + 1 : path);
    }
    slm2_map_close(&m);
    return SLM2_OK;
}

static slm2_status put_folder(struct slm2_buf *b, const char *dir, struct slm2_err *err)
{
    char path[MAX_PATH];
    struct slm2_buf pattern = {0};
    glob_t found = {0};
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, "config.json", err));
    SLM2_TRY(put_file(b, path, err));
    for (const char *p = dir; *p; p++) { /* a folder may be called [x]* */
        if (strchr("*?[\\", *p)) slm2_buf_putc(&pattern, '\\');
        slm2_buf_putc(&pattern, *p);
    }
    slm2_buf_puts(&pattern, "/*.safetensors");
    slm2_status st = slm2_buf_check(&pattern, err);
    int code = st == SLM2_OK ? glob(pattern.v, 0, NULL, &found) : 0; /* in the order of their names */
    if (st == SLM2_OK && (code || found.gl_pathc == 0)) st = slm2_fail(err, SLM2_EIO, "%s: holds no .safetensors file", dir);
    for (size_t i = 0; st == SLM2_OK && i < found.gl_pathc; i++) st = put_file(b, found.gl_pathv[i], err);
    globfree(&found);
    slm2_buf_free(&pattern);
    return st;
}

slm2_status slm2_dpo_ref_model(const char *model, char hex[65], struct slm2_err *err)
{
    struct slm2_buf b = {0};
    slm2_status st = slm2_path_is_dir(model) ? put_folder(&b, model, err) : put_file(&b, model, err);
    slm2_progress_end();
    if (st == SLM2_OK) st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) slm2_sha256_hex(b.v, b.n, hex);
    slm2_buf_free(&b);
    return st;
}

slm2_status slm2_dpo_ref_pairs(const struct slm2_pairs *p, char hex[65], struct slm2_err *err)
{
    struct slm2_buf b = {0};
    slm2_buf_puts(&b, "pairs ");
    for (int i = 0; i < p->n; i++) {
        for (int k = 0; k < 2; k++) {
            const struct slm2_pair_seq *q = k ? &p->rejected[i] : &p->chosen[i];
            slm2_sha256_hex(q->ids, sizeof *q->ids * (size_t)q->n, hex);
            slm2_buf_printf(&b, "%d %d %s\n", q->n, q->n_prompt, hex);
        }
    }
    SLM2_TRY(slm2_buf_check(&b, err));
    slm2_sha256_hex(b.v, b.n, hex);
    slm2_buf_free(&b);
    return SLM2_OK;
}

slm2_status slm2_dpo_ref_path(char *out, size_t cap, const char *dir, const struct slm2_dpo_ref_key *key, struct slm2_err *err)
{
    char text[400], hex[65], name[80];
    snprintf(text, sizeof text, "%s\n%s\n%s\n%.100s\n%.100s\n", form, key->model, key->pairs, key->precision, key->kernels);
    slm2_sha256_hex(text, strlen(text), hex);
    snprintf(name, sizeof name, "%.32s%s", hex, tail);
    return slm2_path_join(out, cap, dir, name, err);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */
static slm2_status check_text(const json_t *j, const char *key, const char *want, const char *path, struct slm2_err *err)
{
    const char *got;
    SLM2_TRY(slm2_json_get_str(j, key, path, &got, err));
    if (strcmp(got, want) != 0) return slm2_fail(err, SLM2_EFORMAT, "%s: %s is \"%.80s\", want \"%.80s\"", path, key, got, want);
    return SLM2_OK;
}

static slm2_status take(const json_t *j, const struct slm2_dpo_ref_key *key, double *lp, int n_pair, int *done, const char *path, struct slm2_err *err)
{
    const json_t *list = json_object_get(j, "log_prob");
    int64_t pairs, d;
    char hex[65];
    SLM2_TRY(check_text(j, "form", form, path, err));
    SLM2_TRY(check_text(j, "model_sha256", key->model, path, err));
    SLM2_TRY(check_text(j, "pairs_sha256", key->pairs, path, err));
    SLM2_TRY(check_text(j, "precision", key->precision, path, err));
    SLM2_TRY(check_text(j, "kernels", key->kernels, path, err));
    SLM2_TRY(slm2_json_get_int(j, "pairs", path, n_pair, n_pair, &pairs, err));
    SLM2_TRY(slm2_json_get_int(j, "done", path, 0, n_pair, &d, err));
    if (json_array_size(list) != 2 * (size_t)d) return slm2_fail(err, SLM2_EFORMAT, "%s: log_prob has %zu numbers, want %zu", path, json_array_size(list), 2 * (size_t)d);
    for (size_t i = 0; i < 2 * (size_t)d; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_number(v)) return slm2_fail(err, SLM2_EFORMAT, "%s: log_prob[%zu] is not a number", path, i);
        lp[i] = json_number_value(v);
    }
    slm2_sha256_hex(lp, 2 * (size_t)d * sizeof *lp, hex);
    SLM2_TRY(check_text(j, "log_prob_sha256", hex, path, err));
    *done = (int)d;
    return SLM2_OK;
}

slm2_status slm2_dpo_ref_read(const char *path, const struct slm2_dpo_ref_key *key, double *lp, int n_pair, int *done, struct slm2_err *err)
{
    json_t *j = NULL;
    *done = 0;
    if (!slm2_path_exists(path)) return SLM2_OK;
    slm2_status st = slm2_json_read(&j, path, 4096 + (size_t)n_pair * 128, err); /* a number as it is written here takes at most 40 bytes */
    if (st == SLM2_OK) st = take(j, key, lp, n_pair, done, path, err);
    json_decref(j);
    return st;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------- */
static json_t *to_json(const struct slm2_dpo_ref_key *key, const double *lp, int n_pair, int done)
{
    char hex[65];
    slm2_sha256_hex(lp, 2 * (size_t)done * sizeof *lp, hex);
    json_t *list = json_array();
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:o}", "form", form, "model_sha256", key->model, "pairs_sha256", key->pairs, "precision", key->precision,
                          "kernels", key->kernels, "pairs", n_pair, "done", done, "log_prob_sha256", hex, "log_prob", list);
    for (size_t i = 0; j && i < 2 * (size_t)done; i++) {
        if (json_array_append_new(list, json_real(lp[i])) == 0) continue;
        json_decref(j);
        return NULL;
    }
    return j;
}

slm2_status slm2_dpo_ref_write(const char *dir, const struct slm2_dpo_ref_key *key, const double *lp, int n_pair, int done, struct slm2_err *err)
{
    char path[MAX_PATH], own[MAX_PATH];
    for (int i = 0; i < 2 * done; i++) {
        if (!isfinite(lp[i])) return slm2_fail(err, SLM2_EFORMAT, "pair %d: the reference's log-probability is %g: the model's weights are damaged", i / 2 + 1, lp[i]);
    }
    SLM2_TRY(slm2_dir_make(dir, err));
    slm2_aside_clean(dir, tail);
    SLM2_TRY(slm2_dpo_ref_path(path, sizeof path, dir, key, err));
    SLM2_TRY(slm2_aside_name(own, sizeof own, path, err));
    json_t *j = to_json(key, lp, n_pair, done);
    slm2_status st = j ? slm2_json_write(j, own, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for %s", path);
    json_decref(j);
    if (st == SLM2_OK && rename(own, path)) {
        st = slm2_fail_errno(err, "%s: cannot be put in place", path);
        remove(own);
    }
    return st == SLM2_OK ? slm2_dir_sync(dir, err) : st;
}
