/* Plays libcuda.so.1 for tests: the functions that the TensorRT workers ask, with signatures and numbers of cuda.h.
 *
 * It is strict where a real driver is: work in a stream is done when somebody waits for it and not before, device addresses
 * can't be read by the host, every copy has to lie within one allocation, and calls need a current context. What is still
 * allocated at the end, and what was done, goes into the file that STAND_IN_REPORT names.
 *
 * STAND_IN_FAULT: no-device, out-of-memory (the sixth allocation and later ones), illegal-address (the first piece of work
 * fails, and everything after it, as with a real GPU), hang (waiting never ends). */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_CONTEXT = 201,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    CAPTURE_INVALIDATED = 901
};

enum { DEVICES = 2, ATTRIBUTE_MAJOR = 75, ATTRIBUTE_MINOR = 76, ATTRIBUTE_MEMORY_POOLS = 115 };
static const struct {
    const char *name, *address;
    int major, minor;
    size_t memory;
} devices[DEVICES] = {
    {"NVIDIA L40S", "0000:C1:00.0", 8, 9, 45ull << 30},
    {"NVIDIA A100-SXM4-80GB", "0000:c2:00.0", 8, 0, 80ull << 30},
};

typedef struct {
    void (*work)(void *);
    void *argument;
} piece;

typedef struct {
    piece *pieces;
    size_t length;
} list;

typedef struct {
    list waiting, captured;
    int captures;
} stream;

typedef struct {
    int recorded, done;
    double at_ms;
} event;

typedef struct {
    uintptr_t address;
    size_t size;
    unsigned char *memory;
} allocation;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local void *current;
static int initialized, contexts[DEVICES], failed, allocations_made;
static allocation allocations[1024];
static size_t host_allocations, streams, events, graphs, copies, launches, replays;
static int opened_device = 0;

static int fault(const char *name) {
    const char *wanted = getenv("STAND_IN_FAULT");
    return wanted && !strcmp(wanted, name);
}

static void append(list *to, piece added) {
    to->pieces = realloc(to->pieces, (to->length + 1) * sizeof *to->pieces);
    to->pieces[to->length++] = added;
}

static int ready(void) {
    if (!initialized) return NOT_INITIALIZED;
    if (!current) return INVALID_CONTEXT;
    return failed;
}

/* Returns what the host may touch of device memory; nothing if the range is not within one allocation. */
static void *behind(uintptr_t address, size_t size) {
    for (size_t i = 0; i < sizeof allocations / sizeof *allocations; i++) {
        allocation *a = &allocations[i];
        if (a->memory && address >= a->address && address + size <= a->address + a->size)
            return a->memory + (address - a->address);
    }
    return 0;
}

/* For the stand-in of TensorRT. */
void *stand_in_memory(uintptr_t address, size_t size) { return behind(address, size); }

static int enqueue(stream *s, void (*work)(void *), void *argument) {
    int code = ready();
    if (code) return code;
    pthread_mutex_lock(&lock);
    append(s->captures ? &s->captured : &s->waiting, (piece){work, argument});
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

/* For the stand-in of TensorRT: as cuLaunchHostFunc, but it counts as a kernel. */
int stand_in_launch(stream *s, void (*work)(void *), void *argument) {
    launches++;
    return enqueue(s, work, argument);
}

static int work_off(stream *s) {
    if (s->captures) return CAPTURE_INVALIDATED;
    if (fault("hang")) pause();
    for (size_t i = 0; i < s->waiting.length; i++) {
        if (fault("illegal-address")) failed = ILLEGAL_ADDRESS;
        if (!failed) s->waiting.pieces[i].work(s->waiting.pieces[i].argument);
    }
    s->waiting.length = 0;
    return failed;
}

int cuInit(unsigned flags) {
    if (fault("no-device")) return NO_DEVICE;
    initialized = 1;
    return flags ? INVALID_VALUE : SUCCESS;
}

int cuDeviceGetCount(int *count) { return *count = DEVICES, SUCCESS; }

int cuDeviceGet(int *device, int number) {
    if (number < 0 || number >= DEVICES) return INVALID_VALUE;
    return *device = number, SUCCESS;
}

int cuDeviceGetName(char *name, int length, int device) {
    return snprintf(name, length, "%s", devices[device].name) > 0 ? SUCCESS : INVALID_VALUE;
}

int cuDeviceGetPCIBusId(char *address, int length, int device) {
    return snprintf(address, length, "%s", devices[device].address) > 0 ? SUCCESS : INVALID_VALUE;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case ATTRIBUTE_MAJOR: return *value = devices[device].major, SUCCESS;
    case ATTRIBUTE_MINOR: return *value = devices[device].minor, SUCCESS;
    case ATTRIBUTE_MEMORY_POOLS: return *value = !getenv("STAND_IN_WITHOUT_POOLS"), SUCCESS;
    default: return INVALID_VALUE;
    }
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    contexts[device]++;
    opened_device = device;
    return *context = &contexts[device], SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device) { return contexts[device]--, SUCCESS; }
int cuCtxGetCurrent(void **context) { return *context = current, SUCCESS; }
int cuCtxSetCurrent(void *context) { return current = context, SUCCESS; }

int cuMemGetInfo_v2(size_t *free, size_t *total) {
    int code = ready();
    if (code) return code;
    *free = *total = devices[opened_device].memory;
    for (size_t i = 0; i < sizeof allocations / sizeof *allocations; i++)
        if (allocations[i].memory) *free -= allocations[i].size;
    return SUCCESS;
}

int cuMemAlloc_v2(uintptr_t *address, size_t size) {
    int code = ready();
    if (code) return code;
    if (!size) return INVALID_VALUE;
    if (fault("out-of-memory") && ++allocations_made > 5) return OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    code = OUT_OF_MEMORY;
    for (size_t i = 0; i < sizeof allocations / sizeof *allocations; i++) {
        if (allocations[i].memory) continue;
        void *reserved = mmap(0, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        allocations[i] = (allocation){(uintptr_t)reserved, size, malloc(size)};
        memset(allocations[i].memory, 0xcd, size); /* never zero by luck */
        *address = allocations[i].address;
        code = SUCCESS;
        break;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

int cuMemFree_v2(uintptr_t address) {
    for (size_t i = 0; i < sizeof allocations / sizeof *allocations; i++) {
        allocation *a = &allocations[i];
        if (!a->memory || a->address != address) continue;
        pthread_mutex_lock(&lock);
        munmap((void *)a->address, a->size);
        free(a->memory);
        *a = (allocation){0};
        pthread_mutex_unlock(&lock);
        return SUCCESS;
    }
    return INVALID_VALUE;
}

int cuMemAllocAsync(uintptr_t *address, size_t size, stream *s) {
    return s ? cuMemAlloc_v2(address, size) : INVALID_VALUE;
}

int cuMemFreeAsync(uintptr_t address, stream *s) {
    work_off(s);
    return cuMemFree_v2(address);
}

int cuMemHostAlloc(void **memory, size_t size, unsigned flags) {
    int code = ready();
    if (code || flags) return code ? code : INVALID_VALUE;
    host_allocations++;
    return *memory = malloc(size), SUCCESS;
}

int cuMemFreeHost(void *memory) { return free(memory), host_allocations--, SUCCESS; }

typedef struct {
    void *to;
    const void *from;
    uintptr_t device;
    size_t size;
} copy;

static void upload(void *argument) {
    copy *c = argument;
    void *memory = behind(c->device, c->size);
    if (memory) memcpy(memory, c->from, c->size);
    else failed = ILLEGAL_ADDRESS;
    copies++;
    free(c);
}

static void download(void *argument) {
    copy *c = argument;
    void *memory = behind(c->device, c->size);
    if (memory) memcpy(c->to, memory, c->size);
    else failed = ILLEGAL_ADDRESS;
    copies++;
    free(c);
}

static int enqueue_copy(stream *s, void (*work)(void *), copy wanted) {
    copy *kept = malloc(sizeof *kept);
    *kept = wanted;
    return enqueue(s, work, kept);
}

int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t size, stream *s) {
    return enqueue_copy(s, upload, (copy){0, from, to, size});
}

int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t size, stream *s) {
    return enqueue_copy(s, download, (copy){to, 0, from, size});
}

int cuStreamCreate(stream **made, unsigned flags) {
    int code = ready();
    (void)flags;
    if (code) return code;
    streams++;
    return *made = calloc(1, sizeof **made), SUCCESS;
}

int cuStreamDestroy_v2(stream *s) {
    work_off(s);
    streams--;
    return free(s->waiting.pieces), free(s->captured.pieces), free(s), SUCCESS;
}

int cuStreamSynchronize(stream *s) {
    int code = ready();
    return code ? code : work_off(s);
}

int cuStreamWaitEvent(stream *s, event *e, unsigned flags) {
    (void)flags;
    /* An event from outside of a capture breaks it. */
    return s->captures && e->recorded ? CAPTURE_INVALIDATED : ready();
}

int cuEventCreate(event **made, unsigned flags) {
    int code = ready();
    (void)flags;
    if (code) return code;
    events++;
    return *made = calloc(1, sizeof **made), SUCCESS;
}

int cuEventDestroy_v2(event *e) { return free(e), events--, SUCCESS; }

static void happen(void *argument) {
    event *e = argument;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    e->at_ms = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
    e->done = 1;
}

int cuEventRecord(event *e, stream *s) {
    e->recorded = 1;
    e->done = 0;
    return enqueue(s, happen, e);
}

int cuEventSynchronize(event *e) { return e->recorded && !e->done ? NOT_READY : ready(); }

int cuEventElapsedTime(float *milliseconds, event *from, event *to) {
    if (!from->done || !to->done) return NOT_READY;
    return *milliseconds = to->at_ms - from->at_ms, SUCCESS;
}

int cuStreamBeginCapture_v2(stream *s, int mode) {
    int code = ready();
    (void)mode;
    if (code) return code;
    s->captures = 1;
    return s->captured.length = 0, SUCCESS;
}

int cuStreamEndCapture(stream *s, list **graph) {
    s->captures = 0;
    *graph = calloc(1, sizeof **graph);
    for (size_t i = 0; i < s->captured.length; i++) append(*graph, s->captured.pieces[i]);
    graphs++;
    return SUCCESS;
}

int cuGraphInstantiateWithFlags(list **executable, list *graph, unsigned long long flags) {
    (void)flags;
    *executable = calloc(1, sizeof **executable);
    for (size_t i = 0; i < graph->length; i++) append(*executable, graph->pieces[i]);
    graphs++;
    return SUCCESS;
}

int cuGraphLaunch(list *graph, stream *s) {
    replays++;
    for (size_t i = 0; i < graph->length; i++) {
        int code = enqueue(s, graph->pieces[i].work, graph->pieces[i].argument);
        if (code) return code;
    }
    return SUCCESS;
}

int cuGraphDestroy(list *graph) { return free(graph->pieces), free(graph), graphs--, SUCCESS; }
int cuGraphExecDestroy(list *graph) { return cuGraphDestroy(graph); }

int cuGetErrorName(int code, const char **text) {
    *text = code == OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : code == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
            : code == NOT_READY       ? "CUDA_ERROR_NOT_READY"
            : code == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
                                      : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}

int cuGetErrorString(int code, const char **text) {
    *text = code == OUT_OF_MEMORY     ? "out of memory"
            : code == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
                                      : "another error";
    return SUCCESS;
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("STAND_IN_REPORT");
    FILE *file = path ? fopen(path, "w") : 0;
    if (!file) return;
    size_t device_allocations = 0;
    for (size_t i = 0; i < sizeof allocations / sizeof *allocations; i++) device_allocations += !!allocations[i].memory;
    fprintf(file, "{\"left\": %zu, \"copies\": %zu, \"launches\": %zu, \"replays\": %zu}\n",
            device_allocations + host_allocations + streams + events + graphs, copies, launches, replays);
    fclose(file);
}
