"""BERT for inference alone: packed tokens, fused projections, and of the last layer only what [CLS] needs.

The same function as transformers' ``BertForSequenceClassification`` in evaluation mode, without padding and its mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForSequenceClassification
from transformers.activations import ACT2FN

from rankdistil.inference.packed import PackedBatch


class PackedLayer(nn.Module):
    """One encoder layer over packed tokens."""

    def __init__(self, layer: nn.Module, linear) -> None:
        super().__init__()
        own = layer.attention.self
        self.heads = own.num_attention_heads
        parts = own.query, own.key, own.value
        self.qkv = linear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
        self.query = linear(own.query.weight, own.query.bias)
        self.kv = linear(torch.cat([part.weight for part in parts[1:]]), torch.cat([part.bias for part in parts[1:]]))
        self.out = linear(layer.attention.output.dense.weight, layer.attention.output.dense.bias)
        self.up = linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias)
        self.down = linear(layer.output.dense.weight, layer.output.dense.bias)
        self.act = layer.intermediate.intermediate_act_fn
        self.norm1, self.norm2 = layer.attention.output.LayerNorm, layer.output.LayerNorm

    def forward(self, x: Tensor, batch: PackedBatch) -> Tensor:
        attended = self._attend(self.qkv(x), batch.runs)
        x = self.norm1(self.out(attended) + x)
        return self.norm2(self.down(self.act(self.up(x))) + x)

    def first(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """Return the states of [CLS] alone, (B, H)."""
        cls = x[batch.starts]
        query, kv = self.query(cls), self.kv(x)
        attended = torch.empty_like(cls)
        at = row = 0
        size = x.size(1) // self.heads
        for pairs, tokens in batch.runs:
            key, value = kv[at : at + pairs * tokens].view(pairs, tokens, 2, self.heads, size).permute(2, 0, 3, 1, 4)
            q = query[row : row + pairs].view(pairs, 1, self.heads, size).transpose(1, 2)
            attended[row : row + pairs] = F.scaled_dot_product_attention(q, key, value).reshape(pairs, -1)
            at, row = at + pairs * tokens, row + pairs
        x = self.norm1(self.out(attended) + cls)
        return self.norm2(self.down(self.act(self.up(x))) + x)

    def _attend(self, qkv: Tensor, runs) -> Tensor:
        width = qkv.size(1) // 3
        out = qkv.new_empty(qkv.size(0), width)
        size, at = width // self.heads, 0
        for pairs, tokens in runs:
            end = at + pairs * tokens
            q, k, v = qkv[at:end].view(pairs, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4)
            out[at:end].view(pairs, tokens, self.heads, size).copy_(F.scaled_dot_product_attention(q, k, v).transpose(1, 2))
            at = end
        return out


class PackedRanker(nn.Module):
    def __init__(self, bert: BertForSequenceClassification, linear, dtype=torch.float32) -> None:
        super().__init__()
        body = bert.bert
        self.embeddings = body.embeddings
        self.layers = nn.ModuleList(PackedLayer(layer, linear) for layer in body.encoder.layer)
        self.pooler, self.classifier = body.pooler.dense, bert.classifier
        self.dtype = dtype

    def forward(self, batch: PackedBatch) -> Tensor:
        own = self.embeddings
        x = own.word_embeddings(batch.input_ids) + own.token_type_embeddings(batch.token_type_ids)
        x = own.LayerNorm(x + own.position_embeddings(batch.positions))
        for layer in self.layers[:-1]:
            x = layer(x, batch)
        x = self.layers[-1].first(x, batch)
        return self.classifier(torch.tanh(self.pooler(x)))
