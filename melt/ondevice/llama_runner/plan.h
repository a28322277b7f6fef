/* What the runner is asked to do: its arguments, and how it fails. */
#ifndef MELT_LLAMA_PLAN_H
#define MELT_LLAMA_PLAN_H

#include "../events.h"

#include <ggml.h>
#include <llama.h>

#include <cstdarg>
#include <string>
#include <vector>

static const size_t MAX_TEXT_BYTES = 16 << 20;

enum class mode { fixed, prompt, conversation, bench, score };

/* What a person says, from a file; `fresh` where it begins with an empty context. */
struct turn {
  const char *path;
  bool fresh;
  std::string text;
};

struct plan {
  const char *model = nullptr, *events = nullptr, *output = nullptr, *mode_name = nullptr;
  enum mode mode = mode::fixed;
  std::vector<turn> turns;
  int64_t prompt_tokens = 0, generate_tokens = 0, seed = 1;
  int64_t threads = 1, threads_batch = 0, batch = 2048, ubatch = 512, context = 0;
  int64_t mmap = 1, mlock = 0, gpu_layers = 0, cold = 0;
  int64_t warmup_n = 0, warmup_ns = 0, min_n = 1, min_ns = 0;
  double temperature = 0;
  ggml_type kv_k = GGML_TYPE_F16, kv_v = GGML_TYPE_F16;
  llama_flash_attn_type flash_attn = LLAMA_FLASH_ATTN_TYPE_AUTO;
};

/* ---------------------------------------------------------------------------------------------------- failing */

[[noreturn]] static void __attribute__((format(printf, 1, 2))) usage(const char *format, ...) {
  va_list rest;
  va_start(rest, format);
  fputs("llama_runner: ", stderr);
  vfprintf(stderr, format, rest);
  fputc('\n', stderr);
  exit(2);
}

[[noreturn]] static void __attribute__((format(printf, 2, 3))) fail(const char *kind, const char *format, ...) {
  char message[EV_TEXT_MAX + 1];
  va_list rest;
  va_start(rest, format);
  vsnprintf(message, sizeof message, format, rest);
  ev_die(kind, message);
}

/* -------------------------------------------------------------------------------------------------- arguments */

static int64_t count_of(const char *flag, const char *text, int64_t least, int64_t most) {
  const size_t digits = strspn(text, "0123456789");
  const int64_t value = digits > 0 && digits <= 18 && text[digits] == '\0' ? strtoll(text, nullptr, 10) : -1;
  if (value < least || value > most)
    usage("%s takes a whole number from %lld to %lld, not '%s'", flag, (long long)least, (long long)most, text);
  return value;
}

/* A number as 12 or 12.5; no sign, exponent, inf or nan. */
static double number_of(const char *flag, const char *text, double most) {
  const size_t length = strlen(text);
  double value = -1;
  if (length > 0 && length <= 24 && strspn(text, "0123456789.") == length) {
    char *end;
    value = strtod(text, &end);
    if (end != text + length) value = -1;
  }
  if (!(value >= 0 && value <= most)) usage("%s takes a number from 0 to %.0f, not '%s'", flag, most, text);
  return value;
}

static int64_t seconds_of(const char *flag, const char *text) {
  return static_cast<int64_t>(number_of(flag, text, 604800) * 1e9);
}

static enum mode mode_of(const char *name) {
  static const struct { const char *name; enum mode mode; } modes[] = {
    {"fixed", mode::fixed}, {"prompt", mode::prompt}, {"conversation", mode::conversation}, {"bench", mode::bench},
    {"score", mode::score},
  };
  for (const auto &known : modes)
    if (strcmp(name, known.name) == 0) return known.mode;
  usage("--mode is fixed, prompt, conversation, bench or score, not '%s'", name);
}

/* The types that llama.cpp's own tools take for a cache. */
static ggml_type kv_type_of(const char *flag, const char *name) {
  static const ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
                                    GGML_TYPE_Q4_1, GGML_TYPE_IQ4_NL, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1};
  for (ggml_type type : types)
    if (strcmp(name, ggml_type_name(type)) == 0) return type;
  usage("%s is f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0 or q5_1, not '%s'", flag, name);
}

static llama_flash_attn_type flash_attn_of(const char *name) {
  if (strcmp(name, "auto") == 0) return LLAMA_FLASH_ATTN_TYPE_AUTO;
  if (strcmp(name, "on") == 0) return LLAMA_FLASH_ATTN_TYPE_ENABLED;
  if (strcmp(name, "off") == 0) return LLAMA_FLASH_ATTN_TYPE_DISABLED;
  usage("--flash-attn is auto, on or off, not '%s'", name);
}

static bool take_count(struct plan *plan, const char *flag, const char *value) {
  const int64_t many = 1000000000, tokens = 1 << 24;
  const struct { const char *flag; int64_t *to, least, most; } counts[] = {
    {"--prompt-tokens", &plan->prompt_tokens, 0, tokens}, {"--generate-tokens", &plan->generate_tokens, 0, tokens},
    {"--seed", &plan->seed, 0, 4294967294}, {"--threads", &plan->threads, 1, GGML_MAX_N_THREADS},
    {"--threads-batch", &plan->threads_batch, 1, GGML_MAX_N_THREADS}, {"--batch", &plan->batch, 1, tokens},
    {"--ubatch", &plan->ubatch, 1, tokens}, {"--context", &plan->context, 1, tokens}, {"--mmap", &plan->mmap, 0, 1},
    {"--mlock", &plan->mlock, 0, 1}, {"--cold", &plan->cold, 0, 1},
    {"--gpu-layers", &plan->gpu_layers, 0, many},
    {"--warmup-n", &plan->warmup_n, 0, many}, {"--min-n", &plan->min_n, 1, many},
  };
  for (const auto &count : counts)
    if (strcmp(flag, count.flag) == 0) {
      *count.to = count_of(flag, value, count.least, count.most);
      return true;
    }
  return false;
}

static void take_flag(struct plan *plan, const char *flag, const char *value) {
  if (take_count(plan, flag, value)) return;
  if (strcmp(flag, "--model") == 0) plan->model = value;
  else if (strcmp(flag, "--events") == 0) plan->events = value;
  else if (strcmp(flag, "--output") == 0) plan->output = value;
  else if (strcmp(flag, "--mode") == 0) plan->mode = mode_of(plan->mode_name = value);
  else if (strcmp(flag, "--text-file") == 0) plan->turns.push_back({value, plan->turns.empty(), {}});
  else if (strcmp(flag, "--fresh-text-file") == 0) plan->turns.push_back({value, true, {}});
  else if (strcmp(flag, "--kv-k") == 0) plan->kv_k = kv_type_of(flag, value);
  else if (strcmp(flag, "--kv-v") == 0) plan->kv_v = kv_type_of(flag, value);
  else if (strcmp(flag, "--flash-attn") == 0) plan->flash_attn = flash_attn_of(value);
  else if (strcmp(flag, "--temperature") == 0) plan->temperature = number_of(flag, value, 1000);
  else if (strcmp(flag, "--warmup-s") == 0) plan->warmup_ns = seconds_of(flag, value);
  else if (strcmp(flag, "--min-s") == 0) plan->min_ns = seconds_of(flag, value);
  else usage("unknown argument '%s'", flag);
}

/* Whether the arguments make sense together. */
static void check_arguments(const struct plan &plan) {
  if (plan.model == nullptr || plan.events == nullptr || plan.output == nullptr || plan.mode_name == nullptr)
    usage("--model, --events, --output and --mode are needed");
  if (plan.context == 0) usage("--context is needed");
  const bool text = plan.mode != mode::fixed && plan.mode != mode::bench;
  if (text != !plan.turns.empty()) usage("--mode %s takes %s --text-file", plan.mode_name, text ? "a" : "no");
  if (text && plan.prompt_tokens > 0) usage("--mode %s takes no --prompt-tokens", plan.mode_name);
  if (plan.mode == mode::fixed && plan.prompt_tokens == 0) usage("--mode fixed needs --prompt-tokens of 1 or more");
  if (plan.mode == mode::score && plan.generate_tokens > 0) usage("--mode score takes no --generate-tokens");
  const bool generates = plan.mode != mode::bench && plan.mode != mode::score;
  if (generates && plan.generate_tokens == 0) usage("--generate-tokens of 1 or more is needed");
  if (plan.mode == mode::bench && plan.prompt_tokens + plan.generate_tokens == 0)
    usage("--mode bench needs --prompt-tokens or --generate-tokens");
}

static void read_arguments(struct plan *plan, int argc, char **argv) {
  for (int i = 1; i < argc; i += 2) {
    if (argc - i < 2) usage("'%s' is unknown or lacks its value", argv[i]);
    take_flag(plan, argv[i], argv[i + 1]);
  }
  check_arguments(*plan);
  if (plan->threads_batch == 0) plan->threads_batch = plan->threads;
}

/* ------------------------------------------------------------------------------------------------------ texts */

static std::string read_text(const char *path) {
  static char block[65536];
  std::string text;
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not hold us up */
  if (fd < 0) fail("input", "cannot open the text '%s': %s", path, strerror(errno));
  for (;;) {
    const ssize_t n = read(fd, block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("input", "cannot read the text '%s': %s", path, strerror(errno));
    if (n == 0) break;
    text.append(block, static_cast<size_t>(n));
    if (text.size() > MAX_TEXT_BYTES) fail("input", "the text '%s' is larger than 16 MiB", path);
  }
  close(fd);
  if (text.empty()) fail("input", "the text '%s' is empty", path);
  return text;
}

static void read_texts(struct plan *plan) {
  for (struct turn &turn : plan->turns) turn.text = read_text(turn.path);
}

#endif
