"""Progress of unlearning: consecutive passes over examples as one monotonic count."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.pulse import Pulse
from analysis.skills.unrelated import PROBES
from analysis.unlearning.results import FitSettings
from analysis.unlearning.scenes import Method, Scene

FORMS = 2
"""Number of other forms of a forget skill, each in base and changed."""


def count_examples(scene: Scene, plan: FitSettings, methods: Sequence[Method]) -> int:
    """About how many examples are read or answered for these methods, including the unchanged model."""
    probe, validation, test = (
        sum(len(part) for part in parts)
        for parts in zip(*((s.probe, s.validation, s.test) for s in scene.splits), strict=True)
    )
    looks = 2 if plan.check_at == "each_step" else 1  # answered first, then read
    rivals = probe + PROBES if plan.rivals and scene.retain else len(scene.forget.probe)
    fits = {"ksd": rivals + looks * validation}
    controls = plan.controls and bool(scene.retain)
    mmlu = 0 if plan.mmlu is None else len(plan.mmlu.items)
    total = validation + test + mmlu
    for method in methods:
        total += fits.get(method, probe + len(plan.shares) * validation) + test
        total += mmlu + controls * (test + fits.get(method, 0))
        total += plan.robustness * 2 * FORMS * len(scene.forget.test)
    return total


class PassCounter:
    """A pulse for many passes that reports the total number of finished examples to another pulse."""

    def __init__(self, pulse: Pulse, total: int) -> None:
        self._pulse, self._total = pulse, total
        self._before = self._last = 0

    def __call__(self, done: int, total: int) -> None:
        """See Pulse. A decreasing count marks the next pass."""
        if done < self._last:
            self._before += self._last
        self._last = done
        counted = self._before + done
        self._pulse(counted, max(self._total, counted))
