/* Kernels of aarch64. Each is compiled for the instructions it needs, and called only where the processor has them. */
#if defined(__aarch64__)

#include "kernels.h"

#include <arm_neon.h>
#include <sys/auxv.h>

typedef uint64_t words2 __attribute__((vector_size(16), may_alias));

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod"))) static uint64_t
#define I8MM __attribute__((target("arch=armv8.2-a+i8mm"))) static uint64_t

/* As the kernel numbers them; an older libc has no names for them. */
static const unsigned long CAP_ASIMDDP = 1UL << 20, CAP2_I8MM = 1UL << 13;

static bool always(void) { return true; }
static bool has_dotprod(void) { return (getauxval(AT_HWCAP) & CAP_ASIMDDP) != 0; }
static bool has_i8mm(void) { return (getauxval(AT_HWCAP2) & CAP2_I8MM) != 0; }

static uint64_t read_neon(const uint64_t *words, size_t n) { READ_BODY(words2); }

#define FP32_NEON(i) a##i = vfmaq_f32(a##i, x, y);
/* Eight products added in 16 bits: a model's kernel would have to widen them now and then. */
#define INT8_NEON(i) a##i = vmlal_s8(a##i, x, y);
#define INT8_DOTPROD(i) a##i = vdotq_s32(a##i, x, y);
/* A matrix of two by eight bytes times one of eight by two: twice the work of a dot product. */
#define INT8_I8MM(i) a##i = vmmlaq_s32(a##i, x, y);

static uint64_t fp32_neon(void) {
  float32x4_t x = vdupq_n_f32(1), y = x;
  BLOCK_BODY(EACH_24, FP32_NEON, float32x4_t, float32x4_t);
}

static uint64_t int8_neon(void) {
  int8x8_t x = vdup_n_s8(1), y = x;
  BLOCK_BODY(EACH_24, INT8_NEON, int16x8_t, int16x8_t);
}

DOTPROD int8_dotprod(void) {
  int8x16_t x = vdupq_n_s8(1), y = x;
  BLOCK_BODY(EACH_24, INT8_DOTPROD, int32x4_t, int32x4_t);
}

I8MM int8_i8mm(void) {
  int8x16_t x = vdupq_n_s8(1), y = x;
  BLOCK_BODY(EACH_24, INT8_I8MM, int32x4_t, int32x4_t);
}

const struct kernel kernels[] = {
  {READ, "neon", always, read_neon, NULL},
  {FP32, "neon", always, NULL, fp32_neon},
  {INT8, "i8mm", has_i8mm, NULL, int8_i8mm},
  {INT8, "dotprod", has_dotprod, NULL, int8_dotprod},
  {INT8, "neon", always, NULL, int8_neon},
};
const size_t n_kernels = sizeof kernels / sizeof *kernels;

#endif
