"""The interactive figures of the course: ipywidgets wired to `madlab.figures`. Not loaded by `import madlab`.

A module has a few figures at most, each a function that returns a `Panel` (panel.py). What a figure shows is
computed by `madlab.analysis` and `madlab.tables`.
"""

from madlab.widgets.activations import activation_browser
from madlab.widgets.allocation import budget_slider
from madlab.widgets.calculators import budget_calculator, score_board
from madlab.widgets.diagnosis import diagnosis_board
from madlab.widgets.duels import duel_explorer
from madlab.widgets.explorer import results_explorer
from madlab.widgets.gallery import domain_gallery
from madlab.widgets.layers import layer_picker
from madlab.widgets.methods import method_picker
from madlab.widgets.modulation import alpha_editor
from madlab.widgets.panel import Panel, button, choice, slider, switch
from madlab.widgets.ranks import rank_slider
from madlab.widgets.runs import TrainButton, run_browser
from madlab.widgets.sparsity import cause_board, sparsity_slider
from madlab.widgets.tryout import try_out

__all__ = [
    "Panel",
    "TrainButton",
    "activation_browser",
    "alpha_editor",
    "budget_calculator",
    "budget_slider",
    "button",
    "cause_board",
    "choice",
    "diagnosis_board",
    "domain_gallery",
    "duel_explorer",
    "layer_picker",
    "method_picker",
    "rank_slider",
    "results_explorer",
    "run_browser",
    "score_board",
    "slider",
    "sparsity_slider",
    "switch",
    "try_out",
]
