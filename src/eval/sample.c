/* sample.c - a record of one item in the form of the harness: numbers and truth values of answers are strings there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/report.h"

static json_t *text_of(const struct slm2_buf *b) { return json_stringn(b->v ? b->v : "", b->n); }

/* As Python's str(): the shortest digits that give the same number. */
static json_t *number(double v)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    return json_string(text);
}

static void hash_into(json_t *j, const char *key, const char *text, size_t n)
{
    char hex[65];
    slm2_sha256_hex(text, n, hex);
    json_object_set_new(j, key, json_string(hex));
}

/* The record itself, as json.dumps(doc, indent=2, ensure_ascii=False) writes it. */
static void hash_doc(json_t *j, const json_t *doc)
{
    char *text = json_dumps(doc, JSON_INDENT(2) | JSON_ENCODE_ANY);
    if (text) hash_into(j, "doc_hash", text, strlen(text));
    free(text);
}

static json_t *strings(const struct slm2_conf_list *l)
{
    json_t *list = json_array();
    for (int i = 0; i < l->n; i++) json_array_append_new(list, json_string(((char *const *)l->items)[i]));
    return list;
}

static json_t *arguments(const struct slm2_eval_sample *s)
{
    json_t *j = json_object();
    for (int k = 0; k < s->q->n; k++) {
        char key[32];
        snprintf(key, sizeof key, "gen_args_%d", k);
        json_t *second = s->t->kind == SLM2_TASK_GENERATE ? json_pack("{s:o, s:i, s:b, s:f}", "until", strings(&s->t->stop), "max_gen_toks", s->t->max_new, "do_sample", 0, "temperature", 0.0)
                                                          : text_of(&s->q->v[k].continuation);
        json_object_set_new(j, key, json_pack("{s:o, s:o}", "arg_0", text_of(&s->q->v[k].context), "arg_1", second));
    }
    return j;
}

static bool has_metric(const struct slm2_eval_sample *s, const char *name)
{
    for (int k = 0; k < s->n_metric; k++)
        if (strcmp(s->metric[k], name) == 0) return true;
    return false;
}

json_t *slm2_eval_sample_json(const struct slm2_eval_sample *s)
{
    bool generates = s->t->kind == SLM2_TASK_GENERATE;
    const json_t *doc = slm2_task_item(s->t, s->item), *answer = json_array_get(s->q->answers, 0);
    char gold[24];
    snprintf(gold, sizeof gold, "%d", s->q->gold);
    const char *target = json_is_string(answer) ? json_string_value(answer) : gold;
    json_t *j = json_object(), *resps = json_array(), *filtered = json_array(), *metrics = json_array();
    for (int k = 0; k < s->q->n; k++) {
        const struct slm2_answer *v = &s->answer[k];
        json_t *one = generates ? json_stringn(v->text, v->n_text) : json_pack("[o, s]", number(v->ll), v->is_greedy ? "True" : "False");
        json_array_append_new(resps, json_pack("[O]", one));
        json_array_append_new(filtered, generates ? json_stringn(s->filtered->v ? s->filtered->v : "", s->filtered->n) : json_incref(one));
        json_decref(one);
    }
    json_object_set_new(j, "doc_id", json_integer((json_int_t)s->item));
    json_object_set_new(j, "doc", json_deep_copy(doc));
    json_object_set_new(j, "target", json_string(target));
    json_object_set_new(j, "arguments", arguments(s));
    json_object_set_new(j, "resps", resps);
    json_object_set_new(j, "filtered_resps", filtered);
    json_object_set_new(j, "filter", json_string(*s->filter ? s->filter : "none"));
    json_object_set_new(j, "metrics", metrics);
    hash_doc(j, doc);
    hash_into(j, "prompt_hash", s->q->n && s->q->v[0].context.v ? s->q->v[0].context.v : "", s->q->n ? s->q->v[0].context.n : 0);
    hash_into(j, "target_hash", target, strlen(target));
    for (int k = 0; k < s->n_metric; k++) {
        char name[SLM2_EVAL_NAME];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(s->metric[k], ","), s->metric[k]);
        if (strcmp(name, "mc2") == 0 && s->t->rules == SLM2_RULES_V04 && !has_metric(s, "acc")) snprintf(name, sizeof name, "acc"); /* as harness.c */
        json_array_append_new(metrics, json_string(name));
        json_object_set_new(j, name, json_real(s->value[k]));
    }
    return j;
}

json_t *slm2_eval_document_json(const struct slm2_task *t, size_t item, const json_t *record, const char *scored, size_t n, const struct slm2_ppl *p)
{
    json_t *text = json_stringn(scored, n), *doc = record ? json_deep_copy(record) : json_pack("{s:O}", "text", text), *ll = number(p->sum_logprob), *metrics = strings(&t->metrics);
    json_t *j = json_pack("{s:I, s:o, s:O, s:{s:{s:O}}, s:[[O]], s:[O], s:s, s:o}", "doc_id", (json_int_t)item, "doc", doc, "target", text, "arguments", "gen_args_0", "arg_0", text, "resps", ll, "filtered_resps", ll, "filter", "none",
                          "metrics", metrics);
    hash_doc(j, json_object_get(j, "doc"));
    hash_into(j, "prompt_hash", scored, n);
    hash_into(j, "target_hash", scored, n);
    for (int k = 0; k < t->metrics.n; k++) {
        const char *m = ((char *const *)t->metrics.items)[k];
        int64_t by = strcmp(m, "word_perplexity") == 0 ? p->n_words : strcmp(m, "token_perplexity") == 0 ? p->n_tokens : p->n_bytes;
        json_object_set_new(j, m, json_pack("[f, I]", p->sum_logprob, (json_int_t)by));
    }
    json_decref(text);
    json_decref(ll);
    return j;
}
