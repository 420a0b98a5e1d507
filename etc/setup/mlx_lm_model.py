#!/usr/bin/env python3
"""Turns a llama-family GGUF file into a model folder that mlx_lm reads.

    mlx_lm_model.py MODEL.gguf FOLDER

mlx_lm reads folders in Hugging Face layout only, and the small model of this repository comes as GGUF. Weights are
unpacked to float32, which is what MLX's CPU backend computes fastest; tokenizer and chat template come out of the GGUF
metadata. The same file always gives the same folder. Run it with a Python that has mlx (`make mlx-lm` makes one).

Owns one family, llama with a byte-level BPE tokenizer of the kind `smollm`; anything else is refused by name.
"""

import json
import os
import shutil
import sys

import mlx.core as mx

# `tokenizer.ggml.token_type` of tokens that are never shown, and of tokens that are matched whole and shown.
CONTROL, USER_DEFINED = 3, 4

# Names of the tensors outside the layers, and inside one, as GGUF and as Hugging Face spell them.
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# MLX unpacks every GGUF block type it keeps quantised to groups of this many weights.
GROUP = 32


def refuse(why):
    sys.exit("mlx_lm_model.py: error: " + why)


def number(metadata, key, default=None):
    """The metadata value `key` as a Python number."""
    value = metadata.get(key, default)
    if value is None:
        refuse("the file has no `%s`" % key)
    return value.item() if isinstance(value, mx.array) else value


def config_of(metadata, tied):
    """config.json, as mlx_lm's llama reads it."""
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        refuse("the architecture is `%s`; only `llama` is known here" % architecture)

    def of(key, default=None):
        return number(metadata, "llama." + key, default)

    heads = of("attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": of("attention.head_count_kv", heads),
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "rope_theta": of("rope.freq_base", 10000.0),
        "max_position_embeddings": of("context_length"),
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": tied,
        "bos_token_id": number(metadata, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": number(metadata, "tokenizer.ggml.eos_token_id"),
        "torch_dtype": "float32",
    }


def unpacked(name, tensors):
    """The weight `name` as float32. Quantised ones are stored as packed values, scales and biases."""
    weight, base = tensors[name], name[: -len("weight")]
    if weight.dtype == mx.uint32:
        scales, biases = tensors[base + "scales"], tensors[base + "biases"]
        bits = weight.shape[-1] * 32 // (scales.shape[-1] * GROUP)
        weight = mx.dequantize(weight, scales, biases, group_size=GROUP, bits=bits)
    return weight.astype(mx.float32)


def unpermuted(weight, heads):
    """Q and K rows in Hugging Face order: GGUF stores the two halves of each rotated pair beside each other."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def weights_of(tensors, config):
    """All weights under the names mlx_lm expects."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for name in sorted(tensors):
        if not name.endswith(".weight"):
            continue
        parts = name.split(".")
        if parts[0] == "blk":
            kind, prefix = parts[2], "model.layers.%s." % parts[1]
            target = INNER.get(kind)
        else:
            kind, prefix = parts[0], ""
            target = OUTER.get(kind)
        if target is None:
            refuse("the tensor `%s` is not known here" % name)
        weight = unpacked(name, tensors)
        weights[prefix + target + ".weight"] = unpermuted(weight, heads[kind]) if kind in heads else weight
    return weights


def tokenizer_of(metadata):
    """tokenizer.json and tokenizer_config.json."""
    kind, rules = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if (kind, rules) != ("gpt2", "smollm"):
        refuse("the tokenizer is `%s`/`%s`; only `gpt2`/`smollm` is known here" % (kind, rules))
    tokens = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"].tolist()
    added = [
        {"id": i, "content": token, "special": types[i] == CONTROL, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for i, token in enumerate(tokens) if types[i] in (CONTROL, USER_DEFINED)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        # Digits one by one, then words, then bytes: what GGUF files call `smollm`.
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in metadata["tokenizer.ggml.merges"]],
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[number(metadata, "tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[number(metadata, "tokenizer.ggml.eos_token_id")],
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": number(metadata, "llama.context_length"),
    }
    return tokenizer, config


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__)
    source, folder = arguments
    mx.set_default_device(mx.cpu)
    tensors, metadata = mx.load(source, return_metadata=True)
    config = config_of(metadata, tied="output.weight" not in tensors)
    tokenizer, tokenizer_config = tokenizer_of(metadata)

    # Under its name the folder is whole or absent.
    part = folder.rstrip("/") + ".part"
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    texts = {"config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": tokenizer_config}
    for name, document in texts.items():
        with open(os.path.join(part, name), "w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False, indent=1)
    mx.save_safetensors(os.path.join(part, "model.safetensors"), weights_of(tensors, config), {"format": "mlx"})
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(part, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
