/* A stand-in for libnvidia-ml.so.1 whose true energy is known. Built and used by tests/bench/energy.
 *
 * Everything is set through environment variables; a variable with _<index> appended holds for one device.
 *   STANDIN_EPOCH      CLOCK_MONOTONIC seconds at which the trace starts (share it with child processes); default: nvmlInit
 *   STANDIN_DEVICES    number of devices (1)
 *   STANDIN_TRACE      "300": constant watts. "square:100,300,1.0": low and high watts, period in s, low first.
 *                      "step:100,300,2.0": from 100 W to 300 W after 2 s. Default "100".
 *   STANDIN_PERIOD_MS  update period of the energy counter (100); "100,2.5:1000,6:20": 100 ms, from 2.5 s after the epoch
 *                      1000 ms, from 6 s 20 ms
 *   STANDIN_JITTER     fraction of a period by which its updates come early or late, without a pattern (0)
 *   STANDIN_COUNTER    what the counter counts, as a factor of the true energy (1)
 *   STANDIN_MODULE_W   watts of the rest of the module; the counter then counts the module (0: there is no module)
 *   STANDIN_SCOPES     1: the module's power can be read too, with scope 1 of the fields (0)
 *   STANDIN_POWER_MS   update period of the power registers (20)
 *   STANDIN_BASE_MJ    counter at the epoch (1000000)
 *   STANDIN_RESET_AT   seconds after the epoch at which the counter restarts at 0 (never)
 *   STANDIN_FREEZE_AT  seconds after the epoch at which the counter stops (never)
 *   STANDIN_NAME       device name
 *   STANDIN_CPUS       "0xf": mask of the cores next to it, as the driver tells it (it does not tell); its bus is 00000000:<16 + index>
 *   STANDIN_MIG        1: MIG mode is on
 *   STANDIN_LIMIT_W    power limit (400)
 *   STANDIN_ARCH       architecture as NVML numbers it (7, Ampere; 4, Pascal, is the last without an energy counter)
 *   STANDIN_CLOCK_MHZ, STANDIN_TEMPERATURE_C  SM clock (1500) and temperature (55)
 *   STANDIN_PIDS       "12,34": processes on the device
 *   STANDIN_THROTTLE   bit mask of clock event reasons
 *   STANDIN_ERRORS     "function@from-to=code;...": nvmlReturn_t that a function gives in that span of seconds.
 *                      STANDIN_ERRORS_<index> holds for one device beside those for all. Field 185 is "field185", 186 "field186".
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <math.h>

#define SUCCESS 0
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7

typedef int ret_t;
typedef struct { int index; } *device_t;
typedef struct {
    uint32_t field_id, scope_id;
    int64_t timestamp, latency_us;
    int value_type, ret;
    union { double d; unsigned ui; unsigned long long ull; } value;
} field_t;
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } process_t;

static struct { int index; } devices[16];
static double epoch_s;
static pid_t owner; /* NVML does not survive a fork: another pid is not initialised */

static double monotonic_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static double now_s(void) { return monotonic_s() - epoch_s; }

static const char *setting(const char *name, int device, const char *otherwise) {
    char full[64];
    snprintf(full, sizeof full, "STANDIN_%s_%d", name, device);
    const char *value = getenv(full);
    if (!value) {
        snprintf(full, sizeof full, "STANDIN_%s", name);
        value = getenv(full);
    }
    return value ? value : otherwise;
}

static int device_count(void) { return atoi(setting("DEVICES", -1, "1")); }

static ret_t injected_by(const char *rule, const char *function, double at_s) {
    size_t length = strlen(function);
    while (*rule) {
        double from, to;
        int code;
        if (!strncmp(rule, function, length) && sscanf(rule + length, "@%lf-%lf=%d", &from, &to, &code) == 3 &&
            at_s >= from && at_s < to)
            return code;
        rule = strchr(rule, ';');
        if (!rule) break;
        rule++;
    }
    return SUCCESS;
}

static ret_t injected(const char *function, int device, double at_s) {
    char own[64];
    snprintf(own, sizeof own, "STANDIN_ERRORS_%d", device);
    const char *all = getenv("STANDIN_ERRORS"), *one = getenv(own);
    ret_t r = one ? injected_by(one, function, at_s) : SUCCESS;
    return r || !all ? r : injected_by(all, function, at_s);
}

static ret_t check(const char *function, int device) {
    if (owner != getpid()) return UNINITIALIZED;
    return injected(function, device, now_s());
}
#define CHECK_OF(index) do { ret_t r_ = check(__func__, index); if (r_) return r_; } while (0)
#define CHECK() CHECK_OF(-1)

/* True energy in J from the epoch to t (t may be negative: the trace's first power held before it). */
static double true_energy_j(int device, double t) {
    const char *trace = setting("TRACE", device, "100");
    double low, high, span;
    if (sscanf(trace, "square:%lf,%lf,%lf", &low, &high, &span) == 3) {
        double whole = floor(t / span), rest = t - whole * span;
        double part = rest < span / 2 ? low * rest : low * span / 2 + high * (rest - span / 2);
        return whole * (low + high) * span / 2 + part;
    }
    if (sscanf(trace, "step:%lf,%lf,%lf", &low, &high, &span) == 3)
        return t < span ? low * t : low * span + high * (t - span);
    return atof(trace) * t;
}

static double quantised(double t, double period_ms) { return floor(t / (period_ms / 1e3)) * (period_ms / 1e3); }

/* When the counter was updated last before t. */
static double updated_s(int device, double t) {
    const char *rule = setting("PERIOD_MS", device, "100");
    double from = 0, period_ms = atof(rule), jitter = atof(setting("JITTER", device, "0"));
    while ((rule = strchr(rule, ','))) {
        double at, ms;
        if (sscanf(++rule, "%lf:%lf", &at, &ms) != 2 || t < at) break;
        from = at, period_ms = ms;
    }
    double tick = floor((t - from) / (period_ms / 1e3));
    for (; tick > 0; tick--) { /* a pattern without a period: the golden ratio */
        double whole, late = jitter * (modf(tick * 0.6180339887, &whole) - 0.5);
        double at = from + (tick + late) * period_ms / 1e3;
        if (at <= t) return at;
    }
    return from;
}

/* Mean power over the given seconds up to the last update of the register. */
static unsigned power_mw(int device, double over_s) {
    double t = quantised(now_s(), atof(setting("POWER_MS", device, "20")));
    return (unsigned)lround((true_energy_j(device, t) - true_energy_j(device, t - over_s)) / over_s * 1e3);
}

ret_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *shared = getenv("STANDIN_EPOCH");
    if (shared) epoch_s = atof(shared);
    else if (!epoch_s) epoch_s = monotonic_s();
    ret_t r = injected("nvmlInit", -1, now_s());
    if (r) return r;
    owner = getpid();
    for (int i = 0; i < 16; i++) devices[i].index = i;
    return SUCCESS;
}
ret_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
ret_t nvmlInit(void) { return nvmlInitWithFlags(0); }
ret_t nvmlShutdown(void) { CHECK(); owner = 0; return SUCCESS; }

const char *nvmlErrorString(ret_t code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case NOT_SUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 16: return "GPU requires reset";
    default: return "Unknown Error";
    }
}

static ret_t text(char *out, unsigned size, const char *value) {
    if (strlen(value) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

static void uuid_of(int index, char *out, size_t size) {
    snprintf(out, size, "GPU-%08x-1111-2222-3333-44444444444%x", 0xa0000000u + index, index);
}

ret_t nvmlSystemGetDriverVersion(char *out, unsigned size) { CHECK(); return text(out, size, "999.01"); }
ret_t nvmlDeviceGetCount_v2(unsigned *count) { CHECK(); *count = device_count(); return SUCCESS; }

ret_t nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *out) {
    CHECK_OF((int)index);
    if ((int)index >= device_count()) return INVALID_ARGUMENT;
    *out = (device_t)&devices[index];
    return SUCCESS;
}

ret_t nvmlDeviceGetHandleByUUID(const char *uuid, device_t *out) {
    CHECK();
    for (int i = 0; i < device_count(); i++) {
        char own[64];
        uuid_of(i, own, sizeof own);
        if (!strcmp(uuid, own)) {
            CHECK_OF(i); *out = (device_t)&devices[i]; return SUCCESS; }
    }
    return NOT_FOUND;
}

ret_t nvmlDeviceGetUUID(device_t d, char *out, unsigned size) {
    CHECK_OF(d->index);
    char own[64];
    uuid_of(d->index, own, sizeof own);
    return text(out, size, own);
}

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
ret_t nvmlDeviceGetPciInfo_v3(device_t d, pci_t *out) {
    CHECK_OF(d->index);
    memset(out, 0, sizeof *out);
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", 0x10 + d->index);
    return SUCCESS;
}

ret_t nvmlDeviceGetCpuAffinity(device_t d, unsigned words, unsigned long *out) {
    CHECK_OF(d->index);
    const char *mask = setting("CPUS", d->index, "");
    if (!*mask) return NOT_SUPPORTED;
    memset(out, 0, words * sizeof *out);
    out[0] = strtoul(mask, NULL, 0);
    return SUCCESS;
}

ret_t nvmlDeviceGetIndex(device_t d, unsigned *out) { CHECK_OF(d->index); *out = d->index; return SUCCESS; }
ret_t nvmlDeviceGetName(device_t d, char *out, unsigned size) {
    CHECK_OF(d->index);
    return text(out, size, setting("NAME", d->index, "NVIDIA Stand-in"));
}

static double module_w(int device) { return atof(setting("MODULE_W", device, "0")); }

static double counted_j(int device, double t) {
    return atof(setting("COUNTER", device, "1")) * true_energy_j(device, t) + module_w(device) * t;
}

ret_t nvmlDeviceGetTotalEnergyConsumption(device_t d, unsigned long long *out_mj) {
    CHECK_OF(d->index);
    double t = now_s();
    double base_mj = atof(setting("BASE_MJ", d->index, "1000000"));
    double frozen_s = atof(setting("FREEZE_AT", d->index, "1e18")), reset_s = atof(setting("RESET_AT", d->index, "1e18"));
    double read_s = updated_s(d->index, t < frozen_s ? t : frozen_s);
    double energy_j = counted_j(d->index, read_s);
    if (t >= reset_s) {
        base_mj = 0;
        energy_j = fmax(0, energy_j - counted_j(d->index, reset_s));
    }
    *out_mj = (unsigned long long)(base_mj + energy_j * 1e3);
    return SUCCESS;
}

/* A 1 s average, as on Ampere (except A100) and newer. */
ret_t nvmlDeviceGetPowerUsage(device_t d, unsigned *out_mw) { CHECK_OF(d->index); *out_mw = power_mw(d->index, 1.0); return SUCCESS; }

ret_t nvmlDeviceGetFieldValues(device_t d, int count, field_t *values) {
    CHECK_OF(d->index);
    for (int i = 0; i < count; i++) {
        field_t *v = &values[i];
        v->value_type = 1; /* unsigned int */
        double over_s = v->field_id == 185 ? 1.0 : 0.001;
        if (v->field_id != 185 && v->field_id != 186) { v->ret = NOT_SUPPORTED; continue; }
        if (v->scope_id > 1 || (v->scope_id == 1 && !atoi(setting("SCOPES", d->index, "0")))) { v->ret = NOT_SUPPORTED; continue; }
        v->ret = injected(v->field_id == 185 ? "field185" : "field186", d->index, now_s());
        v->value.ui = power_mw(d->index, over_s) + (v->scope_id == 1 ? (unsigned)(module_w(d->index) * 1e3) : 0);
    }
    return SUCCESS;
}

ret_t nvmlDeviceGetMigMode(device_t d, unsigned *current, unsigned *pending) {
    CHECK_OF(d->index);
    *current = *pending = atoi(setting("MIG", d->index, "0"));
    return SUCCESS;
}

ret_t nvmlDeviceGetEnforcedPowerLimit(device_t d, unsigned *out_mw) {
    CHECK_OF(d->index);
    *out_mw = (unsigned)(1e3 * atof(setting("LIMIT_W", d->index, "400")));
    return SUCCESS;
}
ret_t nvmlDeviceGetPowerManagementLimit(device_t d, unsigned *out_mw) { CHECK_OF(d->index); *out_mw = 400000; return SUCCESS; }
ret_t nvmlDeviceGetTemperature(device_t d, int sensor, unsigned *out) { (void)sensor; CHECK_OF(d->index); *out = atoi(setting("TEMPERATURE_C", d->index, "55")); return SUCCESS; }
ret_t nvmlDeviceGetPersistenceMode(device_t d, unsigned *out) { CHECK_OF(d->index); *out = 1; return SUCCESS; }
ret_t nvmlDeviceGetClockInfo(device_t d, int type, unsigned *out) { (void)type; CHECK_OF(d->index); *out = atoi(setting("CLOCK_MHZ", d->index, "1500")); return SUCCESS; }
ret_t nvmlDeviceGetUtilizationRates(device_t d, unsigned *out) { CHECK_OF(d->index); out[0] = 90; out[1] = 40; return SUCCESS; }

ret_t nvmlDeviceGetCurrentClocksThrottleReasons(device_t d, unsigned long long *out) {
    CHECK_OF(d->index);
    *out = strtoull(setting("THROTTLE", d->index, "0"), NULL, 0);
    return SUCCESS;
}
ret_t nvmlDeviceGetCurrentClocksEventReasons(device_t d, unsigned long long *out) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(d, out);
}

ret_t nvmlDeviceGetComputeRunningProcesses_v3(device_t d, unsigned *count, process_t *out) {
    CHECK_OF(d->index);
    unsigned room = *count, found = 0;
    char list[256];
    snprintf(list, sizeof list, "%s", setting("PIDS", d->index, ""));
    for (char *pid = strtok(list, ","); pid; pid = strtok(NULL, ","), found++)
        if (out && found < room) out[found] = (process_t){.pid = (unsigned)atoi(pid)};
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

/* What Zeus and CodeCarbon ask beside that, tests/bench/energy/comparison.py. */
ret_t nvmlDeviceGetArchitecture(device_t d, unsigned *out) { CHECK_OF(d->index); *out = atoi(setting("ARCH", d->index, "7")); return SUCCESS; }
ret_t nvmlDeviceGetC2cModeInfoV(device_t d, void *out) { (void)d; (void)out; return NOT_SUPPORTED; }
ret_t nvmlDeviceGetComputeMode(device_t d, unsigned *out) { CHECK_OF(d->index); *out = 0; return SUCCESS; }
ret_t nvmlDeviceGetGraphicsRunningProcesses_v3(device_t d, unsigned *count, process_t *out) {
    (void)d; (void)out; CHECK_OF(d->index); *count = 0; return SUCCESS;
}
ret_t nvmlDeviceGetMemoryInfo(device_t d, unsigned long long *out) {
    CHECK_OF(d->index); out[0] = 16ull << 30; out[1] = 15ull << 30; out[2] = 1ull << 30; return SUCCESS;
}
ret_t nvmlDeviceGetPowerManagementDefaultLimit(device_t d, unsigned *out_mw) { CHECK_OF(d->index); *out_mw = 400000; return SUCCESS; }
ret_t nvmlDeviceGetPowerManagementLimitConstraints(device_t d, unsigned *low_mw, unsigned *high_mw) {
    CHECK_OF(d->index); *low_mw = 100000; *high_mw = 400000; return SUCCESS;
}
