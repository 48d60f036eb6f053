"""Early stopping of trials by epoch, among trials of the same merging alone. Knows nothing of what suggests trials.

One ASHA over all of them would end what is cheap because it is behind what is dear, before anybody could see it on the front; and
trials on many regions, which learn more slowly at first, because they are behind those on few.
"""

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

REDUCTION = 3  # of every so many trials one goes on at a rung


class FairAsha(FIFOScheduler):
    """ASHA (Li et al., arXiv 1810.05934) for each group of trials; `group_of` names the group of a trial's config."""

    def __init__(self, group_of: Callable[[dict[str, Any]], str], *, epochs: int, grace: int) -> None:
        super().__init__()
        self._group_of, self._epochs, self._grace = group_of, epochs, grace
        self._of_group: dict[str, ASHAScheduler] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._own(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self._own(trial).on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._own(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._own(trial).on_trial_remove(tune_controller, trial)

    def _own(self, trial: Any) -> ASHAScheduler:
        group = self._group_of(trial.config)
        if group not in self._of_group:
            # One epoch more than there is: at max_t ASHA ends a trial, and the last report comes when it has ended anyway.
            self._of_group[group] = ASHAScheduler(
                time_attr="epoch",
                metric="val",
                mode="max",
                max_t=self._epochs + 1,
                grace_period=self._grace,
                reduction_factor=REDUCTION,
            )
        return self._of_group[group]
