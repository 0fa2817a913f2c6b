"""What processes use is counted with all they started."""

import subprocess
import sys

from benchmarks.trees import cpu_seconds, forget_peaks, peak_megabytes, tree

#: Starts one that works and ends, keeps one that sleeps, says so, and waits for its input.
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.3: pass"])
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""


def test_descendants_count_also_when_they_have_ended() -> None:
    """A child that was waited for left its time with its parent; one that runs is in the tree, and has memory."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())

        assert tree([parent.pid]) == {parent.pid, child}
        assert cpu_seconds([parent.pid]) > 0.2
        forget_peaks([parent.pid])
        assert peak_megabytes([parent.pid]) > peak_megabytes([child]) > 0
