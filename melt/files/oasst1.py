"""A prompt set by the study's recipe, from a local dump of OASST1: what people said along one path of a tree each.

A dump is what its makers publish: a line of JSON for each tree (`.trees.jsonl.gz`) or for each message
(`.messages.jsonl.gz`), compressed or not. It is from elsewhere: a line that cannot be understood is counted and passed.
"""

from __future__ import annotations

import gzip
import hashlib
import heapq
import json
import math
import re
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from melt.errors import UsageError
from melt.files.oasst1_paths import Message, best_path
from melt.files.prompts import Conversation, PromptSet
from melt.files.reader import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_LINE_BYTES, _MOST_DUMP_BYTES = 16 << 20, 16 << 30
_MOST_MESSAGES, _MOST_TEXT = 1_000_000, 50_000
_READY = (None, "ready_for_export")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Recipe:
    """Which conversations: by default the study's."""

    conversations: int = 50
    turns_min: int = 6
    turns_max: int = 10
    lang: str = "en"
    seed: int = 1


@dataclass(frozen=True)
class Built:
    """A set, and how it came about."""

    prompts: PromptSet
    trees: int
    fitting: int
    """Trees with a path of as many prompts as are wanted."""
    passed_lines: int
    """Lines of the dump that could not be understood."""


@dataclass
class _Lot:
    """Draws so many of all fitting trees: those whose hash with the seed is lowest, whatever order they come in."""

    recipe: Recipe
    trees: int = 0
    drawn: dict[int, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    _heap: list[int] = field(default_factory=list)
    _fitting: set[int] = field(default_factory=set)

    @property
    def fitting(self) -> int:
        return len(self._fitting)

    def offer(self, tree: list[Message]) -> None:
        """A tree, its root first and no message before the one that it answers."""
        self.trees += 1
        path = best_path(tree, self.recipe.turns_min, self.recipe.turns_max)
        if path is None:
            return
        root = tree[0].id
        lot = int.from_bytes(hashlib.sha256(f"{self.recipe.seed}:{root}".encode()).digest()[:8])
        if lot in self._fitting:
            return  # the same tree again
        self._fitting.add(lot)
        heapq.heappush(self._heap, -lot)
        self.drawn[lot] = root, tuple(tree[at].text or tree[at].id for at in path)
        if len(self._heap) > self.recipe.conversations:
            del self.drawn[-heapq.heappop(self._heap)]

    def in_order(self) -> list[tuple[str, tuple[str, ...]]]:
        return [self.drawn[lot] for lot in sorted(self.drawn)]


def build_set(dump: Path, name: str, recipe: Recipe) -> Built:
    """A set of conversations from a dump; the same dump and recipe give the same set.

    Memory holds the chosen conversations; of a dump of messages, the shape of all trees too, and it is read twice.
    Raises UsageError when it cannot be read, is none, or holds fewer such conversations than are wanted.
    """
    if recipe.turns_min > recipe.turns_max:
        raise UsageError(f"at least {recipe.turns_min} and at most {recipe.turns_max} turns is none: exchange the two")
    digest = _sha256(dump)
    lines = _Lines(dump)
    lot = _Lot(recipe)
    flat = _read(lines, lot)
    passed = lines.passed
    if not lot.trees:
        raise UsageError(f"{dump} holds no OASST1 tree or message that melt can read: name a .trees.jsonl.gz of OASST1")
    if len(lot.drawn) < recipe.conversations:
        raise UsageError(
            f"{dump} has {lot.fitting} of the {recipe.conversations} conversations wanted, with at least "
            f"{recipe.turns_min} prompts in language '{shorten(recipe.lang)}': ask for fewer or shorter ones"
        )
    chosen = lot.in_order()
    if flat:
        texts = _texts(dump, {one for _, ids in chosen for one in ids})
        chosen = [(root, tuple(texts[one] for one in ids)) for root, ids in chosen]
    prompts = tuple(Conversation(name=_name(i, root), turns=turns) for i, (root, turns) in enumerate(chosen, 1))
    about = f"{recipe.conversations} conversations of {recipe.turns_min} to {recipe.turns_max} prompts from OASST1."
    source = (
        f"{shorten(dump.name)}, sha256 {digest}; language {shorten(recipe.lang)}, seed {recipe.seed}, along the "
        f"best-ranked replies; {lot.fitting} trees of {lot.trees} had such a path, {passed} lines were not understood"
    )
    built = PromptSet(name=name, about=about, source=source, prompts=prompts)
    return Built(built, lot.trees, lot.fitting, passed)


def _name(number: int, root: str) -> str:
    return f"{number:03d}-{root[:8]}" if re.fullmatch(r"[0-9a-f]{8}", root[:8]) else f"{number:03d}"


def _sha256(dump: Path) -> str:
    digest = hashlib.sha256()
    try:
        with dump.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except (OSError, ValueError) as error:
        raise UsageError(f"{shorten(dump)} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------------- the lines


@dataclass
class _Lines:
    """The objects of a dump, and how many lines were none."""

    dump: Path
    passed: int = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        total = 0
        try:
            with self.dump.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                file = gzip.GzipFile(fileobj=raw) if packed else raw
                while line := file.readline(_MOST_LINE_BYTES):
                    total += len(line) if line.endswith(b"\n") else len(line) + _rest_of_line(file)
                    if total > _MOST_DUMP_BYTES:
                        raise UsageError(f"{self.dump} holds more than {_MOST_DUMP_BYTES >> 30} GiB: no OASST1 does")
                    found = _object(line)
                    if found is not None:
                        yield found
                    elif line.strip():
                        self.passed += 1
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise UsageError(f"{self.dump} is cut or damaged: fetch it again") from None
        except OSError as error:
            raise UsageError(f"{self.dump} cannot be read: {error.strerror}") from None


def _rest_of_line(file: IO[bytes] | gzip.GzipFile) -> int:
    """Passes over what is left of a line that is too long, or of a last one without an end; how much that was."""
    total = 0
    while more := file.readline(_BLOCK):
        total += len(more)
        if more.endswith(b"\n") or total > _MOST_DUMP_BYTES:
            break
    return total


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _read(lines: _Lines, lot: _Lot) -> bool:
    """Offers every tree of a dump; whether its lines are messages."""
    flat = _Flat(lot.recipe)
    for data in lines:
        if isinstance(data.get("prompt"), dict):
            if data.get("tree_state") in _READY:
                lot.offer(_flattened(data["prompt"], lot.recipe))
        elif isinstance(data.get("message_id"), str):
            flat.add(data, lines.dump)
        else:
            lines.passed += 1
    if flat.found and lot.trees:
        raise UsageError(f"{lines.dump} holds trees and messages: name a dump as it is published")
    for tree in flat.trees():
        lot.offer(tree)
    return bool(flat.found)


def _message(data: dict[str, Any], parent: int, recipe: Recipe, *, with_text: bool) -> Message:
    text, rank, name = data.get("text"), data.get("rank"), data.get("message_id")
    usable = (
        _is_text(text)
        and _is_text(name)
        and data.get("role") in ("prompter", "assistant")
        and data.get("lang") == recipe.lang
        and data.get("deleted") is not True
        and data.get("review_result") is not False
        and data.get("tree_state") in _READY
    )
    return Message(
        id=name if usable and isinstance(name, str) else "",
        parent=parent,
        prompter=data.get("role") == "prompter",
        rank=rank if isinstance(rank, int) and not isinstance(rank, bool) else math.inf,
        usable=usable,
        text=text if with_text and usable and isinstance(text, str) else "",
    )


def _is_text(text: object) -> bool:
    """Whether it says something that a file of prompts can hold."""
    if not isinstance(text, str) or not text.strip() or len(text) > _MOST_TEXT:
        return False
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def _flattened(root: dict[str, Any], recipe: Recipe) -> list[Message]:
    """A tree as a list, a message after the one that it answers, siblings in the order of the file."""
    found: list[Message] = []
    waiting: list[tuple[dict[str, Any], int]] = [(root, -1)]
    while waiting:
        data, parent = waiting.pop()
        found.append(_message(data, parent, recipe, with_text=True))
        replies = data.get("replies")
        if isinstance(replies, list):
            at = len(found) - 1
            waiting += [(reply, at) for reply in reversed(replies) if isinstance(reply, dict)]
    return found


# ---------------------------------------------------------------------------------------------------- flat messages


class _Flat:
    """The shape of all trees of a dump of messages, without their words."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.found: dict[str, Message] = {}
        self._replies: dict[str | None, list[str]] = {}

    def add(self, data: dict[str, Any], dump: Path) -> None:
        """A message; of two with the same number, the first one counts."""
        name, above = data["message_id"], data.get("parent_id")
        if name in self.found or not (above is None or isinstance(above, str)):
            return
        if len(self.found) == _MOST_MESSAGES:
            raise UsageError(f"{dump} holds more than {_MOST_MESSAGES:,} messages: no OASST1 does")
        self.found[name] = _message(data, -1, self._recipe, with_text=False)
        self._replies.setdefault(above, []).append(name)

    def trees(self) -> Iterator[list[Message]]:
        """Each tree from its root down; messages whose root is missing belong to none."""
        for root in self._replies.get(None, ()):
            tree: list[Message] = []
            waiting: list[tuple[str, int]] = [(root, -1)]
            while waiting:
                name, parent = waiting.pop()
                tree.append(self.found[name].below(parent))
                at = len(tree) - 1
                waiting += [(reply, at) for reply in reversed(self._replies.get(name, ()))]
            yield tree


def _texts(dump: Path, wanted: set[str]) -> dict[str, str]:
    """The words of some messages, by number."""
    found: dict[str, str] = {}
    for data in _Lines(dump):
        name = data.get("message_id")
        if isinstance(name, str) and name in wanted and name not in found and _is_text(data.get("text")):
            found[name] = data["text"]
    if len(found) < len(wanted):
        raise UsageError(f"{dump} changed while it was read: try again")
    return found
