// compare.mjs - what bench/compare runs: rounds in which slm2 and its peers take turns, medians, ratios, one table.
// environment, set by bench/compare: SLM2, PEERS (folder with node_modules, or empty), BENCH (this folder), PYTHON (empty: no torch).
import { execFileSync } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

const { SLM2, PEERS, BENCH, PYTHON } = process.env;
const say = (text) => process.stderr.write(text + "\n");

function fail(text) {
    say("compare: " + text);
    process.exit(2);
}

// ---- options ---------------------------------------------------------------------------------------------------------
const o = { files: [], prompts: [512], gen: 64, rounds: null, threads: os.availableParallelism?.() ?? os.cpus().length, steps: 5, with: [], flash: false, format: "text" };

function parse(args) {
    const whole = (text, name) => (/^[1-9]\d*$/.test(text ?? "") ? Number(text) : fail(`${name}: "${text}" is not a positive number`));
    const known = {
        "-p": (v) => { o.prompts = (v ?? "").split(",").map((x) => whole(x, "-p")); },
        "-n": (v) => { o.gen = whole(v, "-n"); },
        "-r": (v) => { o.rounds = whole(v, "-r"); },
        "-t": (v) => { o.threads = whole(v, "-t"); },
        "--steps": (v) => { o.steps = whole(v, "--steps"); },
        "--with": (v) => { o.with.push(v ?? fail("--with needs key=value")); },
    };
    for (let i = 0; i < args.length; i++) {
        if (known[args[i]]) known[args[i]](args[++i]);
        else if (args[i] === "--json" || args[i] === "--markdown") o.format = args[i].slice(2);
        else if (args[i] === "--flash") o.flash = true;
        else if (args[i].startsWith("-")) fail(`unknown option ${args[i]}; the head of bench/compare lists them`);
        else if (existsSync(args[i])) o.files.push(args[i]);
        else fail(`${args[i]} does not exist`);
    }
    if (!o.files.length) fail("which files? The head of bench/compare shows its use");
}

// ---- running ---------------------------------------------------------------------------------------------------------
const stdio = ["ignore", "pipe", "inherit"];
const slm2 = (...args) => JSON.parse(execFileSync(SLM2, ["bench", ...args, "--json"], { encoding: "utf8", stdio }));
const installed = (name) => PEERS && existsSync(path.join(PEERS, "node_modules", name));

/** node of the peers where the system's is too old for them (tests/peers.sh installs one). */
function nodePath() {
    const own = PEERS && path.join(PEERS, `node_modules/node-${process.platform}-${process.arch}/bin/node`);
    return own && existsSync(own) ? own : process.execPath;
}
const peer = (script, ...args) => JSON.parse(execFileSync(nodePath(), [path.join(PEERS, "bench", script), ...args.map(String)], { encoding: "utf8", stdio }));

/** Runs {name: function} in turn, so that a slow minute is everybody's; every second round backwards.  One list of results a name. */
function alternate(rounds, engines, what) {
    const results = Object.fromEntries(Object.keys(engines).map((name) => [name, []]));
    for (let round = 0; round < rounds; round++) {
        const names = Object.keys(engines);
        if (round % 2) names.reverse();
        for (const name of names) {
            if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${what}: round ${round + 1} of ${rounds}, ${name}`);
            results[name].push(engines[name]());
        }
    }
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
    return results;
}

/** {median, min, max}, or null when nobody measured it. */
function stat(values) {
    const v = values.filter((x) => typeof x === "number" && Number.isFinite(x)).sort((a, b) => a - b);
    return v.length ? { median: (v[(v.length - 1) >> 1] + v[v.length >> 1]) / 2, min: v[0], max: v.at(-1) } : null;
}
const ratio = (a, b) => (a && b ? a.median / b.median : null);

// ---- tables ----------------------------------------------------------------------------------------------------------
const digits = (x) => (x >= 100 ? 0 : x >= 10 ? 1 : 2);
const spread = (s) => (s ? `${s.median.toFixed(digits(s.median))} (${s.min.toFixed(digits(s.median))} to ${s.max.toFixed(digits(s.median))})` : "-");
const times = (x) => (x === null ? "-" : x.toFixed(2));
const percent = (s) => (s ? `${(100 * s.median).toFixed(0)} %` : "-");

function print(result, columns, rows) {
    if (o.format === "json") {
        console.log(JSON.stringify(result));
        return;
    }
    const cells = rows.map((row) => columns.map(([, cell]) => String(cell(row)))), heads = columns.map(([head]) => head);
    if (o.format === "markdown") {
        for (const line of [heads, heads.map(() => "---"), ...cells]) console.log(`| ${line.join(" | ")} |`);
        return;
    }
    const width = heads.map((head, i) => Math.max(head.length, ...cells.map((line) => line[i].length)));
    for (const line of [heads, ...cells]) console.log(line.map((cell, i) => cell.padEnd(width[i])).join("   ").trimEnd());
}

const machine = () => ({ cpu: os.cpus()[0]?.model, threads: o.threads, rounds: o.rounds });

// ---- models ----------------------------------------------------------------------------------------------------------
/** Into the page cache: what was idle may have been evicted. */
async function readOnce(file) {
    if (!file.endsWith(".gguf")) return;
    for await (const part of createReadStream(file, { highWaterMark: 1 << 23 })) void part;
}

async function compareModels(args) {
    parse(args);
    o.rounds ??= 5;
    const rows = [];
    const llama = installed("node-llama-cpp");
    if (!llama) say("compare: node-llama-cpp is not installed: slm2 alone");
    for (const file of o.files) {
        await readOnce(file);
        for (const nPrompt of o.prompts) {
            const engines = { slm2: () => slm2("--model", file, "-p", String(nPrompt), "-n", String(o.gen), "-t", String(o.threads), "-r", "1") };
            if (llama && file.endsWith(".gguf")) engines["llama.cpp"] = () => peer("llama.mjs", file, nPrompt, o.gen, o.threads, o.flash ? 1 : 0);
            const results = alternate(o.rounds, engines, `${path.basename(file)}, prompt ${nPrompt}`);
            const bytes = results.slm2[0].weight_bytes_per_token;
            for (const [engine, runs] of Object.entries(results)) {
                const of = (name) => stat(runs.map((run) => run[name]));
                rows.push({
                    file: path.basename(file), n_prompt: nPrompt, n_gen: o.gen, engine, prefill_tps: of("prefill_tps"), decode_tps: of("decode_tps"), read_gb_per_s: of("read_gb_per_s"),
                    // of weights alone, for both: what a peer reads besides is not known
                    share_of_bandwidth: stat(runs.map((run) => (run.read_gb_per_s ? (run.decode_tps * bytes) / run.read_gb_per_s / 1e9 : null))),
                    prefill_share_of_limit: of("prefill_share_of_limit"), load_s: of("load_s"),
                });
            }
        }
    }
    for (const row of rows) {
        const ours = rows.find((r) => r.engine === "slm2" && r.file === row.file && r.n_prompt === row.n_prompt);
        row.prefill_ratio = ratio(ours.prefill_tps, row.prefill_tps);
        row.decode_ratio = ratio(ours.decode_tps, row.decode_tps);
    }
    print({ ...machine(), rows }, [
        ["file", (r) => r.file], ["prompt", (r) => r.n_prompt], ["program", (r) => r.engine], ["prefill tokens/s", (r) => spread(r.prefill_tps)], ["slm2 is", (r) => times(r.prefill_ratio) + " x"],
        ["of the limit", (r) => percent(r.prefill_share_of_limit)], ["decode tokens/s", (r) => spread(r.decode_tps)], ["slm2 is", (r) => times(r.decode_ratio) + " x"],
        ["probe GB/s", (r) => spread(r.read_gb_per_s)], ["of the probe", (r) => percent(r.share_of_bandwidth)],
    ], rows);
}

// ---- tokenizers ------------------------------------------------------------------------------------------------------
function compareTokenizers(args) {
    parse(args);
    o.rounds ??= 5;
    const rows = [];
    const peers = ["gpt-tokenizer", "tiktoken"].filter((name) => installed(name) || say(`compare: ${name} is not installed`));
    for (const file of o.files) {
        const engines = { slm2: () => slm2("tokenizer", file, "-r", "1") };
        for (const name of peers) engines[name] = () => peer("tokenizer.mjs", name, file);
        const results = alternate(o.rounds, engines, path.basename(file));
        const ours = stat(results.slm2.map((run) => run.mb_per_s));
        for (const [engine, runs] of Object.entries(results)) {
            const speed = stat(runs.map((run) => run.mb_per_s));
            rows.push({ file: path.basename(file), engine, bytes: runs[0].bytes, tokens: runs[0].tokens, mb_per_s: speed, ratio: ratio(ours, speed) });
        }
    }
    print({ ...machine(), threads: 1, rows }, [
        ["file", (r) => r.file], ["MB", (r) => (r.bytes / 1e6).toFixed(2)], ["program", (r) => r.engine], ["tokens", (r) => r.tokens], ["MB/s, one thread", (r) => spread(r.mb_per_s)],
        ["slm2 is", (r) => times(r.ratio) + " x"],
    ], rows);
}

// ---- building a corpus -----------------------------------------------------------------------------------------------
/** `data build` of one JSONL file on one thread, all stages on; the filter is the language alone, which is what the peer has. */
function buildData(file) {
    const folder = mkdtempSync(path.join(os.tmpdir(), "slm2-bench-")), config = path.join(folder, "data.yml");
    const langs = "[de, en, es, fr, it, nl, pt, code, unknown]";
    writeFileSync(config, `out: ${folder}/out\nnear_dup: {threshold: 0.75}\nfilter: language\nfilters:\n  - {name: language, langs: ${langs}}\nsources:\n  - {name: all, path: ${path.resolve(file)}, lang: en}\n`);
    try {
        return JSON.parse(execFileSync(SLM2, ["data", "build", config, "-t", "1", "--json"], { encoding: "utf8", stdio }));
    } finally {
        rmSync(folder, { recursive: true });
    }
}

function compareData(args) {
    parse(args);
    o.rounds ??= 3;
    // packages, and of how many bytes the slow ones read the text
    const peers = { parse: ["node JSON.parse"], hash: ["node normalize, SHA-256"], filter: ["franc", 4e6], minhash: ["minhash", 4e5], tokenize: ["tiktoken"] };
    const rows = [];
    for (const file of o.files) {
        const engines = { slm2: () => buildData(file) };
        for (const [stage, [name, bytes]] of Object.entries(peers)) {
            if (!name.startsWith("node") && !installed(name)) say(`compare: ${name} is not installed`);
            else engines[stage] = () => (PEERS ? peer("data.mjs", stage, file, ...(bytes ? [bytes] : [])) : JSON.parse(execFileSync(process.execPath, [path.join(BENCH, "data.mjs"), stage, file], { encoding: "utf8", stdio })));
        }
        const results = alternate(o.rounds, engines, path.basename(file));
        for (const stage of Object.keys(results.slm2[0].stages)) {
            const ours = stat(results.slm2.map((run) => run.stages[stage].mb_per_s)), theirs = results[stage] ? stat(results[stage].map((run) => run.mb_per_s)) : null;
            rows.push({ file: path.basename(file), stage, slm2_mb_per_s: ours, peer: theirs ? peers[stage][0] : null, peer_mb_per_s: theirs, ratio: ratio(ours, theirs) });
        }
        rows.push({ file: path.basename(file), stage: "all", slm2_mb_per_s: stat(results.slm2.map((run) => run.mb_per_s)), peer: null, peer_mb_per_s: null, ratio: null });
    }
    print({ ...machine(), threads: 1, rows }, [
        ["file", (r) => r.file], ["stage", (r) => r.stage], ["slm2 MB/s, one thread", (r) => spread(r.slm2_mb_per_s)], ["peer", (r) => r.peer ?? "-"], ["its MB/s", (r) => spread(r.peer_mb_per_s)],
        ["slm2 is", (r) => times(r.ratio) + (r.ratio ? " x" : "")],
    ], rows);
}

// ---- training --------------------------------------------------------------------------------------------------------
/** The numbers of `model:` and `train:` in a settings file, and what --with overrides: {"model.n_layer": "24", ...}.  Two levels of plain
 *  "key: value" lines, which is all that these files have; slm2 itself reads the file with a real parser. */
function settings(file) {
    const found = {};
    let section = "";
    for (const line of readFileSync(file, "utf8").split("\n")) {
        const m = /^(\s*)([A-Za-z0-9_]+):\s*([^#]*)/.exec(line);
        if (!m) continue;
        if (!m[1]) section = m[2];
        found[m[1] ? `${section}.${m[2]}` : m[2]] = m[3].trim();
    }
    for (const item of o.with) found[item.slice(0, item.indexOf("="))] = item.slice(item.indexOf("=") + 1);
    return found;
}

function torchArguments(file) {
    const s = settings(file), get = (name, otherwise) => s[name] ?? otherwise;
    const differs = ["qk_norm", "parallel_residual", "tied_embeddings"].filter((name) => get(`model.${name}`, "false") === "true");
    if (differs.length) say(`compare: torch_train.py has no ${differs.join(", ")}: its model differs`);
    return ["--hidden", get("model.hidden_size", 2048), "--layers", get("model.n_layer", 24), "--heads", get("model.n_head", 32), "--kv-heads", get("model.n_kv_head", 0),
            "--ffn", get("model.intermediate_size", 5632), "--vocab", get("model.vocab_size", 100352), "--rotary", get("model.rotary_factor", 0.25), "--batch", get("train.micro_batch", 1),
            "--ctx", Number(get("train.n_ctx", 0)) || get("model.n_ctx", 4096), "--dtype", get("train.precision", "fp32"), "--threads", o.threads, "--steps", o.steps].map(String);
}

function compareTraining(args) {
    parse(args);
    o.rounds ??= 1;
    const rows = [];
    if (!PYTHON) say("compare: no python3 with torch (apt install python3-torch libopenblas0-openmp): slm2 alone");
    for (const file of o.files) {
        const overrides = [...o.with, "train.accumulation=1"].flatMap((item) => ["--with", item]); // PyTorch's step is one batch
        const engines = { slm2: () => slm2("train", "--config", file, "--steps", String(o.steps), "-t", String(o.threads), ...overrides) };
        if (PYTHON) engines.pytorch = () => JSON.parse(execFileSync(PYTHON, [path.join(BENCH, "torch_train.py"), ...torchArguments(file)], { encoding: "utf8", stdio }));
        const results = alternate(o.rounds, engines, path.basename(file));
        const speeds = Object.fromEntries(Object.entries(results).map(([name, runs]) => [name, stat(runs.map((run) => run.tokens_per_step / run.median_step_s))]));
        for (const [engine, runs] of Object.entries(results))
            rows.push({ file: path.basename(file), engine, precision: settings(file)["train.precision"] ?? "fp32", tokens_per_step: runs[0].tokens_per_step, tokens_per_s: speeds[engine],
                        ratio: ratio(speeds.slm2, speeds[engine]), mfu: stat(runs.map((run) => run.mfu)), version: runs[0].torch ?? null });
    }
    print({ ...machine(), steps: o.steps, rows }, [
        ["config", (r) => r.file], ["precision", (r) => r.precision], ["tokens a step", (r) => r.tokens_per_step], ["program", (r) => r.engine + (r.version ? " " + r.version : "")],
        ["tokens/s", (r) => spread(r.tokens_per_s)], ["slm2 is", (r) => times(r.ratio) + " x"], ["mfu", (r) => percent(r.mfu)],
    ], rows);
}

const [command, ...rest] = process.argv.slice(2);
if (command === "tokenizer") compareTokenizers(rest);
else if (command === "data") compareData(rest);
else if (command === "train") compareTraining(rest);
else await compareModels(process.argv.slice(2));
