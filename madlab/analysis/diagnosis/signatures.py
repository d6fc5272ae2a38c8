"""The signatures of failure by name, and the limits at which each is suspected.

Three come from a summary of arXiv 2307.08528: capacity of the base, rank, learning rate. The others are ours. The
limits were chosen by us on runs on `signs` alone, and no diagnosis of `records/failures.jsonl` is wrong, there and on
`digits`, for full and factorised MAD, parallel adapters and fine-tuning (tests/analysis/test_failures.py has the
table). Those runs have an earlier recipe; with today's (`failures-bound-4.jsonl`) some are wrong. Methods whose usual
turn is another are judged worse: at its own rate LoRA turned filters by 0.06 on `signs`, which is called too low.
"""

DIVERGED, UNFINISHED, NOTHING = "diverged", "unfinished", "nothing wrong"
TOO_HIGH, TOO_LOW = "adapter's rate too high", "adapter's rate too low"
HEAD, BATCHNORM = "head's rate", "BatchNorm"
RANK, FORM, BASE = "rank too low", "adapter too small", "base too small"
EPOCHS, OVERFITTING = "too few epochs", "overfitting"
SIGNATURES = {
    DIVERGED: "the loss or a weight is no longer a number",
    UNFINISHED: "the run has no result: it is still running, was stopped, or ended with an error of the program",
    TOO_HIGH: "the filters were thrown away and learned anew",
    TOO_LOW: "the filters hardly moved, so that this is BatchNorm and head",
    HEAD: "the head is the culprit, and not the adapter",
    BATCHNORM: "its scales or its running averages are the culprit, and not the adapter",
    RANK: "factors of this rank cannot say what a higher one can",
    FORM: "this kind of adapter cannot do what fine-tuning can",
    BASE: "whatever adapts this base network does not fit, or the labels are wrong",
    EPOCHS: "the training ended while there was more to learn",
    OVERFITTING: "it knows its training images, and there are too few of them",
    NOTHING: "no signature of a failure shows",
}
"""Each signature in words."""
CLEAR = (DIVERGED, UNFINISHED, TOO_HIGH, TOO_LOW, HEAD, BATCHNORM)
"""Those that spoil every comparison: a run that has one says nothing about capacity, epochs or images."""

RATES = (TOO_HIGH, TOO_LOW, HEAD, BATCHNORM)
"""Those that another learning rate cures."""

HARDLY, LITTLE, WILDLY = 0.1, 0.25, 0.82
"""Turns of the filters (`filter_turn`): below the first and above the last the adapter's rate is suspected, and below
the second a rate that is too low is among the suspects of a run that does badly."""
EXPLODED = 60.0
"""Validation loss of any epoch, in multiples of ln(classes), above which the adapter's rate is suspected. Healthy
runs of rank 4 come to 43: while the rate is high, the running averages lag behind the filters."""
RUINED = 2.0
"""The same, above which an early best epoch is the last one before the run was ruined."""
LOUD = 2.5
"""Training loss of any epoch, in multiples of ln(classes), above which the head is suspected. In training BatchNorm
takes out whatever filters do to the size of features: only the head and BatchNorm's own scales make such logits."""
ASLEEP = 1.1
"""Growth of the head (`head_growth`) below which it has not learned. A run can fit all the same: filters can learn to
suit a random head."""
AWAY = 1.0
"""Change of BatchNorm's scales (`batchnorm_change`) above which they ran away."""
MISFIT = 0.3
"""Nats of training loss above its floor beyond which a run does not fit its training images."""
GAP = 1.0
"""Nats by which validation is worse than training beyond which a run overfits."""
FEW_EPOCHS = 4
"""Epochs up to which a run that does not fit has simply had too few."""
BETTER = 5.0
"""Points of validation accuracy by which a run must be ahead of another to count as better."""
