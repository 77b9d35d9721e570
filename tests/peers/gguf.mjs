// gguf.mjs - @huggingface/gguf parses every GGUF file of ours: keys as config.json says, shapes and types as the safetensors file says,
// offsets aligned, tensors without gap or overlap up to the end of the file, F32 numbers bit for bit.
import { gguf, GGMLQuantizationType } from "@huggingface/gguf";
import { readFileSync, readdirSync } from "node:fs";
import { check, data, file, filesFolder, finish, note, readSafetensors } from "./peer.mjs";
import path from "node:path";

const BLOCK = { F32: [1, 4], F16: [1, 2], BF16: [1, 2], Q8_0: [32, 34], Q4_0: [32, 18], Q4_1: [32, 20] };
const FILE_TYPE = { f32: 0, f16: 1, q4_0: 2, q4_1: 3, q8_0: 7, bf16: 32 };
const KEYS = {
    vocab_size: "vocab_size", context_length: "max_position_embeddings", embedding_length: "hidden_size", block_count: "num_hidden_layers",
    feed_forward_length: "intermediate_size", "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
};
/** The GGUF name of a Hugging Face parameter, from llama.cpp's list of names. */
function nameOf(hf) {
    const rest = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        input_layernorm: "attn_norm", post_attention_layernorm: "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    };
    const top = { "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "model.norm.bias": "output_norm.bias", "lm_head.weight": "output.weight" };
    const [, layer, module, kind] = hf.match(/^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/) ?? [];
    if (layer === undefined) return top[hf];
    return rest[module] ? `blk.${layer}.${rest[module]}.${kind}` : undefined; // q/k norms are joined per head: checked by shape only
}

for (const name of readdirSync(filesFolder).filter((n) => n.endsWith(".gguf")).sort()) {
    const [, model, type] = name.match(/^(.+)-([a-z0-9_]+)\.gguf$/);
    const folder = model.startsWith("tiny") ? data("golden", model) : file(model);
    const config = JSON.parse(readFileSync(path.join(folder, "config.json"), "utf8"));
    const source = readSafetensors(path.join(folder, "model.safetensors")).tensors;
    const bytes = readFileSync(file(name));
    const { metadata: m, tensorInfos, tensorDataOffset } = await gguf(file(name), { allowLocalFile: true });
    const what = `@huggingface/gguf ${name}`;

    const wrong = Object.entries(KEYS).filter(([key, hf]) => m[`stablelm.${key}`] !== config[hf]).map(([key]) => key);
    const nRot = Math.trunc(config.partial_rotary_factor * config.hidden_size / config.num_attention_heads);
    if (m["stablelm.rope.dimension_count"] !== nRot) wrong.push("rope.dimension_count");
    if (Math.fround(config.layer_norm_eps) !== m["stablelm.attention.layer_norm_epsilon"]) wrong.push("layer_norm_epsilon");
    if (m["stablelm.use_parallel_residual"] !== config.use_parallel_residual) wrong.push("use_parallel_residual");
    if (m["general.architecture"] !== "stablelm" || m["general.file_type"] !== FILE_TYPE[type]) wrong.push("general");
    if (m["tokenizer.ggml.tokens"].length !== config.vocab_size || m["tokenizer.ggml.token_type"].length !== config.vocab_size) wrong.push("tokens");
    if (m["tokenizer.ggml.eos_token_id"] !== config.eos_token_id) wrong.push("eos_token_id");
    check(`${what}: keys`, wrong.length === 0 && m.version === 3, `wrong: ${wrong}`);

    const base = Number(tensorDataOffset), align = Number(m["general.alignment"] ?? 32), faults = [];
    let at = 0;
    for (const t of tensorInfos) {
        const dtype = GGMLQuantizationType[t.dtype], offset = Number(t.offset), shape = t.shape.map(Number);
        const [per, size] = BLOCK[dtype] ?? [1, NaN];
        const n = shape.reduce((a, b) => a * b, 1), length = n / per * size;
        if (shape.length === 2 ? dtype.toLowerCase() !== type && shape[0] % 32 === 0 : dtype !== "F32" && shape.length === 1) faults.push(`${t.name} is ${dtype}`);
        if (offset % align || offset !== Math.ceil(at / align) * align) faults.push(`${t.name} at ${offset}, the one before ended at ${at}`);
        at = offset + length;
        t.bytes = bytes.subarray(base + offset, base + at);
    }
    const end = base + Math.ceil(at / align) * align;
    check(`${what}: tensors`, faults.length === 0 && base % align === 0 && (bytes.length === end || bytes.length === base + at), () => `${faults.slice(0, 3)}; ${bytes.length} bytes, want ${end}`);

    const byName = new Map(tensorInfos.map((t) => [t.name, t])), differ = [];
    let compared = 0;
    for (const [hf, s] of source) {
        const name = nameOf(hf);
        if (!name) continue;
        const t = byName.get(name);
        compared++;
        if (!t || t.shape.map(Number).reverse().join() !== s.shape.join()) differ.push(hf);
        else if (GGMLQuantizationType[t.dtype] === s.dtype && !s.bytes.equals(t.bytes)) differ.push(hf + " (numbers)");
    }
    check(`${what}: parameters of the source`, differ.length === 0 && compared > 10, () => `${differ.slice(0, 3)}`);
    note(`${name}: ${tensorInfos.length} tensors, ${compared} compared with the folder`);
}
finish();
