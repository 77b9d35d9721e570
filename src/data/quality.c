/* quality.c - rules over what measure.c measured, and over the language identified. */
#include "data/quality.h"

#include <stddef.h>
#include <string.h>

enum { MIN, MAX };
static const struct { const char *name; int side; size_t measure; } rules[] = {
#define X(rule, side, measure, help) {#rule, side, offsetof(struct slm2_text_measure, measure)},
    SLM2_QUALITY_RULES(X)
#undef X
};

#define F(field) offsetof(struct slm2_quality_opts, field)
const struct slm2_opt slm2_quality_table[] = {
    {.name = "name", .type = SLM2_OPT_STR, .offset = F(name), .def = "!", .help = "name of the set of rules, for sources"},
#define X(rule, side, measure, text) \
    {.name = #rule, .type = SLM2_OPT_DOUBLE, .offset = F(limit) + SLM2_QUALITY_##rule * sizeof(double), .lo = -1, .hi = 1e15, .def = "-1", .help = text},
    SLM2_QUALITY_RULES(X)
#undef X
    {.name = "langs", .type = SLM2_OPT_STRS, .offset = F(langs), .help = "the text must be in one of these by its trigrams: de en es fr it nl pt code unknown"},
    {.name = "min_lang_score", .type = SLM2_OPT_DOUBLE, .offset = F(min_lang_score), .lo = 0, .hi = 1, .def = "0", .help = "how far the language must be ahead of the others, unknown ones never are; FineWeb 0.65"},
    {.name = "lang_match", .type = SLM2_OPT_BOOL, .offset = F(lang_match), .def = "false", .help = "it must be the language that the record or the source names"},
    {.name = NULL}};
#undef F

const char *slm2_quality_rule_name(enum slm2_quality_rule rule)
{
    if (rule < SLM2_QUALITY_langs) return rules[rule].name;
    return rule == SLM2_QUALITY_langs ? "langs" : rule == SLM2_QUALITY_min_lang_score ? "min_lang_score" : rule == SLM2_QUALITY_lang_match ? "lang_match" : "passed";
}

static const char *allowed(const struct slm2_quality_opts *o, int i) { return ((char *const *)o->langs.items)[i]; }

slm2_status slm2_quality_check(const struct slm2_quality_opts *o, struct slm2_err *err)
{
    for (int i = 0; i < o->langs.n; i++) {
        if (slm2_langid_index(allowed(o, i)) < 0 && strcmp(allowed(o, i), "unknown") != 0) {
            return slm2_fail(err, SLM2_EUSAGE, "filter %s: language \"%.40s\", want some of de en es fr it nl pt code unknown", o->name, allowed(o, i));
        }
    }
    return SLM2_OK;
}

bool slm2_quality_needs_langid(const struct slm2_quality_opts *o) { return o->langs.n > 0 || o->min_lang_score > 0 || o->lang_match; }

void slm2_quality_key(const struct slm2_quality_opts *o, struct slm2_buf *out)
{
    for (int i = 0; i < SLM2_QUALITY_langs; i++) {
        if (o->limit[i] >= 0) slm2_buf_printf(out, "%s %.17g\n", rules[i].name, o->limit[i]);
    }
    for (int i = 0; i < o->langs.n; i++) slm2_buf_printf(out, "lang %s\n", allowed(o, i));
    slm2_buf_printf(out, "%.17g %d\n", o->min_lang_score, o->lang_match);
}

static bool uses(const struct slm2_quality_opts *o, enum slm2_quality_rule from, enum slm2_quality_rule to)
{
    for (int i = (int)from; i < (int)to; i++) {
        if (o->limit[i] >= 0) return true;
    }
    return false;
}

static bool is_broken(const struct slm2_quality_opts *o, int i, const struct slm2_text_measure *m)
{
    double value;
    if (o->limit[i] < 0 || (i == SLM2_QUALITY_min_stop_words && !m->has_stop_list)) return false;
    memcpy(&value, (const char *)m + rules[i].measure, sizeof value);
    return rules[i].side == MIN ? value < o->limit[i] : value > o->limit[i];
}

static enum slm2_quality_rule first_broken(const struct slm2_quality_opts *o, const struct slm2_text_measure *m, int from, int to)
{
    for (int i = from; i < to; i++) {
        if (is_broken(o, i, m)) return (enum slm2_quality_rule)i;
    }
    return SLM2_QUALITY_PASSED;
}

static bool is_listed(const struct slm2_quality_opts *o, const char *lang)
{
    for (int i = 0; i < o->langs.n; i++) {
        if (strcmp(allowed(o, i), lang) == 0) return true;
    }
    return false;
}

/* A text in no known language is ahead in none: it passes a least score only where "unknown" is asked for. */
static bool is_sure(const struct slm2_quality_opts *o, struct slm2_langid_guess g)
{
    return o->min_lang_score <= 0 || (g.lang >= 0 ? g.score >= o->min_lang_score : is_listed(o, "unknown"));
}

slm2_status slm2_quality_judge(const struct slm2_quality_opts *o, const struct slm2_langid *l, struct slm2_quality_work *w, const char *text, size_t n, const char *lang,
                              struct slm2_quality_verdict *v, struct slm2_err *err)
{
    struct slm2_text_measure m;
    struct slm2_langid_guess g = {-1, 0};
    *v = (struct slm2_quality_verdict){.broken = SLM2_QUALITY_PASSED};
    if (slm2_quality_needs_langid(o)) {
        g = slm2_langid_of(l, text, n);
        v->lang = g.lang < 0 ? "unknown" : slm2_langid_names[g.lang];
    }
    if (uses(o, (enum slm2_quality_rule)0, SLM2_QUALITY_langs)) {
        SLM2_TRY(slm2_text_measure(&m, w, text, n, *lang || !v->lang ? lang : v->lang, err));
        v->broken = first_broken(o, &m, 0, SLM2_QUALITY_max_top_2gram);
        if (v->broken != SLM2_QUALITY_PASSED) return SLM2_OK;
    }
    if (uses(o, SLM2_QUALITY_max_top_2gram, SLM2_QUALITY_langs)) { /* the costly ones, for what is left */
        SLM2_TRY(slm2_text_measure_n_grams(&m, w, err));
        v->broken = first_broken(o, &m, SLM2_QUALITY_max_top_2gram, SLM2_QUALITY_langs);
        if (v->broken != SLM2_QUALITY_PASSED) return SLM2_OK;
    }
    if (!v->lang) return SLM2_OK;
    if (o->langs.n > 0 && !is_listed(o, v->lang)) v->broken = SLM2_QUALITY_langs;
    else if (!is_sure(o, g)) v->broken = SLM2_QUALITY_min_lang_score;
    else if (o->lang_match && *lang && strcmp(lang, v->lang) != 0) v->broken = SLM2_QUALITY_lang_match;
    return SLM2_OK;
}
