"""Changes to what a format means: fields of headers, values of JSON, cells, members of archives.

`FIELDS` are changes that may or may not be read, by kind; `NEUTRAL` are other ways to write the same thing.
Checksums are made right, so that what lies behind them is reached.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.formats import arrays, media, pictures, text

_JSON = (text.change_value, text.change_value, text.drop_key, text.add_key, text.nest, text.change_encoding)
_TEXT = (
    text.change_cell,
    text.change_cell,
    text.add_cell,
    text.drop_cell,
    text.change_lines,
    text.change_encoding,
)
_PICTURE = (pictures.picture_mode, pictures.picture_size)
FIELDS: dict[str, tuple[Callable, ...]] = {
    "json": _JSON,
    "jsonl": (*_JSON, text.change_lines),
    "csv": _TEXT,
    "list": _TEXT,
    "txt": _TEXT,
    "png": (pictures.png_header, pictures.png_chunks, pictures.png_pixels, *_PICTURE),
    "jpg": (pictures.jpeg_segment, pictures.jpeg_segment, *_PICTURE),
    "wav": (media.riff_fields,),
    "avi": (media.riff_fields,),
    "mp4": (media.mp4_box,),
    "mkv": (media.ebml_element,),
    "webm": (media.ebml_element,),
    "mat": (arrays.mat_inner, arrays.mat_variable),
    "npz": (arrays.zip_member, arrays.npy_header, arrays.zip_directory),
    "pt": (arrays.zip_member, arrays.zip_directory),
    "safetensors": (arrays.tensor_header, arrays.tensor_values),
}
NEUTRAL: dict[str, tuple[Callable, ...]] = {
    "json": (text.spaced,),
    "jsonl": (text.spaced_lines,),
    "csv": (text.quoted, text.windows_lines),
    "list": (text.windows_lines, text.loose_list),
    "txt": (text.windows_lines,),
    "png": (pictures.png_text, pictures.repacked_png),
    "jpg": (pictures.jpeg_comment,),
    "wav": (media.wav_chunk,),
    "mp4": (media.free_box,),
    "mat": (arrays.unpacked_mat,),
    "npz": (arrays.rezipped,),
    "safetensors": (arrays.tensor_notes,),
}
