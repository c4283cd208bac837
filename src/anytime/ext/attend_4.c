/* For every processor. */
#define LANES 4
#define ATTEND attend_4
#include "attend_lanes.h"
