"""onnxruntime-genai: one Generator, rewound for every sequence, because making one costs several prefills."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime_genai as og

from bench.peers.protocol import serve


class Genai:
    def __init__(self, path: str, threads: int, context: int) -> None:
        config = og.Config(path)
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self._model = og.Model(config)
        params = og.GeneratorParams(self._model)
        # A least length keeps the end token from ending the sequence.
        params.set_search_options(max_length=context, min_length=context, do_sample=False)
        self._generator = og.Generator(self._model, params)

    def start(self, tokens: list[int]) -> int:
        self._generator.rewind_to(0)
        self._generator.append_tokens(np.array(tokens, np.int32))
        return self.step(0)

    def step(self, token: int) -> int:  # it remembers the token it took
        self._generator.generate_next_token()
        return int(self._generator.get_next_tokens()[0])


if __name__ == "__main__":
    serve(Genai)
