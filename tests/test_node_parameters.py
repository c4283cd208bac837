"""The node's parameters: bounds, files, and which may change when."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from anytime import Choices, JsonSchema, Regex, Text
from anytime.errors import ParameterError
from anytime.node.parameters import LIVE, Parameters, Value, changed, declared, parameters_of, read_parameters


def test_every_parameter_is_declared_with_its_purpose() -> None:
    """Name, default, a description, bounds where there are any, and whether it is read-only once configured."""
    found = {parameter.name: parameter for parameter in declared()}
    assert list(found) == list(Parameters.__struct_fields__)
    assert all(parameter.description.endswith(".") for parameter in found.values())
    assert all(isinstance(parameter.default, (bool, int, float, str, list)) for parameter in found.values())
    assert found["budget_s"].bounds == (0.001, 86_400.0)
    assert found["bundle"].bounds is None
    assert {name for name, parameter in found.items() if not parameter.read_only} == LIVE


def test_the_documentation_lists_every_parameter() -> None:
    """docs/node.md has a row for each, with its default, purpose, and when it may change."""
    page = (Path(__file__).parents[1] / "docs" / "node.md").read_text(encoding="utf-8")
    table = page[page.index("<!-- parameters -->") : page.index("<!-- /parameters -->")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert rows == [
        [f"`{p.name}`", _shown(p.default), p.description, "unconfigured" if p.read_only else "any time"]
        for p in declared()
    ]


def _shown(default: Value) -> str:
    if isinstance(default, list):
        return f"`{', '.join(default)}`" if default else ""
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{shown}`" if shown else ""


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"budget": 0.1}, "there is no parameter 'budget': did you mean 'budget_s'"),
        ({"zzz": 1}, "there is no parameter 'zzz': there are use_sim_time"),
        ({"budget_s": 0.0}, r"budget_s"),
        ({"budget_s": float("nan")}, "budget_s is nan: give a finite number"),
        ({"period_s": float("inf")}, "period_s is inf"),
        ({"budget_s": "200ms"}, "Expected `float`, got `str`"),
        ({"threads": -1}, ">= 0"),
        ({"threads": True}, "got `bool`"),
        ({"overload": "panic"}, "Invalid enum value 'panic'"),
        ({"question_topic": "a b"}, "question_topic"),
        ({"choices": ["left"]}, "the parameter choices cannot be used: Choices needs at least two"),
        ({"choices": ["left", 2]}, "Expected `str`, got `int`"),
        ({"actions": []}, "the parameter actions cannot be used"),
        ({"choices": ["a", "b"], "regex": "x"}, "choices and regex are given: give one"),
        ({"margin_s": 0.2}, "margin_s is 0.2, no less than budget_s"),
        ({"warn_share": 0.5}, "warn_share is 0.5, above error_share"),
        ({"min_confidence": 1.5}, "min_confidence"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], why: str) -> None:
    """The reason names the parameter and what it may be."""
    with pytest.raises(ParameterError, match=why):
        parameters_of(given)


def test_whole_numbers_do_for_seconds() -> None:
    """A file may say ``budget_s: 1``."""
    assert parameters_of({"budget_s": 1}).budget_s == 1.0


def test_formats_of_answers() -> None:
    """One of choices, pattern, schema, or free text; scenes have their own."""
    assert parameters_of({}).format() == Text(16)
    assert parameters_of({"choices": ["a", "b"]}).format() == Choices("a", "b")
    assert parameters_of({"regex": "[0-9]"}).format() == Regex("[0-9]", 16)
    assert parameters_of({"schema": "{}", "max_tokens": 5}).format() == JsonSchema("{}", 5)
    assert "IDLE" in parameters_of({}).scene_format().texts


def test_some_are_read_only_once_configured() -> None:
    """What the loaded model or the topics depend on; the others change at any time, all or none."""
    base = parameters_of({"fallback": "stop"})
    assert changed(base, {"min_confidence": 0.5}, configured=True).fallback == "stop"
    assert changed(base, {"bundle": "b"}, configured=False).bundle == "b"
    with pytest.raises(ParameterError, match="bundle is read-only while the node is configured"):
        changed(base, {"bundle": "b", "min_confidence": 0.5}, configured=True)
    with pytest.raises(ParameterError, match="there is no parameter 'bundles'"):
        changed(base, {"bundles": "b"}, configured=True)


def write(path: Path, text: str) -> Path:
    file = path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_of_ros(tmp_path: Path) -> None:
    """Sections for all nodes, for this one with or without the slash, and for others; later ones win."""
    file = write(
        tmp_path,
        """
/**:
  ros__parameters: {budget_s: 0.1, fallback: SLOWER}
/other:
  ros__parameters: {budget_s: 9.0}
anytime:
  ros__parameters:
    budget_s: 0.15
    actions: [LANE_LEFT, IDLE]
""",
    )
    given = read_parameters(file, "/anytime")
    assert given == {"budget_s": 0.15, "fallback": "SLOWER", "actions": ["LANE_LEFT", "IDLE"]}
    assert parameters_of(given).budget_s == 0.15
    assert read_parameters(file, "/other")["budget_s"] == 9.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "cannot be read"),
        ("- 1\n- 2\n", "is no parameter file"),
        ("", "is no parameter file"),
        ("budget_s: 0.1\n", "no 'ros__parameters:' below 'budget_s'"),
        ("/**:\n  ros__parameters: 7\n", "no 'ros__parameters:' below '/\\*\\*'"),
        ("/**:\n  budget_s: 0.1\n", "no 'ros__parameters:'"),
        ("/**: !!python/object:os.system {}\n", "cannot be read"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, why: str) -> None:
    """Each is refused with what is missing, and no code in it is run."""
    with pytest.raises(ParameterError, match=why):
        read_parameters(write(tmp_path, text), "/anytime")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its name is in the reason."""
    with pytest.raises(ParameterError, match=r"none\.yaml cannot be read"):
        read_parameters(tmp_path / "none.yaml", "/anytime")


def test_without_a_yaml_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said."""
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ParameterError, match=r"pip install 'anytime\[node\]'"):
        read_parameters(write(tmp_path, "/**:\n  ros__parameters: {}\n"), "/anytime")
