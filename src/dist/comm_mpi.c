/* comm_mpi.c - the ranks of a job that mpirun or srun has started.  The only file that includes mpi.h; built without MPI it says so.
 *
 * Waiting polls and sleeps in between, so that a waiting rank leaves its core to those that compute.  A thread looks at the processes of the other
 * ranks of this host ten times a second: the death of one ends the run at once and by name, also while this rank is deep in a backward pass. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "dist/comm.h"

#ifdef SLM2_MPI
#include <errno.h>
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

enum { POLL_NS = 50 * 1000, WATCH_NS = 100 * 1000 * 1000, SPINS = 200, MAX_BYTES = 1 << 30 };

struct peer {
    long pid;
    uint64_t namespace, cores; /* of processes; a hash of the set that the rank may run on */
    char host[MPI_MAX_PROCESSOR_NAME];
};

struct mpi {
    MPI_Request request[SLM2_COMM_SLOTS];
    int *count[SLM2_COMM_SLOTS]; /* [4 * n_rank] counts and places, which MPI borrows until an exchange is done */
    struct peer *peer;           /* [n_rank] */
    void (*lost)(int rank, long pid, const char *host);
    pthread_t watcher;
    bool watching;
    atomic_bool quit;
    int rank, n_rank;
};

static slm2_status fail_mpi(struct slm2_comm *c, int code, const char *what, struct slm2_err *err)
{
    c->broken = true;
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    return slm2_fail(err, SLM2_EIO, "%s between the ranks failed: %s; checkpoints are whole, the same command goes on from the newest", what, text);
}

static void pause_ns(long ns) { nanosleep(&(struct timespec){.tv_nsec = ns}, NULL); }

static slm2_status finish(struct slm2_comm *c, MPI_Request *q, const char *what, struct slm2_err *err)
{
    double start = 0;
    for (int turn = 0;; turn++) {
        int done = 0, code = MPI_Test(q, &done, MPI_STATUS_IGNORE);
        if (code != MPI_SUCCESS) return fail_mpi(c, code, what, err);
        if (done) return SLM2_OK;
        if (turn < SPINS) {
            sched_yield();
            continue;
        }
        if (turn == SPINS) start = slm2_now_s();
        else if (c->timeout_s > 0 && slm2_now_s() - start > c->timeout_s) {
            c->broken = true;
            return slm2_fail(err, SLM2_EIO, "rank %d waited %.0f s for the other ranks; one of them hangs or its host is cut off; checkpoints are whole, the same command goes on from the newest",
                             c->rank, c->timeout_s);
        }
        pause_ns(POLL_NS);
    }
}

static slm2_status mpi_all_gather(struct slm2_comm *c, void *all, const void *mine, size_t bytes, struct slm2_err *err)
{
    MPI_Request q;
    int code = bytes <= MAX_BYTES ? MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD, &q) : MPI_ERR_COUNT;
    if (code != MPI_SUCCESS) return fail_mpi(c, code, "all-gather", err);
    return finish(c, &q, "all-gather", err);
}

static slm2_status mpi_send(struct slm2_comm *c, int to, const void *p, size_t bytes, struct slm2_err *err)
{
    MPI_Request q;
    int code = bytes <= MAX_BYTES ? MPI_Isend(p, (int)bytes, MPI_BYTE, to, 0, MPI_COMM_WORLD, &q) : MPI_ERR_COUNT;
    if (code != MPI_SUCCESS) return fail_mpi(c, code, "sending", err);
    return finish(c, &q, "sending", err);
}

static slm2_status mpi_recv(struct slm2_comm *c, int from, void *p, size_t bytes, struct slm2_err *err)
{
    MPI_Request q;
    int code = bytes <= MAX_BYTES ? MPI_Irecv(p, (int)bytes, MPI_BYTE, from, 0, MPI_COMM_WORLD, &q) : MPI_ERR_COUNT;
    if (code != MPI_SUCCESS) return fail_mpi(c, code, "receiving", err);
    return finish(c, &q, "receiving", err);
}

/* Pieces as MPI's counts and places, in bytes from the first piece's place. */
static void as_counts(int *count, int *at, const struct slm2_piece *p, int n, int skip, size_t base)
{
    for (int r = 0; r < n; r++) {
        count[r] = r == skip ? 0 : (int)p[r].bytes;
        at[r] = count[r] ? (int)(p[r].at - base) : 0;
    }
}

static size_t lowest(const struct slm2_piece *p, int n)
{
    size_t low = SIZE_MAX;
    for (int r = 0; r < n; r++)
        if (p[r].bytes && p[r].at < low) low = p[r].at;
    return low == SIZE_MAX ? 0 : low;
}

static slm2_status mpi_exchange(struct slm2_comm *c, int slot, const void *send, const struct slm2_piece *out, void *recv, const struct slm2_piece *in, struct slm2_err *err)
{
    struct mpi *m = c->impl;
    int n = c->n_rank, *v = m->count[slot];
    size_t from = lowest(out, n), to = lowest(in, n);
    as_counts(v, v + n, out, n, c->rank, from);
    as_counts(v + 2 * n, v + 3 * n, in, n, c->rank, to);
    int code = MPI_Ialltoallv((const char *)send + from, v, v + n, MPI_BYTE, (char *)recv + to, v + 2 * n, v + 3 * n, MPI_BYTE, MPI_COMM_WORLD, &m->request[slot]);
    return code == MPI_SUCCESS ? SLM2_OK : fail_mpi(c, code, "exchange of gradients", err);
}

static slm2_status mpi_share(struct slm2_comm *c, int slot, void *buf, const struct slm2_piece *p, struct slm2_err *err)
{
    struct mpi *m = c->impl;
    int n = c->n_rank, *v = m->count[slot];
    size_t from = lowest(p, n);
    as_counts(v, v + n, p, n, -1, from);
    int code = MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_BYTE, (char *)buf + from, v, v + n, MPI_BYTE, MPI_COMM_WORLD, &m->request[slot]);
    return code == MPI_SUCCESS ? SLM2_OK : fail_mpi(c, code, "all-gather of parameters", err);
}

static slm2_status mpi_poll(struct slm2_comm *c, struct slm2_err *err)
{
    struct mpi *m = c->impl;
    for (int i = 0; i < SLM2_COMM_SLOTS; i++) {
        if (m->request[i] == MPI_REQUEST_NULL) continue;
        int done = 0, code = MPI_Test(&m->request[i], &done, MPI_STATUS_IGNORE); /* a done request becomes MPI_REQUEST_NULL */
        if (code != MPI_SUCCESS) return fail_mpi(c, code, "exchange", err);
    }
    return SLM2_OK;
}

static slm2_status mpi_wait(struct slm2_comm *c, int slot, struct slm2_err *err)
{
    struct mpi *m = c->impl;
    return m->request[slot] == MPI_REQUEST_NULL ? SLM2_OK : finish(c, &m->request[slot], "exchange", err);
}

/* ---- who else is there ------------------------------------------------------------------------------------------------ */
static bool same_place(const struct peer *a, const struct peer *b) { return a->namespace == b->namespace && !strcmp(a->host, b->host); }
static bool gone(const struct peer *p) { return kill((pid_t)p->pid, 0) != 0 && errno == ESRCH; }

/* The dead are seen by all; the lowest that lives speaks. */
static void *watch(void *arg)
{
    struct mpi *m = arg;
    const struct peer *self = &m->peer[m->rank];
    while (!atomic_load(&m->quit)) {
        pause_ns(WATCH_NS);
        for (int r = 0; r < m->n_rank; r++) {
            const struct peer *p = &m->peer[r];
            if (r == m->rank || !same_place(p, self) || !gone(p) || atomic_load(&m->quit)) continue;
            int first = 0;
            while (first < m->rank && (!same_place(&m->peer[first], self) || gone(&m->peer[first]))) first++;
            if (first == m->rank && m->lost) m->lost(r, p->pid, p->host);
            pause_ns(WATCH_NS); /* the one that speaks ends the job */
            _exit(1);
        }
    }
    return NULL;
}

static struct peer describe(void)
{
    struct peer p = {.pid = (long)getpid(), .cores = 14695981039346656037u};
    struct stat info;
    cpu_set_t set;
    int n = 0;
    MPI_Get_processor_name(p.host, &n);
    if (stat("/proc/self/ns/pid", &info) == 0) p.namespace = (uint64_t)info.st_ino;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &set)) p.cores = (p.cores ^ (uint64_t)(i + 1)) * 1099511628211u; /* FNV-1a */
    return p;
}

static void release(struct mpi *m)
{
    for (int i = 0; i < SLM2_COMM_SLOTS; i++) free(m->count[i]);
    free(m->peer);
    free(m);
}

static void mpi_close(struct slm2_comm *c)
{
    struct mpi *m = c->impl;
    if (c->broken) MPI_Abort(MPI_COMM_WORLD, 1); /* does not return */
    atomic_store(&m->quit, true);
    if (m->watching) pthread_join(m->watcher, NULL);
    MPI_Barrier(MPI_COMM_WORLD); /* nobody ends while another still watches */
    MPI_Finalize();
    release(m);
}

slm2_status slm2_comm_mpi(struct slm2_comm *c, const struct slm2_comm_opts *o, struct slm2_err *err)
{
    static const struct slm2_comm_ops ops = {
        .name = "mpi",
        .all_gather = mpi_all_gather,
        .send = mpi_send,
        .recv = mpi_recv,
        .start_exchange = mpi_exchange,
        .start_share = mpi_share,
        .poll = mpi_poll,
        .wait = mpi_wait,
        .close = mpi_close,
    };
    int level;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS || level < MPI_THREAD_FUNNELED)
        return slm2_fail(err, SLM2_EIO, "MPI cannot be started for a program with threads");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    *c = (struct slm2_comm){.ops = &ops};
    MPI_Comm_rank(MPI_COMM_WORLD, &c->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &c->n_rank);
    struct mpi *m = calloc(1, sizeof *m);
    if (!m) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d ranks", c->n_rank);
    c->impl = m;
    m->rank = c->rank;
    m->n_rank = c->n_rank;
    m->lost = o->lost;
    m->peer = calloc((size_t)c->n_rank, sizeof *m->peer);
    bool ok = m->peer != NULL;
    for (int i = 0; i < SLM2_COMM_SLOTS; i++) {
        m->request[i] = MPI_REQUEST_NULL;
        m->count[i] = malloc(4 * (size_t)c->n_rank * sizeof(int));
        ok = ok && m->count[i];
    }
    if (!ok) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d ranks", c->n_rank);
    struct peer self = describe();
    SLM2_TRY(mpi_all_gather(c, m->peer, &self, sizeof self, err));
    for (int r = 0; r < c->n_rank; r++) c->n_share += same_place(&m->peer[r], &self) && m->peer[r].cores == self.cores;
    m->watching = c->n_rank > 1 && pthread_create(&m->watcher, NULL, watch, m) == 0;
    return SLM2_OK;
}

#else
slm2_status slm2_comm_mpi(struct slm2_comm *c, const struct slm2_comm_opts *o, struct slm2_err *err)
{
    (void)c;
    (void)o;
    return slm2_fail(err, SLM2_EUSAGE, "started as one of several ranks, but built without MPI; install libopenmpi-dev and openmpi-bin and build again with `make MPI=1`");
}
#endif
