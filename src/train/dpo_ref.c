/* dpo_ref.c - the reference's numbers on disk: keys, reading with suspicion, writing aside. */
#include "train/dpo_ref.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/aside.h"

static const char form[] = "slm2 DPO reference 1"; /* a change of what is summed, or how, takes another number */
static const char tail[] = ".dpo_ref.json";
enum { MAX_PATH = 4096 };

/* ---- keys ---------------------------------------------------------------------------------------------------------------- */
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
