/* convo.h - data sets of conversations for supervised fine-tuning: records in their published shapes (convo_format.h) -> ids and loss mask,
 * without what is unusable, too long or there already, and an account of each data set. */
#ifndef SLM2_DATA_CONVO_H
#define SLM2_DATA_CONVO_H
#include <signal.h>

#include "base/conf.h"
#include "base/scratch.h"
#include "data/convo_format.h"
#include "data/dedup.h"
#include "model/batch.h"

/* A data set as the settings name it. */
struct slm2_convo_set {
    struct slm2_conf_list path; /* of char *: JSON lines or JSON arrays, plain, .gz, .zst */
    char *name;                 /* "": the format's, or of format `messages` the first file's */
    int format;                 /* enum slm2_convo_format */
    double repeat;              /* how often a pass sees each conversation; 0.5: a seeded half of them */
};
extern const struct slm2_opt slm2_convo_set_table[]; /* rows of one; a plain text is its path */

extern const char *const slm2_convo_turns[]; /* what the limit of turns counts: "messages", "exchanges" */
struct slm2_convo_opts {
    const char *chat;        /* template: "zephyr", "chatml" */
    int n_ctx;               /* a conversation longer than n_ctx + 1 tokens loses its end or is dropped */
    bool drop_long;
    int max_turns;           /* longer conversations are dropped; 0: no limit */
    int turns;               /* index into slm2_convo_turns; system messages never count */
    bool all_tokens;         /* loss on every token, not only on what the assistant says */
    bool empty_system;       /* an empty system message in front of conversations without one */
    bool dedup;              /* drop what is, token for token, a conversation that came before, in whatever data set */
    size_t max_line_bytes;   /* 0: 64 MiB */
    bool bad_is_fatal;       /* a record that does not fit its format is an error, else counted and left out */
    bool count_only;         /* lengths and counts, no tokens: for a plan */
    const char *dir;         /* tokens lie in unnamed files there, which the kernel may page out; NULL: in memory */
    int n_threads;           /* 0: one per core; the result is the same */
    const volatile sig_atomic_t *stop; /* nonzero: SLM2_ESTOP before the next block; may be NULL */
};
struct slm2_convo_opts slm2_convo_opts_default(void); /* zephyr, 4096, cut, no limit of turns, assistant only, dedup, skip */

/* What became of a record, in the order in which it is judged. */
enum slm2_convo_fate { SLM2_CONVO_KEPT, SLM2_CONVO_INVALID, SLM2_CONVO_TURNS, SLM2_CONVO_DUPLICATE, SLM2_CONVO_TOO_LONG, SLM2_CONVO_NOTHING_LEARNT, SLM2_CONVO_N_FATE };
extern const char *const slm2_convo_fates[SLM2_CONVO_N_FATE]; /* "kept", "invalid", "too_many_turns", "duplicate", "too_long", "nothing_learnt" */

struct slm2_convo_count {
    char name[80];                      /* no two of a run are equal */
    int format;
    double repeat;
    int first, n;                       /* its conversations: first .. first + n - 1 */
    int64_t read, fate[SLM2_CONVO_N_FATE]; /* read = sum of all fates */
    int64_t truncated;                  /* kept without their end */
    int64_t tokens, assistant_tokens;   /* of what was kept; those that the mask marks when the assistant alone is learnt */
};
struct slm2_convo_file { const char *path; int set; int64_t conversations, tokens; }; /* path is the settings' */

struct slm2_convos {
    int n;                   /* conversations */
    int n_ctx;
    size_t n_tok;
    int64_t *start;          /* [n + 1] first token of each in ids */
    int32_t *ids;            /* [n_tok]; NULL with count_only */
    uint8_t *mask;           /* [n_tok], aligned with ids: 1 = this token is learnt */
    struct slm2_text_key hash; /* of ids and mask, conversation by conversation */
    struct slm2_convo_count *set; /* [n_set] */
    struct slm2_convo_file *file; /* [n_file] */
    int n_set, n_file;
    struct slm2_scratch ids_file, mask_file; /* where ids and mask lie */
};
/* Reads the data sets in their order; c is zeroed first.  5 bytes a token and 8 a conversation, and 32 to 64 a conversation while it reads (dedup).
 * A data set of which no record fits its format is an error. */
slm2_status slm2_convos_load(struct slm2_convos *c, const struct slm2_convo_set *sets, int n_sets, const struct slm2_tok *tok, const struct slm2_convo_opts *o,
                             struct slm2_err *err);
void slm2_convos_free(struct slm2_convos *c);
#endif
