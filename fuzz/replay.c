/* replay.c - drives a fuzz target without a fuzzer: runs saved inputs and, with --mutate N, N deterministic changes of each
 * (truncations, flipped and overwritten bytes, hostile counts).  Every input lies in a heap block of exactly its size, so that a
 * sanitizer sees the first byte read behind the end.  usage: fuzz_NAME [--mutate N] FILE|FOLDER... */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int n_inputs, n_failed;
static long n_runs;

static void run_once(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) return;
    if (n) memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
    n_runs++;
}

static uint64_t next(uint64_t *s) /* SplitMix64 */
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A third truncations (every length when the input is short), the rest one to four changed places.  Half of the places lie in the
 * first 256 bytes, where headers are. */
static void run_mutations(const uint8_t *data, size_t n, int n_mutations)
{
    static const uint64_t hostile[] = {0, 1, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff, 0x80000000, 0x100000000};
    uint64_t seed = 0x736c6d32u + n;
    int n_cut = n_mutations / 3;
    for (int i = 0; i < n_cut; i++) run_once(data, n <= (size_t)n_cut ? (size_t)i % (n + 1) : next(&seed) % n);
    uint8_t *m = malloc(n ? n : 1);
    if (!m || n == 0) {
        free(m);
        return;
    }
    for (int i = n_cut; i < n_mutations; i++) {
        memcpy(m, data, n);
        for (uint64_t k = 1 + next(&seed) % 4; k-- > 0;) {
            uint64_t r = next(&seed);
            size_t span = r & 1 && n > 256 ? 256 : n, at = (size_t)(next(&seed) % span);
            if ((r >> 1 & 3) == 0) {
                m[at] ^= (uint8_t)(1u << (r >> 8 & 7));
            } else if ((r >> 1 & 3) == 1) {
                m[at] = (uint8_t)(r >> 16);
            } else if ((r >> 1 & 3) == 2) {
                size_t width = (r & 8) ? 8 : 4, left = n - at;
                memcpy(m + at, &hostile[r >> 16 & 7], left < width ? left : width);
            } else {
                m[at] = "\0\xff{}[]\",:-9e"[r >> 16 & 7];
            }
        }
        run_once(m, n);
    }
    free(m);
}

static void run_file(const char *path, int n_mutations)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    size_t n = 0, cap = 0;
    bool read_whole = false;
    if (!f) goto done;
    for (;;) {
        if (n == cap) {
            uint8_t *more = realloc(data, cap = cap ? 2 * cap : 65536);
            if (!more) goto done;
            data = more;
        }
        size_t got = fread(data + n, 1, cap - n, f);
        if (got == 0) break;
        n += got;
    }
    read_whole = !ferror(f);
    if (read_whole) {
        run_once(data, n);
        run_mutations(data, n, n_mutations);
        n_inputs++;
    }
done:
    if (!read_whole) {
        fprintf(stderr, "%s: cannot be read\n", path);
        n_failed++;
    }
    if (f) fclose(f);
    free(data);
}

static int visible(const struct dirent *e) { return e->d_name[0] != '.'; }

static void run_path(const char *path, int n_mutations)
{
    struct stat st;
    if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        run_file(path, n_mutations);
        return;
    }
    struct dirent **names;
    int n = scandir(path, &names, visible, alphasort);
    for (int i = 0; i < n; i++) {
        char file[4096];
        if (snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name) < (int)sizeof file) run_path(file, n_mutations);
        free(names[i]);
    }
    if (n >= 0) free(names);
}

int main(int argc, char **argv)
{
    int n_mutations = 0, i = 1;
    if (argc > 2 && !strcmp(argv[1], "--mutate")) {
        n_mutations = (int)strtol(argv[2], NULL, 10);
        i = 3;
    }
    if (i >= argc) {
        fprintf(stderr, "usage: %s [--mutate N] FILE|FOLDER...\n", argv[0]);
        return 2;
    }
    for (; i < argc; i++) run_path(argv[i], n_mutations);
    if (n_inputs == 0) n_failed++;
    printf("%ld runs of %d inputs\n%d passed, %d failed\n", n_runs, n_inputs, n_inputs, n_failed);
    return n_failed != 0;
}
