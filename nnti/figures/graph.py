"""A model as a graph of its blocks, measured on the model itself: what is drawn in an architecture figure.

Nodes stand in topological order; equal blocks that follow each other are one node.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from nnti.models import Block, architecture_table, trace

__all__ = ["Node", "join_names", "model_graph", "shape_text", "summarize_kinds"]

IMAGE, OUTPUT = "image", "output"


@dataclass(frozen=True)
class Node:
    """One or several equal blocks in a row.

    Attributes:
        names, kinds: of each block; image and output have no kind. stage: theirs.
        column: length of the longest way from the image.
        shape: channels, height and width of the result. stride: input height over result height, rounded.
        reads: positions of the nodes that it reads from, in the order that the model declares.
        carries: for each of them what comes from there, as text, for example "64×128×128".
        leads: whether the model's output in eval mode depends on it; not so an auxiliary head's.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    stage: str
    shape: tuple[int, int, int]
    stride: int
    reads: tuple[int, ...] = ()
    carries: tuple[str, ...] = ()
    column: int = 0
    leads: bool = True

    @property
    def title(self) -> str:
        """Return the name, of several blocks the first and the last: "bottleneck2.1 – 2.8"."""
        first, last = self.names[0], self.names[-1]
        if first == last:
            return first
        return f"{first} – {split_name(last)[1] or last}"


def model_graph(model: nn.Module, size: tuple[int, int]) -> list[Node]:
    """Return the nodes of a model for an image of `size` (H, W): the image, the blocks, and the output if it differs.

    Nothing is computed, see `nnti.models.trace`. Raises ValueError for an input that is no block.
    """
    table, blocks = architecture_table(model, size), list(model.blocks())
    results, output = _run(model, blocks, size)
    reads = _reads(blocks)
    nodes = [Node((IMAGE,), (), "", (3, *size), 1)]
    for at, (block, row) in enumerate(zip(blocks, table.itertuples(), strict=True)):
        shape = (int(row.channels), int(row.height), int(row.width))
        carried = tuple(_carried(results, nodes, source, at + 1) for source in reads[at])
        nodes.append(Node((block.name,), (block.kind,), block.stage, shape, int(row.stride), reads[at], carried))
    last = max(results)  # an auxiliary head, which may come after it, does not run in eval mode
    if nodes[last].shape != tuple(output.shape[1:]):
        carried = (shape_text(nodes[last].shape),)
        nodes.append(Node((OUTPUT,), (), "", tuple(output.shape[1:]), 1, (last,), carried))
        last = len(nodes) - 1
    return _columns(_group(_mark_leading(nodes, last)))


def shape_text(shape: Sequence[int]) -> str:
    """Return for example "64×128×128"."""
    return "×".join(map(str, shape))


def join_names(names: Sequence[str]) -> str:
    """Return names as a list that says a repeated beginning once: "up4, 3, 2, encoder1"."""
    parts, before = [], None
    for name in names:
        beginning, end = split_name(name)
        parts.append(end if end and beginning == before else name)
        before = beginning
    return ", ".join(parts)


def split_name(name: str) -> tuple[str, str]:
    """Split a name before its first digit: ("bottleneck", "1.0"); the end is empty if there is none or a space."""
    match = re.fullmatch(r"([^\d\s]+)(\d.*)", name)
    return match.groups() if match else (name, "")


def summarize_kinds(kinds: Sequence[str]) -> str:
    """Return what is special about several blocks in one line: "2 × regular, dilated 2, 4, 2 × asymmetric 5"."""
    counts, numbers = Counter(), {}
    for kind in kinds:
        match = re.fullmatch(r"(\D+) (\d+)", kind)
        if match and sum(other.startswith(match[1]) for other in set(kinds)) > 1:
            numbers.setdefault(match[1], []).append(match[2])
            counts[match[1]] = 1
        else:
            counts[kind or "regular"] += 1
    several = len(counts) > 1  # "regular", not "4 × regular", where there is nothing else
    texts = (f"{count} × {kind}" if count > 1 and several else kind for kind, count in counts.items())
    return ", ".join(" ".join([text, ", ".join(numbers.get(text, ()))]).strip() for text in texts)


def _run(model: nn.Module, blocks: Sequence[Block], size: tuple[int, int]) -> tuple[dict[int, tuple], Tensor]:
    """Trace one image in eval mode; return what each block that ran gave, by its node's position, and the output."""
    results = {}
    hooks = [
        block.module.register_forward_hook(
            lambda _, __, output, at=at: results.update({at: output if isinstance(output, tuple) else (output,)})
        )
        for at, block in enumerate(blocks, start=1)
    ]
    try:
        return results, trace(model, size, training=False, images=1)
    finally:
        for hook in hooks:
            hook.remove()


def _reads(blocks: Sequence[Block]) -> list[tuple[int, ...]]:
    """Return for each block the positions of the nodes that it reads from; the image is node 0."""
    positions = {block.name: at for at, block in enumerate(blocks, start=1)}
    for block in blocks:
        unknown = [name for name in block.inputs if name not in positions]
        if unknown:
            raise ValueError(f"block '{block.name}' reads {unknown}; the model's blocks are {list(positions)}")
    return [tuple(positions[name] for name in block.inputs) or (at,) for at, block in enumerate(blocks)]


def _carried(results: dict[int, tuple], nodes: Sequence[Node], source: int, reader: int) -> str:
    """Say what a node hands to a reader: its first result to the next node, a second one only to those further on."""
    second = results[source][1:2] if source in results and source != reader - 1 else ()
    for tensor in second:
        name = "features" if tensor.is_floating_point() else "indices"
        return f"{name} {shape_text(tensor.shape[1:])}"
    return shape_text(nodes[source].shape)


def _mark_leading(nodes: list[Node], last: int) -> list[Node]:
    """Mark the nodes without a way to node `last`."""
    leading, open_ = set(), [last]
    while open_:
        at = open_.pop()
        leading.add(at)
        open_ += [source for source in nodes[at].reads if source not in leading]
    return [replace(node, leads=at in leading) for at, node in enumerate(nodes)]


def _group(nodes: list[Node]) -> list[Node]:
    """Make one node of blocks in a row that differ in nothing but what is special about them."""
    readers = Counter(source for node in nodes for source in node.reads)
    groups, place = [nodes[0]], [0]
    for at, node in enumerate(nodes[1:], start=1):
        head, before = groups[-1], nodes[at - 1]
        keeps_size = len(groups) > 1 and len(head.reads) == 1 and groups[head.reads[0]].shape == head.shape
        same = (node.stage, node.shape, node.reads) == (before.stage, before.shape, (at - 1,)) and node.leads
        if same and keeps_size and readers[at - 1] == 1:
            groups[-1] = replace(head, names=head.names + node.names, kinds=head.kinds + node.kinds)
        else:
            groups.append(replace(node, reads=tuple(place[source] for source in node.reads)))
        place.append(len(groups) - 1)
    return groups


def _columns(nodes: list[Node]) -> list[Node]:
    columns = []
    for node in nodes:
        columns.append(max((columns[source] + 1 for source in node.reads), default=0))
    return [replace(node, column=column) for node, column in zip(nodes, columns, strict=True)]
