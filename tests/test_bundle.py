"""The bundle on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from anytime.bundle import MANIFEST, TOKENIZER, Bundle, Graph, seal, staging
from anytime.errors import BundleError
from tests.conftest import manifest, write_bundle


def edit_manifest(bundle: Bundle, **changes: Any) -> None:
    path = bundle.file(MANIFEST)
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **changes}))


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_a_sealed_bundle_loads_with_every_file_recorded(bundle: Bundle) -> None:
    """What staging and seal leave behind is a bundle, with nothing beside it."""
    assert set(bundle.manifest.files) == {"model.onnx", TOKENIZER}
    assert files(bundle.path.parent) == {"tiny", f"tiny/{MANIFEST}", "tiny/model.onnx", f"tiny/{TOKENIZER}"}


def test_the_id_is_that_of_the_contents(tmp_path: Path) -> None:
    """The same contents have the same id wherever they lie; another graph or another manifest has another."""
    first, second = write_bundle(tmp_path / "a"), write_bundle(tmp_path / "b")
    renamed = write_bundle(tmp_path / "c", name="other")
    with staging(tmp_path / "d") as scratch:
        (scratch / "model.onnx").write_bytes(b"another graph")
        (scratch / TOKENIZER).write_bytes(first.file(TOKENIZER).read_bytes())
        seal(scratch, manifest())
    assert first.id == second.id
    assert len({first.id, renamed.id, Bundle.load(tmp_path / "d").id}) == 3


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    """The message names the path and what to give instead."""
    with pytest.raises(BundleError, match=r"no bundle at .*nowhere: give the directory"):
        Bundle.load(tmp_path / "nowhere")


def test_a_directory_without_manifest_is_refused(tmp_path: Path) -> None:
    """The message says that it is no bundle and which command makes one."""
    with pytest.raises(BundleError, match=r"is not a bundle.*anytime export"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", TOKENIZER])
def test_a_missing_file_is_refused(bundle: Bundle, name: str) -> None:
    """An incomplete copy is called incomplete, with the file that is missing."""
    bundle.file(name).unlink()
    with pytest.raises(BundleError, match=f"incomplete: {name} is missing"):
        Bundle.load(bundle.path)


def test_weights_that_a_graph_points_to_belong_to_the_bundle(tmp_path: Path) -> None:
    """A graph for TensorRT whose weights are not listed is an incomplete bundle, by their name."""
    graph = Graph("model.onnx", "fp16", 24, "tensorrt>=10.15", 0.0, "in-place", "tensorrt.weights")
    with pytest.raises(BundleError, match=r"incomplete: its manifest\.json lists no tensorrt\.weights"):
        write_bundle(tmp_path / "out", graphs=(graph,))


def test_what_a_graph_does_not_have_is_not_written(bundle: Bundle) -> None:
    """A bundle without graphs for TensorRT has the manifest, and so the id, that it had before there were any."""
    (graph,) = msgspec.json.decode(bundle.file(MANIFEST).read_bytes())["graphs"]
    assert set(graph) == {"file", "precision", "opset", "runtime", "difference"}


def test_a_truncated_file_is_refused(bundle: Bundle) -> None:
    """Both sizes are in the message."""
    bundle.file("model.onnx").write_bytes(b"not a")
    with pytest.raises(BundleError, match=r"model\.onnx has 5 bytes instead of 11"):
        Bundle.load(bundle.path)


def test_an_altered_file_is_refused(bundle: Bundle) -> None:
    """A file of the right size with other contents is found by its checksum."""
    bundle.file("model.onnx").write_bytes(b"not A graph")
    with pytest.raises(BundleError, match=r"altered: model\.onnx"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("changes", [{}, {"chat": "in a form yet to come"}])
def test_a_newer_schema_is_refused_as_such(bundle: Bundle, changes: dict[str, str]) -> None:
    """A newer version's bundle is called newer, not damaged, even when its fields have changed."""
    edit_manifest(bundle, schema_version=99, **changes)
    with pytest.raises(BundleError, match=r"schema version 99.*upgrade anytime"):
        Bundle.load(bundle.path)


def test_an_older_schema_is_refused_as_such(bundle: Bundle) -> None:
    """A bundle of an earlier version is not called damaged; the message says to export again."""
    edit_manifest(bundle, schema_version=1)
    with pytest.raises(BundleError, match=r"older anytime.*export the checkpoint again"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema_version": "\xff"}', b"[" * 100_000, b'{"schema_version": 3}']
)
def test_a_damaged_manifest_is_refused(bundle: Bundle, damage: bytes) -> None:
    """Whatever lies where the manifest should be, the answer is a BundleError with the remedy."""
    bundle.file(MANIFEST).write_bytes(damage)
    with pytest.raises(BundleError, match=r"damaged manifest\.json.*export it again"):
        Bundle.load(bundle.path)


def test_an_unknown_field_is_refused(bundle: Bundle) -> None:
    """A misspelt field does not pass silently."""
    edit_manifest(bundle, max_contxt=4096)
    with pytest.raises(BundleError, match="max_contxt"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside"])
def test_a_file_outside_the_bundle_is_refused(bundle: Bundle, name: str) -> None:
    """A manifest cannot make anytime read files elsewhere."""
    (bundle.path.parent / "outside").write_bytes(b"x")
    recorded = {**msgspec.to_builtins(bundle.manifest.files), name: {"sha256": "", "size": 1}}
    edit_manifest(bundle, files=recorded)
    with pytest.raises(BundleError, match="names a file outside itself"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("name", ["model.onnx", TOKENIZER])
def test_a_manifest_that_does_not_list_what_it_needs_is_refused(bundle: Bundle, name: str) -> None:
    """Tokenizer and graphs have checksums, or the id would not cover them."""
    edit_manifest(bundle, files={k: v for k, v in msgspec.to_builtins(bundle.manifest.files).items() if k != name})
    with pytest.raises(BundleError, match=f"lists no {name}"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("error", [RuntimeError("disk on fire"), KeyboardInterrupt()])
def test_staging_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    """Neither the bundle nor the scratch directory is left, and the error comes out."""

    def build() -> None:
        with staging(tmp_path / "out") as scratch:
            (scratch / "model.onnx").write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        build()
    assert files(tmp_path) == set()


def test_staging_shows_nothing_before_it_is_done(tmp_path: Path) -> None:
    """The bundle appears whole: until the block ends there is nothing under its name."""
    with staging(tmp_path / "out") as scratch:
        (scratch / "file").write_bytes(b"x")
        assert not (tmp_path / "out").exists()
    assert files(tmp_path) == {"out", "out/file"}


@pytest.mark.parametrize("make", [write_bundle, lambda path: path.write_text("x", encoding="utf-8")])
def test_an_existing_target_is_refused_and_left_as_it_is(tmp_path: Path, make: Any) -> None:
    """Bundles are never changed, and no file is overwritten."""
    make(tmp_path / "out")
    before = files(tmp_path)
    with pytest.raises(BundleError, match="already exists"), staging(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert files(tmp_path) == before


def test_an_empty_directory_may_become_a_bundle(tmp_path: Path) -> None:
    """A directory made for the purpose is used."""
    (tmp_path / "out").mkdir()
    assert write_bundle(tmp_path / "out").path == tmp_path / "out"


def test_a_parent_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """The message names the parent and asks for another place."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(BundleError, match="choose a directory you may write to"), staging(tmp_path / "file" / "out"):
        pytest.fail("the block must not run")
