"""Follow-ups from files to tables and reports."""

import json
import shutil

import highdicom as hd
import polars as pl
import pytest
from pydicom import dcmread

from helpers.dated_dicom import DAYS, write_dates
from voxelry.cohort.follow_up_table import ROW_TYPES
from voxelry.cohort.patient_courses import follow_up_cohort
from voxelry.errors import UsageError
from voxelry.formats.reader import read_labels
from voxelry.formats.writer import write
from voxelry.phantom import coarse_acquisition, dated_phantoms

COARSE = coarse_acquisition("torso-ct")
SECRET = "Geheim-4711"


@pytest.fixture(scope="module")
def dated():
    return dated_phantoms(3, acquisition=COARSE, fates=("grow", "vanish"))[0]


@pytest.fixture(scope="module")
def studies(tmp_path_factory, dated):
    """Two studies in DICOM, and their masks as predict writes them."""
    folder = tmp_path_factory.mktemp("studies")
    scans = write_dates(dated, folder, SECRET)
    (folder / "masks").mkdir()
    for each, scan in zip(dated, scans, strict=True):
        write(each.phantom.labels, folder / "masks" / f"{scan.name}.nii.gz")
    return folder, scans


@pytest.fixture(scope="module")
def followed(studies, tmp_path_factory):
    folder, scans = studies
    out = tmp_path_factory.mktemp("out") / "out"
    return out, follow_up_cohort(scans, out, folder / "masks", transform="rigid")


def test_tables_of_dicom_studies(followed):
    out, [course] = followed
    assert course.error == ""
    frame = pl.read_parquet(out / "follow_up.parquet")
    assert dict(frame.schema) == ROW_TYPES
    assert pl.read_csv(out / "follow_up.csv", schema=frame.schema).equals(frame)
    lesions = frame.filter(pl.col("lesion").is_not_null()).select("date", "lesion", "change").rows()
    assert sorted(lesions, key=str) == sorted(
        [(DAYS[0], 1, None), (DAYS[0], 2, None), *((DAYS[1], *row) for row in lesion_fates(frame))], key=str
    )
    stored = json.loads((out / "follow_up.json").read_text())
    assert stored["schema"] == 1
    assert stored["patients"] == [course.summary]
    assert SECRET not in (out / "follow_up.json").read_text() + (out / "follow_up.csv").read_text()


def lesion_fates(frame):
    """One lesion is kept and one is gone, whichever number they have."""
    gone = frame.filter(pl.col("change") == "gone")["lesion"].to_list()
    assert len(gone) == 1
    return [(number, "gone" if number in gone else "kept") for number in (1, 2)]


def test_the_report_names_lesions_of_both_studies_by_one_uid(followed, dciodvfy, tid1500reader, tmp_path):
    _, [course] = followed
    *segs, report = sorted(course.files, key=lambda path: (path.name == "follow_up.sr.dcm", path.name))
    assert [dciodvfy(path) for path in course.files] == [[], [], []]
    read = json.loads(tid1500reader(report, tmp_path / "m.json").read_text())["Measurements"]
    by_uid: dict[str, list[str]] = {}
    for group in read:
        by_uid.setdefault(group["TrackingUniqueIdentifier"], []).append(group["segmentationSOPInstanceUID"])
    instances = [str(dcmread(seg).SOPInstanceUID) for seg in segs]
    lesions = [found for uid, found in by_uid.items() if uid.startswith("2.25.") and len(found) == 2]
    assert instances in lesions  # the lesion that is kept
    rows = [row for row in course.rows if row["lesion"] and row["voxels"]]
    volumes = {(row["tracking_uid"], row["date"].isoformat()): row["volume_mm3"] for row in rows}
    groups = hd.sr.srread(report).content.get_volumetric_roi_measurement_groups()
    told = {}
    for group in groups:
        points = {item.name.meaning: item for item in group[0].ContentSequence if hasattr(item, "name")}
        uid = str(group.tracking_uid)
        if uid in {key for key, _ in volumes}:
            volume = next(m.value for m in group.get_measurements() if m.name.meaning == "Volume")
            told[uid, points["Time Point"].value] = volume
    assert told == pytest.approx(volumes)


def test_the_report_lists_both_studies(followed, studies):
    _, [course] = followed
    data = dcmread(course.files[-1])
    own = [dcmread(next(scan.iterdir())).StudyInstanceUID for scan in studies[1]]
    assert data.StudyInstanceUID == own[1]
    assert [item.StudyInstanceUID for item in data.CurrentRequestedProcedureEvidenceSequence] == [own[1]]
    assert [item.StudyInstanceUID for item in data.PertinentOtherEvidenceSequence] == [own[0]]
    assert data.PatientID == SECRET


def test_nifti_gives_masks_with_one_number_a_lesion_and_can_be_repeated(tmp_path, dated):
    for each, day in zip(dated, DAYS, strict=False):
        for kind, what in (("scans", each.phantom.volume), ("masks", each.phantom.labels)):
            (tmp_path / kind).mkdir(exist_ok=True)
            write(what, tmp_path / kind / f"anna_{day}.nii.gz")
    for _ in range(2):
        [course] = follow_up_cohort([tmp_path / "scans"], tmp_path / "out", tmp_path / "masks", transform="rigid")
    assert course.error == ""
    assert [path.name for path in course.files] == [f"{day}_anna_{day}.nii.gz" for day in DAYS[:2]]
    assert course.files[0].parent == tmp_path / "out" / "anna"
    numbers = [set(read_labels(path).instances.ravel().tolist()) - {0} for path in course.files]
    [kept] = [change for change in course.summary["changes"] if change["change"] == "kept"]
    assert numbers == [{1, 2}, set(kept["lesions_after"])]


def test_a_patient_that_cannot_be_followed_is_reported_and_the_others_go_on(tmp_path, studies, dated):
    folder, scans = studies
    names = [("image", "mask", "patient", "date")]
    images = [str(scan) for scan in scans]
    masks = [str(folder / "masks" / f"{scan.name}.nii.gz") for scan in scans]
    names += [(images[0], masks[0], "alone", "20260101")]
    names += [(images[0], masks[0], "twice", "20260101"), (images[1], masks[1], "twice", "20260101")]
    (tmp_path / "other").mkdir()
    [other] = write_dates(dated[:1], tmp_path / "other", "Anders-1")
    names += [(images[0], masks[0], "mixed", "20260101"), (str(other), masks[0], "mixed", "20260201")]
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    names += [(images[0], str(tmp_path / "broken.nii.gz"), "broken", "20260101"), (images[1], masks[1], "broken", "20260201")]
    names += [(images[0], masks[0], "fine", "20260101"), (images[1], masks[1], "fine", "20260201")]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(",".join(row) for row in names))
    courses = {course.patient: course for course in follow_up_cohort([table], tmp_path / "out", transform="rigid")}
    errors = {patient: course.error for patient, course in courses.items()}
    assert "one examination only" in errors["alone"]
    assert "both of 2026-01-01" in errors["twice"]
    assert "2 patients" in errors["mixed"]
    assert "broken" in errors["broken"]
    assert errors["fine"] == ""
    assert SECRET not in str(errors)
    assert json.loads((tmp_path / "out" / "follow_up.json").read_text())["failed"].keys() == errors.keys() - {"fine"}
    assert set(pl.read_csv(tmp_path / "out" / "follow_up.csv")["patient"]) == {"fine"}


def test_a_file_of_somebody_else_is_not_replaced(tmp_path, studies):
    folder, scans = studies
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "follow_up.csv").write_text("mine")
    with pytest.raises(UsageError, match="not written by this command"):
        follow_up_cohort(scans, tmp_path / "out", folder / "masks")
    assert (tmp_path / "out" / "follow_up.csv").read_text() == "mine"
    shutil.rmtree(tmp_path / "out")
