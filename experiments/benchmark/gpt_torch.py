"""The small GPT of `nets/gpt.py` in PyTorch, as nanoGPT writes it, and its training."""

import torch
from torch import nn
from torch.nn import functional

from experiments.nets.gpt import Size


class Attention(nn.Module):
    """Causal self-attention by PyTorch's own function."""

    def __init__(self, size: Size, rate: float):
        super().__init__()
        self.heads, self.rate = size.heads, rate
        self.qkv = nn.Linear(size.width, 3 * size.width, bias=False)
        self.out = nn.Linear(size.width, size.width, bias=False)

    def forward(self, x):
        batch, length, width = x.shape
        split = (batch, length, self.heads, width // self.heads)
        q, k, v = (a.view(split).transpose(1, 2) for a in self.qkv(x).split(width, dim=2))
        rate = self.rate if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """Attention and an MLP, each added to the residual stream."""

    def __init__(self, size: Size, rate: float):
        super().__init__()
        width = size.width
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
        self.attention = Attention(size, rate)
        self.mlp_in = nn.Linear(width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)
        self.drop = nn.Dropout(rate)

    def forward(self, x):
        x = x + self.drop(self.attention(self.norms[0](x)))
        hidden = functional.gelu(self.mlp_in(self.norms[1](x)), approximate="tanh")
        return x + self.drop(self.mlp_out(hidden))


class GPT(nn.Module):
    """Characters (examples, length) -> logits (examples, length, symbols)."""

    def __init__(self, symbols: int, size: Size, rate: float):
        super().__init__()
        self.characters = nn.Embedding(symbols, size.width)
        self.positions = nn.Embedding(size.context, size.width)
        self.drop = nn.Dropout(rate)
        self.blocks = nn.ModuleList(Block(size, rate) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                last = name.endswith(("attention.out.weight", "mlp_out.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * size.layers) ** 0.5 if last else 0.02)

    def forward(self, x):
        h = self.drop(self.characters(x) + self.positions.weight[: x.shape[1]])
        for block in self.blocks:
            h = block(h)
        return functional.linear(self.norm(h), self.characters.weight)


class Training:
    """A network, its AdamW, and `update`s on random windows of one long text.

    Args:
      text: uint8 characters.
      batch_size: windows an update.
      products: "bfloat16" for autocast, which rounds the factors of products.
    """

    def __init__(
        self, symbols: int, size: Size, rate: float, text: torch.Tensor, batch_size: int,
        products: str,
    ):  # fmt: skip
        self.model, self.text = GPT(symbols, size, rate), text.long()
        self.context, self.batch_size, self.products = size.context, batch_size, products
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
            lr=1e-3, betas=(0.9, 0.99), fused=True,
        )  # fmt: skip

    def update(self) -> None:
        starts = torch.randint(len(self.text) - self.context, (self.batch_size, 1))
        rows = starts + torch.arange(self.context + 1)
        windows = self.text[rows]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.products == "bfloat16"):
            logits = self.model(windows[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
