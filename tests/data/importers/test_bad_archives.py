"""Archives that are damaged, or would write outside of their folder."""

import gzip
import io
import re
import tarfile
import zipfile

import prepared
import pytest
import raw_samples
from spoiled import FILES


@pytest.mark.parametrize("source", [name for name, file in FILES.items() if file.endswith(".gz")])
def test_a_gz_that_was_cut_short_or_is_none(source, refused, tmp_path):
    flags = raw_samples.write(source, tmp_path / "raw")
    path = tmp_path / "raw" / FILES[source]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert f"/raw/{path.name}: is cut short" in refused(*flags)
    path.write_bytes(gzip.decompress(whole))
    assert re.search(rf"/raw/{path.name}: is damaged \(Not a gzipped file \(.*'\)\); expected", refused(*flags))
    path.write_bytes(whole[:-8] + b"\0" * 8)
    assert f"/raw/{path.name}: is damaged" in refused(*flags)


def archive_with(path, names):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "1::2::3::4\n")
        return
    with tarfile.open(path, "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"{}\n"))


def test_a_zip_entry_without_a_name_is_passed_over(tmp_path):
    path = tmp_path / "raw" / "ml-1m.zip"
    flags = raw_samples.write("movielens", path.parent)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"")
    assert prepared.run(path.parent, tmp_path / "out", flags).fresh


@pytest.mark.parametrize(
    "name", ["../ratings.dat", "/etc/ratings.dat", "a/../../ratings.dat", "..\\ratings.dat", "C:/x"]
)
def test_a_zip_entry_that_would_leave_its_folder(refused, tmp_path, name):
    (tmp_path / "raw").mkdir()
    archive_with(tmp_path / "raw" / "ml-1m.zip", ["ml-1m/ratings.dat", name])
    assert "/raw/ml-1m.zip: refused, as its entry" in refused("--importer=movielens")


@pytest.mark.parametrize("name", ["../yelp_academic_dataset_review.json", "/tmp/x"])
def test_a_tar_entry_that_would_leave_its_folder(refused, tmp_path, name):
    (tmp_path / "raw").mkdir()
    archive_with(tmp_path / "raw" / "yelp.tar", ["yelp_academic_dataset_review.json", name])
    assert "/raw/yelp.tar: refused, as its entry" in refused("--importer=yelp")


def test_a_tar_link_that_would_leave_its_folder(refused, tmp_path):
    (tmp_path / "raw").mkdir()
    with tarfile.open(tmp_path / "raw" / "yelp.tar", "w") as archive:
        info = tarfile.TarInfo("yelp_academic_dataset_review.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert "/raw/yelp.tar: refused, as its entry '/etc/passwd'" in refused("--importer=yelp")


@pytest.mark.parametrize("source", ["movielens", "yelp", "yelp_zip", "movielens_25m"])
def test_a_damaged_archive(source, refused, tmp_path):
    flags = raw_samples.write(source, tmp_path / "raw")
    (path,) = (tmp_path / "raw").iterdir()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 5])
    message = refused(*flags)
    assert f"/raw/{path.name}" in message and ("damaged" in message or "cut short" in message)
