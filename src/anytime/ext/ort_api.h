/* The part of ONNX Runtime's C API that the engine uses.
 *
 * The API is a table of functions whose order never changes (onnxruntime_c_api.h: "no functions may be removed or
 * reordered"), so the ones between are left as unnamed slots. Every entry here is of version 4 or older; ONNX Runtime
 * 1.23, the oldest one supported, has version 23.
 */
#ifndef ANYTIME_ORT_API_H
#define ANYTIME_ORT_API_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION_USED 23

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtShapeInfo OrtShapeInfo;
typedef struct OrtIoBinding OrtIoBinding;

typedef struct OrtApi {
  void *_0[2];
  const char *(*GetErrorMessage)(const OrtStatus *);                                              /* 2 */
  OrtStatus *(*CreateEnv)(int severity, const char *id, OrtEnv **);                               /* 3 */
  void *_4[3];
  OrtStatus *(*CreateSession)(const OrtEnv *, const char *path, const OrtSessionOptions *, OrtSession **); /* 7 */
  void *_8[2];
  OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **);                                       /* 10 */
  void *_11[6];
  OrtStatus *(*DisableMemPattern)(OrtSessionOptions *);                                           /* 17 */
  void *_18[4];
  OrtStatus *(*SetSessionLogSeverityLevel)(OrtSessionOptions *, int);                             /* 22 */
  void *_23[1];
  OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int);                                   /* 24 */
  OrtStatus *(*SetInterOpNumThreads)(OrtSessionOptions *, int);                                   /* 25 */
  void *_26[3];
  OrtStatus *(*RegisterCustomOpsLibrary)(OrtSessionOptions *, const char *path, void **library);  /* 29 */
  OrtStatus *(*SessionGetInputCount)(const OrtSession *, size_t *);                               /* 30 */
  OrtStatus *(*SessionGetOutputCount)(const OrtSession *, size_t *);                              /* 31 */
  void *_32[4];
  OrtStatus *(*SessionGetInputName)(const OrtSession *, size_t, OrtAllocator *, char **);         /* 36 */
  OrtStatus *(*SessionGetOutputName)(const OrtSession *, size_t, OrtAllocator *, char **);        /* 37 */
  void *_38[1];
  OrtStatus *(*CreateRunOptions)(OrtRunOptions **);                                               /* 39 */
  void *_40[6];
  OrtStatus *(*RunOptionsSetTerminate)(OrtRunOptions *);                                          /* 46 */
  void *_47[2];
  OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *data, size_t bytes, const int64_t *shape,
                                               size_t rank, int type, OrtValue **);               /* 49 */
  void *_50[1];
  OrtStatus *(*GetTensorMutableData)(OrtValue *, void **);                                        /* 51 */
  void *_52[9];
  OrtStatus *(*GetDimensionsCount)(const OrtShapeInfo *, size_t *);                               /* 61 */
  OrtStatus *(*GetDimensions)(const OrtShapeInfo *, int64_t *, size_t);                           /* 62 */
  void *_63[2];
  OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtShapeInfo **);                         /* 65 */
  void *_66[3];
  OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int kind, OrtMemoryInfo **);                   /* 69 */
  void *_70[6];
  OrtStatus *(*AllocatorFree)(OrtAllocator *, void *);                                            /* 76 */
  void *_77[1];
  OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **);                                  /* 78 */
  void *_79[14];
  void (*ReleaseStatus)(OrtStatus *);                                                             /* 93 */
  void *_94[1];
  void (*ReleaseSession)(OrtSession *);                                                           /* 95 */
  void (*ReleaseValue)(OrtValue *);                                                               /* 96 */
  void (*ReleaseRunOptions)(OrtRunOptions *);                                                     /* 97 */
  void *_98[1];
  void (*ReleaseShapeInfo)(OrtShapeInfo *);                                                       /* 99 */
  void (*ReleaseSessionOptions)(OrtSessionOptions *);                                             /* 100 */
  void *_101[29];
  OrtStatus *(*AddSessionConfigEntry)(OrtSessionOptions *, const char *key, const char *value);   /* 130 */
  void *_131[2];
  OrtStatus *(*RunWithBinding)(OrtSession *, const OrtRunOptions *, const OrtIoBinding *);        /* 133 */
  OrtStatus *(*CreateIoBinding)(OrtSession *, OrtIoBinding **);                                   /* 134 */
  void (*ReleaseIoBinding)(OrtIoBinding *);                                                       /* 135 */
  OrtStatus *(*BindInput)(OrtIoBinding *, const char *name, const OrtValue *);                    /* 136 */
  OrtStatus *(*BindOutput)(OrtIoBinding *, const char *name, const OrtValue *);                   /* 137 */
  OrtStatus *(*BindOutputToDevice)(OrtIoBinding *, const char *name, const OrtMemoryInfo *);      /* 138 */
  void *_139[1];
  OrtStatus *(*GetBoundOutputValues)(const OrtIoBinding *, OrtAllocator *, OrtValue ***, size_t *); /* 140 */
} OrtApi;

typedef struct OrtApiBase {
  const OrtApi *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

_Static_assert(offsetof(OrtApi, ReleaseSessionOptions) == 100 * sizeof(void *), "version 1 of the API ends at 101");
_Static_assert(offsetof(OrtApi, GetBoundOutputValues) == 140 * sizeof(void *), "the slots do not add up");

#endif
