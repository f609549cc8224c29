"""Restore a photograph by an exported file: python restore.py net.onnx rainy.jpg dry.png"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
degraded = np.asarray(Image.open(source).convert("RGB"), np.float32) / 255
(restored,) = session.run(["restored"], {"degraded": degraded.transpose(2, 0, 1)[None]})
Image.fromarray((restored[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)).save(target)
