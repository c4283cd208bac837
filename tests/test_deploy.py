"""``anytime deploy``: what is in the directory, which wheels belong into it, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

import anytime
from anytime.bundle import MANIFEST, Bundle
from anytime.cli.main import app
from anytime.deploy import Plan, deploy, wheels
from anytime.deploy.wheels import Device, gather, required_by, resolve
from anytime.errors import BundleError, DeployError, ParameterError, UsageError
from anytime.signature import verify
from anytime.targets import load_targets, target_named
from tests.deploying import HERE, PYTHON, TAG, pretended_wheels, write_wheel
from tests.test_signature import make_key

ORIN = Device("3.10", "aarch64")
TARGET = {"x86_64": "generic-x86", "aarch64": "generic-arm64"}[HERE]


def resolved(device: Device, folder: Path, *wanted: str) -> tuple[list[str], list[str]]:
    found, missing = resolve([Requirement(text) for text in wanted], device, sorted(folder.glob("*.whl")))
    return [path.name for path in found], [str(one) for one in missing]


@pytest.fixture
def offered(tmp_path: Path) -> Path:
    """Wheels of a pretended anytime for this Python."""
    return pretended_wheels(tmp_path / "wheels", "one")


@pytest.fixture
def plan(offered: Path) -> Plan:
    return Plan(bundle=None, target=TARGET, python=PYTHON, wheels=offered)


# -- the directory


def test_the_directory_has_what_the_device_needs(plan: Plan, tmp_path: Path) -> None:
    """Bundle, wheels, unit, scripts, parameters and a question; every file is in SHA256SUMS and has its checksum."""
    made = deploy(plan, tmp_path / "out")
    files = {str(path.relative_to(made.path)) for path in made.path.rglob("*") if path.is_file()}
    bundle = {f"bundle/{name}" for name in (MANIFEST, *Bundle.reference().manifest.files)}
    tag = f"{TAG}-{TAG}-linux_{HERE}"
    wheels = {f"wheels/anytime-{anytime.__version__}-{tag}.whl", "wheels/pip-1.0-py3-none-any.whl"}
    scripts = {"install.sh", "uninstall.sh", "anytime.service", "anytime.yaml", "question.json", "deploy.env"}
    assert files == bundle | wheels | scripts | {"SHA256SUMS"}
    assert Bundle.load(made.path / "bundle").id == Bundle.reference().id == made.bundle_id
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=made.path, capture_output=True, check=True)
    assert len(done.stdout.splitlines()) == len(files) - 1
    assert {path.name for path in made.path.glob("*.sh") if path.stat().st_mode & 0o111} == {
        "install.sh",
        "uninstall.sh",
    }


def test_the_same_input_makes_the_same_directory(plan: Plan, tmp_path: Path) -> None:
    """No date and no chance in it: its version on the device is one and the same."""
    one, other = deploy(plan, tmp_path / "one").path, deploy(plan, tmp_path / "other").path
    assert (one / "SHA256SUMS").read_bytes() == (other / "SHA256SUMS").read_bytes()


def test_only_what_the_manifest_lists_goes_along(plan: Plan, bundle: Bundle, tmp_path: Path) -> None:
    """Nothing that happens to lie in the bundle's directory."""
    (bundle.path / "notes.txt").write_text("mine")
    made = deploy(Plan(bundle=bundle.path, target=TARGET, python=PYTHON, wheels=plan.wheels), tmp_path / "out")
    assert {path.name for path in (made.path / "bundle").iterdir()} == {MANIFEST, *bundle.manifest.files}


def test_tensorrt_is_for_devices_that_have_it_and_bundles_with_its_graph(bundle: Bundle, tmp_path: Path) -> None:
    """Both, or ONNX Runtime."""
    from anytime.bundle import Graph
    from anytime.deploy.directory import _engine
    from tests.conftest import manifest, write_bundle

    device, plain = target_named("orin-nano-super"), target_named("raspberry-pi-5")
    graphs = (*manifest().graphs, Graph("model.onnx", "fp16", 20, "tensorrt>=10.3", 0.0))
    both = write_bundle(tmp_path / "both", graphs=graphs)
    assert _engine(device, both) == "tensorrt"
    assert (_engine(device, bundle), _engine(plain, both)) == ("onnxruntime", "onnxruntime")


@pytest.mark.parametrize("engine", ["tensorrt", "cuda", "tensorrt-rtx"])
def test_an_engine_that_cannot_be_there_is_refused(plan: Plan, tmp_path: Path, engine: str) -> None:
    """Parameters that ask for a GPU, where the target has no GPU and the bundle no graph for it."""
    params = tmp_path / "robot.yaml"
    params.write_text("/**: {ros__parameters: {engine: " + engine + "}}")
    own = Plan(bundle=None, target=TARGET, python=PYTHON, wheels=plan.wheels, params=params)
    with pytest.raises(DeployError, match=rf"asks for the engine {engine}, .*has onnxruntime"):
        deploy(own, tmp_path / "own")


def test_the_question_is_the_node_s_own(plan: Plan, tmp_path: Path) -> None:
    """A scene by default, with the actions that answer it; else the warm-up question of the parameters."""
    question = json.loads((deploy(plan, tmp_path / "out").path / "question.json").read_text())
    assert question["text"].startswith("lane 2 of 4")
    assert "SLOWER" in question["choices"]
    params = tmp_path / "robot.yaml"
    params.write_text("/**: {ros__parameters: {warm_up_question: 'left or right?', choices: [left, right]}}")
    own = deploy(Plan(bundle=None, target=TARGET, python=PYTHON, wheels=plan.wheels, params=params), tmp_path / "own")
    assert json.loads((own.path / "question.json").read_text()) == {"text": "left or right?"}
    assert (own.path / "anytime.yaml").read_text() == params.read_text()


def test_the_default_parameters_are_the_node_s(plan: Plan, tmp_path: Path) -> None:
    """A process of its own for the engine, so that the service outlives it; the budget stands there to be changed."""
    given = yaml.safe_load((deploy(plan, tmp_path / "out").path / "anytime.yaml").read_text())
    expected = {"isolated": True, "budget_s": 0.2, "fallback": "", "engine": "onnxruntime"}
    assert given == {"/**": {"ros__parameters": expected}}


def test_bundle_and_checksums_are_signed(plan: Plan, tmp_path: Path) -> None:
    """By the key, until the day; the bundle's signature is in SHA256SUMS like every file."""
    key = make_key(tmp_path / "operator")
    signing = Plan(bundle=None, target=TARGET, python=PYTHON, wheels=plan.wheels, key=key, expires="2999-12-31")
    made = deploy(signing, tmp_path / "out")
    verify(made.path / "SHA256SUMS", tmp_path / "operator.pub")
    assert Bundle.load(made.path / "bundle", tmp_path / "operator.pub").id == made.bundle_id
    assert f"bundle/{MANIFEST}.signed.sig" in (made.path / "SHA256SUMS").read_text()
    assert "2999-12-31" in (made.path / "SHA256SUMS.signed").read_text()


def bad(plan: Plan, **changes: Any) -> Plan:
    fields = {"bundle": None, "target": TARGET, "python": PYTHON, "wheels": plan.wheels, **changes}
    return Plan(**fields)


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"target": "orin"}, UsageError, "no target is named 'orin': .*orin-nano-super"),
        ({"bundle": Path("/nowhere")}, BundleError, "no bundle at /nowhere"),
        ({"wheels": Path("/nowhere")}, DeployError, "no directory /nowhere"),
        ({"params": Path("/nowhere")}, ParameterError, "/nowhere cannot be read"),
        ({"key": Path("/nowhere")}, UsageError, "--key and --expires belong together"),
        ({"expires": "2027-01-01"}, UsageError, "--key and --expires belong together"),
        ({"key": Path("/nowhere"), "expires": "soon"}, UsageError, "give a day like"),
        ({"key": Path("/nowhere"), "expires": "2027-01-01"}, BundleError, "could not be signed with /nowhere"),
        ({"python": "3"}, UsageError, "'3'.*like 3.10"),
        ({"python": "3.9"}, UsageError, "'3.9'.*from 3.10 to 3.13"),
        ({"target": "orin-nano-super", "python": None}, DeployError, "has no wheel of anytime.*Python 3.10 on aarch64"),
    ],
)
def test_what_cannot_be_deployed_leaves_nothing(
    plan: Plan, tmp_path: Path, changes: dict[str, Any], error: type[Exception], why: str
) -> None:
    """The message says what is wrong and what to do; there is no directory, not even half of one."""
    before = set(tmp_path.iterdir())
    with pytest.raises(error, match=why):
        deploy(bad(plan, **changes), tmp_path / "out")
    assert set(tmp_path.iterdir()) == before


def test_an_existing_directory_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    """Whatever is in it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(BundleError, match="already exists"):
        deploy(plan, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_every_target_can_be_deployed_to(offered: Path) -> None:
    """Its engine is one whose extra is known, and its Python, where it says one, one that there are wheels for."""
    from anytime.deploy.directory import _EXTRAS

    for target in load_targets():
        assert target.engine in _EXTRAS, target.name
        assert {"3.10", "3.11", "3.12", "3.13"} >= set(target.python), target.name


# -- the command


def test_the_command_writes_it(offered: Path, tmp_path: Path) -> None:
    """It prints where, what, and what to do next."""
    args = ["deploy", "--target", TARGET, "--python", PYTHON, "--out", str(tmp_path / "out"), "--wheels", str(offered)]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    assert "2 wheels" in done.stdout
    assert "sudo out/install.sh" in done.stdout
    assert (tmp_path / "out/SHA256SUMS").is_file()


@pytest.mark.parametrize("args", [["--target", TARGET], ["--out", "somewhere"], []])
def test_target_and_out_are_needed(args: list[str]) -> None:
    """Without them it is wrong use."""
    done = CliRunner().invoke(app, ["deploy", *args])
    assert done.exit_code == 2
    assert "--target and --out are needed" in done.stderr


# -- wheels


def test_the_closure_is_that_of_the_device(tmp_path: Path) -> None:
    """Markers are evaluated for the device, whatever this is; extras bring what they require, others do not."""
    requires = (
        "plain>=1",
        "old; python_version < '3.11'",
        "new; python_version >= '3.11'",
        "arm; platform_machine == 'aarch64'",
        "intel; platform_machine == 'x86_64'",
        "runtime; extra == 'cpu'",
        "trainer; extra == 'export'",
    )
    write_wheel(tmp_path, "anytime", "0.1", requires=requires)
    for name in ("plain", "old", "new", "arm", "intel", "runtime", "trainer"):
        write_wheel(tmp_path, name)
    names = {path.split("-")[0] for path in resolved(ORIN, tmp_path, "anytime[cpu]")[0]}
    assert names == {"anytime", "plain", "old", "arm", "runtime"}
    names = {path.split("-")[0] for path in resolved(Device("3.12", "x86_64"), tmp_path, "anytime")[0]}
    assert names == {"anytime", "plain", "new", "intel"}


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("py3-none-any", True),
        ("cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64", True),
        ("cp310-cp310-manylinux_2_35_aarch64", True),
        ("cp39-abi3-manylinux_2_28_aarch64", True),
        ("cp310-cp310-linux_aarch64", True),
        ("cp310-cp310-manylinux_2_36_aarch64", False),
        ("cp311-cp311-manylinux_2_17_aarch64", False),
        ("cp311-abi3-manylinux_2_17_aarch64", False),
        ("cp310-cp310-manylinux_2_17_x86_64", False),
        ("cp310-cp310-musllinux_1_2_aarch64", False),
        ("cp310-cp310-macosx_11_0_arm64", False),
    ],
)
def test_a_wheel_must_fit_the_device(tmp_path: Path, tag: str, fits: bool) -> None:
    """Its Python, its architecture, and a C library no newer than JetPack 6's."""
    write_wheel(tmp_path, "kernel", tag=tag)
    found, missing = resolved(ORIN, tmp_path, "kernel")
    assert (len(found), missing) == ((1, []) if fits else (0, ["kernel"]))


def test_the_newest_that_all_agree_on_is_taken(tmp_path: Path) -> None:
    """A later requirement narrows an earlier choice; what nothing satisfies is missing with all that is asked of it."""
    for version in ("1.9", "1.26.4", "2.1"):
        write_wheel(tmp_path, "numpy", version)
    write_wheel(tmp_path, "picky", requires=("numpy<2",))
    write_wheel(tmp_path, "pickier", requires=("numpy>3",))
    assert resolved(ORIN, tmp_path, "numpy")[0] == ["numpy-2.1-py3-none-any.whl"]
    assert resolved(ORIN, tmp_path, "numpy>=1", "picky")[0][0] == "numpy-1.26.4-py3-none-any.whl"
    assert resolved(ORIN, tmp_path, "picky", "pickier")[1] == ["numpy<2,>3"]


def test_requirements_in_a_circle_end(tmp_path: Path) -> None:
    """Two wheels that require each other, one with an extra of the other."""
    write_wheel(tmp_path, "a", requires=("b[cpu]",))
    write_wheel(tmp_path, "b", requires=("a", "c; extra == 'cpu'"))
    write_wheel(tmp_path, "c")
    assert len(resolved(ORIN, tmp_path, "a")[0]) == 3


def test_what_is_missing_is_downloaded_for_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip is asked for the device's wheels, without what they require, as often as that brings something."""
    given, scratch, calls = tmp_path / "given", tmp_path / "scratch", []
    write_wheel(given, "anytime", "0.1", requires=("first",))
    scratch.mkdir()

    def pip(command: list[str], **options: Any) -> Any:
        calls.append(command)
        for name in ("first", "second"):
            if name in command:
                write_wheel(scratch, name, requires=("second; python_version < '3.11'",) if name == "first" else ())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(wheels, "subprocess", SimpleNamespace(run=pip))
    found = gather(["anytime"], ORIN, given, scratch)
    assert [path.name.split("-")[0] for path in found] == ["anytime", "first", "second"]
    assert len(calls) == 2
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--python-version=3.10", "--platform=manylinux_2_28_aarch64"} <= {
        *calls[0]
    }
    assert calls[0][-1] == "first"


@pytest.mark.parametrize("returncode", [0, 1])
def test_what_no_index_has_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returncode: int
) -> None:
    """With the device that it is missing for, and how to get it; also where pip claims to have it."""
    write_wheel(tmp_path, "anytime", "0.1", requires=("llguidance>=1.3",))
    said = "WARNING: x\nERROR: No matching distribution found for llguidance>=1.3\n"
    failing = SimpleNamespace(run=lambda *_, **__: SimpleNamespace(returncode=returncode, stderr=said))
    monkeypatch.setattr(wheels, "subprocess", failing)
    with pytest.raises(DeployError) as raised:
        gather(["anytime"], ORIN, tmp_path, tmp_path)
    assert "no wheel of llguidance>=1.3 for Python 3.10 on aarch64" in str(raised.value)
    assert ("No matching distribution" if returncode else "the index has none") in str(raised.value)
    assert "--wheels" in str(raised.value)


def test_anytime_itself_is_never_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an index has under this name is not known to be ours: its wheel is asked for."""
    monkeypatch.setattr(wheels, "subprocess", SimpleNamespace(run=lambda *_, **__: pytest.fail("pip was called")))
    with pytest.raises(
        DeployError, match=r"anytime\[cpu\]==0\.1 for Python 3\.10 on aarch64: build it on such a device"
    ):
        gather(["anytime[cpu]==0.1"], ORIN, tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["broken-1.0-py3-none-any.whl", "no_name.whl"])
def test_what_is_no_wheel_is_named(tmp_path: Path, name: str) -> None:
    """A download that was cut off, or another file with that ending."""
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(DeployError, match=name):
        resolved(ORIN, tmp_path, "broken")


def test_requirements_are_read_from_the_wheel(tmp_path: Path) -> None:
    """As its own metadata has them, not that of wheels in it; what is none is an error that names the wheel."""
    bringing = {"fine/_vendor/other-1.0.dist-info/METADATA": "Requires-Dist: other"}
    assert required_by(write_wheel(tmp_path / "vendor", "fine", requires=("a",), files=bringing)) == ["a"]
    assert required_by(write_wheel(tmp_path, "fine", requires=("a>=1", "b; extra == 'x'"))) == [
        "a>=1",
        "b; extra == 'x'",
    ]
    with pytest.raises(DeployError, match=r"odd-1\.0"):
        required_by(write_wheel(tmp_path, "odd", requires=("???",)))
