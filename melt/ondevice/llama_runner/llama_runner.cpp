/* Runs a language model with llama.cpp, over the C API of the library that is linked into it, and stamps every token.
 *
 *   llama_runner --model PATH --events PATH --output PATH --mode fixed|prompt|conversation|bench|score
 *                --context C
 *                [--prompt-tokens P] [--generate-tokens N] [--text-file PATH | --fresh-text-file PATH]...
 *                [--seed S] [--temperature X] [--cold 0|1]
 *                [--threads T] [--threads-batch T] [--batch B] [--ubatch U] [--kv-k TYPE] [--kv-v TYPE]
 *                [--flash-attn auto|on|off] [--mmap 0|1] [--mlock 0|1] [--gpu-layers N]
 *                [--warmup-n N] [--warmup-s S] [--min-n N] [--min-s S]
 *
 *   llama_runner --try    whether this program runs here; says what it is made of
 *
 * A step is one prefill and one decode, a turn of a conversation is a step. --fresh-text-file is a turn that begins
 * with an empty context, as every turn of mode prompt does. In mode score a fresh text is an item and a text that
 * follows it its continuation; a step scores an item. Steps warm up until --warmup-n of them
 * and --warmup-s have passed, then are measured until they generated --min-n tokens and took --min-s.
 * Exit code 0: done. 2: wrong arguments. 3: failed, the last event says why.
 */
#include "modes.h"

#include <exception>
#include <new>

static int try_here(void) {
  printf("llama.cpp %s for %s\n%s\n", ggml_commit(), MELT_LEVEL, llama_print_system_info());
  return 0;
}

/* What a stamp costs, and what telling a token of a slow step does, in nanoseconds. */
static int stamp_cost(void) {
  const int64_t n = 1000000;
  std::vector<int64_t> stamps(static_cast<size_t>(n));
  const int64_t begin = ev_now();
  for (int64_t &stamp : stamps) stamp = ev_now();
  const int64_t end = ev_now();
  if (!ev_open("/dev/null")) return 3;
  const int64_t told = ev_now();
  for (int64_t i = 0; i < n; i++) {
    ev_pair(stamps[static_cast<size_t>(i)], "token", i);
    ev_pace(stamps[static_cast<size_t>(i)], 0);
  }
  const int64_t done = ev_now();
  printf("{\"stamp_ns\":%.2f,\"token_event_ns\":%.2f}\n", static_cast<double>(end - begin) / n,
         static_cast<double>(done - told) / n);
  return 0;
}

static void run(const struct plan &plan) {
  struct runner run(plan, load(plan));
  put_engine(plan, run.engine);
  ev_flush(); /* nobody knows how long the first step takes */
  open_output(run);
  carry_out(run);
  put_memory();
  close_output(run);
  ev_begin(ev_now(), "done");
  ev_end();
  ev_flush();
}

int main(int argc, char **argv) {
  static struct plan plan;
  if (argc == 2 && strcmp(argv[1], "--try") == 0) return try_here();
  if (argc == 2 && strcmp(argv[1], "--stamp-cost") == 0) return stamp_cost();
  read_arguments(&plan, argc, argv);
  if (!ev_open(plan.events)) usage("cannot open '%s' for the events: %s", plan.events, strerror(errno));
  try {
    read_texts(&plan);
    run(plan);
  } catch (const std::bad_alloc &) {
    fail("memory", "there is no memory left");
  } catch (const std::exception &error) {
    fail("runtime", "%s", error.what());
  }
  fflush(nullptr);
  _exit(0); /* all is said: exit handlers can only turn a good run into a crash */
}
