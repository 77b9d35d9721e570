/* tok.h - the tokenizer inside the project: what include/slm2.h does not show of vocabularies, splitting, decoding and export. */
#ifndef SLM2_TOK_TOK_H
#define SLM2_TOK_TOK_H
#include "base/buf.h"

/* ---- vocabularies ------------------------------------------------------------------------------------------------- */
/* Like slm2_tok_open, from the bytes of a file; the kind is seen from the content.  what: name for messages. */
slm2_status slm2_tok_open_memory(struct slm2_tok **tok, const void *bytes, size_t n, const char *what, struct slm2_err *err);
bool slm2_tok_in_dir(const char *dir); /* whether slm2_tok_open finds a file of a vocabulary in this folder */
bool slm2_tok_is_file(const char *name); /* a file that belongs to a vocabulary, by its name in a model's folder; chat_template.jinja too */
/* The vocabulary that belongs to a model: the one named (vocab; "bundled" for ours), else that in the adapter's folder, which a line says, else the model's own (in its
 * folder, beside the file, or in the GGUF file), else the bundled one, which *bundled tells.  Empty or NULL: none named, no adapter. */
slm2_status slm2_tok_of_model(struct slm2_tok **tok, bool *bundled, const char *vocab, const char *adapter, const char *model, struct slm2_err *err);
/* Flags that the vocabulary's own settings ask for: SLM2_TOK_NFC when it normalises (Arcade100k does), else 0. */
int slm2_tok_flags_default(const struct slm2_tok *tok);

/* ---- parts of encoding -------------------------------------------------------------------------------------------- */
enum slm2_split {      /* the published patterns; see pretok.c */
    SLM2_SPLIT_ARCADE, /* cl100k with one number character a piece */
    SLM2_SPLIT_CL100K, /* up to three number characters a piece */
    SLM2_SPLIT_GPT2,
};
/* Length of the first piece of s[0..n), n > 0.  Splitting a text this way, piece by piece, takes linear time. */
size_t slm2_split_next(const uint8_t *s, size_t n, enum slm2_split kind);

/* A tokenizer of the first n_rank tokens (0: all) of a vocabulary whose ids are ranks, with another splitting pattern; the special tokens are
 * Arcade100k's, behind them.  Tokens are in the order of the merges that make them, so any beginning of them is a vocabulary too. */
slm2_status slm2_tok_variant(struct slm2_tok **out, const struct slm2_tok *from, int32_t n_rank, enum slm2_split split, struct slm2_err *err);

/* NFC of text[0..n).  *changed false: text is in NFC already as far as the quick check knows, and out is untouched;
 * else the result was appended to out.  Bytes that are not UTF-8 stay as they are. */
slm2_status slm2_nfc(const char *text, size_t n, struct slm2_buf *out, bool *changed, struct slm2_err *err);

/* The first place in text[from..n) where the text may be cut and encoded in parts without changing an id, by any flags; n: none. */
size_t slm2_tok_cut(const struct slm2_tok *tok, const char *text, size_t n, size_t from);
/* slm2_tok_encode on n_threads threads: the same ids.  The limit of one call holds for stretches without a cut only. */
slm2_status slm2_tok_encode_threads(const struct slm2_tok *tok, const char *text, size_t n, int flags, int n_threads, struct slm2_ids *ids, struct slm2_err *err);

/* Length of the UTF-8 character at s[0..n), n > 0, and its code point; 1 and -1 when the bytes there are not UTF-8. */
size_t slm2_utf8_next(const uint8_t *s, size_t n, int32_t *cp);

/* ---- decoding ----------------------------------------------------------------------------------------------------- */
/* Appends the bytes of ids[0..n); an unassigned id is SLM2_EFORMAT and nothing is appended. */
slm2_status slm2_tok_decode(const struct slm2_tok *tok, const int32_t *ids, size_t n, struct slm2_buf *out, struct slm2_err *err);

/* Decoding id by id for people to read: only whole UTF-8 characters come out, what has begun waits for the next id. */
struct slm2_tok_stream {
    const struct slm2_tok *tok; /* borrowed */
    bool skip_special;          /* special tokens give no text */
    uint8_t held[4];            /* the beginning of a character */
    int n_held;
};
void slm2_tok_stream_init(struct slm2_tok_stream *st, const struct slm2_tok *tok, bool skip_special);
slm2_status slm2_tok_stream_feed(struct slm2_tok_stream *st, int32_t id, struct slm2_buf *out, struct slm2_err *err);
void slm2_tok_stream_flush(struct slm2_tok_stream *st, struct slm2_buf *out); /* appends what was held, as it is */

/* ---- export ------------------------------------------------------------------------------------------------------- */
/* The ranks as a .tiktoken file; special tokens have no place in it.  SLM2_EUSAGE for a vocabulary whose ids are not ranks. */
slm2_status slm2_tok_write_tiktoken(const struct slm2_tok *tok, const char *path, struct slm2_err *err);
/* tokenizer.json, tokenizer_config.json, special_tokens_map.json, vocab.json and merges.txt in an existing folder.
 * chat_template: Jinja text or NULL; model_max_length: tokens, 0 leaves it out. */
slm2_status slm2_tok_write_hf(const struct slm2_tok *tok, const char *dir, const char *chat_template, int64_t model_max_length,
                              struct slm2_err *err);

/* What GGUF stores.  Strings are NUL-terminated UTF-8 and live until slm2_tok_gguf_free. */
struct slm2_tok_gguf {
    const char **tokens; /* [n_tokens] byte-level alphabet; special tokens as they are; "[PAD100256]" where no token is */
    int32_t *types;      /* [n_tokens] 1 normal, 3 control, 4 user defined, 5 unused */
    const char **merges; /* [n_merges] "a b" in order of rank */
    int32_t n_tokens, n_merges;
    const char *pre;     /* value of tokenizer.ggml.pre: "stablelm2", "llama-bpe", "gpt-2" */
    struct slm2_buf text; /* where the strings lie */
};
/* n_tokens: rows of the model's embedding, at least slm2_tok_n_vocab. */
slm2_status slm2_tok_gguf_make(const struct slm2_tok *tok, int32_t n_tokens, struct slm2_tok_gguf *g, struct slm2_err *err);
void slm2_tok_gguf_free(struct slm2_tok_gguf *g);

/* Which vocabulary is this: SHA-256 of the bytes of all tokens. */
slm2_status slm2_tok_hash(const struct slm2_tok *tok, char hex[65], struct slm2_err *err);

/* ---- speed -------------------------------------------------------------------------------------------------------- */
struct slm2_tok_bench {
    double mb_per_s;      /* 1e6 bytes of text a second of a thread's own time, best of the repeats, one thread alone */
    double threads_mb_per_s, per_thread_mb_per_s; /* n_threads at once: bytes over the clock's seconds; over the seconds of all threads' own time */
    double decode_mb_per_s;
    double open_s;        /* time to open the bundled vocabulary, best of 3 */
    size_t bytes, tokens; /* of one pass */
    int n_threads;
};
/* Encodes text (default flags, parts of 64 KiB and to the next slm2_tok_cut) on one thread, then on n_threads > 0, and decodes it again;
 * SLM2_EFORMAT if decoding gives other bytes than NFC(text). */
slm2_status slm2_tok_bench(const struct slm2_tok *tok, const char *text, size_t n, int repeats, int n_threads, struct slm2_tok_bench *out,
                           struct slm2_err *err);
#endif
