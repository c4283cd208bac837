"""A bundle with random weights, for measuring how fast a model of its shape is where none can be downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anytime.bundle import Precision
from anytime.export import export_checkpoint
from anytime.export.export import Engine

QWEN3_0_6B: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
TINY: dict[str, Any] = {
    **QWEN3_0_6B,
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
CONTEXT = 1024


def random_bundle(directory: Path, sizes: dict[str, Any], precision: Precision, engine: Engine = "onnxruntime") -> Path:
    """Make a checkpoint of the Qwen3 architecture in ``directory``, embeddings tied, and export it to a bundle there.

    Raises:
        ImportError: torch or what belongs to the extra ``[export]`` is not installed.
        ExportError: it cannot be exported.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from tests.checkpoints import save_tokenizer

    checkpoint = directory / "checkpoint"
    checkpoint.mkdir(parents=True)
    save_tokenizer(checkpoint)
    torch.manual_seed(0)
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    config = Qwen3Config(**sizes, **ends, max_position_embeddings=CONTEXT, tie_word_embeddings=True)
    Qwen3ForCausalLM(config).save_pretrained(checkpoint)
    return export_checkpoint(checkpoint, directory / "bundle", precision=precision, engine=engine).path
