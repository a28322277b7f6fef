/* A step: one prefill and one decode. */
#ifndef MELT_LLAMA_STEPS_H
#define MELT_LLAMA_STEPS_H

#include "prompts.h"

#include <algorithm>

static const int64_t SLOW_TOKEN_NS = 5000000; /* from here on a token is told before its step has ended */
static const size_t MAX_BATCHES_TOLD = 1000;

struct runner {
  runner(const struct plan &asked, const struct engine &loaded) : plan(asked), engine(loaded) {}
  const struct plan &plan;
  const struct engine engine;
  int64_t evaluated = 0; /* tokens in the context */
  int64_t steps = 0;     /* begun so far */
  int64_t last_ns = 0;   /* how long the last step took */

  /* of this step */
  int64_t kv_ns = 0, sample_ns = 0;
  int64_t prefill_tokens = 0, prefill_cached = 0, prefill_begin = 0;
  std::vector<int64_t> prefill_ends = {}; /* of each batch; empty when it has been told */
  tokens made = {};                       /* stays until the next step */
  std::vector<int64_t> stamps = {};
  size_t told = 0;

  /* what was generated */
  FILE *output = nullptr;
  int64_t output_bytes = 0;
  std::string written = {}; /* the last line of it */
};

static void clear_context(struct runner &run) {
  const int64_t begin = ev_now();
  llama_memory_clear(run.engine.memory, false);
  run.kv_ns += ev_now() - begin;
  run.evaluated = 0;
}

static void put_prefill(struct runner &run) {
  std::vector<int64_t> &ends = run.prefill_ends;
  if (ends.empty()) return;
  ev_begin(run.prefill_begin, "prefill.begin");
  ev_key_number("n", run.prefill_tokens);
  ev_key_number("cached", run.prefill_cached);
  ev_end();
  ev_begin(ends.back(), "prefill.end");
  if (ends.size() <= MAX_BATCHES_TOLD) {
    ev_key("batch_ns");
    for (size_t k = 0; k < ends.size(); k++) {
      ev_text(k == 0 ? "[" : ",");
      ev_number(ends[k] - (k == 0 ? run.prefill_begin : ends[k - 1]));
    }
    ev_text("]");
  }
  ev_end();
  ends.clear();
}

/* Puts what this step has stamped and not told yet. */
static void put_stamps(struct runner &run) {
  put_prefill(run);
  for (; run.told < run.made.size(); run.told++) ev_pair(run.stamps[run.told], "token", static_cast<int64_t>(run.told));
}

static void evaluate_batch(struct runner &run, const llama_batch &batch) {
  const int32_t code = llama_decode(run.engine.context, batch);
  if (code != 0) {
    put_stamps(run);
    fail(code == 1 ? "context" : code == -2 ? "memory" : "runtime", "llama_decode ended with %d after %" PRId64
         " tokens%s%s", code, run.evaluated, first_errors.empty() ? "" : ": ", first_errors.c_str());
  }
  llama_synchronize(run.engine.context);
  run.evaluated += batch.n_tokens;
}

static void evaluate(struct runner &run, llama_token *first, int64_t n) {
  evaluate_batch(run, llama_batch_get_one(first, static_cast<int32_t>(n)));
}

static void put_count(int64_t t, const char *name, const char *key, int64_t value) {
  ev_begin(t, name);
  ev_key_number(key, value);
  ev_end();
}

static void begin_step(struct runner &run, int64_t turn) {
  const int64_t begin = ev_now();
  run.kv_ns = run.sample_ns = 0;
  run.told = 0;
  run.made.clear();
  ev_begin(begin, "step.begin");
  ev_key_number("i", run.steps++);
  ev_key_number("turn", turn);
  ev_end();
  ev_pace(begin, run.steps == 1 ? int64_t{EV_HOLD_NS} : run.last_ns);
}

/* A text as tokens, and how long that took. */
static tokens told_tokens(struct runner &run, const std::string &text, bool first) {
  const int64_t begin = ev_now();
  const tokens found = tokenized(run.engine.vocab, text, first);
  const int64_t end = ev_now();
  ev_begin(begin, "tokenize.begin");
  ev_end();
  put_count(end, "tokenize.end", "n", static_cast<int64_t>(found.size()));
  return found;
}

/* Evaluates what the context lacks; the logits of its last token stay. */
static void prefill(struct runner &run, tokens &prompt) {
  const int64_t n = static_cast<int64_t>(prompt.size()), step = run.engine.n_batch;
  const int64_t left = run.engine.n_context - run.evaluated;
  if (n > left)
    fail("context", "the prompt has %" PRId64 " tokens where %" PRId64 " are left of the context of %" PRId64, n, left,
         run.engine.n_context);
  std::vector<int64_t> ends;
  ends.reserve(static_cast<size_t>(n / step + 1));
  run.prefill_tokens = n;
  run.prefill_cached = run.evaluated;
  run.prefill_begin = ev_now();
  for (int64_t at = 0; at < n; at += step) {
    evaluate(run, prompt.data() + at, std::min(step, n - at));
    ends.push_back(ev_now());
  }
  run.prefill_ends = std::move(ends);
}

/* Generates up to `limit` tokens. Between the stamps of two tokens stand evaluating and sampling, and, where that
 * takes SLOW_TOKEN_NS, telling the first of them. The last token is left out of the context: nothing follows it. */
static void generate(struct runner &run, int64_t limit, bool end_allowed) {
  const struct engine &engine = run.engine;
  const char *stop = nullptr;
  run.made.reserve(static_cast<size_t>(limit));
  run.stamps.resize(static_cast<size_t>(limit));
  for (int64_t previous = ev_now();;) {
    const int64_t begin = ev_now();
    llama_token token = llama_sampler_sample(engine.sampler, engine.context, -1);
    const int64_t known = ev_now();
    run.sample_ns += known - begin;
    run.stamps[run.made.size()] = known;
    run.made.push_back(token);
    if (static_cast<int64_t>(run.made.size()) == limit) stop = "length";
    else if (end_allowed && llama_vocab_is_eog(engine.vocab, token)) stop = "eog";
    else if (run.evaluated == engine.n_context) stop = "context";
    if (stop != nullptr) break;
    if (known - previous >= SLOW_TOKEN_NS) {
      put_stamps(run);
      ev_pace(known, known - previous);
    }
    previous = known;
    evaluate(run, &token, 1);
  }
  const int64_t end = ev_now();
  put_stamps(run);
  ev_begin(end, "step.end");
  ev_key_number("i", run.steps - 1);
  ev_key_number("n", static_cast<int64_t>(run.made.size()));
  ev_key_number("sample_ns", run.sample_ns);
  ev_key_number("kv_ns", run.kv_ns);
  ev_key_string("stop", stop);
  ev_end();
}

#endif
