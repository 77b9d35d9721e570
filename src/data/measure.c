/* measure.c - what the rules of a filter look at: words, lines, characters, repetitions.  One pass for the characters, lines and words, then
 * one over the words for each length of n-gram. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "data/quality.h"
#include "tok/tok.h"

enum { SHORT_LINE = 30, STOP_BYTES = 8, N_STOP = 12 };
#define MIX UINT64_C(0x9e3779b97f4a7c15)

/* ---- stop words ------------------------------------------------------------------------------------------------------------- */
/* English: those of MassiveText.  The others: very frequent articles, conjunctions and prepositions that are no words of a neighbour. */
static const struct { char lang[4]; const char *word[N_STOP]; } stop_lists[] = {
    {"en", {"the", "be", "to", "of", "and", "that", "have", "with"}},
    {"de", {"der", "die", "das", "und", "ist", "nicht", "mit", "ein", "auf", "für"}},
    {"es", {"el", "los", "las", "que", "del", "una", "por", "con", "para", "y"}},
    {"fr", {"le", "les", "des", "est", "et", "une", "dans", "pour", "qui", "du"}},
    {"it", {"il", "di", "che", "è", "della", "per", "una", "sono", "nel", "gli"}},
    {"nl", {"de", "het", "een", "van", "en", "dat", "niet", "op", "zijn", "voor"}},
    {"pt", {"o", "os", "que", "do", "da", "não", "uma", "em", "para", "são"}},
};

struct stop_set { uint64_t word[N_STOP]; int n; }; /* packed into numbers, STOP_BYTES at most */

static uint64_t pack(const char *s, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)s[i];
        v = v << 8 | (c >= 'A' && c <= 'Z' ? c + 32u : c);
    }
    return v;
}

static struct stop_set stop_set_of(const char *lang)
{
    struct stop_set set = {.n = 0};
    for (size_t i = 0; i < sizeof stop_lists / sizeof stop_lists[0]; i++) {
        if (strcmp(stop_lists[i].lang, lang) != 0) continue;
        for (; set.n < N_STOP && stop_lists[i].word[set.n]; set.n++) set.word[set.n] = pack(stop_lists[i].word[set.n], strlen(stop_lists[i].word[set.n]));
    }
    return set;
}

static bool is_stop_word(const struct stop_set *set, const char *s, size_t n)
{
    while (n > 0 && strchr("\"'(.,;:!?)", s[0]) && s[0]) s++, n--;
    while (n > 0 && strchr("\"'(.,;:!?)", s[n - 1]) && s[n - 1]) n--;
    if (n == 0 || n > STOP_BYTES) return false;
    uint64_t v = pack(s, n);
    for (int i = 0; i < set->n; i++) {
        if (set->word[i] == v) return true;
    }
    return false;
}

/* ---- working memory --------------------------------------------------------------------------------------------------------- */
/* Sums over the words up to one: n-grams are differences of two. */
struct word { uint64_t hash; uint64_t chars; };
struct slot { uint64_t key; uint32_t round, count; };
struct slm2_quality_work {
    struct word *word; /* [n_word + 1], 0 of none first */
    size_t n_word, cap_word;
    struct slot *slot; /* counts of keys; a slot of another round is empty */
    size_t cap_slot;
    uint32_t round;
};

struct slm2_quality_work *slm2_quality_work_new(void) { return calloc(1, sizeof(struct slm2_quality_work)); }

void slm2_quality_work_free(struct slm2_quality_work *w)
{
    if (!w) return;
    free(w->word);
    free(w->slot);
    free(w);
}

/* An empty table with room for n keys. */
static bool start_counting(struct slm2_quality_work *w, size_t n)
{
    size_t want = 64;
    while (want < 2 * n) want *= 2;
    if (w->cap_slot < want || w->round == UINT32_MAX) {
        free(w->slot);
        w->slot = calloc(want > w->cap_slot ? want : w->cap_slot, sizeof *w->slot);
        w->cap_slot = w->slot ? (want > w->cap_slot ? want : w->cap_slot) : 0;
        w->round = 0;
    }
    w->round++;
    return w->slot != NULL;
}

/* How often key came, this time included. */
static uint32_t count(struct slm2_quality_work *w, uint64_t key)
{
    size_t i = (key * MIX >> 20) & (w->cap_slot - 1);
    while (w->slot[i].round == w->round && w->slot[i].key != key) i = (i + 1) & (w->cap_slot - 1);
    if (w->slot[i].round != w->round) w->slot[i] = (struct slot){key, w->round, 0};
    return ++w->slot[i].count;
}

/* Well mixed: sums of these are hashes again. */
static uint64_t hash_bytes(const char *s, size_t n)
{
    uint64_t h = n * MIX;
    for (; n >= 8; s += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, s, 8);
        h = (h ^ v) * MIX;
        h ^= h >> 29;
    }
    uint64_t v = 0;
    memcpy(&v, s, n);
    h = (h ^ v) * MIX;
    return h ^ h >> 32;
}

/* ---- characters and words --------------------------------------------------------------------------------------------------- */
enum kind { SPACE, LETTER, DIGIT, PLAIN, SYMBOL }; /* PLAIN: the usual punctuation of prose */

static enum kind kind_of(int32_t cp)
{
    if (cp < 0) return SYMBOL;
    if (cp < 0x80) {
        if (cp == ' ' || (cp >= '\t' && cp <= '\r')) return SPACE;
        if ((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z') return LETTER;
        if (cp >= '0' && cp <= '9') return DIGIT;
        return cp && strchr(".,;:!?'\"()-", cp) ? PLAIN : SYMBOL;
    }
    utf8proc_category_t c = utf8proc_category(cp);
    if (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_ME) return LETTER;
    if (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO) return DIGIT;
    if (c >= UTF8PROC_CATEGORY_ZS && c <= UTF8PROC_CATEGORY_ZP) return SPACE;
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO ? PLAIN : SYMBOL;
}

static bool add_word(struct slm2_quality_work *w, const char *s, size_t n, uint32_t chars)
{
    if (w->n_word + 1 >= w->cap_word) {
        size_t cap = w->cap_word ? 2 * w->cap_word : 4096;
        struct word *p = realloc(w->word, cap * sizeof *p);
        if (!p) return false;
        w->word = p;
        w->cap_word = cap;
    }
    if (w->n_word == 0) w->word[0] = (struct word){0, 0};
    const struct word *before = &w->word[w->n_word++];
    w->word[w->n_word] = (struct word){before->hash * MIX + hash_bytes(s, n), before->chars + chars};
    return true;
}

static bool is_lorem_ipsum(const char *s, size_t n)
{
    static const char lorem[] = "lorem ipsum";
    size_t i = 0;
    while (i < sizeof lorem - 1 && i < n && (s[i] | 0x20) == lorem[i]) i++;
    return i == sizeof lorem - 1;
}

struct chars { double digits, symbols, hashes, ellipses, with_letter, in_words; };

static bool measure_words(struct slm2_text_measure *m, struct slm2_quality_work *w, const char *text, size_t n, const struct stop_set *stop)
{
    struct chars c = {0};
    size_t from = 0; /* of the word */
    uint32_t chars = 0;
    bool letter = false;
    w->n_word = 0;
    for (size_t i = 0; i <= n;) {
        int32_t cp = ' ';
        size_t k = i < n ? slm2_utf8_next((const uint8_t *)text + i, n - i, &cp) : 1;
        enum kind kind = kind_of(cp);
        if (kind == SPACE) {
            if (chars) {
                if (!add_word(w, text + from, i - from, chars)) return false;
                m->stop_words += is_stop_word(stop, text + from, i - from);
                c.with_letter += letter;
                c.in_words += chars;
            }
            from = i + k;
            chars = 0;
            letter = false;
        } else {
            chars++;
            letter = letter || kind == LETTER;
            c.digits += kind == DIGIT;
            c.symbols += kind == SYMBOL;
            c.hashes += cp == '#';
            c.ellipses += cp == 0x2026;
            m->braces += cp == '{';
            if (cp == '.' && n - i >= 3 && memcmp(text + i, "...", 3) == 0 && (i == 0 || text[i - 1] != '.')) c.ellipses++;
            if ((cp == '.' || cp == '!' || cp == '?') && (i + 1 == n || kind_of((uint8_t)text[i + 1] < 0x80 ? text[i + 1] : 'a') == SPACE)) m->sentences++;
            m->lorem_ipsum += (cp | 0x20) == 'l' && is_lorem_ipsum(text + i, n - i);
        }
        i += k;
    }
    double words = (double)w->n_word;
    m->words = words;
    if (words > 0) {
        m->mean_word = c.in_words / words;
        m->hash_ratio = (c.hashes > c.ellipses ? c.hashes : c.ellipses) / words;
        m->alpha_words = c.with_letter / words;
        m->digits = c.digits / c.in_words;
        m->symbols = c.symbols / c.in_words;
    }
    return true;
}

/* ---- lines ------------------------------------------------------------------------------------------------------------------ */
static size_t count_chars(const char *s, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((uint8_t)s[i] & 0xc0) != 0x80;
    return k;
}

static void trim(const char **s, size_t *n)
{
    while (*n && strchr(" \t\r\n\f\v", **s) && **s) ++*s, --*n;
    while (*n && strchr(" \t\r\n\f\v", (*s)[*n - 1]) && (*s)[*n - 1]) --*n;
}

static bool ends_with(const char *s, size_t n, const char *tail)
{
    size_t k = strlen(tail);
    return n >= k && memcmp(s + n - k, tail, k) == 0;
}

static bool begins_with(const char *s, size_t n, const char *head) { return n >= strlen(head) && memcmp(s, head, strlen(head)) == 0; }

static bool is_bullet(const char *s, size_t n)
{
    static const char *const signs[] = {"- ", "* ", "\u2022", "\u2023", "\u25b6", "\u25c0", "\u25e6", "\u25a0", "\u25a1", "\u25aa", "\u25ab", "\u2013 ", NULL};
    for (int i = 0; signs[i]; i++) {
        if (begins_with(s, n, signs[i])) return true;
    }
    return false;
}

static bool is_sentence_end(const char *s, size_t n)
{
    static const char *const ends[] = {".", "!", "?", "\"", "'", "\u201d", "\u2019", "\u00bb", "\u3002", "\uff01", "\uff1f", NULL};
    for (int i = 0; ends[i]; i++) {
        if (ends_with(s, n, ends[i])) return true;
    }
    return false;
}

/* Where the piece at text[at..n) ends: behind a line break, or behind several. */
static size_t piece_end(const char *text, size_t n, size_t at, bool paragraph)
{
    for (;;) {
        const char *nl = memchr(text + at, '\n', n - at);
        if (!nl) return n;
        at = (size_t)(nl - text) + 1;
        if (!paragraph || (at < n && text[at] == '\n')) return at;
    }
}

/* Shares of pieces, and of characters in them, that came before. */
static bool measure_pieces(struct slm2_text_measure *m, struct slm2_quality_work *w, const char *text, size_t n, bool paragraph)
{
    size_t most = 1;
    double pieces = 0, again = 0, chars = 0, again_chars = 0;
    for (size_t at = 0; at < n; at = piece_end(text, n, at, paragraph)) most++;
    if (!start_counting(w, most)) return false;
    for (size_t at = 0, end; at < n; at = end) {
        end = piece_end(text, n, at, paragraph);
        const char *s = text + at;
        size_t k = end - at;
        trim(&s, &k);
        if (k == 0) continue;
        double length = (double)count_chars(s, k);
        bool came = count(w, hash_bytes(s, k)) > 1;
        pieces++;
        chars += length;
        if (came) again++;
        if (came) again_chars += length;
        if (paragraph) continue;
        m->bullet_lines += is_bullet(s, k);
        m->ellipsis_lines += ends_with(s, k, "...") || ends_with(s, k, "\u2026");
        m->punct_lines += is_sentence_end(s, k);
        m->short_lines += length < SHORT_LINE;
    }
    if (pieces == 0) return true;
    *(paragraph ? &m->dup_paragraphs : &m->dup_lines) = again / pieces;
    *(paragraph ? &m->dup_paragraph_chars : &m->dup_line_chars) = again_chars / chars;
    if (paragraph) return true;
    m->bullet_lines /= pieces;
    m->ellipsis_lines /= pieces;
    m->punct_lines /= pieces;
    m->short_lines /= pieces;
    return true;
}

/* ---- n-grams ---------------------------------------------------------------------------------------------------------------- */
/* The n words behind the i-th; power: MIX^n. */
static uint64_t gram_hash(const struct slm2_quality_work *w, size_t i, size_t n, uint64_t power)
{
    return w->word[i + n].hash - w->word[i].hash * power;
}

static uint64_t gram_chars(const struct slm2_quality_work *w, size_t i, size_t n) { return w->word[i + n].chars - w->word[i].chars; }

static uint64_t power_of(size_t n)
{
    uint64_t p = 1;
    while (n-- > 0) p *= MIX;
    return p;
}

/* The share of characters in the most frequent n-gram; the first of several that are equally frequent.  One that comes once is none. */
static double top_share(struct slm2_quality_work *w, size_t n)
{
    uint32_t most = 1;
    uint64_t chars = 0, power = power_of(n);
    for (size_t i = 0; i + n <= w->n_word; i++) {
        uint32_t times = count(w, gram_hash(w, i, n, power));
        if (times <= most) continue;
        most = times;
        chars = gram_chars(w, i, n);
    }
    return chars == 0 ? 0 : (double)most * (double)chars / (double)w->word[w->n_word].chars;
}

static double repeated_share(struct slm2_quality_work *w, size_t n)
{
    uint64_t again = 0, power = power_of(n);
    for (size_t i = 0; i + n <= w->n_word;) {
        bool came = count(w, gram_hash(w, i, n, power)) > 1;
        if (came) again += gram_chars(w, i, n);
        i += came ? n : 1;
    }
    return (double)again / (double)w->word[w->n_word].chars;
}

static slm2_status no_room(size_t n, struct slm2_err *err) { return slm2_fail(err, SLM2_ENOMEM, "out of memory for the words of a document of %zu bytes", n); }

slm2_status slm2_text_measure(struct slm2_text_measure *m, struct slm2_quality_work *w, const char *text, size_t n, const char *lang, struct slm2_err *err)
{
    struct stop_set stop = stop_set_of(lang);
    *m = (struct slm2_text_measure){.has_stop_list = stop.n > 0};
    bool room = measure_words(m, w, text, n, &stop) && measure_pieces(m, w, text, n, false) && measure_pieces(m, w, text, n, true);
    return room ? SLM2_OK : no_room(n, err);
}

/* Where no n words come twice, no more than n do: then the rest is 0. */
slm2_status slm2_text_measure_n_grams(struct slm2_text_measure *m, struct slm2_quality_work *w, struct slm2_err *err)
{
    bool more = w->n_word > 0;
    for (size_t k = 0; more && k < sizeof m->top_gram / sizeof m->top_gram[0]; k++) {
        if (!start_counting(w, w->n_word)) return no_room(w->n_word, err);
        m->top_gram[k] = top_share(w, 2 + k);
        more = m->top_gram[k] > 0;
    }
    for (size_t k = 0; more && k < sizeof m->dup_gram / sizeof m->dup_gram[0]; k++) {
        if (!start_counting(w, w->n_word)) return no_room(w->n_word, err);
        m->dup_gram[k] = repeated_share(w, 5 + k);
        more = m->dup_gram[k] > 0;
    }
    return SLM2_OK;
}
