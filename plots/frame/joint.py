"""Which inference figures count: those of all networks measured together, where they are, else each record's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from greenprune.bench.errors import UserError
from greenprune.bench.records.inference import Inference, Served
from greenprune.bench.records.joint import JOINT_FILE, Joint, MeasuredNetwork, impossible_joint, joint_files, read_joint
from greenprune.bench.records.record import Record
from greenprune.bench.text import listed
from greenprune.plots.frame.problems import Problem
from greenprune.plots.frame.views import Found, view_of

Place = tuple[Path, str, str]
"""A suite's folder, a data set and a network."""


@dataclass(frozen=True)
class Chosen:
    """The inference figures of one run.

    Attributes:
        figures: one for each batch size, and whether it comes from the measurement of all networks together.
        joint: that measurement, None where none of the figures is from it.
        served: an entry for each other runtime and precision.
    """

    figures: tuple[tuple[Inference, bool], ...]
    joint: Joint | None
    served: tuple[Served, ...] = ()


def choose(done: Sequence[Found]) -> tuple[list[Chosen], list[Problem]]:
    """For each record in its order which figures to show, and what the reader has to know about that.

    Figures of the two kinds are never mixed within a method and budget: the joint measurement counts where it has all
    its runs at all batch sizes that were asked for; where it was interrupted, at the batch sizes that it has.
    """
    joints, problems = _joints(done)
    places = [(place.parent, *record.pair) for _, record, place in done]
    measured = [_network(record, joints.get(where)) for (_, record, _), where in zip(done, places, strict=True)]
    groups: dict[tuple[Place, str, float, bool, str], list[int]] = {}
    for i, (_, record, _) in enumerate(done):
        groups.setdefault((places[i], record.method, record.budget, bool(record.valid), view_of(record)), []).append(i)
    chosen = [Chosen(tuple((own, False) for own in record.inference), None, record.served) for _, record, _ in done]
    apart: dict[Path, list[str]] = {}
    for (where, *_), members in groups.items():
        joint = joints.get(where)
        sizes = [{i.batch_size for i in network.inference} if (network := measured[m]) else set() for m in members]
        common = set.intersection(*sizes)
        if joint is None:
            continue
        if not common:
            apart.setdefault(where[0], []).append(done[members[0]][1].method)
        for m in members:
            network = measured[m]
            if network is None or not common:
                continue
            whole = joint.complete and common == set(joint.batch_sizes)
            figures = {} if whole else {own.batch_size: (own, False) for own in done[m][1].inference}
            figures |= {i.batch_size: (i, True) for i in network.inference if i.batch_size in common}
            own = done[m][1].served
            served = _served(own, network, [measured[other] for other in members], joint)
            chosen[m] = Chosen(tuple(figures[size] for size in sorted(figures)), joint, served)
    for folder, methods in apart.items():
        what = f"it lacks networks of {listed(sorted(set(methods)))}, or they were trained again since"
        remedy = "their inference figures are those of their own runs; measure again with greenprune measure"
        problems.append(Problem("inference", str(folder / JOINT_FILE), what, remedy))
    return chosen, problems


def _served(
    own: Sequence[Served], network: MeasuredNetwork, members: Sequence[MeasuredNetwork | None], joint: Joint
) -> tuple[Served, ...]:
    """The entries of one run: in each runtime that of `joint` where it has all runs at all batch sizes, else its own."""
    found = {(entry.runtime, entry.precision): entry for entry in own}
    for entry in network.served:
        beside = [e for m in members if m is not None for e in m.served if e.runtime == entry.runtime]
        sizes = [{i.batch_size for i in e.inference} for e in beside]
        if len(beside) == len(members) and all(s == set(joint.batch_sizes) for s in sizes):
            found[entry.runtime, entry.precision] = entry
        else:
            found.setdefault((entry.runtime, entry.precision), entry)
    return tuple(found.values())


def sentence(joint: Joint, machine: str) -> str:
    """How it was measured, for the reader."""
    sizes = listed([f"{size}" for size in joint.batch_sizes])
    where = f", in {listed(['eager PyTorch', *joint.runtimes])}" if joint.runtimes else ""
    return (
        f"Inference of {_all(len(joint.networks))} was measured in one process, in rounds of one block of each in "
        f"random order (seed {joint.order_seed}), at batch {sizes}{where}, on {machine}, {joint.finished_at[:10]}; × is "
        f"relative to the network of {joint.reference}."
    )


def _all(networks: int) -> str:
    return "one network" if networks == 1 else f"all {networks} networks"


def _joints(done: Sequence[Found]) -> tuple[dict[Place, Joint], list[Problem]]:
    """The joint measurements of each suite's folder."""
    joints: dict[Place, Joint] = {}
    problems = []
    folders = dict.fromkeys(place.parent for _, _, place in done)
    for path in (path for folder in folders for path in joint_files(folder)):
        folder = path.parent
        try:
            joint = read_joint(folder, path.name)
        except UserError as e:
            what = str(e).removeprefix(f"{path}: ")
            problems.append(Problem("unreadable", str(path), what, "inference figures are those of each run instead"))
            continue
        if joint is None:
            continue
        if wrong := next(impossible_joint(joint), None):
            remedy = "no measurement gives it; inference figures are those of each run instead"
            problems.append(Problem("unreadable", str(path), wrong, remedy))
            continue
        joints[folder, joint.dataset, joint.model] = joint
        if not joint.complete:
            what = "it was interrupted, so that batch sizes or runtimes are missing"
            problems.append(Problem("warning", str(path), what, "measure again with greenprune measure"))
        for entry in (*joint.left_out, *joint.failed):
            remedy = "its inference figures are those of its own run"
            problems.append(Problem("inference", f"{joint.suite}/{entry.key}", entry.reason, remedy))
        for warning in joint.warnings:
            remedy = "ratios are taken within rounds and stand; treat absolute figures with care"
            problems.append(Problem("warning", str(path), warning, remedy))
    return joints, problems


def _network(record: Record, joint: Joint | None) -> MeasuredNetwork | None:
    """The measurement of this record's network, unless the run was repeated since."""
    found = joint.network(record.key) if joint else None
    return found if found is not None and found.finished_at == record.finished_at else None
