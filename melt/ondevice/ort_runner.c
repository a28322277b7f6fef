/* Runs a model with ONNX Runtime and stamps every inference.
 *
 *   ort_runner --lib PATH --model PATH --events PATH --output PATH
 *              [--threads N] [--inter-threads N] [--spin 0|1] [--graph-level disable|basic|extended|all]
 *              [--provider NAME [--provider-option KEY=VALUE]...]
 *              [--input NAME DTYPE DIMS FILE]...        DIMS like 1x3x224x224, "-" for a scalar; FILE raw bytes
 *              [--warmup-n N] [--warmup-s S] [--min-n N] [--min-s S] [--max-n N]
 *
 *   ort_runner --try LIB    whether the library can be opened here, with all that it needs in turn
 *
 * Libc only; the runtime is opened when started, so one program serves every version of it.
 * Exit code 0: done. 2: wrong arguments. 3: failed, the last event says why.
 */
#include "events.h"
#include "ort_api.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <sys/stat.h>

enum { MAX_INPUTS = 64, MAX_OUTPUTS = 1024, MAX_OPTIONS = 64, MAX_RANK = 16, MAX_PLACES = 1024, ALIGNMENT = 64 };
static const int64_t MAX_INPUT_BYTES = INT64_C(4) << 30, MAX_OUTPUT_BYTES = INT64_C(256) << 20;

struct element {
  unsigned number;
  const char *name;
  size_t bytes;
};

struct input {
  const char *name, *type, *dims, *path;
  const struct element *element;
  int64_t shape[MAX_RANK];
  size_t rank, bytes;
  void *data;
};

struct plan {
  const char *lib, *model, *events, *output, *provider, *graph_level_name;
  unsigned graph_level;
  int64_t threads, inter_threads, spin, warmup_n, min_n, max_n, warmup_ns, min_ns;
  struct input inputs[MAX_INPUTS];
  size_t n_inputs;
  const char *option_keys[MAX_OPTIONS], *option_values[MAX_OPTIONS];
  size_t n_options;
};

/* What a run of the session needs, made once. */
struct bound {
  OrtSession *session;
  const char *input_names[MAX_INPUTS], *output_names[MAX_OUTPUTS];
  OrtValue *inputs[MAX_INPUTS], *outputs[MAX_OUTPUTS];
  size_t n_inputs, n_outputs;
  int64_t done; /* inferences so far */
};

static struct ort_functions ort;

/* ---------------------------------------------------------------------------------------------------- failing */

static void __attribute__((noreturn, format(printf, 1, 2))) usage(const char *format, ...) {
  va_list rest;
  va_start(rest, format);
  fputs("ort_runner: ", stderr);
  vfprintf(stderr, format, rest);
  fputc('\n', stderr);
  exit(2);
}

static void __attribute__((noreturn, format(printf, 2, 3))) fail(const char *kind, const char *format, ...) {
  char message[EV_TEXT_MAX + 1];
  va_list rest;
  va_start(rest, format);
  vsnprintf(message, sizeof message, format, rest);
  ev_die(kind, message);
}

/* The runtime has no error code for "no memory": its messages tell. */
static const char *kind_of(const OrtStatus *status, const char *otherwise) {
  const char *message = ort.GetErrorMessage(status);
  if (strstr(message, "bad_alloc") != NULL || strstr(message, "Failed to allocate memory") != NULL) return "memory";
  switch (ort.GetErrorCode(status)) {
    case ORT_CODE_NOT_IMPLEMENTED: return "unsupported";
    case ORT_CODE_EP_FAIL: return "provider";
    default: return otherwise;
  }
}

static void check(OrtStatus *status, const char *kind, const char *what) {
  if (status != NULL) fail(kind_of(status, kind), "%s: %s", what, ort.GetErrorMessage(status));
}

/* -------------------------------------------------------------------------------------------------- arguments */

static int64_t count_of(const char *flag, const char *text, int64_t least, int64_t most) {
  size_t digits = strspn(text, "0123456789");
  int64_t value = digits > 0 && digits <= 18 && text[digits] == '\0' ? strtoll(text, NULL, 10) : -1;
  if (value < least || value > most)
    usage("%s takes a whole number from %lld to %lld, not '%s'", flag, (long long)least, (long long)most, text);
  return value;
}

/* Seconds as 12 or 12.5, to nanoseconds; no sign, exponent, inf or nan. */
static int64_t seconds_of(const char *flag, const char *text) {
  const size_t length = strlen(text);
  double value = -1;
  if (length > 0 && length <= 24 && strspn(text, "0123456789.") == length) {
    char *end;
    value = strtod(text, &end);
    if (end != text + length) value = -1;
  }
  if (!(value >= 0 && value <= 604800)) usage("%s takes seconds from 0 to 604800, not '%s'", flag, text);
  return (int64_t)(value * 1e9);
}

static void take_graph_level(struct plan *plan, const char *name) {
  static const struct { const char *name; unsigned level; } levels[] = {
    {"disable", ORT_LEVEL_DISABLE}, {"basic", ORT_LEVEL_BASIC},
    {"extended", ORT_LEVEL_EXTENDED}, {"all", ORT_LEVEL_ALL},
  };
  for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
    if (strcmp(name, levels[i].name) != 0) continue;
    plan->graph_level_name = levels[i].name;
    plan->graph_level = levels[i].level;
    return;
  }
  usage("--graph-level is disable, basic, extended or all, not '%s'", name);
}

static void take_provider_option(struct plan *plan, char *pair) {
  char *equals = strchr(pair, '=');
  if (equals == NULL || equals == pair) usage("--provider-option takes KEY=VALUE, not '%s'", pair);
  if (plan->n_options == MAX_OPTIONS) usage("more than %d provider options", MAX_OPTIONS);
  *equals = '\0';
  plan->option_keys[plan->n_options] = pair;
  plan->option_values[plan->n_options++] = equals + 1;
}

static const struct input *find_input(const struct plan *plan, const char *name) {
  for (size_t i = 0; i < plan->n_inputs; i++)
    if (strcmp(plan->inputs[i].name, name) == 0) return &plan->inputs[i];
  return NULL;
}

static void take_input(struct plan *plan, char **words) {
  if (plan->n_inputs == MAX_INPUTS) usage("more than %d inputs", MAX_INPUTS);
  if (find_input(plan, words[0]) != NULL) usage("--input '%s' is given twice", words[0]);
  struct input *input = &plan->inputs[plan->n_inputs++];
  input->name = words[0];
  input->type = words[1];
  input->dims = words[2];
  input->path = words[3];
}

static void take_flag(struct plan *plan, const char *flag, char *value) {
  const int64_t many = INT64_C(1000000000);
  if (strcmp(flag, "--lib") == 0) plan->lib = value;
  else if (strcmp(flag, "--model") == 0) plan->model = value;
  else if (strcmp(flag, "--events") == 0) plan->events = value;
  else if (strcmp(flag, "--output") == 0) plan->output = value;
  else if (strcmp(flag, "--provider") == 0) plan->provider = value;
  else if (strcmp(flag, "--provider-option") == 0) take_provider_option(plan, value);
  else if (strcmp(flag, "--graph-level") == 0) take_graph_level(plan, value);
  else if (strcmp(flag, "--threads") == 0) plan->threads = count_of(flag, value, 1, 1024);
  else if (strcmp(flag, "--inter-threads") == 0) plan->inter_threads = count_of(flag, value, 1, 1024);
  else if (strcmp(flag, "--spin") == 0) plan->spin = count_of(flag, value, 0, 1);
  else if (strcmp(flag, "--warmup-n") == 0) plan->warmup_n = count_of(flag, value, 0, many);
  else if (strcmp(flag, "--min-n") == 0) plan->min_n = count_of(flag, value, 1, many);
  else if (strcmp(flag, "--max-n") == 0) plan->max_n = count_of(flag, value, 1, many);
  else if (strcmp(flag, "--warmup-s") == 0) plan->warmup_ns = seconds_of(flag, value);
  else if (strcmp(flag, "--min-s") == 0) plan->min_ns = seconds_of(flag, value);
  else usage("unknown argument '%s'", flag);
}

static void read_arguments(struct plan *plan, int argc, char **argv) {
  plan->provider = "cpu";
  plan->threads = plan->inter_threads = plan->spin = plan->min_n = 1;
  plan->max_n = INT64_MAX;
  take_graph_level(plan, "all");
  for (int i = 1; i < argc;) {
    int values = strcmp(argv[i], "--input") == 0 ? 4 : 1;
    if (argc - i <= values) usage("'%s' is unknown or lacks its value", argv[i]);
    if (values == 4) take_input(plan, argv + i + 1);
    else take_flag(plan, argv[i], argv[i + 1]);
    i += 1 + values;
  }
  if (plan->lib == NULL || plan->model == NULL || plan->events == NULL || plan->output == NULL)
    usage("--lib, --model, --events and --output are needed");
  if (plan->n_options > 0 && strcmp(plan->provider, "cpu") == 0) usage("--provider-option needs a --provider");
}

/* ----------------------------------------------------------------------------------------------------- inputs */

static const struct element elements[] = {
#define ORT_ROW(number, name, bytes) {number, #name, bytes},
  ORT_ELEMENT_TYPES(ORT_ROW)
#undef ORT_ROW
};

/* The element type of that name, or of that number when the name is null; null when there is none. */
static const struct element *find_element(const char *name, unsigned number) {
  for (size_t i = 0; i < sizeof elements / sizeof *elements; i++)
    if (name != NULL ? strcmp(name, elements[i].name) == 0 : number == elements[i].number) return &elements[i];
  return NULL;
}

/* Fills shape, rank and bytes from the dimensions. */
static void read_shape(struct input *input) {
  const char *p = input->dims;
  input->bytes = input->element->bytes;
  if (strcmp(p, "-") == 0) return;
  for (;;) {
    size_t digits = strspn(p, "0123456789");
    if (digits == 0 || digits > 10 || (p[digits] != 'x' && p[digits] != '\0') || input->rank == MAX_RANK)
      fail("input", "input '%s' has dimensions '%s': write them like 1x3x224x224", input->name, input->dims);
    int64_t n = strtoll(p, NULL, 10);
    if (n > MAX_INPUT_BYTES || (n > 0 && (int64_t)input->bytes > MAX_INPUT_BYTES / n))
      fail("input", "input '%s' of %s is larger than 4 GiB", input->name, input->dims);
    input->shape[input->rank++] = n;
    input->bytes *= (size_t)n;
    if (p[digits] == '\0') return;
    p += digits + 1;
  }
}

static void read_input(struct input *input) {
  input->element = find_element(input->type, 0);
  if (input->element == NULL) fail("input", "input '%s' has the unknown type '%s'", input->name, input->type);
  read_shape(input);
  int fd = open(input->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not hold us up */
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0)
    fail("input", "cannot open '%s' of input '%s': %s", input->path, input->name, strerror(errno));
  if (!S_ISREG(info.st_mode) || (uint64_t)info.st_size != input->bytes)
    fail("input", "'%s' of input '%s' has %lld bytes where %s %s needs %zu", input->path, input->name,
         (long long)info.st_size, input->type, input->dims, input->bytes);
  if (posix_memalign(&input->data, ALIGNMENT, input->bytes > 0 ? input->bytes : ALIGNMENT) != 0)
    fail("memory", "no memory for the %zu bytes of input '%s'", input->bytes, input->name);
  for (size_t done = 0; done < input->bytes;) {
    ssize_t n = read(fd, (char *)input->data + done, input->bytes - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("input", "cannot read '%s' of input '%s'", input->path, input->name);
    done += (size_t)n;
  }
  close(fd);
}

static void read_inputs(struct plan *plan) {
  int64_t total = 0;
  for (size_t i = 0; i < plan->n_inputs; i++) {
    read_input(&plan->inputs[i]);
    total += (int64_t)plan->inputs[i].bytes;
    if (total > MAX_INPUT_BYTES) fail("input", "the inputs are larger than 4 GiB together");
  }
}

/* ---------------------------------------------------------------------------------------------------- session */

/* Opens the library; returns the version of the table in use. A version that the library lacks makes it complain on
 * stderr, so the first one asked for comes from the library's own version (1.31.1 has table 31). */
static unsigned open_library(const char *path, const char **version) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fail("library", "cannot open ONNX Runtime: %s", dlerror());
  const struct ort_base *(*get_base)(void);
  void *symbol = dlsym(library, "OrtGetApiBase");
  if (symbol == NULL) fail("library", "'%s' is not ONNX Runtime: it has no OrtGetApiBase", path);
  memcpy(&get_base, &symbol, sizeof get_base); /* C has no cast from data to function */
  const struct ort_base *base = get_base();
  *version = base->get_version_string();
  unsigned major = 0, minor = 0, wanted = ORT_API_PLACEMENT;
  if (sscanf(*version, "%9u.%9u", &major, &minor) == 2 && major == 1 && minor < wanted) wanted = minor;
  for (; wanted >= ORT_API_MIN; wanted--) {
    const ort_any_function *table = base->get_api(wanted);
    if (table == NULL) continue;
    ort_fill(&ort, table, wanted);
    return wanted;
  }
  fail("library", "ONNX Runtime %s at '%s' is older than the 1.%d that melt needs", *version, path, ORT_API_MIN);
}

static void add_provider(OrtSessionOptions *options, const struct plan *plan) {
  if (strcmp(plan->provider, "cpu") == 0) return; /* always there, last in line */
  OrtStatus *status = ort.SessionOptionsAppendExecutionProvider(options, plan->provider, plan->option_keys,
                                                                plan->option_values, plan->n_options);
  if (status == NULL) return;
  const char *message = ort.GetErrorMessage(status), *kind = kind_of(status, "provider");
  /* A provider that was not built in is told from one with wrong options by the message alone. */
  if (strstr(message, "not supported in this build") != NULL || strstr(message, "not enabled in this build") != NULL ||
      strstr(message, "Unknown provider name") != NULL)
    kind = "unsupported";
  fail(kind, "provider '%s': %s", plan->provider, message);
}

static OrtSessionOptions *session_options(const struct plan *plan, unsigned api) {
  const char *spin = plan->spin ? "1" : "0", *what = "session options";
  OrtSessionOptions *options;
  check(ort.CreateSessionOptions(&options), "runtime", what);
  check(ort.SetIntraOpNumThreads(options, (int)plan->threads), "runtime", what);
  check(ort.SetInterOpNumThreads(options, (int)plan->inter_threads), "runtime", what);
  check(ort.SetSessionGraphOptimizationLevel(options, plan->graph_level), "runtime", what);
  check(ort.AddSessionConfigEntry(options, "session.intra_op.allow_spinning", spin), "runtime", what);
  check(ort.AddSessionConfigEntry(options, "session.inter_op.allow_spinning", spin), "runtime", what);
  if (api >= ORT_API_PLACEMENT) /* noted while the graph is shared out: it costs the inferences nothing */
    check(ort.AddSessionConfigEntry(options, "session.record_ep_graph_assignment_info", "1"), "runtime", what);
  add_provider(options, plan);
  return options;
}

static OrtSession *load(const struct plan *plan, const OrtSessionOptions *options) {
  OrtEnv *env;
  OrtSession *session;
  check(ort.CreateEnv(ORT_LOG_WARNING, "melt", &env), "runtime", "environment");
  ev_begin(ev_now(), "load.begin");
  ev_end();
  ev_flush(); /* loading is where memory runs out: leave word that it had begun */
  OrtStatus *status = ort.CreateSession(env, plan->model, options, &session);
  int64_t end = ev_now();
  check(status, "model", "cannot load the model");
  ev_begin(end, "load.end");
  ev_end();
  return session;
}

static void put_engine(const struct plan *plan, const char *version, unsigned api) {
  ev_mark_begin(ev_now(), "engine");
  ev_key_string("version", version);
  ev_key_string("provider", plan->provider);
  ev_key_number("threads", plan->threads);
  ev_key_number("inter_threads", plan->inter_threads);
  ev_key_number("spin", plan->spin);
  ev_key_string("graph_level", plan->graph_level_name);
  ev_key_number("ort_api", api);
  ev_end();
}

/* Every input of the model must be given, and nothing else: told here, by name, before the first inference. */
static void check_input_names(const struct plan *plan, OrtSession *session, OrtAllocator *allocator) {
  size_t n;
  bool needed[MAX_INPUTS] = {false};
  check(ort.SessionGetInputCount(session, &n), "runtime", "inputs");
  for (size_t i = 0; i < n; i++) {
    char *name;
    check(ort.SessionGetInputName(session, i, allocator, &name), "runtime", "inputs");
    const struct input *input = find_input(plan, name);
    if (input == NULL) fail("input", "the model needs the input '%s', which is not given", name);
    needed[input - plan->inputs] = true;
  }
  for (size_t i = 0; i < plan->n_inputs; i++)
    if (!needed[i]) fail("input", "the model has no input '%s'", plan->inputs[i].name);
}

/* Inputs are bound once, over our own memory. The outputs are left to the runtime, which allocates them in each
 * run: this is what session.run() does, the loop that a person would write, and what a model with outputs of
 * unknown shape needs. IoBinding with outputs of our own would measure another, kinder program. */
static void bind(struct bound *bound, struct plan *plan, OrtSession *session) {
  OrtMemoryInfo *memory;
  OrtAllocator *allocator;
  check(ort.CreateCpuMemoryInfo(ORT_ALLOCATOR_DEVICE, ORT_MEMORY_DEFAULT, &memory), "runtime", "memory");
  check(ort.GetAllocatorWithDefaultOptions(&allocator), "runtime", "memory");
  check_input_names(plan, session, allocator);
  bound->session = session;
  bound->n_inputs = plan->n_inputs;
  for (size_t i = 0; i < plan->n_inputs; i++) {
    struct input *input = &plan->inputs[i];
    bound->input_names[i] = input->name;
    check(ort.CreateTensorWithDataAsOrtValue(memory, input->data, input->bytes, input->shape, input->rank,
                                             input->element->number, &bound->inputs[i]), "input", input->name);
  }
  check(ort.SessionGetOutputCount(session, &bound->n_outputs), "runtime", "outputs");
  if (bound->n_outputs > MAX_OUTPUTS) fail("unsupported", "the model has more than %d outputs", MAX_OUTPUTS);
  for (size_t i = 0; i < bound->n_outputs; i++) {
    char *name;
    check(ort.SessionGetOutputName(session, i, allocator, &name), "runtime", "outputs");
    bound->output_names[i] = name;
  }
}

/* -------------------------------------------------------------------------------------------------- inferences */

/* One inference; returns when it ended. Between the stamps stands the call and nothing else. The outputs live until
 * the next inference, so that those of the last one are still there at the end. */
static int64_t infer(struct bound *bound) {
  for (size_t i = 0; i < bound->n_outputs; i++) {
    ort.ReleaseValue(bound->outputs[i]);
    bound->outputs[i] = NULL;
  }
  const int64_t begin = ev_now();
  OrtStatus *status = ort.Run(bound->session, NULL, bound->input_names, (const OrtValue *const *)bound->inputs,
                              bound->n_inputs, bound->output_names, bound->n_outputs, bound->outputs);
  const int64_t end = ev_now();
  if (status != NULL) {
    ev_pair(begin, "infer.begin", bound->done);
    check(status, ort.GetErrorCode(status) == ORT_CODE_INVALID_ARGUMENT ? "input" : "runtime", "inference failed");
  }
  ev_inference(bound->done++, begin, end);
  ev_pace(end, end - begin);
  return end;
}

static void warm_up(struct bound *bound, const struct plan *plan) {
  const int64_t begin = ev_now();
  ev_mark(begin, "warmup.begin");
  for (int64_t n = 0, now = begin; n < plan->warmup_n || now - begin < plan->warmup_ns; n++) now = infer(bound);
}

static void measure(struct bound *bound, const struct plan *plan) {
  const int64_t begin = ev_now();
  ev_mark(begin, "measure.begin");
  for (int64_t n = 0, now = begin; n < plan->min_n || now - begin < plan->min_ns; n++) {
    if (n == plan->max_n) {
      ev_mark(ev_now(), "measure.capped");
      break;
    }
    now = infer(bound);
  }
  ev_mark(ev_now(), "measure.end");
}

/* ------------------------------------------------------------------------------------------------- what it took */

static void put_memory(void) {
  static const char *const fields[][2] = {{"\nVmHWM:", "vm_hwm_kb"}, {"\nRssAnon:", "rss_anon_kb"},
                                          {"\nRssFile:", "rss_file_kb"}, {"\nRssShmem:", "rss_shmem_kb"}};
  char status[8192];
  const int64_t now = ev_now();
  int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? -1 : read(fd, status, sizeof status - 1);
  if (fd >= 0) close(fd);
  ev_mark_begin(now, "memory");
  if (length < 0) ev_key_string("unknown", "cannot read /proc/self/status");
  status[length < 0 ? 0 : length] = '\0';
  for (size_t i = 0; length >= 0 && i < sizeof fields / sizeof *fields; i++) {
    const char *field = strstr(status, fields[i][0]);
    ev_key(fields[i][1]);
    if (field != NULL) ev_number(strtoll(field + strlen(fields[i][0]), NULL, 10));
    else ev_text("null");
  }
  ev_end();
}

/* How many nodes of one kind a provider took. */
struct place {
  const char *provider, *operator;
  int64_t nodes;
};

/* Null, or why the places are not known. */
static const char *count_places(OrtSession *session, struct place *places, size_t *n_places, int64_t *total) {
  const OrtEpAssignedSubgraph *const *subgraphs;
  size_t n_subgraphs, n_nodes;
  OrtStatus *status = ort.Session_GetEpGraphAssignmentInfo(session, &subgraphs, &n_subgraphs);
  for (size_t s = 0; status == NULL && s < n_subgraphs; s++) {
    const OrtEpAssignedNode *const *nodes;
    const char *provider, *operator;
    status = ort.EpAssignedSubgraph_GetEpName(subgraphs[s], &provider);
    if (status == NULL) status = ort.EpAssignedSubgraph_GetNodes(subgraphs[s], &nodes, &n_nodes);
    for (size_t n = 0; status == NULL && n < n_nodes; n++) {
      status = ort.EpAssignedNode_GetOperatorType(nodes[n], &operator);
      size_t k = 0;
      while (status == NULL && k < *n_places &&
             (strcmp(places[k].provider, provider) != 0 || strcmp(places[k].operator, operator) != 0)) k++;
      if (k == MAX_PLACES) return "more kinds of node than melt lists";
      if (k == *n_places) places[(*n_places)++] = (struct place){provider, operator, 0};
      places[k].nodes++;
      (*total)++;
    }
  }
  return status == NULL ? NULL : ort.GetErrorMessage(status);
}

/* Puts the operators of the provider that place `first` names. */
static void put_operators(const struct place *places, size_t n, size_t first) {
  ev_string(places[first].provider);
  ev_text(":{");
  for (size_t k = first; k < n; k++) {
    if (strcmp(places[k].provider, places[first].provider) != 0) continue;
    if (k > first) ev_text(",");
    ev_string(places[k].operator);
    ev_text(":");
    ev_number(places[k].nodes);
  }
  ev_text("}");
}

static void put_placement(OrtSession *session, const char *version, unsigned api) {
  static struct place places[MAX_PLACES];
  char reason[EV_TEXT_MAX];
  const char *unknown = reason;
  size_t n = 0;
  int64_t total = 0;
  const int64_t now = ev_now();
  if (api < ORT_API_PLACEMENT)
    snprintf(reason, sizeof reason, "ONNX Runtime %s does not tell node placement", version);
  else
    unknown = count_places(session, places, &n, &total);
  if (unknown == NULL) {
    ev_mark_begin(now, "providers");
    ev_text(",\"nodes\":{");
    for (size_t k = 0; k < n; k++) {
      size_t first = 0;
      while (strcmp(places[first].provider, places[k].provider) != 0) first++;
      if (first != k) continue; /* put with the first of its provider */
      if (k > 0) ev_text(",");
      put_operators(places, n, k);
    }
    ev_text("}");
    ev_key_number("total", total);
    if (ev_end()) return;
    unknown = "the list of nodes is too long for an event";
  }
  ev_mark_begin(now, "providers");
  ev_key_string("unknown", unknown);
  ev_end();
}

/* ---------------------------------------------------------------------------------------------------- outputs */

struct tensor {
  const struct element *element;
  int64_t shape[MAX_RANK];
  size_t rank, bytes;
  void *data;
};

/* False for anything but a tensor of elements of fixed size. */
static bool look_at(OrtValue *value, struct tensor *tensor) {
  const char *what = "reading an output";
  unsigned kind, type;
  OrtTensorTypeAndShapeInfo *info;
  if (value == NULL) return false; /* an optional output that is not there */
  check(ort.GetValueType(value, &kind), "runtime", what);
  if (kind != ORT_VALUE_TENSOR) return false;
  check(ort.GetTensorTypeAndShape(value, &info), "runtime", what);
  check(ort.GetTensorElementType(info, &type), "runtime", what);
  check(ort.GetDimensionsCount(info, &tensor->rank), "runtime", what);
  tensor->element = find_element(NULL, type);
  bool fixed = tensor->rank <= MAX_RANK && tensor->element != NULL;
  if (fixed) {
    tensor->bytes = tensor->element->bytes;
    check(ort.GetDimensions(info, tensor->shape, tensor->rank), "runtime", what);
    check(ort.GetTensorMutableData(value, &tensor->data), "runtime", what);
    for (size_t i = 0; i < tensor->rank; i++) tensor->bytes *= (size_t)tensor->shape[i];
  }
  ort.ReleaseTensorTypeAndShapeInfo(info);
  return fixed;
}

/* NAME DTYPE DIMS NBYTES, the name percent-encoded so that spaces and line ends in it do no harm. */
static void write_header(FILE *file, const char *name, const struct tensor *tensor) {
  for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++) {
    bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
    fprintf(file, plain || strchr("-._~", *p) != NULL ? "%c" : "%%%02X", *p);
  }
  fprintf(file, " %s ", tensor->element->name);
  for (size_t i = 0; i < tensor->rank; i++) fprintf(file, "%s%lld", i > 0 ? "x" : "", (long long)tensor->shape[i]);
  fprintf(file, "%s %zu\n", tensor->rank == 0 ? "-" : "", tensor->bytes);
}

/* Null, or why the outputs are not kept. */
static const char *write_outputs(const struct bound *bound, FILE *file) {
  static struct tensor tensors[MAX_OUTPUTS];
  int64_t total = 0;
  for (size_t i = 0; i < bound->n_outputs; i++) {
    if (!look_at(bound->outputs[i], &tensors[i])) return "an output is not a tensor of elements of fixed size";
    total += (int64_t)tensors[i].bytes;
    if (total > MAX_OUTPUT_BYTES) return "the outputs are larger than 256 MiB";
  }
  for (size_t i = 0; i < bound->n_outputs; i++) {
    write_header(file, bound->output_names[i], &tensors[i]);
    if (tensors[i].bytes > 0) fwrite(tensors[i].data, 1, tensors[i].bytes, file);
  }
  return fflush(file) == 0 && ferror(file) == 0 ? NULL : "the file could not be written whole";
}

static void put_outputs(const struct bound *bound, const char *path) {
  FILE *file = fopen(path, "we"); /* empties what an earlier run left, also when nothing follows */
  const char *unknown = file == NULL ? strerror(errno) : write_outputs(bound, file);
  if (unknown == NULL) return;
  if (file != NULL && ftruncate(fileno(file), 0) != 0) unknown = "the file could not be written, nor emptied";
  ev_mark_begin(ev_now(), "outputs");
  ev_key_string("unknown", unknown);
  ev_end();
}

static int try_library(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  const char *missing = library == NULL ? dlerror() : dlsym(library, "OrtGetApiBase") == NULL ? "it is not ONNX Runtime" : NULL;
  if (missing == NULL) return 0;
  fprintf(stderr, "%s\n", missing);
  return 3;
}

int main(int argc, char **argv) {
  static struct plan plan;
  static struct bound bound;
  const char *version;
  if (argc == 3 && strcmp(argv[1], "--try") == 0) return try_library(argv[2]);
  read_arguments(&plan, argc, argv);
  if (!ev_open(plan.events)) usage("cannot open '%s' for the events: %s", plan.events, strerror(errno));
  read_inputs(&plan);
  /* Since 1.29 the wheels report what they run to their maker: a thread, files in the home folder and uploads that
   * are neither wanted on a person's device nor part of an inference. Asked for before the library is opened, this
   * leaves all of it out; the API's own switch comes after the first message. */
  setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  const unsigned api = open_library(plan.lib, &version);
  OrtSession *session = load(&plan, session_options(&plan, api));
  put_engine(&plan, version, api);
  ev_flush(); /* nobody knows how long the first inference takes */
  bind(&bound, &plan, session);
  infer(&bound);
  warm_up(&bound, &plan);
  measure(&bound, &plan);
  put_memory();
  put_placement(session, version, api);
  ev_flush();
  put_outputs(&bound, plan.output);
  ev_begin(ev_now(), "done");
  ev_end();
  ev_flush();
  fflush(NULL);
  _exit(0); /* all is said: the runtime's exit handlers can only turn a good run into a crash */
}
