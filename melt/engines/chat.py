"""A conversation in the form that a model was trained on: its own chat template, rendered here on the host.

libllama has no Jinja, so a device is sent text. A template is code from wherever the model is from: it runs in a
process of its own (`chat_sandbox`) that has little time and memory.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from melt.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.files.prompts import Conversation

MOST_TEMPLATE_BYTES = 1 << 20
MOST_OUTPUT_BYTES = 16 << 20
"""Of one rendering; as much as the runner takes for a turn."""
_MOST_ALL_BYTES = 64 << 20
_CPU_S, _WALL_S = 10, 120
_MEMORY_BYTES = 1 << 30
_OTHERWISE = "mend the file's tokenizer.chat_template, or say 'params: {chat: plain}'"
_PROGRAM = Path(__file__).with_name("chat_sandbox.py")


class Message(TypedDict):
    """One message of a conversation, as templates know it."""

    role: str
    content: str


class _Job(NamedTuple):
    """What is rendered: so many messages of a conversation."""

    conversation: int
    messages: int
    add_generation_prompt: bool
    name: str
    """For an error."""


def render(
    template: str, messages: Sequence[Message], *, bos: str | None, eos: str | None, add_generation_prompt: bool
) -> str:
    """The text of a conversation by a model's own chat template.

    The same on every day: a template that writes the date writes 26 Jul 2024. Raises Unsupported when the template
    does not work, does not end, or refuses the conversation; UsageError when jinja2 is not installed.
    """
    return _rendered(template, [list(messages)], [_Job(0, len(messages), add_generation_prompt, "")], bos, eos)[0]


def turn_texts(
    template: str | None, conversation: Conversation, *, bos: str | None, eos: str | None
) -> tuple[str, ...]:
    """The text that each turn adds to the context, in which the answers are the model's own and not known here.

    The first is everything up to the first answer. A later one is what stands between the end of an answer and the
    beginning of the next: the end of the assistant's turn, the person's words, the beginning of an answer. Without a
    template it is the plain words, the system's first, with a blank line before each turn but the first.

    Raises Unsupported as `render` does, and where the template writes earlier turns anew when a later one comes.
    """
    return all_turn_texts(template, [conversation], bos=bos, eos=eos)[0]


def all_turn_texts(
    template: str | None, conversations: Sequence[Conversation], *, bos: str | None, eos: str | None
) -> tuple[tuple[str, ...], ...]:
    """`turn_texts` of several conversations, in one process."""
    if template is None:
        return tuple(_plain(conversation) for conversation in conversations)
    stems = [_stem(template, conversation) for conversation in conversations]
    spoken = [_messages(conversation, stem) for conversation, stem in zip(conversations, stems, strict=True)]
    jobs = [
        _Job(i, len(spoken[i]) - 2 * after, True, f" (turn {len(one.turns) - after} of '{one.name}')")
        for i, one in enumerate(conversations)
        for after in reversed(range(len(one.turns)))
    ]
    rendered = iter(_rendered(template, spoken, jobs, bos, eos))
    return tuple(
        _cut([next(rendered) for _ in conversation.turns], conversation, stem)
        for conversation, stem in zip(conversations, stems, strict=True)
    )


def _plain(conversation: Conversation) -> tuple[str, ...]:
    first, *later = conversation.turns
    told = f"{conversation.system}\n\n" if conversation.system is not None else ""
    return (told + first, *(f"\n\n{turn}" for turn in later))


def _stem(template: str, conversation: Conversation) -> str:
    """The beginning of the words that stand for answers: one that occurs in nothing else."""
    stem, said = "answer", "\n".join((template, conversation.system or "", *conversation.turns))
    while stem in said:
        stem += "x"
    return stem


def _answer(stem: str, turn: int) -> str:
    return f"{stem}{turn}end"  # letters and figures alone: no template trims or escapes them


def _messages(conversation: Conversation, stem: str) -> list[Message]:
    """A conversation up to its last turn, with words that stand for the answers."""
    messages: list[Message] = []
    if conversation.system is not None:
        messages.append({"role": "system", "content": conversation.system})
    for turn, said in enumerate(conversation.turns):
        messages.append({"role": "user", "content": said})
        messages.append({"role": "assistant", "content": _answer(stem, turn)})
    return messages[:-1]


def _cut(whole: Sequence[str], conversation: Conversation, stem: str) -> tuple[str, ...]:
    """What each turn adds, from the text up to each turn; Unsupported where one is not the one before and more."""
    added = [whole[0]]
    for turn in range(1, len(whole)):
        before, now, answer = whole[turn - 1], whole[turn], _answer(stem, turn - 1)
        about = f"turn {turn + 1} of '{conversation.name}' cannot be cut out"
        if not now.startswith(before):
            raise _unsupported(f"writes what stood before an answer anew once there is a later turn: {about}")
        # white space before an answer is the model's to write: it is part of its first token
        rest = now[len(before) :].lstrip()
        if not rest.startswith(answer):
            raise _unsupported(f"puts words of its own before an answer once it is given, or leaves it out: {about}")
        added.append(rest.removeprefix(answer))
        if stem in added[-1]:
            raise _unsupported(f"repeats an answer: {about}")
    for turn, text in enumerate(added, 1):
        if not text:
            raise _unsupported(f"writes nothing for turn {turn} of '{conversation.name}'")
    return tuple(added)


def _rendered(
    template: str, conversations: Sequence[list[Message]], jobs: Sequence[_Job], bos: str | None, eos: str | None
) -> list[str]:
    """The text of each job."""
    if importlib.util.find_spec("jinja2") is None:
        raise UsageError("chat templates need the package jinja2: pip install 'melt[llm]'")
    if len(template.encode(errors="replace")) > MOST_TEMPLATE_BYTES:
        raise _unsupported(f"is longer than {MOST_TEMPLATE_BYTES >> 20} MiB")
    asked = {
        "template": template,
        "conversations": conversations,
        "jobs": [(job.conversation, job.messages, job.add_generation_prompt) for job in jobs],
        "values": {"bos_token": bos or "", "eos_token": eos or ""},
        "most_bytes_each": MOST_OUTPUT_BYTES,
        "most_bytes": _MOST_ALL_BYTES,
        "cpu_s": _CPU_S,
        "memory_bytes": _MEMORY_BYTES,
    }
    # -P: a file jinja2.py in this folder or the person's is not Jinja
    argv = [sys.executable, "-P", str(_PROGRAM)]
    try:
        done = subprocess.run(argv, input=json.dumps(asked).encode(), capture_output=True, timeout=_WALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise _unsupported(f"did not end within {_WALL_S} s") from None
    if done.returncode == -signal.SIGXCPU:
        raise _unsupported(f"did not end within {_CPU_S} s of computing")
    if done.returncode:
        raise _unsupported(f"ended the process that rendered it ({_last_words(done)})")
    answer = json.loads(done.stdout)
    if "problem" in answer:
        raise _unsupported(_printable(answer["problem"]) + jobs[min(answer["job"], len(jobs) - 1)].name)
    texts: list[str] = answer["texts"]
    return texts


def _unsupported(what: str) -> Unsupported:
    return Unsupported(f"the model's chat template {what}: {_OTHERWISE}")


def _last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return _printable(lines[-1][:200] if lines else f"exit code {done.returncode}")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
