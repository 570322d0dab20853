"""What the processes below this one used, from looks at /proc: also of those that nobody waited for.

A process that ends hands its CPU time, and that of the children it waited for, to the parent that waits for it. Where
the parent ignores SIGCHLD nobody does, and the time is gone; what of it was seen at the last look is kept here.
"""

from __future__ import annotations

from collections.abc import Mapping

from greenprune.bench.energy.usage.processes import TICK_S, Key, ProcessUsage

Tree = Mapping[Key, ProcessUsage]


def lost_s(before: Tree, now: Tree, root: int, reaped_before_s: float, reaped_now_s: float) -> float:
    """CPU time in s of processes that ended between two looks and that no parent has taken over.

    Args:
        root: the process id that orphans go to, and that waits for them; it is in no tree itself.
        reaped_before_s, reaped_now_s: what `root` had got from the children it waited for.

    A parent gets more than it is owed from children that were born and ended between the looks; only what orphans
    brought to `root` instead is set against what others lack. Two clock ticks for each parent pass as rounding.
    """
    living = {key[0] for key in now}
    gone = [member for key, member in before.items() if key not in now]
    children: dict[int, list[ProcessUsage]] = {}
    for member in gone:
        children.setdefault(member.parent, []).append(member)

    def owed_s(member: ProcessUsage) -> float:
        return member.cpu_s + sum(owed_s(child) for child in children.get(member.pid, ()))

    by_pid = {member.pid: member for member in now.values()}
    before_by_pid = {member.pid: member for member in before.values()}
    missing_s = 0.0
    for parent, ended in children.items():
        if parent == root or parent not in living:  # what went up with a parent that has ended is in what that one owes
            continue
        got_s = by_pid[parent].children_s - before_by_pid[parent].children_s if parent in before_by_pid else 0.0
        short_s = sum(owed_s(child) for child in ended) - got_s
        missing_s += short_s if short_s > 2 * TICK_S else 0.0
    root_short_s = sum(owed_s(child) for child in children.get(root, ())) - (reaped_now_s - reaped_before_s)
    if root_short_s > 2 * TICK_S:
        return missing_s + root_short_s
    return max(0.0, missing_s - max(0.0, -root_short_s))
