"""How often a model is promoted that is worse than its base model on other videos of the same channel.

    python -m bench.promotions [--channel DIR ...] [--drawn] [--draws 20] [--only WORD]

Draws small channels from a channel's train and valid rows, trains on each, and applies four rules. The trained model is
promoted: always; if it is better on a valid split of 15 % of the rows; if it is better by cross-validation, as `train`
decides; or if the 95 % interval of the difference is above 0. The other rows, which no rule used, are ranked among
their own titles, and show whether the model is really better. The last column ranks them among all titles, also those
that the model was trained on, as `train` does. The test split is not used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.held_out import candidates_of
from bench.rows import Stages, add_channel_options, catalogues, synced, train_and_valid
from store.db import Database
from trainer.fitting.candidates import Candidate, held_out_ranks
from trainer.fitting.projections import part_of
from trainer.fitting.threads import one_thread
from trainer.runs.promotion import decide
from trainer.scoring.cross_validation import candidate_ranks, paired

SIZES = (24, 48, 80)
MODELS = {
    "demo encoder, the recipe": "demo encoder",
    "demo encoder, CCA": "demo encoder",
    "reader, CCA": "reader",
}
"""{model: its base model}, as `bench.held_out` names them."""
Rows = NDArray[np.intp]
Vector = NDArray[np.float64]
Groups = list[str]


@dataclass(frozen=True)
class Drawn:
    """A small channel: its rows, and the rows of the rest of the channel."""

    rows: Rows
    others: Rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_channel_options(parser)
    parser.add_argument("--draws", type=int, default=20, help="number of small channels of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of pairs of a small channel")
    parser.add_argument("--only", default="", help="measure only the models whose name contains this")
    arguments = parser.parse_args()
    print(
        "| channel | model | pairs | rule | into use | of these worse on the other rows | mean change of recall@1 "
        "| among all titles |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, catalogue in catalogues(arguments).items():
        with synced(catalogue()) as database:
            measure(database, name, arguments.draws, arguments.only, arguments.sizes)


def measure(database: Database, name: str, draws: int, only: str, sizes: Sequence[int] = SIZES) -> None:
    chosen, stages = train_and_valid(database), Stages()
    groups = [row.group_id for row in chosen.examples]
    candidates = candidates_of(database, chosen, stages)
    for model, base in ((model, base) for model, base in MODELS.items() if only in model):
        for size in sizes:
            generators = (np.random.default_rng(seed) for seed in range(draws))
            found = [
                judged(candidates[base], candidates[model], groups, drawn(groups, size, one)) for one in generators
            ]
            for rule in found[0][0]:
                taken = np.array([change for rules, change in found if rules[rule]]).reshape(-1, 2)
                worse = int((taken[:, 0] < 0).sum())
                means = [f"{mean:+.3f}" for mean in taken.mean(axis=0)] if len(taken) else ["", ""]
                print(
                    f"| {name} | {model} | {size} | {rule} | {len(taken)} of {draws} | {worse} | {' | '.join(means)} |",
                    flush=True,
                )


def drawn(groups: Groups, size: int, generator: np.random.Generator) -> Drawn:
    """Draw about `size` rows, whole groups."""
    names = generator.permutation(sorted(set(groups)))
    order = {name: number for number, name in enumerate(names)}
    rows = np.array(sorted(range(len(groups)), key=lambda row: (order[groups[row]], row)), dtype=np.intp)
    return Drawn(np.sort(rows[:size]), np.sort(rows[size:]))


def judged(base: Candidate, model: Candidate, groups: Groups, channel: Drawn) -> tuple[dict[str, bool], Vector]:
    """Apply the rules; return whether each promotes the model, and both changes of `recalls_on` on the other rows."""
    inside = [groups[row] for row in channel.rows]
    with one_thread():
        old, new = (held_out_ranks(at_rows(one, channel.rows), inside) for one in (base, model))
        fit, valid = channel.rows[: round(0.7 * len(channel.rows))], channel.rows[-round(0.15 * len(channel.rows)) :]
        before, after = (recalls_on(one, groups, fit, valid)[0] for one in (base, model))
        change = recalls_on(model, groups, fit, channel.others) - recalls_on(base, groups, fit, channel.others)
    found = paired(old, new, inside)
    rules = {
        "always": True,
        f"valid split, n = {len(valid)}": after > before,
        "cross-validation": decide(None, "cross-validated", found).promote,
        "cross-validation, interval above 0": found.low > 0,
    }
    return rules, change


def at_rows(candidate: Candidate, rows: Rows) -> Candidate:
    """The same model with only some of the rows."""
    return Candidate(part_of(candidate.rows, rows), candidate.projections, candidate.fitter)


def recalls_on(candidate: Candidate, groups: Groups, fit: Rows, judged_on: Rows) -> Vector:
    """Recall@1 of some rows among their own titles, and among all titles, by the model fitted on others: (2,)."""
    pictures, titles = candidate.vectors(candidate.fitted(groups, fit))
    labels = candidate.rows.labels[candidate.rows.positive].astype(np.intp)
    asked, own = pictures[judged_on], np.arange(len(judged_on))
    alone = candidate_ranks(asked, titles[judged_on], own, labels[judged_on])
    among_all = candidate_ranks(asked, titles, judged_on, labels)
    return np.array([(alone == 1).mean(), (among_all == 1).mean()])


if __name__ == "__main__":
    main()
