"""A realistic record of a run, for tests of the report: PASS, FAIL or INVALID."""

from __future__ import annotations

from harness.config.shipped import find_topology
from harness.config.topology_file import load_topology
from harness.model.measurement import Certificate, LinkCertificate, LinkCounters, MeasuringNoise
from harness.model.run_record import Environment, RunRecord, TestRecord, WanChange
from harness.model.topology import Topology
from harness.model.verdict import Verdict
from harness.plan.intervals import ANYTHING
from harness.plan.quantities import judged, told


def sample_record(verdict: Verdict = Verdict.PASS, topology_name: str = "four-sites-mobile") -> RunRecord:
    """Fourteen tests on a shipped topology. FAIL: two tests failed. INVALID: so are one link and one test."""
    topology = load_topology(find_topology(topology_name))
    certificate = _certificate(topology, broken=verdict is Verdict.INVALID)
    links = certificate.links
    reasons: tuple[str, ...] = ()
    if verdict is Verdict.FAIL:
        reasons = ("2 tests failed: Both sides write while Sydney is cut off; A killed mover resumes",)
    if verdict is Verdict.INVALID:
        reasons = (links[1].reason.capitalize() + " (virginia > tokyo).",)
    return RunRecord(
        run_id="2026-03-14T09-26-53-7f3a",
        lab_id="a1b2c3",
        sut="syncer",
        verdict=verdict,
        exit_code={Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INVALID: 4}[verdict],
        reasons=reasons,
        started_at="2026-03-14T09:26:53.120000+00:00",
        finished_at="2026-03-14T09:31:36.420000+00:00",
        elapsed_s=283.3,
        lab_up_s=2.62,
        lab_down_s=0.94,
        topology=topology,
        certificate=certificate,
        counters=tuple(
            LinkCounters(
                source=link.source,
                destination=link.destination,
                packets=184_220 + 977 * index,
                bytes=231_000_000 + 1_310_000 * index,
                dropped_loss=312 + index if link.impairment.mean_loss else 0,
                dropped_queue=41 * (index % 3),
            )
            for index, link in enumerate(topology.links)
        ),
        tests=_tests(topology, verdict),
        environment=Environment(
            host_kernel="6.18.5",
            core_placement="vm",
            core_kernel="6.12.57+deb13-cloud-amd64",
            core_detail="QEMU 7.2 TCG, 256 MB, booted in 5.1 s",
            cpu="AMD EPYC 7B13",
            cpus=2,
            memory_bytes=8_255_000_000,
            python="3.11.2",
            versions={"longhaul": "0.1.0", "syncer": "0.1.0", "robotframework": "7.3.2", "OpenSSH": "9.2p1"},
            congestion_control="cubic",
            seed=424_242,
            command="longhaul run suites/wan -t topologies/four-sites-mobile.yaml --seed 424242",
            revision="2398268",
        ),
        workload={"files": 3_214, "total_bytes": 148_200_000, "source": "/usr/lib/python3.11"},
        artifacts=(
            "log.html",
            "report.html",
            "output.xml",
            "history.jsonl",
            *(
                f"logs/{site}/{name}.log"
                for site in topology.site_names
                for name in ("coordinator", "mover-udt", "sshd")
            ),
        ),
    )


def _certificate(topology: Topology, *, broken: bool) -> Certificate:
    return Certificate(
        depth="full",
        started_at="2026-03-14T09:26:55+00:00",
        elapsed_s=41.2,
        links_in_lab=len(topology.links),
        noise=MeasuringNoise(loopback_median_us=11.2, loopback_p99_us=34.5, late_p99_us=61.0, late_max_us=410.0),
        links=tuple(
            _link_certificate(topology, index, bad=broken and index == 1) for index in range(len(topology.links))
        ),
    )


def _link_certificate(topology: Topology, index: int, *, bad: bool) -> LinkCertificate:
    link = topology.links[index]
    impairment = link.impairment
    back = topology.link(link.destination, link.source).impairment
    rtt = impairment.delay_us + back.delay_us + 42.0
    error = rtt * 0.06 if bad else 120.0 + 30 * (index % 4)
    one_way = impairment.delay_us + 21.0
    loss = impairment.mean_loss
    sent = 20_000 if loss else 400
    lost = round(sent * loss)
    spread = 60 + impairment.jitter_us / 2
    quantities = [
        judged(
            "one-way delay", "us", requested=one_way, measured=one_way + error / 2, samples=400, method="median",
            interval=(one_way + error / 2 - 40, one_way + error / 2 + 40), tolerance=max(1_000.0, one_way * 0.02),
            within=ANYTHING,
        ),
        judged(
            "rtt", "us", requested=rtt, measured=rtt + error, samples=400, method="median",
            interval=(rtt + error - 40, rtt + error + 40), tolerance=max(1_000.0, rtt * 0.02), within=ANYTHING,
        ),
        judged(
            "loss", "share", requested=loss, measured=lost / sent, samples=sent, method="Clopper and Pearson",
            interval=(max(0.0, lost / sent - 0.002), lost / sent + 0.004), within=ANYTHING,
        ),
        judged(
            "reordering", "share", requested=0.0, measured=0.0, samples=sent, method="RFC 4737", interval=(0.0, 0.0003),
            within=ANYTHING,
        ),
    ]  # fmt: skip
    if impairment.rate_bps is not None:
        rate = float(impairment.rate_bps)
        quantities.append(
            judged(
                "rate",
                "bps",
                requested=rate,
                measured=rate * 0.998,
                samples=700,
                method="arrivals",
                interval=(rate * 0.995, rate * 1.001),
                within=ANYTHING,
                tolerance=rate * 0.015,
            )
        )
    middle = one_way + error / 2
    steps = (-1.1, -1.0, -0.9, -0.7, -0.4, 0.0, 0.5, 1.1, 1.9, 4.0, 9.0)
    reason = "; ".join(told(quantity) for quantity in quantities if quantity.verdict is Verdict.INVALID)
    return LinkCertificate(
        source=link.source,
        destination=link.destination,
        depth="full",
        rounds=3 if bad else 1,
        sent=sent,
        received=sent - lost,
        quantities=tuple(quantities),
        delay_quantiles_us=tuple(round(middle + spread * step, 1) for step in steps),
        verdict=Verdict.INVALID if bad else Verdict.PASS,
        reason=reason,
    )


def _tests(topology: Topology, verdict: Verdict) -> tuple[TestRecord, ...]:
    plan = [
        ("smoke", "A new file reaches every site", 6.2, ("smoke", "create")),
        ("smoke", "A change reaches every site", 5.1, ("smoke", "change")),
        ("smoke", "A deletion reaches every site", 4.4, ("smoke", "delete")),
        ("smoke", "A renamed directory keeps its content", 7.9, ("smoke", "rename")),
        ("smoke", "Two writers leave two versions", 9.3, ("smoke", "conflict")),
        ("wan", "A real tree converges over long links", 48.7, ("wan", "tree")),
        ("wan", "A large file arrives over a lossy link", 31.2, ("wan", "loss")),
        ("wan", "Both sides write while Sydney is cut off", 44.0, ("wan", "partition")),
        ("wan", "A slow link does not hold up the others", 22.5, ("wan", "rate")),
        ("mobile", "An upload survives a handover", 38.1, ("mobile", "handover")),
        ("mobile", "A bloated buffer does not stop metadata", 17.6, ("mobile",)),
        ("faults", "A killed coordinator resumes", 14.8, ("faults", "kill")),
        ("faults", "A killed mover resumes", 16.4, ("faults", "kill")),
        ("faults", "A full disk is reported", 0.0, ("faults", "disk")),
    ]
    failing = {
        "Both sides write while Sydney is cut off": "3 of 120 versions are gone at tokyo, neither current nor as a "
        "conflict copy:\n  notes/plan-07.txt (written at sydney, 12.4 s)\n  "
        "notes/plan-11.txt (written at sydney, 13.0 s)\n  photos/<b>été</b>.jpg (written at virginia, 13.9 s)",
        "A killed mover resumes": "sydney had not converged after 15 s: 14 of 3,214 files differ from virginia",
    }
    tests = []
    clock = 4.0
    for suite, name, elapsed, tags in plan:
        status, message = "PASS", ""
        if elapsed == 0:
            status, message = "SKIP", "needs a sized filesystem, which this lab does not have"
        elif verdict is Verdict.FAIL and name in failing:
            status, message = "FAIL", failing[name]
        elif verdict is Verdict.INVALID and name.startswith("A large file"):
            status, message = "INVALID", "virginia > tokyo dropped no packet although it loses 0.2%"
        tests.append(
            TestRecord.model_validate(
                {
                    "suite": suite,
                    "name": name,
                    "tags": tags,
                    "status": status,
                    "message": message,
                    "started_s": clock,
                    "elapsed_s": elapsed,
                    "documentation": "The tree is Python's standard library." if "tree" in name else "",
                    "wan_changes": _changes(topology, name, clock),
                    "measurements": {"goodput_bps": 1_412_000, "converged_s": elapsed / 2, "files": 3_214}
                    if "tree" in name or "large" in name
                    else {},
                }
            )
        )
        clock += elapsed + 0.8
    return tuple(tests)


def _changes(topology: Topology, test: str, started_s: float) -> tuple[WanChange, ...]:
    """Outages of Sydney in two tests, another loss on one pair in a third."""
    if "large file" in test:
        pair = [link for link in topology.links if {link.source, link.destination} == {"virginia", "ireland"}]
        return tuple(
            WanChange(
                source=link.source,
                destination=link.destination,
                planned_s=None,
                actual_s=started_s + at,
                before=link.impairment if at < 5 else link.impairment.model_copy(update={"rate_bps": 20_000_000}),
                after=link.impairment.model_copy(update={"rate_bps": 20_000_000}) if at < 5 else link.impairment,
                reason="set by the test" if at < 5 else "healed at the end",
            )
            for at in (2.0, 28.0)
            for link in pair
        )
    if not ("cut off" in test or "handover" in test):
        return ()
    begin, length, reason = (
        (5.0, 20.0, "sites cut off") if "cut off" in test else (10.0, 2.0, "timeline: outage of sydney")
    )
    changes = []
    for link in topology.links:
        if "sydney" in (link.source, link.destination):
            blocked = link.impairment.model_copy(update={"blocked": True})
            for at, before, after in ((begin, link.impairment, blocked), (begin + length, blocked, link.impairment)):
                changes.append(
                    WanChange(
                        source=link.source,
                        destination=link.destination,
                        planned_s=started_s + at if "outage" in reason else None,
                        actual_s=started_s + at + 0.0016,
                        before=before,
                        after=after,
                        reason=reason if after.blocked else f"end of: {reason}",
                    )
                )
    return tuple(changes)
