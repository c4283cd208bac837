"""Write the *sums* question files: ``python -m recipes.reference.questions OUT.jsonl --seed 1``.

Seeds of the files are outside those of the training (which draws from string seeds), and every question is checked to
differ from the others in its file.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from recipes.reference.sums import MAX_STEPS
from recipes.reference.text import sums_sample

ANSWER = r"\d{1,2}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=960)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    rows: dict[str, dict[str, object]] = {}
    while len(rows) < args.count:
        steps = 1 + len(rows) % MAX_STEPS
        sample = sums_sample(steps, "high", rng)
        rows[sample.question] = {
            "id": f"sums-{args.seed}-{len(rows)}",
            "question": sample.question,
            "answer": sample.answer,
            "regex": ANSWER,
            "difficulty": steps,
        }
    args.out.write_text("".join(json.dumps(row) + "\n" for row in rows.values()), encoding="utf-8")


if __name__ == "__main__":
    main()
