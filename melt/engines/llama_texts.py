"""What a language model is told, as the texts that its runner is given: rendered, stored, and counted in tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.engines.chat import all_turn_texts
from melt.engines.stored import stored
from melt.engines.vocabulary import open_vocabulary
from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.engines.base import Request
    from melt.engines.llama_params import LlamaParams
    from melt.engines.vocabulary import Vocabulary
    from melt.files import Conversation


@dataclass(frozen=True)
class Text:
    """One turn; `fresh` begins with an empty context."""

    said: str
    fresh: bool

    @property
    def path(self) -> Path:
        return stored(self.said.encode(errors="surrogatepass"))


@dataclass(frozen=True)
class Texts:
    """All turns of a cycle, in order. `need_tokens` is the context that the longest conversation takes."""

    turns: tuple[Text, ...]
    need_tokens: int
    need_of: str
    """The conversation that takes so many."""
    templated: bool

    @property
    def sha256(self) -> str:
        words = (f"{len(t.said.encode(errors='surrogatepass'))} {t.fresh}\n{t.said}" for t in self.turns)
        return hashlib.sha256("".join(words).encode(errors="surrogatepass")).hexdigest()


def texts_of(request: Request, params: LlamaParams) -> Texts:
    """What the request's conversations are for its model, in this mode.

    Raises UsageError for what a person can correct, Unsupported for a chat template that cannot be used.
    """
    said = _asked(request, params)
    with open_vocabulary(request.model_file, request.say) as vocabulary:
        template = vocabulary.chat_template if params.chat == "template" and params.mode != "score" else None
        if params.mode == "score":
            rendered = tuple(conversation.turns for conversation in said)
        else:
            rendered = all_turn_texts(template, said, bos=vocabulary.bos, eos=vocabulary.eos)
        needs = [_need(vocabulary, turns, params) for turns in rendered]
    longest = max(range(len(needs)), key=needs.__getitem__)
    turns = tuple(Text(text, fresh=i == 0) for texts in rendered for i, text in enumerate(texts))
    return Texts(turns, needs[longest], said[longest].name, template is not None)


def _asked(request: Request, params: LlamaParams) -> Sequence[Conversation]:
    """The conversations as the mode has them: prompts stand alone, a text to score has one continuation at most."""
    if params.mode == "prompt":
        return [
            conversation.model_copy(update={"turns": (turn,)})
            for conversation in request.conversations
            for turn in conversation.turns
        ]
    if params.mode == "score":
        for conversation in request.conversations:
            if conversation.system is not None:
                raise UsageError(
                    f"workload '{request.name}': prompt '{conversation.name}' has a 'system', and mode score scores "
                    "the text alone: put its words into the first turn"
                )
            if len(conversation.turns) > 2:  # noqa: PLR2004 - a text and its continuation
                raise UsageError(
                    f"workload '{request.name}': prompt '{conversation.name}' has {len(conversation.turns)} turns; "
                    "mode score takes a text, or a text and its continuation: name another prompt"
                )
    return request.conversations


def _need(vocabulary: Vocabulary, turns: Sequence[str], params: LlamaParams) -> int:
    """Tokens of context that a conversation takes when every answer is as long as it may be."""
    if params.mode == "score":
        return len(vocabulary.tokens("".join(turns), special_start=True, parse_special=True))
    tokens = sum(len(vocabulary.tokens(text, special_start=i == 0, parse_special=True)) for i, text in enumerate(turns))
    return tokens + len(turns) * params.tokens[1]
