/* test_tasks.c - benchmark tasks without a model: Python's draws, published records, every prompt to the byte, the ids of its two sides.
 *
 * tests/data/eval holds invented records and what must be asked about them, written a second time in Python (make.py).  The published data are
 * not ours to copy: SLM2_EVAL_DATA names their folder (../shared/eval/data unless set); without it these tests say so and are skipped. */
#include "scratch_dir.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "eval/form.h"
#include "eval/pyrandom.h"
#include "tok/pystr.h"
#include "eval/report.h"
#include "eval/show.h"

static struct slm2_tok *tok;

static int begin(void **state) { return make_dir(state) || slm2_tok_open(&tok, NULL, NULL) != SLM2_OK; }
static int end(void **state)
{
    slm2_tok_free(tok);
    return remove_dir(state);
}

static json_t *parse(const char *text)
{
    json_t *j;
    struct slm2_err err;
    check_ok(slm2_json_parse(&j, text, strlen(text), "test", &err), &err);
    return j;
}

static json_t *read_json(const char *path)
{
    json_t *j;
    struct slm2_err err;
    check_ok(slm2_json_read(&j, path, 64 << 20, &err), &err);
    return j;
}

/* All lines of a JSONL file. */
static json_t *read_lines(const char *path)
{
    struct slm2_lines *l;
    struct slm2_err err;
    const char *line;
    size_t n;
    json_t *list = json_array(), *j;
    check_ok(slm2_lines_open(&l, path, &err), &err);
    for (;;) {
        check_ok(slm2_lines_next(l, &line, &n, &err), &err);
        if (!line) break;
        check_ok(slm2_json_parse(&j, line, n, path, &err), &err);
        json_array_append_new(list, j);
    }
    slm2_lines_close(l);
    return list;
}

static void put_file(const char *name, const char *text) { assert_int_equal(slm2_file_write(in_dir(name), text, strlen(text), NULL), SLM2_OK); }

static void assert_same(const json_t *got, const json_t *want, const char *what)
{
    if (json_equal(got, want)) return;
    char *g = json_dumps(got, JSON_ENCODE_ANY), *w = json_dumps(want, JSON_ENCODE_ANY);
    print_error("%s\n got  %s\n want %s\n", what, g, w);
    free(g);
    free(w);
    fail();
}

static const char *text_at(const json_t *j, const char *key) { return json_string_value(json_object_get(j, key)); }
static int64_t int_at(const json_t *j, const char *key) { return json_integer_value(json_object_get(j, key)); }

/* ---- Python ---------------------------------------------------------------------------------------------------------------- */
static json_t *indices(const uint32_t *v, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(v[i]));
    return list;
}

static void assert_indices(const uint32_t *v, size_t n, const json_t *want, const char *what)
{
    json_t *got = indices(v, n);
    assert_same(got, want, what);
    json_decref(got);
}

static void test_random_primitives(void **state)
{
    (void)state;
    json_t *all = read_json(slm2_test_data("eval/rng_golden.json"));
    const json_t *list = json_object_get(all, "primitives"), *p, *x;
    size_t i, k;
    json_array_foreach(list, i, p) {
        struct slm2_pyrandom r;
        uint64_t seed = (uint64_t)int_at(p, "seed");
        uint32_t v[20];
        slm2_pyrandom_seed(&r, seed);
        json_array_foreach(json_object_get(p, "getrandbits32"), k, x) assert_int_equal(slm2_pyrandom_u32(&r), json_integer_value(x));
        slm2_pyrandom_seed(&r, seed);
        json_array_foreach(json_object_get(p, "random"), k, x) assert_true(slm2_pyrandom_real(&r) == strtod(json_string_value(x), NULL));
        slm2_pyrandom_seed(&r, seed);
        json_array_foreach(json_object_get(p, "randbelow_1000"), k, x) assert_int_equal(slm2_pyrandom_below(&r, 1000), json_integer_value(x));
        slm2_pyrandom_seed(&r, seed);
        for (uint32_t n = 0; n < 20; n++) v[n] = n;
        slm2_pyrandom_shuffle(&r, v, 20);
        assert_indices(v, 20, json_object_get(p, "shuffle20"), "shuffle");
        slm2_pyrandom_seed(&r, seed);
        slm2_pyrandom_choices(&r, 20, 10, v);
        assert_indices(v, 10, json_object_get(p, "choices_k10_of_20"), "choices");
    }
    assert_int_equal(json_array_size(list), 3);
    json_decref(all);
    struct slm2_pyrandom r;
    struct slm2_err err;
    uint32_t v[4];
    slm2_pyrandom_seed(&r, 0x100000002); /* two words: random.Random(4294967298).getrandbits(32) */
    assert_int_equal(slm2_pyrandom_u32(&r), 4106135923u);
    assert_int_equal(slm2_pyrandom_sample(&r, 3, 4, v, &err), SLM2_EUSAGE);
}

static void test_random_samples(void **state)
{
    (void)state;
    json_t *all = read_json(slm2_test_data("eval/rng_golden.json"));
    const json_t *list = json_object_get(all, "sampler_v4"), *s, *doc;
    uint32_t idx[64];
    size_t i, k;
    json_array_foreach(list, i, s) {
        struct slm2_pyrandom r;
        slm2_pyrandom_seed(&r, (uint64_t)int_at(s, "seed"));
        json_array_foreach(json_object_get(s, "first_docs"), k, doc) {
            assert_int_equal(slm2_pyrandom_sample(&r, (uint32_t)int_at(s, "N"), (uint32_t)int_at(s, "k"), idx, NULL), SLM2_OK);
            assert_indices(idx, (size_t)int_at(s, "k"), doc, text_at(s, "task"));
        }
    }
    list = json_object_get(all, "leaderboard_v03");
    json_array_foreach(list, i, s) {
        struct slm2_pyrandom r;
        uint32_t n = (uint32_t)int_at(s, "n_docs"), *order = malloc(sizeof *order * n);
        slm2_pyrandom_seed(&r, 42);
        for (uint32_t d = 0; d < n; d++) order[d] = d;
        slm2_pyrandom_shuffle(&r, order, n);
        assert_indices(order, 10, json_object_get(s, "shuffled_first_10"), text_at(s, "task"));
        json_array_foreach(json_object_get(s, "fewshot_first_3"), k, doc) {
            assert_int_equal(slm2_pyrandom_sample(&r, (uint32_t)int_at(s, "N"), (uint32_t)int_at(s, "k"), idx, NULL), SLM2_OK);
            assert_indices(idx, (size_t)int_at(s, "k"), doc, text_at(s, "task"));
        }
        free(order);
    }
    json_decref(all);
}

static void test_strings(void **state)
{
    (void)state;
    static const char spaces[] = "\u3000\u00a0 a b \u2028\x1f";
    assert_int_equal(slm2_py_lstrip(spaces, sizeof spaces - 1), 6);
    assert_int_equal(slm2_py_rstrip(spaces, sizeof spaces - 1), 9);
    assert_int_equal(slm2_py_rstrip("\u200b", 3), 3); /* zero width, not white space */
    assert_int_equal(slm2_py_len("a\u00e9\U0001f600", 7), 3);
    assert_int_equal(slm2_py_split_count("", 0), 1);
    assert_int_equal(slm2_py_split_count(" a  b\n", 6), 4);
    static const struct { const char *in, *want; } caps[] = {{"the Cat", "The cat"}, {"\u00c9COUTEZ \u0130", "\u00c9coutez i\u0307"}, {"\u00dfE", "Sse"}, {"\u01c6A", "\u01c5a"}, {"", ""}, {"[header] How TO", "[header] how to"}};
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        struct slm2_buf b = {0};
        slm2_buf_puts(&b, "");
        slm2_py_capitalize(caps[i].in, strlen(caps[i].in), &b);
        assert_string_equal(b.v, caps[i].want);
        slm2_buf_free(&b);
    }
}

/* ---- templates and filters ------------------------------------------------------------------------------------------------- */
static void test_template(void **state)
{
    (void)state;
    static const struct { const char *tmpl, *want; } cases[] = {
        {"Q: {q}\nA:", "Q: \u00e9?\nA:"}, {"{n} {r} {b}", "7 0.5 true"}, {"{{x}} {o.p}", "{x} deep"}, {"{l.1}-{l.0}", "b-a"}, {"", ""}, {"[{s|strip}]", "[x_y]"}, {"{s|strip|spaces}", "x y"}, {"{s|lstrip}", "x_y "},
        {"{missing}", NULL}, {"{q", NULL}, {"q}", NULL}, {"{}", NULL}, {"{l}", NULL}, {"{l.7}", NULL}, {"{l.x}", NULL}, {"{o.p.q}", NULL}, {"{{q}", NULL}, {"{|strip}", NULL}};
    json_t *item = parse("{\"q\":\"\u00e9?\",\"n\":7,\"r\":0.5,\"b\":true,\"o\":{\"p\":\"deep\"},\"l\":[\"a\",\"b\"],\"s\":\" x_y \"}");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_buf out = {0};
        struct slm2_err err = {0};
        slm2_buf_puts(&out, "");
        slm2_status st = slm2_template_fill(cases[i].tmpl, item, &out, &err);
        assert_int_equal(st, cases[i].want ? SLM2_OK : SLM2_EFORMAT);
        if (cases[i].want) assert_string_equal(out.v, cases[i].want);
        else assert_true(err.msg[0]);
        slm2_buf_free(&out);
    }
    assert_int_equal(slm2_template_check("{q|strip}", NULL), SLM2_OK);
    assert_int_equal(slm2_template_check("{q|stripe}", NULL), SLM2_EFORMAT);
    json_decref(item);
}

static void filter(const char *name, struct slm2_buf *b)
{
    struct slm2_err err;
    check_ok(slm2_filter_check(name, &err), &err);
    check_ok(slm2_filter_apply(name, b, &err), &err);
}

static void test_filters(void **state)
{
    (void)state;
    static const struct { const char *filter, *in, *want; } cases[] = {
        {"strip", " \n a b\t", "a b"}, {"strip", "  ", ""}, {"strip", "\u00a0a\u3000", "a"}, {"lstrip", "\n a ", "a "}, {"first_line", "\n one\ntwo", "one"}, {"first_word", " S\u00ed, se\u00f1or", "S\u00ed,"},
        {"lower", "STRA\u1e9eE \u00dcn\u00ef", "stra\u00dfe \u00fcn\u00ef"}, {"capitalize", "a B", "A b"}, {"no_punctuation", "\u00bfa-b, c!", "ab c"}, {"one_space", "a \n b", "a b"}, {"spaces", "high_school_physics", "high school physics"},
        {"first_number", "it is -1,234.5 or 7", "-1234.5"}, {"last_number", "3 and 14.", "14"}, {"first_number", "none", ""}, {"before:.", "yes. no.", "yes"}, {"after:####", "a #### b #### 7", " 7"}, {"after:zz", "stays", "stays"},
        {"before:zz", "stays", "stays"}, {"delete:,", ",1,,2,", "12"}, {"delete:ab", "aabb", "ab"}, {"drop_end:.", "5..", "5."}, {"drop_end:.", "5", "5"},
        {"match:#### (-?[0-9.,]+)", "x #### -7,5. #### 8", "-7,5."}, {"match:b+", "abba", "bb"}, {"match:x", "abba", "[invalid]"}, {"match:x", "", "[invalid]"}, {"last_match:[0-9]+", "1 and 22", "22"},
        {"last_match:(a)|(b)", "a b", "b"}, {"last_match:x*", "axa", ""}, /* the empty match at the end; it must end at all */
        {"wikihow", "  a [title] b [step]  c   d [open\nx] [] ", "a. b  c  d [open\nx] "}, {"wikihow", "[a] b", " b"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_buf b = {0};
        slm2_buf_puts(&b, cases[i].in);
        filter(cases[i].filter, &b);
        if (strcmp(b.v, cases[i].want) != 0) fail_msg("filter %s of \"%s\": \"%s\", want \"%s\"", cases[i].filter, cases[i].in, b.v, cases[i].want);
        slm2_buf_free(&b);
    }
    struct slm2_err err;
    assert_int_equal(slm2_filter_check("regex", &err), SLM2_EFORMAT);
    assert_int_equal(slm2_filter_check("before:", &err), SLM2_EFORMAT);
    assert_int_equal(slm2_filter_check("match:(", &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "regular expression"));
}

/* Runs a task's filters over the golden responses of GSM8K. */
static void test_gsm8k_filters(void **state)
{
    (void)state;
    struct slm2_task t;
    struct slm2_err err;
    check_ok(slm2_task_define(&t, "configs/tasks/gsm8k.yml", NULL, &err), &err);
    json_t *list = read_lines(slm2_test_data("eval/gsm8k_filters.golden.jsonl")), *j;
    const struct slm2_answer_filter *f = t.filters.items;
    static const char *const keys[2][3] = {{"strict-match", "strict", "strict_match"}, {"flexible-extract", "flexible", "flexible_match"}};
    size_t i;
    assert_int_equal(t.filters.n, 2);
    json_array_foreach(list, i, j) {
        struct slm2_buf b = {0};
        slm2_buf_puts(&b, text_at(j, "reference"));
        for (int s = 0; s < t.normalise.n; s++) filter(((char **)t.normalise.items)[s], &b);
        assert_string_equal(b.v, text_at(j, "normalised_reference"));
        json_t *answers = json_pack("[O]", json_object_get(j, "reference"));
        for (int k = 0; k < 2; k++) {
            bool match[3];
            const char *response = text_at(j, "response");
            assert_string_equal(f[k].name, keys[k][0]);
            slm2_buf_clear(&b);
            slm2_buf_puts(&b, response);
            for (int s = 0; s < f[k].steps.n; s++) filter(((char **)f[k].steps.items)[s], &b);
            assert_string_equal(b.v, text_at(j, keys[k][1]));
            check_ok(slm2_eval_match(&t, &f[k], response, strlen(response), answers, match, &b, &err), &err);
            assert_int_equal(match[0], int_at(j, keys[k][2]));
        }
        json_decref(answers);
        slm2_buf_free(&b);
    }
    assert_int_equal(json_array_size(list), 12);
    json_decref(list);
    slm2_task_free(&t);
}

static void test_match(void **state)
{
    (void)state;
    struct slm2_task t;
    struct slm2_err err;
    put_file("match.yml", "name: s\nkind: generate\nprompt: '{q}'\ndata: items.jsonl\ngold: q\nfilters: [{steps: [first_line]}]\nnormalise: [lower, no_punctuation]\n");
    check_ok(slm2_task_define(&t, in_dir("match.yml"), NULL, &err), &err);
    struct slm2_buf out = {0};
    json_t *gold = json_pack("[s, s]", "The Sun.", "sol");
    bool m[3];
    check_ok(slm2_eval_match(&t, t.filters.items, " the sun\nand", 12, gold, m, &out, &err), &err);
    assert_true(m[0] && m[1] && m[2]);
    assert_string_equal(out.v, "the sun");
    check_ok(slm2_eval_match(&t, t.filters.items, "El SOL!", 7, gold, m, &out, &err), &err);
    assert_true(!m[0] && m[1] && !m[2]);
    check_ok(slm2_eval_match(&t, t.filters.items, "", 0, gold, m, &out, &err), &err);
    assert_true(!m[0] && !m[1] && !m[2]);
    json_decref(gold);
    slm2_buf_free(&out);
    slm2_task_free(&t);
}

/* ---- records --------------------------------------------------------------------------------------------------------------- */
static void test_hellaswag_golden(void **state)
{
    (void)state;
    json_t *list = read_lines(slm2_test_data("eval/hellaswag_preprocess.golden.jsonl")), *j;
    size_t i;
    json_array_foreach(list, i, j) {
        const json_t *want = json_object_get(j, "expected");
        bool skip;
        struct slm2_err err;
        check_ok(slm2_form_apply("hellaswag", j, &skip, &err), &err);
        assert_same(json_object_get(j, "query"), json_object_get(want, "query"), "query");
        assert_same(json_object_get(j, "choices"), json_object_get(want, "choices"), "choices");
    }
    assert_int_equal(json_array_size(list), 3);
    json_decref(list);
}

static void test_forms(void **state)
{
    (void)state;
    static const struct { const char *form, *item, *key, *want; } cases[] = { /* want NULL: refused; "skip": left out */
        {"winogrande", "{\"sentence\":\"a _ b _ c \",\"option1\":\"x\",\"option2\":\"y\"}", "contexts", "[\"a x\",\"a y\"]"},
        {"winogrande", "{\"sentence\":\"a _ b _ c \",\"option1\":\"x\",\"option2\":\"y\"}", "continuation", "\"b _ c\""},
        {"hellaswag", "{\"activity_label\":\"a\",\"ctx_a\":\"b\",\"ctx_b\":\"c\",\"endings\":[\"x\",7]}", "choices", NULL}, {"hellaswag", "{\"activity_label\":\"a\",\"ctx_a\":\"b\"}", "choices", NULL},
        {"winogrande", "{\"sentence\":\"none\",\"option1\":\"x\",\"option2\":\"y\"}", "contexts", NULL},
        {"winogrande", "{\"sentence\":\"a _\",\"option1\":\"x\"}", "contexts", NULL},
        {"wsc273", "{\"text\":\"I saw it. It ran\",\"pronoun\":\"It\",\"pronoun_loc\":10,\"options\":[\"The cat\",\"a dog\"],\"label\":0}", "context_options", "[\"I saw it. The cat\",\"I saw it. a dog\"]"},
        {"wsc273", "{\"text\":\"He lost her hat  .\",\"pronoun\":\"her\",\"pronoun_loc\":8,\"options\":[\"The The man\",\"Theo\"],\"label\":0}", "context_options", "[\"He lost the the man's\",\"He lost Theo's\"]"},
        {"wsc273", "{\"text\":\"He lost her hat  .\",\"pronoun\":\"her\",\"pronoun_loc\":8,\"options\":[\"The The man\",\"Theo\"],\"label\":0}", "continuation", "\"hat .\""},
        {"wsc273", "{\"text\":\"\u00e9\u00e9 it ran\",\"pronoun\":\"it\",\"pronoun_loc\":3,\"options\":[\"x\",\"y\"],\"label\":0}", "continuation", "\"ran\""},
        {"wsc273", "{\"text\":\"It ran.\",\"pronoun\":\"It\",\"pronoun_loc\":0,\"options\":[\"The x\",\"y\"],\"label\":0}", "context_options", "[\"the x\",\"y\"]"}, /* text[-2] is "n": Python's own oddity */
        {"wsc273", "{\"text\":\"it\",\"pronoun\":\"it\",\"pronoun_loc\":9,\"options\":[\"x\",\"y\"],\"label\":0}", "continuation", NULL},
        {"lambada", "{\"text\":\"a  b\"}", "context", "\"a \""}, {"lambada", "{\"text\":\"a \"}", "word", "\"\""}, {"lambada", "{\"text\":\"one\"}", "context", "\"\""}, {"lambada", "{}", "word", NULL},
        {"m_arc", "{\"option_a\":\"p\",\"option_b\":\"q\",\"option_c\":\"\",\"option_d\":\"r\",\"option_e\":\"\",\"answer\":\"B\"}", "choices", "[\"p\",\"q\",\"r\"]"},
        {"m_arc", "{\"option_a\":\"p\",\"option_b\":\"\",\"option_c\":\"\",\"option_d\":\"r\",\"option_e\":null,\"answer\":\"D\"}", "choices", "skip"},
        {"m_arc", "{\"option_a\":\"p\",\"option_b\":\"q\",\"answer\":\"C\"}", "choices", "skip"}, {"m_arc", "{\"answer\":\"F\"}", "choices", NULL},
        {"truthfulqa", "{\"mc1_targets_choices\":[\"a\"],\"mc1_targets_labels\":[1]}", "mc1_targets", "{\"choices\":[\"a\"],\"labels\":[1]}"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *item = parse(cases[i].item);
        bool skip;
        struct slm2_err err;
        slm2_status st = slm2_form_apply(cases[i].form, item, &skip, &err);
        assert_int_equal(st, cases[i].want ? SLM2_OK : SLM2_EFORMAT);
        assert_int_equal(st == SLM2_OK && skip, cases[i].want && strcmp(cases[i].want, "skip") == 0);
        if (st == SLM2_OK && !skip) {
            json_t *want = json_loads(cases[i].want, JSON_DECODE_ANY, NULL);
            assert_same(json_object_get(item, cases[i].key), want, cases[i].item);
            json_decref(want);
        }
        json_decref(item);
    }
}

/* The published text of LogiQA gives the records that its loader gives. */
static void test_logiqa_text(void **state)
{
    (void)state;
    static const char text[] = "\nb\nEvery bird sings.Some are blue.\nWhich must be true?\nA.Every bird\nB.No.bird\nC.Some birds\nD.Only birds \n\nd\nAna, Bo and Cy.Ana is first.\nWho?\nA.Ana\nB.Cy\nC.Nobody\nD.Bo\n";
    struct slm2_task t;
    struct slm2_err err;
    assert_int_equal(slm2_dir_make(in_dir("raw/logiqa"), NULL), SLM2_OK);
    put_file("raw/logiqa/items.txt", text);
    check_ok(slm2_task_open(&t, "configs/tasks/logiqa.yml", &(struct slm2_task_opts){.data_dir = in_dir("raw"), .n_shot = 0, .rules = -1}, &err), &err);
    assert_int_equal(t.n, 2);
    struct slm2_requests r;
    check_ok(slm2_task_requests(&t, 0, &r, &err), &err);
    assert_string_equal(r.v[1].context.v, "Passage: Every bird sings. Some are blue.\nQuestion: Which must be true?\nChoices:\nA. Every bird\nB. No. bird\nC. Some birds\nD. Only birds\nAnswer:");
    assert_string_equal(r.v[1].continuation.v, " No. bird");
    assert_int_equal(r.gold, 1);
    slm2_requests_free(&r);
    check_ok(slm2_task_requests(&t, 1, &r, &err), &err);
    assert_int_equal(r.gold, 3);
    slm2_requests_free(&r);
    slm2_task_free(&t);
    put_file("raw/logiqa/items.txt", "\nb\nContext\n\nQuestion\n");
    assert_int_equal(slm2_task_open(&t, "configs/tasks/logiqa.yml", &(struct slm2_task_opts){.data_dir = in_dir("raw"), .n_shot = 0, .rules = -1}, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "line 4"));
    put_file("raw/logiqa/items.txt", "\ne\nContext\nQuestion\nA.a\nB.b\nC.c\nD.d\n");
    assert_int_equal(slm2_task_open(&t, "configs/tasks/logiqa.yml", &(struct slm2_task_opts){.data_dir = in_dir("raw"), .n_shot = 0, .rules = -1}, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "items.txt: record 1"));
    put_file("raw/logiqa/items.txt", "\nb\nContext\n");
    assert_int_equal(slm2_task_open(&t, "configs/tasks/logiqa.yml", &(struct slm2_task_opts){.data_dir = in_dir("raw"), .n_shot = 0, .rules = -1}, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "ends within"));
}

static void test_wikitext(void **state)
{
    (void)state;
    static const struct { const char *in, *want; } cases[] = {
        {" = Robert <unk> = \n ", " = Robert <unk> =\n"}, {"the boys ' hats", "the boys' hats"}, {"well @-@ known 1 @,@ 000 3 @.@ 5", "well-known 1,000 3.5"}, {"a , b ; c : d . e ! f ? g", "a, b; c: d. e! f? g"},
        {"( a ) [ b ] { c } \" d \" ' e '", "(a) [b] {c} \"d\" 'e'"}, {"= = = A = = = \n", "=== A ===\n"}, {"= = = = B", "==== B"}, {"20 \u00b0 C", "20\u00b0C"}, {"5 N of", "5 1 of"}, {"it 's", "it's"}, {"( open", "( open"}, {"(  )", "()"}, {"", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_buf b = {0};
        struct slm2_err err;
        slm2_buf_puts(&b, "");
        check_ok(slm2_form_wikitext(cases[i].in, strlen(cases[i].in), &b, &err), &err);
        assert_string_equal(b.v, cases[i].want);
        slm2_buf_free(&b);
    }
}

/* ---- definitions ----------------------------------------------------------------------------------------------------------- */
static const char items[] = "{\"q\":\"one\",\"c\":[\"x\",\"yy\"],\"a\":0,\"l\":\"en\"}\n{\"q\":\"two\",\"c\":[\"x\",\"yy\"],\"a\":\"B\",\"l\":\"de\"}\n"
                            "{\"q\":\"three\",\"c\":[\"x\",\"yy\",\"z\"],\"a\":\"z\",\"l\":\"en\"}\n{\"q\":\"four\",\"c\":[\"x\",\"yy\"],\"a\":1,\"l\":\"de\"}\n";

static void test_bad_tasks(void **state)
{
    (void)state;
    static const struct { const char *yaml, *says; } cases[] = {
        {"name: a\nprompt: '{q}'\ndata: items.jsonl\nchoices: c\ngold: a\nnonsense: 1\n", "nonsense"}, {"prompt: '{q}'\ndata: items.jsonl\n", "name"},
        {"name: a\nprompt: '{q'\ndata: items.jsonl\n", "begins no"}, {"name: a\nprompt: '{zz}'\ndata: items.jsonl\nchoices: c\ngold: a\n", "zz"}, {"name: a\nprompt: '{q|loud}'\ndata: items.jsonl\n", "loud"},
        {"name: a\nprompt: '{q}'\ndata: none.jsonl\n", "none.jsonl"}, {"name: a\nprompt: '{q}'\n", "data"}, {"name: a\ndata: items.jsonl\n", "prompt"},
        {"name: a/b\nprompt: '{q}'\ndata: items.jsonl\n", "letters"}, {"name: 'a{b}'\nprompt: '{q}'\ndata: items.jsonl\n", "letters"}, {"name: a\nkind: quiz\n", "quiz"}, {"name: a\nprompt: '{q}'\ndata: items.jsonl\nchoices: q\ngold: a\n", "at least two"},
        {"name: a\nprompt: '{q}'\ndata: items.jsonl\nchoices: c\ngold: l\n", "names none"}, {"name: a\nprompt: '{q}'\ndata: items.jsonl\nchoices: c\ngold: a\nmetrics: [f1]\n", "f1"},
        {"name: a\nprompt: '{q}'\ndata: items.jsonl\nchoices: c\ngold: 7\n", "names none"}, {"name: a\nprompt: '{q}'\ndata: items.jsonl\nchoices: c\ngold: l\nlabels: [de, fr]\n", "one of the labels"},
        {"name: a\nkind: generate\nprompt: '{q}'\ndata: items.jsonl\ngold: zz\n", "zz"}, {"name: a\nkind: generate\nprompt: '{q}'\ndata: items.jsonl\ngold: q\nnormalise: [regex]\n", "regex"},
        {"name: a\nkind: generate\nprompt: '{q}'\ndata: items.jsonl\ngold: q\nfilters: [{steps: [strip]}, {steps: [lower]}]\n", "no name"},
        {"name: a\nkind: word\nprompt: '{q}'\ndata: items.jsonl\n", "target"}, {"name: a\nprompt: '{q}'\ndata: items.jsonl\ncontexts: c\n", "target"}, {"name: a\nprompt: '{q}'\ndata: items.jsonl\nform: cbt\n", "cbt"},
        {"name: a\neach: [x]\nprompt: '{q}'\ndata: items.jsonl\n", "{each}"}, {"name: a_{each}\neach: [x, y]\nprompt: '{q}'\ndata: items.jsonl\n", "must be named"},
        {"name: a\nprompt: '{q}'\ndata: items.jsonl\nchoices: c\ngold: a\nchat: alpaca\n", "alpaca"}, {"name: a\nprompt: '{q}'\ndata: empty.jsonl\n", "no item"}, {"name: a\nprompt: '{q}'\ndata: bad.jsonl\n", "line 1"},
        {"name: a\nprompt: '{q}'\nsource: the shop\ndata: none.jsonl\n", "the shop"}};
    put_file("items.jsonl", items);
    put_file("empty.jsonl", "\n");
    put_file("bad.jsonl", "{\"q\": \n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_task t;
        struct slm2_err err = {0};
        put_file("bad.yml", cases[i].yaml);
        slm2_status st = slm2_task_open(&t, in_dir("bad.yml"), NULL, &err);
        if (st == SLM2_OK || !strstr(err.msg, cases[i].says)) fail_msg("task %zu says \"%s\", want \"%s\" in it", i, err.msg, cases[i].says);
    }
    struct slm2_task t;
    struct slm2_err err;
    assert_int_equal(slm2_task_define(&t, "configs/tasks/mmlu_subjects.yml", "astrology", &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "astrology"));
}

/* The right answer as converters write it: a number of any type, a letter, a text, a label; what names none is refused. */
static void test_gold(void **state)
{
    (void)state;
    static const struct { const char *yaml, *record; int want; } cases[] = {
        {"gold: answer", "\"answer\": 1", 1},          {"gold: answer", "\"answer\": 1.0", 1},     {"gold: answer", "\"answer\": true", 1},
        {"gold: answer", "\"answer\": \"B\"", 1},      {"gold: answer", "\"answer\": \"1\"", 1},   {"gold: answer", "\"answer\": \"q\"", 1},
        {"gold: answer", "\"answer\": 1.5", -1},       {"gold: answer", "\"answer\": -1", -1},      {"gold: answer", "\"answer\": 3", -1},
        {"gold: answer", "\"answer\": \"D\"", -1},     {"gold: answer", "\"answer\": \"\"", -1},   {"gold: answer", "\"answer\": null", -1},
        {"gold: answer", "\"answer\": [0, 1, 0]", 1},  {"gold: answer", "\"answer\": [0.0, 1.0, 0.0]", 1}, {"gold: answer", "\"answer\": [false, true, false]", 1},
        {"gold: answer", "\"answer\": [0, 0, 0]", -1}, {"gold: answer", "\"answer\": 1e300", -1},
        {"gold: answer\nlabels: names", "\"answer\": \"2\", \"names\": [\"1\", \"2\", \"3\"]", 1},
        {"gold: answer\nlabels: names", "\"answer\": 2, \"names\": [1, 2, 3]", 1},
        {"gold: answer\nlabels: names", "\"answer\": \"B\", \"names\": [\"1\", \"2\", \"3\"]", 1}, /* the leaderboard's harness made digits letters first */
        {"gold: answer\nlabels: names", "\"answer\": \"2\", \"names\": [\"A\", \"B\", \"C\"]", 1},
        {"gold: answer\nlabels: names", "\"answer\": \"3\", \"names\": [\"0\", \"1\", \"2\"]", -1},
        {"gold: answer\nlabels: names", "\"answer\": \"E\", \"names\": [\"A\", \"B\", \"C\"]", -1},
        {"gold: answer\nlabels: names", "\"answer\": \"E\", \"names\": [\"A\", \"B\"]", -1}, /* one label less than answers */
        {"gold: answer\nlabels: [\"1\", \"2\", \"3\"]", "\"answer\": 2.0", 1},
        {"gold: answer\nlabels: [\"1\", \"2\", \"3\"]", "\"answer\": \"\"", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[400];
        struct slm2_task t;
        struct slm2_requests r;
        struct slm2_err err;
        snprintf(text, sizeof text, "name: gold\ndata: gold.jsonl\nprompt: \"{q}\"\nchoices: choices\n%s\n", cases[i].yaml);
        put_file("gold.yml", text);
        snprintf(text, sizeof text, "{\"q\": \"Q\", \"choices\": [\"p\", \"q\", \"r\"], %s}\n", cases[i].record);
        put_file("gold.jsonl", text);
        slm2_status st = slm2_task_open(&t, in_dir("gold.yml"), NULL, &err);
        if (cases[i].want < 0) {
            if (st != SLM2_EFORMAT) fail_msg("%s: taken", cases[i].record);
            continue;
        }
        check_ok(st, &err);
        check_ok(slm2_task_requests(&t, 0, &r, &err), &err);
        if (r.gold != cases[i].want) fail_msg("%s: %d", cases[i].record, r.gold);
        slm2_requests_free(&r);
        slm2_task_free(&t);
    }
}

/* Of a file with all parts a task takes its own, from lines and from one JSON array. */
static void test_parts(void **state)
{
    (void)state;
    static const char a[] = "{\"question\":\"Q1\",\"subject\":\"anatomy\",\"choices\":[\"p\",\"q\",\"r\",\"s\"],\"answer\":1}", b[] = "{\"question\":\"on anatomy\",\"subject\":\"virology\",\"choices\":[\"p\",\"q\",\"r\",\"s\"],\"answer\":2}";
    struct slm2_err err;
    assert_int_equal(slm2_dir_make(in_dir("parts/mmlu"), NULL), SLM2_OK);
    for (int form = 0; form < 4; form++) {
        struct slm2_task t;
        char text[1000];
        snprintf(text, sizeof text, form == 0 ? "%s\n%s\n" : form == 1 ? "\xef\xbb\xbf%s\r\n\r\n%s\r\n" : form == 2 ? "\xef\xbb\xbf[%s,%s]" : "%s\n{\"anatomy\": %.0s\n", a, b);
        put_file("parts/mmlu/items.jsonl", text);
        slm2_status st = slm2_task_open(&t, "configs/tasks/mmlu_subjects.yml", &(struct slm2_task_opts){.data_dir = in_dir("parts"), .part = "anatomy", .n_shot = 0, .rules = -1}, &err);
        if (form == 3) {
            assert_int_equal(st, SLM2_EFORMAT);
            assert_non_null(strstr(err.msg, "line 2"));
            break;
        }
        check_ok(st, &err);
        assert_int_equal(t.n, 1);
        assert_string_equal(text_at(slm2_task_item(&t, 0), "question"), "Q1");
        slm2_task_free(&t);
    }
    assert_int_equal(slm2_task_open(&(struct slm2_task){0}, "configs/tasks/mmlu_subjects.yml", &(struct slm2_task_opts){.data_dir = in_dir("parts"), .part = "virology", .n_shot = 0, .rules = -1}, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "of part virology"));
}

/* Examples out of the items themselves: never the item, the same from call to call. */
static void test_own_examples(void **state)
{
    (void)state;
    struct slm2_task t, again;
    struct slm2_err err;
    put_file("items.jsonl", items);
    put_file("shots.yml", "name: s\nprompt: 'Q: {q} A:'\ndescription: 'D. '\ndata: items.jsonl\nchoices: c\ngold: a\nn_shot: 3\n");
    check_ok(slm2_task_open(&t, in_dir("shots.yml"), NULL, &err), &err);
    check_ok(slm2_task_open(&again, in_dir("shots.yml"), NULL, &err), &err);
    assert_memory_equal(t.shot, again.shot, sizeof *t.shot * 12);
    slm2_task_free(&again);
    check_ok(slm2_task_open(&again, in_dir("shots.yml"), &(struct slm2_task_opts){.n_shot = -1, .rules = -1, .seed = 99}, &err), &err);
    assert_memory_not_equal(t.shot, again.shot, sizeof *t.shot * 12);
    slm2_task_free(&again);
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t *a = t.shot + 3 * i;
        assert_true(a[0] != i && a[1] != i && a[2] != i && a[0] != a[1] && a[1] != a[2] && a[0] != a[2] && a[0] < 4 && a[1] < 4 && a[2] < 4);
    }
    struct slm2_requests r;
    check_ok(slm2_task_requests(&t, 2, &r, &err), &err);
    assert_int_equal(r.n, 3);
    assert_int_equal(r.gold, 2);
    assert_non_null(strstr(r.v[0].context.v, "Q: one A: x\n\n"));
    assert_non_null(strstr(r.v[0].context.v, "Q: two A: yy\n\n"));
    assert_non_null(strstr(r.v[0].context.v, "Q: four A: yy\n\n"));
    slm2_requests_free(&r);
    slm2_task_free(&t);
    check_ok(slm2_task_open(&t, in_dir("shots.yml"), &(struct slm2_task_opts){.n_shot = 0, .rules = -1, .limit = 2}, &err), &err);
    assert_int_equal(t.n, 2);
    check_ok(slm2_task_requests(&t, 0, &r, &err), &err);
    assert_string_equal(r.v[0].context.v, "D. Q: one A:");
    assert_string_equal(r.v[1].continuation.v, " yy");
    assert_int_equal(r.v[1].n_chars, 2);
    slm2_requests_free(&r);
    slm2_task_free(&t);
    for (size_t i = 0; i < 4; i++) { /* a part is rounded up, as the harness does; more than there are is all */
        static const struct { double limit; size_t n; } parts[] = {{0.6, 3}, {0.01, 1}, {2.9, 2}, {1e12, 4}};
        check_ok(slm2_task_open(&t, in_dir("shots.yml"), &(struct slm2_task_opts){.n_shot = 0, .rules = -1, .limit = parts[i].limit}, &err), &err);
        assert_int_equal(json_array_size(t.items), 4);
        assert_int_equal(t.n, parts[i].n);
        slm2_task_free(&t);
    }
    assert_int_equal(slm2_task_open(&t, in_dir("shots.yml"), &(struct slm2_task_opts){.n_shot = 4, .rules = -1}, &err), SLM2_EUSAGE);
    /* an item that stands in the data twice is dropped wherever it is drawn, so that one example may be missing */
    put_file("items.jsonl", "{\"q\":\"one\",\"c\":[\"x\",\"yy\"],\"a\":0}\n{\"q\":\"one\",\"c\":[\"x\",\"yy\"],\"a\":0}\n{\"q\":\"two\",\"c\":[\"x\",\"yy\"],\"a\":1}\n");
    check_ok(slm2_task_open(&t, in_dir("shots.yml"), &(struct slm2_task_opts){.n_shot = 2, .rules = -1}, &err), &err);
    assert_int_equal(t.shot[1], SLM2_NO_SHOT);
    check_ok(slm2_task_requests(&t, 0, &r, &err), &err);
    assert_string_equal(r.v[0].context.v, "D. Q: two A: yy\n\nQ: one A:");
    slm2_requests_free(&r);
    slm2_task_free(&t);
}

/* ---- requests ---------------------------------------------------------------------------------------------------------------- */
static void assert_ids(const int32_t *ids, size_t n, const char *want, size_t n_want)
{
    struct slm2_buf out = {0}, nfc = {0};
    bool changed = false;
    slm2_buf_puts(&out, "");
    assert_int_equal(slm2_tok_decode(tok, ids, n, &out, NULL), SLM2_OK);
    assert_int_equal(slm2_nfc(want, n_want, &nfc, &changed, NULL), SLM2_OK);
    if (changed) {
        want = nfc.v;
        n_want = nfc.n;
    }
    assert_int_equal(out.n, n_want);
    assert_memory_equal(out.v, want, n_want);
    slm2_buf_free(&out);
    slm2_buf_free(&nfc);
}

/* The context's ids are those of the context alone without its last white space; both sides together spell the whole. */
static void check_split(const struct slm2_task *t, const struct slm2_request *q)
{
    struct slm2_ids context = {0}, ids = {0}, alone = {0}, whole = {0};
    struct slm2_buf text = {0};
    struct slm2_err err;
    const char *c = q->context.v ? q->context.v : "";
    check_ok(slm2_request_encode(t, tok, q, &context, &ids, &err), &err);
    size_t n = slm2_py_rstrip(c, q->context.n);
    int flags = slm2_tok_flags_default(tok);
    check_ok(slm2_tok_encode(tok, c, n, flags, &alone, &err), &err);
    slm2_buf_put(&text, c, q->context.n);
    slm2_buf_put(&text, q->continuation.v ? q->continuation.v : "", q->continuation.n);
    check_ok(slm2_tok_encode(tok, text.v, text.n, flags, &whole, &err), &err);
    assert_int_equal(context.n, alone.n);
    for (size_t i = 0; i < alone.n; i++) assert_int_equal(context.v[i], alone.v[i]);
    assert_int_equal(ids.n, whole.n - alone.n);
    for (size_t i = 0; i < ids.n; i++) assert_int_equal(ids.v[i], whole.v[alone.n + i]);
    if (n == q->context.n && (alone.n == 0 || alone.v[alone.n - 1] == whole.v[alone.n - 1])) assert_ids(ids.v, ids.n, q->continuation.v, q->continuation.n);
    slm2_ids_free(&context);
    slm2_ids_free(&ids);
    slm2_ids_free(&alone);
    slm2_ids_free(&whole);
    slm2_buf_free(&text);
}

/* Compares an item with what it must ask; "item" and "task" are the caller's business. */
static void check_item(const struct slm2_task *t, size_t i, const json_t *want)
{
    static const char *const keys[] = {"fewshot_pool_indices", "requests", "gold"};
    struct slm2_requests r;
    struct slm2_err err;
    check_ok(slm2_task_requests(t, i, &r, &err), &err);
    json_t *got = slm2_show_item(t, i, &r);
    assert_non_null(got);
    for (int k = 0; k < 3; k++) assert_same(json_object_get(got, keys[k]), json_object_get(want, keys[k]), t->name);
    for (int k = 0; k < r.n && t->kind != SLM2_TASK_GENERATE; k++) check_split(t, &r.v[k]);
    json_decref(got);
    slm2_requests_free(&r);
}

static void open_by_name(struct slm2_task *t, const char *name, const char *data_dir, int n_shot)
{
    struct slm2_suite s;
    struct slm2_err err;
    check_ok(slm2_suite_open(&s, &name, 1, NULL, -1, &err), &err);
    assert_int_equal(s.n_task, 1);
    check_ok(slm2_task_open(t, s.task[0].path, &(struct slm2_task_opts){.data_dir = data_dir, .part = s.task[0].part, .n_shot = n_shot, .rules = s.task[0].rules}, &err), &err);
    slm2_suite_free(&s);
}

/* Every task, on invented records: prompts, examples, choices, right answers and ids. */
static void test_requests(void **state)
{
    (void)state;
    json_t *list = read_lines(slm2_test_data("eval/requests.jsonl")), *want;
    struct slm2_task t = {0};
    size_t i, at = 0;
    int n_tasks = 0;
    json_array_foreach(list, i, want) {
        const char *name = text_at(want, "task");
        if (!t.name || strcmp(t.name, name) != 0) {
            if (t.name) {
                assert_int_equal(at, t.n);
                slm2_task_free(&t);
            }
            open_by_name(&t, name, slm2_test_data("eval"), (int)int_at(want, "n_shot"));
            at = 0;
            n_tasks++;
        }
        assert_true(at < t.n);
        assert_int_equal(t.order[at], int_at(want, "item"));
        check_item(&t, at++, want);
    }
    slm2_task_free(&t);
    assert_int_equal(n_tasks, 63);
    json_decref(list);
}

static int n_skipped, n_sets; /* published data sets: not there, all */

/* The published data, where there are. */
static void test_published(void **state)
{
    (void)state;
    const char *data = getenv("SLM2_EVAL_DATA");
    if (!data) data = "../shared/eval/data";
    static const struct { const char *folder, *task; int n; } sets[] = {
        {"arc_challenge", "arc_challenge", 3}, {"arc_easy", "arc_easy", 5}, {"boolq", "boolq", 5}, {"gsm8k", "gsm8k", 5}, {"hellaswag", "hellaswag", 5}, {"lambada_openai", "lambada_openai", 5},
        {"mmlu", "mmlu_abstract_algebra", 3}, {"openbookqa", "openbookqa", 5}, {"piqa", "piqa", 5}, {"sciq", "sciq", 5}, {"truthfulqa_mc", "truthfulqa_mc2", 5}, {"winogrande", "winogrande", 5}, {"wsc273", "wsc273", 5}};
    n_sets = (int)(sizeof sets / sizeof sets[0]);
    if (!slm2_path_is_dir(data)) {
        n_skipped = n_sets;
        print_message("skip: no folder %s with the published data; SLM2_EVAL_DATA names it\n", data);
        skip();
    }
    for (size_t k = 0; k < sizeof sets / sizeof sets[0]; k++) {
        char path[2048];
        snprintf(path, sizeof path, "%s/%s/requests.golden.jsonl", data, sets[k].folder);
        if (!slm2_path_exists(path)) {
            print_message("skip: no %s\n", path);
            n_skipped++;
            continue;
        }
        struct slm2_task t;
        json_t *list = read_lines(path), *want;
        size_t i;
        open_by_name(&t, sets[k].task, data, -1);
        assert_int_equal(json_array_size(list), sets[k].n);
        json_array_foreach(list, i, want) check_item(&t, (size_t)int_at(want, "item"), want);
        slm2_task_free(&t);
        json_decref(list);
    }
}

/* Ids written down by hand: where a continuation begins, white space that moves, the beginning of a text. */
static void test_split(void **state)
{
    (void)state;
    static const struct { const char *context, *continuation; int n_context; const char *first; } cases[] = {
        {"Question: Why?\nAnswer:", " Because", 6, " Because"}, {"The cat ", "sat", 2, " sat"}, {"a\u00a0", "b", 1, "\u00a0"}, {"", "word", 0, "word"}, {" ", "x", 0, " x"}, {"He is un", "likely", 3, "likely"}};
    struct slm2_task t;
    struct slm2_err err;
    check_ok(slm2_task_define(&t, "configs/tasks/piqa.yml", NULL, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_request q = {0};
        struct slm2_ids context = {0}, ids = {0};
        slm2_buf_puts(&q.context, cases[i].context);
        slm2_buf_puts(&q.continuation, cases[i].continuation);
        check_ok(slm2_request_encode(&t, tok, &q, &context, &ids, &err), &err);
        assert_int_equal(context.n, cases[i].n_context);
        struct slm2_buf first = {0};
        check_ok(slm2_tok_decode(tok, ids.v, 1, &first, &err), &err);
        if (i < 5) assert_memory_equal(first.v, cases[i].first, slm2_min_size(first.n, strlen(cases[i].first)));
        slm2_buf_free(&first);
        slm2_ids_free(&context);
        slm2_ids_free(&ids);
        slm2_buf_free(&q.context);
        slm2_buf_free(&q.continuation);
    }
    slm2_task_free(&t);
}

/* ---- with a model ------------------------------------------------------------------------------------------------------------- */
/* A vocabulary of bytes and a random model to it. */
static void tiny(struct slm2_tok **bytes, struct slm2_model **m)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct slm2_buf vocab = {0};
    struct slm2_err err;
    for (int b = 0; b < 256; b++) slm2_buf_printf(&vocab, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    put_file("bytes.tiktoken", vocab.v);
    slm2_buf_free(&vocab);
    check_ok(slm2_tok_open(bytes, in_dir("bytes.tiktoken"), &err), &err);
    struct slm2_config cfg = {.vocab_size = slm2_tok_n_vocab(*bytes), .hidden_size = 32, .intermediate_size = 48, .n_layer = 1, .n_head = 2, .n_kv_head = 2, .head_dim = 16, .n_rot = 4, .n_ctx = 320, .norm_eps = 1e-5f,
                              .rope_theta = 10000, .init_std = 0.2f, .qkv_bias = true, .eos_id = slm2_tok_eos(*bytes) >= 0 ? slm2_tok_eos(*bytes) : 0};
    check_ok(slm2_model_trainable(m, NULL, &cfg, 1, SLM2_FP32, &err), &err);
}

/* Windows of the harness: the last one's input is a whole window. */
static void test_harness_windows(void **state)
{
    (void)state;
    enum { N = 70, W = 16 };
    struct slm2_tok *bytes;
    struct slm2_model *m;
    struct slm2_scorer *s;
    struct slm2_err err;
    int32_t ids[N];
    double sum, rolling;
    struct slm2_window w[8];
    tiny(&bytes, &m);
    for (int i = 0; i < N; i++) ids[i] = (i * 37 + i * i) % 251;
    struct slm2_scorer_opts o = slm2_scorer_opts_default();
    o.n_threads = 1;
    o.max_len = W;
    check_ok(slm2_scorer_new(&s, m, &o, &err), &err);
    check_ok(slm2_score_stream(s, ids, N, W, -1, &sum, NULL, w, &err), &err);
    assert_int_equal(slm2_score_n_windows(N, W, -1), 5);
    assert_int_equal(w[3].n_scored, W);
    assert_int_equal(w[4].n_scored, N - 4 * W);
    assert_int_equal(w[4].n_input, W);
    struct slm2_score last = {.context = ids + N - W - 1, .n_context = W + 1 - (N - 4 * W), .continuation = ids + 4 * W, .n_continuation = N - 4 * W};
    check_ok(slm2_score(s, &last, 1, NULL, &err), &err);
    assert_true(fabs(last.loglikelihood - w[4].sum_logprob) < 1e-5); /* the same products in another batch */
    check_ok(slm2_score_stream(s, ids, N, W, 0, &rolling, NULL, NULL, &err), &err);
    assert_true(fabs(rolling - sum) > 1e-3);
    check_ok(slm2_score_stream(s, ids, 4 * W, W, -1, &sum, NULL, NULL, &err), &err); /* nothing is short */
    check_ok(slm2_score_stream(s, ids, 4 * W, W, 0, &rolling, NULL, NULL, &err), &err);
    assert_true(rolling == sum);
    slm2_scorer_free(s);
    slm2_model_free(m);
    slm2_tok_free(bytes);
}

/* {TASK: {"figures": {METRIC: x}, "ll": [of every request]}} */
static json_t *numbers_of(const struct slm2_eval_result *r)
{
    json_t *all = json_object(), *list;
    const json_t *one, *resp;
    const char *task;
    size_t i, k;
    for (int m = 0; m < r->n; m++) {
        if (!json_object_get(all, r->v[m].task)) json_object_set_new(all, r->v[m].task, json_pack("{s:{}, s:[]}", "figures", "ll"));
        json_object_set_new(json_object_get(json_object_get(all, r->v[m].task), "figures"), r->v[m].metric, json_real(r->v[m].value));
    }
    json_object_foreach(r->samples, task, list)
        json_array_foreach(list, i, one)
            json_array_foreach(json_object_get(one, "resps"), k, resp) {
                const char *ll = json_string_value(json_array_get(json_array_get(resp, 0), 0)); /* NULL: a generated text */
                if (ll) json_array_append_new(json_object_get(json_object_get(all, task), "ll"), json_real(strtod(ll, NULL)));
            }
    return all;
}

/* What the plain backend (`ref`, sums in double) gave for the same model and records: another gold, length, cut or sum is seen here.  The
 * other backends differ by roundings of fp32: a logit of a few units is a sum of 32 terms, behind sums of up to 320, so a token's log-likelihood by
 * at most 352 * 2^-24 = 2.1e-5 of these units, and relatively no more for a sum of tokens; on average by its root.
 * SLM2_GOLDEN_OUT=FILE writes the file anew, by `ref`. */
static void check_numbers(const json_t *got)
{
    json_t *want = read_json(slm2_test_data("eval/figures.golden.json")), *w;
    const char *task, *metric;
    const json_t *x;
    size_t i;
    assert_int_equal(json_object_size(got), json_object_size(want));
    json_object_foreach(want, task, w) {
        const json_t *g = json_object_get(got, task), *ll = json_object_get(g, "ll"), *wf = json_object_get(w, "figures");
        assert_int_equal(json_array_size(ll), json_array_size(json_object_get(w, "ll")));
        json_array_foreach(json_object_get(w, "ll"), i, x) {
            double a = json_real_value(json_array_get(ll, i)), b = json_real_value(x);
            if (!(fabs(a - b) <= 2.1e-5 * (1 + fabs(b)))) fail_msg("%s: log-likelihood %zu is %.9g, want %.9g", task, i, a, b);
        }
        json_t *f;
        assert_int_equal(json_object_size(json_object_get(g, "figures")), json_object_size(wf));
        json_object_foreach((json_t *)(uintptr_t)wf, metric, f) {
            double a = json_real_value(json_object_get(json_object_get(g, "figures"), metric)), b = json_real_value(f);
            if (!(fabs(a - b) <= 2.1e-5 * fabs(b))) fail_msg("%s: %s is %.9g, want %.9g", task, metric, a, b);
        }
    }
    json_decref(want);
}

/* Every task runs on the invented records, with the figures and log-likelihoods of the plain backend, and WikiText counts what stood there before it was cleaned. */
static void test_run(void **state)
{
    (void)state;
    struct slm2_tok *bytes;
    struct slm2_model *m;
    struct slm2_err err;
    struct slm2_eval_result r;
    tiny(&bytes, &m);
    static const char *const names[] = {"arc_challenge", "arc_easy", "boolq", "gsm8k", "gsm8k_v03", "hellaswag", "lambada_mt", "lambada_mt2020", "lambada_openai", "lambada_standard", "logiqa", "m_arc", "m_hellaswag", "m_mmlu", "m_truthfulqa_mc1",
                                        "m_truthfulqa_mc2", "mmlu_anatomy", "mmlu_abstract_algebra", "openbookqa", "piqa", "rte", "sciq", "sglue_rte", "siqa", "truthfulqa_mc1", "truthfulqa_mc2", "wikitext", "winogrande", "wsc273"};
    struct slm2_eval_args a = {.model = m, .tok = bytes, .tasks = names, .n_tasks = sizeof names / sizeof names[0], .data_dir = slm2_test_data("eval"), .n_shot = 2, .n_threads = 1};
    const char *few[] = {"gsm8k", "winogrande", "hellaswag"};
    struct slm2_eval_args b = a;
    const char *golden_out = getenv("SLM2_GOLDEN_OUT");
    a.n_shot = 0;
    a.samples = true;
    a.bootstrap_iters = -1;
    if (golden_out) a.backend = "ref";
    check_ok(slm2_eval(&a, &r, &err), &err);
    json_t *numbers = numbers_of(&r);
    if (golden_out) check_ok(slm2_json_write(numbers, golden_out, &err), &err);
    check_numbers(numbers);
    json_decref(numbers);
    assert_true(isfinite(slm2_eval_figure(&r, "truthfulqa_pt_mc2", "mc2", NULL)) && isfinite(slm2_eval_figure(&r, "arc_nl", "acc_norm", NULL)));
    double mc2 = slm2_eval_figure(&r, "truthfulqa_mc2", "mc2", NULL), ppl = slm2_eval_figure(&r, "lambada_openai", "perplexity", NULL);
    assert_true(mc2 > 0 && mc2 <= 1 && ppl > 1);
    double word = slm2_eval_figure(&r, "wikitext", "word_perplexity", NULL), byte = slm2_eval_figure(&r, "wikitext", "byte_perplexity", NULL);
    size_t n_bytes = 0, n_words = 0, i;
    json_t *pages = read_lines(slm2_test_data("eval/wikitext/items.jsonl")), *p;
    json_array_foreach(pages, i, p) {
        n_bytes += json_string_length(json_object_get(p, "page"));
        n_words += slm2_py_split_count(text_at(p, "page"), json_string_length(json_object_get(p, "page")));
    }
    assert_int_equal(n_words, 48); /* counted by hand, with the empty pieces at the four ends */
    assert_true(fabs(log(word) * (double)n_words / (log(byte) * (double)n_bytes) - 1) < 1e-9);
    json_decref(pages);
    slm2_eval_result_free(&r);
    b.tasks = few;
    b.n_tasks = 3;
    check_ok(slm2_eval(&b, &r, &err), &err);
    assert_true(isfinite(slm2_eval_figure(&r, "gsm8k", "exact_match,strict-match", NULL)) && isfinite(slm2_eval_figure(&r, "gsm8k", "exact_match,flexible-extract", NULL)));
    slm2_eval_result_free(&r);
    slm2_model_free(m);
    slm2_tok_free(bytes);
}

/* ---- suites ------------------------------------------------------------------------------------------------------------------ */
static int find_group(const struct slm2_suite *s, const char *name)
{
    for (int i = 0; i < s->n_group; i++)
        if (strcmp(s->group[i].name, name) == 0) return i;
    fail_msg("no group %s", name);
    return -1;
}

static void test_suite(void **state)
{
    (void)state;
    struct slm2_suite s;
    struct slm2_err err;
    check_ok(slm2_suite_open(&s, (const char *[]){"leaderboard"}, 1, NULL, -1, &err), &err);
    assert_int_equal(s.n_task, 57 + 5);
    assert_int_equal(s.n_group, 2);
    const struct slm2_suite_group *g = &s.group[find_group(&s, "leaderboard")];
    assert_int_equal(g->n, 6);
    assert_int_equal(g->average, SLM2_AVERAGE_MEAN);
    assert_true(g->member[2].is_group && g->member[2].index == find_group(&s, "leaderboard_mmlu"));
    assert_string_equal(g->member[0].metric, "acc_norm");
    assert_string_equal(s.task[g->member[0].index].name, "arc_challenge");
    assert_int_equal(s.task[g->member[0].index].n_shot, 25);
    assert_int_equal(s.task[g->member[0].index].rules, SLM2_RULES_V03);
    assert_int_equal(s.group[g->member[2].index].n, 57);
    slm2_suite_free(&s);

    check_ok(slm2_suite_open(&s, (const char *[]){"mmlu", "mmlu_anatomy", "arc_de", "configs/tasks/piqa.yml", "m_arc"}, 5, NULL, -1, &err), &err);
    assert_int_equal(s.n_task, 57 + 1 + 1 + 5);
    assert_int_equal(s.n_group, 5);
    assert_int_equal(s.group[find_group(&s, "mmlu")].n, 4);
    assert_int_equal(s.group[find_group(&s, "mmlu")].average, SLM2_AVERAGE_ITEMS);
    assert_int_equal(s.group[find_group(&s, "mmlu_stem")].n, 19);
    assert_string_equal(s.task[57].name, "arc_de");
    assert_string_equal(s.task[57].part, "de");
    slm2_suite_free(&s);

    check_ok(slm2_suite_open(&s, (const char *[]){"multilingual"}, 1, NULL, 3, &err), &err);
    assert_int_equal(s.n_task, 30);
    assert_int_equal(s.task[0].n_shot, 3);
    slm2_suite_free(&s);

    static const struct { const char *names[2], *says; } bad[] = {{{"mmlu_astrology", "piqa"}, "mmlu_astrology"}, {{"leaderboard", "stablelm_zero_shot"}, "in two ways"}, {{"no/such.yml", "piqa"}, "no/such.yml"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_true(slm2_suite_open(&s, bad[i].names, 2, NULL, -1, &err) != SLM2_OK);
        assert_non_null(strstr(err.msg, bad[i].says));
        slm2_suite_free(&s);
    }
    put_file("self.yml", "name: self\ntasks: [{task: X}]\n");
    assert_int_equal(slm2_dir_make(in_dir("t/groups"), NULL), SLM2_OK);
    put_file("t/groups/x.yml", "name: x\ntasks: [{task: x}]\n");
    assert_int_equal(slm2_suite_open(&s, (const char *[]){"x"}, 1, in_dir("t"), -1, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "contain itself"));
    slm2_suite_free(&s);
    put_file("t/one.yml", "name: one\nprompt: '{q}'\ndata: d.jsonl\n");
    put_file("t/groups/y.yml", "name: y\ntasks: [{task: one, metric: f1}]\n");
    assert_int_equal(slm2_suite_open(&s, (const char *[]){"y"}, 1, in_dir("t"), -1, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "no metric \"f1\""));
    slm2_suite_free(&s);
}

/* Every definition of the project is sound, and the list names it. */
static void test_all_defined(void **state)
{
    (void)state;
    struct slm2_suite s;
    struct slm2_err err;
    struct slm2_buf text = {0};
    check_ok(slm2_suite_open(&s, (const char *[]){"configs/tasks"}, 1, NULL, -1, &err), &err);
    assert_true(s.n_task > 100);
    slm2_suite_free(&s);
    check_ok(slm2_show_list(NULL, &text, &err), &err);
    assert_non_null(strstr(text.v, "\nleaderboard "));
    assert_non_null(strstr(text.v, "\nwsc273 "));
    slm2_buf_clear(&text);
    check_ok(slm2_suite_open(&s, (const char *[]){"nano"}, 1, NULL, -1, &err), &err);
    check_ok(slm2_show(&s, NULL, 2, 0, false, &text, &err), &err);
    assert_non_null(strstr(text.v, "---- nano_choice, item 1"));
    slm2_suite_free(&s);
    slm2_buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_primitives), cmocka_unit_test(test_random_samples), cmocka_unit_test(test_strings), cmocka_unit_test(test_template), cmocka_unit_test(test_filters),
        cmocka_unit_test(test_gsm8k_filters), cmocka_unit_test(test_match), cmocka_unit_test(test_hellaswag_golden), cmocka_unit_test(test_forms), cmocka_unit_test(test_logiqa_text), cmocka_unit_test(test_wikitext),
        cmocka_unit_test(test_bad_tasks), cmocka_unit_test(test_gold), cmocka_unit_test(test_parts), cmocka_unit_test(test_own_examples), cmocka_unit_test(test_requests), cmocka_unit_test(test_published), cmocka_unit_test(test_split), cmocka_unit_test(test_harness_windows), cmocka_unit_test(test_run), cmocka_unit_test(test_suite), cmocka_unit_test(test_all_defined)};
    int n_failed = cmocka_run_group_tests(tests, begin, end), n_tests = (int)(sizeof tests / sizeof tests[0]);
    if (n_skipped > 0) printf("skipped: %d of %d published data sets, which SLM2_EVAL_DATA names\n", n_skipped, n_sets);
    n_tests -= n_skipped == n_sets; /* the test did nothing */
    printf("%d passed, %d failed\n", n_tests - n_failed, n_failed);
    return n_failed != 0;
}
