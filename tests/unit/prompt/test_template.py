"""The one template: what stands in a prompt, what goes first when there is no room, and whose rows the counted words never see."""

from __future__ import annotations

from itertools import count

import numpy as np
import polars as pl
import pytest
from ingested import write_log

from thinkrec.artefacts.ingest import bucket_of
from thinkrec.config.model import NanoSection, PromptSection
from thinkrec.data.interactions import Interactions
from thinkrec.errors import ModelError
from thinkrec.nano import model as nano
from thinkrec.prompt.catalogue import PromptData, Snapshots
from thinkrec.prompt.counted_rates import ItemPriors
from thinkrec.prompt.template import ItemText, Prompt, Template, fixed_phrases
from thinkrec.prompt.tokenizer import SLOT

ITEMS = [ItemText("Alpha", ("noir",)), ItemText("Beta"), ItemText("Gamma Ray", ("heist", "desert")), ItemText("", ("noir",))]
HISTORY = [(0, 1), (1, 0), (2, 1)]
PLAIN = PromptSection(priors=False)
NUM_BUCKETS = 3


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def make_tokenizer(extra: list[str] | None = None):
    texts = [f'"{item.title}" ({", ".join(item.keywords)})' for item in ITEMS]
    return nano.make_tokenizer(texts, [*fixed_phrases(PromptSection()), *(extra or [])], NanoSection(vocab_size=400))


def write(tokenizer, history=HISTORY, target=2, **settings):
    return Template(tokenizer, ITEMS, PLAIN.model_copy(update=settings)).write(history, target)


def test_the_text_is_the_template(tokenizer):
    template = Template(tokenizer, ITEMS, PLAIN.model_copy(update={"domain": "movie"}))
    assert template.text(template.write([(0, 1), (1, 0)], 2)) == (
        'A user rated these movies, oldest first.\n"Alpha" (noir): liked\n"Beta": disliked\n'
        'Would the user like "Gamma Ray" (heist, desert)?\nAnswer:'
    )
    assert '"unknown" (noir)' in template.text(template.write([], 3))


def test_the_parts_are_the_pieces_one_after_another(tokenizer):
    def ids(*pieces: str) -> list[int]:
        return [token for piece in pieces for token in tokenizer.encode(piece, add_special_tokens=False)]

    prompt = write(tokenizer)
    head = "<bos>A user rated these items, oldest first.\n"
    assert prompt.prefix == ids(head, '"Alpha" (noir)', ": liked\n", '"Beta"', ": disliked\n", '"Gamma Ray" (heist, desert)', ": liked\n")
    assert prompt.suffix == ids("Would the user like ", '"Gamma Ray" (heist, desert)', "?\nAnswer:")
    assert prompt.ids == prompt.prefix + prompt.suffix
    assert prompt.num_history == 3


def test_many_targets_share_one_prefix(tokenizer):
    first, second = write(tokenizer, target=0), write(tokenizer, target=1)
    assert first.prefix == second.prefix
    assert first.suffix != second.suffix


def test_history_keywords_can_be_left_out_and_the_targets_stay(tokenizer):
    template = Template(tokenizer, ITEMS, PLAIN.model_copy(update={"keywords_in_history": False}))
    text = template.text(template.write(HISTORY, 0))
    assert '"Gamma Ray": liked' in text
    assert 'like "Alpha" (noir)?' in text


def test_history_length_takes_the_newest(tokenizer):
    assert write(tokenizer, history_length=2).ids == write(tokenizer, history=HISTORY[1:]).ids


def test_truncation_drops_the_oldest_and_never_the_target(tokenizer):
    """D24."""
    whole = write(tokenizer)
    fitting = {room: write(tokenizer, max_tokens=room) for room in range(len(write(tokenizer, history=[]).ids), len(whole.ids) + 1)}
    assert [prompt.num_history for prompt in fitting.values()] == sorted(prompt.num_history for prompt in fitting.values())
    assert {prompt.num_history for prompt in fitting.values()} == {0, 1, 2, 3}
    for room, prompt in fitting.items():
        assert len(prompt.ids) <= room
        assert prompt.suffix == whole.suffix
        assert prompt.ids == write(tokenizer, history=HISTORY[3 - prompt.num_history :]).ids
    with pytest.raises(ModelError, match="'Gamma Ray' alone"):
        write(tokenizer, max_tokens=min(fitting) - 1)


@pytest.mark.parametrize(("kind", "owners"), [("none", []), ("target", [-1, 2]), ("all", [-1, 0, 1, 2, 2])])
def test_soft_slots_are_counted_and_know_their_owner(tokenizer, kind, owners):
    """D23."""
    prompt = write(tokenizer, slots=kind)
    places = [at for at, token in enumerate(prompt.ids) if token == tokenizer.convert_tokens_to_ids(SLOT)]
    assert prompt.slots == list(zip(places, owners, strict=True))


def test_slots_of_history_that_was_dropped_are_gone(tokenizer):
    room = len(write(tokenizer, slots="all").ids) - 1
    assert [owner for _, owner in write(tokenizer, slots="all", max_tokens=room).slots] == [-1, 1, 2, 2]


@pytest.mark.parametrize("kind", ["target", "all"])
def test_a_title_that_holds_the_slot_token_is_refused(tokenizer, kind):
    items = [*ITEMS, ItemText(f"Evil {SLOT}")]
    with pytest.raises(ModelError, match="soft-slot token"):
        Template(tokenizer, items, PLAIN.model_copy(update={"slots": kind}))


def test_the_verdict_is_one_token_and_the_answer_ends(tokenizer):
    """D9."""
    first, after = (Template(tokenizer, ITEMS, PLAIN.model_copy(update={"answer": kind})) for kind in ("first", "after"))
    no, yes = first.verdict_ids
    assert (tokenizer.decode([no]), tokenizer.decode([yes])) == (" No", " Yes")
    reason, end = tokenizer.encode(" noir desert", add_special_tokens=False), tokenizer.eos_token_id
    assert first.answer(True) == after.answer(True) == [yes, end]
    assert first.answer(True, "noir desert") == [yes, *reason, end]
    assert after.answer(False, "noir desert") == [*reason, no, end]


@pytest.mark.parametrize("kind", ["first", "after"])
def test_a_long_reasoning_is_cut_and_the_answer_still_ends(tokenizer, kind):
    template = Template(tokenizer, ITEMS, PLAIN.model_copy(update={"answer": kind, "max_answer_tokens": 6}))
    answer = template.answer(True, "noir " * 50)
    assert len(answer) == 6
    assert answer[-1] == tokenizer.eos_token_id
    assert template.verdict_ids[1] in (answer[0], answer[-2])


def test_a_tokenizer_that_cuts_the_verdict_is_refused():
    cut = nano.make_tokenizer(["nothing of the kind"], [], NanoSection(vocab_size=300))
    with pytest.raises(ModelError, match="more than one token"):
        Template(cut, ITEMS, PLAIN)


def test_a_chat_template_frames_the_prompt():
    tokenizer = make_tokenizer(["Yes", "No"])
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %} [assistant] "
    for kind, order in (("first", "Answer Yes or No first."), ("after", "Think it over, then end with one word, Yes or No.")):
        template = Template(tokenizer, ITEMS, PLAIN.model_copy(update={"answer": kind}))
        text = template.text(template.write([], 1))
        assert text == f'[user] A user rated these items, oldest first.\nWould the user like "Beta"? {order} [assistant] '
        assert tokenizer.decode([template.verdict_ids[1]]) == "Yes"


def users_in(bucket: int, number: int) -> list[str]:
    named = (f"u{at}" for at in count())
    return [user for user in (next(named) for _ in range(200)) if bucket_of(user, NUM_BUCKETS) == bucket][:number]


def log_of(users: list[str]) -> pl.DataFrame:
    """Each user rates Alpha, Beta and Gamma in train and Alpha's twin in test; likes alternate."""
    rows = [
        {"user_id": user, "item_id": item, "label": (at + place) % 2, "split": "test" if place == 3 else "train"}
        for at, user in enumerate(users)
        for place, item in enumerate("abcd")
    ]
    numbers = pl.int_range(pl.len(), dtype=pl.Int64)
    return pl.DataFrame(rows).with_columns(pl.col("label").cast(pl.Int8), row=numbers, ts=numbers, rating=pl.lit(None, pl.Float32))


@pytest.fixture
def tables_of(tmp_path, tokenizer):
    """tables_of(rows) are the tables of an ingest artefact with these rows, priors included."""
    numbers = count()

    def make(rows: pl.DataFrame) -> PromptData:
        folder = tmp_path / f"ingest{next(numbers)}"
        write_log(folder, rows, NUM_BUCKETS)
        pl.DataFrame({"item_id": list("abcd")}).write_parquet(folder / "items.parquet")
        data = Interactions.load(folder)
        priors, end = ItemPriors.load(folder, [item.keywords for item in ITEMS]), data.snapshots(2)
        template = Template(tokenizer, ITEMS, PromptSection(), priors)
        return PromptData(data, template, None, None, Snapshots(end, priors.of_users(data, True, end)))

    return make


def first_words(tables: PromptData, user: str) -> str:
    """The user's first prompt: no history of his own, only what others said about the target."""
    data = tables.interactions
    return tables.template.text(tables.prompt(int(data.offsets[data.user_ids.index(user)])))


def flipped(rows: pl.DataFrame, user: str, items: str) -> pl.DataFrame:
    touched = (pl.col("user_id") == user) & pl.col("item_id").is_in(list(items))
    return rows.with_columns(label=pl.when(touched).then(1 - pl.col("label")).otherwise("label").cast(pl.Int8))


def test_priors_tell_what_other_buckets_said(tables_of):
    mine, others = users_in(0, 2), users_in(1, 4)
    tables = tables_of(log_of([*mine, *others]))
    # Of 4 other users with 12 train rows and 6 likes, 2 like Alpha: (2 + 5 / 2) / (4 + 5) = 10 of 20.
    assert '"Alpha" (noir, 10 of 20 like it, known to few)' in first_words(tables, mine[0])


def test_a_users_own_bucket_is_not_counted_and_others_are(tables_of):
    """The label a row asks about never shows in its own words, not even through the mean that smooths them."""
    mine, others = users_in(0, 2), users_in(1, 4)
    rows = log_of([*mine, *others])
    words = first_words(tables_of(rows), mine[0])
    for user in mine:
        for items in ("a", "abc"):
            assert first_words(tables_of(flipped(rows, user, items)), mine[0]) == words
    assert first_words(tables_of(flipped(rows, others[0], "abc")), mine[0]) != words


def test_test_rows_are_never_counted(tables_of):
    mine, others = users_in(0, 2), users_in(1, 4)
    rows = log_of([*mine, *others])
    words = first_words(tables_of(rows), mine[0])
    for user in others:
        rows = flipped(rows, user, "d")
    assert first_words(tables_of(rows), mine[0]) == words


def test_a_users_own_rate_counts_only_what_came_before(tables_of):
    mine, others = users_in(0, 1), users_in(1, 4)
    rows = log_of([*mine, *others])
    position = 2  # of the user's own rows

    def words(rows: pl.DataFrame) -> str:
        tables = tables_of(rows)
        data = tables.interactions
        return tables.template.text(tables.prompt(int(data.offsets[data.user_ids.index(mine[0])]) + position))

    assert words(flipped(rows, mine[0], "cd")) == words(rows)
    assert words(flipped(rows, mine[0], "b")) != words(rows)


def test_taste_is_the_like_rate_among_items_with_the_same_keywords(tables_of):
    mine, others = users_in(0, 1), users_in(1, 4)
    rows = log_of([*mine, *others])

    def taste(rows: pl.DataFrame) -> int:
        tables = tables_of(rows)
        data = tables.interactions
        return tables.counted(int(data.offsets[data.user_ids.index(mine[0])]) + 3).taste  # of the item that is noir, as the first one is

    assert taste(flipped(rows, mine[0], "d")) == taste(rows)
    # The first item liked and the second not, then the other way round: the user's rate stays, the taste for noir does not.
    assert taste(rows) != taste(flipped(rows, mine[0], "ab"))


def test_rows_on_one_history_are_told_what_was_known_before_the_first_of_them(tables_of):
    """Two by two: the third train row is the first of its pair. Counted rates, too, end there, or the rows would share no prefix."""
    mine, others = users_in(0, 1), users_in(1, 4)
    rows = log_of([*mine, *others])

    def prompts(rows: pl.DataFrame) -> list[Prompt]:
        tables = tables_of(rows)
        first = int(tables.interactions.offsets[tables.interactions.user_ids.index(mine[0])])
        return [tables.snapshot_prompt(first + place) for place in range(4)]

    found, tables = prompts(rows), tables_of(rows)
    first = int(tables.interactions.offsets[tables.interactions.user_ids.index(mine[0])])
    assert found[0].prefix == found[1].prefix != found[2].prefix
    assert found[0] == tables.prompt(first)
    assert found[1] != tables.prompt(first + 1)
    assert found[2:] == [tables.prompt(first + 2), tables.prompt(first + 3)]  # the last is a test row
    assert prompts(flipped(rows, mine[0], "a"))[:2] == found[:2]
    assert prompts(flipped(rows, mine[0], "a"))[2] != found[2]


def test_train_and_test_rows_share_one_template(tables_of):
    """The same history and target make the same prompt, whatever the split of the row (D6)."""
    twins = users_in(0, 2)
    rows = log_of([twins[0], *users_in(1, 4)])
    twin = rows.filter(pl.col("user_id") == twins[0]).with_columns(user_id=pl.lit(twins[1]), split=pl.lit("train"), row=pl.col("row") + 100)
    tables = tables_of(pl.concat([rows, twin]))
    data = tables.interactions
    one, other = (int(data.offsets[data.user_ids.index(user) + 1]) - 1 for user in twins)
    assert [int(data.split[at]) for at in (one, other)] == [2, 0]
    assert tables.prompt(one) == tables.prompt(other)
    assert tables.prompt(one).num_history == 3
    assert np.array_equal(tables.history(one), tables.history(other))
