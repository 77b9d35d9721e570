/* arena.c - one anonymous mapping per arena: zeroed by the kernel, backed by memory only where it is touched. */
#include "base/arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

slm2_status slm2_arena_init(struct slm2_arena *a, size_t size, const char *what, struct slm2_err *err)
{
    size_t bytes = size ? size : SLM2_ALIGN;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
    flags |= MAP_NORESERVE;
#endif
    *a = (struct slm2_arena){0};
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (p == MAP_FAILED) {
        return slm2_fail(err, SLM2_ENOMEM, "%s: %.1f MiB of memory: %s", what, (double)bytes / (1 << 20), strerror(errno));
    }
#ifdef MADV_HUGEPAGE
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* fewer page walks; a wish, of no consequence where it is refused */
#endif
    a->base = p;
    a->size = bytes;
    return SLM2_OK;
}

void slm2_arena_free(struct slm2_arena *a)
{
    if (!a) return;
    if (a->base) munmap(a->base, a->size);
    *a = (struct slm2_arena){0};
}

void *slm2_arena_take(struct slm2_arena *a, size_t bytes)
{
    if (bytes > a->size - a->used) return NULL; /* also rules out that the rounding below overflows */
    void *p = a->base + a->used;
    size_t piece = slm2_arena_piece(bytes);
    a->used = piece > a->size - a->used ? a->size : a->used + piece;
    return p;
}
