/* comm.h - the ranks of a run and the few collectives that training uses.  One rank is a process; all run the same program on the same settings.
 *
 * comm_self.c is a run of one process, comm_mpi.c (the only file that knows MPI) one that mpirun or srun has started.  No collective adds numbers:
 * MPI promises no order for that, so values are exchanged and added here (zero.h).
 * All ranks make the same calls in the same order, from one thread each.  A failed call leaves the ranks out of step: close and end. */
#ifndef SLM2_DIST_COMM_H
#define SLM2_DIST_COMM_H
#include "base/err.h"

enum { SLM2_COMM_SLOTS = 16 }; /* exchanges under way at a time */

struct slm2_piece { size_t at, bytes; }; /* what concerns one rank in a buffer; at most 1 GiB */

struct slm2_comm;
struct slm2_comm_ops {
    const char *name; /* "self", "mpi" */
    /* all[r * bytes] = mine of rank r */
    slm2_status (*all_gather)(struct slm2_comm *c, void *all, const void *mine, size_t bytes, struct slm2_err *err);
    slm2_status (*send)(struct slm2_comm *c, int to, const void *p, size_t bytes, struct slm2_err *err); /* bytes <= 1 GiB */
    slm2_status (*recv)(struct slm2_comm *c, int from, void *p, size_t bytes, struct slm2_err *err);
    /* Started, finished by wait on the same slot; buffers stay untouched until then.
     * exchange: piece out[r] of send goes to rank r, piece in[r] of recv comes from it; nothing is sent to oneself (out and in of the own rank are ignored).
     * share: piece p[r] of buf is rank r's; all get all. */
    slm2_status (*start_exchange)(struct slm2_comm *c, int slot, const void *send, const struct slm2_piece *out, void *recv, const struct slm2_piece *in, struct slm2_err *err);
    slm2_status (*start_share)(struct slm2_comm *c, int slot, void *buf, const struct slm2_piece *p, struct slm2_err *err);
    slm2_status (*poll)(struct slm2_comm *c, struct slm2_err *err); /* lets what is under way go on; called now and then while computing */
    slm2_status (*wait)(struct slm2_comm *c, int slot, struct slm2_err *err); /* fine when nothing is under way there */
    void (*close)(struct slm2_comm *c);
};
struct slm2_comm {
    const struct slm2_comm_ops *ops;
    int rank, n_rank;
    int n_share;      /* ranks that may run on the same cores as this one, itself included: who divides them */
    double timeout_s; /* longest wait for the other ranks; 0: for ever */
    bool broken;      /* a call has failed, or this rank has failed on the way to one: the ranks are out of step */
    void *impl;
    struct slm2_rank_status *verdicts; /* [n_rank] of slm2_comm_agree */
};

/* A process that runs alone. */
void slm2_comm_self(struct slm2_comm *c);

struct slm2_comm_opts {
    /* Called from a thread of its own on the lowest surviving rank of a host when another rank of that host has died; must end the process.  NULL: end silently. */
    void (*lost)(int rank, long pid, const char *host);
};
/* All ranks of the launcher's job; SLM2_EUSAGE in a build without MPI.  Once a process. */
slm2_status slm2_comm_mpi(struct slm2_comm *c, const struct slm2_comm_opts *o, struct slm2_err *err);
/* Every rank comes here, with its result agreed on; when broken, this one ends all others. */
void slm2_comm_close(struct slm2_comm *c);

/* The result of a step that each rank did for itself, made the result of all: the first failed rank's, whose message gets its number.
 * When broken, this rank's own: there is nothing to be agreed on any more. */
slm2_status slm2_comm_agree(struct slm2_comm *c, slm2_status st, struct slm2_err *err);
#endif
