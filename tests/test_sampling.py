import pytest

from alt_ray.errors import UsageError
from alt_ray.video.sampling import ClipSpec, crop, resized, sample_times


def test_one_view_looks_at_the_middle_of_each_segment() -> None:
    assert sample_times(2.0, 10.0, 4) == [[3.0, 5.0, 7.0, 9.0]]


def test_views_share_the_segments_and_no_moment() -> None:
    views = sample_times(0.0, 8.0, 4, 2)
    assert views == [[0.5, 2.5, 4.5, 6.5], [1.5, 3.5, 5.5, 7.5]]


@pytest.mark.parametrize(("width", "height"), [(320, 240), (240, 320), (1920, 1080), (333, 251), (224, 224), (30, 24)])
def test_resize_and_crop_fall_on_the_pixels_of_torchvision(width: int, height: int) -> None:
    import torch
    from torchvision.transforms.v2.functional import center_crop, resize

    out_width, out_height = resized(width, height, ClipSpec())
    image = resize(torch.arange(width * height, dtype=torch.float32).reshape(1, height, width), [224], antialias=True)
    assert image.shape[1:] == (out_height, out_width)
    rows, columns = crop(out_width, out_height, 224)
    assert torch.equal(center_crop(image, [224, 224]), image[:, rows, columns])


def test_three_crops_are_both_ends_and_the_centre_of_the_longer_side() -> None:
    wide, tall = [[crop(*size, 32, number, 3) for number in range(3)] for size in ((50, 32), (32, 50))]
    assert [columns for _, columns in wide] == [slice(0, 32), slice(9, 41), slice(18, 50)]
    assert [rows for rows, _ in tall] == [slice(0, 32), slice(9, 41), slice(18, 50)]
    assert [rows for rows, _ in wide] == [columns for _, columns in tall] == [slice(0, 32)] * 3
    assert ClipSpec(num_views=4, num_crops=3, num_frames=2, image_size=32, train_views=1).shape == (13, 2, 32, 32, 3)


def test_squash_ignores_the_aspect() -> None:
    assert resized(640, 360, ClipSpec(resize_mode="squash")) == (224, 224)


def test_the_shape_counts_test_views_and_augmented_ones() -> None:
    spec = ClipSpec(num_frames=4, num_views=3, image_size=32, train_views=2)
    assert spec.shape == (5, 4, 32, 32, 3)
    assert spec.num_bytes == 5 * 4 * 32 * 32 * 3


@pytest.mark.parametrize(
    "bad",
    [
        {"num_frames": 0},
        {"num_views": -1},
        {"image_size": 0},
        {"resize_mode": "longest"},
        {"train_views": -1},
        {"num_crops": 2},
        {"num_crops": 3, "resize_mode": "squash"},
    ],
)
def test_impossible_specs_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ClipSpec(**bad)
