"""How far unlearning is: its passes over examples, one after the other, as one count that only grows."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.pulse import Pulse
from analysis.skills.unrelated import PROBES
from analysis.unlearning.results import Plan
from analysis.unlearning.scenes import Method, Scene

FORMS = 2
"""Other forms that a forgotten skill is asked in, each as it is and changed."""


def examples_of(scene: Scene, plan: Plan, methods: Sequence[Method]) -> int:
    """About how many examples are read or answered for these methods, the model as it is included."""
    probe, validation, test = (
        sum(len(part) for part in parts)
        for parts in zip(*((s.probe, s.validation, s.test) for s in scene.splits), strict=True)
    )
    looks = 2 if plan.check_at == "each_step" else 1  # answered first, then read
    rivals = probe + PROBES if plan.rivals and scene.retain else len(scene.forget.probe)
    fits = {"ksd": rivals + looks * validation}
    controls = plan.controls and bool(scene.retain)
    total = validation + test
    for method in methods:
        total += fits.get(method, probe + len(plan.shares) * validation) + test
        total += controls * (test + fits.get(method, 0))
        total += plan.robustness * 2 * FORMS * len(scene.forget.test)
    return total


class Growing:
    """A pulse for many passes that tells another one how many examples are done in all of them."""

    def __init__(self, pulse: Pulse, total: int) -> None:
        self._pulse, self._total = pulse, total
        self._before = self._last = 0

    def __call__(self, done: int, total: int) -> None:
        """See Pulse. A count that falls is that of the next pass."""
        if done < self._last:
            self._before += self._last
        self._last = done
        counted = self._before + done
        self._pulse(counted, max(self._total, counted))
