/* fuzz_selfcard.c - what a model drew, and the text of a prompt file: judged, filled with a card's facts, or refused. */
#include <stdlib.h>
#include <string.h>

#include "train/selfdraw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[] = "A", maker[] = "B", none[] = "";
    const struct slm2_card card = {.name = name, .maker = maker, .kind = none, .released = none};
    struct slm2_buf text = {0}, words = {0}, out = {0};
    bool complete;
    slm2_buf_put(&text, data, size);
    if (text.failed || slm2_self_words(text.v, text.n, &words, NULL) != SLM2_OK) return 0;
    if (words.n && (words.v[0] != ' ' || words.v[words.n - 1] != ' ' || strlen(words.v) != words.n)) abort();
    if ((unsigned)slm2_self_judge(text.v, text.n, words.v, false, 2) >= SLM2_SELF_N_VERDICT) abort();
    if (slm2_card_fill(&card, text.v, "fuzz", &out, &complete, NULL) == SLM2_OK && out.n && strchr(out.v, '{')) abort(); /* every {word} was a fact */
    slm2_buf_free(&text);
    slm2_buf_free(&words);
    slm2_buf_free(&out);
    return 0;
}
