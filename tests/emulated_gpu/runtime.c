/* The CUDA runtime of a machine that has no GPU.

   The memory of this GPU is the host's, so that whoever has an address may read there; it is bounded, and full of
   nonsense at first, as memory is that others have used. What a stream is told is done at once. No kernel does
   anything: `emulated.py` computes what it would have. `__main__.py` adds every other name that PyTorch wants, as a
   function that does nothing and succeeds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>
#undef cudaGetDeviceProperties

#define WHOLE 512 /* what addresses are multiples of, as on a GPU */
#define SET(place, value) return (place) ? (*(place) = (value), cudaSuccess) : cudaSuccess

static long asked(const char *name, long otherwise) {
    const char *said = getenv(name);
    return said ? atol(said) : otherwise;
}
static int gpus(void) { return (int)asked("EMULATED_GPUS", 1); }
static size_t memory(void) { return (size_t)asked("EMULATED_GPU_MEMORY", 8L << 30); }

/* handles: never the same twice */
static uintptr_t last = 64;
static void *handle(void) { return (void *)__atomic_add_fetch(&last, 64, __ATOMIC_RELAXED); }

/* devices */
static __thread int here = 0;
cudaError_t cudaGetDeviceCount(int *count) { SET(count, gpus()); }
cudaError_t cudaGetDevice(int *device) { SET(device, here); }
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= gpus()) return cudaErrorInvalidDevice;
    here = device;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) { SET(version, CUDART_VERSION); }
cudaError_t cudaRuntimeGetVersion(int *version) { SET(version, CUDART_VERSION); }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
    memset(found, 0, sizeof *found);
    strcpy(found->name, "emulated GPU");
    found->major = 9;
    found->totalGlobalMem = memory();
    found->multiProcessorCount = 132;
    found->warpSize = 32;
    found->maxThreadsPerBlock = 1024;
    found->maxThreadsPerMultiProcessor = 2048;
    found->sharedMemPerBlock = found->sharedMemPerBlockOptin = found->sharedMemPerMultiprocessor = 232448;
    found->regsPerBlock = found->regsPerMultiprocessor = 65536;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    SET(value, attribute == cudaDevAttrComputeCapabilityMajor ? 9
               : attribute == cudaDevAttrMultiProcessorCount  ? 132
                                                              : 0);
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device) {
    strncpy(id, "0000:00:00.0", length);
    return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    SET(greatest, -5);
}

/* memory: before each piece stands how large it is, and whose */
struct piece { size_t size; int device; };
static size_t taken[64];
static cudaError_t take(void **found, size_t size) {
    if (taken[here] + size > memory() || posix_memalign(found, WHOLE, size + WHOLE)) return cudaErrorMemoryAllocation;
    *(struct piece *)*found = (struct piece){size, here};
    __atomic_add_fetch(&taken[here], size, __ATOMIC_RELAXED);
    *found = (char *)*found + WHOLE;
    memset(*found, 0xA5, size);
    return cudaSuccess;
}
static cudaError_t give_back(void *place) {
    if (place) {
        struct piece *piece = (void *)((char *)place - WHOLE);
        __atomic_sub_fetch(&taken[piece->device], piece->size, __ATOMIC_RELAXED);
        free(piece);
    }
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **found, size_t size) { return take(found, size); }
cudaError_t cudaMallocAsync(void **found, size_t size, cudaStream_t stream) { return take(found, size); }
cudaError_t cudaFree(void *place) { return give_back(place); }
cudaError_t cudaFreeAsync(void *place, cudaStream_t stream) { return give_back(place); }
cudaError_t cudaMemGetInfo(size_t *left, size_t *whole) {
    *left = memory() - taken[here];
    SET(whole, memory());
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
    memmove(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream) {
    return cudaMemcpy(to, from, size, kind);
}
cudaError_t cudaMemset(void *to, int value, size_t size) {
    memset(to, value, size);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream) {
    return cudaMemset(to, value, size);
}

/* pinned memory of the host, which is known again by its address */
static struct { char *begin; size_t size; } pinned[1 << 16];
static int pieces = 0;
cudaError_t cudaHostAlloc(void **found, size_t size, unsigned flags) {
    if (pieces == 1 << 16 || posix_memalign(found, WHOLE, size)) return cudaErrorMemoryAllocation;
    pinned[pieces].begin = *found;
    pinned[pieces++].size = size;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *place) {
    for (int i = 0; i < pieces; i++)
        if (pinned[i].begin == place) pinned[i] = pinned[--pieces];
    free(place);
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *place) {
    memset(found, 0, sizeof *found);
    found->type = cudaMemoryTypeUnregistered;
    for (int i = 0; i < pieces; i++)
        if ((char *)place >= pinned[i].begin && (char *)place < pinned[i].begin + pinned[i].size)
            found->type = cudaMemoryTypeHost;
    return cudaSuccess;
}

/* streams, events, and what is recorded of a stream: one recording at a time */
static int recording = 0;
static unsigned long long which = 0;
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) { SET(stream, handle()); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { SET(stream, handle()); }
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) { SET(priority, 0); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) { SET(event, handle()); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end) { SET(ms, 1.0f); }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    recording = 1;
    which++;
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph, const cudaGraphNode_t *after,
                                          const cudaGraphEdgeData *edges, size_t count,
                                          enum cudaStreamCaptureMode mode) {
    return cudaStreamBeginCapture(stream, mode);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    recording = 0;
    SET(graph, handle());
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    SET(status, recording ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone);
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **after, const cudaGraphEdgeData **edges,
                                     size_t *count) {
    if (id) *id = which;
    if (graph) *graph = (cudaGraph_t)&last;
    if (after) *after = NULL;
    if (edges) *edges = NULL;
    if (count) *count = 0;
    return cudaStreamIsCapturing(stream, status);
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) { SET(count, 1); }
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *found, cudaGraph_t graph, unsigned long long flags) {
    SET(found, handle());
}
cudaError_t cudaUserObjectCreate(cudaUserObject_t *found, void *of, cudaHostFn_t end, unsigned count, unsigned flags) {
    SET(found, handle());
}

/* errors, and modules of kernels */
const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : "error of the emulated GPU";
}
const char *cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }
void **__cudaRegisterFatBinary(void *binary) {
    static void *module;
    return &module;
}

/* what the driver can do, it says itself */
static long nothing(void) { return 0; }
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **found, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *result) {
    void *known = dlsym(RTLD_DEFAULT, name);
    *found = known ? known : (void *)nothing;
    SET(result, cudaDriverEntryPointSuccess);
}
