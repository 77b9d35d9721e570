/* fuzz_json.c - JSON files that other runs and other programs leave: the configuration of a model, references of DPO, manifests of builds and of checkpoints,
 * published tables.  The same bytes go to all readers: each refuses with a text, or gives what keeps its promises. */
#define _GNU_SOURCE
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/build.h"
#include "eval/reported.h"
#include "input_file.h"
#include "model/config.h"
#include "train/ckpt.h"
#include "train/dpo_ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64];
static void remove_dir(void) { slm2_dir_remove(dir, NULL); }

static slm2_status expect(slm2_status st, struct slm2_err *err)
{
    if (st != SLM2_OK && !err->msg[0]) abort();
    err->msg[0] = '\0';
    return st;
}

static void put(const char *name, const uint8_t *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) abort();
}

static void model_config(const uint8_t *data, size_t size)
{
    struct slm2_err err = {0};
    struct slm2_config c, same;
    json_t *j;
    if (expect(slm2_json_parse(&j, (const char *)data, size, "fuzz", &err), &err) != SLM2_OK) return;
    if (expect(slm2_config_from_json(&c, j, "fuzz", &err), &err) == SLM2_OK) {
        json_t *again = slm2_config_to_json(&c);
        if (!again || slm2_config_check(&c, "fuzz", &err) != SLM2_OK || slm2_config_from_json(&same, again, "again", &err) != SLM2_OK) abort();
        if (same.n_rot != c.n_rot || same.head_dim != c.head_dim || same.n_kv_head != c.n_kv_head || same.vocab_size != c.vocab_size || same.n_ctx != c.n_ctx) abort();
        json_decref(again);
    }
    json_decref(j);
}

static void reference(const char *path)
{
    enum { N = 3 };
    struct slm2_err err = {0};
    struct slm2_dpo_ref_key key = {.precision = "fp32", .kernels = "avx2"};
    double lp[2 * N];
    int done = -1;
    memset(key.model, 'a', 64);
    memset(key.pairs, 'b', 64);
    slm2_status st = expect(slm2_dpo_ref_read(path, &key, lp, N, &done, &err), &err);
    if (st != SLM2_OK ? done != 0 : done < 0 || done > N) abort();
    for (int i = 0; i < 2 * done; i++)
        if (!isfinite(lp[i])) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slm2_err err = {0};
    struct slm2_dataset set;
    char path[64];
    json_t *j;
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "%s/fuzz_json.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : P_tmpdir);
        if (!mkdtemp(dir)) abort();
        atexit(remove_dir);
    }
    int fd = input_file(data, size, path);
    model_config(data, size);
    reference(path);
    if (expect(slm2_reported_read(&j, path, &err), &err) == SLM2_OK) {
        struct slm2_buf page = {0};
        struct slm2_eval_result none = {0};
        slm2_reported_markdown(&none, j, "ours", &page, &err);
        slm2_buf_free(&page);
        json_decref(j);
    }
    put("manifest.json", data, size);
    if (expect(slm2_dataset_open(&set, dir, &err), &err) == SLM2_OK) slm2_dataset_free(&set);
    put("MANIFEST.json", data, size);
    expect(slm2_ckpt_verify(dir, true, &err), &err);
    put("state.json", data, size);
    if (expect(slm2_ckpt_state(dir, &j, &err), &err) == SLM2_OK) json_decref(j);
    close(fd);
    return 0;
}
