"""The models of the suite `fit` in PyTorch, which this file imports."""

import numpy as np
import torch
from torch import nn

from experiments.benchmark.fit_models import CLASSES, RATE, VOCABULARY


def textbook() -> nn.Module:
    layers = []
    for inputs, outputs in ((784, 128), (128, 64)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(64, CLASSES))


def Convnet() -> nn.Module:
    layers = []
    for inputs, outputs in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2)]
    head = nn.Linear(7 * 7 * 32, CLASSES)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(RATE), head)


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.drops = nn.ModuleList([nn.Dropout(RATE) for _ in range(2)])
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        h = self.norms[0](x)
        x = x + self.drops[0](self.attention(h, h, h, need_weights=False)[0])
        return x + self.drops[1](self.down(torch.relu(self.up(self.norms[1](x)))))


class Transformer(nn.Module):
    def __init__(self, width: int = 64):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    """Its LSTM has a second bias, which adds to the first: 4 x 64 parameters more."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(16, 64, batch_first=True)
        self.drop, self.head = nn.Dropout(RATE), nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head(self.drop(self.rnn(x)[0][:, -1]))


def inputs(x: np.ndarray) -> torch.Tensor:
    """As PyTorch takes them: channels of images before height and width."""
    tensor = torch.from_numpy(x)
    return tensor.permute(0, 3, 1, 2).contiguous() if x.ndim == 4 else tensor
