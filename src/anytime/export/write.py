"""Writing nodes of a graph one after the other, for a rewriter that puts many in the place of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from anytime.export.fuse import constant


class Writer:
    """Nodes yet to be inserted; ``write("Add", a, b)`` is the value of one more."""

    def __init__(self, graph: ir.Graph, name: str) -> None:
        self._graph, self._name = graph, name
        self.nodes: list[ir.Node] = []

    def __call__(self, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        return self.several(1, op, *inputs, **attributes)[0]

    def several(self, outputs: int, op: str, *inputs: ir.Value | None, **attributes: Any) -> list[ir.Value]:
        """The values of a node that has so many."""
        name = f"{self._name}.{op}.{len(self.nodes)}"
        node = ir.node(op, inputs, attributes, num_outputs=outputs, name=name)
        for number, value in enumerate(node.outputs):
            value.name = f"{name}.{number}"
        self.nodes.append(node)
        return list(node.outputs)

    def constant(self, name: str, array: Any) -> ir.Value:
        return constant(self._graph, name, array)

    def ints(self, *values: int) -> ir.Value:
        """A vector of integers, such as a shape or axes."""
        return self.constant("ints." + ".".join(map(str, values)), np.array(values, np.int64))

    def number(self, value: float) -> ir.Value:
        """A scalar in single precision."""
        return self.constant(f"number.{value!r}", np.array(value, np.float32))
