"""The probes of Kafka's pods, run on this machine against a node at any port."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.manifests.environment import build_environment, build_mounted_files
from tests.manifests.rendering import Rendered
from tests.service_process import bare_environment


def ask_node(
    rendered: Rendered, name: str, probe: str, port: int, *, node_id: int | None = None, programs: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a probe of a StatefulSet of Kafka as its first pod would, with the node at `port` of this machine.

    `node_id`: the pod of this id, in place of the first one. `programs`: a folder with the only programs on the PATH.
    """
    pod = rendered.pod(name)
    environment = build_environment(rendered, pod)
    number = 0 if node_id is None else node_id - int(environment["FIRST_NODE_ID"])
    if number < 0:
        environment["FIRST_NODE_ID"], number = str(node_id), 0
    (bash, script, question, asked) = pod.container[probe]["exec"]["command"]
    assert int(asked) in pod.ports.values(), "the probe asks a port that the pod does not have"
    path = {"PATH": str(programs)} if programs else {}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder, "probe.sh")
        here.write_text(build_mounted_files(rendered, pod)[script])
        return subprocess.run(
            [shutil.which(bash) or bash, str(here), question, str(port)],
            env=bare_environment() | environment | {"HOSTNAME": f"{name}-{number}"} | path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
