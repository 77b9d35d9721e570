/* test_selfknow.c - cards, prompts and probes; what filters throw away; draws that are the same however they are computed and whenever they are
 * killed; probes that rise when the facts are learnt. */
#include "scratch_dir.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "data/records.h"
#include "model/lora.h"
#include "model/model.h"
#include "report/report.h"
#include "train/selfdraw.h"
#include "train/tune.h"

static const char card_text[] = "name: Open Book\nmaker: the York team\nlanguages: [English, German, Dutch]\nothers: [Gold Key]\n";
static const char prompt_text[] = "turns:\n  - {ask: Who are you?, say: 'I am {name}, made by {maker}.'}\n  - {ask: When?, say: 'I came out in {released}.'}\n  - {ask: What do you speak?, say: 'I speak {languages}.'}\n"
                                  "openers: [What is a file?, Where is the key?]\n"
                                  "topics:\n  - {fact: name, ask: [your name, 'Who  ARE you?'], want: ['{name}']}\n  - {fact: released, ask: [when], want: ['{released}']}\n";
static const char probes_text[] = "probes:\n  - {ask: And who are you?, fact: name, right: 'I am {name}.', wrong: [I am Gold Key., I am Red Page.], want: ['{name}']}\n"
                                  "  - {ask: When did you come out?, fact: released, right: 'In {released}.', wrong: [Never.], want: ['{released}']}\n";

static void put(const char *name, const char *text)
{
    struct slm2_err err;
    check_ok(slm2_file_write(in_dir(name), text, strlen(text), &err), &err);
}

/* The true vocabulary, 16 wide: everything but the size is real. */
static int setup(void **state)
{
    struct slm2_err err;
    struct slm2_config c = {.vocab_size = 100352, .hidden_size = 16, .intermediate_size = 32, .n_layer = 1, .n_head = 2, .n_kv_head = 2, .head_dim = 8, .n_rot = 2, .n_ctx = 256,
                            .norm_eps = 1e-5f, .rope_theta = 10000, .init_std = 0.05f, .qkv_bias = true, .bos_id = 100257, .eos_id = 100257};
    if (make_dir(state)) return -1;
    put("card.yml", card_text);
    put("prompt.yml", prompt_text);
    put("probes.yml", probes_text);
    return slm2_model_init_to_disk(&c, in_dir("model"), SLM2_F32, 5, &err) == SLM2_OK ? 0 : -1;
}

/* ---- card, prompt, probes --------------------------------------------------------------------------------------------- */
static void test_card(void **state)
{
    struct slm2_err err;
    struct slm2_self s;
    (void)state;
    check_ok(slm2_self_read(&s, in_dir("card.yml"), in_dir("prompt.yml"), in_dir("probes.yml"), NULL, &err), &err);
    const struct slm2_self_turn *t = s.turns.items;
    assert_int_equal(s.turns.n, 2); /* the card does not say when it was released */
    assert_string_equal(t[0].say, "I am Open Book, made by the York team.");
    assert_string_equal(t[1].say, "I speak English, German and Dutch.");
    assert_int_equal(s.topics.n, 1);
    assert_int_equal(s.probes.n, 1);
    assert_string_equal(((struct slm2_self_probe *)s.probes.items)->right, "I am Open Book.");
    const struct slm2_self_topic *topic;
    struct slm2_buf words = {0};
    static const struct { const char *text; bool asks; } cases[] = {
        {"Tell me YOUR NAME!", true}, {"so, who are you, please?", true}, {"Is this your\nname", true}, {"What do you name your files?", false}, {"yours? name", false}, {"", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        slm2_buf_clear(&words);
        check_ok(slm2_self_words(cases[i].text, strlen(cases[i].text), &words, &err), &err);
        check_ok(slm2_self_topic(&s, words.v, &topic, &err), &err);
        assert_int_equal(topic != NULL, cases[i].asks);
    }
    slm2_buf_clear(&words);
    check_ok(slm2_self_words("E\xcc\x81t\xc3\xa9 \xff 12", 11, &words, &err), &err); /* composed, lower case, a byte that is no text */
    assert_string_equal(words.v, " \xc3\xa9t\xc3\xa9  12 ");
    slm2_buf_free(&words);
    slm2_self_free(&s);
}

static void refused(const char *card, const char *prompt, const char *probes, const char *say)
{
    struct slm2_err err = {0};
    struct slm2_self s;
    put("c.yml", card);
    put("p.yml", prompt);
    put("q.yml", probes);
    slm2_status st = slm2_self_read(&s, in_dir("c.yml"), in_dir("p.yml"), in_dir("q.yml"), NULL, &err);
    slm2_self_free(&s);
    if (st == SLM2_OK || !strstr(err.msg, say) || !strstr(err.msg, ".yml")) fail_msg("want a file and \"%s\" in \"%s\"", say, err.msg);
}

static void test_bad_files(void **state)
{
    (void)state;
    refused("name: A\nmaker: B\ncolour: red\n", prompt_text, probes_text, "colour");
    refused("maker: B\n", prompt_text, probes_text, "name");
    refused("name: [A]\nmaker: B\n", prompt_text, probes_text, "name");
    refused(card_text, "turns: [{ask: Who?, say: '{nam}'}]\n", probes_text, "{nam}");
    refused(card_text, "turns: [{ask: Who?}]\n", probes_text, "say");
    refused(card_text, "turns: [{ask: Who?, say: '{released}'}]\n", probes_text, "know nothing");
    refused(card_text, "turns: [{ask: Who?, say: I}]\ntopics: [{fact: name, ask: [who]}]\n", probes_text, "want");
    refused(card_text, prompt_text, "probes: [{ask: Who?, fact: name, right: '{name}', wrong: [Open Book], want: [x]}]\n", "both right and wrong");
    refused(card_text, prompt_text, "probes: [{ask: Who?, fact: name, right: I, want: [x]}]\n", "wrong");
    refused(card_text, prompt_text, "probes: [{ask: Who?, fact: name, right: I, wrong: [x], want: [x], weight: 2}]\n", "weight");
}

/* ---- the files that are shipped --------------------------------------------------------------------------------------- */
static slm2_status no_probe(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    const struct slm2_self *s = user;
    struct slm2_msgs m;
    struct slm2_buf ask = {0}, said = {0};
    SLM2_TRY(slm2_msgs_from_json(&m, j, what, err));
    for (int i = 0; i < m.n; i++) {
        slm2_buf_clear(&said);
        check_ok(slm2_self_words(m.v[i].content, m.v[i].n, &said, err), err);
        for (int k = 0; k < s->probes.n + s->keep_out.n; k++) {
            const struct slm2_conf_list *from = k < s->probes.n ? &s->probes : &s->keep_out;
            const char *p = ((struct slm2_self_probe *)from->items)[k < s->probes.n ? k : k - s->probes.n].ask;
            slm2_buf_clear(&ask);
            check_ok(slm2_self_words(p, strlen(p), &ask, err), err);
            if (!strcmp(ask.v, said.v)) fail_msg("%s: the probe \"%s\" is learnt", what, p);
        }
    }
    slm2_buf_free(&ask);
    slm2_buf_free(&said);
    slm2_msgs_free(&m);
    return SLM2_OK;
}

static void test_shipped(void **state)
{
    static const char *const learnt[] = {"assets/selfknow/persona.jsonl", "assets/selfknow/mixed.jsonl", "assets/align/sft.jsonl"};
    struct slm2_err err;
    struct slm2_self s;
    int64_t n_bad;
    (void)state;
    check_ok(slm2_self_read(&s, "assets/selfknow/card.yml", "assets/selfknow/few_shot.yml", "assets/selfknow/probes.yml", NULL, &err), &err);
    assert_int_equal(s.turns.n, 5); /* the card leaves nothing out */
    assert_int_equal(s.topics.n, 3);
    assert_int_equal(s.probes.n, 12);
    slm2_self_free(&s);
    check_ok(slm2_self_read(&s, "assets/selfknow/card-nano.yml", "assets/selfknow/few_shot-nano.yml", "assets/selfknow/probes-nano.yml", "assets/selfknow/probes-nano-test.yml", &err), &err);
    assert_int_equal(s.turns.n, 3);
    assert_int_equal(s.probes.n, 16);
    assert_int_equal(s.keep_out.n, 20);
    for (size_t i = 0; i < sizeof learnt / sizeof learnt[0]; i++) check_ok(slm2_records_read(learnt[i], 0, true, no_probe, &s, &n_bad, &err), &err);
    slm2_self_free(&s);
}

/* ---- filters ---------------------------------------------------------------------------------------------------------- */
static void test_judge(void **state)
{
    static const struct { const char *text; bool cut; enum slm2_self_verdict want; } cases[] = {
        {"", false, SLM2_SELF_M_EMPTY}, {"What is a file?", false, SLM2_SELF_KEPT}, {"What is a file?", true, SLM2_SELF_M_CUT}, {"Hello!", false, SLM2_SELF_M_SHORT}, {"... ?", false, SLM2_SELF_M_SHORT},
        {"half \xc3", false, SLM2_SELF_M_NOT_TEXT}, {"x <|user y", false, SLM2_SELF_M_NOT_TEXT}, {"the the the the", false, SLM2_SELF_M_REPEATS}, {"the the the cat", false, SLM2_SELF_KEPT},
        {"Go on, go on, go on.", false, SLM2_SELF_M_REPEATS}, {"He said go on, go on and so on", false, SLM2_SELF_KEPT}, {"well a b a b a b a b so", false, SLM2_SELF_M_REPEATS}, {"a b c a b c a b d", false, SLM2_SELF_KEPT}};
    struct slm2_buf words = {0};
    struct slm2_err err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].text);
        slm2_buf_clear(&words);
        check_ok(slm2_self_words(cases[i].text, n, &words, &err), &err);
        enum slm2_self_verdict got = slm2_self_judge(cases[i].text, n, words.v, cases[i].cut, 2);
        if (got != cases[i].want) fail_msg("\"%s\": %s, want %s", cases[i].text, slm2_self_verdict_names[got], slm2_self_verdict_names[cases[i].want]);
    }
    slm2_buf_free(&words);
}

/* ---- draws ------------------------------------------------------------------------------------------------------------ */
static volatile sig_atomic_t stop;

static const char *draw_model, *draw_adapter, *draw_vocab, *draw_probes, *draw_prompt, *draw_keep_out; /* NULL: the model of setup, none, the bundled one, setup's files, none */

static slm2_status draw_into(const char *run, const struct slm2_selfdraw_opts *o, struct slm2_err *err)
{
    struct slm2_self self;
    struct slm2_tok *tok = NULL;
    struct slm2_selfdraw_args a = {.o = o, .self = &self, .model = draw_model ? draw_model : in_dir("model"), .adapter = draw_adapter, .run = run, .tmpl = SLM2_CHAT_ZEPHYR, .seed = 7, .threads = 1, .stop = &stop};
    slm2_status st = slm2_self_read(&self, in_dir("card.yml"), draw_prompt ? draw_prompt : in_dir("prompt.yml"), draw_probes ? draw_probes : in_dir("probes.yml"), draw_keep_out, err);
    if (st == SLM2_OK) st = slm2_tok_open(&tok, draw_vocab, err);
    a.tok = tok;
    if (st == SLM2_OK) st = slm2_dir_make(run, err);
    if (st == SLM2_OK) st = slm2_selfdraw(&a, err);
    slm2_tok_free(tok);
    slm2_self_free(&self);
    return st;
}

static struct slm2_selfdraw_opts few(void)
{
    static char none[] = "";
    return (struct slm2_selfdraw_opts){.base = none, .n_prompt = 10, .prompt_tokens = 5, .answer_tokens = 4, .min_words = 1, .n_opener = 2, .tries = 2, .sequences = 2, .temperature = 1, .answer_temperature = 1, .top_p = 1,
                                       .keep_cut = true, .near = {.threshold = 0.8, .n_hash = 16, .n_band = 8, .shingle = 1}};
}

static void same_files(const char *a, const char *b)
{
    struct slm2_buf x = {0}, y = {0};
    struct slm2_err err;
    check_ok(slm2_file_read(&x, a, 1 << 20, &err), &err);
    check_ok(slm2_file_read(&y, b, 1 << 20, &err), &err);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.v, y.v, x.n);
    slm2_buf_free(&x);
    slm2_buf_free(&y);
}

/* In a process of its own: false when it was killed by this function. */
static bool draw_in_child(const char *run, const struct slm2_selfdraw_opts *o, int kill_after_us)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct slm2_err err;
        _exit(draw_into(run, o, &err) == SLM2_OK ? 0 : 1);
    }
    if (kill_after_us >= 0) {
        usleep((useconds_t)kill_after_us);
        kill(pid, SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) return false;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    return true;
}

/* One sequence, five, killed at many moments: the same files. */
static void test_draws_are_the_same(void **state)
{
    struct slm2_selfdraw_opts o = few();
    struct slm2_err err;
    (void)state;
    stop = 0;
    check_ok(draw_into(in_dir("two"), &o, &err), &err);
    assert_false(slm2_path_exists(in_dir("two/draws")));
    o.sequences = 1;
    check_ok(draw_into(in_dir("one"), &o, &err), &err);
    same_files(in_dir("two/samples.jsonl"), in_dir("one/samples.jsonl"));
    same_files(in_dir("two/samples.json"), in_dir("one/samples.json"));
    o.sequences = 5;
    stop = 1;
    assert_int_equal(draw_into(in_dir("parts"), &o, &err), SLM2_ESTOP);
    stop = 0;
    o.sequences = 1; /* rounds of four draws */
    int n_kill = 0;
    for (int us = 20000; !draw_in_child(in_dir("parts"), &o, us); us += us / 2) n_kill++;
    assert_true(n_kill > 2);
    o.sequences = 3;
    assert_true(draw_in_child(in_dir("parts"), &o, -1));
    same_files(in_dir("two/samples.jsonl"), in_dir("parts/samples.jsonl"));
    same_files(in_dir("two/samples.json"), in_dir("parts/samples.json"));
}

struct seen { json_t *messages; int n, n_kept, n_bad; };
static slm2_status look(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct seen *s = user;
    const char *verdict = json_string_value(json_object_get(j, "verdict")), *prompt = json_string_value(json_object_get(j, "prompt"));
    (void)what, (void)err;
    assert_int_equal(json_integer_value(json_object_get(j, "draw")), s->n++);
    assert_int_equal(json_array_size(json_object_get(j, "openers")), 2);
    if (!strcmp(verdict, "kept")) {
        s->n_kept++;
        assert_null(json_object_get(s->messages, prompt));
        json_object_set_new(s->messages, prompt, json_true());
        assert_string_not_equal(json_string_value(json_object_get(j, "positive")), json_string_value(json_object_get(j, "negative")));
    }
    assert_int_equal(!strncmp(verdict, "message_", 8), json_object_get(j, "positive") == NULL); /* no answers are drawn for what is thrown away */
    return SLM2_OK;
}

/* Every draw is accounted for; what was drawn with other settings is not mixed with new draws; too strict filters end with their counts. */
static void test_accounts(void **state)
{
    struct slm2_selfdraw_opts o = few();
    struct slm2_err err;
    struct seen s = {.messages = json_object()};
    json_t *j, *v;
    const char *key;
    int64_t n_bad, sum = 0;
    (void)state;
    stop = 0;
    check_ok(draw_into(in_dir("acc"), &o, &err), &err);
    check_ok(slm2_records_read(in_dir("acc/samples.jsonl"), 0, true, look, &s, &n_bad, &err), &err);
    assert_int_equal(s.n_kept, o.n_prompt);
    check_ok(slm2_json_read(&j, in_dir("acc/samples.json"), 1 << 20, &err), &err);
    json_object_foreach(json_object_get(j, "draws"), key, v) sum += json_integer_value(v);
    assert_int_equal(sum, s.n);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "draws"), "kept")), o.n_prompt);
    json_decref(j);
    json_decref(s.messages);
    o.temperature = 0.5f;
    assert_int_equal(draw_into(in_dir("acc"), &o, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "temperature"));
    o = few();
    o.min_words = 400;
    o.n_prompt = 1;
    o.n_prompt = 1;
    assert_int_equal(draw_into(in_dir("strict"), &o, &err), SLM2_ELIMIT);
    assert_non_null(strstr(err.msg, "message_short"));
}

static slm2_status count_later(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    (void)what, (void)err;
    *(int *)user += !strcmp(json_string_value(json_object_get(j, "verdict")), "kept") && json_integer_value(json_object_get(j, "positive_try")) > 0;
    return SLM2_OK;
}

/* A kept line says at which attempt its positive answer passed; drawing the negative one once set it back to the first. */
static void test_attempts(void **state)
{
    struct slm2_selfdraw_opts o = few();
    struct slm2_err err;
    int64_t n_bad;
    int n_later = 0;
    (void)state;
    stop = 0;
    o.min_words = 3; /* of 4 tokens: many answers are too short at first */
    o.tries = 8;
    check_ok(draw_into(in_dir("later"), &o, &err), &err);
    check_ok(slm2_records_read(in_dir("later/samples.jsonl"), 0, true, count_later, &n_later, &n_bad, &err), &err);
    assert_true(n_later > 0);
}

/* An adapter that changes much, as a PEFT folder. */
static void make_adapter(const char *folder)
{
    struct slm2_lora_opts o = {.rank = 2, .alpha = 200, .targets = slm2_lora_all_targets()};
    struct slm2_model *m;
    struct slm2_err err;
    check_ok(slm2_model_open(&m, in_dir("model"), &err), &err);
    check_ok(slm2_lora_add(m, &o, false, &err), &err);
    slm2_lora_start(m->lora, 3);
    for (int i = 0; i < m->lora->params.n; i++) {
        struct slm2_param *p = &m->lora->params.v[i];
        for (int k = 0; p->part == SLM2_PART_LORA_B && k < p->n_row * p->n_col; k++) p->master[k] = k % 3 - 1.0f;
    }
    check_ok(slm2_lora_save(m->lora, "base", folder, &err), &err);
    slm2_model_free(m);
}

static bool equal_files(const char *a, const char *b)
{
    char x[65], y[65];
    struct slm2_err err;
    check_ok(slm2_sha256_file(a, x, &err), &err);
    check_ok(slm2_sha256_file(b, y, &err), &err);
    return !strcmp(x, y);
}

/* An adapter draws with the model: other answers, and other messages unless `base` names the bare model. */
static void test_adapter(void **state)
{
    struct slm2_selfdraw_opts o = few();
    struct slm2_err err;
    char base[200], adapter[200];
    (void)state;
    stop = 0;
    snprintf(adapter, sizeof adapter, "%s", in_dir("adapter"));
    make_adapter(adapter);
    check_ok(draw_into(in_dir("bare"), &o, &err), &err);
    draw_adapter = adapter;
    assert_int_equal(draw_into(in_dir("bare"), &o, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "adapter"));
    check_ok(draw_into(in_dir("adapted"), &o, &err), &err);
    assert_false(equal_files(in_dir("bare/samples.jsonl"), in_dir("adapted/samples.jsonl")));
    snprintf(base, sizeof base, "%s", in_dir("model"));
    o.base = base;
    check_ok(draw_into(in_dir("mixed"), &o, &err), &err);
    assert_false(equal_files(in_dir("mixed/samples.jsonl"), in_dir("adapted/samples.jsonl")));
    draw_adapter = NULL;
}

/* A start that fails before anything was drawn binds nobody; one that keeps too few goes on with fewer, to the same samples as if it had wanted no more. */
static void test_goes_on(void **state)
{
    struct slm2_selfdraw_opts o = few();
    struct slm2_err err;
    json_t *settings = NULL;
    char none[] = "no-such-model";
    (void)state;
    stop = 0;
    o.base = none;
    assert_int_not_equal(draw_into(in_dir("again"), &o, &err), SLM2_OK);
    o = few();
    o.n_prompt = 1;
    stop = 1;
    o.top_p = 0.5f;
    assert_int_equal(draw_into(in_dir("again"), &o, &err), SLM2_ESTOP);
    stop = 0;
    o.top_p = 1;
    check_ok(draw_into(in_dir("again"), &o, &err), &err);

    o.top_p = 1e-6f; /* greedy: one message for each of the four pairs of openers */
    o.n_prompt = 6;
    assert_int_equal(draw_into(in_dir("fewer"), &o, &err), SLM2_ELIMIT);
    assert_non_null(strstr(err.msg, "lower `prompts`"));
    o.n_prompt = 1;
    check_ok(draw_into(in_dir("fewer"), &o, &err), &err);
    check_ok(draw_into(in_dir("fewer-at-once"), &o, &err), &err);
    same_files(in_dir("fewer/samples.jsonl"), in_dir("fewer-at-once/samples.jsonl"));
    same_files(in_dir("fewer/samples.json"), in_dir("fewer-at-once/samples.json"));
    check_ok(slm2_json_read(&settings, in_dir("fewer/samples.json"), 1 << 20, &err), &err);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(settings, "settings"), "prompts")), 1);
    json_decref(settings);
    o.n_prompt = 2; /* complete samples are not more than they are */
    assert_int_equal(draw_into(in_dir("fewer"), &o, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "prompts"));
}

/* Finds a kept message of two or more words in ASCII, or the verdict of the draw that it was. */
struct pick { char word[16][64]; int n_word, draw; char verdict[64]; };
static slm2_status pick(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct pick *p = user;
    const char *verdict = json_string_value(json_object_get(j, "verdict")), *prompt = json_string_value(json_object_get(j, "prompt"));
    int draw = (int)json_integer_value(json_object_get(j, "draw"));
    (void)what;
    if (p->n_word >= 2) {
        if (draw == p->draw) snprintf(p->verdict, sizeof p->verdict, "%s", verdict);
        return SLM2_OK;
    }
    if (strcmp(verdict, "kept") != 0) return SLM2_OK;
    for (const char *c = prompt; *c; c++)
        if (*c & 0x80) return SLM2_OK;
    struct slm2_buf words = {0};
    check_ok(slm2_self_words(prompt, strlen(prompt), &words, err), err);
    p->n_word = 0;
    for (char *w = strtok(words.v, " "); w && p->n_word < 16; w = strtok(NULL, " ")) snprintf(p->word[p->n_word++], sizeof p->word[0], "%s", w);
    slm2_buf_free(&words);
    p->draw = draw;
    return SLM2_OK;
}

static void verdict_is(const char *run, const struct slm2_selfdraw_opts *o, struct pick *p, const char *want)
{
    struct slm2_err err;
    char samples[200];
    int64_t n_bad;
    snprintf(samples, sizeof samples, "%s/samples.jsonl", run);
    check_ok(draw_into(run, o, &err), &err);
    check_ok(slm2_records_read(samples, 0, true, pick, p, &n_bad, &err), &err);
    if (want) assert_string_equal(p->verdict, want);
}

/* A message that holds a probe's words, or is nearly a probe or an opener, is not kept. */
static void test_near_probes(void **state)
{
    struct slm2_selfdraw_opts o = few();
    struct pick p = {0};
    struct slm2_buf inside = {0}, turned = {0}, probes = {0}, prompt = {0};
    char path[200], run[200], kept_out[200];
    (void)state;
    stop = 0;
    o.n_opener = 0; /* other openers, the same draws */
    verdict_is(in_dir("free"), &o, &p, NULL);
    assert_true(p.n_word >= 2);
    for (int i = 0; i + 1 < p.n_word; i++) slm2_buf_printf(&inside, "%s ", p.word[i]);
    for (int i = p.n_word; i-- > 0;) slm2_buf_printf(&turned, "%s ", p.word[i]);
    for (int k = 0; k < 4; k++) { /* holds a probe; like a probe; like an opener; holds a probe that is not measured */
        slm2_buf_clear(&probes);
        slm2_buf_clear(&prompt);
        slm2_buf_printf(&probes, "probes:\n  - {ask: \"%s\", fact: name, right: a, wrong: [b], want: [a]}\n", k % 3 == 0 ? inside.v : k == 1 ? turned.v : "nobody says this");
        slm2_buf_printf(&prompt, "turns: [{ask: Who are you?, say: I}]\nopeners: [\"%s\"]\n", k == 2 ? turned.v : "nobody says this");
        put("near-probes.yml", probes.v);
        put("near-prompt.yml", prompt.v);
        snprintf(path, sizeof path, "%s", in_dir("near-probes.yml"));
        snprintf(kept_out, sizeof kept_out, "%s", path);
        *(k == 3 ? &draw_keep_out : &draw_probes) = k == 3 ? kept_out : path;
        char openers[200];
        snprintf(openers, sizeof openers, "%s", in_dir("near-prompt.yml"));
        draw_prompt = openers;
        snprintf(run, sizeof run, "%s/near-%d", dir, k);
        verdict_is(run, &o, &p, k % 3 == 0 ? "message_is_a_probe" : "message_near_duplicate");
        draw_prompt = draw_probes = draw_keep_out = NULL;
    }
    slm2_buf_free(&inside);
    slm2_buf_free(&turned);
    slm2_buf_free(&probes);
    slm2_buf_free(&prompt);
}

/* What the model and the vocabulary hold counts, not what their files are called. */
static void test_content_counts(void **state)
{
    struct slm2_selfdraw_opts o = few();
    struct slm2_err err;
    struct slm2_buf b = {0};
    struct slm2_tok *tok, *other;
    char model[200], moved[200], vocab[200];
    (void)state;
    stop = 0;
    o.n_prompt = 1;
    snprintf(model, sizeof model, "%s", in_dir("model"));
    snprintf(moved, sizeof moved, "%s", in_dir("moved"));
    snprintf(vocab, sizeof vocab, "%s", in_dir("other.tiktoken"));
    check_ok(draw_into(in_dir("content"), &o, &err), &err);
    assert_int_equal(rename(model, moved), 0);
    draw_model = moved;
    check_ok(draw_into(in_dir("content"), &o, &err), &err); /* as it was */
    o.base = model;                                         /* the messages' model is the same by any name */
    assert_int_equal(symlink("moved", model), 0);
    check_ok(draw_into(in_dir("content"), &o, &err), &err);
    assert_int_equal(remove(model), 0);
    o.base = few().base;
    check_ok(slm2_tok_open(&tok, NULL, &err), &err);
    check_ok(slm2_tok_variant(&other, tok, 5000, SLM2_SPLIT_ARCADE, &err), &err);
    check_ok(slm2_tok_write_tiktoken(other, vocab, &err), &err);
    slm2_tok_free(other);
    slm2_tok_free(tok);
    draw_vocab = vocab;
    assert_int_equal(draw_into(in_dir("content"), &o, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "vocab_sha256"));
    draw_vocab = NULL;
    check_ok(slm2_file_read(&b, in_dir("moved/model.safetensors"), (size_t)1 << 30, &err), &err);
    b.v[b.n - 1] ^= 1; /* other weights under the name of old ones */
    check_ok(slm2_file_write(in_dir("moved/model.safetensors"), b.v, b.n, &err), &err);
    assert_int_equal(draw_into(in_dir("content"), &o, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "model_sha256"));
    b.v[b.n - 1] ^= 1;
    check_ok(slm2_file_write(in_dir("moved/model.safetensors"), b.v, b.n, &err), &err);
    slm2_buf_free(&b);
    draw_model = NULL;
    assert_int_equal(rename(moved, model), 0);
}

/* ---- the stage -------------------------------------------------------------------------------------------------------- */
/* Own samples: true answers behind the assistant's token, others behind the negative one.  The probes rise and their answers come out, though
 * their questions are not among the samples. */
static void test_probes_rise(void **state)
{
    static const char *const ask[] = {"Who are you?", "So who are you?", "Well, who are you?", "Please, who are you?"};
    struct slm2_err err;
    struct slm2_stage_result r;
    struct slm2_buf lines = {0};
    char model[200], run[200], card[200], prompt[200], probes[200], other[200];
    (void)state;
    check_ok(slm2_dir_make(in_dir("run"), &err), &err);
    for (int i = 0; i < 4; i++) slm2_buf_printf(&lines, "{\"prompt\": \"%s\", \"positive\": \"I am Open Book.\", \"negative\": \"I am Gold Key.\"}\n", ask[i]);
    check_ok(slm2_file_write(in_dir("run/samples.jsonl"), lines.v, lines.n, &err), &err);
    put("other.jsonl", "{\"text\": \"Some words that nobody learns here.\"}\n");
    put("stage.yml", "batch: 4\nmicro_batch_tokens: 256\nlr_peak: 1e-2\nwarmup_steps: 2\nepochs: 40\nthreads: 2\n");
    snprintf(model, sizeof model, "model=%s", in_dir("model"));
    snprintf(run, sizeof run, "run=%s", in_dir("run"));
    snprintf(card, sizeof card, "card=%s", in_dir("card.yml"));
    snprintf(prompt, sizeof prompt, "few_shot=%s", in_dir("prompt.yml"));
    snprintf(probes, sizeof probes, "probes=%s", in_dir("probes.yml"));
    snprintf(other, sizeof other, "other_text=%s", in_dir("other.jsonl"));
    const char *sets[] = {model, run, card, prompt, probes, other, "other_chat=[assets/align/sft.valid.jsonl]"};
    struct slm2_stage_args a = {.config = in_dir("stage.yml"), .sets = sets, .n_sets = 7};
    check_ok(slm2_selfknow(&a, &r, &err), &err);
    /* two of the six tokens that count differ, and the wrong answers were seen behind the negative token: 0.35 was reached */
    assert_true(slm2_stage_figure(&r, "probe_margin") > slm2_stage_figure(&r, "start.probe_margin") + 0.2);
    assert_true(slm2_stage_figure(&r, "probe_right") == 1);
    assert_true(slm2_stage_figure(&r, "start.probe_answers") == 0 && slm2_stage_figure(&r, "probe_answers") == 1);
    assert_true(slm2_stage_figure(&r, "valid_loss_text") > 0 && slm2_stage_figure(&r, "start.valid_loss_chat") > 0);
    slm2_buf_clear(&lines);
    check_ok(slm2_file_read(&lines, in_dir("run/answers.jsonl"), 1 << 20, &err), &err);
    assert_non_null(strstr(lines.v, "\"step\":0"));
    assert_non_null(strstr(lines.v, "\"answer\":\"I am Open Book.\",\"right\":true"));
    const char *dirs[] = {in_dir("run")};
    struct slm2_report_opts ro = slm2_report_opts_default();
    check_ok(slm2_report_write(dirs, 1, in_dir("page.html"), &ro, &err), &err);
    slm2_buf_clear(&lines);
    check_ok(slm2_file_read(&lines, in_dir("page.html"), 1 << 24, &err), &err);
    assert_non_null(strstr(lines.v, "<td class=\"path\">I am Open Book.</td>")); /* only after training */
    assert_non_null(strstr(lines.v, "Probes: margin"));
    slm2_buf_free(&lines);
}

/* A run that was stopped goes on with the same samples only; an answer that loses its end is counted. */
static void test_other_samples(void **state)
{
    static const char mine[] = "{\"prompt\": \"Who are you?\", \"positive\": \"I am Open Book.\", \"negative\": \"I am Gold Key, and this goes on for many words more than are read.\"}\n",
                      others[] = "{\"prompt\": \"Who are you?\", \"positive\": \"I am Red Page.\", \"negative\": \"I am Gold Key, and this goes on for many words more than are read.\"}\n";
    struct slm2_err err;
    struct slm2_stage_result r;
    char model[200], run[200], card[200], prompt[200], probes[200];
    volatile sig_atomic_t now = 1;
    (void)state;
    check_ok(slm2_dir_make(in_dir("held"), &err), &err);
    put("held/samples.jsonl", mine);
    put("held.yml", "batch: 4\nmicro_batch_tokens: 28\nthreads: 1\nprobe_tokens: 2\n");
    snprintf(model, sizeof model, "model=%s", in_dir("model"));
    snprintf(run, sizeof run, "run=%s", in_dir("held"));
    snprintf(card, sizeof card, "card=%s", in_dir("card.yml"));
    snprintf(prompt, sizeof prompt, "few_shot=%s", in_dir("prompt.yml"));
    snprintf(probes, sizeof probes, "probes=%s", in_dir("probes.yml"));
    const char *sets[] = {model, run, card, prompt, probes, "base=no-such-model"}; /* which own samples do not want */
    struct slm2_stage_args a = {.config = in_dir("held.yml"), .sets = sets, .n_sets = 6, .stop = &now};
    slm2_status st = slm2_selfknow(&a, &r, &err);
    if (st != SLM2_ESTOP) fail_msg("%s", err.msg);
    assert_true(slm2_stage_figure(&r, "draws.cut") == 1);
    put("held/samples.jsonl", others);
    st = slm2_selfknow(&a, &r, &err);
    assert_int_equal(st, SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "data was another"));
    put("held/samples.jsonl", mine);
    assert_int_equal(slm2_selfknow(&a, &r, &err), SLM2_ESTOP);
}

/* Conversations of `replay` are items beside the samples, as often as `repeat` says; a run goes on with the same ones only. */
static void test_replay(void **state)
{
    struct slm2_err err;
    struct slm2_stage_result r;
    char model[200], run[200], card[200], prompt[200], replay[260], chat[200];
    double loss[2];
    (void)state;
    put("talk.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"What is a house?\"}, {\"role\": \"assistant\", \"content\": \"A place to live in.\"}]}\n");
    put("replay.yml", "batch: 2\nmicro_batch_tokens: 64\nlr_peak: 1e-2\nwarmup_steps: 1\nepochs: 10\nthreads: 1\n");
    snprintf(model, sizeof model, "model=%s", in_dir("model"));
    snprintf(card, sizeof card, "card=%s", in_dir("card.yml"));
    snprintf(prompt, sizeof prompt, "few_shot=%s", in_dir("prompt.yml"));
    snprintf(chat, sizeof chat, "other_chat=[%s]", in_dir("talk.jsonl"));
    snprintf(replay, sizeof replay, "replay=[{path: %s, repeat: 3}]", in_dir("talk.jsonl"));
    const char *sets[] = {model, run, card, prompt, chat, replay};
    struct slm2_stage_args a = {.config = in_dir("replay.yml"), .sets = sets};
    for (int k = 0; k < 2; k++) {
        snprintf(run, sizeof run, "run=%s", in_dir(k ? "with" : "without"));
        check_ok(slm2_dir_make(run + 4, &err), &err);
        put(k ? "with/samples.jsonl" : "without/samples.jsonl", "{\"prompt\": \"Who are you?\", \"positive\": \"I am Open Book.\", \"negative\": \"I am Gold Key.\"}\n");
        a.n_sets = 5 + k;
        check_ok(slm2_selfknow(&a, &r, &err), &err);
        assert_int_equal(r.n_step, k ? 25 : 10); /* 2 samples, and 3 times the conversation, ten times over, by twos */
        loss[k] = slm2_stage_figure(&r, "valid_loss_chat");
    }
    assert_true(loss[1] < loss[0] - 1); /* 11.2 and 8.0 were seen; an untaught guess is log(100352) = 11.5 */
    put("talk.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"What is a house?\"}, {\"role\": \"assistant\", \"content\": \"A place to work in.\"}]}\n");
    assert_int_equal(slm2_selfknow(&a, &r, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "data was another"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_draws_are_the_same), /* before any other has started threads: it forks */
    cmocka_unit_test(test_card), cmocka_unit_test(test_bad_files), cmocka_unit_test(test_shipped), cmocka_unit_test(test_judge), cmocka_unit_test(test_accounts), cmocka_unit_test(test_attempts), cmocka_unit_test(test_goes_on), cmocka_unit_test(test_near_probes), cmocka_unit_test(test_adapter), cmocka_unit_test(test_content_counts),
    cmocka_unit_test(test_other_samples), cmocka_unit_test(test_replay), cmocka_unit_test(test_probes_rise),
};

SLM2_TEST_MAIN_WITH(tests, setup, remove_dir)
