#!/usr/bin/env python3
"""make.py - a second folder in the form of tests/data/golden: another shape, other ids and betas, packed conversations that no EOS parts.

    python3 tests/data/golden-small/make.py tests/data/golden-small      # writes the same bytes again

A reference of its own in plain Python: float64 on lists, each operation with its derivative, nothing of this project.  Grouped-query attention with
a sequential residual, which neither model of tests/data/golden has."""
import copy
import json
import math
import os
import random
import struct
import sys

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB, LAYERS, CONTEXT, EOS = 24, 3, 1, 8, 40, 97, 2, 64, 90
ROTATED = HEAD_DIM // 4


class Mat:
    """A matrix as a list of rows, its gradient, and what passes the gradient on."""

    def __init__(self, rows, back=None):
        self.v, self.g, self.back = rows, [[0.0] * len(rows[0]) for _ in rows], back


tape = []


def made(rows, back):
    tape.append(Mat(rows, back))
    return tape[-1]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def linear(x, w):
    def back(o):
        for i, row in enumerate(o.g):
            for j, g in enumerate(row):
                for k in range(len(x.v[i])):
                    x.g[i][k] += g * w.v[j][k]
                    w.g[j][k] += g * x.v[i][k]

    return made([[dot(r, c) for c in w.v] for r in x.v], back)


def plus(x, y):
    """y of one row is a bias."""
    one = len(y.v) == 1 < len(x.v)

    def back(o):
        for i, row in enumerate(o.g):
            for j, g in enumerate(row):
                x.g[i][j] += g
                y.g[0 if one else i][j] += g

    return made([[a + b for a, b in zip(r, y.v[0 if one else i])] for i, r in enumerate(x.v)], back)


def swiglu(gate, up):
    sig = [[1 / (1 + math.exp(-a)) for a in r] for r in gate.v]

    def back(o):
        for i, row in enumerate(o.g):
            for j, g in enumerate(row):
                a, s = gate.v[i][j], sig[i][j]
                up.g[i][j] += g * a * s
                gate.g[i][j] += g * up.v[i][j] * (s + a * s * (1 - s))

    return made([[a * s * b for a, s, b in zip(*t)] for t in zip(gate.v, sig, up.v)], back)


def layer_norm(x, w, b):
    unit, scale = [], []
    for r in x.v:
        mean = sum(r) / len(r)
        scale.append(1 / math.sqrt(sum((a - mean) ** 2 for a in r) / len(r) + 1e-5))
        unit.append([(a - mean) * scale[-1] for a in r])

    def back(o):
        for i, row in enumerate(o.g):
            h = [g * c for g, c in zip(row, w.v[0])]
            mean, along = sum(h) / len(h), dot(h, unit[i]) / len(h)
            for j, g in enumerate(row):
                w.g[0][j] += g * unit[i][j]
                b.g[0][j] += g
                x.g[i][j] += scale[i] * (h[j] - mean - unit[i][j] * along)

    return made([[a * c + d for a, c, d in zip(r, w.v[0], b.v[0])] for r in unit], back)


def rope(x, position, n_head):
    def turned(rows, sign):
        out = [list(r) for r in rows]
        for i, r in enumerate(rows):
            for h in range(n_head):
                for k in range(ROTATED // 2):
                    angle, p = position[i] * 10000 ** (-2 * k / ROTATED), h * HEAD_DIM + k
                    q, c, s = p + ROTATED // 2, math.cos(angle), sign * math.sin(angle)
                    out[i][p], out[i][q] = r[p] * c - r[q] * s, r[q] * c + r[p] * s
        return out

    def back(o):
        for to, row in zip(x.g, turned(o.g, -1)):
            for j, g in enumerate(row):
                to[j] += g

    return made(turned(x.v, 1), back)


def attention(q, k, v, position):
    """A row sees its own sequence, which begins where the position was 0 last, up to itself."""
    out, weights, scale = [[0.0] * len(r) for r in q.v], {}, 1 / math.sqrt(HEAD_DIM)
    for h in range(HEADS):
        a, c = h * HEAD_DIM, h // (HEADS // KV_HEADS) * HEAD_DIM
        for i in range(len(q.v)):
            seen = range(i - position[i], i + 1)
            e = [scale * dot(q.v[i][a:a + HEAD_DIM], k.v[j][c:c + HEAD_DIM]) for j in seen]
            e = [math.exp(s - max(e)) for s in e]
            weights[h, i] = [s / sum(e) for s in e]
            for p, j in zip(weights[h, i], seen):
                for t in range(HEAD_DIM):
                    out[i][a + t] += p * v.v[j][c + t]

    def back(o):
        for (h, i), weight in weights.items():
            a, c = h * HEAD_DIM, h // (HEADS // KV_HEADS) * HEAD_DIM
            seen, g = range(i - position[i], i + 1), o.g[i][a:a + HEAD_DIM]
            dp = [dot(g, v.v[j][c:c + HEAD_DIM]) for j in seen]
            mean = dot(dp, weight)
            for p, d, j in zip(weight, dp, seen):
                for t in range(HEAD_DIM):
                    v.g[j][c + t] += p * g[t]
                    q.g[i][a + t] += p * (d - mean) * scale * k.v[j][c + t]
                    k.g[j][c + t] += p * (d - mean) * scale * q.v[i][a + t]

    return made(out, back)


def embed(w, ids):
    def back(o):
        for i, row in zip(ids, o.g):
            for j, g in enumerate(row):
                w.g[i][j] += g

    return made([list(w.v[i]) for i in ids], back)


# ---- the model ---------------------------------------------------------------------------------------------------------------
def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def fresh(seed):
    r = random.Random(seed)

    def mat(n, m, sd, mean=0.0):
        return Mat([[f32(r.gauss(mean, sd)) for _ in range(m)] for _ in range(n)])

    p = {"model.embed_tokens.weight": mat(VOCAB, HIDDEN, 0.6), "lm_head.weight": mat(VOCAB, HIDDEN, 0.15)}
    norms = ["model.norm"]
    for l in range(LAYERS):
        at = f"model.layers.{l}."
        norms += [at + "input_layernorm", at + "post_attention_layernorm"]
        for name, n in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            p[at + f"self_attn.{name}_proj.weight"] = mat(n * HEAD_DIM, HIDDEN, 0.2)
            p[at + f"self_attn.{name}_proj.bias"] = mat(1, n * HEAD_DIM, 0.2)
        p[at + "self_attn.o_proj.weight"] = mat(HIDDEN, HEADS * HEAD_DIM, 0.2)
        p[at + "mlp.gate_proj.weight"], p[at + "mlp.up_proj.weight"] = mat(FFN, HIDDEN, 0.2), mat(FFN, HIDDEN, 0.2)
        p[at + "mlp.down_proj.weight"] = mat(HIDDEN, FFN, 0.2)
    for name in norms:
        p[name + ".weight"], p[name + ".bias"] = mat(1, HIDDEN, 0.2, 1), mat(1, HIDDEN, 0.1)
    return p


def forward(p, ids, position):
    x = embed(p["model.embed_tokens.weight"], ids)
    for l in range(LAYERS):
        at = f"model.layers.{l}."
        h = layer_norm(x, p[at + "input_layernorm.weight"], p[at + "input_layernorm.bias"])
        q, k, v = (plus(linear(h, p[at + f"self_attn.{n}_proj.weight"]), p[at + f"self_attn.{n}_proj.bias"]) for n in "qkv")
        a = attention(rope(q, position, HEADS), rope(k, position, KV_HEADS), v, position)
        x = plus(x, linear(a, p[at + "self_attn.o_proj.weight"]))
        h = layer_norm(x, p[at + "post_attention_layernorm.weight"], p[at + "post_attention_layernorm.bias"])
        h = swiglu(linear(h, p[at + "mlp.gate_proj.weight"]), linear(h, p[at + "mlp.up_proj.weight"]))
        x = plus(x, linear(h, p[at + "mlp.down_proj.weight"]))
    return linear(layer_norm(x, p["model.norm.weight"], p["model.norm.bias"]), p["lm_head.weight"])


def nll(logits, targets, weights=None):
    """-log p of each target; with weights also the gradient of their weighted sum."""
    out = []
    for i, (row, t) in enumerate(zip(logits.v, targets)):
        most = max(row)
        total = sum(math.exp(a - most) for a in row)
        out.append(most + math.log(total) - row[t])
        for j, a in enumerate(row if weights and weights[i] else []):
            logits.g[i][j] += weights[i] * (math.exp(a - most) / total - (j == t))
    return out


def clear(p):
    tape.clear()
    for m in p.values():
        m.g = [[0.0] * len(r) for r in m.v]


def backward():
    for m in reversed(tape):
        m.back(m)


def norm(p):
    return math.sqrt(sum(g * g for m in p.values() for r in m.g for g in r))


# ---- files -------------------------------------------------------------------------------------------------------------------
def flat(rows):
    return [a for r in rows for a in r]


def write_tensors(path, tensors):
    head, blob = {}, b""
    for name, (kind, shape, values) in tensors.items():
        data = struct.pack(f"<{len(values)}" + ("f" if kind == "F32" else "i"), *values)
        head[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + blob)


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f)
        f.write("\n")


def tensors(p, what="v"):
    return {name: ("F32", [len(m.v[0])] if "norm" in name or "bias" in name else [len(m.v), len(m.v[0])], flat(getattr(m, what))) for name, m in p.items()}


def write_model(path, p):
    write_tensors(path + "/model.safetensors", tensors(p))
    write_json(path + "/config.json", {
        "architectures": ["StableLmForCausalLM"], "model_type": "stablelm", "bos_token_id": EOS, "eos_token_id": EOS, "hidden_act": "silu", "hidden_size": HIDDEN,
        "intermediate_size": FFN, "layer_norm_eps": 1e-5, "max_position_embeddings": CONTEXT, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS, "partial_rotary_factor": 0.25, "qk_layernorm": False, "rope_theta": 10000, "tie_word_embeddings": False,
        "torch_dtype": "float32", "use_parallel_residual": False, "use_qkv_bias": True, "vocab_size": VOCAB})


def make_forward(out, p, r):
    t = {}
    for i, n in enumerate([1, 5, CONTEXT, 20]):
        ids = [r.randrange(VOCAB) for _ in range(n)]
        tape.clear()
        t[f"seq{i}.ids"] = ("I32", [n], ids)
        t[f"seq{i}.logits"] = ("F32", [n, VOCAB], flat(forward(p, ids, range(n)).v))
    write_tensors(out + "/forward/small.safetensors", t)


def make_sft(out, p, r):
    rows, length, starts = 2, 25, [[0, 9, 10, 18], [0, 13]]
    ids = [[r.randrange(VOCAB) for _ in range(length + 1)] for _ in range(rows)]
    loss_mask = [[int(i % 7 > 3) for i in range(length + 1)] for _ in range(rows)]
    position = [[i - max(s for s in starts[b] if s <= i) for i in range(length)] for b in range(rows)]
    document = [[sum(s <= i for s in starts[b]) - 1 for i in range(length)] for b in range(rows)]
    mask = [m[1:] for m in loss_mask]
    n = sum(map(sum, mask))
    clear(p)
    lost = [nll(forward(p, ids[b][:-1], position[b]), ids[b][1:], [m / n for m in mask[b]]) for b in range(rows)]
    backward()
    total = dot(flat(lost), flat(mask))
    wide, narrow = [rows, length + 1], [rows, length]
    write_tensors(out + "/sft/batch.safetensors", {
        "ids": ("I32", wide, flat(ids)), "loss_mask": ("I32", wide, flat(loss_mask)), "inputs": ("I32", narrow, flat(i[:-1] for i in ids)), "targets": ("I32", narrow, flat(i[1:] for i in ids)),
        "target_mask": ("I32", narrow, flat(mask)), "doc_ids": ("I32", narrow, flat(document)), "position_ids": ("I32", narrow, flat(position)), "nll": ("F32", narrow, flat(lost))})
    write_tensors(out + "/sft/small.grad.safetensors", tensors(p, "g"))
    write_json(out + "/sft/sft.json", {"start": "small", "batch": rows, "seq_len": length, "n_target_tokens": n, "loss": total / n, "nll_sum": total, "grad_norm": norm(p)})


def answer(p, prompt, text, weight=0.0):
    """log p of an answer; the gradient of -weight times it."""
    ids, first = prompt + text, len(prompt) - 1
    return -sum(nll(forward(p, ids[:-1], range(len(ids) - 1)), ids[1:], [weight if i >= first else 0 for i in range(len(ids) - 1)])[first:])


def log_probs(p, pairs):
    tape.clear()
    return [[answer(p, x["prompt"], x[side]) for x in pairs] for side in ("chosen", "rejected")]


def make_dpo(out, p, ref, r):
    def ids(n):
        return [r.randrange(VOCAB) for _ in range(n)]

    pairs = [{"prompt": ids(a), "chosen": ids(b - 1) + [EOS], "rejected": ids(c - 1) + [EOS]} for a, b, c in [(6, 5, 9), (1, 1, 3), (10, 12, 2), (3, 7, 7), (8, 4, 1)]]
    n, (ref_c, ref_r) = len(pairs), log_probs(ref, pairs)

    def rewards(model, beta):
        c, d = log_probs(model, pairs)
        c, d = [beta * (x - y) for x, y in zip(c, ref_c)], [beta * (x - y) for x, y in zip(d, ref_r)]
        margin = [x - y for x, y in zip(c, d)]
        return c, d, margin, [math.log1p(math.exp(-m)) for m in margin]

    def gradient(model, beta):
        c, d, margin, loss = rewards(model, beta)
        clear(model)
        for x, m in zip(pairs, margin):
            push = beta / (1 + math.exp(m)) / n
            answer(model, x["prompt"], x["chosen"], push)
            answer(model, x["prompt"], x["rejected"], -push)
        backward()
        return c, d, margin, loss

    c, d = log_probs(p, pairs)
    j = {"policy": "small", "reference": "small-ref", "pairs": pairs, "ref_logp_chosen": ref_c, "ref_logp_rejected": ref_r, "policy_logp_chosen": c, "policy_logp_rejected": d,
         "by_beta": {}, "rmsprop": []}
    for beta in (0.05, 0.5):
        c, d, margin, loss = gradient(p, beta)
        j["by_beta"][str(beta)] = {"reward_chosen": c, "reward_rejected": d, "margin": margin, "loss_per_pair": loss, "loss": sum(loss) / n, "accuracy": sum(m > 0 for m in margin) / n,
                                   "grad_norm": norm(p)}
        write_tensors(f"{out}/dpo/grad_beta{beta}.safetensors", tensors(p, "g"))
    for beta, lr in ((0.05, 1e-5), (0.5, 1e-3)):
        model, steps = copy.deepcopy(p), []
        square = {name: [[0.0] * len(row) for row in m.v] for name, m in p.items()}
        for s in range(2):
            c, d, margin, loss = gradient(model, beta)
            steps.append({"step": s, "loss": sum(loss) / n, "margin": margin, "grad_norm": norm(model)})
            for name, m in model.items():
                for row, grad, sq in zip(m.v, m.g, square[name]):
                    for i, g in enumerate(grad):
                        sq[i] = 0.99 * sq[i] + 0.01 * g * g
                        row[i] -= lr * g / (math.sqrt(sq[i]) + 1e-8)
        c, d, margin, loss = rewards(model, beta)
        name = f"params_beta{beta}_lr{lr}.safetensors"
        write_tensors(f"{out}/dpo/{name}", tensors(model))
        j["rmsprop"].append({"beta": beta, "lr": lr, "alpha": 0.99, "eps": 1e-8, "steps": steps, "final_loss": sum(loss) / n, "final_margin": margin, "params": name})
    write_json(out + "/dpo/dpo.json", j)


def main():
    out, r, noise = sys.argv[1], random.Random(5), random.Random(9)
    p = fresh(7)
    ref = copy.deepcopy(p)
    for m in ref.values():
        m.v = [[f32(a + noise.gauss(0, 0.01)) for a in row] for row in m.v]
    write_model(out + "/small", p)
    write_model(out + "/small-ref", ref)
    make_forward(out, p, r)
    make_sft(out, p, r)
    make_dpo(out, p, ref, r)


if __name__ == "__main__":
    main()
