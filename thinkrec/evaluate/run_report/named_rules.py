"""Do explanations name the rule that decided? Known in the planted world alone, whose truth table says it of every row."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import polars as pl

from thinkrec.evaluate.run_report.schema import RulesNamed
from thinkrec.text.phrases import named, normal


def rules_named(explained: pl.DataFrame, rules: pl.DataFrame) -> RulesNamed | None:
    """`explained` (row, text), `rules` (row, rule, reason): the facets that decided, and all facets of the item; None without such rows.

    A text that lists all facets of an item names every rule, so it counts only what is named first: the rule's facets, in any order, before
    any other facet. `chance_share` is what texts reach that name the item's facets in random order.
    """
    rows = explained.select("row", "text").join(rules, on="row", validate="1:1")
    if rows.is_empty():
        return None
    found = [_is_named(text, rule, facets) for text, rule, facets in rows.select("text", "rule", "reason").iter_rows()]
    chance = [1 / comb(len(facets), len(rule)) for rule, facets in rows.select("rule", "reason").iter_rows()]
    return {"num_rows": rows.height, "named_share": float(np.mean(found)), "chance_share": float(np.mean(chance))}


def _is_named(text: str, rule: Sequence[str], facets: Sequence[str]) -> bool:
    first = list(dict.fromkeys(named(text, {normal(facet) for facet in facets})))[: len(rule)]
    return set(first) == {normal(facet) for facet in rule}
