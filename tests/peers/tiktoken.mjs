// tiktoken.mjs - OpenAI's tiktoken, with its own ranks and the pattern and special tokens of Arcade100k, gives the ids of `slm2 tokenize` on fresh
// random text.  Characters stay within Unicode 14, so that nobody's tables matter.  SEED=N repeats a run; else the date is the seed.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Tiktoken } from "tiktoken";
import { check, data, finish, jsonLines, note, tokenize } from "./peer.mjs";

const N = Number(process.env.N ?? 1500);
const now = new Date();
const seed = Number(process.env.SEED ?? now.getFullYear() * 10000 + (now.getMonth() + 1) * 100 + now.getDate()) >>> 0;
console.log(`  seed ${seed} (SEED=${seed} repeats these texts), ${N} texts`);

let state = seed;
function random() { // mulberry32: 32 bits a call
    state = (state + 0x6d2b79f5) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(random() * n);
const pick = (list) => list[below(list.length)];

const names = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<gh_stars>", "<filename>", "<issue_start>", "<issue_comment>", "<issue_closed>",
               "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<empty_output>", "<commit_before>", "<commit_msg>", "<commit_after>", "<reponame>",
               "<|endofprompt|>", "<|im_start|>", "<|im_end|>", "<|pause|>", ...Array.from({ length: 8 }, (_, i) => `<|reg${i}|>`), "<|extra0|>"];
const specials = Object.fromEntries(names.map((name, i) => [name, 100257 + i]));
const { bpe_ranks } = JSON.parse(readFileSync(createRequire(import.meta.url).resolve("tiktoken/encoders/cl100k_base.json"), "utf8"));
const pattern = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const tiktoken = new Tiktoken(bpe_ranks, specials, pattern);

// characters that Unicode 15 to 17 assigned in the basic plane; beyond it, ranges that were full by version 14
const LATER = [[0x88f, 0x88f], [0x897, 0x897], [0xc5c, 0xc5c], [0xcdc, 0xcdc], [0xcf3, 0xcf3], [0xece, 0xece], [0x1acf, 0x1aff], [0x1b4e, 0x1b4f], [0x1b7f, 0x1b7f], [0x1c89, 0x1c8a],
               [0x20c1, 0x20cf], [0x2427, 0x2429], [0x2b96, 0x2b96], [0x2ffc, 0x2fff], [0x31e4, 0x31ef], [0xa7cb, 0xa7cf], [0xa7d2, 0xa7d2], [0xa7d4, 0xa7d4], [0xa7da, 0xa7dc], [0xa7f1, 0xa7f1],
               [0xfbc3, 0xfbd2], [0xfd90, 0xfd91], [0xfdc8, 0xfdce]];
const FULL = [[0x10000, 0x1000b], [0x10330, 0x1034a], [0x10400, 0x1049d], [0x10a00, 0x10a03], [0x11003, 0x1104d], [0x12000, 0x12399], [0x13000, 0x1342e], [0x1d100, 0x1d126], [0x1d400, 0x1d454],
              [0x1d7ce, 0x1d7ff], [0x1e900, 0x1e94b], [0x1f300, 0x1f6d7], [0x1f900, 0x1f9ff], [0x20000, 0x2a6df], [0x2a700, 0x2b738], [0xe0100, 0xe01ef]];
const assigned = /^\p{Assigned}$/u;
const plane0 = [];
for (let c = 0; c < 0x10000; c++)
    if ((c < 0xd800 || c >= 0xe000) && !LATER.some(([a, b]) => c >= a && c <= b) && assigned.test(String.fromCodePoint(c))) plane0.push(c);
const from = ([a, b]) => String.fromCodePoint(a + below(b - a + 1));
const SCRIPTS = [[0x41, 0x5a], [0x61, 0x7a], [0x61, 0x7a], [0xe0, 0xff], [0x100, 0x17f], [0x391, 0x3a1], [0x3b1, 0x3c9], [0x410, 0x44f], [0x5d0, 0x5ea], [0x621, 0x64a], [0x905, 0x939], [0xe01, 0xe3a],
                 [0x3041, 0x3096], [0x30a1, 0x30fa], [0x4e00, 0x9fff], [0xac00, 0xd7a3], [0x1100, 0x1112], [0x300, 0x36f], [0x1e00, 0x1eff], [0x10d0, 0x10fa]];
const SPACES = [" ", " ", " ", "  ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u0085", "\u2003", "\u2028", "\u3000", "\u000b", "\u000c", "\ufeff", "\u200b", "\u180e", "\u001f", "\u202f"];
const DIGITS = ["0123456789", "\u0660\u0661\u0669", "\u0966\u096f", "\u00b2\u00bd\u2167\u2460", "\uff10\uff19", "\u3007", "\u{1d7ce}\u{1d7ff}"];
const WORDS = ["return", "if", "else", "for", "while", "int", "const", "function", "self", "import", "def", "x", "i", "n_tok", "getValue", "HTTPServer", "#include", "std::vector", "0xFF", "1e-5", "'s", "'LL", "'T", "don't",
               "We'Re", "the", "The", "of", "and", "straße", "naïve", "日本語", "привет", "мир", "ΣΊΣΥΦΟΣ", "e\u0301", "\u212b", "ﬁ", "한국어", "👩‍👩‍👧", "🏳️‍🌈", "ſ", "İ", "<|", "|>", "endoftext"];
const PUNCT = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
const repeat = (n, f) => Array.from({ length: n }, f).join("");

const KINDS = {
    unicode: () => repeat(1 + below(60), () => (random() < 0.85 ? String.fromCodePoint(pick(plane0)) : from(pick(FULL)))),
    mixed: () => repeat(1 + below(30), () => repeat(1 + below(6), ((range) => () => from(range))(pick(SCRIPTS))) + (random() < 0.5 ? pick(SPACES) : "")),
    code: () => repeat(1 + below(40), () => (random() < 0.6 ? pick(WORDS) : repeat(1 + below(3), () => pick(PUNCT))) + (random() < 0.2 ? "\n" + " ".repeat(below(13)) : random() < 0.6 ? " " : "")),
    whitespace: () => repeat(1 + below(20), () => repeat(below(6), () => pick(SPACES)) + (random() < 0.5 ? pick(WORDS) : "")),
    digits: () => repeat(1 + below(20), () => repeat(1 + below(9), ((set) => () => pick([...set]))(random() < 0.7 ? DIGITS[0] : pick(DIGITS))) + pick([" ", ".", ",", "-", "", "e", "\n"])),
    ascii: () => repeat(1 + below(120), () => String.fromCharCode(32 + below(95))),
    control: () => repeat(1 + below(40), () => String.fromCharCode(random() < 0.5 ? below(32) : 32 + below(160))),
    marks: () => repeat(1 + below(20), () => from(pick(SCRIPTS)) + repeat(below(4), () => from([0x300, 0x36f])) + pick(["", "", " "])),
    special: () => repeat(1 + below(12), () => (random() < 0.5 ? pick(names) : pick(WORDS)) + pick(["", "", " ", "\n", "\u0338"])),
    runs: () => repeat(1 + below(4), () => pick(["a", " ", "\n", "9", "=", "é", "日", "\u0301", "Ab", " \n", "\r\n"]).repeat(1 + below(300))),
};
const kinds = Object.keys(KINDS), items = [];
for (let i = 0; i < N; i++) {
    const cat = kinds[i % kinds.length];
    items.push({ cat, text: KINDS[cat](), allowed_special: random() < 0.5 ? "all" : "none", norm: random() < 0.6 ? "nfc" : "none" });
}

function compare(what, list) {
    const ours = tokenize(list.map(({ text, allowed_special, norm }) => ({ text, allowed_special, norm }))), differ = [];
    let nTok = 0;
    list.forEach((item, i) => {
        const theirs = tiktoken.encode(item.norm === "nfc" ? item.text.normalize("NFC") : item.text, item.allowed_special === "all" ? "all" : [], []);
        nTok += theirs.length;
        if (theirs.join() !== ours[i]?.join()) differ.push(item);
    });
    note(`${what}: ${list.length} texts, ${nTok} tokens, ${differ.length} differ`);
    check(`tiktoken ${what}`, differ.length === 0 && ours.length === list.length && list.length > 0, () => differ.slice(0, 4).map((d) => JSON.stringify(d).slice(0, 300)).join("\n"));
}
for (const cat of kinds) compare(cat, items.filter((item) => item.cat === cat));
compare("golden lines", jsonLines(data("tokenizer", "golden.jsonl")).filter((l) => typeof l.text === "string" && l.cat !== "long"));
tiktoken.free();
finish();
