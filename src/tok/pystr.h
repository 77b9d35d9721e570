/* pystr.h - what Python's strings do, for prompts that must be the same to the byte: white space, len, lower and capitalize by Unicode.
 * Texts are UTF-8; bytes that are not stay as they are and count as one character each. */
#ifndef SLM2_TOK_PYSTR_H
#define SLM2_TOK_PYSTR_H
#include "base/buf.h"

bool slm2_py_isspace(int32_t c);                        /* str.isspace of one character */
size_t slm2_py_len(const char *s, size_t n);            /* code points */
size_t slm2_py_lstrip(const char *s, size_t n);         /* bytes of white space at the beginning */
size_t slm2_py_rstrip(const char *s, size_t n);         /* bytes that stay without the white space at the end */
/* Appends.  Lower case by simple mapping, and U+0130 as Python does; a final sigma is not told apart. */
void slm2_py_lower(const char *s, size_t n, struct slm2_buf *out);
void slm2_py_capitalize(const char *s, size_t n, struct slm2_buf *out); /* the first in title case, all others lower */
size_t slm2_py_split_count(const char *s, size_t n);    /* len(re.split(r"\s+", s)): white space at an end gives an empty piece */
#endif
