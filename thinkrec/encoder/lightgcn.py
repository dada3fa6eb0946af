"""LightGCN (He et al., 2020): vectors that have travelled along the graph of who liked what.

    E = mean of E_0, A E_0, ..., A^K E_0          A = D^-1/2 (likes between users and items) D^-1/2

E_0 is learned, and there is nothing else but the biases, which do not travel. The graph holds liked train rows only; the loss is binary
cross-entropy over liked and disliked rows, as in CoLLM and ThinkRec (docs/method.md 2), which leave the biases out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thinkrec.config.model import EncoderSection
from thinkrec.encoder.factors import INIT_STD, Factors, Ratings
from thinkrec.encoder.fit_factors import fit_pairs


def train(
    rows: Ratings, valid: Ratings, num_users: int, num_items: int, settings: EncoderSection, seed: int, device: str = "cpu"
) -> Factors:
    """Fit E_0 and the biases. A step walks the whole graph, so a large graph wants large batches. Bit for bit repeatable on CPU.

    Raises DataError without train rows, NonFiniteLoss when the fit runs away.
    """
    generator = torch.Generator().manual_seed(seed)
    start = nn.Parameter((torch.randn(num_users + num_items, settings.dim, generator=generator) * INIT_STD).to(device))
    bias = nn.Parameter(torch.zeros(num_users + num_items, 1, device=device))
    graph = adjacency(rows, num_users, num_items).to(device)

    def vectors() -> Tensor:
        return torch.cat([propagate(graph, start, settings.lightgcn.num_layers), bias], 1)

    def look_up(user: Tensor, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        table, own = vectors(), torch.cat([start, bias], 1)
        pair = (user, num_users + item)
        p, q = (F.embedding(node, table) for node in pair)
        return p, q, sum((F.embedding(node, own).square().sum(1) for node in pair), torch.zeros((), device=device))

    def tables() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            table = vectors()
        return table[:num_users], table[num_users:]

    return fit_pairs(rows, valid, settings, generator, torch.optim.Adam([start, bias], lr=settings.lr), look_up, tables)


def adjacency(rows: Ratings, num_users: int, num_items: int) -> Tensor:
    """Sparse symmetric (num_users + num_items) square: 1 / sqrt(likes of the user * likes of the item) at each like; users come first."""
    liked = rows.label == 1
    user, item = torch.from_numpy(rows.user[liked]), torch.from_numpy(rows.item[liked]) + num_users
    ends = torch.stack([torch.cat([user, item]), torch.cat([item, user])])
    degree = torch.bincount(ends[0], minlength=num_users + num_items).double()
    weights = (degree[ends[0]] * degree[ends[1]]).rsqrt().float()
    return torch.sparse_coo_tensor(ends, weights, (num_users + num_items,) * 2, check_invariants=True).coalesce()


def propagate(graph: Tensor, start: Tensor, num_layers: int) -> Tensor:
    """Mean of `start` (nodes, dim) and its first `num_layers` steps along the graph."""
    layers = [start]
    for _ in range(num_layers):
        layers.append(torch.sparse.mm(graph, layers[-1]))
    return torch.stack(layers).mean(0)
