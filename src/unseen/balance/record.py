"""What a search for balance leaves on disk, read back without torch.

```
<folder>/bounds.json      # what may be tried and what judges it: written before the first trial
<folder>/trials.journal   # Optuna's own record, appended to
<folder>/balance.json     # all trials so far, and the choice
<folder>/experiment.yaml  # the experiment to train
<folder>/report.html
```
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unseen.errors import StudyError

FILE = "balance.json"

LIGHTEST = 0.05
"""The least weight of a part of a mixture of backgrounds, the heaviest being 1 at most."""


@dataclass(frozen=True)
class Trial:
    """One trial. `state`: "complete", "pruned" (ended early for a poor start), "running" or "failed" (it diverged).
    `ordinary`: it is ordinary training, against which all are measured.

    `psnr`: dB by suite ("narrow", and the pseudo-unseen ones) at the last step judged; `value`: what is maximised, dB
    over ordinary training (None: not judged yet). `predicted`: what its complexity alone promised, no unit.
    `message`: what was said where it diverged.
    """

    number: int
    state: str
    params: dict[str, Any]
    ordinary: bool = False
    experiment: str = ""
    step: int = 0
    value: float | None = None
    psnr: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    predicted: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Balance:
    """A search. `bounds`: what may be tried; `suites`: names of pseudo-unseen suites with a description each."""

    name: str
    bounds: dict[str, Any]
    suites: dict[str, str]
    trials: tuple[Trial, ...]
    command: str = ""
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.state == "complete" and trial.value is not None)

    @property
    def best(self) -> Trial | None:
        """The complete trial of the highest value, the first of equals."""
        return max(self.complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    @property
    def agreement(self) -> float | None:
        """Rank correlation (Spearman) of what complexity alone promised with the value found, over complete trials;
        None below four of them."""
        pairs = [(trial.predicted, trial.value) for trial in self.complete if trial.predicted is not None]
        if len(pairs) < 4:
            return None
        one, other = (
            _ranks([float(value) for value in side if value is not None]) for side in zip(*pairs, strict=True)
        )
        middle = (len(pairs) - 1) / 2
        deviations = [(a - middle, b - middle) for a, b in zip(one, other, strict=True)]
        spread = math.sqrt(sum(a * a for a, _ in deviations) * sum(b * b for _, b in deviations))
        return sum(a * b for a, b in deviations) / spread if spread else None


def _ranks(values: list[float]) -> list[float]:
    """From 0; equal values share the mean of their ranks."""
    return [sum(other < value for other in values) + (sum(o == value for o in values) - 1) / 2 for value in values]


def read_balance(folder: Path | str) -> Balance:
    """What a search has left in its folder. StudyError where there is none, or it is damaged."""
    path = Path(folder) / FILE
    try:
        value = json.loads(path.read_text())
        trials = tuple(Trial(**trial) for trial in value.pop("trials"))
        return Balance(trials=trials, **value)
    except FileNotFoundError as error:
        raise StudyError(f"There is no search in {folder}: run unseen balance with -o {folder} first.") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudyError(f"{path} cannot be read ({error}). Run the search again: it goes on where it was.") from error
