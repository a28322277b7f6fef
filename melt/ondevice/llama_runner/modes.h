/* The five modes, made of steps, and the windows that they are measured in. */
#ifndef MELT_LLAMA_MODES_H
#define MELT_LLAMA_MODES_H

#include "score.h"

static const int64_t MAX_OUTPUT_BYTES = 64 << 20;

/* Each returns how many tokens it generated. */
static int64_t fixed_step(struct runner &run, tokens &prompt) {
  begin_step(run, 0);
  clear_context(run);
  llama_sampler_reset(run.engine.sampler);
  prefill(run, prompt);
  generate(run, run.plan.generate_tokens, false);
  return static_cast<int64_t>(run.made.size());
}

/* A turn of a conversation, or a prompt by itself. What the context lacks is the last token of the turn before, unless that ended the turn
 * and the text of this one begins with the same end, and this turn's text. */
static int64_t text_step(struct runner &run, size_t turn) {
  const bool fresh = run.plan.turns[turn].fresh || run.plan.mode == mode::prompt;
  tokens prompt;
  if (!fresh) prompt.push_back(run.made.back());
  begin_step(run, static_cast<int64_t>(turn));
  if (fresh) {
    clear_context(run);
    llama_sampler_reset(run.engine.sampler);
  }
  const tokens text = told_tokens(run, run.plan.turns[turn].text, fresh);
  if (text.empty()) fail("input", "the text of turn %zu makes no token", turn + 1);
  if (!prompt.empty() && prompt[0] == text[0] && llama_vocab_is_eog(run.engine.vocab, text[0])) prompt.clear();
  prompt.insert(prompt.end(), text.begin(), text.end());
  prefill(run, prompt);
  generate(run, run.plan.generate_tokens, true);
  return static_cast<int64_t>(run.made.size());
}

/* llama-bench's own definitions: the time of P tokens into an empty context, and of N single tokens. Nothing is
 * sampled. */
static int64_t bench_step(struct runner &run, tokens &prompt, tokens &singles) {
  int64_t begin, end;
  begin_step(run, 0);
  const int64_t n_prompt = static_cast<int64_t>(prompt.size()), n_single = static_cast<int64_t>(singles.size());
  if (n_prompt > 0) {
    clear_context(run);
    begin = ev_now();
    for (int64_t at = 0; at < n_prompt; at += run.engine.n_batch)
      evaluate(run, prompt.data() + at, std::min(run.engine.n_batch, n_prompt - at));
    end = ev_now();
    put_count(begin, "bench.pp.begin", "n", n_prompt);
    ev_begin(end, "bench.pp.end");
    ev_end();
    ev_pace(end, EV_HOLD_NS);
  }
  if (n_single > 0) {
    clear_context(run);
    begin = ev_now();
    for (llama_token &token : singles) evaluate(run, &token, 1);
    end = ev_now();
    put_count(begin, "bench.tg.begin", "n", n_single);
    ev_begin(end, "bench.tg.end");
    ev_end();
  }
  ev_begin(ev_now(), "step.end");
  ev_key_number("i", run.steps - 1);
  ev_key_number("n", n_single);
  ev_key_number("kv_ns", run.kv_ns);
  ev_end();
  return n_single > 0 ? n_single : n_prompt;
}

/* ---------------------------------------------------------------------------------------------------- the output */

/* A line of token numbers for each turn. Where every step is the same turn, only what differs from the line before:
 * a run whose steps were all equal, as they should be, leaves one line. */
static void write_output(struct runner &run, size_t turns) {
  std::string line;
  for (llama_token token : run.made) line += (line.empty() ? "" : " ") + std::to_string(token);
  if (run.output == nullptr || run.made.empty() || (turns == 1 && line == run.written)) return;
  if (run.output_bytes + static_cast<int64_t>(line.size()) > MAX_OUTPUT_BYTES) return;
  fprintf(run.output, "%s\n", line.c_str());
  fflush(run.output);
  run.output_bytes += static_cast<int64_t>(line.size()) + 1;
  run.written = std::move(line);
}

static void open_output(struct runner &run) {
  run.output = fopen(run.plan.output, "we"); /* empties what an earlier run left, also when nothing follows */
}

static void close_output(struct runner &run) {
  const char *unknown = nullptr;
  if (run.output == nullptr) unknown = "the file could not be opened";
  else if (ferror(run.output) != 0 || fclose(run.output) != 0) unknown = "the file could not be written whole";
  if (unknown == nullptr) return;
  ev_mark_begin(ev_now(), "outputs");
  ev_key_string("unknown", unknown);
  ev_end();
}

/* --------------------------------------------------------------------------------------------------- the windows */

/* Warms up with the first turn alone, then measures whole conversations. `once(turn)` carries out a step. */
template <typename Once> static void run_steps(struct runner &run, size_t turns, Once once) {
  const int64_t warm = ev_now();
  auto timed = [&](size_t turn) {
    const int64_t begin = ev_now();
    const int64_t made = once(turn);
    run.last_ns = ev_now() - begin;
    ev_pace(begin + run.last_ns, run.last_ns);
    return made;
  };
  ev_mark(warm, "warmup.begin");
  for (int64_t n = 0; n < run.plan.warmup_n || ev_now() - warm < run.plan.warmup_ns; n++) timed(0);
  const int64_t begin = ev_now();
  ev_mark(begin, "measure.begin");
  for (int64_t made = 0; made < run.plan.min_n || ev_now() - begin < run.plan.min_ns;)
    for (size_t turn = 0; turn < turns; turn++) {
      made += timed(turn);
      write_output(run, turns);
    }
  ev_mark(ev_now(), "measure.end");
}

/* A count that cannot fit is refused before the first step; a text's is known when it is tokenised. */
static void check_counts(const struct runner &run) {
  const struct plan &plan = run.plan;
  const int64_t needed = plan.mode == mode::fixed ? plan.prompt_tokens + plan.generate_tokens - 1
                                                  : std::max(plan.prompt_tokens, plan.generate_tokens);
  if ((plan.mode == mode::fixed || plan.mode == mode::bench) && needed > run.engine.n_context)
    fail("context", "%" PRId64 " prompt and %" PRId64 " generated tokens do not fit into the context of %" PRId64,
         plan.prompt_tokens, plan.generate_tokens, run.engine.n_context);
}

static void carry_out(struct runner &run) {
  const struct plan &plan = run.plan;
  check_counts(run);
  if (plan.mode == mode::fixed) {
    tokens prompt = random_prompt(run.engine, plan.prompt_tokens, plan.seed);
    run_steps(run, 1, [&](size_t) { return fixed_step(run, prompt); });
  } else if (plan.mode == mode::bench) {
    tokens prompt = bench_tokens(run.engine, plan.prompt_tokens, plan.seed);
    tokens singles = bench_tokens(run.engine, plan.generate_tokens, plan.seed + 1);
    run_steps(run, 1, [&](size_t) { return bench_step(run, prompt, singles); });
  } else if (plan.mode == mode::score) {
    const std::vector<item> items = score_items(run);
    run_steps(run, items.size(), [&](size_t i) { return score_step(run, items[i], static_cast<int64_t>(i)); });
  } else {
    run_steps(run, plan.turns.size(), [&](size_t turn) { return text_step(run, turn); });
  }
}

#endif
