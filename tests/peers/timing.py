"""What the peers share: sizes, times, memory, and what is printed."""

import dataclasses
import json
import resource
import statistics
import sys
import time

TEXT, GRID, CODES, HEAD_WIDTH = 256, 32, 8192, 64
POSITIONS = TEXT + GRID * GRID
SIZES = {"S": (384, 8), "M": (1024, 24), "L": (2048, 24)}


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A transformer of DALL·E's kind, as `easel bench engine --geometry` has it."""

    width: int
    layers: int

    @classmethod
    def named(cls, name: str) -> "Geometry":
        return cls(*(SIZES[name] if name in SIZES else map(int, name.split("x"))))

    @property
    def heads(self) -> int:
        return self.width // HEAD_WIDTH

    @property
    def folder(self) -> str:
        """The checkpoint's folder in the cache of `easel bench engine`."""
        return f"random-{self.width}x{self.layers}"

    def mask(self, layer: int) -> str:
        """DALL·E's (Ramesh et al. 2021, appendix B.1)."""
        if layer + 1 == self.layers:
            return "conv"
        return "column" if layer % 4 == 1 else "row"


def measure(step, steps: int) -> dict[str, float]:
    """The median and the least of the times of `steps` calls, in ms, after two that do not count."""
    step(), step()
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        times.append((time.perf_counter() - begin) * 1e3)
    return {"ms": statistics.median(times), "least_ms": min(times)}


def report(engine: str, steps: list[dict]) -> None:
    """One JSON object on standard output, as `easel bench engine --json` has its steps."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({"engine": engine, "peak_bytes": resident, "steps": steps}, sys.stdout)


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
