"""A page about a finished run, or about two beside each other: what is right, what is wrong, and what was learned.

answers   what a run answers on a split, image by image
numbers   what these answers amount to: accuracies with intervals, classes, confusions, calibration
change    where the filters moved, and what is stored of that
pictures  images and figures as they stand in a page, without files beside it
page      `madlab inspect`
compare   two runs on the same images: `madlab compare`
"""

from madlab.inspection.compare import compare_runs
from madlab.inspection.page import inspect_run

__all__ = ["compare_runs", "inspect_run"]
