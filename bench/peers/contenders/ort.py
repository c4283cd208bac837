"""Optimum: ORTModelForCausalLM on the graph as Optimum exports it, in fp32."""

from __future__ import annotations

import torch
from onnxruntime import SessionOptions
from optimum.onnxruntime import ORTModelForCausalLM

from bench.peers.protocol import serve


class Ort:
    def __init__(self, path: str, threads: int, context: int) -> None:
        torch.set_num_threads(threads)
        options = SessionOptions()
        options.intra_op_num_threads = threads
        load = ORTModelForCausalLM.from_pretrained
        self._model = load(path, provider="CPUExecutionProvider", session_options=options, local_files_only=True)
        config = self._model.config
        empty = torch.zeros((1, config.num_key_value_heads, 0, config.head_dim))
        # The empty cache that Optimum itself begins with is as wide as hidden size over heads, which Qwen3-0.6B is not.
        self._empty = ((empty, empty),) * config.num_hidden_layers
        self._mask = torch.ones((1, context), dtype=torch.int64)

    def start(self, tokens: list[int]) -> int:
        self._length, self._cache = 0, self._empty
        return self._run(tokens)

    def step(self, token: int) -> int:
        return self._run([token])

    @torch.inference_mode()
    def _run(self, tokens: list[int]) -> int:
        before, self._length = self._length, self._length + len(tokens)
        out = self._model(
            input_ids=torch.tensor([tokens]),
            attention_mask=self._mask[:, : self._length],
            position_ids=torch.arange(before, self._length)[None],
            past_key_values=self._cache,
        )
        self._cache = out.past_key_values
        return int(out.logits[0, -1].argmax())


if __name__ == "__main__":
    serve(Ort)
