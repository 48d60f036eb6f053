"""Every form of `--labels` gives the names in label order, and a doubtful one is refused with a reason."""

from pathlib import Path

import pytest

from alt_ray.corpus.labels import read_labels
from alt_ray.errors import UsageError

FIELD_LISTS = Path(__file__).parents[2] / "shared" / "labels"


def write(folder: Path, name: str, content: str) -> str:
    path = folder / name
    path.write_bytes(content.encode())
    return str(path)


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ("run,walk", ("run", "walk")),
        (" run , push up,walk, ", ("run", "push up", "walk")),
        ('run, "passing, in game"', ("run", "passing, in game")),
        ("BabyCrawling,passing American football (in game)", ("BabyCrawling", "passing American football (in game)")),
    ],
)
def test_list_in_the_command_is_split_at_commas_and_kept_as_written(spec: str, labels: tuple[str, ...]) -> None:
    assert read_labels(spec) == labels


def test_list_longer_than_a_file_name_may_be_is_still_a_list() -> None:
    names = tuple(f"action {index}" for index in range(2000))
    assert read_labels(",".join(names)) == names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "run\nPushUps\nhigh jump\n"),
        ("names.txt", "\ufeffrun\r\n\r\n  PushUps\r\nhigh jump"),
        ("names", "run\nPushUps\nhigh jump\n"),
        ("names.csv", "run\nPushUps\nhigh jump\n"),
        ("names.csv", 'name\nrun\n"PushUps"\n""\nhigh jump\n'),
        ("ids.csv", "id,name\n0,run\n1,PushUps\n2,high jump\n"),
        ("ids.csv", "0,run\n1,PushUps\n2,high jump\n"),
        ("ids.csv", "2, high jump\n0, run\n1, PushUps\n"),
        ("ids.txt", "ID, Name\n1,run\n2,PushUps\n3,high jump\n"),
        ("ids.txt", "1,run\n2,PushUps\n3,high jump\n"),
        ("ids.txt", "1 run\n2 PushUps\n3 high jump\n"),
        ("ids.txt", "3\thigh jump\n2\tPushUps\n1\trun\n"),
        ("ids.txt", "id name\n0 run\n1 PushUps\n2 high jump\n"),
    ],
)
def test_every_file_format_gives_the_same_names_in_label_order(tmp_path: Path, name: str, content: str) -> None:
    assert read_labels(write(tmp_path, name, content)) == ("run", "PushUps", "high jump")


def test_ids_are_sorted_as_numbers(tmp_path: Path) -> None:
    lines = [f"{index} action{index}" for index in range(1, 12)]
    labels = read_labels(write(tmp_path, "ids.txt", "\n".join(sorted(lines))))
    assert labels == tuple(f"action{index}" for index in range(1, 12))


@pytest.mark.parametrize(
    "names",
    [
        ("3 point shot", "dunk"),
        ("100 metres", "200 metres"),
        ("1 handed catch", "1 legged squat", "2 handed catch"),
        ("1 handed catch", "catch", "2 handed catch"),
        ("class", "playground"),
        ("catching, or throwing", "100, 200 and 400 metres"),
    ],
)
def test_names_that_begin_with_a_number_or_hold_a_comma_stay_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert read_labels(write(tmp_path, "names.txt", "\n".join(names))) == names


def test_quoted_name_in_an_id_list_may_hold_a_comma(tmp_path: Path) -> None:
    assert read_labels(write(tmp_path, "ids.csv", 'id,name\n0,"pass, in game"\n1,run')) == ("pass, in game", "run")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "id,name\n0,run\n2,walk\n", "id 1 is missing"),
        ("a.csv", "1,run\n4,walk\n", "id 2 is missing"),
        ("a.csv", "5,run\n6,walk\n", "id 1 is missing"),
        ("a.txt", "id name\n1 run\n3 walk\n", "id 2 is missing"),
        ("a.csv", "0,run\n0,walk\n", "line 2: id 0 of 'walk' is taken by 'run'"),
        ("a.csv", "id,name\n\n0,run\nx,walk\n", "line 4: 'x,walk' is not an id and a name"),
        ("a.csv", "0,run\n1,\n2,walk\n", "line 2: '1,' is not an id and a name"),
        ("a.csv", "0,run\n1,pass, in game\n", "line 2: '1,pass,in game' is not an id and a name"),
        ("a.csv", "run,0\nwalk,1\n", "line 1: 'run,0' is not an id and a name"),
        ("a.csv", '0,run\n1,"walk\n', "line 2: .* close the quotes"),
        ("a.txt", "run\nwalk\nrun\n", "labels are repeated: 'run'"),
        ("a.txt", "", "no labels"),
        ("a.csv", "id,name\n", "no labels"),
        ("a.txt", "run\n", "only label is 'run', which would always be right"),
    ],
)
def test_doubtful_file_is_refused_with_its_name_and_the_reason(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=f"{name}.*{reason}"):
        read_labels(write(tmp_path, name, content))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "no labels"),
        (" , ,", "no labels"),
        ("run", "only label is 'run'"),
        ("run,walk,Run", "repeated: 'run', 'Run'"),
        ('run,"walk', "close the quotes"),
        ("lists/kinetics", "lists/kinetics: no such file"),
        ("labels.txt", "labels.txt: no such file"),
        ("labels.CSV", "labels.CSV: no such file"),
    ],
)
def test_doubtful_list_in_the_command_is_refused_with_the_reason(spec: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_labels(spec)


@pytest.mark.skipif(not FIELD_LISTS.is_dir(), reason="the label lists of the field's data sets are not here")
@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("ucf101_label_map.txt", 101, "ApplyEyeMakeup"),
        ("hmdb51_label_map.txt", 51, "brush_hair"),
        ("kinetics_label_map_k400.txt", 400, "abseiling"),
        ("kinetics_label_map_k600.txt", 600, "abseiling"),
    ],
)
def test_label_maps_of_the_field_are_read_whole(name: str, count: int, first: str) -> None:
    labels = read_labels(str(FIELD_LISTS / name))
    assert (len(labels), labels[0]) == (count, first)
