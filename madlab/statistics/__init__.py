"""How sure a comparison of methods is: functions of arrays that know nothing of runs.

intervals  of a difference of accuracies: bootstrap over images and seeds, and Student's t where images are not known
families   many comparisons at once: Holm's correction, mean ranks, Nemenyi's critical difference
"""

from madlab.statistics.families import Ranking, critical_difference, holm, mean_ranks
from madlab.statistics.intervals import Interval, bootstrap_interval, resampled_accuracies, t_interval

__all__ = [
    "Interval",
    "Ranking",
    "bootstrap_interval",
    "critical_difference",
    "holm",
    "mean_ranks",
    "resampled_accuracies",
    "t_interval",
]
