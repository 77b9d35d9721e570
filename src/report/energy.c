/* energy.c - the formula of energy.h, and nothing else. */
#include "report/energy.h"

struct slm2_energy_terms slm2_energy_terms_default(void)
{
    return (struct slm2_energy_terms){.core_watts = 10, .pue = 1.1, .t_per_mwh = 0.385};
}

double slm2_energy_mwh(double device_hours, double mean_watts, const struct slm2_energy_terms *t)
{
    return device_hours * mean_watts * t->pue * 1e-6;
}

double slm2_energy_tco2(double mwh, const struct slm2_energy_terms *t)
{
    return mwh * t->t_per_mwh;
}

struct slm2_energy slm2_energy_of(const struct slm2_ledger_cost *cost, const struct slm2_energy_terms *t)
{
    struct slm2_energy e = {.measured = cost->rapl, .gpu = cost->gpu, .device_h = cost->cpu_s / 3600};
    e.device_wh = (cost->rapl ? cost->rapl_j / 3600 : e.device_h * t->core_watts) + cost->gpu_j / 3600;
    double mwh = slm2_energy_mwh(1, e.device_wh, t); /* an hour at so many watts */
    e.wh = mwh * 1e6;
    e.co2_g = slm2_energy_tco2(mwh, t) * 1e6;
    return e;
}

void slm2_energy_add(struct slm2_energy *sum, const struct slm2_energy *e)
{
    sum->measured = sum->measured && e->measured;
    sum->gpu = sum->gpu || e->gpu;
    sum->device_h += e->device_h;
    sum->device_wh += e->device_wh;
    sum->wh += e->wh;
    sum->co2_g += e->co2_g;
}
