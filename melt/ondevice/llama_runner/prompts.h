/* What a step is given: random tokens, or a text as tokens. */
#ifndef MELT_LLAMA_PROMPTS_H
#define MELT_LLAMA_PROMPTS_H

#include "engine.h"

using tokens = std::vector<llama_token>;

/* The same numbers on every machine; Steele, Lea and Flood, "Fast splittable pseudorandom number generators". */
static uint64_t next_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* Tokens that stand for text: none that control, end or mean nothing. */
static tokens plain_tokens(const struct engine &engine) {
  const int none = LLAMA_TOKEN_ATTR_UNKNOWN | LLAMA_TOKEN_ATTR_UNUSED | LLAMA_TOKEN_ATTR_CONTROL;
  tokens plain;
  for (llama_token t = 0; t < llama_vocab_n_tokens(engine.vocab); t++)
    if ((llama_vocab_get_attr(engine.vocab, t) & none) == 0 && !llama_vocab_is_eog(engine.vocab, t)) plain.push_back(t);
  if (plain.empty()) fail("unsupported", "the model's vocabulary has no token of text");
  return plain;
}

static tokens random_prompt(const struct engine &engine, int64_t n, int64_t seed) {
  const tokens plain = plain_tokens(engine);
  uint64_t state = static_cast<uint64_t>(seed);
  tokens prompt(static_cast<size_t>(n));
  for (llama_token &token : prompt) token = plain[next_random(&state) % plain.size()];
  return prompt;
}

/* A text as tokens, with the beginning-of-text that the model wants before its first. */
static tokens tokenized(const llama_vocab *vocab, const std::string &text, bool first) {
  tokens found(text.size() + 16);
  for (;;) {
    const int32_t n = llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), found.data(),
                                     static_cast<int32_t>(found.size()), first, true);
    if (n >= 0) {
      found.resize(static_cast<size_t>(n));
      break;
    }
    if (n == INT32_MIN) fail("input", "the text makes more tokens than can be counted");
    found.resize(static_cast<size_t>(-n));
  }
  /* the end that some vocabularies put after every text would end what is to go on */
  if (first && llama_vocab_get_add_eos(vocab) && !found.empty() && found.back() == llama_vocab_eos(vocab))
    found.pop_back();
  const llama_token bos = llama_vocab_bos(vocab);
  if (first && found.size() > 1 && bos != LLAMA_TOKEN_NULL && found[0] == bos && found[1] == bos)
    found.erase(found.begin()); /* the chat template had written one already */
  return found;
}

/* As llama-bench draws them: the beginning-of-text where the model wants one, then any token of the vocabulary. */
static tokens bench_tokens(const struct engine &engine, int64_t n, int64_t seed) {
  uint64_t state = static_cast<uint64_t>(seed);
  const uint64_t n_vocab = static_cast<uint64_t>(llama_vocab_n_tokens(engine.vocab));
  tokens drawn(static_cast<size_t>(n));
  for (llama_token &token : drawn) token = static_cast<llama_token>(next_random(&state) % n_vocab);
  if (n > 0 && llama_vocab_get_add_bos(engine.vocab)) drawn[0] = llama_vocab_bos(engine.vocab);
  return drawn;
}

#endif
