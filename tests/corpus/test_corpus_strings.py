from __future__ import annotations

import pytest

from lingraft.corpus.strings import find_literals, prose_of

LONG = "This sentence is repeated until it is long enough to be taken for a document. " * 3


def test_long_literals_are_found_wherever_they_stand() -> None:
    source = f'"""{LONG}"""\nx = "short"\ndef f():\n    return {{"a": "b {LONG}"}}\n'
    assert [(lit.line, lit.text[:6]) for lit in find_literals(source.encode(), 200)] == [
        (1, "This s"),
        (4, "b This"),
    ]


def test_parts_of_f_strings_are_no_documents() -> None:
    assert find_literals(f'x = f"{LONG}{{y}}"'.encode(), 200) == []


def test_files_are_never_run() -> None:
    assert find_literals(b"raise SystemExit('run')", 1)[0].text == "run"


@pytest.mark.parametrize("source", [b"def f(:", b"x = '\xff'", b"x = 1\0"])
def test_what_does_not_parse_is_said_to_be_no_python(source: bytes) -> None:
    with pytest.raises(ValueError, match="not Python"):
        find_literals(source, 200)


def test_paragraphs_stand_on_one_line_each() -> None:
    text = """Add up all of the numbers
    that were given.

    The numbers may be of any type that can
    be added, as long as all are of the same type.
    """
    assert prose_of(text) == (
        "Add up all of the numbers that were given.\n"
        "The numbers may be of any type that can be added, as long as all are of the same type."
    )


KEPT = "Every one of these words stands in a paragraph that is kept because it reads as prose."


@pytest.mark.parametrize(
    "left_out",
    [
        ">>> add(1, 2)\n3\n>>> add(2, 3)\n5",
        "Example::\n\n    this is code and all of it must go\n\n    this is as well",
        ".. code-block:: python\n\n    some words of code which are not prose",
        ".. note:: this is a remark about something else",
        "Parameters\n----------",
        "a    b    c\n1    2    3",
        "if (cb->nofargs>capi_i) { return PyArray_New(&PyArray_Type, 3); }",
        "-Wsign-compare -DNDEBUG -g -fwrapv -O3 -Wall -std=c11",
    ],
)
def test_code_and_tables_are_left_out(left_out: str) -> None:
    before, after = prose_of(f"{KEPT}\n\n{left_out}\n\n{KEPT}"), f"{KEPT}\n{KEPT}"
    assert before.replace("Example:\n", "") == after


def test_list_items_and_terms_begin_lines() -> None:
    text = f"""{KEPT}

    - the first item of the
      list of things
    - the second item of the list
    axis : int, optional
        The axis along which to add.
    ValueError
        If there is no such axis.
    """
    assert prose_of(text).splitlines()[1:] == [
        "- the first item of the list of things",
        "- the second item of the list",
        "axis : int, optional. The axis along which to add.",
        "ValueError: If there is no such axis.",
    ]


def test_marks_of_restructured_text_are_taken_off() -> None:
    text = f"{KEPT} See :func:`~os.walk` and ``None`` or `a name` in the text [1]_ here."
    assert prose_of(text) == f"{KEPT} See os.walk and None or a name in the text here."


def test_old_quotation_marks_stay_in_pairs() -> None:
    text = f"{KEPT} It calls `one' and then it also calls `two' of them."
    assert prose_of(text) == text


def test_too_little_prose_is_none() -> None:
    assert prose_of("Divide two numbers and return it.\n\n>>> div(1, 2)\n0.5") == ""
