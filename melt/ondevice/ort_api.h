/* The part of ONNX Runtime's C API that melt calls.
 *
 * libonnxruntime hands out a table of function pointers that only ever grows at its end: a function's slot never
 * changes from one release to the next. No wheel brings the header, so the slots that are used stand here, each
 * with its type. A test compares every slot and type with the header of a Linux distribution.
 *
 * A line of a list is X(slot, name, result, (parameters)). Enumerations of the C API are passed as the integer
 * type that the compilers give them.
 */
#ifndef MELT_ORT_API_H
#define MELT_ORT_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct OrtAllocator OrtAllocator;
typedef struct OrtEnv OrtEnv;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtStatus OrtStatus; /* a null pointer is success */
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtValue OrtValue;
typedef struct OrtEpAssignedSubgraph OrtEpAssignedSubgraph;
typedef struct OrtEpAssignedNode OrtEpAssignedNode;

/* The oldest table that has everything in ORT_FUNCTIONS, and the one from which nodes' placement can be asked. */
enum { ORT_API_MIN = 12, ORT_API_PLACEMENT = 24 };

#define ORT_FUNCTIONS(X)                                                                                            \
  X(1, GetErrorCode, unsigned, (const OrtStatus *))                                                                 \
  X(2, GetErrorMessage, const char *, (const OrtStatus *))                                                          \
  X(3, CreateEnv, OrtStatus *, (unsigned severity, const char *id, OrtEnv **))                                      \
  X(7, CreateSession, OrtStatus *, (const OrtEnv *, const char *path, const OrtSessionOptions *, OrtSession **))    \
  X(9, Run, OrtStatus *,                                                                                            \
    (OrtSession *, const OrtRunOptions *, const char *const *input_names, const OrtValue *const *inputs,            \
     size_t n_inputs, const char *const *output_names, size_t n_outputs, OrtValue **outputs))                       \
  X(10, CreateSessionOptions, OrtStatus *, (OrtSessionOptions **))                                                  \
  X(23, SetSessionGraphOptimizationLevel, OrtStatus *, (OrtSessionOptions *, unsigned level))                       \
  X(24, SetIntraOpNumThreads, OrtStatus *, (OrtSessionOptions *, int))                                              \
  X(25, SetInterOpNumThreads, OrtStatus *, (OrtSessionOptions *, int))                                              \
  X(30, SessionGetInputCount, OrtStatus *, (const OrtSession *, size_t *))                                          \
  X(31, SessionGetOutputCount, OrtStatus *, (const OrtSession *, size_t *))                                         \
  X(36, SessionGetInputName, OrtStatus *, (const OrtSession *, size_t, OrtAllocator *, char **))                    \
  X(37, SessionGetOutputName, OrtStatus *, (const OrtSession *, size_t, OrtAllocator *, char **))                   \
  X(49, CreateTensorWithDataAsOrtValue, OrtStatus *,                                                                \
    (const OrtMemoryInfo *, void *data, size_t n_bytes, const int64_t *shape, size_t rank, unsigned type,           \
     OrtValue **))                                                                                                  \
  X(51, GetTensorMutableData, OrtStatus *, (OrtValue *, void **))                                                   \
  X(60, GetTensorElementType, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, unsigned *))                         \
  X(61, GetDimensionsCount, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, size_t *))                             \
  X(62, GetDimensions, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, int64_t *, size_t))                         \
  X(65, GetTensorTypeAndShape, OrtStatus *, (const OrtValue *, OrtTensorTypeAndShapeInfo **))                       \
  X(67, GetValueType, OrtStatus *, (const OrtValue *, unsigned *))                                                  \
  X(69, CreateCpuMemoryInfo, OrtStatus *, (int allocator, int memory, OrtMemoryInfo **))                            \
  X(78, GetAllocatorWithDefaultOptions, OrtStatus *, (OrtAllocator **))                                             \
  X(93, ReleaseStatus, void, (OrtStatus *))                                                                         \
  X(96, ReleaseValue, void, (OrtValue *))                                                                           \
  X(99, ReleaseTensorTypeAndShapeInfo, void, (OrtTensorTypeAndShapeInfo *))                                         \
  X(130, AddSessionConfigEntry, OrtStatus *, (OrtSessionOptions *, const char *key, const char *value))             \
  X(216, SessionOptionsAppendExecutionProvider, OrtStatus *,                                                        \
    (OrtSessionOptions *, const char *name, const char *const *keys, const char *const *values, size_t n))

/* Only in tables of version ORT_API_PLACEMENT and later. */
#define ORT_PLACEMENT_FUNCTIONS(X)                                                                                  \
  X(407, Session_GetEpGraphAssignmentInfo, OrtStatus *,                                                             \
    (const OrtSession *, const OrtEpAssignedSubgraph *const **, size_t *))                                          \
  X(408, EpAssignedSubgraph_GetEpName, OrtStatus *, (const OrtEpAssignedSubgraph *, const char **))                 \
  X(409, EpAssignedSubgraph_GetNodes, OrtStatus *,                                                                  \
    (const OrtEpAssignedSubgraph *, const OrtEpAssignedNode *const **, size_t *))                                   \
  X(412, EpAssignedNode_GetOperatorType, OrtStatus *, (const OrtEpAssignedNode *, const char **))

#define ORT_SLOT(slot, name, result, parameters) ORT_SLOT_##name = slot,
enum { ORT_FUNCTIONS(ORT_SLOT) ORT_PLACEMENT_FUNCTIONS(ORT_SLOT) };
#undef ORT_SLOT

#define ORT_MEMBER(slot, name, result, parameters) result(*name) parameters;
struct ort_functions {
  ORT_FUNCTIONS(ORT_MEMBER)
  ORT_PLACEMENT_FUNCTIONS(ORT_MEMBER)
};
#undef ORT_MEMBER

typedef void (*ort_any_function)(void);

/* What the library's one exported symbol, OrtGetApiBase, returns. */
struct ort_base {
  const ort_any_function *(*get_api)(uint32_t version);
  const char *(*get_version_string)(void);
};

/* Fills `ort` from a table of the given version; the placement functions stay null in an older one. */
static inline void ort_fill(struct ort_functions *ort, const ort_any_function *table, unsigned version) {
#define ORT_TAKE(slot, name, result, parameters) ort->name = (result(*) parameters)table[slot];
  ORT_FUNCTIONS(ORT_TAKE)
  if (version >= ORT_API_PLACEMENT) {
    ORT_PLACEMENT_FUNCTIONS(ORT_TAKE)
  }
#undef ORT_TAKE
}

/* Error codes and value kinds that are told apart. */
enum { ORT_CODE_INVALID_ARGUMENT = 2, ORT_CODE_NOT_IMPLEMENTED = 9, ORT_CODE_EP_FAIL = 11 };
enum { ORT_VALUE_TENSOR = 1, ORT_LOG_WARNING = 2, ORT_ALLOCATOR_DEVICE = 0, ORT_MEMORY_DEFAULT = 0 };
enum { ORT_LEVEL_DISABLE = 0, ORT_LEVEL_BASIC = 1, ORT_LEVEL_EXTENDED = 2, ORT_LEVEL_ALL = 99 };

/* Element types whose elements have a fixed size of whole bytes: X(number, numpy's name, bytes). */
#define ORT_ELEMENT_TYPES(X)                                                                                        \
  X(1, float32, 4)                                                                                                  \
  X(2, uint8, 1)                                                                                                    \
  X(3, int8, 1)                                                                                                     \
  X(4, uint16, 2)                                                                                                   \
  X(5, int16, 2)                                                                                                    \
  X(6, int32, 4)                                                                                                    \
  X(7, int64, 8)                                                                                                    \
  X(9, bool, 1)                                                                                                     \
  X(10, float16, 2)                                                                                                 \
  X(11, float64, 8)                                                                                                 \
  X(12, uint32, 4)                                                                                                  \
  X(13, uint64, 8)                                                                                                  \
  X(16, bfloat16, 2)                                                                                                \
  X(17, float8_e4m3fn, 1)                                                                                           \
  X(18, float8_e4m3fnuz, 1)                                                                                         \
  X(19, float8_e5m2, 1)                                                                                             \
  X(20, float8_e5m2fnuz, 1)

#endif
