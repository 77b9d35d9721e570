// accuracy.mjs - llama.cpp's logits at every compared position of a text, as `slm2 perplexity --logits` takes them; run by bench/accuracy.
//   node accuracy.mjs FILE.gguf IDS.json WINDOW OUT
// IDS.json: {"prefix": id that stands before the text, "ids": [...]}.  Windows as slm2's: each predicts WINDOW tokens and begins with the
// token before them.  OUT: fp32 rows [vocab_size].  The key/value cache is F32, as slm2's is here: what differs is the products.
// Runs where node finds the package: bench/accuracy copies it beside node_modules.
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import path from "node:path";

process.env.NODE_LLAMA_CPP_SKIP_DOWNLOAD = "true";
const { getLlama, LlamaLogLevel } = await import("node-llama-cpp");
const [file, idsFile, windowArg, outFile] = process.argv.slice(2);
const window = Number(windowArg), { prefix, ids } = JSON.parse(readFileSync(idsFile, "utf8")), text = [prefix, ...ids];
const STEP = 16; // positions of one call: their logits come as Maps, which are large

const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, usePrebuiltBinaries: true, maxThreads: 2, progressLogs: false, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: path.resolve(file), gpuLayers: 0 });
const context = await model.createContext({ sequences: 1, contextSize: window + 8, batchSize: window, threads: 2, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" });
const sequence = context.getSequence(), out = openSync(outFile, "w");
for (let begin = 0; begin < ids.length; begin += window) {
    await sequence.clearHistory();
    const end = Math.min(begin + window, ids.length);
    for (let at = begin; at < end; at += STEP) {
        const rows = await sequence.controlledEvaluate(text.slice(at, Math.min(at + STEP, end)).map((id) => [id, { generateNext: { logits: true } }]));
        for (const { next } of rows) {
            const row = new Float32Array(next.logits.size).fill(NaN);
            for (const [id, logit] of next.logits) row[id] = logit;
            writeSync(out, new Uint8Array(row.buffer));
        }
    }
}
closeSync(out);
await context.dispose();
await model.dispose();
await llama.dispose();
