/* tok_impl.h - what the files of the tokenizer share: the vocabulary in memory.  Not for other folders. */
#ifndef SLM2_TOK_TOK_IMPL_H
#define SLM2_TOK_TOK_IMPL_H
#include <limits.h>
#include <string.h>

#include "tok/tok.h"

#define TOK_MAX_ID (1 << 22) /* ids above are refused: no vocabulary is that large, and a file must not make us allocate for one */
#define TOK_NO_RANK INT32_MAX
#define TOK_WINDOW 2048 /* bytes of a long piece merged at once */
#define TOK_MAYBE_BITS 20
#define TOK_MAYBE (1u << TOK_MAYBE_BITS)

enum tok_kind {
    TOK_NONE,    /* no token has this id */
    TOK_NORMAL,  /* made of merged bytes */
    TOK_SPECIAL, /* found in text only with SLM2_TOK_SPECIAL */
    TOK_USER,    /* found in text always, before splitting */
};
struct tok_entry {
    uint32_t at, n; /* its bytes in tok->text */
    uint8_t kind;
    bool whole; /* NORMAL: a piece of just these bytes encodes to this one id */
};
struct tok_slot { uint64_t key; int32_t id; uint32_t n; };      /* key: the bytes themselves up to 8, else their hash; id -1: empty */
struct tok_pair_slot { int32_t a, b, id, rank; };               /* a -1: empty */
struct tok_merge { int32_t a, b, id; };                         /* the rank is the index */
struct tok_node { int32_t child, next, id; uint8_t byte; };     /* trie of special and user tokens; -1: none */

struct slm2_tok {
    struct slm2_buf text;
    struct tok_entry *e; /* [n_vocab] */
    int32_t n_vocab, cap;
    int32_t byte_id[256];
    uint32_t max_len; /* bytes of the longest NORMAL token */
    enum slm2_split split;
    bool nfc;
    int32_t eos;

    /* bytes -> NORMAL id.  Most lookups miss the cache once: short tokens are compared inside their slot. */
    struct tok_slot *slot; /* open addressing, n_slot a power of two; tokens of 3 and more bytes */
    uint32_t n_slot;
    uint64_t *maybe;       /* [TOK_MAYBE / 64] bit set: a token may have this hash; small enough to stay in the cache */
    int32_t *two;          /* [65536] tokens of two bytes, first byte high; -1: none */
    bool all_whole;        /* every NORMAL token has `whole` */

    /* Ranks: without explicit merges a pair merges when its bytes are a token, and that token's id is the rank (.tiktoken). */
    struct tok_merge *merge;
    int32_t n_merge;
    bool explicit_merges;
    bool ignore_merges; /* explicit merges, but a piece that is a token is that token */
    struct tok_pair_slot *pair;
    uint32_t n_pair_slot;

    struct tok_node *node; /* node[0] is the root when n_node > 0 */
    int32_t n_node;
    bool first[256];       /* bytes that begin a special or user token */
    int sole_first;        /* the only such byte, or -1 */
    bool any_user;
    bool special_break;    /* a special or user token has a line break in it */
};

/* vocab.c: building.  Add tokens in any order, then index, finish; after a failure only slm2_tok_free. */
struct slm2_tok *tok_new(void); /* NULL: out of memory */
slm2_status tok_add(struct slm2_tok *tok, int64_t id, const void *bytes, size_t n, enum tok_kind kind, const char *what, struct slm2_err *err);
slm2_status tok_index(struct slm2_tok *tok, const char *what, struct slm2_err *err);  /* after the NORMAL tokens: tok_find works; checks that every byte is a token */
slm2_status tok_finish(struct slm2_tok *tok, const char *what, struct slm2_err *err); /* after all tokens and merges */
int32_t tok_find(const struct slm2_tok *tok, const uint8_t *s, size_t n); /* id of the NORMAL token with these bytes, or -1 */
slm2_status tok_add_arcade_specials(struct slm2_tok *tok, const char *what, struct slm2_err *err);
/* Explicit merges; merge[n] becomes tok's whatever the result.  After tok_index, before tok_finish. */
slm2_status tok_set_merges(struct slm2_tok *tok, struct tok_merge *merge, int32_t n, struct slm2_err *err);

/* vocab_hf.c, vocab_gguf.c: whole files */
slm2_status tok_load_hf(struct slm2_tok *tok, const char *json, size_t n, const char *what, struct slm2_err *err);
slm2_status tok_load_gguf(struct slm2_tok *tok, const void *bytes, size_t n, const char *what, struct slm2_err *err);
/* "a b" (parts of the alphabet, found among the tokens) -> one merge. */
slm2_status tok_parse_merge(const struct slm2_tok *tok, const char *a, size_t n_a, const char *b, size_t n_b, int32_t index,
                            const char *what, struct tok_merge *out, struct slm2_err *err);

/* alphabet.c: GPT-2's printable alphabet of bytes */
void tok_alphabet_put(struct slm2_buf *out, const uint8_t *s, size_t n);
bool tok_alphabet_get(struct slm2_buf *out, const char *s, size_t n); /* appends the bytes; false: a character outside the alphabet */

/* encode.c: room for `more` further ids */
slm2_status tok_ids_reserve(struct slm2_ids *ids, size_t more, struct slm2_err *err);

/* bpe.c: ids of a piece from its bytes; pairs of rank >= limit do not merge.  out has room for n ids. */
slm2_status tok_bpe(const struct slm2_tok *tok, const uint8_t *s, size_t n, int32_t limit, int32_t *out, size_t *n_out, struct slm2_err *err);
/* The same for any n > 0 by windows of `window` bytes, which a merge across their seams makes wider; *work grows by the bytes of all windows. */
slm2_status tok_bpe_long(const struct slm2_tok *tok, const uint8_t *s, size_t n, int32_t limit, size_t window, int32_t *out, size_t *n_out, uint64_t *work,
                         struct slm2_err *err);
/* The merges in order of rank: tok's own, or found from the ranks.  *merge is the caller's to free. */
slm2_status tok_merges(const struct slm2_tok *tok, struct tok_merge **merge, int32_t *n, struct slm2_err *err);
#endif
