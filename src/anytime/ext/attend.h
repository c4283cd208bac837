/* Attention in vectors of 4, 8 and 16 floats (attend_lanes.h), of which a processor has one that is its own. */
#ifndef ANYTIME_ATTEND_H
#define ANYTIME_ATTEND_H

#include "processors.h"

#define ROWS 32 /* queries that pass over the cache together */
#define MOST_CHANNELS 256
#define MULTIPLE 16 /* what channels are a multiple of: the widest vector */

/* Queries [row][channel] become their attention over [froms[row], ends[row]) of one key head. */
typedef void attend_function(float **queries, const long *froms, const long *ends, int rows, const float *keys,
                             const float *values, long channels, float scale);

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN attend_function attend_4; /* SSE, Neon, and whatever else there may be */
#ifdef WIDER_X86
HIDDEN attend_function attend_8, attend_16; /* AVX2, AVX-512 */
#endif

/* The function in vectors of so many floats; NULL where this processor, or the compiler's, has none. */
static inline attend_function *attend_of(int lanes) {
#ifdef WIDER_X86
  if (lanes == 16 && __builtin_cpu_supports("x86-64-v4")) return attend_16;
  if (lanes == 8 && __builtin_cpu_supports("x86-64-v3")) return attend_8;
#endif
  return lanes == 4 ? attend_4 : (attend_function *)0;
}

static inline attend_function *widest_attend(void) {
  for (int lanes = 16; lanes > 4; lanes /= 2)
    if (attend_of(lanes)) return attend_of(lanes);
  return attend_4;
}

#endif
