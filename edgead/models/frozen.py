"""Frozen network for known image sizes: batch norm folded into convolutions, static padding."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Size = tuple[int, int]


class StaticSameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding for known input sizes: a constant, possibly asymmetric padding for each.

    Args:
        conv: Convolution whose weight and bias are shared.
        sizes: Input size `(height, width)` at each image size of the network.
    """

    def __init__(self, conv: nn.Conv2d, sizes: Sequence[Size]) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, dilation=conv.dilation,  # type: ignore[arg-type]
            groups=conv.groups, bias=False, device="meta",
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        self.paddings: dict[Size, tuple[Size, tuple[int, int, int, int] | None]] = {}
        for size in sizes:
            (top, bottom), (left, right) = (
                _same_padding(size[i], conv.kernel_size[i], conv.stride[i], conv.dilation[i]) for i in (0, 1)
            )
            symmetric = (top, left) == (bottom, right)
            self.paddings[size] = ((top, left), None) if symmetric else ((0, 0), (left, right, top, bottom))

    def forward(self, x: Tensor) -> Tensor:
        if len(self.paddings) == 1:
            ((inside, before),) = self.paddings.values()
        else:
            inside, before = self.paddings[int(x.shape[2]), int(x.shape[3])]
        x = x if before is None else F.pad(x, before)
        return F.conv2d(x, self.weight, self.bias, self.stride, inside, self.dilation, self.groups)


@torch.no_grad()
def freeze(network: nn.Module, sizes: Sequence[Size]) -> list[list[tuple[int, ...]]]:
    """Specialise a network for images of known sizes, in place; its outputs for them do not change.

    A dry run on the meta device, which computes nothing, finds the input sizes of each convolution, the batch norms that
    are the only reader of a convolution's output, and the output shapes.

    Args:
        network: Network from `(N, 3, H, W)` to a list of maps.
        sizes: Image sizes `(height, width)` in pixels.

    Returns:
        Shape of every output for one image, for each size.
    """
    network.eval().requires_grad_(False)
    twin = _meta_twin(network)
    names = {id(module): name for name, module in twin.named_modules()}
    shapes, inputs = [], []
    for size in sizes:
        with _Tracer() as tracer, _record_inputs(twin) as recorded:
            outputs = twin(torch.zeros(1, 3, *size, device="meta"))
        shapes.append([tuple(output.shape) for output in outputs])
        inputs.append({names[module]: value for module, value in recorded.sizes.items()})
    for conv_name, norm_name in tracer.pairs(twin, outputs):
        _fold_norm(network, conv_name, norm_name)
    for name in inputs[0]:
        conv = network.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        static = StaticSameConv(conv, [recorded[name] for recorded in inputs])
        _replace(network, name, static.eval().requires_grad_(False))
    return shapes


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _meta_twin(network: nn.Module) -> nn.Module:
    """Copy of the network on the meta device; values are never copied."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.to("meta"), False) for p in network.parameters()}
    memo |= {id(b): b.to("meta") for b in network.buffers()}
    return copy.deepcopy(network, memo)


class _record_inputs:
    """Context that records the input size of every convolution with dynamic SAME padding, by module id."""

    def __init__(self, network: nn.Module) -> None:
        self.sizes: dict[int, Size] = {}
        same = (module for module in network.modules() if isinstance(module, Conv2dSame))
        self._hooks = [module.register_forward_pre_hook(self._record) for module in same]

    def _record(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.sizes[id(module)] = (args[0].shape[2], args[0].shape[3])

    def __enter__(self) -> _record_inputs:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


class _Tracer(TorchDispatchMode):
    """Tracer of a run: the output of each convolution's weight, and the operators that read it."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[Tensor, Tensor]] = {}  # kept alive: ids of freed tensors are reused
        self._readers: dict[int, list[tuple[int, ...]]] = {}
        self._uses: Counter[int] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [arg for arg in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(arg, Tensor)]
        ids = tuple(id(tensor) for tensor in tensors)
        self._uses.update(set(ids))
        for i in set(ids) & self._made.keys():
            self._readers.setdefault(i, []).append(ids)
        if func is torch.ops.aten.convolution.default:
            self._made[id(result)] = (result, args[1])
        return result

    def pairs(self, network: nn.Module, outputs: Sequence[Tensor]) -> list[tuple[str, str]]:
        """Pairs of a convolution and the batch norm that alone reads its output, by name, both used once."""
        convs = {id(module.weight): name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
        norms = {
            id(module.running_mean): name
            for name, module in network.named_modules()
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and not module._forward_hooks
        }
        kept = {id(output) for output in outputs}
        found = []
        for i, (_, weight) in self._made.items():
            readers = self._readers.get(i, [])
            if i in kept or len(readers) != 1 or id(weight) not in convs or self._uses[id(weight)] != 1:
                continue
            norm = [j for j in readers[0][1:] if j in norms and self._uses[j] == 1]
            if norm and readers[0][0] == i:
                found.append((convs[id(weight)], norms[norm[0]]))
        return found


def _fold_norm(network: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    shift = shift if norm.bias is None else shift + norm.bias.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(dtype), requires_grad=False)
    _replace(network, norm_name, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
