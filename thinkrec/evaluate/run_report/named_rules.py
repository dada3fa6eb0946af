"""Do explanations name the rule that decided? Known in the planted world alone, whose truth table says it of every row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import comb

import numpy as np
import polars as pl

from thinkrec.evaluate.run_report.schema import RulesNamed
from thinkrec.text.phrases import named, normal

SIDE = re.compile(r"\bis (dis)?liked\b")


def rules_named(explained: pl.DataFrame, rules: pl.DataFrame) -> RulesNamed | None:
    """`explained` (row, text, verdict), `rules` (row, rule, reason, trace): the facets that decided, all facets of the item, and the rule
    in words; None without such rows.

    A text that lists all facets of an item names every rule, so it counts only what is named first: the rule's facets, in any order, before
    any other facet. `chance_share` is what texts reach that name the item's facets in random order. `right_share`: the rule is named, and
    what is first said to be liked or disliked goes the way it went. `supported_share`: it goes the way of the score's verdict. Of the
    facets that texts name, `item_share` are the item's; `shuffled_share` is the same of the item of another row.
    """
    rows = explained.select("row", "text", "verdict").join(rules, on="row", how="inner", validate="1:1", maintain_order="left")
    if rows.is_empty():
        return None
    texts, facets = rows["text"].to_list(), [{normal(facet) for facet in own} for own in rows["reason"]]
    found = np.array([_is_named(*row) for row in rows.select("text", "rule", "reason").iter_rows()])
    chance = [1 / comb(len(own), len(rule)) for rule, own in rows.select("rule", "reason").iter_rows()]
    side, true = ([_side(text) for text in column] for column in (texts, rows["trace"]))
    vocabulary = {normal(facet) for facet in rules["reason"].explode().unique()}
    names = [set(named(text, vocabulary)) for text in texts]
    return {
        "num_rows": rows.height,
        "named_share": float(found.mean()),
        "chance_share": float(np.mean(chance)),
        "right_share": float((found & (np.array(side) == np.array(true))).mean()),
        "supported_share": float(np.mean([own == verdict for own, verdict in zip(side, rows["verdict"], strict=True)])),
        "item_share": _share(names, facets),
        "shuffled_share": _share(names, [*facets[1:], *facets[:1]]) if rows.height > 1 else None,
    }


def _is_named(text: str, rule: Sequence[str], facets: Sequence[str]) -> bool:
    first = list(dict.fromkeys(named(text, {normal(facet) for facet in facets})))[: len(rule)]
    return set(first) == {normal(facet) for facet in rule}


def _side(text: str) -> str:
    """The verdict that a text speaks for first; "" if it speaks for none."""
    found = SIDE.search(text)
    return "" if found is None else "No" if found[1] else "Yes"


def _share(names: Sequence[set[str]], facets: Sequence[set[str]]) -> float | None:
    """Of all facets named the share that are those of the item; None where none is named."""
    num_named = sum(map(len, names))
    return sum(len(own & shown) for own, shown in zip(names, facets, strict=True)) / num_named if num_named else None
