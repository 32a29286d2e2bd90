"""The two vocabularies: a byte-level BPE for the sampler, and the same with start and end tokens for the ranker; and the list of words that captions have."""
import os
import random
import re

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from .captions import caption
from .grammar import sample_train

START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizers(config, work):
    """Learn the BPE on captions, and write both tokenizer files and the words."""
    settings, rng = config["text"], random.Random(4)
    captions = [caption(sample_train(rng), rng) for _ in range(settings["captions"])]
    words = sorted({word for text in captions for word in re.findall(r"[a-z]+", text.lower())})
    with open(os.path.join(work, "words.txt"), "w") as file:
        file.writelines(f"{word}\n" for word in words)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        captions, trainers.BpeTrainer(vocab_size=settings["vocabulary"], initial_alphabet=sorted(alphabet), show_progress=False))
    tokenizer.save(os.path.join(work, "tokenizer.json"))
    tokenizer.add_special_tokens([START, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)])
    tokenizer.save(os.path.join(work, "ranker_tokenizer.json"))
    print(f"{tokenizer.get_vocab_size()} tokens with start and end")


class SamplerText:
    """Captions as the rows of token ids that the transformer reads: unused positions hold their own pad."""

    def __init__(self, work, length):
        self.tokenizer = Tokenizer.from_file(os.path.join(work, "tokenizer.json"))
        self.vocabulary, self.length = self.tokenizer.get_vocab_size(), length

    def __call__(self, captions):
        rows = np.tile(np.arange(self.vocabulary, self.vocabulary + self.length), (len(captions), 1))
        for row, encoded in zip(rows, self.tokenizer.encode_batch(list(captions))):
            ids = encoded.ids[: self.length]
            row[: len(ids)] = ids
        return rows


class RankerText:
    """Captions as CLIP reads them: start, at most `length − 2` tokens, end, then zeros."""

    def __init__(self, work, length):
        self.tokenizer = Tokenizer.from_file(os.path.join(work, "ranker_tokenizer.json"))
        self.tokenizer.enable_truncation(length)
        self.tokenizer.enable_padding(pad_id=0)
        self.vocabulary = self.tokenizer.get_vocab_size()

    def __call__(self, captions):
        return np.array([encoded.ids for encoded in self.tokenizer.encode_batch(list(captions))])
