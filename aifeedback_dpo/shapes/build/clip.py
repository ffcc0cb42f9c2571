"""A small CLIP trained contrastively on the world, with hard negative captions as in NegCLIP (arXiv:2210.01936)."""

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from aifeedback_dpo.seeds import derive
from aifeedback_dpo.shapes.build.autoencoder import rebuild
from aifeedback_dpo.shapes.build.data import Pace, batches, cosine, render_all, sample_scenes
from aifeedback_dpo.shapes.build.vocabulary import LENGTH, tokenizer
from aifeedback_dpo.shapes.grammar import COLOURS, COUNTS, RELATIONS, SHAPES, Kind, Scene, prompts

PICTURES = 24_000
STEPS = 1_800
BATCH = 64


def configuration() -> CLIPConfig:
    """Both towers three layers of width 128; 8x8 patches of 6x6 pixels; embeddings of 64."""
    words = tokenizer()
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    shared = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "projection_dim": 64,
    }
    return CLIPConfig(
        text_config=shared | ids | {"vocab_size": len(words), "max_position_embeddings": LENGTH},
        vision_config=shared | {"image_size": 48, "patch_size": 6},
        projection_dim=64,
    )


def processor() -> CLIPImageProcessor:
    """CLIP's own preprocessing at 48 px; a 48x48 picture passes through unscaled."""
    return CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})


def pixel_values(pictures: Tensor) -> Tensor:
    """What the processor makes of 48x48 uint8 pictures, in one tensor operation."""
    shape = processor()
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (shape.image_mean, shape.image_std))
    return (pictures.float() / 255 - mean) / deviation


def confuse(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene that differs in one thing: the order, the relation, the count, a colour or a shape."""
    objects = list(scene.objects)
    if len(set(objects)) == 1 and len(objects) > 1 and rng.uniform() < 0.6:
        counts = [count for count in (1, *COUNTS.values()) if count != len(objects)]
        return Scene((objects[0],) * int(rng.choice(counts)))
    if scene.relation and rng.uniform() < 0.5:
        others = [relation for relation in RELATIONS if relation != scene.relation]
        return Scene(scene.objects, str(rng.choice(others)))
    if len(set(objects)) == 2 and rng.uniform() < 0.4:
        first, second = objects
        if first.colour != second.colour and first.shape != second.shape:
            return Scene((Kind(second.colour, first.shape), Kind(first.colour, second.shape)), scene.relation)
    at = int(rng.integers(len(set(objects))))
    old = objects[at]
    if rng.uniform() < 0.5:
        new = Kind(str(rng.choice([colour for colour in COLOURS if colour != old.colour])), old.shape)
    else:
        new = Kind(old.colour, str(rng.choice([shape for shape in SHAPES if shape != old.shape])))
    changed = tuple(new if kind == old else kind for kind in objects)
    return Scene(changed, scene.relation) if len(set(changed)) == len(set(objects)) else confuse(scene, rng)


def wrong_caption(scene: Scene, allowed: frozenset[str], rng: np.random.Generator) -> Scene:
    """A confusion of `scene` whose prompt is among `allowed`: held-out prompts are no negatives either."""
    while (wrong := confuse(scene, rng)).prompt not in allowed:
        pass
    return wrong


def may_hold(pictured: Scene, said: Scene) -> bool:
    """Whether a caption could be true of a picture drawn for another caption, so that it is no negative for it."""
    if sorted(pictured.objects) != sorted(said.objects):
        return False
    if not pictured.relation or not said.relation:
        return True
    opposite = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
    same_order = pictured.objects == said.objects
    return said.relation == (pictured.relation if same_order else opposite[pictured.relation])


def train(vae: AutoencoderTiny, seed: int, *, steps: int = STEPS) -> CLIPModel:
    """Half the pictures pass through the autoencoder, so that the model knows generated edges too."""
    chosen = sample_scenes(PICTURES, seed=derive("clip", seed))
    pictures = render_all(chosen, seed=derive("clip", seed))
    pictures[::2] = rebuild(vae, pictures[::2])
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    words, allowed = tokenizer(), frozenset(prompts("train"))
    model = CLIPModel(configuration()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.05, betas=(0.9, 0.98))
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps))
    pace = Pace("clip", steps)
    for step, index in enumerate(batches(len(pictures), BATCH, steps, seed=derive("clip", seed))):
        pictured = [chosen[i] for i in index]
        said = pictured + [wrong_caption(scene, allowed, rng) for scene in pictured]
        tokens = words([scene.prompt for scene in said], padding=True, truncation=True, return_tensors="pt")
        images = normalize(model.get_image_features(pixel_values(pictures[index])).pooler_output, dim=-1)
        texts = normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
        excluded = torch.tensor(
            [[i != j and may_hold(scene, text) for j, text in enumerate(said)] for i, scene in enumerate(pictured)]
        )
        logits = (model.logit_scale.exp() * images @ texts.T).masked_fill(excluded, -1e4)
        target = torch.arange(len(index))
        loss = (cross_entropy(logits, target) + cross_entropy(logits[:, : len(index)].T, target)) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            model.logit_scale.clamp_(max=float(np.log(100)))
        pace.step(step, loss)
    return model.eval().requires_grad_(False)
