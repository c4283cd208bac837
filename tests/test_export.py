"""Exporting: every architecture against transformers, every precision, and what cannot be exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from anytime.bundle import Bundle, Precision
from anytime.cli.main import app
from anytime.errors import BundleError, EngineError, ExportError
from anytime.runtime.engine import Row
from anytime.runtime.loading import open_bundle
from anytime.runtime.reasoner import Reasoner
from tests.checkpoints import ARCHITECTURES, save_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's tracer and Optimum warn about themselves

# Random weights have no slack for rounding; what a trained model loses, bench.precision measures.
MOST_DIFFERENCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-3, "int8": 0.05, "int4": 0.4}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: save_checkpoint(name, root / name) for name in ARCHITECTURES}


def export(checkpoint: Path, out: Path, **options: Any) -> Bundle:
    from anytime.export import export_checkpoint

    return export_checkpoint(checkpoint, out, **options)


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [("--effort", "brief", "not NAME=TEXT"), ("--effort", "=x", "not NAME=TEXT"), ("--packs", "0", "at least one")],
)
def test_what_a_prompt_can_ask_for_is_checked(option: str, value: str, why: str, tmp_path: Path) -> None:
    """An effort has a name and a text, a prompt at least one question; nothing is read before that is known."""
    result = CliRunner().invoke(app, ["export", str(tmp_path), str(tmp_path / "out"), option, value])
    assert result.exit_code != 0
    assert why in result.stderr.replace("\n", " ")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_fused_and_agrees(name: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Prefill beyond a window, single steps and longer runs give transformers' logits to 1e-4, over a shared cache."""
    bundle = export(checkpoints[name], tmp_path / "out")
    assert bundle.manifest.kv.layout == "shared"
    ids = [int(i) for i in np.random.default_rng(1).integers(3, bundle.manifest.vocab_size, 60)]
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoints[name], dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    engine, got, done = open_bundle(bundle.path, threads=1).engine, [], 0
    seq = engine.open()
    for count in (40, 1, 1, 15, 1, 2):
        got.append(engine.run([Row(seq, ids[done : done + count], want=count)], 1)[0].copy())
        done += count
    assert np.abs(np.concatenate(got) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_norms_with_equal_weights_are_fused_too(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """The exporter shares weights that are equal, as in a model that was never trained; the shape is still found."""
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoints["qwen3"], dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.ones_(parameter)
    equal = tmp_path / "equal"
    equal.mkdir()
    for file in checkpoints["qwen3"].iterdir():
        (equal / file.name).write_bytes(file.read_bytes())
    model.save_pretrained(equal)
    assert export(equal, tmp_path / "out").manifest.kv.layout == "shared"


@pytest.mark.parametrize("precision", MOST_DIFFERENCE)
def test_every_precision_is_smaller_and_says_what_it_lost(
    precision: Precision, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """The manifest holds the measured difference, and the engine runs the bundle with logits that differ by no more."""
    exact, rounded = export(checkpoints["qwen3"], tmp_path / "a"), None
    rounded = export(checkpoints["qwen3"], tmp_path / "b", precision=precision)
    (graph,) = rounded.manifest.graphs
    assert graph.precision == precision
    assert graph.difference <= MOST_DIFFERENCE[precision]
    logits = []
    for bundle in (exact, rounded):
        engine = open_bundle(bundle.path, threads=1).engine
        logits.append(engine.run([Row(engine.open(), list(range(3, 40)), want=37)], 1)[0])
    assert np.abs(logits[1] - logits[0]).max() <= 3 * max(graph.difference, 1e-6) * np.abs(logits[0]).max()
    if precision != "fp32":
        sizes = [bundle.manifest.files["model.onnx"].size for bundle in (exact, rounded)]
        assert sizes[1] < 0.7 * sizes[0]


def test_a_shorter_context_is_a_smaller_cache(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """``max_context`` bounds sequences; more than the model knows, or next to none, is refused by its value."""
    bundle = export(checkpoints["llama"], tmp_path / "short", max_context=64)
    engine = open_bundle(bundle.path, threads=1).engine
    seq = engine.open()
    engine.run([Row(seq, [5] * 64)], 1)
    with pytest.raises(ValueError, match="1 tokens behind 64 do not fit 64"):
        engine.run([Row(seq, [5])], 1)
    for asked in (257, 3):
        with pytest.raises(ExportError, match=f"max_context is {asked}: this model takes 64 to 256 tokens"):
            export(checkpoints["llama"], tmp_path / "bad", max_context=asked)
    assert [path.name for path in tmp_path.iterdir()] == ["short"]


def test_a_shipped_prefix_is_not_prefilled(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A bundle exported with a prefix has it ready for the first request, which answers as it would without."""
    text = "the robot sees a wall and thinks left right stop go yes no"
    (tmp_path / "prefix.txt").write_text(text, encoding="utf-8")
    answers = []
    for name, options in (("plain", []), ("shipped", ["--prefix", str(tmp_path / "prefix.txt")])):
        result = CliRunner().invoke(app, ["export", str(checkpoints["llama"]), str(tmp_path / name), *options])
        assert result.exit_code == 0, result.output
        with Reasoner.load(tmp_path / name) as reasoner:
            answers.append(reasoner.answer(f"{text} 1 2 3", budget=20.0))
    shipped = Bundle.load(tmp_path / "shipped").manifest.prefix
    assert shipped is not None
    assert len(shipped.tokens) >= 15
    assert (answers[0].tokens.cached, answers[1].tokens.cached) == (0, len(shipped.tokens))
    assert answers[0].thought[:200] == answers[1].thought[:200]


def test_a_prefix_that_cannot_be_one_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Too long for the context, or empty: the message says so, and nothing stays behind."""
    for text, why in (("wall " * 200, "the model's context 64"), (" ", "the prompt is empty")):
        file = tmp_path / "prefix.txt"
        file.write_text(text, encoding="utf-8")
        options = ["--prefix", str(file), "--max-context", "64"]
        result = CliRunner().invoke(app, ["export", str(checkpoints["llama"]), str(tmp_path / "out"), *options])
        assert result.exit_code == 2
        assert why in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["prefix.txt"]


def test_what_fuses_to_other_numbers_is_exported_unfused(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fused graph whose logits differ is not used: slower, never wrong, and the warning says what is lost."""
    from anytime.export import fuse

    fused = fuse._fuse_layer

    def wrong(graph: Any, index: int, layer: Any, positions: Any) -> None:
        fused(graph, index, fuse.Layer(layer.heads, layer.kv_heads, layer.rotary, 4), positions)

    monkeypatch.setattr(fuse, "_fuse_layer", wrong)
    bundle = export(checkpoints["llama"], tmp_path / "out")
    assert bundle.manifest.kv.layout == "growing"
    assert bundle.manifest.graphs[0].difference <= 1e-4
    assert "steps will take several times as long" in caplog.text


def test_an_unsupported_architecture_is_named(tmp_path: Path) -> None:
    """A model without attention, and one that is no decoder, are refused by name, with nothing half-written."""
    from tests.checkpoints import save_tokenizer

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "state_size": 4, "vocab_size": 400}
    mamba = tmp_path / "mamba"
    mamba.mkdir()
    save_tokenizer(mamba)
    transformers.MambaForCausalLM(transformers.MambaConfig(**shape)).save_pretrained(mamba)
    with pytest.raises(ExportError, match=r"(?i)mamba"):
        export(mamba, tmp_path / "out")
    bert = tmp_path / "bert"
    bert.mkdir()
    save_tokenizer(bert)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.BertForMaskedLM(transformers.BertConfig(**small)).save_pretrained(bert)
    with pytest.raises(ExportError, match=r"BertForMaskedLM.*not a decoder-only language model"):
        export(bert, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert", "mamba"]


def test_truncated_weights_are_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A weight file that ends early is named with the remedy."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in checkpoints["llama"].iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[:-1000] if file.suffix == ".safetensors" else content)
    with pytest.raises(ExportError, match=r"model\.safetensors cannot be read.*copy the checkpoint again"):
        export(broken, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_a_hub_name_without_a_network_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no directory here is looked for on the hub, and the message says both."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ExportError, match=r"nobody/nothing is no directory here, and the hub does not give it"):
        export(Path("nobody/nothing"), tmp_path / "out")


def test_a_precision_that_is_none_is_refused(tmp_path: Path) -> None:
    """The command line lists what there is."""
    result = CliRunner().invoke(app, ["export", "a", str(tmp_path / "out"), "--precision", "int3"])
    assert result.exit_code == 2
    assert "int4" in result.stderr


def test_a_precision_this_machine_cannot_run_is_refused(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle for other hardware names what it holds and what a CPU runs."""
    import msgspec

    from anytime.bundle import Graph
    from anytime.runtime.ort.native import graph_for

    bundle = export(checkpoints["llama"], tmp_path / "out")
    graphs = (Graph("model.onnx", "fp8", 24, "tensorrt>=10.3", 0.0),)
    foreign = Bundle(bundle.path, bundle.id, msgspec.structs.replace(bundle.manifest, graphs=graphs))
    with pytest.raises(BundleError, match=r"holds weights in fp8, and a CPU runs fp32, fp16, int8, int4.*--precision"):
        graph_for(foreign, "1.31.1")
    with pytest.raises(BundleError, match=r"needs onnxruntime>=1\.23; this is onnxruntime 1\.22\.0: upgrade it"):
        graph_for(bundle, "1.22.0")


def test_a_cache_that_does_not_fit_is_refused_before_it_is_taken(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not enough free memory: the message has both numbers and the remedy."""
    bundle = export(checkpoints["llama"], tmp_path / "out")
    monkeypatch.setattr("anytime.runtime.ort.engine.available_bytes", lambda: 100_000)
    with pytest.raises(EngineError, match=r"the cache needs \d+ MiB for 8 sequences of 256 tokens.*--max-context"):
        open_bundle(bundle.path, threads=1)


def test_a_large_cache_holds_fewer_sequences() -> None:
    """Eight rows where they fit a sixteenth of the memory, never fewer than a profile takes to measure."""
    from anytime.runtime.ort.engine import cache_rows

    assert cache_rows(2**20, 2**30) == 8
    assert cache_rows(2**24, 2**30) == 4
    assert cache_rows(2**29, 2**30) == 3
