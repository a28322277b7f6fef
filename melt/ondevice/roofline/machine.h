/* What the machine says of itself. */
#ifndef MELT_ROOFLINE_MACHINE_H
#define MELT_ROOFLINE_MACHINE_H

#include <stdint.h>

struct machine {
  int cpus;                /* that this process may run on */
  int64_t available_bytes; /* of memory; -1 where the kernel does not say */
  int64_t cache_bytes;     /* of the last level of those CPUs, all together; -1 where the kernel does not say */
};

struct machine look_at_machine(void);

#endif
