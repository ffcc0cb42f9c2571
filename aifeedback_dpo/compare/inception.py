"""Inception's features as FID and KID are published on: the network, its resize and its file of weights are torch-fidelity's.

Weights converted from TensorFlow's `inception-2015-12-05` (toshas/torch-fidelity), as FID began with; the resize to 299
pixels is TensorFlow 1's. Nothing is ever fetched here.
"""

import os
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aifeedback_dpo.compare.embedding import Loaded, Rows, Space
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.provenance import file_hash
from aifeedback_dpo.records import content_id
from aifeedback_dpo.settings.comparison import Compare

VERSION = 1  # of this file's arithmetic, in every stamp
FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
LAYER = "2048"
PUBLISHED = FILE.removesuffix(".pth").rpartition("-")[2]
"""How the SHA-256 of the published file begins."""


def file(settings: Compare) -> Path:
    """The file that is meant: `compare.inception`, or where torch-fidelity keeps its own.

    Raises UserError where the setting names none.
    """
    if settings.inception is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        home = Path(os.environ.get("TORCH_HOME") or caches / "torch")
        return home.expanduser() / "hub" / "checkpoints" / FILE
    path = Path(settings.inception).expanduser()
    if not path.is_file():
        raise UserError(f"compare.inception={settings.inception}: there is no such file; fetch {URL}, or leave it out")
    return path


def missing(settings: Compare) -> str | None:
    """What to do before FID can be measured here; None where all is there."""
    if (step := package_missing()) or file(settings).is_file():
        return step
    return (
        f"Inception's weights are not here: fetch {URL} into hub/checkpoints of $TORCH_HOME (~/.cache/torch where it is not "
        "set), or name the file with compare.inception=FILE"
    )


def package_missing() -> str | None:
    """What to do before any Fréchet or kernel distance can be measured here."""
    here = find_spec("torch_fidelity")
    return None if here else 'torch-fidelity is not installed: run `pip install "aifeedback_dpo[eval]"`'


def space(settings: Compare) -> Space:
    """Inception by that file."""
    path = file(settings)
    digest = file_hash(path.resolve())
    made_of = content_id("inception", VERSION, digest, LAYER, version("torch-fidelity"))
    caution = (
        None if digest.startswith(PUBLISHED) else f"{path.name} is not the published Inception: no other FID compares"
    )
    return Space(f"Inception v3 ({path.name})", lambda: made_of, lambda: _load(path, digest, made_of), caution)


def _load(path: Path, digest: str, stamp: str) -> Loaded:
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from aifeedback_dpo.scorers.checkpoints import state_dict
    from aifeedback_dpo.weights import LocatedFile

    what = "torch-fidelity's weights of Inception v3"
    state_dict(LocatedFile(path, path.name, digest), what)  # it unpickles anything, so this must be tensors alone
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", [LAYER], feature_extractor_weights_path=str(path))
    except (RuntimeError, AttributeError, KeyError) as error:
        raise ModelMissing(f"{path} does not hold {what}: {' '.join(str(error).split())[:200]}; fetch {URL}") from error
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    return Loaded(stamp, lambda images: _features(network, images))


def _features(network: Any, images: Sequence[Image.Image]) -> Rows:
    """(b, 2048): pictures of one size at a time, each at the size it has."""
    import torch

    device = next(network.parameters()).device
    sizes = [image.size for image in images]
    rows = np.empty((len(images), int(LAYER)), dtype=np.float32)
    with torch.inference_mode():
        for size in dict.fromkeys(sizes):
            at = [place for place, its in enumerate(sizes) if its == size]
            pixels = torch.from_numpy(np.stack([np.asarray(images[place]) for place in at])).permute(0, 3, 1, 2)
            (features,) = network(pixels.to(device))
            rows[at] = features.float().cpu().numpy()
    return rows
