// peer_gguf.mjs - GGUF files written by slm2, opened by the programs that own the format: node-llama-cpp (llama.cpp) must give the
// logits of our engine, @huggingface/gguf must see the same tensors.  Packages are looked for in the folder SLM2_NPM (default: the
// current folder); a package that is not there is a skip, said so.  usage: node peer_gguf.mjs SLM2 GOLDEN_FOLDER SCRATCH_FOLDER
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

process.env.NODE_LLAMA_CPP_SKIP_DOWNLOAD = "true";
const [slm2, golden, scratch] = process.argv.slice(2);
const IDS = [1, 2, 3, 400, 505, 7, 88, 508];
let passed = 0, failed = 0;

function check(what, ok, detail) {
    if (ok) passed++;
    else { failed++; console.log(`FAILED ${what}: ${detail}`); }
}

async function load(name, entry) {
    const base = path.resolve(process.env.SLM2_NPM ?? ".", "node_modules", name);
    try {
        createRequire(path.join(base, "package.json"))("./package.json");
        return await import(pathToFileURL(path.join(base, entry)));
    } catch (e) {
        console.log(`skipped: ${name} cannot be loaded (${String(e.message).split("\n")[0]}); npm install --ignore-scripts ${name}, SLM2_NPM names the folder`);
        return null;
    }
}

const run = (...args) => execFileSync(slm2, args, { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "ignore"] });

// model, type, largest difference of logits: exact weights differ by rounding only; for quantised and BF16 weights llama.cpp rounds activations too
const CASES = [["tiny", "f32", 1e-4], ["tiny-gqa-qkln", "f32", 1e-4], ["tiny-bf16", "keep", 0.05], ["tiny", "f16", 0.02], ["tiny", "q8_0", 0.1], ["tiny", "q4_0", 0.3],
               ["tiny-gqa-qkln", "q8_0", 0.1]];
const files = CASES.map(([model, type, tolerance]) => {
    const file = path.join(scratch, `${model}-${type}.gguf`);
    run("convert", path.join(golden, model), file, "--dtype", type);
    return { model, type, tolerance, file };
});

const lib = await load("node-llama-cpp", "dist/index.js");
if (lib) {
    const llama = await lib.getLlama({ gpu: false, build: "never", skipDownload: true, maxThreads: 2, progressLogs: false, logLevel: lib.LlamaLogLevel.error });
    for (const { model, type, tolerance, file } of files) {
        const m = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
        const context = await m.createContext({ sequences: 1, contextSize: 64, threads: 2, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" });
        const sequence = context.getSequence();
        const out = await sequence.controlledEvaluate(IDS.map((id, i) => (i < IDS.length - 1 ? id : [id, { generateNext: { logits: true } }])));
        const theirs = out[IDS.length - 1].next.logits;
        const ours = JSON.parse(run("logits", "--model", file, "--ids", IDS.join(" "), "--json")).logits;
        let worst = 0;
        for (const [id, logit] of theirs) worst = Math.max(worst, Math.abs(logit - ours[id]));
        check(`llama.cpp ${model} ${type}`, theirs.size > 0 && worst <= tolerance, `logits differ by ${worst}, allowed ${tolerance}`);
        await context.dispose();
        await m.dispose();
    }
    await llama.dispose();
}

const hf = await load("@huggingface/gguf", "dist/index.mjs");
if (hf) {
    for (const { model, type, file } of files) {
        const theirs = await hf.gguf(file, { allowLocalFile: true });
        const ours = JSON.parse(run("info", file, "--tensors", "--json"));
        const text = (list, shape) => list.map((t) => `${t.name} ${shape(t.shape).join("x")}`).join("\n");
        check(`@huggingface/gguf ${model} ${type}`,
              text(theirs.tensorInfos, (s) => [...s].reverse().map(Number)) === text(ours.tensor_list, (s) => s) && theirs.metadata["general.architecture"] === "stablelm",
              "its tensors are not ours");
    }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
