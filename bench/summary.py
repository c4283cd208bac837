"""The page of results: ``python -m bench.summary`` writes docs/results/README.md from the JSON files beside it.

The README gets the latest table of peers, and docs/gpu.md what came out on a GPU.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from bench.report import ROOT

RESULTS = ROOT / "docs" / "results"
TITLES = {
    "deadline": "On time, with an answer, with the thought that there was time for",
    "guarantee": "Many requests, and bad days",
    "order": "Whose step is next, in simulated time",
    "soak": "For an hour",
    "reference": "The model gains from thinking",
    "anytime": "The best answer at every deadline",
    "node": "In the robot, beside another vendor's DDS",
    "together": "Several questions in one prompt",
    "curve": "Accuracy against the deadline",
    "highway": "In a car that goes on while its driver thinks",
    "age": "What a decision's age costs at the wheel",
    "arm64": "On 64-bit ARM, emulated",
    "gpu": "On an NVIDIA GPU",
    "peers": "The engine beside its peers",
    "peers-avx2": "The same on a processor without AVX-512",
    "engine": "What the engine adds, and what it saves",
    "precision": "What fewer bits cost",
    "scheduler": "The scheduler's arithmetic",
}
PEERS_BEGIN, PEERS_END = "<!-- peers -->", "<!-- /peers -->"
GPU_BEGIN, GPU_END = "<!-- gpu -->", "<!-- /gpu -->"
HEAD = """# Results

Written by `make evidence` (`python -m bench.summary` makes this page of its JSON files). The machines are shared and
noisy: ratios and differences measured side by side in one run mean something, single absolute times little. A bench
exits with 1 when a figure is missed, and a missed figure stays on this page.
"""


def page() -> str:
    """The whole page, a section for each bench that has results."""
    sections = [HEAD]
    for bench, title in TITLES.items():
        file = RESULTS / f"{bench}.json"
        if file.exists():
            sections.append(_section(title, file.name, json.loads(file.read_text(encoding="utf-8"))))
    return "\n".join(sections)


def _section(title: str, file: str, record: dict[str, Any]) -> str:
    where = record["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
    lines = [
        f"## {title}\n",
        f"`{record['command']}`, {where['date']}, {where['processor']}, {where['cores']} cores, "
        f"load {where['load'][0]} at the start, Python {where['python']}, {packages} ([raw samples]({file})).\n",
        *_found(record),
    ]
    return "\n".join(lines) + "\n"


def _found(record: dict[str, Any]) -> list[str]:
    """Figures, table and notes."""
    lines = []
    if record["figures"]:
        lines += ["| figure | measured | target | |", "| --- | ---: | ---: | --- |"]
        lines += [_row(figure) for figure in record["figures"]]
        lines.append("")
    lines += ["```text", record["table"], "```\n"]
    lines += [f"- {note}" for note in record["notes"]]
    return lines


def _row(figure: dict[str, Any]) -> str:
    measured = figure["measured"] if isinstance(figure["measured"], str) else f"{figure['measured']:.4g}"
    return f"| {figure['name']} | {measured} | {figure['target']} | {'holds' if figure['holds'] else '**missed**'} |"


def readme(text: str) -> str:
    """The README with the latest table of peers between its marks."""
    record = _record("peers")
    if record is None:
        return text
    quoted = ["```text", record["table"].strip(), "```"]
    return _between(text, PEERS_BEGIN, PEERS_END, [_origin(record), "", *quoted])


def gpu_page(text: str) -> str:
    """docs/gpu.md with what the bench of that name found last between its marks."""
    record = _record("gpu")
    return text if record is None else _between(text, GPU_BEGIN, GPU_END, [_origin(record), "", *_found(record)])


def _record(bench: str) -> dict[str, Any] | None:
    file = RESULTS / f"{bench}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _origin(record: dict[str, Any]) -> str:
    where = record["environment"]
    return f"`{record['command']}`, {where['date'][:10]}, {where['processor']}, {where['cores']} cores."


def _between(text: str, begin: str, end: str, lines: list[str]) -> str:
    before, rest = text.split(begin)
    inside = "\n".join(lines).strip()
    return f"{before}{begin}\n{inside}\n{end}{rest.split(end)[1]}"


def main() -> int:
    (RESULTS / "README.md").write_text(page(), encoding="utf-8")
    for file, filled in ((ROOT / "README.md", readme), (ROOT / "docs" / "gpu.md", gpu_page)):
        file.write_text(filled(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
