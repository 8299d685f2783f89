"""A Gaussian fitted to a cluster of clips, of however few clips."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Normal:
    """A Gaussian of full covariance.

    Arguments
    ---------
    mean : np.ndarray
        (k,).
    root : np.ndarray
        (k, k), the lower root of the covariance.
    shrunk : bool
        Whether it is not the empirical one.
    """

    mean: np.ndarray
    root: np.ndarray
    shrunk: bool

    @classmethod
    def of(
        cls, points: np.ndarray, enough: float = 0.0, spread: np.ndarray | float = 1.0
    ) -> "Normal":
        """That of points (n, k), of the empirical covariance unless it is singular.

        Then, or of fewer than `enough` points a dimension, it is shrunk towards that of the whole
        class, as if k more points had shown it: of barely more points than dimensions the empirical
        one is nearly singular, and a few outliers would make any class look poisoned.

        Arguments
        ---------
        points : np.ndarray
            At least one.
        enough : float
            0 shrinks only where it must.
        spread : np.ndarray | float
            (k,) variances of the whole class, along whose axes the points are given.
        """
        count, size = points.shape
        covariance = np.cov(points, rowvar=False, bias=True).reshape(size, size)
        shrunk = count < enough * size or np.linalg.matrix_rank(covariance, hermitian=True) < size
        if shrunk:
            covariance = (count * covariance + size * spread * np.eye(size)) / (count + size)
        return cls(points.mean(0), np.linalg.cholesky(covariance), bool(shrunk))

    def surprise(self, points: np.ndarray) -> float:
        """Mean negative log-likelihood of points (m, k), in nats."""
        distances = np.linalg.solve(self.root, (points - self.mean).T) ** 2
        constant = len(self.mean) * np.log(2 * np.pi) / 2 + np.log(np.diag(self.root)).sum()
        return float(constant + distances.sum(0).mean() / 2)
