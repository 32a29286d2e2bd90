"""Training by several processes, each with its own batches and one thread: gradients are averaged at every step."""
import os
import tempfile

import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

from .canvas import use_config
from .training import keep_memory


class Replicas:
    """The processes that train one model together; `rank` 0 reports and saves."""

    def __init__(self, rank=0, count=1):
        self.rank, self.count = rank, count

    @property
    def first(self):
        return self.rank == 0

    def _sum(self, tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        return zip(tensors, flat.split([tensor.numel() for tensor in tensors]))

    @torch.no_grad()
    def average_gradients(self, parameters):
        """Every parameter's gradient becomes the mean over the processes."""
        if self.count > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            for gradient, total in self._sum(gradients):
                gradient.copy_(total.view_as(gradient)).div_(self.count)

    @torch.no_grad()
    def gather_owned(self, parameters, owners):
        """Each parameter takes the value that it has in the process that owns it."""
        if self.count > 1:
            for parameter, owner in zip(parameters, owners):
                if owner != self.rank:
                    parameter.zero_()
            for parameter, total in self._sum(parameters):
                parameter.copy_(total.view_as(parameter))

    def agree(self, number):
        """The number that rank 0 has."""
        if self.count == 1:
            return number
        box = torch.tensor([number], dtype=torch.float64)
        distributed.broadcast(box, 0)
        return box.item()


def _worker(rank, stage, config, work, count, store):
    torch.set_num_threads(1)
    keep_memory()
    torch.manual_seed(rank)
    use_config(config)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    stage(config, work, Replicas(rank, count))
    distributed.destroy_process_group()


def launch(stage, config, work):
    """Run a training stage in `[training] processes` processes."""
    count = config["training"]["processes"]
    if count == 1:
        return stage(config, work, Replicas())
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_worker, (stage, config, work, count, os.path.join(folder, "store")), count)
