"""The protocol of Kornblith, Shlens and Le (CVPR 2019): logistic regression on frozen features."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

STRENGTHS = (-6.0, 5.0)  # of C, powers of ten


class Outcome(NamedTuple):
    """What was measured on the test set, and which C was chosen by what score on the validation set."""

    score: float
    c: float
    validation: float


def accuracy(truth: np.ndarray, guess: np.ndarray, per_class: bool) -> float:
    """Share of right guesses, of all images or, ``per_class``, the mean over classes of the share in each."""
    right = truth == guess
    if not per_class:
        return float(right.mean())
    return float(np.mean([right[truth == each].mean() for each in np.unique(truth)]))


def fit(x: np.ndarray, y: np.ndarray, c: float, steps: int) -> LogisticRegression:
    """Multinomial logistic regression by L-BFGS from zero, so that no fit depends on another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a large C needs more steps than it is worth
        return LogisticRegression(C=c, max_iter=steps).fit(x, y)


def transfer(
    learn: tuple[np.ndarray, np.ndarray],
    validate: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    per_class: bool = False,
    values: int = 45,
    steps: int = 1000,
) -> Outcome:
    """Choose C on ``validate``, fit ``learn`` and ``validate`` together, and score ``test``.

    Args:
        learn: features (N, D) and labels (N,). The others likewise.
        validate: see above.
        test: see above.
        per_class: see :func:`accuracy`, in choosing too.
        values: so many C, evenly between the powers of ten of STRENGTHS. Of equal ones the smallest is taken.
        steps: most steps of L-BFGS.
    """
    scores: dict[float, float] = {}
    for c in np.logspace(*STRENGTHS, values).tolist():
        scores[c] = accuracy(validate[1], fit(*learn, c, steps).predict(validate[0]), per_class)
    best = max(scores, key=lambda c: scores[c])
    both: Any = [np.concatenate(pair) for pair in zip(learn, validate, strict=True)]
    final = fit(*both, best, steps).predict(test[0])
    return Outcome(accuracy(test[1], final, per_class), best, scores[best])
