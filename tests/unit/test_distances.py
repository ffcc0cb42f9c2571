"""Distances of sets of pictures, against numbers made by hand, torch-fidelity's own, and laws that hold for any pictures."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aifeedback_dpo import config, records
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.compare import distances, guards, inception
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.store import Run
from tests.guarded import BLUE, GREEN, PROMPTS, RED, Colour, drawn, firsts, found, scorers_of

# -- distances of sets -----------------------------------------------------------------------------------------------


def standard(count: int, width: int) -> np.ndarray:
    """Rows with mean 0 and covariance 1, exactly."""
    rows = np.random.default_rng(0).normal(size=(count, width))
    rows -= rows.mean(axis=0)
    return rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T


def test_the_frechet_distance_of_gaussians_by_hand():
    rows = standard(50, 3)
    assert distances.frechet(rows, rows) == pytest.approx(0, abs=1e-9)
    # the same covariance: the squared distance of the means, 3^2 + 4^2
    assert distances.frechet(rows, rows + np.array([3, 4, 0])) == pytest.approx(25)
    # covariances 1 and 4 in each of three dimensions: 1 + 4 - 2 sqrt(4) = 1, three times
    assert distances.frechet(rows, 2 * rows) == pytest.approx(3)


def test_the_kernel_distance_of_two_points_by_hand():
    one, other = np.tile([1.0, 0.0], (6, 1)), np.tile([0.0, 1.0], (6, 1))
    # (x.x + 1)^3 = 8 within either set, (x.y + 1)^3 = 1 between them: 8 + 8 - 2
    assert distances.kernel(one, other, confidence=0.95, gamma=1.0) == (14.0, 14.0, 14.0)
    # published: x.y over the width, which is 2: 2 * 1.5^3 - 2
    assert distances.kernel(one, other, confidence=0.95) == pytest.approx((4.75, 4.75, 4.75))
    assert distances.kernel(one, one, confidence=0.95) == (0.0, 0.0, 0.0)


def test_pictures_of_one_prompt_and_seed_are_not_compared_with_each_other():
    # Of a set against itself each row meets itself, with the kernel's largest value, between the sets and not within them:
    # that is below 0. Without those meetings the sums between and within are the same.
    rows = np.tile(np.eye(2), (4, 1))
    assert distances.kernel(rows, rows, confidence=0.95, gamma=1.0, paired=True) == (0.0, 0.0, 0.0)
    assert distances.kernel(rows, rows, confidence=0.95, gamma=1.0)[0] < 0
    one, other = np.tile([1.0, 0.0], (6, 1)), np.tile([0.0, 1.0], (6, 1))
    assert distances.kernel(one, other, confidence=0.95, gamma=1.0, paired=True) == (14.0, 14.0, 14.0)


def test_the_interval_of_a_kernel_distance_is_that_of_all_rows_and_not_of_a_subset(monkeypatch):
    from torch_fidelity.metric_kid import kid_features_to_metric

    monkeypatch.setattr(distances, "SUBSET", 10)
    one, other = standard(40, 2), standard(40, 2)[::-1] + 1
    asked = {"kid_subset_size": 10, "kid_subsets": 100, "verbose": False}
    told = kid_features_to_metric(torch.from_numpy(one), torch.from_numpy(other.copy()), **asked)
    value, low, high = distances.kernel(one, other, confidence=0.95)
    assert value == told["kernel_inception_distance_mean"]
    # 10 of 40 rows: their variance times 10 / 30
    half = 1.959964 * told["kernel_inception_distance_std"] / math.sqrt(3)
    assert (low, high) == pytest.approx((value - half, value + half), rel=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_too_few_pictures_have_no_distance(rows):
    few, many = standard(20, 2)[:rows], standard(20, 2)
    assert math.isnan(distances.frechet(few, many))
    assert all(map(math.isnan, distances.kernel(many, few, confidence=0.95)))


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_distances_do_not_know_which_set_is_which(seed):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(12, 3)), rng.normal(1, 2, size=(15, 3))
    assert distances.frechet(one, other) == pytest.approx(distances.frechet(other, one), rel=1e-6)


def test_distances_are_measured_in_the_space_of_the_clip_and_kept(run, colours, monkeypatch):
    base, own = drawn(run, "base", [[RED]] * PROMPTS), drawn(run, "ai", [[GREEN]] * PROMPTS)
    asked = {"base": firsts(base), "ai": firsts(own)}
    rows = guards.measure(run, asked, {}, Silent())
    # no covariance, and means 255 apart in either of two channels
    assert found(rows, "fd-clip", "base")["value"] == {
        "value": pytest.approx(2 * 255**2),
        "low": None,
        "high": None,
        "prompts": PROMPTS,
    }
    assert "8 pictures bias it" in found(rows, "fd-clip", "base")["caution"]
    assert found(rows, "kid-clip", "base")["value"]["value"] == pytest.approx(2 * (255**2 + 1) ** 3 - 2)
    assert found(rows, "kid-clip", "base")["caution"] is None
    monkeypatch.setattr(distances, "frechet", None)
    monkeypatch.setattr(distances, "kernel", None)
    assert guards.measure(run, asked, {}, Silent()) == rows


def test_a_policy_that_draws_what_the_base_draws_is_at_no_distance_from_it(run, colours):
    pictures = [[colour] for colour in (RED, GREEN, BLUE, (9, 9, 9)) * 2]
    asked = {name: firsts(drawn(run, name, pictures)) for name in ("base", "ai")}
    rows = guards.measure(run, asked, {}, Silent())
    assert found(rows, "kid-clip", "base")["value"] == {"value": 0.0, "low": 0.0, "high": 0.0, "prompts": 8}
    assert found(rows, "fd-clip", "base")["value"]["value"] == pytest.approx(0, abs=1e-3)  # of covariances of about 1e4
    assert found(rows, "clip-i", "base")["value"]["value"] == pytest.approx(1)


# -- real pictures ---------------------------------------------------------------------------------------------------


def real(folder: Path, colours: Sequence[Colour]) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{at}.png" for at in range(len(colours))]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (5, 3), colour).save(path)
    return paths


def test_everybody_is_measured_against_real_pictures_the_base_as_well(run, colours, tmp_path):
    base, own = drawn(run, "base", [[RED]] * 4), drawn(run, "ai", [[GREEN]] * 4)
    real(tmp_path / "real", [GREEN] * 6)
    (tmp_path / "real" / "notes.txt").write_text("no picture")
    asked = {"base": firsts(base), "ai": firsts(own)}
    rows = guards.measure(run, asked, {}, Silent(), reference=tmp_path / "real")
    assert found(rows, "fd-clip", "reference", "base")["value"]["value"] == pytest.approx(2 * 255**2)
    assert found(rows, "fd-clip", "reference")["value"]["value"] == pytest.approx(0, abs=1e-6)
    assert "4 of its pictures and 6 real ones" in found(rows, "fd-clip", "reference")["about"]
    assert not [row for row in rows if (row["guard"], row["against"]) == ("clip-i", "reference")]


def test_pictures_are_compared_with_the_real_one_of_their_prompt(run, colours, tmp_path):
    base, own = drawn(run, "base", [[RED]] * 4), drawn(run, "ai", [[GREEN]] * 4)
    paths = real(tmp_path / "real", [RED, RED, RED, GREEN])
    paired = {f"prompt {at}": path for at, path in enumerate(paths)}
    rows = guards.measure(run, {"base": firsts(base), "ai": firsts(own)}, {}, Silent(), paired=paired)
    assert found(rows, "clip-i", "reference", "base")["value"]["value"] == pytest.approx(3 / 4)
    assert found(rows, "clip-i", "reference")["value"]["value"] == pytest.approx(1 / 4)
    assert "4 of its pictures and 4 real ones" in found(rows, "fd-clip", "reference")["about"]


def test_a_folder_or_a_file_that_is_no_picture_is_named(run, colours, tmp_path):
    asked = {"base": firsts(drawn(run, "base", [[RED]] * 4)), "ai": firsts(drawn(run, "ai", [[RED]] * 4))}
    with pytest.raises(UserError, match="holds no pictures"):
        guards.measure(run, asked, {}, Silent(), reference=tmp_path)
    broken = real(tmp_path / "real", [RED] * 4)[2]
    broken.write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"2\.png cannot be read as a picture"):
        guards.measure(run, asked, {}, Silent(), reference=tmp_path / "real")


def test_what_is_named_and_not_there_is_refused_before_anything_is_drawn(tmp_path):
    guards.check(config.load("shapes", []).compare)
    with pytest.raises(UserError, match="holds no pictures"):
        guards.check(config.load("shapes", [f"compare.reference={tmp_path}"]).compare)
    with pytest.raises(UserError, match="there is no such file; fetch https"):
        guards.check(config.load("shapes", [f"compare.inception={tmp_path / 'none.pth'}"]).compare)


# -- Inception -------------------------------------------------------------------------------------------------------


def test_without_inception_the_rows_say_where_to_put_it(run, colours, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    asked = {"base": firsts(drawn(run, "base", [[RED]] * 4)), "ai": firsts(drawn(run, "ai", [[GREEN]] * 4))}
    for guard in ("fid", "kid"):
        row = found(guards.measure(run, asked, {}, Silent()), guard, "base")
        assert (row["value"]["value"], row["value"]["low"]) == (None, None)
        assert f"fetch {inception.URL} into hub/checkpoints of $TORCH_HOME" in row["caution"]
        assert str(tmp_path) not in row["caution"]  # it goes into cards, which others read
    monkeypatch.setattr(inception, "find_spec", lambda name: None)
    rows = guards.measure(run, asked, {}, Silent())
    for guard in ("fid", "kid", "fd-clip", "kid-clip"):
        assert 'pip install "aifeedback_dpo[eval]"' in found(rows, guard, "base")["caution"]
    assert found(rows, "clip-i", "base")["value"]["value"] is not None


@pytest.mark.parametrize("content", ["a module", "tensors of another one"])
def test_a_file_that_is_not_inceptions_is_told_and_runs_no_code(run, colours, tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(1, 1) if content == "a module" else torch.nn.Linear(1, 1).state_dict(), path)
    run = Run(run.root, config.load("shapes", [f"compare.inception={path}"]))
    asked = {"base": firsts(drawn(run, "base", [[RED]] * 4)), "ai": firsts(drawn(run, "ai", [[GREEN]] * 4))}
    row = found(guards.measure(run, asked, {}, Silent()), "fid", "base")
    assert row["value"]["value"] is None
    assert "weights.pth" in row["caution"]


@pytest.mark.slow
def test_fid_and_kid_are_torch_fidelitys(run, tmp_path, monkeypatch):
    """On random weights in its format and, as the covariance of 2048 features takes half a minute, on its first 64."""
    from torch_fidelity import calculate_metrics
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Network

    assert Network.get_default_feature_layer_for_metric("fid") == inception.LAYER
    monkeypatch.setattr(inception, "LAYER", "64")
    torch.manual_seed(0)
    with monkeypatch.context() as patched:
        patched.setattr(Network, "load_state_dict", lambda self, state: None)
        patched.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda url, progress: {}
        )
        torch.save(Network("x", ["64"]).state_dict(), tmp_path / "weights.pth")
    rng, folders, asked = np.random.default_rng(0), {}, {}
    for policy, brightness in (("base", 255), ("ai", 128)):
        rows = []
        folders[policy] = tmp_path / policy
        folders[policy].mkdir()
        for at in range(12):
            image = Image.fromarray(rng.integers(0, brightness, (20 + at % 2, 24, 3), dtype=np.uint8))
            image.save(folders[policy] / f"{at:02d}.png")
            row = dict.fromkeys(records.IMAGES.names) | {"image_id": f"{policy}-{at:02d}", "prompt_id": f"{at}"}
            rows.append(row | {"image": {"bytes": encode_image(image), "path": "x"}})
        run.commit("images", rows, policy)
        asked[policy] = [row["image_id"] for row in rows]
    run = Run(run.root, config.load("shapes", [f"compare.inception={tmp_path / 'weights.pth'}"]))
    told = guards.measure(scorers_of(run, "random"), asked, {}, Silent(), reference=folders["base"])
    theirs = calculate_metrics(
        input1=str(folders["ai"]),
        input2=str(folders["base"]),
        fid=True,
        kid=True,
        kid_subset_size=6,
        feature_layer_fid="64",
        feature_layer_kid="64",
        feature_extractor_weights_path=str(tmp_path / "weights.pth"),
        cuda=False,
        save_cpu_ram=True,
        batch_size=1,
        cache=False,
        verbose=False,
    )
    fid, kid = (found(told, guard, "reference")["value"] for guard in ("fid", "kid"))
    assert fid["value"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert kid["value"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    half = 1.959964 * theirs["kernel_inception_distance_std"]
    assert kid["high"] - kid["value"] == pytest.approx(half, rel=1e-3)
    assert found(told, "fid", "base")["value"]["value"] == pytest.approx(fid["value"])  # of the same pictures
    assert "weights.pth is not the published Inception" in found(told, "fid", "base")["caution"]
