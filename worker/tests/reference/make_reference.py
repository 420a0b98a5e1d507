#!/usr/bin/env python3
"""Makes the reference values that worker/tests/logits.rs compares with. Run once; the results are committed.

    python3 -m venv /tmp/reference
    /tmp/reference/bin/pip install "mlx[cpu]==0.32.2" "mlx-lm==0.32.2" transformers gguf
    /tmp/reference/bin/python worker/tests/reference/make_reference.py target/models/SmolLM2-135M-Instruct.Q4_1.gguf

Writes beside itself
  tiny-*/             model folders with random weights: dense, tied and untied, quantised with per-layer overrides,
                      Llama-3 rope scaling
  tiny-mixed.gguf     a GGUF file with random weights in every supported storage type, written and unpacked by gguf
  tiny-*.json         mlx-lm's logits for them
  smollm2.json        mlx-lm's logits and greedy tokens for the GGUF file (weights unpacked to 32-bit floats)

Everything is computed on the CPU in 32-bit floats, except that quantised models are run quantised by mlx-lm: their scales
are stored as 32-bit floats, so the two ways of computing agree.
"""

import importlib.metadata
import json
import pathlib
import shutil
import sys

import gguf
import mlx.core as mx
import mlx.nn as nn
import numpy
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache

HERE = pathlib.Path(__file__).resolve().parent
VERSIONS = {name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm", "gguf")}


TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
TINY_TOKENS = [(7 * i * i + 3 * i + 5) % 128 for i in range(24)]


def logits_of(model, tokens):
    """Raw logits of every position, in one pass without a cache."""
    return model(mx.array([tokens]))[0].astype(mx.float32)


def greedy(model, tokens, count):
    cache = make_prompt_cache(model)
    logits = model(mx.array([tokens]), cache=cache)[0, -1]
    chosen = []
    for _ in range(count):
        chosen.append(int(mx.argmax(logits)))
        logits = model(mx.array([[chosen[-1]]]), cache=cache)[0, -1]
    return chosen


def reference(model, tokens, positions, new_tokens, columns=None):
    logits = logits_of(model, tokens)
    rows = {}
    for position in positions:
        row = logits[position]
        picked = row if columns is None else row[mx.array(columns)]
        rows[str(position)] = {
            "values": [round(value, 6) for value in picked.tolist()],
            "argmax": int(mx.argmax(row)),
            "max": round(float(mx.max(row)), 6),
            "logsumexp": round(float(mx.logsumexp(row)), 6),
        }
    return {
        "versions": VERSIONS,
        "tokens": tokens,
        "columns": columns,
        "rows": rows,
        "greedy": greedy(model, tokens, new_tokens),
    }


def write(name, values):
    (HERE / name).write_text(json.dumps(values, separators=(",", ":")) + "\n")


def tiny(name, seed, quantise=None, **changes):
    """A model of a few thousand random weights, saved in MLX layout, with its logits."""
    mx.random.seed(seed)
    config = TINY | changes
    model = random_llama(config)
    if quantise:
        default = {key: quantise[key] for key in ("group_size", "bits")}
        overrides = quantise.get("overrides", {})

        def settings(path, module):
            return hasattr(module, "to_quantized") and overrides.get(path, default)

        nn.quantize(model, **default, class_predicate=settings)
        config["quantization"] = default | overrides
    mx.eval(model.parameters())
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    write(f"{name}.json", reference(model, TINY_TOKENS, [0, 1, 11, 23], 16))


def random_llama(config):
    """A model whose random weights are larger than usual, so that logits differ visibly; norms lie around one."""
    model = llama.Model(llama.ModelArgs.from_dict(config))
    weight = lambda a: mx.random.normal(a.shape) * (0.15 if a.ndim > 1 else 0.3) + (a.ndim == 1) * 0.8
    model.update(tree_map(weight, model.parameters()))
    return model


RENAMED = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}


def tiny_gguf(name, seed):
    """A GGUF file with a different storage type for every kind of matrix."""
    mx.random.seed(seed)
    model = random_llama(TINY)
    kinds = gguf.GGMLQuantizationType
    stored_as = {
        "attn_q": kinds.Q4_0, "attn_k": kinds.Q8_0, "attn_v": kinds.Q4_1, "attn_output": kinds.F16,
        "ffn_gate": kinds.BF16, "ffn_up": kinds.Q8_0, "ffn_down": kinds.F32, "token_embd": kinds.Q8_0, "output": kinds.F16,
    }
    plain = {value: key for key, value in RENAMED.items()}
    writer = gguf.GGUFWriter(HERE / name, "llama")
    writer.add_block_count(TINY["num_hidden_layers"])
    writer.add_embedding_length(TINY["hidden_size"])
    writer.add_feed_forward_length(TINY["intermediate_size"])
    writer.add_head_count(TINY["num_attention_heads"])
    writer.add_head_count_kv(TINY["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(TINY["rms_norm_eps"])
    writer.add_context_length(TINY["max_position_embeddings"])
    writer.add_rope_freq_base(TINY["rope_theta"])
    writer.add_vocab_size(TINY["vocab_size"])
    unpacked = []
    for path, weight in tree_flatten(model.parameters()):
        module = path.removesuffix(".weight")
        if module.startswith("model.layers."):
            _, _, layer, part = module.split(".", 3)
            part = plain[part]
            stored = f"blk.{layer}.{part}"
        else:
            part = stored = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[module]
        array = numpy.array(weight)
        heads = {"attn_q": TINY["num_attention_heads"], "attn_k": TINY["num_key_value_heads"]}.get(part)
        if heads:  # the order in which llama.cpp stores rotated rows
            rows, columns = array.shape
            array = array.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
        kind = stored_as.get(part, kinds.F32)
        data = gguf.quantize(array, kind)
        writer.add_tensor(f"{stored}.weight", data, raw_dtype=kind)
        array = gguf.dequantize(data, kind).reshape(array.shape)
        if heads:
            array = array.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        unpacked.append((path, mx.array(array)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.load_weights(unpacked)
    write(f"{pathlib.Path(name).stem}.json", reference(model, TINY_TOKENS, [0, 1, 11, 23], 16))


def from_gguf(path):
    """The GGUF file as an mlx-lm model in 32-bit floats."""
    arrays, meta = mx.load(str(path), return_metadata=True)
    number = lambda key: meta[f"llama.{key}"].item()
    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    weights = {}
    for key in [key for key in arrays if key.endswith(".weight")]:
        module = key.removesuffix(".weight")
        weight = arrays[key].astype(mx.float32) if f"{module}.scales" not in arrays else None
        if weight is None:
            scales, biases = (arrays[f"{module}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
            bits = 8 if module == "token_embd" else 4
            weight = mx.dequantize(arrays[key], scales, biases, group_size=32, bits=bits)
        for part, count in (("attn_q", heads), ("attn_k", kv_heads)):
            if module.endswith(part):  # rows come in pairs (i, i + half) of each head
                rows, columns = weight.shape
                weight = weight.reshape(count, rows // count // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        if module.startswith("blk."):
            _, layer, part = module.split(".")
            name = f"model.layers.{layer}.{RENAMED[part]}"
        else:
            name = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}[module]
        weights[f"{name}.weight"] = weight
    model = llama.Model(llama.ModelArgs(
        model_type="llama", hidden_size=number("embedding_length"), num_hidden_layers=number("block_count"),
        intermediate_size=number("feed_forward_length"), num_attention_heads=heads, num_key_value_heads=kv_heads,
        rms_norm_eps=number("attention.layer_norm_rms_epsilon"), vocab_size=number("vocab_size"),
        rope_theta=number("rope.freq_base"), tie_word_embeddings="lm_head.weight" not in weights,
    ))
    model.load_weights(list(weights.items()))
    mx.eval(model.parameters())
    return model


def main():
    mx.set_default_device(mx.cpu)
    tiny("tiny-untied", 1)
    tiny("tiny-tied", 2, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)
    tiny("tiny-4bit", 3, quantise={"group_size": 32, "bits": 4, "overrides": {
        "model.embed_tokens": {"group_size": 64, "bits": 8},
        "lm_head": {"group_size": 32, "bits": 6},
        "model.layers.1.mlp.down_proj": {"group_size": 32, "bits": 3},
        "model.layers.0.self_attn.v_proj": {"group_size": 64, "bits": 2},
        "model.layers.0.mlp.up_proj": {"group_size": 32, "bits": 5},
    }})
    tiny("tiny-4bit-tied", 4, tie_word_embeddings=True, quantise={"group_size": 64, "bits": 4}, intermediate_size=128)
    tiny("tiny-llama3-rope", 5, head_dim=32, rope_theta=500000.0, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64})
    tiny("tiny-linear-rope", 6, rope_scaling={"type": "linear", "factor": 4.0})
    tiny_gguf("tiny-mixed.gguf", 7)
    if len(sys.argv) > 1:
        # "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
        tokens = [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]
        columns = list(range(0, 49152, 97))
        write("smollm2.json", reference(from_gguf(sys.argv[1]), tokens, [0, 5, len(tokens) - 1], 16, columns))


if __name__ == "__main__":
    main()
