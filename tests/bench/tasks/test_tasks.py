"""Losses, scores and what each task takes, against figures worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from greenprune.bench.errors import UserError
from greenprune.bench.tasks import catalogue
from greenprune.bench.tasks.catalogue import TASKS, make_task
from greenprune.bench.tasks.meter import Meter
from greenprune.bench.tasks.options import TaskCard
from torch import Tensor

from tests.bench.tasks.cases import CPU, OUTPUTS, dataset

IMAGES = torch.zeros(4, 3, 6, 6)
NAMES = tuple(OUTPUTS)
HERE = "tests.bench.tasks.networks_for_tasks"


def scores(name: str, outputs: Tensor, targets: Tensor, **options: object) -> dict[str, float]:
    meter = make_task(name, options).meter(outputs.shape[1], CPU)
    for o, t in zip(outputs.split(2), targets.split(2), strict=True):  # batch by batch is as good as at once
        meter.update(o, t)
    return meter.scores()


def test_accuracy_counts_the_first_and_the_first_five() -> None:
    outputs = torch.arange(10.0).repeat(4, 1)  # 9 first, then 8, 7, 6, 5
    found = scores("classification", outputs, torch.tensor([9, 5, 4, 9]))
    assert found == {"accuracy": 0.5, "top-5 accuracy": 0.75}


def test_of_mixed_targets_the_largest_share_counts() -> None:
    outputs, targets = torch.eye(3)[[0, 1]], torch.tensor([[0.7, 0.3, 0.0], [0.6, 0.4, 0.0]])
    assert scores("classification", outputs, targets) == {"accuracy": 0.5}
    loss = make_task("classification").loss(outputs, targets, 0.0)
    assert float(loss) == pytest.approx(float(-(targets * outputs.log_softmax(1)).sum(1).mean()))


def test_mean_average_precision_is_over_labels_that_occur() -> None:
    outputs = torch.tensor([[3.0, 0.0, 1.0], [2.0, 0.0, 2.0], [1.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    first = (1 / 1 + 2 / 3) / 2  # its positives are at ranks 1 and 3
    last = 1 / 2  # at rank 2; of the label in the middle there is none
    assert scores("multilabel", outputs, targets)["mAP"] == pytest.approx((first + last) / 2)
    assert math.isnan(scores("multilabel", outputs, torch.zeros(4, 3))["mAP"])


def test_intersection_over_union_leaves_out_ignored_pixels_and_absent_classes() -> None:
    wanted = torch.tensor([[0, 0, 1, 255]]).repeat(4, 1).view(4, 1, 4)
    said = torch.tensor([[0, 1, 1, 2]]).repeat(4, 1).view(4, 1, 4)
    outputs = F.one_hot(said, 4).permute(0, 3, 1, 2).float()
    found = scores("segmentation", outputs, wanted)
    assert found["mIoU"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert found["pixel accuracy"] == pytest.approx(2 / 3)
    other = scores("segmentation", outputs, wanted.where(wanted != 255, 3), ignore_index=3)
    assert other == found


def test_a_batch_of_ignored_pixels_has_no_loss() -> None:
    task, outputs = make_task("segmentation"), torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = task.loss(outputs, torch.full((2, 4, 4), 255), 0.0)
    loss.backward()
    assert loss.item() == 0.0
    assert not outputs.grad.any()


def test_the_second_output_has_its_weight() -> None:
    torch.manual_seed(0)
    raw, targets = {"out": torch.randn(2, 3, 4, 4), "aux": torch.randn(2, 3, 4, 4)}, torch.randint(0, 3, (2, 4, 4))
    task = make_task("segmentation", {"auxiliary_weight": 0.25})
    expected = F.cross_entropy(raw["out"], targets) + 0.25 * F.cross_entropy(raw["aux"], targets)
    assert float(task.whole_loss(raw, targets, 0.0)) == pytest.approx(float(expected))
    assert task.outputs(raw) is raw["out"]


def test_the_root_is_taken_of_the_mean_over_everything() -> None:
    outputs, targets = torch.tensor([[1.0], [1.0], [4.0], [1.0]]), torch.ones(4, 1)
    found = scores("regression", outputs, targets, unit="m")
    assert found == pytest.approx({"RMSE": 1.5, "mean absolute error": 0.75})
    score = make_task("regression", {"unit": "m"}).score
    assert (score.label, score.higher_is_better) == ("RMSE, m", False)


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_network_has_the_best_score_and_a_lower_loss(name: str) -> None:
    task, data = make_task(name), dataset(name)
    targets = data.test.targets
    match name:
        case "classification":
            perfect = 20 * F.one_hot(targets, 10).float()
        case "multilabel":
            perfect = 20 * (targets - 0.5)
        case "segmentation":
            perfect = 20 * F.one_hot(targets, 3).permute(0, 3, 1, 2).float()
        case _:
            perfect = targets
    best = task.meter(data.classes, CPU)
    best.update(perfect, targets)
    assert best.main() == pytest.approx(1.0 if task.score.higher_is_better else 0.0)
    worse = perfect.roll(1, 0)
    assert task.loss(perfect, targets, 0.0) < task.loss(worse, targets, 0.0)
    assert task.imitation(perfect, perfect, 2.0) < task.imitation(worse, perfect, 2.0)
    other = task.meter(data.classes, CPU)
    other.update(worse, targets)
    assert task.score.better(best.main(), other.main())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_meter_goes_on_where_another_stopped(name: str, training: bool) -> None:
    torch.manual_seed(0)
    data, task = dataset(name), make_task(name)
    shape = (8, data.classes, 16, 16) if name == "segmentation" else (8, data.classes)
    outputs = [torch.randn(shape) for _ in range(4)]

    def seen(meter: Meter, parts: range) -> Meter:
        for i in parts:
            meter.update(outputs[i], data.train.targets[8 * i : 8 * i + 8])
        return meter

    whole = seen(task.meter(data.classes, CPU, training=training), range(4))
    state = seen(task.meter(data.classes, CPU, training=training), range(2)).state()
    again = task.meter(data.classes, CPU, training=training)
    again.restore(state)
    assert seen(again, range(2, 4)).scores() == whole.scores()
    again.reset()
    assert seen(again, range(4)).scores() == whole.scores()


def wrong() -> Iterator[tuple[str, Tensor, str]]:
    yield "classification", torch.zeros(4), "of the shape (4,) and type float32; allowed are class indices (4,)"
    yield "classification", torch.tensor([0, 1, 2, 10]), "lie from 0 to 10; allowed are class indices from 0 to 9"
    yield "classification", torch.zeros(4, 6, 6, dtype=torch.long), "of the shape (4, 6, 6) and type int64"
    yield "multilabel", torch.zeros(4, dtype=torch.long), "allowed are zeros and ones of the shape (4, 4)"
    yield "multilabel", torch.full((4, 4), 2.0), "lie from 2 to 2; allowed are zeros and ones"
    yield "segmentation", torch.zeros(4, dtype=torch.long), "allowed are masks of the shape (4, 6, 6) and type int64"
    yield "segmentation", torch.full((4, 6, 6), 3), "lie from 3 to 3; allowed are class indices from 0 to 2"
    yield "regression", torch.zeros(4, 2, dtype=torch.long), "allowed are numbers of the shape (4, 2) and type float32"
    yield "regression", torch.full((4, 2), math.inf), "hold numbers that are not finite"


@pytest.mark.parametrize(("name", "targets", "said"), list(wrong()))
def test_targets_of_another_task_are_refused(name: str, targets: Tensor, said: str) -> None:
    found = make_task(name).wrong_targets(targets, IMAGES, OUTPUTS[name])
    assert found is not None
    assert said in found


@pytest.mark.parametrize("name", NAMES)
def test_its_own_targets_and_outputs_are_taken(name: str) -> None:
    task, data = make_task(name), dataset(name)
    assert task.wrong_targets(data.test.targets, data.test.images, data.classes) is None
    shape = (16, data.classes, 16, 16) if name == "segmentation" else (16, data.classes)
    assert task.wrong_outputs(torch.zeros(shape), data.test.images, data.classes) is None
    assert "are of the shape (16, 5)" in str(task.wrong_outputs(torch.zeros(16, 5), data.test.images, data.classes))


# The catalogue


def test_a_card_says_what_its_class_says() -> None:
    for name, card in TASKS.items():
        kind = catalogue._class_of(card.reference)
        assert card == TaskCard(name, f"{kind.__module__}:{kind.__qualname__}", kind.Options)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "segmentaton",
            {},
            'task = "segmentaton" is unknown (did you mean "segmentation"?); allowed: classification, ',
        ),
        (f"{HERE}:Peak", {}, f'module "{HERE}" has no "Peak" (did you mean "Peaks"?)'),
        ("no_such_module_at_all:Task", {}, 'there is no module "no_such_module_at_all"'),
        (f"{HERE}:Lacking", {}, "is not a subclass of greenprune.bench.tasks.task.Task; it lacks loss, meter, "),
        (f"{HERE}:number", {}, "is not a subclass of greenprune.bench.tasks.task.Task"),
        (f"{HERE}:Without", {}, "its scores are ()"),
        (f"{HERE}:Unmade", {}, "making it failed with ValueError: no such thing"),
        ("segmentation", {"ignored": 3}, "task segmentation: options.ignored: "),
        ("distillation", {}, "task distillation: options.teacher: "),
        ("distillation", {"teacher": "results/x", "of": "regresion"}, 'did you mean "regression"?'),
    ],
)
def test_what_is_no_task_is_refused_in_a_sentence(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as refusal:
        make_task(name, options)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_task_of_ones_own_has_options_and_a_score_of_its_own() -> None:
    task = make_task(f"{HERE}:Peaks", {"power": 1.0})
    assert task.score.label == "peak, dB"
    assert float(task.loss(torch.full((2, 1), 3.0), torch.zeros(2, 1), 0.0)) == 3.0
