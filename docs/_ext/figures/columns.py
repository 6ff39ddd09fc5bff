"""The paper's network as refnet splits it, one colour for each column.

A box has a layer's name, the size of its kernels, the shape of its output (maps x height x width), and after the arrow
height x width after pooling. Below it are the layers without parameters: norm is local response normalisation, drop is
dropout. The parameters on the right are those of both columns. Grey lines stay within a column. Orange lines cross to
the other column; beside them are the bytes of activations that cross for one image, both directions added. In the
backward pass as many bytes of gradients cross.
"""

from figures.style import BLUE, GREEN, INK, ORANGE, RULE, SOFT
from refnet import nets
from refnet.pictures import drawing

RULES = f"""
text {{ font: 12px system-ui, sans-serif; fill: {SOFT}; }}
.name {{ font-weight: 600; font-size: 13px; fill: {INK}; }}
.note {{ font-weight: 400; font-size: 11.5px; fill: {SOFT}; }}
.count {{ fill: {INK}; }} .crosses {{ fill: {ORANGE}; }}
rect {{ stroke-width: 1.2; fill-opacity: 0.12; }} .image {{ fill: none; stroke: {RULE}; }}
.column0 {{ fill: {BLUE}; stroke: {BLUE}; }} .column1 {{ fill: {GREEN}; stroke: {GREEN}; }}
path {{ fill: none; stroke: {SOFT}; stroke-width: 1.4; }} path.cross {{ stroke: {ORANGE}; stroke-width: 1.8; }}
"""


def svg() -> str:
    """Return the drawing of a run's page, in the figures' colours."""
    drawn = drawing.draw(nets.get("paper").plan(columns=2)).replace("&times;", "&#215;")
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", f"><style>{RULES}</style>", 1
    )
