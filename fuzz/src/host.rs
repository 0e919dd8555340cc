//! What /proc, /sys and the files of a host say: each text is given to all that read one.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use portmap::host::fuzzing as host;

/// Texts, one after another with a zero byte between where two are read together.
pub fn proc(data: &[u8]) {
    let _ = host::may_bind(data);
    if let Some(list) = host::access_list(data) {
        assert!(list.len() <= (data.len() - 4) / 8);
    }
    let text = &String::from_utf8_lossy(data);
    processes(data, text);
    sockets(text);
    numbers(text);
    routes(text);
    files(text);
}

/// /proc/PID: stat, environ, uid_map.
fn processes(data: &[u8], text: &str) {
    assert_ne!(host::parent(text), Some(0));
    // A program may call itself anything.
    let line = format!("20 ({text}) S 10 20 20 0 -1");
    assert_eq!(host::parent(&line), Some(10), "{line}");

    let found = host::ssh_session(data);
    let ours = b"\0SSH_CONNECTION=192.0.2.2 4711 192.0.2.1 22\0";
    // The first of a name counts.
    let with_ours = host::ssh_session(&[data, ours].concat());
    if data.windows(15).any(|name| name == b"SSH_CONNECTION=") {
        assert!(found.is_none() || found == with_ours);
    } else {
        let session = with_ours.expect("ours");
        assert_eq!(session.server, "192.0.2.1:22".parse().unwrap());
    }

    if host::maps_one(text) {
        assert_eq!(text.lines().count(), 1, "{text}");
        let more = format!("{text}\n1 100000 65536\n");
        assert!(!host::maps_one(&more), "{more}");
    }
}

/// /proc/PID/net: unix, netlink, tcp; and links in /proc/PID/fd.
fn sockets(text: &str) {
    // A socket may be called anything.
    let line = |inode: u32, name: &str| {
        format!("0000000000000000: 00000002 00000000 00010000 0001 01 {inode} {name}\n")
    };
    let sockets = format!("Num\n{}{}", line(4711, text), line(4712, "@x"));
    assert!(host::has_unix_socket(&sockets, 4711) && host::has_unix_socket(&sockets, 4712));

    let is_word = |word: String| text.split_ascii_whitespace().any(|w| w == word);
    for inode in [1, 4711, u64::MAX] {
        assert!(!host::has_unix_socket(text, inode) || is_word(inode.to_string()));
    }
    for word in text.split_ascii_whitespace() {
        if let Ok(address) = word.parse() {
            let _ = host::netlink_socket(text, address);
        }
        if let Some(end) = host::end(word) {
            let _ = host::is_taken(text, end);
        }
        if let Some(inode) = host::socket(word) {
            assert_eq!(host::socket(&format!("socket:[{inode}]")), Some(inode));
        }
    }
    if let Some(bytes) = text.as_bytes().first_chunk::<18>() {
        let [p0, p1, address @ ..] = *bytes;
        let port = u16::from_le_bytes([p0, p1]);
        let v4 = Ipv4Addr::from([address[0], address[1], address[2], address[3]]);
        for address in [IpAddr::from(v4), Ipv6Addr::from(address).into()] {
            let end = SocketAddr::new(address, port);
            let canonical = SocketAddr::new(address.to_canonical(), port);
            assert_eq!(host::end(&as_the_kernel_does(end)), Some(canonical));
            let line = |state| {
                let end = as_the_kernel_does(end);
                format!("sl\n 0: 00000000:0BB8 {end} {state} 0:0 00:0 0 0 0 4711 1\n")
            };
            assert_eq!(host::is_taken(&line("01"), canonical), Some(true));
            assert_eq!(host::is_taken(&line("0A"), canonical), None);
        }
    }
}

/// `0100007F:0050`
fn as_the_kernel_does(end: SocketAddr) -> String {
    let bytes = match end.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut text = String::new();
    for word in bytes.chunks_exact(4) {
        write!(text, "{:08X}", u32::from_ne_bytes(word.try_into().unwrap())).unwrap();
    }
    format!("{text}:{:04X}", end.port())
}

/// /proc/sys
fn numbers(text: &str) {
    if let Some((low, high)) = host::range(text) {
        assert!(low <= high);
        assert_eq!(host::range(&format!("{low}\t{high}\n")), Some((low, high)));
    }
    let ranges = host::ranges(text);
    let texts: Vec<_> = ranges.iter().map(|(from, to)| format!("{from}-{to}")).collect();
    assert_eq!(host::ranges(&texts.join(",")), ranges);
}

/// /proc/PID/net/route and ipv6_route. An interface may be called anything without a space.
fn routes(text: &str) {
    let _ = host::routes(text, text);
    let is_space = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
    let name: String = text.chars().filter(|c| !is_space(*c)).take(15).collect();
    let name = if name.is_empty() { "lo" } else { &name };
    let v4 = format!("Iface\n{name}\t{:08X}\t0\t1\t0\t0\t0\t{:08X}\t0\n", le(10), le(255));
    let v6 = format!("20010db8{:024} 40 {:032} 00 {:032} 0 1 0 1 {name}\n", 0, 0, 0);
    let (v4, v6) = host::routes(&v4, &v6);
    assert_eq!(v4, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(v6, ["2001:db8::/64".parse().unwrap()]);
}

/// A network with this as its first byte.
fn le(first: u8) -> u32 {
    u32::from_ne_bytes([first, 0, 0, 0])
}

/// services(5), passwd(5) and group(5), units, scripts and crontabs.
fn files(text: &str) {
    for ((name, protocol), port) in host::names(text) {
        let line = format!("{name} {port}/{protocol}");
        assert_eq!(host::names(&line).get(&(name, protocol)), Some(&port), "{line}");
    }
    let (passwd, group) = text.split_once('\0').unwrap_or((text, text));
    assert_eq!(host::sole_member(passwd, group, 0, 0), None);
    if let Some(name) = host::sole_member(passwd, group, 1000, 1000) {
        let with_another = format!("{passwd}\n{name}2:x:1001:1000::/:/bin/sh\n");
        assert_eq!(host::sole_member(&with_another, group, 1000, 1000), None);
    }
    let _ = (host::unit(text), host::script(text), host::command(text));
    let _ = (host::crontab(text, true), host::crontab(text, false));
}
