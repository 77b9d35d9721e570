/* kept.c - a journal with an index of what it holds. */
#include "eval/kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

struct slm2_kept {
    struct slm2_journal *journal;
    json_t *answers, *fresh; /* by id; fresh: those that are not on the disk yet */
};

static slm2_status no_memory(struct slm2_err *err) { return slm2_fail(err, SLM2_ENOMEM, "no memory for the answers"); }

/* The first record is the key, or becomes it. */
static slm2_status take_records(struct slm2_kept *k, const json_t *records, const json_t *key, const char *path, struct slm2_err *err)
{
    if (json_array_size(records) == 0) {
        json_t *head = json_pack("{s:O}", "key", key);
        slm2_status st = head ? slm2_journal_put(k->journal, head, err) : no_memory(err);
        json_decref(head);
        return st;
    }
    if (!json_equal(json_object_get(json_array_get(records, 0), "key"), key))
        return slm2_fail(err, SLM2_EFORMAT, "%s: the first record is not the key of this model and these settings; remove the file, or name another folder", path);
    for (size_t i = 1; i < json_array_size(records); i++) {
        json_t *answers = json_object_get(json_array_get(records, i), "answers");
        if (!json_is_object(answers)) return slm2_fail(err, SLM2_EFORMAT, "%s: line %zu: no member \"answers\"; remove the file", path, i + 1);
        if (json_object_update(k->answers, answers)) return no_memory(err);
    }
    return SLM2_OK;
}

slm2_status slm2_kept_open(struct slm2_kept **out, const char *dir, const char *task, const json_t *key, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    char hex[65], name[300], path[4096];
    json_t *records = NULL;
    *out = NULL;
    struct slm2_kept *k = calloc(1, sizeof *k);
    if (!k) return no_memory(err);
    k->answers = json_object();
    k->fresh = json_object();
    slm2_json_dump(key, &text);
    slm2_status st = k->answers && k->fresh ? slm2_buf_check(&text, err) : no_memory(err);
    if (st == SLM2_OK) st = slm2_dir_make(dir, err);
    if (st == SLM2_OK) {
        slm2_sha256_hex(text.v, text.n, hex);
        snprintf(name, sizeof name, "%.200s-%.16s.jsonl", task, hex);
        st = slm2_path_join(path, sizeof path, dir, name, err);
    }
    if (st == SLM2_OK) st = slm2_journal_open(&k->journal, path, &records, err);
    if (st == SLM2_OK) st = take_records(k, records, key, path, err);
    json_decref(records);
    slm2_buf_free(&text);
    if (st == SLM2_OK) *out = k;
    else slm2_kept_close(k);
    return st;
}

void slm2_kept_close(struct slm2_kept *k)
{
    if (!k) return;
    slm2_journal_close(k->journal);
    json_decref(k->answers);
    json_decref(k->fresh);
    free(k);
}

const json_t *slm2_kept_find(const struct slm2_kept *k, const char *id) { return json_object_get(k->answers, id); }

slm2_status slm2_kept_put(struct slm2_kept *k, const char *id, json_t *answer, struct slm2_err *err)
{
    bool ok = answer && !json_object_set(k->answers, id, answer) && !json_object_set(k->fresh, id, answer);
    json_decref(answer);
    return ok ? SLM2_OK : no_memory(err);
}

slm2_status slm2_kept_sync(struct slm2_kept *k, struct slm2_err *err)
{
    if (json_object_size(k->fresh) == 0) return SLM2_OK;
    json_t *record = json_pack("{s:O}", "answers", k->fresh);
    slm2_status st = record ? slm2_journal_put(k->journal, record, err) : no_memory(err);
    json_decref(record);
    json_object_clear(k->fresh);
    return st;
}

void slm2_kept_id(char id[SLM2_KEPT_ID], const char *kind, const int32_t *context, size_t n_context, const int32_t *continuation, size_t n_continuation)
{
    struct slm2_buf b = {0};
    char hex[65];
    slm2_buf_printf(&b, "%s %zu %zu\n", kind, n_context, n_continuation);
    for (size_t i = 0; i < n_context; i++) slm2_buf_put(&b, (const char *)&context[i], sizeof *context);
    for (size_t i = 0; i < n_continuation; i++) slm2_buf_put(&b, (const char *)&continuation[i], sizeof *continuation);
    slm2_sha256_hex(b.v, b.n, hex);
    snprintf(id, SLM2_KEPT_ID, "%.32s", hex);
    slm2_buf_free(&b);
}
