"""MovieLens in its published forms: wherever the release lies, and which one it is."""

import gzip
import shutil
import zipfile

import prepared
import pytest
import raw_samples

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.importers import movielens
from llmesr_jax.data.summary import describe


def unpacked(archive):
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(archive.parent)
    archive.unlink()


def run(tmp_path, *flags):
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=movielens", *flags])
    assert prepared.sequences(tmp_path / "out") == raw_samples.SEQUENCES
    return outcome


def test_genres_of_100k_are_its_flags(tmp_path):
    _, out = prepared.sample("movielens_100k", tmp_path)
    rose = prepared.records(out)['Rose & "Thorn" balm']
    assert (rose["categories"], rose["release_date"]) == (["Drama", "War"], "01-Jan-1995")
    assert prepared.records(out)["Comb"]["categories"] == ["Comedy"] and "http://x" not in rose.values()


def test_genres_of_100k_as_its_own_file_names_them(tmp_path):
    raw_samples.write("movielens_100k", tmp_path / "raw")
    folder = tmp_path / "raw" / "ml-100k"
    (folder / "u.genre").write_text("".join(f"G{n}|{n}\n" for n in reversed(range(19))) + "\n")
    run(tmp_path)
    assert prepared.records(tmp_path / "out")['Rose & "Thorn" balm']["categories"] == ["G8", "G17"]
    (folder / "u.genre").write_text("a|0\nb|2\n")
    with pytest.raises(InputError, match=r"u.genre: has no genre for some number; expected .*each number from 0"):
        prepared.run(tmp_path / "raw", tmp_path / "other", ["--importer=movielens"])


def test_another_count_of_flags_leaves_genres_out_and_says_so(tmp_path):
    raw_samples.write("movielens_100k", tmp_path / "raw")
    (tmp_path / "raw" / "ml-100k" / "u.item").write_bytes("y|Comb|1995||http://x|0|1\nw|K\xf6ln|||\n".encode("latin-1"))
    outcome = run(tmp_path)
    assert "categories" not in prepared.records(tmp_path / "out")["Comb"] and prepared.records(tmp_path / "out")["Köln"]
    assert "u.item: a movie has 2 genre flags, not 19, so its genres are left out" in describe(outcome)


def test_genres_of_csv(tmp_path):
    _, out = prepared.sample("movielens_25m", tmp_path)
    assert prepared.records(out)['Rose & "Thorn" balm']["categories"] == ["Drama", "War"]
    assert "categories" not in prepared.records(out)["Comb"]


@pytest.mark.parametrize(
    "source, name", [("movielens_100k", "ml-100k"), ("movielens", "ml-1m"), ("movielens_25m", "ml-25m")]
)
def test_a_release_in_its_zip_unpacked_or_its_files_alone(source, name, tmp_path):
    flags = raw_samples.write(source, tmp_path / "raw")
    raw = tmp_path / "raw"
    if not (raw / name).is_dir():
        run(tmp_path, *flags[1:])
        unpacked(raw / f"{name}.zip")
    shutil.make_archive(str(raw / "downloaded"), "zip", raw, name)
    run(tmp_path / ".", "--overwrite")  # the zip and what was unpacked are one
    shutil.rmtree(raw / name)
    (raw / "downloaded.zip").rename(raw / "downloaded")  # no ending
    run(tmp_path, "--overwrite", f"--release={name[3:]}")
    shutil.unpack_archive(raw / "downloaded", raw, "zip")
    (raw / "downloaded").unlink()
    for file in (raw / name).iterdir():
        file.rename(raw / file.name)
    (raw / name).rmdir()
    run(tmp_path, "--overwrite")
    for file in list(raw.iterdir()):
        (raw / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    outcome = run(tmp_path, "--overwrite")
    assert outcome.manifest["absent"] == "" and prepared.records(tmp_path / "out")["Comb"]


@pytest.mark.parametrize(
    "name, folder", [("ml-10m.zip", "ml-10M100K"), ("ml-32m.zip", "ml-32m"), ("ml-latest-small.zip", "ml-latest-small")]
)
def test_the_other_releases(name, folder, tmp_path):
    source, old = ("movielens", "ml-1m") if "10M" in folder else ("movielens_25m", "ml-25m")
    raw_samples.write(source, tmp_path / "raw")
    with zipfile.ZipFile(tmp_path / "raw" / f"{old}.zip") as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    (tmp_path / "raw" / f"{old}.zip").unlink()
    with zipfile.ZipFile(tmp_path / "raw" / name, "w") as archive:
        for member, content in members.items():
            archive.writestr(member.replace(old, folder), content)
    run(tmp_path, f"--release={name[3:-4]}")
    with pytest.raises(
        InputError, match=rf"has no ratings.dat of ml-1m; it has {folder}: {name}; expected .*--release=1m"
    ):
        prepared.run(tmp_path / "raw", tmp_path / "other", ["--importer=movielens", "--release=1m"])


def test_several_releases_want_a_name(tmp_path):
    for source in ("movielens", "movielens_25m", "movielens_100k"):
        raw_samples.write(source, tmp_path / "raw")
    with pytest.raises(InputError) as caught:
        run(tmp_path)
    told = (
        "has 3 releases (ml-100k: u.data, ml-1m: ml-1m.zip, ml-25m: ml-25m.zip); expected one; choose it with --release"
    )
    assert told in str(caught.value)
    for release, file in (("1m", "ml-1m.zip"), ("25m", "ml-25m.zip"), ("100k", "ml-100k/u.data")):
        outcome = run(tmp_path, f"--release={release}", "--overwrite")
        assert outcome.manifest["source"]["files"][0]["name"] == file


def test_what_is_not_there_says_how_to_fetch_it(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(
        InputError, match="has no u.data of ml-100k; expected .* download the release with --download --release=100k"
    ):
        run(tmp_path, "--release=100k")
    with pytest.raises(InputError, match=r"has no u.data or ratings.dat or ratings.csv; expected .*--download \(1M\)"):
        run(tmp_path)


def test_other_columns_name_the_importer_that_reads_them(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "ratings.csv").write_text("user,movie,stars\n1,2,3\n")
    with pytest.raises(InputError, match="line 1: has the columns user,movie,stars; expected userId,movieId.*=table"):
        run(tmp_path)


def test_rows_without_an_id_and_without_a_rating(tmp_path):
    raw_samples.write("movielens_100k", tmp_path / "raw")
    path = tmp_path / "raw" / "ml-100k" / "u.data"
    path.write_text(path.read_text() + "\tx\t5\t978300000\nnan\tx\t5\t978300000\n")
    path.write_text(path.read_text().replace("a\tx\t5", "a\tx\t"))
    outcome = run(tmp_path)
    assert outcome.manifest["dropped"] == {"rows without an id": 2}
    outcome = prepared.run(tmp_path / "raw", tmp_path / "rated", ["--importer=movielens", "--min_rating=0"])
    assert outcome.manifest["dropped"] == {"rows without an id": 2, "rows without a rating": 1}
    path.write_text(path.read_text().replace("a\tx\t", "a\tx\tgood"))
    with pytest.raises(InputError, match="expected a number, not 'good'"):
        run(tmp_path, "--min_rating=0", "--max_bad_lines=0", "--overwrite")


def test_downloads_of_each_release():
    for release in movielens._FOLDERS:
        found = movielens.downloads(movielens.Options(release=release))
        assert found.paths == (f"ml-{release}.zip",) and bool(found.sha256) == (release == "1m")
    assert movielens.downloads(movielens.Options()).paths == ("ml-1m.zip",)
