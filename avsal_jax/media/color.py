"""High dynamic range and wide gamut -> the 8-bit SDR picture (BT.709) that networks were trained on."""

from __future__ import annotations

import dataclasses
import fractions
import functools
import pathlib
import tempfile

import av
import numpy as np
from av.filter import Graph

from avsal_jax.errors import AvsalError

REFERENCE_WHITE = 203.0  # cd/m2 of diffuse white in HDR video (ITU-R BT.2408)
_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2  # cd/m2 and system gamma of a reference HLG display (BT.2100)
_SDR_GAMMA = 2.2  # of an SDR display
_KNEE = 0.8  # of reference white: light up to it is unchanged, brighter light is rolled off
_NODES = 65  # of the lookup table, along each colour: half an 8-bit step from the formula
_PQ, _HLG = 16, 18  # ITU-T H.273, as FFmpeg numbers them
_BT709, _UNKNOWN, _BT2020, _P3 = 1, 2, 9, 12
_TRANSFERS = {_PQ: "PQ", _HLG: "HLG"}
_GAMUTS = {_BT709: "BT.709", _BT2020: "BT.2020", _P3: "Display P3"}
_TO_BT709 = {  # linear RGB; from the chromaticities of H.273, all with white D65
    _BT709: np.eye(3),
    _BT2020: [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    _P3: [
        [1.224940, -0.224940, 0.0],
        [-0.042057, 1.042057, 0.0],
        [-0.019638, -0.078636, 1.098274],
    ],
}
_MATRICES = {0, 1, 2, 4, 5, 6, 7, 9}  # of Y'CbCr that FFmpeg's scaler reads
_RESERVED, _DERIVED = 3, 12  # a matrix without meaning; one that is derived from the primaries
_UNREAD_MATRICES = {8: "YCgCo", 10: "BT.2020 constant luminance", 14: "ICtCp", 15: "IPT-C2"}
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593])


@dataclasses.dataclass(frozen=True)
class ToneMapping:
    """How the colours of a video become SDR.

    Attributes:
      transfer: `PQ`, `HLG`, or None if only the gamut differs from BT.709.
      primaries: number of its gamut in ITU-T H.273.
    """

    transfer: str | None
    primaries: int

    @property
    def note(self) -> str:
        """One line on the colours and their conversion."""
        gamut = _GAMUTS[self.primaries]
        if self.transfer is None:
            return f"its colours are {gamut}: converted to BT.709"
        return (
            f"it is HDR ({self.transfer}, {gamut}): mapped to SDR (BT.709), with white at "
            f"{REFERENCE_WHITE:g} cd/m2"
        )

    def to_sdr(self, coded: np.ndarray) -> np.ndarray:
        """Returns SDR R'G'B' [..., 3] in [0, 1] for coded R'G'B' [..., 3] in [0, 1] (full range).

        Light is relative to reference white. Up to 80 % of it is unchanged. Brighter light is rolled off by
        one factor for the three colours, so that highlights keep detail and hue. Colours outside BT.709 are
        clipped.
        """
        coded = np.asarray(coded, np.float64)
        if self.transfer == "PQ":
            light = pq_light(coded) / REFERENCE_WHITE
        elif self.transfer == "HLG":
            light = hlg_light(coded) / REFERENCE_WHITE
        else:
            light = coded**_SDR_GAMMA
        light = np.clip(light @ np.asarray(_TO_BT709[self.primaries]).T, 0, None)
        if self.transfer is not None:
            brightest = np.maximum(light.max(-1, keepdims=True), 1e-12)
            over = np.maximum(brightest - _KNEE, 0) / (1 - _KNEE)
            rolled = np.minimum(brightest, _KNEE) + (1 - _KNEE) * over / (1 + over)
            light = light * (rolled / brightest)
        return np.clip(light, 0, 1) ** (1 / _SDR_GAMMA)


def pq_light(coded: np.ndarray) -> np.ndarray:
    """Returns cd/m2 for a signal in [0, 1] (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = coded ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def hlg_light(coded: np.ndarray) -> np.ndarray:
    """Returns cd/m2 on a display of 1,000 cd/m2 for R'G'B' [..., 3] in [0, 1] (BT.2100, HLG)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
    luminance = scene @ _BT2020_LUMA
    return _HLG_PEAK * luminance[..., None] ** (_HLG_GAMMA - 1) * scene


def find_tone_mapping(transfer: int, primaries: int) -> ToneMapping | None:
    """Returns how colours are converted to SDR, or None if they are SDR in an ordinary gamut.

    Args:
      transfer, primaries: numbers of ITU-T H.273 from the header of a frame or a file.
    """
    transfer = _TRANSFERS.get(transfer)
    if transfer is None:
        return ToneMapping(None, primaries) if primaries in (_BT2020, _P3) else None
    return ToneMapping(transfer, primaries if primaries in _TO_BT709 else _BT2020)


def tone_mapping_of(frame: av.VideoFrame, before: ToneMapping | None = None) -> ToneMapping | None:
    """Returns how the colours of a frame are converted to SDR; in joined files this may change.

    Args:
      before: of the previous frame; used for a frame whose header does not specify its colours.
    """
    codes = int(frame.color_trc), int(frame.color_primaries)
    return before if codes == (_UNKNOWN, _UNKNOWN) else find_tone_mapping(*codes)


def settle_matrix(frame: av.VideoFrame, path: pathlib.Path) -> None:
    """Sets the colour matrix of a frame to an equivalent one that FFmpeg's scaler supports.

    Raises:
      AvsalError: there is no equivalent matrix.
    """
    matrix = frame.colorspace
    if matrix in _MATRICES:
        return
    if matrix == _DERIVED:
        frame.colorspace = _BT2020 if frame.color_primaries == _BT2020 else _BT709
    elif matrix == _RESERVED:
        frame.colorspace = _UNKNOWN
    else:
        name = _UNREAD_MATRICES.get(matrix, f"matrix {int(matrix)} of ITU-T H.273")
        raise AvsalError(f"{path}: its colours are coded as {name}, which is not read; convert it to BT.709")


class ToneMapper:
    """Applies a `ToneMapping` to decoded frames of one size, by FFmpeg's filter `lut3d`."""

    def __init__(self, mapping: ToneMapping):
        self._mapping, self._graph, self._size = mapping, None, None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Returns RGB uint8 [H, W, 3].

        Raises:
          AvsalError: the filters of this FFmpeg fail.
        """
        try:
            wide = frame.reformat(format="gbrp16le")  # by the matrix and the range that the frame states
            if self._size != (frame.width, frame.height):
                self._size = frame.width, frame.height
                self._graph = _filters(self._mapping, *self._size)
            wide.pts, wide.time_base = 0, fractions.Fraction(1, 25)
            self._graph.push(wide)
            return self._graph.pull().to_ndarray(format="rgb24")
        except (av.error.FFmpegError, OSError) as error:
            raise AvsalError(f"FFmpeg cannot map HDR to SDR here: {error.strerror or error}") from error


def _filters(mapping: ToneMapping, width: int, height: int) -> Graph:
    with tempfile.TemporaryDirectory(prefix="avsal-") as folder:
        path = pathlib.Path(folder) / "sdr.cube"
        path.write_text(_cube(mapping), encoding="ascii")
        graph = Graph()
        name = str(path).replace("\\", "/").replace(":", "\\:")
        nodes = [
            graph.add_buffer(
                width=width,
                height=height,
                format=av.VideoFormat("gbrp16le"),
                time_base=fractions.Fraction(1, 25),
            ),
            graph.add("lut3d", f"file='{name}':interp=tetrahedral"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
    return graph


@functools.lru_cache(maxsize=4)
def _cube(mapping: ToneMapping) -> str:
    """The mapping as a table in the format .cube: red changes fastest."""
    axis = np.linspace(0, 1, _NODES)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    rows = mapping.to_sdr(np.stack([red, green, blue], -1).reshape(-1, 3))
    lines = [f"{r:.5f} {g:.5f} {b:.5f}" for r, g, b in rows.tolist()]
    return f"LUT_3D_SIZE {_NODES}\n" + "\n".join(lines) + "\n"
