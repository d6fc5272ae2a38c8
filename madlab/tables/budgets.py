"""The best that every method can do with so many bytes: a reader's question to the table of all stored forms.

A method offers what it was run with: its ranks, and each of them exact and rounded. A form fits a budget if adapter and
norms, without the head, take no more bytes than that on any domain.
"""

from collections.abc import Iterable, Iterator

import pandas as pd

from madlab.tables.outcomes import Outcome
from madlab.tables.output import markdown

BUDGETS = (20, 40, 90, 180)
"""Kilobytes, of 1,000 bytes; on the 32-pixel network full alpha takes 66 in 4 bits, coded, with its norms."""


def stored_forms(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """One row for each stored form ("mad:8 in 4 bits") that is there for every domain, in their order:

    family, bits              as in `Outcome`; bits are missing for exact numbers
    adapter_bytes, norm_bytes means over domains
    stored                    the most bytes of adapter and norms that it takes on a domain
    seeds                     the smallest number of seeds that a domain was run with
    validation, mean          mean accuracies in percent over domains of means over seeds; validation is missing where
                              validation images were trained on

    outcomes: of one protocol. Bytes of norms are missing where they are not known.
    """
    columns = "method family bits domain seed adapter_bytes norm_bytes stored val_accuracy test_accuracy".split()
    rows = pd.DataFrame([[getattr(one, name) for name in columns] for one in outcomes], columns=columns)
    numbers = ["adapter_bytes", "norm_bytes", "stored", "val_accuracy", "test_accuracy"]
    rows = rows.astype({"bits": "Int64"} | dict.fromkeys(numbers, float))
    by_domain = rows.groupby(["method", "domain"], sort=False)[numbers].mean()
    by_method = by_domain.groupby("method", sort=False)
    facts = rows.groupby("method", sort=False)
    seeds = rows.groupby(["method", "domain"], sort=False)["seed"].nunique()
    forms = pd.DataFrame(
        {
            "family": facts["family"].first(),
            "bits": facts["bits"].first(),
            "adapter_bytes": by_method["adapter_bytes"].mean(),
            "norm_bytes": by_method["norm_bytes"].mean(),
            "stored": facts["stored"].max(),
            "seeds": seeds.groupby("method", sort=False).min(),
            "validation": by_method["val_accuracy"].mean(),
            "mean": by_method["test_accuracy"].mean(),
        }
    )
    return forms[facts["domain"].nunique() == rows["domain"].nunique()]


def with_enough_seeds(forms: pd.DataFrame) -> pd.DataFrame:
    """The `stored_forms` that may meet in duels: those with as many seeds as the middle one of the exact forms has.

    So a row of one seed is not judged beside rows of several, and while a grid grows, the few that have a new seed
    first shut nobody out: two forms meet over the seeds that both have.
    """
    return forms[forms["seeds"] >= forms.loc[forms["bits"].isna(), "seeds"].quantile(interpolation="lower")]


def best_forms(forms: pd.DataFrame, kilobytes: float) -> dict[str, str]:
    """Method, whatever its rank -> the one of its `stored_forms` within a budget that was best on validation.

    Among equals it is the smallest. Where validation images were trained on it is the largest that fits, because test
    accuracies choose nothing.
    """
    fitting = forms[forms["stored"] <= 1000 * kilobytes].sort_values("stored", kind="stable")
    best = {}
    for family, own in fitting.groupby("family", sort=False):
        known = own["validation"].notna().all()
        best[str(family)] = str(own["validation" if known else "stored"].idxmax())
    return best


def best_at_budgets(forms: pd.DataFrame) -> Iterator[str]:
    """The table of the best forms at BUDGETS, with its note; nothing where no form fits or no bytes are known."""
    best = {kilobytes: best_forms(forms, kilobytes) for kilobytes in BUDGETS}
    families = dict.fromkeys(family for found in best.values() for family in found)
    if not families:
        return
    columns = [list(families)]
    for found in best.values():
        means = {family: float(forms.loc[form, "mean"]) for family, form in found.items()}
        highest = max(means, key=means.__getitem__, default="")
        cells = []
        for family in families:
            told = f"{means[family]:.1f}: {found[family]}" if family in found else "–"
            cells.append(f"**{told}**" if family == highest else told)
        columns.append(cells)
    yield markdown(["method", *(f"at most {kilobytes} kB" for kilobytes in BUDGETS)], columns)
    yield (
        f"Mean test accuracy in percent of the form, exact or rounded, whose adapter and norms fit and that is "
        f"{chosen_by(forms)}; bold: the highest of its column, which is no lead before a duel says so (`madlab report "
        "--duels`)."
    )


def chosen_by(forms: pd.DataFrame) -> str:
    """By what `best_forms` chooses among these, in words."""
    known = forms["validation"].notna()
    if known.all():
        return "best on validation"
    return "the largest" if not known.any() else "best on validation (or the largest, where that was trained on)"
