"""A decoder that hangs, dies or grows costs its own process, and soon."""

import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ct_files import write_dicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from r2search.config import DataConfig
from r2search.data.readers.volumes import read_picture
from r2search.serving import decoding
from r2search.serving.decoding import decode
from r2search.serving.uploads import Refused

RGB, GREY = DataConfig(), DataConfig(channels="grey")


class Does:
    """Settings whose arrival in the decoder calls a function there."""

    def __init__(self, work: Callable[..., object], *of: Any) -> None:
        self.work = work, of

    def __reduce__(self) -> Any:
        return self.work


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "upload.png"
    Image.fromarray(np.arange(3600, dtype=np.uint8).reshape(30, 40, 3)).save(path)
    return path


def test_an_image_comes_as_the_reader_reads_it(image: Path, tmp_path: Path) -> None:
    decode(image, tmp_path / "out.npy", "eye.png", RGB, 1200)
    assert (np.load(tmp_path / "out.npy") == np.asarray(Image.open(image))).all()


def test_a_slice_of_ct_comes_as_the_reader_reads_it(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "upload.dcm", np.arange(-200, 400).reshape(20, 30))
    decode(path, tmp_path / "out.npy", "scan.dcm", GREY, 600)
    assert (np.load(tmp_path / "out.npy") == read_picture(path, GREY)).all()


def test_one_pixel_too_many_is_refused_by_the_name_of_the_upload(image: Path) -> None:
    with pytest.raises(Refused, match=r"^eye.png: is 40 x 30 pixels; at most 0.001199 million"):
        decode(image, image.with_name("out.npy"), "eye.png", RGB, 1199)


def test_a_decoder_that_hangs_is_ended(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "DECODE_S", 0.5)
    before = time.perf_counter()
    with pytest.raises(Refused, match=r"eye.png: takes over 0.5 s to read"):
        decode(image, image.with_name("out.npy"), "eye.png", Does(time.sleep, 60), 1200)
    assert time.perf_counter() - before < 5


def test_a_decoder_that_crashes_is_an_unreadable_image(image: Path) -> None:
    with pytest.raises(Refused, match=r"eye.png: cannot be read as an image"):
        decode(image, image.with_name("out.npy"), "eye.png", Does(os.abort), 1200)


def test_what_unpacks_to_gigabytes_is_given_up(tmp_path: Path) -> None:
    # A DICOM file may be packed as a whole: a megabyte that becomes one gigabyte.
    path = tmp_path / "upload.dcm"
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 24)
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        write_file_meta_info(file, meta(DeflatedExplicitVRLittleEndian))
        file.write(packer.compress(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 1 << 30)))
        for _ in range(64):
            file.write(packer.compress(zeros))
        file.write(packer.flush())
    assert path.stat().st_size < 10_000_000
    with pytest.raises(Refused, match=r"scan.dcm: .* as DICOM \(.*allocate"):
        decode(path, tmp_path / "out.npy", "scan.dcm", GREY, 1_000_000)


def meta(syntax: str) -> FileMetaDataset:
    made = FileMetaDataset()
    made.TransferSyntaxUID = syntax
    made.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    made.MediaStorageSOPInstanceUID = "1.2.3"
    return made


def test_a_dicom_slice_of_too_many_pixels_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "upload.dcm"
    tags = Dataset()
    tags.file_meta = meta(ExplicitVRLittleEndian)
    tags.Rows = tags.Columns = 30_000
    tags.save_as(path, enforce_file_format=True)
    with pytest.raises(Refused, match=r"scan.dcm: is 30000 x 30000 pixels") as refused:
        decode(path, tmp_path / "out.npy", "scan.dcm", GREY, 1_000_000)
    assert refused.value.status == 413
