"""A first run file for data that was looked at: each setting with its reason, and where the data can be read in two ways the other one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thinkrec.config import run as run_file
from thinkrec.config.data import OWN_TABLES, DataSection
from thinkrec.config.reference import tables, toml_value
from thinkrec.config.run import Config
from thinkrec.config.toml import put
from thinkrec.data.arrival import LEAST_LIKE_RATE
from thinkrec.data.inspect.place import look_at
from thinkrec.data.inspect.recognise import Recognised, Setting, recognise
from thinkrec.data.inspect.survey import Survey, survey
from thinkrec.data.split import iso

WIDTH = 130
SCALE = 5.0  # up to this highest rating a 4 is a like; of larger scales four fifths
UNREAD = ("delta",)  # sources that only Ray reads
HEAD = """# Written by `thinkrec init`. A line that is commented out is another way to read the data.
# `thinkrec config explain KEY` says what a key means; all keys: `thinkrec config show FILE --toml`, docs/settings.md.
"""


@dataclass(frozen=True)
class Proposal:
    """A run file, and what it stands on in lines for people."""

    text: str
    config: Config
    findings: Sequence[str]


def propose(path: str, given: Mapping[str, object], run_dir: str) -> Proposal:
    """Look at the data at `path`; `given`: keys of the run file that the user sets himself. Raises UserError for what no run could read."""
    found = recognise(look_at(path), given)
    start = [Setting("run.dir", run_dir), *found.settings]
    own = [Setting(key, value, "given on the command line") for key, value in given.items()]
    config = _parsed([*start, *own], path)
    seen = None if config.data.source in UNREAD else survey(config.data)
    settings = _without([*start, *(_more(found, config.data, seen) if seen else ()), *_models(found, seen)], given) + own
    config = _parsed(settings, path)
    return Proposal(_text(settings), config, [*_findings(found, config.data, seen), *_choices(settings)])


def _more(found: Recognised, data: DataSection, seen: Survey) -> Iterator[Setting]:
    """What the rows tell: labels, repeats, rows that would be refused, buckets and cuts."""
    if seen.separator and data.source in OWN_TABLES:
        separator, word = seen.separator
        yield Setting("data.separator", separator, f"parts categories like {word!r}")
    yield from _of_labels(found, data, seen)
    if seen.repeated_share:
        reason = f"{seen.repeated_share:.1%} of the rows are not the first of their user and item; the audit stops at such leaks"
        yield Setting("data.repeats", "first", reason)
    if seen.unknown_share > data.max_bad_share:
        reason = f"{seen.unknown_share:.1%} of the rows are about items without a description, and are left out"
        yield Setting("data.max_bad_share", min(1.0, round(2 * seen.unknown_share, 2)), reason)
    if found.value("split.mode") != "given":
        cuts = [iso(int(seen.rows["ts"].quantile(share, "nearest") or 0))[:10] for share in (0.7, 0.85)]
        which = "" if seen.is_whole else " of the rows looked at"
        reason = f"one cut for all users: train is the first 70 % of the rows, test the last 15 %; {cuts[0]} and {cuts[1]}{which}"
        yield Setting("split.mode", "time", reason)
        yield Setting("split.valid_from", cuts[0], "a cut by date instead", is_choice=True)
        yield Setting("split.test_from", cuts[1], "a cut by date instead", is_choice=True)


def _of_labels(found: Recognised, data: DataSection, seen: Survey) -> Iterator[Setting]:
    """What a like is, with the like rates of the rows looked at; nothing where labels are given or drawn."""
    if data.label_rule != "threshold" or seen.has("label") or not seen.has("rating"):
        return
    low, high = seen.scale
    threshold = data.like_threshold if high <= SCALE else round(0.8 * high, 2)
    rate = seen.like_rate(data.model_copy(update={"like_threshold": threshold}))
    reason = f"ratings go from {low:g} to {high:g}: {rate:.0%} of the rows are likes"
    fair = LEAST_LIKE_RATE < rate < 1 - LEAST_LIKE_RATE
    yield Setting("data.like_threshold", threshold, reason, is_choice=not fair)
    median = seen.like_rate(data.model_copy(update={"label_rule": "user_median"}))
    reason = f"a like is a rating at or above the user's own median: {median:.0%} of the rows"
    yield Setting("data.label_rule", "user_median", reason, is_choice=fair)


def _models(found: Recognised, seen: Survey | None) -> Iterator[Setting]:
    """A small run on a laptop, and how to make it a large one."""
    if seen:
        yield _keywords(seen)
        if seen.described_share("categories") < 0.5 and seen.described_share("text") > 0.5:
            yield Setting("keywords.lessons", "words", "few items have categories to learn from")
    yield Setting("prompt.domain", found.domain, "the noun of the question")
    yield Setting("prompt.titles", False, "for a nano base and few rows a title: it would learn titles by heart", is_choice=True)
    yield Setting("traces.hard_share", 0.0, "a nano teacher does better on ordinary rows")
    yield Setting("traces.min_taste_share", 0.0, "and misjudges tastes often")
    yield Setting("base.source", "nano", "a small model trained here on two CPU cores, to see the whole line run")
    yield Setting("base.source", "folder", "a model of yours, on GPUs; see ray_jobs/recipes/ml1m_llama3_8b.toml", is_choice=True)


def _keywords(seen: Survey) -> Setting:
    for source, column in (("categories", "categories"), ("engine", "text")):
        share = seen.described_share(column)
        if share > 0.5:
            return Setting(
                "keywords.source", source, f"{share:.0%} of the items have a {column.removesuffix('ies') + 'y' * (column != 'text')}"
            )
    return Setting("keywords.source", "none", "few items have categories or a text")


def _without(settings: Sequence[Setting], given: Mapping[str, object]) -> list[Setting]:
    return [one for one in settings if one.key not in given]


def _parsed(settings: Sequence[Setting], path: str) -> Config:
    tree: dict[str, object] = {}
    for one in settings:
        if not one.is_choice:
            put(tree, one.key, one.value, path)
    return run_file.parse(tree, path)


def _text(settings: Sequence[Setting]) -> str:
    """The run file: tables in their usual order."""
    lines = [HEAD.rstrip("\n")]
    for table in tables():
        own = [one for one in settings if one.key.rpartition(".")[0] == table.name]
        if own and not table.is_list:
            lines += ["", table.header, *(line for one in own for line in _line(one))]
    return "\n".join(lines) + "\n"


def _line(setting: Setting) -> list[str]:
    line = f"{'# ' * setting.is_choice}{setting.key.rpartition('.')[2]} = {toml_value(setting.value)}"
    if not setting.reason:
        return [line]
    whole = f"{line}  # {setting.reason}"
    return [whole] if len(whole) <= WIDTH else [f"# {setting.reason}:", line]


def _findings(found: Recognised, data: DataSection, seen: Survey | None) -> Iterator[str]:
    yield f"source     {found.what} (data.source = {data.source})"
    if found.columns:
        yield f"columns    {', '.join(f'{theirs} is {ours}' for ours, theirs in found.columns.items())}"
    if seen is None:
        yield "looked at  the columns alone: Ray reads this source"
        return
    first, last = map(iso, seen.span)
    yield f"looked at  {'all' if seen.is_whole else 'the first'} {seen.rows.height:,} rows{'' if seen.is_whole else '; there are more'}"
    yield f"users      {seen.num_users:,}, with {seen.rows.height / seen.num_users:.1f} rows each on average"
    yield f"items      {seen.num_items:,} in these rows; {'' if seen.has_all_items else 'more than '}{seen.items.height:,} described"
    texts = ", ".join(f"{seen.described_share(column):.0%} {column}" for column in ("text", "categories"))
    yield f"texts      of the items: {texts}"
    yield f"time       {first} to {last}"
    yield f"likes      {_likes(data, seen)}"
    if seen.num_refused:
        yield f"refused    {seen.num_refused:,} rows: {'; '.join(seen.refusals)}"


def _likes(data: DataSection, seen: Survey) -> str:
    if data.label_rule == "implicit":
        return "every row; dislikes are drawn from items a user never meets (data.label_rule = implicit)"
    rule = (
        "by the column label"
        if seen.has("label")
        else f"by data.label_rule = {data.label_rule}, data.like_threshold = {data.like_threshold:g}"
    )
    return f"{seen.like_rate(data):.1%} of the rows, {rule}"


def _choices(settings: Sequence[Setting]) -> Iterator[str]:
    """Columns and files that could be meant, too; the other choices stand in the run file."""
    for one in settings:
        if one.is_choice and one.key.startswith(("data.path", "data.items_path", "data.columns.")):
            yield f"ambiguous  {one.key}: {one.value} {one.reason}"
