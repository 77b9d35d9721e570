/* test_newcomer.c - what someone meets who has just installed the program: it finds its files from any folder, overwrites nothing unasked, and says
 * what to do next. */
#include "run_cli.h"

#include <stdlib.h>

#include "base/err.h"
#include "train/bound.h"

static char here[PATH_MAX], built[PATH_MAX]; /* the source tree, the program that was built; the tests work in dir */

static int enter(void **state)
{
    snprintf(built, sizeof built, "%s", program);
    unsetenv("SLM2_SHARE");
    return !getcwd(here, sizeof here) || make_dir(state) || chdir(dir);
}

static int leave(void **state)
{
    return chdir(here) || remove_dir(state);
}

static void shell(const char *fmt, ...) SLM2_PRINTF(1, 2);
static void shell(const char *fmt, ...)
{
    char cmd[4 * PATH_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    if (system(cmd) != 0) fail_msg("%s", cmd);
}

/* ---- the files that come with the program --------------------------------------------------------------------------------- */
/* What must work in a folder that has neither configs/ nor assets/. */
static void works_here(void)
{
    expect("eval --list", 0, "\nleaderboard ", NULL);
    expect("eval --tasks nano --show 1", 0, "---- nano_choice, item 0", NULL);
    expect("eval --tasks configs/tasks/nano_text.yml --show 1", 0, "---- nano_text: whole texts of ", NULL);
    expect("eval --tasks helaswag --show 1", 2, NULL, "did you mean \"hellaswag\"? (`slm2 eval --list` names all)");
    expect("eval --tasks leaderbord --show 1", 2, NULL, "did you mean \"leaderboard\"");
    expect("eval --tasks astrology --show 1", 2, NULL, "and no file (`slm2 eval --list` names all)");
    expect("eval --tasks piqa --show 1", 1, NULL, "ybisk/piqa");
    expect("data mix --plan configs/mix/stablelm-2-1_6b.yml --tokens 1e9", 0, "PubMed", NULL);
    expect("info assets/arcade100k.tiktoken", 0, "100", NULL);
    expect("data langid assets/corpus/fr.jsonl", 0, "fr", NULL);
    expect("perplexity --model no-model assets/corpus/de.jsonl", 1, NULL, "no-model: no such file");
    expect("data build configs/no.yml", 1, NULL, "configs/no.yml was looked for in this folder and in ");
}

static void test_installed(void **state)
{
    (void)state;
    shell("mkdir -p inst/bin inst/share/slm2 && cp '%s' inst/bin/slm2 && ln -s '%s/configs' '%s/assets' inst/share/slm2", built, here, here);
    snprintf(program, sizeof program, "%s/inst/bin/slm2", dir);
    works_here();
    shell("mkdir -p other && mv inst/share/slm2 other/shared");
    snprintf(program, sizeof program, "%s/inst/bin/slm2", dir);
    expect("sft configs/no.yml --plan", 1, NULL, "inst/share/slm2, ");
    shell("export SLM2_SHARE=%s/other/shared; inst/bin/slm2 eval --list > list && grep -q '^leaderboard ' list", dir);
    shell("! SLM2_SHARE=nowhere inst/bin/slm2 eval --list 2> said && grep -q 'configs/tasks was looked for in this folder and in nowhere' said");
    strcpy(program, built);
}

static void test_source_tree(void **state)
{
    (void)state;
    works_here();
    shell("mkdir configs && cp '%s/configs/sft-nano.yml' configs/mine.yml && echo 'epoch: 2' >> configs/mine.yml", here);
    expect("sft configs/mine.yml", 1, NULL, "configs/mine.yml: line "); /* one's own files come first */
    shell("rm -r configs");
}

/* ---- models that are there already ------------------------------------------------------------------------------------------ */
static void test_nothing_is_overwritten(void **state)
{
    (void)state;
    shell("ln -s '%s/tests/data/golden/tiny' base", here);
    static const char *const makers[][2] = {{"convert base folder", "folder: holds a model already; --force"}, {"convert base f.gguf", "f.gguf: is there already; --force"},
                                            {"quantize folder q.gguf", "q.gguf: is there already; --force"}};
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        char again[100];
        if (run(makers[i][0]) != 0) fail_msg("slm2 %s: %s", makers[i][0], err_out.v);
        expect(makers[i][0], 2, NULL, makers[i][1]);
        snprintf(again, sizeof again, "%s --force", makers[i][0]);
        if (run(again) != 0) fail_msg("slm2 %s: %s", again, err_out.v);
    }
    expect("init --config configs/nano.yml --out folder", 2, NULL, "folder: holds a model already; --force");
    shell("mkdir adapter && echo '{}' > adapter/adapter_config.json");
    expect("merge --model base --adapter adapter --out folder", 2, NULL, "folder: holds a model already; --force");
    expect("convert base adapter", 2, NULL, "adapter: holds a model already; --force");
    shell("mkdir empty && touch empty/notes.txt");
    expect("convert base empty", 0, "empty: ", NULL);
}

/* ---- what stages say ----------------------------------------------------------------------------------------------------------- */
/* The true vocabulary, 16 wide. */
static const char nano[] = "model: {vocab_size: 100352, hidden_size: 16, intermediate_size: 32, n_layer: 1, n_head: 1, n_ctx: 256, bos_id: 100257, eos_id: 100257}\n";
#define SFT "sft configs/sft-nano.yml --model nano --epochs 1 --batch 22 -t 2 "

static void test_stages_say(void **state)
{
    struct slm2_err err;
    (void)state;
    assert_int_equal(slm2_file_write("nano.yml", nano, sizeof nano - 1, &err), SLM2_OK);
    expect("init --config nano.yml --out nano --dtype f32", 0, "nano: ", NULL);
    expect(SFT "--run sft --plan", 0, "1 epochs in updates of 22 rows: 1 updates\n", NULL);
    expect(SFT "--run sft --plan --json", 0, "\"kept\":125", NULL);
    expect(SFT "--run sft --plan --n-ctx 512 --micro-batch-tokens 512", 2, NULL, "the model reads at most 256");
    expect(SFT "--plan --data assets/align/sft.jsonl --data assets/align/sft.jsonl", 0, "sft.jsonl-2", NULL);
    expect(SFT "--plan --set 'data=[{format: capybara, path: assets/align/sft.jsonl}]'", 1, NULL, "none of 125 records has the form `capybara`");
    expect(SFT "--run sft --lora.rank 2 --set 'valid=[]' --json", 0, "\"new_updates\":1", "sft.jsonl");
    expect(SFT "--run sft --lora.rank 2 --set 'valid=[]'", 0, "all 1 updates were made before; to train on, begin another --run with --lora.adapter sft/final\n", "resumed");
    expect(SFT "--run full --set 'valid=[]'", 0, "training loss, last update ", "sft.jsonl");
    expect(SFT "--run full", 0, "valid_loss ", "resumed"); /* a finished run is measured with what it lacked */
    expect("logits --model sft/final --ids 1", 2, NULL, "sft/final: is a LoRA adapter, not a model; name its base, nano as the model and this folder with --adapter");
    expect("sft configs/sft-nano.yml --model sft/final --plan", 2, NULL, "lora.adapter");
    expect("logits --model sft --ids 1", 2, NULL, "sft: is the folder of a run, not a model; what came out of it is sft/final");
#define SELF "selfknow configs/selfknow.yml --model nano --plan --set other_chat=[] --set other_text="
    expect(SELF "[nope.jsonl]", 1, NULL, "nope.jsonl: no such file (other_text)"); /* not behind ten thousand draws */
    expect(SELF "[] --base no-base", 0, "10000 messages", "no-base: no such model yet");
    expect(SELF "[] --base ''", 0, "10000 messages are to be drawn, with two answers each", NULL);
    expect("logits --model nano --adapter sft --ids 1", 2, NULL, "sft: is the folder of a run, not an adapter; what came out of it is sft/final");
    expect("logits --model nano --adapter sft/final --ids 1", 0, "logit", "the tokenizer is the adapter's own");
}

/* A run that is gone on with: the message names the first setting that differs, whatever its shape. */
static void test_changed_setting_is_named(void **state)
{
#define A "    - path:\n        - \"a: b\"\n      repeat: 1\n"
#define B "    - path:\n        - \"b\"\n        - \"c\"\n      repeat: 1\n"
    static const struct { const char *old, *now, *said; } cases[] = {
        {"beta: 1\n", "beta: 2\n", "setting beta was another when this run began (then 1, now 2)"},
        {"lora:\n    rank: 0\nseed: 1\n", "lora:\n    rank: 2\nseed: 1\n", "setting lora.rank was another when this run began (then 0, now 2)"},
        {"data:\n" A A "n_ctx: 8\n", "data:\n" A B "n_ctx: 8\n", "setting data[1].path[0] was another when this run began (then \"a: b\", now \"b\")"},
        {"data:\n" A "n_ctx: 8\n", "data:\n" A B "n_ctx: 8\n", "setting data[1].path was another when this run began (then nothing, now a list)"},
        {"data:\n" B A "n_ctx: 8\n", "data:\n" B "n_ctx: 8\n", "setting data[1].path was another when this run began (then a list, now nothing)"},
        {"data:\n    - path:\n        - \"b\"\n      repeat: 1\n", "data:\n" B, "setting data[0].path[1] was another when this run began (then nothing, now \"c\")"},
        {"valid: []\n", "valid:\n" A, "setting valid was another when this run began (then [], now a list)"},
        {"a: 1\nc: 1\nl:\n    - \"x\"\n", "c: 1\nl:\n    - \"x\"\n", "setting a was another when this run began (then 1, now nothing)"},
        {"l:\n    - \"a:b\"\n", "l:\n    - \"c:d\"\n", "setting l[0] was another when this run began (then \"a:b\", now \"c:d\")"},
        {"m:\n    a: 1\n    b: 1\nn:\n    a: 1\n", "m:\n    b: 1\nn:\n    a: 1\n", "setting m.a was another when this run began (then 1, now nothing)"},
        {"a: 1\nc: \"x\"\nd: 1\n", "a: 1\nb: \"\"\nc: \"x\"\nd: 1\n", "setting b was another when this run began (then nothing, now \"\")"},
        {"a: 1\n", "a: 1\nb: 2\n", "setting b was another when this run began (then nothing, now 2)"},
        {"", "a: 1\n", "setting a was another when this run began (then nothing, now 1)"},
        {"- - -x\n:\n", "a: 1\n", "x: setting "}};
    struct slm2_err err;
    struct slm2_buf b = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(slm2_bound_agree(cases[i].old, cases[i].now, "x", &err), SLM2_EUSAGE);
        if (!strstr(err.msg, cases[i].said)) fail_msg("case %zu: %s", i, err.msg);
        assert_int_equal(slm2_bound_agree(cases[i].now, cases[i].now, "x", &err), SLM2_OK);
    }
    slm2_bound_settings("run: \"r\"\ndata:\n" A "valid:\n" B "threads: 2\nseed: 1\n", SLM2_BOUND_RUN, &b);
    assert_string_equal(b.v, "data:\n" A "seed: 1\n");
    slm2_buf_clear(&b);
    slm2_bound_settings("run: \"r\"\ndata:\n" A "valid:\n" B "threads: 2\nseed: 1\n", SLM2_BOUND_MEASURES, &b);
    assert_string_equal(b.v, "valid:\n" B);
    slm2_buf_free(&b);
}

int main(void)
{
    if (!find_program()) return 0;
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_installed), cmocka_unit_test(test_source_tree), cmocka_unit_test(test_nothing_is_overwritten), cmocka_unit_test(test_changed_setting_is_named), cmocka_unit_test(test_stages_say)};
    int n_tests = (int)(sizeof tests / sizeof tests[0]), n_failed = cmocka_run_group_tests(tests, enter, leave);
    slm2_buf_free(&out);
    slm2_buf_free(&err_out);
    printf("%d passed, %d failed\n", n_tests - n_failed, n_failed);
    return n_failed != 0;
}
