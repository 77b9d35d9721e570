/* test_conf.c - the table of settings: defaults, YAML, assignments, command lines, help, dump and their errors. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slm2_test.h"

#include "base/conf.h"
#include "base/file.h"

struct source { char *path; double weight; struct slm2_conf_list tags; };
struct settings {
    int n_layer, dtype;
    int64_t seed, n_tok;
    float top_p;
    double lr_peak, any;
    bool resume, tied;
    char *name, *out;
    struct slm2_conf_list sources, stop;
};

static const char *const dtypes[] = {"f32", "bf16", NULL};
#define SOURCE(f) offsetof(struct source, f)
static const struct slm2_opt source_rows[] = {
    {.name = "path", .type = SLM2_OPT_STR, .offset = SOURCE(path), .def = "!", .help = "file of documents"},
    {.name = "mix.weight", .type = SLM2_OPT_DOUBLE, .offset = SOURCE(weight), .lo = 0, .hi = 1e9, .def = "1", .help = "share"},
    {.name = "mix.tags", .type = SLM2_OPT_STRS, .offset = SOURCE(tags), .help = "words"},
    {0},
};
#define AT(f) offsetof(struct settings, f)
static const struct slm2_opt rows[] = {
    {.name = "model.n_layer", .type = SLM2_OPT_INT, .offset = AT(n_layer), .lo = 1, .hi = 100, .def = "4", .help = "layers"},
    {.name = "train.lr_peak", .type = SLM2_OPT_DOUBLE, .offset = AT(lr_peak), .lo = 0, .hi = 1, .def = "1e-3", .help = "peak rate"},
    {.name = "model.dtype", .type = SLM2_OPT_ENUM, .offset = AT(dtype), .def = "bf16", .choices = dtypes, .help = "number format"},
    {.name = "seed", .type = SLM2_OPT_INT64, .offset = AT(seed), .def = "1", .help = "random seed", .alias = 's'},
    {.name = "train.n_tok", .type = SLM2_OPT_INT64, .offset = AT(n_tok), .lo = 1, .hi = 1e15, .def = "!", .help = "tokens to train on"},
    {.name = "top_p", .type = SLM2_OPT_FLOAT, .offset = AT(top_p), .lo = 0, .hi = 1, .def = "0.9", .help = "nucleus"},
    {.name = "any", .type = SLM2_OPT_DOUBLE, .offset = AT(any), .help = "any number"},
    {.name = "resume", .type = SLM2_OPT_BOOL, .offset = AT(resume), .help = "go on", .alias = 'r'},
    {.name = "model.tied", .type = SLM2_OPT_BOOL, .offset = AT(tied), .def = "true", .help = "share embeddings"},
    {.name = "name", .type = SLM2_OPT_STR, .offset = AT(name), .help = "what the run is called, in words that are many enough to make "
     "this line of help longer than one line of a terminal of the usual width"},
    {.name = "out", .type = SLM2_OPT_STR, .offset = AT(out), .def = "runs/x", .help = "folder", .alias = 'o'},
    {.name = "sources", .type = SLM2_OPT_LIST, .offset = AT(sources), .sub = source_rows, .sub_size = sizeof(struct source), .help = "data"},
    {.name = "stop", .type = SLM2_OPT_STRS, .offset = AT(stop), .def = "[a, b]", .help = "strings that end an answer"},
    {0},
};

static struct settings s;
static struct slm2_err e;

static int setup(void **state)
{
    (void)state;
    memset(&s, 0xff, sizeof s);
    memset(&e, 0, sizeof e);
    slm2_conf_init(rows, &s);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    slm2_conf_free(rows, &s);
    return 0;
}

static slm2_status yaml_bytes(const char *text, size_t n)
{
    char path[300];
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%.200s/slm2-test-conf-XXXXXX", base ? base : P_tmpdir);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    close(fd);
    slm2_status st = slm2_conf_yaml(rows, &s, path, &e);
    unlink(path);
    return st;
}

static slm2_status yaml(const char *text) { return yaml_bytes(text, strlen(text)); }

static const struct source *source(int i) { return (const struct source *)s.sources.items + i; }
static const char *stop(int i) { return ((char **)s.stop.items)[i]; }
static bool said(const char *part)
{
    if (strstr(e.msg, part)) return true;
    printf("message \"%s\" lacks \"%s\"\n", e.msg, part);
    return false;
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(s.n_layer, 4);
    assert_int_equal(s.dtype, 1);
    assert_int_equal(s.seed, 1);
    assert_true(s.top_p == 0.9f && s.lr_peak == 1e-3 && s.any == 0);
    assert_true(!s.resume && s.tied);
    assert_string_equal(s.name, "");
    assert_string_equal(s.out, "runs/x");
    assert_int_equal(s.sources.n, 0);
    assert_int_equal(s.stop.n, 2);
    assert_string_equal(stop(1), "b");
    assert_int_equal(slm2_conf_required(rows, &s, &e), SLM2_EUSAGE);
    assert_true(said("train.n_tok is required: tokens to train on"));
    assert_int_equal(slm2_conf_set(rows, &s, "train.n_tok=1e9", &e), SLM2_OK);
    assert_int_equal(s.n_tok, 1000000000);
    assert_int_equal(slm2_conf_required(rows, &s, &e), SLM2_OK);
}

static void test_yaml(void **state)
{
    (void)state;
    assert_int_equal(yaml("# a run\n"
                          "seed: -5\n"
                          "model:\n  n_layer: 7\n  dtype: f32\n  tied: no\n"
                          "train: {lr_peak: .5, n_tok: 2e6}\n"
                          "name: \"a \\u00e9 b\"\n"
                          "out: 123\n"
                          "sources:\n"
                          "  - path: x.jsonl\n    mix: {weight: 2, tags: [u, v]}\n"
                          "  - path: y.jsonl\n"
                          "stop: [\"</s>\"]\n"),
                     SLM2_OK);
    assert_int_equal(s.seed, -5);
    assert_int_equal(s.n_layer, 7);
    assert_int_equal(s.dtype, 0);
    assert_false(s.tied);
    assert_true(s.lr_peak == 0.5);
    assert_int_equal(s.n_tok, 2000000);
    assert_string_equal(s.name, "a \xc3\xa9 b");
    assert_string_equal(s.out, "123");
    assert_int_equal(s.sources.n, 2);
    assert_string_equal(source(0)->path, "x.jsonl");
    assert_true(source(0)->weight == 2 && source(1)->weight == 1);
    assert_int_equal(source(0)->tags.n, 2);
    assert_int_equal(s.stop.n, 1);
    assert_string_equal(stop(0), "</s>");
    assert_int_equal(yaml(""), SLM2_OK);
    assert_int_equal(yaml("---\n...\n"), SLM2_OK);
    assert_int_equal(yaml("train:\nstop:\nname:\n"), SLM2_OK);
    assert_int_equal(s.stop.n, 0);
    assert_string_equal(s.name, "");
}

static void test_yaml_errors(void **state)
{
    (void)state;
    static const struct { const char *text, *message; } cases[] = {
        {"sead: 1\n", "line 1: sead: unknown setting; did you mean \"seed\"?"},
        {"seed: 1\nmodel:\n  n_layers: 1\n", "line 3: model.n_layers: unknown setting; did you mean \"model.n_layer\"?"},
        {"lr_peak: 1\n", "did you mean \"train.lr_peak\"?"},
        {"utterly_different: 1\n", "line 1: utterly_different: unknown setting"},
        {"seed: 1\nname: x\nseed: 2\n", "line 3: seed: is given twice, first on line 1"},
        {"seed: one\n", "seed: is \"one\", want an integer"},
        {"seed: \"1\"\n", "seed: is a string (quoted), want a number"},
        {"seed: 1.5\n", "want an integer"},
        {"seed: 12x\n", "want an integer"},
        {"seed: 9223372036854775808\n", "want an integer"},
        {"seed: [1]\n", "is a list, want one value"},
        {"model: {n_layer: 0}\n", "model.n_layer: is 0, out of range: want an integer in [1, 100]"},
        {"model: {n_layer: 4294967297}\n", "out of range"},
        {"train: {lr_peak: 1.5}\n", "out of range: want a number in [0, 1]"},
        {"train: {lr_peak: .nan}\n", "want a number"},
        {"any: 1e999\n", "want a number"},
        {"any:\n", "want a number"},
        {"resume: perhaps\n", "want true or false"},
        {"resume: \"true\"\n", "want a boolean"},
        {"model: {dtype: f64}\n", "want one of f32, bf16"},
        {"model: 3\n", "line 1: model: want a mapping"},
        {"sources: x\n", "sources: want a list"},
        {"sources: [x]\n", "sources[0]: want a mapping"},
        {"sources:\n  - path: x\n  - path: y\n    wait: 1\n", "line 4: sources[1].wait: unknown setting"},
        {"sources:\n  - mix: {weight: -1}\n", "sources[0].mix.weight: is -1, out of range"},
        {"name: {a: b}\n", "is a mapping, want one value"},
        {"name: \"a\\0b\"\n", "has a NUL character"},
        {"- 1\n", "want a mapping of settings"},
        {"seed: 1\n---\nseed: 2\n", "a second YAML document begins"},
        {"seed: [1\n", "not valid YAML"},
        {"a: b: c\n", "line 1: settings: not valid YAML"},
        {"name: \xff\n", "not valid YAML"},
        {"? [a]\n: 1\n", "a key is not a plain word"},
        {"name: *x\n", "not valid YAML"},
        {"&a model: *a\n", "model: want a mapping"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        e.msg[0] = 0;
        slm2_status st = yaml(cases[i].text);
        if (st != SLM2_EFORMAT) printf("accepted: %s\n", cases[i].text);
        assert_int_equal(st, SLM2_EFORMAT);
        assert_true(said(cases[i].message));
    }
    assert_int_equal(slm2_conf_yaml(rows, &s, "no/such/file.yml", &e), SLM2_EIO);
    assert_true(said("no/such/file.yml"));
}

/* Every truncation and many changed bytes of a full file: any answer but a crash or a leak. */
static void test_yaml_hostile(void **state)
{
    (void)state;
    char text[] = "seed: 5\nmodel: {n_layer: 7, dtype: f32}\nsources:\n  - &a {path: x, mix: {tags: [u, \"v\\n\"]}}\n  - *a\nstop: [p, 'q']\n";
    size_t n = sizeof text - 1;
    assert_int_equal(yaml(text), SLM2_OK);
    assert_int_equal(s.sources.n, 2);
    for (size_t cut = 0; cut < n; cut++) yaml_bytes(text, cut);
    for (size_t at = 0; at < n; at++) {
        for (const char *c = "\x01\xff{}[]&*:-\n\"% "; *c; c++) {
            char kept = text[at];
            text[at] = *c;
            yaml_bytes(text, n);
            text[at] = kept;
        }
    }
    assert_int_equal(yaml("sources: &a\n  - mix: {tags: []}\n  - *a\n"), SLM2_EFORMAT); /* a list that holds itself */
    struct slm2_buf deep = {0};
    slm2_buf_puts(&deep, "seed: ");
    for (int i = 0; i < 50000; i++) slm2_buf_putc(&deep, '[');
    assert_int_equal(yaml(deep.v), SLM2_EFORMAT);
    slm2_buf_free(&deep);
}

static slm2_status args(size_t n_bytes, const char *const *words, const char **pos, int *n_pos, bool *help)
{
    char *argv[32];
    int argc = (int)(n_bytes / sizeof argv[0]);
    assert_true(n_bytes <= sizeof argv);
    memcpy(argv, words, n_bytes);
    *n_pos = 0;
    *help = false;
    return slm2_conf_args(rows, &s, argc, argv, pos, 2, n_pos, help, &e);
}
#define WORDS(...) ((const char *const[]){"slm2", __VA_ARGS__})
#define ARGS(...) args(sizeof WORDS(__VA_ARGS__), WORDS(__VA_ARGS__), pos, &n_pos, &help)

static void test_args(void **state)
{
    (void)state;
    const char *pos[2];
    int n_pos;
    bool help;
    assert_int_equal(ARGS("a.yml", "--top-p", "0.5", "--model.n-layer=9", "-s", "7", "--resume", "--no-model.tied", "--set", "train.lr_peak=0.25",
                          "--stop", "x", "--stop=[y", "-oout", "--name=", "--", "--name"),
                     SLM2_OK);
    assert_int_equal(n_pos, 2);
    assert_string_equal(pos[0], "a.yml");
    assert_string_equal(pos[1], "--name");
    assert_true(s.top_p == 0.5f && s.lr_peak == 0.25);
    assert_int_equal(s.n_layer, 9);
    assert_int_equal(s.seed, 7);
    assert_true(s.resume && !s.tied && !help);
    assert_int_equal(s.stop.n, 2); /* the first --stop replaces the default, the next adds to it */
    assert_string_equal(stop(0), "x");
    assert_string_equal(stop(1), "[y");
    assert_string_equal(s.out, "out");
    assert_int_equal(ARGS("--resume=false", "--any", "-1.5", "-s=3", "--top_p=1", "-h"), SLM2_OK);
    assert_true(!s.resume && s.any == -1.5 && s.seed == 3 && s.top_p == 1 && help);
    assert_int_equal(ARGS("--set", "sources=[{path: p, mix: {weight: 3}}, {path: q}]", "--set", "sources.1.mix.weight=4"), SLM2_OK);
    assert_int_equal(s.sources.n, 2);
    assert_true(source(0)->weight == 3 && source(1)->weight == 4);
    assert_int_equal(ARGS("--sources.0.path=z", "--set", "stop=[1, 2, 3]"), SLM2_OK);
    assert_string_equal(source(0)->path, "z");
    assert_int_equal(s.stop.n, 3);
}

static void test_args_errors(void **state)
{
    (void)state;
    const char *pos[2];
    int n_pos;
    bool help;
    assert_int_equal(ARGS("--top-k", "3"), SLM2_EUSAGE);
    assert_true(said("unknown option --top-k; did you mean \"top-p\"?"));
    assert_int_equal(ARGS("-x"), SLM2_EUSAGE);
    assert_int_equal(ARGS("--seed"), SLM2_EUSAGE);
    assert_true(said("option --seed wants a value"));
    assert_int_equal(ARGS("--set"), SLM2_EUSAGE);
    assert_int_equal(ARGS("--set", "seed"), SLM2_EUSAGE);
    assert_true(said("not of the form key=value"));
    assert_int_equal(ARGS("--set", "sead=1"), SLM2_EUSAGE);
    assert_true(said("did you mean \"seed\"?"));
    assert_int_equal(ARGS("--seed", "1x"), SLM2_EUSAGE);
    assert_true(said("setting seed: is \"1x\", want an integer"));
    assert_int_equal(ARGS("--resume=maybe"), SLM2_EUSAGE);
    assert_int_equal(ARGS("--no-seed"), SLM2_EUSAGE);
    assert_int_equal(ARGS("--name", "\xff"), SLM2_EUSAGE);
    assert_int_equal(ARGS("a", "b", "c"), SLM2_EUSAGE);
    assert_true(said("unexpected argument \"c\""));
    assert_int_equal(ARGS("--set", "sources.5.path=x"), SLM2_EUSAGE);
    assert_true(said("the list has 0 items"));
    assert_int_equal(ARGS("--set", "sources=[{path: "), SLM2_EUSAGE);
    assert_int_equal(ARGS("--set", "sources=[{mix: {weight: 2}}]", "--set", "train.n_tok=1"), SLM2_OK);
    assert_int_equal(slm2_conf_required(rows, &s, &e), SLM2_EUSAGE);
    assert_true(said("sources[0].path is required"));
}

static void test_help(void **state)
{
    (void)state;
    struct slm2_buf b = {0};
    slm2_conf_help(rows, &b);
    assert_int_equal(slm2_buf_check(&b, NULL), SLM2_OK);
    assert_non_null(strstr(b.v, "  -s, --seed N                  random seed (default 1)\n"));
    assert_non_null(strstr(b.v, "      --model.n-layer N         layers (1 to 100; default 4)\n"));
    assert_non_null(strstr(b.v, "one of f32, bf16; default bf16"));
    assert_non_null(strstr(b.v, "required"));
    assert_non_null(strstr(b.v, "          mix.weight:           share (0 to 1e+09; default 1)\n"));
    for (const char *line = b.v; *line; line = strchr(line, '\n') + 1) assert_true(strcspn(line, "\n") <= 100);
    slm2_buf_free(&b);
}

/* What was in force reads back to the same settings, bit for bit. */
static void test_dump_reads_back(void **state)
{
    (void)state;
    const char *pos[2];
    int n_pos;
    bool help;
    struct slm2_buf a = {0}, b = {0};
    slm2_conf_dump(rows, &s, &a); /* a required setting that is unset is left out */
    assert_null(strstr(a.v, "n_tok"));
    assert_non_null(strstr(a.v, "sources: []\n"));
    slm2_buf_clear(&a);

    assert_int_equal(ARGS("--name", "tab\t \"quoted\" back\\slash\nline \xc3\xa9 \xe2\x80\xa8 \xef\xbb\xbf \xc2\x85 \x01 \xf0\x9f\x98\x80 # : {", "--any",
                          "0.1", "--top-p", "0.30000001", "--train.n-tok", "123456789012345", "--seed=-9223372036854775807", "--stop", "",
                          "--stop", "null", "--set", "train.lr_peak=0.3333333333333333", "--set",
                          "sources=[{path: p, mix: {weight: 1e-7, tags: [x, y]}}, {}]"),
                     SLM2_OK);
    slm2_conf_dump(rows, &s, &a);
    struct settings kept = s;
    slm2_conf_init(rows, &s);
    assert_int_equal(yaml(a.v), SLM2_OK);
    slm2_conf_dump(rows, &s, &b);
    assert_string_equal(a.v, b.v);
    assert_string_equal(s.name, kept.name);
    assert_true(s.any == kept.any && s.top_p == kept.top_p && s.lr_peak == kept.lr_peak && s.seed == kept.seed && s.n_tok == kept.n_tok);
    assert_int_equal(s.stop.n, 2);
    assert_string_equal(stop(0), "");
    assert_string_equal(stop(1), "null");
    assert_int_equal(s.sources.n, 2);
    assert_true(source(0)->weight == 1e-7);
    assert_int_equal(source(0)->tags.n, 2);
    assert_non_null(strstr(a.v, "model:\n    n_layer: 4\n    dtype: \"bf16\"\n    tied: true\n")); /* one mapping, though its rows are apart */
    slm2_conf_free(rows, &kept);
    slm2_buf_free(&a);
    slm2_buf_free(&b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
/* A list whose items may be plain text. */
struct data_set { struct slm2_conf_list path; double repeat; };
struct run { struct slm2_conf_list data; };
static const struct slm2_opt data_rows[] = {
    {.name = "repeat", .type = SLM2_OPT_DOUBLE, .offset = offsetof(struct data_set, repeat), .def = "1"},
    {.name = "path", .type = SLM2_OPT_STRS, .offset = offsetof(struct data_set, path), .def = "!", .alias = '='},
    {0},
};
static const struct slm2_opt run_rows[] = {{.name = "data", .type = SLM2_OPT_LIST, .offset = 0, .sub = data_rows, .sub_size = sizeof(struct data_set)}, {0}};

static void assert_data(const struct run *r, const char *want)
{
    struct slm2_buf b = {0};
    slm2_buf_puts(&b, "");
    for (int i = 0; i < r->data.n; i++) {
        const struct data_set *d = (const struct data_set *)r->data.items + i;
        slm2_buf_printf(&b, "%g", d->repeat);
        for (int k = 0; k < d->path.n; k++) slm2_buf_printf(&b, " %s", ((char **)d->path.items)[k]);
        slm2_buf_puts(&b, ";");
    }
    assert_string_equal(b.v, want);
    slm2_buf_free(&b);
}

static void test_plain_items(void **state)
{
    (void)state;
    struct run r;
    const char *pos[1];
    int n_pos = 0;
    bool help = false;
    static char x[] = "x", option[] = "--data", first[] = "a: b.jsonl", second[] = "--data=c.jsonl";
    char *argv[] = {x, option, first, second, NULL};
    slm2_conf_init(run_rows, &r);
    assert_int_equal(slm2_conf_set(run_rows, &r, "data=[a.jsonl, {path: [b, c], repeat: 2}]", &e), SLM2_OK);
    assert_data(&r, "1 a.jsonl;2 b c;");
    struct slm2_buf dump = {0};
    struct run again;
    char path[] = P_tmpdir "/slm2-test-conf-XXXXXX";
    close(mkstemp(path));
    slm2_conf_dump(run_rows, &r, &dump);
    assert_int_equal(slm2_file_write(path, dump.v, dump.n, &e), SLM2_OK);
    slm2_conf_init(run_rows, &again);
    assert_int_equal(slm2_conf_yaml(run_rows, &again, path, &e), SLM2_OK);
    assert_data(&again, "1 a.jsonl;2 b c;");
    slm2_conf_free(run_rows, &again);
    slm2_buf_free(&dump);
    unlink(path);
    assert_int_equal(slm2_conf_set(run_rows, &r, "data=a: b.jsonl", &e), SLM2_OK); /* no YAML: the path as it is */
    assert_data(&r, "1 a: b.jsonl;");
    assert_int_equal(slm2_conf_args(run_rows, &r, 4, argv, pos, 1, &n_pos, &help, &e), SLM2_OK);
    assert_data(&r, "1 a: b.jsonl;1 c.jsonl;");
    assert_int_equal(slm2_conf_required(run_rows, &r, &e), SLM2_OK);
    assert_int_equal(slm2_conf_set(run_rows, &r, "data=", &e), SLM2_OK);
    assert_data(&r, "");
    assert_int_equal(slm2_conf_set(run_rows, &r, "data=[{repeat: 3}]", &e), SLM2_OK);
    assert_int_equal(slm2_conf_required(run_rows, &r, &e), SLM2_EUSAGE);
    assert_true(said("data[0].path is required"));
    slm2_conf_free(run_rows, &r);
}

static const struct CMUnitTest tests[] = {
    TEST(test_defaults), TEST(test_yaml),  TEST(test_yaml_errors), TEST(test_yaml_hostile),
    TEST(test_args),     TEST(test_args_errors), TEST(test_help), TEST(test_dump_reads_back), TEST(test_plain_items),
};
SLM2_TEST_MAIN(tests)
