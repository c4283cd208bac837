"""A bundle that brings the beginning of its prompts along, already run."""

from __future__ import annotations

import itertools
import os
import shutil

import msgspec
import numpy as np

from anytime.bundle import Bundle, ShippedPrefix, seal, staging
from anytime.errors import PromptError
from anytime.runtime.engine import Row
from anytime.runtime.ort.engine import OrtEngine
from anytime.runtime.prompt import Codec

PREFIX = "prefix.npy"
_CONTINUATIONS = ("", "a", " b", "\n1", ".")  # the last tokens of a text may be others where more follows


def ship_prefix(bundle: Bundle, text: str, out: str | os.PathLike[str]) -> Bundle:
    """A new bundle at ``out`` in which the beginning of every prompt that begins with ``text`` is prefilled.

    Raises:
        PromptError: ``text`` is empty, or leaves no room for a question.
        BundleError: ``out`` exists or cannot be written.
    """
    codec = Codec(bundle)
    codec.check(text)
    prompts = [codec.encode(text + more) for more in _CONTINUATIONS]
    same = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    ids = [tokens[0] for tokens in same]
    if not ids:
        raise PromptError(f"no two prompts that begin with {text!r} have a first token in common: give a longer text")
    engine = OrtEngine(bundle, threads=1)
    seq = engine.open()
    engine.run([Row(seq, ids)], 0)
    with staging(out) as scratch:
        for name in bundle.manifest.files:
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.file(name), scratch / name)
        np.save(scratch / PREFIX, engine.snapshot(seq).cache)
        seal(scratch, msgspec.structs.replace(bundle.manifest, prefix=ShippedPrefix(tuple(ids), PREFIX)))
    return Bundle.load(out)
