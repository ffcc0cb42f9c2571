"""The pairwise judge: what counts as an answer, both orders, and a tiny LLaVA in the real format that talks nonsense."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from aifeedback_dpo import scorers
from aifeedback_dpo.errors import ModelMissing
from aifeedback_dpo.scorers import vlm
from aifeedback_dpo.scorers.vlm import parse, plain
from aifeedback_dpo.settings import ScorerWeights
from tests.parity.references import with_code

TEMPLATE = (
    "{% for message in messages %}{{ message.role }}:"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}judge:{% endif %}"
)
BLACK, WHITE = Image.new("RGB", (40, 20), "black"), Image.new("RGB", (16, 30), "white")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A LLaVA of random weights: 8 px pictures of 4 patches, a vocabulary of single bytes."""
    path = tmp_path_factory.mktemp("llava")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<end>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
    )
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=8,
            patch_size=4,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            initializer_range=0.5,  # so that what it says depends on what it sees
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=image_token,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.update(do_sample=True, temperature=5.0, max_new_tokens=500)  # as if published so
    model.save_pretrained(path)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=8),
        tokenizer=tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(path)
    return path


@pytest.fixture
def judge(folder):
    return scorers.load_judge("vlm", ScorerWeights(id=str(folder)))


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("1", "first"),
        ("2", "second"),
        ("tie", "tie"),
        ("  Tie.\n", "tie"),
        ("**2**", "second"),
        ("Image 1", "first"),
        ("Picture 2.", "second"),
        ('"1"', "first"),
        ("First", "first"),
        ("The second picture", "second"),
        ("Answer: 2", "second"),
        ("The answer is the first image!", "first"),
        ("", None),
        ("I cannot", None),
        ("1 and 2", None),
        ("1 2", None),
        ("1, 2 or tie", None),
        ("12", None),
        ("1.5", None),
        ("3", None),
        ("not 1", None),
        ("Image 1 is worse", None),
        ("neither", None),
        ("both", None),
        ("tied", None),
        ("a tie between 1 and 2", None),
    ],
)
def test_an_answer_is_one_word_or_it_is_missing(text, choice):
    assert parse(text) == choice


def test_a_tiny_model_is_asked_and_its_nonsense_is_missing(judge):
    answers = judge.ask([BLACK, WHITE, BLACK], [WHITE, BLACK, BLACK], ["a cat", "a longer prompt <image> {x}", "<end>"])
    assert len(answers) == 3
    assert all(answer.a_first and answer.b_first for answer in answers)
    assert [answer.p_a for answer in answers] == [None, None, None]


def test_answers_do_not_depend_on_who_is_asked_along_nor_on_the_published_sampling(judge):
    prompts = ["a cat", "a considerably longer prompt", "x"] * 4
    images_a, images_b = [BLACK, WHITE, WHITE] * 4, [WHITE, BLACK, WHITE] * 4
    together = judge.ask(images_a, images_b, prompts)
    alone = [
        judge.ask([image_a], [image_b], [prompt])[0]
        for image_a, image_b, prompt in zip(images_a, images_b, prompts, strict=True)
    ]
    assert together == alone
    assert len({answer.a_first for answer in together}) > 1
    assert together[:3] == together[3:6]


def test_a_model_that_cannot_pad_is_asked_one_by_one(judge):
    expected = judge.ask([BLACK, WHITE], [WHITE, WHITE], ["a cat", "a longer prompt"])
    judge.tokenizer.pad_token = None
    assert judge.ask([BLACK, WHITE], [WHITE, WHITE], ["a cat", "a longer prompt"]) == expected


def shown(conversation) -> tuple[list[float], str]:
    """The brightness of the pictures in the order shown, and the text."""
    content = conversation[0]["content"]
    pictures = [float(np.asarray(part["image"]).mean()) for part in content if part["type"] == "image"]
    return pictures, " ".join(part["text"] for part in content if part["type"] == "text")


def brighter(conversations) -> list[str]:
    return ["1" if first > second else "Image 2." for first, second in (shown(one)[0] for one in conversations)]


@pytest.mark.parametrize(
    ("replies", "p_a"),
    [
        (brighter, [1.0, 0.0]),  # looks at the pictures
        (lambda conversations: ["1"] * len(conversations), [0.5, 0.5]),  # always the first: position bias
        (lambda conversations: ["2"] * len(conversations), [0.5, 0.5]),
        (lambda conversations: ["tie"] * len(conversations), [0.5, 0.5]),
        (lambda conversations: ["Both are fine"] * len(conversations), [None, None]),
    ],
)
def test_a_preference_is_what_both_orders_say(judge, monkeypatch, replies, p_a):
    monkeypatch.setattr(judge, "replies", replies)
    assert [answer.p_a for answer in judge.ask([WHITE, BLACK], [BLACK, WHITE], ["x", "y"])] == p_a


def test_one_order_without_an_answer_is_missing(judge, monkeypatch):
    monkeypatch.setattr(
        judge, "replies", lambda conversations: ["1" if shown(one)[0][0] > 0 else "hm" for one in conversations]
    )
    answer = judge.ask([WHITE], [BLACK], ["x"])[0]
    assert (answer.a_first, answer.b_first, answer.choice_a_first, answer.choice_b_first) == ("1", "hm", 1.0, None)
    assert answer.p_a is None


def test_both_orders_are_shown_with_the_prompt(judge, monkeypatch):
    seen = []
    monkeypatch.setattr(
        judge, "replies", lambda conversations: [seen.append(shown(one)) or "tie" for one in conversations]
    )
    judge.ask([WHITE], [BLACK], ["a {cat} <image>"])
    assert [pictures for pictures, _ in seen] == [[255.0, 0.0], [0.0, 255.0]]
    assert all("a {cat} < image>" in text for _, text in seen)


def test_a_special_token_in_a_prompt_is_only_text():
    assert plain("a <image> and <|im_end|>", ["<|im_end|>", "<image>"]) == "a < image> and < |im_end|>"


def test_the_recipe_is_of_the_weights_and_the_dtype(folder, judge):
    assert scorers.load_judge("vlm", ScorerWeights(id=str(folder))).recipe == judge.recipe
    assert scorers.load_judge("vlm", ScorerWeights(id=str(folder), dtype="bfloat16")).recipe != judge.recipe


def test_a_change_of_arithmetic_is_another_recipe(folder, judge, monkeypatch):
    monkeypatch.setattr(vlm, "VERSION", 0)
    assert scorers.load_judge("vlm", ScorerWeights(id=str(folder))).recipe != judge.recipe


@pytest.mark.parametrize(
    ("row", "says"),
    [(None, r"no tensor .*q_proj\.weight"), (torch.ones(16, 8), r"q_proj\.weight has the shape \(16, 8\)")],
)
def test_a_tensor_that_is_not_there_or_does_not_fit_is_never_made_up(folder, tmp_path, row, says):
    at = Path(shutil.copytree(folder, tmp_path / "llava"))
    tensors = load_file(at / "model.safetensors")
    name = next(name for name in tensors if name.endswith("language_model.model.layers.0.self_attn.q_proj.weight"))
    del tensors[name]
    save_file(tensors if row is None else {**tensors, name: row}, at / "model.safetensors")
    with pytest.raises(ModelMissing, match=says) as found:
        scorers.load_judge("vlm", ScorerWeights(id=str(at)))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("auto_class", ["AutoProcessor", "AutoConfig"])
def test_the_code_of_a_folder_never_runs_and_nobody_is_asked_whether_it_may(folder, tmp_path, monkeypatch, auto_class):
    at = with_code(Path(shutil.copytree(folder, tmp_path / "llava")), auto_class)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("it asked on stdin"))
    with pytest.raises(ModelMissing, match="custom code"):
        scorers.load_judge("vlm", ScorerWeights(id=str(at)))
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(ModelMissing, match="does not hold an image-text-to-text model"):
        scorers.load_judge("vlm", ScorerWeights(id=str(tmp_path)))
