"""A model the project has never seen: other architecture, other tokenizer, other tags, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from anytime.bundle import Bundle, Frame
from anytime.cli.main import app
from anytime.errors import ExportError
from anytime.runtime.engine import Row
from anytime.runtime.loading import open_bundle
from tests.checkpoints import save_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's tracer and Optimum warn about themselves


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Llama."""
    return save_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, exported by the command."""
    out = tmp_path_factory.mktemp("bundles") / "llama"
    result = CliRunner().invoke(
        app, ["export", str(checkpoint), str(out), "--think", "[THINK]", "--close", "[/THINK]\\n"]
    )
    assert result.exit_code == 0, (result.output, result.exception)
    return out


@pytest.fixture(scope="module")
def unfused(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint, as it is exported when its attention has a shape that cannot be fused."""
    from anytime.export import export_checkpoint
    from anytime.export.fuse import NoMatch

    def refuse(*_: object) -> None:
        raise NoMatch("a shape of its own")

    out = tmp_path_factory.mktemp("bundles") / "unfused"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anytime.export.graph.fuse", refuse)
        export_checkpoint(checkpoint, out, think="[THINK]", close="[/THINK]\n")
    return out


def test_attention_is_fused_where_it_can_be(bundle: Path, unfused: Path) -> None:
    """A Llama's attention is fused over a shared cache; what cannot be fused is exported as it is, and says so."""
    assert Bundle.load(bundle).manifest.kv.layout == "shared"
    assert Bundle.load(unfused).manifest.kv.layout == "growing"


def test_export_profile_and_run(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign checkpoint goes through export, profile and run, and answers in the asked format."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert CliRunner().invoke(app, ["profile", str(bundle), "--quick"]).exit_code == 0
    for format_args, allowed in (
        (["--choices", "go left,go right,stop"], {"go left", "go right", "stop"}),
        (["--regex", "yes|no"], {"yes", "no"}),
    ):
        result = CliRunner().invoke(app, ["run", str(bundle), "--json", "--budget", "3s", *format_args, "a wall"])
        record: dict[str, Any] = json.loads(result.stdout)
        assert record["answer"] in allowed
        assert record["source"] != "fallback"


def test_manifest_comes_from_the_checkpoint(bundle: Path) -> None:
    """Shape, tags and stop tokens in the manifest are the checkpoint's, not the reference's."""
    manifest = Bundle.load(bundle).manifest
    assert manifest.architecture == "LlamaForCausalLM"
    assert (manifest.kv.layers, manifest.kv.heads, manifest.kv.head_dim) == (4, 2, 16)
    assert manifest.chat.frame == Frame("<s>[INST] ", " [/INST][THINK]")
    assert manifest.chat.efforts == {}
    assert manifest.chat.close == "[/THINK]\n"
    assert manifest.chat.stop_ids == (2,)


@pytest.mark.parametrize("kind", ["bundle", "unfused"])
def test_engine_agrees_with_transformers(kind: str, checkpoint: Path, request: pytest.FixtureRequest) -> None:
    """Chunked, forked and truncated sequences give the logits that transformers gives for the whole text."""
    engine = open_bundle(request.getfixturevalue(kind), threads=1).engine
    ids = [5, 9, 40, 33, 7, 21, 60, 12, 8, 30]
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    seq = engine.open()
    first = engine.run([Row(seq, ids[:4], want=4)], 1)[0]
    (fork,) = engine.fork(seq)
    engine.run([Row(seq, [3, 3, 3])], 1)
    engine.truncate(seq, 4)
    rest = engine.run([Row(seq, ids[4:], want=6)], 1)[0]
    forked = engine.run([Row(fork, ids[4:], want=6)], 1)[0]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.concatenate([first, rest]) / scale, expected / scale, atol=1e-4)
    np.testing.assert_allclose(forked, rest, atol=1e-5)


def test_a_closed_sequence_leaves_nothing_to_the_next(bundle: Path) -> None:
    """A sequence in reused memory gives the same logits as the first one did."""
    engine = open_bundle(bundle, threads=1).engine
    ids = [5, 9, 40, 33, 7]
    first = engine.open()
    expected = engine.run([Row(first, ids, want=5)], 1)[0]
    engine.run([Row(first, [11] * 40)], 1)
    engine.close(first)
    again = engine.run([Row(engine.open(), ids, want=5)], 1)[0]
    np.testing.assert_array_equal(again, expected)


def test_a_terminated_run_leaves_its_sequence(bundle: Path) -> None:
    """A run told to end before it began raises, and the same run afterwards gives what it would have given."""
    from anytime.errors import StepTerminated

    engine = open_bundle(bundle, threads=1).engine
    seq = engine.open()
    engine.run([Row(seq, [5, 9, 40])], 1)
    engine.terminate(2)
    with pytest.raises(StepTerminated):
        engine.run([Row(seq, [7])], 2)
    assert seq.length == 3
    fresh = engine.open()
    expected = engine.run([Row(fresh, [5, 9, 40, 7])], 3)[0]
    np.testing.assert_allclose(engine.run([Row(seq, [7])], 3)[0], expected, atol=1e-5)


def test_a_cache_that_is_not_updated_in_place_is_found_out(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime whose in-place runs give other numbers than separate buffers is refused at start-up."""
    from anytime.errors import EngineError
    from anytime.runtime.ort.shared import _ApartCache

    honest = _ApartCache.run

    def stale(self: _ApartCache, row: int, tokens: list[int], length: int, want: int, generation: int) -> Any:
        return honest(self, row, tokens, max(0, length - 1), want, generation)

    monkeypatch.setattr(_ApartCache, "run", stale)
    with pytest.raises(EngineError, match="in place"):
        open_bundle(bundle, threads=1)


def test_typed_special_tokens_are_text(bundle: Path) -> None:
    """``</s>`` typed by a user never becomes the end token, with this kind of tokenizer too."""
    codec = open_bundle(bundle, threads=1).codec
    assert not {1, 2} & set(codec.encode_text("stop </s> go <s>"))


def test_failed_export_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that disagrees with its original is refused, and no half bundle stays behind."""
    monkeypatch.setattr("anytime.export.verify.verify", lambda *_: 0.5)
    result = CliRunner().invoke(app, ["export", str(checkpoint), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "differ" in result.stderr
    assert not list(tmp_path.iterdir())


def test_interrupted_export_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of an export: exit code 1, one line, nothing half-written."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anytime.export.graph.export_graph", interrupt)
    result = CliRunner().invoke(app, ["export", str(checkpoint), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "interrupted" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_incomplete_checkpoint_is_named(checkpoint: Path, tmp_path: Path, name: str) -> None:
    """What is missing from a checkpoint is said by name."""
    from anytime.export import export_checkpoint

    for file in checkpoint.iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ExportError, match=name.rsplit(".", maxsplit=1)[-1]):
        export_checkpoint(tmp_path, tmp_path / "out")
