/* test_mtbench.c - MT-Bench: data, ratings and judge prompts by hand; answers beside the plain loop of generate.h, for any number of conversations at once
 * and after a stop; the judge through a server that fails in all ways; scores.  tests/data/mtbench is invented; the real data are read where they are. */
#include <math.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/journal.h"
#include "base/log.h"
#include "eval/mtbench.h"
#include "fake_judge.h"
#include "infer/generate.h"
#include "other_variant.h"
#include "scratch_dir.h"

enum { MAX_NEW = 60, N_QUESTION = 5 };
static struct slm2_tok *tok;
static struct slm2_model *model;
static struct slm2_mt_data data;

static const char *at(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "mtbench/%s", name);
    return slm2_test_data(path);
}

/* the vocabulary of the bytes, and a model whose answers are not over at once */
static int setup(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct slm2_buf vocab = {0};
    struct slm2_err err;
    if (make_dir(state)) return -1;
    for (int b = 0; b < 256; b++) slm2_buf_printf(&vocab, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    check_ok(slm2_tok_open_memory(&tok, vocab.v, vocab.n, "test", &err), &err);
    slm2_buf_free(&vocab);
    struct slm2_config cfg = {.vocab_size = slm2_tok_n_vocab(tok) + 3, .hidden_size = 32, .intermediate_size = 64, .n_layer = 2, .n_head = 2, .n_kv_head = 2, .head_dim = 16, .n_rot = 4, .n_ctx = 512,
                              .norm_eps = 1e-5f, .rope_theta = 10000, .init_std = 0.2f, .qkv_bias = true, .eos_id = slm2_tok_eos(tok), .bos_id = slm2_tok_eos(tok)};
    check_ok(slm2_model_trainable(&model, NULL, &cfg, 3, SLM2_FP32, &err), &err);
    const struct slm2_mat *head = &slm2_params_get(&model->params, SLM2_P_HEAD, -1)->w; /* the end is as likely as that byte: answers end by themselves too */
    memcpy((float *)head->data + cfg.eos_id * cfg.hidden_size, (float *)head->data + 185 * cfg.hidden_size, sizeof(float) * (size_t)cfg.hidden_size);
    check_ok(slm2_mt_read(&data, at("question.jsonl"), at("judge_prompts.jsonl"), at("reference_gpt-4.jsonl"), &err), &err);
    return 0;
}

static int teardown(void **state)
{
    slm2_mt_data_free(&data);
    slm2_model_free(model);
    slm2_tok_free(tok);
    return remove_dir(state);
}

/* ---- data, ratings, prompts ------------------------------------------------------------------------------------------------------ */
static void refuse(const char *questions, const char *prompts, const char *references, const char *says)
{
    struct slm2_mt_data d;
    struct slm2_err err;
    assert_int_not_equal(slm2_mt_read(&d, questions, prompts, references, &err), SLM2_OK);
    if (!strstr(err.msg, says)) fail_msg("want \"%s\" in: %s", says, err.msg);
    assert_true(d.n == 0 && !d.owner);
}

static const char *file(const char *name, const char *text)
{
    struct slm2_err err;
    const char *path = in_dir(name);
    check_ok(slm2_file_write(path, text, strlen(text), &err), &err);
    return path;
}

static void test_data(void **state)
{
    (void)state;
    assert_int_equal(data.n, N_QUESTION);
    assert_string_equal(data.v[1].category, "math");
    assert_string_equal(data.v[1].reference[1], "Half of 42 is 21.");
    assert_null(data.v[0].reference[0]);
    assert_true(data.v[0].temperature == 0.7 && data.v[1].temperature == 0 && data.v[3].temperature == 0.1);
    assert_true(slm2_mt_temperature("roleplay") == 0.7 && slm2_mt_temperature("humanities") == 0.1 && slm2_mt_temperature("extraction") == 0 && slm2_mt_temperature("reasoning") == 0 && slm2_mt_temperature("new") == 0.7);
    static const char one[] = "{\"question_id\": 7, \"category\": \"math\", \"turns\": [\"a\", \"b\"], \"required_temperature\": 0.25}\n";
    struct slm2_mt_data d;
    struct slm2_err err;
    check_ok(slm2_mt_read(&d, file("q", one), NULL, NULL, &err), &err);
    assert_true(d.v[0].temperature == 0.25);
    slm2_mt_data_free(&d);
    refuse(in_dir("no.jsonl"), NULL, NULL, "lm-sys/FastChat");
    refuse(file("twice", "{\"question_id\": 7, \"category\": \"math\", \"turns\": [\"a\", \"b\"]}\n{\"question_id\": 7, \"category\": \"math\", \"turns\": [\"a\", \"b\"]}\n"), NULL, NULL, "7 is there twice");
    refuse(file("one_turn", "{\"question_id\": 7, \"category\": \"math\", \"turns\": [\"a\"]}\n"), NULL, NULL, "record 1: turns");
    refuse(file("hot", "{\"question_id\": 7, \"category\": \"math\", \"turns\": [\"a\", \"b\"], \"required_temperature\": -1}\n"), NULL, NULL, "required_temperature");
    refuse(file("none", ""), NULL, NULL, "0 records");
    refuse(file("q", one), NULL, at("reference_gpt-4.jsonl"), "no reference answer to question 7");
    refuse(file("q", one), at("question.jsonl"), NULL, "no prompt of name single-v1");
    refuse(file("q", one), file("p", "{\"name\": \"single-v1\", \"system_prompt\": \"s\", \"prompt_template\": \"a {b\"}\n"), NULL, "prompt single-v1");
}

static void test_rating(void **state)
{
    static const struct { const char *text; double rating; } cases[] = {
        {"Rating: [[5]]", 5}, {"[[7.5]] and [[3]]", 7.5}, {"[3] first, then [[8]]", 8}, {"only [4]", 4}, {"[4.5] [6]", 4.5}, {"[[10.]]", 10}, {"[[a]] [b] [c] [2]", 2}, {"[[[9]]]", 9},
        {"[[ 5 ]]", -1}, {"[[5]", 5}, {"[5", -1}, {"[[-5]]", -1}, {"[[.5]]", -1}, {"[[1.2.3]] [7]", 7}, {"Rating: 5", -1}, {"", -1}, {"[]", -1}, {"[[]]", -1}, {"[[99999999999999999999999999999999999]]", -1}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double got = slm2_mt_rating(cases[i].text, strlen(cases[i].text));
        if (got != cases[i].rating) fail_msg("\"%s\" gives %g, want %g", cases[i].text, got, cases[i].rating);
    }
    assert_true(slm2_mt_rating("[[5]]", 3) == -1); /* nothing beyond n is read */
}

static void test_prompts(void **state)
{
    static const struct { int question, turn; const char *name, *system, *user; } cases[] = {
        {0, 0, "single-v1", "You grade.", "Grade this from 1 to 10 as \"[[grade]]\".\nQ: Write a line about rain.\nA: one {x}\n"},
        {0, 1, "single-v1-multi-turn", "You grade the second.", "Q1: Write a line about rain.\nA1: one {x}\nQ2: Now one about snow, and name {it}.\nA2: two\n"},
        {1, 0, "single-math-v1", "You grade sums.", "Right is: 6 times 7 is 42.\nQ: What is 6 times 7?\nA: one {x}\n"},
        {4, 1, "single-math-v1-multi-turn", "You grade the second sum.",
         "R1: Bob is younger.\nR2: Then Cid is younger than Ann, too.\nQ1: Ann is older than Bob. Who is younger?\nA1: one {x}\nQ2: And if Bob is as old as Cid?\nA2: two\n"},
        {3, 0, "single-v1", "You grade.", "Grade this from 1 to 10 as \"[[grade]]\".\nQ: Why is ice lighter than water?\nA: one {x}\n"}};
    json_t *answers = json_pack("[s, s]", "one {x}", "two");
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct slm2_mt_prompt *p;
        struct slm2_buf b = {0};
        struct slm2_err err;
        check_ok(slm2_mt_user_prompt(&data, &data.v[cases[i].question], cases[i].turn, answers, &p, &b, &err), &err);
        assert_string_equal(b.v, cases[i].user);
        assert_string_equal(p->name, cases[i].name);
        assert_string_equal(p->system, cases[i].system);
        slm2_buf_free(&b);
    }
    json_decref(answers);
}

/* ---- answers ----------------------------------------------------------------------------------------------------------------------- */
static struct slm2_mt_answer_args args(const char *out, int n_seq)
{
    return (struct slm2_mt_answer_args){.model = model, .tok = tok, .model_id = "tiny", .out = out, .tmpl = SLM2_CHAT_ZEPHYR, .max_new = MAX_NEW, .top_k = 40, .seed = 9, .n_seq = n_seq, .n_threads = 2};
}

static json_t *answers_of(const char *path)
{
    json_t *list;
    struct slm2_err err;
    check_ok(slm2_journal_read(path, &list, &err), &err);
    return list;
}

static const char *turn_of(const json_t *answer, int turn)
{
    const char *s = json_string_value(json_array_get(json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "turns"), (size_t)turn));
    assert_non_null(s);
    return s;
}

static void expect_same_answers(const char *a, const char *b)
{
    json_t *x = answers_of(a), *y = answers_of(b);
    assert_int_equal(json_array_size(x), json_array_size(y));
    for (size_t i = 0; i < json_array_size(x); i++) {
        json_object_del(json_array_get(x, i), "tstamp");
        json_object_del(json_array_get(y, i), "tstamp");
    }
    assert_true(json_equal(x, y));
    json_decref(x);
    json_decref(y);
}

/* The long way: one conversation, a fresh engine for each turn, generate.h's loop. */
static void answer_plainly(const struct slm2_mt_question *q, struct slm2_buf text[2])
{
    struct slm2_err err;
    const int32_t stop[] = {slm2_tok_eos(tok)};
    for (int t = 0; t < 2; t++) {
        struct slm2_sampler_opts so = {.temperature = (float)q->temperature, .top_k = 40, .top_p = 1, .repetition_penalty = 1, .seed = ((uint64_t)9 << 24) ^ (2 * (uint64_t)q->id + (uint64_t)t)};
        struct slm2_sampler *sampler;
        struct slm2_engine *e;
        check_ok(slm2_sampler_new(&sampler, slm2_model_vocab_size(model), &so, &err), &err);
        struct slm2_engine_opts eo = slm2_engine_opts_default();
        struct slm2_chat_opts co = slm2_chat_opts_default(SLM2_CHAT_ZEPHYR);
        struct slm2_ids ids = {0};
        struct slm2_gen_result r;
        const struct slm2_msg msg[] = {{"user", q->turn[0], strlen(q->turn[0])}, {"assistant", text[0].v, text[0].n}, {"user", q->turn[1], strlen(q->turn[1])}};
        co.add_generation_prompt = true;
        eo.n_threads = 1;
        check_ok(slm2_engine_new(&e, model, &eo, &err), &err);
        check_ok(slm2_chat_encode(tok, &co, msg, t ? 3 : 1, &ids, NULL, &err), &err);
        check_ok(slm2_generate(e, 0, sampler, tok, &(struct slm2_gen_opts){.n_max = MAX_NEW, .stop_ids = stop, .n_stop_ids = 1}, &ids, &r, &err), &err);
        const char *s = r.text.v ? r.text.v : "";
        size_t n = r.text.n;
        while (n && strchr(" \t\r\n\v\f", s[n - 1])) n--;
        while (n && strchr(" \t\r\n\v\f", *s)) s++, n--;
        slm2_buf_put(&text[t], s, n);
        slm2_buf_free(&r.text);
        slm2_ids_free(&ids);
        slm2_engine_free(e);
        slm2_sampler_free(sampler);
    }
}

static void test_answers(void **state)
{
    struct slm2_mt_answer_done done;
    struct slm2_err err;
    (void)state;
    struct slm2_mt_answer_args a = args(in_dir("one.jsonl"), 1), b = args(in_dir("three.jsonl"), 3), c = args(in_dir("many.jsonl"), 8);
    check_ok(slm2_mt_answer(&data, &a, &done, &err), &err);
    assert_true(done.n_question == N_QUESTION && done.n_new == N_QUESTION && done.n_kept == 0 && done.n_cut == 0 && done.n_token > 2 * N_QUESTION && done.n_token < 2 * N_QUESTION * MAX_NEW);
    assert_true(done.n_long > 0 && done.n_long < 2 * N_QUESTION); /* some end by themselves, some at the limit */
    b.n_threads = 1;
    check_ok(slm2_mt_answer(&data, &b, &done, &err), &err);
    check_ok(slm2_mt_answer(&data, &c, &done, &err), &err);
    expect_same_answers(in_dir("one.jsonl"), in_dir("three.jsonl"));
    expect_same_answers(in_dir("one.jsonl"), in_dir("many.jsonl"));
    json_t *list = answers_of(in_dir("many.jsonl"));
    for (int i = 0; i < N_QUESTION; i++) {
        const json_t *r = json_array_get(list, (size_t)i);
        struct slm2_buf text[2] = {{0}, {0}};
        assert_int_equal(json_integer_value(json_object_get(r, "question_id")), data.v[i].id);
        assert_string_equal(json_string_value(json_object_get(r, "model_id")), "tiny");
        assert_int_equal(json_string_length(json_object_get(r, "answer_id")), 22);
        assert_true(json_real_value(json_object_get(r, "tstamp")) > 1.6e9 && json_object_size(r) == 5);
        answer_plainly(&data.v[i], text);
        for (int t = 0; t < 2; t++) { /* the record has U+FFFD where bytes are no UTF-8: compared up to there */
            const char *got = turn_of(r, t), *bad = strstr(got, "\xEF\xBF\xBD");
            size_t n = bad ? (size_t)(bad - got) : strlen(got);
            assert_true(n <= text[t].n && memcmp(got, text[t].v, n) == 0 && (bad || n == text[t].n));
            slm2_buf_free(&text[t]);
        }
    }
    json_decref(list);
}

static void test_resume(void **state)
{
    struct slm2_mt_answer_done done;
    struct slm2_err err;
    volatile sig_atomic_t stop = 1;
    struct slm2_buf text = {0};
    (void)state;
    struct slm2_mt_answer_args a = args(in_dir("whole.jsonl"), 2), b = args(in_dir("parts.jsonl"), 2);
    check_ok(slm2_mt_answer(&data, &a, &done, &err), &err);
    b.interrupt = &stop;
    assert_int_equal(slm2_mt_answer(&data, &b, &done, &err), SLM2_ESTOP);
    assert_non_null(strstr(err.msg, "0 of 5 answers"));
    b.interrupt = NULL;
    b.limit = 2;
    check_ok(slm2_mt_answer(&data, &b, &done, &err), &err);
    assert_true(done.n_question == 2 && done.n_new == 2);
    check_ok(slm2_file_read(&text, b.out, 1 << 20, &err), &err); /* as a kill in the middle of a write leaves it */
    check_ok(slm2_file_write(b.out, text.v, text.n - 40, &err), &err);
    b.limit = 0;
    b.n_seq = 4;
    check_ok(slm2_mt_answer(&data, &b, &done, &err), &err);
    assert_true(done.n_kept == 1 && done.n_new == 4);
    expect_same_answers(a.out, b.out);
    check_ok(slm2_mt_answer(&data, &b, &done, &err), &err);
    assert_true(done.n_kept == 5 && done.n_new == 0);
    b.seed = 10; /* other settings, other weights */
    assert_int_equal(slm2_mt_answer(&data, &b, &done, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "parts.jsonl"));
    b.seed = 9;
    const struct slm2_param *down = slm2_params_get(&model->params, SLM2_P_DOWN_W, 1);
    float *last = (float *)down->w.data + (size_t)down->n_row * (size_t)down->n_col - 1; /* not in the first row */
    float was = *last;
    *last += 1;
    assert_int_equal(slm2_mt_answer(&data, &b, &done, &err), SLM2_EUSAGE);
    *last = was;
    check_ok(slm2_mt_answer(&data, &b, &done, &err), &err);
    other_variant(true);
    assert_int_equal(slm2_mt_answer(&data, &b, &done, &err), SLM2_EUSAGE);
    other_variant(false);
    b.isa = "scalar"; /* other kernels add in another order */
    assert_int_equal(slm2_mt_answer(&data, &b, &done, &err), SLM2_EUSAGE);
    slm2_buf_free(&text);
}

/* A context that the prompts do not fit into: their beginning is left out, nothing fails. */
static void test_small_context(void **state)
{
    struct slm2_mt_answer_done done;
    struct slm2_err err;
    (void)state;
    struct slm2_mt_answer_args a = args(in_dir("small.jsonl"), 3);
    a.n_ctx = 48;
    check_ok(slm2_mt_answer(&data, &a, &done, &err), &err);
    assert_true(done.n_new == N_QUESTION && done.n_cut >= N_QUESTION);
}

/* ---- the judge ------------------------------------------------------------------------------------------------------------------------ */
static struct slm2_mt_judge_args judge_args(const struct fake_judge *f, const char *out, const char *key)
{
    return (struct slm2_mt_judge_args){.answers = in_dir("answers.jsonl"), .out = out, .judge = "wise", .http = {.url = f->url, .key = key, .n_try = 4, .backoff_ms = 1, .timeout_s = 10}, .n_parallel = 3};
}

/* answers that the test wrote itself */
static void put_answers(void)
{
    struct slm2_err err;
    json_t *list = json_array();
    for (int i = 0; i < N_QUESTION; i++) {
        char one[32], two[32];
        snprintf(one, sizeof one, "first of %d", i + 1);
        snprintf(two, sizeof two, "second of %d", i + 1);
        json_array_append_new(list, json_pack("{s:i, s:s, s:s, s:[{s:i, s:[s, s]}], s:f}", "question_id", i + 1, "answer_id", "x", "model_id", "tiny", "choices", "index", 0, "turns", one, two, "tstamp", 1.5));
    }
    check_ok(slm2_journal_rewrite(in_dir("answers.jsonl"), list, &err), &err);
    json_decref(list);
}

/* Question k gets k for its first turn and k + 0.5 for its second; the second turn of question 4 gets none; that of question 5, with any user, 1e23. */
static char *grade(void *user, const json_t *request)
{
    const json_t *messages = json_object_get(request, "messages");
    const char *system = json_string_value(json_object_get(json_array_get(messages, 0), "content")), *text = json_string_value(json_object_get(json_array_get(messages, 1), "content"));
    char out[64];
    int k = 0;
    assert_true(json_number_value(json_object_get(request, "temperature")) == 0 && json_integer_value(json_object_get(request, "max_tokens")) == 2048);
    assert_string_equal(json_string_value(json_object_get(request, "model")), "wise");
    const char *first = strstr(text, "first of "), *second = strstr(text, "second of ");
    assert_non_null(first);
    k = atoi(first + 9);
    assert_int_equal(second != NULL, strstr(system, "second") != NULL);
    if (second && k == 5 && user) snprintf(out, sizeof out, "Rating: [[100000000000000000000000]]");
    else if (second && k == 4) snprintf(out, sizeof out, "I cannot say.");
    else snprintf(out, sizeof out, second ? "Rating: [[%d.5]]" : "Rating: [[%d]]", k);
    return strdup(out);
}

static void test_judge(void **state)
{
    static const struct fake_reply script[] = {{429, "{\"error\": {\"message\": \"slow down\"}}", NULL}, {500, "oops", NULL}, {200, "<html>", NULL}, {0, NULL, NULL}, {200, "{\"choices\": []}", NULL}, {503, "", NULL}};
    struct fake_judge f = {.key = "k-1", .script = script, .n_script = 6, .answer = grade};
    struct slm2_mt_judge_done done;
    struct slm2_err err;
    (void)state;
    put_answers();
    fake_judge_start(&f);
    struct slm2_mt_judge_args a = judge_args(&f, in_dir("judged.jsonl"), "k-2");
    assert_int_equal(slm2_mt_judge(&data, &a, &done, &err), SLM2_EIO); /* wrong key: at once */
    assert_non_null(strstr(err.msg, "401"));
    assert_null(strstr(err.msg, "k-2"));
    assert_true(f.n_request <= 3);
    f.n_request = 0;
    a.http.key = "k-1";
    check_ok(slm2_mt_judge(&data, &a, &done, &err), &err);
    assert_true(done.n_answer == 10 && done.n_kept == 0 && done.n_new == 10 && done.n_unrated == 1 && done.n_retry >= 5);
    assert_string_equal(f.last_path, "/v1/chat/completions");
    json_t *list = answers_of(a.out), *scores;
    assert_int_equal(json_array_size(list), 10);
    for (size_t i = 0; i < 10; i++) {
        const json_t *r = json_array_get(list, i);
        int k = (int)json_integer_value(json_object_get(r, "question_id")), turn = (int)json_integer_value(json_object_get(r, "turn"));
        double score = json_number_value(json_object_get(r, "score"));
        assert_true(score == (turn == 1 ? k : k == 4 ? -1 : k + 0.5));
        assert_int_equal(json_is_integer(json_object_get(r, "score")), turn == 1 || k == 4);
        assert_string_equal(json_string_value(json_array_get(json_object_get(r, "judge"), 0)), "wise");
        const char *prompt = json_string_value(json_array_get(json_object_get(r, "judge"), 1));
        assert_int_equal(strstr(prompt, "math") != NULL, k == 2 || k == 3 || k == 5);
        assert_int_equal(strstr(prompt, "multi-turn") != NULL, turn == 2);
        assert_non_null(strstr(json_string_value(json_object_get(r, "user_prompt")), data.v[k - 1].turn[0]));
        assert_true(json_is_string(json_object_get(r, "judgment")) && json_is_string(json_object_get(r, "model")) && json_is_real(json_object_get(r, "tstamp")) && json_object_size(r) == 8);
    }
    int n_before = f.n_request;
    check_ok(slm2_mt_judge(&data, &a, &done, &err), &err); /* nothing is asked again */
    assert_true(done.n_kept == 10 && done.n_new == 0 && f.n_request == n_before);
    json_array_remove(list, 3);
    json_array_remove(list, 7);
    check_ok(slm2_journal_rewrite(a.out, list, &err), &err);
    check_ok(slm2_mt_judge(&data, &a, &done, &err), &err);
    assert_true(done.n_kept == 8 && done.n_new == 2 && f.n_request == n_before + 2);
    json_decref(list);

    struct slm2_buf text = {0}; /* another answer under the same names: its judgement is not that of the one before */
    check_ok(slm2_file_read(&text, a.answers, 1 << 20, &err), &err);
    char *third = strstr(text.v, "second of 3");
    assert_non_null(third);
    memcpy(third, "SECOND", 6);
    n_before = f.n_request;
    a.answers = in_dir("other-answers.jsonl");
    check_ok(slm2_file_write(a.answers, text.v, text.n, &err), &err);
    slm2_buf_free(&text);
    assert_int_equal(slm2_mt_judge(&data, &a, &done, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "judged.jsonl"));
    assert_non_null(strstr(err.msg, "question 3, turn 2"));
    assert_non_null(strstr(err.msg, "name another --out"));
    assert_int_equal(f.n_request, n_before);

    check_ok(slm2_mt_scores(&data, a.out, NULL, &scores, &err), &err);
    const json_t *m = json_array_get(json_object_get(scores, "models"), 0), *stem = json_object_get(json_object_get(m, "categories"), "stem");
    assert_true(fabs(json_number_value(json_object_get(m, "score")) - (15 + 13) / 9.0) < 1e-12); /* 1 + ... + 5 and 1.5 + 2.5 + 3.5 + 5.5 */
    assert_true(json_number_value(json_object_get(m, "first_turn")) == 3 && fabs(json_number_value(json_object_get(m, "second_turn")) - 3.25) < 1e-12);
    assert_true(json_integer_value(json_object_get(m, "ratings")) == 9 && json_integer_value(json_object_get(m, "unrated")) == 1);
    assert_true(json_number_value(json_object_get(stem, "score")) == 4 && json_is_null(json_object_get(stem, "second_turn")) && json_integer_value(json_object_get(stem, "unrated")) == 1);
    struct slm2_buf table = {0};
    slm2_mt_table(scores, &table);
    assert_non_null(strstr(table.v, "tiny, judged by wise"));
    assert_non_null(strstr(table.v, "all                    3.11         3.00         3.25        9        1"));
    slm2_buf_clear(&table);
    json_t *published = json_pack("[{s:s}, {s:s, s:s, s:[{s:s, s:s, s:[f]}, {s:s, s:[f], s:s}]}]", "group", "other", "group", "mt_bench", "title", "MT-Bench, judged by X", "rows", "model", "theirs", "size", "1.6B", "values", 5.42,
                                  "model", "others", "values", 3.0, "mark", "M");
    slm2_mt_published(scores, NULL);
    assert_null(json_object_get(scores, "published"));
    slm2_mt_published(scores, published);
    slm2_mt_table(scores, &table);
    assert_non_null(strstr(table.v, "        9        1\n\npublished: MT-Bench, judged by X\n  theirs                        5.42\n  others                        3.00  from memory, unchecked\n"));
    const json_t *rows = json_object_get(json_object_get(scores, "published"), "rows"), *first = json_array_get(rows, 0);
    assert_true(json_array_size(rows) == 2 && json_number_value(json_object_get(first, "score")) == 5.42 && json_is_false(json_object_get(first, "unchecked")));
    assert_string_equal(json_string_value(json_object_get(first, "size")), "1.6B");
    json_decref(published);
    slm2_buf_free(&table);
    json_decref(scores);
    fake_judge_stop(&f);
}

static void test_judge_gives_up(void **state)
{
    static const struct fake_reply refusal[] = {{200, NULL, NULL}, {400, "{\"error\": {\"message\": \"too long for me\"}}", NULL}}, dead[] = {{500, "", NULL}, {500, "", NULL}, {500, "", NULL}, {500, "", NULL}};
    struct fake_judge f = {.script = refusal, .n_script = 2, .answer = grade};
    struct slm2_mt_judge_done done;
    struct slm2_err err;
    volatile sig_atomic_t stop = 1;
    (void)state;
    put_answers();
    fake_judge_start(&f);
    struct slm2_mt_judge_args a = judge_args(&f, in_dir("refused.jsonl"), NULL);
    a.n_parallel = 1;
    check_ok(slm2_mt_judge(&data, &a, &done, &err), &err); /* one request is refused, the others are judged */
    assert_true(done.n_new == 9 && done.n_refused == 1);
    assert_non_null(strstr(done.refusal, "question 1, turn 2"));
    assert_non_null(strstr(done.refusal, "too long for me"));
    f.script = dead; /* the second request of the rest meets a server that is gone for good: what came before is kept */
    f.n_script = 4;
    f.n_request = 0;
    assert_int_equal(slm2_mt_judge(&data, &a, &done, &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "gave up after 4 tries"));
    assert_true(done.n_kept == 9 && done.n_new == 0);
    a.http.interrupt = &stop;
    assert_int_equal(slm2_mt_judge(&data, &a, &done, &err), SLM2_ESTOP);
    assert_non_null(strstr(err.msg, "9 of 10 judgements"));
    a.http.interrupt = NULL;
    f.n_script = 0;
    check_ok(slm2_mt_judge(&data, &a, &done, &err), &err);
    assert_true(done.n_kept == 9 && done.n_new == 1);
    fake_judge_stop(&f);
}

/* A judge that declines one answer in every try: that one is reported, the others are judged, now and when the command is given again. */
static void test_judge_declines(void **state)
{
    static const char null[] = "{\"choices\": [{\"message\": {\"role\": \"assistant\", \"content\": null, \"refusal\": \"no\"}}]}";
    static const struct fake_reply script[] = {{200, NULL, NULL}, {200, null, NULL}, {200, null, NULL}, {200, null, NULL}, {200, null, NULL}, {200, "<html>", NULL}, {200, "", NULL}, {200, "[]", NULL}, {200, "{}", NULL}};
    struct fake_judge f = {.script = script, .n_script = 9, .answer = grade, .user = &data};
    struct slm2_mt_judge_done done;
    struct slm2_err err;
    (void)state;
    put_answers();
    fake_judge_start(&f);
    struct slm2_mt_judge_args a = judge_args(&f, in_dir("declined.jsonl"), NULL);
    char url[96]; /* an endpoint with a query */
    snprintf(url, sizeof url, "%s/?api-version=2", f.url);
    a.http.url = url;
    a.n_parallel = 1;
    check_ok(slm2_mt_judge(&data, &a, &done, &err), &err);
    assert_string_equal(f.last_path, "/v1/chat/completions");
    assert_string_equal(f.last_version, "2");
    assert_true(done.n_new == 8 && done.n_refused == 2 && done.n_retry == 6);
    assert_non_null(strstr(done.refusal, "question 1, turn 2: gave up after 4 tries"));
    assert_non_null(strstr(done.refusal, "message.content"));
    check_ok(slm2_mt_judge(&data, &a, &done, &err), &err);
    assert_true(done.n_kept == 8 && done.n_new == 2 && done.n_refused == 0);
    json_t *list = answers_of(a.out); /* a rating beyond all integers is a number like others */
    int n_huge = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *score = json_object_get(json_array_get(list, i), "score");
        n_huge += json_is_real(score) && json_real_value(score) == 1e23;
    }
    assert_int_equal(n_huge, 1);
    json_decref(list);
    fake_judge_stop(&f);
}

static void test_bad_files(void **state)
{
    static const char head[] = "{\"question_id\": 1, \"model\": \"m\", \"judge\": [\"wise\", \"single-v1\"], \"turn\": ";
    struct fake_judge f = {.answer = grade};
    struct slm2_mt_judge_done done;
    struct slm2_err err;
    json_t *scores;
    char text[512];
    (void)state;
    fake_judge_start(&f);
    struct slm2_mt_judge_args a = judge_args(&f, in_dir("bad-judged.jsonl"), NULL);
    static const struct { const char *text, *says; } bad[] = {
        {"{\"question_id\": 99, \"model_id\": \"m\", \"choices\": [{\"turns\": [\"a\", \"b\"]}]}\n", "question 99"}, {"{\"question_id\": 1, \"model_id\": \"m\", \"choices\": [{\"turns\": [\"a\"]}]}\n", "choices[0].turns"},
        {"{\"question_id\": 1, \"choices\": [{\"turns\": [\"a\", \"b\"]}]}\n", "model_id"}, {"", "holds no answer"},
        {"{\"question_id\": 1, \"model_id\": \"m\", \"choices\": [{\"turns\": [\"a\", \"b\"]}]}\n{\"question_id\": 1, \"model_id\": \"m\", \"choices\": [{\"turns\": [\"a\", \"b\"]}]}\n", "record 2: a second answer"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        a.answers = file("bad-answers", bad[i].text);
        assert_int_equal(slm2_mt_judge(&data, &a, &done, &err), SLM2_EFORMAT);
        if (!strstr(err.msg, bad[i].says)) fail_msg("want \"%s\" in: %s", bad[i].says, err.msg);
    }
    assert_int_equal(f.n_request, 0);
    fake_judge_stop(&f);
    snprintf(text, sizeof text, "%s1, \"score\": 3}\n%s1, \"score\": 3}\n", head, head);
    assert_int_equal(slm2_mt_scores(&data, file("j", text), NULL, &scores, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "judged twice"));
    snprintf(text, sizeof text, "%s3, \"score\": 3}\n", head);
    assert_int_equal(slm2_mt_scores(&data, file("j", text), NULL, &scores, &err), SLM2_EFORMAT);
    snprintf(text, sizeof text, "%s1, \"score\": \"good\"}\n", head);
    assert_int_equal(slm2_mt_scores(&data, file("j", text), NULL, &scores, &err), SLM2_EFORMAT);
    snprintf(text, sizeof text, "%s1, \"score\": 3}\n{\"question_id\": 1, \"model\": \"m\", \"judge\": [\"other\", \"x\"], \"turn\": 1, \"score\": 4}\n", head);
    assert_int_equal(slm2_mt_scores(&data, file("j", text), NULL, &scores, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "wise and of other"));
    assert_int_equal(slm2_mt_scores(&data, file("j", text), "third", &scores, &err), SLM2_EUSAGE);
    check_ok(slm2_mt_scores(&data, file("j", text), "other", &scores, &err), &err);
    assert_true(json_number_value(json_object_get(json_array_get(json_object_get(scores, "models"), 0), "score")) == 4);
    json_decref(scores);
}

static int n_skipped; /* tests */

/* ---- the real data ------------------------------------------------------------------------------------------------------------------ */
static void test_real_data(void **state)
{
    const char *folder = getenv("SLM2_EVAL_DATA");
    char path[3][600];
    struct slm2_mt_data d;
    struct slm2_err err;
    int n_ref = 0;
    (void)state;
    static const char *const name[] = {"question.jsonl", "judge_prompts.jsonl", "reference_gpt-4.jsonl"};
    for (int i = 0; i < 3; i++) snprintf(path[i], sizeof path[i], "%.500s/mt_bench/%s", folder ? folder : "../shared/eval/data", name[i]);
    if (!slm2_path_exists(path[0])) {
        printf("skipped: no %s; SLM2_EVAL_DATA names the folder of the evaluation data\n", path[0]);
        n_skipped++;
        skip();
    }
    check_ok(slm2_mt_read(&d, path[0], path[1], path[2], &err), &err);
    assert_int_equal(d.n, 80);
    json_t *answers = json_pack("[s, s]", "ANSWER ONE", "ANSWER TWO");
    for (int i = 0; i < d.n; i++) {
        assert_int_equal(d.v[i].id, 81 + i);
        n_ref += d.v[i].reference[0] != NULL;
        for (int t = 0; t < 2; t++) {
            const struct slm2_mt_prompt *p;
            struct slm2_buf b = {0};
            check_ok(slm2_mt_user_prompt(&d, &d.v[i], t, answers, &p, &b, &err), &err);
            assert_non_null(strstr(b.v, d.v[i].turn[t]));
            assert_non_null(strstr(b.v, t ? "ANSWER TWO" : "ANSWER ONE"));
            assert_int_equal(strstr(b.v, "reference answer") != NULL || strstr(b.v, "Reference Answer") != NULL, slm2_mt_needs_reference(d.v[i].category));
            if (slm2_mt_needs_reference(d.v[i].category)) assert_non_null(strstr(b.v, d.v[i].reference[t]));
            slm2_buf_free(&b);
        }
    }
    assert_int_equal(n_ref, 30);
    assert_true(d.v[0].temperature == 0.7 && d.v[20].temperature == 0 && d.v[70].temperature == 0.1); /* writing, reasoning, humanities */
    json_decref(answers);
    slm2_mt_data_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_data),    cmocka_unit_test(test_rating),         cmocka_unit_test(test_prompts),   cmocka_unit_test(test_answers),  cmocka_unit_test(test_resume),
                                       cmocka_unit_test(test_small_context), cmocka_unit_test(test_judge), cmocka_unit_test(test_judge_gives_up), cmocka_unit_test(test_judge_declines), cmocka_unit_test(test_bad_files), cmocka_unit_test(test_real_data)};
    int n = (int)(sizeof tests / sizeof *tests), n_failed = cmocka_run_group_tests(tests, setup, teardown);
    if (n_skipped > 0) printf("skipped: %d test of %d, on the published questions, which SLM2_EVAL_DATA names\n", n_skipped, n);
    printf("%d passed, %d failed\n", n - n_failed - n_skipped, n_failed);
    return n_failed != 0;
}
