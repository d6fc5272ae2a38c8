"""A smaller domain out of a trained one: its modulation cut to a rank for each layer, within a budget of bytes.

What is cut is alpha - 1, the form W * (1 + beta gamma): rank 0 is the base network itself. `rank="auto"` chooses the
ranks by greedy allocation. To be compared, two ways must spend the same: the automatic ranks of a budget spend at least
as much as any uniform rank that fits. And both need fresh BatchNorm statistics afterwards (`runs.recalibrate`), since
the stored ones are those of the uncut filters: much of what a cut seems to lose is only that.
"""

from collections.abc import Mapping

import torch

from madlab.adapters.base import whole_number
from madlab.adapters.modulation import Modulation
from madlab.adapters.rounding import check_bits
from madlab.analysis.allocation import Spectrum
from madlab.errors import MadlabError
from madlab.network import MultiDomainNet

Spectra = Mapping[str, Spectrum]


def cut_domain(
    net: MultiDomainNet, domain: str, name: str, *, budget: int, rank: str | int = "auto", bits: int | None = None
) -> dict[str, int]:
    """Add a domain: a trained one of MAD with its modulation cut to fewer directions. Returns the rank of each layer.

    budget: bytes of all numbers of the adapter together, each of 4 bytes, or of `bits` / 8 for what `save_domain` will
    store rounded (its units add a byte for each row, its coding saves some). rank: "auto", or the same for every layer,
    as far as it has so many. The new domain has the old one's head and BatchNorm: give it `recalibrate`. Raises
    MadlabError for another method and for ranks that do not fit the budget.
    """
    if (whole := whole_number(budget)) is None:
        raise MadlabError(f"The budget {budget!r:.60} is not a number of bytes: give a whole number.")
    view = net.view(domain)
    adapters = view.adapters()
    if not adapters or not all(isinstance(adapter, Modulation) for adapter in adapters.values()):
        raise MadlabError(f"Domain {domain!r} has the method {view.facts.method!r}: only modulations, mad, can be cut.")
    moved = {p: adapter.modulation() - 1 for p, adapter in adapters.items() if isinstance(adapter, Modulation)}
    if not all(torch.isfinite(change).all() for change in moved.values()):
        raise MadlabError(f"Domain {domain!r} holds NaN or infinity: train it with lower learning rates.")
    spectra = {place: Spectrum.of(change) for place, change in moved.items()}
    numbers = whole * 8 // (32 if bits is None else check_bits(bits))
    ranks = auto_ranks(spectra, numbers) if rank == "auto" else _same_rank(spectra, rank)
    if (spent := spending(spectra, ranks)) > numbers:
        raise MadlabError(
            f"Rank {rank} takes {spent:,} numbers and the budget of {budget:,} bytes holds {numbers:,}: choose a lower "
            "rank, or raise the budget."
        )
    first = {adapter: place for place, adapter in adapters.items()}  # layers that share filters share an adapter
    by_layer = {layer: ranks[first[adapted.adapter]] for layer, adapted in view.adapted_layers().items()}
    _add(net, domain, name, by_layer, {place: spectra[place].factors(ranks[place]) for place in spectra})
    return by_layer


def spending(spectra: Spectra, ranks: Mapping[str, int]) -> int:
    """Numbers of all factors: I * (M + N) for each layer."""
    return sum(ranks[place] * sum(spectrum.shape) for place, spectrum in spectra.items())


def uniform_rank(spectra: Spectra, numbers: int) -> dict[str, int]:
    """The highest rank that fits, the same in every layer, as far as it has so many directions."""
    ranks = _same_rank(spectra, 0)
    for rank in range(1, max(len(spectrum.sigma) for spectrum in spectra.values()) + 1):
        if spending(spectra, higher := _same_rank(spectra, rank)) > numbers:
            break
        ranks = higher
    return ranks


def auto_ranks(spectra: Spectra, numbers: int) -> dict[str, int]:
    """A rank for each layer: the next direction goes where it removes most of alpha's error for its price, M + N.

    The error of a layer is the mean square of what is left out of its alpha, that is, of its relative change per slice.
    Every layer starts at rank 0; the result never spends more than `numbers`. Where the last numbers fit no direction,
    and a uniform rank would spend more, directions are exchanged until it does not, so that both can be compared. Where
    that leaves a larger error than the uniform rank, it is the uniform rank. Raises MadlabError for a negative budget.
    """
    if numbers < 0:
        raise MadlabError(f"A budget of {numbers} numbers is not possible: give at least 0.")
    prices = {place: sum(spectrum.shape) for place, spectrum in spectra.items()}
    gains = {p: (s.sigma.double().square() / s.full_size).tolist() for p, s in spectra.items()}
    ranks, left = dict.fromkeys(spectra, 0), numbers
    while True:
        offers = [p for p in spectra if ranks[p] < len(gains[p]) and prices[p] <= left]
        if not offers:
            break
        best = max(offers, key=lambda p: gains[p][ranks[p]] / prices[p])
        ranks[best] += 1
        left -= prices[best]
    uniform = uniform_rank(spectra, numbers)
    least = spending(spectra, uniform)
    if numbers - left < least:
        ranks = _exchanged(ranks, gains, prices, least, numbers) or uniform
    return min((ranks, uniform), key=lambda chosen: sum(sum(own[chosen[p] :]) for p, own in gains.items()))


def _exchanged(
    ranks: dict[str, int], gains: Mapping[str, list[float]], prices: Mapping[str, int], least: int, most: int
) -> dict[str, int] | None:
    """The ranks after the exchange between two layers that loses least and spends from `least` to `most`, if any."""
    spent = sum(ranks[place] * price for place, price in prices.items())
    best, found = float("-inf"), None
    for giver, taker in ((one, other) for one in ranks for other in ranks if one != other):
        for given in range(1, ranks[giver] + 1):
            freed = most - spent + given * prices[giver]
            taken = min(freed // prices[taker], len(gains[taker]) - ranks[taker])
            if most - freed + taken * prices[taker] < least:
                continue
            won = sum(gains[taker][ranks[taker] : ranks[taker] + taken])
            won -= sum(gains[giver][ranks[giver] - given : ranks[giver]])
            if won > best:
                best, found = won, ranks | {giver: ranks[giver] - given, taker: ranks[taker] + taken}
    return found


def _same_rank(spectra: Spectra, rank: int | str) -> dict[str, int]:
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
        raise MadlabError(f'The rank {rank!r:.60} is not possible: give "auto", or a whole number from 0.')
    return {place: min(rank, len(spectrum.sigma)) for place, spectrum in spectra.items()}


@torch.no_grad()
def _add(
    net: MultiDomainNet,
    domain: str,
    name: str,
    ranks: dict[str, int],
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
) -> None:
    facts = net.view(domain).facts
    net.add_domain(
        name,
        facts.num_classes,
        "mad",
        layers=facts.layers,
        class_names=facts.class_names,
        normalization=facts.normalization,
        resize=facts.resize,
        crop=facts.crop,
        grey=facts.grey,
        squash=facts.squash,
        head=facts.heads[0] if len(facts.heads) == 1 else None,
        rank=ranks,
        form="residual",
    )
    new = net.view(name)
    state, old = new.own_state(), net.view(domain).own_state()
    state |= {key: tensor for key, tensor in old.items() if key in state}
    for place, (beta, gamma) in factors.items():
        state |= {f"{place}.adapter.beta": beta, f"{place}.adapter.gamma": gamma}
    new.load_own_state(state)
