/* fake_nvml.c - stands in for the driver's NVML library in test_ledger.c: card 0 counts its energy, card 1 tells its power only. */
int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned *n);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetName(void *device, char *name, unsigned size);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
int fake_open(void); /* how often it was opened and not closed */

static int card[2], n_open;
static unsigned long long total = 5000000;

int fake_open(void) { return n_open; }
int nvmlInit_v2(void) { return n_open++, 0; }
int nvmlShutdown(void) { return n_open--, 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { return *n = 2, 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    if (index > 1) return 2; /* invalid argument */
    *device = &card[index];
    return 0;
}

int nvmlDeviceGetName(void *device, char *name, unsigned size)
{
    const char text[] = "Fake";
    if (device != &card[0] || size < sizeof text) return 7; /* insufficient size */
    for (unsigned i = 0; i < sizeof text; i++) name[i] = text[i];
    return 0;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules)
{
    if (device != &card[0]) return 3; /* not supported */
    *millijoules = total;
    total += 2500; /* 2.5 J from one reading to the next */
    return 0;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
    if (device != &card[1]) return 3;
    *milliwatts = 40000;
    return 0;
}
