"""Ids that differ in form only: 7 and "7", "1" and "1.0", "01", " u1", "U1". A join never takes one for the other, but it can say so."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl


def plain(ids: pl.Expr) -> pl.Expr:
    """What is left of ids without blanks and quotes around them, case, leading zeros, a decimal .0 and other spellings of one character."""
    bare = ids.str.normalize("NFKC").str.strip_chars("\ufeff\u200b").str.replace(r"^b'(.*)'$", "$1").str.strip_chars(" \t\r\n'\"")
    return bare.str.to_lowercase().str.replace(r"^([0-9]+)\.0+$", "$1").str.replace(r"^0+([0-9])", "$1")


def in_other_form(ids: pl.Series, others: Iterable[pl.Series]) -> list[tuple[str, str]]:
    """(id, the same in another form) of those `ids` that no series of `others` holds as they are; the first spelling of each, in order."""
    mine = pl.DataFrame({"mine": ids.drop_nulls().unique()}).with_columns(plain=plain(pl.col("mine")))
    spelt: dict[str, str] = {}
    exact: set[str] = set()
    for other in others:
        theirs = pl.DataFrame({"theirs": other.drop_nulls().unique()}).with_columns(plain=plain(pl.col("theirs")))
        for one, there in mine.join(theirs, on="plain").sort("mine", "theirs").select("mine", "theirs").iter_rows():
            exact |= {one} if one == there else set()
            spelt.setdefault(one, there)
    return sorted((one, there) for one, there in spelt.items() if one not in exact)


def in_two_forms(ids: pl.Series) -> list[tuple[str, str]]:
    """The ids of a column that stand there in more than one form: the first two spellings of each, in order."""
    spelt = pl.DataFrame({"id": ids.drop_nulls().unique()}).with_columns(plain=plain(pl.col("id")))
    several = spelt.filter(pl.col("plain").is_duplicated()).group_by("plain").agg(pl.col("id").sort()).sort("plain")
    return [(found[0], found[1]) for found in several["id"].to_list()]
