"""python3 -m evaluation: start the suite, draw and judge what is missing, and write EVALUATION.md (run in models/scenes)."""
import argparse
import os
import pathlib

from recipe import canvas

from . import captions, ceiling, classification, commands, completion, report, service
from .store import Store

PARTS = {
    "commands": commands.run, "ceiling": ceiling.run, "classification": classification.run, "completion": completion.run,
    "captions": captions.run, "unguided": captions.run_unguided, "nearness": captions.run_nearness}


def arguments():
    parser = argparse.ArgumentParser(prog="evaluation", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} and report; left out, all")
    parser.add_argument("--package", type=pathlib.Path, default=service.ROOT / "models/scenes/package", help="folder of the package")
    parser.add_argument("--easel", help="the easel command; left out, target/release/easel, else target/debug/easel")
    parser.add_argument("--work", default=str(service.ROOT / "out/evaluation"), help="folder for raw results, which are not made twice")
    parser.add_argument("--out", default=str(service.ROOT / "models/scenes"), help="folder for EVALUATION.md and its pictures")
    parser.add_argument("--threads", type=int, default=0, help="of each model; 0: all cores")
    for name, value, words in (
            ("held", 300, "captions of unseen combinations"), ("seen", 300, "captions of seen combinations"),
            ("candidates", 16, "pictures of each caption"), ("curve", 100, "of the unseen captions, so many have more candidates"),
            ("many", 32, "candidates of those, and of the examples"), ("completions", 60, "pictures to complete, and as many to restyle"),
            ("completed", 4, "candidates of each of these"), ("pictures", 10, "pictures of each object to classify"),
            ("checks", 100, "captions that the judge is checked on")):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{words} ({value})")
    return parser.parse_args()


def main():
    options = arguments()
    options.easel, options.package = service.binary(options.easel), options.package.resolve()
    wanted = options.parts or [*PARTS, "report"]
    if unknown := set(wanted) - {*PARTS, "report"}:
        raise SystemExit(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)} and report")
    # Results of another package, or of other weights, lie in another folder.
    folder = os.path.join(options.work, service.digest(options.package)[:12])
    store = Store(folder)
    if set(wanted) & set(PARTS):
        with service.suite(options.easel, options.package, options.threads, store.path("service.log")) as target:
            suite = service.Service(target)
            grid = suite.package.grid
            canvas.use(grid.rows, suite.package.image_height // grid.rows)
            store.write("package", {
                "name": suite.package.name, "version": suite.package.version, "digest": suite.package.digest,
                "defaults": suite.defaults(), "grid": [suite.package.grid.rows, suite.package.grid.columns],
                "bytes": sum(file.stat().st_size for file in options.package.iterdir())})
            for name in PARTS:
                if name in wanted:
                    PARTS[name](suite, store, options)
    if "report" in wanted:
        report.run(store, options)


if __name__ == "__main__":
    main()
