"""Records made by workers on a Ray cluster (`bash shell/test.sh ray`): the same bytes as in one process, whatever dies;
and what is said where Ray is missing."""

import asyncio
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from pmem.cluster.keeper import Keeper
from tests.command import PMEM, Ran, asking, ended, lines, people, pmem, question, records, sample, start, wait_for
from tests.stub import Stub

HERE = importlib.util.find_spec("ray") is not None
real = [pytest.mark.ray, pytest.mark.skipif(not HERE, reason="needs the extra 'ray' (bash shell/test.sh ray)")]
SLOW = 300
"""Seconds: a cluster's processes take long to start on a busy machine."""
AUTHOR = Path(__file__).parent / "stub_author.py"
PRICES = 'date = "2030-02-03"\n[models."stub"]\ninput = 10\noutput = 30\ncached = 10\n'
CLUSTER = (
    "import ray, sys\n"
    "context = ray.init(address='local', num_cpus=8, include_dashboard=False, log_to_driver=False,"
    " object_store_memory=200 << 20)\n"
    "print(context.address_info['gcs_address'], flush=True)\n"
    "sys.stdin.read()\n"
)


# ---- the keeper, without a cluster --------------------------------------------------------------------------------


def test_input_is_kept_until_its_results_are_written() -> None:
    async def run() -> None:
        keeper = Keeper(None, None, 2)
        waiting = asyncio.ensure_future(keeper.parcel(0))
        await asyncio.sleep(0)
        await keeper.put_parcel(b"first")
        assert await waiting == b"first" == await keeper.parcel(0)  # a reader that died begins at 0
        full = asyncio.ensure_future(keeper.put_parcel(b"second"))
        await asyncio.sleep(0.01)
        assert not full.done() and await keeper.parcel(1) == b"second"
        await keeper.done(0)
        await full
        assert await keeper.parcel(0) == b""  # written: it need only be counted
        last = asyncio.ensure_future(keeper.parcel(2))
        await keeper.end()
        assert await last is None and await keeper.close() == 0

    asyncio.run(run())


def test_what_a_dead_worker_had_set_aside_counts_as_spent() -> None:
    async def run() -> None:
        keeper = Keeper(None, 10.0, 2)
        for worker in ("a", "b"):
            await keeper.joined(worker)
        assert await keeper.reserve("a", 6.0) is None
        late = asyncio.ensure_future(keeper.reserve("a", 4.5))  # waits for the 6 to be settled, and dies
        other = asyncio.ensure_future(keeper.reserve("b", 3.0))
        await other
        await keeper.joined("a")
        await keeper.settle("b", 3.0, 0.5)
        refused = await keeper.reserve("b", 3.6)
        assert refused and refused.message.startswith("--max-cost 10: $6.50 spent, and the next call may cost $3.60")
        assert (await late) and await keeper.reserve("b", 3.5) is None
        assert await keeper.close() == 1

    asyncio.run(run())


def test_a_death_while_waiting_leaves_nothing_set_aside() -> None:
    async def run() -> None:
        keeper = Keeper(None, 10.0, 2)
        await keeper.joined("a")
        await keeper.joined("b")
        await keeper.reserve("b", 8.0)
        late = asyncio.ensure_future(keeper.reserve("a", 4.0))
        await asyncio.sleep(0)
        await keeper.joined("a")
        await keeper.settle("b", 8.0, 1.0)
        await late
        assert await keeper.reserve("b", 9.0) is None

    asyncio.run(run())


# ---- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        (["--workers", "2"], "--workers and --gpus-per-worker are for --ray"),
        (["--ray", "people"], "--ray 'people': expected HOST:PORT of a Ray cluster, auto or local"),
        (["--ray", "ray://host:1"], "expected HOST:PORT"),
        (["--ray", "--batch"], "not with --ray"),
        (["--ray=local", "--workers", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_is_said_at_once(tmp_path: Path, options: list[str], message: str) -> None:
    (tmp_path / "people").write_bytes(people(1))
    ran = pmem("personas", "people", "-m", "openai:stub", *options, folder=tmp_path)
    assert ran.status == 2 and message in ran.err


@pytest.mark.skipif(HERE, reason="Ray is installed")
def test_without_ray_the_extra_is_named(tmp_path: Path) -> None:
    ran = pmem("personas", "-m", "openai:stub", "--ray", folder=tmp_path, input=people(1))
    assert (ran.status, ran.out) == (1, b"")
    assert ran.err == "pmem: --ray needs the extra 'ray', which is not installed: pip install 'pmem[ray]'\n"


class Cluster(NamedTuple):
    """A cluster of this machine."""

    address: str
    pid: int

    def workers(self, name: str) -> list[int]:
        """The processes of its actors and tasks of that name."""
        listed = subprocess.run(["ps", "-eww", "-o", "pid=,ppid=,args="], capture_output=True, text=True).stdout
        rows = [line.split(maxsplit=2) for line in listed.splitlines()]
        parents = {int(pid): int(parent) for pid, parent, _ in rows}
        found = [int(pid) for pid, _, command in rows if command.startswith(f"ray::{name}")]
        return [pid for pid in found if self.pid in (parents[pid], parents.get(parents[pid]))]


# ---- a real cluster -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that was started in another folder."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # children get it, too: each test has a home of its own, without a token
    folder = tmp_path_factory.mktemp("cluster")
    child = start(sys.executable, "-c", CLUSTER, folder=folder, start_new_session=True)
    assert child.stdout and child.stdin
    yield Cluster(child.stdout.readline().decode().strip(), child.pid)
    child.communicate(timeout=60)
    del os.environ["RAY_AUTH_MODE"]


def spread(cluster: Cluster, *options: str) -> list[str]:
    return ["--ray", cluster.address, "--workers", "2", *options]


approx = partial(pytest.approx, rel=1e-4)


def told(ran: Ran) -> list[str]:
    """What a run says at its end, without times and what depends on them."""
    return [re.sub(r"; [\d.:]+ (s|min)$|\d+ cached|[\d,]+ tokens in", "", line) for line in ran.err.splitlines()]


def numbered(kind: str, count: int) -> bytes:
    """Records of a type with ids of their own, three of a persona, each of another user."""
    made = []
    for n in range(count):
        record = {**sample(kind), "id": f"{sample(kind)['id'][:2]}{n:016x}"}
        if "persona_id" in record:
            record["persona_id"] = f"p-{n // 3:016x}"
        if "user_id" in record:
            record["user_id"] = f"p-{n:016x}"
        made.append(record)
    return lines(made)


def asked(count: int) -> bytes:
    """Different questions."""
    return lines({**question(n), "query": f"Where do I put the number {n}?"} for n in range(count))


STAGES = {
    "personas": (people(30) + people(3) + b"\n \n" + people(2), []),
    "converse": (numbered("persona", 6), ["--implicitness", "1"]),
    "qa": (numbered("history", 14), []),
    "judge": (numbered("qa", 30), ["--votes", "2"]),
    "eval": (numbered("qa", 40), ["--context", "none", "--permutations", "2"]),
    "memdump": (numbered("history", 9), ["--into", "pages", "--window", "32k", "--trace"]),
}


@pytest.mark.parametrize("name", STAGES)
class TestEveryStage:
    pytestmark = real

    def test_two_workers_give_the_bytes_of_one_process(
        self, name: str, cluster: Cluster, stub: Stub, tmp_path: Path
    ) -> None:
        input, options = STAGES[name]
        (tmp_path / "in.jsonl").write_bytes(input)
        options = [*options, "--rejects", "rejects.jsonl"]
        stub.restart(reply=AUTHOR)
        here = pmem(name, "in.jsonl", *options, *asking(stub), "--no-cache", "-q", folder=tmp_path)
        rejects = (tmp_path / "rejects.jsonl").read_bytes()
        run = [name, "in.jsonl", *options, *asking(stub), "--no-cache", "-q", *spread(cluster)]
        there = ended(start(*PMEM, *run, folder=tmp_path), seconds=SLOW)
        assert here.out and (there.err, there.status) == (here.err, here.status)
        assert there.out == here.out and (tmp_path / "rejects.jsonl").read_bytes() == rejects


class TestRuns:
    pytestmark = real

    @pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="needs the extra 'local'")
    @pytest.mark.parametrize("scoring", ["likelihood", "reply"])
    def test_models_in_the_workers_themselves(self, scoring: str, cluster: Cluster, tmp_path: Path) -> None:
        from tests.tiny_models import saved

        (tmp_path / "in.jsonl").write_bytes(asked(60))
        run = ["eval", "in.jsonl", "--context", "none", "--scoring", scoring, "-m", f"local:{saved(tmp_path / 'tiny')}"]
        run += ["--rank", "sum", "-j", "1", "--max-tokens", "12", "--no-cache", "-q", "--usage", "usage.jsonl"]
        # floating-point sums depend on the number of threads, of which a worker has one
        here = ended(start(*PMEM, *run, folder=tmp_path, env={"OMP_NUM_THREADS": "1"}), seconds=SLOW)
        there = ended(start(*PMEM, *run, *spread(cluster), folder=tmp_path), seconds=SLOW)
        assert len(here.records) == 60 and (there.err, there.status) == ("", 0)
        if scoring == "reply":
            assert there.out == here.out
        for one, other in zip(here.records, there.records, strict=True):  # with what came before, last bits differ
            scores, others = (record.pop("likelihoods", []) for record in (one, other))
            assert one == other and len(scores) == len(others)
            for name in ("logprob", "tokens"):
                assert [score[name] for score in others] == approx([score[name] for score in scores])

    def test_rejects_notes_and_usage_are_those_of_one_process(
        self, cluster: Cluster, stub: Stub, tmp_path: Path
    ) -> None:
        found = []
        questions = asked(45).splitlines(keepends=True)  # different ones: a process asks equal ones once
        torn = b"".join([*questions[:5], b'{"type":"qa"\n', lines([sample("persona")]), *questions[5:]])
        (tmp_path / "in.jsonl").write_bytes(torn)
        options = ["--context", "none", "--mode", "open", "--judge-model", "openai:judge", "--judge-base-url", stub.url]
        for place, more in (("here", []), ("there", spread(cluster))):
            stub.restart(fault={"badschema": 0.2})
            files = ["--rejects", f"{place}.rejects", "--usage", f"{place}.usage", "-o", place]
            run = [*PMEM, "eval", "in.jsonl", *asking(stub), "--no-cache", *options, *files, *more]
            found.append(ended(start(*run, folder=tmp_path), seconds=SLOW))
        here, there = found
        assert here.status == there.status == 3
        for name in ("", ".rejects"):
            assert (tmp_path / f"here{name}").read_bytes() == (tmp_path / f"there{name}").read_bytes()
        assert told(here) == told(there) and "votes disagree" in here.err
        usage = [records((tmp_path / f"{place}.usage").read_bytes()) for place in ("here", "there")]
        for one, other in zip(*usage, strict=True):
            for name in ("calls", "invalid", "prompt_tokens", "completion_tokens", "role", "model"):
                assert one[name] == other[name]

    def test_a_bad_line_stops_the_run_with_the_same_words(self, cluster: Cluster, stub: Stub, tmp_path: Path) -> None:
        input = numbered("qa", 3) + b"{}\n" + numbered("qa", 30)
        run = ["eval", "--context", "none", *asking(stub), "--no-cache", "-q"]
        here = pmem(*run, folder=tmp_path, input=input)
        there = ended(start(*PMEM, *run, *spread(cluster), folder=tmp_path), input, seconds=SLOW)
        assert (here.status, here.err) == (there.status, there.err) and here.status == 1
        assert here.out.startswith(there.out)

    def test_a_worker_that_dies_loses_nothing(self, cluster: Cluster, stub: Stub, tmp_path: Path) -> None:
        """2,000 records, in workers that are killed twice, one with the process that hands out the input."""
        (tmp_path / "in.jsonl").write_bytes(asked(2000))
        run = ["eval", "in.jsonl", "--context", "none", *asking(stub), "-j", "32"]
        here = pmem(*run, "--no-cache", folder=tmp_path)
        stub.restart(latency=100)
        child = begun(*PMEM, *run, "--cache", "c.sqlite", *spread(cluster), folder=tmp_path)
        written = (tmp_path / "written").read_bytes
        for done, victims in ((100, ("MapWorker",)), (700, ("MapWorker", "ReadParcels"))):
            wait_for(lambda done=done: written().count(b"\n") > done, SLOW)  # type: ignore[misc]
            for name in victims:
                os.kill(cluster.workers(name)[0], signal.SIGKILL)
        status, said = end(child, SLOW)
        assert status == 0 and written() == here.out
        assert said.count("\n") == 1 and "2 workers died and began anew" in said
        counts = stub.counts()
        assert counts["distinct"] == 2000 and counts["repeats"] <= 2 * 32  # what was in flight when they died

    def test_the_driver_is_killed_and_the_same_command_goes_on(
        self, cluster: Cluster, stub: Stub, tmp_path: Path
    ) -> None:
        (tmp_path / "in.jsonl").write_bytes(asked(400))
        run = ["eval", "in.jsonl", "--context", "none", *asking(stub), "--cache", "c.sqlite", "-o", "out.jsonl"]
        here = pmem(*run[:-4], "--no-cache", folder=tmp_path)
        stub.restart(latency=300)
        child = start(*PMEM, *run, *spread(cluster), folder=tmp_path)
        part = tmp_path / "out.jsonl.part"
        wait_for(lambda: part.exists() and stub.counts()["requests"] > 150, SLOW)
        child.kill()
        end(child, 10)
        wait_for(lambda: not cluster.workers("MapWorker"), SLOW)  # they end with the run
        assert not (tmp_path / "out.jsonl").exists()
        again = ended(start(*PMEM, *run, *spread(cluster), folder=tmp_path), seconds=SLOW)
        assert again.status == 0 and (tmp_path / "out.jsonl").read_bytes() == here.out
        assert " from cache" in again.err and stub.counts()["distinct"] == 400
        assert stub.counts()["repeats"] <= 2 * 16
        before = stub.counts()["requests"]
        third = ended(start(*PMEM, *run, folder=tmp_path))  # and without workers
        assert third.status == 0 and stub.counts()["requests"] == before

    def test_the_limit_of_cost_holds_for_all_workers_together(
        self, cluster: Cluster, stub: Stub, tmp_path: Path
    ) -> None:
        (tmp_path / "people").write_bytes(people(60))
        (tmp_path / "prices.toml").write_text(PRICES)
        run = ["personas", "people", *asking(stub), "--prices", "prices.toml", "--max-tokens", "400", "-j", "4"]
        child = start(*PMEM, *run, "--max-cost", "1", "--no-cache", *spread(cluster), folder=tmp_path)
        ran = ended(child, seconds=SLOW)
        counts = stub.counts()
        paid = (counts["prompt_tokens"] * 10 + counts["completion_tokens"] * 30) / 1e6
        assert ran.status == 1 and "pmem: --max-cost 1: $" in ran.err and 0.5 < paid <= 1

    def test_ctrl_c_leaves_whole_lines(self, cluster: Cluster, stub: Stub, tmp_path: Path) -> None:
        stub.restart(latency=200)
        run = ["personas", *asking(stub), "--cache", "c.sqlite", "-j", "4", *spread(cluster)]
        child = begun(*PMEM, *run, folder=tmp_path, start_new_session=True)
        written = (tmp_path / "written").read_bytes
        assert child.stdin
        child.stdin.write(people(500))
        wait_for(lambda: written() != b"", SLOW)
        os.killpg(child.pid, signal.SIGINT)
        status, said = end(child, SLOW)
        assert status == 130 and written().endswith(b"\n")
        assert "pmem personas: interrupted: " in said and said.count("\n") == 1
        wait_for(lambda: not cluster.workers("MapWorker"), SLOW)

    def test_a_reader_that_leaves_ends_the_run_quietly(self, cluster: Cluster, stub: Stub, tmp_path: Path) -> None:
        (tmp_path / "people").write_bytes(people(300))
        run = ["personas", "people", *asking(stub), "--no-cache", "-q", *spread(cluster)]
        child = start(*PMEM, *run, folder=tmp_path)
        assert child.stdout and child.stderr
        assert child.stdout.readline()
        child.stdout.close()
        assert end(child, SLOW) == (0, "")

    def test_results_come_while_input_goes_on(self, cluster: Cluster, stub: Stub, tmp_path: Path) -> None:
        """An endless pipe: nothing waits for its end."""
        child = begun(*PMEM, "personas", *asking(stub), "--no-cache", "-q", *spread(cluster), folder=tmp_path)
        written = (tmp_path / "written").read_bytes
        assert child.stdin
        for number in range(1, 4):
            child.stdin.write(b"Somebody with the number %d.\n" % number)
            wait_for(lambda number=number: written().count(b"\n") == number, SLOW)  # type: ignore[misc]
        child.stdin.close()
        assert end(child, SLOW) == (0, "")

    def test_workers_that_always_die_end_the_run(self, cluster: Cluster, stub: Stub, tmp_path: Path) -> None:
        stub.restart(latency=60_000)
        child = start(*PMEM, "personas", *asking(stub), "--no-cache", *spread(cluster), folder=tmp_path)
        assert child.stdin
        child.stdin.write(people(2))
        child.stdin.close()
        seen = 0
        until = time.monotonic() + 400
        while child.poll() is None and time.monotonic() < until:
            if (asked := stub.counts()["requests"]) > seen:  # both work again
                seen = asked
                for pid in cluster.workers("MapWorker"):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        status, said = end(child, 10)
        assert status == 1 and said.splitlines()[-1].startswith("pmem: the cluster gave up: "), said

    def test_what_a_worker_cannot_do_is_one_line(self, cluster: Cluster, tmp_path: Path) -> None:
        for model, said in (("local:./nowhere", "./nowhere"), ("openai:m", "127.0.0.1:9")):
            run = ["personas", "-m", model, "--base-url", "http://127.0.0.1:9/v1", *spread(cluster), "--no-cache", "-q"]
            ran = ended(start(*PMEM, *run[:3], *run[3:], folder=tmp_path), people(9), seconds=SLOW)
            assert (ran.status, ran.out) == (1, b"") and said in ran.err and ran.err.count("\n") == 1

    def test_a_cluster_too_small_or_not_there(self, cluster: Cluster, tmp_path: Path) -> None:
        run = ["personas", "-m", "openai:m", "--no-cache", "-q"]
        few = ["--ray", cluster.address, "--gpus-per-worker", "1"]
        small = ended(start(*PMEM, *run, *few, folder=tmp_path), people(1), seconds=SLOW)
        assert small.err == "pmem: --ray: 1 worker needs 1 GPU, and the cluster has 0\n"
        gone = ended(start(*PMEM, *run, "--ray", "127.0.0.1:1", folder=tmp_path), people(1), seconds=SLOW)
        named = ended(start(*PMEM, *run, "--ray", folder=tmp_path, env={"RAY_ADDRESS": "127.0.0.1:1"}), people(1))
        for ran in (gone, named):
            assert ran.status == 1 and ran.err.startswith("pmem: --ray: no Ray cluster answers at 127.0.0.1:1: [")

    def test_calibration_counts_in_one_process(self, cluster: Cluster, tmp_path: Path) -> None:
        run = ["judge", "-m", "openai:m", "--calibrate", "0.5", *spread(cluster)]
        ran = pmem(*run, folder=tmp_path, input=numbered("qa", 1))
        assert ran.status == 2 and "not with --ray or --shard" in ran.err


def begun(*command: str, folder: Path, **more: bool) -> "subprocess.Popen[bytes]":
    """A child whose stdout goes to the file `written`."""
    with (folder / "written").open("wb") as file:
        return start(*command, folder=folder, stdout=file, **more)


def end(child: "subprocess.Popen[bytes]", seconds: float) -> tuple[int, str]:
    """Status and stderr of a child."""
    with child:
        try:
            assert child.stderr
            return child.wait(seconds), child.stderr.read().decode()
        finally:
            child.kill()
