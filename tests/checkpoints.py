"""Small randomly initialised checkpoints, made on the spot: one of each architecture that the export fuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEMPLATE = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content | trim }} [/INST]{% endfor %}"
ARCHITECTURES = ("llama", "qwen2", "qwen3", "smollm3", "gemma3")
_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def save_tokenizer(path: Path) -> int:
    """A Llama-2-like tokenizer (BPE over ``▁`` with byte fallback); its size."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    specials, fallback = ["<unk>", "<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    words = ["stop go left right yes no the robot sees a wall and thinks [THINK] [/THINK] \n 0 1 2 3 4 5"] * 50
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*specials, *fallback], show_progress=False)
    tokenizer.train_from_iterator(words, trainer)
    trained = json.loads(tokenizer.to_str())
    trained["added_tokens"] = [token for token in trained["added_tokens"] if token["content"] in specials]
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(trained)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=TEMPLATE,
    )
    fast.save_pretrained(path)
    return len(fast)


def save_checkpoint(architecture: str, path: Path) -> Path:
    """A checkpoint in Hugging Face layout whose norms and biases are no ones and zeros that could hide a mistake."""
    import torch

    path.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = _model(architecture, save_tokenizer(path))
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, 1.0 if "norm" in name and architecture != "gemma3" else 0.0, 0.2)
    model.save_pretrained(path)
    return path


def _model(architecture: str, vocab_size: int) -> Any:
    import transformers as t

    shape: dict[str, Any] = {"vocab_size": vocab_size, **_SHAPE}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    window = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    if architecture == "llama":
        scaling = {**llama3, "original_max_position_embeddings": 64}
        return t.LlamaForCausalLM(t.LlamaConfig(rope_scaling=scaling, **shape))
    if architecture == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**shape))
    if architecture == "qwen3":
        return t.Qwen3ForCausalLM(t.Qwen3Config(head_dim=32, **shape))
    if architecture == "smollm3":  # no rotation in the last layer
        return t.SmolLM3ForCausalLM(t.SmolLM3Config(**shape))
    assert architecture == "gemma3"
    special = {"head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 20, "layer_types": window}
    return t.Gemma3ForCausalLM(t.Gemma3TextConfig(**special, **shape))
