// llama.mjs - llama.cpp (node-llama-cpp) opens every GGUF file of ours: same tokens, same next-token distributions at every position of a
// prompt, same greedy continuation; and a file that llama.cpp quantised itself opens here, its blocks equal to ours.
//
// The bound on differences.  Both programs multiply the same weights W; llama.cpp first rounds the inputs x of a product to the partner type
// of W: to 8 bits in blocks of 32 for Q8_0 and Q4_0 (step = largest of the block / 127), to F16 or BF16 for those.  Relative to x the error is
//   e = sqrt(32) / (127 sqrt(12)) = 0.0129   Q8_0, Q4_0: uniform over a step, the largest of 32 numbers is at most sqrt(32) times their rms,
//   e = sqrt(256) / (127 sqrt(12)) = 0.036   Q4_K, Q5_K, Q6_K, for which llama.cpp takes blocks of 256,
//   e = 2^-11   F16,   2^-8   BF16: half a unit in the last place.
// Independent errors leave the sum of a product with the same relative error.  On its way a logit sees in each layer the rounding before q/k/v,
// o, gate/up and down, and three more for the products of two rounded things (q with k, their softmax with v, gate with up), then the head's:
//   rms(logit difference) <= e sqrt(7 n_layer + 1) rms(logit - mean),   and the largest of n is below sqrt(2 ln n) + 1 of that.
// Norms keep the relative size, the residual sum dilutes it.  For F32 both round in the last bit only: 1e-4, absolute.
// `--no-exact` rounds our inputs too, to 8 bits in blocks of 32 for all block types or to BF16: the two errors add as squares.
// A log-probability is logit - log sum exp, so it moves by at most twice the largest difference.  Keys and values are F32 on both sides.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { check, data, file, filesFolder, finish, jsonLines, note, runJson, tokenize } from "./peer.mjs";

process.env.NODE_LLAMA_CPP_SKIP_DOWNLOAD = "true";
const { getLlama, LlamaLogLevel } = await import("node-llama-cpp");
const EIGHT_BITS = Math.sqrt(32) / (127 * Math.sqrt(12));
const K_BITS = Math.sqrt(256) / (127 * Math.sqrt(12));
const ROUNDING = { f32: 0, f16: 2 ** -11, bf16: 2 ** -8, q8_0: EIGHT_BITS, q4_0: EIGHT_BITS, q4_1: EIGHT_BITS, q4_k_m: K_BITS, q5_k_m: K_BITS, q6_k: K_BITS };
const OURS = { f32: 0, f16: 0, bf16: 2 ** -8 }; // of --no-exact; blocks: EIGHT_BITS
const N_NEW = 24;

const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, usePrebuiltBinaries: true, maxThreads: 2, progressLogs: false, logLevel: LlamaLogLevel.error });

async function open(name) {
    const model = await llama.loadModel({ modelPath: name, gpuLayers: 0 });
    const context = await model.createContext({ sequences: 1, contextSize: 128, batchSize: 128, threads: 2, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" });
    return { model, sequence: context.getSequence(), close: async () => { await context.dispose(); await model.dispose(); } };
}

/** Logits after each of the ids, a dense array per position. */
async function theirLogits({ sequence }, ids, vocabSize) {
    await sequence.clearHistory();
    const output = await sequence.controlledEvaluate(ids.map((id) => [id, { generateNext: { logits: true } }]));
    return output.map(({ next }) => {
        const row = new Float64Array(vocabSize).fill(NaN);
        for (const [id, logit] of next.logits) row[id] = logit;
        return row;
    });
}

async function theirGreedy({ sequence }, ids, count) {
    await sequence.clearHistory();
    const made = [];
    for (let input = ids; made.length < count; input = [made.at(-1)]) {
        const last = input.length - 1;
        const output = await sequence.controlledEvaluate(input.map((id, i) => (i < last ? id : [id, { generateNext: { token: true, options: { temperature: 0 } } }])));
        made.push(output[last].next.token);
    }
    return made;
}

const oursAll = (name, ids, exact = true) => runJson(["logits", "--model", name, "--ids", ids.join(" "), "--json", "--all", exact ? "--exact" : "--no-exact"]).logits;

function logProbs(row) {
    let max = -Infinity, sum = 0;
    for (const x of row) max = Math.max(max, x);
    for (const x of row) sum += Math.exp(x - max);
    return Float64Array.from(row, (x) => x - max - Math.log(sum));
}

function spread(row) {
    let mean = 0, square = 0;
    for (const x of row) mean += x / row.length;
    for (const x of row) square += (x - mean) ** 2 / row.length;
    return Math.sqrt(square);
}

/** Compares two lists of logit rows; returns what was found and what is allowed. */
function compare(ours, theirs, type, nLayer, exact = true) {
    const n = ours[0].length, rounding = Math.hypot(ROUNDING[type], exact ? 0 : OURS[type] ?? EIGHT_BITS);
    const chain = rounding * Math.sqrt(7 * nLayer + 1), tail = Math.sqrt(2 * Math.log(n)) + 1;
    const r = { top: 0, rms: 0, logit: 0, logProb: 0, probability: 0, allowedRms: 1e-4, allowed: 1e-4 };
    ours.forEach((row, i) => {
        const size = spread(row), a = logProbs(row), b = logProbs(theirs[i]);
        let square = 0, best = 0, theirBest = 0;
        for (let k = 0; k < n; k++) {
            if (row[k] > row[best]) best = k;
            if (theirs[i][k] > theirs[i][theirBest]) theirBest = k;
            const d = Math.abs(row[k] - theirs[i][k]);
            square += d * d / n;
            r.logit = Number.isNaN(d) ? NaN : Math.max(r.logit, d);
            r.logProb = Math.max(r.logProb, Math.abs(a[k] - b[k]));
            r.probability = Math.max(r.probability, Math.abs(Math.exp(a[k]) - Math.exp(b[k])));
        }
        r.rms = Math.max(r.rms, Math.sqrt(square));
        r.top += best === theirBest;
        r.tie = Math.max(r.tie ?? 0, row[best] - row[theirBest]); // how far apart ours has the two that are best
        r.allowedRms = Math.max(r.allowedRms, chain * size);
        r.allowed = Math.max(r.allowed, chain * size * tail);
    });
    r.ok = r.tie <= 2 * r.allowed && r.rms <= r.allowedRms && r.logit <= r.allowed && r.logProb <= (type === "f32" ? 1 : 2) * r.allowed;
    r.text = `top token ${r.top} of ${ours.length}, logits rms ${r.rms.toExponential(1)} (bound ${r.allowedRms.toExponential(1)}), largest ${r.logit.toExponential(1)} (${r.allowed.toExponential(1)}), log-prob ${r.logProb.toExponential(1)} (${((type === "f32" ? 1 : 2) * r.allowed).toExponential(1)}), prob ${r.probability.toExponential(1)}`;
    return r;
}

/** The same tokens, or a first difference where the two logits are closer than the error allows. */
function greedy(what, name, prompt, theirs, allowed) {
    const ours = runJson(["generate", "--model", name, "--ids", prompt.join(" "), "-n", String(N_NEW), "--greedy", "--ignore-eos", "--json"]).ids;
    const at = ours.findIndex((id, i) => id !== theirs[i]);
    if (at < 0) return check(what, ours.length === N_NEW, `${ours.length} tokens`);
    const row = oursAll(name, prompt.concat(ours.slice(0, at))).at(-1), gap = row[ours[at]] - row[theirs[at]];
    if (gap <= 2 * allowed && at > 0) note(`${what}: parts at token ${at} of ${N_NEW}, where the two best logits are ${gap.toExponential(1)} apart (a tie within ${(2 * allowed).toExponential(1)})`);
    return check(what, gap <= 2 * allowed && at > 0, `ours ${ours} theirs ${theirs}, gap ${gap}`);
}

const promptOf = (vocabSize) => (vocabSize > 1000 ? [791, 6864, 315, 9822, 374, 264, 2294, 13, 220, 1049] : [1, 2, 3, 400, 505, 7, 88, 508]);

for (const base of readdirSync(filesFolder).filter((n) => n.endsWith(".gguf")).sort()) {
    const name = file(base), type = base.match(/-([a-z0-9_]+)\.gguf$/)[1];
    const { vocab_size: vocabSize, n_layer: nLayer } = runJson(["info", name, "--json"]).model;
    const peer = await open(name), ids = promptOf(vocabSize);
    const exact = oursAll(name, ids), theirs = await theirLogits(peer, ids, vocabSize), r = compare(exact, theirs, type, nLayer);
    note(`${base}: ${r.text}`);
    check(`llama.cpp ${base}: next-token distributions`, r.ok, r.text);
    if (type !== "f32" && type !== "f16") fast(`llama.cpp ${base}`, name, ids, exact, theirs, type, nLayer);
    if (type === "f32" || type === "f16") greedy(`llama.cpp ${base}: greedy continuation`, name, ids, await theirGreedy(peer, ids, N_NEW), r.allowed);
    if (base === "nano-f32.gguf") tokens(peer.model);
    await peer.close();
}

/** The same with rounded activations on our side; `theirs` and ours both lie around the exact logits, ours should lie no further off. */
function fast(what, name, ids, exact, theirs, type, nLayer) {
    const rounded = oursAll(name, ids, false), r = compare(rounded, theirs, type, nLayer, false);
    note(`${what} --no-exact: ${r.text}; rms from exact: ours ${compare(rounded, exact, type, nLayer, false).rms.toExponential(1)}, theirs ${compare(theirs, exact, type, nLayer).rms.toExponential(1)}`);
    check(`${what} --no-exact: next-token distributions`, r.ok, r.text);
}

/** The golden lines through llama.cpp's tokenizer, which does no NFC: it gets the text that the line's norm asks for. */
function tokens(model) {
    const golden = jsonLines(data("tokenizer", "golden.jsonl")), lines = golden.filter((l) => typeof l.text === "string");
    const ours = tokenize(lines.map(({ text, allowed_special, norm }) => ({ text, allowed_special, norm }))), differ = [];
    lines.forEach((line, i) => {
        const theirs = model.tokenize(line.norm === "nfc" ? line.text.normalize("NFC") : line.text, line.allowed_special === "all");
        if (theirs.join() !== ours[i].join()) differ.push(`${i} (${line.cat}) ${JSON.stringify(line.text).slice(0, 60)} ours ${ours[i].slice(0, 20)} theirs ${theirs.slice(0, 20)}`);
    });
    note(`tokenizer: ${lines.length} golden texts compared, ${differ.length} differ; left out: ${golden.length - lines.length} lines of bytes, for which llama.cpp's interface has no call`);
    check("llama.cpp tokenizer: golden texts", differ.length === 0 && lines.length > 0, () => `${differ.length} lines: ${differ.slice(0, 12).join("; ")}`);
}

// its own quantised file opens here, gives its logits, and holds the blocks that we write
if (process.env.PEER_TOOLS) {
    const scratch = path.join(filesFolder, "theirs");
    const CASES = { tiny: ["Q8_0", "Q4_0"], nano: ["Q8_0", "Q4_0"], wide: ["Q4_1", "Q4_K_M", "Q5_K_M", "Q6_K"] };
    for (const model of Object.keys(CASES))
        for (const type of CASES[model]) {
            const what = `quantised by llama.cpp: ${model} ${type}`, theirs = path.join(scratch, `${model}-${type}.gguf`);
            try {
                execFileSync(path.join(process.env.PEER_TOOLS, "llama_quantize"), [process.env.PEER_LIBRARY, file(`${model}-f32.gguf`), theirs, type], { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
            } catch (error) {
                check(what, false, String(error.stderr).trim().split("\n").slice(-4).join(" | "));
                continue;
            }
            const info = runJson(["info", theirs, "--json", "--tensors"]), ids = promptOf(info.model.vocab_size);
            check(`${what}: info`, info.types[type.replace("_M", "")] > 0, JSON.stringify(info.types));
            const peer = await open(theirs), logits = await theirLogits(peer, ids, info.model.vocab_size);
            const exact = oursAll(theirs, ids), r = compare(exact, logits, type.toLowerCase(), info.model.n_layer);
            if (model === "wide") fast(what, theirs, ids, exact, logits, type.toLowerCase(), info.model.n_layer);
            await peer.close();
            note(`${what} ${JSON.stringify(info.types)}: ${r.text}`);
            check(`${what}: next-token distributions`, r.ok, r.text);
            if (!type.includes("_K")) sameBlocks(what, theirs, file(`${model}-${type.toLowerCase()}.gguf`));
        }
    refused(scratch);
}

/** A type that we do not have: the file is listed, and not run with an error that names a tensor and its type. */
function refused(scratch) {
    const name = path.join(scratch, "wide-Q5_0.gguf");
    execFileSync(path.join(process.env.PEER_TOOLS, "llama_quantize"), [process.env.PEER_LIBRARY, file("wide-f32.gguf"), name, "Q5_0"], { stdio: "ignore" });
    check("Q5_0: info", runJson(["info", name, "--json", "--tensors"]).types.Q5_0 > 0);
    let message = "";
    try {
        oursAll(name, [1]);
    } catch (error) {
        message = String(error.stderr);
    }
    check("Q5_0: error", message.includes("Q5_0") && message.includes(".weight"), message);
}

/** Where both files have a tensor in the same type, its bytes; read by slm2's own listing, its offsets follow from the sizes. */
function sameBlocks(what, theirs, ours) {
    const list = (name) => {
        const bytes = readFileSync(name), tensors = runJson(["info", name, "--json", "--tensors"]).tensor_list;
        const total = tensors.reduce((sum, t) => sum + Math.ceil(t.bytes / 32) * 32, 0), found = new Map();
        let at = bytes.length - total;
        for (const t of tensors) {
            found.set(t.name, { type: t.type, bytes: bytes.subarray(at, at + t.bytes) });
            at += Math.ceil(t.bytes / 32) * 32;
        }
        return found;
    };
    const a = list(ours), b = list(theirs);
    let same = 0, other = 0;
    const differ = [];
    for (const [name, t] of a) {
        const u = b.get(name);
        if (!u || u.type !== t.type) other++;
        else if (u.bytes.equals(t.bytes)) same++;
        else differ.push(`${name} (${t.type})`);
    }
    note(`${what}: ${same} tensors equal bit for bit to ours, ${differ.length} differ, ${other} of another type`);
    check(`${what}: blocks`, differ.length === 0 && same > 10, () => differ.slice(0, 6).join(", "));
}
await llama.dispose();
finish();
