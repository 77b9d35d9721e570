/* fuzz_pref.c - preference records: the first byte picks a published shape, the rest is the record. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/pref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct slm2_pref_rules rules = {.min_score = 8};
    json_t *record;
    if (size < 1 || slm2_json_parse(&record, (const char *)data + 1, size - 1, "fuzz", NULL) != SLM2_OK) return 0;
    struct slm2_err err = {0};
    struct slm2_pref p;
    struct slm2_seen seen;
    struct slm2_buf key = {0};
    if (slm2_seen_open(&seen, NULL, NULL) == SLM2_OK) {
        slm2_status st = slm2_pref_read(&p, (enum slm2_pref_format)(data[0] & 3), record, "fuzz", &err);
        if (st == SLM2_OK) {
            enum slm2_pref_verdict first, second;
            if (p.n < 1 || !p.chosen.n || !p.rejected.n) abort();
            p.v[p.n] = p.chosen; /* the room that is promised */
            if (slm2_pref_judge(&p, &rules, &seen, &key, &first, NULL) != SLM2_OK || slm2_pref_judge(&p, &rules, &seen, &key, &second, NULL) != SLM2_OK) abort();
            if (second != (first == SLM2_PREF_KEEP ? SLM2_PREF_DUPLICATE_PAIR : first)) abort(); /* what was kept is known */
        } else if (!err.msg[0]) {
            abort(); /* a refusal has a reason */
        }
        slm2_pref_free(&p);
        slm2_seen_close(&seen);
    }
    slm2_buf_free(&key);
    json_decref(record);
    return 0;
}
