import contextlib
import io
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PpmImagePlugin, TiffImagePlugin
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pangu_runtime.decode import DecodeSpec, decode, peek
from pangu_runtime.errors import DataError, ImageError
from pangu_runtime.images import list_images

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def save(image: Image.Image | np.ndarray, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(stream, form, **options)
    return stream.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png16(values: np.ndarray, colour: int) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, colour, rows)


def scaled(values: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.clip(np.floor((values.astype(float) - low) * 255 / (high - low) + 0.5), 0, 255).astype(np.uint8)


def reason(source: bytes | Path | str, **spec: object) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(source, spec=DecodeSpec(**spec))  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_same_pixels(form: str) -> None:
    got = decode(save(PICTURE, form))
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    assert got.flags.writeable
    np.testing.assert_array_equal(got, PICTURE)


def test_lossless_webp_and_lzw_tiff() -> None:
    np.testing.assert_array_equal(decode(save(PICTURE, "WEBP", lossless=True)), PICTURE)
    np.testing.assert_array_equal(decode(save(PICTURE, "TIFF", compression="tiff_lzw")), PICTURE)


def test_path_str_and_bytes_agree(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(data := save(PICTURE, "JPEG"))
    np.testing.assert_array_equal(decode(tmp_path / "a.jpg"), decode(data))
    np.testing.assert_array_equal(decode(str(tmp_path / "a.jpg")), decode(data))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(form: str, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    plain = decode(save(PICTURE, form, **options))
    data = save(PICTURE, form, exif=exif, **options)
    expected = Image.fromarray(plain)
    expected.getexif()[0x0112] = value
    np.testing.assert_array_equal(decode(data), np.asarray(ImageOps.exif_transpose(expected)))
    header = peek(data)
    assert (header.height_px, header.width_px) == decode(data).shape[:2]


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01"]
)
def test_damaged_exif_is_no_orientation(exif: bytes) -> None:
    data = save(PICTURE, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    np.testing.assert_array_equal(decode(data[:2] + segment + data[2:]), decode(data))


def test_palette_with_and_without_transparency() -> None:
    image = Image.fromarray(PICTURE).quantize(16)
    np.testing.assert_array_equal(decode(save(image)), np.asarray(image.convert("RGB")))
    got = decode(save(image, transparency=3))
    clear = np.asarray(image) == 3
    assert (got[clear] == 127).all()
    np.testing.assert_array_equal(got[~clear], np.asarray(image.convert("RGB"))[~clear])
    half = decode(save(image, transparency=bytes([128] * 16)))
    np.testing.assert_allclose(half, (np.asarray(image.convert("RGB")) * 128.0 + 127 * 127) / 255, atol=0.51)


def test_alpha_is_composited_over_grey() -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (6, 9, 1), dtype=np.uint8)
    expected = (PICTURE * (alpha / 255) + 127 * (1 - alpha / 255)).round()
    np.testing.assert_array_equal(decode(save(np.concatenate([PICTURE, alpha], 2))), expected)
    grey = np.concatenate([PICTURE[..., :1], alpha], 2)
    np.testing.assert_array_equal(decode(save(grey)), np.repeat(expected[..., :1], 3, 2))
    black = decode(save(np.concatenate([PICTURE, 0 * alpha], 2)), spec=DecodeSpec(background=0))
    assert not black.any()


def test_one_bit_and_grey() -> None:
    bits = PICTURE[..., 0] > 127
    np.testing.assert_array_equal(decode(save(Image.fromarray(bits)))[..., 1], bits * np.uint8(255))
    assert peek(save(Image.fromarray(bits))).bit_depth == 1
    np.testing.assert_array_equal(decode(save(PICTURE[..., 0])), np.repeat(PICTURE[..., :1], 3, 2))


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(form: str) -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 1:3] = 255  # full magenta and yellow print red; an Adobe JPEG stores them inverted
    data = save(Image.frombytes("CMYK", (16, 16), ink.tobytes()), form)
    assert peek(data).mode == "CMYK"
    np.testing.assert_allclose(decode(data)[8, 8], (255, 0, 0), atol=4)


@pytest.mark.parametrize("bounds", [(0, 65535), (100, 4095)])
def test_16bit_grey_png(bounds: tuple[int, int]) -> None:
    values = np.random.default_rng(2).integers(0, 6000, (5, 7)).astype(np.uint16)
    got = decode(png16(values, 0), spec=DecodeSpec(range_16bit=bounds))
    np.testing.assert_array_equal(got, np.repeat(scaled(values, *bounds)[..., None], 3, 2))
    assert peek(png16(values, 0)).bit_depth == 16


@pytest.mark.parametrize("order", ["<", ">"])
def test_16bit_grey_tiff_of_both_byte_orders(order: str) -> None:
    values = np.random.default_rng(3).integers(0, 65536, (5, 7)).astype(np.uint16)
    mode = "I;16" if order == "<" else "I;16B"
    data = save(Image.frombytes(mode, (7, 5), values.astype(order + "u2").tobytes()), "TIFF")
    assert peek(data).mode == mode
    np.testing.assert_array_equal(decode(data)[..., 2], scaled(values, 0, 65535))


def test_16bit_pgm_is_scaled_by_its_maximum() -> None:
    values = np.array([[0, 1000, 4095]], ">u2")
    got = decode(b"P5 3 1 4095\n" + values.tobytes())
    np.testing.assert_array_equal(got[0, :, 0], (0, 62, 255))


@pytest.mark.parametrize(("kind", "maximum"), [("P5", 100), ("P6", 100), ("P5", 4095), ("P6", 4095)])
def test_netpbm_of_any_maximum_is_decoded_at_once(kind: str, maximum: int, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = 3 if kind == "P6" else 1
    values = np.random.default_rng(5).integers(0, 1.2 * maximum, (40, 30 * channels))
    data = f"{kind} 30 40 {maximum}\n".encode() + values.astype(">u2" if maximum > 255 else "u1").tobytes()
    pillow = np.asarray(Image.open(io.BytesIO(data))).reshape(40, 30, channels)
    expected = scaled(pillow, 0, 65535) if pillow.max() > 255 else pillow
    monkeypatch.delattr(PpmImagePlugin.PpmDecoder, "decode")  # Pillow's own goes number by number
    np.testing.assert_array_equal(decode(data), np.broadcast_to(expected, (40, 30, 3)))
    assert reason(data[:-1]).reason == "truncated"
    assert reason(data[:-2]).reason == "truncated"


@pytest.mark.parametrize("head", [b"P1 2 1\n0 1", b"P2 2 1 255\n0 9", b"P3 1 1 255\n0 9 9"])
def test_netpbm_as_text_is_refused(head: bytes) -> None:
    found = reason(head)
    assert found.reason == "unsupported"
    assert "save it in binary" in str(found)


@pytest.mark.parametrize("bounds", [(0, 65535), (0, 4095)])
def test_16bit_colour_keeps_both_bytes(bounds: tuple[int, int]) -> None:
    values = np.random.default_rng(4).integers(0, 5000, (5, 7, 3)).astype(np.uint16)
    spec = DecodeSpec(range_16bit=bounds)
    np.testing.assert_array_equal(decode(png16(values, 2), spec=spec), scaled(values, *bounds))
    alpha = np.full((5, 7, 1), 65535, np.uint16)
    np.testing.assert_array_equal(
        decode(png16(np.concatenate([values, alpha], 2), 6), spec=spec), scaled(values, *bounds)
    )
    assert peek(png16(values, 2)).bit_depth == 16
    clear = decode(png16(np.concatenate([values, 0 * alpha], 2), 6), spec=spec)
    assert (clear == 127).all()


def test_range_of_16bit_values_is_not_that_of_their_transparency() -> None:
    spec = DecodeSpec(range_16bit=(0, 4095))
    half = np.array([[[4095, 0, 0, 32768]]], np.uint16)
    assert decode(png16(half, 6), spec=spec).tolist() == [[[191, 63, 63]]]  # over grey, 127
    clear = save(Image.fromarray(np.array([[0, 3000, 4095]], np.uint16)), transparency=3000)
    assert decode(clear, spec=spec)[0, :, 0].tolist() == [0, 127, 255]


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16bit_colour_tiff(order: str, compression: int) -> None:
    values = np.random.default_rng(5).integers(0, 5000, (4, 3, 3)).astype(np.uint16)
    pixels = values.astype(order + "u2").tobytes()
    pixels = zlib.compress(pixels) if compression == 8 else pixels
    tags = {256: 3, 257: 4, 258: (16, 16, 16), 259: compression, 262: 2, 273: 0, 277: 3, 278: 4, 279: len(pixels)}
    ifd = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II" if order == "<" else b"MM")
    for tag, value in tags.items():
        ifd[tag] = value
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + ifd.tobytes(8) + pixels
    np.testing.assert_array_equal(decode(data, spec=DecodeSpec(range_16bit=(0, 4095))), scaled(values, 0, 4095))


def test_16bit_grey_alpha_takes_the_full_range_only() -> None:
    values = np.full((2, 2, 2), 65535, np.uint16)
    assert (decode(png16(values, 4)) == 255).all()
    assert reason(png16(values, 4), range_16bit=(0, 4095)).reason == "unsupported"


def test_32bit_and_float_tiff_are_refused_with_advice() -> None:
    error = reason(save(np.zeros((3, 3), np.float32), "TIFF"))
    assert error.reason == "unsupported"
    assert "save as PNG" in str(error)
    assert reason(save(np.zeros((3, 3), np.int32), "TIFF")).reason == "unsupported"


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_pictures_are_refused(form: str) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), v, np.uint8)) for v in (0, 90, 200)]
    error = reason(save(frames[0], form, save_all=True, append_images=frames[1:]))
    assert error.reason == "multipage"
    assert "several pictures" in str(error)


def test_pictures_of_a_file_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a few megabytes can hold a hundred thousand, and reading their heads would take minutes."""
    frames = [Image.fromarray(np.full((4, 4, 3), v, np.uint8)) for v in (0, 90, 200)]
    data = {form: save(frames[0], form, save_all=True, append_images=frames[1:]) for form in ("GIF", "TIFF")}
    for kind in (GifImageFile, TiffImageFile):
        monkeypatch.setattr(kind, "n_frames", property(lambda _: pytest.fail("counted")))
    assert [reason(one).reason for one in data.values()] == ["multipage"] * 2


@pytest.mark.parametrize(("mode", "most"), [("RGB", 4), ("L", 4), ("P", 4), ("RGBA", 6), ("LA", 6)])
def test_decoding_holds_few_bytes_a_pixel(mode: str, most: int) -> None:
    """Of numpy's; those of Pillow are its own. The server counts on it."""
    data = save(Image.new(mode, (2000, 2000)))
    tracemalloc.start()
    decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= most * 2000 * 2000


def test_a_still_gif_and_the_first_picture_of_an_mpo_are_read() -> None:
    still = Image.fromarray(PICTURE).quantize(64)
    np.testing.assert_array_equal(decode(save(still, "GIF")), np.asarray(still.convert("RGB")))
    other = Image.fromarray(255 - PICTURE)
    mpo = save(Image.fromarray(PICTURE), "MPO", save_all=True, append_images=[other], quality=95)
    assert Image.open(io.BytesIO(mpo)).format == "MPO"
    assert np.abs(decode(mpo).astype(int) - PICTURE).mean() < np.abs(decode(mpo).astype(int) - (255 - PICTURE)).mean()


def test_bombs_are_refused_from_the_header() -> None:
    bomb = png(60_000, 60_000, 8, 0, bytes(100))
    for read in (decode, peek):
        with pytest.raises(ImageError, match=r"60000 x 60000 = 3,600,000,000 pixels.*data.max_pixels") as e:
            read(bomb)
        assert e.value.reason == "too_large"
    webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x5f\xea\x00" * 2 + bytes(10)
    assert "60000 x 60000" in str(reason(webp))


def test_limits_can_be_moved() -> None:
    data = save(PICTURE)
    assert reason(data, max_pixels=53).reason == "too_large"
    assert decode(data, spec=DecodeSpec(max_pixels=54)).shape == (6, 9, 3)
    error = reason(data, max_bytes=len(data) - 1)
    assert error.reason == "too_large"
    assert "max_bytes" in str(error)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM"])
def test_truncated(form: str, tmp_path: Path) -> None:
    big = np.random.default_rng(6).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = save(big, form)
    for keep in (len(data) // 2, 20):
        (tmp_path / "x").write_bytes(data[:keep])
        error = reason(tmp_path / "x")
        assert error.reason == "truncated"
        assert error.path == str(tmp_path / "x")
    assert reason(b"").reason == "truncated"


def test_other_files(tmp_path: Path) -> None:
    assert reason(b"hello, this is no image").reason == "not_an_image"
    assert reason(b"\0\0\0\x18ftypheic" + bytes(20)).reason == "unsupported"
    assert reason(b"%!PS-Adobe-3.0 EPSF").reason == "not_an_image"
    assert reason(tmp_path / "no.png").reason == "missing"
    assert reason(tmp_path).reason == "missing"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "PPM"])
def test_random_damage_raises_nothing_but_image_errors(form: str) -> None:
    rng = np.random.default_rng(7)
    data = bytearray(save(PICTURE, form))
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] = rng.integers(0, 256)
        with contextlib.suppress(ImageError):
            decode(bytes(damaged), spec=DecodeSpec(max_pixels=100_000))


def test_kinds_that_pillow_lacks_are_unsupported_not_damaged() -> None:
    jpeg = bytearray(save(PICTURE, "JPEG"))
    jpeg[jpeg.index(b"\xff\xc0") + 4] = 12
    assert reason(bytes(jpeg)).reason == "unsupported"


def test_threads_give_the_same_pixels() -> None:
    data = [save(PICTURE, form) for form in ("PNG", "JPEG", "TIFF", "WEBP")] * 20
    with ThreadPoolExecutor(4) as pool:
        for got, source in zip(pool.map(decode, data), data, strict=True):
            np.testing.assert_array_equal(got, decode(source))


def test_spec_json_round_trip_and_errors() -> None:
    spec = DecodeSpec(range_16bit=(10, 4095), max_pixels=5)
    assert DecodeSpec.from_json(spec.to_json()) == spec
    assert DecodeSpec.from_json({}) == DecodeSpec()
    for wrong in (
        {"pixels": 3},
        {"range_16bit": [5, 5]},
        {"range_16bit": 5},
        {"max_bytes": "many"},
        {"background": 300},
    ):
        with pytest.raises(DataError, match="allowed"):
            DecodeSpec.from_json(wrong)


def test_list_images(tmp_path: Path) -> None:
    for name in ("img10.png", "img2.PNG", "b/c.jpeg", ".hidden.png", "._img2.png", "notes.txt", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)] == ["b/c.jpeg", "img2.PNG", "img10.png"]
    assert list_images(tmp_path / "img2.PNG") == (tmp_path / "img2.PNG",)


def test_list_images_says_what_it_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file at all"):
        list_images(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"1 x \.txt"):
        list_images(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        list_images(tmp_path / "no")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "CMYK"])
def test_strips_are_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 4), dtype=np.uint8))
    image = noise.convert("RGB").convert(mode) if mode in ("1", "P", "CMYK") else noise.convert(mode)
    data = save(image, "TIFF" if mode == "CMYK" else "PNG")
    whole = decode(data)
    monkeypatch.setattr("pangu_runtime.decode._BLOCK_PIXELS", 7 * 40)
    assert np.array_equal(decode(data), whole)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("turn", [1, 6])
def test_pixels_of_every_mode_may_be_written(mode: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    image = Image.new(mode, (5, 3), 1 if mode in ("1", "L", "P", "I;16") else None)
    got = decode(save(image, "TIFF" if mode == "CMYK" else "PNG", exif=exif))
    assert got.flags.writeable
    assert got.flags.c_contiguous
    assert got.shape == ((3, 5, 3) if turn == 1 else (5, 3, 3))
