/* arena.h - memory by lifetime: one block sized in advance, handed out in order, rewound or freed at once. */
#ifndef SLM2_BASE_ARENA_H
#define SLM2_BASE_ARENA_H
#include "base/err.h"

#define SLM2_ALIGN 64 /* every piece starts on a cache line */
struct slm2_arena { uint8_t *base; size_t size, used; };

slm2_status slm2_arena_init(struct slm2_arena *a, size_t size, const char *what, struct slm2_err *err); /* zeroed pages, mapped lazily */
void slm2_arena_free(struct slm2_arena *a);
/* NULL when the arena is full: its size was computed wrongly, which is a bug of ours, or the caller's to check. */
void *slm2_arena_take(struct slm2_arena *a, size_t bytes);
static inline size_t slm2_arena_mark(const struct slm2_arena *a) { return a->used; }
static inline void slm2_arena_rewind(struct slm2_arena *a, size_t mark) { a->used = mark; }
/* Bytes that a piece occupies: for computing sizes in advance. */
static inline size_t slm2_arena_piece(size_t bytes) { return (bytes + SLM2_ALIGN - 1) / SLM2_ALIGN * SLM2_ALIGN; }
#endif
