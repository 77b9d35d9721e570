/* build_impl.h - what the files of a build share: the builder (build.c), and the blocks of documents that run through it (pipeline.c). */
#ifndef SLM2_DATA_BUILD_IMPL_H
#define SLM2_DATA_BUILD_IMPL_H
#include "data/build.h"
#include "data/corpus.h"
#include "data/dedup.h"
#include "data/quality.h"
#include "data/shard.h"
#include "tok/tok.h"

extern const char *const slm2_data_on_bad[]; /* names of on_bad_line */

struct slm2_build_counts { /* of a source */
    int64_t lines, duplicates, near_duplicates, too_short, too_long;
    int64_t verdict[SLM2_N_VERDICT], filtered[SLM2_N_QUALITY_RULE];
    int64_t doc[SLM2_N_DATA_SPLIT], tok[SLM2_N_DATA_SPLIT], bytes[SLM2_N_DATA_SPLIT], chars[SLM2_N_DATA_SPLIT];
    json_t *languages, *licenses, *first_bad; /* documents of each; {file, line, verdict, reason} */
    json_t *first_near; /* {file, line, id, similarity, of}: of is the number of a document of the folder, source by source */
    json_t *identified; /* documents that came to the filter by the language it identified */
};

struct slm2_builder {
    const struct slm2_data_opts *o;
    struct slm2_tok *tok;
    char tok_sha256[65];
    int n_threads;
    struct slm2_langid *langid;            /* NULL: no filter needs it */
    struct slm2_seen seen;
    struct slm2_near *near; /* NULL: off */
    char key[65]; /* of the last source */
    int at;       /* source under work */
    struct slm2_data_speed speed;

    /* of that source */
    const struct slm2_quality_opts *filter; /* NULL: none */
    struct slm2_build_counts c;
    struct slm2_shard_out *out[SLM2_N_DATA_SPLIT];
    struct slm2_scratch keys; /* struct slm2_text_key of each document taken, for NAME.seen */
    size_t n_keys;
    int64_t first_sig; /* number in near of its first document */
};

/* Takes every document of the source's files through the stages, in order, into b->out, b->keys and b->c. */
slm2_status slm2_pipeline_run(struct slm2_builder *b, const struct slm2_data_source_opts *s, struct slm2_err *err);
#endif
