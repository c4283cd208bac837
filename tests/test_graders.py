"""Graders say what is right, as each data set means it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from anytime.runtime.questions import Question
from bench.datasets.errors import GradingError
from bench.datasets.graders import right


def graded(grader: str, answer: str, text: str) -> bool:
    line = json.dumps({"id": "q", "question": "?", "answer": answer, "grader": grader})
    return right(msgspec.json.decode(line, type=Question), text)


def test_exact_grader() -> None:
    """Only the same text is right."""
    assert graded("exact", "A", "A")
    assert not graded("exact", "A", "a")
    assert not graded("exact", "73", "073")


@pytest.mark.parametrize(
    ("answer", "text", "is_right"),
    [
        ("73", "073", True),
        ("1234", "1,234", True),
        ("1,234", "$1234.00", True),
        ("-5", "- 5", True),
        ("0", "-0.0", True),
        ("0.5", ".50", True),
        ("5", "+5.", True),
        ("100000000000000000000000000001", "100000000000000000000000000002", False),
        ("0.3", "0.30000000000000004", False),
        ("5", "-5", False),
        ("5", "5 pens", False),
        ("5", "", False),
        ("5", "nan", False),
        ("5", "5e0", False),
        ("10", "1_0", False),
        ("5", "٥", False),
    ],
)
def test_number_grader(answer: str, text: str, is_right: bool) -> None:
    """Equal decimal numbers are right however they are written; what is no plain number is wrong."""
    assert graded("number", answer, text) is is_right


@pytest.mark.parametrize(
    ("answer", "text", "is_right"),
    [
        (r"\frac{1}{2}", r"\dfrac12", True),
        (r"\frac{1}{2}", "1/2", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"\frac{1}{2}", r"It is $\frac{1}{2}$.", True),
        (r"\frac{1}{2}", r"so \boxed{\frac{1}{2}}", True),
        (r"\frac{1}{2}", "2", False),
        ("2", r"\frac{1}{2}", False),
        (r"2\sqrt{3}", r"\sqrt{12}", True),
        ("x^2+2x+1", "(x+1)^2", True),
        ("x^2+2x+1", "(x+2)^2", False),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)", True),
        ("(2,3)", "(3,2)", False),
        ("[0,1]", "(0,1)", False),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\(2) \end{pmatrix}", True),
        (r"90^\circ", "90", True),
        (r"\$36", "36", True),
        ("36", r"\$36", True),
        (r"\text{Evelyn}", "Evelyn", True),
        (r"\text{Evelyn}", r"\text{Angela}", False),
        ("five dozen", "five dozen", True),
        ("5", "", False),
        ("5", "}", False),
        ("5", r"\boxed{", False),
    ],
)
def test_math_grader(answer: str, text: str, is_right: bool) -> None:
    """Equal mathematics is right in any form, bare or between delimiters; nonsense is wrong, not an error."""
    assert graded("math", answer, text) is is_right


def test_math_grader_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra to install, even where the texts are equal."""
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(GradingError, match=r"pip install 'anytime\[bench\]'"):
        graded("math", "5", "5")


def test_math_library_is_loaded_only_for_mathematics() -> None:
    """Importing the graders and grading numbers loads neither math-verify nor sympy."""
    code = (
        "import sys\nfrom anytime.runtime.questions import Question\nfrom bench.datasets.graders import right\n"
        "assert right(Question(id='q', question='?', answer='5', grader='number'), '05')\n"
        "print(*{'math_verify', 'sympy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.split() == []


def test_math_grader_in_another_thread() -> None:
    """Its time limit is a signal, which only the main thread gets: an error, not a wrong answer."""
    errors: list[str] = []

    def ask() -> None:
        try:
            graded("math", "5", "5")
        except GradingError as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert "main thread" in errors[0]


def test_question_that_cannot_be_graded() -> None:
    """A question without an answer, or without a number where one is needed, is an error, not a wrong answer."""
    with pytest.raises(GradingError, match="no answer"):
        right(Question(id="q", question="?"), "5")
    with pytest.raises(GradingError, match="no number"):
        graded("number", "five", "5")
