/* build.h - text corpora to a folder of token files, and what such a folder holds.
 *
 * DIR/NAME.bin .idx           training documents of source NAME          DIR/NAME.val.bin .idx   held-out documents
 * DIR/NAME.json               what is known of the source; appears when its files are complete
 * DIR/NAME.seen               16 bytes a document: hash of its NFC text, for finding duplicates in later sources
 * DIR/NAME.minhash            with near_dup: the signature of each document, uint16_t [near_dup.hashes], in the order of NAME.seen
 * DIR/manifest.json           appears last: the build is complete
 * DIR/verified.json           which files were hashed in which state, see verify.h: the only file that depends on the machine
 * A build that was interrupted goes on: sources that are complete and whose inputs, settings and predecessors are the same are kept. */
#ifndef SLM2_DATA_BUILD_H
#define SLM2_DATA_BUILD_H
#include <jansson.h>
#include <signal.h>

#include "data/minhash.h"

enum { SLM2_SPLIT_TRAIN, SLM2_SPLIT_VAL, SLM2_N_DATA_SPLIT };

/* The work on a document, in order.  All but DEDUP, which needs the documents before, runs beside that on other documents. */
enum slm2_data_stage { SLM2_STAGE_READ, SLM2_STAGE_PARSE, SLM2_STAGE_HASH, SLM2_STAGE_FILTER, SLM2_STAGE_MINHASH, SLM2_STAGE_DEDUP, SLM2_STAGE_TOKENIZE, SLM2_STAGE_WRITE, SLM2_N_STAGE };
struct slm2_data_speed {
    double cpu_s[SLM2_N_STAGE];     /* of all threads */
    int64_t bytes[SLM2_N_STAGE];    /* of the files' decompressed bytes (READ, PARSE) or of text that came so far */
    double inputs_s, wall_s;        /* the clock: hashing the input files; all of it */
    int n_threads;
};
extern const char *const slm2_data_stages[SLM2_N_STAGE]; /* names */

struct slm2_data_source_opts {
    char *name;
    struct slm2_conf_list path; /* char *: files, in order */
    int format;                 /* enum slm2_corpus_form */
    char *text_field, *id_field, *lang_field, *license_field; /* JSONL: keys or paths of the record, "meta.language" */
    double weight;              /* 0: as many as it has tokens */
    char *lang, *license;       /* for records that do not say it themselves */
    double val_fraction;        /* -1: the build's */
    char *filter;               /* name of a set of rules, "": the build's, "none" */
    int split;                  /* 0 by hash, 1 all training, 2 all held out */
};
struct slm2_data_opts {
    char *out, *vocab;          /* vocab "": the bundled Arcade100k */
    struct slm2_conf_list sources; /* struct slm2_data_source_opts */
    struct slm2_conf_list filters; /* struct slm2_quality_opts */
    char *filter;                  /* the one of sources that name none; "": none */
    double val_fraction;
    int64_t seed;               /* of the validation split */
    int on_bad_line;            /* 0 skip, 1 fatal */
    int64_t min_bytes, max_bytes, max_line_bytes;
    bool dedup, append_eos;
    struct slm2_near_opts near; /* near_dup.* */
    int n_threads;              /* 0: one per core */
    /* not settings */
    const volatile sig_atomic_t *stop; /* nonzero asks to stop between blocks of documents (SLM2_ESTOP); NULL allowed */
    struct slm2_data_speed *speed;     /* receives what each stage took; NULL allowed */
};
extern const struct slm2_opt slm2_data_table[];

/* Builds o->out.  Logs what it does; progress on a terminal. */
slm2_status slm2_data_build(const struct slm2_data_opts *o, struct slm2_err *err);

/* ---- a built folder ------------------------------------------------------------------------------------------------- */
struct slm2_dataset_source {
    char *name, *lang, *license;                       /* "" when unknown or mixed */
    double weight;                                     /* as configured, or its training tokens */
    char *prefix[SLM2_N_DATA_SPLIT];                   /* of .bin and .idx; NULL when the split holds no document */
    int64_t n_doc[SLM2_N_DATA_SPLIT], n_tok[SLM2_N_DATA_SPLIT], n_bytes[SLM2_N_DATA_SPLIT], n_chars[SLM2_N_DATA_SPLIT];
    char sha256[SLM2_N_DATA_SPLIT][65];                /* of .bin */
};
struct slm2_dataset {
    struct slm2_dataset_source *v;
    int n;
    int32_t vocab_size, eos;
    char manifest_sha256[65]; /* for the run's ledger */
};
slm2_status slm2_dataset_open(struct slm2_dataset *d, const char *dir, struct slm2_err *err); /* reads the manifest */
void slm2_dataset_free(struct slm2_dataset *d);
/* The manifest itself, checked to be one; hex: its SHA-256, NULL allowed. */
slm2_status slm2_dataset_manifest(const char *dir, json_t **j, char hex[65], struct slm2_err *err);

struct slm2_data_stats { /* of one .bin/.idx */
    int64_t n_doc, n_tok, n_bytes;    /* bytes: of the text of all tokens but special ones */
    int64_t length[32];               /* [k] documents of 2^k to 2^(k+1) - 1 tokens; empty ones in [0] */
    int64_t min_len, max_len, n_distinct;
    double entropy_nats;              /* of the unigram distribution, a token */
    double bits_per_byte;             /* entropy * n_tok / (ln 2 * n_bytes) */
};
slm2_status slm2_data_stats(struct slm2_data_stats *s, const char *prefix, const struct slm2_tok *tok, struct slm2_err *err);
#endif
