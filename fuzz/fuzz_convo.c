/* fuzz_convo.c - records of conversations: any bytes, as lines or arrays, end with every record taken or counted, in every format; an array that a JSON
 * parser takes whole has as many members here; what is taken is a conversation of its format. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "data/convo_format.h"
#include "data/records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *scratch_file(void)
{
    static char path[64];
    if (!*path) snprintf(path, sizeof path, "%s/fuzz_convo.%ld", P_tmpdir, (long)getpid());
    return path;
}

static void remove_file(void) { unlink(scratch_file()); }

struct counts { struct slm2_convo_msgs m; int64_t n; };

static void check(const struct slm2_convo_msgs *m, int format)
{
    int user = 0, others = 0, said = 0;
    for (int i = 0; i < m->n; i++) {
        if (memchr(m->v[i].content, 0xff, m->v[i].n)) abort(); /* never in UTF-8; reads every byte */
        bool system = strcmp(m->v[i].role, "system") == 0, is_user = strcmp(m->v[i].role, "user") == 0;
        user += is_user;
        others += !system;
        said += strcmp(m->v[i].role, "assistant") == 0;
        if (format == SLM2_CONVO_MESSAGES) continue;
        if (system ? i > 0 : is_user != (others % 2 == 1)) abort();
    }
    if (user != m->n_exchanges || others != m->n_messages || (format != SLM2_CONVO_MESSAGES && said == 0)) abort();
}

static slm2_status take(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct counts *c = user;
    c->n++;
    for (int f = 0; f < SLM2_CONVO_N_FORMAT; f++) {
        slm2_status st = slm2_convo_from_json(&c->m, (enum slm2_convo_format)f, c->n % 2 == 0, j, what, err);
        if (st == SLM2_OK) check(&c->m, f);
        else if (st != SLM2_EFORMAT) abort();
    }
    return SLM2_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool registered;
    struct counts c = {{0}, 0};
    int64_t n_bad = 0;
    json_t *whole = NULL;
    if (!registered) registered = atexit(remove_file) == 0;
    FILE *f = fopen(scratch_file(), "wb");
    if (!f) return 0;
    bool written = fwrite(data, 1, size, f) == size;
    if (fclose(f) != 0 || !written) return 0;
    slm2_status st = slm2_records_read(scratch_file(), 0, false, take, &c, &n_bad, NULL);
    if (st == SLM2_OK && slm2_json_parse(&whole, (const char *)data, size, "input", NULL) == SLM2_OK && json_is_array(whole)) {
        size_t n_object = 0, i;
        json_t *member;
        json_array_foreach(whole, i, member) n_object += json_is_object(member);
        if ((size_t)c.n != n_object || (size_t)n_bad != json_array_size(whole) - n_object) abort();
    }
    json_decref(whole);
    c.n = n_bad = 0;
    slm2_records_read(scratch_file(), 40, false, take, &c, &n_bad, NULL); /* a limit that many records break */
    slm2_convo_msgs_free(&c.m);
    return 0;
}
