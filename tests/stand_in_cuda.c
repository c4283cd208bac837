// A stand-in for CUDA's libraries, with which onnxruntime-gpu opens sessions, places nodes, binds memory and captures
// graphs on a machine without a GPU. The host's memory is the GPU's, copies are made at once, kernels do nothing. What
// is captured, launched and waited for is written to stderr. Functions that ONNX Runtime wants and that are not here
// return 0; the test adds them.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAY(...) (fprintf(stderr, "cuda: " __VA_ARGS__), fputc('\n', stderr))
#define HANDLE(name) int name(void **handle) { return *handle = (void *)0x100, 0; }

static int capturing, launches;

static int take(void **memory, size_t size)
{
    if (posix_memalign(memory, 256, size ? size : 256))
        return 2;
    memset(*memory, 0, size);
    return 0;
}

int cudaMalloc(void **memory, size_t size) { return take(memory, size); }
int cudaMallocHost(void **memory, size_t size) { return take(memory, size); }
int cudaHostAlloc(void **memory, size_t size, unsigned flags) { return take(memory, size); }
int cudaMallocFromPoolAsync(void **memory, size_t size, void *pool, void *stream) { return take(memory, size); }
int cudaFree(void *memory) { return free(memory), 0; }
int cudaFreeHost(void *memory) { return free(memory), 0; }
int cudaFreeAsync(void *memory, void *stream) { return free(memory), 0; }
int cudaMemset(void *to, int value, size_t size) { return memset(to, value, size), 0; }
int cudaMemsetAsync(void *to, int value, size_t size, void *stream) { return memset(to, value, size), 0; }
int cudaMemcpy(void *to, void *from, size_t size, int kind) { return memcpy(to, from, size), 0; }

int cudaMemcpyAsync(void *to, void *from, size_t size, int kind, void *stream)
{
    if (kind != 3) // between two places on the GPU
        SAY("copy of kind %d%s", kind, capturing ? " captured" : "");
    return memcpy(to, from, size), 0;
}

int cudaMemGetInfo(size_t *free, size_t *total) { return *free = *total = (size_t)8 << 30, 0; }
int cudaGetDeviceCount(int *count) { return *count = 1, 0; }
int cudaGetDevice(int *device) { return *device = 0; }
int cudaRuntimeGetVersion(int *version) { return *version = 13000, 0; }
int cudaDriverGetVersion(int *version) { return *version = 13000, 0; }

int cudaDeviceGetAttribute(int *value, int attribute, int device)
{
    return *value = attribute == 75 ? 8 : attribute == 76 ? 6 : attribute == 10 ? 32 : 1024, 0;
}

int cudaGetDeviceProperties(char *properties, int device) // those of CUDA 13, by their places
{
    memset(properties, 0, 400);
    strcpy(properties, "Stand-in");
    *(size_t *)(properties + 288) = (size_t)8 << 30; // memory
    *(size_t *)(properties + 296) = 48 << 10;        // shared memory of a block
    *(int *)(properties + 308) = 32;                 // threads of a warp
    *(int *)(properties + 320) = 1024;               // threads of a block
    *(int *)(properties + 360) = 8;                  // compute capability
    *(int *)(properties + 364) = 6;
    *(int *)(properties + 384) = 16; // multiprocessors
    return 0;
}

int cudaStreamSynchronize(void *stream) { return SAY("wait%s", capturing ? " captured" : ""), 0; }
int cudaStreamIsCapturing(void *stream, int *status) { return *status = capturing, 0; }

int cudaStreamBeginCapture(void *stream, int mode)
{
    SAY("begin on %ld", (long)(intptr_t)stream);
    capturing = 1, launches = 0;
    return 0;
}

int cudaStreamEndCapture(void *stream, void **graph)
{
    SAY("end with %s", launches ? "kernels" : "nothing");
    capturing = 0;
    return *graph = (void *)0x100, 0;
}

int cudaGraphInstantiate(void **executable, void *graph, uint64_t flags)
{
    static intptr_t made;
    return *executable = (void *)++made, 0;
}

int cudaGraphLaunch(void *executable, void *stream) { return SAY("launch %ld", (long)(intptr_t)executable), 0; }
int cudaLaunchKernel(void) { return launches++, 0; }
int __cudaLaunchKernel(void) { return launches++, 0; }
int cudaLaunchKernelExC(void) { return launches++, 0; }
int cudaLaunchHostFunc(void *stream, void (*work)(void *), void *data) { return work(data), 0; }

int cudaPointerGetAttributes(int *attributes, void *memory)
{
    memset(attributes, 0, 32);
    return *attributes = 2, 0; // the GPU's
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks) { return *blocks = 1, 0; }
const char *cudaGetErrorString(int error) { return "an error"; }
const char *cudaGetErrorName(int error) { return "an error"; }
const char *cublasGetStatusName(int status) { return "a status"; }
const char *cublasGetStatusString(int status) { return "a status"; }
void *__cudaRegisterFatBinary(void *code) { static void *handle[4]; return handle; }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return *stream = (void *)0x200, 0; }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return *event = (void *)0x100, 0; }
HANDLE(cudaStreamCreate)
HANDLE(cudaEventCreate)
HANDLE(cudaLibraryLoadData)
HANDLE(cudaLibraryGetKernel)
HANDLE(__cudaGetKernel)
HANDLE(cudaMemPoolCreate)
HANDLE(cublasCreate_v2)
HANDLE(cublasLtCreate)
HANDLE(cublasLtMatmulDescCreate)
HANDLE(cublasLtMatmulPreferenceCreate)
HANDLE(cublasLtMatrixLayoutCreate)
HANDLE(cublasLtMatrixTransformDescCreate)
