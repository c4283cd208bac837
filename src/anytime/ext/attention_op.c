/* Attention of a decoder's layer over a cache that is extended in place, as an operator of ONNX Runtime.
 *
 * Domain "anytime", operator "Attention". Inputs: queries, keys and values of the new positions side by side [batch,
 * positions, (heads + 2 * kv_heads) * channels]; past keys and values [batch, kv_heads, context, channels]; the last
 * position of every row [batch]; and, each optional, cosine and sine of every position [.., channels / 2] and the weights
 * of the heads' root-mean-square norms [channels]. Outputs: [batch, positions, heads * channels], and the cache, which
 * is the same memory where it is bound to the same memory.
 *
 * One pass over the cache with a running maximum (Milakov and Gimelshein 2018; Dao et al. 2022), in tiles that stay in the
 * first-level cache, for all queries that share a key head. Vectors are the compiler's own (GCC, Clang), so that one source
 * serves x86 and Arm; on x86 three versions are compiled and the processor chooses.
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define API_VERSION 23
#define TILE 64 /* positions */
#define LANES 16
#define ROWS 32 /* queries that pass over the cache together */
#define MOST_CHANNELS 256
#define FEW_ROWS 6 /* up to which keys are not transposed */
#define WORTH_THREADS 4000000 /* products from which on other threads are woken */

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
} Kernel;

/* One run of the operator. */
typedef struct {
  const Kernel *kernel;
  const float *qkv, *cos, *sin, *q_norm, *k_norm;
  const int32_t *last;
  float *keys, *values, *out;
  long batch, positions, channels, context, blocks;
} Call;

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float half __attribute__((vector_size(2 * LANES)));
typedef float quarter __attribute__((vector_size(LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec value) { *(vec *)to = value; }

INLINE float sum(vec value) {
  union { vec whole; half parts[2]; } wide = {.whole = value};
  union { half whole; quarter parts[2]; } narrow = {.whole = wide.parts[0] + wide.parts[1]};
  quarter rest = narrow.parts[0] + narrow.parts[1];
  return (rest[0] + rest[1]) + (rest[2] + rest[3]);
}

INLINE vec larger(vec a, vec b) {
  ivec keep = a > b;
  return (vec)(((ivec)a & keep) | ((ivec)b & ~keep));
}

INLINE float largest(const float *values, long count) {
  vec most = load(values);
  float parts[LANES];
  for (long i = LANES; i < count; i += LANES) most = larger(load(values + i), most);
  store(parts, most);
  for (int i = 1; i < LANES; i++) parts[0] = parts[i] > parts[0] ? parts[i] : parts[0];
  return parts[0];
}

/* e to the power of x <= 0, to two units in the last place (the polynomial of Cephes' expf). */
INLINE vec exponential(vec x) {
  vec lowest = {0};
  vec value = larger(x, lowest - 87.0f);
  ivec power = __builtin_convertvector(value * 1.44269504f - 0.5f, ivec);
  vec whole = __builtin_convertvector(power, vec);
  vec rest = value - whole * 0.693359375f + whole * 2.12194440e-4f;
  vec series = rest * 1.9875691500e-4f + 1.3981999507e-3f;
  series = series * rest + 8.3334519073e-3f;
  series = series * rest + 4.1665795894e-2f;
  series = series * rest + 1.6666665459e-1f;
  series = series * rest + 5.0000001201e-1f;
  series = series * rest * rest + rest + 1.0f;
  return series * (vec)((power + 127) << 23);
}

/* Scores of one query and the positions [from, to) of a tile of keys. */
INLINE void score_rows(const float *query, const float *keys, long from, long to, long channels, float *scores) {
  for (long j = from; j < to; j++) {
    const float *key = keys + j * channels;
    vec even = load(query) * load(key), odd = {0};
    for (long i = LANES; i < channels; i += 2 * LANES) {
      odd += load(query + i) * load(key + i);
      if (i + LANES < channels) even += load(query + i + LANES) * load(key + i + LANES);
    }
    scores[j] = sum(even + odd);
  }
}

/* The same with the tile transposed, [channel][position]: no sum over lanes. */
INLINE void score_columns(const float *query, const float *columns, long channels, float *scores) {
  vec a = {0}, b = {0}, c = {0}, d = {0};
  for (long i = 0; i < channels; i++) {
    const float *column = columns + i * TILE;
    a += load(column) * query[i];
    b += load(column + LANES) * query[i];
    c += load(column + 2 * LANES) * query[i];
    d += load(column + 3 * LANES) * query[i];
  }
  store(scores, a);
  store(scores + LANES, b);
  store(scores + 2 * LANES, c);
  store(scores + 3 * LANES, d);
}

/* result += weights · values over the positions [from, to) of a tile, for up to four vectors of channels. */
INLINE void add_some(const float *weights, const float *values, long from, long to, long channels, float *result, int n) {
  vec even[4], odd[4] = {{0}, {0}, {0}, {0}};
  for (int i = 0; i < n; i++) even[i] = load(result + i * LANES);
  long j = from;
  for (; j + 1 < to; j += 2)
    for (int i = 0; i < n; i++) {
      even[i] += load(values + j * channels + i * LANES) * weights[j];
      odd[i] += load(values + (j + 1) * channels + i * LANES) * weights[j + 1];
    }
  for (; j < to; j++)
    for (int i = 0; i < n; i++) even[i] += load(values + j * channels + i * LANES) * weights[j];
  for (int i = 0; i < n; i++) store(result + i * LANES, even[i] + odd[i]);
}

INLINE void add_values(const float *weights, const float *values, long from, long to, long channels, float *result) {
  long i = 0;
  for (; i + 4 * LANES <= channels; i += 4 * LANES) add_some(weights, values + i, from, to, channels, result + i, 4);
  switch ((channels - i) / LANES) {
    case 3: add_some(weights, values + i, from, to, channels, result + i, 3); break;
    case 2: add_some(weights, values + i, from, to, channels, result + i, 2); break;
    case 1: add_some(weights, values + i, from, to, channels, result + i, 1); break;
  }
}

/* Scores of a tile become weights relative to the largest so far; what lies outside [from, to) has none. */
INLINE float weigh(float *scores, long from, long to, float highest) {
  vec total = {0};
  for (long j = 0; j < TILE; j += LANES) {
    store(scores + j, exponential(load(scores + j) - highest));
    for (long k = j; (from > j || to < j + LANES) && k < j + LANES; k++)
      if (k < from || k >= to) scores[k] = 0;
    total += load(scores + j);
  }
  return sum(total);
}

/* Queries [row][channel] become their attention over [froms[row], ends[row]) of one key head. */
FOR_EACH_PROCESSOR
static void attend(float **queries, const long *froms, const long *ends, int rows, const float *keys, const float *values,
                   long channels, float scale) {
  float query[ROWS][MOST_CHANNELS], result[ROWS][MOST_CHANNELS], most[ROWS], total[ROWS];
  float columns[MOST_CHANNELS * TILE], scores[TILE];
  long first = ends[rows - 1], end = 0;
  for (int r = 0; r < rows; r++) {
    for (long i = 0; i < channels; i++) query[r][i] = queries[r][i] * scale;
    memset(result[r], 0, sizeof(float) * channels);
    most[r] = -FLT_MAX;
    total[r] = 0;
    first = froms[r] < first ? froms[r] : first;
    end = ends[r] > end ? ends[r] : end;
  }
  for (long start = first; start < end; start += TILE) {
    long size = end - start < TILE ? end - start : TILE;
    const float *tile = keys + start * channels;
    if (rows > FEW_ROWS)
      for (long j = 0; j < TILE; j++)
        for (long i = 0; i < channels; i++) columns[i * TILE + j] = j < size ? tile[j * channels + i] : 0;
    for (int r = 0; r < rows; r++) {
      long from = froms[r] > start ? froms[r] - start : 0, to = ends[r] - start < size ? ends[r] - start : size;
      if (to <= from) continue;
      if (rows > FEW_ROWS)
        score_columns(query[r], columns, channels, scores);
      else
        score_rows(query[r], tile, from, to, channels, scores);
      if (from > 0 || to < TILE)
        for (long j = 0; j < TILE; j++)
          if (j < from || j >= to) scores[j] = -FLT_MAX;
      float highest = largest(scores, TILE);
      if (highest > most[r]) {
        float shrink = expf(most[r] - highest);
        for (long i = 0; i < channels; i += LANES) store(result[r] + i, load(result[r] + i) * shrink);
        total[r] *= shrink;
        most[r] = highest;
      }
      total[r] += weigh(scores, from, to, most[r]);
      add_values(scores, values + start * channels, from, to, channels, result[r]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (long i = 0; i < channels; i++) queries[r][i] = result[r][i] / total[r];
}

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
  attend(rows, froms, ends, count, call->keys + offset, call->values + offset, call->channels, kernel->scale);
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
  if (call.channels > MOST_CHANNELS || call.channels % LANES != 0) { /* the export fuses no such model */
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
