/* Kernels of x86-64. Each is compiled for the instructions it needs, and called only where the processor has them. */
#if defined(__x86_64__)

#include "kernels.h"

#include <cpuid.h>
#include <immintrin.h>

typedef uint64_t words2 __attribute__((vector_size(16), may_alias));
typedef uint64_t words4 __attribute__((vector_size(32), may_alias));
typedef uint64_t words8 __attribute__((vector_size(64), may_alias));
typedef int32_t ints4 __attribute__((vector_size(16)));
typedef int32_t ints8 __attribute__((vector_size(32)));
typedef int32_t ints16 __attribute__((vector_size(64)));

#define AVX2 __attribute__((target("avx2,fma"))) static uint64_t
#define AVX512 __attribute__((target("avx512f"))) static uint64_t
#define AVX512BW __attribute__((target("avx512f,avx512bw"))) static uint64_t
#define AVX512VNNI __attribute__((target("avx512f,avx512vnni"))) static uint64_t

/* __builtin_cpu_supports needs a part of the compiler's library that not every compiler brings. Registers count only
 * where the kernel keeps them: bits 1 and 2 of XCR0 for AVX, 5 to 7 as well for AVX-512. */
static bool kept(uint64_t registers) {
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return false;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (((uint64_t)high << 32 | low) & registers) == registers;
}

/* Whether leaf 1 has these bits in ECX, and leaf 7 these in EBX and ECX. */
static bool has(unsigned ecx_1, unsigned ebx_7, unsigned ecx_7) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & ecx_1) != ecx_1) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & ebx_7) == ebx_7 && (c & ecx_7) == ecx_7;
}

static bool always(void) { return true; }
static bool has_avx2(void) { return kept(0x06) && has(bit_FMA, bit_AVX2, 0); }
static bool has_avx512(void) { return kept(0xe6) && has(0, bit_AVX512F, 0); }
static bool has_avx512bw(void) { return kept(0xe6) && has(0, bit_AVX512F | bit_AVX512BW, 0); }
static bool has_avx512vnni(void) { return kept(0xe6) && has(0, bit_AVX512F, bit_AVX512VNNI); }

static uint64_t read_sse2(const uint64_t *words, size_t n) { READ_BODY(words2); }
AVX2 read_avx2(const uint64_t *words, size_t n) { READ_BODY(words4); }
AVX512 read_avx512(const uint64_t *words, size_t n) { READ_BODY(words8); }

/* Where nothing is fused, product and sum: the compiler must take no product for the one before it. */
#define FP32_SSE2(i) OPAQUE(x); a##i = _mm_add_ps(a##i, _mm_mul_ps(x, y));
#define FP32_AVX2(i) a##i = _mm256_fmadd_ps(x, y, a##i);
#define FP32_AVX512(i) a##i = _mm512_fmadd_ps(x, y, a##i);

static uint64_t fp32_sse2(void) {
  __m128 x = _mm_set1_ps(1), y = x;
  BLOCK_BODY(EACH_8, FP32_SSE2, __m128, __m128);
}

AVX2 fp32_avx2(void) {
  __m256 x = _mm256_set1_ps(1), y = x;
  BLOCK_BODY(EACH_12, FP32_AVX2, __m256, __m256);
}

AVX512 fp32_avx512(void) {
  __m512 x = _mm512_set1_ps(1), y = x;
  BLOCK_BODY(EACH_16, FP32_AVX512, __m512, __m512);
}

/* SSE2 has no product of bytes: they are taken as spread to 16 bits. AVX2 adds neighbours up to 16 and to 32 bits.
 * Four accumulators: only the last addition waits for the one before it, and that for one cycle. */
#define INT8_SSE2(i) OPAQUE(x); a##i = _mm_add_epi32(a##i, _mm_madd_epi16(x, y));
#define INT8_AVX2(i) \
  OPAQUE(x);         \
  a##i = _mm256_add_epi32(a##i, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
#define INT8_AVX512BW(i) \
  OPAQUE(x);             \
  a##i = _mm512_add_epi32(a##i, _mm512_madd_epi16(_mm512_maddubs_epi16(x, y), ones));
#define INT8_AVX512VNNI(i) a##i = _mm512_dpbusd_epi32(a##i, x, y);

static uint64_t int8_sse2(void) {
  __m128i x = _mm_set1_epi16(1), y = x;
  BLOCK_BODY(EACH_4, INT8_SSE2, __m128i, ints4);
}

AVX2 int8_avx2(void) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i x = _mm256_set1_epi8(1), y = x;
  BLOCK_BODY(EACH_4, INT8_AVX2, __m256i, ints8);
}

AVX512BW int8_avx512bw(void) {
  const __m512i ones = _mm512_set1_epi16(1);
  __m512i x = _mm512_set1_epi8(1), y = x;
  BLOCK_BODY(EACH_4, INT8_AVX512BW, __m512i, ints16);
}

AVX512VNNI int8_avx512vnni(void) {
  __m512i x = _mm512_set1_epi8(1), y = x;
  BLOCK_BODY(EACH_16, INT8_AVX512VNNI, __m512i, ints16);
}

const struct kernel kernels[] = {
  {READ, "avx512f", has_avx512, read_avx512, NULL},
  {READ, "avx2", has_avx2, read_avx2, NULL},
  {READ, "sse2", always, read_sse2, NULL},
  {FP32, "avx512f", has_avx512, NULL, fp32_avx512},
  {FP32, "avx2+fma", has_avx2, NULL, fp32_avx2},
  {FP32, "sse2", always, NULL, fp32_sse2},
  {INT8, "avx512_vnni", has_avx512vnni, NULL, int8_avx512vnni},
  {INT8, "avx512bw", has_avx512bw, NULL, int8_avx512bw},
  {INT8, "avx2", has_avx2, NULL, int8_avx2},
  {INT8, "sse2", always, NULL, int8_sse2},
};
const size_t n_kernels = sizeof kernels / sizeof *kernels;

#endif
