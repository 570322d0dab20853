"""All networks of a suite measured together: what is measured and stored, and what is left out and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import greenprune.bench.inference.pair
import pytest
import torch
from greenprune.bench.cli.main import main
from greenprune.bench.data.content import file_hash
from greenprune.bench.errors import UserError
from greenprune.bench.inference import candidates, rounds
from greenprune.bench.inference import together as joint_measure
from greenprune.bench.inference.job import JointJob
from greenprune.bench.inference.together import measure
from greenprune.bench.records.folder import locked
from greenprune.bench.records.joint import JOINT_FILE, Joint, joint_files, read_joint
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import MODEL_FILE, write_record
from greenprune.bench.records.store import save_model
from greenprune.bench.run.side_by_side import is_due
from greenprune.bench.runtimes.eager import Eager
from greenprune.methods import count_macs
from torch import nn

from tests.bench.runtimes.test_runtimes import Doubled
from tests.plots.records import record

FACTORY = """
from torch import nn

def net(classes, width=32):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )
"""
SETTINGS = {
    "dataset": "digits",
    "model": "joint_networks:net",
    "device": "cpu",
    "training": {"precision": "float32", "channels_last": True},
    "measurement": {"inference_batch_sizes": [1, 4], "inference_seconds": 0.05},
}


class Narrow(Eager):
    """Takes the dense network where it is asked for it as the reference, and networks of few channels."""

    name = "narrow"
    taken = 0

    def describe(self) -> dict[str, str]:
        return {"narrow": "1"}

    def prepare(self, network, example, **options):  # type: ignore[no-untyped-def]
        self.taken += 1
        if self.taken > 1 and network[0].out_channels > 8:
            raise UserError("takes narrow networks alone")
        return super().prepare(network, example, **options)


NARROW, DOUBLED = (f"{runtime.__module__}:{runtime.__name__}" for runtime in (Narrow, Doubled))
WIDTHS = {"dense-1-s0": 32, "gated-0.5-s0": 4, "magnitude-0.5-s0": 20}


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A suite's results folder with three runs and their networks."""
    (tmp_path / "joint_networks.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(greenprune.bench.inference.pair, "CPU_BLOCK_S", 0.01)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    folder = tmp_path / "results" / "mine"
    for key, width in WIDTHS.items():
        add(folder, key, width)
    yield folder
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def add(folder: Path, key: str, width: int, **changes: object) -> None:
    """A finished run and its network."""
    import joint_networks  # type: ignore[import-not-found]

    *_, method, budget, seed = key.split("-")
    model: nn.Module = joint_networks.net(10, width)
    made = record(method, budget=float(budget), seed=int(seed[1:]), suite="mine", settings=SETTINGS)
    assert made.cost is not None
    assert made.ledger is not None
    macs = count_macs(model, torch.zeros(2, 3, 32, 32))
    dense = macs if method == "dense" else max(macs, made.cost.macs_dense)
    cost = made.cost.model_copy(update={"macs": macs, "macs_dense": dense})
    entries = tuple(e.model_copy(update={"forward_macs": e.samples * macs}) for e in made.ledger.entries)
    ledger = made.ledger.model_copy(update={"entries": entries})
    machine = {**made.machine, "threads": 1}
    (folder / key).mkdir(parents=True, exist_ok=True)
    stored = save_model(model, folder / key, name=SETTINGS["model"], classes=10, input_shape=(3, 32, 32))
    own = {"key": key, "cost": cost, "ledger": ledger, "machine": machine, "files": {stored.name: file_hash(stored)}}
    write_record(made.model_copy(update=own | changes), folder / key)


def job(folder: Path, **options: object) -> JointJob:
    return JointJob.model_validate(
        {"folder": str(folder), "command": "greenprune measure results/mine", "trust": True, **options}
    )


def silent(line: str) -> None:
    """Says nothing."""


def test_every_network_is_measured_beside_dense_at_every_batch_size(suite: Path) -> None:
    lines: list[str] = []
    (found,) = measure(job(suite, seconds=0.2), lines.append)
    assert read_joint(suite) == found
    assert (found.complete, found.reference, found.batch_sizes) == (True, "dense-1-s0", (1, 4))
    assert [network.key for network in found.networks] == sorted(WIDTHS)
    assert found.left_out == found.failed == ()
    assert found.threads == 1
    assert torch.__version__.startswith(found.versions["torch"])
    assert len(lines) == 2  # one for each batch size
    for network in found.networks:
        assert [i.batch_size for i in network.inference] == [1, 4]
        for i in network.inference:
            assert i.blocks >= 20  # 0.2 s of 0.01 s
            assert i.latency_ratio_low <= i.latency_ratio <= i.latency_ratio_high
            assert i.latency.p05_ms <= i.latency.median_ms <= i.latency.p95_ms <= (i.latency.p99_ms or 0)
            assert (i.latency.throughput_images_per_s or 0) > 0
            kind, energy_ratio = next(iter(i.energy_ratio.items()))
            assert energy_ratio[1] <= energy_ratio[0] <= energy_ratio[2]
            assert i.energy_j_per_1000_images[kind][0] == pytest.approx(
                1000 * (i.energy.energy_j(kind) or 0) / i.images
            )
    small = found.network("gated-0.5-s0")
    assert small is not None
    assert small.inference[1].latency_ratio_high < 1  # 4 of 32 channels
    blocks = {i.blocks for network in found.networks for i in network.inference if i.batch_size == 4}
    dense_images = {i.dense_images for network in found.networks for i in network.inference if i.batch_size == 4}
    assert len(blocks) == len(dense_images) == 1  # all beside the same blocks of dense


def test_each_round_holds_a_block_of_every_network_in_an_order_that_changes(suite: Path, monkeypatch) -> None:
    order: list[int] = []
    measure_block = greenprune.bench.inference.pair._measure_block

    def noted(call, calls, meter, name):  # type: ignore[no-untyped-def]
        order.append(id(call))
        return measure_block(call, calls, meter, name)

    monkeypatch.setattr(greenprune.bench.inference.pair, "_measure_block", noted)
    monkeypatch.setattr(rounds, "RATIO_CI", 1e9)  # no round more than asked for
    measure(job(suite, batch_sizes=(4,), seconds=0.08), silent)
    seen = [order[i : i + 4] for i in range(0, len(order), 4)]
    assert len(seen) == 8
    assert len({frozenset(round_) for round_ in seen}) == 1
    assert len({tuple(round_) for round_ in seen}) > 3


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def other_width(path: Path) -> None:
    """A network that is not the one of the record."""
    import joint_networks

    save_model(joint_networks.net(10, 6), path.parent, name=str(SETTINGS["model"]), classes=10, input_shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (Path.unlink, "there is no stored network"),
        (truncate, "is not the file that was stored"),
        (lambda path: path.write_bytes(b"x" * 2000), "is not the file that was stored"),
        (other_width, "is not the file that was stored"),
    ],
)
def test_a_network_that_cannot_be_loaded_is_left_out_and_named(
    suite: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(suite / "gated-0.5-s0" / MODEL_FILE)
    (found,) = measure(job(suite), silent)
    (entry,) = found.left_out
    assert entry.key == "gated-0.5-s0"
    assert reason in entry.reason
    assert "\n" not in entry.reason
    assert [network.key for network in found.networks] == ["dense-1-s0", "magnitude-0.5-s0"]
    assert all(len(network.inference) == 2 for network in found.networks)


def test_a_record_that_cannot_be_read_and_one_of_another_network_are_left_out(suite: Path) -> None:
    (suite / "gated-0.5-s0" / "record.json").write_text("{")
    add(suite, "slimming-0.5-s0", 8, settings={**SETTINGS, "model": "resnet20"})
    (found,) = measure(job(suite), silent)
    reasons = {entry.key: entry.reason for entry in found.left_out}
    assert "JSON is broken" in reasons["gated-0.5-s0"]
    assert "its model is resnet20, of which there is no dense network" in reasons["slimming-0.5-s0"]
    assert len(found.networks) == 2


def other_macs(path: Path) -> None:
    """A network of fewer MACs than its record says, stored as the record's own."""
    other_width(path)
    stored = read_record(path.parent / "record.json")
    write_record(stored.model_copy(update={"files": {path.name: file_hash(path)}}), path.parent)


@pytest.mark.parametrize("spoil", [Path.unlink, other_width, other_macs])
def test_another_dense_seed_stands_in_where_the_first_has_no_network_of_its_own(
    suite: Path, spoil: Callable[[Path], object]
) -> None:
    add(suite, "dense-1-s1", 32)
    spoil(suite / "dense-1-s0" / MODEL_FILE)
    (found,) = measure(job(suite, batch_sizes=(4,)), silent)
    assert found.reference == "dense-1-s1"


def no_dense_network(folder: Path) -> None:
    (folder / "dense-1-s0" / MODEL_FILE).unlink()


def no_dense_run(folder: Path) -> None:
    (folder / "dense-1-s0" / "record.json").unlink()


def no_runs(folder: Path) -> None:
    for path in folder.glob("*/record.json"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_dense_network, "there is no dense network to compare with"),
        (no_dense_run, "no dense run is finished"),
        (no_runs, "holds no finished run"),
    ],
)
def test_without_anything_to_compare_it_is_one_sentence_and_exit_code_2(
    suite: Path, capsys, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(suite)
    assert joint_measure.main([job(suite).model_dump_json()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"greenprune: {suite}: ")
    assert sentence in line
    assert not (suite / JOINT_FILE).exists()


def test_a_seed_that_is_not_there_and_a_folder_in_use_are_refused(suite: Path) -> None:
    with pytest.raises(UserError, match=r"--seeds 7: .* allowed: 0"):
        measure(job(suite, seeds=(7,)), silent)
    with locked(suite), pytest.raises(UserError, match="another greenprune"):
        measure(job(suite), silent)
    with pytest.raises(UserError, match="no such results folder"):
        measure(job(suite / "nowhere"), silent)


class OneByOne(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):  # type: ignore[no-untyped-def]
        if len(x) > 2:
            raise RuntimeError("too many images")
        return self.inner(x)


def few_images_for(method: str, patch: pytest.MonkeyPatch) -> None:
    """Networks of `method` run with one or two images alone."""
    load_model = candidates.load_model

    def loaded(folder: Path, **options: object) -> nn.Module:
        model = load_model(folder, **options)
        return OneByOne(model) if folder.name.startswith(method) else model

    patch.setattr(candidates, "load_model", loaded)


def test_a_dense_network_that_does_not_run_and_a_batch_that_cannot_be_made_are_one_sentence(
    suite: Path, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        few_images_for("dense", patch)
        with pytest.raises(UserError, match=r"the dense network does not run at batch size 4 \(RuntimeError: too many"):
            measure(job(suite), silent)

    def no_memory(*arguments: object) -> None:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(rounds, "batch_of", no_memory)
    with pytest.raises(UserError, match=r"there is no batch of 4 images \(RuntimeError: can't allocate memory\)"):
        measure(job(suite, batch_sizes=(4,)), silent)


def test_a_network_that_does_not_run_is_named_and_the_others_are_measured(suite: Path, monkeypatch) -> None:
    few_images_for("gated", monkeypatch)
    (found,) = measure(job(suite), silent)
    (entry,) = found.failed
    assert entry.key == "gated-0.5-s0"
    assert "does not run at batch size 4 (RuntimeError: too many images)" in entry.reason
    assert {network.key: len(network.inference) for network in found.networks} == {
        "dense-1-s0": 2, "gated-0.5-s0": 1, "magnitude-0.5-s0": 2
    }  # fmt: skip


SERVING = {**SETTINGS, "measurement": {**SETTINGS["measurement"], "runtimes": ["eager", NARROW]}}  # type: ignore[dict-item]


def test_every_network_is_measured_in_each_runtime_of_the_suite(suite: Path) -> None:
    """Those that a runtime takes; a runtime that computes something else is told, and nothing else is lost."""
    add(suite, "dense-1-s0", 32, settings=SERVING)
    (found,) = measure(job(suite, batch_sizes=(4,)), silent)
    assert (found.complete, found.runtimes) == (True, (NARROW,))
    served = {network.key: network.served for network in found.networks}
    refused = served.pop("dense-1-s0"), served.pop("magnitude-0.5-s0")
    (entry,) = served.pop("gated-0.5-s0")
    assert (entry.runtime, entry.precision, entry.problem, entry.threads) == (NARROW, "float32", None, 1)
    assert entry.versions == {"narrow": "1"}
    assert entry.difference == 0.0
    assert [i.batch_size for i in entry.inference] == [4]
    assert entry.inference[0].latency_ratio > 0
    assert [e.problem for (e,) in refused] == ["takes narrow networks alone", "takes narrow networks alone"]
    lines: list[str] = []
    (doubled,) = measure(job(suite, batch_sizes=(4,), runtimes=(DOUBLED,)), lines.append)
    assert doubled.complete
    (wrong,) = {network.served[0].problem for network in doubled.networks}
    assert "the dense network: its results differ from those of eager PyTorch" in wrong
    assert wrong in lines
    assert all(len(network.inference) == 1 for network in doubled.networks)


def test_a_runtime_that_only_the_records_name_is_not_imported_without_trust(suite: Path, monkeypatch) -> None:
    monkeypatch.setattr(rounds, "find", lambda name: pytest.fail("imported"))
    add(suite, "dense-1-s0", 32, settings=SERVING)
    (found,) = measure(job(suite, batch_sizes=(4,), trust=("joint_networks:net",)), silent)
    assert "allow that it is imported with --trust" in str(found.networks[0].served[0].problem)
    with pytest.raises(UserError, match='runtime "onnxrt": is unknown; allowed: eager, compile'):
        measure(job(suite, runtimes=("onnxrt",)), silent)


def test_what_was_measured_before_an_interruption_is_kept_and_never_in_the_place_of_a_whole(
    suite: Path, monkeypatch
) -> None:
    repeat_rounds, calls = rounds.repeat_rounds, []

    def interrupted(*arguments, **options):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return repeat_rounds(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "repeat_rounds", interrupted)
        assert joint_measure.main([job(suite).model_dump_json()]) == 130
    part = read_joint(suite)
    assert part is not None
    assert not part.complete
    assert {i.batch_size for network in part.networks for i in network.inference} == {1}
    (whole,) = measure(job(suite), silent)
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "repeat_rounds", interrupted)
        assert joint_measure.main([job(suite).model_dump_json()]) == 130
    assert read_joint(suite) == whole


def test_it_is_due_while_a_network_is_newer_than_the_measurement(suite: Path) -> None:
    assert is_due(suite)
    measure(job(suite, batch_sizes=(4,)), silent)
    assert not is_due(suite)
    add(suite, "gated-0.5-s0", 4, finished_at="2999-01-01T00:00:00+00:00")
    assert is_due(suite)
    for path in suite.glob(f"*/{MODEL_FILE}"):
        path.unlink()
    assert not is_due(suite)  # nothing to measure


def test_the_command_measures_in_a_process_of_its_own_and_rebuilds_the_report(suite: Path, capfd) -> None:
    arguments = ["--trust", "--threads", "1", "--seconds", "0.02", "--batch-sizes", "4", "4", "--seeds", "0"]
    assert main(["measure", str(suite), *arguments]) == 0
    out = capfd.readouterr().out
    for part in (*WIDTHS, "batch 4", "time ×", "img/s", f"wrote {suite / JOINT_FILE}"):
        assert part in out
    found = read_joint(suite)
    assert isinstance(found, Joint)
    assert (found.batch_sizes, found.seconds) == ((4,), 0.02)
    assert "in one process (inference.json)" in (suite / "table.md").read_text()
    assert "Inference of all 3 networks was measured in one process" in (suite / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "allowed is a whole number from 1 to"),
        (["--batch-sizes", "1", "many"], "many: allowed is a whole number from 1 to"),
        (["--seconds", "nan"], "allowed is a number of seconds above 0, at most 3600"),
        (["--threads", "99999"], "--threads 99999: more than this machine's cores; allowed: 1 to"),
    ],
)
def test_bad_options(suite: Path, capsys, arguments: list[str], message: str) -> None:
    try:
        code = main(["measure", str(suite), *arguments])
    except SystemExit as e:
        code = e.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_file_of_another_schema_is_refused(suite: Path) -> None:
    measure(job(suite, batch_sizes=(4,)), silent)
    stored = json.loads((suite / JOINT_FILE).read_text())
    for change, message in (
        ({"schema_version": 99}, "newer than this greenprune"),
        ({"surprise": 1}, "surprise"),
        ({"left_out": [{"key": "dense-1-s0", "reason": ""}]}, "a run is there twice"),
    ):
        (suite / JOINT_FILE).write_text(json.dumps({**stored, **change}))
        with pytest.raises(UserError, match=message):
            read_joint(suite)


def test_networks_of_two_data_sets_or_models_are_measured_apart(suite: Path, monkeypatch) -> None:
    """Each beside its own dense network, in a file of its own; a file from when there was one of them goes."""
    measure(job(suite, batch_sizes=(4,)), silent)
    other = {**SETTINGS, "model": "other_networks:net"}
    for key, width in (("other-dense-1-s0", 8), ("other-gated-0.5-s0", 4)):
        add(suite, key, width, settings=other)
    lines: list[str] = []
    first, second = measure(job(suite, batch_sizes=(4,)), lines.append)
    assert (first.reference, second.reference) == ("dense-1-s0", "other-dense-1-s0")
    assert [network.key for network in second.networks] == ["other-dense-1-s0", "other-gated-0.5-s0"]
    names = ["inference-digits-joint_networks-net.json", "inference-digits-other_networks-net.json"]
    assert [path.name for path in joint_files(suite)] == names
    assert [read_joint(suite, name) for name in names] == [first, second]
    assert not is_due(suite)
