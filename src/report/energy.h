/* energy.h - what a run cost in energy and CO2, by the formula of the Stable LM 2 technical report:
 *
 *     energy [MWh] = device-hours x mean device power [W] x PUE / 10^6        PUE 1.1
 *     CO2eq [t]    = energy [MWh] x 0.385                                      US average
 *
 * 92,000 GPU-hours at a mean of 296 W are 30 MWh and 11.6 t.  Here a device is one processor core.  Where the processor's own
 * counters (RAPL) could be read, device-hours x power is what they counted; otherwise it is CPU time x a stated power. */
#ifndef SLM2_REPORT_ENERGY_H
#define SLM2_REPORT_ENERGY_H
#include "train/ledger.h"

#define SLM2_ENERGY_PUE 1.1             /* power usage effectiveness: whole data centre over its devices */
#define SLM2_ENERGY_T_PER_MWH 0.385     /* t CO2eq per MWh */
#define SLM2_ENERGY_CORE_WATTS 10.0     /* assumed for a busy core without a counter: package and memory share of a server */

struct slm2_energy {
    bool measured;      /* by RAPL; false: an estimate */
    double device_h;    /* core-hours: CPU seconds / 3600 */
    double device_wh;   /* what the devices took */
    double wh;          /* with PUE */
    double co2_g;       /* grams of CO2eq */
};
double slm2_energy_mwh(double device_hours, double mean_watts);
double slm2_energy_tco2(double mwh);
/* core_watts: used when the cost has no joules. */
struct slm2_energy slm2_energy_of(const struct slm2_ledger_cost *cost, double core_watts);
void slm2_energy_add(struct slm2_energy *sum, const struct slm2_energy *e); /* measured only while every part is; start with {.measured = true} */
#endif
