"""A CLIP tokenizer whose vocabulary is the words of the grammar; other words fall apart into bytes, as in the real one."""

import json

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, WhitespaceSplit
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from aifeedback_dpo.shapes.grammar import scenes

LENGTH = 16
START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer() -> CLIPTokenizer:
    """Byte-level BPE in CLIP's format: every byte, then merges until each word of the grammar is one token."""
    words = sorted({word for prompt in scenes() for word in prompt.split()})
    letters = sorted(set("".join(words)))
    numbered = [*letters, *(letter + "</w>" for letter in letters)]  # else in hash order, by which ties are broken
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = WhitespaceSplit()
    trainer = BpeTrainer(end_of_word_suffix="</w>", special_tokens=numbered, show_progress=False)
    learner.train_from_iterator(words, trainer)
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(merge) for merge in merges), START, END]
    ids = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=LENGTH)
