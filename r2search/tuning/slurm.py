"""A study as a batch script for Slurm. Pure: text from values."""

import math
import shlex
from collections.abc import Sequence

MARGIN_S = 900  # beside the study's own time: starting, the test split, the report
WARNING_S = 300  # before Slurm ends the job, the study is asked to end well

SCRIPT = """\
#!/bin/bash
# The study {name} on {nodes}, each beginning a Ray of its own.
# Send it from a clone of r2search that all nodes see, in its environment: sbatch FILE
# Flags of sbatch win over these: sbatch --partition=gpu --account=mine FILE
#SBATCH --job-name={name}
#SBATCH --nodes={count}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={cpus}
{gpu_line}#SBATCH --time={walltime}
#SBATCH --signal=B:TERM@{warning}
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

# Others can reach the port of this Ray: a token of this job alone keeps them out.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0 SRUN_CPUS_PER_TASK={cpus}

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{{print $1; exit}}')
export RAY_ADDRESS="$ip:$((20000 + SLURM_JOB_ID % 10000))"

srun --nodes=1 --ntasks=1 --nodelist="$head" \\
  ray start --head --node-ip-address="$ip" --port="${{RAY_ADDRESS##*:}}" \\
  --temp-dir="/tmp/ray-$SLURM_JOB_ID" --include-dashboard=false \\
  --num-cpus={cpus} --num-gpus={gpus} --block &
for attempt in $(seq 60); do ray status >/dev/null 2>&1 && break; sleep 2; done
{workers}
# The study takes the nodes that are there when it begins: wait for all of them.
python - <<'END'
import time, ray
ray.init(logging_level="ERROR")
until = time.monotonic() + 300
while sum(node["Alive"] for node in ray.nodes()) < {count}:
    if time.monotonic() > until:
        raise SystemExit("r2search: not all nodes joined within 5 minutes")
    time.sleep(1)
END

python launch/tune.py {arguments} &
study=$!
trap 'kill -TERM "$study"' TERM
code=0
wait "$study" || code=$?
while kill -0 "$study" 2>/dev/null; do code=0; wait "$study" || code=$?; done
trap - TERM
kill $(jobs -p) 2>/dev/null || true
exit "$code"
"""

WORKERS = """\
srun --nodes={others} --ntasks={others} --exclude="$head" \\
  ray start --address="$RAY_ADDRESS" --num-cpus={cpus} --num-gpus={gpus} --block &
"""


def render_slurm(
    name: str, arguments: Sequence[str], nodes: int, cpus: int, gpus: int, time_s: float
) -> str:
    """The script that runs `launch/tune.py` with these arguments on so many nodes.

    `cpus` and `gpus` are those of each node; `time_s` is the study's own time.
    """
    workers = WORKERS.format(others=nodes - 1, cpus=cpus, gpus=gpus) if nodes > 1 else ""
    return SCRIPT.format(
        name=name,
        nodes=f"{nodes} node{'s' if nodes > 1 else ''}",
        count=nodes,
        cpus=cpus,
        gpus=gpus,
        gpu_line=f"#SBATCH --gpus-per-node={gpus}\n" if gpus else "",
        walltime=_walltime(time_s + MARGIN_S),
        warning=WARNING_S,
        workers=workers,
        arguments=shlex.join(arguments),
    )


def _walltime(seconds: float) -> str:
    """As Slurm writes it: D-HH:MM:SS."""
    minutes = math.ceil(seconds / 60)
    days, minutes = divmod(minutes, 24 * 60)
    return f"{days}-{minutes // 60:02}:{minutes % 60:02}:00"
