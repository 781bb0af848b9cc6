"""Yelp's files under their names of each year, and its archives by what they are."""

import gzip
import io
import tarfile
import zipfile

import prepared
import pytest
import raw_samples

from llmesr_jax.core.errors import InputError

FILES = raw_samples._yelp()
COUNTS = {"users": 4, "items": 5, "interactions": 12, "mean_length": 3.0}
NAMED = {f"yelp_academic_dataset_{kind}.json": content for kind, content in FILES.items()}


def run(tmp_path, files, *flags):
    for name, content in files.items():
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(content)
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=yelp", *flags])
    check(tmp_path)
    return outcome


def check(tmp_path):
    """The interactions of the sample and its item records were read."""
    assert prepared.sequences(tmp_path / "out") == raw_samples.SEQUENCES
    assert prepared.records(tmp_path / "out")["Comb"]["stars"] == 3.0


def zipped(files, method=zipfile.ZIP_DEFLATED):
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return found.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("name", ["yelp_dataset", "yelp_dataset.tar", "yelp_dataset.tgz", "yelp_dataset.zip",
                                  "yelp_dataset (1).json", "a/yelp"])  # fmt: skip
def test_a_tar_whatever_its_name(name, mode, tmp_path):
    outcome = run(tmp_path, {name: raw_samples.tarred(NAMED, mode)})
    assert outcome.manifest["counts"] == COUNTS


@pytest.mark.parametrize("name", ["yelp_dataset", "yelp.tar", "yelp.gz"])
def test_a_zip_whatever_its_name(name, tmp_path):
    outcome = run(tmp_path, {name: zipped({f"yelp/{k}": v for k, v in NAMED.items()})})
    assert outcome.manifest["counts"] == COUNTS


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("name", ["Yelp JSON/yelp_dataset.tar", "yelp_dataset"])
def test_a_tar_in_a_zip(name, mode, method, tmp_path):
    tar = raw_samples.tarred(NAMED, mode)
    if mode == "w:xz":  # of a tar that is compressed otherwise its name tells
        name += "" if name.endswith(".tar") else ".tar.xz"
        with pytest.raises(InputError, match="has no yelp_academic"):
            run(tmp_path, {"yelp.zip": zipped({name: tar}, method)})
        return
    outcome = run(tmp_path, {"yelp.zip": zipped({name: tar, "terms.pdf": b"%PDF"}, method)})
    assert [file["name"] for file in outcome.manifest["source"]["files"]] == ["yelp.zip"]


@pytest.mark.parametrize(
    "pattern", ["yelp_academic_dataset_{}.json", "yelp_academic_dataset_{}.json.gz", "{}.json", "{}.json.gz",
                "yelp_training_set_{}.json", "dataset/{}.json", "yelp_training_set/yelp_training_set_{}.json"],
)  # fmt: skip
def test_names_of_each_year(pattern, tmp_path):
    zip_or_not = gzip.compress if pattern.endswith(".gz") else bytes
    outcome = run(tmp_path, {pattern.format(kind): zip_or_not(content) for kind, content in FILES.items()})
    assert outcome.manifest["counts"] == COUNTS


def test_gzipped_files_without_the_ending(tmp_path):
    outcome = run(tmp_path, {name: gzip.compress(content) for name, content in NAMED.items()})
    assert outcome.manifest["counts"] == COUNTS


def test_files_of_one_release_belong_together(tmp_path):
    other = FILES["business"].replace(b"Comb", b"Other")
    run(tmp_path, {**NAMED, "business.json": other, "review.json": b"{}\n"})
    (tmp_path / "raw" / "yelp_academic_dataset_business.json").unlink()
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out2", ["--importer=yelp"])
    assert outcome.manifest["absent"] == "yelp_academic_dataset_business.json"


def test_the_same_name_twice_is_told(tmp_path):
    with pytest.raises(InputError, match=r"review.json 2 times \(.*/a/.*, .*/b/.*\); expected one; .*--raw_dir"):
        run(tmp_path, {f"{at}/{name}": content for at in "ab" for name, content in NAMED.items()})


@pytest.mark.parametrize("name", ["../review.json", "/etc/review.json", "C:/x"])
def test_an_entry_of_an_inner_tar_that_would_leave_its_folder(name, tmp_path):
    with pytest.raises(InputError, match=r"yelp.zip: refused, as its entry '"):
        run(tmp_path, {"yelp.zip": zipped({"yelp.tar": raw_samples.tarred({**NAMED, name: b""})})})


def test_a_link_of_an_inner_tar_that_would_leave_its_folder(tmp_path):
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:
        info = tarfile.TarInfo("review.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(InputError, match=r"yelp.zip: refused, as its entry '/etc/passwd'"):
        run(tmp_path, {"yelp.zip": zipped({"yelp.tar": found.getvalue()})})


@pytest.mark.parametrize("mode, keep", [("w", 2048), ("w", 2900), ("w:gz", 300), ("w:gz", -1)])
def test_an_inner_tar_that_was_cut_short(mode, keep, tmp_path):
    """After the first file, in the second one, in the compressed bytes, and in their checksum."""
    tar = raw_samples.tarred(NAMED, mode)[:keep]
    with pytest.raises(InputError, match=r"yelp.zip: is (cut short|damaged)"):
        run(tmp_path, {"yelp.zip": zipped({"yelp.tar": tar})})


def test_rows_without_an_id_and_without_stars(tmp_path):
    lines = b'{"user_id": null, "business_id": "x"}\n{"user_id": "nan", "business_id": "x"}\n'
    reviews = lines + FILES["review"].replace(b'"stars": 5.0', b'"stars": null')
    outcome = run(tmp_path, {"review.json": reviews, "business.json": b'{"business_id": ""}\n' + FILES["business"]})
    assert outcome.manifest["dropped"] == {"rows without an id": 2, "item records without an id": 1}
    flags = ["--importer=yelp", "--min_rating=1", "--max_bad_lines=0"]
    outcome = prepared.run(tmp_path / "raw", tmp_path / "rated", flags)
    assert outcome.manifest["dropped"]["rows without a rating"] == 5


def test_a_title_of_another_name(tmp_path):
    files = {kind + ".json": content.replace(b'"name"', b'"label"') for kind, content in FILES.items()}
    run(tmp_path, files, "--title_column=label")
    with pytest.raises(InputError, match="has no column 'nmae'; expected one of: .*label.*--title_column"):
        run(tmp_path, {}, "--title_column=nmae", "--overwrite")
