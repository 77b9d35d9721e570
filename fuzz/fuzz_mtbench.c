/* fuzz_mtbench.c - files of MT-Bench from anywhere: questions, prompts, references, judgements, and the text of a judge. */
#define _GNU_SOURCE
#include <string.h>

#include "base/buf.h"
#include "eval/mtbench.h"
#include "input_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct slm2_mt_data d;
    struct slm2_err err;
    json_t *scores;
    char *text = malloc(size ? size : 1); /* a block of its own: the sanitizer sees its end */
    int fd = input_file(data, size, path);
    if (!text) abort();
    memcpy(text, data, size);
    double rating = slm2_mt_rating(text, size);
    if (!(rating == -1 || (rating >= 0 && rating < 1e32))) abort();
    if (slm2_mt_read(&d, path, path, path, &err) == SLM2_OK) slm2_mt_data_free(&d); /* the same records as all three */
    if (slm2_mt_read(&d, path, NULL, path, &err) == SLM2_OK) slm2_mt_data_free(&d);
    if (slm2_mt_read(&d, path, NULL, NULL, &err) == SLM2_OK) {
        if (d.n < 1 || !d.v[0].turn[1]) abort();
        if (slm2_mt_scores(&d, path, NULL, &scores, &err) == SLM2_OK) {
            struct slm2_buf table = {0};
            slm2_mt_table(scores, &table);
            slm2_buf_free(&table);
            json_decref(scores);
        }
        slm2_mt_data_free(&d);
    }
    close(fd);
    free(text);
    return 0;
}
