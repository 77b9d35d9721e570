/* comm_self.c - a run of one process: every collective is already done.  Also what all communicators share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dist/comm.h"

static slm2_status self_all_gather(struct slm2_comm *c, void *all, const void *mine, size_t bytes, struct slm2_err *err)
{
    (void)c;
    (void)err;
    if (all != mine) memmove(all, mine, bytes);
    return SLM2_OK;
}

static slm2_status no_peer(int rank, struct slm2_err *err)
{
    return slm2_fail(err, SLM2_EUSAGE, "rank %d is not part of a run of one process", rank);
}

static slm2_status self_send(struct slm2_comm *c, int to, const void *p, size_t bytes, struct slm2_err *err)
{
    (void)c;
    (void)p;
    (void)bytes;
    return no_peer(to, err);
}

static slm2_status self_recv(struct slm2_comm *c, int from, void *p, size_t bytes, struct slm2_err *err)
{
    (void)c;
    (void)p;
    (void)bytes;
    return no_peer(from, err);
}

static slm2_status self_exchange(struct slm2_comm *c, int slot, const void *send, const struct slm2_piece *out, void *recv, const struct slm2_piece *in, struct slm2_err *err)
{
    (void)c;
    (void)slot;
    (void)send;
    (void)out;
    (void)recv;
    (void)in;
    (void)err;
    return SLM2_OK;
}

static slm2_status self_share(struct slm2_comm *c, int slot, void *buf, const struct slm2_piece *p, struct slm2_err *err)
{
    (void)c;
    (void)slot;
    (void)buf;
    (void)p;
    (void)err;
    return SLM2_OK;
}

static slm2_status self_poll(struct slm2_comm *c, struct slm2_err *err)
{
    (void)c;
    (void)err;
    return SLM2_OK;
}

static slm2_status self_wait(struct slm2_comm *c, int slot, struct slm2_err *err)
{
    (void)slot;
    return self_poll(c, err);
}

static void self_close(struct slm2_comm *c) { (void)c; }

void slm2_comm_self(struct slm2_comm *c)
{
    static const struct slm2_comm_ops ops = {
        .name = "self",
        .all_gather = self_all_gather,
        .send = self_send,
        .recv = self_recv,
        .start_exchange = self_exchange,
        .start_share = self_share,
        .poll = self_poll,
        .wait = self_wait,
        .close = self_close,
    };
    *c = (struct slm2_comm){.ops = &ops, .n_rank = 1, .n_share = 1};
}

/* ---- what all share --------------------------------------------------------------------------------------------------- */
void slm2_comm_close(struct slm2_comm *c)
{
    if (c->ops) c->ops->close(c);
    free(c->verdicts);
    *c = (struct slm2_comm){0};
}

struct slm2_rank_status { int status; char msg[500]; };

slm2_status slm2_comm_agree(struct slm2_comm *c, slm2_status st, struct slm2_err *err)
{
    if (c->n_rank == 1 || c->broken) return st; /* out of step: a word of this rank would meet another call of the others */
    struct slm2_rank_status mine = {.status = (int)st}, *all = c->verdicts;
    if (!all) all = c->verdicts = calloc((size_t)c->n_rank, sizeof *all); /* once: steps allocate nothing */
    if (!all) {
        c->broken = true; /* the others wait for this rank's word */
        return slm2_fail(err, SLM2_ENOMEM, "no memory to compare the results of %d ranks", c->n_rank);
    }
    if (st != SLM2_OK) snprintf(mine.msg, sizeof mine.msg, "%.*s", (int)sizeof mine.msg - 1, err ? err->msg : "failed");
    SLM2_TRY(c->ops->all_gather(c, all, &mine, sizeof mine, err));
    for (int r = 0; r < c->n_rank; r++) {
        if (all[r].status == SLM2_OK) continue;
        st = (slm2_status)all[r].status;
        all[r].msg[sizeof all[r].msg - 1] = 0;
        if (r > 0) slm2_fail(err, st, "rank %d: %s", r, all[r].msg);
        else if (c->rank > 0) slm2_fail(err, st, "%s", all[r].msg); /* rank 0 has its own whole message */
        break;
    }
    return st;
}
