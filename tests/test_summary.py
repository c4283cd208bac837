"""The page of results, made of what the benches wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import summary

RECORD = {
    "command": "python -m bench.scheduler",
    "environment": {
        "date": "2026-01-01",
        "processor": "p",
        "cores": 2,
        "load": [0.1, 0, 0],
        "python": "3.11",
        "packages": {"numpy": "2"},
    },
    "figures": [{"name": "time, ns", "measured": 12.3456, "target": "≤ 10", "holds": False}],
    "table": "a table",
    "notes": ["a note"],
}


def test_page_shows_missed_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missed figure is on the page as missed, beside its table, notes and environment."""
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    (tmp_path / "scheduler.json").write_text(json.dumps(RECORD), encoding="utf-8")
    page = summary.page()
    assert "| time, ns | 12.35 | ≤ 10 | **missed** |" in page
    for part in ("a table", "- a note", "python -m bench.scheduler", "numpy 2"):
        assert part in page


def test_committed_page_is_made_of_the_committed_files() -> None:
    """docs/results/README.md is what the JSON files beside it give."""
    assert (summary.RESULTS / "README.md").read_text(encoding="utf-8") == summary.page()


def test_the_readme_has_the_latest_table_of_peers() -> None:
    """README.md shows what the last committed run of the peers bench gave."""
    text = (summary.ROOT / "README.md").read_text(encoding="utf-8")
    assert text == summary.readme(text)
    assert summary.PEERS_BEGIN in text


def test_the_gpu_page_has_the_latest_results() -> None:
    """docs/gpu.md shows what the last committed run of its bench gave."""
    text = (summary.ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert text == summary.gpu_page(text)
    record = json.loads((summary.RESULTS / "gpu.json").read_text(encoding="utf-8"))
    assert record["table"] in text


def test_a_page_gets_figures_table_and_notes_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of what was there, and nothing else is touched."""
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    text = f"before\n{summary.GPU_BEGIN}\nan older table\n{summary.GPU_END}\nbehind\n"
    assert summary.gpu_page(text) == text
    (tmp_path / "gpu.json").write_text(json.dumps(RECORD), encoding="utf-8")
    page = summary.gpu_page(text)
    assert page.startswith(f"before\n{summary.GPU_BEGIN}\n`python -m bench.scheduler`, 2026-01-01, p, 2 cores.\n")
    assert page.endswith(f"- a note\n{summary.GPU_END}\nbehind\n")
    assert "| time, ns | 12.35 | ≤ 10 | **missed** |" in page
    assert "older" not in page
