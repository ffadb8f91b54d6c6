"""EfficientNet-Lite0 in PyTorch, written for the benchmark from the layer table, with its state-dict names.

It ends with the pyramid: strides 4, 8, 16 and 32. Sizes that divide by 32, as in the benchmark, need the
padding of TensorFlow's rule SAME for even sizes alone.
"""

from torch import nn
from torch.nn import functional

# Kernel, stride of the first block, expansion, channels, blocks.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_TAPS = (2, 4, 10, 15)


def _norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class SameConv(nn.Conv2d):
    """A convolution without bias; with stride 2 the larger half of the zeros comes after."""

    def forward(self, x):
        k, s = self.kernel_size[0], self.stride[0]
        if s == 1:
            return self._conv_forward(x, self.weight, None)
        before, after = (k - 2) // 2, (k - 1) // 2
        return self._conv_forward(functional.pad(x, (before, after, before, after)), self.weight, None)


def _conv(cin, cout, k, stride=1, groups=1):
    return SameConv(cin, cout, k, stride, k // 2 if stride == 1 else 0, groups=groups, bias=False)


class Block(nn.Module):
    def __init__(self, cin, cout, k, stride, expansion):
        super().__init__()
        inner = cin * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = _conv(cin, inner, 1), _norm(inner)
        self._depthwise_conv, self._bn1 = _conv(inner, inner, k, stride, inner), _norm(inner)
        self._project_conv, self._bn2 = _conv(inner, cout, 1), _norm(cout)
        self.expands, self.adds = expansion > 1, stride == 1 and cin == cout

    def forward(self, x):
        y = x
        if self.expands:
            y = functional.relu6(self._bn0(self._expand_conv(y)), inplace=True)
        y = functional.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """[B, 3, H, W] -> four levels, finest first."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), _norm(32)
        blocks, cin = [], 32
        for k, stride, expansion, channels, count in _STAGES:
            for number in range(count):
                blocks.append(Block(cin, channels, k, 1 if number else stride, expansion))
                cin = channels
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x):
        x, levels = functional.relu6(self._bn0(self._conv_stem(x)), inplace=True), []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in _TAPS:
                levels.append(x)
        return levels
