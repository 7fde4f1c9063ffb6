"""Networks inside coupling flows."""

from __future__ import annotations

from torch import Tensor, nn


class ConvSubnet(nn.Module):
    """Two convolutions with a ReLU between, zero padded, the second starting at zero.

    FastFlow (Yu et al., 2021, arXiv:2111.07677, section 3.2). Deviates: the last layer starts at zero, so that a new
    coupling is the identity and training starts from the linear part of the flow.

    Args:
        in_channels, hidden_channels, out_channels: Widths.
        kernel_sizes: Odd, of the first and the second convolution.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, kernel_sizes: tuple[int, int]
    ) -> None:
        super().__init__()
        first, second = kernel_sizes
        self.first = nn.Conv2d(in_channels, hidden_channels, first, padding=first // 2)
        self.second = nn.Conv2d(hidden_channels, out_channels, second, padding=second // 2)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)
        bias = self.second.bias
        assert bias is not None
        nn.init.zeros_(bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())  # type: ignore[no-any-return]
