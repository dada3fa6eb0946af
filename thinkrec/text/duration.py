"""A time span as a person says it."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, no finer than matters; a dash where nothing is known."""
    if seconds is None:
        return "\u2013"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
