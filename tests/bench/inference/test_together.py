"""All networks of a suite measured together: what is measured and stored."""

from __future__ import annotations

import json
from pathlib import Path

import greenprune.bench.inference.pair
import pytest
import torch
from greenprune.bench.cli.main import main
from greenprune.bench.errors import UserError
from greenprune.bench.inference import rounds
from greenprune.bench.inference import together as joint_measure
from greenprune.bench.inference.together import measure
from greenprune.bench.records.joint import JOINT_FILE, Joint, joint_files, read_joint
from greenprune.bench.records.record import MODEL_FILE
from greenprune.bench.run.side_by_side import is_due
from greenprune.bench.runtimes.eager import Eager

from tests.bench.inference.joint import SETTINGS, WIDTHS, add, job, silent
from tests.bench.runtimes.test_runtimes import Doubled, NoFour


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


NARROW, DOUBLED, NO_FOUR = (f"{runtime.__module__}:{runtime.__name__}" for runtime in (Narrow, Doubled, NoFour))
SERVING = {**SETTINGS, "measurement": {**SETTINGS["measurement"], "runtimes": ["eager", NARROW]}}  # type: ignore[dict-item]


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


def test_a_batch_size_that_a_runtime_does_not_run_costs_its_own_figures_alone(suite: Path) -> None:
    (found,) = measure(job(suite, batch_sizes=(1, 4, 2), seconds=0.02, runtimes=(NO_FOUR,)), silent)
    assert found.complete
    for network in found.networks:
        (entry,) = network.served
        assert [i.batch_size for i in entry.inference] == [1, 2]
        assert [i.batch_size for i in network.inference] == [1, 4, 2]
        assert "at batch size 4" in entry.problem
        assert entry.problem.count("RuntimeError: no four") == 1


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
