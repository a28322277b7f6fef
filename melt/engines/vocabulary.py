"""A language model's vocabulary on this computer: its tokens, its chat template, what begins and ends a text."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from melt.engines.llama_process import Ended, LlamaProcess, Refused, llama_process
from melt.errors import UsageError
from melt.makers.gguf.container import Damaged, Header, read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_LIMIT_S = 600
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Vocabulary:
    """Of one file, as llama.cpp reads it; open as long as the context that gave it."""

    model: Path
    chat_template: str | None
    """Jinja, as the file states it; it is from wherever the model is from."""
    bos: str | None
    """How the token is written that begins a text."""
    eos: str | None
    """How the token is written that ends one."""
    add_bos: bool
    """Whether a text begins with that token where `special_start` is asked for."""
    size: int
    """How many tokens there are."""
    _process: LlamaProcess = field(repr=False)

    def tokens(self, text: str | bytes, *, special_start: bool, parse_special: bool) -> list[int]:
        """The tokens of a text; bytes need not be UTF-8.

        With `special_start` those tokens are added that the model wants around a text; with `parse_special` a special
        token that is written out is that token, else it is so many letters. Raises UsageError.
        """
        data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
        if len(data) > _MOST_BYTES:
            raise UsageError(f"a text of {len(data)} bytes is too long for {self.model}: {_MOST_BYTES} are the most")
        given = {"data": base64.b64encode(data).decode(), "special_start": special_start}
        tokens: list[int] = self._ask("tokens", "tokenise a text", **given, parse_special=parse_special)
        return tokens

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones written out; what is no UTF-8 is U+FFFD. Raises UsageError."""
        data: str = self._ask("text", "write tokens as text", tokens=list(tokens))
        return base64.b64decode(data).decode(errors="replace")

    def _ask(self, what: str, doing: str, **values: Any) -> Any:
        try:
            return self._process.ask(what, limit_s=_LIMIT_S, **values)
        except Refused as refused:
            raise UsageError(f"model {self.model} cannot {doing}: {refused}") from None
        except Ended as ended:
            raise UsageError(
                f"model {self.model} cannot {doing}: llama.cpp {ended}; download or make it again"
            ) from None


def read_gguf_header(model: Path) -> Header:
    """What stands before the weights, read with limits before native code reads it. Raises UsageError."""
    try:
        if not model.is_file():
            raise UsageError(f"model {model} is not there or no regular file: name a .gguf file")
        with model.open("rb") as file:
            return read_header(file, model.stat().st_size)
    except Damaged as damage:
        what = "".join(c if c.isprintable() else " " for c in str(damage))  # it may quote the file
        raise UsageError(f"model {model}: not a GGUF model, or damaged: {what}; download or make it again") from None
    except OSError as error:
        raise UsageError(f"model {model}: cannot be read ({error.strerror}); check its permissions") from None


@contextlib.contextmanager
def open_vocabulary(model: Path, say: Callable[[str], None] | None = None) -> Iterator[Vocabulary]:
    """The vocabulary of the GGUF file `model`, read by the runner's own version of llama.cpp; `say` hears of compiling.

    Raises UsageError when the file is none that llama.cpp can read, or llama-cpp-python is missing or of another
    version; Unsupported when this computer's processor has no level.
    """
    read_gguf_header(model)
    with llama_process(say) as process:
        try:
            told = process.ask("open", limit_s=_LIMIT_S, model=str(model))
        except Refused as refused:
            why = refused or "it does not say why"
            raise UsageError(f"model {model}: llama.cpp cannot read it ({why}); download or make it again") from None
        except Ended as ended:
            raise UsageError(f"model {model}: llama.cpp {ended} while it read it; download or make it again") from None
        yield Vocabulary(model=model, _process=process, **told)
