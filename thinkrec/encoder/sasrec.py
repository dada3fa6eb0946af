"""SASRec (Kang and McAuley, 2018): a causal transformer over a user's rows. Its state after a row is the user's vector at that time.

Three things differ from the paper, and all make it the stronger baseline. A row enters with its like or dislike as well as its item
(`feedback`), since the prompts show both (D39). The loss is binary cross-entropy on the label of the next row, not on a drawn negative
(docs/method.md 2). Users and items have biases; a user's is read off the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from thinkrec.artefacts.ingest import TEST, TRAIN, VALID
from thinkrec.config.model import EncoderSection
from thinkrec.data.interactions import Policy
from thinkrec.encoder.best_epoch import best_epoch
from thinkrec.encoder.coded_log import Ints, Log, windows
from thinkrec.encoder.factors import INIT_STD, Factors, auc, gather, log_odds, score

ROWS_AT_ONCE = 1024  # whose states are computed together


class SASRec(nn.Module):
    """Rows (n, length) -> user vectors (n, length + 1, dim + 1): after none of them, after the first, ..., after all.

    Rows are filled up on the right, where a causal model cannot see them; item -1 is one that train does not know.
    """

    def __init__(self, num_items: int, settings: EncoderSection) -> None:
        super().__init__()
        own, dim = settings.sasrec, settings.dim
        self.num_items, self.feedback = num_items, own.feedback
        self.items = nn.Embedding(num_items + 1, dim + 1, padding_idx=num_items)  # latent numbers, then the bias
        self.labels = nn.Embedding(2, dim)
        self.places = nn.Embedding(own.length + 1, dim)
        for table in (self.items, self.labels, self.places):
            nn.init.normal_(table.weight, std=INIT_STD)
        with torch.no_grad():
            self.items.weight[num_items] = 0
            self.items.weight[:, -1] = 0
        layer = nn.TransformerEncoderLayer(dim, own.num_heads, dim, own.dropout, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, own.num_blocks, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.dropout = nn.Dropout(own.dropout)
        self.bias = nn.Linear(dim, 1)

    def forward(self, item: Tensor, label: Tensor) -> Tensor:
        rows = self.items(item.where(item >= 0, self.num_items))[..., :-1]
        if self.feedback:  # a disliked item enters turned round
            rows = rows * (2 * label - 1).unsqueeze(-1) + self.labels(label)
        tokens = F.pad(rows, (0, 0, 1, 0)) + self.places.weight[: rows.shape[1] + 1]
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        state = self.blocks(self.dropout(tokens), mask=mask, is_causal=True)
        return torch.cat([state, self.bias(state)], -1)


@dataclass(frozen=True)
class _Epoch:
    number: int
    valid_auc: float | None
    weights: dict[str, Tensor]


def train(log: Log, settings: EncoderSection, policy: Policy, seed: int, device: str = "cpu") -> tuple[Factors, NDArray[np.float32]]:
    """Fit the train rows of every user and keep the epoch that ranks valid rows best.

    Returns the factors, where a user's vector is the state after the last train row, and logits (n,) of the test rows in the order of
    `log.positions(TEST)`, each from the state before it. Bit for bit repeatable on CPU. Raises DataError without train rows,
    NonFiniteLoss when the fit runs away.
    """
    rows, valid = np.flatnonzero(log.split == TRAIN), log.positions(VALID)
    mean, length = log_odds(log.label[rows]), settings.sasrec.length
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SASRec(len(log.item_ids), settings).to(device)

        def batches() -> Iterator[Ints]:
            pieces = cut(log, rows, length, int(rng.integers(length)))
            return iter(np.split(rng.permutation(pieces), range(settings.batch_size, len(pieces), settings.batch_size)))

        def loss(batch: Ints) -> Tensor:
            model.train()
            item, label = _rows(log, batch, device)
            there = torch.from_numpy(batch >= 0).to(device)
            logits = score(model(item, label)[:, :-1][there], model.items(item[there]), mean)
            return F.binary_cross_entropy_with_logits(logits, label[there].float())

        def look(epoch: int) -> _Epoch:
            logits = predict(model, log, valid, log.visible(policy, VALID), mean)
            weights = {name: weight.clone() for name, weight in model.state_dict().items()}
            return _Epoch(epoch, auc(log.label[valid], logits), weights)

        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        best = best_epoch(settings, optimizer, batches, loss, look)
    model.load_state_dict(best.weights)
    lasts = rows[np.flatnonzero(np.diff(log.user[rows], append=-1))]
    lasts = lasts[np.argsort(log.user[lasts])]
    users = states(model, log, rows, log.first[lasts], lasts + 1)
    factors = Factors(users, _item_vectors(model), mean, best.number, best.valid_auc)
    return factors, predict(model, log, log.positions(TEST), log.visible(policy, TEST), mean)


def cut(log: Log, rows: Ints, length: int, offset: int) -> Ints:
    """Every user's `rows` cut into pieces of at most `length`, as (pieces, length) positions filled up with -1.

    The first piece of a user has length - offset rows, so that over the epochs a row meets histories of every length.
    """
    user = log.user[rows]
    begin = np.flatnonzero(np.diff(user, prepend=-1))
    nth = np.arange(len(rows)) - np.repeat(begin, np.diff(begin, append=len(rows)))
    starts = np.flatnonzero((nth == 0) | ((nth + offset) % length == 0))
    lasts = np.append(starts[1:], len(rows)) - 1
    return windows(rows, rows[starts], rows[lasts] + 1, length)


def predict(model: SASRec, log: Log, positions: Ints, visible: Ints, mean: float) -> NDArray[np.float32]:
    """Logits (n,) of rows, each from the state after the visible rows before it; an unknown item counts as a row of zeros."""
    users = states(model, log, visible, log.first[positions], positions)
    return score(users, gather(_item_vectors(model), log.item[positions]), mean)


def states(model: SASRec, log: Log, visible: Ints, first: Ints, end: Ints) -> NDArray[np.float32]:
    """User vectors (n, dim + 1) after the last visible rows in first[j]:end[j]."""
    device, length = model.bias.weight.device, model.places.num_embeddings - 1
    found = np.empty((len(end), model.items.embedding_dim), np.float32)
    model.eval()
    with torch.inference_mode():
        for begin in range(0, len(end), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            rows = windows(visible, first[part], end[part], length)
            after = torch.from_numpy((rows >= 0).sum(1))
            found[part] = model(*_rows(log, rows, device))[torch.arange(len(rows)), after].cpu().numpy()
    return found


def _rows(log: Log, positions: Ints, device: str | torch.device) -> tuple[Tensor, Tensor]:
    """Items and labels of positions; -1 and 0 where there is none."""
    item = np.where(positions >= 0, log.item[positions], -1)
    label = np.where(positions >= 0, log.label[positions], 0).astype(np.int64)
    return torch.from_numpy(item).to(device), torch.from_numpy(label).to(device)


def _item_vectors(model: SASRec) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = model.items.weight[: model.num_items].detach().cpu().numpy()
    return numbers
