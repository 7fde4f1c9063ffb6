"""Networks inside coupling flows."""

from __future__ import annotations

from torch import Tensor, nn


class ConvSubnet(nn.Module):
    """Two convolutions with a ReLU between, zero padded, the second starting at zero.

    FastFlow (Yu et al., 2021, arXiv:2111.07677, section 3.2). With 1x1 kernels and a condition it is the fully connected
    subnet of CFLOW (Gudovskiy et al., 2021, arXiv:2107.12571) at every position: the condition has its own 1x1 that is
    added before the ReLU, which equals concatenating it to the input. Deviates: the last layer starts at zero, so
    that a new coupling is the identity and training starts from the linear part of the flow.

    Args:
        in_channels, hidden_channels, out_channels: Widths of input, hidden layer and output.
        kernel_sizes: Odd kernel sizes of the first and the second convolution.
        condition_channels: Channels P of the condition; 0 = none.

    Example:
        >>> import torch
        >>> subnet = ConvSubnet(3, 8, 2, kernel_sizes=(3, 1))
        >>> subnet(torch.randn(1, 3, 5, 5)).abs().max().item()
        0.0
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        kernel_sizes: tuple[int, int],
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        first, second = kernel_sizes
        self.first = nn.Conv2d(in_channels, hidden_channels, first, padding=first // 2)
        self.second = nn.Conv2d(hidden_channels, out_channels, second, padding=second // 2)
        self.condition = nn.Conv2d(condition_channels, hidden_channels, 1, bias=False) if condition_channels else None
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        if self.condition is not None:
            nn.init.kaiming_normal_(self.condition.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)
        bias = self.second.bias
        assert bias is not None
        nn.init.zeros_(bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(N, in, H, W)`, and `(N or 1, P, H, W)` where the subnet is conditional, to `(N, out, H, W)`."""
        hidden = self.first(x)
        if self.condition is not None:
            hidden = hidden + self.condition(condition)
        return self.second(hidden.relu())  # type: ignore[no-any-return]
