/* text.c - escaping and numbers of the report.  Everything a file or a user wrote reaches the page through slm2_html_escape. */
#include "report/text.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the UTF-8 character at s, 0 when there is none. */
static int utf8_len(const unsigned char *s)
{
    int n = s[0] < 0x80 ? 1 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3 : s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0; /* also stops at the closing NUL */
    if (n == 3 && ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F))) return 0; /* too long; a surrogate */
    if (n == 4 && ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))) return 0;
    return n;
}

void slm2_html_escape_short(struct slm2_buf *b, const char *text, int max_chars)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    const unsigned char *s = (const unsigned char *)(text ? text : "");
    for (int k = 0; *s; k++) {
        if (k == max_chars) {
            slm2_buf_puts(b, "\xE2\x80\xA6");
            return;
        }
        int n = utf8_len(s);
        if (n == 0 || (n == 1 && ((*s < 0x20 && *s != '\n' && *s != '\t') || *s == 0x7F))) slm2_buf_puts(b, replacement);
        else if (*s == '&') slm2_buf_puts(b, "&amp;");
        else if (*s == '<') slm2_buf_puts(b, "&lt;");
        else if (*s == '>') slm2_buf_puts(b, "&gt;");
        else if (*s == '"') slm2_buf_puts(b, "&quot;");
        else if (*s == '\'') slm2_buf_puts(b, "&#39;");
        else slm2_buf_put(b, s, (size_t)n);
        s += n ? n : 1;
    }
}

void slm2_html_escape(struct slm2_buf *b, const char *text)
{
    slm2_html_escape_short(b, text, INT_MAX);
}

static const char *dash(char *out)
{
    memcpy(out, "\xE2\x80\x93", 4);
    return out;
}

/* Three significant digits, from 1000 on with a unit. */
static const char *with_unit(char *out, double v, double base, const char *const *unit, int n_unit)
{
    if (!isfinite(v)) return dash(out);
    int k = 0;
    double x = v;
    while (fabs(x) >= base * 0.9995 && k + 1 < n_unit) {
        x /= base;
        k++;
    }
    int digits = k == 0 && x == floor(x) ? 0 : fabs(x) < 9.995 ? 2 : fabs(x) < 99.95 ? 1 : 0;
    snprintf(out, SLM2_TEXT_MAX, "%.*f%s%s", digits, x, *unit[k] ? " " : "", unit[k]);
    return out;
}

const char *slm2_text_count(char *out, double v)
{
    static const char *const unit[] = {"", "k", "M", "G", "T", "P", "E"};
    return with_unit(out, v, 1000, unit, 7);
}

const char *slm2_text_bytes(char *out, double v)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    return with_unit(out, v, 1024, unit, 6);
}

const char *slm2_text_seconds(char *out, double v)
{
    if (!isfinite(v) || fabs(v) > 1e15) return dash(out);
    if (v < 59.95) snprintf(out, SLM2_TEXT_MAX, "%.*f s", v < 9.995 ? 2 : 1, v);
    else {
        long long s = llround(v);
        if (s < 3600) snprintf(out, SLM2_TEXT_MAX, "%lld min %02lld s", s / 60, s % 60);
        else snprintf(out, SLM2_TEXT_MAX, "%lld h %02lld min", s / 3600, s / 60 % 60);
    }
    return out;
}

const char *slm2_text_real(char *out, double v)
{
    if (!isfinite(v)) return dash(out);
    double a = fabs(v);
    if (a >= 1000 && a < 1e6) snprintf(out, SLM2_TEXT_MAX, "%.0f", v);
    else snprintf(out, SLM2_TEXT_MAX, "%.4g", v);
    return out;
}

const char *slm2_text_watt_hours(char *out, double wh)
{
    if (wh >= 1e6) snprintf(out, SLM2_TEXT_MAX, "%.3g MWh", wh / 1e6);
    else if (wh >= 1000) snprintf(out, SLM2_TEXT_MAX, "%.3g kWh", wh / 1000);
    else snprintf(out, SLM2_TEXT_MAX, "%.3g Wh", wh);
    return out;
}

const char *slm2_text_grams(char *out, double g)
{
    if (g >= 1e6) snprintf(out, SLM2_TEXT_MAX, "%.3g t", g / 1e6);
    else if (g >= 1000) snprintf(out, SLM2_TEXT_MAX, "%.3g kg", g / 1000);
    else snprintf(out, SLM2_TEXT_MAX, "%.3g g", g);
    return out;
}
