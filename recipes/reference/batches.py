"""Training batches: length-grouped rows in which one pass teaches the thought and the answer at many cuts of it.

A row is the question, the full thought and the answer, followed by *forks*: copies of the close tag and the answer
that see only a prefix of the thought and stand at the positions they would have there. One forward pass so trains the
answer after any amount of thought, for a few tokens a cut instead of a sequence each. The forced close itself carries
no loss: the model must not learn to stop early.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from recipes.reference.drive import Scene
from recipes.reference.scenes import scenes
from recipes.reference.sums import MAX_STEPS
from recipes.reference.text import EFFORTS, Effort, Sample, drive_sample, packed_sample, sums_sample
from recipes.reference.tokenizer import CLOSE, END

FORKS = 8
# What an answer without any thought weighs in the loss: it is learned slowest, and every deadline begins with it.
INSTANT_WEIGHT = 3.0
SHARD = 2048
DRIVE_SHARE = 0.62
PACKED_SHARE = 0.07
MOST_PACKED, PACKED_STEPS = 4, 3
# Out of a hundred samples, how many at each effort: word problems need the full working more than scenes do.
DRIVE_EFFORTS: dict[Effort, int] = {"low": 25, "medium": 40, "high": 35}
SUMS_EFFORTS: dict[Effort, int] = {"low": 20, "medium": 30, "high": 50}
LENGTHS = (128, 192, 256, 384, 512, 640, 768, 960)  # few shapes, so that each is compiled once
_MASKED = -1e4  # large enough to switch a key off in bf16, small enough never to overflow


@dataclass(slots=True)
class Row:
    """Token ids with their positions, what each sees, and the loss on the token after it."""

    ids: list[int]
    positions: list[int]
    sees: list[tuple[int, int]]  # (keys of the trunk seen, start of the own fork)
    targets: list[int]
    weights: list[float]


@dataclass(slots=True)
class Batch:
    ids: torch.Tensor  # [rows, length]
    positions: torch.Tensor  # [rows, length]
    mask: torch.Tensor  # [rows, 1, length, length], added to the attention scores
    targets: torch.Tensor  # [rows, length]
    weights: torch.Tensor  # [rows, length]


class Rows:
    """Turns samples into rows; ``direct`` leaves the thought out (the control that only answers)."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, direct: bool) -> None:
        self._encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
        self._close, self._end = (tokenizer.convert_tokens_to_ids(token) for token in (CLOSE, END))
        self._tokenizer = tokenizer
        self._direct = direct
        self._frame = {effort: self._chat(effort) for effort in EFFORTS}

    def _chat(self, effort: str) -> tuple[list[int], list[int]]:
        """The template's tokens before and after the question, which is encoded on its own, as the runtime does."""
        mark = "QUESTION"
        messages = [{"role": "user", "content": mark}]
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, reasoning_effort=effort
        )
        before, after = text.split(mark)
        return self._encode(before), self._encode(after)

    def __call__(self, sample: Sample, rng: random.Random) -> Row:
        before, after = self._frame[sample.effort]
        prompt = before + self._encode(sample.question) + after
        answer = self._encode(sample.answer)
        thought, taught = ([], []) if self._direct else self._thought(sample)
        cuts = sorted({0, *(rng.randint(0, len(thought)) for _ in range(FORKS - 1))})
        tail = [] if self._direct else [self._close, *answer]
        trunk = prompt + thought + tail
        n = len(trunk)
        row = Row(trunk, list(range(n)), [(i + 1, i + 1) for i in range(n)], [*trunk[1:], self._end], [0.0] * n)
        if not self._direct:
            row.weights[len(prompt) - 1 :] = [*taught, *[1.0] * (n - len(prompt) - len(taught) + 1)]
        for cut in cuts:
            self._fork(row, len(prompt) + cut, [self._close, *answer], INSTANT_WEIGHT if cut == 0 else 1.0)
        return row

    def _thought(self, sample: Sample) -> tuple[list[int], list[float]]:
        encoded = self._tokenizer(sample.thought, add_special_tokens=False, return_offsets_mapping=True)
        taught = [
            0.0 if any(start < hi and end > lo for lo, hi in sample.wrong) else 1.0
            for start, end in encoded["offset_mapping"]
        ]
        return encoded["input_ids"], taught

    def _fork(self, row: Row, at: int, tokens: list[int], weight: float) -> None:
        start = len(row.ids)
        row.ids += tokens
        row.positions += range(at, at + len(tokens))
        row.sees += [(at, start)] * len(tokens)
        row.targets += [*tokens[1:], self._end]
        row.weights += [weight] * len(tokens)


def _samples(shard: int, seed: int) -> list[Sample]:
    rng = random.Random(f"{seed}/{shard}")
    drawn = scenes(rng.getrandbits(32))
    return [_sample(rng, drawn) for _ in range(SHARD)]


def _sample(rng: random.Random, drawn: Iterator[Scene]) -> Sample:
    domain = rng.random()
    weights = DRIVE_EFFORTS if domain < DRIVE_SHARE else SUMS_EFFORTS
    (effort,) = rng.choices(list(weights), list(weights.values()))
    if domain < DRIVE_SHARE:
        return drive_sample(next(drawn), effort, rng)
    if domain < DRIVE_SHARE + PACKED_SHARE:
        steps = [rng.randint(1, PACKED_STEPS) for _ in range(rng.randint(2, MOST_PACKED))]
        return packed_sample(steps, effort, rng)
    return sums_sample(rng.randint(1, MAX_STEPS), effort, rng, rng)


def _collate(rows: list[Row], height: int, length: int) -> Batch:
    ids, positions, targets = (np.zeros((height, length), dtype=np.int64) for _ in range(3))
    weights = np.zeros((height, length), dtype=np.float32)
    visible = np.zeros((height, length, length), dtype=bool)
    visible[:] = np.eye(length, dtype=bool)  # padding sees itself, so that no softmax is empty
    for r, row in enumerate(rows):
        n = len(row.ids)
        ids[r, :n], positions[r, :n], targets[r, :n], weights[r, :n] = row.ids, row.positions, row.targets, row.weights
        for i, (trunk, own) in enumerate(row.sees):
            visible[r, i, :trunk] = True
            visible[r, i, own : i + 1] = True
    mask = torch.zeros(height, 1, length, length, dtype=torch.bfloat16)
    mask.masked_fill_(~torch.from_numpy(visible)[:, None], _MASKED)
    return Batch(torch.from_numpy(ids), torch.from_numpy(positions), mask, *map(torch.from_numpy, (targets, weights)))


def batches(rows: Rows, shard: int, seed: int, tokens: int) -> Iterator[Batch]:
    """The batches of one shard in random order, each of rows of like length padded to about ``tokens`` tokens."""
    rng = random.Random(f"{seed}/{shard}/rows")
    buckets: dict[int, list[Row]] = {length: [] for length in LENGTHS}
    for sample in _samples(shard, seed):
        row = rows(sample, rng)
        buckets[next(length for length in LENGTHS if len(row.ids) <= length)].append(row)
    groups = []
    for length, bucket in buckets.items():
        height = tokens // length
        groups += [(bucket[i : i + height], height, length) for i in range(0, len(bucket), height)]
    rng.shuffle(groups)
    for group in groups:
        yield _collate(*group)
