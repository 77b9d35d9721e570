/* convo_text.h - one file of records in the scratch folder, the bundled tokenizer, ids as text: what tests of conversations and of pairs share. */
#ifndef SLM2_CONVO_TEXT_H
#define SLM2_CONVO_TEXT_H
#include "scratch_dir.h"

#include <string.h>

#include "tok/tok.h"

static char path[256]; /* of the records */
static struct slm2_tok *tok;

static inline int open_all(void **state)
{
    if (make_dir(state)) return -1;
    snprintf(path, sizeof path, "%s", in_dir("records"));
    return slm2_tok_open(&tok, NULL, NULL) != SLM2_OK;
}
static inline int close_all(void **state)
{
    slm2_tok_free(tok);
    return remove_dir(state);
}
static inline void write_text(const char *text) { assert_int_equal(slm2_file_write(path, text, strlen(text), NULL), SLM2_OK); }

static inline void assert_text(const int32_t *ids, size_t n, const char *want)
{
    struct slm2_buf out = {0};
    slm2_buf_puts(&out, "");
    assert_int_equal(slm2_tok_decode(tok, ids, n, &out, NULL), SLM2_OK);
    assert_string_equal(out.v, want);
    slm2_buf_free(&out);
}
#endif
