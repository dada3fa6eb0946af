"""The table of the run file that says how a new day's log is taken in: [refresh]; see run.py."""

from __future__ import annotations

from pydantic import Field

from thinkrec.config.section import Count, Section, Share


class RefreshSection(Section):
    """What `thinkrec refresh` appends to a finished run, and how experts go on from the weights that they have."""

    path: str = ""
    """The new day's log, in the form of data.path (a planted world's: canonical); the option --log sets it."""
    items_path: str = ""
    """The day's items, for sources whose items have a place of their own; empty = data.items_path."""
    moved_share: Share = 0.05
    """An expert is trained on where more than this share of its cluster's train rows came or went since it was trained; the others stay."""
    num_steps: Count = 100
    """Steps of an expert that is trained on, at most; the rest is that of train.experts."""
    proximal: float = Field(default=0.0, ge=0)
    """How strongly an expert is held at the weights it begins with: a step of rate lr also takes back lr * proximal of the way,
    which train.experts.lr must not bring above 1. 0 = not."""
