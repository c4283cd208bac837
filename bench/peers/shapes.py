"""The two models that are measured: the reference checkpoint, and Qwen3-0.6B's shape with random weights.

``python -m bench.peers.shapes OUT`` makes the second, in a process of its own that takes PyTorch's memory with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jinja2
from tokenizers import Tokenizer

from anytime.bundle import TOKENIZER
from anytime.runtime.questions import read_questions
from bench.peers import cache
from bench.peers.commands import run
from bench.peers.weights import parameters
from bench.report import ROOT

REFERENCE, LARGE = "reference", "0.6b"
_SEED = 6
_SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<think>", "</think>")


@dataclass(frozen=True, slots=True)
class Shape:
    """A checkpoint in Hugging Face layout, with its sizes in tokens and numbers.

    ``question`` is one that the model understands, as tokens; random weights understand none.
    """

    name: str
    checkpoint: Path
    vocab: int
    context: int
    parameters: int
    question: list[int]


def open_shape(name: str, progress: Callable[[str], None]) -> Shape:
    """One of the two by its name; the large one is made on first use.

    Raises:
        ContenderError: it cannot be made.
    """
    checkpoint = ROOT / "checkpoints" / "reference"
    if name == LARGE:
        progress("making the 0.6b checkpoint")
        checkpoint = cache.kept(cache.directory() / "models" / f"0.6b-seed{_SEED}" / "checkpoint", _make_large)
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    question = [] if name == LARGE else _question(checkpoint)
    sizes = config["vocab_size"], config["max_position_embeddings"], parameters(checkpoint)
    return Shape(name, checkpoint, *sizes, question)


def _question(checkpoint: Path) -> list[int]:
    first = read_questions(ROOT / "data" / "questions" / "drive.test.jsonl")[0].question
    template = (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    messages = [{"role": "user", "content": first}]
    prompt = jinja2.Template(template).render(messages=messages, add_generation_prompt=True)
    return list(Tokenizer.from_file(str(checkpoint / TOKENIZER)).encode(prompt, add_special_tokens=False).ids)


def _make_large(out: Path) -> None:
    run([sys.executable, "-m", "bench.peers.shapes", str(out)])


def make(out: Path) -> None:
    """Write the checkpoint: weights from a normal distribution, and a tokenizer of a few words that nobody calls."""
    import torch
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    sizes = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "vocab_size": 151936}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    positions = {"max_position_embeddings": 2048, "rope_theta": 1e6, "rms_norm_eps": 1e-6}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(_SEED)
    torch.set_default_dtype(torch.bfloat16)
    config = Qwen3Config(**sizes, **heads, **positions, **ends, tie_word_embeddings=True, initializer_range=0.02)
    Qwen3ForCausalLM(config).save_pretrained(out, max_shard_size="4GB")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(_SPECIAL)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(out)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
