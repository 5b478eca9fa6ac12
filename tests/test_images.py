"""Folders of images: what their manifest must say; images in messages as a model gets them."""

import base64
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem import images
from pmem.dataset.filler import Pool
from pmem.dataset.histories import Setup, histories, window
from pmem.errors import PmemError, RecordError
from pmem.evaluation.photos import Photos
from pmem.prompts import describe
from pmem.tokens import count_messages
from tests.command import PMEM, environment

DEMO = Path(__file__).parent.parent / "pmem" / "demo" / "images"
PNG = (DEMO / "balcony.png").read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    album = tmp_path / "album"
    (album / "home").mkdir(parents=True)
    (album / "home" / "mug.png").write_bytes(PNG)
    (album / "cat.jpg").write_bytes(b"\xff\xd8\xff\xe0 and so on")
    (album / "note.png").write_text("not an image at all")
    return album


def write(folder: Path, *lines: Any) -> None:
    text = b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)
    (folder / "manifest.jsonl").write_bytes(text)


MUG = {"file": "home/mug.png", "caption": " A mug. ", "topics": ["tea rituals"]}


def test_a_manifest_is_read(folder: Path) -> None:
    write(folder, MUG, b"", {"file": "cat.jpg", "caption": "A cat."})
    assert images.manifest(folder) == [
        images.Image("home/mug.png", "A mug.", ("tea rituals",)),
        images.Image("cat.jpg", "A cat.", ()),
    ]


def test_the_demos_manifest_is_sound() -> None:
    assert {one.file for one in images.manifest(DEMO)} == {file.name for file in DEMO.glob("*.png")}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", ":2: not JSON: "),
        ([], ":2: expected an object with file, caption and, if you like, topics"),
        ({"file": "cat.jpg", "caption": "A cat.", "topic": "cats"}, ":2: expected an object with file, caption"),
        ({"caption": "A cat."}, ":2: /file: expected a text that is not empty"),
        ({"file": "cat.jpg", "caption": "  "}, ":2: /caption: expected a text that is not empty"),
        ({"file": "cat.jpg", "caption": "A cat.", "topics": "cats"}, ":2: /topics: expected a list"),
        ({"file": "dog.png", "caption": "A dog."}, "dog.png: can't be read: No such file or directory"),
        ({"file": "home", "caption": "A home."}, "home: can't be read: Is a directory"),
        ({"file": "note.png", "caption": "A note."}, "note.png: no PNG, JPEG, GIF or WebP image"),
        ({"file": "../secret.png", "caption": "Mine."}, "../secret.png: not below "),
        ({"file": "/etc/passwd", "caption": "Mine."}, "/etc/passwd: not below "),
        ({"file": "a\0b.png", "caption": "Odd."}, "embedded null byte"),
        (MUG, "it names a file twice"),
    ],
)
def test_faults_are_named(folder: Path, line: Any, fault: str) -> None:
    (folder.parent / "secret.png").write_bytes(PNG)
    write(folder, MUG, line)
    with pytest.raises(PmemError) as raised:
        images.manifest(folder)
    assert fault in raised.value.message and "\n" not in raised.value.message
    assert str(folder / "manifest.jsonl") in raised.value.message


def test_a_missing_or_empty_manifest_is_told(folder: Path) -> None:
    with pytest.raises(PmemError, match=r"album has no manifest.jsonl: one line for each image"):
        images.manifest(folder)
    write(folder)
    with pytest.raises(PmemError, match="it names no image"):
        images.manifest(folder)


def test_a_link_that_leaves_the_folder_is_refused(folder: Path) -> None:
    (folder.parent / "secret.png").write_bytes(PNG)
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    with pytest.raises(ValueError, match="not below"):
        images.data_url(folder, "link.png")


@pytest.mark.parametrize(
    ("head", "kind"), [(PNG, "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF89a", "gif"), (b"RIFF1234WEBP", "webp")]
)
def test_types_are_told_by_content(tmp_path: Path, head: bytes, kind: str) -> None:
    (tmp_path / "x.bin").write_bytes(head)
    assert images.data_url(tmp_path, "x.bin") == f"data:image/{kind};base64,{base64.b64encode(head).decode()}"


# ---- as a model gets them ----------------------------------------------------------------------------------------


def photo(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": images.content("What is it?", url)}, {"role": "assistant", "content": "A mug."}]


def test_a_path_becomes_the_image(folder: Path) -> None:
    shown = Photos(folder).shown(photo("home/mug.png"))
    assert shown[0]["content"][1]["image_url"]["url"] == images.data_url(folder, "home/mug.png")
    assert orjson.loads(Photos(folder).shown_raw(orjson.dumps(photo("home/mug.png")))) == shown
    assert Photos(folder).shown(photo("home/mug.png"))[1] == photo("")[1]


@pytest.mark.parametrize("url", ["https://example.com/a.png", "data:image/png;base64,AAAA"])
def test_addresses_go_out_as_they_are(url: str) -> None:
    assert Photos().shown(photo(url)) == photo(url)


def test_a_path_without_its_folder_is_an_error_that_names_the_option() -> None:
    with pytest.raises(RecordError, match=r"shows the image home/mug\.png: name its folder with --images DIR"):
        Photos().shown(photo("home/mug.png"))


def test_a_path_that_leads_out_of_the_folder_is_never_sent(folder: Path) -> None:
    (folder.parent / "secret.png").write_bytes(PNG)
    with pytest.raises(RecordError, match="not below"):
        Photos(folder).shown(photo("../secret.png"))


def test_captions_stand_for_images(folder: Path) -> None:
    write(folder, MUG)
    shown = Photos(folder, as_text=True).shown(photo("home/mug.png"))
    assert shown[0]["content"] == "What is it?\n\n[photo: A mug.]"
    assert Photos(as_text=True).shown(photo("home/mug.png"))[0]["content"] == "What is it?\n\n[photo]"


def test_messages_without_images_stay_the_same_object() -> None:
    plain = [{"role": "user", "content": 'the word "image_url"'}]
    raw = orjson.dumps(plain)
    assert Photos().shown(plain) is plain and Photos().shown_raw(b'[{"role":"user"}]') == b'[{"role":"user"}]'
    assert Photos().shown_raw(raw) == raw


def test_a_history_counts_the_text_and_keeps_the_caption() -> None:
    conversation = {
        "type": "conversation", "id": "c-1", "persona_id": "p-1", "preference": None, "event": "reveals", "after": [],
        "scenario": "photo_query", "topic": "tea", "secrets": [], "persona": {}, "messages": photo("home/mug.png"),
        "image": {"file": "home/mug.png", "caption": "A mug."},
    }  # fmt: skip
    history = histories([conversation], Setup([window("32k")], Pool([], "o200k_base"), "o200k_base", 0)).histories[0]
    plain = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A mug."}]
    assert history["tokens"] == count_messages(plain, "o200k_base")
    assert history["sessions"][0]["image"] == {"file": "home/mug.png", "caption": "A mug."}
    assert describe.transcript(photo("x"), "A mug.") == "User: What is it?\n[photo: A mug.]\n\nAssistant: A mug."


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--images", "empty"], "empty has no manifest.jsonl"),
        (["--images", "gone"], "Directory 'gone' does not exist."),
        (["--embed-images"], "--embed-images and --images-as-text need --images DIR"),
        (["--images", "album", "--embed-images", "--images-as-text"], "choose one"),
        (["--judge-model", "recorded:x"], "--judge-model votes only with --implicitness VOTES"),
    ],
)
def test_wrong_use_is_told_at_once(folder: Path, options: list[str], said: str) -> None:
    import subprocess

    (folder.parent / "empty").mkdir()
    write(folder, MUG)
    shutil.copy(Path(__file__).parent / "records" / "persona.json", folder.parent / "p.json")
    done = subprocess.run(
        [*PMEM, "converse", "p.json", "-m", "recorded:none.jsonl", *options],
        cwd=folder.parent, env=environment(folder.parent), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (1, 2) and said in done.stderr
