"""A model as a graph of its blocks, traced on the model itself, for drawings of its architecture."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from nnti.models.blocks import Block, trace, watched


@dataclass(frozen=True)
class Node:
    """One block, or several equal blocks in a row.

    Attributes:
        names, kinds: of each block; the image, and an output of another size than the last block's, have no kind.
        stage: of the blocks.
        shape: channels, height and width of the result.
        reads: position of a node that it reads from → description of that input, for example "64×128×128".
        column: length of the longest path from the image.
        leads: False for blocks that run in training only (an auxiliary head).
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    stage: str
    shape: tuple[int, int, int]
    reads: dict[int, str] = field(default_factory=dict)
    column: int = 0
    leads: bool = True

    @property
    def title(self) -> str:
        """Return the name, of several blocks the first and the last: "bottleneck2.1 – 2.8"."""
        first, last = self.names[0], self.names[-1]
        return first if first == last else f"{first} – {split_name(last)[1] or last}"


def model_graph(model: nn.Module, size: tuple[int, int]) -> list[Node]:
    """Return the nodes of a model for an image of `size` (H, W): the image, the blocks, and the output if it differs.

    Nodes stand in topological order. Nothing is computed, see `nnti.models.trace`.
    """
    blocks = list(model.blocks())
    ran, output = _run(model, blocks, size, training=False)
    maps = {"image": (torch.empty(1, 3, *size, device="meta"),)}
    maps |= ran if len(ran) == len(blocks) else _run(model, blocks, size, training=True)[0]
    nodes, place, before = [Node(("image",), (), "", (3, *size))], {"image": 0}, "image"
    for block in blocks:
        inputs, shape = block.inputs or (before,), tuple(maps[block.name][0].shape[1:])
        alone = inputs == (before,) and not any(before in other.inputs for other in blocks if other is not block)
        if alone and block.name in ran and _repeats(nodes, block, shape):
            nodes[-1] = replace(nodes[-1], names=(*nodes[-1].names, block.name), kinds=(*nodes[-1].kinds, block.kind))
        else:
            reads = {place[name]: _carried(maps[name], direct=name == before) for name in inputs}
            nodes.append(_after(nodes, reads, (block.name,), (block.kind,), block.stage, shape, block.name in ran))
        place[block.name], before = len(nodes) - 1, block.name
    last = place[list(ran)[-1]]
    if nodes[last].shape != tuple(output.shape[1:]):
        nodes.append(_after(nodes, {last: shape_text(nodes[last].shape)}, ("output",), (), "", tuple(output.shape[1:])))
    return nodes


def shape_text(shape: Sequence[int]) -> str:
    """Return for example "64×128×128"."""
    return "×".join(map(str, shape))


def split_name(name: str) -> tuple[str, str]:
    """Split a name before its first digit: ("bottleneck", "1.0"); the end is empty if there is none or a space."""
    match = re.fullmatch(r"([^\d\s]+)(\d.*)", name)
    return match.groups() if match else (name, "")


def summarize_kinds(kinds: Sequence[str]) -> str:
    """Return what is special about several blocks in one line: "2 × regular, dilated 2, dilated 4"."""
    counts = Counter(kind or "regular" for kind in kinds)
    return ", ".join(f"{count} × {kind}" if count > 1 and len(counts) > 1 else kind for kind, count in counts.items())


def _run(
    model: nn.Module, blocks: Sequence[Block], size: tuple[int, int], training: bool
) -> tuple[dict[str, tuple[Tensor, ...]], Tensor]:
    """Trace images; return the maps that each block gave, in the order in which the blocks ran, and the output."""
    with watched({block.name: block.module for block in blocks}) as calls:
        whole = trace(model, size, training=training)
    maps = {}
    for name, (_, output) in calls.items():
        output = output[-1] if isinstance(output, list) else output  # a backbone's maps, the deepest last
        maps[name] = output if isinstance(output, tuple) else (output,)
    return maps, whole


def _repeats(nodes: Sequence[Node], block: Block, shape: tuple[int, int, int]) -> bool:
    """Say whether a block differs from the last node, which keeps its input's size too, at most in its kind."""
    last = nodes[-1]
    read = [nodes[source].shape for source in last.reads]
    return bool(last.kinds) and (last.stage, last.shape, read) == (block.stage, shape, [shape])


def _carried(maps: Sequence[Tensor], direct: bool) -> str:
    """Describe the output for a reader: the first one for the next node, the second one for later nodes."""
    if direct or len(maps) == 1:
        return shape_text(maps[0].shape[1:])
    return f"{'features' if maps[1].is_floating_point() else 'indices'} {shape_text(maps[1].shape[1:])}"


def _after(nodes: Sequence[Node], reads: dict[int, str], names, kinds, stage, shape, leads: bool = True) -> Node:
    column = 1 + max(nodes[source].column for source in reads)
    return Node(names, kinds, stage, shape, reads, column, leads)
