/* power.c - energy counters: RAPL through the files of powercap, NVML through the functions of the driver's library. */
#include "train/power.h"

#include <dlfcn.h>
#include <glob.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* NVML's C interface, as far as it is used: every function returns 0 when it succeeds. */
typedef int nvml_void_fn(void);
typedef int nvml_count_fn(unsigned *n);
typedef int nvml_device_fn(unsigned index, void **device);
typedef int nvml_name_fn(void *device, char *name, unsigned size);
typedef int nvml_energy_fn(void *device, unsigned long long *millijoules); /* since the driver was loaded */
typedef int nvml_watts_fn(void *device, unsigned *milliwatts);

struct counter {
    char path[320];        /* RAPL: the file */
    uint64_t last, range;  /* microjoules of RAPL, millijoules of NVML */
    void *card;            /* NVML: the device; total false: it has no total and its power is integrated */
    bool total;
    double last_watts, last_s; /* last_s: when it was read */
};

enum { MOST_WATTS = 400 }; /* of a processor package over minutes: above what those sold in numbers take */

struct slm2_power {
    int n;
    struct slm2_power_device device[SLM2_POWER_MAX_DEVICE];
    struct counter counter[SLM2_POWER_MAX_DEVICE];
    void *library;
    nvml_void_fn *shutdown;
    nvml_energy_fn *energy;
    nvml_watts_fn *watts;
};

struct slm2_power_opts slm2_power_opts_default(void)
{
    return (struct slm2_power_opts){.powercap = "/sys/class/powercap", .nvml = "libnvidia-ml.so.1"};
}

/* ---- RAPL ------------------------------------------------------------------------------------------------------------- */
static bool read_u64(const char *path, uint64_t *v)
{
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fscanf(f, "%" SCNu64, v) == 1;
    fclose(f);
    return ok;
}

/* Joules since the last reading, NaN when the counter may have gone round more than once meanwhile. */
static double joules_of_package(struct counter *c)
{
    uint64_t now;
    double now_s = slm2_now_s();
    if (!read_u64(c->path, &now)) return 0;
    double used = (double)(now >= c->last ? now - c->last : now + c->range - c->last) * 1e-6, may_use = MOST_WATTS * (now_s - c->last_s);
    c->last = now;
    c->last_s = now_s;
    return may_use < (double)c->range * 1e-6 ? used : (double)NAN;
}

static void read_name(const char *zone, char name[80])
{
    char path[320];
    snprintf(path, sizeof path, "%.300s/name", zone);
    FILE *f = fopen(path, "re");
    if (!f || !fgets(name, 80, f)) snprintf(name, 80, "package");
    name[strcspn(name, "\n")] = 0;
    if (f) fclose(f);
}

static void open_rapl(struct slm2_power *p, const char *folder)
{
    glob_t g;
    char pattern[320], range[320], name[80];
    int len = snprintf(pattern, sizeof pattern, "%s/intel-rapl:[0-9]*", folder);
    if (len < 0 || len >= (int)sizeof pattern || glob(pattern, 0, NULL, &g)) return;
    for (size_t i = 0; i < g.gl_pathc && p->n < SLM2_POWER_MAX_DEVICE; i++) {
        const char *zone = g.gl_pathv[i], *of = strrchr(zone, '/');
        if (strlen(zone) > 290 || strchr(strchr(of, ':') + 1, ':')) continue; /* a part of a package, counted in it */
        read_name(zone, name);
        if (!strcmp(name, "psys")) continue;
        struct counter *c = &p->counter[p->n];
        snprintf(c->path, sizeof c->path, "%.300s/energy_uj", zone);
        snprintf(range, sizeof range, "%.290s/max_energy_range_uj", zone);
        if (!read_u64(c->path, &c->last) || !read_u64(range, &c->range)) continue;
        c->last_s = slm2_now_s();
        memcpy(p->device[p->n].name, name, sizeof name);
        p->n++;
    }
    globfree(&g);
}

/* ---- NVML ------------------------------------------------------------------------------------------------------------- */
static bool find(void *library, const char *name, void *fn)
{
    void *at = dlsym(library, name);
    memcpy(fn, &at, sizeof at); /* C has no cast from an object's address to a function's */
    return at != NULL;
}

static void open_nvml(struct slm2_power *p, const char *name)
{
    nvml_void_fn *init;
    nvml_count_fn *count;
    nvml_device_fn *device;
    nvml_name_fn *name_of;
    unsigned n = 0;
    if (!*name || !(p->library = dlopen(name, RTLD_NOW | RTLD_LOCAL))) return;
    bool usable = find(p->library, "nvmlInit_v2", &init) && find(p->library, "nvmlShutdown", &p->shutdown) && find(p->library, "nvmlDeviceGetCount_v2", &count) &&
                  find(p->library, "nvmlDeviceGetHandleByIndex_v2", &device) && find(p->library, "nvmlDeviceGetName", &name_of) && find(p->library, "nvmlDeviceGetPowerUsage", &p->watts);
    if (!find(p->library, "nvmlDeviceGetTotalEnergyConsumption", &p->energy)) p->energy = NULL; /* cards before Volta have none either */
    if (!usable || init()) {
        dlclose(p->library);
        p->library = NULL;
        return;
    }
    if (count(&n)) n = 0;
    for (unsigned i = 0; i < n && p->n < SLM2_POWER_MAX_DEVICE; i++) {
        struct counter *c = &p->counter[p->n];
        char model[64] = "";
        unsigned long long mj = 0;
        unsigned mw = 0;
        if (device(i, &c->card)) continue;
        c->total = p->energy && p->energy(c->card, &mj) == 0;
        if (!c->total && p->watts(c->card, &mw)) continue;
        c->last = mj;
        c->last_watts = mw * 1e-3;
        c->last_s = slm2_now_s();
        if (name_of(c->card, model, sizeof model)) model[0] = 0;
        model[sizeof model - 1] = 0;
        snprintf(p->device[p->n].name, sizeof p->device[0].name, "GPU %u%s%.60s", i, *model ? " " : "", model);
        p->device[p->n++].gpu = true;
    }
}

static double joules_of_card(const struct slm2_power *p, struct counter *c)
{
    unsigned long long mj;
    unsigned mw;
    double now = slm2_now_s(), used = 0;
    if (c->total) {
        if (p->energy(c->card, &mj)) return 0;
        used = mj >= c->last ? (double)(mj - c->last) * 1e-3 : 0; /* a driver that was loaded again counts from 0 */
        c->last = mj;
    } else {
        if (p->watts(c->card, &mw)) return 0;
        used = (c->last_watts + mw * 1e-3) / 2 * (now - c->last_s);
        c->last_watts = mw * 1e-3;
        c->last_s = now;
    }
    return used;
}

/* ---- all ---------------------------------------------------------------------------------------------------------------- */
struct slm2_power *slm2_power_open(const struct slm2_power_opts *o)
{
    struct slm2_power *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    open_rapl(p, o->powercap);
    open_nvml(p, o->nvml);
    return p;
}

void slm2_power_close(struct slm2_power *p)
{
    if (!p) return;
    if (p->library) {
        p->shutdown();
        dlclose(p->library);
    }
    free(p);
}

const struct slm2_power_device *slm2_power_read(struct slm2_power *p, int *n)
{
    *n = p ? p->n : 0;
    for (int i = 0; i < *n; i++) {
        struct counter *c = &p->counter[i];
        p->device[i].joules += p->device[i].gpu ? joules_of_card(p, c) : joules_of_package(c);
    }
    return p ? p->device : NULL;
}
