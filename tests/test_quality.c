/* test_quality.c - what the quality rules measure, on texts small enough to count by hand; the language model; builds with filters. */
#include "scratch_dir.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "data/build.h"
#include "data/verify.h"
#include "data/quality.h"

static struct slm2_text_measure measure(const char *text, const char *lang)
{
    struct slm2_text_measure m;
    struct slm2_err err = {0};
    struct slm2_quality_work *w = slm2_quality_work_new();
    assert_non_null(w);
    char *copy = malloc(strlen(text) + (*text == 0)); /* a block of its own: the sanitizer sees its end */
    memcpy(copy, text, strlen(text));
    /* measured twice: what is left in the working memory has no effect */
    for (int i = 0; i < 2; i++) {
        check_ok(slm2_text_measure(&m, w, copy, strlen(text), lang, &err), &err);
        check_ok(slm2_text_measure_n_grams(&m, w, &err), &err);
    }
    free(copy);
    slm2_quality_work_free(w);
    return m;
}

static void near(double value, double want)
{
    if (fabs(value - want) > 1e-12) fail_msg("%.15g, want %.15g", value, want);
}

static void test_words(void **state)
{
    (void)state;
    struct slm2_text_measure m = measure("The Größe of 12 ###, \u2026 and (the) end.", "en");
    near(m.words, 9);
    near(m.mean_word, (3 + 5 + 2 + 2 + 4 + 1 + 3 + 5 + 4) / 9.0);
    near(m.hash_ratio, 3 / 9.0);
    near(m.alpha_words, 6 / 9.0);
    near(m.stop_words, 4); /* The of and (the) */
    near(m.digits, 2 / 29.0);
    near(m.symbols, 3 / 29.0);
    assert_true(m.has_stop_list);
    m = measure("... a...b .... {x} {", "de");
    near(m.hash_ratio, 3 / 5.0); /* dots in a row count once */
    near(m.braces, 2);
    near(m.stop_words, 0);
    assert_false(measure("x", "sv").has_stop_list);
    m = measure("NÃO é o que O autor das coisas não diz, são", "pt");
    near(m.stop_words, 5); /* o que O não são: upper case counts for ASCII letters only */
    m = measure("Lorem Ipsum dolor, lorem ipsu lorem  ipsum lorem ipsum", "en");
    near(m.lorem_ipsum, 2);
    m = measure("", "en");
    near(m.words, 0);
    near(m.dup_gram[0], 0);
    near(measure("\xff\xfe bytes \xc3", "en").words, 3);
}

static void test_lines(void **state)
{
    (void)state;
    struct slm2_text_measure m = measure("A line of more than thirty characters.\n\n- a bullet\n  \u2022 another\nto be continued...\nend\u2026\nSo it is, \u201cis it?\u201d\n", "en");
    near(m.bullet_lines, 2 / 6.0);
    near(m.ellipsis_lines, 2 / 6.0);
    near(m.punct_lines, 3 / 6.0);
    near(m.short_lines, 5 / 6.0);
    near(m.sentences, 2); /* the first line's end, continued... */
    m = measure("one\ntwo\none\n\nthree\nthree\n\none\ntwo\none\n", "en");
    near(m.dup_lines, 5 / 8.0);
    near(m.dup_line_chars, (3 + 5 + 3 + 3 + 3) / 28.0);
    near(m.dup_paragraphs, 1 / 3.0);
    near(m.dup_paragraph_chars, 11 / 33.0);
}

static void test_n_grams(void **state)
{
    (void)state;
    struct slm2_text_measure m = measure("a b c a b d a b", "en");
    near(m.top_gram[0], 3 * 2 / 8.0); /* a b, three times */
    near(m.top_gram[1], 0);           /* none comes twice */
    m = measure("aa b cc d e x aa b cc d e y", "en");
    near(m.dup_gram[0], 7 / 16.0); /* aa b cc d e */
    near(m.dup_gram[1], 0);
    near(m.top_gram[2], 2 * 6 / 16.0); /* aa b cc d */
    m = measure("w w w w w w w w w w w w", "en"); /* 12 times: 5 words are seen at 0, come again at 1 and 6 */
    near(m.dup_gram[0], 10 / 12.0);
    near(m.dup_gram[5], 10 / 12.0);
    near(measure("a b c d", "en").dup_gram[0], 0);
}

static const char good[] = "The people of the village have always said that it is best to wait and see what the weather will be.\n"
                           "They walk with their children down to the river, and they talk of the old days. It is a quiet place!\n";

static struct slm2_quality_verdict judge(const struct slm2_quality_opts *o, const struct slm2_langid *l, const char *text, const char *lang)
{
    struct slm2_quality_verdict v;
    struct slm2_err err = {0};
    struct slm2_quality_work *w = slm2_quality_work_new();
    check_ok(slm2_quality_judge(o, l, w, text, strlen(text), lang, &v, &err), &err);
    slm2_quality_work_free(w);
    return v;
}

/* Each rule alone: a limit that the text just meets, and one just beyond. */
static void test_each_rule(void **state)
{
    (void)state;
    struct slm2_quality_opts o = {0};
    struct slm2_text_measure m = measure(good, "en");
    struct { enum slm2_quality_rule rule; double value, step; } cases[] = {
#define X(rule, side, measure, help) {SLM2_QUALITY_##rule, m.measure, #side[1] == 'I' ? 1e-9 : -1e-9},
        SLM2_QUALITY_RULES(X)
#undef X
    };
    slm2_conf_init(slm2_quality_table, &o);
    assert_int_equal(judge(&o, NULL, good, "en").broken, SLM2_QUALITY_PASSED);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double *limit = &o.limit[cases[i].rule];
        *limit = cases[i].value;
        if (judge(&o, NULL, good, "en").broken != SLM2_QUALITY_PASSED) fail_msg("%s %g", slm2_quality_rule_name(cases[i].rule), *limit);
        *limit += cases[i].step;
        if (*limit >= 0) assert_int_equal(judge(&o, NULL, good, "en").broken, cases[i].rule);
        *limit = -1;
    }
    o.limit[SLM2_QUALITY_min_stop_words] = 100;
    assert_int_equal(judge(&o, NULL, good, "sv").broken, SLM2_QUALITY_PASSED); /* no list, no rule */
    slm2_conf_free(slm2_quality_table, &o);
}

/* Sentences of our own, of another kind than the corpus sample. */
static const struct { const char *lang, *text; } sentences[] = {
    {"en", "Last night we went to the woods to watch the sun go down, but it was too dark already and we walked home."},
    {"de", "Gestern Abend gingen wir in den Wald, um den Sonnenuntergang zu sehen, aber es war schon zu dunkel."},
    {"es", "Ayer por la noche fuimos al bosque a ver la puesta de sol, pero ya estaba demasiado oscuro y volvimos a casa."},
    {"fr", "Hier soir nous sommes allés dans la forêt pour voir le coucher du soleil, mais il faisait déjà trop sombre."},
    {"it", "Ieri sera siamo andati nel bosco a vedere il tramonto, ma era già troppo buio e siamo tornati a casa."},
    {"nl", "Gisteravond gingen we naar het bos om de zonsondergang te zien, maar het was al te donker."},
    {"pt", "Ontem à noite fomos à floresta ver o pôr do sol, mas já estava muito escuro e tivemos de voltar para casa."},
    {"code", "for (int i = 0; i < n; i++) {\n    if (x[i] != NULL && x[i]->next == NULL) return -1;\n    sum += x[i]->size * sizeof(int);\n}\n"},
    {"unknown", "Wczoraj wieczorem poszliśmy do lasu, żeby zobaczyć, jak zachodzi słońce, ale było już za ciemno."},
    {"unknown", "I går kväll gick vi ut i skogen för att se på solnedgången, men det var redan för mörkt och vi fick gå hem igen."},
    {"unknown", "Вчера вечером мы пошли в лес посмотреть на закат, но было уже слишком темно, и нам пришлось вернуться домой."},
    {"unknown", "昨日の夕方、私たちは夕日を見に森へ行きましたが、もう暗すぎたので家に帰りました。"},
};

static void test_langid(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_langid *l;
    check_ok(slm2_langid_open(&l, NULL, &err), &err);
    for (size_t i = 0; i < sizeof sentences / sizeof sentences[0]; i++) {
        struct slm2_langid_guess g = slm2_langid_of(l, sentences[i].text, strlen(sentences[i].text));
        const char *got = g.lang < 0 ? "unknown" : slm2_langid_names[g.lang];
        if (strcmp(got, sentences[i].lang) != 0) fail_msg("\"%s\": %s, want %s", sentences[i].text, got, sentences[i].lang);
        assert_true(g.lang < 0 ? g.score == 0 : g.score > 0.65 && g.score <= 1);
    }
    assert_int_equal(slm2_langid_of(l, "", 0).lang, -1);
    assert_int_equal(slm2_langid_of(l, " \n", 2).lang, -1);
    /* accuracy on what was held out, as docs/DATA.md has it */
    struct slm2_langid_test t;
    int64_t right[SLM2_LANGID_N_LENGTH] = {0}, all[SLM2_LANGID_N_LENGTH] = {0};
    check_ok(slm2_langid_measure(l, "assets/corpus", &t, &err), &err);
    for (int i = 0; i < SLM2_LANGID_N_LENGTH; i++) {
        for (int c = 0; c < SLM2_LANGID_N; c++) {
            right[i] += t.right[c][i];
            all[i] += t.pieces[c][i];
        }
    }
    assert_true((double)right[2] / (double)all[2] > 0.89); /* 100 characters */
    assert_true((double)right[5] / (double)all[5] > 0.99); /* documents */
    slm2_langid_free(l);
}

/* The bundled model is what training gives; damaged ones are refused. */
static void test_langid_model(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_buf made = {0};
    struct slm2_map m;
    struct slm2_langid *l;
    check_ok(slm2_langid_train("assets/corpus", &made, &err), &err);
    check_ok(slm2_map_open(&m, "assets/langid.bin", &err), &err);
    assert_int_equal(m.n, made.n);
    assert_memory_equal(m.p, made.v, made.n);
    slm2_map_close(&m);
    for (size_t n = 0; n < 200; n++) assert_int_equal(slm2_langid_parse(&l, made.v, n, "cut", &err), SLM2_EFORMAT);
    assert_int_equal(slm2_langid_parse(&l, made.v, made.n - 1, "cut", &err), SLM2_EFORMAT);
    made.v[made.n - 9] ^= 0x40; /* in the last row's trigram: beyond the last possible one, or out of order */
    assert_int_equal(slm2_langid_parse(&l, made.v, made.n, "changed", &err), SLM2_EFORMAT);
    slm2_buf_free(&made);
}

static void put_doc(struct slm2_buf *b, const char *text, const char *lang)
{
    json_t *j = json_pack("{s:s}", "text", text);
    if (lang) json_object_set_new(j, "lang", json_string(lang));
    slm2_json_dump(j, b);
    slm2_buf_putc(b, '\n');
    json_decref(j);
}

static slm2_status build(const char *yaml, const char *out, int threads, struct slm2_err *err)
{
    struct slm2_data_opts o = {0};
    check_ok(slm2_file_write(in_dir("data.yml"), yaml, strlen(yaml), err), err);
    slm2_conf_init(slm2_data_table, &o);
    check_ok(slm2_conf_yaml(slm2_data_table, &o, in_dir("data.yml"), err), err);
    free(o.out);
    o.out = strdup(in_dir(out));
    o.n_threads = threads;
    slm2_status st = slm2_data_build(&o, err);
    slm2_conf_free(slm2_data_table, &o);
    return st;
}

static void test_build(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_buf text = {0}, yaml = {0};
    json_t *m;
    put_doc(&text, good, "en");
    put_doc(&text, "too few words", "en");
    put_doc(&text, sentences[1].text, "de");
    put_doc(&text, good, "en");                          /* a duplicate, whatever the filter says */
    put_doc(&text, "too few words", "en");               /* left out again: what a filter left out is not in the set of texts */
    put_doc(&text, sentences[2].text, NULL);             /* its language is identified */
    put_doc(&text, sentences[3].text, "nl");             /* says nl, is fr */
    put_doc(&text, sentences[9].text, "en");             /* sv */
    check_ok(slm2_file_write(in_dir("a.jsonl"), text.v, text.n, &err), &err);
    slm2_buf_clear(&text);
    put_doc(&text, "too few words", "en");
    check_ok(slm2_file_write(in_dir("b.jsonl"), text.v, text.n, &err), &err);
    slm2_buf_printf(&yaml,
                    "out: x\nfilter: web\nfilters:\n  - {name: web, min_words: 5, max_dup_5gram: 0.1, langs: [en, de, es, fr], min_lang_score: 0.5, lang_match: true}\n"
                    "sources:\n  - {name: a, path: %s, split: train}\n  - {name: b, path: %s, filter: none}\n",
                    in_dir("a.jsonl"), in_dir("b.jsonl"));
    check_ok(build(yaml.v, "built", 2, &err), &err);
    check_ok(slm2_json_read(&m, in_dir("built/a.json"), 1 << 20, &err), &err);
    const json_t *by = json_object_get(m, "filtered_by"), *langs = json_object_get(m, "languages"), *found = json_object_get(m, "identified");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(m, "documents"), "train")), 3);
    assert_int_equal(json_integer_value(json_object_get(m, "duplicates")), 1);
    assert_int_equal(json_integer_value(json_object_get(m, "filtered")), 4);
    assert_int_equal(json_integer_value(json_object_get(by, "min_words")), 2);
    assert_int_equal(json_integer_value(json_object_get(by, "lang_match")), 1);
    assert_int_equal(json_integer_value(json_object_get(by, "langs")), 1);
    assert_int_equal(json_integer_value(json_object_get(langs, "es")), 1);
    assert_int_equal(json_integer_value(json_object_get(found, "fr")), 1);
    json_decref(m);
    check_ok(slm2_json_read(&m, in_dir("built/b.json"), 1 << 20, &err), &err);
    assert_int_equal(json_integer_value(json_object_get(m, "duplicates")), 0);
    assert_int_equal(json_integer_value(json_object_get(m, "filtered")), 0);
    json_decref(m);
    check_ok(slm2_dataset_verify(in_dir("built"), 0, &err), &err);
    /* A least score alone: what is in no known language fails it, unless that is asked for.  An empty lang is the source's. */
    for (int unknown = 0; unknown < 2; unknown++) {
        slm2_buf_clear(&text);
        put_doc(&text, sentences[9].text, NULL);
        put_doc(&text, good, "");
        check_ok(slm2_file_write(in_dir("c.jsonl"), text.v, text.n, &err), &err);
        slm2_buf_clear(&yaml);
        slm2_buf_printf(&yaml, "out: x\nfilter: web\nfilters:\n  - {name: web, min_lang_score: 0.65%s}\nsources:\n  - {name: c, path: %s, split: train, lang: en, license: L}\n",
                        unknown ? ", langs: [en, unknown]" : "", in_dir("c.jsonl"));
        check_ok(build(yaml.v, unknown ? "with" : "without", 1, &err), &err);
        check_ok(slm2_json_read(&m, in_dir(unknown ? "with/c.json" : "without/c.json"), 1 << 20, &err), &err);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(m, "filtered_by"), "min_lang_score")), !unknown);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(m, "languages"), "en")), 1 + unknown);
        assert_null(json_object_get(json_object_get(m, "languages"), "unknown"));
        json_decref(m);
    }
    slm2_buf_clear(&yaml);
    slm2_buf_printf(&yaml, "out: x\nfilter: wed\nfilters:\n  - {name: web}\nsources:\n  - {name: a, path: %s}\n", in_dir("a.jsonl"));
    assert_int_equal(build(yaml.v, "bad", 1, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "\"wed\""));
    slm2_buf_clear(&yaml);
    slm2_buf_printf(&yaml, "out: x\nfilters:\n  - {name: web, langs: [xx]}\nsources:\n  - {name: a, path: %s}\n", in_dir("a.jsonl"));
    assert_int_equal(build(yaml.v, "bad", 1, &err), SLM2_EUSAGE);
    slm2_buf_free(&text);
    slm2_buf_free(&yaml);
}

/* The shipped configuration, with one thread and with three: the same bytes. */
static void test_shipped(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_buf yaml = {0};
    char one[65], three[65];
    check_ok(slm2_file_read(&yaml, "configs/data-filtered.yml", 1 << 20, &err), &err);
    check_ok(build(yaml.v, "one", 1, &err), &err);
    check_ok(build(yaml.v, "three", 3, &err), &err);
    check_ok(slm2_sha256_file(in_dir("one/manifest.json"), one, &err), &err);
    check_ok(slm2_sha256_file(in_dir("three/manifest.json"), three, &err), &err);
    assert_string_equal(one, three);
    slm2_buf_free(&yaml);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_words),
    cmocka_unit_test(test_lines),
    cmocka_unit_test(test_n_grams),
    cmocka_unit_test(test_each_rule),
    cmocka_unit_test(test_langid),
    cmocka_unit_test(test_langid_model),
    cmocka_unit_test_setup_teardown(test_build, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_shipped, make_dir, remove_dir),
};
SLM2_TEST_MAIN(tests)
