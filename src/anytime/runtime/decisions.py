"""The decision log: what was asked, planned and answered, and when, a JSON line each."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from anytime.errors import UsageError
from anytime.runtime.answer import Answer
from anytime.scheduler.clock import utc_stamp

if TYPE_CHECKING:
    from anytime.runtime.request import Request

Redaction: TypeAlias = "Literal['keep', 'drop'] | Callable[[str], str]"
_CLOSING_S = 5.0


class DecisionLog:
    """Appends to a file, on a thread of its own, so that no answer waits for a disk.

    ``thoughts`` and ``prompts`` say what is written of them: all (``keep``), nothing (``drop``), or what a function of
    yours makes of each. What cannot be written, to a full disk, say, is counted in ``lost``; nobody is disturbed.

    Raises:
        UsageError: the file cannot be opened, or a redaction is none.
    """

    def __init__(
        self, file: str | os.PathLike[str], *, thoughts: Redaction = "keep", prompts: Redaction = "keep"
    ) -> None:
        for name, redaction in (("thoughts", thoughts), ("prompts", prompts)):
            if not callable(redaction) and redaction not in ("keep", "drop"):
                raise UsageError(f"{name} is {redaction!r}: give 'keep', 'drop' or a function")
        try:
            self._file = Path(file).open("ab", buffering=0)  # noqa: SIM115 (closed by its writer)
        except OSError as error:
            raise UsageError(f"the log {file} cannot be opened ({error.strerror}): give another file") from error
        self._thoughts, self._prompts = thoughts, prompts
        self.lost = 0
        self._entries: queue.SimpleQueue[tuple[str, Request, Answer, str] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="anytime-log", daemon=True)
        self._writer.start()

    def note(self, prompt: str, request: Request, answer: Answer) -> None:
        """Take note of an answer as it was delivered. Of the request, policy, priority and topic are kept."""
        self._entries.put((prompt, request, answer, utc_stamp()))

    def close(self) -> None:
        """Write what was noted, and close the file."""
        self._entries.put(None)
        self._writer.join(_CLOSING_S)

    def _write(self) -> None:
        while (entry := self._entries.get()) is not None:
            try:
                line = msgspec.json.encode(self._record(*entry)) + b"\n"
                if self._file.write(line) != len(line):
                    self.lost += 1
            except Exception:  # a full disk, a redaction that fails: the log loses a line, the robot loses nothing
                self.lost += 1
        self._file.close()

    def _record(self, prompt: str, request: Request, answer: Answer, stamp: str) -> dict[str, object]:
        answered = answer.record()
        return {
            "at": stamp,
            "asked": {
                "id": answer.request_id,
                "prompt": _redacted(prompt, self._prompts),
                "received_ns": answer.received_ns,
                "deadline_ns": answer.deadline_ns,
                "policy": str(request.get("policy", "auto")),
                "priority": request.get("priority", 0),
                "topic": request.get("topic"),
            },
            "planned": {"token_cap": answer.token_cap},
            "answered": {
                **answered,
                "thought": _redacted(answer.thought, self._thoughts),
                "effort": answer.effort,
                "delivered_ns": answer.delivered_ns,
            },
        }


def _redacted(text: str, how: Redaction) -> str | None:
    if callable(how):
        return how(text)
    return text if how == "keep" else None
