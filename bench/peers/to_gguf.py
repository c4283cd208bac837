"""From a Qwen3 checkpoint to llama.cpp's file: ``python -m bench.peers.to_gguf CHECKPOINT OUT q4_0|q8_0|f16``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter, quants

from bench.peers.weights import header

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def _name(theirs: str) -> str:
    if theirs in _OUTSIDE:
        return _OUTSIDE[theirs]
    _, _, layer, part = theirs.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{_NAMES[part]}.weight"


def _tensors(file: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Every tensor of a file in bf16, in fp32."""
    tensors, start = header(file)
    raw = np.memmap(file, np.uint8, "r", offset=start)
    for name, tensor in tensors.items():
        if tensor["dtype"] != "BF16":
            raise SystemExit(f"{name} is {tensor['dtype']}: only checkpoints in BF16 are converted")
        begin, end = tensor["data_offsets"]
        halves = raw[begin:end].view("<u2").astype(np.uint32)
        yield name, (halves << 16).view(np.float32).reshape(tensor["shape"])


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    """Write the whole model, norms in fp32, without a vocabulary: tokens come as numbers."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    writer = GGUFWriter(str(out), "qwen3")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    kind = GGMLQuantizationType[precision.upper()]
    for name, values in _tensors(checkpoint / "model.safetensors"):
        if values.ndim == 1:
            writer.add_tensor(_name(name), values)
        else:
            writer.add_tensor(_name(name), quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
