/* test_convo.c - data sets of conversations: their published shapes against the expected verdicts on samples, masks to the token, what is
 * left out and counted, and how rows are packed. */
#include "convo_text.h"

#include <string.h>

#include "base/json.h"
#include "data/convo_rows.h"
#include "tok/chat.h"

static struct slm2_convo_set one_set(int format, char **file)
{
    return (struct slm2_convo_set){.path = {file, 1}, .format = format, .repeat = 1};
}
static slm2_status load(struct slm2_convos *c, int format, const struct slm2_convo_opts *o, struct slm2_err *err)
{
    char *file = path;
    struct slm2_convo_set set = one_set(format, &file);
    return slm2_convos_load(c, &set, 1, tok, o, err);
}
static int64_t fate(const struct slm2_convos *c, int set, enum slm2_convo_fate f) { return c->set[set].fate[f]; }

/* What the mask marks, as text. */
static void assert_learnt(const struct slm2_convos *c, int k, const char *want)
{
    struct slm2_ids v = {0};
    for (int64_t i = c->start[k]; i < c->start[k + 1]; i++) {
        if (c->mask[i]) assert_int_equal(slm2_ids_push(&v, c->ids[i], NULL), SLM2_OK);
    }
    assert_text(v.v, v.n, want);
    slm2_ids_free(&v);
}

/* ---- the published shapes ----------------------------------------------------------------------------------------------------- */
/* Every record of every sample file, one by one, against samples/expected.json, under both readings of a turn. */
static void test_expected(void **state)
{
    (void)state;
    static const char *const names[] = {"ultrachat_200k", "wizardlm_evol_instruct_v2", "slimorca", "sharegpt_openchat", "capybara", "deita_10k", "metamathqa"};
    struct slm2_err err = {0};
    struct slm2_convo_msgs m = {0};
    json_t *expected;
    int n_record = 0;
    check_ok(slm2_json_read(&expected, slm2_test_data("align/samples/expected.json"), 1 << 24, &err), &err);
    assert_int_equal(json_object_size(json_object_get(expected, "sft")), 7);
    for (int f = 1; f < SLM2_CONVO_N_FORMAT; f++) {
        char file[64];
        const char *line;
        size_t n;
        struct slm2_lines *l;
        json_t *want = json_object_get(json_object_get(expected, "sft"), names[f - 1]);
        int kept[2] = {0, 0}, invalid = 0;
        assert_string_equal(slm2_convo_formats[f], names[f - 1]);
        snprintf(file, sizeof file, "align/samples/%s.jsonl", names[f - 1]);
        check_ok(slm2_lines_open(&l, slm2_test_data(file), &err), &err);
        for (size_t i = 0; slm2_lines_next(l, &line, &n, &err) == SLM2_OK && line; i++, n_record++) {
            json_t *j, *w = json_array_get(json_object_get(want, "records"), i);
            check_ok(slm2_json_parse(&j, line, n, "sample", &err), &err);
            bool valid = slm2_convo_from_json(&m, (enum slm2_convo_format)f, false, j, "sample", &err) == SLM2_OK;
            if (valid != json_is_true(json_object_get(w, "valid"))) fail_msg("%s: record %zu: valid %d: %s", names[f - 1], i, valid, err.msg);
            if (valid) {
                assert_int_equal(m.n_messages, json_integer_value(json_object_get(w, "messages")));
                assert_int_equal(m.n_exchanges, json_integer_value(json_object_get(w, "exchanges")));
            }
            assert_int_equal(valid && m.n_messages <= 8, json_is_true(json_object_get(w, "keep_messages")));
            assert_int_equal(valid && m.n_exchanges <= 8, json_is_true(json_object_get(w, "keep_exchanges")));
            kept[0] += valid && m.n_messages <= 8;
            kept[1] += valid && m.n_exchanges <= 8;
            invalid += !valid;
            json_decref(j);
        }
        slm2_lines_close(l);
        assert_int_equal(kept[0], json_integer_value(json_object_get(want, "kept_messages")));
        assert_int_equal(kept[1], json_integer_value(json_object_get(want, "kept_exchanges")));
        assert_int_equal(invalid, json_integer_value(json_object_get(want, "invalid")));
        /* and the loader comes to the same */
        for (int turns = 0; turns < 2; turns++) {
            struct slm2_convos c;
            struct slm2_convo_opts o = slm2_convo_opts_default();
            char *p = (char *)(uintptr_t)slm2_test_data(file);
            struct slm2_convo_set set = one_set(f, &p);
            o.max_turns = 8;
            o.turns = turns;
            o.dedup = false;
            check_ok(slm2_convos_load(&c, &set, 1, tok, &o, &err), &err);
            assert_int_equal(c.n, kept[turns]);
            assert_int_equal(fate(&c, 0, SLM2_CONVO_KEPT), kept[turns]);
            assert_int_equal(fate(&c, 0, SLM2_CONVO_INVALID), invalid);
            assert_int_equal(fate(&c, 0, SLM2_CONVO_TURNS), 20 - invalid - kept[turns]);
            assert_int_equal(c.set[0].read, 20);
            slm2_convos_free(&c);
        }
    }
    assert_int_equal(n_record, 140);
    slm2_convo_msgs_free(&m);
    json_decref(expected);
}

static void test_spellings(void **state)
{
    (void)state;
    static const struct { int format; const char *json, *text; } good[] = {
        {SLM2_CONVO_SHAREGPT, "{\"items\":[{\"from\":\"human\",\"value\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}],\"system\":\"s\"}", "system s user a assistant b+ "},
        {SLM2_CONVO_SHAREGPT, "{\"conversations\":[{\"role\":\"user\",\"content\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}],\"system\":\" \"}", "user a assistant b+ "},
        {SLM2_CONVO_SHAREGPT, "{\"items\":[{\"from\":\"user\",\"value\":\"a\"},{\"from\":\"assistant\",\"value\":\"b\",\"weight\":0}],\"system\":null}", "user a assistant b "},
        {SLM2_CONVO_SHAREGPT, "{\"items\":null,\"conversations\":[{\"role\":null,\"content\":null,\"from\":\"human\",\"value\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\",\"from\":null,\"value\":null}]}", "user a assistant b+ "}, /* DuckDB's columns of both */
        {SLM2_CONVO_SLIMORCA, "{\"conversations\":[{\"from\":\"system\",\"value\":\"\",\"weight\":null},{\"from\":\"human\",\"value\":\"a\",\"weight\":0.0},{\"from\":\"gpt\",\"value\":\"b\",\"weight\":1.0}]}", "user a assistant b+ "},
        {SLM2_CONVO_SLIMORCA, "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\",\"weight\":1},{\"from\":\"gpt\",\"value\":\"b\",\"weight\":0}]}", "user a+ assistant b "},
        {SLM2_CONVO_MESSAGES, "{\"messages\":[{\"role\":\"tool\",\"content\":\"\"},{\"role\":\"assistant\",\"content\":\"b\"}]}", "tool  assistant b+ "},
    };
    static const struct { int format; const char *json, *why; } wrong[] = {
        {SLM2_CONVO_MESSAGES, "{\"messages\":3}", "messages: a number, want an array"},
        {SLM2_CONVO_MESSAGES, "{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content: missing, want a string"},
        {SLM2_CONVO_MESSAGES, "{\"messages\":[7]}", "messages[0]: a number, want an object"},
        {SLM2_CONVO_ULTRACHAT, "{\"conversations\":[]}", "messages: missing"},
        {SLM2_CONVO_ULTRACHAT, "{\"messages\":[{\"role\":\"human\",\"content\":\"a\"}]}", "messages[0].role: \"human\", want system, user or assistant"},
        {SLM2_CONVO_WIZARDLM, "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"human\",\"value\":\"b\"}]}", "conversations[1].from: the same speaker twice"},
        {SLM2_CONVO_WIZARDLM, "{\"conversations\":[{\"role\":\"user\",\"content\":\"a\"}]}", "conversations[0].from: missing"},
        {SLM2_CONVO_SLIMORCA, "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\",\"weight\":0.5}]}", "conversations[0].weight: want 0, 1 or null"},
        {SLM2_CONVO_SLIMORCA, "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\",\"weight\":\"1\"}]}", "conversations[0].weight"},
        {SLM2_CONVO_SLIMORCA, "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"},{\"from\":\"system\",\"value\":\"c\"}]}", "conversations[2].from: a system message"},
        {SLM2_CONVO_SHAREGPT, "{\"items\":[{\"from\":\"human\",\"value\":null}]}", "items[0].value: null, want a string"},
        {SLM2_CONVO_SHAREGPT, "{\"items\":[],\"system\":5}", "system: a number"},
        {SLM2_CONVO_CAPYBARA, "{\"conversation\":[{\"input\":\"a\"}]}", "conversation[0].output: missing"},
        {SLM2_CONVO_CAPYBARA, "{\"conversation\":[[]]}", "conversation[0]: an array, want an object"},
        {SLM2_CONVO_DEITA, "{\"conversations\":[{\"from\":\"gpt\",\"value\":\"a\"}]}", "conversations[0].from: the assistant begins"},
        {SLM2_CONVO_DEITA, "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"}]}", "the assistant says nothing"},
        {SLM2_CONVO_METAMATH, "{\"query\":\"a\"}", "response: missing"},
        {SLM2_CONVO_METAMATH, "{\"query\":\"\\u000b \",\"response\":\"b\"}", "query: is blank"},
    };
    struct slm2_err err = {0};
    struct slm2_convo_msgs m = {0};
    json_t *j;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct slm2_buf b = {0};
        check_ok(slm2_json_parse(&j, good[i].json, strlen(good[i].json), "x", &err), &err);
        check_ok(slm2_convo_from_json(&m, (enum slm2_convo_format)good[i].format, false, j, "f", &err), &err);
        for (int k = 0; k < m.n; k++) slm2_buf_printf(&b, "%s %s%s ", m.v[k].role, m.v[k].content, m.learn[k] ? "+" : "");
        assert_string_equal(b.v, good[i].text);
        slm2_buf_free(&b);
        json_decref(j);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        check_ok(slm2_json_parse(&j, wrong[i].json, strlen(wrong[i].json), "x", &err), &err);
        assert_int_equal(slm2_convo_from_json(&m, (enum slm2_convo_format)wrong[i].format, false, j, "f.jsonl: line 7", &err), SLM2_EFORMAT);
        if (strncmp(err.msg, "f.jsonl: line 7: ", 17) || !strstr(err.msg, wrong[i].why)) fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.msg, wrong[i].why);
        json_decref(j);
    }
    slm2_convo_msgs_free(&m);
}

/* ---- masks -------------------------------------------------------------------------------------------------------------------- */
/* By hand: the ids of two short conversations, and which of them are learnt. */
static void test_mask_ids(void **state)
{
    (void)state;
    static const struct { const char *chat; int n; int32_t ids[20]; const char *mask; } want[] = {
        {"zephyr", 17, {27, 91, 882, 91, 397, 13347, 100257, 198, 27, 91, 78191, 91, 397, 9906, 0, 100257, 198}, "00000000000001110"},
        {"chatml", 13, {100277, 882, 198, 13347, 100278, 198, 100277, 78191, 198, 9906, 0, 100278, 198}, "0000000001110"},
    };
    struct slm2_err err;
    write_text("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hello!\"}]}\n");
    for (int t = 0; t < 2; t++) {
        struct slm2_convos c;
        struct slm2_convo_opts o = slm2_convo_opts_default();
        o.chat = want[t].chat;
        check_ok(load(&c, 0, &o, &err), &err);
        assert_int_equal(c.n_tok, want[t].n);
        assert_memory_equal(c.ids, want[t].ids, (size_t)want[t].n * sizeof(int32_t));
        for (int i = 0; i < want[t].n; i++) assert_int_equal(c.mask[i], want[t].mask[i] - '0');
        slm2_convos_free(&c);
    }
}

/* Bytes of the rendered text that an exact mask covers: what the assistant says and the token that ends its turn. */
static void mark(const char *text, enum slm2_chat_template tmpl, const struct slm2_msg *v, int n, uint8_t *marked)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const char *open = tmpl == SLM2_CHAT_CHATML ? "<|im_start|>" : "<|", *behind = tmpl == SLM2_CHAT_CHATML ? "\n" : "|>\n", *close = tmpl == SLM2_CHAT_CHATML ? "<|im_end|>" : "<|endoftext|>";
        bool assistant = strcmp(v[i].role, "assistant") == 0;
        if (tmpl == SLM2_CHAT_ZEPHYR && !assistant && strcmp(v[i].role, "user") && strcmp(v[i].role, "system")) continue;
        at += strlen(open) + strlen(v[i].role) + strlen(behind);
        for (size_t k = 0; k < v[i].n + strlen(close); k++) marked[at + k] = assistant;
        at += v[i].n + strlen(close);
        assert_int_equal(text[at++], '\n');
    }
}

/* Token by token on every conversation of the golden renderings and of the samples: a token is learnt when all its bytes are. */
static void test_mask_exact(void **state)
{
    (void)state;
    static const char *const files[] = {"align/chat_template.golden.jsonl", "align/samples/ultrachat_200k.jsonl"};
    struct slm2_err err;
    int n_convo = 0, n_learnt = 0;
    for (int f = 0; f < 4; f++) {
        enum slm2_chat_template tmpl = f % 2 ? SLM2_CHAT_CHATML : SLM2_CHAT_ZEPHYR;
        struct slm2_lines *l;
        const char *line;
        size_t n;
        check_ok(slm2_lines_open(&l, slm2_test_data(files[f / 2]), &err), &err);
        while (slm2_lines_next(l, &line, &n, &err) == SLM2_OK && line) {
            json_t *j;
            struct slm2_msgs m;
            struct slm2_buf text = {0}, mask = {0};
            struct slm2_ids ids = {0};
            struct slm2_chat_opts o = slm2_chat_opts_default(tmpl);
            size_t at = 0, len;
            check_ok(slm2_json_parse(&j, line, n, "line", &err), &err);
            check_ok(slm2_msgs_from_json(&m, j, "line", &err), &err);
            slm2_buf_puts(&text, "");
            slm2_chat_render(tmpl, m.v, m.n, false, &text);
            uint8_t *marked = calloc(text.n + 1, 1);
            mark(text.v, tmpl, m.v, m.n, marked);
            check_ok(slm2_chat_encode(tok, &o, m.v, m.n, &ids, &mask, &err), &err);
            assert_int_equal(mask.n, ids.n);
            for (size_t i = 0; i < ids.n; i++) {
                bool all = true;
                slm2_tok_bytes(tok, ids.v[i], &len);
                for (size_t k = at; k < at + len; k++) all = all && marked[k];
                assert_int_equal(mask.v[i], all);
                n_learnt += all;
                at += len;
            }
            assert_int_equal(at, text.n); /* the texts are in NFC: offsets are those of the rendering */
            n_convo++;
            free(marked);
            slm2_ids_free(&ids);
            slm2_buf_free(&text);
            slm2_buf_free(&mask);
            slm2_msgs_free(&m);
            json_decref(j);
        }
        slm2_lines_close(l);
    }
    assert_true(n_convo > 100 && n_learnt > 1000);
}

/* ---- loading ------------------------------------------------------------------------------------------------------------------ */
static const char convos[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hello!\"},{\"role\":\"user\",\"content\":\"Bye\"},"
    "{\"role\":\"assistant\",\"content\":\"See you.\"}]}\n"
    "no json\n\n"
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Is anybody there?\"}]}\n"
    "{\"messages\":3}\n"
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"2+2?\"},{\"role\":\"assistant\",\"content\":\"4\"}]}\n";

static void test_convos(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_convos c;
    struct slm2_convo_opts o = slm2_convo_opts_default();
    write_text(convos);
    check_ok(load(&c, 0, &o, &err), &err);
    assert_int_equal(c.n, 2);
    assert_int_equal(c.set[0].read, 5);
    assert_int_equal(fate(&c, 0, SLM2_CONVO_INVALID), 2);
    assert_int_equal(fate(&c, 0, SLM2_CONVO_NOTHING_LEARNT), 1);
    assert_int_equal(c.set[0].truncated, 0);
    assert_text(c.ids, (size_t)c.start[1], "<|user|>\nHi<|endoftext|>\n<|assistant|>\nHello!<|endoftext|>\n<|user|>\nBye<|endoftext|>\n<|assistant|>\nSee you.<|endoftext|>\n");
    assert_learnt(&c, 0, "Hello!<|endoftext|>See you.<|endoftext|>");
    assert_learnt(&c, 1, "4<|endoftext|>");
    assert_int_equal(c.start[2], c.n_tok);
    assert_int_equal(c.set[0].tokens, c.n_tok);
    assert_int_equal(c.set[0].assistant_tokens, 9); /* Hello, !, end; See, you, ., end; 4, end */
    slm2_convos_free(&c);

    o.max_turns = 3;
    check_ok(load(&c, 0, &o, &err), &err);
    assert_int_equal(c.n, 1);
    assert_int_equal(fate(&c, 0, SLM2_CONVO_TURNS), 1);
    slm2_convos_free(&c);
    o.turns = 1; /* two exchanges */
    check_ok(load(&c, 0, &o, &err), &err);
    assert_int_equal(c.n, 2);
    slm2_convos_free(&c);

    o = slm2_convo_opts_default();
    o.chat = "chatml";
    o.all_tokens = true;
    check_ok(load(&c, 0, &o, &err), &err);
    assert_int_equal(c.n, 3); /* the unanswered one has something to learn now */
    assert_text(c.ids + c.start[1], (size_t)(c.start[2] - c.start[1]), "<|im_start|>user\nIs anybody there?<|im_end|>\n");
    for (size_t i = 0; i < c.n_tok; i++) assert_int_equal(c.mask[i], 1);
    slm2_convos_free(&c);

    o = slm2_convo_opts_default();
    o.empty_system = true;
    check_ok(load(&c, 0, &o, &err), &err);
    assert_text(c.ids, 9, "<|system|>\n<|endoftext|>\n<|");
    assert_text(c.ids + c.start[1], (size_t)(c.start[2] - c.start[1]), "<|system|>\nBe brief.<|endoftext|>\n<|user|>\n2+2?<|endoftext|>\n<|assistant|>\n4<|endoftext|>\n");
    slm2_convos_free(&c);

    o = slm2_convo_opts_default();
    o.bad_is_fatal = true;
    assert_int_equal(load(&c, 0, &o, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "line 2"));
    assert_null(c.ids);
    o.bad_is_fatal = false;
    assert_int_equal(load(&c, SLM2_CONVO_CAPYBARA, &o, &err), SLM2_EFORMAT); /* the wrong name for the file */
    assert_non_null(strstr(err.msg, "none of 5 records has the form `capybara`; the first: "));
    assert_non_null(strstr(err.msg, "line 1: conversation: missing"));
    o.chat = "alpaca";
    assert_int_equal(load(&c, 0, &o, &err), SLM2_EUSAGE);
}

static void test_weights_are_learnt(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_convos c;
    struct slm2_convo_opts o = slm2_convo_opts_default();
    write_text("{\"conversations\":[{\"from\":\"human\",\"value\":\"a\",\"weight\":0},{\"from\":\"gpt\",\"value\":\"first\",\"weight\":0},{\"from\":\"human\",\"value\":\"b\",\"weight\":0},{\"from\":\"gpt\",\"value\":\"second\",\"weight\":1}]}\n"
               "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\",\"weight\":1},{\"from\":\"gpt\",\"value\":\"r\",\"weight\":0}]}\n"
               "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\",\"weight\":0},{\"from\":\"gpt\",\"value\":\"s\",\"weight\":0}]}\n");
    check_ok(load(&c, SLM2_CONVO_SLIMORCA, &o, &err), &err);
    assert_int_equal(c.n, 2);
    assert_learnt(&c, 0, "second<|endoftext|>");
    assert_learnt(&c, 1, "q<|endoftext|>");
    assert_int_equal(fate(&c, 0, SLM2_CONVO_NOTHING_LEARNT), 1);
    slm2_convos_free(&c);
}

/* The same conversation in another data set, spelt in another way, is the same; the first stays.  Tokens in files or memory, on any number of
 * threads, or only counted: one result. */
static void test_dedup_and_places(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_convos c, other;
    struct slm2_convo_opts o = slm2_convo_opts_default();
    char *files[2] = {(char *)(uintptr_t)slm2_test_data("align/samples/deita_10k.jsonl"), (char *)(uintptr_t)slm2_test_data("align/samples/sharegpt_openchat.jsonl")};
    struct slm2_convo_set sets[3] = {one_set(SLM2_CONVO_DEITA, &files[0]), one_set(SLM2_CONVO_SHAREGPT, &files[1]), one_set(SLM2_CONVO_DEITA, &files[0])};
    o.max_turns = 8;
    o.n_ctx = 64;
    check_ok(slm2_convos_load(&c, sets, 2, tok, &o, &err), &err);
    assert_string_equal(c.set[0].name, "deita_10k");
    assert_int_equal(fate(&c, 0, SLM2_CONVO_DUPLICATE), 1); /* samples 2 and 14 */
    assert_int_equal(fate(&c, 0, SLM2_CONVO_KEPT), 8);
    assert_int_equal(fate(&c, 1, SLM2_CONVO_DUPLICATE), 9);
    assert_int_equal(fate(&c, 1, SLM2_CONVO_KEPT), 0);
    for (int k = 0; k < 2; k++) {
        int64_t all = 0;
        for (int i = 0; i < SLM2_CONVO_N_FATE; i++) all += c.set[k].fate[i];
        assert_int_equal(all, c.set[k].read);
    }
    assert_int_equal(c.set[1].first + c.set[1].n, c.n);
    assert_int_equal(c.n_file, 2);
    assert_int_equal(c.file[0].conversations, 8);
    assert_int_equal(c.file[0].tokens, c.n_tok);
    o.dir = P_tmpdir;
    o.n_threads = 3;
    check_ok(slm2_convos_load(&other, sets, 2, tok, &o, &err), &err);
    assert_int_equal(other.n_tok, c.n_tok);
    assert_memory_equal(other.ids, c.ids, c.n_tok * sizeof *c.ids);
    assert_memory_equal(other.mask, c.mask, c.n_tok);
    assert_memory_equal(&other.hash, &c.hash, sizeof c.hash);
    slm2_convos_free(&other);
    o.all_tokens = true; /* the same ids, another mask */
    check_ok(slm2_convos_load(&other, sets, 2, tok, &o, &err), &err);
    assert_memory_equal(other.ids, c.ids, c.n_tok * sizeof *c.ids);
    assert_memory_not_equal(&other.hash, &c.hash, sizeof c.hash);
    assert_int_equal(other.set[0].assistant_tokens, c.set[0].assistant_tokens);
    slm2_convos_free(&other);
    o.all_tokens = false;
    o.count_only = true;
    check_ok(slm2_convos_load(&other, sets, 2, tok, &o, &err), &err);
    assert_null(other.ids);
    assert_memory_equal(other.start, c.start, ((size_t)c.n + 1) * sizeof *c.start);
    assert_memory_equal(other.set[0].fate, c.set[0].fate, sizeof c.set[0].fate);
    slm2_convos_free(&other);
    slm2_convos_free(&c);
    o.dedup = false;
    check_ok(slm2_convos_load(&c, sets, 3, tok, &o, &err), &err);
    assert_int_equal(c.n, 27);
    assert_string_equal(c.set[2].name, "deita_10k-2");
    slm2_convos_free(&c);
}

static void test_cut_or_drop(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_convos c;
    struct slm2_convo_opts o = slm2_convo_opts_default();
    write_text("[\n {\"messages\": [{\"role\": \"user\", \"content\": \"Count.\"},\n  {\"role\": \"assistant\", \"content\": \"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\"}]},\n {}]\n");
    check_ok(load(&c, 0, &o, &err), &err);
    assert_int_equal(c.n, 1);
    assert_int_equal(fate(&c, 0, SLM2_CONVO_INVALID), 1);
    int64_t whole = c.start[1];
    struct slm2_convos cut;
    o.n_ctx = (int)whole - 6;
    check_ok(load(&cut, 0, &o, &err), &err);
    assert_int_equal(cut.set[0].truncated, 1);
    assert_int_equal(cut.start[1], whole - 5);
    assert_memory_equal(cut.ids, c.ids, (size_t)cut.start[1] * sizeof *c.ids);
    slm2_convos_free(&cut);
    o.drop_long = true;
    check_ok(load(&cut, 0, &o, &err), &err);
    assert_int_equal(cut.n, 0);
    assert_int_equal(fate(&cut, 0, SLM2_CONVO_TOO_LONG), 1);
    slm2_convos_free(&cut);
    o.n_ctx = (int)whole - 1; /* just fits: the last token is only a target */
    check_ok(load(&cut, 0, &o, &err), &err);
    assert_int_equal(cut.n, 1);
    assert_int_equal(cut.set[0].truncated, 0);
    slm2_convos_free(&cut);
    o.drop_long = false;
    o.n_ctx = 10; /* nothing of the answer is left */
    check_ok(load(&cut, 0, &o, &err), &err);
    assert_int_equal(fate(&cut, 0, SLM2_CONVO_NOTHING_LEARNT), 1);
    slm2_convos_free(&cut);
    slm2_convos_free(&c);
}

/* ---- rows --------------------------------------------------------------------------------------------------------------------- */
/* Conversations of made-up ids: number k has length[k] tokens, k * 100 + place, learnt from the third on; two data sets, the first of n_first. */
static void make_convos(struct slm2_convos *c, const int *length, int n, int n_first, int n_ctx)
{
    int64_t total = 0;
    *c = (struct slm2_convos){.n = n, .n_ctx = n_ctx, .n_set = 2};
    c->set = calloc(2, sizeof *c->set);
    c->set[0] = (struct slm2_convo_count){.repeat = 1, .n = n_first};
    c->set[1] = (struct slm2_convo_count){.repeat = 1, .first = n_first, .n = n - n_first};
    c->start = calloc((size_t)n + 1, sizeof *c->start);
    for (int k = 0; k < n; k++) c->start[k + 1] = total += length[k];
    c->n_tok = (size_t)total;
    c->ids = malloc((c->n_tok + 1) * sizeof *c->ids);
    c->mask = malloc(c->n_tok + 1);
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < length[k]; i++) {
            c->ids[c->start[k] + i] = k * 100 + i;
            c->mask[c->start[k] + i] = i >= 2;
        }
    }
}
static void free_made(struct slm2_convos *c)
{
    free(c->ids);
    free(c->mask);
    slm2_convos_free(c);
}

static const int lengths[] = {7, 5, 11, 4, 3, 2, 9}; /* places: 6 4 10 3 2 1 8 */

static void test_best_fit(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_convos c;
    struct slm2_convo_rows r;
    struct slm2_batch b;
    make_convos(&c, lengths, 7, 3, 10);
    check_ok(slm2_convos_pack(&c, 0, false, &r, &err), &err);
    /* by hand, longest first: 2 (10) fills row 0; 6 (8) opens row 1; 0 (6) row 2; 1 (4) fills row 2; 3 (3) row 3; 4 (2) fills row 1; 5 (1) row 3 */
    assert_int_equal(r.n_rows, 4);
    assert_memory_equal(r.first, ((int[]){0, 1, 3, 5, 7}), 5 * sizeof(int));
    assert_memory_equal(r.member, ((int[]){2, 4, 6, 0, 1, 3, 5}), 7 * sizeof(int));
    assert_int_equal(r.n_used, 34);
    assert_true(slm2_convo_rows_fill(&c, &r) == 34.0 / 40);
    assert_int_equal(r.drawn[0], 3);
    assert_int_equal(r.drawn[1], 4);
    c.mask[c.start[0]] = c.mask[c.start[1]] = 1; /* as with all tokens: nothing predicts a first token */
    check_ok(slm2_batch_init(&b, 40, 40, &err), &err);
    check_ok(slm2_convos_add_row(&c, &r, 2, 0.25f, &b, &err), &err);
    assert_int_equal(b.n_tok, 10);
    assert_int_equal(b.n_seq, 2);
    assert_int_equal(b.cu_seqlens[1], 6);
    int learnt = 0;
    for (int i = 0; i < 10; i++) {
        int k = i >= 6, at = k ? i - 6 : i;
        assert_int_equal(b.ids[i], k * 100 + at);
        assert_int_equal(b.position[i], at);
        assert_int_equal(b.target[i], at + 1 >= 2 ? k * 100 + at + 1 : -1);
        assert_true(b.weight[i] == (at + 1 >= 2 ? 0.25f : 0.0f));
        learnt += b.target[i] >= 0;
    }
    assert_int_equal(slm2_convos_count_row(&c, &r, 2), learnt);
    slm2_batch_free(&b);
    slm2_convo_rows_free(&r);
    free_made(&c);
    make_convos(&c, lengths, 0, 0, 10);
    check_ok(slm2_convos_pack(&c, 1, false, &r, &err), &err);
    assert_int_equal(r.n_rows, 0);
    slm2_convo_rows_free(&r);
    free_made(&c);
}

static void test_joined(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_convos c;
    struct slm2_convo_rows r;
    struct slm2_batch b;
    make_convos(&c, lengths, 7, 3, 10);
    check_ok(slm2_convos_pack(&c, 0, true, &r, &err), &err);
    /* 11 tokens a row: 2 (11); 6 (9) and 5 (2); 0 (7) and 3 (4); 1 (5) and 4 (3) */
    assert_int_equal(r.n_rows, 4);
    assert_memory_equal(r.first, ((int[]){0, 1, 3, 5, 7}), 5 * sizeof(int));
    assert_memory_equal(r.member, ((int[]){2, 5, 6, 0, 3, 1, 4}), 7 * sizeof(int));
    assert_int_equal(r.n_used, 10 + 10 + 10 + 7);
    c.mask[c.start[0]] = c.mask[c.start[3]] = 1; /* as with all tokens: the last of one conversation predicts the first of the next */
    check_ok(slm2_batch_init(&b, 12, 12, &err), &err);
    check_ok(slm2_convos_add_row(&c, &r, 2, 0.5f, &b, &err), &err);
    assert_int_equal(b.n_tok, 10);
    assert_int_equal(b.n_seq, 1);
    int learnt = 0;
    for (int i = 0; i < 10; i++) {
        int next = i + 1 < 7 ? i + 1 : 300 + i + 1 - 7;
        bool want = next == 300 || next % 100 >= 2;
        assert_int_equal(b.ids[i], i < 7 ? i : 300 + i - 7);
        assert_int_equal(b.position[i], i);
        assert_int_equal(b.target[i], want ? next : -1);
        assert_true(b.weight[i] == (want ? 0.5f : 0.0f));
        learnt += want;
    }
    assert_int_equal(slm2_convos_count_row(&c, &r, 2), learnt);
    assert_int_equal(slm2_convos_add_row(&c, &r, 1, 0.5f, &b, &err), SLM2_ELIMIT);
    slm2_batch_free(&b);
    slm2_convo_rows_free(&r);
    free_made(&c);
}

/* Drawn lengths: each conversation as often as it should, no row too full, the same rows for the same seed, others for another, and nearly no
 * room lost. */
static void test_rows_at_random(void **state)
{
    (void)state;
    enum { N = 3000, CTX = 200 };
    struct slm2_err err = {0};
    struct slm2_convos c;
    struct slm2_convo_rows r, again, other;
    static int length[N];
    uint32_t x = 12345;
    for (int i = 0; i < N; i++) {
        x = x * 1664525 + 1013904223;
        length[i] = 2 + (int)((x >> 16) % (i % 5 == 0 ? CTX : 60));
    }
    make_convos(&c, length, N, 1000, CTX);
    c.set[0].repeat = 2.5;
    c.set[1].repeat = 0.25;
    for (int joined = 0; joined < 2; joined++) {
        int times[N] = {0}, low = 3, n_three = 0, n_one = 0;
        check_ok(slm2_convos_pack(&c, 7, joined, &r, &err), &err);
        check_ok(slm2_convos_pack(&c, 7, joined, &again, &err), &err);
        check_ok(slm2_convos_pack(&c, 8, joined, &other, &err), &err);
        assert_int_equal(r.n_member, 2500 + 500);
        assert_int_equal(again.n_rows, r.n_rows);
        assert_memory_equal(again.first, r.first, ((size_t)r.n_rows + 1) * sizeof(int));
        assert_memory_equal(again.member, r.member, (size_t)r.n_member * sizeof(int));
        assert_true(memcmp(other.member, r.member, (size_t)r.n_member * sizeof(int)) != 0);
        int64_t used = 0;
        for (int row = 0; row < r.n_rows; row++) {
            int n = 0;
            for (int i = r.first[row]; i < r.first[row + 1]; i++) {
                n += length[r.member[i]] - !joined;
                times[r.member[i]]++;
            }
            n -= joined;
            assert_true(n > 0 && n <= CTX);
            used += n;
        }
        assert_int_equal(used, r.n_used);
        assert_true(slm2_convo_rows_fill(&c, &r) > 0.99);
        for (int i = 0; i < 1000; i++) {
            low = times[i] < low ? times[i] : low;
            n_three += times[i] == 3;
        }
        for (int i = 1000; i < N; i++) {
            assert_true(times[i] <= 1);
            n_one += times[i];
        }
        assert_int_equal(low, 2);
        assert_int_equal(n_three, 500);
        assert_int_equal(n_one, 500);
        slm2_convo_rows_free(&r);
        slm2_convo_rows_free(&again);
        slm2_convo_rows_free(&other);
    }
    free_made(&c);
}

static void test_account(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_convos c;
    struct slm2_convo_rows r;
    struct slm2_convo_opts o = slm2_convo_opts_default();
    struct slm2_buf text = {0};
    write_text(convos);
    check_ok(load(&c, 0, &o, &err), &err);
    check_ok(slm2_convos_pack(&c, 1, false, &r, &err), &err);
    slm2_convos_text(&c, &r, &text);
    assert_non_null(strstr(text.v, "1 rows of 4096 tokens, "));
    json_t *j = slm2_convos_json(&c, &r), *set = json_array_get(json_object_get(j, "sets"), 0), *total = json_object_get(j, "total");
    assert_int_equal(json_integer_value(json_object_get(set, "invalid")), 2);
    assert_int_equal(json_integer_value(json_object_get(set, "nothing_learnt")), 1);
    assert_int_equal(json_integer_value(json_object_get(total, "read")), 5);
    assert_int_equal(json_integer_value(json_object_get(total, "tokens")), c.n_tok);
    assert_int_equal(json_integer_value(json_object_get(j, "tokens_used")), (json_int_t)c.n_tok - 2);
    assert_true(json_real_value(json_object_get(j, "fill")) == (double)(c.n_tok - 2) / 4096);
    json_decref(j);
    slm2_buf_free(&text);
    slm2_convo_rows_free(&r);
    slm2_convos_free(&c);
}

#define WITH_FILES(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)
static const struct CMUnitTest tests[] = {
    WITH_FILES(test_expected), cmocka_unit_test(test_spellings), WITH_FILES(test_mask_ids), WITH_FILES(test_mask_exact), WITH_FILES(test_convos), WITH_FILES(test_weights_are_learnt),
    WITH_FILES(test_dedup_and_places), WITH_FILES(test_cut_or_drop), cmocka_unit_test(test_best_fit), cmocka_unit_test(test_joined), cmocka_unit_test(test_rows_at_random), WITH_FILES(test_account),
};
SLM2_TEST_MAIN(tests)
