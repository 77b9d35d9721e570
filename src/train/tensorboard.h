/* tensorboard.h - the metrics of a run as TensorBoard event files, beside the ledger, which stays the record.
 *
 * DIR/events.out.tfevents.SECONDS.HOST.PID.N: a new file for each start.  Records in TFRecord form,
 *     uint64 length | uint32 masked CRC-32C of it | length bytes | uint32 masked CRC-32C of them        little-endian
 * each a protobuf Event.  The first holds the version "brain.Event:2"; the second, in a resumed run, a SessionLog START at the next
 * step: readers then drop what the broken-off start had written from there on.  Then one scalar (simple_value) a record, and another START
 * wherever the ledger is rewound (a rollback).
 * Tags: "train/loss" for metric loss, "valid/loss.de" for valid_loss.de.  A disk that fills ends the writing with a warning, not the run. */
#ifndef SLM2_TRAIN_TENSORBOARD_H
#define SLM2_TRAIN_TENSORBOARD_H
#include "train/ledger.h"

struct slm2_tb;
/* resume_step: updates already made; 0 for a fresh run. */
slm2_status slm2_tb_open(struct slm2_tb **t, const char *dir, int64_t resume_step, struct slm2_err *err);
void slm2_tb_close(struct slm2_tb *t); /* NULL allowed; writes what waits */
/* Listens to l until both are closed; written out at l's commits.  t must live as long as l. */
void slm2_tb_listen(struct slm2_tb *t, struct slm2_ledger *l);

/* The parts, for tests: a record (16 bytes more than n), a scalar's event; wall_s: seconds since 1970. */
uint32_t slm2_crc32c(const void *p, size_t n);
void slm2_tb_put_record(struct slm2_buf *out, const void *event, size_t n);
void slm2_tb_put_scalar(struct slm2_buf *out, double wall_s, int64_t step, const char *metric, double value);
#endif
