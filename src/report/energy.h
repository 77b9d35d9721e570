/* energy.h - what a run cost in energy and CO2, by the formula of the Stable LM 2 technical report:
 *
 *     energy [MWh] = device-hours x mean device power [W] x PUE / 10^6        PUE 1.1
 *     CO2eq [t]    = energy [MWh] x 0.385                                      US average
 *
 * 92,000 GPU-hours at a mean of 296 W are 30 MWh and 11.6 t.  Here a device is one processor core.  Where the processor's own
 * counters (RAPL) could be read, device-hours x power is what they counted; otherwise it is CPU time x a stated power.  What
 * cards counted (NVML) comes on top. */
#ifndef SLM2_REPORT_ENERGY_H
#define SLM2_REPORT_ENERGY_H
#include "train/ledger.h"

struct slm2_energy_terms {
    double core_watts; /* assumed for a busy core without a counter: package and memory share of a server; 10 */
    double pue;        /* power usage effectiveness: whole data centre over its devices; 1.1 */
    double t_per_mwh;  /* t CO2eq per MWh, which is kg per kWh: the grid's intensity; 0.385 */
};
struct slm2_energy_terms slm2_energy_terms_default(void);

struct slm2_energy {
    bool measured;      /* by RAPL; false: an estimate */
    bool gpu;           /* cards are in it */
    double device_h;    /* core-hours: CPU seconds / 3600 */
    double device_wh;   /* what the devices took */
    double wh;          /* with PUE */
    double co2_g;       /* grams of CO2eq */
};
double slm2_energy_mwh(double device_hours, double mean_watts, const struct slm2_energy_terms *t);
double slm2_energy_tco2(double mwh, const struct slm2_energy_terms *t);
struct slm2_energy slm2_energy_of(const struct slm2_ledger_cost *cost, const struct slm2_energy_terms *t);
void slm2_energy_add(struct slm2_energy *sum, const struct slm2_energy *e); /* measured only while every part is; start with {.measured = true} */
#endif
