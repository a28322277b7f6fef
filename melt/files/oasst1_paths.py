"""Which path of a tree of messages is the conversation: the best-ranked replies, as long as it can become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a tree."""

    id: str
    parent: int
    """Where in the tree's list the message stands that it answers; -1 for the root."""
    prompter: bool
    """Said by a person, and not as an assistant's answer."""
    rank: float
    """0 is the reply that people liked best; infinite for one that nobody ranked."""
    usable: bool
    """In the language wanted, and not deleted."""
    text: str = ""

    def below(self, parent: int) -> Message:
        return replace(self, parent=parent)


def best_path(tree: Sequence[Message], least: int, most: int) -> list[int] | None:
    """The places of a person's messages along the chosen path, `least` to `most` of them; None if there is none.

    From the root on, the best-ranked reply is followed, of those from which `least` can still be reached: unranked
    ones come last, and of equal ones the first in the file. The path ends with the tree, or with prompt number `most`.
    """
    usable = _usable(tree)
    reach = [0] * len(tree)  # how many prompts the longest path holds that begins there
    replies: list[list[int]] = [[] for _ in tree]
    for at in range(len(tree) - 1, -1, -1):
        if not usable[at]:
            continue
        reach[at] += tree[at].prompter
        parent = tree[at].parent
        if parent >= 0:
            reach[parent] = max(reach[parent], reach[at])
            replies[parent].append(at)
    if not tree or not usable[0] or reach[0] < least:
        return None
    at, said = 0, [0]
    while len(said) < most:
        onward = [reply for reply in replies[at] if len(said) + reach[reply] >= least]
        if not onward:
            break
        at = min(onward, key=lambda reply: (tree[reply].rank, reply))
        if tree[at].prompter:
            said.append(at)
    return said


def _usable(tree: Sequence[Message]) -> list[bool]:
    """A message counts where it is usable, the root is a person's, and the two take turns."""
    return [
        one.usable and (one.prompter if one.parent < 0 else one.prompter != tree[one.parent].prompter) for one in tree
    ]
