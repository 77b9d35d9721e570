/* key.c - which model is this: a hash of everything that its numbers come from. */
#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "model/lora.h"

enum { PIECE = 64 << 20, MAX_PATH = 4096 };

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

/* A file's own numbers, and the config.json beside it that says how a .safetensors file is computed with. */
static slm2_status put_single(struct slm2_buf *b, const char *path, struct slm2_err *err)
{
    char dir[MAX_PATH], beside[MAX_PATH];
    SLM2_TRY(put_file(b, path, err));
    if (!slm2_path_ends(path, ".safetensors")) return SLM2_OK; /* GGUF: all in one */
    SLM2_TRY(slm2_path_folder(dir, sizeof dir, path, err));
    SLM2_TRY(slm2_path_join(beside, sizeof beside, dir, "config.json", err));
    return put_file(b, beside, err);
}

/* Appends the adapter as it computes: scale, shapes and numbers. */
static void put_adapter(struct slm2_buf *b, const struct slm2_lora *o)
{
    char hex[65];
    slm2_buf_printf(b, "adapter %a\n", (double)o->scale);
    for (int i = 0; i < o->params.n; i++) {
        const struct slm2_param *p = &o->params.v[i];
        slm2_sha256_hex(p->w.data, slm2_dtype_bytes(p->w.dtype, (size_t)p->n_row * (size_t)p->n_col), hex);
        slm2_buf_printf(b, "%d %d %d %d %d %s\n", (int)p->kind, p->layer, (int)p->part, p->n_row, p->n_col, hex);
    }
}

slm2_status slm2_model_key_of(const char *path, const struct slm2_lora *adapter, char hex[65], struct slm2_err *err)
{
    struct slm2_buf b = {0};
    slm2_status st = slm2_path_is_dir(path) ? put_folder(&b, path, err) : put_single(&b, path, err);
    slm2_progress_end();
    if (st == SLM2_OK && adapter) put_adapter(&b, adapter);
    if (st == SLM2_OK) st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) slm2_sha256_hex(b.v, b.n, hex);
    slm2_buf_free(&b);
    return st;
}

slm2_status slm2_model_key(const struct slm2_model *m, char hex[65], struct slm2_err *err)
{
    if (!m->files && !m->gguf) return slm2_fail(err, SLM2_EUSAGE, "this model's weights are in memory, so no file tells which they are; save it and open the files");
    return slm2_model_key_of(m->path, m->lora, hex, err);
}
