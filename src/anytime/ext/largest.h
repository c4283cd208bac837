/* The largest of many floats, in vectors as wide as the processor has. */
#ifndef ANYTIME_LARGEST_H
#define ANYTIME_LARGEST_H

#include "processors.h"

FOR_EACH_PROCESSOR
static float largest_of(const float *values, long count) {
  float lanes[32], most = values[0];
  long i = 0;
  for (int lane = 0; lane < 32; lane++) lanes[lane] = most;
  for (; i + 32 <= count; i += 32)
    for (int lane = 0; lane < 32; lane++) lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
  for (int lane = 0; lane < 32; lane++) most = lanes[lane] > most ? lanes[lane] : most;
  for (; i < count; i++) most = values[i] > most ? values[i] : most;
  return most;
}

#endif
