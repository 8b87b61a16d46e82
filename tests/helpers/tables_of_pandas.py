"""What of pandas `fit` uses; pandas itself is not installed with the tests."""

import numpy as np


class Column:
    """What of a Series is used."""

    def __init__(self, values, dtype=None, missing=0):
        self.values, self.missing = np.asarray(values), missing
        self.dtype = self.values.dtype if dtype is None else dtype

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def isna(self):
        return np.arange(len(self.values)) < self.missing

    @property
    def shape(self):
        return self.values.shape


class Frame:
    """What of a DataFrame is used."""

    def __init__(self, **columns):
        self.parts = {
            name: c if isinstance(c, Column) else Column(c) for name, c in columns.items()
        }
        self.columns = list(columns)
        self.shape = (next(iter(self.parts.values())).shape[0], len(columns))
        self.iloc = self

    def __getitem__(self, place):
        return list(self.parts.values())[place[1]]

    def to_numpy(self):
        return np.stack([c.values for c in self.parts.values()], axis=1)
