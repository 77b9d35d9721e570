/* test_dpo.c - preference optimisation in parts: losses and gradients, published record shapes and their filters, the reference's store.
 *
 *     test_dpo [DIR]     DIR: a folder with dpo_loss.golden.json and samples/ of the form of tests/data/align, the default */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "data/pair.h"
#include "data/records.h"
#include "scratch_dir.h"
#include "tok/tok.h"
#include "train/dpo_loss.h"
#include "train/dpo_ref.h"
#include "train/tune.h"

static const char *data_dir;

/* The first that is there of DIR/sub/name, DIR/other/name and DIR/name. */
static const char *data_path(const char *sub, const char *other, const char *name)
{
    static char path[8][1024];
    static int turn;
    char *p = path[turn++ & 7];
    const char *const subs[] = {sub, other};
    for (int i = 0; i < 2; i++) {
        snprintf(p, sizeof path[0], "%s/%s/%s", data_dir, subs[i], name);
        if (slm2_path_exists(p)) return p;
    }
    snprintf(p, sizeof path[0], "%s/%s", data_dir, name);
    return p;
}

static json_t *read_json(const char *path)
{
    struct slm2_err err;
    json_t *j;
    check_ok(slm2_json_read(&j, path, (size_t)1 << 24, &err), &err);
    return j;
}

/* ---- losses ---------------------------------------------------------------------------------------------------------- */
static double num(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) fail_msg("%s is not a number", key);
    return json_number_value(v);
}

/* Some ten operations in double on inputs up to 1e3, whose differences cancel: 1e-13 of 1e3 is lost at most, 1e-12 is allowed, or that part of a large value. */
static void near(double got, double want, const char *what)
{
    if (!(fabs(got - want) <= 1e-12 * fmax(fabs(want), 1))) fail_msg("%s: %.17g, want %.17g", what, got, want);
}

static void test_loss_golden(void **state)
{
    json_t *all = read_json(data_path("align", ".", "dpo_loss.golden.json")), *o;
    size_t i;
    (void)state;
    assert_true(json_array_size(all) > 0);
    json_array_foreach(all, i, o) {
        double pc = num(o, "policy_chosen"), pr = num(o, "policy_rejected"), rc = num(o, "ref_chosen"), rr = num(o, "ref_rejected"), beta = num(o, "beta");
        struct slm2_dpo_terms t = slm2_dpo_loss(SLM2_DPO_SIGMOID, pc, pr, rc, rr, beta, num(o, "label_smoothing"));
        near(t.loss, num(o, "loss"), "loss");
        near(t.reward_chosen, num(o, "reward_chosen"), "reward_chosen");
        near(t.reward_rejected, num(o, "reward_rejected"), "reward_rejected");
        near(t.margin, num(o, "margin"), "margin");
        near(t.d_chosen, num(o, "dloss_dlogp_chosen"), "dloss_dlogp_chosen");
        near(-t.d_chosen, num(o, "dloss_dlogp_rejected"), "dloss_dlogp_rejected");
        assert_int_equal(t.margin > 0, num(o, "accurate") > 0);
        near(slm2_dpo_loss(SLM2_DPO_IPO, pc, pr, rc, rr, beta, 0).loss, num(o, "ipo_loss"), "ipo_loss");
        near(slm2_dpo_loss(SLM2_DPO_HINGE, pc, pr, rc, rr, beta, 0).loss, num(o, "hinge_loss"), "hinge_loss");
    }
    json_decref(all);
}

/* Central differences: an error of h^2 f'''/6, below 1e-7 of beta^3 here, and of rounding, 1e-16 of the loss over h. */
static void test_loss_derivative(void **state)
{
    const double h = 1e-3, z[] = {-300, -20, -1, 0, 0.5, 4, 60};
    (void)state;
    for (int kind = 0; slm2_dpo_kinds[kind]; kind++)
        for (size_t i = 0; i < sizeof z / sizeof z[0]; i++)
            for (int b = 0; b < 2; b++) {
                double beta = b ? 0.1 : 0.01, e = kind == SLM2_DPO_SIGMOID ? 0.2 * b : 0;
                enum slm2_dpo_kind k = (enum slm2_dpo_kind)kind;
                double up = slm2_dpo_loss(k, z[i] + h, 0, 0, 0, beta, e).loss, down = slm2_dpo_loss(k, z[i] - h, 0, 0, 0, beta, e).loss;
                double d = slm2_dpo_loss(k, z[i], 0, 0, 0, beta, e).d_chosen, want = (up - down) / (2 * h);
                if (fabs(d - want) > 1e-7 * (1 + fabs(want))) fail_msg("%s, z %g, beta %g: derivative %.9g, differences give %.9g", slm2_dpo_kinds[kind], z[i], beta, d, want);
                double r_up = slm2_dpo_loss(k, 0, -z[i] + h, 0, 0, beta, e).loss, r_down = slm2_dpo_loss(k, 0, -z[i] - h, 0, 0, beta, e).loss;
                if (fabs(-d - (r_up - r_down) / (2 * h)) > 1e-7 * (1 + fabs(d))) fail_msg("%s: derivative of the rejected answer", slm2_dpo_kinds[kind]);
            }
}

/* What is not a number stays visible, whatever the loss; the largest margins do not overflow. */
static void test_loss_extremes(void **state)
{
    (void)state;
    for (int kind = 0; slm2_dpo_kinds[kind]; kind++) assert_true(isnan(slm2_dpo_loss((enum slm2_dpo_kind)kind, NAN, 0, 0, 0, 0.1, 0).loss));
    assert_true(slm2_dpo_loss(SLM2_DPO_SIGMOID, -1e6, 0, 0, 0, 1, 0).loss == 1e6);
    assert_true(slm2_dpo_loss(SLM2_DPO_SIGMOID, 1e6, 0, 0, 0, 1, 0).loss == 0);
    assert_true(fabs(slm2_dpo_loss(SLM2_DPO_SIGMOID, -7, -7, -7, -7, 0.01, 0).loss - log(2)) < 1e-15);
}

/* ---- published shapes and filters -------------------------------------------------------------------------------------- */
struct judged {
    enum slm2_pref_format format;
    const struct slm2_pref_rules *rules;
    struct slm2_seen seen;
    struct slm2_buf key;
    int n;
    enum slm2_pref_verdict verdict[64];
};

static slm2_status judge(void *user, json_t *record, const char *what, struct slm2_err *err)
{
    struct judged *g = user;
    struct slm2_pref p;
    enum slm2_pref_verdict v = SLM2_PREF_INVALID;
    assert_true(g->n < 64);
    slm2_status st = slm2_pref_read(&p, g->format, record, what, err);
    if (st == SLM2_OK) st = slm2_pref_judge(&p, g->rules, &g->seen, &g->key, &v, err);
    else assert_non_null(strstr(err->msg, what));
    slm2_pref_free(&p);
    g->verdict[g->n++] = v;
    return st;
}

static void judge_file(struct judged *g, const char *path, enum slm2_pref_format format, const struct slm2_pref_rules *rules)
{
    struct slm2_err err;
    int64_t n_bad = 0;
    *g = (struct judged){.format = format, .rules = rules};
    check_ok(slm2_seen_open(&g->seen, NULL, &err), &err);
    check_ok(slm2_records_read(path, 0, false, judge, g, &n_bad, &err), &err);
    int64_t n_invalid = 0;
    for (int i = 0; i < g->n; i++) n_invalid += g->verdict[i] == SLM2_PREF_INVALID;
    assert_int_equal(n_bad, g->n ? n_invalid : 1); /* none came here: refused as no record at all */
    slm2_seen_close(&g->seen);
    slm2_buf_free(&g->key);
}

/* Every record of every sample against expected.json, then the counts of the loader. */
static void test_samples(void **state)
{
    static const struct slm2_pref_rules rules = {.min_score = 8};
    json_t *expected = read_json(data_path("align/samples", "samples", "expected.json"));
    struct slm2_tok *tok;
    struct slm2_err err;
    (void)state;
    check_ok(slm2_tok_open(&tok, NULL, &err), &err);
    for (int f = SLM2_PREF_ULTRAFEEDBACK; slm2_pref_formats[f]; f++) {
        const json_t *want = json_object_get(json_object_get(expected, "dpo"), slm2_pref_formats[f]), *records = json_object_get(want, "records"), *counts = json_object_get(want, "counts");
        char name[80], path[1024];
        struct judged g;
        struct slm2_pairs p;
        struct slm2_pair_opts o = slm2_pair_opts_default();
        snprintf(name, sizeof name, "%s.jsonl", slm2_pref_formats[f]);
        snprintf(path, sizeof path, "%s", data_path("align/samples", "samples", name));
        judge_file(&g, path, (enum slm2_pref_format)f, &rules);
        assert_true(g.n > 0);
        assert_int_equal(g.n, json_array_size(records));
        for (int i = 0; i < g.n; i++) {
            const char *w = json_string_value(json_object_get(json_array_get(records, (size_t)i), "verdict")), *got = slm2_pref_verdicts[g.verdict[i]];
            if (!w || strcmp(w, got)) fail_msg("%s: record %d: %s, want %s", name, i, got, w ? w : "(nothing)");
        }
        char *paths[] = {path};
        struct slm2_pair_source source = {f, {paths, 1}};
        check_ok(slm2_pairs_load(&p, &source, 1, tok, &o, &err), &err);
        for (int v = 0; v < SLM2_PREF_N_VERDICT; v++) assert_int_equal(p.file[0].n[v], json_integer_value(json_object_get(counts, slm2_pref_verdicts[v])));
        assert_int_equal(p.n, p.file[0].n[SLM2_PREF_KEEP]);
        assert_int_equal(p.file[0].first_bad[0] != 0, p.file[0].n[SLM2_PREF_INVALID] > 0);
        slm2_pairs_free(&p);
    }
    slm2_tok_free(tok);
    json_decref(expected);
}

/* `dpo --plan --json`: the counts of expected.json by data set, and what a second copy of one adds; no model is wanted. */
static void test_plan(void **state)
{
    json_t *expected = read_json(data_path("align/samples", "samples", "expected.json")), *j;
    struct slm2_buf text = {0}, data = {0};
    struct slm2_err err;
    char config[1024];
    (void)state;
    slm2_buf_puts(&data, "data=[");
    for (int f = SLM2_PREF_ULTRAFEEDBACK; slm2_pref_formats[f]; f++) {
        char name[80];
        snprintf(name, sizeof name, "%s.jsonl", slm2_pref_formats[f]);
        slm2_buf_printf(&data, "{format: %s, path: %s}, ", slm2_pref_formats[f], data_path("align/samples", "samples", name));
    }
    slm2_buf_printf(&data, "{format: orca_dpo_pairs, path: %s}]", data_path("align/samples", "samples", "orca_dpo_pairs.jsonl"));
    snprintf(config, sizeof config, "%s", in_dir("plan.yml"));
    FILE *file = fopen(config, "w");
    assert_non_null(file);
    fputs("model: nowhere\nrun: nowhere\nepochs: 2\nbatch: 30\n", file);
    assert_int_equal(fclose(file), 0);
    const char *sets[] = {data.v};
    check_ok(slm2_dpo_plan(&(struct slm2_stage_args){.config = config, .sets = sets, .n_sets = 1}, &text, &j, &err), &err);
    const json_t *train = json_object_get(j, "sets");
    json_int_t keep = 0;
    assert_int_equal(json_array_size(train), 4);
    for (size_t i = 0; i < 3; i++) {
        const json_t *set = json_array_get(train, i), *of = json_object_get(json_object_get(expected, "dpo"), slm2_pref_formats[SLM2_PREF_ULTRAFEEDBACK + (int)i]), *counts = json_object_get(of, "counts");
        assert_int_equal(json_integer_value(json_object_get(set, "records")), json_array_size(json_object_get(of, "records")));
        keep += json_integer_value(json_object_get(set, "keep"));
        for (int v = 0; v < SLM2_PREF_N_VERDICT; v++) assert_int_equal(json_integer_value(json_object_get(set, slm2_pref_verdicts[v])), json_integer_value(json_object_get(counts, slm2_pref_verdicts[v])));
    }
    assert_string_equal(json_string_value(json_object_get(json_array_get(train, 3), "set")), "train.orca_dpo_pairs-2");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(train, 3), "keep")), 0);
    assert_int_equal(json_integer_value(json_object_get(j, "pairs")), keep);
    assert_int_equal(json_integer_value(json_object_get(j, "updates")), (2 * keep + 29) / 30);
    assert_null(json_object_get(j, "parameters")); /* of a model that is not there */
    assert_non_null(strstr(text.v, "train.orca_dpo_pairs-2: records "));
    slm2_buf_clear(&data); /* texts are no messages: all invalid */
    slm2_buf_printf(&data, "data=[{format: ultrafeedback_binarized_cleaned, path: %s}]", data_path("align/samples", "samples", "orca_dpo_pairs.jsonl"));
    sets[0] = data.v;
    json_decref(j);
    assert_int_equal(slm2_dpo_plan(&(struct slm2_stage_args){.config = config, .sets = sets, .n_sets = 1}, &text, &j, &err), SLM2_EFORMAT);
    slm2_buf_free(&text);
    slm2_buf_free(&data);
    json_decref(j);
    json_decref(expected);
}

static void write_bytes(const char *path, const char *p, size_t n) /* without fsync: there are thousands */
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}
static void write_file(const char *path, const char *text) { write_bytes(path, text, strlen(text)); }

#define U "{\"role\":\"user\",\"content\":\"Q\"}"
#define A(t) "[" U ",{\"role\":\"assistant\",\"content\":\"" t "\"}]"
#define ULTRA(more) "{\"prompt\":\"Q\",\"chosen\":" A("a") ",\"rejected\":" A("b") more "}"

/* One record each, and its verdict under a rule that is not the default. */
static void test_rules(void **state)
{
    static const struct slm2_pref_rules all = {.min_score = 8}, none = {.keep_ties = true, .keep_gsm8k_train = true, .keep_duplicate_pairs = true}, nine = {.min_score = 9};
    static const struct { enum slm2_pref_format format; const char *record; const struct slm2_pref_rules *rules; enum slm2_pref_verdict want; } cases[] = {
        {SLM2_PREF_ULTRAFEEDBACK, ULTRA(",\"score_chosen\":8.0,\"score_rejected\":1"), &all, SLM2_PREF_KEEP},
        {SLM2_PREF_ULTRAFEEDBACK, ULTRA(",\"score_chosen\":8.0,\"score_rejected\":1"), &nine, SLM2_PREF_LOW_SCORE},
        {SLM2_PREF_ULTRAFEEDBACK, ULTRA(",\"score_chosen\":5,\"score_rejected\":5"), &all, SLM2_PREF_TIE},
        {SLM2_PREF_ULTRAFEEDBACK, ULTRA(",\"score_chosen\":5,\"score_rejected\":5"), &none, SLM2_PREF_KEEP},
        {SLM2_PREF_ULTRAFEEDBACK, ULTRA(",\"score_chosen\":null,\"score_rejected\":null"), &all, SLM2_PREF_KEEP}, /* none given is no tie */
        {SLM2_PREF_ULTRAFEEDBACK, ULTRA(",\"score_chosen\":\"9\""), &all, SLM2_PREF_INVALID},
        {SLM2_PREF_ULTRAFEEDBACK, "{\"prompt\":\"\",\"chosen\":" A("a") ",\"rejected\":" A("b") "}", &all, SLM2_PREF_INVALID},
        {SLM2_PREF_ULTRAFEEDBACK, "{\"prompt\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\"}", &all, SLM2_PREF_INVALID}, /* texts: another shape */
        {SLM2_PREF_ULTRAFEEDBACK, "{\"prompt\":\"Q\",\"chosen\":" A("a") ",\"rejected\":[" U "]}", &all, SLM2_PREF_INVALID},
        {SLM2_PREF_ULTRAFEEDBACK, "{\"prompt\":\"Q\",\"chosen\":[],\"rejected\":" A("b") "}", &all, SLM2_PREF_INVALID},
        {SLM2_PREF_ORCA, "{\"system\":\"\",\"question\":\"Q\",\"chosen\":\"a\",\"rejected\":\" \\n\"}", &all, SLM2_PREF_INVALID},
        {SLM2_PREF_ORCA, "{\"question\":\"Q\",\"chosen\":\"a\",\"rejected\":\"\\ta \"}", &none, SLM2_PREF_DUPLICATE_CONTENT}, /* has no switch: such a pair has no gradient */
        {SLM2_PREF_ORCA, "{\"question\":\"Q\",\"chosen\":\"a\\u00a0\",\"rejected\":\"\\u3000a\\u2028\"}", &all, SLM2_PREF_DUPLICATE_CONTENT}, /* white space by Unicode */
        {SLM2_PREF_ORCA, "{\"question\":\" \\u00a0\\n\",\"chosen\":\"a\",\"rejected\":\"b\"}", &all, SLM2_PREF_INVALID},
        {SLM2_PREF_ORCA, "{\"input\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\"}", &all, SLM2_PREF_INVALID},
        {SLM2_PREF_ORCA_RATED, "{\"input\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\",\"status\":\"tie\",\"rating\":[9,8],\"chosen_score\":9}", &all, SLM2_PREF_TIE},
        {SLM2_PREF_ORCA_RATED, "{\"input\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\",\"status\":\"swapped\",\"rating\":[9,9],\"chosen_score\":9}", &all, SLM2_PREF_TIE},
        {SLM2_PREF_ORCA_RATED, "{\"input\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\",\"status\":\"swapped\",\"rating\":[8,9],\"chosen_score\":9,\"in_gsm8k_train\":true}", &all, SLM2_PREF_IN_GSM8K_TRAIN},
        {SLM2_PREF_ORCA_RATED, "{\"input\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\",\"chosen_score\":2,\"in_gsm8k_train\":true}", &none, SLM2_PREF_KEEP},
        {SLM2_PREF_PAIRS, "{\"prompt\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\"}", &all, SLM2_PREF_KEEP},
        {SLM2_PREF_PAIRS, "{\"prompt\":null,\"question\":\"Q\",\"system\":null,\"chosen\":\"a\",\"rejected\":\"b\",\"score_chosen\":null}", &all, SLM2_PREF_KEEP},
        {SLM2_PREF_PAIRS, "[]", &all, SLM2_PREF_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct judged g;
        char text[1200];
        snprintf(text, sizeof text, "[%s]\n", cases[i].record); /* an array of one */
        write_file(in_dir("one.json"), text);
        judge_file(&g, in_dir("one.json"), cases[i].format, cases[i].rules);
        if (g.n == 0) assert_int_equal(cases[i].want, SLM2_PREF_INVALID); /* refused before it came here */
        else if (g.verdict[0] != cases[i].want) fail_msg("%s: %s, want %s", cases[i].record, slm2_pref_verdicts[g.verdict[0]], slm2_pref_verdicts[cases[i].want]);
    }
}

/* Equal pairs count across files; another system message makes another prompt; a JSON array is read as lines are. */
static void test_several_files(void **state)
{
    struct slm2_tok *tok;
    struct slm2_err err;
    struct slm2_pairs p;
    struct slm2_pair_opts o = slm2_pair_opts_default();
    char lines[256], array[256];
    (void)state;
    snprintf(lines, sizeof lines, "%s", in_dir("lines.jsonl"));
    snprintf(array, sizeof array, "%s", in_dir("array.json"));
    write_file(lines, "{\"question\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\"}\nnot json\n{\"question\":\"Q\",\"system\":\"S\",\"chosen\":\"a\",\"rejected\":\"b\"}\n");
    write_file(array, "[\n {\"prompt\": \"Q\", \"chosen\": \"a\", \"rejected\": \"b\"},\n {\"prompt\": \"Q\", \"chosen\": \"b\", \"rejected\": \"a\"}\n]\n");
    char *first[] = {lines}, *second[] = {array, lines};
    struct slm2_pair_source sources[] = {{SLM2_PREF_ORCA, {first, 1}}, {SLM2_PREF_PAIRS, {second, 2}}};
    check_ok(slm2_tok_open(&tok, NULL, &err), &err);
    check_ok(slm2_pairs_load(&p, sources, 2, tok, &o, &err), &err);
    assert_int_equal(p.n, 3);
    assert_int_equal(p.n_file, 3);
    assert_int_equal(p.file[2].source, 1);
    assert_int_equal(p.file[2].n[SLM2_PREF_DUPLICATE_PAIR], 2);
    assert_int_equal(p.file[0].n[SLM2_PREF_KEEP], 2);
    assert_int_equal(p.file[0].n[SLM2_PREF_INVALID], 1);
    assert_int_equal(p.file[1].n[SLM2_PREF_DUPLICATE_PAIR], 1);
    assert_int_equal(p.file[1].n[SLM2_PREF_KEEP], 1);
    int64_t n_tok = 0;
    for (int i = 0; i < p.n; i++) n_tok += p.chosen[i].n + p.rejected[i].n;
    assert_int_equal(p.file[0].n_tok + p.file[1].n_tok + p.file[2].n_tok, n_tok);
    slm2_pairs_free(&p);
    o.rules.keep_duplicate_pairs = true;
    check_ok(slm2_pairs_load(&p, sources, 2, tok, &o, &err), &err);
    assert_int_equal(p.n, 6);
    slm2_pairs_free(&p);
    slm2_tok_free(tok);
}

/* ---- the reference's store ---------------------------------------------------------------------------------------------- */
static void hex_of(char hex[65], const char *text) { slm2_sha256_hex(text, strlen(text), hex); }

static void test_store(void **state)
{
    enum { N = 3 };
    const double lp[2 * N] = {-1.5, -0.1, -1e-9, -12345.678901234567, -0x1.fffffffffffffp+3, 0};
    struct slm2_dpo_ref_key key = {.precision = "fp32", .kernels = "avx2"}, other;
    struct slm2_err err;
    char store[256], path[512];
    double got[2 * N];
    int done;
    (void)state;
    hex_of(key.model, "m");
    hex_of(key.pairs, "p");
    snprintf(store, sizeof store, "%s", in_dir("a/store"));
    check_ok(slm2_dpo_ref_path(path, sizeof path, store, &key, &err), &err);
    check_ok(slm2_dpo_ref_read(path, &key, got, N, &done, &err), &err);
    assert_int_equal(done, 0);
    check_ok(slm2_dpo_ref_write(store, &key, lp, N, 2, &err), &err); /* stopped behind the second */
    check_ok(slm2_dpo_ref_read(path, &key, got, N, &done, &err), &err);
    assert_int_equal(done, 2);
    check_ok(slm2_dpo_ref_write(store, &key, lp, N, N, &err), &err);
    check_ok(slm2_dpo_ref_read(path, &key, got, N, &done, &err), &err);
    assert_int_equal(done, N);
    assert_memory_equal(got, lp, sizeof lp); /* to the bit */

    /* another model, data, precision or instruction set: another file; this one, under its name, is refused */
    for (int i = 0; i < 4; i++) {
        char elsewhere[512];
        other = key;
        if (i == 0) hex_of(other.model, "M");
        if (i == 1) hex_of(other.pairs, "P");
        if (i == 2) other.precision = "bf16";
        if (i == 3) other.kernels = "scalar";
        check_ok(slm2_dpo_ref_path(elsewhere, sizeof elsewhere, store, &other, &err), &err);
        assert_string_not_equal(elsewhere, path);
        assert_false(slm2_path_exists(elsewhere));
        assert_int_equal(slm2_dpo_ref_read(path, &other, got, N, &done, &err), SLM2_EFORMAT);
        assert_int_equal(done, 0);
        assert_non_null(strstr(err.msg, path));
    }
    assert_int_equal(slm2_dpo_ref_read(path, &key, got, N - 1, &done, &err), SLM2_EFORMAT); /* another number of pairs */

    /* cut anywhere, any byte changed: refused, or (blanks, key order) the same numbers */
    struct slm2_buf whole = {0};
    check_ok(slm2_file_read(&whole, path, 1 << 20, &err), &err);
    for (size_t n = 0; n + 2 < whole.n; n++) { /* the last two bytes are the brace and the line break behind it */
        write_bytes(path, whole.v, n);
        assert_int_not_equal(slm2_dpo_ref_read(path, &key, got, N, &done, &err), SLM2_OK);
        assert_int_equal(done, 0);
    }
    for (size_t i = 0; i < whole.n; i++) {
        static const char with[] = "x9 \"-}";
        for (size_t k = 0; k < sizeof with - 1; k++) {
            char kept = whole.v[i];
            whole.v[i] = with[k];
            write_bytes(path, whole.v, whole.n);
            if (slm2_dpo_ref_read(path, &key, got, N, &done, &err) == SLM2_OK) assert_memory_equal(got, lp, sizeof lp);
            whole.v[i] = kept;
        }
    }
    slm2_buf_free(&whole);
    const double bad[2] = {-1, (double)NAN};
    assert_int_equal(slm2_dpo_ref_write(store, &key, bad, 1, 1, &err), SLM2_EFORMAT);
}

/* Any byte of any weight file, a file more or less, another configuration: another model. */
static void test_model_key(void **state)
{
    char hex[6][65], folder[256];
    struct slm2_err err;
    (void)state;
    check_ok(slm2_dir_make(in_dir("m[1]"), &err), &err); /* a name that a pattern would take otherwise */
    snprintf(folder, sizeof folder, "%s", in_dir("m[1]"));
    write_file(in_dir("m[1]/config.json"), "{}");
    assert_int_equal(slm2_model_key_of(folder, NULL, hex[0], &err), SLM2_EIO);
    write_file(in_dir("m[1]/model.safetensors"), "weights");
    check_ok(slm2_model_key_of(folder, NULL, hex[0], &err), &err);
    check_ok(slm2_model_key_of(folder, NULL, hex[1], &err), &err);
    assert_string_equal(hex[0], hex[1]);
    write_file(in_dir("m[1]/model.safetensors"), "weightt");
    check_ok(slm2_model_key_of(folder, NULL, hex[1], &err), &err);
    write_file(in_dir("m[1]/model-2.safetensors"), "");
    check_ok(slm2_model_key_of(folder, NULL, hex[2], &err), &err);
    write_file(in_dir("m[1]/config.json"), "[]");
    check_ok(slm2_model_key_of(folder, NULL, hex[3], &err), &err);
    snprintf(folder, sizeof folder, "%s", in_dir("m[1]/model.safetensors")); /* one file, with the configuration beside it */
    check_ok(slm2_model_key_of(folder, NULL, hex[4], &err), &err);
    write_file(in_dir("m[1]/config.json"), "{}");
    check_ok(slm2_model_key_of(folder, NULL, hex[5], &err), &err);
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < i; k++) assert_string_not_equal(hex[i], hex[k]);
}

/* ---- recipes --------------------------------------------------------------------------------------------------------------- */
/* The files of configs/dpo/ say what was published, and every other setting is what it should be beside that. */
static void test_recipes(void **state)
{
    static const struct { const char *file, *lines[16]; } recipes[] = {
        {"configs/dpo/zephyr-2023-11.yml", {"optimizer: \"rmsprop\"", "rmsprop_alpha: 0.99", "eps: 1e-08", "beta: 0.1", "lr_peak: 5e-07", "schedule: \"linear\"", "epochs: 3", "batch: 64", "min_chosen_score: 0",
                                            "keep_ties: true", "keep_duplicate_pairs: true", "empty_system: true"}},
        {"configs/dpo/zephyr-2024-01.yml", {"optimizer: \"adamw\"", "adam_beta1: 0.9", "adam_beta2: 0.999", "weight_decay: 0", "eps: 1e-08", "beta: 0.01", "lr_peak: 5e-07", "schedule: \"cosine\"",
                                            "epochs: 1", "batch: 128", "min_chosen_score: 0", "keep_ties: true"}},
        {"configs/dpo/stablelm-2-1_6b.yml", {"optimizer: \"rmsprop\"", "rmsprop_alpha: 0.99", "eps: 1e-08", "beta: 0.01", "lr_peak: 4e-06", "epochs: 1", "batch: 128", "min_chosen_score: 8",
                                             "keep_ties: false", "keep_duplicate_pairs: false", "format: \"ultrafeedback_binarized_cleaned\"", "format: \"orca_dpo_pairs_rated\"", "empty_system: false"}},
    };
    static const char *const all[] = {"loss: \"sigmoid\"", "label_smoothing: 0\n", "max_length: 1024", "max_prompt_length: 512", "warmup_ratio: 0.1", "warmup_steps: 0", "max_grad_norm: 1\n", "lr_min: 0\n",
                                      "precision: \"bf16\"", "seed: 42"};
    (void)state;
    void *o = calloc(1, slm2_dpo_settings_size);
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        struct slm2_err err;
        struct slm2_buf dump = {0};
        slm2_conf_init(slm2_dpo_settings, o);
        check_ok(slm2_conf_yaml(slm2_dpo_settings, o, recipes[i].file, &err), &err);
        check_ok(slm2_conf_required(slm2_dpo_settings, o, &err), &err);
        slm2_conf_dump(slm2_dpo_settings, o, &dump);
        for (int k = 0; recipes[i].lines[k]; k++)
            if (!strstr(dump.v, recipes[i].lines[k])) fail_msg("%s lacks %s", recipes[i].file, recipes[i].lines[k]);
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
            if (!strstr(dump.v, all[k])) fail_msg("%s lacks %s", recipes[i].file, all[k]);
        slm2_conf_free(slm2_dpo_settings, o);
        slm2_buf_free(&dump);
    }
    free(o);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_loss_golden), cmocka_unit_test(test_loss_derivative), cmocka_unit_test(test_loss_extremes), cmocka_unit_test(test_samples), cmocka_unit_test(test_plan), cmocka_unit_test(test_rules),
    cmocka_unit_test(test_several_files), cmocka_unit_test(test_store), cmocka_unit_test(test_model_key), cmocka_unit_test(test_recipes),
};

int main(int argc, char **argv)
{
    const char *env = getenv("SLM2_TEST_DATA");
    data_dir = argc > 1 ? argv[1] : env ? env : "tests/data";
    int n_failed = cmocka_run_group_tests(tests, make_dir, remove_dir), n = (int)(sizeof tests / sizeof tests[0]);
    printf("%d passed, %d failed\n", n - n_failed, n_failed);
    return n_failed != 0;
}
