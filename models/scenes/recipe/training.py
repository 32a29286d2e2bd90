"""What the training stages share: the optimisers, the learning rate over wall-clock time, and restartable runs."""
import ctypes
import math
import os
import signal
import sys
import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
UNFINISHED = 75  # the exit status of a stage that was stopped, and goes on when it is run again
if DEVICE == "cuda":
    torch.set_float32_matmul_precision("high")


def _has_fast_products():
    """Whether the processor multiplies matrices of 16-bit numbers itself (AMX, AVX-512 BF16): four times as fast as 32-bit ones; without, they are slower."""
    asked = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(ask and ask() for ask in asked)


# Products of 16-bit numbers where these are faster.
MIXED = DEVICE == "cuda" or _has_fast_products()
PRODUCTS = torch.bfloat16 if MIXED else torch.float32


def keep_memory():
    """Let the C library keep the memory that tensors give back, which the kernel would have to clear each time: a fifth of a decoder's time on a CPU."""
    try:
        set_option = ctypes.CDLL(None).mallopt  # glibc's; the numbers are those of its malloc.h
    except (AttributeError, OSError, TypeError):
        return
    set_option(-4, 0)  # M_MMAP_MAX: no mapping for each large block
    set_option(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    set_option(-2, 1 << 26)  # M_TOP_PAD


def orthogonal(matrices, steps=5):
    """The nearest (semi-)orthogonal matrices, by the quintic Newton-Schulz iteration of Muon (Jordan et al. 2024)."""
    x = (matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(PRODUCTS)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal updates; stacked projections (`qkv`) are taken apart by `parts`.

    Of several replicas each updates its own share of the matrices, and they exchange the results.
    """

    def __init__(self, matrices, lr, replicas, momentum=0.95, weight_decay=0.01):
        self.replicas, groups = replicas, {}
        for matrix, parts in matrices:
            groups.setdefault((matrix.shape, parts), []).append(matrix)
        super().__init__([{"params": same, "parts": parts} for (_, parts), same in groups.items()], {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "parts": 1})

    @torch.no_grad()
    def step(self):
        every, owners = [], []
        for group in self.param_groups:
            shares = [i % self.replicas.count for i in range(len(group["params"]))]
            every, owners = every + group["params"], owners + shares
            own = [parameter for parameter, owner in zip(group["params"], shares) if owner == self.replicas.rank]
            if own:
                self._update(group, own)
        self.replicas.gather_owned(every, owners)

    def _update(self, group, parameters):
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            momentum = state.setdefault("momentum", torch.zeros_like(parameter))
            momentum.lerp_(parameter.grad, 1 - group["momentum"])
            update = parameter.grad.lerp(momentum, group["momentum"])
            updates.extend(update.chunk(group["parts"]))
        updates = orthogonal(torch.stack(updates))
        rate = group["lr"] * max(1, updates.shape[1] / updates.shape[2]) ** 0.5
        for parameter, update in zip(parameters, updates.split(group["parts"])):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.flatten(0, 1), alpha=rate)


class Optimizers:
    """Muon for the matrices of a model's blocks, AdamW for everything else, whose gradients are cut to a length of 1.

    Of the named parameters, those with `blocks` in the name are of blocks, those with `stacked`, too, are three matrices in one.
    """

    def __init__(self, named, blocks, stacked, settings, betas, replicas):
        named, self.replicas = dict(named), replicas
        inside = {name: parameter for name, parameter in named.items() if parameter.ndim == 2 and blocks in name}
        self.every, self.others = list(named.values()), [parameter for name, parameter in named.items() if name not in inside]
        self.muon = Muon([(parameter, 3 if stacked in name else 1) for name, parameter in inside.items()], settings["muon_rate"], replicas)
        self.adam = torch.optim.AdamW(self.others, settings["rate"], betas=betas, weight_decay=0.0)

    def kept(self):
        """What a `Run` keeps."""
        return {"muon": self.muon, "adam": self.adam}

    def step(self, loss):
        loss.backward()
        self.replicas.average_gradients(self.every)
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        for optimizer in (self.muon, self.adam):
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)


class Run:
    """A training run of a given number of minutes, or of steps if these are done before. Its state is kept in one file, from which it goes on after a stop.

    SIGTERM stops a run of one process after its step: the state is kept, and the exit status says that it is to be run again.
    The optimiser state of a Muon that is shared among replicas is that of the first one's share: after a stop the other
    shares' momentum starts from zero, which costs a few steps.
    """

    def __init__(self, path, settings, models, optimizers, replicas, save_every=60):
        self.path, self.seconds, self.steps, self.replicas = path, settings["minutes"] * 60, settings.get("steps", math.inf), replicas
        self.save_every = save_every
        self.state = {**models, **optimizers}
        self.optimizers = [(optimizer, [group["lr"] for group in optimizer.param_groups]) for optimizer in optimizers.values()]
        self.step, self.elapsed, self.before, self.start = 0, 0.0, 0.0, time.monotonic()
        if os.path.exists(path):
            kept = torch.load(path, map_location=DEVICE)
            for name, part in self.state.items():
                if name in kept:
                    part.load_state_dict(kept[name])
            self.step, self.before = kept["step"], kept["seconds"]
            if replicas.first:
                print(f"goes on from step {self.step}, {self.before / 60:.1f} min", flush=True)
        self.saved = self.first = self.before
        self.first_step, self.stopped = self.step, False
        if replicas.count == 1:
            signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_):
        self.stopped = True

    def running(self):
        """Whether there is time left; the first replica's clock counts."""
        self.elapsed = self.replicas.agree(self.before + time.monotonic() - self.start)
        if self.stopped:
            self.save()
            sys.exit(UNFINISHED)
        return self.progress < 1

    @property
    def progress(self):
        """The share of the run that is over."""
        return max(self.elapsed / self.seconds, self.step / self.steps)

    def rates(self, warmup, decay):
        """Linear warm-up over `warmup` steps, and a linear decay over the last share `decay` of the run."""
        scale = min(1, (self.step + 1) / warmup) * min(1, max(0, 1 - self.progress) / decay + 0.01)
        for optimizer, rates in self.optimizers:
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * scale

    def due(self):
        """True about once a minute, and five times in a run of few steps, after saving, in the first replica."""
        fifth = self.steps < math.inf and self.step % max(1, self.steps // 5) == 0
        if not self.replicas.first or not (fifth or self.elapsed - self.saved >= self.save_every):
            return False
        self.save()
        return True

    def save(self):
        if not self.replicas.first:
            return
        self.saved = self.elapsed
        kept = {name: part.state_dict() for name, part in self.state.items()}
        torch.save({**kept, "step": self.step, "seconds": self.elapsed}, self.path + ".new")
        os.replace(self.path + ".new", self.path)

    def rate(self, batch):
        """Examples a second since the start or the last stop, over all replicas."""
        return (self.step - self.first_step) * batch * self.replicas.count / max(1e-9, self.elapsed - self.first)

    def report(self, **numbers):
        line = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        print(f"{self.elapsed / 60:6.1f} min  step {self.step}  {line}", flush=True)
