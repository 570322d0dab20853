"""Every runtime computes what eager PyTorch computes; nothing here depends on how long anything takes."""

from __future__ import annotations

import pytest
import torch
from greenprune.bench.errors import UserError
from greenprune.bench.export.program import relative_difference
from greenprune.bench.runtimes.catalogue import described, find, made
from greenprune.bench.runtimes.names import RUNTIMES
from greenprune.bench.runtimes.runtime import Runtime, Session
from torch import nn

TOLERANCE = 1e-3


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


class Doubled(Runtime):
    """Of a third party; wrong on purpose."""

    name = "doubled"

    def describe(self):
        return {"doubled": "1"}

    def prepare(self, network, example, *, threads, calibration=()):
        class Twice(Session):
            def run(self, batch):
                with torch.no_grad():
                    return 2 * network(batch)

        return Twice()


class Numbered(Doubled):
    def describe(self):
        return {"threads": 4}


class NoFour(Doubled):
    """Computes the same, and runs any number of images but four."""

    def prepare(self, network, example, *, threads, calibration=()):
        class Same(Session):
            def run(self, batch):
                if len(batch) == 4:
                    raise RuntimeError("no four")
                with torch.no_grad():
                    return network(batch)

        return Same()


class Incomplete(Runtime):
    def describe(self):
        return {}


class Unmade(Doubled):
    def __init__(self):
        raise ZeroDivisionError("no device\nat all")


class Lost(Doubled):
    def lacks(self):
        raise SystemExit(3)


class Unsaid(Doubled):
    def describe(self):
        return None


def usable(name: str) -> Runtime:
    runtime = made(name)
    if wrong := runtime.lacks():
        pytest.skip(wrong)
    return runtime


@pytest.mark.parametrize("name", list(RUNTIMES))
def test_a_runtime_computes_what_eager_computes_at_every_batch_size(name: str) -> None:
    network, images = small().train(), torch.randn(4, 3, 8, 8)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    session = usable(name).prepare(network, images[:2], threads=1)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        expected = network.eval()(images)
    for count in (1, 4):
        assert relative_difference(session.run(images[:count]), expected[:count]) < TOLERANCE
    network[-1].weight.data.zero_()  # the session has weights of its own
    assert relative_difference(session.run(images), expected) < TOLERANCE
    assert torch.__version__.startswith(usable(name).describe()["torch"].partition("+")[0])


@pytest.mark.parametrize("name", list(RUNTIMES))
def test_of_a_network_that_returns_a_dict_its_logits_are_compared(name: str) -> None:
    """As segmentation networks of torchvision do, and those of transformers."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"aux": x, "out": self.layer(x)}

    network, x = Named().eval(), torch.randn(2, 4)
    session = usable(name).prepare(network, x, threads=1)
    with torch.no_grad():
        assert relative_difference(session.run(x), network(x)["out"]) < TOLERANCE


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_with_8_bit_integers_results_are_near_and_not_the_same(name: str) -> None:
    network, images = small().eval(), torch.randn(16, 3, 8, 8)
    runtime = usable(name)
    assert runtime.quantises
    session = runtime.prepare(network, images[:2], threads=1, calibration=[images[:8], images[8:]])
    with torch.no_grad():
        difference = relative_difference(session.run(images), network(images))
    assert TOLERANCE < difference < 0.2


def test_a_runtime_of_a_third_party_is_named_by_its_class() -> None:
    session = find(f"{__name__}:Doubled").prepare(small().eval(), torch.zeros(1, 3, 8, 8), threads=1)
    assert session.run(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("onnxruntme", r'runtime "onnxruntme": is unknown; allowed: .*module:Class \(did you mean "onnxruntime"\?\)'),
        ("nowhere:Runtime", r'runtime = "nowhere:Runtime": there is no module "nowhere"'),
        (f"{__name__}:small", "is no subclass of"),
        (f"{__name__}:Incomplete", '^runtime "[^ ]+:Incomplete": lacks the method prepare$'),
        (f"{__name__}:Unmade", r'^runtime "[^ ]+": Unmade\(\) failed with ZeroDivisionError: no device$'),
        (f"{__name__}:Lost", r'^runtime "[^ ]+": lacks\(\) failed with SystemExit: 3$'),
        (f"{__name__}:Unsaid", r'^runtime "[^ ]+": describe\(\) failed with AttributeError: [^\n]+$'),
    ],
)
def test_what_is_no_runtime_is_told(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find(name)


def test_what_a_runtime_says_of_itself_is_taken_as_text() -> None:
    name = f"{__name__}:Numbered"
    assert described(name, find(name)) == {"threads": "4"}


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"runtime openvino: openvino, onnx, onnxscript are not installed; .*runtimes"):
        find("openvino")
