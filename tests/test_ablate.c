/* test_ablate.c - `slm2 ablate` on a tiny grid: every cell there, shares and digits really what they say, finished cells kept, a grid that
 * was broken off goes on and ends alike.  Runs the slm2 beside the test's folder. */
#include "scratch_dir.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tok/tok.h"
#include "train/ledger.h"

static char program[PATH_MAX];

#define assert_ok(call)                                                      \
    do {                                                                     \
        slm2_status ok_st = (call);                                          \
        if (ok_st != SLM2_OK) fail_msg("%s: %d: %s", #call, ok_st, err.msg); \
    } while (0)

static void write_text(const char *name, const struct slm2_buf *b)
{
    struct slm2_err err;
    assert_ok(slm2_file_write(in_dir(name), b->v, b->n, &err));
}

/* Documents of a few words and many numbers in each language, and the settings of a model of one layer. */
static int make_set(void **state)
{
    static const char *const lang[] = {"en", "de", "it"};
    static const char *const word[3][4] = {{"the house", "and", "number", "is"}, {"das Haus", "und", "Zahl", "ist"}, {"la casa", "e", "numero", "ha"}};
    if (make_dir(state)) return -1;
    struct slm2_buf b = {0}, data = {0};
    slm2_buf_printf(&data, "out: nowhere\nval_fraction: 0.3\nseed: 1\nsources:\n");
    for (int k = 0; k < 3; k++) {
        char name[32];
        slm2_buf_clear(&b);
        for (int d = 0; d < 40; d++) {
            slm2_buf_puts(&b, "{\"text\": \"");
            for (int i = 0; i < 12; i++) {
                uint64_t r = slm2_rng_u64(9, SLM2_RNG_TEST, (uint64_t)(k * 100 + d), (uint64_t)i);
                slm2_buf_printf(&b, "%s %d ", word[k][r % 4], (int)(r >> 8 & 0xFFFF));
            }
            slm2_buf_puts(&b, "\"}\n");
        }
        snprintf(name, sizeof name, "%s.jsonl", lang[k]);
        write_text(name, &b);
        slm2_buf_printf(&data, "  - {name: %s, path: %s, lang: %s}\n", lang[k], in_dir(name), lang[k]);
    }
    write_text("data.yml", &data);
    slm2_buf_clear(&b);
    slm2_buf_puts(&b, "run: nowhere\nseed: 5\nthreads: 1\nmodel: {hidden_size: 16, intermediate_size: 24, n_layer: 1, n_head: 2, n_ctx: 32, rotary_factor: 0.5}\n"
                      "train: {micro_batch: 2, steps: 8}\nschedule: {lr_peak: 1e-2, lr_min: 1e-3, n_warmup: 2}\nckpt: {every: 4, keep: 1}\nlog: {every: 0}\n");
    write_text("base.yml", &b);
    slm2_buf_clear(&b);
    slm2_buf_printf(&b, "out: %s\ndata: %s\nbase: %s\nvocab_ranks: 1200\nshares: [0, 0.5]\ncooldown: 0.25\nthreads: 1\n", in_dir("grid"), in_dir("data.yml"), in_dir("base.yml"));
    write_text("ablate.yml", &b);
    slm2_buf_free(&b);
    slm2_buf_free(&data);
    return 0;
}

/* `slm2 ablate ablate.yml MORE`; the exit status, -1 after a signal. */
static int ablate(const char *more, struct slm2_buf *out, struct slm2_buf *talk)
{
    char cmd[PATH_MAX + 4096], part[4096];
    snprintf(cmd, sizeof cmd, "OMP_WAIT_POLICY=passive '%s' ablate %s %s 2>%s", program, in_dir("ablate.yml"), more, in_dir("err"));
    slm2_buf_clear(out);
    slm2_buf_clear(talk);
    FILE *p = popen(cmd, "r");
    assert_non_null(p);
    for (size_t k; (k = fread(part, 1, sizeof part, p)) > 0;) slm2_buf_put(out, part, k);
    int status = pclose(p);
    slm2_file_read(talk, in_dir("err"), 1 << 20, NULL);
    slm2_buf_put(talk, "", 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *s = text; (s = strstr(s, what)); s++) n++;
    return n;
}

static void take_drawn(void *user, int n_col, const char *const *text)
{
    if (n_col) *(double *)user += text[0] ? strtod(text[0], NULL) : 0;
}

static double drawn(const char *cell, const char *where)
{
    struct slm2_err err;
    struct slm2_ledger *l;
    double n = 0;
    char path[700], sql[200];
    snprintf(path, sizeof path, "%s/grid/%s/run.sqlite", dir, cell);
    snprintf(sql, sizeof sql, "SELECT sum(drawn) FROM source WHERE %s", where);
    assert_ok(slm2_ledger_open_read(&l, path, &err));
    assert_ok(slm2_ledger_query(l, sql, NULL, take_drawn, &n, &err));
    assert_ok(slm2_ledger_close(l, &err));
    return n;
}

static void grid_is_whole_and_kept(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_buf out = {0}, talk = {0}, first = {0};
    json_t *j;
    if (ablate("--json", &out, &talk)) fail_msg("%s", talk.v);
    assert_ok(slm2_json_parse(&j, out.v, out.n, "stdout", &err));
    const json_t *cells = json_object_get(j, "cells");
    assert_int_equal(json_array_size(cells), 12); /* 2 shares x split, joined x cosine, rsqrt, hybrid */
    for (size_t i = 0; i < 12; i++) {
        const json_t *c = json_array_get(cells, i), *bits = json_object_get(c, "bits_per_byte");
        double en = json_number_value(json_object_get(bits, "en")), de = json_number_value(json_object_get(bits, "de")), it = json_number_value(json_object_get(bits, "it"));
        assert_true(en > 0.1 && en < 12 && de > 0.1 && de < 12 && it > 0.1 && it < 12);
        assert_true(fabs(json_number_value(json_object_get(c, "english")) - en) < 1e-12 && fabs(json_number_value(json_object_get(c, "other")) - (de + it) / 2) < 1e-12);
        double all = json_number_value(json_object_get(c, "all"));
        assert_true(all > fmin(en, fmin(de, it)) && all < fmax(en, fmax(de, it)));
    }
    json_decref(j);
    /* nothing but English, and half of it: 8 steps of 2 rows of 32 tokens */
    assert_true(drawn("share-0-digits-split-cosine", "name = 'en'") == 512 && drawn("share-0-digits-split-cosine", "name <> 'en'") == 0);
    double other = drawn("share-50-digits-joined-hybrid", "name <> 'en'");
    assert_true(other >= 256 - 64 && other <= 256 + 64);

    /* what is done is kept: no training, the same table */
    slm2_buf_put(&first, out.v, out.n);
    if (ablate("--json", &out, &talk)) fail_msg("%s", talk.v);
    assert_int_equal(count(talk.v, ": kept"), 12);
    assert_null(strstr(talk.v, "validation loss"));
    assert_string_equal(out.v, first.v);
    /* other settings: the cells are made anew */
    if (ablate("--json --with train.steps=6 --set 'schedules=[cosine]' --set 'shares=[0.5]'", &out, &talk)) fail_msg("%s", talk.v);
    assert_int_equal(count(talk.v, ": kept"), 0);
    if (ablate("", &out, &talk)) fail_msg("%s", talk.v);
    assert_int_equal(count(talk.v, ": kept"), 10);
    assert_int_equal(count(out.v, "digits split, schedule"), 3);
    assert_int_equal(count(out.v, "  50.0 %"), 6);
    if (ablate("--json", &out, &talk)) fail_msg("%s", talk.v);
    assert_string_equal(out.v, first.v); /* equal seeds: equal bits */
    slm2_buf_clear(&out);
    assert_ok(slm2_file_read(&out, in_dir("grid/ablate.html"), 1 << 22, &err));
    assert_int_equal(count(out.v, "<svg"), 3 + 6);
    assert_null(strstr(out.v, "<script"));
    assert_null(strstr(out.v, "http"));
    slm2_buf_free(&out);
    slm2_buf_free(&talk);
    slm2_buf_free(&first);
}

static void broken_off_goes_on(void **state)
{
    (void)state;
    struct slm2_err err;
    struct slm2_buf out = {0}, talk = {0}, whole = {0};
    if (ablate("--json --set 'digits=[split]' --set 'schedules=[rsqrt]'", &out, &talk)) fail_msg("%s", talk.v);
    slm2_buf_put(&whole, out.v, out.n);
    assert_ok(slm2_dir_remove(in_dir("grid"), &err));
    for (int i = 0; i < 3; i++) { /* killed after longer and longer */
        pid_t pid = fork();
        if (pid == 0) {
            if (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout)) _exit(1);
            setenv("OMP_WAIT_POLICY", "passive", 1);
            execl(program, program, "ablate", in_dir("ablate.yml"), "--set", "digits=[split]", "--set", "schedules=[rsqrt]", (char *)NULL);
            _exit(127);
        }
        nanosleep(&(struct timespec){.tv_nsec = 60000000 * (i + 1)}, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    if (ablate("--json --set 'digits=[split]' --set 'schedules=[rsqrt]'", &out, &talk)) fail_msg("%s", talk.v);
    assert_string_equal(out.v, whole.v);
    slm2_buf_free(&out);
    slm2_buf_free(&talk);
    slm2_buf_free(&whole);
}

/* A cell with other settings whose start fails is not the old cell under a new name; nor is that of another instruction set. */
static void old_cells_are_not_new_ones(void **state)
{
    (void)state;
    static const char one[] = "--json --set 'shares=[0.5]' --set 'digits=[split]' --set 'schedules=[cosine]'";
    struct slm2_err err;
    struct slm2_buf out = {0}, talk = {0}, old = {0}, fresh = {0}, tokens = {0};
    char args[400], bin[PATH_MAX];
    assert_ok(slm2_dir_remove(in_dir("grid"), &err));
    snprintf(args, sizeof args, "%s --with schedule.lr_peak=9e-2", one);
    if (ablate(args, &fresh, &talk)) fail_msg("%s", talk.v);
    assert_ok(slm2_dir_remove(in_dir("grid"), &err));
    if (ablate(one, &old, &talk)) fail_msg("%s", talk.v);
    assert_string_not_equal(old.v, fresh.v);
    snprintf(bin, sizeof bin, "%s", in_dir("grid/data-split-1200/en.bin"));
    assert_ok(slm2_file_read(&tokens, bin, 1 << 24, &err));
    tokens.v[tokens.n / 2] ^= 1;
    assert_ok(slm2_file_write(bin, tokens.v, tokens.n, &err));
    assert_int_not_equal(ablate(args, &out, &talk), 0); /* its start fails: the tokens are not those of the manifest */
    assert_non_null(strstr(talk.v, "SHA-256"));
    tokens.v[tokens.n / 2] ^= 1;
    assert_ok(slm2_file_write(bin, tokens.v, tokens.n, &err));
    if (ablate(args, &out, &talk)) fail_msg("%s", talk.v);
    assert_string_equal(out.v, fresh.v);
    const struct slm2_kernels *best;
    assert_ok(slm2_kernels_get(&best, getenv("SLM2_ISA"), &err));
    setenv("SLM2_ISA", "scalar", 1);
    if (ablate(args, &out, &talk)) fail_msg("%s", talk.v);
    assert_int_equal(count(talk.v, ": kept"), !strcmp(best->name, "scalar"));
    if (ablate(args, &out, &talk)) fail_msg("%s", talk.v);
    assert_int_equal(count(talk.v, ": kept"), 1);
    unsetenv("SLM2_ISA");
    slm2_buf_free(&out);
    slm2_buf_free(&talk);
    slm2_buf_free(&old);
    slm2_buf_free(&fresh);
    slm2_buf_free(&tokens);
}

static void wrong_grids_are_named(void **state)
{
    (void)state;
    struct slm2_buf out = {0}, talk = {0};
    static const char *const bad[][2] = {{"--set 'shares=[0, 1.5]'", "shares: \"1.5\""}, {"--set 'shares=[0.5, 0.2]'", "ascending"},   {"--set 'digits=[both]'", "split or joined"},
                                         {"--set 'schedules=[step]'", "schedules: \"step\""}, {"--set 'english=[fr]'", "english"}, {"--set vocab_ranks=200", "256"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char args[300];
        snprintf(args, sizeof args, "%s --out %s", bad[i][0], in_dir("bad"));
        int status = ablate(args, &out, &talk);
        if (status != 2 || !strstr(talk.v, bad[i][1])) fail_msg("%s: status %d: %s", bad[i][0], status, talk.v);
    }
    slm2_buf_free(&out);
    slm2_buf_free(&talk);
}

/* Fewer ranks and another pattern give the ids of the file that is written of them; split: one digit a token. */
static void variants_split_digits(void **state)
{
    (void)state;
    static const char text[] = "In 1984 there were 100 houses, 7 cats and 12345 birds.";
    struct slm2_err err;
    struct slm2_tok *all, *v, *again;
    size_t n_ids[2] = {0};
    assert_ok(slm2_tok_open(&all, NULL, &err));
    for (int joined = 0; joined < 2; joined++) {
        struct slm2_ids a = {0}, b = {0};
        const char *folder = in_dir(joined ? "tok-joined" : "tok-split");
        assert_ok(slm2_tok_variant(&v, all, 4096, joined ? SLM2_SPLIT_CL100K : SLM2_SPLIT_ARCADE, &err));
        assert_int_equal(slm2_tok_eos(v), 4097);
        assert_ok(slm2_dir_make(folder, &err));
        assert_ok(slm2_tok_write_hf(v, folder, NULL, 0, &err));
        assert_ok(slm2_tok_open(&again, folder, &err));
        assert_ok(slm2_tok_encode(v, text, strlen(text), 0, &a, &err));
        assert_ok(slm2_tok_encode(again, text, strlen(text), 0, &b, &err));
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.v, b.v, a.n * sizeof *a.v);
        int n_digits = 0;
        for (size_t i = 0; i < a.n; i++) {
            size_t n;
            const uint8_t *s = slm2_tok_bytes(v, a.v[i], &n);
            if (n > 0 && s[0] >= '0' && s[0] <= '9') {
                n_digits++;
                if (!joined) assert_int_equal(n, 1);
            }
        }
        assert_true(joined ? n_digits < 13 : n_digits == 13);
        n_ids[joined] = a.n;
        slm2_ids_free(&a);
        slm2_ids_free(&b);
        slm2_tok_free(v);
        slm2_tok_free(again);
    }
    assert_true(n_ids[1] < n_ids[0]);
    assert_int_equal(slm2_tok_variant(&v, all, 255, SLM2_SPLIT_ARCADE, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_tok_variant(&v, all, 1 << 20, SLM2_SPLIT_ARCADE, &err), SLM2_EUSAGE);
    slm2_tok_free(all);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(variants_split_digits), cmocka_unit_test(grid_is_whole_and_kept), cmocka_unit_test(broken_off_goes_on), cmocka_unit_test(old_cells_are_not_new_ones),
                                          cmocka_unit_test(wrong_grids_are_named)};

int main(int argc, char **argv)
{
    (void)argc;
    if (!realpath(argv[0], program)) return 1;
    *strrchr(program, '/') = 0;
    strcpy(strrchr(program, '/'), "/slm2");
    int n = (int)(sizeof tests / sizeof tests[0]), n_failed = cmocka_run_group_tests(tests, make_set, remove_dir);
    printf("%d passed, %d failed\n", n - n_failed, n_failed);
    return n_failed != 0;
}
