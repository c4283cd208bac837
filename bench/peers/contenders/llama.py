"""llama.cpp: ``llama_decode`` and its greedy sampler through llama-cpp-python's bindings of the C interface."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp as ll

from bench.peers.protocol import serve


def _has_amx() -> bool:
    return " amx_" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")


@ll.llama_log_callback
def _silent(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    pass


class Llama:
    def __init__(self, path: str, threads: int, context: int) -> None:
        ll.llama_log_set(_silent, ctypes.c_void_p(0))
        ll.llama_backend_init()
        model_params = ll.llama_model_default_params()
        # Repacked weights make 4 bits a third faster; the same switch brings AMX's path, which is to be avoided.
        model_params.use_extra_bufts = not _has_amx()
        model = ll.llama_model_load_from_file(path.encode(), model_params)
        params = ll.llama_context_default_params()
        params.n_ctx, params.n_batch = context, context
        params.n_threads, params.n_threads_batch = threads, threads
        self._context = ll.llama_init_from_model(model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self._memory = ll.llama_get_memory(self._context)
        self._sampler = ll.llama_sampler_init_greedy()

    def start(self, tokens: list[int]) -> int:
        ll.llama_memory_clear(self._memory, False)
        return self._run(tokens)

    def step(self, token: int) -> int:
        return self._run([token])

    def _run(self, tokens: list[int]) -> int:
        ids = (ll.llama_token * len(tokens))(*tokens)  # the batch points into it
        status = ll.llama_decode(self._context, ll.llama_batch_get_one(ids, len(tokens)))
        if status:
            raise RuntimeError(f"llama_decode returned {status}")
        return int(ll.llama_sampler_sample(self._sampler, self._context, -1))


if __name__ == "__main__":
    serve(Llama)
