"""`unseen doctor`: what this machine can do."""

import os
import sys
from pathlib import Path

from unseen.cli.app import Json, app, say, show


@app.command()
def doctor(json_: Json = False) -> None:
    """Say what this machine can do, and whether the installation is sound.

    Example: `unseen doctor`
    """
    from importlib.metadata import version

    import torch

    from unseen.experiment import best_device, has_bf16
    from unseen.shipped import shipped, shipped_priors
    from unseen.training import processor

    device = best_device()
    data = os.environ.get("UNSEEN_DATA")
    facts = {
        "unseen": version("unseen"),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else device,
        "precision": "mixed" if has_bf16(device) else "fp32",
        "weights": sorted(shipped()),
        "priors": sorted(shipped_priors()),
        "data": data,
        "data_found": bool(data and Path(data).is_dir()),
    }
    if json_:
        show(facts)
        return
    for key, value in facts.items():
        text = ", ".join(value) or "-" if isinstance(value, list) else "-" if value is None else value
        print(f"{key.replace('_', ' '):12} {text}")
    say()
    say(f"Networks will train and run on {facts['device_name']} in {facts['precision']} precision.")
    if data is None:
        say(
            "UNSEEN_DATA is not set: studies on public photographs need it (docs/data.md). Embedded data works without."
        )
    elif not facts["data_found"]:
        say(f"UNSEEN_DATA is {data}, and there is no such folder. Correct it, or see docs/data.md.")
