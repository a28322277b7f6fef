"""llama.cpp's engine: what a workload may say, what it is told it cannot, and what the runner is given."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from melt.engines import Request, StopRules, engine_named
from melt.errors import UsageError
from melt.files import Conversation
from melt.makers import gguf
from melt.readings import cpuinfo

if TYPE_CHECKING:
    from melt.engines import Prepared

pytestmark = pytest.mark.peer  # it compiles the runner and asks llama.cpp itself for tokens

STOP = StopRules(warmup_s=0.5, warmup_n=3, min_s=3.0, min_n=11)
RAIN = Conversation(name="rain", turns=("Where does the rain fall?", "And when?"))
SUN = Conversation(name="sun", system="Be brief.", turns=("Where does the sun go?",))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "toy.gguf"
    gguf.make("llm-toy", path)
    return path


@pytest.fixture
def request_(model: Path) -> Request:
    features = cpuinfo.parse(Path("/proc/cpuinfo").read_bytes()).first("flags", "Features").split()
    return Request("small", model, platform.machine(), {}, {}, STOP, cpu_features=frozenset(features), cpus=2)


def prepare(request: Request, *said: Conversation, **params: Any) -> Prepared:
    return engine_named("llama.cpp").prepare(dataclasses.replace(request, params=params, conversations=said))


def argv(prepared: Prepared) -> dict[str, str]:
    """The runner's arguments by flag; the last of those that stand several times."""
    words = engine_named("llama.cpp").command(prepared, lambda role: f"/blobs/{role}", "/job").argv[1:]
    return dict(zip(words[::2], words[1::2], strict=True))


def refusal(request: Request, *said: Conversation, **params: Any) -> str:
    with pytest.raises(UsageError) as caught:
        prepare(request, *said, **params)
    sentence = str(caught.value)
    assert sentence.startswith("workload 'small': ")
    assert "\n" not in sentence
    return sentence


# ------------------------------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"mode": "fixed", "generate_tokens": 0}, "0 tokens to generate"),
        ({"mode": "fixed", "prompt_tokens": 0}, "prompt of 0 tokens"),
        ({"mode": "bench", "prompt_tokens": 0, "generate_tokens": 0}, "nothing would be measured"),
        ({"mode": "prompt", "prompt": "x", "generate_tokens": 0}, "0 tokens to generate"),
        ({"mode": "prompt"}, "needs a text"),
        ({"mode": "conversation"}, "needs a text"),
        ({"mode": "score"}, "needs a text"),
        ({"mode": "prompt", "prompt": "x", "prompt_tokens": 5}, "leave prompt_tokens out"),
        ({"mode": "fixed", "prompt": "x"}, "takes no 'prompt'"),
        ({"mode": "bench", "prompt": "x"}, "takes no 'prompt'"),
        ({"mode": "score", "prompt": "x", "generate_tokens": 5}, "leave generate_tokens out"),
        ({"mode": "bench", "temperature": 0.8}, "leave temperature out"),
        ({"mode": "fixt"}, "params.mode"),
        ({"thread": 2}, "did you mean 'threads'"),
        ({"threads": 0}, "params.threads"),
        ({"temperature": float("nan")}, "params.temperature"),
        ({"temperature": -1}, "params.temperature"),
        ({"load": "hot"}, "params.load"),
        ({"generate_tokens": True}, "params.generate_tokens"),
        ({"prompt_tokens": 300, "context": 256}, "make it 364 at least"),
    ],
)
def test_what_makes_no_sense_is_told_with_what_to_do(request_: Request, params: dict[str, Any], words: str) -> None:
    assert words in refusal(request_, **params)


@pytest.mark.parametrize(
    ("mode", "prompt", "generate", "context"),
    [("fixed", "128", "64", "256"), ("bench", "512", "128", "512")],
)
def test_each_mode_has_counts_of_its_own(
    request_: Request, mode: str, prompt: str, generate: str, context: str
) -> None:
    given = argv(prepare(request_, mode=mode))
    assert (given["--mode"], given["--prompt-tokens"], given["--generate-tokens"]) == (mode, prompt, generate)
    assert given["--context"] == context


def test_bench_may_leave_one_of_its_two_out(request_: Request) -> None:
    given = argv(prepare(request_, mode="bench", prompt_tokens=0))
    assert (given["--prompt-tokens"], given["--generate-tokens"]) == ("0", "128")


def test_a_cold_load_is_no_other_model_but_another_figure(request_: Request) -> None:
    warm, cold = prepare(request_), prepare(request_, load="cold")
    assert (argv(warm)["--cold"], argv(cold)["--cold"]) == ("0", "1")
    assert cold.params["load"] == "cold"


def test_more_threads_than_processors_are_told_and_recorded(request_: Request) -> None:
    heard: list[str] = []
    listening = dataclasses.replace(request_, say=heard.append)
    assert prepare(listening, threads=2).caveats == ()
    for params in ({"threads": 3}, {"threads_batch": 3}):
        (caveat,) = prepare(listening, **params).caveats
        assert "3 threads share 2 processors" in caveat
    assert sum("3 threads" in line for line in heard) == 2
    assert prepare(dataclasses.replace(request_, cpus=None), threads=99).caveats == ()


def test_what_a_token_reads_is_known_before_any_run(request_: Request, model: Path) -> None:
    told, known = gguf.info(model), prepare(request_).known
    assert known["weight_bytes_per_token"].value == told.weight_bytes_per_token
    assert known["weight_count_per_token"].value == told.weight_count_per_token
    assert told.weight_count_per_token is not None
    assert told.weight_bytes_per_token is not None
    assert 4 < 8 * told.weight_bytes_per_token / told.weight_count_per_token < 8.6  # bits a weight, of q4_0 and q8_0


# ------------------------------------------------------------------------------------------------------------ texts


def given_texts(prepared: Prepared) -> list[tuple[str, str]]:
    """Each text as the runner is given it: the flag, and what stands in the file."""
    words = engine_named("llama.cpp").command(prepared, str, "/job").argv
    flags = ("--text-file", "--fresh-text-file")
    return [(w, prepared.files[words[i + 1]].read_text()) for i, w in enumerate(words) if w in flags]


def test_a_conversation_goes_on_and_the_next_one_is_fresh(request_: Request) -> None:
    made = given_texts(prepare(request_, RAIN, SUN, mode="conversation", prompt="set"))
    assert [flag for flag, _ in made] == ["--fresh-text-file", "--text-file", "--fresh-text-file"]
    assert [any(turn in text for turn in (*RAIN.turns, *SUN.turns)) for _, text in made] == [True] * 3
    assert "Be brief." in made[2][1]


def test_prompts_stand_alone(request_: Request) -> None:
    made = given_texts(prepare(request_, RAIN, mode="prompt", prompt="set", chat="plain"))
    assert made == [("--fresh-text-file", turn) for turn in RAIN.turns]


def test_what_is_scored_is_what_was_written(request_: Request) -> None:
    pair = Conversation(name="pair", turns=("The rain falls", " in spring."))
    made = given_texts(prepare(request_, pair, mode="score", prompt="set"))
    assert made == [("--fresh-text-file", "The rain falls"), ("--text-file", " in spring.")]
    three = Conversation(name="three", turns=("a", "b", "c"))
    assert "a text and its continuation" in refusal(request_, three, mode="score", prompt="set")


def test_texts_are_compared_by_what_they_say(request_: Request) -> None:
    first = prepare(request_, RAIN, mode="prompt", prompt="set").identity
    again = prepare(request_, RAIN, mode="prompt", prompt="elsewhere/set").identity
    other = prepare(request_, SUN, mode="prompt", prompt="set").identity
    assert first == again
    assert first["texts_sha256"] != other["texts_sha256"]
    together = prepare(request_, RAIN, mode="conversation", prompt="set").identity
    assert together["texts_sha256"] != first["texts_sha256"]


def test_the_context_holds_the_longest_conversation_with_its_answers(request_: Request) -> None:
    short = prepare(request_, SUN, mode="prompt", prompt="set", generate_tokens=10).params["context"]
    long = prepare(request_, RAIN, SUN, mode="conversation", prompt="set", generate_tokens=500).params["context"]
    assert short == 256
    assert 1000 < long <= 1280
    sentence = refusal(request_, RAIN, mode="conversation", prompt="set", generate_tokens=500, context=512)
    assert "prompt 'rain'" in sentence
    assert "params.context of 512" in sentence


def test_a_prompt_of_a_hundred_thousand_words_is_longer_than_what_the_model_was_made_for(request_: Request) -> None:
    long = Conversation(name="long", turns=("rain " * 100_000,))
    sentence = refusal(request_, long, mode="prompt", prompt="set")
    assert "prompt 'long'" in sentence
    assert "shorten the text" in sentence
    scored = prepare(request_, long, mode="score", prompt="set").params["context"]
    assert scored == gguf.info(request_.model_file).context_length


@pytest.mark.parametrize("text", ["a\x01\x07\x1b[2Jb", "\ufeff\u202e", "漢字 😀", "</s><s>[INST]", "\n", "\r\n\t"])
def test_odd_texts_reach_the_runner_as_they_are(request_: Request, text: str) -> None:
    prepared = prepare(request_, Conversation(name="odd", turns=(text,)), mode="prompt", prompt="set", chat="plain")
    assert prepared.files["text.0"].read_bytes() == text.encode()


def test_a_model_that_is_none_is_told(request_: Request, tmp_path: Path) -> None:
    for data, word in ((b"no model", "not a GGUF"), (request_.model_file.read_bytes()[:5000], "damaged")):
        (tmp_path / "bad.gguf").write_bytes(data)
        with pytest.raises(UsageError, match=word):
            prepare(dataclasses.replace(request_, model=tmp_path / "bad.gguf"))
    with pytest.raises(UsageError, match="say which with 'model'"):
        prepare(dataclasses.replace(request_, model=None))


# ----------------------------------------------------------------------------------------- what is compared, and how


def test_a_program_of_ones_own_is_told_from_another(request_: Request) -> None:
    own = [dataclasses.replace(request_, library=f"/opt/{name}/llama_runner") for name in ("cuda", "cpu")]
    first, second = (prepare(request).identity for request in own)
    assert first != second
    assert first["llama_cpp"] is None


@pytest.mark.parametrize(("temperature", "word"), [(0, "0.0"), (1e-5, "0.00001"), (0.8, "0.8")])
def test_numbers_are_written_as_the_runner_reads_them(request_: Request, temperature: float, word: str) -> None:
    small = dataclasses.replace(request_, stop=dataclasses.replace(STOP, warmup_s=1e-6))
    given = argv(prepare(small, temperature=temperature))
    assert given["--temperature"] == word
    assert given["--warmup-s"] == "0.000001"


def test_a_system_that_nobody_would_score_is_told(request_: Request) -> None:
    assert "put its words into the first turn" in refusal(request_, SUN, mode="score", prompt="set")


def test_more_turns_than_a_run_takes_are_told(request_: Request) -> None:
    many = Conversation(name="many", turns=("a",) * 1000)
    assert len(given_texts(prepare(request_, many, mode="prompt", prompt="set", chat="plain"))) == 1000
    assert "1500" in refusal(request_, many, many, mode="prompt", prompt="set", chat="plain")


@pytest.mark.parametrize(
    ("left", "whole"),
    [("1 2\n3 4\n", "1 2\n3 4"), ("1 2\n3 4\n1 2\n", "1 2\n3 4"), ("9\n9\n1 2\n3 4\n1", "1 2\n3 4"), ("1 2\n", None)],
)
def test_what_is_hashed_is_the_last_whole_cycle(
    request_: Request, tmp_path: Path, left: str, whole: str | None
) -> None:
    prepared = prepare(request_, RAIN, mode="conversation", prompt="set")
    (tmp_path / "output").write_text(left)
    found = engine_named("llama.cpp").check(prepared, tmp_path / "output").sha256
    assert found == (None if whole is None else hashlib.sha256(whole.encode()).hexdigest())
