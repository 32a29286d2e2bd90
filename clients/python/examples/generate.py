"""Draws a caption, tells what happens, and saves the pictures, best first.

usage: generate.py PROMPT [--gateway HOST:PORT] [--candidates N] [--seed S] [--out FOLDER]
"""

import argparse
import sys

import easel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("--gateway", default="127.0.0.1:50050")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--out", default="out/python")
    arguments = parser.parse_args()
    with easel.Client(arguments.gateway) as client:
        try:
            drawing = easel.Drawing.of(watched(client.generate(arguments.prompt, candidates=arguments.candidates, seed=arguments.seed)))
        except easel.Error as error:
            sys.exit(str(error))
    for path, picture in zip(drawing.save(arguments.out), drawing.pictures):
        print(f"{path}  clip_score {picture.clip_score:.3f}")


def watched(events):
    """Passes events on, with a line for those that a person waits for."""
    for event in events:
        match event:
            case easel.Queued():
                print(f"queued behind {event.position}")
            case easel.Started():
                print(f"drawing with {event.package.name}, seeds {list(event.seeds)}")
                if event.unknown_words:
                    print(f"the model was not taught: {', '.join(event.unknown_words)}")
            case easel.Preview():
                print(f"candidate {event.candidate}: preview at {event.tokens_done} tokens, {event.image.width}×{event.image.height}")
            case easel.Finished():
                print(f"finished in {event.total_seconds:.1f} s")
        yield event


main()
