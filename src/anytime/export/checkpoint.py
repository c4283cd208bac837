"""Reading a Hugging Face checkpoint: its shape, its chat template, its stop tokens."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anytime.bundle import TOKENIZER, Chat, Frame
from anytime.errors import ExportError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
EFFORTS = ("low", "medium", "high")  # values of a template's reasoning_effort
_MARK = "\ue000anytime\ue001"  # private-use characters, where the question will stand
_PLAIN_TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint directory that transformers can read."""

    path: Path
    config: Any
    tokenizer: Any
    parameters: int


def open_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint directory, or fetch one by its hub name.

    Raises:
        ExportError: it is missing, incomplete, or not a decoder-only language model.
    """
    path = _local(source)
    for name, remedy in (("config.json", "give a checkpoint directory"), (TOKENIZER, "save a fast tokenizer with it")):
        if not (path / name).is_file():
            raise ExportError(f"{path} has no {name}: {remedy} (Hugging Face layout)")
    try:
        from transformers import AutoConfig, AutoTokenizer
    except ImportError as error:
        raise ExportError("export needs torch, transformers and Optimum: pip install 'anytime[export]'") from error
    try:
        config = AutoConfig.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"transformers cannot read {path}: {error}") from error
    if not any(name.endswith("ForCausalLM") for name in config.architectures or ()):
        raise ExportError(f"{path} holds {config.architectures}, not a decoder-only language model (…ForCausalLM)")
    return Checkpoint(path, config, tokenizer, _count_parameters(path))


def _local(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if path.exists() or not _HUB_NAME.fullmatch(str(source)):
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(source), allow_patterns=["*.json", "*.safetensors", "*.jinja"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ExportError(
            f"{source} is no directory here, and the hub does not give it ({type(error).__name__}): check the name and "
            "the network, or give a checkpoint directory"
        ) from error


def load_model(path: Path) -> Any:
    """The checkpoint as a transformers model in fp32, for what the export is held to."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def _count_parameters(path: Path) -> int:
    """Parameters in the checkpoint's files, shared ones once."""
    from safetensors import SafetensorError, safe_open

    total = 0
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ExportError(f"{path} has no *.safetensors weights: save the model with safe_serialization=True")
    for file in files:
        try:
            with safe_open(file, framework="np") as weights:
                for name in weights.keys():  # noqa: SIM118  (not a dict)
                    size = 1
                    for n in weights.get_slice(name).get_shape():
                        size *= n
                    total += size
        except (SafetensorError, OSError) as error:
            raise ExportError(f"{file} cannot be read ({error}); copy the checkpoint again") from error
    return total


def chat_of(source: Checkpoint, think: str, close: str, prompted: Mapping[str, str], packs: int) -> Chat:
    """The chat part of the manifest. ``think`` is left out where the template's own prompt already ends with it.

    Efforts are those that the template knows by ``reasoning_effort``, and ``prompted`` ones, which are a text behind
    the question ("Think in a few words.").
    """
    tokenizer = source.tokenizer
    template = tokenizer.chat_template or _PLAIN_TEMPLATE
    stop_ids = {tokenizer.eos_token_id, *_generation_stops(source)} - {None}
    if not stop_ids:
        raise ExportError(f"{source.path} names no end-of-text token: set eos_token in the tokenizer")
    plain = frame(tokenizer, template, think)
    efforts = {name: frame(tokenizer, template, think, name) for name in EFFORTS}
    if len({*efforts.values()}) < len(EFFORTS):  # a template that knows no effort renders the same for all
        efforts = {}
    return Chat(
        template=template,
        template_sha256=hashlib.sha256(template.encode()).hexdigest(),
        frame=plain,
        close=close,
        stop_ids=tuple(sorted(stop_ids)),
        efforts=efforts | {name: _prompted(plain, text) for name, text in prompted.items()},
        packs=packs,
    )


def _prompted(plain: Frame, text: str) -> Frame:
    return Frame(plain.before, f"\n{text}{plain.after}")


def frame(tokenizer: Any, template: str, think: str, effort: str | None = None) -> Frame:
    """The template's text before and after the question, up to and including the tag that begins the thought.

    Raises:
        ExportError: it cannot be rendered, or does not show the question exactly once.
    """
    messages = [{"role": "user", "content": _MARK}]
    asked = {"reasoning_effort": effort} if effort else {}
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True, **asked
        )
    except Exception as error:  # a template is foreign code: it may divide by zero as well as be malformed
        raise ExportError(f"the chat template cannot be rendered ({error}): mend it in the tokenizer") from error
    before, mark, after = text.partition(_MARK)
    if not mark or _MARK in after:
        raise ExportError("the chat template does not show the question exactly once: mend it in the tokenizer")
    opened = after.rstrip().endswith(think.strip())
    return Frame(before, after if opened else after + think)


def _generation_stops(source: Checkpoint) -> list[int]:
    """End tokens the generation configuration names beside the tokenizer's."""
    from transformers import GenerationConfig

    if not (source.path / "generation_config.json").is_file():
        return []
    ends = GenerationConfig.from_pretrained(source.path).eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]
