// peer.mjs - what the peer scripts share: the program under test, the files that peers.sh made, checks that are counted.
// environment: SLM2 (the program), PEER_DATA (tests/data), PEER_FILES (models made by peers.sh), PEER_TOOLS (llama_quantize or empty).
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";

export const slm2Path = process.env.SLM2;
export const dataFolder = process.env.PEER_DATA;
export const filesFolder = process.env.PEER_FILES;
export const file = (name) => path.join(filesFolder, name);
export const data = (...names) => path.join(dataFolder, ...names);

let passed = 0, failed = 0;

/** Counts one check; detail may be a function, called only when it failed. */
export function check(what, ok, detail = "") {
    if (ok) passed++;
    else {
        failed++;
        console.log(`FAILED ${what}: ${typeof detail === "function" ? detail() : detail}`);
    }
    return ok;
}

export const note = (text) => console.log("  " + text);

/** The last line of every script. */
export function finish() {
    console.log(`${passed} passed, ${failed} failed`);
    process.exitCode = failed ? 1 : 0;
}

export const run = (args, input) =>
    execFileSync(slm2Path, args, { input, encoding: "utf8", maxBuffer: 1 << 30, stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"] });
export const runJson = (args) => JSON.parse(run(args));

export const jsonLines = (name) => readFileSync(name, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));

/** Ids of many texts from one run of slm2: items are {text, allowed_special, norm}. */
export function tokenize(items) {
    const lines = items.map((item) => JSON.stringify(item)).join("\n") + "\n";
    return run(["tokenize", "--jsonl", "-"], lines).trim().split("\n").map((line) => JSON.parse(line).ids);
}

/** A safetensors file by the format's text alone: {metadata, tensors: name -> {dtype, shape, begin, end, bytes}}; throws on anything odd. */
export function readSafetensors(name) {
    const all = readFileSync(name);
    const size = { F32: 4, F16: 2, BF16: 2 };
    if (all.length < 8) throw new Error("no room for the header's length");
    const n = all.readBigUInt64LE(0);
    if (n > 100000000n || n + 8n > BigInt(all.length)) throw new Error(`header of ${n} bytes`);
    const text = new TextDecoder("utf-8", { fatal: true }).decode(all.subarray(8, 8 + Number(n)));
    if (text[0] !== "{") throw new Error("the header does not begin with {");
    const { __metadata__: metadata, ...entries } = JSON.parse(text);
    const start = 8 + Number(n), tensors = new Map();
    for (const [key, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(entries)) {
        if (!(dtype in size)) throw new Error(`${key}: type ${dtype}`);
        if (shape.reduce((a, b) => a * b, 1) * size[dtype] !== end - begin) throw new Error(`${key}: offsets do not fit the shape`);
        tensors.set(key, { dtype, shape, begin, end, bytes: all.subarray(start + begin, start + end) });
    }
    let at = 0;
    for (const [key, t] of [...tensors].sort((a, b) => a[1].begin - b[1].begin)) {
        if (t.begin !== at) throw new Error(`${key}: begins at ${t.begin}, the one before ended at ${at}`);
        at = t.end;
    }
    if (start + at !== all.length) throw new Error(`tensors end at ${start + at}, the file at ${all.length}`);
    return { metadata, tensors, headerBytes: Number(n) };
}
