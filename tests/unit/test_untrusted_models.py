"""Models that bring code of their own, as a pickle or as a Python file: none of it runs, whichever loader meets it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aifeedback_dpo import shapes, sources
from aifeedback_dpo.dpo import checkpoint
from aifeedback_dpo.errors import DataError, DdpoError
from aifeedback_dpo.models import loading
from aifeedback_dpo.scorers import checkpoints, towers
from aifeedback_dpo.settings import Adapter, Model, Weights
from aifeedback_dpo.weights import LocatedFile

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers, on folders without safetensors


class Bomb:
    """What runs when it is unpickled without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def code(mark: Path) -> str:
    return f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Evil: pass\n"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it ran"


def test_this_pickle_does_run_where_nobody_is_careful(mark, tmp_path):
    torch.save({"weight": Bomb(mark)}, tmp_path / "evil.bin")
    torch.load(tmp_path / "evil.bin", weights_only=False)
    assert mark.exists()


def pickled(at: Path, name: str, mark: Path) -> None:
    for weights in at.glob("*.safetensors"):
        weights.unlink()
    torch.save({"weight": Bomb(mark)}, at / name)


# -- pipelines -------------------------------------------------------------------------------------------------------------


def pickled_denoiser(at: Path, mark: Path) -> None:
    pickled(at / "unet", "diffusion_pytorch_model.bin", mark)


def pickled_text_encoder(at: Path, mark: Path) -> None:
    pickled(at / "text_encoder", "pytorch_model.bin", mark)


def class_of_the_folder(at: Path, mark: Path) -> None:
    (at / "pipeline.py").write_text(code(mark))
    changed(at / "model_index.json", _class_name=["pipeline", "Evil"])


def component_of_the_folder(at: Path, mark: Path) -> None:
    (at / "unet" / "evil.py").write_text(code(mark))
    changed(at / "model_index.json", unet=["evil", "Evil"])


def component_that_is_a_program(at: Path, mark: Path) -> None:
    changed(at / "model_index.json", scheduler=["subprocess", "Popen"])


def changed(path: Path, **settings: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    "change",
    [
        pickled_denoiser,
        pickled_text_encoder,
        class_of_the_folder,
        component_of_the_folder,
        component_that_is_a_program,
    ],
    ids=lambda change: change.__name__,
)
def test_no_pipeline_runs_code_of_its_own(change: Callable[[Path, Path], None], mark: Path, tmp_path: Path) -> None:
    at = Path(shutil.copytree(shapes.weights("pipeline"), tmp_path / "model"))
    change(at, mark)
    with pytest.raises(DdpoError) as error:
        loading.load(Model(id=str(at)))
    assert not mark.exists()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_a_class_that_a_folder_names_for_transformers_is_not_fetched_from_it(
    part: str, mark: Path, tmp_path: Path
) -> None:
    at = Path(shutil.copytree(shapes.weights("pipeline"), tmp_path / "model"))
    (at / part / "evil.py").write_text(code(mark))
    settings = at / part / ("config.json" if part == "text_encoder" else "tokenizer_config.json")
    changed(settings, auto_map={"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]})
    loading.load(Model(id=str(at)))  # by the classes that diffusers knows
    assert not mark.exists()


@pytest.mark.parametrize("name", ["pytorch_lora_weights.bin", "pytorch_lora_weights.safetensors"])
def test_no_lora_and_no_policy_runs_code_of_its_own(name: str, mark: Path, tmp_path: Path) -> None:
    pickled(tmp_path, name, mark)
    whole = tmp_path / "whole" / "unet"
    shutil.copytree(shapes.weights("pipeline") / "unet", whole)
    pickled(whole, "diffusion_pytorch_model.bin", mark)
    with pytest.raises(DdpoError):
        loading.load(Model(id="shapes", adapters=(Adapter(id=str(tmp_path), file=name),)))
    model = loading.load(Model(id="shapes"))
    for weights in (tmp_path, tmp_path / name, whole.parent):
        with pytest.raises(DataError), model.policy(weights):
            pass
    assert not mark.exists()


# -- scorers, checkpoints ----------------------------------------------------------------------------------------------------


def test_no_scorer_runs_code_of_its_own(mark: Path, tmp_path: Path) -> None:
    at = Path(shutil.copytree(shapes.weights("clip"), tmp_path / "clip"))
    pickled(at, "pytorch_model.bin", mark)
    with pytest.raises(DdpoError):
        towers.load(Weights(id=str(at)), "clip")
    for name in ("head.pt", "head.safetensors"):
        pickled(tmp_path, name, mark)
        with pytest.raises(DdpoError):
            checkpoints.state_dict(LocatedFile(tmp_path / name, name, "r"), "a head")
    assert not mark.exists()


def test_no_checkpoint_of_a_training_runs_code_of_its_own(mark: Path, tmp_path: Path) -> None:
    path = tmp_path / "step-000003.pt"
    torch.save({"made_from": "m", "step": 3, "state": {"trained": Bomb(mark)}}, path)
    path.write_bytes(path.read_bytes() + hashlib.sha256(path.read_bytes()).digest())
    job = SimpleNamespace(made_from="m", checkpoint=lambda step: path)
    with pytest.raises(DataError, match="holds more than tensors"):
        checkpoint.load(job, 3)
    assert not mark.exists()


# -- data sets ---------------------------------------------------------------------------------------------------------------


def test_no_data_set_runs_a_script_of_its_own(mark: Path, tmp_path: Path) -> None:
    at = tmp_path / "pairs"
    at.mkdir()
    for name in ("pairs.py", "dataset.py", "train.py"):
        (at / name).write_text(code(mark))
    with pytest.raises(DdpoError):
        sources.source("pairs").opened(sources.Asked(str(at)))
    assert not mark.exists()
