"""A model's vocabulary on this computer, read by llama.cpp in a process of its own, whatever the model or the text."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import psutil
import pytest
from ondevice import tiny_llama
from workspace import until

from melt.engines.llama_process import llama_process
from melt.engines.vocabulary import Vocabulary, open_vocabulary
from melt.errors import MeltError, UsageError
from melt.makers.gguf import make
from melt.native.host import PLACE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peer

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    try:
        with llama_process(None):
            pass
    except MeltError as error:
        pytest.skip(f"no llama.cpp on this computer ({error}): vocabularies are NOT tested")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llm-toy", tmp_path_factory.mktemp("toy") / "toy.gguf").path


@pytest.fixture(scope="module")
def vocabulary(toy: Path) -> Iterator[Vocabulary]:
    with open_vocabulary(toy) as opened:
        yield opened


def plain(vocabulary: Vocabulary, text: str | bytes) -> list[int]:
    return vocabulary.tokens(text, special_start=False, parse_special=False)


def test_it_tells_what_a_prompt_is_made_of(vocabulary: Vocabulary) -> None:
    assert vocabulary.chat_template is not None
    assert "{% for message in messages %}" in vocabulary.chat_template
    assert (vocabulary.bos, vocabulary.eos, vocabulary.add_bos, vocabulary.size) == ("<s>", "</s>", True, 4096)


def test_a_file_without_template_says_so(tmp_path: Path) -> None:
    with open_vocabulary(tiny_llama.write(tmp_path / "tiny.gguf")) as opened:
        assert opened.chat_template is None
        assert (opened.bos, opened.eos, opened.size) == ("<s>", "</s>", tiny_llama.N_VOCAB)


def test_special_tokens_are_those_that_are_asked_for(vocabulary: Vocabulary) -> None:
    (start,) = vocabulary.tokens("<s>", special_start=False, parse_special=True)
    letters = plain(vocabulary, "<s>")
    assert len(letters) == 3
    assert vocabulary.tokens("<s>", special_start=True, parse_special=False) == [start, *letters]
    assert vocabulary.tokens("", special_start=True, parse_special=False) == [start]
    assert plain(vocabulary, "") == []
    assert vocabulary.text([start, *letters]) == "<s><s>"


@pytest.mark.parametrize(
    "text",
    [
        "What is 2 + 2? 中文 🙂 e\u0301",
        "".join(map(chr, range(0x20))) + "\x7f\x80\x9f",
        "\0",
        " " * 5000,
        "x" * 100_000,
        "word " * 100_000,
        "a\udcffb\ud800",
    ],
    ids=["mixed", "control", "nul", "spaces", "one word", "100,000 words", "half characters"],
)
def test_a_text_comes_back(vocabulary: Vocabulary, text: str) -> None:
    back = vocabulary.text(plain(vocabulary, text))
    assert back == text.encode(errors="surrogatepass").decode(errors="replace")


@pytest.mark.parametrize("data", [b"\xff\xfe\x80abc", b"ab\xc3", b"\xe2\x96", b"\xed\xa0\x80", bytes(range(256))])
def test_bytes_that_are_no_text_are_tokens_all_the_same(vocabulary: Vocabulary, data: bytes) -> None:
    tokens = plain(vocabulary, data)
    assert len(tokens) == len(data)
    assert vocabulary.text(tokens) == data.decode(errors="replace")


def test_too_long_a_text_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(UsageError, match=r"too long for .*toy\.gguf"):
        plain(vocabulary, b"x" * ((64 << 20) + 1))


@pytest.mark.parametrize("token", [-1, 4096, 1 << 40])
def test_a_token_of_another_vocabulary_is_refused_and_the_next_is_answered(vocabulary: Vocabulary, token: int) -> None:
    with pytest.raises(UsageError, match=f"toy.gguf .*token {token} is not one of its 4096"):
        vocabulary.text([5, token])
    assert vocabulary.text(plain(vocabulary, "on")) == "on"


def test_a_vocabulary_that_lacks_a_letter_ends_its_own_process_alone(tmp_path: Path) -> None:
    """llama.cpp looks for a token of the byte, finds none, and ends whatever process it is in."""
    words = ["<unk>", "<s>", "</s>", *(f"word{n}" for n in range(tiny_llama.N_VOCAB - 3))]
    model = _without(tmp_path / "m.gguf", **{"tokenizer.ggml.tokens": words})
    with open_vocabulary(model) as opened:
        with pytest.raises(UsageError, match=r"m\.gguf cannot tokenise a text: llama\.cpp ended by signal 6"):
            plain(opened, "?")
        with pytest.raises(UsageError, match=r"m\.gguf"):
            opened.text([3])


def test_two_are_open_at_once(vocabulary: Vocabulary, tmp_path: Path) -> None:
    with open_vocabulary(tiny_llama.write(tmp_path / "tiny.gguf")) as other:
        assert plain(other, "e") == [tiny_llama.FIRST_LETTER + tiny_llama.LETTERS.index("e")]
        assert plain(vocabulary, "e") != plain(other, "e")


# ------------------------------------------------------------------------------------------------------ bad models


def refused(model: Path) -> str:
    with pytest.raises(UsageError) as raised, open_vocabulary(model):
        pass
    said = str(raised.value)
    assert str(model) in said
    assert said.isprintable()
    return said


@pytest.mark.parametrize("part", [0, 3, 4, 20, 1000, 40_000, 150_000, 1_000_000, -1])
def test_a_truncated_file_is_refused(toy: Path, tmp_path: Path, part: int) -> None:
    model = tmp_path / "short.gguf"
    model.write_bytes(toy.read_bytes()[:part])
    refused(model)


def test_an_unknown_architecture_is_told_by_name(tmp_path: Path) -> None:
    shape = tiny_llama.Shape(architecture="nonesuch")
    assert "unknown model architecture: 'nonesuch'" in refused(tiny_llama.write(tmp_path / "m.gguf", shape))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    assert "not there" in refused(tmp_path / "none.gguf")
    assert "no regular file" in refused(tmp_path)
    (tmp_path / "text").write_text("GGML, or so")
    assert "does not begin with 'GGUF'" in refused(tmp_path / "text")


_NUMBER = gguf.GGUFValueType.UINT32


def _without(path: Path, *keys: str, **instead: str | int | list[str]) -> Path:
    """The small model, its vocabulary changed."""
    source = gguf.GGUFReader(tiny_llama.write(path.with_suffix(".whole")))
    writer = gguf.GGUFWriter(path, "llama")
    for field in source.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", *keys, *instead):
            kind = field.types[0]
            writer.add_key_value(
                field.name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            )
    for key, value in instead.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, gguf.GGUFValueType.STRING if isinstance(value, str) else _NUMBER)
    for tensor in source.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["no_vocab", "none", "of another world"])
def test_a_vocabulary_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    refused(_without(tmp_path / "m.gguf", **{"tokenizer.ggml.model": kind}))


def a_vocabulary_or_a_refusal(model: Path) -> None:
    """llama.cpp does with less than it might; what it refuses, or what ends it, is told."""
    try:
        with open_vocabulary(model) as opened:
            opened.text(opened.tokens("<s> on and on\n", special_start=True, parse_special=True))
    except UsageError as error:
        said = str(error)
        assert str(model) in said
        assert said.isprintable()


@pytest.mark.parametrize("key", ["tokens", "scores", "token_type", "model"])
def test_a_part_of_the_vocabulary_that_is_missing_harms_nobody(tmp_path: Path, key: str) -> None:
    a_vocabulary_or_a_refusal(_without(tmp_path / "m.gguf", f"tokenizer.ggml.{key}"))


@pytest.mark.parametrize("number", [0, 0xFFFF_FFF0], ids=str)
@pytest.mark.parametrize("key", ["tokenizer.ggml.bos_token_id", "llama.block_count", "llama.vocab_size"])
def test_a_number_that_is_none_harms_nobody(tmp_path: Path, key: str, number: int) -> None:
    a_vocabulary_or_a_refusal(_without(tmp_path / "m.gguf", **{key: number}))


@pytest.mark.parametrize("seed", range(16))
def test_whatever_is_changed_in_a_file_ends_with_a_vocabulary_or_a_refusal(
    toy: Path, tmp_path: Path, seed: int
) -> None:
    chance, model = random.Random(seed), tmp_path / "m.gguf"
    data = bytearray(toy.read_bytes())
    most = chance.choice([2000, 120_000])  # of the keys before the vocabulary, or of all
    for _ in range(chance.choice([1, 4, 16])):
        data[chance.randrange(24, most)] = chance.randrange(256)
    model.write_bytes(data)
    a_vocabulary_or_a_refusal(model)


# ------------------------------------------------------------------------------------------------------- processes


def children(pid: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(pid).children() if any("llama_worker" in word for word in p.cmdline())]


def test_native_code_that_ends_its_process_ends_no_other(toy: Path) -> None:
    with open_vocabulary(toy) as opened:
        for child in children(os.getpid()):
            child.send_signal(signal.SIGSEGV)
        with pytest.raises(UsageError, match=r"toy\.gguf .*ended by signal 11"):
            plain(opened, "on")
        with pytest.raises(UsageError, match=r"toy\.gguf .*ended by signal 11"):
            plain(opened, "x" * 10_000_000)


@pytest.fixture
def script(tmp_path: Path, toy: Path) -> list[str]:
    """A melt that holds a vocabulary open until it is ended."""
    path = tmp_path / "holds.py"
    path.write_text(
        textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from melt.engines.vocabulary import open_vocabulary
        with open_vocabulary(Path({str(toy)!r})) as opened:
            print("open", flush=True)
            time.sleep(600)
        """)
    )
    return [sys.executable, str(path)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_it_goes_with_melt(script: list[str], tmp_path: Path, number: signal.Signals) -> None:
    with (tmp_path / "log").open("wb") as log:
        melt = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=log, cwd=REPOSITORY)
        try:
            assert melt.stdout is not None
            assert melt.stdout.readline() == b"open\n"
            (child,) = children(melt.pid)
            melt.send_signal(number)
            melt.wait(timeout=30)
            until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the process to end")
        finally:
            melt.kill()
            melt.wait()
            melt.stdout.close()


def test_nothing_reaches_the_terminal_or_the_environment(
    toy: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PLACE_VARIABLE, raising=False)
    before = dict(os.environ)
    with open_vocabulary(toy) as opened:
        plain(opened, "on")
    assert dict(os.environ) == before
    assert capfd.readouterr() == ("", "")


def test_a_file_of_the_persons_folder_is_not_the_package(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("llama_cpp", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with open_vocabulary(toy) as opened:
        assert opened.size == 4096


def test_no_room_for_the_log_is_told(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(UsageError, match="cannot be started on this computer: No such file"), open_vocabulary(toy):
        pass


def test_a_package_that_does_not_work_is_told_with_how_to_install_it(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "diskcache.py").write_text("raise ImportError('no such thing as diskcache')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        pytest.raises(UsageError, match=r"cannot be used.*no such thing as diskcache.*pip install .*==0\.3\."),
        open_vocabulary(toy),
    ):
        pass
