"""The importers of public sets: every published form becomes questions, and anything else one line of complaint."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from anytime.runtime.questions import Question, read_questions
from bench.datasets.__main__ import main

Fields = Mapping[str, object]

GSM8K = {"question": "Ann has 1,000 pens and buys 234.", "answer": "1000+234=<<1000+234=1234>>1234\n#### 1,234"}
MATH500 = {
    "problem": "Halve $x$ for $x = 1$.",
    "solution": r"It is $\boxed{\frac{1}{2}}$.",
    "answer": r"\frac{1}{2}",
    "subject": "Algebra",
    "level": 2,
    "unique_id": "test/algebra/7.json",
}
AMC = {"id": 3, "problem": "What is $-6-1$?", "answer": -7.0, "url": "https://example.org"}
GPQA = {
    "Pre-Revision Question": "Which?",
    "Question": 'Which "one",\nexactly?\n',
    "Correct Answer": "the first\n",
    "Incorrect Answer 1": "the second",
    "Incorrect Answer 2": "the third, perhaps",
    "Incorrect Answer 3": "the fourth",
    "Explanation": "",
    "Record ID": "rec1",
}


def lines(*rows: Fields) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table(*rows: Fields, mark: str = "") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return (mark + text.getvalue()).encode()


def imported(tmp_path: Path, name: str, file: str, content: bytes, *options: str) -> list[Question]:
    (tmp_path / file).write_bytes(content)
    out = tmp_path / "made" / "questions.jsonl"
    assert main([name, str(tmp_path / file), "--out", str(out), *options]) == 0
    return read_questions(out)


def test_gsm8k(tmp_path: Path) -> None:
    """The number behind ``####`` is the answer, without its comma; ids count the rows."""
    negative = {**GSM8K, "answer": "#### 3\nno, #### -5 "}
    first, second = imported(tmp_path, "gsm8k", "test.jsonl", lines(GSM8K, negative))
    assert first == Question(
        id="gsm8k-1", question=str(GSM8K["question"]), answer="1234", regex="-?[0-9]{1,12}", grader="number"
    )
    assert (second.id, second.answer) == ("gsm8k-2", "-5")


def test_math500(tmp_path: Path) -> None:
    """The answer stays LaTeX, is asked for as free text and graded as mathematics; the level is the difficulty."""
    (question,) = imported(tmp_path, "math500", "test.jsonl", lines(MATH500))
    assert question == Question(
        id="math500-test/algebra/7.json",
        question="Halve $x$ for $x = 1$.",
        answer=r"\frac{1}{2}",
        max_tokens=64,
        difficulty=2.0,
        grader="math",
    )


@pytest.mark.parametrize(
    ("file", "content", "name"),
    [
        ("a.jsonl", lines({"ID": "2024-I-1", "Problem": "How many?", "Solution": "So 73.", "Answer": 73}), "2024-I-1"),
        ("a.jsonl", lines({"problem": "How many?", "answer": "073", "id": "0"}), "0"),
        ("a.jsonl", lines({"problem_idx": 4, "problem": "How many?", "answer": 73, "problem_type": ["Algebra"]}), "4"),
        ("a.jsonl", lines({"question": "How many?", "answer": r"73^\circ"}), "1"),
        ("a.jsonl", lines({"id": 9, "problem": "How many?", "solution": r"\boxed{7}, no, \boxed{73}"}), "9"),
        (
            "a.csv",
            table({"ID": "1983-1", "Year": 1983, "Problem Number": 1, "Question": "How many?", "Answer": 73}),
            "1983-1",
        ),
    ],
    ids=["Maxwell-Jia", "math-ai/aime25", "MathArena", "opencompass", "math-ai/aime24", "di-zhang-fdu"],
)
def test_aime(tmp_path: Path, file: str, content: bytes, name: str) -> None:
    """Every publisher's columns give the same question, with its own id or the number of its row."""
    (question,) = imported(tmp_path, "aime", file, content)
    assert question == Question(
        id=f"aime-{name}", question="How many?", answer="73", regex="[0-9]{1,3}", grader="number"
    )


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("train.jsonl", lines(AMC)),
        ("train.csv", table(AMC)),
        ("train.jsonl", lines({"id": 3, "question": AMC["problem"], "answer": "-7.0", "url": ""})),
    ],
)
def test_amc(tmp_path: Path, file: str, content: bytes) -> None:
    """The float is a whole number, whether it was published as a number or as text."""
    (question,) = imported(tmp_path, "amc", file, content)
    assert question == Question(
        id="amc-3", question="What is $-6-1$?", answer="-7", regex="-?[0-9]{1,9}", grader="number"
    )


def test_gpqa_choices_stand_under_the_question(tmp_path: Path) -> None:
    """The choices follow the question, a letter each, in an order that this record has in every version of Python."""
    (question,) = imported(tmp_path, "gpqa", "gpqa_diamond.csv", table(GPQA, mark="\ufeff"))
    assert question == Question(
        id="gpqa-rec1",
        question='Which "one",\nexactly?\n\nA) the third, perhaps\nB) the first\nC) the second\nD) the fourth',
        answer="B",
        choices=["A", "B", "C", "D"],
    )


def test_gpqa_order_depends_on_the_record(tmp_path: Path) -> None:
    """The right answer is marked wherever it went, and over many records it goes to every place."""
    rows = [{**GPQA, "Record ID": f"rec{number}"} for number in range(50)]
    questions = imported(tmp_path, "gpqa", "gpqa_diamond.csv", table(*rows))
    assert all(f"\n{question.answer}) the first" in question.question for question in questions)
    assert {question.answer for question in questions} == {"A", "B", "C", "D"}


def test_limit(tmp_path: Path) -> None:
    """``--limit`` takes the first rows, and all of them when there are fewer."""
    content = lines(GSM8K, GSM8K, GSM8K)
    assert [q.id for q in imported(tmp_path, "gsm8k", "a.jsonl", content, "--limit", "2")] == ["gsm8k-1", "gsm8k-2"]
    assert len(imported(tmp_path, "gsm8k", "a.jsonl", content, "--limit", "9")) == 3


def parquet_stand_in(monkeypatch: pytest.MonkeyPatch, rows: Sequence[Fields]) -> None:
    """A pyarrow that reads these rows from any file, for there is none among the requirements."""
    module, broken = ModuleType("pyarrow"), type("ArrowException", (Exception,), {})

    def read_table(content: bytes) -> SimpleNamespace:
        if not content.startswith(b"PAR1"):
            raise broken("no magic bytes")
        return SimpleNamespace(to_pylist=lambda: [dict(row) for row in rows])

    module.__dict__.update(
        ArrowException=broken, BufferReader=lambda content: content, parquet=SimpleNamespace(read_table=read_table)
    )
    monkeypatch.setitem(sys.modules, "pyarrow", module)


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet is known by its contents and read by pyarrow, numbers as numbers."""
    parquet_stand_in(monkeypatch, [{"ID": "2024-I-1", "Problem": "How many?", "Answer": 73}])
    (question,) = imported(tmp_path, "aime", "train-00000", b"PAR1...")
    assert (question.id, question.answer) == ("aime-2024-I-1", "73")


def without(row: Fields, column: str) -> Fields:
    return {name: value for name, value in row.items() if name != column}


BAD = [
    ("gsm8k", "a.jsonl", b"", "holds no row"),
    ("gsm8k", "a.csv", b"question,answer\n", "holds no row"),
    ("gsm8k", "a.jsonl", lines(GSM8K) + b"\nnot json\n", "a.jsonl:3: not a JSON object"),
    ("gsm8k", "a.jsonl", b"[1]\n", "a.jsonl:1: not a JSON object"),
    ("gsm8k", "a.jsonl", b'{"question": "\xff"}\n', "a.jsonl:1: not a JSON object"),
    ("gsm8k", "a.jsonl", b'{"question":' * 50_000, "a.jsonl:1: not a JSON object"),
    ("gsm8k", "a.jsonl", lines(GSM8K, MATH500), "a.jsonl:2: no column 'question', only 'problem'"),
    ("gsm8k", "a.jsonl", lines({**GSM8K, "answer": "1234"}), "whole number"),
    ("gsm8k", "a.jsonl", lines({**GSM8K, "answer": "#### some"}), "whole number"),
    ("gsm8k", "a.jsonl", lines({**GSM8K, "answer": "#### 1.5"}), "whole number"),
    ("gsm8k", "a.jsonl", lines({**GSM8K, "answer": "#### " + "9" * 13}), "whole number"),
    ("gsm8k", "a.jsonl", lines({**GSM8K, "question": " \n"}), "'question' is empty"),
    ("gsm8k", "a.jsonl", lines({**GSM8K, "question": None}), "neither text nor a number"),
    ("math500", "a.jsonl", lines({"problem": "?", "answer": "1", "id": 1}), "no column 'subject'"),
    ("math500", "a.jsonl", lines({**MATH500, "level": "hard"}), "level"),
    ("math500", "a.jsonl", lines({**MATH500, "level": 6}), "level"),
    ("math500", "a.jsonl", lines(MATH500, MATH500), "was there before"),
    ("aime", "a.jsonl", lines(GSM8K), "whole number from 0 to 999"),
    ("aime", "a.jsonl", lines({"problem": "?", "answer": 1000}), "whole number from 0 to 999"),
    ("aime", "a.jsonl", lines({"problem": "?", "answer": -1}), "whole number from 0 to 999"),
    ("aime", "a.jsonl", lines({"problem": "?", "answer": True}), "neither text nor a number"),
    ("aime", "a.jsonl", lines({"problem": "?", "solution": "It is 3."}), "boxed"),
    ("aime", "a.csv", table(GPQA), "no column 'answer' or 'Answer'"),
    ("amc", "a.jsonl", lines({**AMC, "answer": 0.5}), "whole number like 142.0"),
    ("amc", "a.csv", table(without(AMC, "id")), "no column 'id'"),
    ("gpqa", "a.csv", table(without(GPQA, "Incorrect Answer 3")), "no column 'Incorrect Answer 3'"),
    ("gpqa", "a.csv", table({**GPQA, "Record ID": ""}), "a.csv, row 1: 'Record ID' is empty"),
    ("gpqa", "a.csv", table(GPQA) + b"too,few\n", "a.csv, row 2: not as many fields"),
    ("gpqa", "a.csv", table(GPQA) + b"too many," * 9 + b"\n", "a.csv, row 2: not as many fields"),
    ("gpqa", "a.csv", b'Question\n"without an end', "no CSV"),
    ("gpqa", "a.csv", b"Question\n\xff\n", "no CSV in UTF-8"),
    ("gpqa", "a.parquet", b"PAR1", "pyarrow is not installed"),
]


@pytest.mark.parametrize(("name", "file", "content", "complaint"), BAD)
def test_bad_file_is_one_line_and_nothing_is_written(
    name: str,
    file: str,
    content: bytes,
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file of another set or a broken one: status 2, one line that names it and the remedy, the old file kept."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / file).write_bytes(content)
    out = tmp_path / "questions.jsonl"
    out.write_text("from before")
    assert main([name, str(tmp_path / file), "--out", str(out)]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: {tmp_path / file}")
    assert complaint in line
    assert "as it was published" in line or "pip install" in line
    assert not said.out
    assert out.read_text() == "from before"
    assert {path.name for path in tmp_path.iterdir()} == {file, out.name}


def test_broken_parquet(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyarrow refuses is refused with its reason."""
    parquet_stand_in(monkeypatch, [])
    (tmp_path / "a.parquet").write_bytes(b"no such thing")
    assert main(["aime", str(tmp_path / "a.parquet"), "--out", str(tmp_path / "q.jsonl")]) == 2
    assert "is no parquet file (no magic bytes)" in capsys.readouterr().err


def test_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there, and a directory, are one line each and status 2."""
    for file in (tmp_path / "nothing.jsonl", tmp_path):
        assert main(["gsm8k", str(file), "--out", str(tmp_path / "q.jsonl")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {file} cannot be read (")
    assert not list(tmp_path.iterdir())


def test_out_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory, a path below a file, too long a name and the published file itself are refused; nothing is left."""
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines(GSM8K))
    for out in (tmp_path, file / "q.jsonl", tmp_path / ("q" * 300), file):
        assert main(["gsm8k", str(file), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {out} ")
    assert file.read_bytes() == lines(GSM8K)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "arguments", [["other", "a", "--out", "b"], ["aime", "a"], ["aime", "a", "--out", "b", "--limit", "0"]]
)
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    """An unknown set, no ``--out`` and a limit of nothing are wrong use."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
