"""A byte-level vocabulary of a real one's size, so that text goes through llama.cpp and comes back unchanged.

Text becomes one token for each of its UTF-8 bytes. Control tokens have the real model's names and numbers. All
others are fillers, `w0`, `w1`, …: what random weights generate reads as a row of words, yet no text becomes a filler,
for llama.cpp reaches a token of several characters only by merging shorter ones, and there are none.

The two kinds differ where llama.cpp itself does: "llama" takes any bytes, but writes a space as U+2581, so that this
one character comes back as a space, as from the real tokenizers; "gpt2" takes all of Unicode, but llama.cpp replaces
bytes that are not UTF-8 before the vocabulary sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Token types, as GGUF numbers them."""

SPLITTER = "qwen2"
"""How a "gpt2" vocabulary cuts text into words. Without merges it decides nothing, but with this one llama.cpp
neither recurses on long words nor "cleans up" the spaces of the text that it gives back."""


@dataclass(frozen=True)
class Vocabulary:
    """The facts of a real tokenizer that a file states; from them come as many tokens as it has."""

    kind: Literal["llama", "gpt2"]
    size: int
    control: Mapping[str, int]
    """The tokens with a meaning, by the numbers that they really have."""
    first_byte: int
    """The number of the token for byte 0; the other bytes follow."""
    eos: str
    """End of text."""
    template: str
    """A chat template in Jinja, of the real model's form."""
    bos: str | None = None
    """Begin of text; None where the real model has none."""
    eot: str | None = None
    """End of turn; None where that is `eos`."""
    unknown: str | None = None
    add_bos: bool = True


@dataclass(frozen=True)
class Tokens:
    """The vocabulary written out: one text, one type and one score for each token."""

    texts: list[str]
    types: list[int]
    scores: list[float]


def tokens(vocabulary: Vocabulary) -> Tokens:
    """Every token of a vocabulary; ValueError when the control tokens and the bytes do not fit in it."""
    spaced = "▁" if vocabulary.kind == "llama" else "Ġ"
    texts = [f"{spaced}w{number}" for number in range(vocabulary.size)]
    types = [NORMAL] * vocabulary.size
    scores = [-float(number) for number in range(vocabulary.size)]
    given = {number: (text, CONTROL) for text, number in vocabulary.control.items()}
    if vocabulary.unknown is not None:
        given[vocabulary.control[vocabulary.unknown]] = (vocabulary.unknown, UNKNOWN)
    of_bytes = _of_bytes(vocabulary)
    taken = set(given) & set(of_bytes)
    if taken or max((*given, *of_bytes)) >= vocabulary.size:
        raise ValueError(f"control tokens and bytes do not fit in {vocabulary.size} tokens (twice taken: {taken})")
    for number, (text, kind) in (given | of_bytes).items():
        texts[number], types[number], scores[number] = text, kind, 0.0
    return Tokens(texts, types, scores)


def merges(vocabulary: Vocabulary, texts: list[str]) -> list[str]:
    """llama.cpp wants at least one merge of a "gpt2" vocabulary: one of two fillers, which never stand side by side."""
    fillers = [text for text in texts if text.startswith("Ġw")]
    return [f"{fillers[0]} {fillers[1]}"] if vocabulary.kind == "gpt2" else []


def _of_bytes(vocabulary: Vocabulary) -> dict[int, tuple[str, int]]:
    first = vocabulary.first_byte
    if vocabulary.kind == "gpt2":
        return {first + byte: (text, NORMAL) for byte, text in enumerate(byte_letters())}
    spelt = {first + byte: (f"<0x{byte:02X}>", BYTE) for byte in range(256)}
    return spelt | {first + 256: ("▁", NORMAL)}  # a space: llama.cpp turns each into this letter first


def byte_letters() -> list[str]:
    """The letter that stands for each byte in a "gpt2" vocabulary: its own where it shows, else one from U+0100 on."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in shown else chr(next(others)) for byte in range(256)]


# ------------------------------------------------------------------------------------------------ the real ones

_TURNS = "{% for message in messages %}"
_END = "{% endfor %}"

_INST_TEMPLATE = (
    "{{ bos_token }}" + _TURNS + "{% if message.role == 'assistant' %} {{ message.content }}{{ eos_token }}"
    "{% else %}[INST] {{ message.content }} [/INST]{% endif %}" + _END
)
_ROLE_TEMPLATE = (
    _TURNS + "<|{{ message.role }}|>\n{{ message.content }}{{ eos_token }}\n" + _END
    + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)  # fmt: skip
_GEMMA_TEMPLATE = (
    "{{ bos_token }}" + _TURNS + "<start_of_turn>{{ 'model' if message.role == 'assistant' else 'user' }}\n"
    "{{ message.content }}<end_of_turn>\n" + _END
    + "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)  # fmt: skip
_LLAMA3_TEMPLATE = (
    "{{ bos_token }}" + _TURNS + "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content }}<|eot_id|>" + _END
    + "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)  # fmt: skip
_CHATML_TEMPLATE = (
    _TURNS + "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n" + _END
    + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)  # fmt: skip


def llama2(size: int = 32_000, template: str = _INST_TEMPLATE) -> Vocabulary:
    """Of Llama 2, which Mistral 7B and TinyLlama share."""
    return Vocabulary(
        "llama", size, {"<unk>": 0, "<s>": 1, "</s>": 2}, 3, "</s>", template, bos="<s>", unknown="<unk>"
    )  # fmt: skip


def tinyllama(size: int = 32_000) -> Vocabulary:
    """Llama 2's tokens with the turns of Zephyr."""
    return llama2(size, _ROLE_TEMPLATE)


def gemma(size: int = 256_000) -> Vocabulary:
    """Of Gemma 1."""
    control = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<start_of_turn>": 106, "<end_of_turn>": 107}
    return Vocabulary(
        "llama", size, control, 217, "<eos>", _GEMMA_TEMPLATE, bos="<bos>", eot="<end_of_turn>", unknown="<unk>"
    )  # fmt: skip


def neox(size: int = 50_304) -> Vocabulary:
    """Of GPT-NeoX, which StableLM 3B uses; padded to 50,304."""
    text = "<|endoftext|>"
    return Vocabulary("gpt2", size, {text: 0, "<|padding|>": 1}, 2, text, _ROLE_TEMPLATE, bos=text, add_bos=False)


def llama3(size: int = 128_256) -> Vocabulary:
    """Of Llama 3."""
    names = {"begin_of_text": 0, "end_of_text": 1, "start_header_id": 6, "end_header_id": 7, "eom_id": 8, "eot_id": 9}
    control = {f"<|{name}|>": size - 256 + number for name, number in names.items()}
    begin, end, turn = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
    return Vocabulary("gpt2", size, control, 0, end, _LLAMA3_TEMPLATE, bos=begin, eot=turn)


def qwen2(size: int = 151_936) -> Vocabulary:
    """Of Qwen 2.5 as tuned for instructions: a turn's end ends the text."""
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    control = {name: size - 293 + number for number, name in enumerate(names)}
    return Vocabulary("gpt2", size, control, 0, names[2], _CHATML_TEMPLATE, bos=names[0], add_bos=False)
