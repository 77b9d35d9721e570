/* test_report.c - the report: formula, escaping, ticks, and whole pages made from small ledgers. */
#include "slm2_test.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "report/energy.h"
#include "report/report.h"
#include "report/runs.h"
#include "report/svg.h"
#include "report/text.h"

static void test_energy(void **state)
{
    (void)state;
    /* the report: 92,000 h, about 30 MWh, about 11 t */
    struct slm2_energy_terms t = slm2_energy_terms_default(), hydro = {.core_watts = 10, .pue = 1.5, .t_per_mwh = 0.024};
    char text[SLM2_TEXT_MAX];
    double mwh = slm2_energy_mwh(92000, 296.44, &t);
    assert_true(fabs(mwh - 30.0) < 0.01);
    assert_true(fabs(slm2_energy_tco2(mwh, &t) - 11.55) < 0.01);
    assert_string_equal(slm2_text_watt_hours(text, mwh * 1e6), "30 MWh");
    assert_int_equal((int)slm2_energy_tco2(mwh, &t), 11);
    assert_true(fabs(slm2_energy_mwh(1e6, 1, &t) - 1.1) < 1e-12);
    assert_true(fabs(slm2_energy_mwh(1e6, 1, &hydro) - 1.5) < 1e-12 && fabs(slm2_energy_tco2(2, &hydro) - 0.048) < 1e-12);

    struct slm2_ledger_cost cost = {.wall_s = 1800, .cpu_s = 7200};
    struct slm2_energy e = slm2_energy_of(&cost, &t);
    assert_false(e.measured);
    assert_true(fabs(e.device_h - 2) < 1e-12 && fabs(e.device_wh - 20) < 1e-12 && fabs(e.wh - 22) < 1e-9 && fabs(e.co2_g - 8.47) < 1e-9);
    cost.rapl = true;
    cost.rapl_j = 36000; /* 10 Wh, whatever the watts */
    t.core_watts = 1000;
    struct slm2_energy m = slm2_energy_of(&cost, &t);
    assert_true(m.measured && fabs(m.wh - 11) < 1e-9 && fabs(m.co2_g - 4.235) < 1e-9);
    struct slm2_energy sum = {.measured = true};
    slm2_energy_add(&sum, &m);
    assert_true(sum.measured);
    slm2_energy_add(&sum, &e);
    assert_true(!sum.measured && fabs(sum.wh - 33) < 1e-9 && fabs(sum.device_h - 4) < 1e-12);
}

static void expect_escaped(const char *in, const char *want)
{
    struct slm2_buf b = {0};
    slm2_html_escape(&b, in);
    assert_string_equal(b.v ? b.v : "", want);
    slm2_buf_free(&b);
}

static void test_text(void **state)
{
    (void)state;
    char s[SLM2_TEXT_MAX];
    expect_escaped("<a href=\"x\" id='y'>&</a>", "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;&lt;/a&gt;");
    expect_escaped("\x01 \xC3\xA9 \xC3 \xFF\xED\xA0\x80", "\xEF\xBF\xBD \xC3\xA9 \xEF\xBF\xBD \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    expect_escaped(NULL, "");
    struct slm2_buf b = {0};
    slm2_html_escape_short(&b, "\xC3\xA9\xC3\xA9<b>", 3);
    assert_string_equal(b.v, "\xC3\xA9\xC3\xA9&lt;\xE2\x80\xA6");
    slm2_buf_free(&b);
    assert_string_equal(slm2_text_count(s, 950), "950");
    assert_string_equal(slm2_text_count(s, 1644515328), "1.64 G");
    assert_string_equal(slm2_text_count(s, 999999), "1.00 M");
    assert_string_equal(slm2_text_bytes(s, 1536), "1.50 KiB");
    assert_string_equal(slm2_text_seconds(s, 187), "3 min 07 s");
    assert_string_equal(slm2_text_seconds(s, 7500), "2 h 05 min");
    assert_string_equal(slm2_text_real(s, (double)NAN), "\xE2\x80\x93");
    assert_string_equal(slm2_text_real(s, 4.2126), "4.213");
}

static void test_setting(void **state)
{
    (void)state;
    static const char dump[] = "run: a\nmodel:\n    n_layer: 4\nschedule:\n    kind: \"hybrid\"\n    n_step: 400\nn_step: 7\n";
    char v[16];
    assert_string_equal(slm2_report_setting(dump, "schedule", "n_step", v, sizeof v), "400");
    assert_string_equal(slm2_report_setting(dump, NULL, "n_step", v, sizeof v), "7");
    assert_string_equal(slm2_report_setting(dump, "schedule", "kind", v, sizeof v), "hybrid");
    assert_string_equal(slm2_report_setting(dump, "model", "kind", v, sizeof v), "");
    assert_string_equal(slm2_report_setting(dump, "sched", "kind", v, sizeof v), "");
}

/* Every element that opens is closed in order; attributes are quoted; no byte is left over. */
static void expect_well_formed(const char *s)
{
    char open[64][24];
    int depth = 0;
    while ((s = strchr(s, '<'))) {
        size_t n = 0;
        bool quoted = false;
        while (s[n] && (quoted || s[n] != '>')) {
            if (s[n] == '"') quoted = !quoted;
            n++;
        }
        assert_true(s[n] == '>' && !quoted);
        const char *name = s + 1 + (s[1] == '/');
        size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");
        if (s[1] == '!') assert_int_equal(strncmp(s, "<!DOCTYPE html>", 15), 0);
        else if (s[1] == '/') {
            assert_true(depth > 0);
            depth--;
            if (strlen(open[depth]) != len || strncmp(open[depth], name, len)) fail_msg("</%.*s> closes <%s>", (int)len, name, open[depth]);
        } else if (s[n - 1] != '/') {
            assert_true(len > 0 && len < sizeof open[0] && depth < 64);
            snprintf(open[depth++], sizeof open[0], "%.*s", (int)len, name);
        }
        s += n + 1;
    }
    assert_int_equal(depth, 0);
}

static void test_chart(void **state)
{
    (void)state;
    assert_true(fabs(slm2_svg_step(0, 10, 5) - 2) < 1e-12);
    assert_true(fabs(slm2_svg_step(0, 0.0037, 5) - 0.001) < 1e-12);
    assert_true(slm2_svg_step(3, 3, 5) > 0 && slm2_svg_step(0, HUGE_VAL, 5) > 0);

    struct slm2_buf b = {0};
    const double x[] = {0, 1, 2, 3, 4}, y[] = {5, (double)NAN, HUGE_VAL, 4, 3};
    struct slm2_svg_line line = {.label = "<loss>", .x = x, .y = y, .n = 5};
    struct slm2_svg_chart c = {.title = "a & b", .line = &line, .n_line = 1};
    slm2_svg_chart(&b, &c);
    assert_non_null(b.v);
    expect_well_formed(b.v);
    assert_non_null(strstr(b.v, "&lt;loss&gt; <b>3</b>"));
    assert_non_null(strstr(b.v, "a &amp; b"));
    assert_null(strstr(b.v, "nan"));
    assert_null(strstr(b.v, "inf"));
    const char *path = strstr(b.v, " d=\"M"); /* the two holes interrupt the line */
    assert_non_null(path);
    assert_non_null(strchr(path + 5, 'M'));
    slm2_buf_clear(&b);
    line.n = 0;
    slm2_svg_chart(&b, &c);
    assert_int_equal(b.n, 0);

    /* 10,000 values are drawn by few points, and the spike stays */
    enum { N = 10000 };
    double *u = test_calloc(N, sizeof *u), *v = test_calloc(N, sizeof *v);
    for (int i = 0; i < N; i++) u[i] = i, v[i] = i == 5003 ? 100 : 1;
    line = (struct slm2_svg_line){.label = "l", .x = u, .y = v, .n = N};
    slm2_svg_chart(&b, &c);
    assert_true(b.n < 40000);
    assert_non_null(strstr(b.v, " 10.0L")); /* y of the top of the drawing */
    test_free(u);
    test_free(v);
    slm2_buf_free(&b);
}

/* ---- a whole recipe ------------------------------------------------------------------------------------------------------------ */
static void make_dir(char *dir, size_t cap)
{
    char root[256];
    struct slm2_err err;
    snprintf(root, sizeof root, "%s/slm2-report-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(root));
    snprintf(dir, cap, "%s", root);
    static const char *const sub[] = {"pretrain", "dpo", "data"};
    char path[512];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", root, sub[i]);
        assert_int_equal(slm2_dir_make(path, &err), SLM2_OK);
    }
}

static void put_file(const char *dir, const char *name, const char *text)
{
    char path[512];
    struct slm2_err err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(slm2_file_write(path, text, strlen(text), &err), SLM2_OK);
}

static void make_runs(const char *dir)
{
    char path[512];
    struct slm2_ledger *l;
    struct slm2_err err;
    snprintf(path, sizeof path, "%s/pretrain/run.sqlite", dir);
    assert_int_equal(slm2_ledger_open(&l, path, "pretrain", &err), SLM2_OK);
    slm2_ledger_run(l, "config", "note: </pre><script>alert(1)</script>\ntrain:\n  steps: 40\nschedule:\n  kind: hybrid\n  n_step: 80\n  n_warmup: 5\n  n_cooldown: 10\n  cooldown_start: 30\n");
    for (int i = 1; i <= 40; i++) {
        slm2_ledger_metric(l, i, "loss", 11.5 - 0.1 * i);
        slm2_ledger_metric(l, i, "lr", 1e-3);
        slm2_ledger_metric(l, i, "grad_norm", i == 7 ? (double)NAN : 1.0 + i);
        slm2_ledger_metric(l, i, "tokens_s", 2000);
        if (i % 10 == 0) slm2_ledger_metric(l, i, "valid_loss", 11.0 - 0.1 * i);
    }
    slm2_ledger_figure(l, "parameters", 26e6);
    slm2_ledger_figure(l, "tokens", 40960);
    slm2_ledger_figure(l, "unigram_entropy", 9.25);
    slm2_ledger_figure_text(l, "model", "\"><img src=x onerror=alert(2)>");
    slm2_ledger_source(l, "web <b>", 0.75, 30720, 30000);
    slm2_ledger_source(l, "code", 0.25, 10240, 10960);
    slm2_ledger_file(l, &(struct slm2_ledger_file){.path = "data/web.bin", .source = "web <b>", .sha256 = "abc123", .language = "en", .licence = "CC0 & mine", .bytes = 4096, .tokens = 1024, .documents = 3});
    slm2_ledger_event(l, 40, "finish", "loss < 8 & done");
    assert_int_equal(slm2_ledger_close(l, &err), SLM2_OK);

    snprintf(path, sizeof path, "%s/dpo/run.sqlite", dir);
    assert_int_equal(slm2_ledger_open(&l, path, "dpo", &err), SLM2_OK);
    for (int i = 0; i <= 4; i++) {
        slm2_ledger_metric(l, i, "valid_accuracy", 0.5 + 0.1 * i);
        slm2_ledger_metric(l, i, "valid_margin", 0.01 * i);
        slm2_ledger_metric(l, i, "valid_reward_chosen", 0.02 * i);
        slm2_ledger_metric(l, i, "valid_reward_rejected", -0.02 * i);
        slm2_ledger_metric(l, i, "valid_logp_chosen", -70.5 - 0.25 * i);
        slm2_ledger_metric(l, i, "valid_logp_rejected", -80 - 4 * i);
        slm2_ledger_metric(l, i, "logp_chosen", -71 - i);
    }
    assert_int_equal(slm2_ledger_close(l, &err), SLM2_OK);
    put_file(dir, "eval.json", "{\"results\": {\"arc<x>\": {\"acc\": 0.4375, \"acc_stderr\": 0.0123}}}");
    put_file(dir, "data/manifest.json", "{\"sources\": [{\"name\": \"web\", \"lang\": \"en\", \"license\": \"MIT\", \"tokens\": {\"train\": 900, \"val\": 100}, "
                                        "\"inputs\": [{\"file\": \"web.jsonl\", \"bytes\": 10, \"sha256\": \"feed\"}]}]}");
}

static void expect_text(const struct slm2_buf *page, const char *text)
{
    if (!strstr(page->v, text)) fail_msg("the page lacks: %s", text);
}

static void test_page(void **state)
{
    (void)state;
    char dir[256], out[512];
    struct slm2_err err;
    struct slm2_buf page = {0};
    make_dir(dir, sizeof dir);
    make_runs(dir);
    snprintf(out, sizeof out, "%s/report.html", dir);
    const char *dirs[] = {dir};
    struct slm2_report_opts o = slm2_report_opts_default();
    o.energy.core_watts = 12.5;
    o.title = "A <title>";
    if (slm2_report_write(dirs, 1, out, &o, &err) != SLM2_OK) fail_msg("%s", err.msg);
    assert_int_equal(slm2_file_read(&page, out, 1 << 24, &err), SLM2_OK);
    expect_well_formed(page.v);
    static const char *const want[] = {"A &lt;title&gt;", "Pre-training", "Preference optimisation", "26.0 M", "41.0 k", "unigram entropy <b>9.25</b>", "held out <b>7</b>", "warm-up", "inverse root",
                                       ("<small>30\xE2\x80\x93" "40</small>"), "web &lt;b&gt;", "CC0 &amp; mine", "abc123", "feed", "loss &lt; 8 &amp; done", "arc&lt;x&gt;", "0.4375", "0.0123", "0.385",
                                       "PUE 1.1", "&lt;script&gt;alert(1)", "prefers-color-scheme:dark", "name=\"viewport\"", "MIT", "1.00 k",
                                       "Log-probability of held-out answers", "chosen answer <b>-71.5</b>", "rejected answer <b>-96</b>", "Log-probability of each update&#39;s answers", "chosen answer <b>-75</b>"};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) expect_text(&page, want[i]);
    static const char *const never[] = {"<script", "<img", "http:", "https:", "url(", "@import", "nan", "inf "};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (strstr(page.v, never[i])) fail_msg("the page has: %s", never[i]);

    json_t *j;
    assert_int_equal(slm2_report_figures(dirs, 1, &o, &j, &err), SLM2_OK);
    const json_t *stages = json_object_get(j, "stages"), *first = json_array_get(stages, 0);
    assert_int_equal(json_array_size(stages), 2);
    assert_string_equal(json_string_value(json_object_get(first, "stage")), "pretrain");
    assert_int_equal(json_integer_value(json_object_get(first, "steps")), 40);
    assert_true(fabs(json_number_value(json_object_get(json_object_get(first, "last"), "valid_loss")) - 7) < 1e-12);
    json_decref(j);
    slm2_buf_free(&page);
    assert_int_equal(slm2_dir_remove(dir, &err), SLM2_OK);
}

/* The sections of `slm2 mtbench show` and `slm2 compare`: figures, charts, names that are no HTML; what is missing is no number. */
static void test_scores(void **state)
{
    (void)state;
    char dir[256], out[512];
    struct slm2_err err;
    struct slm2_buf page = {0};
    make_dir(dir, sizeof dir);
    make_runs(dir);
    snprintf(out, sizeof out, "%s/report.html", dir);
    const char *dirs[] = {dir};
    put_file(dir, "mtbench.json", "{\"judge\": \"j<1>\", \"models\": [{\"model\": \"m<2>\", \"score\": 5.417, \"first_turn\": 6, \"second_turn\": null, \"ratings\": 79, \"unrated\": 81, \"categories\": {"
                                  "\"writing\": {\"score\": 10, \"first_turn\": 10, \"second_turn\": null}, \"ma<th>\": {\"score\": 5, \"first_turn\": 5}, \"stem\": {\"score\": null}, \"coding\": {\"score\": 0}}}], "
                                  "\"published\": {\"title\": \"by <X>\", \"source\": \"a <book>\", \"rows\": [{\"model\": \"their<s>\", \"size\": \"1.6B\", \"score\": 4.25, \"unchecked\": true}, {\"model\": \"seen\", \"score\": 8}, 3]}}");
    put_file(dir, "compare.json", "{\"original\": {\"file\": \"or<ig>\", \"bytes\": 2097152, \"bits_per_weight\": 16, \"token_perplexity\": 20.5}, \"tokens\": 4000, \"models\": [{\"file\": \"q8<x>.gguf\", "
                                  "\"bytes\": 1048576, \"bits_per_weight\": 8.5, \"token_perplexity\": 20.6, \"perplexity_ratio\": 1.0125, \"kl\": 0.00031, \"kl_median\": 0.0002, \"kl_99\": 0.25, \"kl_max\": 1.5, "
                                  "\"top1_agreement\": 0.98765, \"tasks\": {\"arc\": {\"acc\": {\"value\": 0.25, \"original\": 0.5, \"difference\": -0.25, \"stderr\": 0.014}}}}, {\"file\": 3}]}");
    if (slm2_report_write(dirs, 1, out, NULL, &err) != SLM2_OK) fail_msg("%s", err.msg);
    assert_int_equal(slm2_file_read(&page, out, 1 << 24, &err), SLM2_OK);
    expect_well_formed(page.v);
    static const char *const want[] = {"#mtbench", "Mean rating by category", "m&lt;2&gt;", "j&lt;1&gt;", "ma&lt;th&gt;: 5</title>", "<td class=\"n\">5.42</td>", "writing: 10</title>", ">81</td>", "Mean rating by turn", "#losses",
                                       "or&lt;ig&gt;", "q8&lt;x&gt;.gguf", "<td class=\"n\">8.5</td>", "+1.25\xC2\xA0%", "3.1e-04", "0.2500", "1.5000", "98.77\xC2\xA0%", "-0.2500", "0.014", "4.00 k positions",
                                       "Published: by &lt;X&gt;", "a &lt;book&gt;", "their&lt;s&gt;</th><td class=\"\">1.6B</td><td class=\"n\">4.25</td><td class=\"\">from memory, unchecked</td>", "seen</th><td class=\"\">\xE2\x80\x93</td><td class=\"n\">8.00</td><td class=\"\">read in its source</td>",
                                       ">measured here<", "never a limit"};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) expect_text(&page, want[i]);
    static const char *const never[] = {"nan", "inf ", "<2>", "<ig>", "stem: ", "<X>", "<book>", "<s>"};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (strstr(page.v, never[i])) fail_msg("the page has: %s", never[i]);
    /* 10 of 10 on the first of four axes is the top of the web, 0 on the last its centre */
    assert_non_null(strstr(page.v, "<polygon points=\"240.0,156.0 ")); /* the innermost circle */
    expect_text(&page, "<polygon class=\"line c0\" points=\"240.0,44.0 310.0,184.0 240.0,184.0 \"/>");
    slm2_buf_free(&page);
    static const char *const odd[] = {"[]", "{\"models\": 3}", "{\"models\": [1], \"published\": [2]}", "{\"models\": [1], \"published\": {\"rows\": {}, \"title\": 3}}", "{\"models\": [1, null, {\"categories\": [2]}]}"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) { /* of another form */
        put_file(dir, "mtbench.json", odd[i]);
        put_file(dir, "compare.json", odd[i]);
        if (slm2_report_write(dirs, 1, out, NULL, &err) != SLM2_OK) fail_msg("%s", err.msg);
    }
    assert_int_equal(slm2_dir_remove(dir, &err), SLM2_OK);
}

/* A run of n steps in dir/name/pretrain whose loss falls by `fall` a step. */
static void make_one_of_two(const char *dir, const char *name, int n, double fall, const char *config)
{
    char path[512];
    struct slm2_ledger *l;
    struct slm2_err err;
    snprintf(path, sizeof path, "%s/%s/pretrain", dir, name);
    assert_int_equal(slm2_dir_make(path, &err), SLM2_OK);
    snprintf(path, sizeof path, "%s/%s/pretrain/run.sqlite", dir, name);
    assert_int_equal(slm2_ledger_open(&l, path, "pretrain", &err), SLM2_OK);
    slm2_ledger_run(l, "config", config);
    for (int i = 0; i <= n; i++) {
        if (i) slm2_ledger_metric(l, i, "loss", 11 - fall * i);
        if (i) slm2_ledger_metric(l, i, "tokens", 512.0 * i);
        if (i % 2 == 0) slm2_ledger_metric(l, i, "valid_loss", 12 - fall * i);
        if (i % 2 == 0) slm2_ledger_metric(l, i, "valid_loss.<de>", 13 - fall * i);
    }
    assert_int_equal(slm2_ledger_close(l, &err), SLM2_OK);
}

static void test_compare(void **state)
{
    (void)state;
    char dir[256], out[512], a[512], b[512];
    struct slm2_err err;
    struct slm2_buf page = {0};
    make_dir(dir, sizeof dir);
    make_one_of_two(dir, "a<b>", 8, 0.25, "run: \"x\"\nseed: 7\nsources: \n  - name: \"en\"\n    weight: 3\ntrain:\n    steps: 8\n    n_ctx: 256\n");
    make_one_of_two(dir, "c", 4, 0.5, "run: \"y\"\nseed: 7\nsources: \n  - name: \"en\"\n    weight: 2\ntrain:\n    steps: 4\n    n_ctx: 256\n");
    snprintf(out, sizeof out, "%s/compare.html", dir);
    snprintf(a, sizeof a, "%s/a<b>", dir);
    snprintf(b, sizeof b, "%s/c", dir);
    const char *dirs[] = {a, b, a, b, a, b, a, b, a};
    struct slm2_report_opts o = slm2_report_opts_default();
    o.compare = true;
    if (slm2_report_write(dirs, 2, out, &o, &err) != SLM2_OK) fail_msg("%s", err.msg);
    assert_int_equal(slm2_file_read(&page, out, 1 << 24, &err), SLM2_OK);
    expect_well_formed(page.v);
    static const char *const want[] = {"<i class=\"dot c0\"></i>a&lt;b&gt;</th>", "<i class=\"dot c1\"></i>c</th>", "<th>train.steps</th><td class=\"n wrap\">8</td><td class=\"n wrap\">4</td>",
                                       "<th>sources.0.weight</th><td class=\"n wrap\">3</td><td class=\"n wrap\">2</td>", "Training loss", "&lt;de&gt;, nats per token", ">tokens</text>", ">step</text>",
                                       "<th>held-out loss, nats a token</th><td class=\"n\">10</td><td class=\"n\">10</td>", "<th>steps</th><td class=\"n\">8</td><td class=\"n\">4</td>"};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) expect_text(&page, want[i]);
    static const char *const never[] = {"<script", "http:", "https:", "nan", "<th>seed</th>", "<th>train.n_ctx</th>", "<th>run</th>"};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (strstr(page.v, never[i])) fail_msg("the page has: %s", never[i]);
    assert_null(strstr(page.v, "a<b>"));
    /* against tokens both runs begin at 0, and the shorter ends in the middle: 4 steps of 8, on the same scale as against steps */
    const char *by_step = strstr(page.v, "Held-out loss, nats per token"), *line = strstr(by_step, "<path class=\"line c1\" d=\"");
    assert_non_null(line);
    const char *by_tokens = strstr(line + 1, "Held-out loss, nats per token"), *again = strstr(by_tokens, "<path class=\"line c1\" d=\"");
    assert_int_equal(strncmp(line, again, strcspn(line, ">")), 0);
    slm2_buf_free(&page);
    assert_int_equal(slm2_report_write(dirs, 1, out, &o, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_report_write(dirs, 9, out, &o, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "at most 8"));
    assert_int_equal(slm2_dir_remove(dir, &err), SLM2_OK);
}

static void test_failures(void **state)
{
    (void)state;
    char dir[256], out[512];
    struct slm2_err err;
    make_dir(dir, sizeof dir);
    snprintf(out, sizeof out, "%s/report.html", dir);
    const char *dirs[] = {dir};
    assert_int_equal(slm2_report_write(dirs, 0, out, NULL, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_report_write(dirs, 1, out, NULL, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "run.sqlite"));
    put_file(dir, "pretrain/run.sqlite", "this is no database, this is no database, this is no database");
    assert_int_not_equal(slm2_report_write(dirs, 1, out, NULL, &err), SLM2_OK);
    assert_non_null(strstr(err.msg, "pretrain/run.sqlite"));
    put_file(dir, "pretrain/run.sqlite", "");
    make_runs(dir);
    put_file(dir, "compare.json", "[{\"models\": ");
    assert_int_equal(slm2_report_write(dirs, 1, out, NULL, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "compare.json"));
    assert_false(slm2_path_exists(out));
    put_file(dir, "compare.json", "{\"a\": [1]}"); /* of another form: nothing to show */
    put_file(dir, "eval.json", "[3]");
    put_file(dir, "data/manifest.json", "{\"sources\": [1, {\"inputs\": 2}]}");
    assert_int_equal(slm2_report_write(dirs, 1, out, NULL, &err), SLM2_OK);
    assert_int_equal(slm2_dir_remove(dir, &err), SLM2_OK);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_energy), cmocka_unit_test(test_text), cmocka_unit_test(test_setting), cmocka_unit_test(test_chart), cmocka_unit_test(test_page), cmocka_unit_test(test_scores), cmocka_unit_test(test_compare), cmocka_unit_test(test_failures),
};
SLM2_TEST_MAIN(tests)
