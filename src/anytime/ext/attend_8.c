/* For processors of x86-64-v3. */
#include "processors.h"
#ifdef WIDER_X86
#pragma GCC target("arch=x86-64-v3")
#define LANES 8
#define ATTEND attend_8
#include "attend_lanes.h"
#endif
