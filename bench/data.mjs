// data.mjs - how fast one stage of a corpus build is in a program of Node.js or npm, one thread; one JSON object on stdout.
//   node data.mjs parse|hash|filter|minhash|tokenize FILE.jsonl [BYTES]
// The stages are those of `slm2 data build`: JSON to text; NFC and SHA-256; the language by trigrams (franc, which reads the first 2,048 characters of a
// text: only those count); a signature of 112 hashes over shingles of five words (minhash); ids of cl100k_base (tiktoken).  Only the stage is timed, over
// the lines within the first BYTES of the file.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const [stage, file, most] = process.argv.slice(2);
const seconds = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6; }; // of the processor, as slm2 counts its stages
const whole = readFileSync(file), lines = (most ? whole.subarray(0, Number(most)) : whole).toString().split("\n").slice(0, -1).filter((line) => line);
const read = stage === "filter" ? 2048 : Infinity, texts = lines.map((line) => JSON.parse(line).text.slice(0, read));
const stages = {
    parse: async () => () => { for (const line of lines) JSON.parse(line); },
    hash: async () => () => { for (const text of texts) createHash("sha256").update(text.normalize("NFC")).digest("hex"); },
    filter: async () => {
        const { franc } = await import("franc");
        return () => { for (const text of texts) franc(text); };
    },
    minhash: async () => {
        const { Minhash } = await import("minhash");
        return () => {
            for (const text of texts) {
                const words = text.split(/\s+/), sketch = new Minhash({ numPerm: 112 });
                for (let i = 0; i + 5 <= words.length; i++) sketch.update(words.slice(i, i + 5).join(" "));
            }
        };
    },
    tokenize: async () => {
        const { get_encoding } = await import("tiktoken");
        const encoding = get_encoding("cl100k_base");
        return () => { for (const text of texts) encoding.encode(text, [], []); };
    },
};
const run = await stages[stage]();
const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0), start = seconds();
run();
console.log(JSON.stringify({ mb_per_s: bytes / (seconds() - start) / 1e6, bytes }));
