/* test_records.c - lines and arrays of records, good and bad; preference pairs: tokens, masks, cuts. */
#include "convo_text.h"

#include <string.h>

#include "data/pair.h"
#include "data/records.h"
#include "tok/chat.h"

/* ---- arrays ------------------------------------------------------------------------------------------------------------------ */
struct seen { int n; char text[400]; };

/* Notes {"k": v} as "v "; a record without k is bad. */
static slm2_status note(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct seen *s = user;
    const char *v = json_string_value(json_object_get(j, "k"));
    if (!v) return slm2_fail(err, SLM2_EFORMAT, "%s: k: missing", what);
    s->n++;
    if (strlen(s->text) + strlen(v) + 2 < sizeof s->text) strcat(strcat(s->text, v), " ");
    return SLM2_OK;
}

static slm2_status read_seen(struct seen *s, size_t limit, bool fatal, int64_t *n_bad, struct slm2_err *err)
{
    *s = (struct seen){0};
    *n_bad = 0;
    memset(err, 0, sizeof *err);
    return slm2_records_read(path, limit, fatal, note, s, n_bad, err);
}

static void test_arrays(void **state)
{
    (void)state;
    static const struct { const char *text, *seen; int n_bad; const char *why; } good[] = {
        {"[]", "", 0, ""},
        {" \n[ ] \n", "", 0, ""},
        {"[{\"k\":\"a\"},{\"k\":\"b\"}]", "a b ", 0, ""},
        {"\xef\xbb\xbf[\n{\"k\":\"]},{[\"},\n {\"k\":\"\\\"]\",\"x\":[[1,{}],2]}\n]\n", "]},{[ \"] ", 0, ""},
        {"[{\"k\":\"a\"}]\n[{\"k\":\"b\"},\n{\"k\":\"c\"}]", "a b c ", 0, ""}, /* one array a line */
        {"[{\"k\":\"a\"},\n\n  {\"x\":1},3,{\"k\":\"b\"}]", "a b ", 2, "record 2 (line 3): k: missing"},
        {"[{\"k\":\"a\"},{\"k\":\"b\"},]", "a b ", 1, "record 3"},
        {"[{\"k\":\"a\"} {\"k\":\"b\"},{\"k\":\"c\"}]", "c ", 1, "record 1"},
        {"[}},{\"k\":\"c\"}]", "c ", 1, "record 1"},
    };
    static const struct { const char *text, *why; } cut[] = {
        {"[{\"k\":\"a\"},\n{\"k\":\"b", "record 2 (line 2)"},
        {"[{\"k\":\"a\"}", "record 1"},
        {"[", "record 1"},
        {"[{\"k\":\"a\"}]\n{\"k\":\"b\"}", "line 2: text behind"},
        {"PAR1....", "duckdb"},
    };
    struct seen s;
    struct slm2_err err;
    int64_t n_bad;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        write_text(good[i].text);
        check_ok(read_seen(&s, 0, false, &n_bad, &err), &err);
        assert_string_equal(s.text, good[i].seen);
        assert_int_equal(n_bad, good[i].n_bad);
        if (!strstr(err.msg, good[i].why)) fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.msg, good[i].why);
        assert_int_equal(read_seen(&s, 0, true, &n_bad, &err), good[i].n_bad ? SLM2_EFORMAT : SLM2_OK);
    }
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        write_text(cut[i].text);
        assert_int_equal(read_seen(&s, 0, false, &n_bad, &err), SLM2_EFORMAT); /* never only counted */
        if (!strstr(err.msg, cut[i].why)) fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.msg, cut[i].why);
    }
    write_text("[{\"k\":\"0123456789012345678901234567890123456789\"},{\"k\":\"b\"}]");
    check_ok(read_seen(&s, 20, false, &n_bad, &err), &err);
    assert_string_equal(s.text, "b ");
    assert_int_equal(n_bad, 1);
    assert_non_null(strstr(err.msg, "more than 20 bytes"));
}

/* Members that straddle the blocks in which a file is read, at every offset. */
static void test_array_blocks(void **state)
{
    (void)state;
    struct seen s;
    struct slm2_err err;
    int64_t n_bad;
    for (int shift = 0; shift < 40; shift++) {
        struct slm2_buf b = {0};
        slm2_buf_putc(&b, '[');
        for (int i = 0; i < shift; i++) slm2_buf_putc(&b, ' ');
        for (int i = 0; i < 9000; i++) slm2_buf_printf(&b, "%s{\"k\": \"%d ]\\\"\"}", i ? ", " : "", i);
        slm2_buf_putc(&b, ']');
        assert_int_equal(slm2_file_write(path, b.v, b.n, NULL), SLM2_OK);
        check_ok(read_seen(&s, 64, false, &n_bad, &err), &err);
        assert_int_equal(s.n, 9000);
        assert_int_equal(n_bad, 0);
        slm2_buf_free(&b);
    }
}

static slm2_status load_pairs(struct slm2_pairs *p, const struct slm2_pair_opts *o, struct slm2_err *err)
{
    char *paths[] = {path};
    struct slm2_pair_source source = {.path = {paths, 1}};
    return slm2_pairs_load(p, &source, 1, tok, o, err);
}

static const char pairs[] =
    "{\"prompt\":\"2+2?\",\"chosen\":\"4\",\"rejected\":\"5, I think\"}\n"
    "{\"prompt\":\"2+2?\",\"chosen\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hello!\"}],"
    "\"rejected\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hm\"}]}\n"
    "{\"system\":\"Be brief.\",\"question\":\"Moon?\",\"chosen\":\"Yes.\",\"rejected\":\" Yes.\\n\"}\n"
    "{\"chosen\":\"a\",\"rejected\":\"b\"}\n"
    "{\"prompt\":\"x\",\"chosen\":\"a\"}\n"
    "{\"chosen\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"a\"}],"
    "\"rejected\":[{\"role\":\"user\",\"content\":\"Ho\"},{\"role\":\"assistant\",\"content\":\"b\"}]}\n"
    "{\"system\":\"Be brief.\",\"question\":\"Moon?\",\"chosen\":\"Yes.\",\"rejected\":\"No.\"}\n"
    "{\"prompt\":[{\"role\":\"user\",\"content\":\"A\"},{\"role\":\"assistant\",\"content\":\"B\"},{\"role\":\"user\",\"content\":\"C\"}],\"chosen\":\"D\","
    "\"rejected\":[{\"role\":\"assistant\",\"content\":\"E\"}]}\n";

static void test_pairs(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_pairs p;
    struct slm2_batch b;
    struct slm2_pair_opts o = slm2_pair_opts_default();
    static const char *const want[4][3] = {
        {"<|user|>\n2+2?<|endoftext|>\n<|assistant|>\n", "4<|endoftext|>", "5, I think<|endoftext|>"},
        {"<|user|>\nHi<|endoftext|>\n<|assistant|>\n", "Hello!<|endoftext|>", "Hm<|endoftext|>"},
        {"<|system|>\nBe brief.<|endoftext|>\n<|user|>\nMoon?<|endoftext|>\n<|assistant|>\n", "Yes.<|endoftext|>", "No.<|endoftext|>"},
        {"<|user|>\nA<|endoftext|>\n<|assistant|>\nB<|endoftext|>\n<|user|>\nC<|endoftext|>\n<|assistant|>\n", "D<|endoftext|>", "E<|endoftext|>"}};
    write_text(pairs);
    check_ok(load_pairs(&p, &o, &err), &err);
    assert_int_equal(p.n, 4);
    assert_int_equal(p.file[0].n[SLM2_PREF_INVALID], 3);
    assert_int_equal(p.file[0].n[SLM2_PREF_DUPLICATE_CONTENT], 1);
    assert_non_null(strstr(p.file[0].first_bad, "line 4: no prompt"));
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 2; k++) {
            const struct slm2_pair_seq *s = k ? &p.rejected[i] : &p.chosen[i];
            assert_text(s->ids, (size_t)s->n_prompt, want[i][0]);
            assert_text(s->ids + s->n_prompt, (size_t)(s->n - s->n_prompt), want[i][1 + k]);
        }
    }
    check_ok(slm2_batch_init(&b, 64, 4, &err), &err);
    const struct slm2_pair_seq *s = &p.chosen[0];
    check_ok(slm2_pair_add(&b, s, -2.0f, &err), &err);
    assert_int_equal(b.n_tok, s->n - 1);
    for (int i = 0; i < b.n_tok; i++) {
        bool answer = i + 1 >= s->n_prompt;
        assert_int_equal(b.target[i], answer ? s->ids[i + 1] : -1);
        assert_true(b.weight[i] == (answer ? -2.0f : 0.0f));
    }
    slm2_batch_free(&b);
    slm2_pairs_free(&p);

    o.empty_system = true;
    check_ok(load_pairs(&p, &o, &err), &err);
    assert_text(p.chosen[0].ids, (size_t)p.chosen[0].n, "<|system|>\n<|endoftext|>\n<|user|>\n2+2?<|endoftext|>\n<|assistant|>\n4<|endoftext|>");
    assert_text(p.chosen[2].ids, (size_t)p.chosen[2].n_prompt, want[2][0]); /* has one */
    slm2_pairs_free(&p);

    o.bad_is_fatal = true;
    assert_int_equal(load_pairs(&p, &o, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "line 4"));
}

/* As TRL 0.7.10 cuts: the longer answer decides for both, prompts keep their end, then answers keep max_length - max_prompt_length. */
static void test_pair_cut(void **state)
{
    static const struct { int prompt, chosen, rejected, max_len, max_prompt, cut, want_prompt, want_chosen, want_rejected; } cases[] = {
        {10, 6, 2, 16, 4, 0, 10, 6, 2},  /* fits to the token */
        {10, 7, 2, 16, 4, 1, 4, 7, 2},   /* one too many: the prompt alone */
        {10, 12, 2, 16, 4, 1, 4, 12, 2}, /* fits again to the token */
        {10, 13, 2, 16, 4, 3, 4, 12, 2}, /* the longer answer too */
        {10, 13, 14, 16, 4, 3, 4, 12, 12},
        {3, 14, 2, 16, 4, 2, 3, 12, 2},  /* a short prompt stays, its answer gets no more room for that */
        {1, 100, 1, 8, 7, 2, 1, 1, 1},
    };
    static const int32_t ids[128];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_pair_seq c = {ids, cases[i].prompt + cases[i].chosen, cases[i].prompt}, r = {ids, cases[i].prompt + cases[i].rejected, cases[i].prompt};
        assert_int_equal(slm2_pair_cut(&c, &r, cases[i].max_len, cases[i].max_prompt), cases[i].cut);
        assert_int_equal(c.n_prompt, cases[i].want_prompt);
        assert_int_equal(r.n_prompt, cases[i].want_prompt);
        assert_int_equal(c.n - c.n_prompt, cases[i].want_chosen);
        assert_int_equal(r.n - r.n_prompt, cases[i].want_rejected);
        assert_int_equal(c.ids - ids, cases[i].prompt - cases[i].want_prompt);
    }
}

static void test_pairs_cut(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_pairs whole, cut;
    struct slm2_pair_opts o = slm2_pair_opts_default();
    write_text("{\"prompt\":\"one two three four five six seven eight\",\"chosen\":\"1 2 3 4 5 6 7 8 9\",\"rejected\":\"no\"}\n");
    check_ok(load_pairs(&whole, &o, &err), &err);
    const struct slm2_pair_seq *w = &whole.chosen[0];
    o.max_len = w->n;
    o.max_prompt = 5;
    check_ok(load_pairs(&cut, &o, &err), &err);
    assert_int_equal(cut.file[0].n_cut_prompt + cut.file[0].n_cut_answer, 0);
    assert_int_equal(cut.chosen[0].n, w->n);
    slm2_pairs_free(&cut);
    o.max_len = 12;
    check_ok(load_pairs(&cut, &o, &err), &err);
    assert_int_equal(cut.file[0].n_cut_prompt, 1);
    assert_int_equal(cut.file[0].n_cut_answer, 1);
    const struct slm2_pair_seq *c = &cut.chosen[0], *r = &cut.rejected[0];
    assert_int_equal(c->n, 12);
    assert_int_equal(c->n_prompt, 5);
    assert_int_equal(r->n_prompt, 5); /* both keep the end of the prompt */
    assert_memory_equal(c->ids, w->ids + w->n_prompt - 5, 12 * sizeof *c->ids);
    slm2_pairs_free(&cut);
    slm2_pairs_free(&whole);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_arrays, open_all, close_all),
    cmocka_unit_test_setup_teardown(test_array_blocks, open_all, close_all),
    cmocka_unit_test_setup_teardown(test_pairs, open_all, close_all),
    cmocka_unit_test(test_pair_cut),
    cmocka_unit_test_setup_teardown(test_pairs_cut, open_all, close_all),
};
SLM2_TEST_MAIN(tests)
