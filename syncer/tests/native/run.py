"""Builds and runs the C++ tests of the UDT in three flavours, then fuzzes it.

Everything goes to build/native-tests/: a folder for each flavour, the fuzzers' growing corpus, and what they found.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
BUILD = CHECKOUT / "build" / "native-tests"

# What each flavour is compiled by: the shipped compiler, and the one whose runtime has the sanitizers and the fuzzer.
COMPILERS = {"release": "g++", "address": "clang++", "thread": "clang++"}
SANITIZERS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
LONGEST_TEST_RUN = 600  # s
LONGEST_INPUT = 2048  # bytes of a fuzzer's input

EXAMPLES = """\
examples:
  python syncer/tests/native/run.py                                what `longhaul test` does
  python syncer/tests/native/run.py --flavours release --no-fuzz   the fastest look at a change
  python syncer/tests/native/run.py --tests 'handshake*' --no-fuzz
  python syncer/tests/native/run.py --flavours address --fuzz-seconds 600
  build/native-tests/address/fuzz_parsers build/native-tests/findings/fuzz_parsers-crash-...   repeat a finding
"""


class Failure(Exception):
    """A step failed. The message is for the user."""


@dataclass(frozen=True)
class Fuzzed:
    """What one fuzz target did."""

    target: str
    executions: int
    seconds: float
    finding: str  # empty: none


def main(argv: list[str] | None = None) -> int:
    """0: all passed. 1: a test failed or the fuzzers found something. 2: bad usage. 3: something is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--flavours", default=",".join(COMPILERS), help=f"comma-separated, of {', '.join(COMPILERS)} (default: all)"
    )
    parser.add_argument("--tests", default="*", metavar="PATTERN", help="only the test cases with such a name")
    parser.add_argument(
        "--fuzz-seconds", type=int, default=8, help="how long each target is fuzzed (default: %(default)s)"
    )
    parser.add_argument("--no-fuzz", action="store_true", help="build and test only")
    parser.add_argument(
        "--keep-corpus",
        action="store_true",
        help="then take over what the fuzzers' inputs reach into the seeds of this checkout, in as few inputs as do",
    )
    options = parser.parse_args(argv)
    flavours = [name for name in options.flavours.split(",") if name]
    if unknown := set(flavours) - set(COMPILERS):
        parser.error(f"no such flavour: {', '.join(sorted(unknown))} (there are {', '.join(COMPILERS)})")
    if options.fuzz_seconds < 1:
        parser.error("--fuzz-seconds is at least 1; --no-fuzz fuzzes nothing")

    start = time.monotonic()
    try:
        require_tools(flavours)
        for flavour in flavours:
            build(flavour)
        counts = [f"{flavour} {run_tests(flavour, options.tests)}" for flavour in flavours]
        fuzzed = [] if options.no_fuzz or "address" not in flavours else fuzz_all(options.fuzz_seconds)
        if options.keep_corpus:
            for target in targets():
                keep_corpus(target)
    except Failure as failure:
        print(f"native: FAILED: {failure}", file=sys.stderr)
        return 1
    except FileNotFoundError as missing:
        print(f"native: {missing}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("native: interrupted", file=sys.stderr)
        return 130
    findings = [fuzz for fuzz in fuzzed if fuzz.finding]
    for fuzz in findings:
        print(f"native: FAILED: {fuzz.target} found {fuzz.finding}", file=sys.stderr)
    summary = f"native: tests passed: {', '.join(counts)}"
    if fuzzed:
        executions = sum(fuzz.executions for fuzz in fuzzed)
        fuzz_time = sum(fuzz.seconds for fuzz in fuzzed)
        summary += f"; {len(fuzzed)} targets fuzzed for {fuzz_time:.0f} s in all, {executions:,} executions"
        summary += f", {len(findings)} findings" if findings else ", nothing found"
    print(f"{summary}; {time.monotonic() - start:.0f} s")
    return 1 if findings else 0


def require_tools(flavours: list[str]) -> None:
    """Raises FileNotFoundError, naming the packages."""
    # The build's own cmake and ninja may be those of the virtual environment.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    missing = [
        tool for tool in ("cmake", "ninja", *sorted({COMPILERS[name] for name in flavours})) if not shutil.which(tool)
    ]
    if missing:
        raise FileNotFoundError(
            f"not found: {', '.join(missing)}; on Debian: apt-get install cmake ninja-build g++ clang"
            " libclang-rt-dev doctest-dev"
        )


def build(flavour: str) -> None:
    """Configure and compile, showing the output only on failure."""
    directory = BUILD / flavour
    start = time.monotonic()
    configure = ("cmake", "-G", "Ninja", "-S", str(HERE), "-B", str(directory), f"-DFLAVOUR={flavour}")
    if not (directory / "build.ninja").exists():
        quietly((*configure, f"-DCMAKE_CXX_COMPILER={COMPILERS[flavour]}"), f"configuring {flavour}")
    quietly(("cmake", "--build", str(directory)), f"building {flavour}")
    print(f"   built {flavour} in {time.monotonic() - start:.1f} s", flush=True)


def quietly(argv: tuple[str, ...], title: str) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout[-8000:])
        raise Failure(f"{title} (exit code {done.returncode})")


def run_tests(flavour: str, pattern: str) -> int:
    """The number of test cases that ran and passed."""
    start = time.monotonic()
    argv = [str(BUILD / flavour / "udt_tests"), f"--test-case={pattern}"]
    if flavour == "thread":
        argv = ["setarch", "--addr-no-randomize", *argv]  # this runtime does not know the wide layouts of newer kernels
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, **SANITIZERS},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LONGEST_TEST_RUN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"the {flavour} tests did not end within {LONGEST_TEST_RUN} s") from None
    cases = re.search(r"test cases:\s*(\d+)", done.stdout)
    if done.returncode or not cases:
        sys.stderr.write(done.stdout[-12000:])
        raise Failure(f"tests, {flavour} (exit code {done.returncode})")
    print(f"   {flavour}: {cases[1]} test cases passed in {time.monotonic() - start:.1f} s", flush=True)
    return int(cases[1])


def targets() -> list[str]:
    return sorted(path.stem for path in HERE.glob("fuzz_*.cpp"))


def fuzz_all(seconds: int) -> list[Fuzzed]:
    """Fuzz every target, as many at a time as there are processors."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda target: fuzz(target, seconds), targets()))


def keep_corpus(target: str) -> None:
    """Replace a target's seeds by the smallest set of inputs that reaches what old and new ones reach.

    One file holds them all, since a thousand small ones are a burden to a checkout; ``seeds_of`` takes it apart.
    """
    kept = BUILD / "kept" / target
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    merge = (
        str(BUILD / "address" / target),
        "-merge=1",
        str(kept),
        str(BUILD / "corpus" / target),
        str(seeds_of(target)),
    )
    quietly(merge, f"merging the inputs of {target}")
    inputs = sorted((path.read_bytes() for path in kept.iterdir()), key=lambda content: (len(content), content))
    lines = "".join(f"{content.hex()}\n" for content in inputs)
    (HERE / "corpus" / f"{target}.hex").write_text(lines)
    print(f"   kept {len(inputs)} inputs of {target}, {len(lines):,} bytes", flush=True)


def seeds_of(target: str) -> Path:
    """A folder with the checkout's seeds, a file each, as the fuzzer wants them."""
    folder = BUILD / "seeds" / target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # What once was a finding is a seed for ever, whatever it reaches.
    sources = [HERE / "corpus" / f"{target}.hex", HERE / "corpus" / f"{target}_found.hex"]
    lines = [line for source in sources if source.exists() for line in source.read_text().splitlines()]
    for number, line in enumerate(lines):
        (folder / f"{number:05}").write_bytes(bytes.fromhex(line))
    return folder


def fuzz(target: str, seconds: int) -> Fuzzed:
    """Fuzz one target from the kept seeds and what earlier runs added to them."""
    grown, findings = BUILD / "corpus" / target, BUILD / "findings"
    grown.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    argv = [
        str(BUILD / "address" / target),
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_INPUT}",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        "-verbosity=1",
        f"-artifact_prefix={findings}/{target}-",
        "-len_control=20",  # long inputs soon: short ones end before anything happens
        str(grown),
        str(seeds_of(target)),
    ]
    start = time.monotonic()
    done = subprocess.run(
        argv, env={**os.environ, **SANITIZERS}, capture_output=True, text=True, errors="replace", check=False
    )
    took = time.monotonic() - start
    executions = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    count = int(executions[1]) if executions else 0
    finding = ""
    if done.returncode or not count:
        sys.stderr.write(done.stderr[-8000:])
        artifact = re.search(r"Test unit written to (\S+)", done.stderr)
        finding = artifact[1] if artifact else f"a failure (exit code {done.returncode})"
    print(f"   {target}: {count:,} executions in {took:.1f} s", flush=True)
    return Fuzzed(target, count, took, finding)


if __name__ == "__main__":
    sys.exit(main())
