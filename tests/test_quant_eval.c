/* test_quant_eval.c - quantised files beside their original, on a model of 2 layers: what must be nothing is nothing, what must be the figures of the
 * other roads (compare, eval) is, and less bits lose more. */
#include <math.h>
#include <string.h>

#include "eval/quant_eval.h"
#include "quant/convert.h"
#include "scratch_dir.h"

static const char words[] = "The size of a file is a figure that anybody can see; what is lost with the bits has to be measured on text.";
static struct slm2_tok *tok;
static struct slm2_model *original;

static void convert(const char *name, enum slm2_dtype t)
{
    struct slm2_convert_opts o = slm2_convert_opts_default();
    struct slm2_err err;
    o.dtype = t;
    check_ok(slm2_convert(in_dir("original"), in_dir(name), &o, NULL, &err), &err);
}

static int setup(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char task[] = "name: tiny\nkind: choice\ndata: items.jsonl\nprompt: \"{text}\"\nchoices: choices\ngold: answer\n";
    struct slm2_buf vocab = {0}, items = {0};
    struct slm2_model *m;
    struct slm2_err err;
    if (make_dir(state)) return -1;
    for (int b = 0; b < 256; b++) slm2_buf_printf(&vocab, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    check_ok(slm2_tok_open_memory(&tok, vocab.v, vocab.n, "test", &err), &err);
    for (int i = 0; i < 12; i++) slm2_buf_printf(&items, "{\"text\": \"%d and\", \"choices\": [\"one\", \"two\", \"more\"], \"answer\": %d}\n", i, i % 3);
    check_ok(slm2_file_write(in_dir("items.jsonl"), items.v, items.n, &err), &err);
    check_ok(slm2_file_write(in_dir("tiny.yml"), task, sizeof task - 1, &err), &err);
    check_ok(slm2_file_write(in_dir("text.txt"), words, sizeof words - 1, &err), &err);
    struct slm2_config cfg = {.vocab_size = slm2_tok_n_vocab(tok), .hidden_size = 64, .intermediate_size = 96, .n_layer = 2, .n_head = 2, .n_kv_head = 2, .head_dim = 32, .n_rot = 8, .n_ctx = 64,
                              .norm_eps = 1e-5f, .rope_theta = 10000, .init_std = 0.15f, .qkv_bias = true, .eos_id = slm2_tok_eos(tok), .bos_id = slm2_tok_eos(tok)};
    check_ok(slm2_model_trainable(&m, NULL, &cfg, 4, SLM2_FP32, &err), &err);
    check_ok(slm2_model_save_hf(m, NULL, in_dir("original"), SLM2_F32, &err), &err);
    slm2_model_free(m);
    check_ok(slm2_model_open(&original, in_dir("original"), &err), &err);
    convert("f32.gguf", SLM2_F32);
    convert("q8.gguf", SLM2_Q8_0);
    convert("q4.gguf", SLM2_Q4_0);
    slm2_buf_free(&vocab);
    slm2_buf_free(&items);
    return 0;
}

static int teardown(void **state)
{
    slm2_model_free(original);
    slm2_tok_free(tok);
    return remove_dir(state);
}

static double number(const json_t *j, const char *key)
{
    const json_t *v = json_object_get(j, key);
    if (!json_is_number(v)) fail_msg("no number %s", key);
    return json_number_value(v);
}

static void test_figures(void **state)
{
    const char *files[] = {in_dir("f32.gguf"), in_dir("q8.gguf"), in_dir("q4.gguf")}, *text = in_dir("text.txt"), *task = in_dir("tiny.yml");
    struct slm2_quant_eval_args a = {.original = in_dir("original"), .model = original, .tok = tok, .files = files, .n_files = 3, .texts = &text, .n_texts = 1, .text = {.n_ctx = 32, .n_threads = 2},
                                     .tasks = &task, .n_tasks = 1};
    struct slm2_err err;
    json_t *j;
    (void)state;
    check_ok(slm2_quant_eval(&a, &j, &err), &err);
    const json_t *o = json_object_get(j, "original"), *m[3];
    for (size_t i = 0; i < 3; i++) m[i] = json_array_get(json_object_get(j, "models"), i);
    assert_int_equal(json_array_size(json_object_get(j, "models")), 3);
    assert_true(number(j, "tokens") == sizeof words - 1 && number(j, "documents") == 1 && number(j, "n_ctx") == 32);
    assert_string_equal(json_string_value(json_object_get(o, "file")), "original");
    assert_string_equal(json_string_value(json_object_get(m[1], "file")), "q8.gguf");
    assert_true(number(o, "bits_per_weight") == 32 && number(m[1], "bits_per_weight") == 8.5 && number(m[2], "bits_per_weight") == 4.5);
    assert_true(number(o, "bytes") > number(m[1], "bytes") && number(m[1], "bytes") > number(m[2], "bytes"));
    /* the same weights in another file: nothing is lost */
    assert_true(number(m[0], "kl") == 0 && number(m[0], "kl_max") == 0 && number(m[0], "top1_agreement") == 1 && number(m[0], "perplexity_ratio") == 1);
    assert_true(number(m[0], "token_perplexity") == number(o, "token_perplexity"));
    /* fewer bits lose more */
    assert_true(number(m[1], "kl") > 0 && number(m[2], "kl") > 10 * number(m[1], "kl") && number(m[2], "kl_median") > number(m[1], "kl_median"));
    /* the figures are those of one comparison by itself */
    struct slm2_model *q4;
    struct slm2_compare c;
    check_ok(slm2_model_open(&q4, files[2], &err), &err);
    check_ok(slm2_compare_files(&(struct slm2_compare_side){.m = original, .exact = true}, &(struct slm2_compare_side){.m = q4}, 1, tok, &text, 1, &a.text, &c, &err), &err);
    assert_true(number(m[2], "kl") == slm2_compare_kl(&c) && number(m[2], "kl_99") == c.p99_kl && number(m[2], "top1_agreement") == (double)c.n_same_top / (double)c.n_tokens);
    assert_true(fabs(number(m[2], "perplexity_ratio") - number(m[2], "token_perplexity") / number(o, "token_perplexity")) < 1e-12);
    /* scores, too */
    struct slm2_eval_result r;
    check_ok(slm2_eval(&(struct slm2_eval_args){.model = q4, .tok = tok, .tasks = &task, .n_tasks = 1, .n_shot = -1, .n_threads = 1}, &r, &err), &err);
    for (size_t i = 0; i < 3; i++) {
        const json_t *acc = json_object_get(json_object_get(json_object_get(m[i], "tasks"), "tiny"), "acc");
        assert_true(number(acc, "difference") == number(acc, "value") - number(acc, "original"));
        if (i == 0) assert_true(number(acc, "difference") == 0 && number(acc, "stderr") > 0);
        if (i == 2) assert_true(number(acc, "value") == slm2_eval_figure(&r, "tiny", "acc", NULL));
    }
    struct slm2_buf table = {0};
    slm2_quant_eval_table(j, &table);
    assert_non_null(strstr(table.v, "q8.gguf"));
    assert_non_null(strstr(table.v, "8.500"));
    assert_non_null(strstr(table.v, "tiny                 acc"));
    slm2_buf_free(&table);
    slm2_eval_result_free(&r);
    slm2_model_free(q4);
    json_decref(j);
}

static void test_refuses(void **state)
{
    const char *files[] = {in_dir("q8.gguf"), in_dir("no.gguf")}, *text = in_dir("text.txt");
    struct slm2_quant_eval_args a = {.original = in_dir("original"), .model = original, .tok = tok, .files = files, .n_files = 2, .texts = &text, .n_texts = 1};
    struct slm2_err err;
    json_t *j;
    (void)state;
    assert_int_equal(slm2_quant_eval(&a, &j, &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "no.gguf"));
    a.n_files = 0;
    assert_int_equal(slm2_quant_eval(&a, &j, &err), SLM2_EUSAGE);
    a.n_files = SLM2_QUANT_EVAL_MAX + 1;
    assert_int_equal(slm2_quant_eval(&a, &j, &err), SLM2_EUSAGE);
    assert_null(j);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_figures), cmocka_unit_test(test_refuses)};
SLM2_TEST_MAIN_WITH(tests, setup, teardown)
