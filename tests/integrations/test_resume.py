"""What callbacks restore from a checkpoint, when, and in which process; frameworks are stood in for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integrations.conftest import Known


def lightning_trainer(global_rank: int = 0, local_rank: int = 0) -> Any:
    return SimpleNamespace(global_rank=global_rank, local_rank=local_rank, loggers=[], global_step=0, strategy=None)


def joules(callback: Any) -> dict[str, float]:
    return {phase: account.energy_j["measured"][0] for phase, account in callback.totals.items()}


@pytest.mark.parametrize(
    ("stage", "global_rank", "local_rank", "expected"),
    [("fit", 0, 0, 2.0), ("test", 0, 0, 5.0), ("validate", 0, 0, 5.0), ("predict", 0, 0, 5.0), ("fit", 4, 0, 5.0)],
)
def test_lightning_goes_on_from_a_checkpoint_only_to_train_and_on_the_first_node(
    stage: str, global_rank: int, local_rank: int, expected: float, integration, meter, known: Known
) -> None:
    energy = integration("lightning").LightningEnergyCallback(meter)
    trainer = lightning_trainer(global_rank, local_rank)
    module: Any = None
    energy.setup(trainer, module, "fit")
    trainer.train_dataloader = None
    energy.on_train_start(trainer, module)
    known.use(2.0)
    checkpoint = energy.state_dict()
    known.use(3.0)
    energy.on_train_end(trainer, module)
    energy.setup(trainer, module, stage)
    energy.load_state_dict(checkpoint)
    assert joules(energy) == {"train": expected}


def test_a_process_that_does_not_report_has_nothing_after_a_resume(integration, meter, known: Known) -> None:
    energy = integration("lightning").LightningEnergyCallback(meter)
    energy.setup(lightning_trainer(0, 0), None, "fit")
    energy.on_sanity_check_start(None, None)
    checkpoint = energy.state_dict()
    other = integration("lightning").LightningEnergyCallback(meter)
    other.setup(lightning_trainer(1, 1), None, "fit")
    other.load_state_dict(checkpoint)
    assert other.totals == {}


def test_nodes_that_share_a_folder_go_on_from_their_own_joules(
    integration, meter, known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    module = integration("transformers")
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    state = SimpleNamespace(global_step=3)

    def made(node: int) -> tuple[Any, Any]:
        arguments = SimpleNamespace(
            local_process_index=0, process_index=4 * node, world_size=8, n_gpu=0, output_dir=str(tmp_path)
        )
        trainer = SimpleNamespace(args=arguments, train=lambda checkpoint: None, training_step=len, evaluation_loop=len)
        trainer.log = dict
        return module.TransformersEnergyCallback(trainer, meter), trainer

    for node, used_j in enumerate((2.0, 7.0)):
        energy, trainer = made(node)
        energy.on_train_begin(trainer.args, state, None)
        known.use(used_j)
        energy.on_save(trainer.args, state, None)
        energy.on_train_end(trainer.args, state, None)
    assert sorted(path.name for path in folder.iterdir()) == ["greenprune_energy-0.json", "greenprune_energy-1.json"]
    for node, used_j in enumerate((2.0, 7.0)):
        energy, trainer = made(node)
        trainer.train(str(folder))
        assert joules(energy) == {"train": used_j}
