/* Attention of a decoder's layer over a cache that is extended in place, as an operator of ONNX Runtime.
 *
 * Domain "anytime", operator "Attention". Inputs: queries, keys and values of the new positions side by side [batch,
 * positions, (heads + 2 * kv_heads) * channels]; past keys and values [batch, kv_heads, context, channels]; the last
 * position of every row [batch]; and, each optional, cosine and sine of every position [.., channels / 2] and the weights
 * of the heads' root-mean-square norms [channels]. Outputs: [batch, positions, heads * channels], and the cache, which
 * is the same memory where it is bound to the same memory.
 *
 * The arithmetic is in attend_lanes.h.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attend.h"

#define API_VERSION 23
#define WORTH_THREADS 1000000 /* products from which on other threads are woken */

typedef struct OrtStatus OrtStatus;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtValue OrtValue;
typedef struct OrtShapeInfo OrtShapeInfo;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtCustomOp OrtCustomOp;

typedef struct OrtApi {
  OrtStatus *(*CreateStatus)(int code, const char *message);                                  /* 0 */
  void *_1[25];
  OrtStatus *(*CreateCustomOpDomain)(const char *, OrtCustomOpDomain **);                     /* 26 */
  OrtStatus *(*CustomOpDomain_Add)(OrtCustomOpDomain *, const OrtCustomOp *);                 /* 27 */
  OrtStatus *(*AddCustomOpDomain)(OrtSessionOptions *, OrtCustomOpDomain *);                  /* 28 */
  void *_29[22];
  OrtStatus *(*GetTensorMutableData)(OrtValue *, void **);                                    /* 51 */
  void *_52[10];
  OrtStatus *(*GetDimensions)(const OrtShapeInfo *, int64_t *, size_t);                       /* 62 */
  void *_63[2];
  OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtShapeInfo **);                     /* 65 */
  void *_66[19];
  OrtStatus *(*KernelInfoGetAttribute_float)(const OrtKernelInfo *, const char *, float *);   /* 85 */
  OrtStatus *(*KernelInfoGetAttribute_int64)(const OrtKernelInfo *, const char *, int64_t *); /* 86 */
  void *_87[3];
  OrtStatus *(*KernelContext_GetInput)(const OrtKernelContext *, size_t, const OrtValue **);  /* 90 */
  OrtStatus *(*KernelContext_GetOutput)(OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **); /* 91 */
  void *_92[7];
  void (*ReleaseShapeInfo)(OrtShapeInfo *);                                                   /* 99 */
  void *_100[174];
  OrtStatus *(*KernelContext_ParallelFor)(const OrtKernelContext *, void (*)(void *, size_t), size_t total,
                                          size_t batches, void *);                            /* 274 */
} OrtApi;
_Static_assert(offsetof(OrtApi, ReleaseShapeInfo) == 99 * sizeof(void *), "the slots do not add up");
_Static_assert(offsetof(OrtApi, KernelContext_ParallelFor) == 274 * sizeof(void *), "the slots do not add up");


struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *);
  const char *(*GetName)(const OrtCustomOp *);
  const char *(*GetExecutionProviderType)(const OrtCustomOp *);
  int (*GetInputType)(const OrtCustomOp *, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp *);
  int (*GetOutputType)(const OrtCustomOp *, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp *);
  void (*KernelCompute)(void *, OrtKernelContext *);
  void (*KernelDestroy)(void *);
  int (*GetInputCharacteristic)(const OrtCustomOp *, size_t);
  int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t);
};
#define CUSTOM_OP_VERSION 10 /* whose fields end here */

typedef struct OrtApiBase {
  const OrtApi *(*GetApi)(uint32_t);
  const char *(*GetVersionString)(void);
} OrtApiBase;

enum { QKV, PAST_KEY, PAST_VALUE, LAST, COS, SIN, Q_NORM, K_NORM, INPUTS };
enum { OUT, PRESENT_KEY, PRESENT_VALUE, OUTPUTS };
enum { FLOAT32 = 1, INT32 = 6 };    /* ONNXTensorElementDataType */
enum { REQUIRED = 0, OPTIONAL = 1 }; /* OrtCustomOpInputOutputCharacteristic */

typedef struct {
  const OrtApi *api;
  long heads, kv_heads, window;
  float scale, epsilon;
  attend_function *attend;
} Kernel;

/* One run of the operator. */
typedef struct {
  const Kernel *kernel;
  const float *qkv, *cos, *sin, *q_norm, *k_norm;
  const int32_t *last;
  float *keys, *values, *out;
  long batch, positions, channels, context, blocks;
} Call;

/* A head, normalized where there are weights and rotated where there are tables, half against half. */
static void turn(const Call *call, const float *head, const float *norm, long position, float *to) {
  long channels = call->channels, half = channels / 2;
  float scale = 1, normal[MOST_CHANNELS];
  if (norm != NULL) {
    double squares = 0;
    for (long i = 0; i < channels; i++) squares += (double)head[i] * head[i];
    scale = 1 / sqrtf((float)(squares / channels) + call->kernel->epsilon);
  }
  for (long i = 0; i < channels; i++) normal[i] = norm != NULL ? head[i] * scale * norm[i] : head[i];
  if (call->cos == NULL) {
    memcpy(to, normal, sizeof(float) * channels);
    return;
  }
  const float *cos = call->cos + position * half, *sin = call->sin + position * half;
  for (long i = 0; i < half; i++) {
    to[i] = normal[i] * cos[i] - normal[i + half] * sin[i];
    to[i + half] = normal[i + half] * cos[i] + normal[i] * sin[i];
  }
}

/* One new position of one row: its keys and values into the cache, its queries into the output. */
static void place(void *data, size_t item) {
  const Call *call = data;
  const Kernel *kernel = call->kernel;
  long channels = call->channels, heads = kernel->heads, kv_heads = kernel->kv_heads;
  long row = (long)item / call->positions, number = (long)item % call->positions;
  long position = call->last[row] + 1 - call->positions + number;
  const float *head = call->qkv + (long)item * (heads + 2 * kv_heads) * channels;
  for (long h = 0; h < heads; h++, head += channels)
    turn(call, head, call->q_norm, position, call->out + ((long)item * heads + h) * channels);
  for (long h = 0; h < kv_heads; h++, head += channels)
    turn(call, head, call->k_norm, position, call->keys + ((row * kv_heads + h) * call->context + position) * channels);
  for (long h = 0; h < kv_heads; h++, head += channels)
    memcpy(call->values + ((row * kv_heads + h) * call->context + position) * channels, head, sizeof(float) * channels);
}

/* Some queries of one key head of one row. */
static void look(void *data, size_t item) {
  const Call *call = data;
  const Kernel *kernel = call->kernel;
  long group = kernel->heads / kernel->kv_heads, queries = group * call->positions;
  long block = (long)item % call->blocks, kv_head = (long)item / call->blocks % kernel->kv_heads;
  long row = (long)item / call->blocks / kernel->kv_heads;
  long first = call->last[row] + 1 - call->positions;
  float *rows[ROWS];
  long froms[ROWS], ends[ROWS];
  int count = 0;
  for (long q = block * ROWS; q < queries && count < ROWS; q++, count++) {
    long number = q / group, head = kv_head * group + q % group;
    rows[count] = call->out + ((row * call->positions + number) * kernel->heads + head) * call->channels;
    ends[count] = first + number + 1;
    froms[count] = kernel->window > 0 && ends[count] > kernel->window ? ends[count] - kernel->window : 0;
  }
  long offset = (row * kernel->kv_heads + kv_head) * call->context * call->channels;
  kernel->attend(rows, froms, ends, count, call->keys + offset, call->values + offset, call->channels, kernel->scale);
}

static void *input(const OrtApi *api, OrtKernelContext *context, size_t index) {
  const OrtValue *value = NULL;
  void *data = NULL;
  api->KernelContext_GetInput(context, index, &value);
  if (value != NULL) api->GetTensorMutableData((OrtValue *)value, &data);
  return data;
}

static void dimensions(const OrtApi *api, OrtKernelContext *context, size_t index, int64_t *shape, size_t rank) {
  const OrtValue *value = NULL;
  OrtShapeInfo *info = NULL;
  api->KernelContext_GetInput(context, index, &value);
  api->GetTensorTypeAndShape(value, &info);
  api->GetDimensions(info, shape, rank);
  api->ReleaseShapeInfo(info);
}

static float *output(const OrtApi *api, OrtKernelContext *context, size_t index, const int64_t *shape, size_t rank) {
  OrtValue *value = NULL;
  void *data = NULL;
  api->KernelContext_GetOutput(context, index, shape, rank, &value);
  api->GetTensorMutableData(value, &data);
  return data;
}

/* The cache as output: the same memory, or a copy. */
static float *present(const OrtApi *api, OrtKernelContext *context, size_t past, size_t index, const int64_t *shape) {
  const float *before = input(api, context, past);
  float *after = output(api, context, index, shape, 4);
  if (after != before) memcpy(after, before, sizeof(float) * shape[0] * shape[1] * shape[2] * shape[3]);
  return after;
}

static void compute(void *data, OrtKernelContext *context) {
  const Kernel *kernel = data;
  const OrtApi *api = kernel->api;
  int64_t shape[3], cache[4];
  dimensions(api, context, QKV, shape, 3);
  dimensions(api, context, PAST_KEY, cache, 4);
  int64_t result[3] = {shape[0], shape[1], kernel->heads * cache[3]};
  Call call = {
      .kernel = kernel,
      .qkv = input(api, context, QKV),
      .cos = input(api, context, COS),
      .sin = input(api, context, SIN),
      .q_norm = input(api, context, Q_NORM),
      .k_norm = input(api, context, K_NORM),
      .last = input(api, context, LAST),
      .keys = present(api, context, PAST_KEY, PRESENT_KEY, cache),
      .values = present(api, context, PAST_VALUE, PRESENT_VALUE, cache),
      .out = output(api, context, OUT, result, 3),
      .batch = (long)shape[0],
      .positions = (long)shape[1],
      .channels = (long)cache[3],
      .context = (long)cache[2],
  };
  long queries = kernel->heads / kernel->kv_heads * call.positions;
  call.blocks = (queries + ROWS - 1) / ROWS;
  if (call.channels > MOST_CHANNELS || call.channels % MULTIPLE != 0) { /* the export fuses no such model */
    for (long i = 0; i < result[0] * result[1] * result[2]; i++) call.out[i] = NAN;
    return;
  }
  size_t places = (size_t)(call.batch * call.positions), looks = (size_t)(call.batch * kernel->kv_heads * call.blocks);
  long products = 0;
  for (long row = 0; row < call.batch; row++) products += (call.last[row] + 1) * queries * kernel->kv_heads * call.channels;
  if (products < WORTH_THREADS) {
    for (size_t i = 0; i < places; i++) place(&call, i);
    for (size_t i = 0; i < looks; i++) look(&call, i);
  } else {
    api->KernelContext_ParallelFor(context, place, places, 0, &call);
    api->KernelContext_ParallelFor(context, look, looks, 0, &call);
  }
}

static void *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info) {
  Kernel *kernel = calloc(1, sizeof *kernel);
  int64_t heads = 1, kv_heads = 1, window = -1;
  (void)op;
  if (kernel == NULL) return NULL;
  kernel->api = api;
  kernel->attend = widest_attend();
  api->KernelInfoGetAttribute_int64(info, "num_heads", &heads);
  api->KernelInfoGetAttribute_int64(info, "kv_num_heads", &kv_heads);
  api->KernelInfoGetAttribute_int64(info, "local_window_size", &window);
  api->KernelInfoGetAttribute_float(info, "scale", &kernel->scale);
  api->KernelInfoGetAttribute_float(info, "epsilon", &kernel->epsilon);
  kernel->heads = (long)heads, kernel->kv_heads = (long)kv_heads, kernel->window = (long)window;
  return kernel;
}

static const char *name(const OrtCustomOp *op) { return (void)op, "Attention"; }
static const char *provider(const OrtCustomOp *op) { return (void)op, "CPUExecutionProvider"; }
static int input_type(const OrtCustomOp *op, size_t index) { return (void)op, index == LAST ? INT32 : FLOAT32; }
static size_t input_count(const OrtCustomOp *op) { return (void)op, INPUTS; }
static int output_type(const OrtCustomOp *op, size_t index) { return (void)op, (void)index, FLOAT32; }
static size_t output_count(const OrtCustomOp *op) { return (void)op, OUTPUTS; }
static int input_need(const OrtCustomOp *op, size_t index) { return (void)op, index >= COS ? OPTIONAL : REQUIRED; }
static int output_need(const OrtCustomOp *op, size_t index) { return (void)op, (void)index, REQUIRED; }

static const OrtCustomOp ATTENTION = {
    .version = CUSTOM_OP_VERSION,
    .CreateKernel = create,
    .GetName = name,
    .GetExecutionProviderType = provider,
    .GetInputType = input_type,
    .GetInputTypeCount = input_count,
    .GetOutputType = output_type,
    .GetOutputTypeCount = output_count,
    .KernelCompute = compute,
    .KernelDestroy = free,
    .GetInputCharacteristic = input_need,
    .GetOutputCharacteristic = output_need,
};

/* What ONNX Runtime calls when it loads this library (OrtApi::RegisterCustomOpsLibrary). */
__attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
  const OrtApi *api = base->GetApi(API_VERSION);
  OrtCustomOpDomain *domain = NULL;
  OrtStatus *status = api->CreateCustomOpDomain("anytime", &domain);
  if (status == NULL) status = api->CustomOpDomain_Add(domain, &ATTENTION);
  if (status == NULL) status = api->AddCustomOpDomain(options, domain);
  return status;
}
