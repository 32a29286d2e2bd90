"""ONNX Runtime's stock operators: GroupQueryAttention over buffers that are past and present at once, MatMulNBits (blocks of 32, accuracy level 4) or MatMul. Dense: no
masks, which cost it more. Random weights, as large as Easel's."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from timing import CODES, HEAD_WIDTH, POSITIONS, Geometry, measure, progress, report

BLOCK, MICROSOFT = 32, "com.microsoft"
FLOAT, INTEGER, LONG = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


class Builder:
    def __init__(self, geometry: Geometry, bits: int):
        self.geometry, self.bits, self.random = geometry, bits, np.random.default_rng(1)
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, name: str, *shape: int, mean: float = 0.0, spread: float = 0.02) -> str:
        return self.constant(name, mean + self.random.standard_normal(shape, dtype=np.float32) * np.float32(spread))

    def node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def map(self, x: str, name: str, inputs: int, outputs: int) -> str:
        if self.bits == 32:
            y = self.node("MatMul", [x, self.normal(f"{name}.w", inputs, outputs)], f"{name}.y")
        else:
            blocks = inputs // BLOCK
            codes = self.random.integers(0, 256, (outputs, blocks, BLOCK * self.bits // 8), dtype=np.uint8)
            scales = self.random.random((outputs, blocks), dtype=np.float32) * np.float32(0.02 / 2 ** (self.bits - 1))
            names = [x, self.constant(f"{name}.q", codes), self.constant(f"{name}.s", scales)]
            sizes = {"K": inputs, "N": outputs, "bits": self.bits, "block_size": BLOCK, "accuracy_level": 4}
            y = self.node("MatMulNBits", names, f"{name}.y", MICROSOFT, **sizes)
        return self.node("Add", [y, self.normal(f"{name}.b", outputs)], f"{name}.o")

    def norm(self, x: str, name: str) -> str:
        width = self.geometry.width
        names = [x, self.normal(f"{name}.g", width, mean=1.0), self.normal(f"{name}.n", width)]
        return self.node("LayerNormalization", names, f"{name}.z", axis=-1, epsilon=1e-5)

    def layer(self, x: str, layer: int) -> str:
        width, heads, name = self.geometry.width, self.geometry.heads, f"l{layer}"
        shape = ["b", heads, POSITIONS, HEAD_WIDTH]
        qkv = self.map(self.norm(x, f"{name}.a"), f"{name}.qkv", width, 3 * width)
        for part in ("key", "value"):
            self.inputs.append(helper.make_tensor_value_info(f"past_{part}_{layer}", FLOAT, shape))
            self.outputs.append(helper.make_tensor_value_info(f"present_{part}_{layer}", FLOAT, shape))
        past = [f"past_key_{layer}", f"past_value_{layer}"]
        outputs = [f"{name}.context", f"present_key_{layer}", f"present_value_{layer}"]
        inputs = [qkv, "", "", *past, "lengths", "total"]
        heads = {"num_heads": heads, "kv_num_heads": heads}
        self.nodes.append(helper.make_node("GroupQueryAttention", inputs, outputs, domain=MICROSOFT, **heads))
        x = self.node("Add", [x, self.map(f"{name}.context", f"{name}.out", width, width)], f"{name}.x")
        up = self.map(self.norm(x, f"{name}.m"), f"{name}.up", width, 4 * width)
        inner = self.node("Gelu", [up], f"{name}.gelu", approximate="tanh")
        return self.node("Add", [x, self.map(inner, f"{name}.down", 4 * width, width)], f"{name}.end")

    def model(self) -> bytes:
        width = self.geometry.width
        ids, positions = (helper.make_tensor_value_info(n, LONG, ["b", 1]) for n in ("ids", "positions"))
        lengths = helper.make_tensor_value_info("lengths", INTEGER, ["b"])
        self.inputs += [ids, positions, lengths, helper.make_tensor_value_info("total", INTEGER, [])]
        token = self.node("Gather", [self.normal("table", CODES, width), "ids"], "token")
        place = self.node("Gather", [self.normal("places", POSITIONS, width), "positions"], "place")
        x = self.node("Add", [token, place], "x")
        for layer in range(self.geometry.layers):
            x = self.layer(x, layer)
        bits, self.bits = self.bits, 8 if self.bits == 4 else self.bits
        logits = self.map(self.norm(x, "norm"), "head", width, CODES)
        self.bits = bits
        self.outputs.append(helper.make_tensor_value_info(logits, FLOAT, ["b", 1, CODES]))
        graph = helper.make_graph(self.nodes, "stock", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def bind(session: ort.InferenceSession, geometry: Geometry, batch: int, position: int, kept: list) -> ort.IOBinding:
    binding = session.io_binding()
    numbers = {
        "ids": np.arange(batch, dtype=np.int64)[:, None] * 769 % CODES,
        "positions": np.full((batch, 1), position, np.int64),
        "lengths": np.full(batch, position, np.int32),
        "total": np.array(position + 1, np.int32),
    }
    for name, array in numbers.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
    for layer in range(geometry.layers):
        for part, value in zip(("key", "value"), kept[layer]):
            binding.bind_ortvalue_input(f"past_{part}_{layer}", value)
            binding.bind_ortvalue_output(f"present_{part}_{layer}", value)
    binding.bind_output("head.o")
    return binding


def run(
    geometry: Geometry, cache: Path, threads: int, positions: list[int], batches: list[int], steps: int, bits: int = 4
) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    progress("stock operators: building …")
    session = ort.InferenceSession(Builder(geometry, bits).model(), options, providers=["CPUExecutionProvider"])
    random, found = np.random.default_rng(2), []
    for batch in batches:
        shape = (batch, geometry.heads, POSITIONS, HEAD_WIDTH)
        value = lambda: ort.OrtValue.ortvalue_from_numpy(random.random(shape, dtype=np.float32))
        kept = [(value(), value()) for _ in range(geometry.layers)]
        for position in positions:
            progress(f"stock operators: batch {batch}, position {position} …")
            binding = bind(session, geometry, batch, position, kept)
            times = measure(lambda: session.run_with_iobinding(binding), steps)
            found.append({"batch": batch, "position": position, **times})
    precision = "f32" if bits == 32 else f"{bits} bits"
    report(f"ONNX Runtime, GroupQueryAttention, {precision}", found)
