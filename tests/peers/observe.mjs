// observe.mjs - what other programs make of a run's TensorBoard files and of its metrics page: protobufjs with the published field numbers,
// a CRC-32C of this script's own, parse-prometheus-text-format, and promtool (Debian's package prometheus) where it is installed.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import protobuf from "protobufjs";
import parsePrometheus from "parse-prometheus-text-format";
import { check, file, finish, note, run, slm2Path } from "./peer.mjs";

// ---- a small run on text of its own
const words = "the cat sat on a mat and saw two dogs run by the old red barn".split(" ");
let seed = 12345;
const draw = (n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
const lines = Array.from({ length: 60 }, () => JSON.stringify({ text: Array.from({ length: 40 }, () => words[draw(words.length)]).join(" ") }));
mkdirSync(file("watch"));
writeFileSync(file("watch/en.jsonl"), lines.join("\n") + "\n");
writeFileSync(file("watch/data.yml"), `out: ${file("watch/data")}\nval_fraction: 0.2\nseed: 1\nsources:\n  - {name: en, path: ${file("watch/en.jsonl")}, lang: en}\n`);
run(["data", "build", file("watch/data.yml")]);
writeFileSync(file("watch/run.yml"), `run: ${file("watch/run")}\ndata: ${file("watch/data")}\ntokenizer: none\nseed: 3
model: {vocab_size: 100352, hidden_size: 16, intermediate_size: 32, n_layer: 1, n_head: 2, n_ctx: 32, bos_id: 100257, eos_id: 100257}
train: {n_ctx: 32, micro_batch: 1, steps: 24}\nschedule: {kind: cosine, lr_peak: 1e-3, lr_min: 1e-4}\nvalid: {every: 4, rows: 2}\nckpt: {every: 8}\n`);

const port = await new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
        const { port } = server.address();
        server.close(() => resolve(port));
    });
});
const child = spawn(slm2Path, ["pretrain", file("watch/run.yml"), "--metrics-port", String(port), "--tensorboard", file("watch/events"), "-t", "2"], { stdio: "ignore" });
const status = new Promise((resolve) => child.on("exit", resolve));
let page = "", contentType = "", pages = 0, over = false;
status.then(() => (over = true));
while (!over) {
    try {
        const reply = await fetch(`http://127.0.0.1:${port}/metrics`);
        page = await reply.text();
        contentType = reply.headers.get("content-type");
        pages++;
    } catch {} // not yet, or no more
    await new Promise((resolve) => setTimeout(resolve, 20));
}
check("the watched run ends well", (await status) === 0, "pretrain failed");

// ---- the page
check("the page was there while the run went on", pages > 1, `${pages} pages`);
check("content type", contentType === "text/plain; version=0.0.4; charset=utf-8", contentType);
const families = new Map(parsePrometheus(page).map((f) => [f.name, f]));
for (const [name, type] of [["slm2_train_steps_total", "COUNTER"], ["slm2_train_loss", "GAUGE"], ["slm2_train_learning_rate", "GAUGE"], ["slm2_train_gradient_norm", "GAUGE"],
    ["slm2_train_tokens_total", "COUNTER"], ["slm2_train_tokens_per_second", "GAUGE"], ["slm2_validation_loss", "GAUGE"], ["slm2_validation_source_loss", "GAUGE"]]) {
    const f = families.get(name);
    check(name, f?.type === type && f.help.length > 10 && f.metrics.length > 0 && f.metrics.every((m) => Number.isFinite(Number(m.value))), () => JSON.stringify(f));
}
check("labels", families.get("slm2_validation_source_loss")?.metrics[0].labels.source === "en", () => JSON.stringify(families.get("slm2_validation_source_loss")));
if (spawnSync("promtool", ["--version"]).error) note("promtool is not installed (apt install prometheus): its check was left out");
else {
    const tool = spawnSync("promtool", ["check", "metrics"], { input: page, encoding: "utf8" });
    check("promtool check metrics", tool.status === 0 && !tool.stderr, tool.stderr + tool.stdout);
}

// ---- the event files
const crc32c = (bytes) => {
    let crc = ~0;
    for (const b of bytes) {
        crc ^= b;
        for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc >>> 0;
};
const masked = (crc) => (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
check("CRC-32C of 123456789", crc32c(Buffer.from("123456789")) === 0xe3069283);
const { root } = protobuf.parse(`syntax = "proto3"; package tensorflow;
message SessionLog { enum SessionStatus { UNSPECIFIED = 0; START = 1; STOP = 2; CHECKPOINT = 3; } SessionStatus status = 1; string checkpoint_path = 2; string msg = 3; }
message Summary { message Value { string node_name = 7; string tag = 1; oneof value { float simple_value = 2; bytes tensor = 8; } } repeated Value value = 1; }
message Event { double wall_time = 1; int64 step = 2; oneof what { string file_version = 3; bytes graph_def = 4; Summary summary = 5; bytes log_message = 6; SessionLog session_log = 7; } }`);
const Event = root.lookupType("tensorflow.Event");
const readEvents = (name) => {
    const all = readFileSync(name), events = [];
    for (let at = 0; at < all.length;) {
        const n = Number(all.readBigUInt64LE(at)), data = all.subarray(at + 12, at + 12 + n);
        if (all.readUInt32LE(at + 8) !== masked(crc32c(all.subarray(at, at + 8)))) throw new Error(`CRC of the length at ${at}`);
        if (all.readUInt32LE(at + 12 + n) !== masked(crc32c(data))) throw new Error(`CRC of the record at ${at}`);
        events.push(Event.toObject(Event.decode(data), { longs: Number }));
        at += 16 + n;
    }
    return events;
};
const [name] = readdirSync(file("watch/events"));
let events = [];
try {
    events = readEvents(`${file("watch/events")}/${name}`);
} catch (e) {
    check("event file", false, e.message);
}
check("the first event is the version", events[0]?.fileVersion === "brain.Event:2", () => JSON.stringify(events[0]));
const scalars = events.slice(1).flatMap((e) => e.summary.value.map((v) => ({ step: e.step ?? 0, tag: v.tag, value: v.simpleValue, at: e.wallTime })));
const of = (tag) => scalars.filter((s) => s.tag === tag);
check("a loss at each step", of("train/loss").map((s) => s.step).join() === Array.from({ length: 24 }, (_, i) => i + 1).join(), () => of("train/loss").map((s) => s.step).join());
check("validation of all and of the source", of("valid/loss").length === 7 && of("valid/loss.en").length === 7, () => scalars.map((s) => s.tag).join());
check("wall time", scalars.every((s) => Math.abs(s.at - Date.now() / 1000) < 600));
const report = JSON.parse(run(["report", file("watch/run"), "--json", "-o", file("watch/report.html")]));
const last = report.stages[0].last;
for (const [tag, metric] of [["train/loss", "loss"], ["train/lr", "lr"], ["train/grad_norm", "grad_norm"], ["valid/loss", "valid_loss"]])
    check(`${tag} is the ledger's`, Math.fround(last[metric]) === of(tag).at(-1)?.value, () => `${last[metric]} and ${of(tag).at(-1)?.value}`);
note(`${pages} pages of up to ${page.length} bytes, ${events.length} events`);
finish();
