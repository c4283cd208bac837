/* What is compiled for several x86 processors, of which the best that is there is taken. */
#ifndef ANYTIME_PROCESSORS_H
#define ANYTIME_PROCESSORS_H

#include <stdlib.h> /* which says whose library it is: clones need glibc's loader */

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define WIDER_X86
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

#endif
