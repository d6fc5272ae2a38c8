"""What things cost on this machine: `madlab bench`. Not loaded by `import madlab`.

clock      times tasks in turns, and describes the machine
costs      one network, image size and batch: training, inference, switching, files
pipeline   images per second of the loader, compared with torchvision's
epochs     images per second over whole epochs, compared with the classical way
growth     how the costs grow with domains, rank, images and width
processes  what only a new process shows: start-up time and peak memory
record     all of it as one record
report     the record as tables and as a figure
"""

from madlab.analysis.bench.costs import Setting
from madlab.analysis.bench.record import chosen_settings, run_bench
from madlab.analysis.bench.report import as_text, draw

__all__ = ["Setting", "as_text", "chosen_settings", "draw", "run_bench"]
