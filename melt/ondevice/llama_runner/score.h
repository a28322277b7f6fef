/* How likely the model holds a text: the mode "score". */
#ifndef MELT_LLAMA_SCORE_H
#define MELT_LLAMA_SCORE_H

#include "steps.h"

#include <cmath>

static const int64_t SCORE_BATCH = 256; /* each token of a batch takes a row of logits as wide as the vocabulary */

/* A text as tokens; those before `from` are given, the others are scored. */
struct item {
  tokens text;
  int64_t from;
};

struct score {
  int64_t n = 0, greedy = 0; /* tokens scored, and how many of them the model held for the likeliest */
  double logprob = 0;        /* the sum over them, natural logarithms */
};

/* A text alone is scored from its first token that has one before it. A text and its continuation are tokenised
 * together as they stand, and scored from the first token in which that differs from the text alone: where the end of
 * the one and the beginning of the other make one token, it is scored. */
static std::vector<item> score_items(struct runner &run) {
  std::vector<item> items;
  const std::vector<turn> &turns = run.plan.turns;
  for (size_t i = 0; i < turns.size(); i++) {
    const tokens given = tokenized(run.engine.vocab, turns[i].text, true);
    int64_t from = 1;
    struct item item = {given, from};
    if (i + 1 < turns.size() && !turns[i + 1].fresh) {
      item.text = tokenized(run.engine.vocab, turns[i].text + turns[i + 1].text, true);
      const auto differ = std::mismatch(given.begin(), given.end(), item.text.begin(), item.text.end());
      from = differ.first - given.begin();
      i++;
    }
    if (i + 1 < turns.size() && !turns[i + 1].fresh) fail("input", "a text to score has more than one continuation");
    item.from = std::max<int64_t>(from, 1);
    if (static_cast<int64_t>(item.text.size()) <= item.from)
      fail("input", "text %zu to score makes no token that could be scored", items.size() + 1);
    items.push_back(std::move(item));
  }
  return items;
}

/* Adds what the logits of one place say of the token that follows it. */
static void add_score(struct score &score, const float *logits, int32_t n_vocab, llama_token token) {
  const int32_t likeliest = static_cast<int32_t>(std::max_element(logits, logits + n_vocab) - logits);
  double sum = 0;
  for (int32_t i = 0; i < n_vocab; i++) sum += std::exp(static_cast<double>(logits[i]) - logits[likeliest]);
  score.logprob += static_cast<double>(logits[token]) - logits[likeliest] - std::log(sum);
  score.greedy += likeliest == token;
  score.n++;
}

/* Evaluates the tokens from `begin` to `end` in an empty context, and scores those from `from` on. */
static void score_window(struct runner &run, const tokens &text, int64_t begin, int64_t end, int64_t from,
                         struct score &score) {
  clear_context(run);
  const int32_t n_vocab = llama_vocab_n_tokens(run.engine.vocab);
  const int64_t step = std::min(SCORE_BATCH, run.engine.n_batch);
  llama_batch batch = llama_batch_init(static_cast<int32_t>(step), 0, 1);
  for (int64_t at = begin; at < end; at += step) {
    batch.n_tokens = static_cast<int32_t>(std::min(step, end - at));
    for (int32_t i = 0; i < batch.n_tokens; i++) {
      batch.token[i] = text[static_cast<size_t>(at + i)];
      batch.pos[i] = static_cast<llama_pos>(at + i - begin);
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = at + i + 1 >= from && at + i + 1 < end;
    }
    evaluate_batch(run, batch);
    for (int32_t i = 0; i < batch.n_tokens; i++)
      if (batch.logits[i]) {
        const float *logits = llama_get_logits_ith(run.engine.context, i);
        if (logits == nullptr) fail("runtime", "the library gives no logits");
        add_score(score, logits, n_vocab, text[static_cast<size_t>(at + i + 1)]);
      }
  }
  llama_batch_free(batch);
}

static void put_score(int64_t t, const struct score &score) {
  char number[40] = "null";
  if (std::isfinite(score.logprob)) snprintf(number, sizeof number, "%.17g", score.logprob);
  ev_begin(t, "score.end");
  ev_key_number("n", score.n);
  ev_key("logprob");
  ev_text(number);
  ev_key_number("greedy", score.greedy);
  ev_end();
}

/* A text that is longer than the context is scored in windows that overlap by half: each token once, and, after the
 * first window, with half a context before it at least. */
static int64_t score_step(struct runner &run, const struct item &item, int64_t number) {
  const int64_t size = static_cast<int64_t>(item.text.size()), wide = run.engine.n_context;
  struct score score;
  begin_step(run, number);
  const int64_t begin = ev_now();
  int64_t from = item.from, evaluated = 0;
  for (int64_t at = 0; from < size; at += std::max<int64_t>(wide / 2, 1)) {
    const int64_t end = std::min(at + wide, size);
    if (end <= from) continue;
    score_window(run, item.text, at, end, std::max(from, at + 1), score);
    evaluated += end - at;
    from = end;
  }
  const int64_t end = ev_now();
  ev_begin(begin, "score.begin");
  ev_key_number("i", number);
  ev_key_number("evaluated", evaluated);
  ev_end();
  put_score(end, score);
  ev_begin(ev_now(), "step.end");
  ev_key_number("i", run.steps - 1);
  ev_key_number("n", score.n);
  ev_key_number("kv_ns", run.kv_ns);
  ev_end();
  return score.n;
}

#endif
