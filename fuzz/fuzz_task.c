/* fuzz_task.c - foreign records and model answers: any JSON through every form, any text through templates and filters.  The first line is a
 * template, a filter or both; the rest is a record, or else a text. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "eval/form.h"
#include "tok/pystr.h"
#include "eval/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void record(const char *text, size_t n, const char *tmpl)
{
    static const char *const forms[] = {"hellaswag", "winogrande", "wsc273", "lambada", "m_arc", "truthfulqa"};
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        json_t *item;
        bool skip;
        struct slm2_buf out = {0};
        if (slm2_json_parse(&item, text, n, "record", NULL) != SLM2_OK) return;
        if (json_is_object(item) && slm2_form_apply(forms[f], item, &skip, NULL) == SLM2_OK && slm2_template_check(tmpl, NULL) == SLM2_OK) slm2_template_fill(tmpl, item, &out, NULL);
        slm2_buf_free(&out);
        json_decref(item);
    }
}

static void filters(const char *text, size_t n, const char *filter)
{
    static const char *const all[] = {"strip", "lstrip", "first_line", "first_word", "one_space", "lower", "capitalize", "no_punctuation", "spaces", "first_number", "last_number", "wikihow", "after:a", "before:a", "delete:a", "drop_end:a", "match:(a*)(b)?", "last_match:(-?[$0-9.,]{2,})|(-?[0-9]+)"};
    for (size_t i = 0; i <= sizeof all / sizeof all[0]; i++) {
        const char *name = i < sizeof all / sizeof all[0] ? all[i] : filter;
        struct slm2_buf b = {0};
        bool regex = strstr(name, "match:") != NULL;
        if (regex && name == filter) continue; /* the library's own expressions may take exponential time */
        if (slm2_filter_check(name, NULL) != SLM2_OK) continue;
        slm2_buf_put(&b, text, n);
        if (slm2_filter_apply(name, &b, NULL) == SLM2_OK && strcmp(name, "strip") == 0 && b.n > 0 && (slm2_py_lstrip(b.v, b.n) || slm2_py_rstrip(b.v, b.n) != b.n)) abort();
        slm2_buf_free(&b);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *stop = size ? memchr(text, '\n', size) : NULL;
    size_t n = stop ? (size_t)(stop - text) : 0;
    char head[200];
    struct slm2_buf page = {0};
    if (n >= sizeof head) return 0;
    memcpy(head, text, n);
    head[n] = '\0';
    if (stop) n++;
    record(text + n, size - n, head);
    filters(text + n, size - n, head);
    slm2_form_wikitext(text + n, size - n, &page, NULL);
    slm2_buf_free(&page);
    return 0;
}
