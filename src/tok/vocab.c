/* vocab.c - opens a vocabulary (bundled Arcade100k, .tiktoken, tokenizer.json, GGUF) and answers what lies in it. */
#include "tok/tok_impl.h"

#include <dirent.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"

/* The bundled ranks, 1.7 MB of text; licence in assets/NOTICE. */
__asm__(".pushsection .rodata\n"
        ".global slm2_arcade100k_text\n"
        ".global slm2_arcade100k_text_end\n"
        "slm2_arcade100k_text:\n"
        ".incbin \"assets/arcade100k.tiktoken\"\n"
        "slm2_arcade100k_text_end:\n"
        ".byte 0\n"
        ".popsection\n");
extern const char slm2_arcade100k_text[], slm2_arcade100k_text_end[];

/* Arcade100k's special tokens; the first has the id behind one unassigned id behind the ranks: 100257. */
static const char *const arcade_specials[] = {
    "<|endoftext|>",  "<|fim_prefix|>", "<|fim_middle|>",  "<|fim_suffix|>", "<|fim_pad|>",   "<gh_stars>",      "<filename>",
    "<issue_start>",  "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>",
    "<empty_output>", "<commit_before>", "<commit_msg>",   "<commit_after>", "<reponame>",    "<|endofprompt|>", "<|im_start|>",
    "<|im_end|>",     "<|pause|>",      "<|reg0|>",        "<|reg1|>",       "<|reg2|>",      "<|reg3|>",        "<|reg4|>",
    "<|reg5|>",       "<|reg6|>",       "<|reg7|>",        "<|extra0|>",
};

struct slm2_tok *tok_new(void)
{
    struct slm2_tok *tok = calloc(1, sizeof *tok);
    if (!tok) return NULL;
    tok->eos = tok->sole_first = -1;
    for (int b = 0; b < 256; b++) tok->byte_id[b] = -1;
    return tok;
}

void slm2_tok_free(struct slm2_tok *tok)
{
    if (!tok) return;
    slm2_buf_free(&tok->text);
    free(tok->e);
    free(tok->slot);
    free(tok->two);
    free(tok->maybe);
    free(tok->merge);
    free(tok->pair);
    free(tok->node);
    free(tok);
}

/* ---- building ----------------------------------------------------------------------------------------------------- */
slm2_status tok_add(struct slm2_tok *tok, int64_t id, const void *bytes, size_t n, enum tok_kind kind, const char *what, struct slm2_err *err)
{
    if (id < 0 || id >= TOK_MAX_ID)
        return slm2_fail(err, SLM2_EFORMAT, "%s: token id %lld, want one in [0, %d]", what, (long long)id, TOK_MAX_ID - 1);
    if (n == 0) return slm2_fail(err, SLM2_EFORMAT, "%s: token %lld is empty", what, (long long)id);
    if (n > UINT32_MAX / 2 - tok->text.n) return slm2_fail(err, SLM2_EFORMAT, "%s: more than 2 GiB of tokens", what);
    if (id >= tok->cap) {
        int32_t cap = tok->cap ? tok->cap : 1 << 10;
        while (cap <= id) cap *= 2;
        struct tok_entry *e = realloc(tok->e, (size_t)cap * sizeof *e);
        if (!e) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %d tokens", what, cap);
        memset(e + tok->cap, 0, (size_t)(cap - tok->cap) * sizeof *e);
        tok->e = e;
        tok->cap = cap;
    }
    struct tok_entry *e = &tok->e[id];
    if (e->kind != TOK_NONE) return slm2_fail(err, SLM2_EFORMAT, "%s: token id %lld is given twice", what, (long long)id);
    *e = (struct tok_entry){.at = (uint32_t)tok->text.n, .n = (uint32_t)n, .kind = (uint8_t)kind};
    slm2_buf_put(&tok->text, bytes, n);
    if (id >= tok->n_vocab) tok->n_vocab = (int32_t)id + 1;
    if (kind == TOK_NORMAL && n > tok->max_len) tok->max_len = (uint32_t)n;
    return slm2_buf_check(&tok->text, err);
}

slm2_status tok_add_arcade_specials(struct slm2_tok *tok, const char *what, struct slm2_err *err)
{
    int32_t id = tok->n_vocab + 1;
    for (size_t i = 0; i < sizeof arcade_specials / sizeof *arcade_specials; i++)
        SLM2_TRY(tok_add(tok, id + (int32_t)i, arcade_specials[i], strlen(arcade_specials[i]), TOK_SPECIAL, what, err));
    return SLM2_OK;
}

/* The key of s[0..n), n > 2: the bytes as a number when they fit, else a hash of all of them. */
static inline uint64_t key_of(const uint8_t *s, size_t n)
{
    uint32_t a, b;
    if (n <= 8 && n >= 4) {
        memcpy(&a, s, 4);
        memcpy(&b, s + n - 4, 4); /* overlaps a when n < 8; with n beside it the key is still exact */
        return (uint64_t)a << 32 | b;
    }
    if (n < 4) return (uint64_t)s[0] << 16 | (uint64_t)s[1] << 8 | s[2];
    uint64_t h = n, v;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&v, s, 8);
        h = (h ^ v) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    v = 0;
    memcpy(&v, s, n);
    h = (h ^ v) * 0xff51afd7ed558ccdu;
    return h ^ h >> 32;
}

static inline uint32_t slot_of(uint64_t key, size_t n)
{
    uint64_t h = (key ^ n * 0x9e3779b97f4a7c15u) * 0xc4ceb9fe1a85ec53u;
    return (uint32_t)(h >> 32);
}

/* the slot with these bytes, n > 2, or the empty one where they belong */
static inline struct tok_slot *find_slot(const struct slm2_tok *tok, const uint8_t *s, size_t n, uint64_t key)
{
    for (uint32_t i = slot_of(key, n) & (tok->n_slot - 1);; i = (i + 1) & (tok->n_slot - 1)) {
        struct tok_slot *t = &tok->slot[i];
        if (t->id < 0 || (t->key == key && t->n == n && (n <= 8 || memcmp(tok->text.v + tok->e[t->id].at, s, n) == 0))) return t;
    }
}

int32_t tok_find(const struct slm2_tok *tok, const uint8_t *s, size_t n)
{
    if (n > tok->max_len || n == 0) return -1;
    if (n <= 2) return n == 1 ? tok->byte_id[s[0]] : tok->two[s[0] << 8 | s[1]];
    uint64_t key = key_of(s, n);
    uint32_t bit = slot_of(key, n) >> (32 - TOK_MAYBE_BITS);
    return tok->maybe[bit >> 6] >> (bit & 63) & 1 ? find_slot(tok, s, n, key)->id : -1;
}

slm2_status tok_index(struct slm2_tok *tok, const char *what, struct slm2_err *err)
{
    uint32_t n_slot = 1024;
    while (n_slot < 2 * (uint32_t)tok->n_vocab) n_slot *= 2;
    tok->slot = malloc(n_slot * sizeof *tok->slot);
    tok->two = malloc(65536 * sizeof *tok->two);
    tok->maybe = calloc(TOK_MAYBE / 64, sizeof *tok->maybe);
    if (!tok->slot || !tok->two || !tok->maybe) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for the token index", what);
    memset(tok->slot, 0xff, n_slot * sizeof *tok->slot);
    memset(tok->two, 0xff, 65536 * sizeof *tok->two);
    tok->n_slot = n_slot;
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        const struct tok_entry *e = &tok->e[id];
        if (e->kind != TOK_NORMAL) continue;
        const uint8_t *s = (const uint8_t *)tok->text.v + e->at;
        uint64_t key = e->n > 2 ? key_of(s, e->n) : 0;
        struct tok_slot *t = e->n > 2 ? find_slot(tok, s, e->n, key) : NULL;
        int32_t *at = t ? &t->id : e->n == 2 ? &tok->two[s[0] << 8 | s[1]] : &tok->byte_id[s[0]];
        if (*at >= 0) return slm2_fail(err, SLM2_EFORMAT, "%s: tokens %d and %d have the same bytes", what, *at, id);
        *at = id;
        if (!t) continue;
        *t = (struct tok_slot){key, id, e->n};
        uint32_t bit = slot_of(key, e->n) >> (32 - TOK_MAYBE_BITS); /* the upper bits; the slot uses the lower ones */
        tok->maybe[bit >> 6] |= 1ull << (bit & 63);
    }
    for (int b = 0; b < 256; b++)
        if (tok->byte_id[b] < 0)
            return slm2_fail(err, SLM2_EFORMAT, "%s: no token for byte 0x%02X: a byte-level vocabulary has all 256", what, (unsigned)b);
    return SLM2_OK;
}

static slm2_status index_specials(struct slm2_tok *tok, const char *what, struct slm2_err *err)
{
    size_t room = 1;
    for (int32_t id = 0; id < tok->n_vocab; id++)
        if (tok->e[id].kind >= TOK_SPECIAL) room += tok->e[id].n;
    if (room > INT32_MAX || !(tok->node = malloc(room * sizeof *tok->node)))
        return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %zu bytes of special tokens", what, room);
    tok->node[0] = (struct tok_node){-1, -1, -1, 0};
    tok->n_node = 1;
    int n_first = 0;
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        const struct tok_entry *e = &tok->e[id];
        if (e->kind < TOK_SPECIAL) continue;
        const uint8_t *s = (const uint8_t *)tok->text.v + e->at;
        int32_t at = 0;
        for (uint32_t i = 0; i < e->n; i++) {
            int32_t c = tok->node[at].child;
            while (c >= 0 && tok->node[c].byte != s[i]) c = tok->node[c].next;
            if (c < 0) {
                c = tok->n_node++;
                tok->node[c] = (struct tok_node){-1, tok->node[at].child, -1, s[i]};
                tok->node[at].child = c;
            }
            at = c;
            tok->special_break |= s[i] == '\n';
        }
        if (tok->node[at].id >= 0)
            return slm2_fail(err, SLM2_EFORMAT, "%s: special tokens %d and %d have the same text", what, tok->node[at].id, id);
        tok->node[at].id = id;
        if (!tok->first[s[0]]) {
            tok->first[s[0]] = true;
            tok->sole_first = n_first++ ? -1 : s[0];
        }
        tok->any_user |= e->kind == TOK_USER;
    }
    return SLM2_OK;
}

/* A piece that is a token stands for itself only when merging its bytes gives it; .tiktoken says so of every token. */
static slm2_status mark_whole(struct slm2_tok *tok, const char *what, struct slm2_err *err)
{
    int32_t *part = malloc(((size_t)tok->max_len + 1) * sizeof *part);
    if (!part) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for a token of %u bytes", what, tok->max_len);
    slm2_status st = SLM2_OK;
    tok->all_whole = true;
    for (int32_t id = 0; id < tok->n_vocab && st == SLM2_OK; id++) {
        struct tok_entry *e = &tok->e[id];
        size_t n = 0;
        if (e->kind != TOK_NORMAL) continue;
        if (tok->explicit_merges && !tok->ignore_merges)
            st = tok_bpe(tok, (const uint8_t *)tok->text.v + e->at, e->n, TOK_NO_RANK, part, &n, err);
        e->whole = !tok->explicit_merges || tok->ignore_merges || n == 1;
        tok->all_whole &= e->whole;
    }
    free(part);
    return st;
}

slm2_status tok_set_merges(struct slm2_tok *tok, struct tok_merge *merge, int32_t n, struct slm2_err *err)
{
    tok->explicit_merges = true;
    tok->merge = merge;
    tok->n_merge = n;
    uint32_t n_slot = 16;
    while (n_slot < 2 * (uint32_t)n) n_slot *= 2;
    tok->pair = malloc(n_slot * sizeof *tok->pair);
    if (!tok->pair) return slm2_fail(err, SLM2_ENOMEM, "tokenizer: no memory for %d merges", n);
    memset(tok->pair, 0xff, n_slot * sizeof *tok->pair);
    tok->n_pair_slot = n_slot;
    for (int32_t r = 0; r < n; r++) {
        const struct tok_merge *m = &merge[r];
        uint64_t h = ((uint64_t)(uint32_t)m->a << 32 | (uint32_t)m->b) * 0x9e3779b97f4a7c15u;
        uint32_t i = (uint32_t)(h >> 32) & (n_slot - 1);
        while (tok->pair[i].a >= 0 && !(tok->pair[i].a == m->a && tok->pair[i].b == m->b)) i = (i + 1) & (n_slot - 1);
        if (tok->pair[i].a < 0) tok->pair[i] = (struct tok_pair_slot){m->a, m->b, m->id, r}; /* of equal pairs the first counts */
    }
    return SLM2_OK;
}

slm2_status tok_parse_merge(const struct slm2_tok *tok, const char *a, size_t n_a, const char *b, size_t n_b, int32_t index,
                            const char *what, struct tok_merge *out, struct slm2_err *err)
{
    struct slm2_buf s = {0};
    slm2_status st = SLM2_OK;
    bool good = tok_alphabet_get(&s, a, n_a);
    size_t k = s.n;
    good = good && tok_alphabet_get(&s, b, n_b);
    if (s.failed) {
        st = slm2_buf_check(&s, err);
    } else if (!good || k == 0 || s.n == k) {
        st = slm2_fail(err, SLM2_EFORMAT, "%s: merge %d, \"%.*s %.*s\", is not two parts in GPT-2's byte alphabet", what, index,
                       (int)slm2_min_size(n_a, 99), a, (int)slm2_min_size(n_b, 99), b);
    } else {
        const uint8_t *v = (const uint8_t *)s.v;
        *out = (struct tok_merge){tok_find(tok, v, k), tok_find(tok, v + k, s.n - k), tok_find(tok, v, s.n)};
        if (out->a < 0 || out->b < 0 || out->id < 0)
            st = slm2_fail(err, SLM2_EFORMAT, "%s: merge %d, \"%.*s %.*s\": %s is not in the vocabulary", what, index, (int)slm2_min_size(n_a, 99), a,
                           (int)slm2_min_size(n_b, 99), b, out->a < 0 ? "its first part" : out->b < 0 ? "its second part" : "its result");
    }
    slm2_buf_free(&s);
    return st;
}

slm2_status tok_finish(struct slm2_tok *tok, const char *what, struct slm2_err *err)
{
    SLM2_TRY(index_specials(tok, what, err));
    SLM2_TRY(mark_whole(tok, what, err));
    if (tok->eos < 0) tok->eos = slm2_tok_special_id(tok, "<|endoftext|>");
    return SLM2_OK;
}

/* ---- .tiktoken ---------------------------------------------------------------------------------------------------- */
static int base64_digit(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* decodes s[0..n), padded base64, in place of out[3 * n / 4]; returns the bytes, SIZE_MAX when it is none */
static size_t base64_decode(const char *s, size_t n, uint8_t *out)
{
    if (n == 0 || n % 4) return SIZE_MAX;
    size_t pad = (s[n - 1] == '=') + (size_t)(s[n - 1] == '=' && s[n - 2] == '='), m = 0;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            int d = i + k >= n - pad ? 0 : base64_digit((uint8_t)s[i + k]);
            if (d < 0) return SIZE_MAX;
            v = v << 6 | (uint32_t)d;
        }
        out[m++] = (uint8_t)(v >> 16);
        out[m++] = (uint8_t)(v >> 8);
        out[m++] = (uint8_t)v;
    }
    return m - pad;
}

/* Lines `base64 SPACE rank`; special tokens are Arcade100k's, from the id behind one unassigned id behind the ranks. */
static slm2_status load_tiktoken(struct slm2_tok *tok, const char *p, size_t n, const char *what, struct slm2_err *err)
{
    uint8_t small[192], *bytes = small;
    size_t room = sizeof small;
    slm2_status st = SLM2_OK;
    const char *end = p + n;
    for (size_t line = 1; p < end && st == SLM2_OK; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end, *text = p;
        p = nl ? nl + 1 : end;
        if (stop > text && stop[-1] == '\r') stop--;
        if (stop == text) continue;
        const char *sp = memchr(text, ' ', (size_t)(stop - text));
        size_t n_b64 = sp ? (size_t)(sp - text) : 0, m = SIZE_MAX;
        int64_t rank = -1;
        if (sp && n_b64 > room) {
            uint8_t *wider = malloc(n_b64);
            if (!wider) {
                st = slm2_fail(err, SLM2_ENOMEM, "%s: line %zu: no memory for %zu bytes", what, line, n_b64);
                break;
            }
            if (bytes != small) free(bytes);
            bytes = wider;
            room = n_b64;
        }
        if (sp && stop - sp > 1 && stop - sp < 12) {
            rank = 0;
            for (const char *d = sp + 1; d < stop && rank >= 0; d++) rank = *d >= '0' && *d <= '9' ? rank * 10 + (*d - '0') : -1;
            m = base64_decode(text, n_b64, bytes);
        }
        if (rank < 0 || m == SIZE_MAX)
            st = slm2_fail(err, SLM2_EFORMAT, "%s: line %zu is not `base64 rank`, as in a .tiktoken file", what, line);
        else
            st = tok_add(tok, rank, bytes, m, TOK_NORMAL, what, err);
    }
    if (bytes != small) free(bytes);
    SLM2_TRY(st);
    SLM2_TRY(tok_index(tok, what, err));
    tok->split = SLM2_SPLIT_ARCADE;
    tok->nfc = true;
    return tok_add_arcade_specials(tok, what, err);
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */
slm2_status slm2_tok_open_memory(struct slm2_tok **out, const void *bytes, size_t n, const char *what, struct slm2_err *err)
{
    const char *p = bytes;
    size_t i = 0;
    struct slm2_tok *tok = tok_new();
    if (!tok) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for a tokenizer", what);
    while (i < n && (p[i] == ' ' || p[i] == '\t' || p[i] == '\r' || p[i] == '\n')) i++;
    slm2_status st;
    if (n >= 4 && memcmp(p, "GGUF", 4) == 0)
        st = tok_load_gguf(tok, p, n, what, err);
    else if (i < n && p[i] == '{')
        st = tok_load_hf(tok, p, n, what, err);
    else
        st = load_tiktoken(tok, p, n, what, err);
    if (st == SLM2_OK) st = tok_finish(tok, what, err);
    if (st == SLM2_OK)
        *out = tok;
    else
        slm2_tok_free(tok);
    return st;
}

/* path[cap] becomes dir/tokenizer.json or the first *.tiktoken by name */
static slm2_status find_in_dir(const char *dir, char *path, size_t cap, struct slm2_err *err)
{
    SLM2_TRY(slm2_path_join(path, cap, dir, "tokenizer.json", err));
    if (slm2_path_exists(path)) return SLM2_OK;
    char best[256] = "";
    DIR *d = opendir(dir);
    if (!d) return slm2_fail_errno(err, "%s: cannot list the folder", dir);
    for (struct dirent *f; (f = readdir(d));) {
        size_t n = strlen(f->d_name);
        if (n > 9 && n < sizeof best && strcmp(f->d_name + n - 9, ".tiktoken") == 0 && (!best[0] || strcmp(f->d_name, best) < 0)) strcpy(best, f->d_name);
    }
    closedir(d);
    if (!best[0])
        return slm2_fail(err, SLM2_EIO, "%s: no tokenizer.json and no *.tiktoken in this folder; name a vocabulary, or none for the bundled one", dir);
    return slm2_path_join(path, cap, dir, best, err);
}

bool slm2_tok_in_dir(const char *dir)
{
    char path[4096];
    return find_in_dir(dir, path, sizeof path, NULL) == SLM2_OK;
}

slm2_status slm2_tok_open(struct slm2_tok **tok, const char *path, struct slm2_err *err)
{
    if (!path)
        return slm2_tok_open_memory(tok, slm2_arcade100k_text, (size_t)(slm2_arcade100k_text_end - slm2_arcade100k_text), "bundled vocabulary", err);
    char inside[4096];
    if (slm2_path_is_dir(path)) {
        SLM2_TRY(find_in_dir(path, inside, sizeof inside, err));
        path = inside;
    }
    struct slm2_map m;
    SLM2_TRY(slm2_map_open(&m, path, err));
    slm2_status st = slm2_tok_open_memory(tok, m.p, m.n, path, err);
    slm2_map_close(&m);
    return st;
}

slm2_status slm2_tok_hash(const struct slm2_tok *tok, char hex[65], struct slm2_err *err)
{
    struct slm2_buf b = {0};
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        size_t n = 0;
        const void *bytes = slm2_tok_bytes(tok, id, &n);
        slm2_buf_printf(&b, "%zu ", n);
        if (bytes) slm2_buf_put(&b, bytes, n);
    }
    slm2_status st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) slm2_sha256_hex(b.v ? b.v : "", b.n, hex);
    slm2_buf_free(&b);
    return st;
}

/* ---- questions ---------------------------------------------------------------------------------------------------- */
int32_t slm2_tok_n_vocab(const struct slm2_tok *tok) { return tok->n_vocab; }
int32_t slm2_tok_eos(const struct slm2_tok *tok) { return tok->eos; }
int slm2_tok_flags_default(const struct slm2_tok *tok) { return tok->nfc ? SLM2_TOK_NFC : 0; }

const uint8_t *slm2_tok_bytes(const struct slm2_tok *tok, int32_t id, size_t *n)
{
    if (id < 0 || id >= tok->n_vocab || tok->e[id].kind == TOK_NONE) {
        *n = 0;
        return NULL;
    }
    *n = tok->e[id].n;
    return (const uint8_t *)tok->text.v + tok->e[id].at;
}

bool slm2_tok_is_special(const struct slm2_tok *tok, int32_t id)
{
    return id >= 0 && id < tok->n_vocab && tok->e[id].kind == TOK_SPECIAL;
}

int32_t slm2_tok_special_id(const struct slm2_tok *tok, const char *text)
{
    int32_t at = 0;
    for (; at >= 0 && *text; text++) {
        at = tok->node[at].child;
        while (at >= 0 && tok->node[at].byte != (uint8_t)*text) at = tok->node[at].next;
    }
    return at > 0 && slm2_tok_is_special(tok, tok->node[at].id) ? tok->node[at].id : -1;
}

bool slm2_tok_is_file(const char *name)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return true;
    return slm2_path_ends(name, ".tiktoken");
}

slm2_status slm2_tok_of_model(struct slm2_tok **tok, bool *bundled, const char *vocab, const char *adapter, const char *model, struct slm2_err *err)
{
    char dir[4096];
    struct slm2_err own;
    *bundled = false;
    if (vocab && *vocab) return slm2_tok_open(tok, strcmp(vocab, "bundled") ? vocab : NULL, err);
    if (adapter && *adapter && slm2_tok_in_dir(adapter)) { /* what it was trained with */
        slm2_log(SLM2_INFO, "%s: the tokenizer is the adapter's own; naming one goes before it", adapter);
        return slm2_tok_open(tok, adapter, err);
    }
    if (slm2_path_ends(model, ".gguf")) {
        if (slm2_tok_open(tok, model, &own) == SLM2_OK) return SLM2_OK;
        slm2_log(SLM2_DEBUG, "%s: no tokenizer in it: %s", model, own.msg);
    } else if (slm2_path_exists(model)) { /* a model that is not there has no folder to look in */
        SLM2_TRY(slm2_path_home(dir, sizeof dir, model, err));
        if (slm2_tok_in_dir(dir)) return slm2_tok_open(tok, dir, err);
    }
    *bundled = true;
    return slm2_tok_open(tok, NULL, err);
}
