"""The bundle: the immutable directory a model is deployed as, and all that export and runtime share.

``manifest.json`` describes the model and lists every other file with its size and SHA-256; the bundle's id is the
hash of the manifest, and so of its contents. What is measured on a machine lives beside a bundle, never in it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

import msgspec

from anytime.errors import BundleError
from anytime.signature import SIGNATURE, STATEMENT, trusted_keys, verify

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
BESIDE_FILES = (MANIFEST, MANIFEST + STATEMENT, MANIFEST + SIGNATURE)  # which have no checksum in the manifest


Precision: TypeAlias = Literal["fp32", "fp16", "int8", "int4"]  # of a graph's weights


class KvLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shape of the key/value cache: [row, head, position, channel] for each layer.

    ``layout`` is "shared" where the graph updates a buffer of the full context in place, "growing" where every run
    returns a longer cache.
    """

    layers: int
    heads: int
    head_dim: int
    dtype: str
    layout: Literal["shared", "growing"]


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One variant of the model's graph with what it needs to run.

    ``difference`` is the largest one found between its logits and the checkpoint's, relative to the largest logit.
    ``update`` says how a graph for TensorRT extends its cache, which holds half precision and the full context: it
    writes to the cache itself, or returns the new keys and values for the runtime to append. ``weights`` is the file
    that such graphs share.
    """

    file: str
    precision: str
    opset: int
    runtime: str
    difference: float
    update: Literal["in-place", "appended"] | None = None
    weights: str | None = None


class Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text around a question; ``after`` ends with the tag that begins the thought."""

    before: str
    after: str


class Chat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a question becomes a prompt, a thought begins and ends, and an answer stops.

    ``frame`` is the chat template's text around a question, rendered when the bundle was made, and ``efforts`` has the
    frames that ask for more or less thought, by name, least first. ``packs`` questions at most are answered in one
    prompt. ``close`` is the whole text that ends a thought by force, up to the first token of the answer; the tag in it
    (``close`` without surrounding white space) is what the model itself writes when it is done. The template itself is
    kept for the record only.
    """

    template: str
    template_sha256: str
    frame: Frame
    close: str
    stop_ids: tuple[int, ...]
    efforts: dict[str, Frame] = {}
    packs: int = 1


class SamplingDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0


class ShippedPrefix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens that prompts begin with, and the file of their keys and values, [2 · layers, head, position, channel]."""

    tokens: tuple[int, ...]
    file: str


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    size: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: int = SCHEMA_VERSION
    name: str
    architecture: str
    parameters: int
    made_by: str
    vocab_size: int
    max_context: int
    graphs: tuple[Graph, ...]
    kv: KvLayout
    chat: Chat
    sampling: SamplingDefaults = SamplingDefaults()
    prefix: ShippedPrefix | None = None
    files: dict[str, FileRecord] = {}


class Bundle(msgspec.Struct, frozen=True):
    """A verified bundle on disk."""

    path: Path
    id: str
    manifest: Manifest

    @classmethod
    def load(cls, path: str | os.PathLike[str], trusted: Path | None = None) -> Bundle:
        """Open a bundle and check every file against the manifest, and the manifest's signature where keys are trusted.

        ``trusted`` is a file of public keys, by default the one that is configured on this machine, if one is
        (``anytime.signature.trusted_keys``).

        Raises:
            BundleError: it is missing, incomplete, altered, made by a newer version, or not signed as it has to be.
        """
        root = Path(path)
        keys = trusted or trusted_keys()
        if keys is not None and (root / MANIFEST).is_file():
            verify(root / MANIFEST, keys)
        return cls._checked(root)

    @classmethod
    def _checked(cls, root: Path) -> Bundle:
        raw = _read_manifest(root)
        manifest = _decode(raw, root)
        graphs = manifest.graphs
        for name in (TOKENIZER, *(graph.file for graph in graphs), *(graph.weights for graph in graphs)):
            if name is not None and name not in manifest.files:
                raise BundleError(f"bundle {root} is incomplete: its {MANIFEST} lists no {name}; export it again")
        for name, record in manifest.files.items():
            _check_file(root, name, record)
        return cls(root, hashlib.sha256(raw).hexdigest(), manifest)

    @classmethod
    def reference(cls) -> Bundle:
        """The reference reasoner that ships with the package, and is trusted as the package's code is."""
        return cls._checked(Path(__file__).parent / "data" / "reference")

    def file(self, name: str) -> Path:
        return self.path / name


def state_dir() -> Path:
    """``$XDG_STATE_HOME/anytime``, by default ``~/.local/state/anytime``: what is measured or built on this machine."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "anytime"


def write_whole(file: Path, content: bytes | memoryview) -> None:
    """Write a file, whole or not at all, and the directories above it.

    Raises:
        OSError: it cannot be written.
    """
    import tempfile  # only who measures or builds needs it

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.replace(part.name, file)
        except BaseException:
            os.unlink(part.name)
            raise


def _read_manifest(root: Path) -> bytes:
    if not root.is_dir():
        raise BundleError(f"no bundle at {root}: give the directory that 'anytime export' wrote")
    try:
        return (root / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{root} is not a bundle: {MANIFEST} cannot be read ({error.strerror}); "
            "make one with 'anytime export CHECKPOINT OUT'"
        ) from error


class _Version(msgspec.Struct):
    schema_version: int


def _decode(raw: bytes, root: Path) -> Manifest:
    try:
        version = msgspec.json.decode(raw, type=_Version).schema_version
        if version > SCHEMA_VERSION:
            raise BundleError(
                f"bundle {root} has schema version {version}, this anytime reads up to {SCHEMA_VERSION}: "
                "upgrade anytime, or export the checkpoint again with this version"
            )
        if version < SCHEMA_VERSION:
            raise BundleError(
                f"bundle {root} was made by an older anytime (schema version {version}, this one reads "
                f"{SCHEMA_VERSION}): export the checkpoint again"
            )
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"bundle {root} has a damaged {MANIFEST} ({error}); copy or export it again") from error


def _check_file(root: Path, name: str, record: FileRecord) -> None:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise BundleError(f"bundle {root} names a file outside itself ({name!r}); do not use it")
    path = root / name
    if not path.is_file():
        raise BundleError(f"bundle {root} is incomplete: {name} is missing; copy or export it again")
    if not path.resolve().is_relative_to(root.resolve()):
        raise BundleError(f"bundle {root} has a link that leaves it ({name} -> {path.resolve()}); do not use it")
    size = path.stat().st_size
    if size != record.size:
        raise BundleError(
            f"bundle {root} is damaged: {name} has {size} bytes instead of {record.size}; copy or export it again"
        )
    if sha256_of(path) != record.sha256:
        raise BundleError(f"bundle {root} was altered: {name} does not match its checksum; copy or export it again")


def sha256_of(path: Path) -> str:
    """The checksum of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def staging(out: str | os.PathLike[str]) -> Iterator[Path]:
    """A scratch directory beside ``out`` that becomes ``out`` when the block ends well, and vanishes when it does not.

    Raises:
        BundleError: ``out`` already exists, or its parent cannot be written to.
    """
    import shutil  # only who writes bundles needs it

    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BundleError(f"{target} already exists and is never changed: choose another directory")
    scratch = target.parent / f".{target.name}.{os.getpid()}.part"
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise BundleError(
            f"cannot write to {target.parent} ({error.strerror}): choose a directory you may write to"
        ) from error
    try:
        yield scratch
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def seal(directory: Path, manifest: Manifest) -> None:
    """Write the manifest of a finished directory, with the checksum of every file in it."""
    files = {
        str(path.relative_to(directory)): FileRecord(sha256_of(path), path.stat().st_size)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in BESIDE_FILES
    }
    whole = msgspec.structs.replace(manifest, files=files)
    (directory / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2))
