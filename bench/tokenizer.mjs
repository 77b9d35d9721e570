// tokenizer.mjs - how fast a tokenizer of npm encodes a text file on one thread; one JSON object on stdout.
//   node tokenizer.mjs gpt-tokenizer|tiktoken FILE
// The file is one string and becomes ids of cl100k_base in one call, after a call on its first 64 KiB.
import { readFileSync } from "node:fs";

const [name, file] = process.argv.slice(2);
const openers = {
    "gpt-tokenizer": async () => {
        const { encode } = await import("gpt-tokenizer/encoding/cl100k_base");
        return (text) => encode(text, { disallowedSpecial: new Set() });
    },
    tiktoken: async () => {
        const { get_encoding } = await import("tiktoken");
        const encoding = get_encoding("cl100k_base");
        return (text) => encoding.encode(text, [], []);
    },
};
const seconds = () => Number(process.hrtime.bigint()) / 1e9;
const bytes = readFileSync(file), text = bytes.toString("utf8");
const openStart = seconds();
const encode = await openers[name]();
const opened = seconds() - openStart;
encode(text.slice(0, 65536));
const start = seconds();
const ids = encode(text);
const took = seconds() - start;
console.log(JSON.stringify({ mb_per_s: bytes.length / took / 1e6, tokens: ids.length, bytes: bytes.length, open_s: opened }));
