/* energy.c - the formula of energy.h, and nothing else. */
#include "report/energy.h"

double slm2_energy_mwh(double device_hours, double mean_watts)
{
    return device_hours * mean_watts * SLM2_ENERGY_PUE * 1e-6;
}

double slm2_energy_tco2(double mwh)
{
    return mwh * SLM2_ENERGY_T_PER_MWH;
}

struct slm2_energy slm2_energy_of(const struct slm2_ledger_cost *cost, double core_watts)
{
    struct slm2_energy e = {.measured = cost->rapl, .device_h = cost->cpu_s / 3600};
    e.device_wh = cost->rapl ? cost->rapl_j / 3600 : e.device_h * core_watts;
    double mwh = slm2_energy_mwh(1, e.device_wh); /* an hour at so many watts */
    e.wh = mwh * 1e6;
    e.co2_g = slm2_energy_tco2(mwh) * 1e6;
    return e;
}

void slm2_energy_add(struct slm2_energy *sum, const struct slm2_energy *e)
{
    sum->measured = sum->measured && e->measured;
    sum->device_h += e->device_h;
    sum->device_wh += e->device_wh;
    sum->wh += e->wh;
    sum->co2_g += e->co2_g;
}
