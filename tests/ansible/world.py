"""Ten hosts on a bridge, made of namespaces, for the time of a test run.

Each host has its own network, processes and file tree (an overlay over this machine's), and an
sshd. All is made inside the namespaces that `run` entered, so it all ends with them, and neither
the machine's files nor its ruleset can be reached from here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

NETWORK = "10.99.0.%d"
CONTROLLER = NETWORK % 1
COLLECTIONS = Path(os.environ["PORTMAP_WORK"]) / "collections"
PEERS = Path(os.environ["PORTMAP_WORK"]) / "peers"


def sh(*command, **options):
    options.setdefault("check", True)
    options.setdefault("text", True)
    options.setdefault("capture_output", True)
    return subprocess.run([str(word) for word in command], **options)


class Host:
    """One host. It can be asked directly, past ssh."""

    def __init__(self, world, number):
        self.world = world
        self.name = "host%d" % number
        self.address = NETWORK % (10 + number)
        self.home = world.path / self.name
        self.root = self.home / "root"
        self.holder = None
        self.sshd = None

    def start(self):
        for name in ("upper", "work", "root"):
            (self.home / name).mkdir(parents=True)
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sleep", "infinity"]
        )
        self.pid = self._inner_pid()
        inside, outside = "eth0", "v%s" % self.name
        sh("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self.pid)
        sh("ip", "link", "set", outside, "master", "br0", "up")
        script = """
            mount -t overlay overlay -o lowerdir=/,upperdir={home}/upper,workdir={home}/work {home}/root
            mount --rbind /dev {home}/root/dev
            mount -t proc proc {home}/root/proc
            mount -t sysfs sysfs {home}/root/sys
            mount -t tmpfs tmpfs {home}/root/run
            mount -t tmpfs tmpfs {home}/root/tmp
            ip link set lo up
            ip address add {address}/24 dev eth0
            ip link set eth0 up
        """
        self._enter("sh", "-euc", script.format(home=self.home, address=self.address), chroot=False)
        self._furnish()
        self.start_sshd()

    def _inner_pid(self):
        children = Path("/proc/%d/task/%d/children" % (self.holder.pid, self.holder.pid))
        for _ in range(200):
            found = children.read_text().split()
            if found and os.readlink("/proc/%s/ns/net" % found[0]) != os.readlink(
                "/proc/self/ns/net"
            ):
                return int(found[0])
            time.sleep(0.01)
        raise RuntimeError("%s did not start" % self.name)

    def _furnish(self):
        """The state of a host that has never seen portmap, apart from the command."""
        script = """
            rm -rf /etc/portmap /var/lib/portmap /root/.ssh /usr/local/bin/portmap
            mkdir -p /run/sshd /root/.ssh /etc/ssh
            # What this machine's root starts in each shell is no host's business.
            rm -f /root/.bashrc /root/.bash_profile /root/.bash_login /root/.profile
            sed -i 's/^root:[^:]*/root:*/' /etc/shadow
            rm -f /etc/nologin
            ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/test_host_key
        """
        self.run("sh", "-euc", script)
        self.put("/root/.ssh/authorized_keys", (self.world.path / "key.pub").read_text(), 0o600)
        config = [
            "ListenAddress 0.0.0.0",
            "HostKey /etc/ssh/test_host_key",
            "PidFile none",
            "UsePAM no",
            "PermitRootLogin prohibit-password",
            "MaxStartups 100",
            "Subsystem sftp internal-sftp",
        ]
        self.put("/etc/ssh/test_sshd_config", "\n".join(config) + "\n")
        self.install(self.world.portmap)

    def install(self, binary, path="/usr/bin/portmap"):
        self.run("sh", "-c", "cat > %s && chmod 755 %s" % (path, path), input=binary, text=False)

    def put(self, path, text, mode=0o644):
        script = "mkdir -p $(dirname %s) && cat > %s && chmod %o %s" % (path, path, mode, path)
        self.run("sh", "-c", script, input=text)

    def start_sshd(self):
        command = self._command("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/test_sshd_config")
        log = open(self.home / "sshd.log", "a")
        self.sshd = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(100):
            if self.run("ss", "-Hltn", "sport = :22").stdout:
                return
            time.sleep(0.02)
        raise RuntimeError("sshd of %s does not listen" % self.name)

    def die(self):
        """Every process of the host but the one that holds its namespaces: a crash."""
        self.run("sh", "-c", "kill -9 -1", check=False)

    def _command(self, *command, chroot=True):
        enter = ["nsenter", "-t", str(self.pid), "-n", "-m", "-p"]
        return enter + (["chroot", str(self.root)] if chroot else []) + [str(c) for c in command]

    def _enter(self, *command, chroot=True, **options):
        return sh(*self._command(*command, chroot=chroot), **options)

    def run(self, *command, **options):
        return self._enter(*command, **options)

    def exists(self, path):
        return (self.run("test", "-e", path, check=False)).returncode == 0

    def read(self, path):
        return self.run("cat", path).stdout

    def logins(self):
        """How often somebody logged in by ssh."""
        return (self.home / "sshd.log").read_text().count("Accepted publickey")

    def ruleset(self):
        return self.run("nft", "list", "ruleset").stdout

    def mapping(self):
        """What portmap says is active: port to port."""
        status = json.loads(self.run("portmap", "status", "-o", "json").stdout)
        return {entry["port"]: entry["to"] for entry in status["mappings"]}


class World:
    """The hosts, the bridge between them and the controller, and Ansible on it."""

    def __init__(self, path, count=10):
        self.path = path
        self.hosts = [Host(self, number + 1) for number in range(count)]
        self.portmap = Path(os.environ["PORTMAP"]).read_bytes()
        self.bin = path / "bin"

    def start(self):
        sh("mount", "-t", "tmpfs", "tmpfs", self.path)
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "br0", "type", "bridge")
        sh("ip", "address", "add", CONTROLLER + "/24", "dev", "br0")
        sh("ip", "link", "set", "br0", "up")
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path / "key")
        for host in self.hosts:
            host.start()
        lines = ["[web]"]
        lines += ["%s ansible_host=%s" % (host.name, host.address) for host in self.hosts]
        lines += [
            "[web:vars]",
            "ansible_user=root",
            "ansible_python_interpreter=/usr/bin/python3",
            "ansible_ssh_private_key_file=%s" % (self.path / "key"),
        ]
        (self.path / "inventory").write_text("\n".join(lines) + "\n")
        self.bin.mkdir()
        (self.path / "ansible.cfg").write_text(
            "[defaults]\n"
            "inventory = %(path)s/inventory\n"
            "collections_path = %(collections)s:%(peers)s\n"
            "host_key_checking = false\n"
            "forks = 10\n"
            "stdout_callback = ansible.builtin.default\n"
            "callbacks_enabled = recap\n"
            "callback_plugins = %(here)s/callback\n"
            "local_tmp = %(path)s/tmp\n"
            "timeout = 5\n"
            "retry_files_enabled = false\n"
            "[ssh_connection]\n"
            "control_path_dir = %(path)s/cp\n"
            "ssh_args = -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=/dev/null"
            " -o LogLevel=ERROR\n"
            % {
                "path": self.path,
                "collections": COLLECTIONS,
                "peers": PEERS,
                "here": Path(__file__).parent,
            }
        )

    def controller_has_portmap(self, yes):
        """Puts portmap on the controller's PATH, or takes it away."""
        path = self.bin / "portmap"
        path.unlink(missing_ok=True)
        if yes:
            path.write_bytes(self.portmap)
            path.chmod(0o755)

    def forget_connections(self):
        """Ends the ssh masters, as if the last run had been long ago."""
        for socket in (self.path / "cp").glob("*"):
            sh("ssh", "-o", "ControlPath=%s" % socket, "-O", "exit", "x", check=False)

    def play(self, tasks, *options, hosts="web", variables=None, **keywords):
        """Runs one play; what each host said is in the answer."""
        play = [{"hosts": hosts, "gather_facts": False, "tasks": tasks, **keywords}]
        (self.path / "play.yml").write_text(json.dumps(play))
        return self.playbook(self.path / "play.yml", *options, variables=variables)

    def playbook(self, path, *options, variables=None):
        report = self.path / "report.json"
        report.unlink(missing_ok=True)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")},
            "PATH": "%s:%s" % (self.bin, os.environ["PATH"]),
            "ANSIBLE_CONFIG": str(self.path / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.path / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "PORTMAP_REPORT": str(report),
        }
        command = ["ansible-playbook", str(path), *options]
        if variables:
            command += ["-e", json.dumps(variables)]
        start = time.monotonic()
        done = sh(*command, check=False, env=environment)
        return Answer(done, json.loads(report.read_text()), time.monotonic() - start)

    def stop(self):
        for host in self.hosts:
            if host.holder:
                host.holder.send_signal(signal.SIGKILL)
        shutil.rmtree(self.path / "ansible", ignore_errors=True)


class Answer:
    """What a playbook run did: the recap, and each host's result of each task."""

    def __init__(self, done, report, seconds):
        self.rc = done.returncode
        self.text = done.stdout + done.stderr
        self.recap = report["recap"]
        self.results = report["results"]
        self.seconds = seconds

    def hosts(self, what):
        return sorted(name for name, counts in self.recap.items() if counts[what])

    @property
    def changed(self):
        return self.hosts("changed")

    @property
    def failed(self):
        return sorted(set(self.hosts("failures")) | set(self.hosts("unreachable")))

    def last(self, host):
        """The host's last result."""
        return [r for r in self.results if r["host"] == host][-1]["result"]
