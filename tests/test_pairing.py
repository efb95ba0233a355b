"""Which files are one image, what lies beside it, and what a table says of it - by names alone."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from pipeline.config import Config, load
from pipeline.config.inputs import TAKEN
from pipeline.discover import Listing, list_members
from pipeline.errors import ConfigError
from pipeline.pairing import lookup
from pipeline.patterns import Pattern, compile_globs, text_of
from pipeline.plan import Plan
from pipeline.types import Failure, Source
from pipeline.writers.parquet import IMAGES, images_schema

Listed = Callable[..., Listing]


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    """List files of these names, which are empty, as a config's section `input` says."""

    def list_names(names: Iterable[str], section: str, **files: str) -> Listing:
        for name in names:
            path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/" + os.fsencode(name)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        config = configured(tmp_path, section, **files)
        return list_members(config.input, now=time.time())

    return list_names


def configured(folder: Path, section: str, **files: str) -> Config:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    section = section.replace("TABLE", str(folder / "table.csv"))
    path = folder / "c.yaml"
    text = f"version: 1\ninput: {{path: {folder}/in, {section}}}\nfilters: [sobel]\n"
    path.write_text(f"{text}output: {{path: {folder}/out}}\n")
    return load(path)


def files(source: Source) -> list[str]:
    return [member.name for member in source.members]


def failures(listing: Listing) -> dict[str, Failure | None]:
    return {source.key: source.failure for source in listing.sources}


# ---------------------------------------------------------------- patterns
@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("{p}/{day}/*_{band}.tif", "a/b/c_d_B04.tif", {"p": "a", "day": "b", "band": "B04"}),
        ("{p}/{day}/*_{band}.tif", "a/b/c/d_B04.tif", None),
        ("{p}.png", "deep/er/é #1.png", {"p": "é #1"}),
        ("**/{p}.png", "x/y.png", {"p": "y"}),
        ("{p}/{p}_*.tif", "a/a_1.tif", {"p": "a"}),
        ("{p}/{p}_*.tif", "a/b_1.tif", None),
        ("{a}_{b}.tif", "1_2_3.tif", {"a": "1_2", "b": "3"}),
        ("{a}_{b}.tif", "_2.tif", None),
        ("./{n}.tif", "a.tif", {"n": "a"}),
        ("./{n}.tif", "a/a.tif", None),
        ("[ab]{n}.tif", "b{n}.tif", {"n": "{n}"}),
        ("[{]{n}[}].tif", "{7}.tif", {"n": "7"}),
    ],
)
def test_a_field_stands_for_characters_of_one_part(
    pattern: str, name: str, found: dict[str, str] | None
) -> None:
    assert Pattern(pattern).match(name) == found


def tried(tokens: Sequence[str], name: str, fields: dict[str, str]) -> dict[str, str] | None:
    """Match by trying everything, first what takes most at the first wildcard."""
    if not tokens:
        return None if name else fields
    token, *rest = tokens
    if token == "**/":
        cuts = (n for n in range(len(name), -1, -1) if n == 0 or name[n - 1] == "/")
        return next((f for i in cuts if (f := tried(rest, name[i:], fields)) is not None), None)
    if token == "*" or token[0] == "{":
        longest = len(name.partition("/")[0])
        for n in range(longest, 0 if token[0] == "{" else -1, -1):
            if fields.get(token, name[:n]) == name[:n]:
                found = fields | ({token: name[:n]} if token[0] == "{" else {})
                if (f := tried(rest, name[n:], found)) is not None:
                    return f
        return None
    fits = name[:1] == token or (token == "?" and name[:1] not in ("", "/"))
    return tried(rest, name[1:], fields) if fits else None


def test_patterns_match_what_trying_everything_finds() -> None:
    rng = random.Random(7)
    tokens = ("a", "_", "/", "*", "?", "{x}", "{y}", "{z}", "**/")
    hits = 0
    for _ in range(4000):
        parts: list[str] = []
        for token in rng.choices(tokens, k=6):
            if "".join(["/", *parts])[-1] == "/" or (token != "**/" and [token] != parts[-1:]):
                parts.append(token)
        pattern = Pattern("./" + "".join(parts))
        for _ in range(3):
            name = "/".join(
                "".join(rng.choices("a_b", k=rng.randint(1, 4))) for _ in range(rng.randint(1, 3))
            )
            found = tried(parts, name, {})
            plain = None if found is None else {field[1:-1]: text for field, text in found.items()}
            assert pattern.match(name) == plain, (pattern.text, name)
            hits += plain is not None
    assert hits > 400


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{a}{b}{c}{d}{e}.png", "x" * 200 + ".tif"),
        ("**/*a*a*a*a*a*a.png", "a" * 200 + ".tif"),
        ("{a}_{b}_{c}_{d}_{e}_{f}.png", "_".join("a" * 100) + ".tif"),
        ("a/**/*a*a*/**/*b*b*/**/c*", "/".join(["a" * 50] * 40)),
    ],
)
def test_a_long_name_is_matched_in_no_time(pattern: str, name: str) -> None:
    began = time.process_time()
    assert Pattern(pattern).match(name) is None
    assert not compile_globs((pattern.replace("{", "[{]"), pattern))(name)
    assert time.process_time() - began < 0.1


def test_a_class_of_characters_matches_no_slash_and_may_hold_any_bracket() -> None:
    match = compile_globs(("s/a[!b]c.tif", "[[]*.png", "[]&&~|]x", "s/[a-"))
    names = {"s/a/c.tif": False, "s/axc.tif": True, "s/abc.tif": False, "[1.png": True}
    names |= {"1.png": False, "&x": True, "]x": True, "zx": False, "s/[a-": True, "s/a": False}
    assert {name: match(name) for name in names} == names


def test_a_key_keeps_the_place_of_a_field() -> None:
    twice = Pattern("{p}/x_{band}/50%_{band}.tif")
    assert twice.without("{p}/x_B1/50%_B1.tif", "band") == "{p}/x_{band}/50%25_{band}.tif"
    assert Pattern("*_{band}.tif").without("a/b/c_d_B1.tif", "band") == "a/b/c_d_{band}.tif"


def test_names_of_fields_are_none_of_the_tables_own() -> None:
    assert frozenset({*IMAGES.names, "region"}) == TAKEN


# ---------------------------------------------------------------- fields
def test_fields_are_columns_of_text_and_null_where_a_pattern_has_none(listed: Listed) -> None:
    found = listed(
        ["p1/mon/a.tif", "p1/b.tif", b"p\xe9/tue/c.tif", "c.png"],
        "include: ['{who}/{day}/*.tif', '{who}/{what}.tif']",
    )
    assert {s.key: dict(s.fields) for s in found.sources} == {
        "p1/b.tif": {"who": "p1", "what": "b"},
        "p1/mon/a.tif": {"who": "p1", "day": "mon"},
        "p%E9/tue/c.tif": {"who": "p%E9", "day": "tue"},
    }
    assert found.skipped == Counter({"not included": 1})


def test_fields_of_hostile_names_are_text_and_no_two_are_alike(shared: Path) -> None:
    names = json.loads((shared / "hostile" / "names.json").read_text())
    parts = {n for n in names if n and "/" not in n and "\0" not in n and n not in (".", "..")}
    parts |= {"caf%E9", "caf\udce9", "50%", "{who}"}
    fields = {part: Pattern("{who}/*.png").match(f"{part}/a.png") for part in parts}
    assert fields == {part: {"who": part} for part in parts}
    texts = {text_of(part) for part in parts}
    assert len(texts) == len(parts)
    assert all(text.encode() for text in texts)


def test_the_config_alone_decides_the_columns(tmp_path: Path) -> None:
    section = "include: ['{who}/*_{band}.tif', '{day}.tif'], join: band, table: TABLE"
    config = configured(tmp_path, section, table="who,scale,site,image\n").input
    assert config.columns == ("who", "day", "site")
    assert images_schema(config.columns).names == [*IMAGES.names, "who", "day", "site"]


# ---------------------------------------------------------------- bands
def test_files_that_differ_only_in_the_joined_field_are_one_image(listed: Listed) -> None:
    names = [f"{t}/{d}_{b}.jp2" for t in "ab" for d in "12" for b in ("B2", "B10", "B1")]
    found = listed([*names, "a/x.txt"], "include: ['{tile}/*_{band}.jp2'], join: band")
    assert [s.key for s in found.sources] == [f"{t}/{d}_{{band}}.jp2" for t in "ab" for d in "12"]
    assert files(found.sources[0]) == ["a/1_B1.jp2", "a/1_B2.jp2", "a/1_B10.jp2"]
    assert found.sources[0].fields == (("tile", "a"),)
    assert {s.layout for s in found.sources} == {"joined"}


def test_bands_choose_and_order_the_files(listed: Listed) -> None:
    """A Sentinel-2 product, as its folders are."""
    inside = "S2A.SAFE/GRANULE/L2A/IMG_DATA/R10m"
    names = [f"{inside}/T31_{b}_10m.jp2" for b in ("AOT", "B02", "B03", "B04", "B08", "TCI")]
    section = "include: ['{product}.SAFE/GRANULE/*/IMG_DATA/R10m/*_{band}_10m.jp2'], join: band"
    found = listed(names, f"{section}, bands: [B08, B04]")
    (source,) = found.sources
    assert source.key == f"{inside}/T31_{{band}}_10m.jp2"
    assert files(source) == [f"{inside}/T31_{band}_10m.jp2" for band in ("B08", "B04")]
    assert found.skipped == Counter({"band not in input.bands": 4})


def test_a_missing_band_fails_its_image_by_name(listed: Listed) -> None:
    found = listed(
        ["a_B1.tif", "a_B2.tif", "b_B2.tif", "c_B9.tif"],
        "include: ['*_{band}.tif'], join: band, bands: [B1, B2]",
    )
    lost = Failure("incomplete", "no file for band B1 of input.bands; add it, or name other bands")
    assert failures(found) == {"a_{band}.tif": None, "b_{band}.tif": lost}
    assert found.skipped == Counter({"band not in input.bands": 1})


# ---------------------------------------------------------------- masks and classes
MASKED = "include: ['{p}/img.nii.gz'], mask: {path: '{p}/roi_{rater}.nii.gz'"


def test_masks_are_found_by_the_fields_they_share(listed: Listed) -> None:
    names = [f"{p}/{n}.nii.gz" for p in ("p1", "p2") for n in ("img", "roi_jo", "roi_al")]
    found = listed([*names, "p3/roi_jo.nii.gz"], MASKED + "}")
    assert {s.key: [(r, m.name) for r, m in s.masks] for s in found.sources} == {
        f"{p}/img.nii.gz": [("al", f"{p}/roi_al.nii.gz"), ("jo", f"{p}/roi_jo.nii.gz")]
        for p in ("p1", "p2")
    }
    assert found.skipped == Counter({"mask or qa layer": 5})


@pytest.mark.parametrize("rule", ["fail", "skip", "image"])
def test_an_image_without_a_mask_is_what_the_config_says(listed: Listed, rule: str) -> None:
    names = ["p1/img.nii.gz", "p1/roi_al.nii.gz", "p2/img.nii.gz"]
    found = listed(names, f"{MASKED}, missing: {rule}}}")
    why = "no mask: no file matches '{p}/roi_{rater}.nii.gz' with p='p2'"
    assert (
        failures(found)
        == {
            "fail": {"p1/img.nii.gz": None, "p2/img.nii.gz": Failure("incomplete", why)},
            "skip": {"p1/img.nii.gz": None},
            "image": {"p1/img.nii.gz": None, "p2/img.nii.gz": None},
        }[rule]
    )
    assert found.skipped["no mask"] == (rule == "skip")


def test_two_masks_of_one_rater_are_named(listed: Listed) -> None:
    names = ["p1/img.nii.gz", "p1/a/roi.nii.gz", "p1/b/roi.nii.gz"]
    found = listed(names, "include: ['{p}/img.nii.gz'], mask: {path: '{p}/*/roi.nii.gz'}")
    why = "several files for one mask: p1/a/roi.nii.gz, p1/b/roi.nii.gz"
    assert failures(found) == {"p1/img.nii.gz": Failure("incomplete", why)}


def test_a_pattern_without_folders_names_what_lies_beside_the_image(listed: Listed) -> None:
    names = [f"{p}/{n}.png" for p in "ab" for n in ("1", "1_mask")]
    found = listed(names, "include: ['{n}.png'], mask: {path: '{n}_mask.png'}")
    assert {s.key: [m.name for _, m in s.masks] for s in found.sources} == {
        "a/1.png": ["a/1_mask.png"],
        "b/1.png": ["b/1_mask.png"],
    }


def test_masks_are_no_images_where_every_image_is_taken(listed: Listed) -> None:
    found = listed(["a.png", "roi.png", "classes.png"], "mask: {path: roi.png}, exclude: ['c*']")
    assert [(s.key, [m.name for _, m in s.masks]) for s in found.sources] == [
        ("a.png", ["roi.png"])
    ]
    assert found.skipped == Counter({"mask or qa layer": 1, "excluded": 1})


def test_a_layer_of_classes_goes_with_all_bands(listed: Listed) -> None:
    names = [f"{p}/{d}_{b}.jp2" for p in "xy" for d in "1" for b in ("B2", "B3", "SCL")]
    qa = "{path: '{tile}/*_SCL.jp2', invalid: [3]}"
    section = f"include: ['{{tile}}/*_B{{band}}.jp2'], join: band, qa: {qa}"
    found = listed([*names, "z/1_B2.jp2"], section)
    assert [s.qa and s.qa.name for s in found.sources] == ["x/1_SCL.jp2", "y/1_SCL.jp2", None]
    assert found.sources[0].invalid == (3,)
    assert [m.name for m in found.sources[0].files] == ["x/1_B2.jp2", "x/1_B3.jp2", "x/1_SCL.jp2"]
    why = "no qa layer: no file matches '{tile}/*_SCL.jp2' with tile='z'"
    assert found.sources[2].failure == Failure("incomplete", why)


def test_the_masks_of_a_file_that_is_given_are_looked_for_in_its_folder(tmp_path: Path) -> None:
    for name in ("a.png", "a_mask.png", "b.png"):
        (tmp_path / name).touch()
    config = configured(tmp_path, "include: ['{n}.png'], mask: {path: '{n}_mask.png'}").input
    found = list_members(
        type(config)(path=(f"{tmp_path}/a.png",), include=config.include, mask=config.mask),
        now=time.time(),
    )
    assert [(s.key, [m.name for _, m in s.masks]) for s in found.sources] == [
        ("a.png", ["a_mask.png"])
    ]


# ---------------------------------------------------------------- age
@pytest.mark.parametrize("young", ["a_B2.tif", "a_mask.tif", "a_qa.tif"])
def test_a_young_file_holds_back_the_image_it_belongs_to(
    listed: Listed, tmp_path: Path, young: str
) -> None:
    names = [f"{n}_{what}.tif" for n in "ab" for what in ("B1", "B2", "mask", "qa")]
    section = (
        "include: ['{n}_B{band}.tif'], join: band, min_age: 1h, "
        "mask: {path: '{n}_mask.tif'}, qa: {path: '{n}_qa.tif', invalid: [0]}"
    )
    assert listed(names, section).sources == ()  # the fixture made them a moment ago
    for name in names:
        os.utime(tmp_path / "in" / name, (0, 0))
    os.utime(tmp_path / "in" / young)
    config = configured(tmp_path, section).input
    found = list_members(config, now=time.time())
    assert [s.key for s in found.sources] == ["b_B{band}.tif"]
    assert found.waiting == ("a_B1.tif", "a_B2.tif")


# ---------------------------------------------------------------- tables
def test_a_row_is_found_by_fields_and_key_and_missing_ones_are_empty(tmp_path: Path) -> None:
    section = "include: ['{who}/{day}.tif'], table: TABLE, mask: {labels: all}"
    text = '\ufeffwho,day,scale,note,mask\np1,1,2.5,"a, b",m/1.tif\nzo\u00eb,1,,c,\n'
    config = configured(tmp_path, section, table=text).input
    find = lookup(config)
    assert find((("who", "p1"), ("day", "1")), "p1/1.tif") == {
        "scale": "2.5", "note": "a, b", "mask": "m/1.tif",
    }  # fmt: skip
    assert find((("who", "zoe\u0308"), ("day", "1")), "x") == {"note": "c"}
    assert find((("who", "p1"), ("day", "2")), "x") == {}
    by_key = configured(tmp_path, "table: TABLE", table="image,note\na#page=2,x\n").input
    assert [lookup(by_key)((), f"a#page={page}") for page in (1, 2)] == [{}, {"note": "x"}]


def test_the_table_names_masks(listed: Listed) -> None:
    found = listed(
        ["a.tif", "b.tif", "c.tif", "m/1.tif", "m/2.tif"],
        "include: ['{n}.tif'], table: TABLE, mask: {labels: all}",
        table="n,mask\na,m/1.tif\nb,m/3.tif\nm/1,x\n",
    )
    masks = {s.key: [m.name for _, m in s.masks] for s in found.sources}
    assert masks == {"a.tif": ["m/1.tif"], "b.tif": [], "c.tif": [], "m/2.tif": []}
    assert {key: f and f.error for key, f in failures(found).items()} == {
        "a.tif": None,
        "b.tif": "no mask: no file m/3.tif, which the table names",
        "c.tif": "no mask: the table names none for n='c'",
        "m/2.tif": "no mask: the table names none for n='2'",
    }


@pytest.mark.parametrize("rule", ["fail", "skip", "image"])
def test_a_mask_that_the_table_names_must_be_there(listed: Listed, rule: str) -> None:
    section = f"include: ['{{n}}.tif'], table: TABLE, mask: {{missing: {rule}}}"
    found = listed(["a.tif", "b.tif"], section, table="n,mask\na,m/1.tif\nb,\n")
    why = Failure("incomplete", "no mask: no file m/1.tif, which the table names")
    assert failures(found)["a.tif"] == why
    assert ("b.tif" in failures(found)) == (rule != "skip")


def test_a_mask_is_found_however_its_accents_are_spelled(listed: Listed) -> None:
    composed, parted = "zo\u00eb.tif", "zoe\u0308.tif"
    found = listed(
        ["a.tif", "b.tif", f"m/{parted}", f"n/{composed}", f"n/{parted}"],
        "include: ['{n}.tif'], table: TABLE, mask: {labels: all}",
        table=f"n,mask\na,m/{composed}\nb,n/{parted}\n",
    )
    masks = {s.key: [m.name for _, m in s.masks] for s in found.sources}
    assert masks == {"a.tif": [f"m/{parted}"], "b.tif": [f"n/{parted}"]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"table.csv is empty \(got no line\); give it a header"),
        (
            "who,who\n",
            r"1: has a column 'who' \(got \['who', 'who'\]\); give each a name of its own",
        ),
        ("who,\n", r"table.csv:1: has a column ''"),
        (
            "who,a\np1\n",
            r"table.csv:2: has 1 cells, the header 2 \(got \['p1'\]\); make them alike",
        ),
        ("who,scale\np1,x\n", r"table.csv:2: scale must be a number other than 0 \(got 'x'\)"),
        ("who,scale\np1,0\n", r"scale must be a number other than 0 \(got '0'\)"),
        ("who,offset\np1,nan\n", r"offset must be a number \(got 'nan'\)"),
        ("who,spacing\np1,1 2 3 4\n", r"spacing must be a pixel size"),
        ("who\np1\np2\np1\n", r"table.csv:4: repeats who='p1' of line 2"),
        ("a,b\n1,2\n", r"has no column to join on \(got a, b\); give it one of: who, image"),
        ("who,Shape\n", r"has a column 'Shape', a name that is taken; rename it"),
        ("who,mask\n", r"has a column mask; add mask: {labels: all}"),
        ('who\n"p1', r"cannot be read: unexpected end of data"),
    ],
)
def test_a_table_that_cannot_be_joined_is_a_config_error(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=rf"c\.yaml:2:\d+: input\.table: .*{says}"):
        configured(tmp_path, "include: ['{who}.tif'], table: TABLE", table=text)


def test_a_mask_of_a_page_or_a_series_is_a_config_error(tmp_path: Path) -> None:
    """They are known after masks are given to files; it would be ignored."""
    section = "table: TABLE, mask: {missing: image}"
    text = "image,mask\na.tif,m.tif\nct#series=1,{}\n"
    assert configured(tmp_path, section, table=text.format("")).input.table
    with pytest.raises(ConfigError, match=r"table\.csv:3: names the mask of a page or series"):
        configured(tmp_path, section, table=text.format("m.dcm"))


def test_fields_that_differ_in_case_only_are_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"input\.include: holds {Case} and {case}, one name"):
        configured(tmp_path, "include: ['{Case}/a.png', '{case}/b/*.png']")


def test_a_table_that_is_no_text_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"who\nZo\xeb\n")
    with pytest.raises(ConfigError, match=r"input\.table: cannot be read: 'utf-8' codec"):
        configured(tmp_path, f"include: ['{{who}}.tif'], table: {tmp_path}/latin.csv")


def test_values_and_patterns_are_not_in_the_plan_but_columns_are(tmp_path: Path) -> None:
    def digest(section: str, table: str = "who\n") -> str:
        return Plan(configured(tmp_path, section, table=table), "cpu").digest

    one = digest("include: ['{who}/*.tif'], table: TABLE", "who,note,age\na,1,2\n")
    assert one == digest("include: ['{who}.tif'], table: TABLE", "age,who,note,scale\n1,a,2,3\n")
    assert one != digest("include: ['{who}.tif'], table: TABLE", "who,age\n")
    assert one != digest("include: ['{day}.tif']")
