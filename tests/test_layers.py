"""Who may import whom, as the architecture page says it, and what only the command line may do."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
ANYWHERE = frozenset({"melt", "melt.__init__"})
"""The package's own file holds its version and imports nothing."""
NATIVE = frozenset(f"melt/native/{name}.py" for name in ("programs", "source", "ninja", "llama"))
ENGINES = frozenset(f"melt/engines/{name}.py" for name in ("wheels", "chat", "llama_process"))
PROGRAMS = NATIVE | ENGINES | {"melt/transport/local.py", "melt/virtual/process.py"}
"""The only files that start programs."""


def the_order(page: str) -> dict[str, int]:
    """Each package's layer, from the one line of the page that holds them; those in braces share a layer."""
    (line,) = re.findall(r"^```\n(errors → .*)\n```$", page, re.MULTILINE)
    groups = [group.strip(" {}").split(", ") for group in line.split(" → ")]
    return {package: layer for layer, group in enumerate(groups) for package in group}


ORDER = the_order(PAGE.read_text(encoding="utf-8"))
FILES = sorted((ROOT / "melt").rglob("*.py"))


@dataclass(frozen=True)
class Import:
    """One import of a module, wherever in the file it stands."""

    module: str
    line: int


def imports(source: str, package: str) -> list[Import]:
    """Every import of a text: in functions, in `if TYPE_CHECKING`, relative ones, and those by name at run time."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: -(node.level - 1) or None] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from melt import store` names a module of melt, `from melt.store import Session` one in it
            found += [Import(f"{module}.{alias.name}", node.lineno) for alias in node.names]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__", "find_spec"):
            found += [Import(a.value, node.lineno) for a in node.args if isinstance(a, ast.Constant)]
    return found


def _called(node: ast.Call) -> str:
    function = node.func
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def layer_of(module: str) -> str | None:
    """`melt.files.reader.find` belongs to `files`; None for what is not melt's, or is the package itself."""
    first, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    return part if first == "melt" and part and not part.startswith("__") else None


def package_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1])


def wrong_imports(source: str, package: str, own: str, order: dict[str, int]) -> list[str]:
    """What a text imports that it must not."""
    found = []
    for one in imports(source, package):
        other = layer_of(one.module)
        if other is None or other == own or (other not in order and one.module.count(".") == 1):
            continue
        if other not in order:
            found.append(f"line {one.line}: melt.{other} has no layer")
        elif order[other] > order[own]:
            found.append(f"line {one.line}: {own} imports the later {other}")
        elif order[other] == order[own]:
            found.append(f"line {one.line}: {own} imports its sibling {other}")
    return found


def own_layer(path: Path) -> str:
    return path.relative_to(ROOT / "melt").parts[0].removesuffix(".py")


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_every_package_has_a_layer_and_every_layer_a_package() -> None:
    packages = {own_layer(path) for path in FILES} - {"__init__", "__main__"}
    assert packages == set(ORDER)


LAYERED = [path for path in FILES if own_layer(path) not in ("__init__", "__main__")]


@pytest.mark.parametrize("path", LAYERED, ids=ids(LAYERED))
def test_nothing_imports_a_later_layer_or_a_sibling(path: Path) -> None:
    assert wrong_imports(path.read_text(encoding="utf-8"), package_of(path), own_layer(path), ORDER) == []


def test_the_packages_own_file_imports_nothing_of_melt() -> None:
    assert [
        i for i in imports((ROOT / "melt" / "__init__.py").read_text(encoding="utf-8"), "melt") if layer_of(i.module)
    ] == []


@pytest.mark.parametrize("path", FILES, ids=ids(FILES))
def test_only_the_command_line_prints_exits_or_knows_a_terminal(path: Path) -> None:
    if own_layer(path) in ("cli", "__main__"):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {function.id for function in functions if isinstance(function, ast.Name)}
    assert not called & {"print", "input", "exit", "quit", "SystemExit", "breakpoint"}
    attributes = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert not attributes & {"sys.exit", "os._exit", "os.abort", "sys.stdout", "sys.stderr"}
    tops = {one.module.partition(".")[0] for one in imports(path.read_text(encoding="utf-8"), package_of(path))}
    assert not tops & {"typer", "rich", "click", "argparse"}


@pytest.mark.parametrize("path", FILES, ids=ids(FILES))
def test_programs_are_started_in_few_files_only_and_never_by_a_shell(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tops = {one.module.partition(".")[0] for one in imports(source, package_of(path))}
    assert not tops & {"pty", "popen2", "commands", "multiprocessing"}
    assert "subprocess" not in tops or str(path.relative_to(ROOT)) in PROGRAMS
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ("system", "popen")
        if isinstance(node, ast.Name):
            assert node.id not in ("eval", "exec")


@pytest.mark.parametrize("path", FILES, ids=ids(FILES))
def test_every_module_says_what_it_is_and_what_it_is_called_means_something(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert not {"utils", "util", "helpers", "misc", "common"} & set(path.relative_to(ROOT).with_suffix("").parts)


def test_the_test_sees_every_way_to_import() -> None:
    """Held against texts that break the rule, so that it cannot pass by seeing nothing."""
    order = {"errors": 0, "files": 1, "engines": 1, "store": 2}
    for text in (
        "import melt.store",
        "import melt.store as s",
        "from melt import store",
        "from melt.store import Session",
        "from melt.store.inner import Session",
        "from .. import store",
        "from ..store import Session",
        "def f():\n    from melt.store import Session",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from melt.store import Session",
        "import importlib\nimportlib.import_module('melt.store')",
        "__import__('melt.store')",
        "try:\n    import melt.store\nexcept ImportError:\n    pass",
        "from melt.engines import Engine",
        "import melt.nowhere.x",
    ):
        assert wrong_imports(text, "melt.files", "files", order), text
    for text in (
        "import melt",
        "from melt import __version__",
        "from melt.errors import UsageError",
        "from melt.files.reader import find",
        "from . import reader",
        "from .reader import find",
        "import meltdown.store",
        "from store import x",
    ):
        assert wrong_imports(text, "melt.files", "files", order) == [], text
    with pytest.raises(ValueError):
        the_order("no such line")
