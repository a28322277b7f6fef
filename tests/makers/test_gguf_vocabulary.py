"""Vocabularies: of the real size, all bytes reachable, and nothing else that a text could become."""

from __future__ import annotations

import itertools

import jinja2
import pytest

from melt.makers.gguf import NETWORKS, Network
from melt.makers.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, byte_letters, llama3, merges, tokens

ALL = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@ALL
def test_a_vocabulary_is_full_and_its_tokens_differ(network: Network) -> None:
    made = tokens(network.vocabulary)
    assert len(made.texts) == len(made.types) == len(made.scores) == network.vocabulary.size
    assert len(set(made.texts)) == network.vocabulary.size
    assert all(made.texts)


@ALL
def test_every_byte_has_its_token(network: Network) -> None:
    vocabulary = network.vocabulary
    made = tokens(vocabulary)
    texts = made.texts[vocabulary.first_byte : vocabulary.first_byte + 256]
    types = set(made.types[vocabulary.first_byte : vocabulary.first_byte + 256])
    if vocabulary.kind == "llama":
        assert texts == [f"<0x{byte:02X}>" for byte in range(256)]
        assert types == {BYTE}
        assert made.texts.count("▁") == 1  # what llama.cpp makes of a space
    else:
        assert texts == byte_letters()
        assert types == {NORMAL}


@ALL
def test_no_text_becomes_a_filler(network: Network) -> None:
    """A token of several letters is reached by merging shorter ones: there is none of two letters, and no merge."""
    vocabulary = network.vocabulary
    made = tokens(vocabulary)
    plain = [text for text, kind in zip(made.texts, made.types, strict=True) if kind == NORMAL]
    assert not [text for text in plain if len(text) == 2]
    assert {len(text) for text in plain if len(text) == 1} <= {1}
    for pair in merges(vocabulary, made.texts):
        assert all(len(part) > 1 for part in pair.split(" "))


def test_the_letters_of_bytes_are_gpt2s() -> None:
    letters = byte_letters()
    assert len(set(letters)) == 256
    assert (letters[ord(" ")], letters[ord("\n")], letters[ord("a")], letters[0x7F], letters[0xAD]) == (
        "Ġ", "Ċ", "a", "ġ", "Ń",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("tinyllama-1.1b", {"<unk>": 0, "<s>": 1, "</s>": 2}),
        ("gemma-2b", {"<eos>": 1, "<bos>": 2, "<start_of_turn>": 106, "<end_of_turn>": 107}),
        ("llama-3.2-1b", {"<|begin_of_text|>": 128_000, "<|end_of_text|>": 128_001, "<|eot_id|>": 128_009}),
        ("qwen2.5-0.5b", {"<|endoftext|>": 151_643, "<|im_start|>": 151_644, "<|im_end|>": 151_645}),
        ("zephyr-3b", {"<|endoftext|>": 0}),
    ],
)
def test_control_tokens_have_their_real_numbers(name: str, numbers: dict[str, int]) -> None:
    made = tokens(NETWORKS[name].vocabulary)
    assert {made.texts[number]: number for number in numbers.values()} == numbers
    assert all(made.types[n] == (UNKNOWN if text == "<unk>" else CONTROL) for text, n in numbers.items())


@ALL
def test_the_chat_template_renders_a_conversation_with_known_control_tokens(network: Network) -> None:
    vocabulary = network.vocabulary
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(vocabulary.template)  # noqa: S701
    said = [("user", "What is 2+2?"), ("assistant", "4."), ("user", "And <b>3</b>?")]
    text = template.render(
        messages=[{"role": role, "content": content} for role, content in said],
        bos_token=vocabulary.bos, eos_token=vocabulary.eos, add_generation_prompt=True,
    )  # fmt: skip
    places = [text.index(content) for _, content in said]
    assert places == sorted(places)
    end = vocabulary.eot or vocabulary.eos
    assert end in text[places[1] :]
    assert not text.endswith(said[-1][1])


def test_a_vocabulary_too_small_for_its_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit in 300"):
        tokens(llama3(300))


def test_names_of_fillers_are_words() -> None:
    made = tokens(NETWORKS["llm-toy"].vocabulary)
    assert list(itertools.islice((t for t in made.texts if t.startswith("▁w")), 2)) == ["▁w260", "▁w261"]
