"""transformers: ``model(...)`` with a DynamicCache, in fp32."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from bench.peers.protocol import serve


class Hf:
    def __init__(self, path: str, threads: int, context: int) -> None:
        torch.set_num_threads(threads)
        load = AutoModelForCausalLM.from_pretrained
        self._model = load(path, dtype=torch.float32, local_files_only=True).eval()

    def start(self, tokens: list[int]) -> int:
        self._cache = DynamicCache(config=self._model.config)
        return self._run(tokens)

    def step(self, token: int) -> int:
        return self._run([token])

    @torch.inference_mode()
    def _run(self, tokens: list[int]) -> int:
        out = self._model(torch.tensor([tokens]), past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return int(out.logits[0, -1].argmax())


if __name__ == "__main__":
    serve(Hf)
