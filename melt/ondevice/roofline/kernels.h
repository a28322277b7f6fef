/* What is measured: loops whose result tells how much they did, so that no compiler can leave a part of them out.
 *
 * The memory that is read holds ones, and the factors of every multiply-add are ones: the sum that a kernel returns
 * is the number of words it read, or of multiply-adds it did. */
#ifndef MELT_ROOFLINE_KERNELS_H
#define MELT_ROOFLINE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind { READ, FP32, INT8, KINDS };

/* How often a block of multiply-adds goes round: sums of ones stay exact in a float, and in 16 bits. */
enum { ROUNDS = 1 << 14 };

struct kernel {
  enum kind kind;
  const char *isa;
  bool (*here)(void);                                /* whether this processor has the instructions */
  uint64_t (*read)(const uint64_t *words, size_t n); /* words lie on 64 bytes, n is a multiple of 32 */
  uint64_t (*block)(void);
};

/* The kernels of this machine, the fastest of a kind first; the last of each kind runs on every processor of it. */
extern const struct kernel kernels[];
extern const size_t n_kernels;

/* The sum of words by vectors of uint64_t, in four sums that do not wait for each other. */
#define READ_BODY(VECTOR)                                                                       \
  const VECTOR *at = (const VECTOR *)words, *end = (const VECTOR *)(words + n);                 \
  VECTOR a = {0}, b = {0}, c = {0}, d = {0};                                                    \
  for (; at < end; at += 4) a += at[0], b += at[1], c += at[2], d += at[3];                     \
  a = (a + b) + (c + d);                                                                        \
  uint64_t sum = 0;                                                                             \
  for (size_t i = 0; i < sizeof a / sizeof a[0]; i++) sum += a[i];                              \
  return sum

/* As many accumulators, each a register, as the processor's latency and units together keep busy. */
#define EACH_4(DO) DO(0) DO(1) DO(2) DO(3)
#define EACH_8(DO) EACH_4(DO) DO(4) DO(5) DO(6) DO(7)
#define EACH_12(DO) EACH_8(DO) DO(8) DO(9) DO(10) DO(11)
#define EACH_16(DO) EACH_12(DO) DO(12) DO(13) DO(14) DO(15)
#define EACH_24(DO) EACH_16(DO) DO(16) DO(17) DO(18) DO(19) DO(20) DO(21) DO(22) DO(23)

/* Makes x a value that the compiler knows nothing of, at no cost. */
#define OPAQUE(x) __asm__ volatile("" : "+" VECTOR_REGISTER(x))
#if defined(__x86_64__)
#define VECTOR_REGISTER "v" /* any that the instructions in use can name */
#else
#define VECTOR_REGISTER "w"
#endif

/* A block: STEP(i) adds the products of x and y to a##i, a vector of the type of A and of lanes of the type of LANES.
 * Each accumulator begins opaque, or the compiler would see that all hold the same, and keep one. */
#define BLOCK_BODY(EACH, STEP, A, LANES)                                                        \
  typedef A accumulator;                                                                        \
  typedef LANES lanes;                                                                          \
  EACH(BLOCK_ZERO)                                                                                      \
  for (int round = 0; round < ROUNDS; round++) {                                                \
    OPAQUE(x);                                                                                  \
    OPAQUE(y);                                                                                  \
    EACH(STEP)                                                                                  \
  }                                                                                             \
  uint64_t sum = 0;                                                                             \
  EACH(BLOCK_ADD)                                                                               \
  return sum
#define BLOCK_ZERO(i) accumulator a##i = {0}; OPAQUE(a##i);
#define BLOCK_ADD(i) \
  for (size_t k = 0; k < sizeof a##i / sizeof ((lanes)a##i)[0]; k++) sum += (uint64_t)((lanes)a##i)[k];

#endif
