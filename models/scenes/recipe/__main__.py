"""python3 -m recipe STAGE --config cpu.toml --work DIR"""
import argparse
import os
import tomllib

import torch

from . import clip, dvae, export, judge, sheet, text, transformer

STAGES = {
    "text": text.train_tokenizers, "codes": dvae.train_codes, "decoder": dvae.train_decoder, "shards": transformer.encode_shards,
    "transformer": transformer.train, "clip": clip.train, "judge": judge.evaluate, "sheet": sheet.sheet, "export": export.export,
    "export-random": export.export_random}


def main():
    parser = argparse.ArgumentParser(prog="recipe", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--config", required=True)
    parser.add_argument("--work", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.makedirs(arguments.work, exist_ok=True)
    with open(arguments.config, "rb") as file:
        STAGES[arguments.stage](tomllib.load(file), arguments.work)


main()
