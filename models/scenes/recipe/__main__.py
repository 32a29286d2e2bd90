"""python3 -m recipe STAGE --config cpu.toml --work DIR"""
import argparse
import os
import tomllib

import torch

from . import average, clip, drawn, dvae, export, layout, package, sheet, sweep, text, transformer
from .canvas import use_config
from .parallel import launch
from .training import keep_memory

TRAINING = {"codes": dvae.train_codes, "decoder": dvae.train_decoder, "transformer": transformer.train, "clip": clip.train, "layout": layout.train}
STAGES = {
    "text": text.train_tokenizers, "drawn": drawn.draw, "judge": sweep.evaluate, "sheet": sheet.sheet, "export": export.export, "export-random": export.export_random}


def main():
    parser = argparse.ArgumentParser(prog="recipe", description=__doc__)
    parser.add_argument("stage", choices=[*TRAINING, *STAGES, "from-package", "average"])
    parser.add_argument("--config", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--package", help="the package whose weights from-package starts from")
    parser.add_argument("--of", nargs="+", help="the work folders whose samplers average takes the mean of")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    torch.manual_seed(0)
    os.makedirs(arguments.work, exist_ok=True)
    with open(arguments.config, "rb") as file:
        config = tomllib.load(file)
    use_config(config)
    if arguments.stage in TRAINING:
        launch(TRAINING[arguments.stage], config, arguments.work)
    elif arguments.stage == "from-package":
        package.start(config, arguments.work, arguments.package or parser.error("from-package needs --package"))
    elif arguments.stage == "average":
        average.average(arguments.work, arguments.of or parser.error("average needs --of"))
    else:
        STAGES[arguments.stage](config, arguments.work)


if __name__ == "__main__":
    main()
