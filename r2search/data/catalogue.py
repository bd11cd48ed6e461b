"""Public data sets that may be downloaded, under which terms, and which reader reads them.

A checksum is the publisher's own (Zenodo for CHAOS, MONAI for the Decathlon), or one that several
projects state; None where there is neither, and then the first download is the measure.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Licence:
    """What the terms are called, and what they mean in one sentence."""

    name: str
    meaning: str
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """One file to download: a .zip, .tar or .tar.gz."""

    url: str
    checksum: str | None  # `md5:...` or `sha256:...`
    into: str = "."  # the folder of the data set where it is unpacked

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """What a person has to know before downloading, and what a program needs for it."""

    name: str
    title: str
    about: str
    size: int  # of all archives, bytes; rounded where the publisher does
    licence: Licence
    page: str  # where the publisher states the terms
    citation: str
    archives: tuple[Archive, ...]
    reader: str  # a name of the READERS table


@dataclass(frozen=True, kw_only=True, slots=True)
class ByHand:
    """A data set that a reader reads but nobody may, or can, download for its user."""

    name: str
    title: str
    why: str
    address: str
    reader: str


CC0 = Licence(
    "CC0 1.0",
    "No rights are reserved: it may be used and shared for any purpose.",
    "https://creativecommons.org/publicdomain/zero/1.0/",
)
CC_BY = Licence(
    "CC BY 4.0",
    "It may be used and shared for any purpose if its authors are credited.",
    "https://creativecommons.org/licenses/by/4.0/",
)
CC_BY_SA = Licence(
    "CC BY-SA 4.0",
    "It may be used and shared for any purpose if its authors are credited and what is made from "
    "it is shared under the same terms.",
    "https://creativecommons.org/licenses/by-sa/4.0/",
)
CC_BY_NC = Licence(
    "CC BY-NC 4.0",
    "It may be used and shared for non-commercial purposes only, and its authors must be credited.",
    "https://creativecommons.org/licenses/by-nc/4.0/",
)
CC_BY_NC_SA = Licence(
    "CC BY-NC-SA 4.0",
    "It may be used and shared for non-commercial purposes only, its authors must be credited, "
    "and what is made from it must be shared under the same terms.",
    "https://creativecommons.org/licenses/by-nc-sa/4.0/",
)


def _isic(year: int, checksums: dict[str, str]) -> tuple[Archive, ...]:
    folder = f"https://isic-archive.s3.amazonaws.com/challenges/{year}"
    return tuple(
        Archive(url=f"{folder}/{name}.zip", checksum=checksum)
        for name, checksum in checksums.items()
    )


def _decathlon(task: str, about: str, size: int, md5: str) -> DataSet:
    return DataSet(
        name=f"msd_{task.lower()}",
        title=f"Medical Segmentation Decathlon, {task}",
        about=about,
        size=size,
        licence=CC_BY_SA,
        page="http://medicaldecathlon.com/",
        citation="M. Antonelli et al., The Medical Segmentation Decathlon, Nature Communications "
        "13:4128, 2022",
        archives=(
            Archive(
                url=f"https://msd-for-monai.s3-us-west-2.amazonaws.com/{task}.tar",
                checksum=f"md5:{md5}",
            ),
        ),
        reader="msd",
    )


_ENTRIES = (
    DataSet(
        name="chase_db1",
        title="CHASE_DB1",
        about="28 retinal photographs of 14 children, vessels drawn by two observers",
        size=2_400_000,
        licence=CC_BY,
        page="https://researchinnovation.kingston.ac.uk/en/datasets/"
        "chasedb1-retinal-vessel-reference-dataset-4/",
        citation="M. M. Fraz et al., An ensemble classification-based approach applied to retinal "
        "blood vessel segmentation, IEEE Transactions on Biomedical Engineering 59(9), 2012",
        archives=(
            Archive(
                url="https://researchinnovation.kingston.ac.uk/files/40659508/CHASEDB1.zip",
                checksum=None,
            ),
        ),
        reader="chase_db1",
    ),
    DataSet(
        name="hrf",
        title="HRF, High-Resolution Fundus Image Database",
        about="45 retinal photographs of 3504 x 2336 pixels with vessels and field of view",
        size=73_000_000,
        licence=CC_BY,
        page="https://www5.cs.fau.de/research/data/fundus-images/",
        citation="A. Budai et al., Robust vessel segmentation in fundus images, International "
        "Journal of Biomedical Imaging 2013:154860, 2013",
        archives=(
            Archive(
                url="https://www5.cs.fau.de/fileadmin/research/datasets/fundus-images/all.zip",
                checksum="sha256:a914d02cda161b7f33f25d0397c276d50e9a6cbc705e9b364a54f0adafed57e4",
            ),
        ),
        reader="hrf",
    ),
    DataSet(
        name="dsb2018",
        title="2018 Data Science Bowl, stage 1 train (BBBC038v1)",
        about="670 microscope images of cell nuclei, one mask a nucleus",
        size=83_000_000,
        licence=CC0,
        page="https://bbbc.broadinstitute.org/BBBC038",
        citation="J. C. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 "
        "Data Science Bowl, Nature Methods 16:1247-1253, 2019",
        archives=(
            Archive(
                url="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
                checksum=None,
                into="stage1_train",  # the archive itself has no folder around its images
            ),
        ),
        reader="dsb2018",
    ),
    DataSet(
        name="isic2016",
        title="ISIC 2016, part 1: lesion segmentation",
        about="1,279 photographs of skin lesions with their outline: 900 train, 379 test",
        size=840_000_000,
        licence=CC0,
        page="https://challenge.isic-archive.com/data/#2016",
        citation="D. Gutman et al., Skin lesion analysis toward melanoma detection: a challenge at "
        "ISBI 2016, hosted by the ISIC, arXiv:1605.01397, 2016",
        archives=_isic(
            2016,
            {
                "ISBI2016_ISIC_Part1_Training_Data": "md5:2029f387e62dcc062b1370b1efc1f7fb",
                "ISBI2016_ISIC_Part1_Training_GroundTruth": "md5:fbd77134298f3511479a37bac93109c7",
                "ISBI2016_ISIC_Part1_Test_Data": "md5:efebcaeaae751007401a40a60d391f93",
                "ISBI2016_ISIC_Part1_Test_GroundTruth": "md5:492a7711a2e19b96114cab6c96bd1ad5",
            },
        ),
        reader="isic",
    ),
    DataSet(
        name="isic2017",
        title="ISIC 2017, part 1: lesion segmentation",
        about="2,750 photographs of skin lesions with their outline: 2,000 train, 150 validation, "
        "600 test",
        size=12_100_000_000,
        licence=CC0,
        page="https://challenge.isic-archive.com/data/#2017",
        citation="N. C. F. Codella et al., Skin lesion analysis toward melanoma detection: a "
        "challenge at the 2017 ISBI, hosted by the ISIC, arXiv:1710.05006, 2017",
        archives=_isic(
            2017,
            {
                "ISIC-2017_Training_Data": "md5:a14a7e622c67a358797ae59abb8a0b0c",
                "ISIC-2017_Training_Part1_GroundTruth": "md5:77fdbeb6fbec4139937224416b250f4c",
                "ISIC-2017_Validation_Data": "md5:8d6419d942112f709894c0d82f6c9038",
                "ISIC-2017_Validation_Part1_GroundTruth": "md5:64d3e68fa2deeb8a5e89aa8dec2efd44",
                "ISIC-2017_Test_v2_Data": "md5:5f6a0b5e1f2972bd1f5ea02680489f09",
                "ISIC-2017_Test_v2_Part1_GroundTruth": "md5:b1742de6bd257faca3b2b21a4aa3b781",
            },
        ),
        reader="isic",
    ),
    DataSet(
        name="isic2018",
        title="ISIC 2018, task 1: lesion boundary segmentation",
        about="3,694 photographs of skin lesions with their outline: 2,594 train, 100 validation, "
        "1,000 test",
        size=13_800_000_000,
        licence=CC_BY_NC,
        page="https://challenge.isic-archive.com/data/#2018",
        citation="N. Codella et al., Skin lesion analysis toward melanoma detection 2018, "
        "arXiv:1902.03368, 2019; P. Tschandl et al., The HAM10000 dataset, Scientific Data "
        "5:180161, 2018",
        archives=_isic(
            2018,
            {
                "ISIC2018_Task1-2_Training_Input": "sha256:"
                "80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f",
                "ISIC2018_Task1_Training_GroundTruth": "sha256:"
                "99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c",
                "ISIC2018_Task1-2_Validation_Input": "sha256:"
                "0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797",
                "ISIC2018_Task1_Validation_GroundTruth": "sha256:"
                "f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285",
                "ISIC2018_Task1-2_Test_Input": "sha256:"
                "e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d",
                "ISIC2018_Task1_Test_GroundTruth": "sha256:"
                "2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82",
            },
        ),
        reader="isic",
    ),
    _decathlon(
        "Task03_Liver",
        "131 labelled abdominal CT volumes: liver and its tumours",
        29_000_000_000,
        "a90ec6c4aa7f6a3d087205e23d4e6397",
    ),
    _decathlon(
        "Task04_Hippocampus",
        "260 labelled small MR volumes: anterior and posterior hippocampus",
        28_425_216,
        "9d24dba78a72977dbd1d2e110310f31b",
    ),
    _decathlon(
        "Task09_Spleen",
        "41 labelled abdominal CT volumes: spleen",
        1_610_352_640,
        "410d4a301da4e5b2f6f86ec3ddba524e",
    ),
    DataSet(
        name="chaos",
        title="CHAOS, Combined (CT-MR) Healthy Abdominal Organ Segmentation, training sets",
        about="20 labelled abdominal CT volumes (liver), and MR volumes that no reader reads",
        size=890_771_694,
        licence=CC_BY_NC_SA,
        page="https://doi.org/10.5281/zenodo.3431873",
        citation="A. E. Kavur et al., CHAOS Challenge - combined (CT-MR) healthy abdominal organ "
        "segmentation, Medical Image Analysis 69:101950, 2021",
        archives=(
            Archive(
                url="https://zenodo.org/records/3431873/files/CHAOS_Train_Sets.zip",
                checksum="md5:df21053002a1cc86df918a87da3b2c19",
            ),
        ),
        reader="chaos",
    ),
)
CATALOGUE = {entry.name: entry for entry in _ENTRIES}

BY_HAND = {
    entry.name: entry
    for entry in (
        ByHand(
            name="drive",
            title="DRIVE",
            why="its terms forbid redistribution, and ask everyone to get it from its own site",
            address="https://drive.grand-challenge.org/",
            reader="drive",
        ),
        ByHand(
            name="stare",
            title="STARE",
            why="it names no terms",
            address="https://cecas.clemson.edu/~ahoover/stare/",
            reader="stare",
        ),
    )
}
