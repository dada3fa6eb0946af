"""Fit the counted prior: item numbers over all of train, and factors, variances and weights on users who stand for all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thinkrec.config.model import PriorSection
from thinkrec.prior.content import Content
from thinkrec.prior.counted import CountedPrior
from thinkrec.prior.features import NAMES, describe_in_parts
from thinkrec.prior.item_factors import fit_item_factors
from thinkrec.prior.items import Items
from thinkrec.prior.logistic import Logistic, fit_logistic
from thinkrec.prior.posterior import Variances
from thinkrec.prior.quality import Parts, fit_quality
from thinkrec.prior.rows import Rows
from thinkrec.prior.variances import fit_variances

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

NUM_GROUPS = 5  # of folds, whose weights come from the other groups
CROSSED_BELOW = 100_000  # rows; sixty weights know nothing of one row among more
WEIGHED_ROWS = 200_000  # that weights are fitted on at most


def fit_prior(parts: Parts, sample: Rows, content: Content, settings: PriorSection, seed: int) -> CountedPrior:
    """`parts`: all train rows, bucket by bucket; `sample`: all rows of users who stand for all."""
    matrix = content.matrix()
    quality = fit_quality(parts, matrix)
    shared = np.hstack([content.keywords, content.years])
    factors = fit_item_factors(sample.ratings(len(matrix)), quality.rate, shared, settings.num_factors, seed)
    items = Items.of(content, quality, factors)
    variances = fit_variances(sample.train_histories(), items, Variances(), seed)

    asked = np.flatnonzero(sample.is_train)[:WEIGHED_ROWS]
    queries = sample.queries(settings.same_second).take(asked)
    described = describe_in_parts(sample.histories(), queries, items, variances, settings.max_history)
    columns = np.concatenate([np.empty((0, len(NAMES))), *(features.columns for _, features in described)])
    user, label = sample.user[asked], sample.label[asked]
    logistic = fit_groups(columns, label, user, sample.fold[user], settings.within_user, seed)
    return CountedPrior(items, variances, logistic, settings.max_history)


def fit_groups(columns: Floats, label: Ints, user: Ints, fold: Ints, within_user: float, seed: int) -> tuple[Logistic, ...]:
    """One regression for each group of folds, on the rows of the others; one for all where there are many rows."""
    if len(label) >= CROSSED_BELOW:
        return (fit_logistic(columns, label, user, within_user, seed),)
    others = [fold % NUM_GROUPS != group for group in range(NUM_GROUPS)]
    return tuple(fit_logistic(columns[rows], label[rows], user[rows], within_user, seed) for rows in others)
