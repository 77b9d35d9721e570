/* test_data.c - token files, verdicts on lines, the mix, packing, and whole builds. */
#include "scratch_dir.h"

#include <inttypes.h>
#include <math.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "data/build.h"
#include "data/verify.h"
#include "data/corpus.h"
#include "data/mix.h"
#include "data/pack.h"
#include "data/shard.h"
#include "io/safetensors.h"
#include "train/pretrain.h"

/* ---- token files ---------------------------------------------------------------------------------------------------------- */
/* Two documents, 7 8 9 and 5, as the form says, byte by byte. */
static const uint8_t idx_bytes[] = {
    'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, /* header */
    3, 0, 0, 0, 1, 0, 0, 0,                                                                                           /* sizes */
    0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0,                                                                  /* pointers */
    0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0};                                         /* doc_idx */
static const uint8_t bin_bytes[] = {7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0};

static void test_shard_bytes(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_shard_out *w;
    struct slm2_map m;
    const int32_t a[] = {7, 8, 9}, b[] = {5};
    check_ok(slm2_shard_out_open(&w, in_dir("hand"), SLM2_SHARD_I32, &err), &err);
    check_ok(slm2_shard_out_add(w, a, 3, &err), &err);
    check_ok(slm2_shard_out_add(w, b, 1, &err), &err);
    assert_false(slm2_path_exists(in_dir("hand.bin")));
    check_ok(slm2_shard_out_commit(w, &err), &err);
    check_ok(slm2_map_open(&m, in_dir("hand.idx"), &err), &err);
    assert_int_equal(m.n, sizeof idx_bytes);
    assert_memory_equal(m.p, idx_bytes, sizeof idx_bytes);
    slm2_map_close(&m);
    check_ok(slm2_map_open(&m, in_dir("hand.bin"), &err), &err);
    assert_int_equal(m.n, sizeof bin_bytes);
    assert_memory_equal(m.p, bin_bytes, sizeof bin_bytes);
    slm2_map_close(&m);

    struct slm2_shard s;
    int32_t ids[4];
    check_ok(slm2_shard_open(&s, in_dir("hand"), &err), &err);
    assert_int_equal(s.n_doc, 2);
    assert_int_equal(s.n_tok, 4);
    assert_int_equal(slm2_shard_size(&s, 0), 3);
    assert_int_equal(slm2_shard_start(&s, 1), 3);
    slm2_shard_read(&s, 1, 3, ids);
    assert_memory_equal(ids, ((int32_t[]){8, 9, 5}), 12);
    slm2_shard_close(&s);
}

static void test_shard_u16(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_shard_out *w;
    struct slm2_shard s;
    int32_t ids[3] = {0, 65535, 258}, got[3];
    check_ok(slm2_shard_out_open(&w, in_dir("u16"), SLM2_SHARD_U16, &err), &err);
    check_ok(slm2_shard_out_add(w, ids, 3, &err), &err);
    assert_int_equal(slm2_shard_out_add(w, (int32_t[]){65536}, 1, &err), SLM2_ELIMIT);
    assert_int_equal(slm2_shard_out_add(w, (int32_t[]){-1}, 1, &err), SLM2_ELIMIT);
    check_ok(slm2_shard_out_commit(w, &err), &err);
    check_ok(slm2_shard_open(&s, in_dir("u16"), &err), &err);
    slm2_shard_read(&s, 0, 3, got);
    assert_memory_equal(got, ids, sizeof ids);
    slm2_shard_close(&s);
}

static slm2_status parse_copy(const uint8_t *idx, size_t n, size_t n_bin)
{
    struct slm2_shard s;
    uint8_t *heap = malloc(n ? n : 1); /* a fresh block: the sanitizer sees its end */
    memcpy(heap, idx, n);
    slm2_status st = slm2_shard_parse(&s, heap, n, bin_bytes, n_bin, "test.idx", NULL);
    free(heap);
    return st;
}

static void test_shard_damaged(void **state)
{
    (void)state;
    uint8_t bad[sizeof idx_bytes + 1];
    for (size_t n = 0; n < sizeof idx_bytes; n++) assert_int_equal(parse_copy(idx_bytes, n, sizeof bin_bytes), SLM2_EFORMAT);
    memcpy(bad, idx_bytes, sizeof idx_bytes);
    bad[sizeof idx_bytes] = 0;
    assert_int_equal(parse_copy(bad, sizeof bad, sizeof bin_bytes), SLM2_EFORMAT);
    assert_int_equal(parse_copy(idx_bytes, sizeof idx_bytes, sizeof bin_bytes - 1), SLM2_EFORMAT);
    assert_int_equal(parse_copy(idx_bytes, sizeof idx_bytes, sizeof bin_bytes), SLM2_OK);
    /* every flip is seen but those of the middle doc_idx, which may say that a document has 0, 1 or 2 sequences */
    for (size_t i = 0; i < sizeof idx_bytes; i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(bad, idx_bytes, sizeof idx_bytes);
            bad[i] ^= (uint8_t)(1u << bit);
            slm2_status st = parse_copy(bad, sizeof idx_bytes, sizeof bin_bytes);
            bool harmless = i == 34 + 8 + 16 + 8 && bit == 0; /* 1 -> 0 */
            assert_int_equal(st, harmless ? SLM2_OK : SLM2_EFORMAT);
        }
    }
}

static void test_shard_abort(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_shard_out *w;
    check_ok(slm2_shard_out_open(&w, in_dir("gone"), SLM2_SHARD_I32, &err), &err);
    slm2_shard_out_abort(w);
    assert_false(slm2_path_exists(in_dir("gone.bin")));
    assert_false(slm2_path_exists(in_dir("gone.bin.tmp")));
}

/* ---- lines ---------------------------------------------------------------------------------------------------------------- */
static void test_dirty_lines(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_corpus *c;
    struct slm2_doc doc = {0};
    char line[512], class[64], verdict[64], bytes[32], hash[32], hex[65];
    bool more;
    int n = 0;
    FILE *f = fopen(slm2_test_data("dirty/expect.tsv"), "r");
    assert_non_null(f);
    check_ok(slm2_corpus_open(&c, slm2_test_data("dirty/dirty.jsonl"), SLM2_CORPUS_AUTO, 0, &err), &err);
    while (fgets(line, sizeof line, f)) {
        int number;
        if (line[0] == '#') continue;
        assert_int_equal(sscanf(line, "%d\t%63[^\t]\t%63[^\t]\t%31[^\t]\t%31[^\t]", &number, class, verdict, bytes, hash), 5);
        check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
        assert_true(more);
        assert_int_equal(doc.line, number);
        n++;
        if (strcmp(verdict, "either") == 0) continue;
        const char *want = strcmp(verdict, "dup") == 0 ? "ok" : verdict;
        if (strcmp(slm2_verdict_name(doc.verdict), want) != 0) fail_msg("line %d (%s): %s, want %s", number, class, slm2_verdict_name(doc.verdict), want);
        if (doc.verdict != SLM2_LINE_OK) {
            assert_null(doc.text);
            assert_true(doc.reason[0] != 0);
            continue;
        }
        assert_int_equal(doc.n, atoi(bytes));
        slm2_sha256_hex(doc.text, doc.n, hex);
        hex[16] = 0;
        assert_string_equal(hex, hash);
    }
    check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
    assert_false(more);
    assert_true(n > 150);
    slm2_corpus_close(c);
    fclose(f);
}

static void test_text_and_limits(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_corpus *c;
    struct slm2_doc doc;
    bool more;
    const char text[] = "\n one\n\ntwo\n";
    check_ok(slm2_file_write(in_dir("a.txt"), text, sizeof text - 1, &err), &err);
    check_ok(slm2_corpus_open(&c, in_dir("a.txt"), SLM2_CORPUS_AUTO, 0, &err), &err);
    check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
    assert_true(more && doc.verdict == SLM2_LINE_OK);
    assert_int_equal(doc.n, sizeof text - 2);
    assert_memory_equal(doc.text, text, doc.n);
    check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
    assert_false(more);
    slm2_corpus_close(c);

    const char full[] = "0123456789\nshort\nagain\n"; /* with a limit of 10 the line break alone goes over it */
    check_ok(slm2_file_write(in_dir("c.txt"), full, sizeof full - 1, &err), &err);
    for (int limit = 9; limit < 40; limit++) {
        check_ok(slm2_corpus_open(&c, in_dir("c.txt"), SLM2_CORPUS_AUTO, (size_t)limit, &err), &err);
        check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
        assert_int_equal(doc.verdict, limit < (int)sizeof full - 2 ? SLM2_LINE_TOO_LONG : SLM2_LINE_OK);
        slm2_corpus_close(c);
    }

    const char lines[] = "{\"text\":\"short\"}\n{\"text\":\"a line that is too long for the limit\"}\n{\"text\":\"again\",\"lang\":\"en\",\"license\":3}";
    check_ok(slm2_file_write(in_dir("b.jsonl"), lines, sizeof lines - 1, &err), &err);
    check_ok(slm2_corpus_open(&c, in_dir("b.jsonl"), SLM2_CORPUS_AUTO, 45, &err), &err);
    check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
    assert_int_equal(doc.verdict, SLM2_LINE_OK);
    assert_null(doc.lang);
    check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
    assert_int_equal(doc.verdict, SLM2_LINE_TOO_LONG);
    assert_int_equal(doc.line, 2);
    check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
    assert_true(more && doc.verdict == SLM2_LINE_OK);
    assert_string_equal(doc.lang, "en");
    assert_null(doc.license);
    slm2_corpus_close(c);

    const char none[] = "{\"text\":\"it names nothing\",\"lang\":\"\",\"license\":\"\"}"; /* as if they were not there: the source's count */
    check_ok(slm2_file_write(in_dir("d.jsonl"), none, sizeof none - 1, &err), &err);
    check_ok(slm2_corpus_open(&c, in_dir("d.jsonl"), SLM2_CORPUS_AUTO, 0, &err), &err);
    check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
    assert_true(doc.verdict == SLM2_LINE_OK && !doc.lang && !doc.license);
    slm2_corpus_close(c);
}

/* Records of WARC, plain and as many gzip members; what is no record is named and passed over. */
static void check_wet(const char *path, const char *const want[], int n)
{
    struct slm2_err err = {0};
    struct slm2_corpus *c;
    struct slm2_doc doc;
    bool more;
    check_ok(slm2_corpus_open(&c, path, SLM2_CORPUS_AUTO, 60, &err), &err);
    for (int i = 0; i < n; i++) {
        char got[256];
        check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
        assert_true(more);
        assert_int_equal(doc.line, i + 1);
        snprintf(got, sizeof got, "%s|%.*s|%s|%s", slm2_verdict_name(doc.verdict), doc.text ? (int)doc.n : 0, doc.text ? doc.text : "", doc.id ? doc.id : "", doc.lang ? doc.lang : "");
        assert_string_equal(got, want[i]);
    }
    check_ok(slm2_corpus_next(c, &doc, &more, &err), &err);
    assert_false(more);
    slm2_corpus_close(c);
}

static void put_record(struct slm2_buf *b, const char *type, const char *more, const char *text)
{
    slm2_buf_printf(b, "WARC/1.0\r\nWARC-Type: %s\r\n%sContent-Length: %zu\r\n\r\n%s\r\n\r\n", type, more, strlen(text), text);
}

static void test_wet(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_buf b = {0};
    char cmd[1024];
    static const char *const want[] = {"other_record|||", "ok|Ein Text.\nZwei Zeilen, f\u00fcr alle.|http://example.org/|de", "ok|WARC/1.0\r\nstill text|<urn:2>|xyz", "empty|||", "bad_record|||",
                                       "ok|behind rubbish||", "too_long|||", "invalid_utf8|||", "bad_record|||", "ok|last but one||", "bad_record|||"};
    put_record(&b, "warcinfo", "", "software: none");
    put_record(&b, "conversion", "warc-target-uri: http://example.org/\r\nWARC-Identified-Content-Language: deu,eng\r\n", "Ein Text.\nZwei Zeilen, f\u00fcr alle.\n");
    put_record(&b, "Conversion", "WARC-Record-ID:  <urn:2> \r\nWARC-Identified-Content-Language: xyz\r\n", "WARC/1.0\r\nstill text\r\n\r\n");
    put_record(&b, "conversion", "", " \n ");
    size_t part = b.n;
    slm2_buf_puts(&b, "rubbish\r\nmore of it\n");
    put_record(&b, "conversion", "", "behind rubbish");
    put_record(&b, "conversion", "", "a text of more bytes than the sixty that this reader was told to take");
    put_record(&b, "conversion", "", "\xff\xfe");
    slm2_buf_puts(&b, "WARC/1.1\r\nWARC-Type: conversion\r\n\r\nno length\r\n");
    put_record(&b, "conversion", "", "last but one");
    slm2_buf_puts(&b, "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 50\r\n\r\ncut off");
    check_ok(slm2_file_write(in_dir("a.wet"), b.v, b.n, &err), &err);
    check_wet(in_dir("a.wet"), want, 11);
    check_ok(slm2_file_write(in_dir("1"), b.v, part, &err), &err);
    check_ok(slm2_file_write(in_dir("2"), b.v + part, b.n - part, &err), &err);
    snprintf(cmd, sizeof cmd, "cd '%s' && gzip -c 1 > b.warc.wet.gz && gzip -c 2 >> b.warc.wet.gz", dir);
    assert_int_equal(system(cmd), 0);
    check_wet(in_dir("b.warc.wet.gz"), want, 11);
    slm2_buf_free(&b);
}

static void test_fields(void **state)
{
    (void)state;
    static const struct slm2_fields f = {"content.body", "id", "meta.language", "meta.license.name"};
    static const struct { const char *line, *want; } cases[] = {
        {"{\"content\": {\"body\": \"x\"}, \"meta\": {\"language\": \"de\", \"license\": {\"name\": \"MIT\"}}}", "ok|x|de|MIT"},
        {"{\"content.body\": \"whole key\", \"content\": {\"body\": \"x\"}}", "ok|whole key||"},
        {"{\"content\": {\"body\": 3}}", "no_text|||"},
        {"{\"content\": \"body\"}", "no_text|||"},
        {"{\"text\": \"x\"}", "no_text|||"},
        {"{\"content\": {\"body\": \"x\"}, \"meta\": [1], \"id\": 3}", "ok|x||"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_doc doc;
        json_t *root;
        char got[256];
        slm2_corpus_judge(&(struct slm2_raw){.form = SLM2_CORPUS_JSONL, .line = 1, .bytes = cases[i].line, .n = strlen(cases[i].line)}, &f, &doc, &root);
        snprintf(got, sizeof got, "%s|%s|%s|%s", slm2_verdict_name(doc.verdict), doc.text ? doc.text : "", doc.lang ? doc.lang : "", doc.license ? doc.license : "");
        assert_string_equal(got, cases[i].want);
        json_decref(root);
    }
}

/* ---- the mix -------------------------------------------------------------------------------------------------------------- */
enum { N_CTX = 16, N_MIX = 4 };
static const double shares[N_MIX] = {0.5, 0, 0.3, 0.2};

/* Source k has 10 + k documents; token ids tell source, document and place: k * 10000 + doc * 100 + place. */
static void write_sources(struct slm2_mix_source v[N_MIX])
{
    static char prefix[N_MIX][256];
    static const char *const names[N_MIX] = {"a", "b", "c", "d"};
    struct slm2_err err = {0};
    for (int k = 0; k < N_MIX; k++) {
        struct slm2_shard_out *w;
        snprintf(prefix[k], sizeof prefix[k], "%s", in_dir(names[k]));
        check_ok(slm2_shard_out_open(&w, prefix[k], SLM2_SHARD_I32, &err), &err);
        for (int d = 0; d < 10 + k; d++) {
            int32_t ids[64];
            int n = (d * 7 + k) % 40; /* some are empty */
            for (int i = 0; i < n; i++) ids[i] = k * 10000 + d * 100 + i;
            check_ok(slm2_shard_out_add(w, ids, (size_t)n, &err), &err);
        }
        check_ok(slm2_shard_out_commit(w, &err), &err);
        v[k] = (struct slm2_mix_source){.name = names[k], .prefix = prefix[k], .weight = 7 * shares[k]};
    }
}

static struct slm2_mix *open_mix(uint64_t seed, bool keep_order)
{
    struct slm2_err err = {0};
    struct slm2_mix_source v[N_MIX];
    struct slm2_mix *m;
    write_sources(v);
    check_ok(slm2_mix_open(&m, v, N_MIX, &(struct slm2_mix_opts){.n_ctx = N_CTX, .vocab_size = 50000, .seed = seed, .keep_order = keep_order}, &err), &err);
    return m;
}

static void test_mix_shares(void **state)
{
    (void)state;
    enum { N = 20000 };
    for (uint64_t seed = 0; seed < 3; seed++) {
        struct slm2_mix *m = open_mix(seed, false);
        int64_t count[N_MIX] = {0};
        double worst = 0;
        for (int64_t i = 0; i < N; i++) {
            for (int k = 0; k < N_MIX; k++) {
                struct slm2_mix_drawn d = slm2_mix_drawn(m, k, i);
                assert_int_equal(d.rows, count[k]); /* the closed form agrees with counting */
                assert_int_equal(d.tokens, count[k] * N_CTX);
                double off = fabs((double)count[k] - (double)i * shares[k]);
                if (off > worst) worst = off;
            }
            count[slm2_mix_source_of(m, i)]++;
        }
        assert_int_equal(count[1], 0);
        assert_true(worst < 3.5); /* independent draws would be off by about 70 here */
        /* far away, where nobody counts: still shares, and consecutive rows differ by what source_of says */
        for (int64_t i = INT64_C(1) << 47; i < (INT64_C(1) << 47) + 50; i++) {
            int64_t sum = 0;
            for (int k = 0; k < N_MIX; k++) {
                int64_t rows = slm2_mix_drawn(m, k, i).rows;
                sum += rows;
                assert_int_equal(slm2_mix_drawn(m, k, i + 1).rows - rows, slm2_mix_source_of(m, i) == k);
            }
            assert_int_equal(sum, i);
        }
        slm2_mix_close(m);
    }
}

/* The rows of a source, joined, are whole epochs in which each token comes once and documents stay in one piece. */
static void test_mix_stream(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_mix *m = open_mix(5, false);
    int64_t n_tok = slm2_mix_source_tokens(m, 2);
    int n_rows = (int)(3 * n_tok / N_CTX);
    int32_t *all = malloc((size_t)(n_rows * N_CTX + 1) * sizeof *all), row[N_CTX + 1], last = -1;
    int n = 0;
    for (int64_t i = 0; n < n_rows; i++) {
        int source;
        check_ok(slm2_mix_row(m, i, row, &source, &err), &err);
        assert_int_equal(source, slm2_mix_source_of(m, i));
        assert_int_equal(row[0] / 10000, source);
        if (source != 2) continue;
        if (n) assert_int_equal(row[0], last);
        last = row[N_CTX];
        memcpy(all + n * N_CTX, row, sizeof row);
        n++;
    }
    bool same_order = true;
    for (int e = 0; e < 2; e++) {
        const int32_t *p = all + e * n_tok;
        uint8_t seen[10000] = {0};
        for (int64_t i = 0; i < n_tok; i++) {
            assert_false(seen[p[i] % 10000]++);
            if (p[i] % 100) assert_int_equal(p[i], p[i - 1] + 1); /* inside a document */
            if (e == 0) same_order = same_order && p[i] == p[i + n_tok];
        }
    }
    assert_false(same_order);
    struct slm2_mix_drawn d = slm2_mix_drawn(m, 2, 1000);
    assert_true(fabs(d.epochs - (double)d.tokens / (double)n_tok) < 1e-12);
    free(all);
    slm2_mix_close(m);
}

/* Row i is the same whether the rows before it were drawn or not, in any order, from a fresh mix. */
static void test_mix_resume(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    enum { N = 300 };
    int32_t rows[N][N_CTX + 1], row[N_CTX + 1];
    struct slm2_mix *m = open_mix(9, false);
    for (int i = 0; i < N; i++) check_ok(slm2_mix_row(m, i, rows[i], NULL, &err), &err);
    slm2_mix_close(m);
    m = open_mix(9, false);
    for (int i = N - 1; i >= 0; i -= 7) {
        check_ok(slm2_mix_row(m, i, row, NULL, &err), &err);
        assert_memory_equal(row, rows[i], sizeof row);
    }
    slm2_mix_close(m);
    m = open_mix(10, false);
    int differ = 0;
    for (int i = 0; i < N; i++) {
        check_ok(slm2_mix_row(m, i, row, NULL, &err), &err);
        differ += memcmp(row, rows[i], sizeof row) != 0;
    }
    assert_true(differ > N / 2);
    slm2_mix_close(m);
}

static void test_mix_order_and_limits(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_mix *m = open_mix(1, true);
    int32_t row[N_CTX + 1];
    int64_t n = slm2_mix_epoch_rows(m, 1);
    assert_int_equal(n, (slm2_mix_source_tokens(m, 1) - 1) / N_CTX);
    int32_t before = -1;
    for (int64_t r = 0; r < n; r++) {
        check_ok(slm2_mix_source_row(m, 1, r, row, &err), &err);
        for (int i = r > 0; i <= N_CTX; i++) {
            assert_true(row[i] > before);
            before = row[i];
        }
    }
    assert_int_equal(slm2_mix_row(m, -1, row, NULL, &err), SLM2_ELIMIT);
    assert_int_equal(slm2_mix_row(m, INT64_C(1) << 48, row, NULL, &err), SLM2_ELIMIT);
    slm2_mix_close(m);
    struct slm2_mix_source v[N_MIX];
    write_sources(v);
    struct slm2_mix_opts o = {.n_ctx = N_CTX, .vocab_size = 10000};
    check_ok(slm2_mix_open(&m, v, 1, &o, &err), &err); /* source a has ids below 1000 */
    check_ok(slm2_mix_row(m, 0, row, NULL, &err), &err);
    slm2_mix_close(m);
    o.vocab_size = 5;
    check_ok(slm2_mix_open(&m, v, 1, &o, &err), &err);
    assert_int_equal(slm2_mix_row(m, 0, row, NULL, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "vocabulary"));
    slm2_mix_close(m);
    v[0].weight = 0;
    assert_int_equal(slm2_mix_open(&m, v, 1, &o, &err), SLM2_EUSAGE);
    assert_null(m);
}

/* A file shorter than a row starts over. */
static void test_mix_tiny(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_shard_out *w;
    struct slm2_mix *m;
    int32_t row[N_CTX + 1];
    check_ok(slm2_shard_out_open(&w, in_dir("tiny"), SLM2_SHARD_I32, &err), &err);
    check_ok(slm2_shard_out_add(w, (int32_t[]){1, 2, 3}, 3, &err), &err);
    check_ok(slm2_shard_out_commit(w, &err), &err);
    struct slm2_mix_source v = {"tiny", in_dir("tiny"), 1};
    check_ok(slm2_mix_open(&m, &v, 1, &(struct slm2_mix_opts){.n_ctx = N_CTX, .vocab_size = 10}, &err), &err);
    assert_int_equal(slm2_mix_epoch_rows(m, 0), 1);
    for (int64_t r = 0; r < 3; r++) {
        check_ok(slm2_mix_row(m, r, row, NULL, &err), &err);
        for (int i = 0; i <= N_CTX; i++) assert_int_equal(row[i], 1 + (r * N_CTX + i) % 3);
    }
    slm2_mix_close(m);
}

/* ---- packing -------------------------------------------------------------------------------------------------------------- */
static const int32_t *golden_i32(const struct slm2_tensors *ts, const char *name, int64_t *rows, int64_t *cols)
{
    struct slm2_err err = {0};
    const struct slm2_tensor *t;
    check_ok(slm2_tensors_get(ts, name, "batch.safetensors", &t, &err), &err);
    assert_int_equal(t->dtype, SLM2_I32);
    assert_int_equal(t->n_dim, 2);
    assert_true(slm2_tensor_aligned(t));
    *rows = t->dim[0];
    *cols = t->dim[1];
    return t->data;
}

static void test_pack_golden(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_tensors ts = {0};
    struct slm2_batch b;
    int64_t rows, cols, r2, c2;
    const int32_t eos = 505;
    check_ok(slm2_safetensors_open(&ts, slm2_test_data("golden/train/batch.safetensors"), &err), &err);
    const int32_t *ids = golden_i32(&ts, "ids", &rows, &cols), *doc = golden_i32(&ts, "doc_ids", &r2, &c2), *position = golden_i32(&ts, "position_ids", &r2, &c2),
                  *mask = golden_i32(&ts, "loss_mask", &r2, &c2);
    int n_ctx = (int)cols - 1, n_masked = 0;
    assert_int_equal(c2, n_ctx);
    check_ok(slm2_batch_init(&b, (int)rows * n_ctx, (int)rows * n_ctx, &err), &err);
    for (int loss = SLM2_PACK_ALL; loss <= SLM2_PACK_MASKED; loss++) {
        slm2_batch_clear(&b);
        for (int r = 0; r < rows; r++) check_ok(slm2_pack_row(&b, ids + r * cols, n_ctx, eos, (enum slm2_pack_loss)loss, 0.5f, &err), &err);
        assert_int_equal(b.n_tok, rows * n_ctx);
        int seq = -1;
        for (int i = 0; i < b.n_tok; i++) {
            int row = i / n_ctx, at = i % n_ctx;
            bool starts = at == 0 || doc[i] != doc[i - 1];
            if (starts) assert_int_equal(b.cu_seqlens[++seq], i);
            assert_int_equal(b.ids[i], ids[row * cols + at]);
            assert_int_equal(b.position[i], position[i]);
            bool learnt = loss == SLM2_PACK_ALL || mask[i];
            assert_int_equal(b.target[i], learnt ? ids[row * cols + at + 1] : -1);
            assert_true(b.weight[i] == (learnt ? 0.5f : 0.0f));
        }
        assert_int_equal(b.n_seq, seq + 1);
        assert_int_equal(b.cu_seqlens[b.n_seq], b.n_tok);
    }
    for (int r = 0; r < rows; r++) {
        assert_int_equal(slm2_pack_count(ids + r * cols, n_ctx, eos, SLM2_PACK_ALL), n_ctx);
        n_masked += slm2_pack_count(ids + r * cols, n_ctx, eos, SLM2_PACK_MASKED);
    }
    assert_int_equal(n_masked, 362);
    assert_int_equal(slm2_pack_row(&b, ids, n_ctx, eos, SLM2_PACK_ALL, 1, &err), SLM2_ELIMIT); /* full */
    slm2_batch_free(&b);
    slm2_tensors_free(&ts);
}

/* ---- builds --------------------------------------------------------------------------------------------------------------- */
static const char one[] = "{\"text\":\"The first document.\",\"lang\":\"en\",\"license\":\"MIT\"}\n{\"text\":\"caf\\u00e9\",\"lang\":\"fr\"}\n"
                          "not json\n{\"text\":\"The first document.\"}\n{\"text\":\"x <|endoftext|> y\"}\n";
static const char two[] = "{\"text\":\"cafe\\u0301\"}\n{\"text\":\"Another one.\"}\n{\"text\":\"tiny\"}\n";

static void write_config(const char *more)
{
    struct slm2_err err = {0};
    struct slm2_buf y = {0};
    check_ok(slm2_file_write(in_dir("one.jsonl"), one, sizeof one - 1, &err), &err);
    check_ok(slm2_file_write(in_dir("two.jsonl"), two, sizeof two - 1, &err), &err);
    slm2_buf_printf(&y, "out: %s\nval_fraction: 0\n%ssources:\n  - name: one\n    path: %s\n    weight: 3\n", in_dir("built"), more, in_dir("one.jsonl"));
    slm2_buf_printf(&y, "  - name: two\n    path: [%s]\n    lang: xx\n", in_dir("two.jsonl"));
    check_ok(slm2_file_write(in_dir("data.yml"), y.v, y.n, &err), &err);
    slm2_buf_free(&y);
}

static slm2_status build(const char *more, struct slm2_err *err)
{
    struct slm2_data_opts o = {0};
    write_config(more);
    slm2_conf_init(slm2_data_table, &o);
    check_ok(slm2_conf_yaml(slm2_data_table, &o, in_dir("data.yml"), err), err);
    slm2_status st = slm2_data_build(&o, err);
    slm2_conf_free(slm2_data_table, &o);
    return st;
}

static int64_t entry_int(const json_t *manifest, size_t source, const char *key)
{
    const json_t *j = json_object_get(json_array_get(json_object_get(manifest, "sources"), source), key);
    assert_true(json_is_integer(j));
    return json_integer_value(j);
}

static void test_build(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_dataset d;
    struct slm2_shard s;
    struct slm2_tok *tok;
    json_t *manifest;
    check_ok(slm2_dir_remove(in_dir("built"), &err), &err);
    check_ok(build("min_bytes: 5\n", &err), &err);
    check_ok(slm2_dataset_verify(in_dir("built"), 0, &err), &err);
    assert_int_equal(slm2_dataset_open(&d, in_dir("not-built"), &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "not-built: no such data folder; `slm2 data build"));
    check_ok(slm2_dataset_open(&d, in_dir("built"), &err), &err);
    assert_int_equal(d.n, 2);
    assert_int_equal(d.v[0].n_doc[SLM2_SPLIT_TRAIN], 3); /* a line is bad, one came twice */
    assert_int_equal(d.v[1].n_doc[SLM2_SPLIT_TRAIN], 1); /* the same after NFC as one of the first source; one is too short */
    assert_null(d.v[0].prefix[SLM2_SPLIT_VAL]);
    assert_true(d.v[0].weight == 3);
    assert_true(d.v[1].weight == (double)d.v[1].n_tok[SLM2_SPLIT_TRAIN]);
    assert_string_equal(d.v[1].lang, "xx");
    assert_string_equal(d.v[0].lang, "");
    assert_int_equal(d.v[0].n_bytes[SLM2_SPLIT_TRAIN], 19 + 5 + 17);
    assert_int_equal(d.v[0].n_chars[SLM2_SPLIT_TRAIN], 19 + 4 + 17);

    check_ok(slm2_json_read(&manifest, in_dir("built/manifest.json"), 1 << 20, &err), &err);
    assert_int_equal(entry_int(manifest, 0, "duplicates"), 1);
    assert_int_equal(entry_int(manifest, 0, "bad"), 1);
    assert_int_equal(entry_int(manifest, 1, "duplicates"), 1);
    assert_int_equal(entry_int(manifest, 1, "too_short"), 1);
    const json_t *bad = json_array_get(json_object_get(json_array_get(json_object_get(manifest, "sources"), 0), "first_bad_lines"), 0);
    assert_int_equal(json_integer_value(json_object_get(bad, "line")), 3);
    json_decref(manifest);

    /* each document ends with EOS, and a special string inside one is ordinary text */
    check_ok(slm2_tok_open(&tok, NULL, &err), &err);
    check_ok(slm2_shard_open(&s, d.v[0].prefix[0], &err), &err);
    int32_t ids[256];
    assert_true(s.n_tok < 256);
    slm2_shard_read(&s, 0, s.n_tok, ids);
    int n_eos = 0;
    for (int64_t i = 0; i < s.n_tok; i++) n_eos += ids[i] == slm2_tok_eos(tok);
    assert_int_equal(n_eos, 3);
    for (int64_t k = 0; k < 3; k++) assert_int_equal(ids[slm2_shard_start(&s, k) + slm2_shard_size(&s, k) - 1], slm2_tok_eos(tok));
    slm2_shard_close(&s);

    struct slm2_data_stats stats;
    check_ok(slm2_data_stats(&stats, d.v[0].prefix[0], tok, &err), &err);
    assert_int_equal(stats.n_doc, 3);
    assert_int_equal(stats.n_bytes, 19 + 5 + 17);
    assert_true(stats.entropy_nats > 0 && stats.entropy_nats <= log((double)stats.n_distinct) + 1e-12);
    slm2_tok_free(tok);
    slm2_dataset_free(&d);

    /* a flipped byte is found */
    struct slm2_buf bin = {0};
    check_ok(slm2_file_read(&bin, in_dir("built/two.bin"), 1 << 20, &err), &err);
    bin.v[0] ^= 1;
    check_ok(slm2_file_write(in_dir("built/two.bin"), bin.v, bin.n, &err), &err);
    assert_int_equal(slm2_dataset_verify(in_dir("built"), 0, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "two.bin"));
    slm2_buf_free(&bin);
}

static void test_build_goes_on(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    char first[65], again[65];
    check_ok(slm2_dir_remove(in_dir("built"), &err), &err);
    check_ok(build("", &err), &err);
    check_ok(slm2_sha256_file(in_dir("built/manifest.json"), first, &err), &err);
    /* cut off before the second source was complete: the first is kept (its token file is not even looked into) */
    remove(in_dir("built/manifest.json"));
    remove(in_dir("built/two.json"));
    assert_int_equal(slm2_dataset_verify(in_dir("built"), 0, &err), SLM2_EIO);
    struct slm2_buf bin = {0};
    check_ok(slm2_file_read(&bin, in_dir("built/one.bin"), 1 << 20, &err), &err);
    bin.v[0] ^= 1;
    check_ok(slm2_file_write(in_dir("built/one.bin"), bin.v, bin.n, &err), &err);
    check_ok(build("", &err), &err);
    check_ok(slm2_sha256_file(in_dir("built/manifest.json"), again, &err), &err);
    assert_string_equal(first, again); /* duplicates of the kept source were found too */
    assert_int_equal(slm2_dataset_verify(in_dir("built"), 0, &err), SLM2_EFORMAT);
    /* another setting: everything is built again */
    check_ok(build("seed: 3\n", &err), &err);
    check_ok(slm2_dataset_verify(in_dir("built"), 0, &err), &err);
    slm2_buf_free(&bin);
}

static void test_build_fails(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    check_ok(slm2_dir_remove(in_dir("built"), &err), &err);
    assert_int_equal(build("on_bad_line: fatal\n", &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "one.jsonl: line 3"));
    assert_false(slm2_path_exists(in_dir("built/manifest.json")));
    assert_false(slm2_path_exists(in_dir("built/one.bin")));
    assert_false(slm2_path_exists(in_dir("built/one.bin.tmp")));
    check_ok(build("", &err), &err);
    check_ok(slm2_dataset_verify(in_dir("built"), 0, &err), &err);
}

static slm2_status train_on(const char *data, struct slm2_err *err)
{
    char data_set[300], run_set[300];
    struct slm2_train_result r;
    snprintf(data_set, sizeof data_set, "data=%s", data);
    snprintf(run_set, sizeof run_set, "run=%s", in_dir("run"));
    const char *sets[] = {data_set, run_set};
    return slm2_pretrain("configs/nano.yml", sets, 2, &r, err);
}

static void put_file(const char *path, const struct slm2_buf *b)
{
    struct slm2_err err = {0};
    check_ok(slm2_file_write(path, b->v, b->n, &err), &err);
}

/* Training hashes token files once for each state that they are in, and refuses damaged ones by name. */
static void test_check(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_buf bin = {0};
    struct stat before;
    char built[256], path[256];
    snprintf(built, sizeof built, "%s", in_dir("built"));
    snprintf(path, sizeof path, "%s", in_dir("built/one.bin"));
    check_ok(slm2_dir_remove(built, &err), &err);
    check_ok(build("", &err), &err);
    assert_true(slm2_path_exists(in_dir("built/verified.json"))); /* what was just written needs no hashing */
    check_ok(slm2_dataset_check(built, "one", &err), &err);
    check_ok(slm2_file_read(&bin, path, 1 << 20, &err), &err);

    bin.v[5] ^= 1;
    put_file(path, &bin);
    assert_int_equal(slm2_dataset_check(built, "one", &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "one.bin"));
    check_ok(slm2_dataset_check(built, "two", &err), &err); /* the others can be used */
    assert_int_equal(train_on(built, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "one.bin"));

    bin.v[5] ^= 1; /* repaired: found right, and remembered */
    put_file(path, &bin);
    check_ok(slm2_dataset_check(built, "one", &err), &err);

    /* bits that fall over behind the file system's back leave the state as it was: only the full check finds them */
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0 && fstat(fd, &before) == 0 && pwrite(fd, "?", 1, 6) == 1);
    assert_int_equal(futimens(fd, (struct timespec[2]){before.st_atim, before.st_mtim}), 0);
    close(fd);
    check_ok(slm2_dataset_check(built, "one", &err), &err);
    assert_int_equal(slm2_dataset_verify(built, 0, &err), SLM2_EFORMAT);
    assert_non_null(strstr(err.msg, "one.bin"));

    bin.n--;
    put_file(path, &bin);
    assert_int_equal(slm2_dataset_check(built, "one", &err), SLM2_EFORMAT);
    remove(path);
    assert_int_equal(slm2_dataset_check(built, "one", &err), SLM2_EIO);
    assert_int_equal(slm2_dataset_verify(built, 3, &err), SLM2_EIO);
    assert_non_null(strstr(err.msg, "one.bin"));
    slm2_buf_free(&bin);
}

/* Held-out documents are the same whatever the order and number of documents, and none is in both. */
static void test_build_split_and_dirty(void **state)
{
    (void)state;
    struct slm2_err err = {0};
    struct slm2_buf y = {0};
    struct slm2_data_opts o = {0};
    struct slm2_dataset d;
    json_t *manifest;
    slm2_buf_printf(&y, "out: %s\nval_fraction: 0.3\nthreads: 3\nsources:\n  - {name: dirty, path: %s}\n", in_dir("dirty"), slm2_test_data("dirty/dirty.jsonl"));
    check_ok(slm2_file_write(in_dir("data.yml"), y.v, y.n, &err), &err);
    slm2_conf_init(slm2_data_table, &o);
    check_ok(slm2_conf_yaml(slm2_data_table, &o, in_dir("data.yml"), &err), &err);
    check_ok(slm2_data_build(&o, &err), &err);
    check_ok(slm2_dataset_verify(in_dir("dirty"), 0, &err), &err);
    check_ok(slm2_json_read(&manifest, in_dir("dirty/manifest.json"), 1 << 20, &err), &err);
    assert_int_equal(entry_int(manifest, 0, "duplicates"), 6);
    assert_int_equal(entry_int(manifest, 0, "empty_lines"), 4);
    json_decref(manifest);
    check_ok(slm2_dataset_open(&d, in_dir("dirty"), &err), &err);
    int64_t n_train = d.v[0].n_doc[0], n_val = d.v[0].n_doc[1];
    char bin[65];
    strcpy(bin, d.v[0].sha256[0]);
    assert_true(n_val > 10 && n_val < n_train);
    slm2_dataset_free(&d);
    o.n_threads = 1; /* one thread gives the same files */
    free(o.out);
    o.out = strdup(in_dir("dirty1"));
    check_ok(slm2_data_build(&o, &err), &err);
    check_ok(slm2_dataset_open(&d, in_dir("dirty1"), &err), &err);
    assert_string_equal(d.v[0].sha256[0], bin);
    slm2_dataset_free(&d);
    slm2_conf_free(slm2_data_table, &o);
    slm2_buf_free(&y);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_shard_bytes, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_shard_u16, make_dir, remove_dir),
    cmocka_unit_test(test_shard_damaged),
    cmocka_unit_test_setup_teardown(test_shard_abort, make_dir, remove_dir),
    cmocka_unit_test(test_dirty_lines),
    cmocka_unit_test_setup_teardown(test_text_and_limits, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_wet, make_dir, remove_dir),
    cmocka_unit_test(test_fields),
    cmocka_unit_test_setup_teardown(test_mix_shares, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_mix_stream, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_mix_resume, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_mix_order_and_limits, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_mix_tiny, make_dir, remove_dir),
    cmocka_unit_test(test_pack_golden),
    cmocka_unit_test_setup_teardown(test_build, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_build_goes_on, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_build_fails, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_check, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_build_split_and_dirty, make_dir, remove_dir),
};
SLM2_TEST_MAIN(tests)
