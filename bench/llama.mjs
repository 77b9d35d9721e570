// llama.mjs - llama.cpp (npm node-llama-cpp) reads a random prompt and decodes behind it; one JSON object on stdout.
//   node llama.mjs FILE.gguf N_PROMPT N_GEN THREADS [FLASH 0|1]
// Prefill is an evaluation without generation, so without the output head.  Decode draws each token greedily, the head included; it goes
// through JavaScript, about a millisecond a token.  SLM2: the program whose probe of the read bandwidth runs just before and after decoding.
// Runs where node finds the package: bench/compare copies it beside node_modules.
import { execFileSync } from "node:child_process";
import path from "node:path";

process.env.NODE_LLAMA_CPP_SKIP_DOWNLOAD = "true";
const { getLlama, LlamaLogLevel } = await import("node-llama-cpp");
const [file, promptArg, genArg, threadsArg, flash = "0"] = process.argv.slice(2);
const nPrompt = Number(promptArg), nGen = Number(genArg), threads = Number(threadsArg);
const seconds = () => Number(process.hrtime.bigint()) / 1e9;

function bandwidth() {
    if (!process.env.SLM2) return null;
    const text = execFileSync(process.env.SLM2, ["bench", "limits", "--read-only", "--json", "-t", String(threads)], { encoding: "utf8" });
    return JSON.parse(text).limits[0].read_gb_per_s;
}

/** Ids of ordinary tokens, the same in every run (xorshift32). */
function randomIds(count, vocabSize) {
    let x = 2463534242;
    return Array.from({ length: count }, () => {
        x ^= x << 13;
        x ^= x >>> 17;
        x ^= x << 5;
        return (x >>> 0) % vocabSize;
    });
}

async function next(sequence, id) {
    const output = await sequence.controlledEvaluate([[id, { generateNext: { token: true, options: { temperature: 0 } } }]]);
    return output[0].next.token;
}

const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, usePrebuiltBinaries: true, maxThreads: threads, progressLogs: false, logLevel: LlamaLogLevel.error });
const loadStart = seconds();
const model = await llama.loadModel({ modelPath: path.resolve(file), gpuLayers: 0 });
const context = await model.createContext({
    sequences: 1, contextSize: nPrompt + nGen + 16, batchSize: Math.min(512, nPrompt), threads: { ideal: threads, min: threads }, flashAttention: flash === "1",
});
const loadTime = seconds() - loadStart;
const sequence = context.getSequence();
const ids = randomIds(nPrompt, Math.min(model.fileInfo?.metadata?.tokenizer?.ggml?.tokens?.length ?? 100000, 100000));

await sequence.evaluateWithoutGeneratingNewTokens(ids.slice(0, Math.min(nPrompt, 64))); // reads the weights once
let token = await next(sequence, ids[0]);
await sequence.clearHistory();

const start = seconds();
await sequence.evaluateWithoutGeneratingNewTokens(ids);
const prefill = nPrompt / (seconds() - start);
const before = bandwidth();
token = await next(sequence, token);
const decodeStart = seconds();
for (let i = 0; i < nGen; i++) token = await next(sequence, token);
const decode = nGen / (seconds() - decodeStart);
const after = bandwidth();
console.log(JSON.stringify({
    prefill_tps: prefill, decode_tps: decode, read_gb_per_s: before === null ? null : (before + after) / 2, load_s: loadTime, threads: context.currentThreads || context.idealThreads,
}));
await context.dispose();
await model.dispose();
await llama.dispose();
