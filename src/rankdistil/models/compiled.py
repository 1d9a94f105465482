"""Parts of a network that ``torch.compile`` fuses: what stands between the matrix products of a layer.

Attention, and the laying out of tokens, stay as they are: their shapes change from batch to batch, and SDPA is fused already.
"""

from rankdistil.models.bert import CrossEncoder


def compile_layers(ranker: CrossEncoder) -> None:
    """Compile bias, GELU, dropout, residual and LayerNorm of every layer, in place; weights and their names stay.

    The first steps take minutes: each part is compiled for training and for evaluation, once for all layers of one shape.

    Args:
        ranker: a student, or a frozen teacher.
    """
    for layer in ranker.bert.bert.encoder.layer:
        for part in layer.attention.output, layer.intermediate, layer.output:
            part.compile(dynamic=True)
