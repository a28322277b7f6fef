"""Text that others wrote, made harmless for the place it is put in: one line of CSV, of Markdown, of a picture."""

from __future__ import annotations

import re

MOST = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
_MARKDOWN = re.compile(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
"""An underscore inside a word is only an underscore."""
_BLOCK = re.compile(r"(?:#{1,6}|[-+=]+|[0-9]{1,9}[.)])(?=\s|$)|-{2,}|={2,}")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def one_line(text: object, most: int = MOST) -> str:
    """A text on one line without control or direction marks, at most `most` characters."""
    line = _CONTROL.sub(" ", str(text)).encode("utf-8", "replace").decode().strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"


def csv_text(text: object) -> str:
    """A field that no spreadsheet takes for a formula: one that begins like it gets an apostrophe in front."""
    line = one_line(text, 2000)
    return f"'{line}" if line.startswith(_FORMULA) else line


def md_text(text: object, most: int = MOST) -> str:
    """Markdown that shows exactly this text: no markup, no HTML, no link that makes itself."""
    line = _MARKDOWN.sub(r"\\\1", one_line(text, most))
    for character, entity in _ENTITIES.items():
        line = line.replace(character, entity)
    line = re.sub(r"(?i)\b(https?|ftp|file|mailto|javascript|data):", r"\1&#58;", line)
    line = re.sub(r"(?i)\bwww\.", "www&#46;", line)
    if _BLOCK.match(line):  # at the head of a line these begin a heading, a list or a rule
        head = re.match(r"[0-9]*", line)
        at = head.end() if head else 0
        line = f"{line[:at]}\\{line[at:]}"
    return line


def md_code(text: object, most: int = MOST) -> str:
    """Code in a line of Markdown, also inside a table: what would end it or the cell is replaced."""
    return f"`{one_line(text, most).replace('`', 'ʼ').replace('|', '¦') or ' '}`"
