"""A model in files is prepared, calibrated, converted and exported without its weights in memory together."""

import os
import platform
import subprocess
import sys

import pytest
import torch

import fxquant
from tests.storage.shards import chain, loaded, written
from tests.zoo.architectures import import_transformers

LAYERS, WIDTH = 24, 1024  # 4 MiB a layer
FLOATS, INTEGERS = LAYERS * 4, LAYERS  # MiB

SCRIPT = f"""
import sys
from pathlib import Path
import torch
import fxquant
from tests.storage.shards import chain, loaded

def peak(step):
    figure = lambda name: next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(name))
    before = figure("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
    result = step()
    print((figure("VmHWM") - before) // 1024)
    return result

torch.set_num_threads(1)
small = loaded(lambda: chain(2, 16), Path(sys.argv[1]) / "small")  # imports, allocates, starts threads
fxquant.calibrate(fxquant.prepare(small, torch.randn(4, 16)), [torch.randn(4, 16)], offload=fxquant.Offload())
batches = [torch.randn(4, {WIDTH}) for _ in range(3)]
model = peak(lambda: loaded(lambda: chain({LAYERS}, {WIDTH}), Path(sys.argv[1]) / "large"))
prepared = peak(lambda: fxquant.prepare(model, batches[0], target="onnxruntime"))
offload = fxquant.Offload(activations="disk", block_bytes=9 << 20)
peak(lambda: fxquant.calibrate(prepared, batches, offload=offload))
peak(lambda: fxquant.convert(prepared))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.system() != "Linux", reason="memory is given back on Linux")
def test_the_memory_of_each_step_is_that_of_a_block(tmp_path):
    for name, model in (("small", chain(2, 16)), ("large", chain(LAYERS, WIDTH))):
        (tmp_path / name).mkdir()
        written(model, tmp_path / name, shards=3)
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)]
    without_holes = os.environ | {"MALLOC_MMAP_THRESHOLD_": "100000"}  # glibc keeps freed layers among codes
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=without_holes).stdout
    loading, preparing, calibrating, converting = map(int, output.split())
    margin = 12  # MiB: graph, code, what allocators keep
    assert loading < margin
    assert preparing < 4 + margin
    assert calibrating < 9 + margin
    assert converting < INTEGERS + 2 * 4 + margin  # a layer in float, and its codes before they are narrowed
    assert max(loading, preparing, calibrating, converting) < FLOATS / 2


def language_model():
    transformers = import_transformers()
    config = transformers.LlamaConfig(
        vocab_size=200,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.slow
def test_a_language_model_in_shards_is_the_one_in_memory(tmp_path):
    plain, batches = language_model(), [{"input_ids": torch.randint(0, 200, (2, 12))} for _ in range(3)]
    (tmp_path / "shards").mkdir()
    in_files = loaded(language_model, written(plain, tmp_path / "shards", shards=3))
    assert in_files.lm_head.weight is in_files.model.embed_tokens.weight
    offload = fxquant.Offload(activations="disk", folder=tmp_path / "activations", block_bytes=60_000)
    quantized = []
    for model, options in ((plain, None), (in_files, offload)):
        prepared = fxquant.prepare(model, batches[0], target="onnxruntime")
        fxquant.calibrate(prepared, batches, offload=options)
        quantized.append(fxquant.convert(prepared))
    buffers = [dict(model.named_buffers()) for model in quantized]
    assert buffers[0].keys() == buffers[1].keys()
    assert all(torch.equal(buffer, buffers[1][name]) for name, buffer in buffers[0].items())
    files = fxquant.export(quantized[1], tmp_path / "out")
    assert fxquant.verify(quantized[1], files, batches[:1]).max_steps <= 1
