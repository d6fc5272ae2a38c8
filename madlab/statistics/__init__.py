"""How sure a comparison of methods is: functions of arrays that know nothing of runs.

intervals  of an accuracy: Wilson's; of a difference: bootstrap over images and seeds, Student's t without images
families   many comparisons at once: Holm's correction, mean ranks, Nemenyi's critical difference
"""

from madlab.statistics.families import Ranking, critical_difference, holm, mean_ranks
from madlab.statistics.intervals import (
    DRAWS,
    Interval,
    bootstrap_interval,
    resampled_accuracies,
    t_interval,
    wilson_interval,
)

__all__ = [
    "DRAWS",
    "Interval",
    "Ranking",
    "bootstrap_interval",
    "critical_difference",
    "holm",
    "mean_ranks",
    "resampled_accuracies",
    "t_interval",
    "wilson_interval",
]
