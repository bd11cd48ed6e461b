"""Tiny CT volumes on disk: NIfTI and DICOM files, a task of the Decathlon, a part of CHAOS."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, generate_uid

GRID = np.diag([-0.8, -0.7, 2.5, 1.0])  # mm: the first axis to the left, the second to the back
TAGS = {
    "Modality": "CT",
    "RescaleSlope": 1,
    "RescaleIntercept": -1000,
    "PixelSpacing": [0.7, 0.8],
    "SliceThickness": 3.2,  # not the distance: the slices overlap
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
}


def write_nifti(path: Path, slices: NDArray[Any], affine: NDArray[np.float64] = GRID) -> Path:
    """Write slices (S, H, W, ...) to a file whose axes are W, H, S, ...; gives the path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.swapaxes(slices, 0, 2), affine), path)
    return path


def write_dicom(path: Path, values: NDArray[Any], position: float = 0.0, **tags: Any) -> Path:
    """Write one slice (H, W) in Hounsfield units, `position` mm from the feet.

    `tags` replace others; those of value None are left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    dicom = pydicom.Dataset()
    dicom.file_meta = pydicom.dataset.FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dicom.SOPClassUID, dicom.SOPInstanceUID = CTImageStorage, generate_uid()
    dicom.Rows, dicom.Columns = values.shape[:2]
    dicom.ImagePositionPatient = [-100, -90, position]
    for name, value in (TAGS | tags).items():
        if value is not None:
            setattr(dicom, name, value)
        elif name in dicom:
            del dicom[name]
    dicom.PixelData = (values + 1000).astype("<i2").tobytes()
    dicom.save_as(path, enforce_file_format=True)
    return path


def draw_volume(number: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Three slices of 20 x 24 pixels, a disc of 120 to 199 HU in air, and a block in each."""
    rows, columns = np.mgrid[:20, :24]
    body = (rows - 10) ** 2 + (columns - 12) ** 2 < 81
    tissue = np.random.default_rng(number).integers(120, 200, (3, 20, 24))
    mask = np.zeros((3, 20, 24), np.uint8)
    for n in range(3):
        mask[n, 5:15, 8 + n + number % 5 : 11 + n + number % 5] = 1
    return np.where(body, tissue, -1000).astype(np.int16), mask


def make_msd(root: Path, names: tuple[str, ...] = ("spleen_2", "spleen_10", "spleen_19")) -> Path:
    """Write a task whose volumes have these names, and labels of the value 1."""
    for number, name in enumerate(names):
        image, mask = draw_volume(number)
        write_nifti(root / "imagesTr" / f"{name}.nii.gz", image)
        write_nifti(root / "labelsTr" / f"{name}.nii.gz", mask)
    files = ({kind: f"./{kind}sTr/{name}.nii.gz" for kind in ("image", "label")} for name in names)
    task = {
        "name": "Spleen",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen"},
        "numTraining": len(names),
        "training": list(files),
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(task))
    return root


def make_chaos(root: Path, subjects: tuple[str, ...] = ("1", "5", "14")) -> Path:
    """Write CT/SUBJECT/DICOM_anon and Ground, the slices 2 mm apart."""
    for number, subject in enumerate(subjects):
        folder = root / "CT" / subject
        for n, (values, mask) in enumerate(zip(*draw_volume(number), strict=True)):
            write_dicom(folder / "DICOM_anon" / f"i{n:04},0000b.dcm", values, 2.0 * n)
            (folder / "Ground").mkdir(exist_ok=True)
            Image.fromarray(mask > 0).save(folder / "Ground" / f"liver_GT_{n:03}.png")
    return root
