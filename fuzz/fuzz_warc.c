/* fuzz_warc.c - WARC files and whole texts: any bytes are cut into pieces that end and keep the limit, each with a document of valid text or a
 * reason. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/corpus.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *scratch_file(void)
{
    static char path[64];
    if (!*path) snprintf(path, sizeof path, "%s/fuzz_warc.%ld", P_tmpdir, (long)getpid());
    return path;
}

static void remove_file(void) { unlink(scratch_file()); }

static void read_all(size_t size, enum slm2_corpus_form form, size_t limit)
{
    struct slm2_corpus *c;
    struct slm2_raw raw;
    bool more = true;
    uint64_t before = 0;
    if (slm2_corpus_open(&c, scratch_file(), form, limit, NULL) != SLM2_OK) return;
    while (slm2_corpus_read(c, &raw, &more, NULL) == SLM2_OK && more) {
        struct slm2_doc doc;
        json_t *root;
        if (raw.line != ++before || before > size + (form == SLM2_CORPUS_TEXT)) abort();
        if (form == SLM2_CORPUS_TEXT && raw.n > limit) abort();
        char *copy = malloc(raw.n ? raw.n : 1); /* a block of its own: the sanitizer sees its end */
        if (!copy) break;
        if (raw.n) memcpy(copy, raw.bytes, raw.n);
        raw.bytes = copy;
        slm2_corpus_judge(&raw, NULL, &doc, &root);
        if ((doc.verdict == SLM2_LINE_OK) != (doc.text && doc.n > 0) || !doc.reason) abort();
        for (size_t i = 0; doc.text && i < doc.n;) {
            int32_t cp;
            i += slm2_utf8_next((const uint8_t *)doc.text + i, doc.n - i, &cp);
            if (cp < 0) abort();
        }
        json_decref(root);
        free(copy);
    }
    slm2_corpus_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool armed;
    if (!armed) armed = atexit(remove_file) == 0;
    FILE *f = fopen(scratch_file(), "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) return 0;
    read_all(size, SLM2_CORPUS_WET, 4096);
    read_all(size, SLM2_CORPUS_TEXT, 10);
    return 0;
}
