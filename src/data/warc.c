/* warc.c - the few header fields of a WARC record that a corpus needs. */
#include "data/warc.h"

#include <string.h>
#include <strings.h>

static bool is_named(const char *name, size_t n, const char *want) { return strlen(want) == n && strncasecmp(name, want, n) == 0; }

bool slm2_warc_is_version(const char *line, size_t n) { return n >= 6 && memcmp(line, "WARC/", 5) == 0 && line[5] >= '0' && line[5] <= '9'; }

bool slm2_warc_is(struct slm2_warc_field f, const char *value) { return f.at && is_named(f.at, f.n, value); }

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static bool get_number(struct slm2_warc_field f, uint64_t *out)
{
    *out = 0;
    if (f.n == 0 || f.n > 18) return false; /* 10^18 fits */
    for (size_t i = 0; i < f.n; i++) {
        if (f.at[i] < '0' || f.at[i] > '9') return false;
        *out = *out * 10 + (uint64_t)(f.at[i] - '0');
    }
    return true;
}

bool slm2_warc_head_parse(struct slm2_warc_head *h, const char *text, size_t n)
{
    const char *end = text + n;
    *h = (struct slm2_warc_head){0};
    if (!slm2_warc_is_version(text, n)) return false;
    struct { const char *name; struct slm2_warc_field *to; } want[] = {{"WARC-Type", &h->type}, {"Content-Length", &h->length}, {"WARC-Record-ID", &h->id},
                                                                       {"WARC-Target-URI", &h->uri}, {"WARC-Identified-Content-Language", &h->language}};
    for (const char *p = memchr(text, '\n', n); p && p + 1 < end;) {
        const char *line = p + 1, *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) return false;
        const char *colon = memchr(line, ':', (size_t)(stop - line));
        for (size_t k = 0; colon && k < sizeof want / sizeof want[0]; k++) {
            if (!is_named(line, (size_t)(colon - line), want[k].name) || want[k].to->at) continue;
            const char *from = colon + 1, *to = stop;
            while (from < to && is_blank(*from)) from++;
            while (to > from && is_blank(to[-1])) to--;
            *want[k].to = (struct slm2_warc_field){from, (size_t)(to - from)};
        }
        p = stop;
    }
    return h->type.at && get_number(h->length, &h->content_length);
}

void slm2_warc_language(struct slm2_warc_field f, char out[8])
{
    static const char known[][2][4] = {{"eng", "en"}, {"deu", "de"}, {"spa", "es"}, {"fra", "fr"}, {"ita", "it"}, {"nld", "nl"}, {"por", "pt"}};
    size_t n = 0;
    while (n < f.n && n < 7 && f.at[n] >= 'a' && f.at[n] <= 'z') n++;
    if (n) memcpy(out, f.at, n);
    out[n] = 0;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(out, known[i][0]) == 0) memcpy(out, known[i][1], 3);
    }
}
