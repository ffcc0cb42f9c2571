"""Each family against diffusers' own scheduler and pipeline, on tiny random pipelines in the real folder format."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from PIL import Image

from aifeedback_dpo import config, models
from aifeedback_dpo.cli.options import model_overrides
from aifeedback_dpo.dpo.cache import frame
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.models import flux
from aifeedback_dpo.models.schedules import Flow, Steps
from aifeedback_dpo.settings import Adapter, Autoencoder, Model
from tests import tiny

LATENTS = (3, 4, 6, 6)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    return {family: tiny.write(family, root / family) for family in tiny.FAMILIES}


@pytest.fixture(params=tiny.FAMILIES)
def model(request, folders):
    return models.load(Model(id=str(folders[request.param])))


def stepped(**settings):
    return Steps(DDPMScheduler(**settings))


def noised():
    torch.manual_seed(0)
    return torch.randn(LATENTS), torch.randn(LATENTS), torch.tensor([0, 417, 999])


# -- noising and targets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_steps_noise_and_target_are_those_of_the_equations(prediction):
    latents, noise, times = noised()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)[times].view(-1, 1, 1, 1)
    signal, noisiness = kept.sqrt(), (1 - kept).sqrt()
    steps = stepped(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction)
    assert torch.allclose(
        steps.add_noise(latents, noise, times).double(), signal * latents + noisiness * noise, atol=1e-5
    )
    expected = noise.double() if prediction == "epsilon" else signal * noise - noisiness * latents
    assert torch.allclose(steps.target(latents, noise, times).double(), expected, atol=1e-5)


def test_flow_noise_is_that_of_diffusers_scheduler_at_its_own_levels():
    latents, noise, _ = noised()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    times = scheduler.timesteps[[0, 300, 900]]
    expected = scheduler.scale_noise(latents, times, noise)
    flow = Flow(scheduler.config, patch=2)
    assert torch.allclose(flow.add_noise(latents, noise, times / 1000), expected, atol=1e-6)
    assert torch.equal(flow.target(latents, noise, times / 1000), noise - latents)


def test_at_zero_terminal_snr_the_last_step_is_pure_noise_and_only_v_can_be_predicted():
    latents, noise, times = noised()
    zero = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    steps = stepped(**zero)
    assert torch.allclose(steps.add_noise(latents, noise, times)[2], noise[2], atol=1e-6)
    assert torch.allclose(steps.target(latents, noise, times)[2], -latents[2], atol=1e-6)
    assert steps.weight(times, "eps_equivalent")[2] == pytest.approx(0.0, abs=1e-10)
    with pytest.raises(UserError, match="zero terminal SNR"):
        stepped(**zero | {"prediction_type": "epsilon"})
    with pytest.raises(UserError, match="has no schedule of DDPM's"):
        Steps(EDMEulerScheduler())  # as in Playground v2.5: its noise levels are not these
    with pytest.raises(UserError, match="has no schedule of DDPM's"):
        Steps(FlowMatchEulerDiscreteScheduler())
    with pytest.raises(UserError, match="predicts 'sample'"):
        stepped(prediction_type="sample")


def test_eps_equivalent_errors_are_those_of_the_noise_that_the_prediction_implies():
    """x_t is fixed; whatever v is predicted, the noise that follows from it has the weighted error."""
    latents, noise, times = noised()
    guess = torch.randn(LATENTS)

    def error(one, other):
        return (one - other).square().mean(dim=(1, 2, 3)).double()

    steps = stepped(prediction_type="v_prediction")
    kept = DDPMScheduler().alphas_cumprod[times].view(-1, 1, 1, 1)
    noisy, target = steps.add_noise(latents, noise, times), steps.target(latents, noise, times)
    implied = (1 - kept).sqrt() * noisy + kept.sqrt() * guess
    weighted = steps.weight(times, "eps_equivalent") * error(guess, target)
    assert weighted == pytest.approx(error(implied, noise).numpy(), rel=1e-4)

    flow, levels = Flow({}, patch=2), torch.tensor([0.1, 0.5, 0.9])
    level = levels.view(-1, 1, 1, 1)
    noisy, target = flow.add_noise(latents, noise, levels), flow.target(latents, noise, levels)
    implied = noisy + (1 - level) * guess  # x_s = x_0 + s v and noise = x_0 + v
    weighted = flow.weight(levels, "eps_equivalent") * error(guess, target)
    assert weighted == pytest.approx(error(implied, noise).numpy(), rel=1e-4)

    epsilon = stepped()
    assert epsilon.weight(times, "eps_equivalent").tolist() == epsilon.weight(times, "uniform").tolist() == [1, 1, 1]


def test_a_flows_shift_is_its_schedulers():
    constant = FlowMatchEulerDiscreteScheduler(shift=3.0)
    levels = constant.sigmas  # already shifted; the unshifted ones are 1000/1000, 999/1000, ...
    plain = torch.linspace(1, 0.001, 1000)
    draw = Flow(constant.config, 2).times("uniform", "model", (64, 64))
    factor = Flow(constant.config, 2).shift((64, 64))
    assert factor == 3.0
    assert torch.allclose(factor * plain / (1 + (factor - 1) * plain), levels, atol=1e-6)
    level = torch.rand((), generator=torch.Generator().manual_seed(5))
    assert draw(torch.Generator().manual_seed(5)).item() == pytest.approx((3 * level / (1 + 2 * level)).item())

    dynamic = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    mu = calculate_shift(32 * 48)  # 512 x 768 pixels: 64 x 96 latents, patches of two
    dynamic.set_timesteps(sigmas=[0.75, 0.25], mu=mu)
    factor = Flow(dynamic.config, 2).shift((64, 96))
    expected = [factor * level / (1 + (factor - 1) * level) for level in (0.75, 0.25)]
    assert dynamic.sigmas[:2].tolist() == pytest.approx(expected)


def test_logit_normal_levels_have_their_median_in_the_middle_and_thin_ends():
    draw = Flow({}, 2).times("logit_normal", 1.0, (8, 8))
    generator = torch.Generator().manual_seed(0)
    levels = torch.stack([draw(generator) for _ in range(4000)])
    # sigmoid of a standard normal: P(level < 1/2) = 0.5, P(level < 0.1) = P(z < -2.197) = 0.0140; six deviations
    assert (levels < 0.5).double().mean() == pytest.approx(0.5, abs=0.048)
    assert (levels < 0.1).double().mean() == pytest.approx(0.0140, abs=0.0112)


def test_flow_settings_are_refused_for_steps():
    for distribution, shift in (("logit_normal", 1.0), ("uniform", 3.0), ("uniform", "model")):
        with pytest.raises(UserError, match="flow models"):
            stepped().times(distribution, shift, (8, 8))


# -- the networks ----------------------------------------------------------------------------------------------------


def test_predict_is_what_the_pipeline_computes(model, monkeypatch):
    """One sampling step of the pipeline, its call of the denoiser recorded, and the same inputs through `predict`."""
    calls = []
    forward = model.denoiser.forward

    def recording(*arguments, **named):
        output = forward(*arguments, **named)
        calls.append((arguments, named, output[0]))
        return output

    monkeypatch.setattr(model.denoiser, "forward", recording)
    prompts = ["a red circle", "two green crosses"]
    model.sample(prompts, [1, 2], steps=1, guidance=1.0, width=32, height=32)
    monkeypatch.undo()
    (arguments, named, output), family = calls[0], model.family
    latents = arguments[0] if arguments else named["hidden_states"]
    times = (arguments[1] if arguments else named["timestep"]).expand(2)
    if family.__name__.endswith("flux"):
        latents, output = flux.unpack(latents, 16, 16), flux.unpack(output, 16, 16)
    elif family.__name__.endswith("sd3"):
        times = times / 1000
    conditions = model.encode_prompts(prompts) | {"sizes": torch.tensor([[32, 32, 0, 0, 32, 32]] * 2)}
    with torch.inference_mode():
        ours = family.predict(model.denoiser, latents, times, conditions, guidance=1.0)
    assert ours.shape == latents.shape
    assert torch.allclose(ours, output, atol=1e-5)


def test_flux_patches_are_put_back_where_they_were():
    latents = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    packed = flux.pack(latents)
    assert packed.shape == (2, 6, 12)
    assert packed[0, 0].tolist() == latents[0, :, :2, :2].flatten().tolist()
    assert torch.equal(flux.unpack(packed, 4, 6), latents)


def test_latents_are_shifted_and_scaled_as_the_pipeline_undoes_it(model):
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    vae = model.pipeline.vae
    with torch.inference_mode():
        mean = vae.encode(pixels).latent_dist.mean
        latents = model.encode_images(pixels)
    undone = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)
    assert torch.allclose(undone, mean, atol=1e-6)


def test_batch_size_changes_no_picture(model):
    prompts = ["a red circle", "two green crosses", "a blue square", "a red circle"]
    settings = {"steps": 2, "guidance": 2.0, "width": 32, "height": 32}
    four = model.sample(prompts, [1, 2, 3, 4], **settings)
    single = [model.sample([prompt], [seed], **settings)[0] for prompt, seed in zip(prompts, [1, 2, 3, 4], strict=True)]
    for one, other in zip(four, single, strict=True):
        # float32 sums are not associative, so a value on a rounding edge may fall one level apart
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1
    assert np.asarray(four[0]).std() > 1


def test_no_negative_prompt_is_what_the_pipeline_takes_for_none(folders):
    sdxl = models.load(Model(id=str(folders["sdxl"])))
    none = sdxl.family.encode_negative(sdxl.pipeline, "", sdxl.device)
    assert all(not rows.any() for rows in none.values())  # force_zeros_for_empty_prompt
    some = sdxl.family.encode_negative(sdxl.pipeline, "a red circle", sdxl.device)
    assert torch.allclose(some["prompt_embeds"], sdxl.encode_prompts(["a red circle"])["prompt_embeds"], atol=1e-6)
    sd = models.load(Model(id=str(folders["sd"])))
    assert sd.family.encode_negative(sd.pipeline, "", sd.device)["prompt_embeds"].any()
    dev = models.load(Model(id=str(folders["flux"])))
    with pytest.raises(UserError, match="takes none"):
        dev.sample(["a red circle"], [0], steps=1, guidance=1, negative_prompt="ugly")


def test_a_picture_is_cropped_to_the_centre_and_its_true_size_is_told():
    wide = Image.fromarray(np.arange(40 * 60, dtype=np.uint8).reshape(40, 60))
    cropped, told = frame(wide, 20)  # resized to 20 x 30, then 5 columns off on each side
    assert (cropped.size, told) == ((20, 20), (40, 60, 0, 5, 20, 20))
    tall, told = frame(wide.rotate(90, expand=True), 20)
    assert (tall.size, told) == ((20, 20), (60, 40, 5, 0, 20, 20))
    assert frame(wide, None) == (wide, (40, 60, 0, 0, 40, 60))


# -- what is refused -------------------------------------------------------------------------------------------------


def test_an_unknown_family_is_told_with_those_supported(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    with pytest.raises(UserError, match=r"KandinskyPipeline; supported are StableDiffusionPipeline, .*FluxPipeline"):
        models.load(Model(id=str(tmp_path)))
    (tmp_path / "model_index.json").unlink()
    with pytest.raises(ModelMissing, match=r"model_index\.json"):
        models.load(Model(id=str(tmp_path)))


def test_a_scheduler_goes_with_what_the_model_predicts(folders):
    flows = models.load(Model(id=str(folders["sd3"])))
    with pytest.raises(UserError, match="does not go with"), flows.scheduler("ddim"):
        pass
    steps = models.load(Model(id=str(folders["sd"])))
    with pytest.raises(UserError, match="does not go with"), steps.scheduler("flow_euler"):
        pass
    with steps.scheduler("dpmsolver++"):
        assert steps.scheduler_name == "DPMSolverMultistepScheduler"
        assert steps.pipeline.scheduler.config.prediction_type == "v_prediction"
    assert steps.scheduler_name == "DDIMScheduler"
    with pytest.raises(UserError, match="cannot follow the noise schedule"), steps.scheduler("pndm"):
        pass  # it knows nothing of zero terminal SNR


def test_latents_are_encoded_in_float32_and_the_autoencoder_is_left_as_it_was(folders):
    full, half = (models.load(Model(id=str(folders["sd"]), dtype=dtype)) for dtype in ("float32", "bfloat16"))
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    latents = half.encode_images(pixels)
    assert half.pipeline.vae.dtype == torch.bfloat16
    exact = full.encode_images(pixels)  # its weights have 8 more bits
    assert (latents - exact).abs().max() < 0.02 * exact.abs().max()
    assert (latents.bfloat16().float() != latents).any()


def test_a_lora_is_put_on_both_attentions_of_stable_diffusion_3_5(folders):
    model = models.load(Model(id=str(folders["sd3"])))
    assert {"attn.to_q", "attn2.to_q", "attn.add_q_proj"} <= set(model.lora_modules(None))
    assert model.lora_modules(["attn2.to_k"]) == ["attn2.to_k"]
    for wrong in ("o_q", "to_out", "nothing"):
        with pytest.raises(UserError, match=f"no layer named {wrong}"):
            model.lora_modules([wrong])


def test_another_model_does_not_get_the_recipes_autoencoder():
    for names in (["/models/one"], ["/models/one", "/models/two"]):
        recipe = config.load("sdxl", model_overrides(names))
        assert recipe.model.id == "/models/one"
        assert recipe.model.vae is None
        assert [drawer.id for drawer in recipe.generate.pool] == (names if len(names) > 1 else [])
        assert {drawer.dtype for drawer in recipe.generate.pool} <= {recipe.model.dtype}


def test_offload_without_a_gpu_is_an_error(folders, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="none here"):
        models.load(Model(id=str(folders["sd"]), offload="model"))


def test_another_autoencoder_and_a_merged_adapter_make_another_model(folders, tmp_path):
    plain = Model(id=str(folders["sd"]))
    other = tiny.write("sd", tmp_path / "other", seed=1) / "vae"
    with_vae = plain.model_copy(update={"vae": Autoencoder(id=str(other))})
    loaded = models.load(plain)
    loaded.add_lora("policy", 2, None)
    torch.manual_seed(3)
    for name, value in loaded.denoiser.named_parameters():
        if "lora_B" in name:
            value.data.normal_()
    loaded.save_lora("policy", tmp_path / "lora")
    merged = plain.model_copy(update={"adapters": (Adapter(id=str(tmp_path / "lora"), weight=0.5),)})
    assert len({models.identify(model).revision for model in (plain, with_vae, merged)}) == 3
    shot = {"steps": 2, "guidance": 2.0, "width": 32, "height": 32}
    pictures = [
        np.asarray(models.load(model).sample(["a red circle"], [0], **shot)[0]) for model in (plain, with_vae, merged)
    ]
    assert not (pictures[0] == pictures[1]).all()
    assert not (pictures[0] == pictures[2]).all()
