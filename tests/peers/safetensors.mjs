// safetensors.mjs - Hugging Face folders written by slm2, read by a parser that shares nothing with it: the header's form, names and shapes
// of StableLmForCausalLM, the index of shards, the numbers of the source bit for bit, and the JSON files that other loaders need.
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { check, data, file, finish, note, readSafetensors } from "./peer.mjs";

/** Names and shapes that StableLmForCausalLM has for a config. */
function expected(c) {
    const h = c.hidden_size, kv = h / c.num_attention_heads * c.num_key_value_heads, m = c.intermediate_size, want = new Map();
    const put = (name, shape) => want.set(name, shape.join());
    put("model.embed_tokens.weight", [c.vocab_size, h]);
    for (let i = 0; i < c.num_hidden_layers; i++) {
        const p = `model.layers.${i}.`;
        for (const [x, rows] of [["q", h], ["k", kv], ["v", kv]]) {
            put(`${p}self_attn.${x}_proj.weight`, [rows, h]);
            if (c.use_qkv_bias) put(`${p}self_attn.${x}_proj.bias`, [rows]);
        }
        put(`${p}self_attn.o_proj.weight`, [h, h]);
        put(`${p}mlp.gate_proj.weight`, [m, h]);
        put(`${p}mlp.up_proj.weight`, [m, h]);
        put(`${p}mlp.down_proj.weight`, [h, m]);
        for (const norm of c.use_parallel_residual ? ["input_layernorm"] : ["input_layernorm", "post_attention_layernorm"])
            for (const kind of ["weight", "bias"]) put(`${p}${norm}.${kind}`, [h]);
        if (c.qk_layernorm)
            for (const [x, heads] of [["q", c.num_attention_heads], ["k", c.num_key_value_heads]])
                for (let j = 0; j < heads; j++) put(`${p}self_attn.${x}_layernorm.norms.${j}.weight`, [h / c.num_attention_heads]);
    }
    for (const kind of ["weight", "bias"]) put(`model.norm.${kind}`, [h]);
    put("lm_head.weight", [c.vocab_size, h]);
    return want;
}

/** All tensors of a folder, through the index when there is one. */
function readFolder(folder) {
    const files = readdirSync(folder).filter((n) => n.endsWith(".safetensors")), tensors = new Map();
    for (const name of files) {
        const { metadata, tensors: some, headerBytes } = readSafetensors(path.join(folder, name));
        check(`${folder}: ${name}: header`, metadata?.format === "pt" && headerBytes % 8 === 0, `metadata ${JSON.stringify(metadata)}, ${headerBytes} bytes`);
        for (const [key, t] of some) tensors.set(key, { ...t, in: name });
    }
    if (files.length > 1) {
        const index = JSON.parse(readFileSync(path.join(folder, "model.safetensors.index.json"), "utf8"));
        const total = [...tensors.values()].reduce((sum, t) => sum + t.end - t.begin, 0);
        check(`${folder}: index`, Object.keys(index.weight_map).length === tensors.size && index.metadata.total_size === total
              && [...tensors].every(([key, t]) => index.weight_map[key] === t.in), "weight_map or total_size is not what the shards hold");
    }
    return { tensors, files: files.length };
}

// written folder, the folder it came from (through GGUF), whether the numbers must be the same
const CASES = [["tiny-back", data("golden", "tiny")], ["tiny-gqa-qkln-back", data("golden", "tiny-gqa-qkln")], ["tiny-bf16-back", data("golden", "tiny-bf16")],
               ["tiny-shards", data("golden", "tiny")], ["nano", null], ["nano-shards", file("nano")]];
for (const [name, from] of CASES) {
    const folder = file(name), { tensors, files } = readFolder(folder);
    const config = JSON.parse(readFileSync(path.join(folder, "config.json"), "utf8"));
    const want = expected(config);
    const odd = [...want].filter(([key, shape]) => tensors.get(key)?.shape.join() !== shape).map(([key]) => key).concat([...tensors.keys()].filter((key) => !want.has(key)));
    check(`${name}: names and shapes`, odd.length === 0, () => odd.slice(0, 4).join(" "));
    check(`${name}: config.json`, config.architectures?.[0] === "StableLmForCausalLM" && config.model_type === "stablelm" && config.hidden_act === "silu"
          && typeof config.torch_dtype === "string" && config.rope_theta === 10000, JSON.stringify(config).slice(0, 200));
    if (from) {
        const { tensors: source } = readFolder(from);
        const differ = [...source].filter(([key, s]) => tensors.get(key)?.dtype !== s.dtype || !s.bytes.equals(tensors.get(key).bytes)).map(([key]) => key);
        check(`${name}: numbers of the source`, differ.length === 0 && source.size === tensors.size, () => differ.slice(0, 4).join(" "));
    }
    note(`${name}: ${tensors.size} tensors in ${files} file${files > 1 ? "s" : ""}`);
}

// the files of the tokenizer, by the form of Hugging Face's tokenizers
const tokenizer = JSON.parse(readFileSync(file("nano/tokenizer.json"), "utf8"));
const ids = Object.values(tokenizer.model.vocab), added = tokenizer.added_tokens;
check("tokenizer.json: vocabulary", tokenizer.model.type === "BPE" && ids.length >= 100256 && new Set(ids).size === ids.length && tokenizer.normalizer?.type === "NFC");
check("tokenizer.json: added tokens", added.some((t) => t.id === 100257 && t.content === "<|endoftext|>" && t.special) && added.some((t) => t.id === 100278 && t.content === "<|im_end|>"));
check("tokenizer.json: merges", tokenizer.model.merges.every((pair) => {
    const [a, b] = Array.isArray(pair) ? pair : pair.split(" ");
    return a in tokenizer.model.vocab && b in tokenizer.model.vocab && a + b in tokenizer.model.vocab;
}), "a pair or its result is not a token");
const tokenizerConfig = JSON.parse(readFileSync(file("nano/tokenizer_config.json"), "utf8"));
check("tokenizer_config.json", typeof tokenizerConfig.tokenizer_class === "string" && (tokenizerConfig.eos_token?.content ?? tokenizerConfig.eos_token) === "<|endoftext|>");
finish();
