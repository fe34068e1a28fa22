/* Plays libnvidia-ml.so.1 for tests: the functions that `src/nvml` asks, with signatures and structures of NVML's
 * nvml.h. Which host it plays is decided when it is compiled: -DHOST_EIGHT, -DHOST_MIG and so on. */

#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int nvmlReturn_t;
enum {
    SUCCESS = 0,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    LIBRARY_NOT_FOUND = 12,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    VERSION_MISMATCH = 18,
    ARGUMENT_VERSION_MISMATCH = 25,
    GPU_NOT_FOUND = 28,
    UNKNOWN = 999,
    HANGS = -1
};

typedef unsigned long long bytes;
#define MIB (1ULL << 20)
#define NOT_AVAILABLE (~0ULL)

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_info;

typedef struct {
    unsigned version;
    bytes total, reserved, free, used;
} memory_v2;

typedef struct {
    unsigned pid;
    bytes used;
    unsigned gpu_instance, compute_instance;
} process_info;

typedef struct {
    unsigned gpu, memory;
} utilization;

typedef struct {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
    bytes memory_mib;
} attributes;

_Static_assert(sizeof(pci_info) == 68 && sizeof(memory_v2) == 40 && sizeof(process_info) == 24, "as in nvml.h");
_Static_assert(sizeof(attributes) == 40, "as in nvml.h");

/* Questions, as bits of `gpu.unsupported` and `gpu.forbidden`. */
enum {
    NAME = 1,
    PCI = 2,
    UUID = 4,
    CAPABILITY = 8,
    MEMORY = 16,
    BUSY = 32,
    ECC = 64,
    DISPLAY = 128,
    MIG = 256,
    COMPUTE = 512,
    GRAPHICS = 1024,
    VIRTUALIZATION = 2048,
    EVERYTHING = 4095
};

typedef struct gpu {
    const char *name, *uuid, *bus_id;
    unsigned pci_id;
    int major, minor;
    bytes total, free;
    unsigned busy, unsupported, forbidden;
    int ecc, display, mig, is_virtual, opens;
    /* After so many answers it is lost; 0: never. */
    int answers;
    unsigned instances;
    const struct gpu *instance[3];
    unsigned computing, drawing;
    process_info process[4];
} gpu;

#define H100(bus, last) \
    .name = "NVIDIA H100 80GB HBM3", .uuid = "GPU-5e1f0000-0000-4000-8000-00000000000" last, .bus_id = bus, \
    .pci_id = 0x233010de, .major = 9, .total = 81559 * MIB, .ecc = 1, .unsupported = VIRTUALIZATION
#define IDLE .free = 81004 * MIB
#define NOWHERE 0xffffffff, 0xffffffff

#if defined(HOST_EIGHT)
static gpu gpus[] = {
    { H100("00000000:18:00.0", "0"), .free = 9120 * MIB, .busy = 97, .computing = 1,
      .process = { { 41213, 71650 * MIB, NOWHERE } } },
    { H100("00000000:2A:00.0", "1"), .free = 68204 * MIB, .computing = 2,
      .process = { { 41377, 12288 * MIB, NOWHERE }, { 41378, 512 * MIB, NOWHERE } } },
    { H100("00000000:3A:00.0", "2"), IDLE },
    { H100("00000000:5D:00.0", "3"), IDLE },
    { H100("00000000:9A:00.0", "4"), IDLE },
    { H100("00000000:AB:00.0", "5"), IDLE },
    { H100("00000000:BA:00.0", "6"), IDLE },
    { H100("00000000:DB:00.0", "7"), IDLE },
};
#elif defined(HOST_MIG)
static const gpu small = { .name = "NVIDIA A100-SXM4-80GB MIG 1g.10gb", .uuid = "MIG-0b1c0000-0000-5000-8000-000000000000",
                           .total = 9728 * MIB, .free = 9715 * MIB };
static const gpu large = { .name = "NVIDIA A100-SXM4-80GB MIG 3g.40gb", .uuid = "MIG-0b1c0000-0000-5000-8000-000000000001",
                           .total = 40192 * MIB, .free = 2100 * MIB };
/* Its memory is for others to see; its attributes are not. */
static const gpu closed = { .name = "NVIDIA A100-SXM4-80GB MIG 1g.10gb", .uuid = "MIG-0b1c0000-0000-5000-8000-000000000002",
                            .total = 9728 * MIB, .forbidden = MEMORY };
static gpu gpus[] = {
    { .name = "NVIDIA A100-SXM4-80GB", .uuid = "GPU-a1000000-0000-4000-8000-000000000000", .bus_id = "00000000:07:00.0",
      .pci_id = 0x20b210de, .major = 8, .total = 81920 * MIB, .free = 41010 * MIB, .ecc = 1, .mig = 1,
      .unsupported = BUSY, .instances = 7, .instance = { &small, &large, &closed }, .computing = 1,
      .process = { { 7001, 38010 * MIB, 2, 0 } } },
    { .name = "NVIDIA A100-SXM4-80GB", .uuid = "GPU-a1000000-0000-4000-8000-000000000001", .bus_id = "00000000:0F:00.0",
      .pci_id = 0x20b210de, .major = 8, .total = 81920 * MIB, .free = 81230 * MIB, .ecc = 1 },
};
#elif defined(HOST_MIXED)
static gpu gpus[] = {
    { .name = "NVIDIA GeForce RTX 4090", .uuid = "GPU-40900000-0000-4000-8000-000000000000", .bus_id = "00000000:01:00.0",
      .pci_id = 0x268410de, .major = 8, .minor = 9, .total = 24564 * MIB, .free = 21530 * MIB, .busy = 3, .display = 1,
      .unsupported = MIG | ECC, .computing = 1, .drawing = 3,
      .process = { { 3301, 310 * MIB, NOWHERE }, { 1204, 905 * MIB, NOWHERE }, { 3301, 310 * MIB, NOWHERE },
                   { 1466, NOT_AVAILABLE, NOWHERE } } },
    { .name = "NVIDIA L40S", .uuid = "GPU-40500000-0000-4000-8000-000000000001", .bus_id = "00000000:C1:00.0",
      .pci_id = 0x26b910de, .major = 8, .minor = 9, .total = 46068 * MIB, .free = 45440 * MIB, .ecc = 1,
      .unsupported = MIG },
};
#elif defined(HOST_OLD)
static gpu gpus[] = {
    { .name = "Tesla T4", .uuid = "GPU-74000000-0000-4000-8000-000000000000", .bus_id = "00000000:00:1E.0",
      .pci_id = 0x1eb810de, .major = 7, .minor = 5, .total = 15109 * MIB, .free = 15106 * MIB, .ecc = 1,
      .unsupported = MIG },
};
#elif defined(HOST_FORBIDDEN)
static gpu gpus[] = {
    { H100("00000000:18:00.0", "0"), IDLE, .opens = NO_PERMISSION },
    { H100("00000000:2A:00.0", "1"), IDLE, .forbidden = BUSY | COMPUTE | GRAPHICS },
    { H100("00000000:3A:00.0", "2"), IDLE, .opens = NO_PERMISSION },
};
#elif defined(HOST_CLOSED)
static gpu gpus[] = { { H100("00000000:18:00.0", "0"), IDLE, .forbidden = EVERYTHING } };
#elif defined(HOST_LOST)
static gpu gpus[] = {
    { .name = "NVIDIA L40S", .uuid = "GPU-40500000-0000-4000-8000-000000000000", .bus_id = "00000000:41:00.0",
      .pci_id = 0x26b910de, .major = 8, .minor = 9, .total = 46068 * MIB, .free = 45440 * MIB, .answers = 2 },
    { .name = "NVIDIA L40S", .uuid = "GPU-40500000-0000-4000-8000-000000000001", .bus_id = "00000000:C1:00.0",
      .pci_id = 0x26b910de, .major = 8, .minor = 9, .total = 46068 * MIB, .free = 45440 * MIB, .ecc = 1,
      .unsupported = MIG },
    { .opens = GPU_IS_LOST },
    { .opens = UNKNOWN },
};
#elif defined(HOST_UNUSUAL)
/* A part of an A100 that a hypervisor hands on; a GPU with the CPU's memory. */
static gpu gpus[] = {
    { .name = "NVIDIA A100-40C", .uuid = "GPU-c0000000-0000-4000-8000-000000000000", .bus_id = "00000000:02:00.0",
      .pci_id = 0x20b510de, .major = 8, .total = 40960 * MIB, .free = 40001 * MIB, .is_virtual = 1,
      .unsupported = BUSY | COMPUTE | GRAPHICS | DISPLAY | MIG },
    { .name = "NVIDIA GB10", .uuid = "GPU-10000000-0000-4000-8000-000000000001", .bus_id = "0000000F:01:00.0",
      .pci_id = 0x2e1210de, .major = 12, .minor = 1, .unsupported = MEMORY | ECC | MIG },
    { .name = "NVIDIA Something New", .uuid = "GPU-ffff0000-0000-4000-8000-000000000002", .bus_id = "00000000:03:00.0",
      .pci_id = 0xffff10de, .major = 13, .unsupported = MEMORY },
};
#elif defined(HOST_HOT) || defined(HOST_CAPPED)
/* One that is watched while it works; it is too hot for a while, or at the limit of its power. */
static gpu gpus[] = {
    { .name = "NVIDIA L4", .uuid = "GPU-14000000-0000-4000-8000-000000000000", .bus_id = "00000000:00:00.0",
      .pci_id = 0x27b810de, .major = 8, .minor = 9, .total = 23034 * MIB, .free = 21034 * MIB, .ecc = 1,
      .unsupported = MIG },
};
#elif defined(HOST_STUCK)
static gpu gpus[] = { { H100("00000000:18:00.0", "0"), IDLE }, { .opens = HANGS } };
#else
#define NO_GPUS
static gpu gpus[1];
#endif

#if defined(NO_GPUS)
#define COUNT 0
#else
#define COUNT (sizeof gpus / sizeof gpus[0])
#endif

/* Every question to a GPU passes here. */
static nvmlReturn_t answer(gpu *gpu, unsigned question) {
    if (gpu->answers < 0) return GPU_IS_LOST;
    if (gpu->answers > 0 && --gpu->answers == 0) gpu->answers = -1;
    if (gpu->forbidden & question) return NO_PERMISSION;
    return gpu->unsupported & question ? NOT_SUPPORTED : SUCCESS;
}

#define ASK(question) \
    nvmlReturn_t code = answer(gpu, question); \
    if (code != SUCCESS) return code

static nvmlReturn_t text(char *to, unsigned length, const char *from) {
    if (strlen(from) >= length) return INSUFFICIENT_SIZE;
    strcpy(to, from);
    return SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void) {
#if defined(HOST_HANGS)
    for (;;) sleep(1);
#elif defined(HOST_NOT_LOADED)
    return DRIVER_NOT_LOADED;
#elif defined(HOST_MISMATCH)
    return VERSION_MISMATCH;
#elif defined(HOST_SHUT)
    return NO_PERMISSION;
#elif defined(HOST_NOT_FOUND)
    return GPU_NOT_FOUND;
#elif defined(HOST_BROKEN)
    return UNKNOWN;
#endif
    return SUCCESS;
}

#if !defined(HOST_OLD)
nvmlReturn_t nvmlShutdown(void) { return SUCCESS; }
#endif

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
#if defined(HOST_OLD)
    return text(version, length, "450.80.02");
#else
    return text(version, length, "570.124.06");
#endif
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length) {
#if defined(HOST_OLD)
    return text(version, length, "11.450.80.02");
#else
    return text(version, length, "12.570.124.06");
#endif
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
#if defined(HOST_OLD)
    return FUNCTION_NOT_FOUND;
#elif defined(HOST_UNUSUAL)
    return LIBRARY_NOT_FOUND;
#endif
    *version = 12080;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    *count = COUNT;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu **handle) {
    if (index + 1 > COUNT) return INVALID_ARGUMENT;
    *handle = &gpus[index];
    while (gpus[index].opens == HANGS) sleep(1);
    return gpus[index].opens;
}

nvmlReturn_t nvmlDeviceGetName(gpu *gpu, char *name, unsigned length) {
    ASK(NAME);
    return text(name, length, gpu->name);
}

nvmlReturn_t nvmlDeviceGetUUID(gpu *gpu, char *uuid, unsigned length) {
    ASK(UUID);
    return text(uuid, length, gpu->uuid);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(gpu *gpu, pci_info *pci) {
    ASK(PCI);
    memset(pci, 0, sizeof *pci);
    pci->pci_device_id = gpu->pci_id;
    return text(pci->bus_id, sizeof pci->bus_id, gpu->bus_id);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(gpu *gpu, int *major, int *minor) {
    ASK(CAPABILITY);
    *major = gpu->major;
    *minor = gpu->minor;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetVirtualizationMode(gpu *gpu, unsigned *mode) {
    ASK(VIRTUALIZATION);
    *mode = gpu->is_virtual ? 2 : 0;
    return SUCCESS;
}

/* Not in drivers before 510. */
#if !defined(HOST_OLD)
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(gpu *gpu, memory_v2 *memory) {
    if (memory->version != (sizeof *memory | 2 << 24)) return ARGUMENT_VERSION_MISMATCH;
    ASK(MEMORY);
    memory->total = gpu->total;
    memory->free = gpu->free;
    memory->reserved = 0;
    memory->used = gpu->total - gpu->free;
    return SUCCESS;
}

static nvmlReturn_t processes(gpu *gpu, unsigned first, unsigned found, unsigned *count, process_info *infos) {
    unsigned room = *count;
    *count = found;
    if (found > room) return INSUFFICIENT_SIZE;
    if (found > 0) memcpy(infos, gpu->process + first, found * sizeof *infos);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(gpu *gpu, unsigned *count, process_info *infos) {
    ASK(COMPUTE);
    return processes(gpu, 0, gpu->computing, count, infos);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(gpu *gpu, unsigned *count, process_info *infos) {
    ASK(GRAPHICS);
    return processes(gpu, gpu->computing, gpu->drawing, count, infos);
}
#endif

nvmlReturn_t nvmlDeviceGetUtilizationRates(gpu *gpu, utilization *rates) {
    ASK(BUSY);
    rates->gpu = gpu->busy;
    rates->memory = 0;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEccMode(gpu *gpu, int *current, int *pending) {
    ASK(ECC);
    *current = *pending = gpu->ecc;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDisplayActive(gpu *gpu, int *active) {
    ASK(DISPLAY);
    *active = gpu->display;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(gpu *gpu, unsigned *current, unsigned *pending) {
    ASK(MIG);
    *current = *pending = gpu->mig;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(gpu *gpu, unsigned *count) {
    ASK(MIG);
    *count = gpu->instances;
    return SUCCESS;
}

/* Places 0, 2 and 3 of 7 are taken. */
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(gpu *gpu, unsigned index, const struct gpu **handle) {
    ASK(MIG);
    if (index >= gpu->instances) return INVALID_ARGUMENT;
    if (index == 1 || index > 3) return NOT_FOUND;
    *handle = gpu->instance[index == 0 ? 0 : index - 1];
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(gpu *gpu, attributes *found) {
    memset(found, 0, sizeof *found);
    found->memory_mib = gpu->total / MIB;
    return SUCCESS;
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length) {
    switch (pid) {
    case 41213: return text(name, length, "/opt/venv/bin/python3");
    case 41377: return text(name, length, "tritonserver");
    case 1204: return text(name, length, "/usr/lib/xorg/Xorg");
    case 1466: return text(name, length, "/usr/bin/gnome\x1b[2J-shell\n");
    case 3301: return text(name, length, "blender");
    case 7001: return NO_PERMISSION;
    default: return NOT_FOUND;
    }
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, gpu **handle) {
    for (unsigned index = 0; index + 1 <= COUNT; index++) {
        if (strcmp(gpus[index].bus_id, bus_id)) continue;
        return nvmlDeviceGetHandleByIndex_v2(index, handle);
    }
    return NOT_FOUND;
}

#if defined(HOST_HOT) || defined(HOST_CAPPED)
/* What a GPU says while it works: it is too hot, and its clock falls, for the last quarter of every 400 ms. */
static double seconds(void) {
    static double began;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double at = now.tv_sec + now.tv_nsec / 1e9;
    if (!began) began = at;
    return at - began;
}

static int is_hot(void) {
#if defined(HOST_HOT)
    return (long long)(seconds() * 1000) % 400 >= 300;
#else
    return 0;
#endif
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(gpu *gpu, unsigned long long *reasons) {
    (void)gpu;
#if defined(HOST_CAPPED)
    *reasons = 0x4;
#else
    *reasons = is_hot() ? 0x40 : 0;
#endif
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClockInfo(gpu *gpu, unsigned which, unsigned *mhz) {
    (void)gpu;
    *mhz = which == 2 ? 6251 : is_hot() ? 600 : 2040;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(gpu *gpu, unsigned *milliwatt) { return (void)gpu, *milliwatt = 71500, SUCCESS; }

/* 72 W. */
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(gpu *gpu, unsigned long long *millijoule) {
    (void)gpu;
#if defined(HOST_CAPPED)
    return NOT_SUPPORTED;
#endif
    *millijoule = 5000000 + (unsigned long long)(72000 * seconds());
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(gpu *gpu, unsigned sensor, unsigned *celsius) {
    (void)gpu;
    *celsius = is_hot() ? 93 : 64;
    return sensor ? INVALID_ARGUMENT : SUCCESS;
}
#endif
