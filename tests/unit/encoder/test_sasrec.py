"""SASRec sees the past and nothing else, learns planted tastes from it, and repeats itself bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tastes import NUM_USERS, item_mean_auc

from thinkrec.artefacts.ingest import TEST, TRAIN
from thinkrec.config.model import EncoderSection, SASRecSection
from thinkrec.data.interactions import Policy
from thinkrec.encoder import sasrec
from thinkrec.encoder.coded_log import Log
from thinkrec.encoder.factors import Factors, predict
from thinkrec.errors import DataError

LENGTH = 12
SETTINGS = EncoderSection(source="sasrec", dim=16, lr=0.01, num_epochs=4, batch_size=16, sasrec=SASRecSection(length=LENGTH))
ONE_EPOCH = SETTINGS.model_copy(update={"num_epochs": 1})  # enough where bits are compared; valid rows have nothing to choose


@pytest.fixture(scope="module")
def trained(log):
    return sasrec.train(log, SETTINGS, "rolling", 1)


@pytest.fixture(scope="module")
def few(log):
    """The first thirty users."""
    rows = log.user < 30
    columns = {name: getattr(log, name)[rows] for name in ("user", "item", "label", "split", "row", "first")}
    return replace(log, **columns, user_ids=log.user_ids[:30])


def train(log: Log, policy: Policy = "rolling", seed: int = 1) -> tuple[Factors, np.ndarray]:
    return sasrec.train(log, ONE_EPOCH, policy, seed)


def area(log: Log, scores: np.ndarray) -> float:
    return float(roc_auc_score(log.label[log.positions(TEST)], scores))


def without_feedback() -> EncoderSection:
    return SETTINGS.model_copy(update={"sasrec": SETTINGS.sasrec.model_copy(update={"feedback": False})})


def vectors_of(found: tuple[Factors, np.ndarray]) -> bytes:
    return found[0].users.tobytes() + found[0].items.tobytes()


def test_a_later_row_never_changes_an_earlier_state():
    torch.manual_seed(0)
    model = sasrec.SASRec(20, SETTINGS).eval()
    item, label = torch.randint(20, (3, LENGTH)), torch.randint(2, (3, LENGTH))
    before = model(item, label)
    for place in range(LENGTH):
        other_item, other_label = item.clone(), label.clone()
        other_item[:, place] = (item[:, place] + 1) % 20
        other_label[:, place] = 1 - label[:, place]
        after = model(other_item, other_label)
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        assert (after[:, place + 1 :] != before[:, place + 1 :]).any(dim=2).all()


def test_labels_are_seen_only_with_feedback():
    item, label = torch.randint(20, (3, LENGTH)), torch.zeros(3, LENGTH, dtype=torch.int64)
    for settings, blind in ((SETTINGS, False), (without_feedback(), True)):
        torch.manual_seed(0)
        model = sasrec.SASRec(20, settings).eval()
        assert torch.equal(model(item, label), model(item, 1 - label)) == blind


def test_a_state_does_not_depend_on_what_fills_the_row_up(log):
    torch.manual_seed(0)
    model = sasrec.SASRec(len(log.item_ids), SETTINGS).eval()
    visible, ends = log.visible("rolling", TEST), np.array([3, 40 + LENGTH, 80 + 30])
    together = sasrec.states(model, log, visible, log.first[ends], ends)
    for at, end in enumerate(ends):
        past = np.arange(log.first[end], end)[-LENGTH:]
        alone = model(torch.from_numpy(log.item[None, past]), torch.from_numpy(log.label[None, past]).long())[0, -1]
        np.testing.assert_allclose(together[at], alone.detach(), rtol=1e-4, atol=1e-5)


def test_pieces_hold_every_train_row_once_whatever_the_offset(log):
    train = np.flatnonzero(log.split == TRAIN)
    for offset in range(LENGTH):
        pieces = sasrec.cut(log, train, LENGTH, offset)
        assert np.array_equal(np.sort(pieces[pieces >= 0]), train)
        assert all(len(set(log.user[piece[piece >= 0]])) == 1 for piece in pieces)
        assert (pieces[0] >= 0).sum() == LENGTH - offset


def test_beats_chance_and_the_item_mean_on_planted_tastes(log, pairs, trained):
    assert area(log, trained[1]) > max(0.5, item_mean_auc(pairs[0], pairs[2])) + 0.2


def test_learns_nothing_from_shuffled_labels(log):
    shuffled = replace(log, label=np.random.default_rng(1).permutation(log.label))
    assert abs(area(log, sasrec.train(shuffled, SETTINGS, "rolling", 1)[1]) - 0.5) < 0.06


def test_without_labels_in_the_sequence_this_world_cannot_be_learned(log):
    """Control: items are drawn blindly here, so only the labels say who likes what."""
    assert abs(area(log, sasrec.train(log, without_feedback(), "rolling", 1)[1]) - 0.5) < 0.08


def test_a_users_vector_is_the_state_after_train(log, few, pairs, trained):
    factors = trained[0]
    assert factors.users.shape == (NUM_USERS, SETTINGS.dim + 1)
    assert roc_auc_score(pairs[2].label, predict(factors.users, factors.items, factors.mean, pairs[2])) > 0.7
    factors, scores = train(few, "train_only")
    expected = predict(factors.users, factors.items, factors.mean, few.ratings(few.positions(TEST)))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone(few):
    first = train(few)
    torch.manual_seed(99)
    drawn = torch.rand(1)
    torch.manual_seed(99)
    again = train(few)
    assert torch.equal(torch.rand(1), drawn)
    assert vectors_of(again) == vectors_of(first)
    assert again[1].tobytes() == first[1].tobytes()
    assert vectors_of(train(few, seed=2)) != vectors_of(first)


def test_no_test_row_reaches_a_vector(few):
    first = sasrec.train(few, SETTINGS, "rolling", 1)

    def spoilt(split: int) -> tuple[Factors, np.ndarray]:
        rows = few.split == split
        label, item = np.where(rows, 1 - few.label, few.label), np.where(rows, (few.item + 1) % len(few.item_ids), few.item)
        return sasrec.train(replace(few, label=label, item=item), SETTINGS, "rolling", 1)

    assert vectors_of(spoilt(TEST)) == vectors_of(first)
    assert (spoilt(TEST)[1] != first[1]).any()
    assert vectors_of(spoilt(TRAIN)) != vectors_of(first)


@pytest.mark.parametrize(("policy", "moved"), [("rolling", True), ("train_only", False)])
def test_the_policy_says_which_rows_a_test_row_sees(few, policy, moved):
    """Labels of valid and test rows change the scores of later rows, or change none."""
    later = replace(few, label=np.where(few.split == TRAIN, few.label, 1 - few.label))
    assert (train(few, policy)[1] != train(later, policy)[1]).any() == moved


def test_no_valid_and_no_test_rows_are_no_trouble_but_no_train_rows_are(few):
    factors, scores = train(replace(few, split=np.full_like(few.split, TRAIN)))
    assert (factors.valid_auc, len(scores)) == (None, 0)
    with pytest.raises(DataError, match="no train rows"):
        train(replace(few, split=np.full_like(few.split, TEST)))
