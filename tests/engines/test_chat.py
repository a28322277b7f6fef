"""Chat templates: the shapes that models have, and what a hostile one tries."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from melt.engines import chat
from melt.engines.chat import Message, all_turn_texts, render, turn_texts
from melt.errors import Unsupported
from melt.files.prompts import Conversation
from melt.makers.gguf.vocabulary import Vocabulary, gemma, llama2, llama3, neox, qwen2, tinyllama

if TYPE_CHECKING:
    from collections.abc import Callable

CHATML = """\
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
INST = (
    """\
{% if messages[0]['role'] == 'system' %}
    {% set rest = messages[1:] %}
    {% set told = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}
{% else %}
    {% set rest = messages %}
    {% set told = '' %}
{% endif %}
{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must take turns') }}
    {% endif %}
    {% if message['role'] == 'user' %}
        {{ bos_token + '[INST] ' + (told if loop.first else '') + message['content'].strip() + ' [/INST]' }}
    {% else %}
        {{ ' ' + message['content'] | trim + ' ' + eos_token }}
    {% endif %}
{% endfor %}
""".replace("    ", "")
    .replace("\n{%", "{%")
    .replace("\n{{", "{{")
    .replace("}\n", "}")
)
HEADERS = """\
{%- set day = strftime_now('%d %b %Y') if strftime_now is defined else 'no day' %}
{%- for message in messages %}
    {%- set text = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim %}
    {%- if loop.index0 == 0 %}
        {%- set text = bos_token + 'Today: ' + day + '\\n' + text %}
    {%- endif %}
    {{- text + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
GEMMA = """\
{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% set role = 'model' if message.role == 'assistant' else message.role %}
{{ '<start_of_turn>' + role + '\\n' + message.content | trim + '<end_of_turn>\\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""
ZEPHYR = """\
{% for message in messages %}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"
THREE = Conversation(name="three", turns=("Hello", "Why?", "Thanks"))
TOLD = Conversation(name="told", system="Be brief.", turns=("Hello", "Why?"))
HELLO: list[Message] = [{"role": "user", "content": "Hello"}]


def texts(template: str | None, conversation: Conversation) -> tuple[str, ...]:
    return turn_texts(template, conversation, bos="<s>", eos="</s>")


def text(template: str, messages: list[Message] = HELLO) -> str:
    return render(template, messages, bos="<s>", eos="</s>", add_generation_prompt=True)


# ------------------------------------------------------------------------------------------------------- the shapes


def test_chatml() -> None:
    assert texts(CHATML, THREE) == (
        "<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n",
    )
    assert texts(CHATML, TOLD)[0].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello")


def test_llama_2s_instructions_in_brackets() -> None:
    assert texts(INST, THREE) == (
        "<s>[INST] Hello [/INST]",
        " </s><s>[INST] Why? [/INST]",
        " </s><s>[INST] Thanks [/INST]",
    )
    assert texts(INST, TOLD) == (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST]",
        " </s><s>[INST] Why? [/INST]",
    )


def test_llama_3s_headers_with_the_one_date_that_there_is() -> None:
    user = "<|start_header_id|>user<|end_header_id|>\n\n"
    begin = "<s>Today: 26 Jul 2024\n<|start_header_id|>"
    answer = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    assert texts(HEADERS, TOLD) == (
        f"{begin}system<|end_header_id|>\n\nBe brief.<|eot_id|>{user}Hello{answer}",
        f"<|eot_id|>{user}Why?{answer}",
    )


def test_gemma_has_no_place_for_a_system_message_and_says_so() -> None:
    assert texts(GEMMA, THREE)[1] == "<end_of_turn>\n<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n"
    with pytest.raises(Unsupported, match=r"System role not supported \(turn 1 of 'told'\): .*chat: plain"):
        texts(GEMMA, TOLD)


def test_zephyr() -> None:
    assert texts(ZEPHYR, THREE)[:2] == (
        "<|user|>\nHello</s>\n<|assistant|>\n",
        "</s>\n<|user|>\nWhy?</s>\n<|assistant|>\n",
    )


def test_without_a_template_turns_are_plain_words_with_a_blank_line_between() -> None:
    assert texts(None, TOLD) == ("Be brief.\n\nHello", "\n\nWhy?")
    assert texts(None, THREE) == ("Hello", "\n\nWhy?", "\n\nThanks")


@pytest.mark.parametrize("template", [CHATML, INST, HEADERS, GEMMA, ZEPHYR])
def test_the_pieces_and_the_answers_between_them_are_what_the_template_writes_of_the_whole(template: str) -> None:
    pieces = texts(template, THREE)
    answers = ["first answer", "second answer"]
    messages: list[Message] = [HELLO[0]]
    for answer, turn in zip(answers, THREE.turns[1:], strict=True):
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    between = [*(piece + answer for piece, answer in zip(pieces, answers, strict=False)), pieces[-1]]
    # a template may write a space before an answer, which is the model's to write here
    assert re.sub(r"\s", "", "".join(between)) == re.sub(r"\s", "", text(template, messages))


@pytest.mark.parametrize("kind", [llama2, tinyllama, gemma, neox, llama3, qwen2])
def test_the_templates_of_the_models_that_melt_makes_work(kind: Callable[[], Vocabulary]) -> None:
    vocabulary = kind()
    pieces = turn_texts(vocabulary.template, THREE, bos=vocabulary.bos, eos=vocabulary.eos)
    assert all(turn in piece for turn, piece in zip(THREE.turns, pieces, strict=True))
    # an answer is ended as the model ends it
    assert all(piece.lstrip().startswith(vocabulary.eot or vocabulary.eos) for piece in pieces[1:])


def test_several_conversations_are_rendered_as_each_alone() -> None:
    both = all_turn_texts(CHATML, [THREE, TOLD], bos=None, eos=None)
    assert both == tuple(turn_texts(CHATML, one, bos=None, eos=None) for one in (THREE, TOLD))


def test_the_words_go_through_unchanged() -> None:
    odd = "a\x01b\x7f\u2028\x85{{ eos_token }}{% raw %} <|im_end|>\r\n\té𝄞"
    assert text(PLAIN, [{"role": "user", "content": odd}]) == odd
    assert texts(CHATML, Conversation(name="odd", turns=(odd, odd)))[1].split("user\n")[1].startswith(odd)
    assert texts(None, Conversation(name="odd", turns=(odd,))) == (odd,)


def test_a_hundred_thousand_words_and_a_thousand_turns() -> None:
    long = "word " * 100_000
    assert long.strip() in texts(GEMMA, Conversation(name="long", turns=(long,)))[0]
    many = Conversation(name="many", turns=tuple(f"turn {n}" for n in range(300)))
    heavy = Conversation(name="heavy", turns=("word " * 200,) * 1000)
    with pytest.raises(Unsupported, match=r"more than any prompt holds \(turn \d+ of 'heavy'\)"):
        texts(ZEPHYR, heavy)
    assert texts(ZEPHYR, many)[299] == "</s>\n<|user|>\nturn 299</s>\n<|assistant|>\n"


def test_what_stands_for_an_answer_may_itself_be_said() -> None:
    said = Conversation(name="said", turns=("answer0end", "answerx0end answer", "answer1end"))
    assert [piece.split("user\n")[1].partition("<|im_end|>")[0] for piece in texts(CHATML, said)] == list(said.turns)


def test_what_templates_are_written_for_is_there() -> None:
    assert text("{% generation %}in{% endgeneration %}{% for m in [1, 2] %}{{ m }}{% break %}{% endfor %}") == "in1"
    assert text("{{ {'a': ['é<', 1]} | tojson }}") == '{"a": ["é<", 1]}'
    assert text("{% if tools %}tools{% endif %}{{ documents is none }}") == "True"
    assert text("  {% if true %}\nx\n  {% endif %}\ny\n") == "x\ny"
    assert text("{{ [1, 2, 3, 4, 5, 6, 7, 8] | random }}") == text("{{ [1, 2, 3, 4, 5, 6, 7, 8] | random }}")


# ---------------------------------------------------------------------------------------- what cannot be cut out


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (
            "{% for m in messages %}{{ 'again ' if loop.last and messages | length > 1 }}{{ m.content }}{% endfor %}",
            "anew",
        ),
        ("{{ messages | length }}" + PLAIN, "anew"),
        (
            PLAIN + "{% for m in messages if m.role == 'assistant' %} answer {{ m.content }}{% endfor %}",
            "repeats|leaves it out",
        ),
        (PLAIN + "{% if add_generation_prompt %}<think>{% endif %}", "anew"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }};{% endfor %}", "leaves it out"),
        ("{% for m in messages %}{{ m.content }};{{ m.content if m.role == 'assistant' }}{% endfor %}", "repeats"),
        ("{% for m in messages if m.role != 'user' %}{{ m.content }}{% endfor %}", "nothing for turn 1"),
    ],
)
def test_a_template_that_writes_history_anew_is_told(template: str, why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        texts(template, THREE)


# ------------------------------------------------------------------------------------------------------- hostility


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% if %}", "is not Jinja: line 1"),
        ("{% for m in messages %}", "is not Jinja"),
        ("{{ messages.nobody.x }}", "does not work"),
        ("{% include '/etc/passwd' %}", "does not work"),
        ("{% import 'os' as os %}", "does not work"),
        ("{{ ''.__class__.__mro__ }}", "may not"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "may not"),
        ("{{ raise_exception.__globals__.os.getcwd() }}", "may not|does not work"),
        ("{{ strftime_now.__self__.year }}", "may not"),
        ("{{ '{0.__class__.__mro__[1]}'.format(1).x.y }}", "may not|does not work"),
        ("{{ messages.append(1) }}", "may not"),
        ("{{ messages[0].update(a=1) }}", "may not"),
        ("{{ (''|attr('__class__')).mro() }}", "may not|does not work"),
        ("{{ ['']|map(attribute='__class__')|list|first|attr('mro')() }}", "may not|does not work"),
        ("{{ '\\ud800' }}", "does not work"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "RecursionError"),
        ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "RecursionError|memory|signal"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ 'a' * 10**12 }}", "memory"),
        ("{{ 'a'.center(10**10) }}", "memory"),
        ("{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}", "memory"),
        ("{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}", "more than any prompt"),
        ("{{ 'a' * (17 * 2**20) }}", "more than any prompt"),
        ("{{ raise_exception('x' * 10**6 ~ '\\n\\x1b[0m') }}", "refuses what it is given: x"),
        ("x" * ((1 << 20) + 1), "longer than 1 MiB"),
    ],
    ids=range(25),
)
def test_a_hostile_template_is_one_short_sentence(template: str, why: str) -> None:
    with pytest.raises(Unsupported, match=why) as told:
        text(template)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 600


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ (10**7)**(10**7) }}",
    ],
    ids=["loops", "one long step"],
)
def test_a_template_that_does_not_end_is_ended(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "_CPU_S", 1)
    begin = time.monotonic()
    with pytest.raises(Unsupported, match="did not end within 1 s of computing"):
        text(template)
    assert time.monotonic() - begin < 60


def test_a_template_changes_nothing_for_the_next_one() -> None:
    assert text("{% set messages = [] %}{% set bos_token = 'x' %}{{ bos_token }}") == "x"
    assert text("{{ bos_token }}{{ eos_token }}") == "<s></s>"
