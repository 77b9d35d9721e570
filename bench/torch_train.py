#!/usr/bin/env python3
"""torch_train.py - speed of training the same model in PyTorch, on random tokens; one JSON object on stdout.

  torch_train.py --hidden 512 --layers 8 --heads 8 --ffn 1408 --vocab 100352 --batch 4 --ctx 512 --dtype bf16 --threads 2

The model of `slm2 bench train`: LayerNorm, rotary positions on a part of each head, causal attention, SwiGLU, an output matrix of its own;
mean cross entropy, clipping of the gradient's norm, AdamW.  bf16 is mixed precision: bf16 weights and activations in the products, fp32
weights in the optimizer (autocast).  Debian: apt install python3-torch libopenblas0-openmp.
"""
import argparse
import json
import time

import torch
from torch import nn
from torch.nn import functional as F


def rotate(x, cos, sin):
    """The first 2 * cos.shape[-1] dims of each head are turned, the others pass; x: [batch, head, token, dim]."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1)


def attention(q, k, v):
    """Causal; the fused operation where this PyTorch has it (2.0), else the matrix of scores."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    n = q.shape[-2]
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    return torch.softmax(scores.float().masked_fill(future, float("-inf")), dim=-1).to(v.dtype) @ v


class Layer(nn.Module):
    def __init__(self, hidden, heads, kv_heads, ffn):
        super().__init__()
        self.heads, self.kv_heads, self.dim = heads, kv_heads, hidden // heads
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.q = nn.Linear(hidden, hidden)
        self.k = nn.Linear(hidden, kv_heads * self.dim)
        self.v = nn.Linear(hidden, kv_heads * self.dim)
        self.o = nn.Linear(hidden, hidden, bias=False)
        self.gate = nn.Linear(hidden, ffn, bias=False)
        self.up = nn.Linear(hidden, ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x, cos, sin):
        batch, n, hidden = x.shape
        h = self.norm1(x)
        q = rotate(self.q(h).view(batch, n, self.heads, self.dim).transpose(1, 2), cos, sin)
        k = rotate(self.k(h).view(batch, n, self.kv_heads, self.dim).transpose(1, 2), cos, sin)
        v = self.v(h).view(batch, n, self.kv_heads, self.dim).transpose(1, 2)
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=1) for t in (k, v))
        x = x + self.o(attention(q.to(v.dtype), k.to(v.dtype), v).transpose(1, 2).reshape(batch, n, hidden))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.embed = nn.Embedding(o.vocab, o.hidden)
        self.layers = nn.ModuleList(Layer(o.hidden, o.heads, o.kv_heads or o.heads, o.ffn) for _ in range(o.layers))
        self.norm = nn.LayerNorm(o.hidden)
        self.head = nn.Linear(o.hidden, o.vocab, bias=False)
        half = int(o.hidden // o.heads * o.rotary) // 2
        angle = torch.arange(o.ctx)[:, None] * 10000.0 ** (-torch.arange(half) / max(half, 1))
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return self.head(self.norm(x))


def step(model, optimizer, ids, o):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.dtype == "bf16"):
        logits = model(ids[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, o.vocab).float(), ids[:, 1:].reshape(-1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("hidden", 64), ("layers", 2), ("heads", 4), ("kv-heads", 0), ("ffn", 176), ("vocab", 1024), ("batch", 2), ("ctx", 64), ("threads", 2), ("steps", 3)):
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--rotary", type=float, default=0.25, help="part of each head that is rotated")
    p.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    o = p.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(o.threads)
    model = Model(o)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    ids = torch.randint(o.vocab, (o.batch, o.ctx + 1))
    step(model, optimizer, ids, o)  # warms up
    took, loss = [], 0.0
    for _ in range(o.steps):
        start = time.perf_counter()
        loss = step(model, optimizer, ids, o)
        took.append(time.perf_counter() - start)
    took.sort()
    median = (took[(len(took) - 1) // 2] + took[len(took) // 2]) / 2
    n = o.batch * o.ctx
    print(json.dumps({"tokens_per_s": n / median, "tokens_per_s_min": n / took[-1], "tokens_per_s_max": n / took[0], "median_step_s": median, "tokens_per_step": n, "loss": loss,
                      "parameters": sum(t.numel() for t in model.parameters()), "dtype": o.dtype, "threads": torch.get_num_threads(), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
