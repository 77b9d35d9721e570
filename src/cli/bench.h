/* bench.h - what the parts of `slm2 bench` share: medians, the ceilings of the machine, the parts themselves. */
#ifndef SLM2_CLI_BENCH_H
#define SLM2_CLI_BENCH_H
#include "cli/cli.h"
#include "kernels/peak.h"

/* ---- several runs of one thing ------------------------------------------------------------------------------------ */
struct slm2_bench_stat { double median, min, max; };
struct slm2_bench_stat slm2_bench_stat(double *v, int n); /* n >= 1; sorts v */
/* Fields NAME, NAME_min and NAME_max of a JSON object. */
void slm2_bench_stat_json(json_t *j, const char *name, struct slm2_bench_stat s);

/* ---- reading from memory ------------------------------------------------------------------------------------------ */
/* A block far larger than the caches, and the way of reading it that was fastest here.  The bandwidth of a shared machine changes from
 * minute to minute: keep the probe open and read beside whatever is to be compared with it. */
struct slm2_bench_probe {
    uint8_t *block;
    size_t bytes;
    const struct slm2_peak *peak;
    enum slm2_peak_read how;
    bool huge; /* pages of 2 MiB were asked for */
    int n_threads;
};
/* Tries pages and ways of reading with n_threads and keeps the best.  SLM2_ENOMEM. */
slm2_status slm2_bench_probe_open(struct slm2_bench_probe *p, const struct slm2_peak *peak, int n_threads, struct slm2_err *err);
void slm2_bench_probe_close(struct slm2_bench_probe *p);
double slm2_bench_probe_read(const struct slm2_bench_probe *p, double seconds); /* bytes a second: best pass within about so many seconds */

/* Operations a second of n_threads together: best of several short runs; 0 when the instruction set lacks the kind. */
double slm2_bench_peak(const struct slm2_peak *peak, enum slm2_peak_kind kind, int n_threads);

/* ---- parts of the command ----------------------------------------------------------------------------------------- */
int slm2_cmd_bench_model(int argc, char **argv);
int slm2_cmd_bench_limits(int argc, char **argv);
int slm2_cmd_bench_tokenizer(int argc, char **argv);
#endif
