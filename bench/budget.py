"""The ledger: what a run may spend on training, and what each phase of its method spent."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench import record


class OverdrawnError(RuntimeError):
    """A method asked for more training samples than the allowance that all methods share."""


@dataclass
class _Account:
    samples: int = 0
    forward_macs: int = 0
    duration_s: float = 0.0


class Ledger:
    """Charges every optimizer step of every phase to one allowance.

    Args:
        allowance_samples: training samples (images seen, repeats counted) that the whole run may use.
    """

    def __init__(self, allowance_samples: int) -> None:
        self.allowance_samples = allowance_samples
        self._accounts: dict[str, _Account] = {}
        self._last_s = time.perf_counter()

    def resume_clock(self) -> None:
        """Time until now belongs to no phase (validation, for example)."""
        self._last_s = time.perf_counter()

    def charge(self, phase: str, *, samples: int, forward_macs: int) -> None:
        """Book one step: its samples, the multiply-accumulates its forward pass executed, and the time since the last.

        Raises:
            OverdrawnError: the allowance does not cover the samples.
        """
        if self.samples + samples > self.allowance_samples:
            raise OverdrawnError(
                f"phase {phase!r} asks for {samples} samples after {self.samples} of {self.allowance_samples}: "
                "every method must stay within the same allowance"
            )
        account = self._accounts.setdefault(phase, _Account())
        now_s = time.perf_counter()
        account.samples += samples
        account.forward_macs += forward_macs
        account.duration_s += now_s - self._last_s
        self._last_s = now_s

    @property
    def samples(self) -> int:
        return sum(a.samples for a in self._accounts.values())

    def stored(self) -> record.Ledger:
        return record.Ledger(
            allowance_samples=self.allowance_samples,
            entries=tuple(
                record.LedgerEntry(
                    phase=name, samples=a.samples, forward_macs=a.forward_macs, duration_s=round(a.duration_s, 3)
                )
                for name, a in self._accounts.items()
            ),
        )
