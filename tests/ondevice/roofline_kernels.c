/* Calls every kernel that this processor can run: KIND ISA COUNT a line; a reading one on memory of three lengths. */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>

int main(void) {
  static const char *const names[KINDS] = {"read", "fp32", "int8"};
  static const size_t lengths[] = {32, 96, 32768};
  uint64_t *words = aligned_alloc(64, 32768 * sizeof *words);
  if (words == NULL) return 1;
  for (size_t i = 0; i < 32768; i++) words[i] = i + 1;
  for (size_t k = 0; k < n_kernels; k++) {
    if (!kernels[k].here()) continue;
    for (size_t i = 0; kernels[k].kind == READ && i < sizeof lengths / sizeof *lengths; i++)
      printf("read %s %llu\n", kernels[k].isa, (unsigned long long)kernels[k].read(words, lengths[i]));
    if (kernels[k].kind != READ)
      printf("%s %s %llu\n", names[kernels[k].kind], kernels[k].isa, (unsigned long long)kernels[k].block());
  }
  free(words);
  return 0;
}
