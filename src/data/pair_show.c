/* pair_show.c - the account of data sets of pairs: what became of their records, for people and as JSON. */
#include <inttypes.h>
#include <stdio.h>

#include "data/pair.h"

/* "train.orca_dpo_pairs", with a number behind the format from its second source on. */
static void name_of(char *out, size_t cap, const char *list, const struct slm2_pair_source *sources, int i)
{
    const char *format = slm2_pref_formats[sources[i].format];
    int earlier = 0;
    for (int k = 0; k < i; k++) earlier += sources[k].format == sources[i].format;
    if (earlier) snprintf(out, cap, "%s.%s-%d", list, format, earlier + 1);
    else snprintf(out, cap, "%s.%s", list, format);
}

void slm2_pairs_count(const struct slm2_pairs *p, const char *list, const struct slm2_pair_source *sources, int i, struct slm2_pair_count *out)
{
    *out = (struct slm2_pair_count){0};
    name_of(out->name, sizeof out->name, list, sources, i);
    for (int k = 0; k < p->n_file; k++) {
        const struct slm2_pair_file *f = &p->file[k];
        if (f->source != i) continue;
        for (int v = 0; v < SLM2_PREF_N_VERDICT; v++) out->n[v] += f->n[v], out->records += f->n[v];
        out->cut_prompt += f->n_cut_prompt;
        out->cut_answer += f->n_cut_answer;
        out->tokens += f->n_tok;
    }
}

void slm2_pairs_text(const struct slm2_pairs *p, const char *list, const struct slm2_pair_source *sources, int n_sources, struct slm2_buf *out)
{
    for (int i = 0; i < n_sources; i++) {
        struct slm2_pair_count c;
        slm2_pairs_count(p, list, sources, i, &c);
        slm2_buf_printf(out, "%s: records %" PRId64 ", keep %" PRId64, c.name, c.records, c.n[SLM2_PREF_KEEP]);
        for (int v = SLM2_PREF_KEEP + 1; v < SLM2_PREF_N_VERDICT; v++)
            if (c.n[v]) slm2_buf_printf(out, ", %s %" PRId64, slm2_pref_verdicts[v], c.n[v]);
        if (c.cut_prompt) slm2_buf_printf(out, ", cut_prompt %" PRId64, c.cut_prompt);
        if (c.cut_answer) slm2_buf_printf(out, ", cut_answer %" PRId64, c.cut_answer);
        slm2_buf_printf(out, "\n");
    }
}

json_t *slm2_pairs_json(const struct slm2_pairs *p, const char *list, const struct slm2_pair_source *sources, int n_sources)
{
    json_t *all = json_array();
    for (int i = 0; all && i < n_sources; i++) {
        struct slm2_pair_count c;
        slm2_pairs_count(p, list, sources, i, &c);
        json_t *j = json_pack("{s:s, s:s, s:I}", "name", c.name, "format", slm2_pref_formats[sources[i].format], "records", (json_int_t)c.records);
        for (int v = 0; j && v < SLM2_PREF_N_VERDICT; v++) json_object_set_new(j, slm2_pref_verdicts[v], json_integer(c.n[v]));
        const struct { const char *key; int64_t v; } more[] = {{"cut_prompt", c.cut_prompt}, {"cut_answer", c.cut_answer}, {"tokens", c.tokens}};
        for (size_t k = 0; j && k < sizeof more / sizeof more[0]; k++) json_object_set_new(j, more[k].key, json_integer(more[k].v));
        json_array_append_new(all, j);
    }
    return all;
}
