"""Every task is trained to the end, dense and gated."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from greenprune.bench.data.data import Dataset
from greenprune.bench.errors import UserError
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.tasks.fitting import refuse_data, refuse_network
from greenprune.bench.training.evaluation import evaluate, outputs_on
from greenprune.methods import count_macs, registry

from tests.bench.tasks.cases import CPU, OUTPUTS, Alone, dataset, network, plain, trained
from tests.bench.tasks.test_tasks import HERE

IMAGES = torch.zeros(2, 3, 16, 16)


@pytest.mark.parametrize("method", ["dense", "gated"])
@pytest.mark.parametrize("name", tuple(OUTPUTS))
def test_every_task_ends_with_a_network_and_its_scores(name: str, method: str) -> None:
    task = make_task(name)
    done, data = trained(task, name, method)
    share = count_macs(done.model, IMAGES) / count_macs(network(name), IMAGES)
    assert share == 1.0 if method == "dense" else 0.35 < share <= 0.6
    found = outputs_on(done.model, data.test, data, CPU, task)
    assert found.problem is None
    assert set(found.scores) <= {score.name for score in task.scores}
    assert found.score == next(iter(found.scores.values()))
    assert done.epochs[-1].holdout_score == evaluate(done.model, data.holdout, data, CPU, task)
    assert all(entry.train_score is not None and math.isfinite(entry.loss) for entry in done.epochs)


@pytest.mark.parametrize("method", sorted(registry().keys() - {"dense", "gated", "shallow"}))
def test_every_method_ends_with_a_class_for_each_pixel(method: str) -> None:
    """But for `shallow`, which needs blocks that can be left out."""
    start = Alone(network("segmentation")) if method == "dynamic" else None  # which takes networks of one output alone
    task = make_task("segmentation")
    done, data = trained(task, "segmentation", method, epochs=5, start=start)
    assert outputs_on(done.model, data.test, data, CPU, task).problem is None


def test_the_loss_of_the_task_is_what_is_trained() -> None:
    done, data = trained(make_task("regression"), "regression", "dense", epochs=8)
    assert done.epochs[-1].loss < 0.5 * done.epochs[0].loss
    assert evaluate(done.model, data.train, data, CPU, make_task("regression")) < evaluate(
        network("regression"), data.train, data, CPU, make_task("regression")
    )


@pytest.mark.parametrize("of", ["classification", "segmentation"])
def test_a_teacher_is_imitated_and_charged(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if of == "segmentation":
        monkeypatch.setattr("tests.bench.tasks.networks_for_tasks.teacher", lambda outputs: network("segmentation"))
    options = {"teacher": f"{HERE}:teacher", "of": of, "weight": 1.0}
    task = make_task("distillation", options)
    done, data = trained(task, of, "gated")
    assert outputs_on(done.model, data.test, data, CPU, task).problem is None
    plainly, _ = trained(make_task(of), of, "dense")
    dense, _ = trained(make_task("distillation", options), of, "dense")
    extra = dense.ledger.stored().forward_macs - plainly.ledger.stored().forward_macs
    assert extra == 3 * 4 * 8 * task.extra_macs(IMAGES) > 0
    assert task.content() != make_task("classification").content()


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    task = make_task("distillation", {"teacher": str(tmp_path)})
    with pytest.raises(
        UserError, match=r"teacher = .*there is no stored network.*allowed are the folder of a finished run"
    ):
        task.begin(CPU, 10, (3, 16, 16))


def test_a_teacher_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenprune.bench.tasks.distillation.models.build", lambda *_, **__: plain(7))
    task = make_task("distillation", {"teacher": f"{HERE}:teacher"})
    with pytest.raises(UserError, match=r"outputs of the shape \(8, 7\), and the network \(8, 10\)"):
        trained(task, "classification", "dense")


def test_a_score_that_is_no_number_is_said() -> None:
    task, data = make_task(f"{HERE}:Nowhere"), dataset("regression")
    found = outputs_on(network("regression"), data.test, data, CPU, task)
    assert (found.score, found.problem) == (None, "its RMSE on 16 images is not a finite number")
    done, _ = trained(task, "regression", "dense")
    assert [entry.holdout_score for entry in done.epochs] == [None] * 3


@pytest.mark.parametrize("ignored", [0, -1])
def test_crops_add_pixels_that_the_task_ignores(ignored: int) -> None:
    task = make_task("segmentation", {"ignore_index": ignored})
    done, _ = trained(task, "segmentation", "dense", epochs=1, augment=("crop-flip",))
    assert math.isfinite(done.epochs[-1].loss)


def test_a_task_with_a_teacher_ignores_what_its_task_does() -> None:
    options = {"teacher": f"{HERE}:teacher", "of": "segmentation", "of_options": {"ignore_index": -7}}
    assert make_task("distillation", options).void == -7


# What does not go together


def test_targets_of_another_task_are_refused_before_anything_is_spent() -> None:
    with pytest.raises(
        UserError, match=r'^task "segmentation" on noise: the targets of its train part are of the shape'
    ):
        refuse_data("segmentation", make_task("segmentation"), "noise", dataset("classification"), 0.0)


def test_a_task_without_labels_refuses_to_smooth_them() -> None:
    with pytest.raises(
        UserError, match=r'^training.label_smoothing = 0.1: task "regression" has no labels; allowed: 0$'
    ):
        refuse_data("regression", make_task("regression"), "noise", dataset("regression"), 0.1)
    refuse_data("regression", make_task("regression"), "noise", dataset("regression"), 0.0)


def test_a_network_of_another_task_is_refused() -> None:
    data: Dataset = dataset("segmentation")
    with pytest.raises(UserError, match=r'^task "segmentation" with plain: its outputs are of the shape \(2, 3\)'):
        refuse_network("segmentation", make_task("segmentation"), "plain", plain(3), IMAGES, data.classes)
    refuse_network("segmentation", make_task("segmentation"), "own", network("segmentation"), IMAGES, data.classes)
