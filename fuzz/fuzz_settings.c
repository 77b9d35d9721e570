/* fuzz_settings.c - YAML files of every kind: runs, builds, mixes, tasks, groups of tasks, cards.  Refused with a text, or settings that are the same when
 * they are written and read again.  The first byte picks the kind, the rest is the file. */
#define _GNU_SOURCE
#include <string.h>

#include "base/conf.h"
#include "data/build.h"
#include "data/mixplan.h"
#include "eval/suite.h"
#include "eval/task.h"
#include "input_file.h"
#include "train/pretrain.h"
#include "train/selfcard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CARD   "assets/selfknow/card-nano.yml"
#define PROMPT "assets/selfknow/few_shot-nano.yml"
#define PROBES "assets/selfknow/probes-nano.yml"

static slm2_status expect(slm2_status st, const struct slm2_err *err)
{
    if (st != SLM2_OK && !err->msg[0]) abort();
    return st;
}

static void round_trip(const struct slm2_opt *table, void *a, void *b, const char *path)
{
    struct slm2_err err = {0};
    struct slm2_buf once = {0}, twice = {0};
    char again[64];
    slm2_conf_init(table, a);
    slm2_conf_init(table, b);
    if (expect(slm2_conf_yaml(table, a, path, &err), &err) == SLM2_OK) {
        slm2_conf_dump(table, a, &once);
        int fd = input_file(once.v ? once.v : "", once.n, again);
        if (slm2_conf_yaml(table, b, again, &err) != SLM2_OK) abort();
        slm2_conf_dump(table, b, &twice);
        if (once.n != twice.n || (once.n && memcmp(once.v, twice.v, once.n) != 0)) abort(); /* NOLINT(clang-analyzer-core.NonNullParamChecker): n of what is there */
        close(fd);
    }
    slm2_buf_free(&once);
    slm2_buf_free(&twice);
    slm2_conf_free(table, a);
    slm2_conf_free(table, b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct slm2_pretrain_opts pretrain[2];
    static struct slm2_data_opts build[2];
    static struct slm2_mixplan mix[2];
    static struct slm2_task task[2];
    struct slm2_suite suite;
    struct slm2_self self;
    struct slm2_err err = {0};
    char path[64], file[64];
    const char *name = path;
    if (size < 1) return 0;
    int fd = input_file(data + 1, size - 1, path);
    switch (data[0]) {
    case 'r': round_trip(slm2_pretrain_table, &pretrain[0], &pretrain[1], path); break;
    case 'b': round_trip(slm2_data_table, &build[0], &build[1], path); break;
    case 'm': round_trip(slm2_mixplan_table, &mix[0], &mix[1], path); break;
    case 't':
        round_trip(slm2_task_settings, &task[0], &task[1], path);
        if (expect(slm2_task_define(&task[0], path, NULL, &err), &err) == SLM2_OK) slm2_task_free(&task[0]);
        break;
    case 'g':
        expect(slm2_suite_open(&suite, &name, 1, "/nowhere", -1, &err), &err);
        slm2_suite_free(&suite);
        break;
    case 's': /* -s KEY=VALUE, as on the command line */
        memcpy(file, data + 1, size - 1 < sizeof file ? size - 1 : sizeof file - 1);
        file[size - 1 < sizeof file ? size - 1 : sizeof file - 1] = '\0';
        slm2_conf_init(slm2_data_table, &build[0]);
        expect(slm2_conf_set(slm2_data_table, &build[0], file, &err), &err);
        slm2_conf_free(slm2_data_table, &build[0]);
        break;
    case 'c':
        expect(slm2_self_read(&self, path, PROMPT, PROBES, "", &err), &err);
        slm2_self_free(&self); /* whatever came of it */
        break;
    case 'p':
        expect(slm2_self_read(&self, CARD, path, PROBES, "", &err), &err);
        slm2_self_free(&self); /* whatever came of it */
        break;
    case 'q':
        expect(slm2_self_read(&self, CARD, PROMPT, path, "", &err), &err);
        slm2_self_free(&self); /* whatever came of it */
        break;
    default: break;
    }
    close(fd);
    return 0;
}
