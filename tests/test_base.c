/* test_base.c - the base layer: errors, buffers, arena, reader, files and lines, JSON, random numbers, bf16 and f16. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "scratch_dir.h"

#include "base/arena.h"
#include "base/dtype.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "base/reader.h"
#include "base/rng.h"

/* ---- a folder for the tests' files -------------------------------------------------------------------------------------- */
static void put_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static bool holds(const char *text, const char *part) { return strstr(text, part) != NULL; }

/* ---- errors, buffers, arena --------------------------------------------------------------------------------------------- */
static void test_err(void **state)
{
    (void)state;
    struct slm2_err e = {0};
    assert_int_equal(slm2_fail(&e, SLM2_EFORMAT, "tensor %d\nis bad", 3), SLM2_EFORMAT);
    assert_string_equal(e.msg, "tensor 3 is bad");
    assert_int_equal(e.status, SLM2_EFORMAT);
    assert_int_equal(slm2_wrap(&e, SLM2_EFORMAT, "loading %s", "x"), SLM2_EFORMAT);
    assert_string_equal(e.msg, "loading x: tensor 3 is bad");
    slm2_fail(&e, SLM2_EIO, "again: %s", e.msg); /* its own message as an argument */
    assert_string_equal(e.msg, "again: loading x: tensor 3 is bad");
    assert_int_equal(slm2_fail(NULL, SLM2_ENOMEM, "x"), SLM2_ENOMEM);
    assert_int_equal(slm2_wrap(NULL, SLM2_EIO, "x"), SLM2_EIO);

    char longer[3000];
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = 0;
    memcpy(longer + 1021, "\xe2\x82\xac", 3); /* a character across the end of the message is left out whole */
    slm2_fail(&e, SLM2_EIO, "%s", longer);
    assert_int_equal(strlen(e.msg), 1021);
    slm2_wrap(&e, SLM2_EIO, "%s", longer);
    assert_true(strlen(e.msg) < sizeof e.msg);
}

static void test_buf(void **state)
{
    (void)state;
    struct slm2_buf b = {0};
    slm2_buf_put(&b, NULL, 0);
    assert_string_equal(b.v, "");
    for (int i = 0; i < 1000; i++) slm2_buf_printf(&b, "%d,", i);
    slm2_buf_putc(&b, 0);
    slm2_buf_puts(&b, "end");
    assert_int_equal(b.n, 10 + 2 * 90 + 3 * 900 + 1000 + 4);
    assert_string_equal(b.v + b.n - 3, "end");
    assert_int_equal(slm2_buf_check(&b, NULL), SLM2_OK);
    slm2_buf_clear(&b);
    assert_int_equal(b.n, 0);
    slm2_buf_put(&b, "x", SIZE_MAX - 1); /* cannot be had: the failure stays, later writes do nothing */
    slm2_buf_puts(&b, "y");
    assert_int_equal(b.n, 0);
    assert_int_equal(slm2_buf_check(&b, NULL), SLM2_ENOMEM);
    slm2_buf_free(&b);
    assert_null(b.v);
}

static void test_arena(void **state)
{
    (void)state;
    struct slm2_arena a;
    assert_int_equal(slm2_arena_init(&a, 1000, "test", NULL), SLM2_OK);
    uint8_t *p = slm2_arena_take(&a, 1), *q = slm2_arena_take(&a, 100);
    assert_int_equal(q - p, SLM2_ALIGN);
    assert_int_equal((uintptr_t)p % SLM2_ALIGN, 0);
    assert_int_equal(q[99], 0);
    size_t mark = slm2_arena_mark(&a);
    assert_non_null(slm2_arena_take(&a, 700));
    assert_null(slm2_arena_take(&a, 700));
    assert_null(slm2_arena_take(&a, SIZE_MAX));
    slm2_arena_rewind(&a, mark);
    assert_ptr_equal(slm2_arena_take(&a, 5), q + 128);
    assert_int_equal(slm2_arena_piece(65), 128);
    slm2_arena_free(&a);
    slm2_arena_free(&a);
    struct slm2_err e;
    assert_int_equal(slm2_arena_init(&a, SIZE_MAX / 2, "a plan", &e), SLM2_ENOMEM);
    assert_true(holds(e.msg, "a plan"));
}

static void test_dtype(void **state)
{
    (void)state;
    assert_int_equal(slm2_dtype_from_name("bf16"), SLM2_BF16);
    assert_int_equal(slm2_dtype_from_name("F64"), -1);
    assert_int_equal(slm2_dtype_from_gguf(8), SLM2_Q8_0);
    assert_int_equal(slm2_dtype_from_gguf(4000000000u), -1);
    assert_int_equal(slm2_dtype_bytes(SLM2_Q4_0, 64), 36);
    for (int t = 0; t < SLM2_N_DTYPE; t++) assert_int_equal(slm2_dtype_from_name(slm2_dtype_info[t].name), t);
}

/* ---- reader ------------------------------------------------------------------------------------------------------------- */
static void test_reader(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xff};
    struct slm2_rd r;
    struct slm2_err e = {0};
    slm2_rd_init(&r, bytes, sizeof bytes, "a file");
    assert_int_equal(slm2_rd_u8(&r), 1);
    assert_int_equal(slm2_rd_u16(&r), 0x0302);
    assert_int_equal(slm2_rd_u32(&r), 0x07060504);
    assert_true(slm2_rd_u64(&r) == 0x0f0e0d0c0b0a0908u);
    assert_ptr_equal(slm2_rd_bytes(&r, 0), bytes + 15);
    assert_int_equal(slm2_rd_status(&r, &e), SLM2_OK);
    assert_int_equal(slm2_rd_u16(&r), 0);
    assert_int_equal(slm2_rd_u8(&r), 0); /* one byte is left, but the reader has failed */
    assert_null(slm2_rd_bytes(&r, 1));
    slm2_rd_fail(&r, "a later failure");
    assert_int_equal(slm2_rd_status(&r, &e), SLM2_EFORMAT);
    assert_true(holds(e.msg, "a file: byte 15: 2 bytes wanted, 1 left"));
    slm2_rd_init(&r, bytes, sizeof bytes, "a file");
    slm2_rd_u8(&r);
    assert_null(slm2_rd_bytes(&r, UINT64_MAX)); /* at + n would wrap */
    for (size_t n = 0; n < 15; n++) { /* every truncation, in a block of exactly that size */
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, bytes, n);
        slm2_rd_init(&r, cut, n, "cut");
        slm2_rd_u64(&r);
        slm2_rd_u32(&r);
        slm2_rd_u16(&r);
        slm2_rd_u8(&r);
        assert_false(slm2_rd_ok(&r));
        free(cut);
    }
}

/* ---- files -------------------------------------------------------------------------------------------------------------- */
/* Pages of files that the process has mapped and touched. */
static long pages_of_files(void)
{
    long size = 0, resident = 0, shared = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld %ld", &size, &resident, &shared), 3);
    fclose(f);
    return shared;
}

static void forgotten_pages_are_no_memory_of_ours(void **state)
{
    (void)state;
    enum { N = 8 << 20 };
    struct slm2_err e = {0};
    struct slm2_map m;
    uint8_t *x = malloc(N);
    assert_non_null(x);
    for (size_t i = 0; i < N; i++) x[i] = (uint8_t)(i * 7 + i / 4096);
    put_file(in_dir("large"), x, N);
    assert_int_equal(slm2_map_open(&m, in_dir("large"), &e), SLM2_OK);
    assert_memory_equal(m.p, x, N);
    long before = pages_of_files();
    slm2_map_forget(m.p + 1, N - 2);
    assert_true(before - pages_of_files() > N / sysconf(_SC_PAGESIZE) / 2);
    assert_memory_equal(m.p, x, N);
    slm2_map_close(&m);
    free(x);
}

static void test_file(void **state)
{
    (void)state;
    struct slm2_err e = {0};
    struct slm2_map m;
    struct slm2_buf b = {0};
    char hex[65], path[16];
    put_file(in_dir("abc"), "abc", 3);
    put_file(in_dir("empty"), "", 0);
    assert_int_equal(slm2_map_open(&m, in_dir("abc"), &e), SLM2_OK);
    assert_int_equal(m.n, 3);
    assert_memory_equal(m.p, "abc", 3);
    slm2_map_close(&m);
    slm2_map_close(&m);
    assert_int_equal(slm2_map_open(&m, in_dir("empty"), &e), SLM2_OK);
    assert_int_equal(m.n, 0);
    assert_non_null(m.p);
    slm2_map_close(&m);
    assert_int_equal(slm2_map_open(&m, in_dir("absent"), &e), SLM2_EIO);
    assert_true(holds(e.msg, "absent: cannot be opened: No such file"));
    assert_int_equal(slm2_map_open(&m, dir, &e), SLM2_EIO);
    assert_int_equal(slm2_map_open(&m, "/dev/null", &e), SLM2_EIO);

    slm2_buf_puts(&b, "x");
    assert_int_equal(slm2_file_read(&b, in_dir("abc"), 2, &e), SLM2_ELIMIT);
    assert_string_equal(b.v, "x");
    assert_int_equal(slm2_file_read(&b, in_dir("abc"), 3, &e), SLM2_OK);
    assert_string_equal(b.v, "xabc");
    slm2_buf_free(&b);

    assert_int_equal(slm2_sha256_file(in_dir("abc"), hex, &e), SLM2_OK); /* FIPS 180-2, example B.1 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    slm2_sha256_hex("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

    assert_int_equal(slm2_path_join(path, sizeof path, "a/", "b", &e), SLM2_OK);
    assert_string_equal(path, "a/b");
    assert_int_equal(slm2_path_join(path, sizeof path, "123456", "12345678", &e), SLM2_OK);
    assert_int_equal(slm2_path_join(path, sizeof path, "123456", "123456789", &e), SLM2_ELIMIT);
    static const char *const cases[][2] = {{"a/b", "a"}, {"a/b/c", "a/b"}, {"/b", "/"}, {"b", "."}, {"a/", "a"}, {"", "."}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(slm2_path_folder(path, sizeof path, cases[i][0], &e), SLM2_OK);
        assert_string_equal(path, cases[i][1]);
    }
    assert_int_equal(slm2_path_folder(path, 4, "abcd/e", &e), SLM2_ELIMIT);
    assert_true(slm2_path_ends("a.gguf", ".gguf") && slm2_path_ends(".gguf", ".gguf") && !slm2_path_ends("gguf", ".gguf") && !slm2_path_ends("a.gguf.", ".gguf"));
}

static void test_dirs(void **state)
{
    (void)state;
    struct slm2_err e = {0};
    assert_int_equal(slm2_dir_make(in_dir("a//b/c/"), &e), SLM2_OK);
    assert_int_equal(slm2_dir_make(in_dir("a/b"), &e), SLM2_OK);
    assert_true(slm2_path_is_dir(in_dir("a/b/c")));
    put_file(in_dir("a/b/file"), "x", 1);
    put_file(in_dir("kept"), "x", 1);
    assert_int_equal(symlink("../../kept", in_dir("a/b/link")), 0);
    assert_int_equal(symlink("..", in_dir("a/b/up")), 0);
    assert_int_equal(slm2_dir_make(in_dir("a/b/file/d"), &e), SLM2_EIO);
    assert_int_equal(slm2_dir_sync(in_dir("a"), &e), SLM2_OK);
    assert_int_equal(slm2_dir_remove(in_dir("a"), &e), SLM2_OK);
    assert_false(slm2_path_exists(in_dir("a")));
    assert_true(slm2_path_exists(in_dir("kept"))); /* links are removed, not followed */
    assert_int_equal(slm2_dir_remove(in_dir("a"), &e), SLM2_OK);
    assert_int_equal(slm2_dir_remove(in_dir("kept"), &e), SLM2_EIO);
}

static void test_out(void **state)
{
    (void)state;
    struct slm2_err e = {0};
    struct slm2_out *o;
    struct slm2_buf b = {0};
    char piece[1000];
    memset(piece, 'z', sizeof piece);
    assert_int_equal(slm2_file_write(in_dir("out"), "old", 3, &e), SLM2_OK);
    assert_int_equal(slm2_out_open(&o, in_dir("out"), &e), SLM2_OK);
    for (int i = 0; i < 200; i++) slm2_out_write(o, piece, sizeof piece);
    assert_int_equal(slm2_out_size(o), 200000);
    assert_int_equal(slm2_file_read(&b, in_dir("out"), 100, &e), SLM2_OK);
    assert_string_equal(b.v, "old"); /* until commit the old file stands */
    assert_int_equal(slm2_out_commit(o, &e), SLM2_OK);
    slm2_buf_clear(&b);
    assert_int_equal(slm2_file_read(&b, in_dir("out"), 1 << 20, &e), SLM2_OK);
    assert_int_equal(b.n, 200000);
    assert_false(slm2_path_exists(in_dir("out.tmp")));

    assert_int_equal(slm2_out_open(&o, in_dir("out"), &e), SLM2_OK);
    slm2_out_write(o, "new", 3);
    slm2_out_abort(o);
    slm2_out_abort(NULL);
    assert_false(slm2_path_exists(in_dir("out.tmp")));
    assert_int_equal(slm2_out_open(&o, in_dir("no/such/folder"), &e), SLM2_EIO);
    slm2_buf_free(&b);
}

/* A full disk: the file aside is a link to /dev/full, so every write fails with ENOSPC. */
static void test_out_full_disk(void **state)
{
    (void)state;
    struct slm2_err e = {0};
    struct slm2_buf b = {0};
    if (access("/dev/full", W_OK)) {
        printf("skipped: no /dev/full\n");
        skip();
    }
    put_file(in_dir("precious"), "old", 3);
    assert_int_equal(symlink("/dev/full", in_dir("precious.tmp")), 0);
    assert_int_equal(slm2_file_write(in_dir("precious"), "new", 3, &e), SLM2_EIO);
    assert_true(holds(e.msg, "precious: cannot be written: No space left"));
    assert_int_equal(slm2_file_read(&b, in_dir("precious"), 100, NULL), SLM2_OK);
    assert_string_equal(b.v, "old");
    assert_false(slm2_path_exists(in_dir("precious.tmp")));
    slm2_buf_free(&b);
}

/* ---- lines -------------------------------------------------------------------------------------------------------------- */
/* Text of n_lines lines of very different lengths, the last one without its newline; the longest spans several blocks. */
static void make_text(struct slm2_buf *b, int n_lines)
{
    for (int i = 0; i < n_lines; i++) {
        uint64_t n = slm2_rng_below(1, SLM2_RNG_TEST, 0, (uint64_t)i, 200);
        if (i == n_lines / 2) n = 400000;
        slm2_buf_printf(b, "%d:", i);
        for (uint64_t k = 0; k < n; k++) slm2_buf_putc(b, (char)('a' + slm2_rng_below(1, SLM2_RNG_TEST, (uint64_t)i + 1, k, 26)));
        if (i < n_lines - 1) slm2_buf_putc(b, '\n');
    }
}

static void put_gzip(const char *path, const char *mode, const char *text, size_t n)
{
    gzFile f = gzopen(path, mode);
    assert_non_null(f);
    assert_int_equal(gzwrite(f, text, (unsigned)n), n);
    assert_int_equal(gzclose(f), Z_OK);
}

static void put_zstd(const char *path, const char *mode, const char *text, size_t n)
{
    size_t cap = ZSTD_compressBound(n);
    char *packed = malloc(cap);
    size_t k = ZSTD_compress(packed, cap, text, n, 3);
    assert_false(ZSTD_isError(k));
    FILE *f = fopen(path, mode);
    assert_non_null(f);
    assert_int_equal(fwrite(packed, 1, k, f), k);
    assert_int_equal(fclose(f), 0);
    free(packed);
}

/* All lines joined by '\n'; returns the status that ended the file. */
static slm2_status read_lines(const char *path, struct slm2_buf *out, uint64_t *n_lines, struct slm2_err *err)
{
    struct slm2_lines *l;
    const char *line;
    size_t n;
    slm2_buf_clear(out);
    *n_lines = 0;
    SLM2_TRY(slm2_lines_open(&l, path, err));
    slm2_status st;
    while ((st = slm2_lines_next(l, &line, &n, err)) == SLM2_OK && line) {
        if (slm2_lines_number(l) > 1) slm2_buf_putc(out, '\n');
        slm2_buf_put(out, line, n);
        assert_int_equal(slm2_lines_number(l), ++*n_lines);
        assert_true(slm2_lines_fraction(l) >= 0 && slm2_lines_fraction(l) <= 1);
    }
    if (st == SLM2_OK) assert_true(slm2_lines_fraction(l) == 1);
    if (st == SLM2_OK) assert_int_equal(slm2_lines_next(l, &line, &n, err), SLM2_OK); /* the end stays the end */
    assert_null(line);
    slm2_lines_close(l);
    return st;
}

static void test_lines(void **state)
{
    (void)state;
    struct slm2_buf text = {0}, got = {0};
    struct slm2_err e = {0};
    uint64_t n;
    make_text(&text, 3000);
    put_file(in_dir("t.txt"), text.v, text.n);
    put_gzip(in_dir("t.gz"), "wb", text.v, 100000); /* two members, cut inside a line */
    put_gzip(in_dir("t.gz"), "ab", text.v + 100000, text.n - 100000);
    put_zstd(in_dir("t.zst"), "wb", text.v, 100000);
    put_zstd(in_dir("t.zst"), "ab", text.v + 100000, text.n - 100000);
    static const char *const names[] = {"t.txt", "t.gz", "t.zst"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(read_lines(in_dir(names[i]), &got, &n, &e), SLM2_OK);
        assert_int_equal(n, 3000);
        assert_int_equal(got.n, text.n);
        assert_memory_equal(got.v, text.v, text.n);
    }
    put_file(in_dir("few"), "\n\na\r\n\0b\n", 8);
    assert_int_equal(read_lines(in_dir("few"), &got, &n, &e), SLM2_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(got.v, "\n\na\r\n\0b", 7);
    put_file(in_dir("few"), "", 0);
    assert_int_equal(read_lines(in_dir("few"), &got, &n, &e), SLM2_OK);
    assert_int_equal(n, 0);
    put_gzip(in_dir("few.gz"), "wb", "", 0);
    assert_int_equal(read_lines(in_dir("few.gz"), &got, &n, &e), SLM2_OK);
    assert_int_equal(n, 0);
    assert_int_equal(read_lines(in_dir("absent"), &got, &n, &e), SLM2_EIO);
    slm2_buf_free(&text);
    slm2_buf_free(&got);
}

static void test_lines_limit(void **state)
{
    (void)state;
    struct slm2_buf text = {0};
    struct slm2_err e = {0};
    struct slm2_lines *l;
    const char *line;
    size_t n;
    slm2_buf_puts(&text, "first\n");
    for (int i = 0; i < 300000; i++) slm2_buf_putc(&text, 'x');
    slm2_buf_puts(&text, "\n12345\n123456\n12");
    put_file(in_dir("long"), text.v, text.n);
    assert_int_equal(slm2_lines_open(&l, in_dir("long"), &e), SLM2_OK);
    slm2_lines_limit(l, 5);
    assert_int_equal(slm2_lines_next(l, &line, &n, &e), SLM2_OK);
    assert_int_equal(slm2_lines_next(l, &line, &n, &e), SLM2_ELIMIT);
    assert_true(holds(e.msg, "line 2 has 300000 bytes, at most 5"));
    assert_int_equal(slm2_lines_next(l, &line, &n, &e), SLM2_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(line, "12345", 5);
    assert_int_equal(slm2_lines_next(l, &line, &n, &e), SLM2_ELIMIT);
    assert_int_equal(slm2_lines_next(l, &line, &n, &e), SLM2_OK);
    assert_memory_equal(line, "12", 2);
    assert_int_equal(slm2_lines_number(l), 5);
    slm2_lines_close(l);
    slm2_buf_free(&text);
}

/* Every truncation of a compressed file is reported, and so is every flipped byte that changes the text. */
static void test_lines_damaged(void **state)
{
    (void)state;
    struct slm2_buf text = {0}, packed = {0}, got = {0};
    struct slm2_err e = {0};
    uint64_t n;
    for (int i = 0; i < 60; i++) slm2_buf_printf(&text, "line %d has the square %d\n", i, i * i);
    static const char *const names[] = {"d.gz", "d.zst"};
    for (int i = 0; i < 2; i++) {
        (i ? put_zstd : put_gzip)(in_dir(names[i]), "wb", text.v, text.n);
        slm2_buf_clear(&packed);
        assert_int_equal(slm2_file_read(&packed, in_dir(names[i]), 1 << 20, &e), SLM2_OK);
        for (size_t cut = 4; cut < packed.n; cut++) { /* shorter ones are not known as compressed */
            put_file(in_dir("cut"), packed.v, cut);
            assert_int_equal(read_lines(in_dir("cut"), &got, &n, &e), SLM2_EFORMAT);
            assert_true(holds(e.msg, "truncated"));
        }
        for (size_t at = 4; at < packed.n; at++) {
            packed.v[at] ^= 0x10;
            put_file(in_dir("flip"), packed.v, packed.n);
            slm2_status st = read_lines(in_dir("flip"), &got, &n, &e);
            if (i == 0) assert_true(st == SLM2_EFORMAT || (got.n == text.n - 1 && !memcmp(got.v, text.v, got.n))); /* gzip has a CRC */
            packed.v[at] ^= 0x10;
        }
        slm2_buf_puts(&packed, "rubbish");
        put_file(in_dir("behind"), packed.v, packed.n);
        assert_int_equal(read_lines(in_dir("behind"), &got, &n, &e), SLM2_EFORMAT);
        assert_int_equal(n, 60); /* whole lines before the damage were given */
    }
    slm2_buf_free(&text);
    slm2_buf_free(&packed);
    slm2_buf_free(&got);
}

/* ---- JSON --------------------------------------------------------------------------------------------------------------- */
static slm2_status parse(const char *text, struct slm2_err *e)
{
    json_t *j;
    slm2_status st = slm2_json_parse(&j, text, strlen(text), "x.json", e);
    if (st == SLM2_OK) json_decref(j);
    return st;
}

static void test_json_parse(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{", "{\"a\":1,\"a\":2}", "[1] 2", "\"\xff\"", "{\"a\" 1}", "[1e999]", "nul", "[\"\n\"]",
                                      "[123456789012345678901234567890]"};
    static const char *const good[] = {"null", " [1, 2.5, \"x\\u0000y\"] ", "{\"a\": {\"b\": []}}", "\"\\ud83d\\ude00\""};
    struct slm2_err e = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse(bad[i], &e), SLM2_EFORMAT);
        assert_true(holds(e.msg, "x.json: line "));
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) assert_int_equal(parse(good[i], &e), SLM2_OK);
    struct slm2_buf deep = {0};
    for (int i = 0; i < 100000; i++) slm2_buf_putc(&deep, '[');
    assert_int_equal(parse(deep.v, &e), SLM2_EFORMAT);
    slm2_buf_free(&deep);
}

/* Any bytes as text: what is UTF-8 stays, NUL too; each other byte is U+FFFD.  Jansson takes the result. */
static void test_json_text(void **state)
{
#define X "\xEF\xBF\xBD"
    static const struct { const char *bytes; size_t n; const char *text; size_t n_text; } cases[] = {
        {"", 0, "", 0}, {"a\0b", 3, "a\0b", 3}, {"\xC3\xA9\xF0\x9F\x98\x80", 6, "\xC3\xA9\xF0\x9F\x98\x80", 6}, {"a\xFF\0b", 4, "a" X "\0b", 6}, {"\xE2\x82", 2, X X, 6}, {"\xE2\x82" "a", 3, X X "a", 7},
        {"\xC0\x80", 2, X X, 6}, {"\xED\xA0\x80", 3, X X X, 9}, {"\xF4\x90\x80\x80", 4, X X X X, 12}, {"\x80\xC3", 2, X X, 6}};
#undef X
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slm2_buf b = {0};
        json_t *j = slm2_json_text(cases[i].bytes, cases[i].n);
        slm2_utf8_clean(cases[i].bytes, cases[i].n, &b);
        assert_true(j && json_string_length(j) == cases[i].n_text && b.n == cases[i].n_text);
        assert_memory_equal(json_string_value(j), cases[i].text, cases[i].n_text);
        if (b.n) assert_memory_equal(b.v, cases[i].text, b.n);
        json_decref(j);
        slm2_buf_free(&b);
    }
    json_t *nan = slm2_json_real((double)NAN, NULL), *inf = slm2_json_real((double)INFINITY, "N/A"), *one = slm2_json_real(1, "N/A");
    assert_true(json_is_null(nan) && json_is_string(inf) && json_real_value(one) == 1);
    json_decref(inf);
    json_decref(one);
    json_t *none = slm2_json_text(NULL, 0); /* of an empty buffer */
    assert_true(none && json_string_length(none) == 0);
    json_decref(none);
}

static void test_json_members(void **state)
{
    (void)state;
    static const char text[] = "{\"s\": \"text\", \"i\": 7, \"r\": 0.5, \"whole\": 1e3, \"b\": true, \"none\": null, \"a\": []}";
    struct slm2_err e = {0};
    json_t *j, *back;
    const char *s;
    int64_t i;
    double r;
    bool b;
    assert_int_equal(slm2_json_parse(&j, text, sizeof text - 1, "x", &e), SLM2_OK);
    assert_int_equal(slm2_json_get_str(j, "s", "x", &s, &e), SLM2_OK);
    assert_string_equal(s, "text");
    assert_int_equal(slm2_json_get_str(j, "i", "x", &s, &e), SLM2_EFORMAT);
    assert_string_equal(e.msg, "x: \"i\" is an integer, want a string");
    assert_int_equal(slm2_json_get_str(j, "none", "x", &s, &e), SLM2_EFORMAT);
    assert_int_equal(slm2_json_get_int(j, "i", "x", 0, 7, &i, &e), SLM2_OK);
    assert_int_equal(i, 7);
    assert_int_equal(slm2_json_get_int(j, "i", "x", 0, 6, &i, &e), SLM2_EFORMAT);
    assert_string_equal(e.msg, "x: \"i\" is 7, want an integer in [0, 6]");
    assert_int_equal(slm2_json_get_int(j, "whole", "x", 0, 2000, &i, &e), SLM2_OK);
    assert_int_equal(i, 1000);
    assert_int_equal(slm2_json_get_int(j, "r", "x", 0, 6, &i, &e), SLM2_EFORMAT);
    assert_int_equal(slm2_json_get_int(j, "absent", "x", 0, 6, &i, &e), SLM2_EFORMAT);
    assert_int_equal(slm2_json_get_int_or(j, "absent", "x", 0, 6, 5, &i, &e), SLM2_OK);
    assert_int_equal(i, 5);
    assert_int_equal(slm2_json_get_real_or(j, "i", "x", 1, &r, &e), SLM2_OK);
    assert_true(r == 7);
    assert_int_equal(slm2_json_get_real_or(j, "none", "x", 1, &r, &e), SLM2_OK);
    assert_true(r == 1);
    assert_int_equal(slm2_json_get_real_or(j, "a", "x", 1, &r, &e), SLM2_EFORMAT);
    assert_int_equal(slm2_json_get_bool_or(j, "b", "x", false, &b, &e), SLM2_OK);
    assert_true(b);
    assert_int_equal(slm2_json_get_bool_or(j, "i", "x", false, &b, &e), SLM2_EFORMAT);
    assert_int_equal(slm2_json_get_int(NULL, "i", "x", 0, 6, &i, &e), SLM2_EFORMAT);

    struct slm2_buf out = {0};
    slm2_json_dump(j, &out);
    assert_string_equal(out.v, "{\"s\":\"text\",\"i\":7,\"r\":0.5,\"whole\":1000.0,\"b\":true,\"none\":null,\"a\":[]}");
    slm2_buf_free(&out);
    assert_int_equal(slm2_json_write(j, in_dir("j.json"), &e), SLM2_OK);
    assert_int_equal(slm2_json_read(&back, in_dir("j.json"), 5, &e), SLM2_ELIMIT);
    assert_int_equal(slm2_json_read(&back, in_dir("j.json"), 1 << 20, &e), SLM2_OK);
    assert_true(json_equal(j, back));
    json_decref(j);
    json_decref(back);
}

/* ---- random numbers ------------------------------------------------------------------------------------------------------ */
/* Known answers of Philox 4x32-10 that its authors publish with Random123 (kat_vectors); purpose 0 leaves the key as the seed. */
static void test_rng_known(void **state)
{
    (void)state;
    assert_true(slm2_rng_u64(0, 0, 0, 0) == 0xe169c58d6627e8d5u);
    assert_true(slm2_rng_u64(UINT64_MAX, 0, UINT64_MAX, UINT64_MAX) == 0x41c83b0e408f276du);
    assert_true(slm2_rng_u64(0x299f31d0a4093822u, 0, 0x0370734413198a2eu, 0x85a308d3243f6a88u) == 0x94fdccebd16cfe09u);
    assert_true(slm2_rng_u64(1, SLM2_RNG_INIT, 0, 0) != slm2_rng_u64(1, SLM2_RNG_SHUFFLE, 0, 0));
}

static void test_rng_moments(void **state)
{
    (void)state;
    enum { N = 100000 };
    double sum = 0, sum2 = 0, uniform = 0;
    int hits[7] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double x = (double)slm2_rng_normal(5, SLM2_RNG_TEST, 1, i), u = slm2_rng_uniform(5, SLM2_RNG_TEST, 2, i);
        assert_true(isfinite(x) && u >= 0 && u < 1);
        sum += x;
        sum2 += x * x;
        uniform += u;
        hits[slm2_rng_below(5, SLM2_RNG_TEST, 3, i, 7)]++;
    }
    /* within five standard errors: 1/sqrt(N), sqrt(2/N), sqrt(1/12N), sqrt(6/49 N) */
    assert_true(fabs(sum / N) < 5 * 0.00317);
    assert_true(fabs(sum2 / N - 1) < 5 * 0.00448);
    assert_true(fabs(uniform / N - 0.5) < 5 * 0.000913);
    for (int i = 0; i < 7; i++) assert_true(fabs(hits[i] - N / 7.0) < 5 * 111);
    assert_int_equal(slm2_rng_below(1, SLM2_RNG_TEST, 0, 0, 1), 0);

    uint32_t idx[1000];
    bool seen[1000] = {false};
    int moved = 0;
    slm2_rng_permute(9, SLM2_RNG_SHUFFLE, 0, idx, 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(idx[i] < 1000 && !seen[idx[i]]);
        seen[idx[i]] = true;
        moved += idx[i] != i;
    }
    assert_true(moved > 950);
    slm2_rng_permute(9, SLM2_RNG_SHUFFLE, 0, idx, 0);
}

/* ---- number formats ------------------------------------------------------------------------------------------------------ */
static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static void test_f16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = slm2_f16_to_f32((uint16_t)h);
        uint16_t back = slm2_f32_to_f16(f);
        if (isnan(f)) {
            assert_true((h & 0x7fff) > 0x7c00 && (back & 0x7fff) > 0x7c00 && (back & 0x8000) == (h & 0x8000));
            continue;
        }
        assert_int_equal(back, h);
        double want = h & 0x7c00 ? ldexp(1024 + (h & 1023), (int)(h >> 10 & 31) - 25) : ldexp(h & 1023, -24);
        if ((h & 0x7fff) == 0x7c00) want = (double)INFINITY;
        assert_true((double)f == (h & 0x8000 ? -want : want));
        if ((h & 0x7fff) >= 0x7bff) continue;
        float next = slm2_f16_to_f32((uint16_t)(h + 1)), middle = (f + next) / 2; /* exact in single */
        assert_int_equal(slm2_f32_to_f16(middle), (h & 1) ? h + 1 : h);           /* ties go to even */
        assert_int_equal(slm2_f32_to_f16(from_bits(bits(middle) - 1)), h);
        assert_int_equal(slm2_f32_to_f16(from_bits(bits(middle) + 1)), h + 1);
    }
    assert_int_equal(slm2_f32_to_f16(65519.99f), 0x7bff);
    assert_int_equal(slm2_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(slm2_f32_to_f16(-1e30f), 0xfc00);
}

static void test_bf16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t back = slm2_f32_to_bf16(slm2_bf16_to_f32((uint16_t)h));
        assert_int_equal(back, (h & 0x7fff) > 0x7f80 ? (h | 0x40) : h);
    }
    FILE *f = fopen(slm2_test_data("golden/bf16/vectors.txt"), "r");
    char line[256];
    int n = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        unsigned u, want;
        if (line[0] == '#' || sscanf(line, "%8x %4x", &u, &want) != 2) continue;
        uint16_t got = slm2_f32_to_bf16(from_bits(u));
        if ((u & 0x7fffffff) > 0x7f800000) {
            assert_true((got & 0x7fff) > 0x7f80);
        } else {
            assert_int_equal(got, want);
        }
        n++;
    }
    fclose(f);
    printf("bf16 vectors: %d\n", n);
    assert_true(n > 100);
}

static void test_sizes(void **state)
{
    (void)state;
    size_t n;
    assert_false(slm2_mul_size(SIZE_MAX / 2, 3, &n));
    assert_false(slm2_add_size(SIZE_MAX, 1, &n));
    assert_true(slm2_mul_size(1 << 20, 3, &n) && n == 3 << 20);
    assert_int_equal(slm2_align_up(65, 32), 96);
    double a = slm2_now_s();
    assert_true(slm2_now_s() >= a && slm2_cpu_s() > 0 && slm2_peak_rss_bytes() > 100000);
}

static void collect(enum slm2_log_level level, const char *text, void *user)
{
    slm2_buf_printf(user, "%d %s;", (int)level, text);
}

static void test_log(void **state)
{
    (void)state;
    struct slm2_buf b = {0};
    slm2_log(SLM2_WARN, "nobody hears");
    slm2_log_sink(collect, &b);
    slm2_log(SLM2_INFO, "step %d", 3);
    slm2_log_sink(NULL, NULL);
    slm2_log(SLM2_WARN, "nobody hears");
    assert_string_equal(b.v, "1 step 3;");
    slm2_progress("work", (double)NAN, "loss %.1f", 1.0);
    slm2_progress_end();
    slm2_buf_free(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_err),
    cmocka_unit_test(test_buf),
    cmocka_unit_test(test_arena),
    cmocka_unit_test(test_dtype),
    cmocka_unit_test(test_reader),
    cmocka_unit_test_setup_teardown(test_file, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(forgotten_pages_are_no_memory_of_ours, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_dirs, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_out, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_out_full_disk, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_lines, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_lines_limit, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(test_lines_damaged, make_dir, remove_dir),
    cmocka_unit_test(test_json_parse),
    cmocka_unit_test(test_json_text),
    cmocka_unit_test_setup_teardown(test_json_members, make_dir, remove_dir),
    cmocka_unit_test(test_rng_known),
    cmocka_unit_test(test_rng_moments),
    cmocka_unit_test(test_f16),
    cmocka_unit_test(test_bf16),
    cmocka_unit_test(test_sizes),
    cmocka_unit_test(test_log),
};
SLM2_TEST_MAIN(tests)
