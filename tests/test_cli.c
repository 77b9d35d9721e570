/* test_cli.c - what scripts rely on in the program `slm2` itself: exit status, results alone on stdout, --help everywhere, the JSON of
 * logits and generate.  Runs the slm2 that lies beside the test's own folder (BUILD/slm2 for BUILD/tests/test_cli). */
#include "run_cli.h"

#include <math.h>

#include "base/json.h"
#include "io/safetensors.h"
#include "model/lora.h"
#include "tok/chat.h"
#include "tok/tok.h"

static void test_usage(void **state)
{
    (void)state;
    expect("--version", 0, "slm2 " SLM2_VERSION, NULL);
    expect("help", 0, "generate", NULL);
    expect("", 2, NULL, "usage:");
    expect("genrate", 2, NULL, "did you mean \"generate\"");
    expect("help nonsense", 2, NULL, "unknown command");
    expect("help data build", 0, "--val-fraction", NULL);
    expect("help mtbench answer", 0, "--max-new", NULL);
    expect("logits --bogus", 2, NULL, "slm2: error: ");
    expect("logits", 2, NULL, "model");
    expect("generate --model m --top-p 3 --ids 1", 2, NULL, "top_p");
    expect("generate --model no-such-model --ids 1", 1, NULL, "no-such-model");
    expect("mtbench", 2, NULL, "answer, judge or show");
    expect("mtbench show --judgements j.jsonl --data no-such-folder", 1, NULL, "no-such-folder/question.jsonl: no such file; want MT-Bench's questions");
    expect("compare one", 2, NULL, "want the original and at least one file");
    expect("compare one two", 2, NULL, "--text FILE");
    expect("eval", 2, NULL, "--model is missing");
    expect("eval --list", 0, "\nleaderboard ", NULL);
    expect("eval --tasks astrology --show 1", 2, NULL, "eval --list");
    expect("eval --tasks piqa --show 1", 1, NULL, "ybisk/piqa, split validation (1838) as piqa/items.jsonl");
    expect("eval --tasks piqa --data-dir tests/data/eval --show 2", 0, "---- piqa, item 1, 0 examples\nQuestion: Dry a wet shoe.\nAnswer:\n  [ Fill it with water.]\n* [ Fill it with paper.]\n", NULL);
    expect("eval --tasks piqa --data-dir tests/data/eval --show 1 --json", 0, "\"requests\":[[\"Question: Open a stuck jar.\\nAnswer:\",\" Warm the lid.\"]", NULL);
    expect("eval --tasks gsm8k --data-dir tests/data/eval --show 1 --n-shot 0", 0, "---- gsm8k, item 0, 0 examples\n", NULL);
    expect("eval --tasks winogrande --data-dir tests/data/eval --show 1 --n-shot 1", 0, "---- winogrande, item 0, 1 examples\n", NULL);
}

/* Every command that `slm2 help` lists explains itself on stdout with options and examples. */
static void test_help_of_all(void **state)
{
    (void)state;
    assert_int_equal(run("help"), 0);
    char *list = strdup(out.v), *save = NULL;
    int n = 0;
    for (char *line = strtok_r(list, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char name[32], args[64];
        if (strncmp(line, "  ", 2) != 0 || sscanf(line, " %31s", name) != 1) continue;
        snprintf(args, sizeof args, "help %s", name);
        expect(args, 0, "usage:", NULL);
        assert_non_null(strstr(out.v, "slm2 "));
        n++;
    }
    free(list);
    assert_true(n >= 5);
}

static json_t *parse_stdout(void)
{
    struct slm2_err err;
    json_t *j = NULL;
    if (slm2_json_parse(&j, out.v, out.n, "stdout", &err) != SLM2_OK) fail_msg("%s in \"%.200s\"", err.msg, out.v);
    return j;
}

static void test_logits_json(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_tensors ts;
    char args[2048], list[1024] = "";
    assert_int_equal(slm2_safetensors_open(&ts, slm2_test_data("golden/forward/tiny.safetensors"), &err), SLM2_OK);
    const struct slm2_tensor *ids = slm2_tensors_find(&ts, "seq2.ids"), *want = slm2_tensors_find(&ts, "seq2.logits");
    assert_non_null(ids);
    assert_non_null(want);
    int n = (int)ids->dim[0], vocab = (int)want->dim[1];
    for (int i = 0; i < n; i++) {
        int32_t id;
        memcpy(&id, (const char *)ids->data + 4 * i, 4);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%d ", id);
    }
    for (int all = 0; all < 2; all++) {
        snprintf(args, sizeof args, "logits --model '%s' --ids '%s' --json -t 2%s", slm2_test_data("golden/tiny"), list, all ? " --all" : "");
        expect(args, 0, "{", NULL);
        json_t *j = parse_stdout();
        const json_t *rows = json_object_get(j, "logits");
        assert_int_equal(json_integer_value(json_object_get(j, "vocab_size")), vocab);
        assert_int_equal(json_array_size(rows), all ? n : vocab);
        for (int r = all ? 0 : n - 1; r < n; r++)
            for (int i = 0; i < vocab; i++) {
                float w;
                memcpy(&w, (const char *)want->data + 4 * ((size_t)r * (size_t)vocab + (size_t)i), 4);
                const json_t *x = json_array_get(all ? json_array_get(rows, (size_t)r) : rows, (size_t)i);
                assert_true(fabs(json_number_value(x) - (double)w) < 5e-5);
            }
        json_decref(j);
    }
    slm2_tensors_free(&ts);
}

static void test_generate_json(void **state)
{
    (void)state;
    char args[1024];
    static const int want[] = {335, 120, 464, 88, 113}; /* the first golden run */
    snprintf(args, sizeof args, "generate --model '%s' --ids 381 -n 5 --greedy --json", slm2_test_data("golden/tiny"));
    expect(args, 0, "{", NULL);
    json_t *j = parse_stdout();
    const json_t *ids = json_object_get(j, "ids");
    assert_int_equal(json_array_size(ids), 5);
    for (size_t i = 0; i < 5; i++) assert_int_equal(json_integer_value(json_array_get(ids, i)), want[i]);
    assert_int_equal(json_array_size(json_object_get(j, "logprobs")), 5);
    assert_string_equal(json_string_value(json_object_get(j, "end")), "length");
    json_decref(j);
    snprintf(args, sizeof args, "generate --model '%s' --ids 381 -n 5 --greedy", slm2_test_data("golden/tiny"));
    expect(args, 0, "335 120 464 88 113\n", NULL);
    snprintf(args, sizeof args, "generate --model '%s' --ids 512", slm2_test_data("golden/tiny"));
    expect(args, 2, NULL, "512");
    snprintf(args, sizeof args, "generate --model '%s' --ids 381 -n 5 >/dev/full", slm2_test_data("golden/tiny"));
    assert_int_equal(run(args), 1); /* what was not written is not done */
}

/* ---- bench: the fields are there and fit together; never a time ---------------------------------------------------- */
static double number(const json_t *j, const char *name)
{
    const json_t *v = json_object_get(j, name);
    if (!json_is_number(v)) fail_msg("no number \"%s\" in %.300s", name, out.v);
    return json_number_value(v);
}

/* A positive median between its least and most. */
static double median(const json_t *j, const char *name)
{
    char key[64];
    double m = number(j, name);
    snprintf(key, sizeof key, "%s_min", name);
    double lo = number(j, key);
    snprintf(key, sizeof key, "%s_max", name);
    double hi = number(j, key);
    if (!(lo > 0 && lo <= m && m <= hi && isfinite(hi))) fail_msg("%s: %g, least %g, most %g", name, m, lo, hi);
    return m;
}

static json_t *bench(const char *args)
{
    char line[1024];
    snprintf(line, sizeof line, "bench --model '%s' -t 2 --json %s", slm2_test_data("golden/tiny"), args);
    expect(line, 0, "{", NULL);
    json_t *j = parse_stdout();
    static const char *const positive[] = {"load_s", "first_token_s", "load_warm_s", "first_token_warm_s", "peak_rss_bytes", "weight_bytes_per_token"};
    for (size_t i = 0; i < sizeof positive / sizeof positive[0]; i++) assert_true(number(j, positive[i]) > 0);
    assert_true(number(j, "peak_rss_bytes") < 512 << 20); /* without the block of the probe */
    assert_int_equal((int)number(j, "threads"), 2);
    assert_true(json_is_string(json_object_get(j, "kernels")));
    return j;
}

static void test_bench_model(void **state)
{
    (void)state;
    json_t *j = bench("-p 12 -n 4 -r 4");
    double prefill = median(j, "prefill_tps"), decode = median(j, "decode_tps"), read = median(j, "read_gb_per_s"), share = median(j, "share_of_limit");
    assert_true(fabs(number(j, "prompt_s") * prefill - 12) < 1e-6);
    assert_true(fabs(number(j, "prefill_share_of_limit") * number(j, "prefill_limit_tps") / prefill - 1) < 1e-9);
    assert_true(number(j, "decode_gb_per_s") * 1e9 >= decode * number(j, "weight_bytes_per_token")); /* and the cache */
    assert_true(read > 0 && share > 0);
    assert_string_equal(json_string_value(json_object_get(j, "type")), "F32");
    assert_string_equal(json_string_value(json_object_get(j, "prefill_limit")), "fp32");
    assert_int_equal((int)number(j, "n_prompt"), 12);
    assert_int_equal((int)number(j, "repeat"), 4);
    json_decref(j);
}

static void test_bench_contexts(void **state)
{
    (void)state;
    json_t *j = bench("-p 8 -n 4 -r 2 --contexts 32,16,0"), *rows = json_object_get(j, "contexts");
    static const int want[] = {0, 16, 32};
    assert_int_equal(json_array_size(rows), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *row = json_array_get(rows, i), *first = json_array_get(rows, 0);
        assert_int_equal((int)number(row, "context"), want[i]);
        assert_true(fabs(number(row, "prefill_ratio") - median(row, "prefill_tps") / median(first, "prefill_tps")) < 1e-9);
        assert_true(fabs(number(row, "decode_ratio") - median(row, "decode_tps") / median(first, "decode_tps")) < 1e-9);
        median(row, "share_of_limit");
    }
    json_decref(j);
}

static void test_bench_seqs(void **state)
{
    (void)state;
    json_t *j = bench("-p 8 -n 4 -r 2 --seqs 3"), *rows = json_object_get(j, "seqs");
    assert_int_equal(json_array_size(rows), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *row = json_array_get(rows, i);
        assert_int_equal((int)number(row, "seqs"), i ? 3 : 1);
        assert_true(fabs(number(row, "ratio") - median(row, "decode_tps") / median(json_array_get(rows, 0), "decode_tps")) < 1e-9);
    }
    json_decref(j);
}

static void test_bench_usage(void **state)
{
    (void)state;
    char args[1024];
    snprintf(args, sizeof args, "bench --model '%s' --seqs 2 --contexts 16", slm2_test_data("golden/tiny"));
    expect(args, 2, NULL, "give one of them");
    snprintf(args, sizeof args, "bench --model '%s' -n 16 --contexts 16", slm2_test_data("golden/tiny"));
    expect(args, 2, NULL, "lower -n");
    snprintf(args, sizeof args, "bench --model '%s' --seqs 0", slm2_test_data("golden/tiny"));
    expect(args, 2, NULL, "--seqs 0");
    snprintf(args, sizeof args, "bench --model '%s' -p 100000", slm2_test_data("golden/tiny"));
    expect(args, 2, NULL, "context holds");
    expect("bench limits --bogus", 2, NULL, "slm2 bench limits --help");
}

static void test_bench_limits(void **state)
{
    (void)state;
    expect("bench limits -t 2 --json", 0, "{", NULL);
    json_t *j = parse_stdout(), *rows = json_object_get(j, "limits");
    assert_int_equal(json_array_size(rows), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *row = json_array_get(rows, i);
        assert_int_equal((int)number(row, "threads"), (int)i + 1);
        assert_true(number(row, "read_gb_per_s") > 0);
        assert_true(number(row, "fp32_gflop_per_s") > 0);
        assert_true(number(row, "bf16_gflop_per_s") >= 0); /* 0: the processor lacks it */
        assert_true(number(row, "int8_gop_per_s") >= 0);
    }
    json_decref(j);
}

/* data: builds with figures for each stage, statistics with what was left out, plans and languages. */
static void test_data(void **state)
{
    (void)state;
    char args[1024];
    snprintf(args, sizeof args, "data build configs/data-filtered.yml --json --out %s/a -t 2", dir);
    expect(args, 0, "\"mb_per_s\"", "near-duplicates");
    json_t *j = parse_stdout(), *stages = json_object_get(j, "stages");
    static const char *const names[] = {"read", "parse", "hash", "filter", "minhash", "dedup", "tokenize", "write"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) assert_true(json_is_real(json_object_get(json_object_get(stages, names[i]), "mb_per_s")));
    json_decref(j);
    snprintf(args, sizeof args, "data stats %s/a", dir);
    expect(args, 0, "of 154 lines left out: 29 filtered (min_alpha_words 14,", NULL);
    snprintf(args, sizeof args, "data stats %s/a --json", dir);
    expect(args, 0, "\"left_out\"", NULL);
    j = parse_stdout();
    assert_int_equal(json_array_size(json_object_get(j, "left_out")), 8);
    json_decref(j);
    snprintf(args, sizeof args, "data verify %s/a -t 2", dir);
    expect(args, 0, "all files are as the manifest says", NULL);
    snprintf(args, sizeof args, "%s/a/it.idx", dir);
    FILE *f = fopen(args, "ab");
    assert_true(f && fputc('x', f) == 'x' && fclose(f) == 0);
    snprintf(args, sizeof args, "data verify %s/a", dir);
    expect(args, 1, NULL, "it.idx");
    expect("data mix --plan configs/mix/stablelm-2-1_6b.yml --tokens 1e9 --json", 0, "\"RefinedWeb\"", NULL);
    expect("data mix", 2, NULL, "plan");
    expect("data langid README.md", 0, "README.md:1: en", NULL);
    expect("data langid", 2, NULL, "name files");
    expect("data nonsense", 2, NULL, "mix");
}

/* `slm2` with the environment of a launcher. */
static void expect_as(const char *env, const char *args, int status, const char *in_stderr)
{
    char plain[PATH_MAX];
    snprintf(plain, sizeof plain, "%s", program);
    snprintf(program, sizeof program, "/usr/bin/env' %s '%.3000s", env, plain);
    expect(args, status, NULL, in_stderr);
    snprintf(program, sizeof program, "%s", plain);
}

/* A job of one task is a run without ranks, in a build without MPI too; the later stages refuse to be several. */
static void test_launched(void **state)
{
    (void)state;
    /* gets as far as the settings: no word of MPI */
    static const char *const one[] = {"PMI_RANK=0 PMI_SIZE=1", "PMIX_RANK=0 SLURM_STEP_NUM_TASKS=1", "SLURM_STEP_NUM_TASKS=1"};
    for (size_t i = 0; i < 3; i++) expect_as(one[i], "pretrain --run no-run --set train.steps=1", 2, "no data");
    expect_as("SLURM_STEP_NUM_TASKS=2", "pretrain --run no-run --set train.steps=1", 2, "started as one of 2 tasks (SLURM_STEP_NUM_TASKS)");
    static const char *const stages[] = {"sft", "dpo", "selfknow"}, *const many[] = {"OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2", "PMIX_RANK=0", "SLURM_STEP_NUM_TASKS=3"};
    char args[300], says[64];
    for (int i = 0; i < 3; i++) {
        snprintf(args, sizeof args, "%s --model no-model --run no-run%s", stages[i], i == 2 ? " --card assets/selfknow/card-nano.yml --few-shot assets/selfknow/few_shot-nano.yml" : "");
        snprintf(says, sizeof says, "%s runs as one process", stages[i]);
        for (int k = 0; k < 3; k++) expect_as(many[k], args, 2, says);
        assert_false(slm2_path_exists("no-run")); /* refused before anything is written */
        expect_as(one[0], args, 1, "no-model");
        slm2_dir_remove("no-run", NULL);
    }
}

/* An adapter beside the model and merged into it give the same logits; info knows it. */
static void test_adapter(void **state)
{
    const char *adapter = in_dir("adapter"), *merged = in_dir("merged");
    char args[2048], said[4096];
    struct slm2_model *m;
    struct slm2_err err;
    struct slm2_lora_opts o = {.rank = 2, .alpha = 4, .targets = slm2_lora_all_targets()};
    (void)state;
    assert_int_equal(slm2_model_open(&m, slm2_test_data("golden/tiny"), &err), SLM2_OK);
    assert_int_equal(slm2_lora_add(m, &o, false, &err), SLM2_OK);
    slm2_lora_start(m->lora, 1);
    for (int i = 1; i < m->lora->params.n; i += 2) m->lora->params.v[i].master[0] = 3; /* one number of each B */
    assert_int_equal(slm2_lora_save(m->lora, "base", adapter, &err), SLM2_OK);
    slm2_model_free(m);
    snprintf(args, sizeof args, "info '%s'", adapter);
    expect(args, 0, "LoRA adapter (PEFT)", NULL);
    snprintf(args, sizeof args, "merge --model '%s' --adapter %s --out %s", slm2_test_data("golden/tiny"), adapter, merged);
    expect(args, 0, merged, NULL);
    snprintf(args, sizeof args, "logits --model '%s' --ids 381 --top 3", slm2_test_data("golden/tiny"));
    expect(args, 0, "logit", NULL);
    snprintf(said, sizeof said, "%s", out.v);
    snprintf(args, sizeof args, "logits --model '%s' --adapter %s --ids 381 --top 3", slm2_test_data("golden/tiny"), adapter);
    expect(args, 0, "logit", NULL);
    assert_string_not_equal(said, out.v);
    snprintf(said, sizeof said, "%s", out.v); /* four decimals: fp32 differs far behind them */
    snprintf(args, sizeof args, "logits --model %s --ids 381 --top 3", merged);
    expect(args, 0, said, NULL);
    snprintf(args, sizeof args, "generate --model '%s' --adapter no-adapter --ids 381", slm2_test_data("golden/tiny"));
    expect(args, 1, NULL, "no-adapter/adapter_config.json");
}

/* turns of the only answer in a file of `mtbench answer`, as text */
static char *turns_in(const char *path)
{
    struct slm2_buf text = {0};
    struct slm2_err err;
    json_t *j;
    if (slm2_file_read(&text, path, 1 << 20, &err) != SLM2_OK || slm2_json_parse(&j, text.v, text.n, path, &err) != SLM2_OK) fail_msg("%s", err.msg);
    char *turns = json_dumps(json_object_get(json_array_get(json_object_get(j, "choices"), 0), "turns"), 0);
    assert_non_null(turns);
    json_decref(j);
    slm2_buf_free(&text);
    return turns;
}

/* An adapter that brings a tokenizer and a template, beside a model whose own are others: the adapter's go before, and are said; what is merged computes the same. */
static void test_adapter_tokenizer(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", broken[] = "{", zephyr[] = "{\"chat_template\": \"<|user|>\"}";
    char place[256], here[PATH_MAX], args[2 * PATH_MAX];
    struct slm2_buf vocab = {0};
    struct slm2_tok *tok;
    struct slm2_model *m;
    struct slm2_err err;
    (void)state;
    assert_non_null(realpath(slm2_test_data("golden/tiny"), here));
    snprintf(place, sizeof place, "%s", in_dir("adapter_tokenizer"));
    assert_int_equal(slm2_dir_make(place, &err), SLM2_OK);
    char back[PATH_MAX], data[PATH_MAX];
    assert_non_null(realpath(slm2_test_data("mtbench"), data));
    assert_non_null(getcwd(back, sizeof back));
    assert_int_equal(chdir(place), 0);
    for (int b = 0; b < 256; b++) slm2_buf_printf(&vocab, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    assert_int_equal(slm2_tok_open_memory(&tok, vocab.v, vocab.n, "bytes", &err), SLM2_OK);
    assert_int_equal(slm2_dir_make("base", &err) || slm2_dir_make("a", &err), SLM2_OK);
    static const char *const part[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(args, sizeof args, "%s/%s", here, part[i]);
        char to[64];
        snprintf(to, sizeof to, "base/%s", part[i]);
        assert_int_equal(symlink(args, to), 0);
    }
    assert_int_equal(slm2_file_write("base/tokenizer.json", broken, sizeof broken - 1, &err) || slm2_file_write("base/tokenizer_config.json", zephyr, sizeof zephyr - 1, &err), SLM2_OK);
    assert_int_equal(slm2_model_open(&m, "base", &err), SLM2_OK);
    assert_int_equal(slm2_lora_add(m, &(struct slm2_lora_opts){.rank = 2, .alpha = 4, .targets = slm2_lora_all_targets()}, false, &err), SLM2_OK);
    slm2_lora_start(m->lora, 1);
    for (int i = 1; i < m->lora->params.n; i += 2) m->lora->params.v[i].master[0] = 3;
    assert_int_equal(slm2_lora_save(m->lora, "base", "a", &err), SLM2_OK);
    slm2_model_free(m);
    expect("generate --model base --adapter a --prompt hi -n 1", 1, NULL, "base/tokenizer.json"); /* the adapter says nothing: the model's own, which is broken */
    expect("info a", 0, "none in this folder", NULL);
    assert_int_equal(slm2_tok_write_hf(tok, "a", slm2_chat_jinja(SLM2_CHAT_CHATML), 0, &err), SLM2_OK);
    expect("info a", 0, "chatml", NULL);
    expect("generate --model base --adapter a --prompt hi -n 1", 0, "", "a: the tokenizer is the adapter's own");
    expect("generate --model base --adapter a --prompt hi -n 1 --tokenizer bundled", 2, NULL, "warning: the tokenizer knows 100289 ids"); /* --tokenizer goes before both */
    expect("chat --model base --adapter a -n 1 </dev/null", 0, NULL, "a: the conversation has the form of the adapter's own template, chatml");
    snprintf(args, sizeof args, "mtbench answer --data '%s' --limit 1 --max-new 8 --model base --adapter a --out beside.jsonl", data);
    expect(args, 0, "1 answers", "a: the conversation has the form of the adapter's own template, chatml");
    char *beside = turns_in("beside.jsonl");
    snprintf(args, sizeof args, "mtbench answer --data '%s' --limit 1 --max-new 8 --model base --adapter a --out zephyr.jsonl --template zephyr", data);
    expect(args, 0, "1 answers", "a: the tokenizer");
    char *other = turns_in("zephyr.jsonl");
    assert_string_not_equal(beside, other);
    slm2_buf_clear(&vocab);
    assert_int_equal(slm2_file_read(&vocab, "beside.jsonl", 1 << 20, &err), SLM2_OK);
    assert_non_null(strstr(vocab.v, "\"model_id\":\"base+a\""));
    expect("merge --model base --adapter a --out merged", 0, "merged", NULL);
    static const char *const merged[] = {"merged", "merged/model.safetensors"}; /* a file's template is that of its folder */
    for (size_t i = 0; i < 2; i++) {
        snprintf(args, sizeof args, "mtbench answer --data '%s' --limit 1 --max-new 8 --model %s --out merged%zu.jsonl", data, merged[i], i);
        expect(args, 0, "1 answers", "2 answers ended at the limit");
        snprintf(args, sizeof args, "merged%zu.jsonl", i);
        char *turns = turns_in(args);
        assert_string_equal(beside, turns);
        free(turns);
    }
    /* an adapter that brings a vocabulary of another name alone, or a template alone */
    slm2_buf_clear(&vocab);
    for (int b = 0; b < 256; b++) slm2_buf_printf(&vocab, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    const char *form = slm2_chat_jinja(SLM2_CHAT_CHATML);
    assert_int_equal(slm2_dir_make("w", &err) || slm2_dir_make("f", &err), SLM2_OK);
    assert_int_equal(symlink("../a/adapter_config.json", "w/adapter_config.json") || symlink("../a/adapter_model.safetensors", "w/adapter_model.safetensors"), 0);
    assert_int_equal(symlink("../a/adapter_config.json", "f/adapter_config.json") || symlink("../a/adapter_model.safetensors", "f/adapter_model.safetensors"), 0);
    assert_int_equal(slm2_file_write("w/bytes.tiktoken", vocab.v, vocab.n, &err) || slm2_file_write("f/chat_template.jinja", form, strlen(form), &err), SLM2_OK);
    expect("merge --model base --adapter w --out mw", 0, "mw: base with w", NULL);
    assert_true(slm2_path_exists("mw/bytes.tiktoken") && !slm2_path_exists("mw/tokenizer.json"));
    expect("generate --model mw --prompt hi -n 1 --json", 0, "[104,105]", NULL);
    expect("merge --model base --adapter f --out mf", 0, "mf: base with f", NULL);
    enum slm2_chat_template found;
    assert_true(slm2_path_exists("mf/tokenizer.json") && slm2_path_exists("mf/tokenizer_config.json") && slm2_chat_detect("mf", &found) && found == SLM2_CHAT_CHATML);
    expect("merge --model base --adapter w --out mf --force", 0, "mf: base with w", NULL); /* nothing of the other stays */
    assert_true(!slm2_path_exists("mf/tokenizer.json") && slm2_chat_detect("mf", &found) && found == SLM2_CHAT_ZEPHYR);
    free(beside);
    free(other);
    slm2_buf_free(&vocab);
    slm2_tok_free(tok);
    assert_int_equal(chdir(back), 0);
}

/* The example of `compare --help` that has tasks, as it stands there, in a folder where a small model plays the large one. */
static void test_compare_example(void **state)
{
    static const char config[] = "model: {vocab_size: 100352, hidden_size: 32, intermediate_size: 64, n_layer: 1, n_head: 1, n_ctx: 512, bos_id: 100257, eos_id: 100257}\n", wiki[] = "Snow fell on the town, and nobody was out.\n";
    char place[256], here[PATH_MAX], *example, *end;
    struct slm2_err err;
    (void)state;
    assert_int_equal(run("help compare"), 0);
    example = strstr(out.v, "slm2 compare stablelm-2-1_6b ");
    assert_non_null(example);
    if ((end = strchr(example, '\n'))) *end = '\0';
    assert_non_null(strstr(example, "--tasks nano,piqa --data-dir eval"));
    example = strdup(example + 5);
    assert_non_null(getcwd(here, sizeof here));
    snprintf(place, sizeof place, "%s", in_dir("compare"));
    assert_int_equal(slm2_dir_make(place, &err), SLM2_OK);
    static const char *const link_to[][2] = {{"configs", "configs"}, {"assets", "assets"}, {"tests/data/eval", "eval"}};
    for (size_t i = 0; i < 3; i++) {
        char from[PATH_MAX + 32], to[300];
        snprintf(from, sizeof from, "%s/%s", here, link_to[i][0]);
        snprintf(to, sizeof to, "%s/%s", place, link_to[i][1]);
        assert_int_equal(symlink(from, to), 0);
    }
    assert_int_equal(chdir(place), 0);
    assert_int_equal(slm2_file_write("tiny.yml", config, sizeof config - 1, &err), SLM2_OK);
    assert_int_equal(slm2_file_write("wiki.txt", wiki, sizeof wiki - 1, &err), SLM2_OK);
    int made = run("init --config tiny.yml --out stablelm-2-1_6b") || run("quantize stablelm-2-1_6b q8_0.gguf --type Q8_0") || run("quantize stablelm-2-1_6b q4_k_m.gguf --type Q4_0");
    if (made) fail_msg("no model: %s", err_out.v);
    if ((made = run(example)) != 0) fail_msg("status %d: %s", made, err_out.v);
    assert_non_null(strstr(out.v, "piqa"));
    assert_non_null(strstr(out.v, "nano_choice"));
    assert_true(slm2_path_exists("runs/big/compare.json"));
    expect("compare stablelm-2-1_6b q8_0.gguf --text no-such.txt --tasks nano,astrology", 2, NULL, "astrology"); /* before the text is opened */
    expect("compare stablelm-2-1_6b q8_0.gguf --text no-such.txt --tasks piqa", 1, NULL, "piqa/items.jsonl");
    assert_int_equal(chdir(here), 0);
    free(example);
}

int main(void)
{
    if (!find_program()) return 0;
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_usage), cmocka_unit_test(test_help_of_all), cmocka_unit_test(test_logits_json), cmocka_unit_test(test_data),
                                              cmocka_unit_test(test_generate_json), cmocka_unit_test(test_bench_model), cmocka_unit_test(test_bench_contexts),
                                              cmocka_unit_test(test_bench_seqs), cmocka_unit_test(test_bench_usage), cmocka_unit_test(test_bench_limits), cmocka_unit_test(test_launched), cmocka_unit_test(test_adapter), cmocka_unit_test(test_adapter_tokenizer), cmocka_unit_test(test_compare_example)};
    int n_tests = (int)(sizeof tests / sizeof tests[0]), n_failed = cmocka_run_group_tests(tests, make_dir, remove_dir);
    slm2_buf_free(&out);
    slm2_buf_free(&err_out);
    printf("%d passed, %d failed\n", n_tests - n_failed, n_failed);
    return n_failed != 0;
}
