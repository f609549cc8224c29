"""Whether fp16 or dynamic int8 would pay: exported files of each, timed in onnxruntime on a CPU beside fp32.

    UNSEEN_DATA=... .venv/bin/python benchmarks/export.py

Two networks: PReNet with its published weights for Rain100L, and a ResNet of width 32 and 8 blocks with fresh weights,
whose times alone mean something. Both are exported by `unseen.models.exporting.export`; onnxruntime's own tools make
the other two of that file (int8 convolutions where weights lie in the file, which is all but the gates of PReNet's
LSTM). Printed are size, seconds for an image (medians of rounds in which all three take turns, one
thread), the agreement with fp32, and for PReNet the PSNR against the clean image: means over crops of Rain100L.

Either pays where it is at least 1.2 times faster than fp32 and loses less than 0.1 dB.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

from unseen.checkpoints import restorer
from unseen.images import PEAK, find_images, read_image
from unseen.models import Model, open_model
from unseen.models.exporting import export
from unseen.networks import ResNetConfig, build
from unseen.training import processor

Array = NDArray[np.float32]


def data() -> Path:
    folder = os.environ.get("UNSEEN_DATA")
    if not folder:
        print("Skipped: the images lie in the data; set UNSEEN_DATA to their folder.")
        sys.exit(0)
    return Path(folder)


def crops(pixels: int, count: int) -> list[tuple[Array, Array]]:
    """Rainy and clean, (1, 3, pixels, pixels) in [0, 1]."""
    rainy, clean = (find_images(data() / "pairs" / "rain100l" / side) for side in ("input", "target"))

    def crop(path: Path) -> Array:
        return (read_image(path)[None, :pixels, :pixels].transpose(0, 3, 1, 2) / PEAK).astype(np.float32)

    return [(crop(one), crop(other)) for one, other in list(zip(rainy, clean, strict=True))[:count]]


def variants(model: Model, folder: Path) -> dict[str, Path]:
    fp32, fp16, int8 = (folder / f"{model.name}-{name}.onnx" for name in ("fp32", "fp16", "int8"))
    export(model, fp32)
    onnx.save(convert_float_to_float16(onnx.load(fp32), keep_io_types=True), fp16)
    graph = onnx.load(fp32).graph
    held = {weights.name for weights in graph.initializer}
    computed = [node.name for node in graph.node if node.op_type == "Conv" and node.input[1] not in held]
    quantize_dynamic(fp32, int8, weight_type=QuantType.QUInt8, nodes_to_exclude=computed)
    return {"fp32": fp32, "fp16": fp16, "int8, dynamic": int8}


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def decibel(one: Array, other: Array) -> float:
    return float(-10 * np.log10(max(float(np.square(one - other).mean()), 1e-12)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # of what might be done before quantising
    network = build(ResNetConfig(width=32, blocks=8), 0).eval()
    models = (
        open_model(data() / "weights" / "prenet" / "Rain100L.pth", precision="fp32"),
        Model(name="ResNet", restore=restorer(network), kind="ResNet", network=network),
    )
    pairs = crops(args.side, args.images)
    print(f"{processor()}, 1 thread, onnxruntime {onnxruntime.__version__}, {date.today()}")
    print(f"{len(pairs)} crops of {args.side} x {args.side} pixels, {args.rounds} rounds; processor time\n")
    print(f"{'':26}{'file':>9}{'an image':>11}{'beside fp32':>13}{'agreement':>12}{'PSNR':>10}")
    for model in models:
        with tempfile.TemporaryDirectory() as made:
            files = variants(model, Path(made))
            sizes = {name: path.stat().st_size for name, path in files.items()}
            sessions = {name: session(path) for name, path in files.items()}
        restored = {
            name: [np.asarray(one.run(None, {"degraded": rainy})[0]) for rainy, _ in pairs]
            for name, one in sessions.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(args.rounds):
            for name, one in sessions.items():
                start = time.process_time()
                one.run(None, {"degraded": pairs[0][0]})
                seconds[name].append(time.process_time() - start)
        for name, outputs in restored.items():
            times = median(own / base for own, base in zip(seconds[name], seconds["fp32"], strict=True))
            agreed = np.mean([decibel(one, two) for one, two in zip(outputs, restored["fp32"], strict=True)])
            quality = np.mean([decibel(one, clean) for one, (_, clean) in zip(outputs, pairs, strict=True)])
            psnr = f"{quality:7.2f} dB" if model.path is not None else ""
            told = "" if name == "fp32" else f"{agreed:9.1f} dB"
            print(
                f"{model.name + ', ' + name:26}{sizes[name] / 1e6:6.2f} MB{median(seconds[name]):10.3f}s{times:12.2f}x"
                f"{told:>12}{psnr:>10}"
            )


if __name__ == "__main__":
    main()
