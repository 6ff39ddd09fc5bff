"""The network as SVG, made from its plan: its columns side by side, and what crosses between them."""

import base64
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from itertools import groupby
from math import prod

from refnet.network.plan import IMAGE, Node, Plan, crossings
from refnet.ops import chapter

WIDTH, BOX, GAP = 436, 142, 34  # of the drawing and of a box, and between two boxes
TALL, PITCH, TOP = 46, 84, 40  # height of a box, from box to box, and of the image's own box with what follows it
LEFT = 8


@dataclass
class Block:
    """A layer with parameters in all its columns, and the layers without any that follow it."""

    nodes: list[Node]
    after: list[Node] = field(default_factory=list)


def blocks(plan: Plan) -> list[Block]:
    """Group a plan's nodes; a layer without parameters that comes before any with parameters is a group of its own."""
    found: list[Block] = []
    for _, group in groupby((node for node in plan.nodes if node.layer.op != "gather"), lambda node: node.index):
        nodes = list(group)
        if nodes[0].params or not found:
            found.append(Block(nodes))
        else:
            found[-1].after += nodes
    return found


def draw(plan: Plan) -> str:
    """Draw a network of one or two columns."""
    gathers = {node.name: node for node in plan.nodes if node.layer.op == "gather"}
    cross: dict[str, int] = {}
    for crossing in crossings(plan, 1):
        cross[crossing.into] = cross.get(crossing.into, 0) + crossing.nbytes
    found = blocks(plan)
    body, lines = [], []
    wide = plan.columns * BOX + (plan.columns - 1) * GAP
    shape = _shape(plan.input_shape)
    body.append(f'<rect class="image" x="{LEFT}" y="2" width="{wide}" height="26" rx="6"/>')
    body.append(f'<text class="name" x="{LEFT + wide / 2}" y="20" text-anchor="middle">image {shape}</text>')
    for place, block in enumerate(found):
        top = TOP + 14 + place * PITCH
        for node in block.nodes:
            body.append(_box(node, block, top))
            lines += [_edge(source, node.column, top, place) for source in _sources(node, gathers)]
        if block.nodes[0].layer.name in cross:
            told = f"{cross[block.nodes[0].layer.name] / 1000:,.1f} kB cross"
            body.append(f'<text class="crosses" x="{LEFT + wide + 14}" y="{top - 12}">{told}</text>')
        body.append(
            f'<text class="count" x="{LEFT + wide + 14}" y="{top + 20}">'
            f"{sum(prod(s) for node in block.nodes for s in node.params.values()):,}</text>"
            f'<text class="note" x="{LEFT + wide + 14}" y="{top + 36}">parameters</text>'
        )
    height = TOP + 14 + len(found) * PITCH - (PITCH - TALL) + 26
    described = f"the network in {plan.columns} columns"
    return (
        f'<svg class="net" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{described}">'
        f"{''.join(lines)}{''.join(body)}</svg>"
    )


def image(plan: Plan) -> str:
    """Return the drawing as an HTML image with its own styles and colours, for a notebook."""
    sheet = (files("refnet.pictures") / "page.css").read_text(encoding="utf-8")
    own = "".join(line for line in sheet.splitlines(keepends=True) if line[0] != "." or line.startswith(".net"))
    svg = (
        draw(plan)
        .replace("&times;", "\N{MULTIPLICATION SIGN}")
        .replace('role="img"', 'xmlns="http://www.w3.org/2000/svg" role="img"', 1)
    )
    own += ".net { background: var(--paper); font-family: system-ui, sans-serif; }"
    svg = svg.replace(">", f"><style>{own}</style>", 1)
    encoded = base64.b64encode(svg.encode()).decode()
    columns = f"{plan.columns} columns" if plan.columns > 1 else "one column"
    style = "width: 100%; max-width: 580px"
    return f'<img alt="the network in {columns}" style="{style}" src="data:image/svg+xml;base64,{encoded}">'


def _sources(node: Node, gathers: dict[str, Node]) -> list[int]:
    """List the columns that a node reads."""
    source = node.inputs[0]
    return list(gathers[source].sources) if source in gathers else [node.column if source == IMAGE else node.sources[0]]


def _box(node: Node, block: Block, top: int) -> str:
    x = LEFT + node.column * (BOX + GAP)
    after = [short_name(s.layer.op) for s in block.after if s.column == node.column]
    side = f" {node.layer.kernel}&times;{node.layer.kernel}" if node.layer.kernel else ""
    last = next((s for s in reversed(block.after) if s.column == node.column), node)
    place, anchor = (x + 10, "start") if node.column == 0 else (x + BOX - 10, "end")
    told = escape(" · ".join(after))
    below = f'<text class="note" x="{place}" y="{top + TALL + 15}" text-anchor="{anchor}">{told}</text>'
    return (
        f'<rect class="column{node.column}" x="{x}" y="{top}" width="{BOX}" height="{TALL}" rx="8"/>'
        f'<text class="name" x="{x + 10}" y="{top + 20}">{escape(node.layer.name)}'
        f'<tspan class="note" dx="5">{side}</tspan></text>'
        f'<text class="note" x="{x + 10}" y="{top + 37}">{_shape(node.shape)}'
        f"{' → ' + _shape(last.shape[1:]) if last.shape != node.shape else ''}</text>{below}"
    )


def short_name(op: str) -> str:
    """Return what a drawing calls an op."""
    name: str = getattr(chapter(op), "SHORT_NAME", op)
    return name


def _edge(source: int, target: int, top: int, place: int) -> str:
    bottom = 28 if place == 0 else top - (PITCH - TALL)
    kind, inset = ("own", 20) if source == target else ("cross", 8)
    a, b = (LEFT + (BOX - inset if column == 0 else BOX + GAP + inset) for column in (source, target))
    half = (bottom + top) / 2
    return f'<path class="{kind}" d="M{a} {bottom}C{a} {half} {b} {half} {b} {top}"/>'


def _shape(shape: tuple[int, ...]) -> str:
    return "&times;".join(map(str, shape))
