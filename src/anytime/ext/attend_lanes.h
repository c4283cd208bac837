/* Queries that look at keys and values: the arithmetic of attention, on plain arrays, in vectors of ``LANES`` floats.
 *
 * One pass over the cache with a running maximum (Milakov and Gimelshein 2018; Dao et al. 2022), in tiles that stay in the
 * first-level cache, for all queries that share a key head. Vectors are the compiler's own (GCC, Clang), so that one source
 * serves x86 and Arm. They have to be as wide as the processor's: for AVX2, GCC 12 takes vectors of 16 apart into single
 * floats. So whoever includes this says LANES, and ATTEND, the function's name; see attend.h for who does.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "attend.h"

#define TILE 64 /* positions */
#define FEW_ROWS 6 /* up to which keys are not transposed */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float four __attribute__((vector_size(16)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec value) { *(vec *)to = value; }

INLINE float sum(vec value) {
  union { vec whole; four parts[LANES / 4]; } wide = {.whole = value};
  four rest = wide.parts[0];
  for (int i = 1; i < LANES / 4; i++) rest += wide.parts[i];
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
  for (long j = 0; j < TILE; j += 4 * LANES) {
    vec a = {0}, b = {0}, c = {0}, d = {0};
    for (long i = 0; i < channels; i++) {
      const float *column = columns + i * TILE + j;
      a += load(column) * query[i];
      b += load(column + LANES) * query[i];
      c += load(column + 2 * LANES) * query[i];
      d += load(column + 3 * LANES) * query[i];
    }
    store(scores + j, a);
    store(scores + j + LANES, b);
    store(scores + j + 2 * LANES, c);
    store(scores + j + 3 * LANES, d);
  }
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

void ATTEND(float **queries, const long *froms, const long *ends, int rows, const float *keys, const float *values,
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
