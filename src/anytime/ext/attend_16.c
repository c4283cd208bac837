/* For processors of x86-64-v4. */
#include "processors.h"
#ifdef WIDER_X86
#pragma GCC target("arch=x86-64-v4")
#define LANES 16
#define ATTEND attend_16
#include "attend_lanes.h"
#endif
