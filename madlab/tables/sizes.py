"""Bytes that a domain takes, of runs that say them and of older ones that do not."""

from functools import cache

from madlab.backbones import WEIGHTS, load_base
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet
from madlab.runs.record import Run

NUMBER = 4
"""Bytes of a number in float32."""


def adapter_and_norm_bytes(run: Run) -> tuple[int, int | None]:
    """Bytes that inference needs of a run's domain, without the head: its norms are scale and shift.

    An older run does not say them: a number of its adapter took four bytes (of a mask, whose bits count 1/32, this is
    exact up to the last byte of each layer), and its norms are those of its base, which are None where that does not
    ship with madlab.
    """
    if stored := run.result.stored_bytes:
        return stored["adapter"], stored["norms"]
    return NUMBER * run.result.adapter_parameters, _norm_bytes(run.config.base.source, run.result.base.sha256)


@cache
def _norm_bytes(source: str | None, sha256: str) -> int | None:
    """Bytes of a base's norms as scale and shift; None for a base that does not ship with madlab.

    A records file may be a stranger's: it gets no other file read.
    """
    if source not in {path.stem for path in WEIGHTS.glob("*.safetensors")}:
        return None
    network = load_base(str(source))
    if fingerprint(network) != sha256:
        return None
    net = MultiDomainNet(network)
    net.add_domain("any", 2, "frozen")
    return net.stored_bytes("any", norms="folded").norms
