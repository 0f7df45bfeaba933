import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.estate_files import read_estate, with_settings, write_estate
from benchmarks.trace_estate import main, peak_nodes
from optimizer.errors import EstateError

DAY = 86_400


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Four days of jobs on two clusters."""
    path = tmp_path / "trace.csv"
    path.write_text(
        "job_id,submit_s,duration_s,num_gpus,cluster\n"
        f"a,{2 * DAY + 60},3600,1,red\n"
        f"b,{2 * DAY + 120},3600,16,red\n"
        f"c,{5 * DAY + 7},600,4,blue\n"
    )
    return path


@pytest.fixture
def estate(trace: Path, tmp_path: Path) -> Path:
    out = tmp_path / "estate"
    assert main(["--jobs", str(trace), "--out", str(out)]) == 0
    return out


def resources(folder: Path) -> dict[str, dict[str, object]]:
    documents = json.loads((folder / "resources.json").read_text())
    return {document["name"]: document for document in documents}


def scale_settings(folder: Path, cluster: str) -> dict[str, object]:
    document = json.loads((folder / "resources.json").read_text())
    (properties,) = (d["properties"]["properties"] for d in document if d["name"] == cluster)
    return dict(properties["scaleSettings"])


def test_half_of_the_days_are_history_and_weekdays_stay(estate: Path) -> None:
    manifest = json.loads((estate / "estate.json").read_text())
    # Second 0 is a Thursday, so the first submit falls on a Saturday.
    assert manifest["history_start_utc"] == "2026-11-21T00:00:00Z"
    assert manifest["now_utc"] == "2026-11-23T00:00:00Z"


def test_jobs_keep_their_second_of_the_day(estate: Path) -> None:
    jobs = pd.read_parquet(estate / "jobs.parquet").set_index("job_id")
    assert jobs.submit_utc["a"] == pd.Timestamp("2026-11-21T00:01:00Z")
    assert jobs.submit_utc["c"] == pd.Timestamp("2026-11-24T00:00:07Z")


def test_a_job_takes_whole_nodes(estate: Path) -> None:
    jobs = pd.read_parquet(estate / "jobs.parquet").set_index("job_id")
    assert jobs.nodes.to_dict() == {"a": 1, "b": 2, "c": 1}
    assert jobs.gpus_needed.to_dict() == {"a": 1, "b": 8, "c": 4}


def test_the_planted_settings_stand_on_every_cluster(estate: Path) -> None:
    expected = {"maxNodeCount": 6, "minNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT120M"}
    assert scale_settings(estate, "red") == expected


def test_gpus_per_node_may_differ_by_cluster(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixed"
    assert main(["--jobs", str(trace), "--out", str(out), "--gpus-per-node", "blue=4,1"]) == 0
    jobs = pd.read_parquet(out / "jobs.parquet").set_index("job_id")
    assert jobs.nodes.to_dict() == {"a": 1, "b": 16, "c": 1}
    assert jobs.reference_sku["c"] == "Standard_NC24s_v3"


def test_whole_history_leaves_no_future(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "past"
    main(["--jobs", str(trace), "--out", str(out), "--whole-history"])
    manifest = json.loads((out / "estate.json").read_text())
    assert manifest["history_start_utc"] == "2026-11-14T00:00:00Z"
    assert manifest["now_utc"] == "2026-11-18T00:00:00Z"


def test_each_cluster_gets_a_line(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--jobs", str(trace), "--out", str(tmp_path / "out"), "--clusters", "red"])
    assert capsys.readouterr().out == (
        "red: 2 jobs, peak 3 nodes of Standard_ND40rs_v2, min 2, idle 120 min\n"
    )


def test_peak_counts_what_ends_before_what_starts() -> None:
    submit_s, duration_s = np.array([0, 10, 5]), np.array([10, 10, 1])
    assert peak_nodes(submit_s, duration_s, np.array([3, 3, 1])) == 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist"),
        ("", "is no Parquet or CSV file of jobs"),
        ("job_id,submit_s,duration_s,cluster\na,0,1,x\n", "lacks the column num_gpus"),
        ("job_id,submit_s,duration_s,num_gpus,cluster\na,-1,1,1,x\n", "submit_s that is no number"),
        (
            "job_id,submit_s,duration_s,num_gpus,cluster\na,0,?,1,x\n",
            "duration_s that is no number",
        ),
        ("job_id,submit_s,duration_s,num_gpus,cluster\n", "holds no job"),
        ("job_id,submit_s,duration_s,num_gpus,cluster\na,0,1,1,x\na,0,1,1,x\n", "job_id twice"),
    ],
)
def test_a_bad_trace_is_refused_in_one_sentence(
    content: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_text(content)
    assert main(["--jobs", str(path), "--out", str(tmp_path / "out")]) == 1
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--clusters", "green"], "has no cluster green; it has blue, red"),
        (["--gpus-per-node", "many"], "--gpus-per-node takes 8"),
        (["--gpus-per-node", "3"], "no SKU is known with 3 GPUs"),
        (["--sku", "Standard_X"], "no price is known for Standard_X"),
        (["--max-nodes", "1"], "needs 2 nodes and the maximum is 1"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    options: list[str],
    sentence: str,
    trace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--jobs", str(trace), "--out", str(tmp_path / "out"), *options]) == 1
    assert sentence in capsys.readouterr().err


def test_what_was_written_is_read_again(estate: Path, tmp_path: Path) -> None:
    write_estate(tmp_path / "again", read_estate(estate))
    for name in ("estate.json", "resources.json", "jobs.parquet", "sessions.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (estate / name).read_bytes(), name
    assert read_estate(tmp_path / "again") == read_estate(estate)


def test_settings_that_change_later_are_refused(estate: Path) -> None:
    (estate / "changes.csv").write_text("at_utc,resource_id,path,value\n")
    with pytest.raises(EstateError, match=r"has a changes\.csv"):
        read_estate(estate)


def test_settings_of_an_unknown_resource_are_refused() -> None:
    with pytest.raises(EstateError, match="holds no resource /nowhere"):
        with_settings([], {"/nowhere": {"min_nodes": 0}})
