"""The two runs of `greenprune prune` as their records tell of them: the unpruned network trained alike, and the pruned one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenprune.bench.errors import UserError
from greenprune.bench.records.inference import Inference
from greenprune.bench.records.joint import JOINT_FILE, read_joint
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import MODEL_FILE, RECORD_FILE, Record


@dataclass(frozen=True)
class Both:
    """Records of both, and their inference side by side.

    Attributes:
        folder: of the suite.
        inference: of the pruned network against dense, by batch size.
    """

    folder: Path
    dense: Record
    pruned: Record
    inference: tuple[Inference, ...]

    @property
    def pruned_folder(self) -> Path:
        return self.folder / self.pruned.key

    def size_bytes(self, record: Record) -> int:
        """Of the stored tensors."""
        return (self.folder / record.key / MODEL_FILE).stat().st_size

    def about(self) -> dict[str, Any]:
        """What the metadata of the delivered tensors say of the network, as plain data."""
        cost, score = self.pruned.cost, self.pruned.score
        assert cost is not None
        return {
            "network": self.pruned.settings["model"],
            "method": self.pruned.method_name,
            "task": self.pruned.task,
            "budget": {"cost": cost.kind, "keep": cost.budget},
            "kept_macs": cost.kept_macs,
            "kept_parameters": cost.kept_params,
            "score": None if score is None else score.model_dump(),
            "test_score": self.pruned.test_score,
            "test_score_unpruned": self.dense.test_score,
            "test_images": self.pruned.settings["images"]["test"],
        }

    @classmethod
    def read(cls, folder: Path, label: str) -> Both:
        """From the folder of the suite, in which both runs are finished. Raises UserError."""
        records = [read_record(path) for path in sorted(folder.glob(f"*/{RECORD_FILE}"))]
        dense = next((r for r in records if r.method_name == "dense" and r.status == "done"), None)
        pruned = next((r for r in records if r.method == label and r.status == "done"), None)
        if dense is None or pruned is None:
            raise UserError(f"{folder}: lacks the record of a finished run")
        joint = read_joint(folder, JOINT_FILE)
        measured = next((n.inference for n in joint.networks if n.key == pruned.key), ()) if joint is not None else ()
        return cls(folder, dense, pruned, measured or pruned.inference)
