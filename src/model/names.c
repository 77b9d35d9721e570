/* names.c - how Hugging Face, PEFT and GGUF spell each parameter. */
#include <stdio.h>
#include <string.h>

#include "model/params.h"

/* In the order of enum slm2_param_kind; a %d is the layer, a second one the head. */
static const struct { const char *hf, *gguf; } spelling[SLM2_N_PARAM_KIND] = {
    [SLM2_P_EMBED] = {"model.embed_tokens.weight", "token_embd.weight"},
    [SLM2_P_NORM1_W] = {"model.layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight"},
    [SLM2_P_NORM1_B] = {"model.layers.%d.input_layernorm.bias", "blk.%d.attn_norm.bias"},
    [SLM2_P_Q_W] = {"model.layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q.weight"},
    [SLM2_P_Q_B] = {"model.layers.%d.self_attn.q_proj.bias", "blk.%d.attn_q.bias"},
    [SLM2_P_K_W] = {"model.layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight"},
    [SLM2_P_K_B] = {"model.layers.%d.self_attn.k_proj.bias", "blk.%d.attn_k.bias"},
    [SLM2_P_V_W] = {"model.layers.%d.self_attn.v_proj.weight", "blk.%d.attn_v.weight"},
    [SLM2_P_V_B] = {"model.layers.%d.self_attn.v_proj.bias", "blk.%d.attn_v.bias"},
    [SLM2_P_Q_NORM] = {"model.layers.%d.self_attn.q_layernorm.norms.%d.weight", "blk.%d.attn_q_norm.weight"},
    [SLM2_P_K_NORM] = {"model.layers.%d.self_attn.k_layernorm.norms.%d.weight", "blk.%d.attn_k_norm.weight"},
    [SLM2_P_O_W] = {"model.layers.%d.self_attn.o_proj.weight", "blk.%d.attn_output.weight"},
    [SLM2_P_NORM2_W] = {"model.layers.%d.post_attention_layernorm.weight", "blk.%d.ffn_norm.weight"},
    [SLM2_P_NORM2_B] = {"model.layers.%d.post_attention_layernorm.bias", "blk.%d.ffn_norm.bias"},
    [SLM2_P_GATE_W] = {"model.layers.%d.mlp.gate_proj.weight", "blk.%d.ffn_gate.weight"},
    [SLM2_P_UP_W] = {"model.layers.%d.mlp.up_proj.weight", "blk.%d.ffn_up.weight"},
    [SLM2_P_DOWN_W] = {"model.layers.%d.mlp.down_proj.weight", "blk.%d.ffn_down.weight"},
    [SLM2_P_NORM_W] = {"model.norm.weight", "output_norm.weight"},
    [SLM2_P_NORM_B] = {"model.norm.bias", "output_norm.bias"},
    [SLM2_P_HEAD] = {"lm_head.weight", "output.weight"},
};

int slm2_param_hf_parts(const struct slm2_param *p)
{
    return p->kind == SLM2_P_Q_NORM || p->kind == SLM2_P_K_NORM ? p->n_row : 1;
}

#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the formats are the constants above */

void slm2_param_hf_name(const struct slm2_param *p, int part, char out[128])
{
    static const char *const ends[] = {"weight", "lora_A.weight", "lora_B.weight"}; /* as enum slm2_param_part */
    if (p->part == SLM2_PART_WHOLE) {
        snprintf(out, 128, spelling[p->kind].hf, p->layer, part);
        return;
    }
    char name[96];
    snprintf(name, sizeof name, spelling[p->kind].hf, p->layer);
    snprintf(out, 128, "base_model.model.%.*s%s", (int)(strlen(name) - strlen(ends[0])), name, ends[p->part]);
}

void slm2_param_gguf_name(const struct slm2_param *p, char out[128])
{
    snprintf(out, 128, spelling[p->kind].gguf, p->layer);
}
