/* fuzz_jsonl.c - verdicts on lines: any bytes give a document of valid text, or a reason. */
#include <stdlib.h>
#include <string.h>

#include "data/corpus.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct slm2_fields fields = {"text", "meta.id", "lang", "meta.license.name"};
    const char *p = (const char *)data, *end = p + size;
    uint64_t number = 1;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        struct slm2_doc doc;
        json_t *root;
        char *line = malloc(n ? n : 1); /* a block of its own: the sanitizer sees its end */
        if (!line) return 0;
        memcpy(line, p, n);
        slm2_corpus_judge(&(struct slm2_raw){.form = SLM2_CORPUS_JSONL, .line = number, .bytes = line, .n = n}, &fields, &doc, &root);
        if ((doc.verdict == SLM2_LINE_OK) != (root && doc.text && doc.n > 0)) abort();
        for (size_t i = 0; doc.text && i < doc.n;) {
            int32_t cp;
            i += slm2_utf8_next((const uint8_t *)doc.text + i, doc.n - i, &cp);
            if (cp < 0) abort();
        }
        if (!doc.reason || (doc.lang && strlen(doc.lang) > n)) abort();
        json_decref(root);
        free(line);
        number++;
        p += n + 1;
    }
    return 0;
}
