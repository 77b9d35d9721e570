/* langid.c - trigrams of folded characters, counted, smoothed and compared.
 *
 * A model file, little-endian: "slm2-langid 1\n"; u32 rows; for each class u16 threshold (of the mean, 1/1024 nat); row 0 of unseen
 * trigrams: u8 [8]; then for each other row u32 trigram, in rising order, and u8 [8]. */
#include "data/langid.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/reader.h"
#include "data/corpus.h"
#include "tok/tok.h"

enum { N = SLM2_LANGID_N, N_SYMBOL = 64, N_GRAM = N_SYMBOL * N_SYMBOL * N_SYMBOL, MAX_CHARS = 16384, MIN_COUNT = 3, HELD_OUT = 5, PIECE = 200, UNIT = 12 };
enum { SPACE = 0, ACCENTED = 27, OTHER_LETTER = 57, DIGIT, APOSTROPHE, STOP, SIGN };
static const double ALPHA = 0.02, MARGIN = 0.5, SHARPNESS = 0.15;
static const char magic[] = "slm2-langid 1\n";
const char *const slm2_langid_names[N] = {"code", "de", "en", "es", "fr", "it", "nl", "pt"};
const int slm2_langid_lengths[SLM2_LANGID_N_LENGTH] = {20, 50, 100, 200, 500, 0};

/* The bundled model, our own work; made from assets/corpus. */
__asm__(".pushsection .rodata\n"
        ".global slm2_langid_bytes\n"
        ".global slm2_langid_bytes_end\n"
        "slm2_langid_bytes:\n"
        ".incbin \"assets/langid.bin\"\n"
        "slm2_langid_bytes_end:\n"
        ".byte 0\n"
        ".popsection\n");
extern const char slm2_langid_bytes[], slm2_langid_bytes_end[];

struct slm2_langid {
    uint16_t row[N_GRAM]; /* of a trigram; 0: unseen */
    uint8_t (*cost)[N];   /* [n_row] -ln p in 1/UNIT nat */
    double threshold[N];  /* of the mean, nats */
    char sha256[65];
};

/* ---- text to trigrams ------------------------------------------------------------------------------------------------------ */
static int symbol_of(int32_t cp)
{
    static const int32_t accented[OTHER_LETTER - ACCENTED] = {0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee,
                                                              0xef, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xff, 0xdf, 0x153};
    if (cp < 0) return SIGN;
    if (cp < 0x80) {
        int low = cp | 0x20;
        if (low >= 'a' && low <= 'z') return 1 + low - 'a';
        if (cp >= '0' && cp <= '9') return DIGIT;
        if (cp <= ' ' || cp == 0x7f) return SPACE;
        return cp == '\'' ? APOSTROPHE : strchr(".,;:!?", cp) ? STOP : SIGN;
    }
    if (cp == 0x2019) return APOSTROPHE;
    int32_t low = utf8proc_tolower(cp);
    for (int i = 0; i < OTHER_LETTER - ACCENTED; i++) {
        if (accented[i] == low) return ACCENTED + i;
    }
    utf8proc_category_t c = utf8proc_category(cp);
    if (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_ME) return OTHER_LETTER;
    if (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO) return DIGIT;
    return c >= UTF8PROC_CATEGORY_ZS || c == UTF8PROC_CATEGORY_CN ? SPACE : SIGN;
}

struct walk { /* over the trigrams of a text */
    const uint8_t *s;
    size_t n, at;
    int chars, last; /* characters taken; the last symbol */
    uint32_t gram;
};

/* The text is as if between spaces.  False at its end. */
static bool next_gram(struct walk *w)
{
    while (w->chars < MAX_CHARS && w->at <= w->n) {
        int symbol = SPACE;
        if (w->at == w->n) {
            w->at++;
        } else if (w->s[w->at] < 0x80) {
            symbol = symbol_of(w->s[w->at++]);
        } else {
            int32_t cp;
            w->at += slm2_utf8_next(w->s + w->at, w->n - w->at, &cp);
            symbol = symbol_of(cp);
        }
        if (symbol == SPACE && w->last == SPACE) continue;
        w->gram = (w->gram * N_SYMBOL + (uint32_t)symbol) % N_GRAM;
        w->last = symbol;
        if (++w->chars >= 2) return true;
    }
    return false;
}

static struct walk start_walk(const char *text, size_t n) { return (struct walk){.s = (const uint8_t *)text, .n = n, .last = SPACE}; }

/* ---- judging ---------------------------------------------------------------------------------------------------------------- */
/* Sums of -ln p in 1/UNIT nat; the number of trigrams. */
static int64_t sum_costs(const struct slm2_langid *l, const char *text, size_t n, int64_t sum[N])
{
    struct walk w = start_walk(text, n);
    int64_t k = 0;
    memset(sum, 0, N * sizeof *sum);
    for (; next_gram(&w); k++) {
        const uint8_t *cost = l->cost[l->row[w.gram]];
        for (int c = 0; c < N; c++) sum[c] += cost[c];
    }
    return k;
}

struct slm2_langid_guess slm2_langid_of(const struct slm2_langid *l, const char *text, size_t n)
{
    int64_t sum[N], k = sum_costs(l, text, n, sum);
    int best = 0;
    double total = 0;
    for (int c = 1; c < N; c++) {
        if (sum[c] < sum[best]) best = c;
    }
    if (k == 0 || (double)sum[best] > l->threshold[best] * UNIT * (double)k) return (struct slm2_langid_guess){-1, 0};
    for (int c = 0; c < N; c++) total += exp(SHARPNESS / UNIT * (double)(sum[best] - sum[c]));
    return (struct slm2_langid_guess){best, 1 / total};
}

int slm2_langid_index(const char *name)
{
    for (int c = 0; c < N; c++) {
        if (strcmp(slm2_langid_names[c], name) == 0) return c;
    }
    return -1;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------ */
static slm2_status take_model(struct slm2_langid *l, const void *bytes, size_t n, const char *what, struct slm2_err *err)
{
    struct slm2_rd r;
    uint32_t before = 0;
    slm2_rd_init(&r, bytes, n, what);
    const uint8_t *m = slm2_rd_bytes(&r, sizeof magic - 1);
    if (m && memcmp(m, magic, sizeof magic - 1) != 0) slm2_rd_fail(&r, "is not a language model: it does not begin with \"slm2-langid 1\"");
    uint32_t n_row = slm2_rd_u32(&r);
    if (slm2_rd_ok(&r) && (n_row == 0 || n_row > UINT16_MAX)) slm2_rd_fail(&r, "%u rows, want 1 to %d", (unsigned)n_row, UINT16_MAX);
    for (int c = 0; c < N; c++) l->threshold[c] = slm2_rd_u16(&r) / 1024.0;
    if (slm2_rd_ok(&r) && !(l->cost = calloc(n_row, sizeof *l->cost))) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", what);
    for (uint32_t i = 0; slm2_rd_ok(&r) && i < n_row; i++) {
        uint32_t gram = i ? slm2_rd_u32(&r) : 0;
        const uint8_t *cost = slm2_rd_bytes(&r, N);
        if (!cost) break;
        if (i && (gram >= N_GRAM || (i > 1 && gram <= before))) {
            slm2_rd_fail(&r, "row %u has trigram %u, want above %u and below %d", (unsigned)i, (unsigned)gram, (unsigned)before, N_GRAM);
            break;
        }
        memcpy(l->cost[i], cost, N);
        if (i) l->row[gram] = (uint16_t)i;
        before = gram;
    }
    if (slm2_rd_ok(&r) && r.at < r.n) slm2_rd_fail(&r, "%zu bytes too many", r.n - r.at);
    return slm2_rd_status(&r, err);
}

slm2_status slm2_langid_parse(struct slm2_langid **out, const void *bytes, size_t n, const char *what, struct slm2_err *err)
{
    *out = NULL;
    struct slm2_langid *l = calloc(1, sizeof *l);
    if (!l) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", what);
    slm2_status st = take_model(l, bytes, n, what, err);
    if (st != SLM2_OK) {
        slm2_langid_free(l);
        return st;
    }
    slm2_sha256_hex(bytes, n, l->sha256);
    *out = l;
    return SLM2_OK;
}

const char *slm2_langid_sha256(const struct slm2_langid *l) { return l->sha256; }

slm2_status slm2_langid_open(struct slm2_langid **l, const char *path, struct slm2_err *err)
{
    struct slm2_map m;
    if (!path) return slm2_langid_parse(l, slm2_langid_bytes, (size_t)(slm2_langid_bytes_end - slm2_langid_bytes), "bundled language model", err);
    SLM2_TRY(slm2_map_open(&m, path, err));
    slm2_status st = slm2_langid_parse(l, m.p, m.n, path, err);
    slm2_map_close(&m);
    return st;
}

void slm2_langid_free(struct slm2_langid *l)
{
    if (!l) return;
    free(l->cost);
    free(l);
}

/* ---- training and testing --------------------------------------------------------------------------------------------------- */
typedef void doc_fn(void *user, int lang, const char *text, size_t n);

/* fn for the documents of DIR/NAME.jsonl: the held-out fifth, or the others. */
static slm2_status for_documents(const char *dir, bool held_out, doc_fn *fn, void *user, struct slm2_err *err)
{
    for (int c = 0; c < N; c++) {
        struct slm2_corpus *corpus;
        struct slm2_doc doc;
        char path[4096], leaf[32];
        bool more;
        int64_t k = 0;
        snprintf(leaf, sizeof leaf, "%s.jsonl", slm2_langid_names[c]);
        SLM2_TRY(slm2_path_join(path, sizeof path, dir, leaf, err));
        SLM2_TRY(slm2_corpus_open(&corpus, path, SLM2_CORPUS_JSONL, 0, err));
        slm2_status st;
        while ((st = slm2_corpus_next(corpus, &doc, &more, err)) == SLM2_OK && more) {
            if (doc.verdict == SLM2_LINE_OK && (k++ % HELD_OUT == HELD_OUT - 1) == held_out) fn(user, c, doc.text, doc.n);
        }
        slm2_corpus_close(corpus);
        SLM2_TRY(st);
    }
    return SLM2_OK;
}

struct trainer {
    uint32_t (*count)[N]; /* [N_GRAM] */
    const struct slm2_langid *l;
    double *mean[N];      /* of pieces of PIECE characters under their own class, nats */
    size_t n_mean[N], cap[N];
    bool failed;
};

static void count_grams(void *user, int lang, const char *text, size_t n)
{
    struct trainer *t = user;
    for (size_t at = 0; at < n;) { /* all of the text, MAX_CHARS at a time */
        struct walk w = start_walk(text + at, n - at);
        while (next_gram(&w)) t->count[w.gram][lang]++;
        at += w.at > n - at ? n - at : w.at;
    }
}

/* Bytes of the first `chars` characters of text. */
static size_t prefix_bytes(const char *text, size_t n, int chars)
{
    size_t at = 0;
    while (at < n && (chars > 0 || ((uint8_t)text[at] & 0xc0) == 0x80)) chars -= ((uint8_t)text[at++] & 0xc0) != 0x80;
    return at;
}

static void collect_means(void *user, int lang, const char *text, size_t n)
{
    struct trainer *t = user;
    int64_t sum[N];
    for (size_t at = 0, k; at < n; at += k) {
        k = prefix_bytes(text + at, n - at, PIECE);
        if (k < PIECE) break;
        if (t->n_mean[lang] == t->cap[lang]) {
            size_t cap = t->cap[lang] ? 2 * t->cap[lang] : 1024;
            double *p = realloc(t->mean[lang], cap * sizeof *p);
            if (!p) {
                t->failed = true;
                return;
            }
            t->mean[lang] = p;
            t->cap[lang] = cap;
        }
        int64_t grams = sum_costs(t->l, text + at, k, sum);
        if (grams > PIECE / 2) t->mean[lang][t->n_mean[lang]++] = (double)sum[lang] / UNIT / (double)grams;
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint8_t cost_of(double p)
{
    double cost = round(-log(p) * UNIT);
    return (uint8_t)(cost > 255 ? 255 : cost);
}

static void put_le(struct slm2_buf *out, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) slm2_buf_putc(out, (char)(v >> 8 * i));
}

/* The model with these thresholds appended to out. */
static void write_model(const struct trainer *t, const double threshold[N], struct slm2_buf *out)
{
    double total[N];
    uint32_t n_row = 1;
    for (int c = 0; c < N; c++) total[c] = ALPHA * N_GRAM;
    for (int g = 0; g < N_GRAM; g++) {
        uint32_t all = 0;
        for (int c = 0; c < N; c++) {
            total[c] += t->count[g][c];
            all += t->count[g][c];
        }
        n_row += all >= MIN_COUNT;
    }
    slm2_buf_puts(out, magic);
    put_le(out, n_row, 4);
    for (int c = 0; c < N; c++) put_le(out, (uint32_t)(threshold[c] * 1024), 2);
    for (int c = 0; c < N; c++) slm2_buf_putc(out, (char)cost_of(ALPHA / total[c]));
    for (int g = 0; g < N_GRAM; g++) {
        uint32_t all = 0;
        for (int c = 0; c < N; c++) all += t->count[g][c];
        if (all < MIN_COUNT) continue;
        put_le(out, (uint32_t)g, 4);
        for (int c = 0; c < N; c++) slm2_buf_putc(out, (char)cost_of((t->count[g][c] + ALPHA) / total[c]));
    }
}

/* First with thresholds out of reach; then they are set MARGIN above the mean that all but one in 200 pieces of the class stay below. */
static slm2_status train(struct trainer *t, const char *dir, struct slm2_buf *out, struct slm2_err *err)
{
    struct slm2_buf first = {0};
    struct slm2_langid *l = NULL;
    double threshold[N];
    for (int c = 0; c < N; c++) threshold[c] = 63;
    slm2_status st = for_documents(dir, false, count_grams, t, err);
    if (st == SLM2_OK) {
        write_model(t, threshold, &first);
        st = slm2_buf_check(&first, err);
    }
    if (st == SLM2_OK) st = slm2_langid_parse(&l, first.v, first.n, "new language model", err);
    t->l = l;
    if (st == SLM2_OK) st = for_documents(dir, false, collect_means, t, err);
    if (st == SLM2_OK && t->failed) st = slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", dir);
    for (int c = 0; st == SLM2_OK && c < N; c++) {
        if (t->n_mean[c] == 0) {
            st = slm2_fail(err, SLM2_EFORMAT, "%s/%s.jsonl: no document of %d characters to learn from", dir, slm2_langid_names[c], PIECE);
            break;
        }
        qsort(t->mean[c], t->n_mean[c], sizeof *t->mean[c], compare);
        threshold[c] = t->mean[c][t->n_mean[c] - 1 - t->n_mean[c] / 200] + MARGIN;
    }
    if (st == SLM2_OK) {
        write_model(t, threshold, out);
        st = slm2_buf_check(out, err);
    }
    slm2_langid_free(l);
    slm2_buf_free(&first);
    return st;
}

slm2_status slm2_langid_train(const char *dir, struct slm2_buf *out, struct slm2_err *err)
{
    struct trainer t = {.count = calloc(N_GRAM, sizeof *t.count)};
    slm2_status st = t.count ? train(&t, dir, out, err) : slm2_fail(err, SLM2_ENOMEM, "out of memory for %d counts", N_GRAM);
    for (int c = 0; c < N; c++) free(t.mean[c]);
    free(t.count);
    return st;
}

struct tester { const struct slm2_langid *l; struct slm2_langid_test *t; };

static void test_pieces(void *user, int lang, const char *text, size_t n)
{
    struct tester *t = user;
    for (int i = 0; i < SLM2_LANGID_N_LENGTH; i++) {
        for (size_t at = 0, k; at < n; at += k) {
            k = slm2_langid_lengths[i] ? prefix_bytes(text + at, n - at, slm2_langid_lengths[i]) : n;
            if (k < (size_t)slm2_langid_lengths[i]) break; /* the rest */
            t->t->pieces[lang][i]++;
            t->t->right[lang][i] += slm2_langid_of(t->l, text + at, k).lang == lang;
        }
    }
}

slm2_status slm2_langid_measure(const struct slm2_langid *l, const char *dir, struct slm2_langid_test *t, struct slm2_err *err)
{
    *t = (struct slm2_langid_test){0};
    struct tester user = {l, t};
    return for_documents(dir, true, test_pieces, &user, err);
}
