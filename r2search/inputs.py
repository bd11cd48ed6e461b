"""Which files are to be predicted, and what their results are called."""

from glob import glob, has_magic
from pathlib import Path

from r2search.config import Misuse
from r2search.data.readers.images import SUFFIXES, list_images, name_of
from r2search.data.readers.volumes import DICOM, NIFTI, list_volumes


def find_images(inputs: list[Path]) -> dict[str, Path]:
    """Output name -> file, for images, DICOM slices and NIfTI volumes.

    An input is a file, a folder of such files, or a pattern, as `scans/*.png` or `scans/**/*.dcm`.
    Raises Misuse for what does not exist, for an empty folder and for two files of one name.
    """
    found: dict[str, Path] = {}
    for path in (path for given in inputs for path in _files_of(given)):
        name = name_of(path)
        if found.setdefault(name, path) != path:
            raise Misuse(
                f"{path}: would overwrite the results of {found[name]}; "
                "predict them into different folders"
            )
    return found


def _files_of(given: Path) -> list[Path]:
    if given.is_dir():
        inside = [*list_images(given), *list_volumes(given, (*DICOM, *NIFTI))]
        if not inside:
            known = " ".join([*sorted(SUFFIXES), *DICOM, *NIFTI])
            raise Misuse(f"{given}: no images in this folder; known: {known}")
        return inside
    if given.is_file():
        return [given]
    if has_magic(str(given)):
        matching = sorted(Path(name) for name in glob(str(given), recursive=True))
        files = [path for path in matching if path.is_file()]
        if not files:
            raise Misuse(f"{given}: no file fits this pattern; check the folder and the suffix")
        return files
    raise Misuse(f"{given}: no such file; give an image or a folder of images")
