"""The peer: ``generate(max_time=...)`` of Hugging Face transformers, in a process of its own.

The process keeps torch out of the one that is measured. It reads requests from standard input, one JSON object a
line, and its clock starts when a request has been read: the pipe costs the peer nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from anytime.scheduler.clock import MONOTONIC, NS_PER_MS, NS_PER_S
from bench.contenders import Request, watched
from bench.report import ROOT

_LOADING_S, _LATE_S = 120.0, 30.0


class PeerDelivery(NamedTuple):
    """One call of the peer. ``answered``: there was text behind the tag that closes the thought."""

    request: int
    budget_ms: float
    elapsed_ms: float
    tokens: int
    answered: bool


class PeerError(Exception):
    """Why the peer cannot be measured."""


class Peer:
    """The parent's side."""

    def __init__(self, checkpoint: Path, close_tag: str) -> None:
        if not checkpoint.is_dir():
            raise PeerError(f"no checkpoint at {checkpoint}")
        command = [sys.executable, "-m", "bench.peer", str(checkpoint), close_tag]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.environment = self._reply(_LOADING_S)

    def ask(self, request: Request) -> PeerDelivery:
        assert self._process.stdin is not None
        try:
            print(json.dumps([request.question.question, request.budget_ns]), file=self._process.stdin, flush=True)
        except OSError as error:
            raise PeerError(f"its process ended ({error})") from error
        reply = self._reply(request.budget_ns / NS_PER_S + _LATE_S)
        elapsed_ms = round(reply["elapsed_ns"] / NS_PER_MS, 4)
        budget_ms = round(request.budget_ns / NS_PER_MS, 4)
        return PeerDelivery(request.number, budget_ms, elapsed_ms, reply["tokens"], reply["answered"])

    def _reply(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = watched(self._process.stdout.readline, limit_s)
        if line is None:
            self._process.kill()
        if not line:
            raise PeerError(
                f"its process did not reply within {limit_s:.1f} s" if line is None else "its process ended"
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class _Model:
    """The child's side."""

    def __init__(self, checkpoint: str, close_tag: str) -> None:
        import torch
        import transformers

        self._close_tag = close_tag
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
        load = transformers.AutoModelForCausalLM.from_pretrained
        self._model = load(checkpoint, dtype=torch.float32, local_files_only=True).eval()
        self.environment = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
            "dtype": "float32",
        }

    def generate(self, question: str, budget_ns: int) -> dict[str, Any]:
        start_ns = MONOTONIC.now()
        chat = [{"role": "user", "content": question}]
        inputs = self._tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        prompt_tokens = inputs["input_ids"].shape[1]
        ids = self._model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_time=budget_ns / NS_PER_S,
            max_new_tokens=self._model.config.max_position_embeddings - prompt_tokens,
            do_sample=False,
        )[0, prompt_tokens:]
        text = self._tokenizer.decode(ids).partition(self._close_tag)[2]
        elapsed_ns = MONOTONIC.now() - start_ns
        answered = bool(text.replace(self._tokenizer.eos_token or "\0", "").strip())
        return {"elapsed_ns": elapsed_ns, "tokens": len(ids), "answered": answered}


def _serve(checkpoint: str, close_tag: str, replies: TextIO) -> None:
    def reply(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=replies, flush=True)

    try:
        model = _Model(checkpoint, close_tag)
        model.generate("warm up", 100 * NS_PER_MS)
    except Exception as error:  # whatever the libraries raise is why the peer is not measured
        reply({"error": f"{type(error).__name__}: {error}"})
        return
    reply(model.environment)
    for line in sys.stdin:
        question, budget_ns = json.loads(line)
        reply(model.generate(question, budget_ns))


if __name__ == "__main__":
    replies, sys.stdout = sys.stdout, sys.stderr  # nothing that a library prints may pass for a reply
    _serve(sys.argv[1], sys.argv[2], replies)
