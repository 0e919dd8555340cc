//! Servers that say who they are, and clients that ask.
//!
//! The question is any line, or any datagram; the answer is `NAME PEER`: the server's name, and
//! the client's address as the server sees it. Behind that, a datagram repeats the question: an
//! answer that comes late is not mistaken for that of the next one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, setsockopt, sockopt,
};

use super::{Namespace, wait_until};

/// Longer than the kernel waits (1 s) before it sends a lost SYN again.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(2500);

/// Why a client got no answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoAnswer {
    /// A TCP reset, or an ICMP "port unreachable": nobody listens.
    Refused,
    /// Silence.
    TimedOut,
    /// An established connection was reset.
    Reset,
    /// An established connection was closed in good order.
    Closed,
    /// No route, or an ICMP "host unreachable".
    Unreachable,
    Other(String),
}

/// What a client hears if `name` serves it: for comparison with the answer it got.
pub fn answer(name: &str) -> Result<String, NoAnswer> {
    Ok(name.to_owned())
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::*;
        match error.kind() {
            ConnectionRefused => NoAnswer::Refused,
            TimedOut | WouldBlock => NoAnswer::TimedOut,
            ConnectionReset | BrokenPipe | ConnectionAborted => NoAnswer::Reset,
            HostUnreachable | NetworkUnreachable => NoAnswer::Unreachable,
            _ => NoAnswer::Other(error.to_string()),
        }
    }
}

#[track_caller]
fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text}: not an address and a port"))
}

/// Splits `NAME PEER`.
fn parse_answer(line: &str) -> (String, SocketAddr) {
    let (name, peer) = line.trim_end().rsplit_once(' ').expect("NAME PEER");
    (name.to_owned(), address(peer))
}

/// Where a server is to be found.
#[derive(Clone, Copy, Debug)]
pub enum Listen<'a> {
    Tcp(&'a str),
    Udp(&'a str),
}

/// Answers until it is dropped; then its sockets, and the connections it accepted, are closed.
pub struct Server {
    /// Closing it is the signal to stop.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Namespace {
    /// A server on this port of all addresses: TCP and UDP, IPv4 and IPv6.
    #[track_caller]
    pub fn serve(&self, name: &str, port: u16) -> Server {
        let any = format!("[::]:{port}");
        self.serve_at(name, &[Listen::Tcp(&any), Listen::Udp(&any)])
    }

    /// Whether a TCP socket that closes gives who waits in its queue to another one of its port, once
    /// that is asked for. Debian's Linux 5.10 has the setting of 5.14, without effect.
    pub fn hands_over_its_queue(&self) -> bool {
        const PORT: u16 = 9999;
        const MIGRATE: &str = "net/ipv4/tcp_migrate_req";
        if !self.run(|| Path::new("/proc/sys").join(MIGRATE).exists()) {
            return false;
        }
        self.sysctl(MIGRATE, "1");
        self.run(|| {
            let listener = || TcpListener::from(shared(SockType::Stream, PORT).unwrap());
            let (closes, stays) = (listener(), listener());
            let client = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).unwrap();
            let clients: Vec<_> = (0..16).map(client).collect();
            drop(closes);
            stays.set_nonblocking(true).unwrap();
            thread::sleep(Duration::from_millis(200));
            std::iter::from_fn(|| stays.accept().ok()).count() == clients.len()
        })
    }

    /// A server on just these. `[::]` is dual stack, as in most of the world's applications.
    #[track_caller]
    pub fn serve_at(&self, name: &str, places: &[Listen]) -> Server {
        let mut sockets = Sockets { name: name.to_owned(), ..Sockets::default() };
        self.run(|| {
            for place in places {
                sockets.open(*place).unwrap_or_else(|e| panic!("{name}: {place:?}: {e}"));
            }
        });
        let (stop, stopped) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || sockets.serve(&stopped));
        Server { stop: Some(stop), thread: Some(thread) }
    }
}

/// What a server has open.
#[derive(Default)]
pub(super) struct Sockets {
    name: String,
    listeners: Vec<TcpListener>,
    connections: Vec<TcpStream>,
    datagrams: Vec<UdpSocket>,
}

impl Sockets {
    /// TCP and UDP on these ports, IPv4 and IPv6, to be shared with others of the same user: so a
    /// program takes the place of the one that runs.
    pub(super) fn to_be_shared(name: &str, ports: &[u16]) -> io::Result<Self> {
        let mut sockets = Self { name: name.to_owned(), ..Self::default() };
        for port in ports {
            let listener = TcpListener::from(shared(SockType::Stream, *port)?);
            listener.set_nonblocking(true)?;
            sockets.listeners.push(listener);
            let datagrams = UdpSocket::from(shared(SockType::Datagram, *port)?);
            datagrams.set_nonblocking(true)?;
            sockets.datagrams.push(datagrams);
        }
        Ok(sockets)
    }

    /// Closes what takes new clients, and talks to those that are there until they are gone.
    pub(super) fn finish(mut self) {
        self.listeners.clear();
        self.datagrams.clear();
        let (_stay, stopped) = UnixStream::pair().unwrap();
        while !self.connections.is_empty() {
            self.serve_once(&stopped);
        }
    }

    fn open(&mut self, place: Listen) -> io::Result<()> {
        match place {
            Listen::Tcp(to) => {
                let listener = TcpListener::bind(address(to))?;
                listener.set_nonblocking(true)?;
                self.listeners.push(listener);
            }
            Listen::Udp(to) => {
                let socket = UdpSocket::bind(address(to))?;
                socket.set_nonblocking(true)?;
                self.datagrams.push(socket);
            }
        }
        Ok(())
    }

    pub(super) fn serve(&mut self, stopped: &UnixStream) {
        while self.serve_once(stopped) {}
    }

    /// Waits for clients, and serves them; `false` if it is to stop.
    fn serve_once(&mut self, stopped: &UnixStream) -> bool {
        let ready = self.wait(stopped);
        let mut ready = ready.into_iter();
        let mut next = || ready.next().unwrap();
        if next() {
            return false;
        }
        self.connections.retain(|connection| !next() || talk(&self.name, connection).is_ok());
        for listener in &self.listeners {
            if next() {
                self.connections.extend(listener.accept().map(|(connection, _)| connection));
            }
        }
        for socket in &self.datagrams {
            if next() {
                // What fails here (the client is gone) is the client's to notice.
                let _ = reply(&self.name, socket);
            }
        }
        true
    }

    /// Which are ready: first `stopped`, then connections, listeners, datagrams.
    fn wait(&self, stopped: &UnixStream) -> Vec<bool> {
        let mut fds: Vec<PollFd> = std::iter::once(stopped.as_fd())
            .chain(self.connections.iter().map(AsFd::as_fd))
            .chain(self.listeners.iter().map(AsFd::as_fd))
            .chain(self.datagrams.iter().map(AsFd::as_fd))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        poll(&mut fds, PollTimeout::NONE).expect("poll");
        fds.iter().map(|fd| fd.any() == Some(true)).collect()
    }
}

fn shared(kind: SockType, port: u16) -> io::Result<OwnedFd> {
    const QUEUE: i32 = 128;
    let socket = socket::socket(AddressFamily::Inet6, kind, SockFlag::SOCK_CLOEXEC, None)?;
    // Or a port would stay taken for a minute by connections that were closed from here.
    setsockopt(&socket, sockopt::ReuseAddr, &(kind == SockType::Stream))?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(any))?;
    if kind == SockType::Stream {
        socket::listen(&socket, Backlog::new(QUEUE)?)?;
    }
    Ok(socket)
}

/// One answer for each line that has arrived. An error if the client is gone.
fn talk(name: &str, mut connection: &TcpStream) -> io::Result<()> {
    let mut questions = [0; 512];
    let len = connection.read(&mut questions)?;
    if len == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let peer = unmapped(connection.peer_addr()?);
    for _ in questions[..len].iter().filter(|&&byte| byte == b'\n') {
        connection.write_all(format!("{name} {peer}\n").as_bytes())?;
    }
    Ok(())
}

/// Answers one datagram as an ordinary program does: on a wildcard socket the kernel chooses the
/// address that the answer comes from.
fn reply(name: &str, socket: &UdpSocket) -> io::Result<()> {
    let mut question = [0; 512];
    let (len, peer) = socket.recv_from(&mut question)?;
    let mut answer = format!("{name} {} ", unmapped(peer)).into_bytes();
    answer.extend_from_slice(&question[..len]);
    socket.send_to(&answer, peer).map(drop)
}

/// A dual-stack socket shows IPv4 clients as `::ffff:192.0.2.2`.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A TCP connection that is kept open while the rules change.
pub struct TcpConnection(BufReader<TcpStream>);

impl TcpConnection {
    fn open(to: SocketAddr) -> Result<Self, NoAnswer> {
        Self::open_within(to, ANSWER_TIMEOUT)
    }

    fn open_within(to: SocketAddr, patience: Duration) -> Result<Self, NoAnswer> {
        let stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn ask_all(&mut self) -> Result<(String, SocketAddr), NoAnswer> {
        self.0.get_mut().write_all(b"who are you\n")?;
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(NoAnswer::Closed),
            _ => Ok(parse_answer(&line)),
        }
    }

    pub fn local_port(&self) -> u16 {
        self.0.get_ref().local_addr().unwrap().port()
    }

    /// Who is at the other end?
    pub fn ask(&mut self) -> Result<String, NoAnswer> {
        self.ask_all().map(|(name, _)| name)
    }

    /// Closes with a reset, which leaves no TIME_WAIT to run out of ports with.
    fn abort(self) {
        let now = linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(self.0.get_ref(), sockopt::Linger, &now);
    }
}

/// A UDP client that keeps its source port, as a resolver's or a telephone's flow does.
pub struct UdpClient {
    socket: UdpSocket,
    asked: AtomicU32,
}

impl UdpClient {
    fn open(source_port: u16, to: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, source_port))?;
        // A connected socket hears of refusals, and accepts answers from this address only.
        socket.connect(to)?;
        socket.set_read_timeout(Some(timeout))?;
        Ok(Self { socket, asked: AtomicU32::new(0) })
    }

    /// Where the server saw the question come from.
    pub fn seen_as(&self) -> Result<SocketAddr, NoAnswer> {
        self.ask_all().map(|(_, me)| me)
    }

    fn ask_all(&self) -> Result<(String, SocketAddr), NoAnswer> {
        let question = self.asked.fetch_add(1, Ordering::Relaxed).to_string();
        self.socket.send(question.as_bytes())?;
        let mut answer = [0; 512];
        loop {
            let len = self.socket.recv(&mut answer)?;
            let answer = String::from_utf8_lossy(&answer[..len]);
            let (answer, to) = answer.rsplit_once(' ').expect("NAME PEER QUESTION");
            if to == question {
                return Ok(parse_answer(answer));
            }
        }
    }

    /// Who answers now? A single datagram: one that is lost is a timeout.
    pub fn ask(&self) -> Result<String, NoAnswer> {
        self.ask_all().map(|(name, _)| name)
    }
}

impl Namespace {
    /// Connects to `192.0.2.1:80` or `[::1]:80`, and asks who is there.
    #[track_caller]
    pub fn tcp_ask(&self, to: &str) -> Result<String, NoAnswer> {
        self.tcp_connect(to)?.ask()
    }

    /// Sends one datagram, and waits for the name of whoever answers.
    #[track_caller]
    pub fn udp_ask(&self, to: &str) -> Result<String, NoAnswer> {
        self.udp_ask_within(to, ANSWER_TIMEOUT)
    }

    #[track_caller]
    pub fn udp_ask_within(&self, to: &str, timeout: Duration) -> Result<String, NoAnswer> {
        let to = address(to);
        self.run(|| UdpClient::open(0, to, timeout))?.ask()
    }

    /// The address that the server sees when we connect.
    #[track_caller]
    pub fn tcp_seen_as(&self, to: &str) -> Result<IpAddr, NoAnswer> {
        self.tcp_connect(to)?.ask_all().map(|(_, me)| me.ip())
    }

    /// The address that the server sees when we send a datagram.
    #[track_caller]
    pub fn udp_seen_as(&self, to: &str) -> Result<IpAddr, NoAnswer> {
        self.udp_client(0, to).ask_all().map(|(_, me)| me.ip())
    }

    /// A connection to be kept.
    #[track_caller]
    pub fn tcp_connect(&self, to: &str) -> Result<TcpConnection, NoAnswer> {
        let to = address(to);
        self.run(|| TcpConnection::open(to))
    }

    /// A client with this source port, for `to` only. Nothing is sent yet.
    #[track_caller]
    pub fn udp_client(&self, source_port: u16, to: &str) -> UdpClient {
        let to = address(to);
        self.run(|| UdpClient::open(source_port, to, ANSWER_TIMEOUT)).unwrap()
    }

    /// Connects to `to` again and again, on a thread, until it is stopped.
    #[track_caller]
    pub fn keep_asking_tcp(&self, to: &str) -> Asker {
        self.keep_asking(Ask::Tcp(address(to)), ANSWER_TIMEOUT)
    }

    /// Asks again and again, on a thread, until it is stopped. Waits for each answer for so long.
    #[track_caller]
    pub fn keep_asking(&self, question: Ask, patience: Duration) -> Asker {
        let shared = Arc::new(Record::default());
        let record = Arc::clone(&shared);
        let (started, wait) = std::sync::mpsc::channel();
        let net = self.path();
        let thread = thread::spawn(move || {
            super::namespace::enter(&net).expect("enter the namespace");
            started.send(()).unwrap();
            while !record.stop.load(Ordering::Relaxed) {
                let outcome = question.ask(patience);
                record.outcomes.lock().unwrap().push(outcome);
            }
        });
        wait.recv().expect("a thread that asks");
        Asker { record: shared, thread: Some(thread) }
    }
}

/// A question to be asked with others at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    Tcp(SocketAddr),
    Udp(SocketAddr),
}

impl Ask {
    fn ask(self, patience: Duration) -> Result<String, NoAnswer> {
        match self {
            Ask::Tcp(to) => {
                let mut connection = TcpConnection::open_within(to, patience)?;
                let name = connection.ask();
                connection.abort();
                name
            }
            Ask::Udp(to) => UdpClient::open(0, to, patience)?.ask(),
        }
    }
}

impl Namespace {
    /// Asks all of these, many at once, and waits for each answer for so long.
    #[track_caller]
    pub fn ask_all(&self, questions: &[Ask], patience: Duration) -> Vec<Result<String, NoAnswer>> {
        const AT_ONCE: usize = 32;
        let share = questions.len().div_ceil(AT_ONCE).max(1);
        thread::scope(|scope| {
            let ask = |part: &[Ask]| part.iter().map(|ask| ask.ask(patience)).collect::<Vec<_>>();
            let parts = questions.chunks(share);
            let threads: Vec<_> =
                parts.map(|part| scope.spawn(move || self.run(|| ask(part)))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
    }
}

/// A client that asks without pause, and remembers every outcome in order.
pub struct Asker {
    record: Arc<Record>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    stop: AtomicBool,
    outcomes: Mutex<Vec<Result<String, NoAnswer>>>,
}

impl Asker {
    /// Returns when `n` more questions have been asked from beginning to end.
    #[track_caller]
    pub fn wait_for(&self, n: usize) {
        let len = || self.record.outcomes.lock().unwrap().len();
        // The one under way may have begun before now: it does not count.
        let enough = len() + 1 + n;
        wait_until("the client asks on", || len() >= enough);
    }

    /// Returns when a question that was asked from now on has had this outcome.
    #[track_caller]
    pub fn wait_to_hear(&self, outcome: &Result<String, NoAnswer>) {
        // The one under way does not count, as above.
        let before = self.record.outcomes.lock().unwrap().len() + 1;
        wait_until(&format!("the client hears {outcome:?}"), || {
            let outcomes = self.record.outcomes.lock().unwrap();
            outcomes.iter().skip(before).any(|heard| heard == outcome)
        });
    }

    /// Every outcome, in order.
    pub fn stop(mut self) -> Vec<Result<String, NoAnswer>> {
        self.finish();
        std::mem::take(&mut *self.record.outcomes.lock().unwrap())
    }

    fn finish(&mut self) {
        self.record.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A client that asks every 0.2 s from one port, as a resolver's or a telephone's flow does, and
/// so never lets its flow go.
pub struct UdpAsker {
    record: Arc<UdpRecord>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct UdpRecord {
    stop: AtomicBool,
    /// When each was asked, and what came of it.
    outcomes: Mutex<Vec<(Instant, Result<String, NoAnswer>)>>,
}

impl Namespace {
    #[track_caller]
    pub fn keep_asking_udp(&self, source_port: u16, to: &str) -> UdpAsker {
        const EVERY: Duration = Duration::from_millis(200);
        let to = address(to);
        let client = self.run(|| UdpClient::open(source_port, to, ANSWER_TIMEOUT)).unwrap();
        let shared = Arc::new(UdpRecord::default());
        let record = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !record.stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                let outcome = client.ask();
                record.outcomes.lock().unwrap().push((start, outcome));
                thread::sleep(EVERY.saturating_sub(start.elapsed()));
            }
        });
        UdpAsker { record: shared, thread: Some(thread) }
    }
}

impl UdpAsker {
    /// What came of the last question.
    pub fn last(&self) -> Option<Result<String, NoAnswer>> {
        self.record.outcomes.lock().unwrap().last().map(|(_, outcome)| outcome.clone())
    }

    /// What came of those that were asked after `instant`, in order.
    pub fn since(&self, instant: Instant) -> Vec<Result<String, NoAnswer>> {
        let outcomes = self.record.outcomes.lock().unwrap();
        let late = outcomes.iter().filter(|(asked, _)| *asked > instant);
        late.map(|(_, outcome)| outcome.clone()).collect()
    }
}

impl Drop for UdpAsker {
    fn drop(&mut self) {
        self.record.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How often each outcome occurred.
pub fn counts(outcomes: &[Result<String, NoAnswer>]) -> BTreeMap<&Result<String, NoAnswer>, usize> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome).or_default() += 1;
    }
    counts
}
