/* power.h - the machine's own energy counters: RAPL of the processor packages, NVML of NVIDIA cards.
 *
 * They count all that the machine does, not one process.  Where there is no counter, or no right to read it, there is no device:
 * that is not an error.  RAPL: FOLDER/intel-rapl:N/energy_uj (root only on most systems), microjoules that wrap around; zones inside
 * a package and "psys", which holds the packages again, are left out.  When so much time lies between two readings that a package of 400 W could
 * have gone round once (11 minutes of the usual 262 kJ), its joules are NaN from then on: not measured, rather than too few.  NVML: a library that comes with the driver, opened when it is
 * there; total energy where the card counts it, else its power integrated over the time between two readings. */
#ifndef SLM2_TRAIN_POWER_H
#define SLM2_TRAIN_POWER_H
#include "base/err.h"

struct slm2_power;
struct slm2_power_opts {
    const char *powercap; /* folder of the RAPL zones */
    const char *nvml;     /* name or path of the library; "": do not look */
};
struct slm2_power_opts slm2_power_opts_default(void); /* /sys/class/powercap, libnvidia-ml.so.1 */

struct slm2_power_device {
    char name[80];  /* "package-0", "GPU 0 NVIDIA H100" */
    bool gpu;
    double joules;  /* since open, as of the last reading; NaN: not measured */
};
enum { SLM2_POWER_MAX_DEVICE = 32 };

struct slm2_power *slm2_power_open(const struct slm2_power_opts *o); /* NULL: no memory, which is as no counters */
void slm2_power_close(struct slm2_power *p);                         /* NULL allowed */
/* Reads all counters.  The devices live as long as p; none for NULL.  Allocates nothing. */
const struct slm2_power_device *slm2_power_read(struct slm2_power *p, int *n);
#endif
