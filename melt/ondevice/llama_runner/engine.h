/* The model and its context: loaded, and what they turned out to be. */
#ifndef MELT_LLAMA_ENGINE_H
#define MELT_LLAMA_ENGINE_H

#include "plan.h"

#include <ggml-cpu.h>
#include <llama-ext.h>

#include <algorithm>
#include <cinttypes>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct engine {
  llama_model *model = nullptr;
  const llama_vocab *vocab = nullptr;
  llama_context *context = nullptr;
  llama_memory_t memory = nullptr;
  llama_sampler *sampler = nullptr;
  int64_t n_context = 0, n_batch = 0;
};

/* ------------------------------------------------------------------------------------------ what the library says */

/* The first errors that the library logged, for the one sentence that tells why it failed. */
static std::string first_errors;

/* What "auto" came to. The library has no other word for it: its graph would tell, but asking for one makes every
 * later token a tenth slower. */
static const char *flash_attn_auto = "unknown";

static void on_log(ggml_log_level level, const char *text, void *) {
  if (strstr(text, "Flash Attention enabled") != nullptr || strstr(text, "enabling flash_attn") != nullptr)
    flash_attn_auto = "on";
  else if (strstr(text, "Flash Attention not supported") != nullptr) flash_attn_auto = "off";
  else if (strstr(text, "flash_attn is not compatible") != nullptr) flash_attn_auto = "off";
  if (level != GGML_LOG_LEVEL_ERROR || first_errors.size() > 600) return;
  std::string line(text);
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
  if (line.empty()) return;
  if (!first_errors.empty()) first_errors += "; ";
  first_errors += line;
}

static void on_abort(const char *message) { ev_die("runtime", message); }

static bool errors_have(const char *word) { return first_errors.find(word) != std::string::npos; }

/* The library has no codes for why loading failed: its messages tell. */
[[noreturn]] static void fail_as_logged(const char *what, const char *otherwise) {
  const bool memory = errors_have("to allocate") || errors_have("bad_alloc") || errors_have("ufficient memory") ||
                      errors_have("Cannot allocate");
  fail(memory ? "memory" : otherwise, "%s: %s", what, first_errors.empty() ? "no reason is given" : first_errors.c_str());
}

/* -------------------------------------------------------------------------------------------------- /proc/self */

/* Calls `each` with every line of a small file of /proc. */
template <typename Each> static void each_line(const char *path, Each each) {
  FILE *file = fopen(path, "re");
  if (file == nullptr) return;
  char *line = nullptr;
  size_t room = 0;
  while (getline(&line, &room, file) > 0) each(line);
  free(line);
  fclose(file);
}

/* A "Name:   123 kB" of a file of /proc in bytes, or -1. */
static int64_t proc_bytes(const char *path, const char *name) {
  int64_t found = -1;
  each_line(path, [&](const char *line) {
    if (strncmp(line, name, strlen(name)) == 0) found = strtoll(line + strlen(name), nullptr, 10) * 1024;
  });
  return found;
}

/* How many bytes of the file are mapped into this process. */
static int64_t mapped_bytes(const char *path) {
  struct stat info;
  int64_t total = 0;
  if (stat(path, &info) != 0) return 0;
  each_line("/proc/self/maps", [&](const char *line) {
    uint64_t from, to, inode;
    unsigned device_major, device_minor;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %x:%x %" SCNu64, &from, &to, &device_major, &device_minor,
               &inode) == 5 && inode == info.st_ino && makedev(device_major, device_minor) == info.st_dev)
      total += static_cast<int64_t>(to - from);
  });
  return total;
}

/* ------------------------------------------------------------------------------------------- cold and warm */

/* How many bytes of an open file lie in memory, or -1. */
static int64_t resident_bytes(int fd, int64_t size) {
  const int64_t page = sysconf(_SC_PAGESIZE), piece = int64_t{1} << 30;
  std::vector<unsigned char> there(static_cast<size_t>(piece / page));
  int64_t found = 0;
  for (int64_t at = 0; at < size; at += piece) {
    const int64_t n = std::min(piece, size - at);
    void *map = mmap(nullptr, static_cast<size_t>(n), PROT_READ, MAP_SHARED, fd, at);
    if (map == MAP_FAILED) return -1;
    const int failed = mincore(map, static_cast<size_t>(n), there.data());
    munmap(map, static_cast<size_t>(n));
    if (failed != 0) return -1;
    for (int64_t i = 0; i * page < n; i++)
      if (there[static_cast<size_t>(i)] & 1) found += std::min(page, n - i * page);
  }
  return found;
}

static void read_through(int fd) {
  std::vector<char> block(1 << 20);
  for (int64_t at = 0;;) {
    const ssize_t n = pread(fd, block.data(), block.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    at += n;
  }
}

/* Brings the model's file into memory before it is loaded, or sees to it that it is not there; and tells how much of
 * it is, since either may be beyond us. */
static void settle_page_cache(const struct plan &plan) {
  const int fd = open(plan.model, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    if (fd >= 0) close(fd);
    return; /* loading will say what is wrong with it */
  }
  if (plan.cold) {
    fdatasync(fd); /* what is not on the disk yet stays in memory */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  } else if (resident_bytes(fd, info.st_size) < info.st_size &&
             info.st_size < proc_bytes("/proc/meminfo", "MemAvailable:")) {
    read_through(fd);
  }
  const int64_t resident = resident_bytes(fd, info.st_size);
  close(fd);
  ev_mark_begin(ev_now(), "page_cache");
  ev_key_number("bytes", info.st_size);
  if (resident >= 0) ev_key_number("resident_bytes", resident);
  ev_end();
}

/* ---------------------------------------------------------------------------------------------------- loading */

static llama_model_params model_params(const struct plan &plan) {
  llama_model_params params = llama_model_default_params();
  params.n_gpu_layers = static_cast<int32_t>(plan.gpu_layers);
  params.load_mode = plan.mmap ? (plan.mlock ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MMAP)
                               : (plan.mlock ? LLAMA_LOAD_MODE_MLOCK : LLAMA_LOAD_MODE_NONE);
  return params;
}

static llama_context_params context_params(const struct plan &plan) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(plan.context);
  params.n_batch = static_cast<uint32_t>(plan.batch);
  params.n_ubatch = static_cast<uint32_t>(plan.ubatch);
  params.n_threads = static_cast<int32_t>(plan.threads);
  params.n_threads_batch = static_cast<int32_t>(plan.threads_batch);
  params.flash_attn_type = plan.flash_attn;
  params.type_k = plan.kv_k;
  params.type_v = plan.kv_v;
  params.no_perf = true;
  params.swa_full = false;
  return params;
}

/* Linux lends memory that it does not have and ends the process that uses it. A context that may be too large is
 * therefore planned first, without memory, and refused when it does not fit. */
static void check_context_fits(const struct plan &plan, const llama_model *model) {
  const int64_t available = proc_bytes("/proc/meminfo", "MemAvailable:");
  const int64_t wide = static_cast<int64_t>(llama_model_n_embd(model)) * llama_model_n_layer(model);
  if (available < 0 || plan.context * wide * 16 < available / 2) return; /* twice K and V of 4 bytes each */
  llama_model_params params = model_params(plan);
  params.no_alloc = true;
  params.load_mode = LLAMA_LOAD_MODE_NONE;
  llama_model *sketch = llama_model_load_from_file(plan.model, params);
  llama_context *context = sketch == nullptr ? nullptr : llama_init_from_model(sketch, context_params(plan));
  if (context == nullptr) fail_as_logged("cannot plan the context", "runtime");
  int64_t needed = 0;
  for (const auto &[type, bytes] : llama_get_memory_breakdown(context))
    needed += static_cast<int64_t>(bytes.context + bytes.compute);
  llama_free(context);
  llama_model_free(sketch);
  if (needed > available)
    fail("memory", "a context of %" PRId64 " tokens takes %" PRId64 " MB where %" PRId64 " MB of memory are left",
         plan.context, needed / 1000000, available / 1000000);
}

/* Threads that live as long as the context; the library would otherwise start them anew for every token. */
static void attach_threads(const struct plan &plan, llama_context *context) {
  ggml_threadpool_params wanted = ggml_threadpool_params_default(static_cast<int>(plan.threads));
  ggml_threadpool_params wanted_batch = ggml_threadpool_params_default(static_cast<int>(plan.threads_batch));
  ggml_threadpool_t batch = nullptr;
  if (plan.threads != plan.threads_batch) {
    batch = ggml_threadpool_new(&wanted_batch);
    wanted.paused = true; /* the prompt comes first */
  }
  ggml_threadpool_t pool = ggml_threadpool_new(&wanted);
  if (pool == nullptr || (batch == nullptr && plan.threads != plan.threads_batch))
    fail("memory", "cannot start %" PRId64 " and %" PRId64 " threads", plan.threads, plan.threads_batch);
  llama_attach_threadpool(context, pool, batch);
}

static llama_sampler *make_sampler(const struct plan &plan) {
  llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
  if (plan.temperature > 0) {
    llama_sampler_chain_add(chain, llama_sampler_init_temp(static_cast<float>(plan.temperature)));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(static_cast<uint32_t>(plan.seed)));
  } else {
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());
  }
  return chain;
}

static void check_kind(const struct engine &engine) {
  if (llama_model_has_encoder(engine.model) || !llama_model_has_decoder(engine.model))
    fail("unsupported", "the model has an encoder: melt runs models that only decode");
  if (llama_model_is_diffusion(engine.model)) fail("unsupported", "the model does not generate token by token");
  if (llama_vocab_type(engine.vocab) == LLAMA_VOCAB_TYPE_NONE || llama_vocab_n_tokens(engine.vocab) < 2)
    fail("unsupported", "the model has no vocabulary");
}

static struct engine load(const struct plan &plan) {
  struct engine engine;
  llama_log_set(on_log, nullptr);
  ggml_set_abort_callback(on_abort);
  llama_backend_init();
  settle_page_cache(plan);
  ev_begin(ev_now(), "load.begin");
  ev_end();
  ev_flush(); /* loading is where memory runs out: leave word that it had begun */
  engine.model = llama_model_load_from_file(plan.model, model_params(plan));
  const int64_t loaded = ev_now();
  if (engine.model == nullptr) fail_as_logged("cannot load the model", "model");
  ev_mark(loaded, "load.model");
  engine.vocab = llama_model_get_vocab(engine.model);
  check_kind(engine);
  check_context_fits(plan, engine.model);
  first_errors.clear();
  engine.context = llama_init_from_model(engine.model, context_params(plan));
  if (engine.context == nullptr) fail_as_logged("cannot make the context", "unsupported");
  attach_threads(plan, engine.context);
  engine.memory = llama_get_memory(engine.context);
  engine.sampler = make_sampler(plan);
  engine.n_context = llama_n_ctx(engine.context);
  engine.n_batch = llama_n_batch(engine.context);
  ev_begin(ev_now(), "load.end");
  ev_end();
  return engine;
}

/* -------------------------------------------------------------------------------------------- what is really used */

static const char *flash_attn_used(const struct plan &plan) {
  if (plan.flash_attn == LLAMA_FLASH_ATTN_TYPE_DISABLED) return "off";
  return plan.flash_attn == LLAMA_FLASH_ATTN_TYPE_AUTO || strcmp(flash_attn_auto, "off") == 0 ? flash_attn_auto : "on";
}

/* The processors that this process may use, as 0-3,6. */
static std::string processors(void) {
  cpu_set_t set;
  std::string list;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return "unknown";
  for (int first = 0; first < CPU_SETSIZE; first++) {
    if (!CPU_ISSET(first, &set)) continue;
    int last = first;
    while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set)) last++;
    list += (list.empty() ? "" : ",") + std::to_string(first) + (last > first ? "-" + std::to_string(last) : "");
    first = last;
  }
  return list;
}

static void put_buffers(const llama_memory_breakdown &memory) {
  const char *comma = "";
  ev_key("buffers");
  ev_text("{");
  for (const auto &[type, bytes] : memory) {
    ev_text(comma);
    ev_string(ggml_backend_buft_name(type));
    ev_text(":{\"model\":");
    ev_number(static_cast<int64_t>(bytes.model));
    ev_key_number("context", static_cast<int64_t>(bytes.context));
    ev_key_number("compute", static_cast<int64_t>(bytes.compute));
    ev_text("}");
    comma = ",";
  }
  ev_text("}");
}

static void put_engine(const struct plan &plan, const struct engine &engine) {
  char description[256];
  llama_model_desc(engine.model, description, sizeof description);
  const llama_memory_breakdown memory = llama_get_memory_breakdown(engine.context);
  int64_t kv = 0;
  for (const auto &[type, bytes] : memory) kv += static_cast<int64_t>(bytes.context);
  const int64_t mapped = mapped_bytes(plan.model), locked = proc_bytes("/proc/self/status", "VmLck:");
  const int64_t layers = llama_supports_gpu_offload() ? plan.gpu_layers : 0;
  ev_mark_begin(ev_now(), "engine");
  ev_key_string("llama_commit", ggml_commit());
  ev_key_string("llama_version", llama_version());
  ev_key_string("level", MELT_LEVEL);
  ev_key_string("compiler", __VERSION__);
  ev_key_string("mode", plan.mode_name);
  ev_key_number("n_ctx", engine.n_context);
  ev_key_number("n_ctx_train", llama_model_n_ctx_train(engine.model));
  ev_key_number("n_batch", engine.n_batch);
  ev_key_number("n_ubatch", llama_n_ubatch(engine.context));
  ev_key_number("threads", llama_n_threads(engine.context));
  ev_key_number("threads_batch", llama_n_threads_batch(engine.context));
  ev_key_string("cpus", processors().c_str());
  ev_key_string("kv_k", ggml_type_name(plan.kv_k));
  ev_key_string("kv_v", ggml_type_name(plan.kv_v));
  ev_key_string("flash_attn", flash_attn_used(plan));
  ev_key_number("mmap", mapped > 0);
  ev_key_number("mmap_bytes", mapped);
  ev_key_number("mlock", locked > 0);
  ev_key_number("mlock_bytes", locked);
  ev_key_number("gpu_layers", std::min<int64_t>(layers, llama_model_n_layer(engine.model) + 1));
  ev_key_string("model", description);
  ev_key_number("n_layer", llama_model_n_layer(engine.model));
  ev_key_number("n_params", static_cast<int64_t>(llama_model_n_params(engine.model)));
  ev_key_number("model_bytes", static_cast<int64_t>(llama_model_size(engine.model)));
  ev_key_number("kv_bytes", kv);
  ev_key_number("n_vocab", llama_vocab_n_tokens(engine.vocab));
  put_buffers(memory);
  ev_key_string("system", llama_print_system_info());
  ev_end();
}

static void put_memory(void) {
  static const char *const fields[][2] = {{"VmHWM:", "vm_hwm_kb"}, {"RssAnon:", "rss_anon_kb"},
                                          {"RssFile:", "rss_file_kb"}, {"RssShmem:", "rss_shmem_kb"}};
  ev_mark_begin(ev_now(), "memory");
  for (const auto &field : fields) {
    const int64_t bytes = proc_bytes("/proc/self/status", field[0]);
    ev_key(field[1]);
    if (bytes >= 0) ev_number(bytes / 1024);
    else ev_text("null");
  }
  ev_end();
}

#endif
