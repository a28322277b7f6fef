"""What `llama_process` starts: answers, a line of JSON for each line asked, from llama-cpp-python. Imports no melt."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import resource
import signal
import threading
from queue import SimpleQueue
from typing import Any

_ERROR, _INFO, _CONTINUED = 4, 2, 5
"""Of ggml's levels of log."""
_BUFFER_BYTES = 256 << 20
"""What quantising converts at a time: llama.cpp's own 8 GiB would hold the largest tensor as 32-bit floats."""


class Refused(Exception):
    """What was asked cannot be done, and why."""


class Answers:
    """The pipe to melt: what native code writes to standard output goes where its errors go."""

    def __init__(self) -> None:
        self._pipe = os.fdopen(os.dup(1), "w", encoding="ascii")
        os.dup2(2, 1)

    def write(self, **values: Any) -> None:
        """One line."""
        self._pipe.write(json.dumps(values) + "\n")
        self._pipe.flush()


class Llama:
    """The library, at most one vocabulary of it, and what its log said."""

    def __init__(self, answers: Answers) -> None:
        import llama_cpp  # noqa: PLC0415 - what it writes must find its place first

        self._llama: Any = llama_cpp
        self._model: Any = None
        self._vocabulary: Any = None
        self._errors: list[str] = []
        self._answers: Answers | None = None
        self._pipe = answers
        # kept, as the library calls it until the end
        self._callback = llama_cpp.llama_log_callback(self._logged)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()

    def _logged(self, level: int, text: bytes, _: object) -> None:
        words = text.decode(errors="replace")
        if level == _ERROR:
            self._errors.append(words)
        elif level == _INFO and self._answers is not None:
            self._answers.write(log=words)

    def _why(self) -> str:
        """The first of its errors that says something, without the name of a function before it."""
        for words in self._errors:
            name, colon, rest = words.strip().partition(": ")
            said = rest if colon and name.replace("_", "").isalnum() else words
            if said.strip():
                return said.strip()
        return ""

    def ready(self) -> None:
        """The library is there."""

    def open(self, model: str) -> dict[str, Any]:
        """A model's vocabulary without its weights."""
        parameters = self._llama.llama_model_default_params()
        parameters.vocab_only = True
        self._model = self._llama.llama_model_load_from_file(os.fsencode(model), parameters)
        if not self._model:
            raise Refused(self._why())
        self._vocabulary = self._llama.llama_model_get_vocab(self._model)
        if self._llama.llama_vocab_type(self._vocabulary) == self._llama.LLAMA_VOCAB_TYPE_NONE:
            raise Refused("it holds no vocabulary")
        template = self._llama.llama_model_chat_template(self._model, None)
        return {
            "chat_template": template.decode(errors="replace") if template is not None else None,
            "bos": self._written(self._llama.llama_vocab_bos(self._vocabulary)),
            "eos": self._written(self._llama.llama_vocab_eos(self._vocabulary)),
            "add_bos": self._llama.llama_vocab_get_add_bos(self._vocabulary),
            "size": self._llama.llama_vocab_n_tokens(self._vocabulary),
        }

    def _written(self, token: int) -> str | None:
        if not 0 <= token < self._llama.llama_vocab_n_tokens(self._vocabulary):
            return None
        text: bytes = self._llama.llama_vocab_get_text(self._vocabulary, token)
        return text.decode(errors="replace")

    def tokens(self, data: str, special_start: bool, parse_special: bool) -> list[int]:
        """Of the bytes in base64."""
        text = base64.b64decode(data)
        room = len(text) + 16
        for _ in range(2):
            found = (self._llama.llama_token * room)()
            count = self._llama.llama_tokenize(
                self._vocabulary, text, len(text), found, room, special_start, parse_special
            )
            if count >= 0:
                return list(found[:count])
            room = -count
            if room > 1 << 30:
                break
        raise Refused("it gives more tokens than can be counted")

    def text(self, tokens: list[int]) -> str:
        """The bytes of tokens, in base64."""
        size = self._llama.llama_vocab_n_tokens(self._vocabulary)
        for token in tokens:
            if not 0 <= token < size:
                raise Refused(f"token {token} is not one of its {size}")
        given = (self._llama.llama_token * len(tokens))(*tokens)
        room = len(tokens) * 16 + 64
        for _ in range(2):
            buffer = ctypes.create_string_buffer(room)
            # special tokens are neither removed nor hidden
            count = self._llama.llama_detokenize(self._vocabulary, given, len(tokens), buffer, room, False, True)
            if count >= 0:
                return base64.b64encode(buffer.raw[:count]).decode()
            room = -count
        raise Refused("its tokens have no text")

    def quantize(self, source: str, file_type: int, target: str = "", dry_run: bool = False) -> None:
        """A file from a file, or what its size would be into the log."""
        parameters = self._llama.llama_model_quantize_default_params()
        parameters.ftype, parameters.max_buf_size = file_type, _BUFFER_BYTES
        parameters.nthread, parameters.dry_run = len(os.sched_getaffinity(0)), dry_run
        self._errors.clear()
        self._answers = self._pipe
        try:
            code = self._llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
        finally:
            self._answers = None
        if code:
            raise Refused(self._why())


def main() -> None:
    """Answers until melt is gone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = Answers()
    llama = Llama(answers)
    asked: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_hear, args=(asked,), daemon=True).start()
    while True:
        values = json.loads(asked.get())
        try:
            answer = getattr(llama, values.pop("ask"))(**values)
        except Refused as refused:
            answers.write(refused=str(refused))
        else:
            answers.write(answer=answer)


def _hear(asked: SimpleQueue[bytes]) -> None:
    """Hands on what is asked; when melt is gone, native code that runs has nobody to run for."""
    with os.fdopen(0, "rb") as lines:
        for line in lines:
            asked.put(line)
    with contextlib.suppress(ProcessLookupError):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
