"""What ``ort_api.h`` declares, for Cython."""

from libc.stdint cimport int64_t

cdef extern from "ort_api.h" nogil:
    const int ORT_API_VERSION_USED
    ctypedef struct OrtStatus
    ctypedef struct OrtEnv
    ctypedef struct OrtSession
    ctypedef struct OrtSessionOptions
    ctypedef struct OrtRunOptions
    ctypedef struct OrtValue
    ctypedef struct OrtMemoryInfo
    ctypedef struct OrtAllocator
    ctypedef struct OrtShapeInfo
    ctypedef struct OrtIoBinding
    ctypedef struct OrtApi:
        const char *(*GetErrorMessage)(const OrtStatus *) noexcept nogil
        OrtStatus *(*CreateEnv)(int, const char *, OrtEnv **) noexcept nogil
        OrtStatus *(*CreateSession)(const OrtEnv *, const char *, const OrtSessionOptions *, OrtSession **) noexcept nogil
        OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **) noexcept nogil
        OrtStatus *(*DisableMemPattern)(OrtSessionOptions *) noexcept nogil
        OrtStatus *(*SetSessionLogSeverityLevel)(OrtSessionOptions *, int) noexcept nogil
        OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int) noexcept nogil
        OrtStatus *(*SetInterOpNumThreads)(OrtSessionOptions *, int) noexcept nogil
        OrtStatus *(*RegisterCustomOpsLibrary)(OrtSessionOptions *, const char *, void **) noexcept nogil
        OrtStatus *(*SessionGetInputCount)(const OrtSession *, size_t *) noexcept nogil
        OrtStatus *(*SessionGetOutputCount)(const OrtSession *, size_t *) noexcept nogil
        OrtStatus *(*SessionGetInputName)(const OrtSession *, size_t, OrtAllocator *, char **) noexcept nogil
        OrtStatus *(*SessionGetOutputName)(const OrtSession *, size_t, OrtAllocator *, char **) noexcept nogil
        OrtStatus *(*CreateRunOptions)(OrtRunOptions **) noexcept nogil
        OrtStatus *(*RunOptionsSetTerminate)(OrtRunOptions *) noexcept nogil
        OrtStatus *(*CreateTensorWithDataAsOrtValue)(
            const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t, int, OrtValue **) noexcept nogil
        OrtStatus *(*GetTensorMutableData)(OrtValue *, void **) noexcept nogil
        OrtStatus *(*GetDimensionsCount)(const OrtShapeInfo *, size_t *) noexcept nogil
        OrtStatus *(*GetDimensions)(const OrtShapeInfo *, int64_t *, size_t) noexcept nogil
        OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtShapeInfo **) noexcept nogil
        OrtStatus *(*CreateCpuMemoryInfo)(int, int, OrtMemoryInfo **) noexcept nogil
        OrtStatus *(*AllocatorFree)(OrtAllocator *, void *) noexcept nogil
        OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **) noexcept nogil
        void (*ReleaseStatus)(OrtStatus *) noexcept nogil
        void (*ReleaseSession)(OrtSession *) noexcept nogil
        void (*ReleaseValue)(OrtValue *) noexcept nogil
        void (*ReleaseRunOptions)(OrtRunOptions *) noexcept nogil
        void (*ReleaseShapeInfo)(OrtShapeInfo *) noexcept nogil
        void (*ReleaseSessionOptions)(OrtSessionOptions *) noexcept nogil
        OrtStatus *(*AddSessionConfigEntry)(OrtSessionOptions *, const char *, const char *) noexcept nogil
        OrtStatus *(*RunWithBinding)(OrtSession *, const OrtRunOptions *, const OrtIoBinding *) noexcept nogil
        OrtStatus *(*CreateIoBinding)(OrtSession *, OrtIoBinding **) noexcept nogil
        void (*ReleaseIoBinding)(OrtIoBinding *) noexcept nogil
        OrtStatus *(*BindInput)(OrtIoBinding *, const char *, const OrtValue *) noexcept nogil
        OrtStatus *(*BindOutput)(OrtIoBinding *, const char *, const OrtValue *) noexcept nogil
        OrtStatus *(*BindOutputToDevice)(OrtIoBinding *, const char *, const OrtMemoryInfo *) noexcept nogil
        OrtStatus *(*GetBoundOutputValues)(const OrtIoBinding *, OrtAllocator *, OrtValue ***, size_t *) noexcept nogil
    ctypedef struct OrtApiBase:
        const OrtApi *(*GetApi)(unsigned int) noexcept nogil
        const char *(*GetVersionString)() noexcept nogil

ctypedef const OrtApiBase *(*GetApiBase)() noexcept nogil
