/* fuzz_kept.c - kept answers and any journal: whatever lies in the file is refused with a text, or is there, takes another answer, and has both when it is
 * opened again. */
#define _GNU_SOURCE
#include <dirent.h>
#include <string.h>

#include "base/file.h"
#include "base/journal.h"
#include "eval/kept.h"
#include "input_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64], path[400];
static void remove_dir(void) { slm2_dir_remove(dir, NULL); }

/* The folder, and in it the name that kept.c gives the file. */
static void make_dir(const json_t *key)
{
    struct slm2_kept *k;
    snprintf(dir, sizeof dir, "%s/fuzz_kept.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : P_tmpdir);
    if (!mkdtemp(dir) || slm2_kept_open(&k, dir, "task", key, NULL) != SLM2_OK) abort();
    atexit(remove_dir);
    slm2_kept_close(k);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    if (d) closedir(d);
    if (!path[0]) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slm2_err err = {0};
    struct slm2_kept *k;
    json_t *key = json_pack("{s:s}", "model", "m"), *records;
    if (!key) abort();
    if (!path[0]) make_dir(key);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) abort();
    if (slm2_journal_read(path, &records, &err) == SLM2_OK) json_decref(records);
    else if (!err.msg[0]) abort();
    err.msg[0] = '\0';
    if (slm2_kept_open(&k, dir, "task", key, &err) == SLM2_OK) {
        bool other = slm2_kept_find(k, "other") != NULL; /* an answer of the saved inputs: what is added takes none away */
        if (slm2_kept_put(k, "new", json_integer(7), &err) != SLM2_OK || slm2_kept_sync(k, &err) != SLM2_OK) abort();
        slm2_kept_close(k);
        if (slm2_kept_open(&k, dir, "task", key, &err) != SLM2_OK || (slm2_kept_find(k, "other") != NULL) != other) abort();
        if (json_integer_value(slm2_kept_find(k, "new")) != 7) abort();
        slm2_kept_close(k);
    } else if (!err.msg[0]) abort();
    json_decref(key);
    return 0;
}
