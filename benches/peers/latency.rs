//! What one connection costs: a client connects over a veth link, sends a byte and waits for it to
//! come back. Each contender has a pair of namespaces of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use crate::inputs::{THOUSAND, target};
use crate::measure::{installed, median, run};
use crate::namespace::{Namespace, SERVER, link};
use crate::noise::{Patience, Twins, paired_ratio};

/// Where the clients connect: the last of the 1,000 rules where there are rules.
pub const PORT: u16 = *THOUSAND.end();
/// Where the server listens.
const TARGET: u16 = target(PORT);
pub struct Lane {
    pub name: &'static str,
    port: u16,
    client: Namespace,
    _server: Namespace,
    _proxy: Option<Proxy>,
    /// The median of each round.
    rounds: Vec<Duration>,
    all: Vec<Duration>,
}

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its workers end with the connection they hold; socat's children already have.
        // SAFETY: a signal to the process group that we made for this child and have not reaped.
        unsafe { libc::kill(-(self.0.id() as i32), libc::SIGTERM) };
        let _ = self.0.wait();
    }
}

impl Lane {
    /// To the server's own port, with nothing between.
    pub fn direct(name: &'static str) -> Result<Lane> {
        Lane::new(name, TARGET, None, || Ok(None))
    }

    /// To the port that the command maps.
    pub fn mapped(name: &'static str, mut command: Command) -> Result<Lane> {
        Lane::new(name, PORT, None, || run(&mut command).map(|_| None))
    }

    /// To the server's own port, on a machine where the command has mapped others.
    pub fn beside(name: &'static str, mut command: Command) -> Result<Lane> {
        Lane::new(name, TARGET, None, || run(&mut command).map(|_| None))
    }

    /// To the port where the command listens.
    fn proxied(name: &'static str, mut command: Command) -> Result<Lane> {
        use std::os::unix::process::CommandExt;
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = || Ok(Some(Proxy(command.spawn()?)));
        Lane::new(name, PORT, Some(Duration::from_secs(5)), start)
    }

    fn new(
        name: &'static str,
        port: u16,
        patience: Option<Duration>,
        start: impl FnOnce() -> Result<Option<Proxy>>,
    ) -> Result<Lane> {
        let (server, client) = link()?;
        serve()?;
        let proxy = start().with_context(|| name.to_string())?;
        // Or the table of connections would hold those of the last 10 s. It is there only where
        // connections are tracked at all.
        let _ = fs::write("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close", "1");
        client.enter()?;
        let deadline = Instant::now() + patience.unwrap_or_default();
        while let Err(error) = echo(port) {
            if Instant::now() > deadline {
                return Err(error).with_context(|| format!("{name}: no answer"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        let (rounds, all) = (Vec::new(), Vec::new());
        Ok(Lane { name, port, client, _server: server, _proxy: proxy, rounds, all })
    }

    pub fn median(&self) -> Duration {
        median(self.rounds.clone())
    }

    pub fn ninety_ninth(&self) -> Duration {
        let mut all = self.all.clone();
        all.sort();
        all[all.len() * 99 / 100]
    }

    pub fn rounds(&self) -> usize {
        self.rounds.len()
    }

    pub fn ratio_to(&self, base: &Lane) -> f64 {
        paired_ratio(&self.rounds, &base.rounds)
    }
}

pub struct Effort {
    pub rounds: usize,
    /// Of each contender in a round.
    pub connections: usize,
    /// Of each contender before it is the next one's turn.
    pub block: usize,
    /// How much longer to go on while two identical contenders are not alike.
    pub patience: Duration,
}

/// Blocks of connections in turn, forth and back; each round's figure is the median of its connections. When all
/// have had their rounds, those that are decisive go on until the twins agree.
pub fn measure(
    lanes: &mut [Lane],
    effort: &Effort,
    decisive: impl Fn(&Lane) -> bool,
    twins: [&str; 2],
) -> Result<Twins> {
    // A closed connection stays in conntrack's table for a while; it is not to fill up.
    let room = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")
        .ok()
        .and_then(|max| max.trim().parse::<usize>().ok())
        .map_or(effort.connections, |max| max / 2 / (effort.rounds + 1));
    let blocks = (effort.connections.min(room) / effort.block).max(1);
    let mut patience = Patience::of(effort.patience);
    for round in 0.. {
        let going_on = round > effort.rounds;
        if going_on {
            let now = compare(lanes, twins);
            if patience.is_over(now.agree()) {
                return Ok(now);
            }
        }
        let mut lanes: Vec<&mut Lane> =
            lanes.iter_mut().filter(|lane| !going_on || decisive(lane)).collect();
        let mut times = vec![Vec::new(); lanes.len()];
        for block in 0..blocks {
            for turn in 0..lanes.len() {
                let turn = if block % 2 == 0 { turn } else { lanes.len() - 1 - turn };
                let lane = &lanes[turn];
                lane.client.enter()?;
                for _ in 0..effort.block {
                    times[turn].push(echo(lane.port).with_context(|| lane.name)?);
                }
            }
        }
        // Round 0 warms up.
        if round > 0 {
            for (lane, times) in lanes.iter_mut().zip(times) {
                lane.all.extend_from_slice(&times);
                lane.rounds.push(median(times));
            }
        }
    }
    unreachable!("the loop ends by the clock")
}

fn compare(lanes: &[Lane], twins: [&str; 2]) -> Twins {
    let [one, other] = twins.map(|name| {
        &lanes.iter().find(|lane| lane.name == name).expect("twins are among the lanes").rounds
    });
    Twins::of(one, other)
}

/// One connection. Closed with a reset, so that neither side keeps its port in TIME_WAIT.
fn echo(port: u16) -> Result<Duration> {
    let address = SocketAddr::from((SERVER, port));
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.write_all(b"x")?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let took = start.elapsed();
    reset_on_close(&stream)?;
    Ok(took)
}

fn reset_on_close(stream: &TcpStream) -> Result<()> {
    Ok(setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?)
}

/// Starts the server in this thread's namespace; it lives as long as the process. Several threads,
/// so that one waiting for a proxy to close does not keep the next connection.
fn serve() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", TARGET))?;
    for _ in 0..4 {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    let _ = stream.write_all(&byte);
                }
                let _ = reset_on_close(&stream);
            }
        });
    }
    Ok(())
}

/// The proxies that are installed; the names of the others are added to `missing`.
pub fn proxies(dir: &Path, missing: &mut Vec<&'static str>) -> Result<Vec<Lane>> {
    let mut lanes = Vec::new();
    for (name, program, arguments) in [
        ("nginx stream", "nginx", nginx(dir)?),
        ("haproxy, tcp mode", "haproxy", haproxy(dir)?),
        ("rinetd", "rinetd", rinetd(dir)?),
        ("socat, fork", "socat", socat()),
    ] {
        match arguments {
            Some(arguments) if installed(program) => {
                let mut command = Command::new(program);
                command.args(arguments).current_dir(dir);
                lanes.push(Lane::proxied(name, command)?);
            }
            _ => missing.push(program),
        }
    }
    Ok(lanes)
}

type Arguments = Option<Vec<String>>;

fn words(text: &str) -> Arguments {
    Some(text.split(' ').map(String::from).collect())
}

fn nginx(dir: &Path) -> Result<Arguments> {
    // Loaded where it is a module; some distributions build it in.
    let module = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"]
        .iter()
        .map(|dir| format!("{dir}/ngx_stream_module.so"))
        .find(|path| Path::new(path).exists());
    let Some(module) = module else { return Ok(None) };
    fs::write(
        dir.join("nginx.conf"),
        format!(
            "load_module {module};\ndaemon off;\nuser root;\nworker_processes auto;\n\
             pid nginx.pid;\nerror_log stderr crit;\nevents {{ worker_connections 1024; }}\n\
             stream {{ server {{ listen {PORT}; proxy_pass 127.0.0.1:{TARGET}; }} }}\n"
        ),
    )?;
    Ok(words(&format!("-p {} -c nginx.conf -e stderr", utf8(dir)?)))
}

fn haproxy(dir: &Path) -> Result<Arguments> {
    fs::write(
        dir.join("haproxy.cfg"),
        format!(
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 5s\n    \
             timeout server 5s\nlisten peer\n    bind :{PORT}\n    \
             server backend 127.0.0.1:{TARGET}\n"
        ),
    )?;
    Ok(words("-db -q -f haproxy.cfg"))
}

fn rinetd(dir: &Path) -> Result<Arguments> {
    fs::write(dir.join("rinetd.conf"), format!("0.0.0.0 {PORT} 127.0.0.1 {TARGET}\n"))?;
    Ok(words("-f -c rinetd.conf"))
}

fn socat() -> Arguments {
    words(&format!("TCP-LISTEN:{PORT},fork,reuseaddr,backlog=128 TCP:127.0.0.1:{TARGET}"))
}

fn utf8(dir: &Path) -> Result<&str> {
    match dir.to_str() {
        Some(dir) if !dir.contains(' ') => Ok(dir),
        _ => bail!("TMPDIR has a name that cannot be passed to nginx"),
    }
}
